//! What a test writes down, and what it reads afterwards of what was asked of the platform.

use std::time::Duration;

use crate::{Close, ConnectionId, ListenerId, WatchId};

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
    /// A peer takes the send that [`Stage::hold_sends`](super::Stage::hold_sends) keeps in flight.
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
