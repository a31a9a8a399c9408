//! A platform without a kernel: it plays what a test wrote down, on a clock that only waiting moves, and records what was
//! asked of it. Same rules as the real ones, checked harder: a leaked receive buffer or a doubled send panics. A lingering close
//! ends by time or by the peer's end here, never by bytes.
//!
//! The worker owns the [`Script`], the test keeps its [`Stage`]:
//! ```
//! use turboapi_platform::fakes::script::{Script, Step};
//! use turboapi_platform::{ConnectionId, Event, ListenerId, OutBuf, Platform, Wait};
//! let mut script = Script::new();
//! let stage = script.stage();
//! let peer = stage.peer();
//! stage.push_turn(vec![Step::Connect { listener: ListenerId(0), peer }, Step::Bytes { peer, bytes: b"hi".to_vec() }]);
//! let (id, mut events) = (ConnectionId::new(0, 0), Vec::new());
//! while stage.sent(peer).is_empty() {
//!     script.turn(Wait::Forever, &mut events).unwrap();
//!     for event in events.drain(..) {
//!         match event {
//!             Event::Accepted { socket, .. } => script.adopt(id, socket).unwrap(),
//!             Event::Data { connection, buffer } => {
//!                 let head = script.rx(&buffer).to_vec();
//!                 script.rx_release(buffer);
//!                 script.send(connection, OutBuf { head, ..OutBuf::default() });
//!             }
//!             _ => {}
//!         }
//!     }
//! }
//! assert_eq!(stage.sent(peer), b"hi");
//! ```

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::net::UnixDatagram;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::waker::FakeWaker;
use crate::pool::ReceivePool;
use crate::{Close, ConnectionId, Event, IoConfig, ListenerId, OutBuf, Platform, RxBuf, Wait, WatchId};

/// Buffers that one peer may fill in one turn, as on the real ones.
const READS_PER_TURN: usize = 4;

/// The other end of a scripted connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Peer(pub usize);

/// One thing that the outside world does.
#[derive(Debug)]
pub enum Step {
    /// A peer connects. It waits in the backlog while accepting is off.
    Connect {
        /// To whom.
        listener: ListenerId,
        /// Who.
        peer: Peer,
    },
    /// A peer sends; more than one buffer holds comes as several `Data`.
    Bytes {
        /// Who.
        peer: Peer,
        /// What.
        bytes: Vec<u8>,
    },
    /// A peer ends its sending side.
    End {
        /// Who.
        peer: Peer,
    },
    /// The connection breaks, before anything that was not delivered yet.
    Fail {
        /// Whose.
        peer: Peer,
        /// As `errno`.
        code: i32,
    },
    /// A peer takes the send that [`Stage::hold_sends`] keeps in flight.
    Take {
        /// Who.
        peer: Peer,
    },
    /// Accepting fails for want of descriptors or memory.
    Stall {
        /// Where.
        listener: ListenerId,
        /// As `errno`.
        code: i32,
    },
    /// A listener breaks.
    ListenerFails {
        /// Which.
        listener: ListenerId,
        /// As `errno`.
        code: i32,
    },
    /// A watched descriptor is readable, in this turn only. Ignored when nobody watches it.
    Readable {
        /// Which.
        watch: WatchId,
    },
    /// The clock moves without the worker having waited: a handler that took its time.
    Pass {
        /// So much.
        time: Duration,
    },
}

/// One thing that was asked of the platform, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is the method of its name, with its arguments")]
pub enum Asked {
    Listen(ListenerId),
    Unlisten(ListenerId),
    WantAccept(ListenerId, bool),
    Adopt(ConnectionId, Peer),
    WantRead(ConnectionId, bool),
    Send(ConnectionId, Vec<u8>),
    Close(ConnectionId, Close),
    Watch(WatchId),
    Unwatch(WatchId),
    Flush,
}

#[derive(Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts about one peer; most of their mixes occur")]
struct PeerState {
    /// The descriptor under which it was accepted, until it is adopted.
    accepted_as: Option<RawFd>,
    connection: Option<ConnectionId>,
    /// Held so that the number is not used again.
    socket: Option<OwnedFd>,
    coming: VecDeque<u8>,
    has_ended: bool,
    told_of_end: bool,
    has_failed: bool,
    pauses_reading: bool,
    sending: Option<OutBuf>,
    holds_sends: bool,
    sent: Vec<u8>,
    closing: Option<Close>,
    linger_until: Option<Instant>,
    is_closed: bool,
}

