//! Connections that are closing and still read for a while what their peer sends, so that it can read its answer (RFC 9112
//! §9.6): how long. Who reads, how much, and what closes them, is the driver's.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Instant;

use crate::ConnectionId;

/// When lingering ends. Entries of connections that are gone come up too, and are for the driver to skip.
#[derive(Debug, Default)]
pub(crate) struct Lingering(BinaryHeap<Reverse<(Instant, ConnectionId)>>);

impl Lingering {
    pub(crate) fn add(&mut self, deadline: Instant, id: ConnectionId) {
        self.0.push(Reverse((deadline, id)));
    }

    /// The earliest deadline.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.0.peek().map(|Reverse((deadline, _))| *deadline)
    }

    /// Takes out one whose deadline has come.
    pub(crate) fn pop_due(&mut self, now: Instant) -> Option<ConnectionId> {
        self.next().filter(|deadline| *deadline <= now)?;
        self.0.pop().map(|Reverse((_, id))| id)
    }
}
