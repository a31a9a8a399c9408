//! A hashed wheel of deadlines, one entry per place and no work per request. No clock here: the worker says what time it is.
//!
//! A connection's deadline moves with every request; its entry does not. When the entry comes up the worker looks at the
//! deadline, and schedules the place anew if that has moved on. So a keep-alive request costs a look and nothing else. Nor
//! does an entry know whose it is: the next connection in the same place finds it there, and connections that come and go
//! leave nothing behind.

/// Milliseconds of one tick: no deadline of ours is finer than a second.
pub const TICK_MILLISECONDS: u64 = 100;

/// Slots of the wheel: one round of it is longer than the usual keep-alive time-out, so an entry is seldom seen twice.
const SLOTS: usize = 1024;

/// A point in time, in ticks since the worker started.
pub type Tick = u64;

/// When to look at each place of a worker's table of connections.
#[derive(Debug)]
pub struct Wheel {
    /// The places to be looked at, by tick. A place that was rescheduled stands in its old slot too, until that comes up.
    slots: Vec<Vec<u32>>,
    /// For each place the tick at which it comes up, or `NEVER`.
    scheduled: Vec<Tick>,
    now: Tick,
    entries: usize,
    /// INVARIANT: no slot before this tick holds an entry. Looked for again only when it has come.
    earliest: Tick,
}

const NEVER: Tick = Tick::MAX;

impl Default for Wheel {
    fn default() -> Self {
        let slots = (0..SLOTS).map(|_| Vec::new()).collect();
        Self { slots, scheduled: Vec::new(), now: 0, entries: 0, earliest: NEVER }
    }
}

impl Wheel {
    /// Has `place` come up when `at` has come, or earlier; never before the next tick.
    #[inline]
    pub fn schedule(&mut self, place: u32, at: Tick) {
        if self.scheduled.get(place as usize).is_none_or(|&scheduled| at < scheduled) {
            self.insert(place, at);
        }
    }

    #[cold]
    fn insert(&mut self, place: u32, at: Tick) {
        let (index, at) = (place as usize, at.max(self.now + 1));
        if self.scheduled.len() <= index {
            self.scheduled.resize(index + 1, NEVER);
        }
        if self.scheduled[index] == at {
            return;
        }
        self.scheduled[index] = at;
        self.slots[slot(at)].push(place);
        self.entries += 1;
        self.earliest = self.earliest.min(self.now + (at - self.now).min(SLOTS as u64));
    }

    /// Moves to `now` and appends every place that has come up.
    pub fn advance(&mut self, now: Tick, due: &mut Vec<u32>) {
        if now <= self.now {
            return;
        }
        if now < self.earliest {
            self.now = now;
            return;
        }
        // After a long sleep one round of the wheel visits every slot.
        let first = (self.now + 1).max(now.saturating_sub(SLOTS as u64 - 1));
        for tick in first..=now {
            let places = &mut self.slots[slot(tick)];
            let before = places.len();
            places.retain(|&place| {
                let scheduled = &mut self.scheduled[place as usize];
                if *scheduled > now {
                    // It stands here for a later round of the wheel, or has long been scheduled elsewhere.
                    return *scheduled != NEVER && slot(*scheduled) == slot(tick);
                }
                // Where it was scheduled earlier than this tick, it has its entry there.
                if slot(*scheduled) == slot(tick) {
                    *scheduled = NEVER;
                    due.push(place);
                }
                false
            });
            self.entries -= before - places.len();
            // What a crowd has needed is not kept: it would be there for each of all slots.
            if places.is_empty() {
                *places = Vec::new();
            }
        }
        self.now = now;
        self.earliest = match self.entries {
            0 => NEVER,
            _ => (1..=SLOTS as u64)
                .map(|ahead| now + ahead)
                .find(|&tick| !self.slots[slot(tick)].is_empty())
                .unwrap_or(NEVER),
        };
    }

