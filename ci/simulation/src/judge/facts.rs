//! What is known of one connection after its run, and what its questions have in common: who was told what when, how late a
//! time-out may come. Asks nothing itself.

use std::time::Duration;

use turboapi_platform::Close;
use turboapi_platform::fakes::simulated::{History, Moment};

use crate::handler::Call;
use crate::plan::{ClientPlan, Ending, Item, Kind, Plan};
use crate::response::Response;

/// A time-out comes up to a tick after its time, and the tick in which it begins counts for nothing; the kernel and a handler
/// that computes add some milliseconds.
pub(super) const TICK: Moment = 100_000;
pub(super) const LATE_MAX: Moment = 2 * TICK + 30_000;
/// As the worker's: no send is longer.
pub(super) const SEND_BYTES_MAX: usize = 256 * 1024;

/// All that is known of one connection.
#[derive(Debug)]
pub struct Facts<'a> {
    /// The whole run's plan.
    pub plan: &'a Plan,
    /// This client's.
    pub own: &'a ClientPlan,
    /// All that the worker sent.
    pub out: &'a [u8],
    /// How much of it the peer has read.
    pub read: usize,
    /// What the connection was told and asked.
    pub history: &'a History,
    /// The handler's calls for this connection.
    pub calls: &'a [Call],
    /// When the drain began, if one did.
    pub drain_began_at: Option<Moment>,
    /// Whether descriptors ran short in this run.
    pub stalls: bool,
}

/// One answer, and which item it is for.
pub(super) struct Answered<'a> {
    pub(super) item: Option<&'a Item>,
    pub(super) response: Response<'a>,
    /// Its first octet, interim answers before it included.
    pub(super) start: usize,
    pub(super) end: usize,
    pub(super) is_refusal: bool,
}

pub(super) const fn micros(duration: Duration) -> Moment {
    duration.as_micros() as Moment
}

/// A worker does not look at the clock for each event. A handler may compute for so long before it looks again.
pub(super) const COMPUTED_MAX: Moment = 1_000;
/// What all handlers that are called for one turn may compute together.
pub(super) const COMPUTED_IN_ALL_MAX: Moment = 30_000;

/// The latest time that a time-out which begins at `since` may fire.
pub(super) fn latest(since: Moment, timeout: Duration) -> Moment {
    since + micros(timeout).div_ceil(TICK) * TICK + LATE_MAX
}

impl Facts<'_> {
    pub(super) fn drains_by(&self, at: Moment) -> bool {
        self.drain_began_at.is_some_and(|began| began <= at)
    }

    /// How long a time-out must last at least.
    pub(super) fn at_least(&self, timeout: Duration) -> Moment {
        let computes = |item: &Item| matches!(&item.kind, Kind::Valid(valid) if valid.conduct.computes > 0);
        let has_computed = self.plan.clients.iter().flat_map(|client| &client.items).any(computes);
        micros(timeout).saturating_sub(if has_computed { COMPUTED_MAX } else { 0 })
    }

    /// Bytes that the worker was told of until then.
    pub(super) fn delivered(&self, until: Moment) -> usize {
        self.history.data.iter().take_while(|(at, _)| *at <= until).last().map_or(0, |(_, total)| *total)
    }

    /// When the worker was told of more than so many bytes.
    pub(super) fn time_of(&self, bytes: usize) -> Option<Moment> {
        self.history.data.iter().find(|(_, total)| *total > bytes).map(|(at, _)| *at)
    }

    /// When the octet before `end` was given to the platform, and whether it had to wait for a send before it.
    pub(super) fn sent_at(&self, end: usize) -> (Moment, bool) {
        let at = self.history.sends.iter().position(|send| send.end >= end);
        let at = at.unwrap_or_else(|| panic!("octet {end} was never sent"));
        let asked_at = self.history.sends[at].asked_at;
        let waited = at > 0 && self.history.sends[at - 1].told_at.is_none_or(|told| told >= asked_at);
        (asked_at, waited)
    }

    /// When the platform told last, not after `until`, that a send had left.
    pub(super) fn last_told(&self, until: Moment) -> Option<Moment> {
        self.history.sends.iter().filter_map(|send| send.told_at).filter(|told| *told <= until).max()
    }

    pub(super) fn call(&self, token: u32) -> Option<&Call> {
        self.calls.iter().find(|call| call.token == token)
    }

    pub(super) fn was_cut(&self) -> bool {
        self.history.closes.iter().any(|(_, how)| *how == Close::Abort)
    }

    /// The last answer ends within itself: its handler failed, or the body of its request broke under it.
    pub(super) fn was_broken_off(&self) -> bool {
        self.calls.last().is_some_and(|call| call.was_cut || call.was_gone && call.began.is_some())
    }

    pub(super) fn closed_first(&self) -> Option<(Moment, Close)> {
        self.history.closes.first().copied()
    }

    /// The connection broke and the worker closed it before it was told.
    pub(super) fn has_failed_untold(&self) -> bool {
        matches!(self.own.ending, Ending::Breaks(..))
    }
}
