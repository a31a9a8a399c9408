//! What the ring does for each connection, and for the driver itself: watches and sends, over and over, each woken by its own
//! future. What a report means for a connection is not known here, nor which runtime it is.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::io;
use std::mem;
use std::os::fd::{OwnedFd, RawFd};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use super::runtime::RingRuntime;
use crate::readiness::{Polled, Token};
use crate::{OutBuf, socket};

/// Which job a woken future belongs to. Two of the driver's own, then three per slot.
pub(super) const ALWAYS: usize = 0;
pub(super) const EPOLL: usize = 1;
pub(super) const FIRST_SLOT: usize = 2;

/// What wakes the futures of one turn: who was woken, and the future of the turn itself.
#[derive(Debug, Default)]
pub(super) struct Woken(Mutex<(Vec<usize>, Option<Waker>)>);

/// The waker of one job. It stays on this thread, and its lock is never contended; `Mutex` and `Arc` save the unsafe code.
#[derive(Debug)]
struct JobWaker {
    index: usize,
    woken: Arc<Woken>,
}

impl std::task::Wake for JobWaker {
    fn wake(self: Arc<Self>) {
        let mut woken = self.woken.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (indexes, turn) = &mut *woken;
        indexes.push(self.index);
        if let Some(turn) = turn.take() {
            turn.wake();
        }
    }
}

/// How far one watch or sender is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Idle,
    /// To be given to the ring in the next turn.
    Wanted,
    /// In the ring.
    Armed,
    /// The ring has answered.
    Fired,
    /// The ring has answered a send with a failure.
    Failed,
}

/// What the ring does for a descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Job {
    /// Tells when it is readable.
    Read,
    /// Tells when it is writable.
    Write,
    /// Sends.
    Send,
}

impl Job {
    const ALL: [Self; 3] = [Self::Read, Self::Write, Self::Send];
}

/// One job, over and over, one at a time, in one box.
pub(super) struct Runner {
    phase: Rc<Cell<Phase>>,
    waker: Waker,
    future: Pin<Box<dyn Future<Output = ()>>>,
}

/// What a sender has to send, then what became of it.
pub(super) type Parcel = Rc<Cell<Option<(OutBuf, io::Result<()>)>>>;

/// Ready when the job was asked for; it is in the ring then.
async fn wanted(phase: &Cell<Phase>) {
    poll_fn(|_| if phase.get() == Phase::Wanted { Poll::Ready(()) } else { Poll::Pending }).await;
    phase.set(Phase::Armed);
}

impl Runner {
    fn new(
        index: usize,
        woken: &Arc<Woken>,
        job: impl FnOnce(Rc<Cell<Phase>>) -> Pin<Box<dyn Future<Output = ()>>>,
    ) -> Self {
        let phase = Rc::new(Cell::new(Phase::Idle));
        let waker = Waker::from(Arc::new(JobWaker { index, woken: Arc::clone(woken) }));
        Self { future: job(Rc::clone(&phase)), phase, waker }
    }

    /// Watches for one direction, once each time it is asked to.
    pub(super) fn watching<R: RingRuntime>(stream: &Rc<R::Stream>, job: Job, index: usize, woken: &Arc<Woken>) -> Self {
        let stream = Rc::clone(stream);
        Self::new(index, woken, |phase| {
            Box::pin(async move {
                loop {
                    wanted(&phase).await;
                    R::hold(&stream);
                    // The result does not matter: a failed socket tells its failure to the next read or write.
                    let _ = match job {
                        Job::Read => R::readable(&stream).await,
                        Job::Write | Job::Send => R::writable(&stream).await,
                    };
                    R::let_go(&stream);
                    phase.set(Phase::Fired);
                }
            })
        })
    }

    /// Sends a parcel each time it is asked to. It has a stream of its own, as a runtime may want one alone for writing.
    pub(super) fn sending<R: RingRuntime>(
        mut stream: R::Stream,
        parcel: &Parcel,
        index: usize,
        woken: &Arc<Woken>,
    ) -> Self {
        let parcel = Rc::clone(parcel);
        Self::new(index, woken, |phase| {
            Box::pin(async move {
                loop {
                    wanted(&phase).await;
                    if let Some((OutBuf { head, body }, _)) = parcel.take() {
                        R::hold(&stream);
                        let (result, head) = R::send(&mut stream, head).await;
                        R::let_go(&stream);
                        phase.set(if result.is_ok() { Phase::Fired } else { Phase::Failed });
                        parcel.set(Some((OutBuf { head, body }, result.map(drop))));
                    } else {
                        phase.set(Phase::Fired);
                    }
                }
            })
        })
    }

    /// Goes on as far as it can; whether the ring has answered, by `Fired` or `Failed`.
    #[inline]
    fn advance(&mut self) -> Phase {
        let is_ready = self.future.as_mut().poll(&mut Context::from_waker(&self.waker)).is_ready();
        debug_assert!(!is_ready, "a runner goes on for ever");
        let phase = self.phase.get();
        if matches!(phase, Phase::Fired | Phase::Failed) {
            self.phase.set(Phase::Idle);
        }
        phase
    }

    #[inline]
    fn is_in_ring(&self) -> bool {
        self.phase.get() == Phase::Armed
    }
}

/// What the ring does for one connection.
pub(super) struct Entry<S> {
    pub(super) token: Token,
    pub(super) read: Runner,
    /// Made when the first plain send was short.
    pub(super) write: Option<Runner>,
    /// Made with the first send.
    pub(super) send: Option<(Runner, Parcel)>,
    pub(super) stream: Rc<S>,
    pub(super) descriptor: RawFd,
    /// The socket, given here to be closed when the ring has let go of it. INVARIANT: dropped last.
    pub(super) leaving: Option<OwnedFd>,
}

