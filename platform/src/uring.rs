//! The raw ring, Linux 6.1 and later: multishot receive, buffers that the kernel picks when bytes arrive, sends
//! that leave together in the one system call that also waits. No TLS, no files, no registered descriptors.
//!
//! - A receive is armed once and stays. Its bytes come in a buffer of [`buffers`], which is ours until `rx_release`; an
//!   idle connection holds none. A completion without "more" has ended it, for whatever reason, and it is armed again.
//! - Without a free buffer the kernel ends the receive; it stands in line then until buffers are back, not for a time.
//! - `want_read(false)` costs nothing until bytes come that nobody wants: they are kept, and the receive is ended.
//! - Memory that the kernel reads or writes lives until the request's own last completion: a closing connection waits in
//!   its slot for that, and the whole driver does in [`Platform::finish`].

#![expect(
    unsafe_code,
    reason = "one place: memory is dropped by hand, so that it can be leaked where the kernel still has it"
)]

mod buffers;
mod connection;
mod listeners;
mod ring;
mod sending;

use std::collections::VecDeque;
use std::io;
use std::mem::{self, ManuallyDrop};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

use self::buffers::BufferRing;
use self::connection::{Connection, Phase, Receive};
use self::listeners::Listeners;
use self::ring::{Completion, GROUP, Kind, Ring};
use self::sending::Sending;
use crate::eventfd::EventfdWaker;
use crate::lingering::Lingering;
use crate::slots::Slots;
use crate::{Close, ConnectionId, Event, IoConfig, ListenerId, OutBuf, Platform, RxBuf, Wait, WatchId, socket};

/// `Data` events of one connection in one turn. The contract promises this bound to `want_read(false)`; what is more waits
/// for the next turn, as one.
const DATA_PER_TURN: u8 = 4;

/// System calls of one turn, when one does not bring all that is ready: the kernel hands out about 20 a time.
const ENTERS_PER_TURN: u32 = 4;

/// Marks an [`RxBuf`] whose bytes are not in the buffer ring but in `Uring::lent`.
const LENT: u32 = 1 << 31;

/// How long dropping the driver may take: the kernel only has to hand back what it has been told to end.
const DROP_TIME: Duration = Duration::from_secs(1);

/// How often the kernel is told again to end everything.
const CANCEL_AGAIN: Duration = Duration::from_millis(5);

#[derive(Debug)]
struct Watch {
    id: WatchId,
    descriptor: RawFd,
    /// Tells it from others that had its id before.
    generation: u32,
    is_armed: bool,
}

impl Watch {
    const fn identity(&self) -> u64 {
        ConnectionId::new(self.id.0, self.generation).bits()
    }
}

/// The driver. See the module.
pub struct Uring {
    ring: Ring,
    /// INVARIANT: these two hold what the kernel writes and reads. Dropped when nothing is in flight, else leaked.
    buffers: ManuallyDrop<BufferRing>,
    connections: ManuallyDrop<Slots<Connection>>,
    listeners: Listeners,
    watches: Vec<Watch>,
    watch_generation: u32,
    waker: EventfdWaker,
    is_waker_armed: bool,
    /// Connections whose receive found no buffer.
    starved: VecDeque<ConnectionId>,
    /// Connections that have bytes of an earlier turn to tell.
    holding: Vec<ConnectionId>,
    /// Such bytes, told in the last turn.
    lent: Vec<Vec<u8>>,
    lingering: Lingering,
    /// What happened between two turns.
    pending: Vec<Event>,
    completions: Vec<Completion>,
    turn: u32,
    accept_batch: u32,
    linger_bytes_max: usize,
    /// How long dropping may take.
    drop_time: Duration,
}

impl std::fmt::Debug for Uring {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Uring").field("in_flight", &self.ring.in_flight()).finish_non_exhaustive()
    }
}

impl Uring {
    /// Lets `work` report to what the next turn tells first.
    fn between_turns(&mut self, work: impl FnOnce(&mut Self, &mut Vec<Event>)) {
        let mut events = mem::take(&mut self.pending);
        work(self, &mut events);
        self.pending = events;
    }

