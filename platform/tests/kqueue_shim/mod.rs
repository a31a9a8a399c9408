//! `kqueue()` and `kevent()` on Linux, as far as the backend uses them, so that its rules are checked without a Mac.
//!
//! Each filter has an epoll instance of its own, so one watch of (descriptor, filter) is one registration there: `EV_CLEAR` is
//! edge-triggered, its absence level-triggered, and a close drops it, as Linux drops the registration with the file's last
//! descriptor. (A kqueue drops it with this descriptor: the same as long as nobody duplicates one that is watched.) An eventfd
//! is the `EVFILT_USER`. Reports are kept honest by asking the descriptor again before one is made, as a kqueue does.
//!
//! What it cannot imitate: the `errno` in `fflags`, which Linux does not tell without forgetting it, so that each failure is
//! `ECONNRESET` here; the number of bytes in `data` (always 1); and what a Mac costs.

#![expect(unsafe_code, reason = "epoll, eventfd and poll; each block passes memory that outlives its call")]

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::{Mutex, MutexGuard, TryLockError};
use std::time::{Duration, Instant};

use turboapi_platform::kqueue::{
    EV_ADD, EV_CLEAR, EV_DELETE, EV_EOF, EV_ERROR, EV_ONESHOT, EVFILT_READ, EVFILT_USER, EVFILT_WRITE, Kevent, KqSys,
    NOTE_TRIGGER,
};

/// One queue.
#[derive(Debug)]
pub struct Shim {
    /// Readable things.
    read: OwnedFd,
    /// Writable things.
    write: OwnedFd,
    /// Readable while the `EVFILT_USER` is triggered.
    user: OwnedFd,
    /// Not held while anybody waits: another thread may trigger.
    knotes: Mutex<Knotes>,
}

#[derive(Debug, Default)]
struct Knotes {
    /// By the number that its epoll registration hands back. Those of closed descriptors stay until the number is found out.
    by_serial: HashMap<u64, Kevent>,
    /// INVARIANT: names only what stands in `by_serial`.
    serials: HashMap<(usize, i16), u64>,
    user: Option<Kevent>,
    is_triggered: bool,
    serials_count: u64,
    /// Which filter is asked first: each in turn, so that a full list starves neither.
    write_is_first: bool,
}

fn check(result: i32) -> io::Result<i32> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn new_descriptor(result: i32) -> io::Result<OwnedFd> {
    let descriptor = check(result)?;
    // SAFETY: a call has just returned it, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

impl KqSys for Shim {
    fn kqueue() -> io::Result<Self> {
        // SAFETY: these take integers.
        let (read, write, user) = unsafe {
            (
                libc::epoll_create1(libc::EPOLL_CLOEXEC),
                libc::epoll_create1(libc::EPOLL_CLOEXEC),
                libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK),
            )
        };
        let (read, write, user) = (new_descriptor(read)?, new_descriptor(write)?, new_descriptor(user)?);
        Ok(Self { read, write, user, knotes: Mutex::default() })
    }

    fn kevent(&self, changes: &[Kevent], events: &mut [Kevent], timeout: Option<libc::timespec>) -> io::Result<usize> {
        let mut count = 0;
        for change in changes {
            if let Err(error) = self.change(change) {
                let Some(room) = events.get_mut(count) else { return Err(error) };
                let code = error.raw_os_error().unwrap_or(libc::EINVAL) as isize;
                *room = Kevent { flags: change.flags | EV_ERROR, data: code, ..*change };
                count += 1;
            }
        }
        if count > 0 || events.is_empty() {
            return Ok(count);
        }
        let deadline = timeout.and_then(|time| Instant::now().checked_add(duration(time)));
        let is_forever = deadline.is_none();
        loop {
            let left = deadline.map_or(Duration::ZERO, |deadline| deadline.saturating_duration_since(Instant::now()));
            let is_over = !is_forever && left.is_zero();
            self.wait((!is_forever).then_some(left))?;
            let count = self.collect(events);
            // What woke us may not have been so any more.
            if count > 0 || is_over {
                return Ok(count);
            }
        }
    }
}

