//! The test's side of a script: it writes what happens, and reads what was sent and asked.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::state::State;
use super::step::{Asked, Peer, Step};
use crate::fakes::waker::FakeWaker;
use crate::{Close, ConnectionId};

/// The test's side of a [`Script`](super::Script).
#[derive(Clone, Debug)]
pub struct Stage {
    pub(super) state: Rc<RefCell<State>>,
    pub(super) waker: FakeWaker,
    pub(super) buffers_out: Rc<Cell<usize>>,
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