    /// Arms the receive of a connection that wants it and has none.
    #[inline]
    fn receive(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(id).filter(|connection| connection.has_to_receive()) else {
            return;
        };
        connection.receive = Receive::Armed;
        let (descriptor, user_data) = (connection.descriptor(), Kind::Receive.of(id.bits()));
        if connection.is_bulk {
            self.ring.receive_once(descriptor, self.buffers.buffer_bytes(), user_data);
        } else {
            self.ring.receive(descriptor, user_data);
        }
    }

    /// Ends the receive of a connection, if it has one.
    fn cancel_receive(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        if connection.receive == Receive::Armed {
            connection.receive = Receive::Cancelled;
            self.ring.cancel(Kind::Receive, id.bits());
        }
    }

    /// Has the kernel let go of a connection; [`Self::leave`] closes it then.
    fn finish_close(&mut self, id: ConnectionId, events: &mut Vec<Event>) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        connection.phase = Phase::Leaving;
        connection.held = Vec::new();
        if connection.sending.is_some() {
            self.ring.cancel(Kind::Send, id.bits());
        }
        self.cancel_receive(id);
        self.leave(id, events);
    }

    /// Closes a connection that is leaving and that the kernel has nothing of.
    fn leave(&mut self, id: ConnectionId, events: &mut Vec<Event>) {
        let is_free = |connection: &mut Connection| connection.phase == Phase::Leaving && !connection.is_in_kernel();
        if self.connections.get_mut(id).is_some_and(is_free) {
            drop(self.connections.remove(id));
            events.push(Event::Closed { connection: id });
            self.listeners.retry();
        }
    }

    /// Reports a failure, once. A connection that was closing is gone with it.
    fn fail(&mut self, id: ConnectionId, error: io::Error, events: &mut Vec<Event>) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        match connection.phase {
            Phase::Open => {
                connection.phase = Phase::Failed;
                connection.held = Vec::new();
                events.push(Event::Error { connection: id, error });
            }
            Phase::Failed | Phase::Leaving => {}
            _ => self.finish_close(id, events),
        }
    }

    /// Ends the writing side and starts to read and discard.
    fn linger(&mut self, id: ConnectionId, time: Duration, events: &mut Vec<Event>) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        let held_bytes = mem::take(&mut connection.held).len();
        let bytes_left = self.linger_bytes_max.saturating_sub(held_bytes);
        let is_too_much = held_bytes > 0 && bytes_left == 0;
        let is_over = connection.is_at_eof || is_too_much || socket::shutdown_write(connection.socket.as_fd()).is_err();
        let Some(deadline) = Instant::now().checked_add(time).filter(|_| !is_over) else {
            return self.finish_close(id, events);
        };
        connection.phase = Phase::Lingering { bytes_left };
        self.lingering.add(deadline, id);
        self.receive(id);
    }

    /// Closes what has lingered long enough.
    fn expire(&mut self, events: &mut Vec<Event>) {
        if self.lingering.next().is_none() {
            return;
        }
        let now = Instant::now();
        while let Some(id) = self.lingering.pop_due(now) {
            self.finish_close(id, events);
        }
    }

    /// How long the kernel may let us sleep: as told, but not past a deadline of our own.
    fn bounded(&self, wait: Wait) -> Wait {
        let Some(own) = self.listeners.next_retry().into_iter().chain(self.lingering.next()).min() else { return wait };
        let own = own.saturating_duration_since(Instant::now());
        match wait {
            Wait::Poll => Wait::Poll,
            Wait::For(asked) => Wait::For(asked.min(own)),
            Wait::Forever => Wait::For(own),
        }
    }

    /// Gives the ring what it has lost or was never given.
    fn arm(&mut self, events: &mut Vec<Event>) {
        self.listeners.step(&mut self.ring, self.accept_batch, events);
        if !self.is_waker_armed {
            self.is_waker_armed = true;
            self.ring.poll(self.waker.descriptor(), true, Kind::Wake.of(0));
        }
        // Once only, as this is what makes them level-triggered: each turn asks anew.
        for watch in self.watches.iter_mut().filter(|watch| !watch.is_armed) {
            watch.is_armed = true;
            self.ring.poll(watch.descriptor, false, Kind::Watch.of(watch.identity()));
        }
        // As many as there are buffers, and for one buffer each: the first would take them all, and no order would be fair.
        for _ in 0..self.buffers.free_count().min(self.starved.len()) {
            let Some(id) = self.starved.pop_front() else { break };
            if let Some(connection) =
                self.connections.get_mut(id).filter(|connection| connection.receive == Receive::Starved)
            {
                connection.receive = Receive::Off;
                if connection.has_to_receive() {
                    connection.receive = Receive::Armed;
                    self.ring.receive_once(
                        connection.descriptor(),
                        self.buffers.buffer_bytes(),
                        Kind::Receive.of(id.bits()),
                    );
                }
            }
        }
    }

    /// Puts a connection in line to tell what it holds, unless it stands there.
    fn queue(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        let has_to_tell = connection.phase == Phase::Open && connection.wants_read && !connection.held.is_empty();
        if has_to_tell && !mem::replace(&mut connection.is_queued, true) {
            self.holding.push(id);
        }
    }

    /// Tells what earlier turns have left.
    fn tell_held(&mut self, events: &mut Vec<Event>) {
        for id in mem::take(&mut self.holding) {
            let Some(connection) = self.connections.get_mut(id) else { continue };
            connection.is_queued = false;
            if connection.phase != Phase::Open || !connection.wants_read || connection.held.is_empty() {
                continue;
            }
            let held = mem::take(&mut connection.held);
            let _ = connection.may_tell(self.turn, DATA_PER_TURN);
            // The kernel had this many buffers' bytes at most, which is below 2 GiB; and turns have few such connections.
            let buffer = RxBuf { index: LENT | self.lent.len() as u32, offset: 0, len: held.len() as u32 };
            self.lent.push(held);
            events.push(Event::Data { connection: id, buffer });
            if mem::take(&mut connection.owes_eof) {
                events.push(Event::Eof { connection: id });
            }
            self.receive(id);
        }
    }

    /// Takes what has completed.
    fn reap(&mut self, events: &mut Vec<Event>) -> io::Result<()> {
        let mut completions = mem::take(&mut self.completions);
        self.ring.take_completions(&mut completions);
        for completion in completions.drain(..) {
            let identity = completion.identity();
            let id = ConnectionId::from_bits(identity);
            match completion.kind() {
                Kind::Receive => self.on_receive(id, completion, events)?,
                Kind::Send => self.on_send(id, completion, events),
                Kind::Accept => self.listeners.on_accept(completion, self.accept_batch, events),
                Kind::Watch => self.on_watch(completion, events),
                Kind::Wake => {
                    self.is_waker_armed = completion.goes_on();
                    self.waker.clear();
                    events.push(Event::Woken);
                }
                // A cancel that found nothing: what it was to end has ended, or is between two states and told again.
                Kind::CancelReceive => {
                    if self.connections.get_mut(id).is_some_and(|connection| connection.receive == Receive::Cancelled) {
                        self.ring.cancel(Kind::Receive, identity);
                    }
                }
                Kind::CancelSend => {
                    let is_leaving = |connection: &mut Connection| {
                        connection.phase == Phase::Leaving && connection.sending.is_some()
                    };
                    if self.connections.get_mut(id).is_some_and(is_leaving) {
                        self.ring.cancel(Kind::Send, identity);
                    }
                }
                Kind::CancelAccept => self.listeners.on_cancel_failed(identity),
                Kind::CancelOther => {}
            }
        }
        self.completions = completions;
        Ok(())
    }

    /// Bytes, the peer's end, a failure, or just the end of a receive.
    #[inline]
    fn on_receive(&mut self, id: ConnectionId, completion: Completion, events: &mut Vec<Event>) -> io::Result<()> {
        // Not negative after `max`.
        let bytes = completion.result.max(0) as usize;
        let buffer = completion.buffer().map(|index| self.buffers.take(index, bytes)).transpose()?;
        let Some(connection) = self.connections.get_mut(id) else {
            debug_assert!(false, "{id:?} was forgotten before its last completion");
            if let Some(index) = buffer {
                self.buffers.put(index);
            }
            return Ok(());
        };
        if let (Some(index), 1..) = (buffer, bytes) {
            let is_wanted = connection.phase == Phase::Open && connection.wants_read && connection.held.is_empty();
            if is_wanted && connection.may_tell(self.turn, DATA_PER_TURN) {
                // A buffer's length came from a u32.
                let buffer = RxBuf { index, offset: 0, len: bytes as u32 };
                events.push(Event::Data { connection: id, buffer });
                if completion.goes_on() {
                    return Ok(());
                }
            } else {
                self.on_unwanted(id, index, bytes, events);
            }
        } else if let Some(index) = buffer {
            self.buffers.put(index);
        }
        if completion.goes_on() {
            return Ok(());
        }
        let Some(connection) = self.connections.get_mut(id) else { return Ok(()) };
        connection.receive = Receive::Off;
        // A buffer that was not filled has emptied the socket.
        connection.is_bulk &= completion.result < 0 || bytes == self.buffers.buffer_bytes() as usize;
        match completion.result {
            0 => self.on_eof(id, events),
            // It goes on below, as one that has ended for a reason of the ring's.
            1.. => {}
            error => match -error {
                libc::ENOBUFS => self.starve(id),
                libc::ECANCELED | libc::EINTR | libc::EAGAIN => {}
                _ => self.fail(id, completion.error(), events),
            },
        }
        self.receive(id);
        self.leave(id, events);
        Ok(())
    }

    /// Bytes that cannot be told now, or never.
    #[cold]
    fn on_unwanted(&mut self, id: ConnectionId, index: u32, bytes: usize, events: &mut Vec<Event>) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        let mut is_over = false;
        match &mut connection.phase {
            Phase::Open => connection.held.extend_from_slice(self.buffers.bytes(index, 0, bytes as u32)),
            Phase::Lingering { bytes_left } => {
                *bytes_left = bytes_left.saturating_sub(bytes);
                is_over = *bytes_left == 0;
            }
            _ => {}
        }
        let is_open = connection.phase == Phase::Open;
        // PERF: one that brings more in a turn than may be told receives once a turn from here on. Left to itself it would
        // fill all buffers in every turn, and nearly all of that be copied here. One upload as fast as it goes: 670 µs of
        // CPU a MiB before (epoll 290), 400 with it; 8 uploads at once 490 and 490 (epoll 540).
        connection.is_bulk |= is_open;
        self.buffers.put(index);
        if is_open {
            self.cancel_receive(id);
        }
        self.queue(id);
        if is_over {
            self.finish_close(id, events);
        }
    }

    fn on_eof(&mut self, id: ConnectionId, events: &mut Vec<Event>) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        connection.is_at_eof = true;
        // A socket tells its error once. Where a send was there to hear it, the receive ends as if by the peer's will: the
        // send's completion, which follows, then says how it was.
        let is_in_doubt = connection.sending.is_some() && socket::is_hung_up(connection.socket.as_fd());
        match connection.phase {
            Phase::Open if connection.held.is_empty() && !is_in_doubt => events.push(Event::Eof { connection: id }),
            Phase::Open => connection.owes_eof = true,
            Phase::Lingering { .. } => self.finish_close(id, events),
            _ => {}
        }
    }

    /// Puts a connection that found no buffer in line.
    fn starve(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(id).filter(|connection| connection.has_to_receive()) else {
            return;
        };
        connection.receive = Receive::Starved;
        self.starved.push_back(id);
    }

    /// A send has left, as far as it did.
    #[inline]
    fn on_send(&mut self, id: ConnectionId, completion: Completion, events: &mut Vec<Event>) {
        let Some(connection) = self.connections.get_mut(id) else {
            return debug_assert!(false, "{id:?} was forgotten before its last completion");
        };
        let Some(mut sending) = connection.sending.take() else {
            return debug_assert!(false, "{id:?} had nothing to send");
        };
        if matches!(connection.phase, Phase::Failed | Phase::Leaving) {
            return self.leave(id, events);
        }
        match completion.result {
            bytes @ 1.. => {
                // Positive.
                if sending.advance(bytes as usize) {
                    events.push(Event::Sent { connection: id, out: sending.into_out() });
                    match connection.phase {
                        Phase::ClosingAfterSend => self.finish_close(id, events),
                        Phase::LingeringAfterSend(time) => self.linger(id, time, events),
                        _ if connection.held.is_empty() && mem::take(&mut connection.owes_eof) => {
                            events.push(Event::Eof { connection: id });
                        }
                        _ => {}
                    }
                    return;
                }
            }
            0 => return self.fail(id, io::ErrorKind::WriteZero.into(), events),
            error if matches!(-error, libc::EINTR | libc::EAGAIN) => {}
            _ => return self.fail(id, completion.error(), events),
        }
        // It was cut short. If by a failure, the rest will say which.
        sending.submit(&mut self.ring, connection.descriptor(), id);
        connection.sending = Some(sending);
    }

    fn on_watch(&mut self, completion: Completion, events: &mut Vec<Event>) {
        let found = self.watches.iter_mut().find(|watch| watch.identity() == completion.identity());
        // Another: it was unwatched meanwhile.
        let Some(watch) = found else { return };
        // A descriptor that cannot be watched is told of once, and not asked for again.
        watch.is_armed = completion.result < 0;
        events.push(Event::Watch { watch: watch.id });
    }

    /// Ends all requests and waits until the kernel has none of them; whether it came to that.
    fn drain(&mut self, deadline: Instant) -> io::Result<()> {
        self.ring.drop_backlog();
        let mut completions = Vec::new();
        while self.ring.in_flight() > 0 {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(io::ErrorKind::TimedOut.into());
            }
            self.ring.cancel_all();
            self.ring.enter(Wait::For(left.min(CANCEL_AGAIN)))?;
            self.ring.take_completions(&mut completions);
            completions.clear();
        }
        Ok(())
    }
}

