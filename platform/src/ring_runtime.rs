//! The readiness engine over a runtime of futures that owns a ring: monoio.rs and tokio_uring.rs. What such runtimes share is
//! here and in `jobs`: what the ring does for a connection, who is woken, what is reported, how a job ends before its socket.
//! What differs, above all how one turn is made of a `block_on`, is behind [`RingRuntime`], in `runtime`.
//!
//! The ring tells when a connection is ready, and takes the sends; all of a turn leaves together. Receiving, accepting and
//! closing are plain calls: no memory that we read is ever the kernel's, and an idle connection holds no buffer.
//!
//! - One turn is one `block_on` of one future, which polls those jobs that were woken or are wanted. No task is spawned:
//!   each would cost a turn of the runtime's scheduler.
//! - Not to block, the ring is also asked for a descriptor that is always readable.
//! - Listeners, foreign descriptors and the waker stand in an epoll instance, which the ring watches as one descriptor: a
//!   listener is so never held by the ring, and each keeps its level or edge semantics.

// From the top: each imports only what is further down.
mod jobs;
mod runtime;

use std::io;
use std::os::fd::{OwnedFd, RawFd};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use self::jobs::{ALWAYS, EPOLL, Entry, FIRST_SLOT, Job, Jobs, Parcel, Runner, Woken, index_of, slot_and_job};
pub use self::runtime::{RingRuntime, poll_turn};
use crate::epoll::EpollPoller;
use crate::eventfd::EventfdWaker;
use crate::readiness::{Interest, Polled, Poller, Release, Token};
use crate::{IoConfig, OutBuf};

/// How long dropping the driver may take: the ring only has to hand back watches that it has been told to end.
const DROP_TIME: Duration = Duration::from_secs(1);

/// A runtime's ring, and beside it the epoll instance for what is not a connection.
pub struct RuntimePoller<R: RingRuntime> {
    runtime: R,
    jobs: Jobs<R::Stream>,
    epoll: EpollPoller,
    /// Whether `jobs.reports` has some that no wait has told.
    keeps_reports: bool,
    /// INVARIANT: always readable: its counter is 1, and nobody reads it.
    _always: EventfdWaker,
}

impl<R: RingRuntime> std::fmt::Debug for RuntimePoller<R> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("RuntimePoller")
            .field("runtime", &R::NAME)
            .field("epoll", &self.epoll)
            .finish_non_exhaustive()
    }
}

impl<R: RingRuntime> RuntimePoller<R> {
    /// Gives the ring what is wanted and waits until something fires, or for this time.
    fn turn(&mut self, timeout: Option<Duration>) {
        let jobs = &mut self.jobs;
        if !self.keeps_reports {
            jobs.reports.clear();
        }
        (jobs.always_fired, jobs.epoll_fired) = (false, false);
        let bound = timeout.filter(|timeout| *timeout != Duration::ZERO);
        self.runtime.turn(bound, |context| {
            jobs.advance_all(context.waker());
            if jobs.has_answer() { Poll::Ready(()) } else { Poll::Pending }
        });
    }

    /// Ends all watches and waits until the ring holds none; whether it came to that.
    fn drain(&mut self, deadline: Instant) -> bool {
        for entry in self.jobs.slots.iter_mut().flatten().filter(|entry| entry.leaving.is_none()) {
            entry.end();
        }
        while self.jobs.is_in_ring() {
            let now = Instant::now();
            if now >= deadline {
                return false;
            }
            // The epoll instance becomes readable, which ends its own watch.
            crate::Wake::wake(&self.epoll.waker());
            self.turn(Some(deadline - now));
            self.epoll.clear_wake();
        }
        true
    }
}

impl<R: RingRuntime> Poller for RuntimePoller<R> {
    const NAME: &'static str = R::NAME;
    const IS_ONE_SHOT: bool = true;
    const TAKES_SENDS: bool = true;
    type Waker = EventfdWaker;

    fn open(config: &IoConfig) -> io::Result<Self> {
        let runtime = R::open(config.ring_entries.max(256))?;
        let epoll = EpollPoller::open(config)?;
        let always = EventfdWaker::open()?;
        crate::Wake::wake(&always);
        let always_stream = Rc::new(R::borrow(always.descriptor()));
        let epoll_stream = Rc::new(R::borrow(epoll.descriptor()));
        let woken = Arc::new(Woken::default());
        let jobs = Jobs {
            always: Runner::watching::<R>(&always_stream, Job::Read, ALWAYS, &woken),
            epoll: Runner::watching::<R>(&epoll_stream, Job::Read, EPOLL, &woken),
            woken,
            slots: Vec::new(),
            wanted: Vec::new(),
            reports: Vec::new(),
            epoll_fired: false,
            always_fired: false,
        };
        Ok(Self { runtime, jobs, epoll, keeps_reports: false, _always: always })
    }