fn duration(time: libc::timespec) -> Duration {
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

impl Shim {
    /// Not by `lock()`: how that waits is compiled into the standard library, where the thread sanitizer does not see that one
    /// thread comes after the other (ci/sanitize).
    fn lock(&self) -> MutexGuard<'_, Knotes> {
        loop {
            match self.knotes.try_lock() {
                Ok(knotes) => return knotes,
                Err(TryLockError::WouldBlock) => std::thread::yield_now(),
                Err(TryLockError::Poisoned(error)) => panic!("{error}"),
            }
        }
    }

    fn epoll(&self, filter: i16) -> RawFd {
        if filter == EVFILT_READ { self.read.as_raw_fd() } else { self.write.as_raw_fd() }
    }

    fn control(&self, operation: i32, knote: &Kevent, serial: u64) -> io::Result<()> {
        let mut events = if knote.filter == EVFILT_READ { libc::EPOLLIN | libc::EPOLLRDHUP } else { libc::EPOLLOUT };
        if knote.flags & EV_CLEAR != 0 {
            events |= libc::EPOLLET;
        }
        let mut event = libc::epoll_event { events: events as u32, u64: serial };
        // SAFETY: `event` is readable during the call; a wrong descriptor is an error, not a fault.
        check(unsafe { libc::epoll_ctl(self.epoll(knote.filter), operation, knote.ident as RawFd, &raw mut event) })
            .map(drop)
    }

    fn change(&self, change: &Kevent) -> io::Result<()> {
        match change.filter {
            EVFILT_USER => self.change_user(change),
            EVFILT_READ | EVFILT_WRITE => self.change_descriptor(change),
            _ => Err(io::Error::from_raw_os_error(libc::EINVAL)),
        }
    }

    fn change_user(&self, change: &Kevent) -> io::Result<()> {
        let mut knotes = self.lock();
        if change.flags & EV_ADD != 0 {
            knotes.user = Some(*change);
        }
        let Some(user) = &mut knotes.user else { return Err(io::Error::from_raw_os_error(libc::ENOENT)) };
        user.udata = change.udata;
        if change.fflags & NOTE_TRIGGER != 0 {
            knotes.is_triggered = true;
            // SAFETY: eight bytes are readable, as the call is told.
            check(unsafe { libc::write(self.user.as_raw_fd(), (&raw const ONE).cast(), 8) } as i32)?;
        }
        Ok(())
    }

    fn change_descriptor(&self, change: &Kevent) -> io::Result<()> {
        let mut knotes = self.lock();
        let key = (change.ident, change.filter);
        if change.flags & EV_DELETE != 0 {
            let Some(serial) = knotes.serials.remove(&key) else {
                return Err(io::Error::from_raw_os_error(libc::ENOENT));
            };
            knotes.by_serial.remove(&serial);
            // ENOENT of a descriptor that was closed and opened anew meanwhile.
            return self.control(libc::EPOLL_CTL_DEL, change, serial);
        }
        if change.flags & EV_ADD == 0 {
            return Err(io::Error::from_raw_os_error(libc::ENOENT));
        }
        knotes.serials_count += 1;
        let serial = knotes.serials_count;
        match self.control(libc::EPOLL_CTL_ADD, change, serial) {
            Err(error) if error.raw_os_error() == Some(libc::EEXIST) => {
                // It is watched already: what is new replaces what was, and is reported if it is so now.
                self.control(libc::EPOLL_CTL_MOD, change, serial)?;
            }
            // None is there, or it went with a descriptor that was closed.
            other => other?,
        }
        if let Some(replaced) = knotes.serials.insert(key, serial) {
            knotes.by_serial.remove(&replaced);
        }
        knotes.by_serial.insert(serial, *change);
        Ok(())
    }

    /// Until something may be reported. EINTR is the caller's, as with a kqueue.
    fn wait(&self, left: Option<Duration>) -> io::Result<()> {
        let mut polled = [&self.read, &self.write, &self.user].map(|file| libc::pollfd {
            fd: file.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        });
        let time = left
            .map(|left| libc::timespec { tv_sec: left.as_secs() as libc::time_t, tv_nsec: left.subsec_nanos().into() });
        let time = time.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
        // SAFETY: three entries, and a time that is null or lives in this frame.
        check(unsafe { libc::ppoll(polled.as_mut_ptr(), 3, time, std::ptr::null()) }).map(drop)
    }

    /// Reports what is so. Number of reports.
    fn collect(&self, events: &mut [Kevent]) -> usize {
        let mut knotes = self.lock();
        let mut count = 0;
        if knotes.is_triggered {
            let user = knotes.user.expect("only what was added is triggered");
            // Only an `EV_CLEAR` is used, which ends with its report.
            knotes.is_triggered = false;
            let mut value = 0u64;
            // SAFETY: eight bytes are writable, as the call is told.
            unsafe { libc::read(self.user.as_raw_fd(), (&raw mut value).cast(), 8) };
            events[0] = user;
            count = 1;
        }
        knotes.write_is_first = !knotes.write_is_first;
        let filters = if knotes.write_is_first { [EVFILT_WRITE, EVFILT_READ] } else { [EVFILT_READ, EVFILT_WRITE] };
        for filter in filters {
            count += self.collect_filter(filter, &mut knotes, &mut events[count..]);
        }
        count
    }

    fn collect_filter(&self, filter: i16, knotes: &mut Knotes, events: &mut [Kevent]) -> usize {
        if events.is_empty() {
            return 0;
        }
        let mut reported = vec![libc::epoll_event { events: 0, u64: 0 }; events.len()];
        // SAFETY: `reported` has room for as many. It does not wait, so no signal ends it.
        let found =
            unsafe { libc::epoll_wait(self.epoll(filter), reported.as_mut_ptr(), reported.len() as i32, 0) } as usize;
        let mut count = 0;
        for event in &reported[..found] {
            let serial = event.u64;
            let Some(knote) = knotes.by_serial.get(&serial).copied() else { continue };
            let Some(report) = ask(&knote) else { continue };
            if knote.flags & EV_ONESHOT != 0 {
                let _ = self.control(libc::EPOLL_CTL_DEL, &knote, serial);
                knotes.by_serial.remove(&serial);
                knotes.serials.remove(&(knote.ident, knote.filter));
            }
            events[count] = report;
            count += 1;
        }
        count
    }
}

static ONE: u64 = 1;

/// The report that a knote's descriptor deserves now, if any.
fn ask(knote: &Kevent) -> Option<Kevent> {
    let is_read = knote.filter == EVFILT_READ;
    let wanted = if is_read { libc::POLLIN | libc::POLLRDHUP } else { libc::POLLOUT };
    let mut asked = libc::pollfd { fd: knote.ident as RawFd, events: wanted, revents: 0 };
    // SAFETY: one entry, which lives through the call; it does not wait.
    unsafe { libc::poll(&raw mut asked, 1, 0) };
    let is_at_end = if is_read { libc::POLLRDHUP | libc::POLLHUP } else { libc::POLLHUP };
    let (is_failed, is_at_end) = (asked.revents & libc::POLLERR != 0, asked.revents & is_at_end != 0);
    if asked.revents & (wanted | libc::POLLERR | libc::POLLHUP) == 0 {
        return None;
    }
    Some(Kevent {
        flags: knote.flags | if is_at_end || is_failed { EV_EOF } else { 0 },
        fflags: if is_failed { libc::ECONNRESET as u32 } else { 0 },
        data: 1,
        ..*knote
    })
}