impl Drop for Uring {
    fn drop(&mut self) {
        if self.drain(Instant::now() + self.drop_time).is_err() {
            return;
        }
        // SAFETY: nothing is in flight, so the kernel neither reads nor writes them any more. They are not used after.
        unsafe {
            ManuallyDrop::drop(&mut self.connections);
            ManuallyDrop::drop(&mut self.buffers);
        }
    }
}

impl Platform for Uring {
    const NAME: &'static str = "uring";
    const TELLS_ACKNOWLEDGED: bool = true;
    type Waker = EventfdWaker;

    fn open(config: &IoConfig) -> io::Result<Self> {
        let ring = Ring::open(config)?;
        let waker = EventfdWaker::open()?;
        let buffers = BufferRing::register(&ring.submitter(), GROUP, config)?;
        Ok(Self {
            ring,
            buffers: ManuallyDrop::new(buffers),
            connections: ManuallyDrop::default(),
            listeners: Listeners::default(),
            watches: Vec::new(),
            watch_generation: 0,
            waker,
            is_waker_armed: false,
            starved: VecDeque::new(),
            holding: Vec::new(),
            lent: Vec::new(),
            lingering: Lingering::default(),
            pending: Vec::new(),
            completions: Vec::new(),
            turn: 0,
            accept_batch: config.accept_batch.max(1),
            linger_bytes_max: config.linger_bytes_max,
            drop_time: DROP_TIME,
        })
    }

