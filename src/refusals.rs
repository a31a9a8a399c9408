//! What one worker has refused, counted for the operator's log, and when it is to be logged. No log here: `Worker::take_refusals`
//! gives the counts to the caller, which has one.
//!
//! The first refusal is told at once, further ones together, a minute apart at least: under an attack the number is of use,
//! and not a line for each request.

use crate::timers::{TICK_MILLISECONDS, Tick};

/// From one line of the log to the next.
const TELL_AGAIN: Tick = 60_000 / TICK_MILLISECONDS;

/// One kind of refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// A request was answered with this status by the server itself, not by its handler.
    Status(u16),
    /// A WebSocket's opening handshake was answered with 501: the app may want it, and nothing here speaks it.
    WebSocket,
    /// A connection was reset, as its peer took nothing of its answer for `limits.write_timeout`.
    NotTaken,
    /// Accepting stopped, as there were `limits.connections_max` connections. They wait in the kernel.
    ConnectionsMax,
    /// Accepting stalled, as the process or the system had no descriptor or no memory left.
    NoDescriptor,
}

/// Counts of one worker.
#[derive(Debug, Default)]
pub struct Refusals {
    /// Few kinds, so a list is enough; it holds no memory before the first.
    counts: Vec<(Refusal, u64)>,
    /// None: nothing has to be told.
    tell_at: Option<Tick>,
    told_at: Option<Tick>,
}

impl Refusals {
    /// Counts so many more.
    #[cold]
    pub fn count(&mut self, refusal: Refusal, times: u64, now: Tick) {
        match self.counts.iter_mut().find(|(known, _)| *known == refusal) {
            Some((_, count)) => *count += times,
            None => self.counts.push((refusal, times)),
        }
        let told_at = self.told_at;
        self.tell_at.get_or_insert_with(|| told_at.map_or(now, |at| now.max(at + TELL_AGAIN)));
    }

    /// When [`Self::is_due`] says so next, if nothing happens before.
    #[must_use]
    pub const fn tell_at(&self) -> Option<Tick> {
        self.tell_at
    }

    /// Whether there is something to tell; says so once.
    #[inline]
    pub fn is_due(&mut self, now: Tick) -> bool {
        let is_due = self.tell_at.is_some_and(|at| at <= now);
        if is_due {
            self.tell_at = None;
            self.told_at = Some(now);
        }
        is_due
    }

    /// What was counted since the last time.
    pub fn take(&mut self) -> Vec<(Refusal, u64)> {
        std::mem::take(&mut self.counts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_at_once_and_the_rest_a_minute_later() {
        let mut refusals = Refusals::default();
        assert!(!refusals.is_due(0));
        refusals.count(Refusal::Status(413), 1, 7);
        assert!(refusals.is_due(7) && !refusals.is_due(8));
        assert_eq!(refusals.take(), [(Refusal::Status(413), 1)]);
        for now in 8..100 {
            refusals.count(Refusal::Status(503), 2, now);
            refusals.count(Refusal::ConnectionsMax, 1, now);
        }
        assert_eq!(refusals.tell_at(), Some(607));
        assert!(!refusals.is_due(606) && refusals.is_due(607) && !refusals.is_due(9999));
        assert_eq!(refusals.take(), [(Refusal::Status(503), 184), (Refusal::ConnectionsMax, 92)]);
        // After a quiet time at once again.
        refusals.count(Refusal::NotTaken, 1, 5000);
        assert!(refusals.is_due(5000));
    }
}
