//! The test's side: peers that connect, send, read, end and reset.

use std::cell::RefCell;
use std::os::fd::RawFd;
use std::rc::Rc;

use super::moment::Moment;
use super::random::Random;
use super::state::{State, mix, sum};
use super::weather::Happening;
use super::wire::{History, Peer, Reader, Travel, Wire};
use crate::{ConnectionId, ListenerId};

/// The test's side of a simulated kernel.
#[derive(Clone, Debug)]
pub struct Network {
    pub(super) state: Rc<RefCell<State>>,
}

impl Network {
    /// Microseconds since the run began.
    #[must_use]
    pub fn now(&self) -> Moment {
        self.state.borrow().now
    }

    /// Time passes without a turn: a handler computes.
    pub fn pass(&self, time: Moment) {
        self.state.borrow_mut().now += time;
    }

    /// A peer connects, and is accepted when the worker gets to it. None where nobody listens any more.
    #[must_use]
    pub fn connect(&self, listener: ListenerId, reader: Reader) -> Option<Peer> {
        let mut state = self.state.borrow_mut();
        let peer = Peer(state.wires.len());
        let listener = state.listeners.iter_mut().find(|known| known.id == listener && !known.is_ending)?;
        let waits = !listener.accepts;
        listener.backlog.push_back(peer);
        if waits {
            state.count(Happening::BacklogWaited);
        }
        state.wires.push(Wire::new(reader));
        state.note("peer connects", peer.0 as u64, 0);
        Some(peer)
    }

    /// A peer writes.
    pub fn write(&self, peer: Peer, bytes: &[u8]) {
        self.state.borrow_mut().travel(peer, "peer writes", bytes.len(), Travel::Bytes(bytes.to_vec()));
    }

    /// A peer ends its sending side.
    pub fn end(&self, peer: Peer) {
        self.state.borrow_mut().travel(peer, "peer ends", 0, Travel::End);
    }

    /// The connection breaks. What the worker is told of it is this `errno`.
    pub fn reset(&self, peer: Peer, code: i32) {
        self.state.borrow_mut().travel(peer, "peer resets", 0, Travel::Reset(code));
    }

    /// A listener breaks.
    pub fn fail_listener(&self, listener: ListenerId) {
        let mut state = self.state.borrow_mut();
        for known in state.listeners.iter_mut().filter(|known| known.id == listener) {
            known.fails = true;
        }
    }

    /// Looks at what a peer has read so far.
    pub fn with_read<T>(&self, peer: Peer, look: impl FnOnce(&[u8]) -> T) -> T {
        let state = self.state.borrow();
        let wire = &state.wires[peer.0];
        look(&wire.out[..wire.read])
    }

    /// Looks at all that the worker sent to a peer, read or not, how much of it was read, and the connection's history.
    pub fn with_history<T>(&self, peer: Peer, look: impl FnOnce(&[u8], usize, &History) -> T) -> T {
        let state = self.state.borrow();
        let wire = &state.wires[peer.0];
        look(&wire.out, wire.read, &wire.history)
    }

    /// The id that the worker gave to this peer's connection.
    #[must_use]
    pub fn connection(&self, peer: Peer) -> Option<ConnectionId> {
        self.state.borrow().wires[peer.0].connection
    }

    /// The peer of a connection that is open.
    #[must_use]
    pub fn peer(&self, connection: ConnectionId) -> Option<Peer> {
        self.state.borrow_mut().of(connection).map(Peer)
    }

    /// The peer of a connection that was accepted as this descriptor and not adopted yet.
    #[must_use]
    pub fn accepted_as(&self, descriptor: RawFd) -> Option<Peer> {
        self.state.borrow().wires.iter().position(|wire| wire.accepted_as == Some(descriptor)).map(Peer)
    }

    /// A peer reads no more than so many bytes, from now on.
    pub fn let_read(&self, peer: Peer, bytes: usize) {
        self.state.borrow_mut().wires[peer.0].reader.stops_after = bytes;
    }

    /// Whether the worker has stopped the reading of a connection that is open.
    #[must_use]
    pub fn pauses_reading(&self, connection: ConnectionId) -> bool {
        let mut state = self.state.borrow_mut();
        state.of(connection).is_some_and(|index| state.wires[index].pauses_reading)
    }

    /// Whether the worker's side of it is closed, or it was never accepted and never will be.
    #[must_use]
    pub fn is_over(&self, peer: Peer) -> bool {
        let state = self.state.borrow();
        let wire = &state.wires[peer.0];
        wire.is_released
            || (wire.connection.is_none() && state.listeners.iter().all(|one| !one.backlog.contains(&peer)))
    }

    /// Whether the peer can see that the connection is over: all that was sent and not lost is read.
    #[must_use]
    pub fn is_over_for_peer(&self, peer: Peer) -> bool {
        let wire_is_read = {
            let state = self.state.borrow();
            let wire = &state.wires[peer.0];
            wire.read == wire.taken || wire.has_failed || !wire.is_reading()
        };
        wire_is_read && self.is_over(peer)
    }

    /// Draws from the run's own stream.
    pub fn draw<T>(&self, draw: impl FnOnce(&mut Random) -> T) -> T {
        draw(&mut self.state.borrow_mut().random)
    }

    /// Writes a line into the trace, and into its hash.
    pub fn note(&self, what: &'static str, whom: u64, amount: u64) {
        self.state.borrow_mut().note(what, whom, amount);
    }

    /// How often this happened.
    #[must_use]
    pub fn count(&self, what: Happening) -> u32 {
        self.state.borrow().counts[what as usize]
    }

    /// A number that two runs share only if the same things happened at the same times.
    #[must_use]
    pub fn hash(&self) -> u64 {
        let state = self.state.borrow();
        state.wires.iter().fold(state.hash, |hash, wire| mix(mix(hash, wire.out.len() as u64), sum(&wire.out)))
    }

    /// The lines of the trace, if it is kept.
    #[must_use]
    pub fn take_trace(&self) -> Vec<String> {
        self.state.borrow_mut().trace.take().unwrap_or_default()
    }
}
