//! The engine of the kernels that tell when a socket is ready (epoll, kqueue) and leave the reading and writing to us.
//!
//! A turn does first what is at hand, then asks the kernel once, then does what the kernel named. A socket is registered
//! once, edge-triggered, so readiness is remembered here until the kernel has said "no more". Sends are tried at once, when
//! they are asked for, but where the poller takes a turn's sends together. No system call of epoll or kqueue is here: see
//! [`Poller`]. Nothing here blocks but [`Poller::wait`].

use std::collections::VecDeque;
use std::io;
use std::mem;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

use crate::lingering::{LINGER_BYTES_MAX, Lingering};
use crate::pool::ReceivePool;
use crate::{Close, ConnectionId, Event, IoConfig, ListenerId, OutBuf, Platform, RxBuf, Wait, Wake, WatchId, socket};

/// Buffers that one connection may fill in one turn. The contract promises this bound to `want_read(false)`.
const READS_PER_TURN: u32 = 4;

/// How long accepting rests when the machine has no descriptor or memory left. Long enough to cost nothing, short enough
/// that nobody takes us for dead; a connection of our own that closes ends it early.
const ACCEPT_BACK_OFF: Duration = Duration::from_millis(75);

/// What a descriptor was registered for, as the kernel hands it back: kind in the top byte, identity below.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token(pub u64);

impl Token {
    const KIND_SHIFT: u32 = 56;
    const CONNECTION: u64 = 0;
    const LISTENER: u64 = 1;
    const WATCH: u64 = 2;
    /// The poller's own wake-up.
    pub const WAKER: Self = Self(3 << Self::KIND_SHIFT);

    const fn new(kind: u64, identity: u64) -> Self {
        Self(kind << Self::KIND_SHIFT | identity)
    }

    /// The connection that it was made for, if for one.
    #[must_use]
    pub const fn connection(self) -> Option<ConnectionId> {
        if self.0 >> Self::KIND_SHIFT == Self::CONNECTION { Some(ConnectionId::from_bits(self.0)) } else { None }
    }

    const fn identity(self) -> u64 {
        self.0 & ((1 << Self::KIND_SHIFT) - 1)
    }
}

/// How a descriptor is to be watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interest {
    /// New: each arrival is told once.
    Read,
    /// Registered with `Read` before: now also each time it becomes writable again.
    ReadAndWrite,
    /// New: told by each wait for as long as it is readable.
    Level,
    /// Forget it.
    Nothing,
}

/// One report of the kernel.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "they are the kernel's own bits, unpacked; any mix can come")]
pub struct Polled {
    /// Whose report it is.
    pub token: Token,
    /// A read would not wait.
    pub is_readable: bool,
    /// A write would not wait.
    pub is_writable: bool,
    /// The peer's end, or a failure, waits behind the bytes that are still to be read.
    pub is_hung_up: bool,
    /// The socket failed, or what was asked for it could not be done.
    pub is_failed: bool,
    /// A send that was given to [`Poller::send`] is over; see [`Poller::take_sent`].
    pub is_sent: bool,
    /// A socket that was given to [`Poller::release`] is closed now.
    pub is_gone: bool,
}

/// Whether a socket is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Release {
    /// It is.
    Done,
    /// The kernel still watches it; a report with `is_gone` follows.
    Later,
}

