//! A request body under way: what of it is still to come, how much waits for its handler, how long it may take.
//! What happens to a connection by it is in `http1`, the chunked coding in `http/chunked`.

use crate::answer::BodyLeft;
use crate::error::BadRequest;
use crate::http::chunked::ChunkedDecoder;
use crate::http::head::Head;
use crate::limits::Limits;
use crate::timers::{TICK_MILLISECONDS, Tick};

use super::shared::Shared;

/// A whole head, kept while its body arrives: no byte is parsed twice.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) head: Head,
    pub(super) head_bytes: Vec<u8>,
    pub(super) body: Vec<u8>,
    pub(super) incoming: Incoming,
}

/// The rest of a body, as it comes.
#[derive(Debug)]
pub(super) struct Incoming {
    rest: Rest,
    /// The peer waits for `100 Continue`, as far as we know.
    pub(super) owes_continue: bool,
    /// Bytes that the handler was given and has not taken.
    pub(super) untaken: usize,
    since: Tick,
    /// When bytes of it came last.
    received_at: Tick,
    received: u64,
    /// Since when it is not the peer that is waited for.
    paused_at: Option<Tick>,
}

#[derive(Debug)]
pub(super) enum Rest {
    Length(u64),
    Chunked(ChunkedDecoder),
}

impl Incoming {
    pub(super) fn new(rest: Rest, owes_continue: bool, now: Tick) -> Self {
        Self { rest, owes_continue, untaken: 0, since: now, received_at: now, received: 0, paused_at: None }
    }

    /// Adds what `bytes` has of the body to `body`. Returns how many bytes that took, and whether the body is complete.
    pub(super) fn receive(
        &mut self,
        bytes: &[u8],
        body: &mut Vec<u8>,
        now: Tick,
        limits: &Limits,
    ) -> Result<(usize, bool), BadRequest> {
        let (consumed, is_complete) = match &mut self.rest {
            Rest::Length(missing) => {
                let part = usize::try_from(*missing).ok().and_then(|missing| bytes.get(..missing)).unwrap_or(bytes);
                body.extend_from_slice(part);
                *missing -= part.len() as u64;
                (part.len(), *missing == 0)
            }
            Rest::Chunked(decoder) => decoder.decode(bytes, body, limits)?,
        };
        // A peer that sends does not wait for `100 Continue`.
        self.owes_continue &= consumed == 0;
        self.received += consumed as u64;
        self.received_at = now;
        Ok((consumed, is_complete))
    }

    /// Whether the handler has so much that no more is read until it takes some.
    pub(super) fn holds_enough(&self, limits: &Limits) -> bool {
        self.untaken > limits.body_untaken_bytes_max
    }

    /// What of it would come after an answer that is given now.
    pub(super) fn left(&self, limits: &Limits) -> BodyLeft {
        match self.rest {
            _ if self.owes_continue => BodyLeft::Unasked,
            Rest::Length(missing) if missing > limits.linger_bytes_max as u64 => BodyLeft::Much,
            Rest::Length(_) | Rest::Chunked(_) => BodyLeft::Little,
        }
    }

    /// Stops the clock while the peer could not send, or waits for us, and lets it go on where it stood.
    pub(super) fn keep_time(&mut self, now: Tick, limits: &Limits) {
        if self.owes_continue || self.holds_enough(limits) {
            self.paused_at.get_or_insert(now);
        } else if let Some(paused_at) = self.paused_at.take() {
            self.since += now - paused_at;
            // Not what came last: its bytes may have been on their way when the clock stopped.
            self.received_at = now;
        }
    }

    /// What began at `before` begins at `now`.
    pub(super) fn move_times(&mut self, before: Tick, now: Tick) {
        let sinces = [Some(&mut self.since), Some(&mut self.received_at), self.paused_at.as_mut()];
        sinces.into_iter().flatten().filter(|since| **since == before).for_each(|since| *since = now);
    }

    /// Too long without a byte, or too slow on the whole, whichever comes first; none while the clock stands. A body of no
    /// bytes yet has its grace.
    pub(super) fn deadline(&self, shared: &Shared) -> Option<Tick> {
        if self.paused_at.is_some() {
            return None;
        }
        let idle = self.received_at + shared.ticks.body_idle;
        let rate = shared.limits.body_bytes_per_second_min;
        if rate == 0 {
            return Some(idle);
        }
        let earned = self.received * (1000 / TICK_MILLISECONDS) / rate;
        Some(idle.min(self.since + shared.ticks.body_grace + earned))
    }
}
