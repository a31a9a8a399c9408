//! macOS kqueue under the readiness engine: what is to be watched is put together and leaves with the call that waits, so a
//! turn is one `kevent()`. Wake-ups are an `EVFILT_USER`. No connection state here.
//!
//! The two system calls stand behind [`KqSys`] and the structure is declared here, so that the same file is compiled, and
//! tested over an imitation and over a script, on Linux too.
//!
//! A kqueue is not inherited by fork: a child has neither it nor its descriptor's number, which may already be another
//! file's. So a platform is opened after the fork, and one that was open before it must not be dropped in the child.

#![cfg_attr(
    target_os = "macos",
    expect(unsafe_code, reason = "kqueue and kevent; each block passes memory that outlives its call")
)]

use std::fmt;
use std::io;
#[cfg(target_os = "macos")]
use std::os::fd::FromRawFd;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

#[cfg(target_os = "macos")]
use crate::readiness::Readiness;
use crate::readiness::{Interest, Polled, Poller, Release, Token};
use crate::{IoConfig, Wake};

/// The engine over kqueue.
#[cfg(target_os = "macos")]
pub type Kqueue = Readiness<KqueuePoller<System>>;

/// Reports that one wait can bring. More of them come with the next.
pub const EVENTS_MAX: usize = 256;

/// macOS's `struct kevent`: a change to what is watched, or a report. Source: `<sys/event.h>`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Kevent {
    /// The descriptor; for [`EVFILT_USER`] any number.
    pub ident: usize,
    /// What of it; there is at most one watch for each pair of the two.
    pub filter: i16,
    /// What to do, or what is so.
    pub flags: u16,
    /// Of the filter; with [`EV_EOF`] the error of the socket, 0 if it has none.
    pub fflags: u32,
    /// Of the filter; with [`EV_ERROR`] the `errno` of the change that failed.
    pub data: isize,
    /// Handed back as it was given last: a [`Token`]. A pointer in C.
    pub udata: u64,
}

/// Readable; of a listener, that a connection waits.
pub const EVFILT_READ: i16 = -1;
/// Writable.
pub const EVFILT_WRITE: i16 = -2;
/// Told by [`NOTE_TRIGGER`].
pub const EVFILT_USER: i16 = -10;
/// Watch it. What is so already is reported at once.
pub const EV_ADD: u16 = 0x0001;
/// Forget it.
pub const EV_DELETE: u16 = 0x0002;
/// Forget it with its first report.
pub const EV_ONESHOT: u16 = 0x0010;
/// Report it again only after something new came.
pub const EV_CLEAR: u16 = 0x0020;
/// The report is of a change that failed.
pub const EV_ERROR: u16 = 0x4000;
/// The peer's end, or with `fflags` a failure.
pub const EV_EOF: u16 = 0x8000;
/// Has an [`EVFILT_USER`] reported.
pub const NOTE_TRIGGER: u32 = 0x0100_0000;

// A token must fit into a pointer.
const _: () = assert!(size_of::<*mut libc::c_void>() == size_of::<u64>() && size_of::<Kevent>() == 32);

// C packs the structure to four bytes. Ours is aligned to eight, which leaves all fields where they are.
#[cfg(target_os = "macos")]
const _: () = {
    use std::mem::offset_of;
    assert!(size_of::<libc::kevent>() == size_of::<Kevent>());
    assert!(offset_of!(libc::kevent, ident) == offset_of!(Kevent, ident));
    assert!(offset_of!(libc::kevent, filter) == offset_of!(Kevent, filter));
    assert!(offset_of!(libc::kevent, flags) == offset_of!(Kevent, flags));
    assert!(offset_of!(libc::kevent, fflags) == offset_of!(Kevent, fflags));
    assert!(offset_of!(libc::kevent, data) == offset_of!(Kevent, data));
    assert!(offset_of!(libc::kevent, udata) == offset_of!(Kevent, udata));
    assert!(libc::EVFILT_READ == EVFILT_READ && libc::EVFILT_WRITE == EVFILT_WRITE);
    assert!(libc::EVFILT_USER == EVFILT_USER && libc::NOTE_TRIGGER == NOTE_TRIGGER);
    assert!(libc::EV_ADD == EV_ADD && libc::EV_DELETE == EV_DELETE);
    assert!(libc::EV_ONESHOT == EV_ONESHOT && libc::EV_CLEAR == EV_CLEAR);
    assert!(libc::EV_ERROR == EV_ERROR && libc::EV_EOF == EV_EOF);
};

