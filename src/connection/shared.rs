//! What a connection has of its worker: set-up that is the same for all, the time, and memory for the request at hand. Nothing of a
//! single connection is here.

use std::time::Duration;

use crate::answer::Preamble;
use crate::http::head::Head;
use crate::limits::Limits;
use crate::refusals::Refusals;
use crate::router::{Params, Router};
use crate::timers::{TICK_MILLISECONDS, Tick};

use super::wire::WriteWait;

/// What all connections of one worker share, and each is lent for the length of a call.
#[derive(Debug)]
pub struct Shared {
    /// Bounds and time-outs.
    pub limits: Limits,
    /// Routes. Replaced as a whole when the app has got further ones.
    pub router: Router,
    /// First lines of each answer.
    pub preamble: Preamble,
    /// Requests that were handed over and not answered yet.
    pub in_flight: usize,
    /// What was refused, for the log.
    pub refusals: Refusals,
    /// After a stop signal: each answer is its connection's last.
    pub is_draining: bool,
    /// The time, as the worker looked at its clock last.
    pub now: Tick,
    /// The time-outs of `limits`.
    pub ticks: Ticks,
    /// None while bytes are worked off.
    pub(super) scratch: Option<Box<Scratch>>,
}

/// Memory for one request after the other.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    pub(super) head: Head,
    /// Percent-decoded.
    pub(super) path: Vec<u8>,
    pub(super) params: Params,
    /// Of a body that comes in parts, without its framing.
    pub(super) part: Vec<u8>,
}

/// The time-outs of [`Limits`] in ticks of the wheel.
#[derive(Clone, Copy, Debug)]
pub struct Ticks {
    pub(super) silence: Tick,
    pub(super) head: Tick,
    pub(super) body_idle: Tick,
    pub(super) body_grace: Tick,
    pub(super) write: Tick,
    /// From when the peer has bytes to take until it is first asked how much it has acknowledged. As long as `write` where the
    /// platform cannot tell.
    pub write_look: Tick,
    pub(super) keep_alive: Tick,
    pub(super) linger: Tick,
}

impl Ticks {
    pub(super) const fn write_wait(&self) -> WriteWait {
        WriteWait { end: self.write, look: self.write_look }
    }
}

impl Shared {
    /// Everything at its start.
    #[must_use]
    pub fn new(limits: Limits, router: Router, preamble: Preamble) -> Self {
        // One more, as the first one has begun already: a time-out comes up to a tick late, and never early.
        let ticks = |duration: Duration| {
            u64::try_from(duration.as_millis()).unwrap_or(u64::MAX / 4).div_ceil(TICK_MILLISECONDS) + 1
        };
        let ticks = Ticks {
            silence: ticks(limits.silence_timeout),
            head: ticks(limits.head_timeout),
            body_idle: ticks(limits.body_idle_timeout),
            body_grace: ticks(limits.body_rate_grace),
            write: ticks(limits.write_timeout),
            write_look: ticks(limits.write_timeout),
            keep_alive: ticks(limits.keep_alive_timeout),
            linger: ticks(limits.linger_timeout),
        };
        let refusals = Refusals::default();
        Self { limits, router, preamble, in_flight: 0, refusals, is_draining: false, now: 0, ticks, scratch: None }
    }
}
