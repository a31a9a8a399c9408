//! How a wait on Linux is ended from another thread, whichever backend waits: by an eventfd that it watches.

#![expect(unsafe_code, reason = "the eventfd system call; its block passes two integers")]

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::Wake;

/// Ends a wait by writing to an eventfd. Copies share it.
#[derive(Clone, Debug)]
pub struct EventfdWaker(Arc<Eventfd>);

#[derive(Debug)]
struct Eventfd {
    file: File,
    /// Set by the first wake, cleared when the wait has told of it: wakes in between cost no system call.
    is_pending: AtomicBool,
}

impl EventfdWaker {
    /// A new eventfd, non-blocking and close-on-exec.
    pub fn open() -> io::Result<Self> {
        // SAFETY: takes two integers.
        let descriptor = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        if descriptor < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the call has just returned this descriptor, and nobody else knows it.
        let owned = unsafe { OwnedFd::from_raw_fd(descriptor) };
        Ok(Self(Arc::new(Eventfd { file: File::from(owned), is_pending: AtomicBool::new(false) })))
    }

    /// Says that the wake was seen. To be called before the queues are looked at that it announces.
    pub fn clear(&self) {
        self.0.is_pending.swap(false, Ordering::AcqRel);
    }

    /// The eventfd, to be watched edge-triggered: it is never read, each write is an edge.
    #[must_use]
    pub fn descriptor(&self) -> RawFd {
        self.0.file.as_raw_fd()
    }
}

impl Wake for EventfdWaker {
    fn wake(&self) {
        if !self.0.is_pending.swap(true, Ordering::AcqRel) {
            // It cannot fail: the counter would overflow after 2^64 - 1 wakes, and the descriptor is ours.
            let _ = (&self.0.file).write(&1u64.to_ne_bytes());
        }
    }
}