#[derive(Debug)]
struct ListenerState {
    id: ListenerId,
    accepts: bool,
    is_ending: bool,
    backlog: VecDeque<Peer>,
}

#[derive(Debug)]
struct State {
    now: Instant,
    /// When the last turn of the script was played: delays count from it.
    played_at: Instant,
    turns: VecDeque<(Duration, Vec<Step>)>,
    peers: Vec<PeerState>,
    listeners: Vec<ListenerState>,
    watches: Vec<WatchId>,
    asked: Vec<Asked>,
}

/// The platform. See the module.
#[derive(Debug)]
pub struct Script {
    pool: ReceivePool,
    state: Rc<RefCell<State>>,
    waker: FakeWaker,
    buffers_out: Rc<Cell<usize>>,
}

/// The test's side of a [`Script`].
#[derive(Clone, Debug)]
pub struct Stage {
    state: Rc<RefCell<State>>,
    waker: FakeWaker,
    buffers_out: Rc<Cell<usize>>,
}

impl Default for Script {
    fn default() -> Self {
        Self::new()
    }
}

impl Script {
    /// An empty script with the default sizes.
    ///
    /// # Panics
    /// Never: the default sizes fit.
    #[must_use]
    pub fn new() -> Self {
        Self::open(&IoConfig::default()).expect("the default sizes fit")
    }

    /// The test's side of it.
    #[must_use]
    pub fn stage(&self) -> Stage {
        let Self { state, waker, buffers_out, .. } = self;
        Stage { state: Rc::clone(state), waker: waker.clone(), buffers_out: Rc::clone(buffers_out) }
    }
}

impl Stage {
    /// A new peer; it does nothing before a step names it.
    #[must_use]
    pub fn peer(&self) -> Peer {
        self.state.borrow_mut().new_peer()
    }

    /// Adds what happens in the next turn, at once.
    pub fn push_turn(&self, steps: Vec<Step>) {
        self.push_turn_after(Duration::ZERO, steps);
    }

    /// Adds what happens so long after the turn before it. Who waits for less sees nothing yet.
    pub fn push_turn_after(&self, delay: Duration, steps: Vec<Step>) {
        self.state.borrow_mut().turns.push_back((delay, steps));
    }

    /// Whether sends to this peer stay in flight until [`Step::Take`]: a reader that does not read.
    pub fn hold_sends(&self, peer: Peer, on: bool) {
        self.state.borrow_mut().peers[peer.0].holds_sends = on;
    }

    /// All that this peer has received, and what is in flight to it.
    #[must_use]
    pub fn sent(&self, peer: Peer) -> Vec<u8> {
        let state = self.state.borrow();
        let peer = &state.peers[peer.0];
        let mut sent = peer.sent.clone();
        if let Some(out) = &peer.sending {
            sent.extend_from_slice(&out.head);
            sent.extend_from_slice(&out.body);
        }
        sent
    }

    /// What this peer has received since the last call of this.
    #[must_use]
    pub fn take_sent(&self, peer: Peer) -> Vec<u8> {
        std::mem::take(&mut self.state.borrow_mut().peers[peer.0].sent)
    }

    /// The id that the worker gave to this peer's connection, once it has.
    #[must_use]
    pub fn connection(&self, peer: Peer) -> Option<ConnectionId> {
        self.state.borrow().peers[peer.0].connection
    }

    /// How the worker closed this peer's connection, if it did; the last way asked for.
    #[must_use]
    pub fn closed(&self, peer: Peer) -> Option<Close> {
        self.state.borrow().peers[peer.0].closing
    }

    /// Whether `Closed` was told.
    #[must_use]
    pub fn is_closed(&self, peer: Peer) -> bool {
        self.state.borrow().peers[peer.0].is_closed
    }

    /// All that was asked of the platform so far, in order.
    #[must_use]
    pub fn asked(&self) -> Vec<Asked> {
        self.state.borrow().asked.clone()
    }

