//! A connection's place in its worker: what the worker knows it by, whatever it speaks. What it is doing is in `http1`, its bytes are in `wire`.

use turboapi_platform::ConnectionId;

use crate::request::{Origin, RequestId};
use crate::timers::Tick;

/// What the worker knows a connection by, and when it has its share of the worker.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) id: ConnectionId,
    pub(super) origin: Origin,
    /// Number of its latest request, from 1; 0 before there is one.
    pub(super) requests: u32,
    pub(super) idle_since: Tick,
    /// Has had its share, and goes on when others have had theirs. INVARIANT: bytes are pending, and the next head is waited for.
    pub(super) waits_share: bool,
}

impl Place {
    /// The request that it is at.
    #[inline]
    pub(super) const fn request(&self) -> RequestId {
        RequestId { connection: self.id, number: self.requests }
    }
}
