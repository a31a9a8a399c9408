//! Linux epoll under the readiness engine: edge-triggered sockets, one eventfd for wake-ups. No connection state here.

#![expect(unsafe_code, reason = "the epoll system calls; each block passes memory that outlives its call")]

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

use crate::IoConfig;
use crate::eventfd::EventfdWaker;
use crate::readiness::{Interest, Polled, Poller, Readiness, Token};

/// The engine over epoll.
pub type Epoll = Readiness<EpollPoller>;

/// Descriptors that one wait can report. More of them are reported by the next.
const EVENTS_MAX: usize = 256;

/// One epoll instance.
#[derive(Debug)]
pub struct EpollPoller {
    epoll: OwnedFd,
    waker: EventfdWaker,
    events: Box<[libc::epoll_event]>,
    /// Whether the kernel has `epoll_pwait2` (Linux 5.11, and seccomp profiles newer than it).
    has_nanoseconds: bool,
}

impl EpollPoller {
    fn control(&self, operation: i32, descriptor: RawFd, events: i32, token: Token) -> io::Result<()> {
        let mut event = libc::epoll_event { events: events as u32, u64: token.0 };
        // SAFETY: `event` is readable during the call; a wrong descriptor is an error, not a fault.
        let result = unsafe { libc::epoll_ctl(self.epoll.as_raw_fd(), operation, descriptor, &raw mut event) };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    fn wait_milliseconds(&mut self, milliseconds: i32) -> io::Result<usize> {
        let (events, count) = (self.events.as_mut_ptr(), EVENTS_MAX as i32);
        // SAFETY: `events` has room for `count` of them.
        let result = unsafe { libc::epoll_wait(self.epoll.as_raw_fd(), events, count, milliseconds) };
        usize::try_from(result).map_err(|_| io::Error::last_os_error())
    }

    fn wait_nanoseconds(&mut self, timeout: Duration) -> io::Result<usize> {
        let (events, count) = (self.events.as_mut_ptr(), EVENTS_MAX as i32);
        let seconds = timeout.as_secs().min(i32::MAX as u64) as libc::time_t;
        let time = libc::timespec { tv_sec: seconds, tv_nsec: timeout.subsec_nanos().into() };
        let no_mask: *const libc::sigset_t = std::ptr::null();
        // By number, not by name: glibc has a wrapper only since 2.35.
        // SAFETY: `events` has room for `count` of them, `time` is readable, and no signal mask is given.
        let result = unsafe {
            libc::syscall(
                libc::SYS_epoll_pwait2,
                self.epoll.as_raw_fd(),
                events,
                count,
                &raw const time,
                no_mask,
                0usize,
            )
        };
        usize::try_from(result).map_err(|_| io::Error::last_os_error())
    }

    /// The epoll instance, which becomes readable when a wait would report something.
    pub(crate) fn descriptor(&self) -> RawFd {
        self.epoll.as_raw_fd()
    }
}

impl Poller for EpollPoller {
    const NAME: &'static str = "epoll";
    type Waker = EventfdWaker;

    fn open(_config: &IoConfig) -> io::Result<Self> {
        // SAFETY: takes an integer.
        let descriptor = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        if descriptor < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the call has just returned this descriptor, and nobody else knows it.
        let epoll = unsafe { OwnedFd::from_raw_fd(descriptor) };
        let events = vec![libc::epoll_event { events: 0, u64: 0 }; EVENTS_MAX].into_boxed_slice();
        let poller = Self { epoll, waker: EventfdWaker::open()?, events, has_nanoseconds: true };
        poller.control(libc::EPOLL_CTL_ADD, poller.waker.descriptor(), libc::EPOLLIN | libc::EPOLLET, Token::WAKER)?;
        Ok(poller)
    }

    fn waker(&self) -> EventfdWaker {
        self.waker.clone()
    }

    fn clear_wake(&mut self) {
        self.waker.clear();
    }

    fn change(&mut self, descriptor: RawFd, token: Token, interest: Interest) -> io::Result<()> {
        let edge = libc::EPOLLET | libc::EPOLLRDHUP | libc::EPOLLIN;
        match interest {
            Interest::Level => self.control(libc::EPOLL_CTL_ADD, descriptor, libc::EPOLLIN, token),
            // PERF: without EPOLLOUT, which would be reported once for every new connection and cost it a turn.
            Interest::Read => self.control(libc::EPOLL_CTL_ADD, descriptor, edge, token),
            Interest::ReadAndWrite => self.control(libc::EPOLL_CTL_MOD, descriptor, edge | libc::EPOLLOUT, token),
            Interest::Nothing => self.control(libc::EPOLL_CTL_DEL, descriptor, 0, token),
        }
    }

    fn wait(&mut self, timeout: Option<Duration>) -> io::Result<usize> {
        let result = match timeout {
            None => self.wait_milliseconds(-1),
            Some(Duration::ZERO) => self.wait_milliseconds(0),
            Some(timeout) => {
                let result = if self.has_nanoseconds { self.wait_nanoseconds(timeout) } else { Ok(0) };
                let is_refused =
                    matches!(&result, Err(e) if matches!(e.raw_os_error(), Some(libc::ENOSYS | libc::EPERM)));
                self.has_nanoseconds &= !is_refused;
                if self.has_nanoseconds {
                    result
                } else {
                    // Up, never down: a wait that ends before its time has the caller spin until it is there.
                    let milliseconds = timeout.as_nanos().div_ceil(1_000_000);
                    self.wait_milliseconds(i32::try_from(milliseconds).unwrap_or(i32::MAX))
                }
            }
        };
        match result {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(0),
            other => other,
        }
    }

    #[inline]
    fn polled(&self, index: usize) -> Polled {
        let event = self.events[index];
        let events = event.events as i32;
        Polled {
            token: Token(event.u64),
            is_readable: events & (libc::EPOLLIN | libc::EPOLLRDHUP | libc::EPOLLHUP | libc::EPOLLERR) != 0,
            is_writable: events & (libc::EPOLLOUT | libc::EPOLLHUP | libc::EPOLLERR) != 0,
            is_hung_up: events & (libc::EPOLLRDHUP | libc::EPOLLHUP | libc::EPOLLERR) != 0,
            is_failed: events & libc::EPOLLERR != 0,
            is_sent: false,
            is_gone: false,
        }
    }
}