/// What the engine needs of a kernel.
pub trait Poller: Sized + 'static {
    /// As `TURBOAPI_IO` and the log spell it.
    const NAME: &'static str;
    /// Its wake-up handle.
    type Waker: Wake;

    /// Whether each connection is told of once, and again only after [`Self::drained`] or another `ReadAndWrite`.
    const IS_ONE_SHOT: bool = false;

    /// Whether each `ReadAndWrite` is told of once, and writing is forgotten with that.
    const IS_WRITE_ONE_SHOT: bool = Self::IS_ONE_SHOT;

    /// Whether [`Self::send`] does anything: whether the kernel takes a turn's sends all at once.
    const TAKES_SENDS: bool = false;

    /// Opens it, with its waker registered as [`Token::WAKER`].
    fn open(config: &IoConfig) -> io::Result<Self>;
    /// A handle for other threads.
    fn waker(&self) -> Self::Waker;
    /// Lets the next wake through; called before [`Event::Woken`] is reported.
    fn clear_wake(&mut self);
    /// Changes what is watched. A connection's may be put off until the next wait, which then reports its failure as
    /// `is_failed` and says why as [`Self::refusal`].
    fn change(&mut self, descriptor: RawFd, token: Token, interest: Interest) -> io::Result<()>;
    /// Why a change could not be made that had been put off until the last wait.
    fn refusal(&self, _token: Token) -> Option<io::Error> {
        None
    }
    /// A one-shot kernel is to watch this connection for reading again.
    fn drained(&mut self, _token: Token) {}
    /// Sends all of `out.head`, `out.body` being empty, some time before the next wait ends. Called with `TAKES_SENDS` only.
    fn send(&mut self, _token: Token, _out: OutBuf) {}
    /// What became of a send that was reported as `is_sent`.
    fn take_sent(&mut self, _token: Token) -> Option<(OutBuf, io::Result<()>)> {
        None
    }
    /// Has the sends leave that were given to it. Nothing that is reported meanwhile is lost.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
    /// Stops watching a connection's socket and closes it. A send that is not over is broken off, by a reset.
    fn release(&mut self, _token: Token, socket: OwnedFd) -> Release {
        // Its registration ends with it, as no copy of it was made.
        drop(socket);
        Release::Done
    }
    /// Waits, for ever if no time-out is given, and never for less than it; a signal ends it. Number of reports.
    fn wait(&mut self, timeout: Option<Duration>) -> io::Result<usize>;
    /// One of the reports of the last wait.
    fn polled(&self, index: usize) -> Polled;
    /// Waits until the kernel holds nothing of what was released.
    fn finish(self, _deadline: Instant) -> io::Result<()> {
        Ok(())
    }
}

/// How far a connection is on its way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Open,
    /// An `Error` was reported; nothing more happens until the worker closes it.
    Failed,
    /// Closes when the pending send has left.
    ClosingAfterSend,
    /// Lingers when the pending send has left.
    LingeringAfterSend(Duration),
    /// Reads and discards until the peer's end, so many bytes, or the deadline in `lingering`.
    Lingering {
        bytes_left: usize,
    },
}

/// A send that is on its way.
#[derive(Debug)]
enum Sending {
    /// So much of it was taken; the rest when there is room.
    Ours { out: OutBuf, bytes_sent: usize },
    /// The poller has it.
    Pollers,
}

#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts about one socket; most of their mixes occur")]
struct Connection {
    socket: OwnedFd,
    phase: Phase,
    sending: Option<Sending>,
    /// INVARIANT: false only when the kernel has said that there is nothing to read, and no edge came since.
    is_readable: bool,
    /// An end or an error waits behind the bytes: a short read is then no sign of "drained".
    is_hung_up: bool,
    is_at_eof: bool,
    wants_read: bool,
    /// INVARIANT: true exactly while its id stands in `ready`.
    is_queued: bool,
    watches_write: bool,
}

impl Connection {
    fn has_to_read(&self) -> bool {
        let reads = match self.phase {
            Phase::Open => self.wants_read,
            Phase::Lingering { .. } => true,
            _ => false,
        };
        reads && self.is_readable && !self.is_at_eof
    }
}

/// A place in the table, which outlives its connections.
#[derive(Debug)]
struct Slot {
    /// The present or last id of this place.
    id: ConnectionId,
    connection: Option<Connection>,
    /// Whether its last socket was released, but the kernel still holds it.
    is_leaving: bool,
}

/// Whether a listener accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Accepting {
    On,
    Paused,
    /// Until the backlog is empty.
    Ending,
}

#[derive(Debug)]
struct Listener {
    id: ListenerId,
    descriptor: RawFd,
    accepting: Accepting,
    /// INVARIANT: false only when the kernel has said that the backlog is empty, and no edge came since.
    is_readable: bool,
    /// Set while there is no room for another descriptor.
    retry_at: Option<Instant>,
    /// Whether the present stall was reported; it ends with the next connection, or an empty backlog.
    told_of_stall: bool,
}

/// The engine. See the module.
#[derive(Debug)]
pub struct Readiness<P: Poller> {
    poller: P,
    pool: ReceivePool,
    slots: Vec<Slot>,
    listeners: Vec<Listener>,
    watches: Vec<(WatchId, RawFd)>,
    /// Connections that have more to read than their share of a turn, or found no buffer.
    ready: VecDeque<ConnectionId>,
    lingering: Lingering,
    /// What happened between two turns.
    pending: Vec<Event>,
    accept_batch: u32,
    /// Whether the last turn asked the kernel. One with something to tell then need not.
    has_asked: bool,
    /// Whether sends were given to the poller that leave with its next wait.
    has_unsent: bool,
}