/// The two system calls. An implementation is one queue, closed when it is dropped.
pub trait KqSys: fmt::Debug + Send + Sync + Sized + 'static {
    /// `kqueue()`: a new queue, close-on-exec.
    fn kqueue() -> io::Result<Self>;

    /// `kevent()`: makes the changes in order, then waits until there is a report, for ever without a time-out. Number of
    /// reports. A change that fails is a report, [`EV_ERROR`], if there is room for one, else it ends the call with its error.
    /// If there are such reports, it neither waits nor reports anything else.
    fn kevent(&self, changes: &[Kevent], events: &mut [Kevent], timeout: Option<libc::timespec>) -> io::Result<usize>;
}

/// The kernel's.
#[cfg(target_os = "macos")]
#[derive(Debug)]
pub struct System(OwnedFd);

#[cfg(target_os = "macos")]
impl KqSys for System {
    fn kqueue() -> io::Result<Self> {
        // SAFETY: takes nothing.
        let descriptor = unsafe { libc::kqueue() };
        if descriptor < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the call has just returned this descriptor, and nobody else knows it.
        let queue = unsafe { OwnedFd::from_raw_fd(descriptor) };
        // SAFETY: fcntl with this command takes an integer and touches no memory.
        if unsafe { libc::fcntl(descriptor, libc::F_SETFD, libc::FD_CLOEXEC) } < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Self(queue))
    }

    fn kevent(&self, changes: &[Kevent], events: &mut [Kevent], timeout: Option<libc::timespec>) -> io::Result<usize> {
        let timeout = timeout.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
        // SAFETY: both lists have the kernel's layout, as asserted above, and the lengths that are given; the time-out is
        // null or lives in this frame.
        let result = unsafe {
            libc::kevent(
                self.0.as_raw_fd(),
                changes.as_ptr().cast(),
                changes.len() as i32,
                events.as_mut_ptr().cast(),
                events.len() as i32,
                timeout,
            )
        };
        usize::try_from(result).map_err(|_| io::Error::last_os_error())
    }
}

/// Ends a wait by triggering the queue's `EVFILT_USER`. Copies share it, and keep the queue open.
#[derive(Debug)]
pub struct KqueueWaker<S: KqSys>(Arc<Shared<S>>);

#[derive(Debug)]
struct Shared<S> {
    queue: S,
    /// Set by the first wake, cleared when the wait has told of it: wakes in between cost no system call.
    is_pending: AtomicBool,
}

// By hand: a derived one would ask for a queue that can be cloned.
impl<S: KqSys> Clone for KqueueWaker<S> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<S: KqSys> Wake for KqueueWaker<S> {
    fn wake(&self) {
        if !self.0.is_pending.swap(true, Ordering::AcqRel) {
            // The kernel takes over what a change says as `udata`, so it is said again.
            let trigger = Kevent { fflags: NOTE_TRIGGER, ..change(0, EVFILT_USER, 0, Token::WAKER) };
            // It cannot fail: what it names was registered when the queue was opened, and it takes no memory.
            let _ = self.0.queue.kevent(&[trigger], &mut [], None);
        }
    }
}

/// One kqueue.
#[derive(Debug)]
pub struct KqueuePoller<S: KqSys> {
    shared: Arc<Shared<S>>,
    /// What leaves with the next wait. INVARIANT: names no descriptor that was released.
    changes: Vec<Kevent>,
    events: Vec<Kevent>,
    /// How many of `events` the last wait has written.
    events_count: usize,
}

fn change(ident: usize, filter: i16, flags: u16, token: Token) -> Kevent {
    Kevent { ident, filter, flags, fflags: 0, data: 0, udata: token.0 }
}

impl<S: KqSys> KqueuePoller<S> {
    /// Makes one change now. There is no room for reports, so that a failure is the call's own.
    fn change_now(&self, change: Kevent) -> io::Result<()> {
        self.shared.queue.kevent(&[change], &mut [], None).map(drop)
    }
}

