//! What an HTTP/1.1 connection is, and what is lent to it for the length of an event. What happens to it is in `http1`.

use std::time::Duration;

use crate::answer::AnswerState;
use crate::connection::body::{Held, Incoming};
use crate::connection::place::Place;
use crate::connection::shared::Shared;
use crate::connection::wire::Wire;
use crate::http::head::Scan;
use crate::timers::Tick;

/// Linger of a connection whose peer has sent nothing behind its last request: only what is on its way just now could turn
/// the close into a reset. A drain waits for this.
pub(crate) const QUIET_LINGER: Duration = Duration::from_millis(500);

/// What a connection is doing.
#[derive(Debug)]
pub(crate) enum Phase {
    /// Waiting for a head, or for the rest of one.
    Head,
    /// A head is complete, its body is not, and no handler was called yet.
    Body(Box<Held>),
    /// A handler has the request.
    Answering,
    /// The answer is complete and the request's body is not: what still comes of it is dropped, so much and so long.
    Discarding { bytes_left: usize, until: Tick },
    /// Nothing more is read: the rest of the output, then the end.
    Closing,
}

impl Phase {
    /// Drops what still comes of a body, as much and as long as the limits say.
    pub(super) fn discarding(shared: &Shared) -> Self {
        Self::Discarding { bytes_left: shared.limits.linger_bytes_max, until: shared.now + shared.ticks.linger }
    }
}

/// What is lent for the length of an event.
pub(crate) struct Around<'a, H> {
    pub(crate) place: &'a mut Place,
    pub(crate) wire: &'a mut Wire,
    pub(crate) shared: &'a mut Shared,
    pub(crate) handler: &'a mut H,
}

/// A connection that speaks HTTP/1.1.
#[derive(Debug)]
pub(crate) struct Http1 {
    pub(crate) phase: Phase,
    /// The rest of the body of a request that was handed over or answered before its end. INVARIANT: while there is one,
    /// nothing is pending, as all that comes is of it.
    pub(crate) incoming: Option<Box<Incoming>>,
    pub(super) scan: Scan,
    pub(super) head_since: Option<Tick>,
    pub(super) answer: AnswerState,
    pub(super) awaits_writable: bool,
}

impl Default for Http1 {
    fn default() -> Self {
        Self {
            phase: Phase::Head,
            incoming: None,
            scan: Scan::default(),
            head_since: None,
            answer: AnswerState::refusal(false),
            awaits_writable: false,
        }
    }
}

impl Http1 {
    /// Whether a handler has one of its requests.
    pub(crate) const fn is_answering(&self) -> bool {
        matches!(self.phase, Phase::Answering)
    }

    /// Whether all that comes is dropped.
    pub(crate) const fn is_closing(&self) -> bool {
        matches!(self.phase, Phase::Closing)
    }
}