impl<P: Poller> Readiness<P> {
    fn slot_mut(&mut self, id: ConnectionId) -> Option<&mut Slot> {
        self.slots.get_mut(id.slot() as usize).filter(|slot| slot.id == id)
    }

    #[inline]
    fn connection_mut(&mut self, id: ConnectionId) -> Option<&mut Connection> {
        self.slot_mut(id)?.connection.as_mut()
    }

    /// Lets `work` report to what the next turn tells first.
    fn between_turns(&mut self, work: impl FnOnce(&mut Self, &mut Vec<Event>)) {
        let mut events = mem::take(&mut self.pending);
        work(self, &mut events);
        self.pending = events;
    }

    /// Gives the socket back to the kernel and says so.
    fn finish_close(&mut self, id: ConnectionId, events: &mut Vec<Event>) {
        let Some(Connection { socket, .. }) = self.slot_mut(id).and_then(|slot| slot.connection.take()) else { return };
        match self.poller.release(Token::new(Token::CONNECTION, id.bits()), socket) {
            Release::Done => self.tell_closed(id, events),
            Release::Later => {
                if let Some(slot) = self.slot_mut(id) {
                    slot.is_leaving = true;
                }
            }
        }
    }

    fn tell_closed(&mut self, id: ConnectionId, events: &mut Vec<Event>) {
        events.push(Event::Closed { connection: id });
        // There is a descriptor again.
        for listener in &mut self.listeners {
            listener.retry_at = None;
        }
    }

    /// Reports a failure, once, and drops the send that it cut short. A connection that was closing is gone with it.
    fn fail(&mut self, id: ConnectionId, error: io::Error, events: &mut Vec<Event>) {
        let Some(connection) = self.connection_mut(id) else { return };
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
        let Some(connection) = self.connection_mut(id) else { return };
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
        let Some(connection) = self.connection_mut(id) else { return };
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
        let Some(connection) = self.connection_mut(id) else { return };
        let is_over = connection.is_at_eof || socket::shutdown_write(connection.socket.as_fd()).is_err();
        let Some(deadline) = Instant::now().checked_add(time).filter(|_| !is_over) else {
            return self.finish_close(id, events);
        };
        connection.phase = Phase::Lingering { bytes_left: LINGER_BYTES_MAX };
        self.lingering.add(deadline, id);
        self.queue(id);
    }

    /// Puts a connection that has something to read in line, unless it stands there.
    fn queue(&mut self, id: ConnectionId) {
        let Some(connection) = self.connection_mut(id) else { return };
        if connection.has_to_read() && !connection.is_queued {
            connection.is_queued = true;
            self.ready.push_back(id);
        }
    }

    /// Reads a connection's share of this turn.
    fn read(&mut self, id: ConnectionId, events: &mut Vec<Event>) {
        for _ in 0..READS_PER_TURN {
            let Some(slot) = self.slots.get_mut(id.slot() as usize).filter(|slot| slot.id == id) else { return };
            let Some(connection) = slot.connection.as_mut().filter(|connection| connection.has_to_read()) else {
                return;
            };
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
            let Some(connection) = self.connection_mut(id) else { continue };
            connection.is_queued = false;
            self.read(id, events);
        }
    }

    /// Accepts from each listener that has a backlog and may.
    fn accept_ready(&mut self, events: &mut Vec<Event>) {
        let mut index = 0;
        while let Some(listener) = self.listeners.get_mut(index) {
            let may_accept = listener.is_readable && listener.accepting != Accepting::Paused;
            if !may_accept || listener.retry_at.is_some_and(|retry_at| retry_at > Instant::now()) {
                index += 1;
                continue;
            }
            match accept_from(listener, self.accept_batch, events) {
                Ok(()) => {}
                Err(error) => {
                    events.push(Event::ListenerGone { listener: listener.id, error: Some(error) });
                    self.forget_listener(index);
                    continue;
                }
            }
            if listener.accepting == Accepting::Ending && !listener.is_readable {
                events.push(Event::ListenerGone { listener: listener.id, error: None });
                self.forget_listener(index);
                continue;
            }
            index += 1;
        }
    }