impl<S: KqSys> Poller for KqueuePoller<S> {
    const NAME: &'static str = "kqueue";
    type Waker = KqueueWaker<S>;

    // Left registered, it would be told of with each acknowledgement of what was sent.
    const IS_WRITE_ONE_SHOT: bool = true;

    fn open(_config: &IoConfig) -> io::Result<Self> {
        let shared = Arc::new(Shared { queue: S::kqueue()?, is_pending: AtomicBool::new(false) });
        let poller = Self { shared, changes: Vec::new(), events: vec![Kevent::default(); EVENTS_MAX], events_count: 0 };
        poller.change_now(change(0, EVFILT_USER, EV_ADD | EV_CLEAR, Token::WAKER))?;
        Ok(poller)
    }

    fn waker(&self) -> KqueueWaker<S> {
        KqueueWaker(Arc::clone(&self.shared))
    }

    fn clear_wake(&mut self) {
        self.shared.is_pending.swap(false, Ordering::AcqRel);
    }

    fn change(&mut self, descriptor: RawFd, token: Token, interest: Interest) -> io::Result<()> {
        // A descriptor is no negative number.
        let ident = descriptor as usize;
        let (filter, flags) = match interest {
            Interest::Read => (EVFILT_READ, EV_ADD | EV_CLEAR),
            Interest::ReadAndWrite => (EVFILT_WRITE, EV_ADD | EV_ONESHOT),
            Interest::Level => (EVFILT_READ, EV_ADD),
            Interest::Nothing => (EVFILT_READ, EV_DELETE),
        };
        let change = change(ident, filter, flags, token);
        // PERF: a connection's costs no call of its own, as the wait takes it along. A listener's or a watch's is rare, and
        // what asks for it wants to hear that it failed.
        if token.connection().is_some() {
            self.changes.push(change);
            return Ok(());
        }
        self.change_now(change)
    }

    fn release(&mut self, _token: Token, socket: OwnedFd) -> Release {
        // The next file that gets its number must not be registered in its place. What is registered ends with the close.
        self.changes.retain(|change| change.ident != socket.as_raw_fd() as usize);
        drop(socket);
        Release::Done
    }

    fn wait(&mut self, timeout: Option<Duration>) -> io::Result<usize> {
        // Each change may fail, and one that finds no room to say so would take the others with it.
        if self.events.len() < self.changes.len() {
            self.events.resize(self.changes.len(), Kevent::default());
        }
        self.events_count = 0;
        match self.shared.queue.kevent(&self.changes, &mut self.events, timeout.map(timespec)) {
            Ok(count) => {
                self.changes.clear();
                self.events_count = count;
                Ok(count)
            }
            // Apple does not promise that the changes were made (FreeBSD does), so they stay: made twice they do no harm,
            // made never they leave a connection unheard.
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(0),
            Err(error) => Err(error),
        }
    }

    #[inline]
    fn polled(&self, index: usize) -> Polled {
        let event = &self.events[index];
        let is_refused = event.flags & EV_ERROR != 0;
        let is_at_end = event.flags & EV_EOF != 0;
        Polled {
            token: Token(event.udata),
            is_readable: event.filter == EVFILT_READ && !is_refused,
            is_writable: event.filter == EVFILT_WRITE && !is_refused,
            // Of reading; that writing has ended says nothing about what is still to be read.
            is_hung_up: is_at_end && event.filter == EVFILT_READ,
            is_failed: is_refused || is_at_end && event.fflags != 0,
            is_sent: false,
            is_gone: false,
        }
    }

    fn refusal(&self, token: Token) -> Option<io::Error> {
        let reports = &self.events[..self.events_count];
        let refused = reports.iter().find(|event| event.flags & EV_ERROR != 0 && event.udata == token.0)?;
        // It is an `errno`.
        Some(io::Error::from_raw_os_error(refused.data as i32))
    }
}

/// A time-out as the kernel takes it, of at most 68 years: it refuses what it cannot count in nanoseconds.
fn timespec(timeout: Duration) -> libc::timespec {
    let seconds = timeout.as_secs().min(i32::MAX as u64);
    libc::timespec { tv_sec: seconds as libc::time_t, tv_nsec: timeout.subsec_nanos().into() }
}