    /// Whether every turn of the script was played.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.state.borrow().turns.is_empty()
    }

    /// Receive buffers that the worker has not released.
    #[must_use]
    pub fn buffers_out(&self) -> usize {
        self.buffers_out.get()
    }

    /// The script's time.
    #[must_use]
    pub fn now(&self) -> Instant {
        self.state.borrow().now
    }

    /// Moves the script's clock.
    pub fn advance(&self, time: Duration) {
        self.state.borrow_mut().now += time;
    }

    /// As a thread's wake-up.
    #[must_use]
    pub fn waker(&self) -> FakeWaker {
        self.waker.clone()
    }
}

impl PeerState {
    /// Whether something came that its connection was not told.
    fn has_to_tell(&self) -> bool {
        let reads = !self.pauses_reading && !self.has_failed && !self.is_closed && self.closing.is_none();
        let has_more = !self.coming.is_empty() || (self.has_ended && !self.told_of_end);
        self.connection.is_some() && reads && has_more
    }
}

impl State {
    fn new_peer(&mut self) -> Peer {
        self.peers.push(PeerState::default());
        Peer(self.peers.len() - 1)
    }

    fn of(&mut self, id: ConnectionId) -> Option<&mut PeerState> {
        self.peers.iter_mut().find(|peer| peer.connection == Some(id) && !peer.is_closed)
    }

    fn listener(&mut self, id: ListenerId) -> Option<&mut ListenerState> {
        self.listeners.iter_mut().find(|listener| listener.id == id)
    }

    /// Moves the clock as far as this wait goes; whether the next turn of the script is due then.
    fn advance(&mut self, wait: Wait, has_something: bool) -> io::Result<bool> {
        let due = self.turns.front().map(|(delay, _)| self.played_at + *delay);
        let lingering = self.peers.iter().filter(|peer| !peer.is_closed).filter_map(|peer| peer.linger_until);
        let next = due.into_iter().chain(lingering).min();
        let until = match wait {
            _ if has_something => self.now,
            Wait::Poll => self.now,
            Wait::For(time) => next.map_or(self.now + time, |next| next.min(self.now + time)),
            Wait::Forever => next.ok_or_else(|| {
                io::Error::new(io::ErrorKind::UnexpectedEof, "the script is over, and the worker waits for ever")
            })?,
        };
        self.now = self.now.max(until);
        Ok(due.is_some_and(|due| due <= self.now))
    }

    fn play(&mut self, step: Step, events: &mut Vec<Event>) {
        match step {
            Step::Connect { listener, peer } => {
                if let Some(listener) = self.listener(listener) {
                    listener.backlog.push_back(peer);
                } else {
                    // Nobody listens under this id yet, or any more: the test talks to a bare platform.
                    self.accept(listener, peer, events);
                }
            }
            Step::Bytes { peer, bytes } => self.peers[peer.0].coming.extend(bytes),
            Step::End { peer } => self.peers[peer.0].has_ended = true,
            Step::Fail { peer, code } => {
                let peer = &mut self.peers[peer.0];
                let Some(connection) = peer.connection.filter(|_| !peer.has_failed && !peer.is_closed) else { return };
                (peer.has_failed, peer.sending) = (true, None);
                if peer.closing.is_none() {
                    events.push(Event::Error { connection, error: io::Error::from_raw_os_error(code) });
                }
            }
            Step::Take { peer } => self.complete_send(peer, events),
            Step::Stall { listener, code } => {
                events.push(Event::AcceptStalled { listener, error: io::Error::from_raw_os_error(code) });
            }
            Step::ListenerFails { listener, code } => {
                self.listeners.retain(|other| other.id != listener);
                events.push(Event::ListenerGone { listener, error: Some(io::Error::from_raw_os_error(code)) });
            }
            Step::Readable { watch } => {
                if self.watches.contains(&watch) {
                    events.push(Event::Watch { watch });
                }
            }
            Step::Pass { time } => self.now += time,
        }
    }

    fn accept(&mut self, listener: ListenerId, peer: Peer, events: &mut Vec<Event>) {
        let socket = OwnedFd::from(UnixDatagram::unbound().expect("a test has a descriptor left"));
        self.peers[peer.0].accepted_as = Some(socket.as_raw_fd());
        events.push(Event::Accepted { listener, socket, peer: None });
    }