    fn forget_listener(&mut self, index: usize) {
        let gone = self.listeners.swap_remove(index);
        // It may have been closed already, which ends the registration as well.
        let _ = self.poller.change(gone.descriptor, Token::new(Token::LISTENER, gone.id.0.into()), Interest::Nothing);
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
        let retries = self.listeners.iter().filter(|listener| listener.accepting != Accepting::Paused);
        let retry_at = retries.filter_map(|listener| listener.retry_at).min();
        let Some(own) = retry_at.into_iter().chain(self.lingering.next()).min() else { return asked };
        let own = own.saturating_duration_since(Instant::now());
        Some(asked.map_or(own, |asked| asked.min(own)))
    }

    /// Does what one report of the kernel asks for.
    #[inline]
    fn on_polled(&mut self, polled: Polled, events: &mut Vec<Event>) {
        let identity = polled.token.identity();
        match polled.token.0 >> Token::KIND_SHIFT {
            Token::CONNECTION => self.on_connection(ConnectionId::from_bits(identity), polled, events),
            Token::LISTENER => {
                // The identity was made from a u32.
                let id = ListenerId(identity as u32);
                for listener in self.listeners.iter_mut().filter(|listener| listener.id == id) {
                    listener.is_readable = true;
                }
            }
            Token::WATCH => {
                let watch = WatchId(identity as u32);
                if self.watches.iter().any(|(id, _)| *id == watch) {
                    events.push(Event::Watch { watch });
                }
            }
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
            if self.slot_mut(id).is_some_and(|slot| mem::take(&mut slot.is_leaving)) {
                self.tell_closed(id, events);
            }
            return;
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
        let Some(connection) = self.connection_mut(id) else { return };
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
        if self.connection_mut(id).is_some_and(|connection| !connection.is_queued) {
            self.read(id, events);
        }
    }
}

/// Accepts up to `batch` connections.
///
/// # Errors
/// What makes the listener useless.
fn accept_from(listener: &mut Listener, batch: u32, events: &mut Vec<Event>) -> io::Result<()> {
    listener.retry_at = None;
    // The contract has the caller keep the descriptor open until `ListenerGone`.
    let descriptor = socket::borrow(listener.descriptor);
    for _ in 0..batch {
        match socket::accept(descriptor) {
            Ok((socket, peer)) => {
                listener.told_of_stall = false;
                events.push(Event::Accepted { listener: listener.id, socket, peer });
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                listener.is_readable = false;
                listener.told_of_stall = false;
                return Ok(());
            }
            Err(error) if socket::is_exhaustion(&error) => {
                listener.retry_at = Some(Instant::now() + ACCEPT_BACK_OFF);
                if !mem::replace(&mut listener.told_of_stall, true) {
                    events.push(Event::AcceptStalled { listener: listener.id, error });
                }
                return Ok(());
            }
            Err(error) if socket::is_of_one_connection(&error) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

impl<P: Poller> Platform for Readiness<P> {
    const NAME: &'static str = P::NAME;
    const TELLS_ACKNOWLEDGED: bool = cfg!(target_os = "linux");
    type Waker = P::Waker;

    fn open(config: &IoConfig) -> io::Result<Self> {
        Ok(Self {
            poller: P::open(config)?,
            pool: ReceivePool::new(config)?,
            slots: Vec::new(),
            listeners: Vec::new(),
            watches: Vec::new(),
            ready: VecDeque::new(),
            lingering: Lingering::default(),
            pending: Vec::new(),
            accept_batch: config.accept_batch.max(1),
            has_asked: false,
            has_unsent: false,
        })
    }

    fn waker(&self) -> P::Waker {
        self.poller.waker()
    }

    fn listen(&mut self, id: ListenerId, socket: BorrowedFd<'_>) -> io::Result<()> {
        if self.listeners.iter().any(|listener| listener.id == id) {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, format!("listener {} is in use", id.0)));
        }
        socket::set_non_blocking(socket)?;
        // What it accepts inherits this, without a call for each. A Unix socket has no such option, and no need.
        let _ = socket::set_no_delay(socket);
        let descriptor = socket.as_raw_fd();
        self.poller.change(descriptor, Token::new(Token::LISTENER, id.0.into()), Interest::Read)?;
        let accepting = Accepting::On;
        self.listeners.push(Listener {
            id,
            descriptor,
            accepting,
            is_readable: false,
            retry_at: None,
            told_of_stall: false,
        });
        Ok(())
    }

    fn unlisten(&mut self, id: ListenerId) {
        for listener in self.listeners.iter_mut().filter(|listener| listener.id == id) {
            listener.accepting = Accepting::Ending;
            // So that the next turn looks, and finds out that the backlog is empty.
            listener.is_readable = true;
        }
    }

    fn want_accept(&mut self, id: ListenerId, on: bool) {
        for listener in self.listeners.iter_mut().filter(|listener| listener.id == id) {
            if listener.accepting != Accepting::Ending {
                listener.accepting = if on { Accepting::On } else { Accepting::Paused };
            }
        }
    }

    fn adopt(&mut self, id: ConnectionId, socket: OwnedFd) -> io::Result<()> {
        let index = id.slot() as usize;
        if self.slots.len() <= index {
            // Places between were never used: an id of their own says so, and no connection.
            let unused = |slot| ConnectionId::new(slot as u32, ConnectionId::GENERATIONS - 1);
            let places = self.slots.len()..=index;
            self.slots.extend(places.map(|slot| Slot { id: unused(slot), connection: None, is_leaving: false }));
        }
        if self.slots[index].connection.is_some() || self.slots[index].is_leaving {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, format!("slot {index} is in use")));
        }
        #[cfg(target_os = "macos")]
        socket::prepare(socket.as_fd())?;
        self.poller.change(socket.as_raw_fd(), Token::new(Token::CONNECTION, id.bits()), Interest::Read)?;
        let connection = Connection {
            socket,
            phase: Phase::Open,
            sending: None,
            is_readable: false,
            is_hung_up: false,
            is_at_eof: false,
            wants_read: true,
            is_queued: false,
            watches_write: false,
        };
        self.slots[index] = Slot { id, connection: Some(connection), is_leaving: false };
        Ok(())
    }