    fn waker(&self) -> EventfdWaker {
        self.epoll.waker()
    }

    fn clear_wake(&mut self) {
        self.epoll.clear_wake();
    }

    fn change(&mut self, descriptor: RawFd, token: Token, interest: Interest) -> io::Result<()> {
        let Some(id) = token.connection() else { return self.epoll.change(descriptor, token, interest) };
        let slot = id.slot();
        let jobs = &mut self.jobs;
        if jobs.slots.len() <= slot as usize {
            jobs.slots.resize_with(slot as usize + 1, || None);
        }
        let place = &mut jobs.slots[slot as usize];
        match (interest, place) {
            (Interest::Read, place) => {
                let stream = Rc::new(R::borrow(descriptor));
                let read = Runner::watching::<R>(&stream, Job::Read, index_of(slot, Job::Read), &jobs.woken);
                *place = Some(Entry { token, read, write: None, send: None, stream, descriptor, leaving: None });
                jobs.want(index_of(slot, Job::Read));
            }
            (_, Some(entry)) => {
                let index = index_of(slot, Job::Write);
                if entry.write.is_none() {
                    entry.write = Some(Runner::watching::<R>(&entry.stream, Job::Write, index, &jobs.woken));
                }
                jobs.want(index);
            }
            (_, None) => {}
        }
        Ok(())
    }

    #[inline]
    fn drained(&mut self, token: Token) {
        if let Some(id) = token.connection() {
            self.jobs.want(index_of(id.slot(), Job::Read));
        }
    }

    fn send(&mut self, token: Token, out: OutBuf) {
        let Some(id) = token.connection() else { return };
        let index = index_of(id.slot(), Job::Send);
        let Some(Some(entry)) = self.jobs.slots.get_mut(id.slot() as usize) else { return };
        let (_, parcel) = entry.send.get_or_insert_with(|| {
            let parcel = Parcel::default();
            let stream = R::borrow(entry.descriptor);
            (Runner::sending::<R>(stream, &parcel, index, &self.jobs.woken), parcel)
        });
        parcel.set(Some((out, Ok(()))));
        self.jobs.want(index);
    }

    fn take_sent(&mut self, token: Token) -> Option<(OutBuf, io::Result<()>)> {
        let entry = self.jobs.slots.get_mut(token.connection()?.slot() as usize)?.as_mut()?;
        entry.send.as_ref()?.1.take()
    }

    fn flush(&mut self) -> io::Result<()> {
        let sends = self.jobs.wanted.iter().any(|index| *index >= FIRST_SLOT && slot_and_job(*index).1 == Job::Send);
        if sends {
            self.jobs.want(ALWAYS);
            self.turn(Some(Duration::ZERO));
            self.keeps_reports = true;
        }
        Ok(())
    }

    fn release(&mut self, token: Token, socket: OwnedFd) -> Release {
        let slot = token.connection().map_or(0, |id| id.slot() as usize);
        let Some(place) = self.jobs.slots.get_mut(slot) else { return Release::Done };
        let Some(entry) = place else { return Release::Done };
        entry.end();
        if !entry.is_in_ring() {
            *place = None;
            return Release::Done;
        }
        entry.leaving = Some(socket);
        Release::Later
    }

    fn wait(&mut self, timeout: Option<Duration>) -> io::Result<usize> {
        self.jobs.want(EPOLL);
        let timeout = if self.keeps_reports { Some(Duration::ZERO) } else { timeout };
        if timeout == Some(Duration::ZERO) {
            self.jobs.want(ALWAYS);
        }
        self.turn(timeout);
        self.keeps_reports = false;
        if self.jobs.epoll_fired {
            let count = self.epoll.wait(Some(Duration::ZERO))?;
            let reports = (0..count).map(|index| self.epoll.polled(index));
            self.jobs.reports.extend(reports);
        }
        Ok(self.jobs.reports.len())
    }

    #[inline]
    fn polled(&self, index: usize) -> Polled {
        self.jobs.reports[index]
    }

    fn finish(mut self, deadline: Instant) -> io::Result<()> {
        if self.drain(deadline) { Ok(()) } else { Err(io::ErrorKind::TimedOut.into()) }
    }
}

impl<R: RingRuntime> Drop for RuntimePoller<R> {
    fn drop(&mut self) {
        // In a panic that came out of a turn the runtime cannot be used again.
        let is_drained = if std::thread::panicking() {
            !self.jobs.is_in_ring()
        } else {
            !self.jobs.is_in_ring() || self.drain(Instant::now() + DROP_TIME)
        };
        if !is_drained {
            self.runtime.abandon();
        }
    }
}
