//! io_uring through monoio 0.2, under the readiness engine: the ring tells when a connection is ready, and takes the sends;
//! all of a turn leaves in the one `io_uring_enter` that also waits. Receiving, accepting and closing are plain calls: no
//! memory that we read is ever the kernel's, and an idle connection holds no buffer.
//!
//! PERF: server's time per request, `examples/turn_cost.rs`, K requests ready at once. With sends as plain calls 5.3 µs at
//! K = 8 and 5.2 at 64; with sends in the ring 4.7 and 4.3; epoll 4.7 and 4.7. A monoio program with receives in the ring
//! too came to 3.9 and 4.0, and with what is here to 4.4 and 4.2: those last 0.2 to 0.5 µs would cost a buffer per idle
//! connection, which the contract forbids.
//!
//! What monoio lacks is faked so (runtime.rs of monoio 0.2.4):
//! - One turn is one `block_on`, whose future is never ready before it has been parked: only `park` asks the kernel for
//!   completions, and without that SINGLE_ISSUER with DEFER_TASKRUN would starve.
//! - Not to block, the future also polls a descriptor that is always readable.
//! - No monoio task is spawned: a woken task would make `block_on` submit without reaping, one system call for nothing.
//! - Listeners, foreign descriptors and the waker stand in an epoll instance, which the ring watches as one descriptor: a
//!   listener is so never held by the ring, and each keeps its level or edge semantics.
//!
//! A signal does not end a wait here: monoio parks again after EINTR.

#![expect(unsafe_code, reason = "monoio's streams own their descriptor; ours borrow it from the engine")]

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::io;
use std::mem::{self, ManuallyDrop};
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use monoio::io::AsyncWriteRentExt;
use monoio::net::TcpStream;
use monoio::time::TimeDriver;
use monoio::{IoUringDriver, Runtime, RuntimeBuilder};

use crate::epoll::{EpollPoller, EventfdWaker};
use crate::readiness::{Interest, Polled, Poller, Readiness, Release, Token};
use crate::{IoConfig, OutBuf, socket};

/// The engine over monoio's ring.
pub type Monoio = Readiness<MonoioPoller>;

/// Completions that the kernel can keep for us. Each connection has one watch in the ring, and all may end in one moment.
const COMPLETIONS: u32 = 4096;

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
struct WorkerWaker {
    index: usize,
    woken: Arc<Woken>,
}

impl std::task::Wake for WorkerWaker {
    fn wake(self: Arc<Self>) {
        let mut woken = self.woken.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (indexes, turn) = &mut *woken;
        indexes.push(self.index);
        if let Some(turn) = turn.take() {
            turn.wake();
        }
    }
}

/// A stream over a descriptor that somebody else owns, and keeps open for as long as this lives.
#[derive(Debug)]
struct Borrowed {
    stream: ManuallyDrop<TcpStream>,
    /// Watches in the ring, each of which holds a reference of its own.
    in_ring: Cell<u32>,
}

impl Borrowed {
    fn new(descriptor: RawFd) -> Self {
        // SAFETY: the standard stream is taken apart again by `from_std`, and the one that is made of it never dropped but
        // taken apart by our `drop`: the descriptor is closed by its owner alone.
        let stream = unsafe { std::net::TcpStream::from_raw_fd(descriptor) };
        // With io_uring alone there is nothing to register.
        let stream = TcpStream::from_std(stream).expect("monoio wraps a descriptor without a call");
        Self { stream: ManuallyDrop::new(stream), in_ring: Cell::new(0) }
    }
}

