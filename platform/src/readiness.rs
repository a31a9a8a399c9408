//! The engine of the kernels that tell when a socket is ready (epoll, kqueue) and leave the reading and writing to us.
//!
//! A turn does first what is at hand, then asks the kernel once, then does what the kernel named. A socket is registered
//! once, edge-triggered, so readiness is remembered here until the kernel has said "no more". Sends are tried at once, when
//! they are asked for, but where the poller takes a turn's sends together. No system call of epoll or kqueue is here: see
//! [`Poller`]. Nothing here blocks but [`Poller::wait`].

// From the top: each imports only what is further down.
mod connection;
mod listeners;
mod watches;
mod poller;

use std::collections::VecDeque;
use std::io;
use std::mem;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

use self::connection::{Connection, Phase, Place, Sending};
use self::listeners::Listeners;
pub use self::poller::{Interest, Polled, Poller, Release, Token};
use self::watches::Watches;
use crate::lingering::Lingering;
use crate::pool::ReceivePool;
use crate::slots::Slots;
use crate::{Close, ConnectionId, Event, IoConfig, ListenerId, OutBuf, Platform, RxBuf, Wait, WatchId, socket};

/// Buffers that one connection may fill in one turn. The contract promises this bound to `want_read(false)`.
const READS_PER_TURN: u32 = 4;

/// The engine. See the module.
#[derive(Debug)]
pub struct Readiness<P: Poller> {
    poller: P,
    pool: ReceivePool,
    connections: Slots<Place>,
    listeners: Listeners,
    watches: Watches,
    /// Connections that have more to read than their share of a turn, or found no buffer.
    ready: VecDeque<ConnectionId>,
    lingering: Lingering,
    /// What happened between two turns.
    pending: Vec<Event>,
    accept_batch: u32,
    linger_bytes_max: usize,
    /// Whether the last turn asked the kernel. One with something to tell then need not.
    has_asked: bool,
    /// Whether sends were given to the poller that leave with its next wait.
    has_unsent: bool,
}

impl<P: Poller> Readiness<P> {
    /// Lets `work` report to what the next turn tells first.
    fn between_turns(&mut self, work: impl FnOnce(&mut Self, &mut Vec<Event>)) {
        let mut events = mem::take(&mut self.pending);
        work(self, &mut events);
        self.pending = events;
    }

    /// Gives the socket back to the kernel and says so.
    fn finish_close(&mut self, id: ConnectionId, events: &mut Vec<Event>) {
        let Some(place) = self.connections.get_mut(id) else { return };
        let Place::Connected(Connection { socket, .. }) = mem::replace(place, Place::Leaving) else { return };
        if self.poller.release(Token::new(Token::CONNECTION, id.bits()), socket) == Release::Done {
            self.leave(id, events);
        }
    }

    /// Says that a connection which was released is gone.
    fn leave(&mut self, id: ConnectionId, events: &mut Vec<Event>) {
        if let Some(Place::Leaving) = self.connections.get_mut(id) {
            self.connections.remove(id);
            events.push(Event::Closed { connection: id });
            self.listeners.retry();
        }
    }

    /// Reports a failure, once, and drops the send that it cut short. A connection that was closing is gone with it.
    fn fail(&mut self, id: ConnectionId, error: io::Error, events: &mut Vec<Event>) {
        let Some(connection) = self.connections.connection(id) else { return };
        connection.sending = None;
        match connection.phase {
            Phase::Open => {
                connection.phase = Phase::Failed;
                events.push(Event::Error { connection: id, error });
            }
            Phase::Failed => {}
            _ => self.finish_close(id, events),
        }
    }

