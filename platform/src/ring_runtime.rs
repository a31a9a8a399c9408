//! The readiness engine over a runtime of futures that owns a ring: monoio.rs and tokio_uring.rs. What such runtimes share is
//! here: the jobs that the ring does for a connection, who is woken, what is reported, how a job ends before its socket.
//! What differs, above all how one turn is made of a `block_on`, is behind [`RingRuntime`].
//!
//! The ring tells when a connection is ready, and takes the sends; all of a turn leaves together. Receiving, accepting and
//! closing are plain calls: no memory that we read is ever the kernel's, and an idle connection holds no buffer.
//!
//! - One turn is one `block_on` of one future, which polls those jobs that were woken or are wanted. No task is spawned:
//!   each would cost a turn of the runtime's scheduler.
//! - Not to block, the ring is also asked for a descriptor that is always readable.
//! - Listeners, foreign descriptors and the waker stand in an epoll instance, which the ring watches as one descriptor: a
//!   listener is so never held by the ring, and each keeps its level or edge semantics.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::io;
use std::mem;
use std::os::fd::{OwnedFd, RawFd};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use crate::epoll::EpollPoller;
use crate::eventfd::EventfdWaker;
use crate::readiness::{Interest, Polled, Poller, Release, Token};
use crate::{IoConfig, OutBuf, socket};