    /// The tick at which a place may come up, at most one round of the wheel ahead; none when there is no entry. It may be
    /// meant for a later round of the wheel: then the look was for nothing, once a round.
    #[must_use]
    pub fn next(&self) -> Option<Tick> {
        (self.earliest != NEVER).then_some(self.earliest)
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
        /// Entries, those that have been overtaken included.
        pub(crate) fn count(&self) -> usize {
            self.entries
        }
    }

    fn due(wheel: &mut Wheel, now: Tick) -> Vec<u32> {
        let mut due = Vec::new();
        wheel.advance(now, &mut due);
        due
    }

    #[test]
    fn places_come_up_at_their_tick_and_once() {
        let mut wheel = Wheel::default();
        assert_eq!(wheel.next(), None);
        wheel.schedule(1, 5);
        wheel.schedule(2, 5 + SLOTS as u64);
        wheel.schedule(3, 0);
        assert_eq!(wheel.next(), Some(1));
        assert_eq!(due(&mut wheel, 1), [3], "a deadline in the past comes up at the next tick");
        assert_eq!(wheel.next(), Some(5));
        assert_eq!(due(&mut wheel, 4), []);
        assert_eq!(due(&mut wheel, 5), [1]);
        assert_eq!(due(&mut wheel, 1000), []);
        assert_eq!(due(&mut wheel, 5 + SLOTS as u64), [2]);
        assert_eq!(wheel.next(), None);
    }

    #[test]
    fn an_earlier_time_overtakes_and_a_later_one_does_not() {
        let mut wheel = Wheel::default();
        wheel.schedule(0, 50);
        wheel.schedule(0, 70);
        assert_eq!(wheel.count(), 1);
        wheel.schedule(0, 20);
        assert_eq!(due(&mut wheel, 20), [0]);
        assert_eq!(due(&mut wheel, 49), []);
        // In the slot of the entry that was overtaken, so that it stands there twice.
        wheel.schedule(0, 50);
        wheel.schedule(1, 50 + SLOTS as u64);
        assert_eq!(due(&mut wheel, 50), [0]);
        assert_eq!(wheel.count(), 1);
        assert_eq!(due(&mut wheel, 50 + SLOTS as u64), [1]);
        assert_eq!((wheel.count(), wheel.next()), (0, None));
    }

    #[test]
    fn a_long_sleep_misses_nothing() {
        let mut wheel = Wheel::default();
        for place in 0..3000 {
            wheel.schedule(place, u64::from(place) * 3 + 1);
            wheel.schedule(place, u64::from(place) * 3);
        }
        let mut came: Vec<u32> = due(&mut wheel, 100_000);
        came.sort_unstable();
        assert_eq!(came, (0..3000).collect::<Vec<_>>());
        assert_eq!((wheel.count(), wheel.next()), (0, None));
    }

    /// Against a plain table of times, over random schedules and random leaps.
    #[test]
    fn as_a_table_of_times_does() {
        let mut seed = 1u64;
        let mut random = move |below: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) % below
        };
        let (mut wheel, mut now) = (Wheel::default(), 0);
        let mut table = [NEVER; 20];
        for _ in 0..100_000 {
            if random(3) > 0 {
                let (place, at) = (random(20), now + random(2500));
                wheel.schedule(u32::try_from(place).expect("it is small"), at);
                let known = &mut table[usize::try_from(place).expect("it is small")];
                *known = (*known).min(at.max(now + 1));
            } else {
                let leap = if random(100) == 0 { random(5000) } else { random(40) };
                if let Some(next) = wheel.next() {
                    assert!(table.iter().all(|&at| at >= next), "{next} is not before {table:?}");
                }
                now += leap;
                let mut came = due(&mut wheel, now);
                came.sort_unstable();
                let expected: Vec<u32> = (0..20).filter(|&place| table[place as usize] <= now).collect();
                assert_eq!(came, expected);
                table.iter_mut().filter(|at| **at <= now).for_each(|at| *at = NEVER);
            }
            assert!(wheel.count() < 2000, "{}", wheel.count());
        }
    }
}