    /// Sends what the kernel takes now of the pending send.
    fn continue_send(&mut self, id: ConnectionId, events: &mut Vec<Event>) {
        let Some(connection) = self.connections.connection(id) else { return };
        let Some(Sending::Ours { out, bytes_sent }) = &mut connection.sending else { return };
        let OutBuf { head, body } = &*out;
        let head_sent = (*bytes_sent).min(head.len());
        let body_sent = *bytes_sent - head_sent;
        let bytes = match socket::send(connection.socket.as_fd(), &head[head_sent..], &body[body_sent..]) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            Err(error) => return self.fail(id, error, events),
        };
        *bytes_sent += bytes;
        if *bytes_sent < out.len() {
            // Not tried again before the kernel reports room: it took less than it was given, so it is full.
            if P::IS_WRITE_ONE_SHOT || !connection.watches_write {
                connection.watches_write = true;
                let (descriptor, token) = (connection.socket.as_raw_fd(), Token::new(Token::CONNECTION, id.bits()));
                if let Err(error) = self.poller.change(descriptor, token, Interest::ReadAndWrite) {
                    self.fail(id, error, events);
                }
            }
            return;
        }
        let out = mem::take(out);
        self.complete_send(id, out, events);
    }

    /// Tells of a send that has left, and does what waited for it.
    fn complete_send(&mut self, id: ConnectionId, out: OutBuf, events: &mut Vec<Event>) {
        let Some(connection) = self.connections.connection(id) else { return };
        // One that has failed meanwhile has told that instead.
        if connection.sending.take().is_none() {
            return;
        }
        events.push(Event::Sent { connection: id, out });
        match connection.phase {
            Phase::ClosingAfterSend => self.finish_close(id, events),
            Phase::LingeringAfterSend(time) => self.linger(id, time, events),
            _ => {}
        }
    }

    /// Ends the writing side and starts to read and discard.
    fn linger(&mut self, id: ConnectionId, time: Duration, events: &mut Vec<Event>) {
        let Some(connection) = self.connections.connection(id) else { return };
        let is_over = connection.is_at_eof || socket::shutdown_write(connection.socket.as_fd()).is_err();
        let Some(deadline) = Instant::now().checked_add(time).filter(|_| !is_over) else {
            return self.finish_close(id, events);
        };
        connection.phase = Phase::Lingering { bytes_left: self.linger_bytes_max };
        self.lingering.add(deadline, id);
        self.queue(id);
    }

    /// Puts a connection that has something to read in line, unless it stands there.
    fn queue(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.connection(id) else { return };
        if connection.has_to_read() && !connection.is_queued {
            connection.is_queued = true;
            self.ready.push_back(id);
        }
    }

    /// Reads a connection's share of this turn.
    fn read(&mut self, id: ConnectionId, events: &mut Vec<Event>) {
        for _ in 0..READS_PER_TURN {
            let connection = self.connections.connection(id).filter(|connection| connection.has_to_read());
            let Some(connection) = connection else { return };
            let Some(index) = self.pool.take() else { break };
            let result = socket::receive(connection.socket.as_fd(), self.pool.piece_mut(index));
            let piece_bytes = self.pool.piece_bytes();
            match result {
                Ok(bytes @ 1..) => {
                    // PERF: a read that did not fill its buffer has emptied the socket, so the read that would say EAGAIN is
                    // saved. Bytes that come later make a new edge; an end that came already does not.
                    connection.is_readable = bytes == piece_bytes || connection.is_hung_up;
                    if P::IS_ONE_SHOT && !connection.is_readable {
                        self.poller.drained(Token::new(Token::CONNECTION, id.bits()));
                    }
                    if let Phase::Lingering { bytes_left } = &mut connection.phase {
                        *bytes_left = bytes_left.saturating_sub(bytes);
                        let is_over = *bytes_left == 0;
                        self.pool.put(index);
                        if is_over {
                            return self.finish_close(id, events);
                        }
                    } else {
                        // A buffer's length came from a u32.
                        let buffer = RxBuf { index, offset: 0, len: bytes as u32 };
                        events.push(Event::Data { connection: id, buffer });
                    }
                }
                Ok(0) => {
                    self.pool.put(index);
                    connection.is_at_eof = true;
                    if matches!(connection.phase, Phase::Lingering { .. }) {
                        return self.finish_close(id, events);
                    }
                    return events.push(Event::Eof { connection: id });
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.pool.put(index);
                    connection.is_readable = false;
                    return self.poller.drained(Token::new(Token::CONNECTION, id.bits()));
                }
                Err(error) => {
                    self.pool.put(index);
                    return self.fail(id, error, events);
                }
            }
        }
        self.queue(id);
    }

    /// Serves those that wait in line, as far as there are buffers.
    fn read_ready(&mut self, events: &mut Vec<Event>) {
        for _ in 0..self.ready.len() {
            if self.pool.is_empty() {
                return;
            }
            let Some(id) = self.ready.pop_front() else { return };
            let Some(connection) = self.connections.connection(id) else { continue };
            connection.is_queued = false;
            self.read(id, events);
        }
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
    fn bounded(&self, wait: Wait) -> Option<Duration> {
        let asked = match wait {
            Wait::Poll => return Some(Duration::ZERO),
            Wait::For(time) => Some(time),
            Wait::Forever => None,
        };
        let Some(own) = self.listeners.next_retry().into_iter().chain(self.lingering.next()).min() else {
            return asked;
        };
        let own = own.saturating_duration_since(Instant::now());
        Some(asked.map_or(own, |asked| asked.min(own)))
    }

    /// Does what one report of the kernel asks for.
    #[inline]
    fn on_polled(&mut self, polled: Polled, events: &mut Vec<Event>) {
        let identity = polled.token.identity();
        match polled.token.0 >> Token::KIND_SHIFT {
            Token::CONNECTION => self.on_connection(ConnectionId::from_bits(identity), polled, events),
            // The identity of these two was made from a u32.
            Token::LISTENER => self.listeners.on_readable(ListenerId(identity as u32)),
            Token::WATCH => self.watches.on_readable(WatchId(identity as u32), events),
            _ => {
                self.poller.clear_wake();
                events.push(Event::Woken);
            }
        }
    }

    /// What was reported of a connection: first what ends it or its send, then room to send, then what is to be read.
    #[inline]
    fn on_connection(&mut self, id: ConnectionId, polled: Polled, events: &mut Vec<Event>) {
        if polled.is_gone {
            return self.leave(id, events);
        }
        if polled.is_sent {
            if let Some((out, result)) = self.poller.take_sent(polled.token) {
                match result {
                    Ok(()) => self.complete_send(id, out, events),
                    Err(error) => self.fail(id, error, events),
                }
            }
            return;
        }
        if polled.is_failed
            && let Some(error) = self.poller.refusal(polled.token)
        {
            // The socket may be well, but nobody would tell us of it any more.
            return self.fail(id, error, events);
        }
        // An old id: the socket was closed after the kernel had made this report.
        let Some(connection) = self.connections.connection(id) else { return };
        connection.is_readable |= polled.is_readable;
        connection.is_hung_up |= polled.is_hung_up;
        if polled.is_failed && connection.is_at_eof {
            // A read would not tell any more.
            let error = socket::take_error(connection.socket.as_fd());
            return self.fail(id, error.unwrap_or_else(|| io::ErrorKind::ConnectionReset.into()), events);
        }
        if polled.is_writable && connection.sending.is_some() {
            self.continue_send(id, events);
        }
        if self.connections.connection(id).is_some_and(|connection| !connection.is_queued) {
            self.read(id, events);
        }
    }
}