/// What the poller needs of a runtime. All of it is monomorphised.
pub trait RingRuntime: Sized + 'static {
    /// As `TURBOAPI_IO` and the log spell it.
    const NAME: &'static str;
    /// A descriptor that somebody else owns, and keeps open for as long as this lives or the ring holds it.
    type Stream: 'static;

    /// Opens a ring with so many entries, with the best flags that this kernel knows.
    fn open(entries: u32) -> io::Result<Self>;
    /// Makes a stream. Dropping it does not close the descriptor.
    fn borrow(descriptor: RawFd) -> Self::Stream;
    /// Ends when the descriptor is readable or has failed: its failure is told to who reads next.
    /// PERF: this, `writable` and `send` are to be the runtime's own futures, as they are. With one more around each of
    /// monoio's, `examples/turn_cost` counted 2,850 instructions a request at K = 64, without 2,778.
    fn readable(stream: &Self::Stream) -> impl Future<Output = io::Result<()>>;
    /// Ends when the descriptor is writable or has failed: its failure is told to who writes next.
    fn writable(stream: &Self::Stream) -> impl Future<Output = io::Result<()>>;
    /// Sends all of the bytes, without SIGPIPE, and gives them back with their number.
    fn send(stream: &mut Self::Stream, bytes: Vec<u8>) -> impl Future<Output = (io::Result<usize>, Vec<u8>)>;
    /// Called before the ring gets one of these.
    fn hold(_stream: &Self::Stream) {}
    /// Called when it has answered; not when the future is dropped before.
    fn let_go(_stream: &Self::Stream) {}
    /// Polls `advance` until it is ready or the bound has passed, and never for less than that; each time before it waits, the
    /// ring gets what was asked of it. Without a bound it may wait for ever. A signal need not end it.
    fn turn(&mut self, bound: Option<Duration>, advance: impl FnMut(&mut Context<'_>) -> Poll<()>);
    /// Called at most once, and before the drop, when the ring still holds jobs: the drop must then neither wait for them nor
    /// free what they use.
    fn abandon(&mut self);
}

/// What the future of a turn does when it is polled: ready as `advance` is, or the sleep if there is one.
/// PERF: a function, not a future of its own: with that `examples/turn_cost` counted 2,846 instructions a request at K = 64, with
/// this 2,777.
#[inline]
pub fn poll_turn(
    context: &mut Context<'_>,
    advance: &mut impl FnMut(&mut Context<'_>) -> Poll<()>,
    sleep: Pin<&mut Option<impl Future<Output = ()>>>,
) -> Poll<()> {
    if advance(context).is_ready() {
        return Poll::Ready(());
    }
    sleep.as_pin_mut().map_or(Poll::Pending, |sleep| sleep.poll(context))
}

/// How long dropping the driver may take: the ring only has to hand back watches that it has been told to end.
const DROP_TIME: Duration = Duration::from_secs(1);

/// Which job a woken future belongs to. Two of the driver's own, then three per slot.
const ALWAYS: usize = 0;
const EPOLL: usize = 1;
const FIRST_SLOT: usize = 2;

/// What wakes the futures of one turn: who was woken, and the future of the turn itself.
#[derive(Debug, Default)]
struct Woken(Mutex<(Vec<usize>, Option<Waker>)>);

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
enum Phase {
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
enum Job {
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
struct Runner {
    phase: Rc<Cell<Phase>>,
    waker: Waker,
    future: Pin<Box<dyn Future<Output = ()>>>,
}

/// What a sender has to send, then what became of it.
type Parcel = Rc<Cell<Option<(OutBuf, io::Result<()>)>>>;

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
    fn watching<R: RingRuntime>(stream: &Rc<R::Stream>, job: Job, index: usize, woken: &Arc<Woken>) -> Self {
        let stream = Rc::clone(stream);
        Self::new(index, woken, |phase| {
            Box::pin(async move {
                loop {
                    wanted(&phase).await;
                    R::hold(&stream);
                    // The result does not matter: a failed socket tells its failure to who reads or writes next.
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
    fn sending<R: RingRuntime>(mut stream: R::Stream, parcel: &Parcel, index: usize, woken: &Arc<Woken>) -> Self {
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
struct Entry<S> {
    token: Token,
    read: Runner,
    /// Made when the first plain send was short.
    write: Option<Runner>,
    /// Made with the first send.
    send: Option<(Runner, Parcel)>,
    stream: Rc<S>,
    descriptor: RawFd,
    /// The socket, given here to be closed when the ring has let go of it. INVARIANT: dropped last.
    leaving: Option<OwnedFd>,
}

impl<S> Entry<S> {
    fn runner(&mut self, job: Job) -> Option<&mut Runner> {
        match job {
            Job::Read => Some(&mut self.read),
            Job::Write => self.write.as_mut(),
            Job::Send => self.send.as_mut().map(|(runner, _)| runner),
        }
    }

    fn is_in_ring(&mut self) -> bool {
        Job::ALL.into_iter().any(|job| self.runner(job).is_some_and(|runner| runner.is_in_ring()))
    }

    /// Has the ring let go. It holds the file until its jobs end, and so the socket's close and what that tells the peer.
    fn end(&mut self) {
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
struct Jobs<S> {
    woken: Arc<Woken>,
    always: Runner,
    epoll: Runner,
    slots: Vec<Option<Entry<S>>>,
    /// Those to be given to the ring in the next turn.
    wanted: Vec<usize>,
    reports: Vec<Polled>,
    epoll_fired: bool,
    always_fired: bool,
}

const fn index_of(slot: u32, job: Job) -> usize {
    FIRST_SLOT + slot as usize * Job::ALL.len() + job as usize
}

const fn slot_and_job(index: usize) -> (usize, Job) {
    let index = index - FIRST_SLOT;
    (index / Job::ALL.len(), Job::ALL[index % Job::ALL.len()])
}

impl<S> Jobs<S> {
    /// Has a job given to the ring in the next turn, unless it is there.
    fn want(&mut self, index: usize) {
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
                        // A socket tells its failure once, and it has told the send: who reads after that finds the peer's
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
    fn advance_all(&mut self, turn: &Waker) {
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

    fn has_answer(&self) -> bool {
        !self.reports.is_empty() || self.epoll_fired || self.always_fired
    }

    fn is_in_ring(&mut self) -> bool {
        let slots = self.slots.iter_mut().flatten().any(Entry::is_in_ring);
        slots || self.always.is_in_ring() || self.epoll.is_in_ring()
    }
}

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
