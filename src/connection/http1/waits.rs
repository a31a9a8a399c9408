//! What a connection waits for, and for how long: whether it is read further, and the deadline of its phase. Nothing is changed by
//! asking, but what keeps time.

use turboapi_platform::Close;

use super::state::{Around, Http1, Phase};
use crate::connection::place::Place;
use crate::connection::shared::Shared;
use crate::connection::wire::Wire;
use crate::timers::{TICK_MILLISECONDS, Tick};

/// What a platform may take to end a connection whose time is over, besides that time: with time-outs of a tenth of a second it may
/// be about to.
const CLOSE_PATIENCE: Tick = 1000 / TICK_MILLISECONDS;

impl Http1 {
    /// Whether no request has begun behind the last answer.
    pub(crate) fn is_between_requests(&self, wire: &Wire) -> bool {
        matches!(self.phase, Phase::Head) && !has_begun_head(wire)
    }

    /// Whether a part of a head has come and the rest of it has not.
    pub(crate) fn has_partial_head(&self, place: &Place, wire: &Wire, shared: &Shared) -> bool {
        matches!(self.phase, Phase::Head) && !place.waits_share && has_begun_head(wire) && takes_more(wire, shared)
    }

    /// Whether reading should go on; none where that is for the platform to say.
    pub(crate) fn wants_read(&self, place: &Place, wire: &Wire, shared: &Shared) -> Option<bool> {
        let holds_enough = match self.phase {
            // What comes is dropped; how much of it is read is now for the platform to say.
            Phase::Closing => return None,
            Phase::Head if place.waits_share => wire.pending.len() >= shared.limits.head_bytes_max,
            Phase::Head => !takes_more(wire, shared),
            Phase::Body(_) | Phase::Discarding { .. } => false,
            Phase::Answering => match &self.incoming {
                Some(incoming) => incoming.holds_enough(&shared.limits),
                // A request that waits behind another one need not be read further than its own head.
                None => wire.pending.len() >= shared.limits.head_bytes_max,
            },
        };
        Some(!holds_enough)
    }

    pub(super) fn is_body_late(&self, by: Tick, shared: &Shared) -> bool {
        let deadline = self.incoming.as_ref().and_then(|incoming| incoming.deadline(shared));
        deadline.is_some_and(|deadline| deadline <= by)
    }

    /// What began at `before` begins now.
    pub(crate) fn move_times(&mut self, before: Tick, shared: &Shared) {
        let now = shared.now;
        let held = if let Phase::Body(held) = &mut self.phase { Some(&mut held.incoming) } else { None };
        for incoming in held.into_iter().chain(self.incoming.as_deref_mut()) {
            incoming.move_times(before, now);
        }
        if let Phase::Discarding { until, .. } = &mut self.phase {
            *until += if *until == before + shared.ticks.linger { now - before } else { 0 };
        }
        self.head_since.iter_mut().filter(|since| **since == before).for_each(|since| *since = now);
    }

    /// When the phase has lasted too long, besides what the peer takes of its answers.
    #[inline]
    pub(crate) fn deadline(&mut self, place: &Place, wire: &Wire, shared: &Shared) -> Option<Tick> {
        let (now, ticks) = (shared.now, &shared.ticks);
        let has_unsent = wire.unsent() > 0;
        match &self.phase {
            // Waits for the peer to read, which is bounded, or for us.
            Phase::Head if place.waits_share || !takes_more(wire, shared) => None,
            Phase::Head if !has_begun_head(wire) => {
                let timeout = if place.requests == 0 { ticks.silence } else { ticks.keep_alive };
                (!has_unsent).then_some(place.idle_since + timeout)
            }
            // Absolute from the first byte: a byte a second does not move it.
            Phase::Head => Some(*self.head_since.get_or_insert(now) + ticks.head),
            Phase::Body(held) => held.incoming.deadline(shared),
            Phase::Answering => self.incoming.as_mut().and_then(|incoming| {
                incoming.keep_time(now, &shared.limits);
                incoming.deadline(shared)
            }),
            Phase::Discarding { until, .. } => Some(*until),
            // The platform lingers by itself; this is for one that cannot end.
            Phase::Closing if wire.closes() == Some(Close::Abort) => None,
            Phase::Closing => (!has_unsent).then_some(now + ticks.linger + ticks.write + CLOSE_PATIENCE),
        }
    }
}

/// A peer that does not read its answers gets no further ones.
#[inline]
pub(super) fn takes_more(wire: &Wire, shared: &Shared) -> bool {
    wire.unsent() <= shared.limits.unsent_bytes_max
}

/// RFC 9112 §2.2: an empty line behind a request is of no request. A peer that sends one has not begun another.
pub(super) fn has_begun_head(wire: &Wire) -> bool {
    !matches!(wire.pending.rest(), [] | [b'\r'] | [b'\r', b'\n'])
}

/// Whether what is pending waits for the peer to read, or for other connections.
pub(super) fn waits_for_others<H>(around: &Around<'_, H>) -> bool {
    around.place.waits_share || (!takes_more(around.wire, around.shared) && !around.wire.pending.is_empty())
}