impl<P: Poller> Platform for Readiness<P> {
    const NAME: &'static str = P::NAME;
    const TELLS_ACKNOWLEDGED: bool = cfg!(target_os = "linux");
    type Waker = P::Waker;

    fn open(config: &IoConfig) -> io::Result<Self> {
        Ok(Self {
            poller: P::open(config)?,
            pool: ReceivePool::new(config)?,
            connections: Slots::default(),
            listeners: Listeners::default(),
            watches: Watches::default(),
            ready: VecDeque::new(),
            lingering: Lingering::default(),
            pending: Vec::new(),
            accept_batch: config.accept_batch.max(1),
            linger_bytes_max: config.linger_bytes_max,
            has_asked: false,
            has_unsent: false,
        })
    }

    fn waker(&self) -> P::Waker {
        self.poller.waker()
    }

    fn listen(&mut self, id: ListenerId, socket: BorrowedFd<'_>) -> io::Result<()> {
        self.listeners.add(id, socket, &mut self.poller)
    }

    fn unlisten(&mut self, id: ListenerId) {
        self.listeners.end(id);
    }

    fn want_accept(&mut self, id: ListenerId, on: bool) {
        self.listeners.want_accept(id, on);
    }

    fn adopt(&mut self, id: ConnectionId, socket: OwnedFd) -> io::Result<()> {
        self.connections.make_room(id)?;
        #[cfg(target_os = "macos")]
        socket::prepare(socket.as_fd())?;
        self.poller.change(socket.as_raw_fd(), Token::new(Token::CONNECTION, id.bits()), Interest::Read)?;
        self.connections.insert(id, Place::Connected(Connection::new(socket)))
    }