impl Drop for Borrowed {
    fn drop(&mut self) {
        // Should a watch still be in the ring, the little memory of the stream is leaked: its end would close what is not ours.
        if self.in_ring.get() == 0 {
            // SAFETY: this is the only place that takes it, and it is not used after.
            let _ = unsafe { ManuallyDrop::take(&mut self.stream) }.into_raw_fd();
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
struct Worker {
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

impl Worker {
    fn new(
        index: usize,
        woken: &Arc<Woken>,
        job: impl FnOnce(Rc<Cell<Phase>>) -> Pin<Box<dyn Future<Output = ()>>>,
    ) -> Self {
        let phase = Rc::new(Cell::new(Phase::Idle));
        let waker = Waker::from(Arc::new(WorkerWaker { index, woken: Arc::clone(woken) }));
        Self { future: job(Rc::clone(&phase)), phase, waker }
    }

    /// Watches for one direction, once each time it is asked to.
    fn watching(borrowed: &Rc<Borrowed>, job: Job, index: usize, woken: &Arc<Woken>) -> Self {
        let borrowed = Rc::clone(borrowed);
        Self::new(index, woken, |phase| {
            Box::pin(async move {
                loop {
                    wanted(&phase).await;
                    borrowed.in_ring.set(borrowed.in_ring.get() + 1);
                    // The result does not matter: a failed socket tells its failure to who reads or writes next.
                    let _ = match job {
                        Job::Read => borrowed.stream.readable(false).await,
                        Job::Write | Job::Send => borrowed.stream.writable(false).await,
                    };
                    borrowed.in_ring.set(borrowed.in_ring.get() - 1);
                    phase.set(Phase::Fired);
                }
            })
        })
    }

    /// Sends a parcel each time it is asked to. It has a stream of its own, as monoio wants one alone for writing.
    fn sending(mut borrowed: Borrowed, parcel: &Parcel, index: usize, woken: &Arc<Woken>) -> Self {
        let parcel = Rc::clone(parcel);
        Self::new(index, woken, |phase| {
            Box::pin(async move {
                loop {
                    wanted(&phase).await;
                    if let Some((OutBuf { head, body }, _)) = parcel.take() {
                        borrowed.in_ring.set(1);
                        let (result, head) = borrowed.stream.write_all(head).await;
                        borrowed.in_ring.set(0);
                        parcel.set(Some((OutBuf { head, body }, result.map(drop))));
                    }
                    phase.set(Phase::Fired);
                }
            })
        })
    }

    /// Goes on as far as it can; whether the ring has answered.
    fn advance(&mut self) -> bool {
        let is_ready = self.future.as_mut().poll(&mut Context::from_waker(&self.waker)).is_ready();
        debug_assert!(!is_ready, "a worker goes on for ever");
        let has_fired = self.phase.get() == Phase::Fired;
        if has_fired {
            self.phase.set(Phase::Idle);
        }
        has_fired
    }

    fn is_in_ring(&self) -> bool {
        self.phase.get() == Phase::Armed
    }
}

/// What the ring does for one connection.
struct Entry {
    token: Token,
    read: Worker,
    /// Made when the first plain send was short.
    write: Option<Worker>,
    /// Made with the first send.
    send: Option<(Worker, Parcel)>,
    stream: Rc<Borrowed>,
    /// The socket, given here to be closed when the ring has let go of it. INVARIANT: dropped last.
    leaving: Option<OwnedFd>,
}

impl Entry {
    fn worker(&mut self, job: Job) -> Option<&mut Worker> {
        match job {
            Job::Read => Some(&mut self.read),
            Job::Write => self.write.as_mut(),
            Job::Send => self.send.as_mut().map(|(worker, _)| worker),
        }
    }

    fn is_in_ring(&mut self) -> bool {
        Job::ALL.into_iter().any(|job| self.worker(job).is_some_and(|worker| worker.is_in_ring()))
    }

    /// Has the ring let go. It holds the file until its jobs end, and so the socket's close and what that tells the peer.
    fn end(&mut self) {
        for job in Job::ALL {
            if let Some(worker) = self.worker(job).filter(|worker| worker.phase.get() == Phase::Wanted) {
                worker.phase.set(Phase::Idle);
            }
        }
        let writes =
            [Job::Write, Job::Send].into_iter().any(|job| self.worker(job).is_some_and(|worker| worker.is_in_ring()));
        let socket = socket::borrow(self.stream.stream.as_raw_fd());
        if writes {
            // Only a connection that is to be reset, or has failed, still writes.
            socket::disconnect(socket);
        } else if self.read.is_in_ring() {
            let _ = socket::shutdown_read(socket);
        }
    }
}

/// All jobs; apart from the runtime, so that a turn can borrow both.
struct Jobs {
    woken: Arc<Woken>,
    always: Worker,
    epoll: Worker,
    slots: Vec<Option<Entry>>,
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

impl Jobs {
    /// Has a job given to the ring in the next turn, unless it is there.
    fn want(&mut self, index: usize) {
        let worker = match index {
            ALWAYS => Some(&mut self.always),
            EPOLL => Some(&mut self.epoll),
            _ => {
                let (slot, job) = slot_and_job(index);
                self.slots[slot].as_mut().and_then(|entry| entry.worker(job))
            }
        };
        if let Some(worker) = worker.filter(|worker| worker.phase.get() == Phase::Idle) {
            worker.phase.set(Phase::Wanted);
            self.wanted.push(index);
        }
    }

    /// Lets a job go on: into the ring, or out of it with a report.
    fn advance(&mut self, index: usize) {
        match index {
            ALWAYS => self.always_fired |= self.always.advance(),
            EPOLL => self.epoll_fired |= self.epoll.advance(),
            _ => {
                let (slot, job) = slot_and_job(index);
                let place = &mut self.slots[slot];
                let Some(entry) = place else { return };
                // One that was given up before it was in the ring is not given to it any more.
                let Some(worker) = entry.worker(job).filter(|worker| worker.phase.get() != Phase::Idle) else { return };
                let has_fired = worker.advance();
                let is_gone = entry.leaving.is_some() && !entry.is_in_ring();
                if is_gone || (has_fired && entry.leaving.is_none()) {
                    self.reports.push(Polled {
                        token: entry.token,
                        is_readable: job == Job::Read,
                        is_writable: job == Job::Write,
                        is_hung_up: false,
                        is_failed: false,
                        is_sent: job == Job::Send,
                        is_gone,
                    });
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

/// The ring, and beside it the epoll instance for what is not a connection.
pub struct MonoioPoller {
    runtime: Runtime<TimeDriver<IoUringDriver>>,
    jobs: Jobs,
    epoll: EpollPoller,
    /// Whether `jobs.reports` has some that no wait has told.
    keeps_reports: bool,
    /// INVARIANT: always readable: its counter is 1, and nobody reads it.
    _always: EventfdWaker,
}

impl std::fmt::Debug for MonoioPoller {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("MonoioPoller").field("epoll", &self.epoll).finish_non_exhaustive()
    }
}

/// A ring with the best flags that this kernel knows.
fn open_runtime(entries: u32) -> io::Result<Runtime<TimeDriver<IoUringDriver>>> {
    let flags: [fn(&mut io_uring_06::Builder); 4] = [
        // Linux 6.1. PERF: 7.4 µs a request with it and 10.3 without, at 64 connections.
        |builder| {
            builder.setup_single_issuer().setup_defer_taskrun();
        },
        // Linux 6.0.
        |builder| {
            builder.setup_single_issuer().setup_coop_taskrun();
        },
        // Linux 5.19.
        |builder| {
            builder.setup_coop_taskrun();
        },
        |_| {},
    ];
    let mut refused = None;
    for set_flags in flags {
        let mut builder = io_uring_06::IoUring::builder();
        // A forked child that touched the ring would corrupt it.
        builder.dontfork().setup_cqsize(COMPLETIONS.max(entries * 4));
        set_flags(&mut builder);
        let runtime =
            RuntimeBuilder::<TimeDriver<IoUringDriver>>::new().with_entries(entries).uring_builder(builder).build();
        match runtime {
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => refused = Some(error),
            other => return other,
        }
    }
    Err(refused.unwrap_or_else(|| io::ErrorKind::Unsupported.into()))
}

impl MonoioPoller {
    /// One `block_on`: gives the ring what is wanted and waits until something fires, or for this time.
    fn turn(&mut self, timeout: Option<Duration>) {
        let jobs = &mut self.jobs;
        if !self.keeps_reports {
            jobs.reports.clear();
        }
        (jobs.always_fired, jobs.epoll_fired) = (false, false);
        self.runtime.block_on(async {
            let sleeps = timeout.filter(|timeout| *timeout != Duration::ZERO);
            // A day is for ever, and fits what monoio's timers can count.
            let mut sleep = pin!(sleeps.map(|time| monoio::time::sleep(time.min(Duration::from_secs(86_400)))));
            poll_fn(|context| {
                jobs.advance_all(context.waker());
                if jobs.has_answer() {
                    return Poll::Ready(());
                }
                match sleep.as_mut().as_pin_mut() {
                    Some(sleep) => sleep.poll(context),
                    None => Poll::Pending,
                }
            })
            .await;
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

impl Poller for MonoioPoller {
    const NAME: &'static str = "monoio";
    const IS_ONE_SHOT: bool = true;
    const TAKES_SENDS: bool = true;
    type Waker = EventfdWaker;

    fn open(config: &IoConfig) -> io::Result<Self> {
        let runtime = open_runtime(config.ring_entries.max(256))?;
        let epoll = EpollPoller::open(config)?;
        let always = EventfdWaker::open()?;
        crate::Wake::wake(&always);
        let always_stream = Rc::new(Borrowed::new(always.descriptor()));
        let epoll_stream = Rc::new(Borrowed::new(epoll.descriptor()));
        let woken = Arc::new(Woken::default());
        let jobs = Jobs {
            always: Worker::watching(&always_stream, Job::Read, ALWAYS, &woken),
            epoll: Worker::watching(&epoll_stream, Job::Read, EPOLL, &woken),
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
                let stream = Rc::new(Borrowed::new(descriptor));
                let read = Worker::watching(&stream, Job::Read, index_of(slot, Job::Read), &jobs.woken);
                *place = Some(Entry { token, read, write: None, send: None, stream, leaving: None });
                jobs.want(index_of(slot, Job::Read));
            }
            (_, Some(entry)) => {
                let index = index_of(slot, Job::Write);
                if entry.write.is_none() {
                    entry.write = Some(Worker::watching(&entry.stream, Job::Write, index, &jobs.woken));
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
            let borrowed = Borrowed::new(entry.stream.stream.as_raw_fd());
            (Worker::sending(borrowed, &parcel, index, &self.jobs.woken), parcel)
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

impl Drop for MonoioPoller {
    fn drop(&mut self) {
        // A ring that is dropped with a watch in it is leaked by monoio, and the sockets with it. In a panic that came
        // out of a turn `block_on` cannot be used again.
        if self.jobs.is_in_ring() && !std::thread::panicking() {
            self.drain(Instant::now() + DROP_TIME);
        }
    }
}
