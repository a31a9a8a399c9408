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

// From the top: each imports only what is further down.
mod stage;
mod state;
mod step;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::rc::Rc;
use std::time::Instant;

pub use self::stage::Stage;
use self::state::{ListenerState, PeerState, State};
pub use self::step::{Asked, Peer, Step};
use super::waker::FakeWaker;
use crate::pool::ReceivePool;
use crate::{Close, ConnectionId, Event, IoConfig, ListenerId, OutBuf, Platform, RxBuf, Wait, WatchId};

/// Buffers that one peer may fill in one turn, as on the real ones.
const READS_PER_TURN: usize = 4;

/// The platform. See the module.
#[derive(Debug)]
pub struct Script {
    pool: ReceivePool,
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