    fn want_read(&mut self, id: ConnectionId, on: bool) {
        let Some(connection) = self.connection_mut(id) else { return };
        connection.wants_read = on;
        self.queue(id);
    }

    fn send(&mut self, id: ConnectionId, out: OutBuf) {
        let Some(slot) = self.slot_mut(id) else {
            debug_assert!(false, "send to {id:?}, which was never adopted");
            return;
        };
        let Some(connection) = slot.connection.as_mut().filter(|connection| connection.phase == Phase::Open) else {
            return;
        };
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
        socket::acknowledged(self.connection_mut(id)?.socket.as_fd())
    }

    fn close(&mut self, id: ConnectionId, how: Close) {
        let Some(connection) = self.connection_mut(id) else { return };
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
        if self.watches.iter().any(|(other, _)| *other == id) {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, format!("watch {} is in use", id.0)));
        }
        // Of a kqueue, the second would take the first one's place without a word.
        if self.watches.iter().any(|(_, other)| *other == descriptor) {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, format!("descriptor {descriptor} is watched")));
        }
        self.poller.change(descriptor, Token::new(Token::WATCH, id.0.into()), Interest::Level)?;
        self.watches.push((id, descriptor));
        Ok(())
    }

    fn unwatch(&mut self, id: WatchId) {
        let Some(index) = self.watches.iter().position(|(other, _)| *other == id) else { return };
        let (_, descriptor) = self.watches.swap_remove(index);
        // It may have been closed already, which ends the registration as well.
        let _ = self.poller.change(descriptor, Token::new(Token::WATCH, id.0.into()), Interest::Nothing);
    }

    fn turn(&mut self, wait: Wait, events: &mut Vec<Event>) -> io::Result<()> {
        debug_assert_eq!(self.pool.out_count(), 0, "receive buffers must be released before the next turn");
        let told_before = events.len();
        events.append(&mut self.pending);
        self.expire(events);
        self.read_ready(events);
        self.accept_ready(events);

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
        self.accept_ready(events);
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
        for Slot { id, connection, .. } in self.slots.drain(..) {
            if let Some(Connection { socket, .. }) = connection {
                let _ = self.poller.release(Token::new(Token::CONNECTION, id.bits()), socket);
            }
        }
        self.poller.finish(deadline)
    }
}