    fn waker(&self) -> EventfdWaker {
        self.waker.clone()
    }

    fn listen(&mut self, id: ListenerId, socket: BorrowedFd<'_>) -> io::Result<()> {
        self.listeners.add(id, socket)
    }

    fn unlisten(&mut self, id: ListenerId) {
        self.listeners.end(id);
    }

    fn want_accept(&mut self, id: ListenerId, on: bool) {
        self.listeners.want_accept(id, on);
    }

    fn adopt(&mut self, id: ConnectionId, socket: OwnedFd) -> io::Result<()> {
        self.connections.insert(id, Connection::new(socket))?;
        self.receive(id);
        Ok(())
    }

    fn want_read(&mut self, id: ConnectionId, on: bool) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        // Off ends no receive: most who ask for it want to read again before anything comes, and a cancel and a new
        // receive cost two requests and two completions. Bytes that do come end it.
        connection.wants_read = on;
        if on {
            self.queue(id);
            self.receive(id);
        }
    }

    fn send(&mut self, id: ConnectionId, out: OutBuf) {
        debug_assert!(self.connections.knows(id), "send to {id:?}, which was never adopted");
        let open = self.connections.get_mut(id).filter(|connection| connection.phase == Phase::Open);
        let Some(connection) = open else { return };
        debug_assert!(connection.sending.is_none(), "send to {id:?}, which has one in flight");
        if out.is_empty() {
            return self.pending.push(Event::Sent { connection: id, out });
        }
        connection.sending = Some(Sending::start(out, &mut self.ring, connection.descriptor(), id));
    }

    fn acknowledged(&mut self, id: ConnectionId) -> Option<u64> {
        socket::acknowledged(self.connections.get_mut(id)?.socket.as_fd())
    }

    fn close(&mut self, id: ConnectionId, how: Close) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        let is_sending = connection.sending.is_some();
        if how == Close::Abort {
            // Where a socket cannot (a Unix one), a plain close must do.
            let _ = socket::set_reset_on_close(connection.socket.as_fd());
        }
        match (connection.phase, how) {
            (Phase::Leaving, _) => {}
            (Phase::Open, Close::AfterSend) if is_sending => {
                connection.phase = Phase::ClosingAfterSend;
                self.cancel_receive(id);
            }
            (Phase::Open, Close::Linger(time)) if is_sending => connection.phase = Phase::LingeringAfterSend(time),
            (Phase::Open, Close::Linger(time)) => self.between_turns(|driver, events| driver.linger(id, time, events)),
            (Phase::Open | Phase::Failed, _) | (_, Close::Abort) => {
                self.between_turns(|driver, events| driver.finish_close(id, events));
            }
            _ => {}
        }
    }

    fn watch(&mut self, id: WatchId, descriptor: RawFd) -> io::Result<()> {
        if self.watches.iter().any(|watch| watch.id == id) {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, format!("watch {} is in use", id.0)));
        }
        self.watch_generation = self.watch_generation.wrapping_add(1);
        let generation = self.watch_generation % ConnectionId::GENERATIONS;
        self.watches.push(Watch { id, descriptor, generation, is_armed: false });
        Ok(())
    }

    fn unwatch(&mut self, id: WatchId) {
        let Some(index) = self.watches.iter().position(|watch| watch.id == id) else { return };
        let watch = self.watches.swap_remove(index);
        if watch.is_armed {
            self.ring.cancel(Kind::Watch, watch.identity());
        }
    }

    fn turn(&mut self, wait: Wait, events: &mut Vec<Event>) -> io::Result<()> {
        debug_assert_eq!(self.buffers.out_count(), 0, "receive buffers must be released before the next turn");
        let told_before = events.len();
        self.turn = self.turn.wrapping_add(1);
        self.lent.clear();
        events.append(&mut self.pending);
        self.tell_held(events);
        self.expire(events);
        self.arm(events);
        let may_not_sleep = events.len() > told_before || !self.starved.is_empty() || self.listeners.is_emptying();
        let mut wait = if may_not_sleep { Wait::Poll } else { self.bounded(wait) };
        for _ in 0..ENTERS_PER_TURN {
            self.ring.enter(wait)?;
            self.reap(events)?;
            // PERF: without half of the buffers, more would mostly be receives that end for want of one. 512 requests at
            // once, 64 buffers (`examples/turn_cost`): 4.5 µs a request without this, 3.9 with it.
            if !self.ring.has_work() || self.buffers.out_count() > self.buffers.free_count() {
                break;
            }
            wait = Wait::Poll;
        }
        self.expire(events);
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.ring.flush()
    }

    #[inline]
    fn rx(&self, buffer: &RxBuf) -> &[u8] {
        if buffer.index & LENT != 0 {
            let start = buffer.offset as usize;
            return &self.lent[(buffer.index ^ LENT) as usize][start..start + buffer.len as usize];
        }
        self.buffers.bytes(buffer.index, buffer.offset, buffer.len)
    }

    #[inline]
    fn rx_release(&mut self, buffer: RxBuf) {
        if buffer.index & LENT == 0 {
            self.buffers.put(buffer.index);
        }
    }

    fn finish(mut self, deadline: Instant) -> io::Result<()> {
        // What comes after this is `drop`, which closes the sockets, or leaks them with what the kernel has of them.
        self.drain(deadline).inspect_err(|_| self.drop_time = Duration::ZERO)
    }
}
