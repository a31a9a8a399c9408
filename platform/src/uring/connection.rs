//! What the driver knows of one connection. No system calls, and nothing is decided here.

use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::time::Duration;

use super::sending::Sending;

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
    /// Reads and discards until the peer's end, so many bytes, or the deadline in `Uring::lingering`.
    Lingering {
        bytes_left: usize,
    },
    /// Closes when the kernel has nothing of it any more.
    Leaving,
}

/// What the ring does for its reading side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Receive {
    Off,
    /// It stands in `Receiving::starved`, for want of a buffer.
    Starved,
    Armed,
    /// Armed, but told to end.
    Cancelled,
}

#[expect(clippy::struct_excessive_bools, reason = "independent facts about one socket; most of their mixes occur")]
pub(super) struct Connection {
    pub(super) socket: OwnedFd,
    pub(super) phase: Phase,
    pub(super) receive: Receive,
    /// INVARIANT: some exactly while the kernel has it.
    pub(super) sending: Option<Sending>,
    pub(super) wants_read: bool,
    /// Whether more comes than a turn may tell. Its receives are armed for one buffer each.
    pub(super) is_bulk: bool,
    pub(super) is_at_eof: bool,
    /// The end of the bytes in `held` is the peer's end.
    pub(super) owes_eof: bool,
    /// Whether it stands in `Receiving::holding`.
    pub(super) is_queued: bool,
    /// The turn that told its last `Data`, and how many it told.
    pub(super) told: (u32, u8),
    /// Bytes that came when nobody wanted them, or too many in one turn. They go before all that comes later.
    pub(super) held: Vec<u8>,
}

impl Connection {
    pub(super) fn new(socket: OwnedFd) -> Self {
        Self {
            socket,
            phase: Phase::Open,
            receive: Receive::Off,
            sending: None,
            wants_read: true,
            is_bulk: false,
            is_at_eof: false,
            owes_eof: false,
            is_queued: false,
            told: (0, 0),
            held: Vec::new(),
        }
    }

    pub(super) fn descriptor(&self) -> RawFd {
        self.socket.as_raw_fd()
    }

    /// Whether a receive is to be armed now. What is held goes first, so that its amount has a bound.
    #[inline]
    pub(super) fn has_to_receive(&self) -> bool {
        let reads = match self.phase {
            Phase::Open => self.wants_read && self.held.is_empty(),
            Phase::Lingering { .. } => true,
            _ => false,
        };
        reads && self.receive == Receive::Off && !self.is_at_eof
    }

    pub(super) fn is_in_kernel(&self) -> bool {
        self.sending.is_some() || matches!(self.receive, Receive::Armed | Receive::Cancelled)
    }

    /// Counts one more `Data` of this turn; none when it has had its share.
    #[inline]
    pub(super) fn may_tell(&mut self, turn: u32, data_max: u8) -> bool {
        if self.told.0 != turn {
            self.told = (turn, 0);
        }
        self.told.1 += 1;
        self.told.1 <= data_max
    }
}