    fn accept_all(&mut self, events: &mut Vec<Event>) {
        let accepting = self.listeners.iter_mut().filter(|listener| listener.accepts || listener.is_ending);
        let found: Vec<_> =
            accepting.flat_map(|listener| listener.backlog.drain(..).map(|peer| (listener.id, peer))).collect();
        for (listener, peer) in found {
            self.accept(listener, peer, events);
        }
        let ended = self.listeners.iter().filter(|listener| listener.is_ending).map(|listener| listener.id);
        events.extend(ended.map(|listener| Event::ListenerGone { listener, error: None }));
        self.listeners.retain(|listener| !listener.is_ending);
    }

    fn complete_send(&mut self, peer: Peer, events: &mut Vec<Event>) {
        let peer = &mut self.peers[peer.0];
        if let (Some(connection), Some(out)) = (peer.connection, peer.sending.take()) {
            peer.sent.extend_from_slice(&out.head);
            peer.sent.extend_from_slice(&out.body);
            events.push(Event::Sent { connection, out });
        }
    }

    /// Closes what has nothing left to wait for.
    fn close_all(&mut self, events: &mut Vec<Event>) {
        let now = self.now;
        for peer in self.peers.iter_mut().filter(|peer| !peer.is_closed) {
            let (Some(connection), Some(how)) = (peer.connection, peer.closing) else { continue };
            let is_over = match how {
                Close::Abort => true,
                Close::AfterSend => peer.sending.is_none(),
                Close::Linger(time) if peer.sending.is_none() => {
                    let until = *peer.linger_until.get_or_insert(now + time);
                    until <= now || peer.has_ended || peer.has_failed
                }
                Close::Linger(_) => false,
            };
            if is_over {
                (peer.is_closed, peer.socket) = (true, None);
                events.push(Event::Closed { connection });
            }
        }
    }
}

impl Script {
    /// Delivers what came, as far as the worker wants it and has buffers.
    fn deliver(&mut self, events: &mut Vec<Event>) {
        let mut state = self.state.borrow_mut();
        for peer in state.peers.iter_mut().filter(|peer| peer.has_to_tell()) {
            let Some(connection) = peer.connection else { continue };
            for _ in 0..READS_PER_TURN {
                if peer.coming.is_empty() {
                    break;
                }
                let Some(index) = self.pool.take() else { break };
                let piece = self.pool.piece_mut(index);
                let bytes = peer.coming.len().min(piece.len());
                for (to, from) in piece.iter_mut().zip(peer.coming.drain(..bytes)) {
                    *to = from;
                }
                let len = u32::try_from(bytes).expect("a buffer's size came from a u32");
                events.push(Event::Data { connection, buffer: RxBuf { index, offset: 0, len } });
            }
            if peer.has_ended && peer.coming.is_empty() && !peer.told_of_end {
                peer.told_of_end = true;
                events.push(Event::Eof { connection });
            }
        }
        self.buffers_out.set(self.pool.out_count());
    }
}

impl Platform for Script {
    const NAME: &'static str = "script";
    type Waker = FakeWaker;

    fn open(config: &IoConfig) -> io::Result<Self> {
        let now = Instant::now();
        let state = State {
            now,
            played_at: now,
            turns: VecDeque::new(),
            peers: Vec::new(),
            listeners: Vec::new(),
            watches: Vec::new(),
            asked: Vec::new(),
        };
        let (state, waker) = (Rc::new(RefCell::new(state)), FakeWaker::default());
        Ok(Self { pool: ReceivePool::new(config)?, state, waker, buffers_out: Rc::default() })
    }

    fn now(&self) -> Instant {
        self.state.borrow().now
    }

    fn waker(&self) -> FakeWaker {
        self.waker.clone()
    }

