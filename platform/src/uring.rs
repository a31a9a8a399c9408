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

// From the top: each imports only what is further down.
mod receiving;
mod connection;
mod sending;
mod listeners;
mod watches;
mod ring;
mod buffers;

use std::io;
use std::mem::{self, ManuallyDrop};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

use self::connection::{Connection, Phase, Receive};
use self::listeners::Listeners;
use self::receiving::{Delivered, Receiving};
use self::ring::{Completion, Kind, Ring};
use self::sending::Sending;
use self::watches::Watches;
use crate::eventfd::EventfdWaker;
use crate::lingering::Lingering;
use crate::slots::Slots;
use crate::{Close, ConnectionId, Event, IoConfig, ListenerId, OutBuf, Platform, RxBuf, Wait, WatchId, socket};

/// System calls of one turn, when one does not bring all that is ready: the kernel hands out about 20 a time.
const ENTERS_PER_TURN: u32 = 4;

/// How long dropping the driver may take: the kernel only has to hand back what it has been told to end.
const DROP_TIME: Duration = Duration::from_secs(1);

/// How often the kernel is told again to end everything.
const CANCEL_AGAIN: Duration = Duration::from_millis(5);

/// The driver. See the module.
pub struct Uring {
    ring: Ring,
    /// INVARIANT: these two hold what the kernel writes and reads. Dropped when nothing is in flight, else leaked.
    receiving: ManuallyDrop<Receiving>,
    connections: ManuallyDrop<Slots<Connection>>,
    listeners: Listeners,
    watches: Watches,
    waker: EventfdWaker,
    is_waker_armed: bool,
    lingering: Lingering,
    /// What happened between two turns.
    pending: Vec<Event>,
    completions: Vec<Completion>,
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
        if let Some(connection) = self.connections.get_mut(id) {
            self.receiving.arm(id, connection, &mut self.ring);
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
        receiving::cancel(id, connection, &mut self.ring);
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
        self.watches.step(&mut self.ring);
        self.receiving.step(&mut self.connections, &mut self.ring);
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
                Kind::Watch => self.watches.on_watch(completion, events),
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
        let buffer = self.receiving.take(completion)?;
        let Some(connection) = self.connections.get_mut(id) else {
            debug_assert!(false, "{id:?} was forgotten before its last completion");
            if let Some(buffer) = buffer {
                self.receiving.release(&buffer);
            }
            return Ok(());
        };
        if let Some(buffer) = buffer {
            match self.receiving.deliver(id, connection, buffer, events) {
                Delivered::Told | Delivered::Dropped => {}
                Delivered::Kept => receiving::cancel(id, connection, &mut self.ring),
                Delivered::TooMuch => self.finish_close(id, events),
            }
        }
        if completion.goes_on() {
            return Ok(());
        }
        let Some(connection) = self.connections.get_mut(id) else { return Ok(()) };
        self.receiving.on_end(connection, completion);
        match completion.result {
            0 => self.on_eof(id, events),
            // It goes on below, as one that has ended for a reason of the ring's.
            1.. => {}
            error => match -error {
                libc::ENOBUFS => self.receiving.starve(id, connection),
                libc::ECANCELED | libc::EINTR | libc::EAGAIN => {}
                _ => self.fail(id, completion.error(), events),
            },
        }
        self.receive(id);
        self.leave(id, events);
        Ok(())
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
            ManuallyDrop::drop(&mut self.receiving);
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
        let receiving = Receiving::open(&ring, config)?;
        Ok(Self {
            ring,
            receiving: ManuallyDrop::new(receiving),
            connections: ManuallyDrop::default(),
            listeners: Listeners::default(),
            watches: Watches::default(),
            waker,
            is_waker_armed: false,
            lingering: Lingering::default(),
            pending: Vec::new(),
            completions: Vec::new(),
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
            self.receiving.queue(id, connection);
            self.receiving.arm(id, connection, &mut self.ring);
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
                receiving::cancel(id, connection, &mut self.ring);
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
        self.watches.add(id, descriptor)
    }

    fn unwatch(&mut self, id: WatchId) {
        self.watches.end(id, &mut self.ring);
    }

    fn turn(&mut self, wait: Wait, events: &mut Vec<Event>) -> io::Result<()> {
        let told_before = events.len();
        self.receiving.begin_turn();
        events.append(&mut self.pending);
        self.receiving.tell_held(&mut self.connections, &mut self.ring, events);
        self.expire(events);
        self.arm(events);
        let may_not_sleep = events.len() > told_before || self.receiving.is_starving() || self.listeners.is_emptying();
        let mut wait = if may_not_sleep { Wait::Poll } else { self.bounded(wait) };
        for _ in 0..ENTERS_PER_TURN {
            self.ring.enter(wait)?;
            self.reap(events)?;
            // PERF: without half of the buffers, more would mostly be receives that end for want of one. 512 requests at
            // once, 64 buffers (`examples/turn_cost`): 4.5 µs a request without this, 3.9 with it.
            if !self.ring.has_work() || self.receiving.is_short() {
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
        self.receiving.bytes(buffer)
    }

    #[inline]
    fn rx_release(&mut self, buffer: RxBuf) {
        self.receiving.release(&buffer);
    }

    fn finish(mut self, deadline: Instant) -> io::Result<()> {
        // What comes after this is `drop`, which closes the sockets, or leaks them with what the kernel has of them.
        self.drain(deadline).inspect_err(|_| self.drop_time = Duration::ZERO)
    }
}
