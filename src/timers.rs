//! A hashed wheel of deadlines, one entry per connection and no work per request. No clock here: the worker says what time it is.
//!
//! A connection's deadline moves with every request; its entry does not. When the entry comes up the worker looks at the
//! deadline, and puts a new entry in if that has moved on. So a keep-alive request costs a store and nothing else.

use turboapi_platform::ConnectionId;

/// Milliseconds of one tick: no deadline of ours is finer than a second.
pub const TICK_MILLISECONDS: u64 = 100;

/// Slots of the wheel: one turn of it is longer than the usual keep-alive time-out, so an entry is seldom seen twice.
const SLOTS: usize = 1024;

/// A point in time, in ticks since the worker started.
pub type Tick = u64;

/// Deadlines of one worker's connections.
#[derive(Debug)]
pub struct Wheel {
    slots: Vec<Vec<(Tick, ConnectionId)>>,
    now: Tick,
    entries: usize,
    /// INVARIANT: no slot before this tick holds an entry. Looked for again only when it has come.
    earliest: Tick,
}

impl Default for Wheel {
    fn default() -> Self {
        Self { slots: (0..SLOTS).map(|_| Vec::new()).collect(), now: 0, entries: 0, earliest: Tick::MAX }
    }
}

impl Wheel {
    /// Remembers that `connection` has to be looked at when `at` has come; never before the next tick. Returns when that is.
    pub fn insert(&mut self, connection: ConnectionId, at: Tick) -> Tick {
        let at = at.max(self.now + 1);
        self.slots[slot(at)].push((at, connection));
        self.entries += 1;
        self.earliest = self.earliest.min(self.now + (at - self.now).min(SLOTS as u64));
        at
    }

    /// Moves to `now` and appends every entry that has come up: when it was meant for, and for whom.
    pub fn advance(&mut self, now: Tick, due: &mut Vec<(Tick, ConnectionId)>) {
        if now <= self.now {
            return;
        }
        if now < self.earliest {
            self.now = now;
            return;
        }
        // After a long sleep one turn of the wheel visits every slot.
        let first = (self.now + 1).max(now.saturating_sub(SLOTS as u64 - 1));
        for tick in first..=now {
            let entries = &mut self.slots[slot(tick)];
            let before = entries.len();
            entries.retain(|&(at, connection)| {
                let is_due = at <= now;
                if is_due {
                    due.push((at, connection));
                }
                !is_due
            });
            self.entries -= before - entries.len();
            if entries.is_empty() && entries.capacity() > 64 {
                *entries = Vec::new();
            }
        }
        self.now = now;
        self.earliest = match self.entries {
            0 => Tick::MAX,
            _ => (1..=SLOTS as u64)
                .map(|ahead| now + ahead)
                .find(|&tick| !self.slots[slot(tick)].is_empty())
                .unwrap_or(Tick::MAX),
        };
    }

    /// The tick at which an entry may come up, at most one turn of the wheel ahead; none when there is no entry. It may be
    /// meant for a later turn of the wheel: then the look was for nothing, once a turn.
    #[must_use]
    pub fn next(&self) -> Option<Tick> {
        (self.earliest != Tick::MAX).then_some(self.earliest)
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the remainder is below SLOTS")]
const fn slot(tick: Tick) -> usize {
    (tick % SLOTS as u64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Wheel {
        /// How many connections have to be looked at some time.
        pub(crate) fn count(&self) -> usize {
            self.entries
        }
    }

    fn due(wheel: &mut Wheel, now: Tick) -> Vec<(Tick, u32)> {
        let mut due = Vec::new();
        wheel.advance(now, &mut due);
        due.iter().map(|(at, connection)| (*at, connection.slot())).collect()
    }

    #[test]
    fn entries_come_up_at_their_tick_and_once() {
        let mut wheel = Wheel::default();
        assert_eq!(wheel.next(), None);
        wheel.insert(ConnectionId::new(1, 0), 5);
        wheel.insert(ConnectionId::new(2, 0), 5 + SLOTS as u64);
        wheel.insert(ConnectionId::new(3, 0), 0);
        assert_eq!(wheel.next(), Some(1));
        assert_eq!(due(&mut wheel, 1), [(1, 3)], "a deadline in the past comes up at the next tick");
        assert_eq!(wheel.next(), Some(5));
        assert_eq!(due(&mut wheel, 4), []);
        assert_eq!(due(&mut wheel, 5), [(5, 1)]);
        assert_eq!(due(&mut wheel, 1000), []);
        assert_eq!(due(&mut wheel, 5 + SLOTS as u64), [(5 + SLOTS as u64, 2)]);
        assert_eq!(wheel.next(), None);
    }

    #[test]
    fn a_long_sleep_misses_nothing() {
        let mut wheel = Wheel::default();
        for n in 0..3000 {
            wheel.insert(ConnectionId::new(n, 0), u64::from(n) * 3 + 1);
        }
        assert_eq!(due(&mut wheel, 100_000).len(), 3000);
        assert_eq!(wheel.next(), None);
    }
}