impl<S> Entry<S> {
    fn runner(&mut self, job: Job) -> Option<&mut Runner> {
        match job {
            Job::Read => Some(&mut self.read),
            Job::Write => self.write.as_mut(),
            Job::Send => self.send.as_mut().map(|(runner, _)| runner),
        }
    }

    pub(super) fn is_in_ring(&mut self) -> bool {
        Job::ALL.into_iter().any(|job| self.runner(job).is_some_and(|runner| runner.is_in_ring()))
    }

    /// Has the ring let go. It holds the file until its jobs end, and so the socket's close and what that tells the peer.
    pub(super) fn end(&mut self) {
        for job in Job::ALL {
            if let Some(runner) = self.runner(job).filter(|runner| runner.phase.get() == Phase::Wanted) {
                runner.phase.set(Phase::Idle);
            }
        }
        let writes =
            [Job::Write, Job::Send].into_iter().any(|job| self.runner(job).is_some_and(|runner| runner.is_in_ring()));
        let socket = socket::borrow(self.descriptor);
        if writes {
            // Only a connection that is to be reset, or has failed, still writes.
            socket::disconnect(socket);
        } else if self.read.is_in_ring() {
            let _ = socket::shutdown_read(socket);
        }
    }
}

/// All jobs; apart from the runtime, so that a turn can borrow both.
pub(super) struct Jobs<S> {
    pub(super) woken: Arc<Woken>,
    pub(super) always: Runner,
    pub(super) epoll: Runner,
    pub(super) slots: Vec<Option<Entry<S>>>,
    /// Those to be given to the ring in the next turn.
    pub(super) wanted: Vec<usize>,
    pub(super) reports: Vec<Polled>,
    pub(super) epoll_fired: bool,
    pub(super) always_fired: bool,
}

pub(super) const fn index_of(slot: u32, job: Job) -> usize {
    FIRST_SLOT + slot as usize * Job::ALL.len() + job as usize
}

pub(super) const fn slot_and_job(index: usize) -> (usize, Job) {
    let index = index - FIRST_SLOT;
    (index / Job::ALL.len(), Job::ALL[index % Job::ALL.len()])
}

impl<S> Jobs<S> {
    /// Has a job given to the ring in the next turn, unless it is there.
    pub(super) fn want(&mut self, index: usize) {
        let runner = match index {
            ALWAYS => Some(&mut self.always),
            EPOLL => Some(&mut self.epoll),
            _ => {
                let (slot, job) = slot_and_job(index);
                self.slots[slot].as_mut().and_then(|entry| entry.runner(job))
            }
        };
        if let Some(runner) = runner.filter(|runner| runner.phase.get() == Phase::Idle) {
            runner.phase.set(Phase::Wanted);
            self.wanted.push(index);
        }
    }

    /// Lets a job go on: into the ring, or out of it with a report.
    fn advance(&mut self, index: usize) {
        match index {
            ALWAYS => self.always_fired |= self.always.advance() == Phase::Fired,
            EPOLL => self.epoll_fired |= self.epoll.advance() == Phase::Fired,
            _ => {
                let (slot, job) = slot_and_job(index);
                let place = &mut self.slots[slot];
                let Some(entry) = place else { return };
                // One that was given up before it was in the ring is not given to it any more.
                let Some(runner) = entry.runner(job).filter(|runner| runner.phase.get() != Phase::Idle) else { return };
                let phase = runner.advance();
                let has_fired = matches!(phase, Phase::Fired | Phase::Failed);
                let is_gone = entry.leaving.is_some() && !entry.is_in_ring();
                if is_gone || (has_fired && entry.leaving.is_none()) {
                    let report = Polled {
                        token: entry.token,
                        is_readable: job == Job::Read,
                        is_writable: job == Job::Write,
                        is_hung_up: false,
                        is_failed: false,
                        is_sent: job == Job::Send,
                        is_gone,
                    };
                    if phase == Phase::Failed {
                        // A socket tells its failure once, and it has told the send: a read after that finds the peer's
                        // end. So this is told before the same socket is told to be readable.
                        self.reports.insert(0, report);
                    } else {
                        self.reports.push(report);
                    }
                }
                if is_gone {
                    *place = None;
                }
            }
        }
    }

    /// Lets all go on that were woken or are wanted.
    pub(super) fn advance_all(&mut self, turn: &Waker) {
        let mut wanted = mem::take(&mut self.wanted);
        for index in wanted.drain(..) {
            self.advance(index);
        }
        self.wanted = wanted;
        let mut woken = {
            let mut woken = self.woken.0.lock().unwrap_or_else(PoisonError::into_inner);
            woken.1 = Some(turn.clone());
            mem::take(&mut woken.0)
        };
        for index in woken.drain(..) {
            self.advance(index);
        }
        // Its memory is used again, unless somebody was woken meanwhile.
        let mut place = self.woken.0.lock().unwrap_or_else(PoisonError::into_inner);
        if place.0.is_empty() {
            place.0 = woken;
        }
    }

    pub(super) fn has_answer(&self) -> bool {
        !self.reports.is_empty() || self.epoll_fired || self.always_fired
    }

    pub(super) fn is_in_ring(&mut self) -> bool {
        let slots = self.slots.iter_mut().flatten().any(Entry::is_in_ring);
        slots || self.always.is_in_ring() || self.epoll.is_in_ring()
    }
}