    fn want_read(&mut self, id: ConnectionId, on: bool) {
        let Some(connection) = self.connections.connection(id) else { return };
        connection.wants_read = on;
        self.queue(id);
    }

    fn send(&mut self, id: ConnectionId, out: OutBuf) {
        debug_assert!(self.connections.knows(id), "send to {id:?}, which was never adopted");
        let open = self.connections.connection(id).filter(|connection| connection.phase == Phase::Open);
        let Some(connection) = open else { return };
        debug_assert!(connection.sending.is_none(), "send to {id:?}, which has one in flight");
        if P::TAKES_SENDS && out.body.is_empty() && !out.head.is_empty() {
            connection.sending = Some(Sending::Pollers);
            self.has_unsent = true;
            return self.poller.send(Token::new(Token::CONNECTION, id.bits()), out);
        }
        connection.sending = Some(Sending::Ours { out, bytes_sent: 0 });
        self.between_turns(|engine, events| engine.continue_send(id, events));
    }

    fn acknowledged(&mut self, id: ConnectionId) -> Option<u64> {
        socket::acknowledged(self.connections.connection(id)?.socket.as_fd())
    }

    fn close(&mut self, id: ConnectionId, how: Close) {
        let Some(connection) = self.connections.connection(id) else { return };
        let is_sending = connection.sending.is_some();
        match (connection.phase, how) {
            (_, Close::Abort) => {
                connection.sending = None;
                // Where a socket cannot (a Unix one), a plain close must do.
                let _ = socket::set_reset_on_close(connection.socket.as_fd());
                self.between_turns(|engine, events| engine.finish_close(id, events));
            }
            (Phase::Open, Close::AfterSend) if is_sending => connection.phase = Phase::ClosingAfterSend,
            (Phase::Open, Close::Linger(time)) if is_sending => connection.phase = Phase::LingeringAfterSend(time),
            (Phase::Open, Close::Linger(time)) => self.between_turns(|engine, events| engine.linger(id, time, events)),
            (Phase::Open | Phase::Failed, _) => self.between_turns(|engine, events| engine.finish_close(id, events)),
            _ => {}
        }
    }

    fn watch(&mut self, id: WatchId, descriptor: RawFd) -> io::Result<()> {
        self.watches.add(id, descriptor, &mut self.poller)
    }

    fn unwatch(&mut self, id: WatchId) {
        self.watches.end(id, &mut self.poller);
    }

    fn turn(&mut self, wait: Wait, events: &mut Vec<Event>) -> io::Result<()> {
        debug_assert_eq!(self.pool.out_count(), 0, "receive buffers must be released before the next turn");
        let told_before = events.len();
        events.append(&mut self.pending);
        self.expire(events);
        self.read_ready(events);
        self.listeners.step(self.accept_batch, &mut self.poller, events);

        // PERF: a turn that has something to tell leaves the kernel alone, but never twice in a row, so that a stream of
        // sends cannot keep arrivals out. It saves the second wait of a request whose `Sent` is told between the two.
        let has_something = events.len() > told_before || !self.ready.is_empty();
        if has_something && mem::take(&mut self.has_asked) && !self.has_unsent {
            return Ok(());
        }
        (self.has_asked, self.has_unsent) = (true, false);
        let timeout = if has_something { Some(Duration::ZERO) } else { self.bounded(wait) };
        let count = self.poller.wait(timeout)?;
        for index in 0..count {
            self.on_polled(self.poller.polled(index), events);
        }
        self.listeners.step(self.accept_batch, &mut self.poller, events);
        self.expire(events);
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        // The other sends were tried when they were asked for.
        self.poller.flush()
    }

    #[inline]
    fn rx(&self, buffer: &RxBuf) -> &[u8] {
        self.pool.bytes(buffer)
    }

    #[inline]
    fn rx_release(&mut self, buffer: RxBuf) {
        self.pool.put(buffer.index);
    }

    fn finish(mut self, deadline: Instant) -> io::Result<()> {
        for (id, place) in self.connections.take_all() {
            if let Place::Connected(Connection { socket, .. }) = place {
                let _ = self.poller.release(Token::new(Token::CONNECTION, id.bits()), socket);
            }
        }
        self.poller.finish(deadline)
    }
}