    fn listen(&mut self, id: ListenerId, _socket: BorrowedFd<'_>) -> io::Result<()> {
        let mut state = self.state.borrow_mut();
        if state.listener(id).is_some() {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, format!("listener {} is in use", id.0)));
        }
        state.asked.push(Asked::Listen(id));
        state.listeners.push(ListenerState { id, accepts: true, is_ending: false, backlog: VecDeque::new() });
        Ok(())
    }

    fn unlisten(&mut self, id: ListenerId) {
        let mut state = self.state.borrow_mut();
        state.asked.push(Asked::Unlisten(id));
        if let Some(listener) = state.listener(id) {
            listener.is_ending = true;
        }
    }

    fn want_accept(&mut self, id: ListenerId, on: bool) {
        let mut state = self.state.borrow_mut();
        state.asked.push(Asked::WantAccept(id, on));
        if let Some(listener) = state.listener(id) {
            listener.accepts = on;
        }
    }

    fn adopt(&mut self, id: ConnectionId, socket: OwnedFd) -> io::Result<()> {
        let mut state = self.state.borrow_mut();
        let has_slot =
            |peer: &PeerState| !peer.is_closed && peer.connection.is_some_and(|other| other.slot() == id.slot());
        if state.peers.iter().any(has_slot) {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, format!("slot {} is in use", id.slot())));
        }
        let descriptor = Some(socket.as_raw_fd());
        let known = state.peers.iter().position(|peer| peer.connection.is_none() && peer.accepted_as == descriptor);
        let peer = known.map_or_else(|| state.new_peer(), Peer);
        state.asked.push(Asked::Adopt(id, peer));
        let state = &mut state.peers[peer.0];
        (state.connection, state.socket, state.accepted_as) = (Some(id), Some(socket), None);
        Ok(())
    }

    fn want_read(&mut self, id: ConnectionId, on: bool) {
        let mut state = self.state.borrow_mut();
        state.asked.push(Asked::WantRead(id, on));
        if let Some(peer) = state.of(id) {
            peer.pauses_reading = !on;
        }
    }

    fn send(&mut self, id: ConnectionId, out: OutBuf) {
        let mut state = self.state.borrow_mut();
        state.asked.push(Asked::Send(id, [out.head.as_slice(), &out.body].concat()));
        assert!(state.peers.iter().any(|peer| peer.connection == Some(id)), "send to {id:?}, which was never adopted");
        let Some(peer) = state.of(id).filter(|peer| peer.closing.is_none() && !peer.has_failed) else { return };
        assert!(peer.sending.is_none(), "send to {id:?}, which has one in flight");
        peer.sending = Some(out);
    }

    fn close(&mut self, id: ConnectionId, how: Close) {
        let mut state = self.state.borrow_mut();
        state.asked.push(Asked::Close(id, how));
        let Some(peer) = state.of(id) else { return };
        if peer.closing.is_none() || how == Close::Abort {
            peer.closing = Some(how);
        }
        if how == Close::Abort {
            peer.sending = None;
        }
    }

    fn watch(&mut self, id: WatchId, _descriptor: RawFd) -> io::Result<()> {
        let mut state = self.state.borrow_mut();
        state.asked.push(Asked::Watch(id));
        state.watches.push(id);
        Ok(())
    }

    fn unwatch(&mut self, id: WatchId) {
        let mut state = self.state.borrow_mut();
        state.asked.push(Asked::Unwatch(id));
        state.watches.retain(|other| *other != id);
    }

    fn turn(&mut self, wait: Wait, events: &mut Vec<Event>) -> io::Result<()> {
        assert_eq!(self.pool.out_count(), 0, "receive buffers must be released before the next turn");
        let told_before = events.len();
        {
            let mut state = self.state.borrow_mut();
            if self.waker.take() {
                events.push(Event::Woken);
            }
            for index in 0..state.peers.len() {
                if !state.peers[index].holds_sends {
                    state.complete_send(Peer(index), events);
                }
            }
            state.close_all(events);
            state.accept_all(events);
        }
        {
            let mut state = self.state.borrow_mut();
            let has_something = events.len() > told_before || state.peers.iter().any(PeerState::has_to_tell);
            if state.advance(wait, has_something)? {
                let (_, steps) = state.turns.pop_front().unwrap_or_default();
                state.played_at = state.now;
                for step in steps {
                    state.play(step, events);
                }
            }
            state.accept_all(events);
            state.close_all(events);
        }
        self.deliver(events);
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.state.borrow_mut().asked.push(Asked::Flush);
        Ok(())
    }

    fn rx(&self, buffer: &RxBuf) -> &[u8] {
        self.pool.bytes(buffer)
    }

    fn rx_release(&mut self, buffer: RxBuf) {
        self.pool.put(buffer.index);
        self.buffers_out.set(self.pool.out_count());
    }

    fn finish(self, _deadline: Instant) -> io::Result<()> {
        assert_eq!(self.pool.out_count(), 0, "receive buffers must be released before the end");
        Ok(())
    }
}
