//! What the engine knows of one connection, and the table of them. No system calls, and nothing is decided here.

use std::os::fd::OwnedFd;
use std::time::Duration;

use crate::slots::Slots;
use crate::{ConnectionId, OutBuf};

/// How far a connection is on its way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
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
pub(super) enum Sending {
    /// So much of it was taken; the rest when there is room.
    Ours { out: OutBuf, bytes_sent: usize },
    /// The poller has it.
    Pollers,
}

#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts about one socket; most of their mixes occur")]
pub(super) struct Connection {
    pub(super) socket: OwnedFd,
    pub(super) phase: Phase,
    pub(super) sending: Option<Sending>,
    /// INVARIANT: false only when the kernel has said that there is nothing to read, and no edge came since.
    pub(super) is_readable: bool,
    /// An end or an error waits behind the bytes: a short read is then no sign of "drained".
    pub(super) is_hung_up: bool,
    pub(super) is_at_eof: bool,
    pub(super) wants_read: bool,
    /// INVARIANT: true exactly while its id stands in `ready`.
    pub(super) is_queued: bool,
    pub(super) watches_write: bool,
}

impl Connection {
    pub(super) fn new(socket: OwnedFd) -> Self {
        Self {
            socket,
            phase: Phase::Open,
            sending: None,
            is_readable: false,
            is_hung_up: false,
            is_at_eof: false,
            wants_read: true,
            is_queued: false,
            watches_write: false,
        }
    }

    pub(super) fn has_to_read(&self) -> bool {
        let reads = match self.phase {
            Phase::Open => self.wants_read,
            Phase::Lingering { .. } => true,
            _ => false,
        };
        reads && self.is_readable && !self.is_at_eof
    }
}

/// What has a place in the table.
#[derive(Debug)]
pub(super) enum Place {
    Connected(Connection),
    /// Nobody any more, but the kernel still holds the socket that was released.
    Leaving,
}

impl Slots<Place> {
    #[inline]
    pub(super) fn connection(&mut self, id: ConnectionId) -> Option<&mut Connection> {
        match self.get_mut(id)? {
            Place::Connected(connection) => Some(connection),
            Place::Leaving => None,
        }
    }
}
