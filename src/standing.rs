//! Where a function runs: in a thread of the pool, or on the worker's own. It begins in threads and earns the worker's by calls
//! that neither waited nor took long; there it loses it again when it waits.
//!
//! A function that waits must not hold the worker, however short the wait is: nobody else is served meanwhile, and what it waits
//! for may be something that this worker has to do. One that computes costs its time wherever it runs, and a thread comes on top.
//! Not here: threads, and what measures (`python/src/job.rs`, the platform's `thread_time`).

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Calls in a row, in threads, that neither waited nor took long, before the first try on the worker's own thread.
const CLEAN_MIN: u32 = 32;

/// The same after it was lost again and again: each time twice as many. And at once of a function that was seen to call into its
/// worker's loop, which it may do seldom.
const CLEAN_MAX: u32 = 1 << 16;

/// More than are counted: one that was seen to need a thread is not tried again.
const NEVER: u32 = u32::MAX;

/// Time off the processor that is no wait: a page fault, a lock that was free at the second look.
const UNNOTICED: Duration = Duration::from_micros(50);

/// What each call on the worker's own thread may wait on average: about what a call in a thread costs more.
const WAIT_PER_CALL: Duration = Duration::from_micros(50);

/// Waiting beyond that by which the worker's thread is lost. One wait of this length is enough.
const DEBT_MAX: Duration = Duration::from_millis(4);

/// Calls on the worker's thread that took longer are looked at closely from then on, for so many calls.
const LOOKS: u32 = 256;

/// See [`LOOKS`].
const QUICK: Duration = Duration::from_micros(100);

/// One call, as it was measured.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    /// From its begin to its end.
    pub wall: Duration,
    /// On the processor.
    pub computing: Duration,
    /// Whether the thread went to sleep in it. None where nothing tells: then any time off the processor counts.
    pub has_slept: Option<bool>,
    /// Whether it has called into its own worker's loop, from a thread. It may have waited for that, however shortly, and on the
    /// worker's own it would fail or wait for ever.
    pub has_called: bool,
}

impl Seen {
    /// Time off the processor by its own doing, not because others were given it.
    #[must_use]
    pub fn waited(&self) -> Duration {
        let off = self.wall.saturating_sub(self.computing);
        if self.has_slept == Some(false) || off < UNNOTICED { Duration::ZERO } else { off }
    }
}

/// Of one function, for one worker, which alone writes to it.
#[derive(Debug)]
pub struct Standing {
    is_on_worker: AtomicBool,
    is_decided: bool,
    /// Calls on the worker's thread that are still to be looked at closely.
    looks: AtomicU32,
    record: Mutex<Record>,
}

#[derive(Debug)]
struct Record {
    /// In a row, in threads.
    clean: u32,
    clean_needed: u32,
    /// On the worker's thread: waited in excess.
    debt: Duration,
    /// The same for calls that took longer than they may: eight for each, one less for each other.
    slow: u32,
}

impl Standing {
    /// At the start. `blocking`: what the app has decided, for good; None leaves it to its calls.
    #[must_use]
    pub fn new(blocking: Option<bool>) -> Self {
        Self {
            is_on_worker: AtomicBool::new(blocking == Some(false)),
            is_decided: blocking.is_some(),
            looks: AtomicU32::new(0),
            record: Mutex::new(Record { clean: 0, clean_needed: CLEAN_MIN, debt: Duration::ZERO, slow: 0 }),
        }
    }

    /// Whether the next call is one for the worker's own thread.
    pub fn is_on_worker(&self) -> bool {
        self.is_on_worker.load(Ordering::Relaxed)
    }

    /// Whether its calls can change that.
    pub fn is_decided(&self) -> bool {
        self.is_decided
    }

    /// Whether the next call on the worker's thread is to be measured in full, not only by the clock.
    pub fn is_looked_at(&self) -> bool {
        self.looks.load(Ordering::Relaxed) > 0
    }

    /// A call in a thread has ended. True: with it the function has earned the worker's own.
    pub fn note_in_thread(&self, seen: &Seen, budget: Duration) -> bool {
        if self.is_decided || self.is_on_worker() {
            return false;
        }
        let mut record = self.record();
        let is_clean = seen.waited().is_zero() && seen.computing <= budget && !seen.has_called;
        record.clean = if is_clean { (record.clean + 1).min(CLEAN_MAX) } else { 0 };
        if seen.has_called {
            record.clean_needed = record.clean_needed.max(CLEAN_MAX);
        }
        if record.clean < record.clean_needed {
            return false;
        }
        (record.debt, record.slow) = (Duration::ZERO, 0);
        // The first calls there are looked at: under load it may have seemed cleaner than it is.
        self.looks.store(LOOKS, Ordering::Relaxed);
        self.is_on_worker.store(true, Ordering::Relaxed);
        true
    }

    /// A call on the worker's thread has ended that was not looked at closely, and took `wall`.
    #[inline]
    pub fn note_quick(&self, wall: Duration) {
        if wall > QUICK && !self.is_decided {
            self.looks.store(LOOKS, Ordering::Relaxed);
        }
    }

    /// A call on the worker's thread has ended that was looked at. True: with it the function has lost the worker's thread.
    pub fn note_on_worker(&self, seen: &Seen, budget: Duration) -> bool {
        if self.is_decided || !self.is_on_worker() {
            return false;
        }
        let looks = if seen.wall > QUICK { LOOKS } else { self.looks.load(Ordering::Relaxed).saturating_sub(1) };
        self.looks.store(looks, Ordering::Relaxed);
        let mut record = self.record();
        record.debt = (record.debt + seen.waited()).saturating_sub(WAIT_PER_CALL);
        record.slow = if seen.computing > budget { record.slow + 8 } else { record.slow.saturating_sub(1) };
        // Two long ones with few others between them: a first call that builds something is no reason to make all others dearer.
        let is_lost = record.debt >= DEBT_MAX || record.slow > 8;
        if is_lost {
            (record.clean, record.clean_needed) = (0, (record.clean_needed * 2).min(CLEAN_MAX));
            self.is_on_worker.store(false, Ordering::Relaxed);
        }
        is_lost
    }

    /// A call on the worker's thread has asked for what there is only in others, and did not get it. True: with it the function has lost
    /// the worker's thread, for good.
    pub fn note_needs_thread(&self) -> bool {
        if self.is_decided || !self.is_on_worker() {
            return false;
        }
        let mut record = self.record();
        (record.clean, record.clean_needed) = (0, NEVER);
        self.is_on_worker.store(false, Ordering::Relaxed);
        true
    }

    fn record(&self) -> std::sync::MutexGuard<'_, Record> {
        // One thread writes, and nothing panics meanwhile: it is never waited for, and what a poisoned one holds is whole.
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUDGET: Duration = Duration::from_millis(2);

    fn seen(wall_us: u64, computing_us: u64) -> Seen {
        Seen {
            wall: Duration::from_micros(wall_us),
            computing: Duration::from_micros(computing_us),
            has_slept: Some(wall_us > computing_us),
            has_called: false,
        }
    }

    /// Calls in threads until the worker's is earned; None if so many do not.
    fn calls_to_earn(standing: &Standing, calls: &[Seen], calls_max: u32) -> Option<u32> {
        (1..=calls_max)
            .zip(calls.iter().cycle())
            .find(|(_, call)| standing.note_in_thread(call, BUDGET))
            .map(|(count, _)| count)
    }

    /// Calls on the worker's thread until it is lost.
    fn calls_to_lose(standing: &Standing, calls: &[Seen], calls_max: u32) -> Option<u32> {
        (1..=calls_max)
            .zip(calls.iter().cycle())
            .find(|(_, call)| standing.note_on_worker(call, BUDGET))
            .map(|(count, _)| count)
    }

    #[test]
    fn earned_by_calls_that_neither_wait_nor_take_long() {
        let preempted = Seen { has_slept: Some(false), ..seen(900, 10) };
        let unknown = Seen { has_slept: None, ..seen(30, 10) };
        for (calls, expected) in [
            (vec![seen(10, 10)], Some(32)),
            (vec![seen(1900, 1900)], Some(32)),
            (vec![preempted], Some(32)),
            (vec![unknown], Some(32)),
            (vec![seen(60, 20)], Some(32)), // off the processor, but hardly
            (vec![seen(200, 20)], None),
            (vec![Seen { has_slept: None, ..seen(200, 20) }], None),
            (vec![Seen { has_called: true, ..seen(20, 20) }], None),
            (vec![seen(2100, 2100)], None),
            ([[seen(10, 10)].repeat(31), vec![seen(4000, 20)]].concat(), None), // a cache in front of a query
            ([vec![Seen { has_called: true, ..seen(20, 20) }], [seen(10, 10)].repeat(900)].concat(), None), // a rare branch
        ] {
            assert_eq!(calls_to_earn(&Standing::new(None), &calls, 1000), expected, "{:?}", calls.last());
        }
    }

    #[test]
    fn lost_by_waiting_more_than_a_thread_would_cost() {
        for (calls, expected) in [
            (vec![seen(10, 10)], None),
            (vec![seen(1900, 1900)], None),
            (vec![seen(10_000, 10)], Some(1)),
            (vec![seen(3000, 200)], Some(2)),
            (vec![seen(300, 50)], Some(20)),
            (vec![seen(90, 50)], None),
            (vec![Seen { has_slept: Some(false), ..seen(3000, 200) }], None), // others had the processor
            (vec![seen(2500, 2500)], Some(2)),
            ([[seen(10, 10)].repeat(100), vec![seen(3000, 10)]].concat(), None), // seldom
            ([[seen(10, 10)].repeat(9), vec![seen(3000, 10)]].concat(), Some(20)),
        ] {
            let standing = Standing::new(None);
            assert_eq!(calls_to_earn(&standing, &[seen(10, 10)], 100), Some(32));
            assert!(standing.is_on_worker() && standing.is_looked_at());
            assert_eq!(calls_to_lose(&standing, &calls, 10_000), expected, "{:?}", calls.last());
            assert_eq!(standing.is_on_worker(), expected.is_none());
        }
    }

    /// What waits now and then does not go to and fro: each time it takes twice as many calls to come back.
    #[test]
    fn lost_again_and_again_it_is_earned_more_slowly() {
        let standing = Standing::new(None);
        for expected in [32, 64, 128, 256, 512] {
            assert_eq!(calls_to_earn(&standing, &[seen(10, 10)], 100_000), Some(expected));
            assert_eq!(calls_to_lose(&standing, &[seen(10_000, 10)], 1), Some(1));
        }
        for _ in 0..20 {
            assert!(calls_to_earn(&standing, &[seen(10, 10)], CLEAN_MAX).is_some());
            assert_eq!(calls_to_lose(&standing, &[seen(10_000, 10)], 1), Some(1));
        }
    }

    /// On the worker's thread it cannot work, and how seldom it is asked for cannot be known.
    #[test]
    fn what_needs_a_thread_is_not_tried_again() {
        let standing = Standing::new(None);
        assert!(!standing.note_needs_thread());
        assert_eq!(calls_to_earn(&standing, &[seen(10, 10)], 100), Some(32));
        assert!(standing.note_needs_thread() && !standing.is_on_worker());
        assert_eq!(calls_to_earn(&standing, &[Seen { has_called: true, ..seen(10, 10) }], 10), None);
        assert_eq!(calls_to_earn(&standing, &[seen(10, 10)], 2 * CLEAN_MAX), None);
        let decided = Standing::new(Some(false));
        assert!(!decided.note_needs_thread() && decided.is_on_worker());
    }

    #[test]
    fn quick_calls_are_not_looked_at_after_a_while() {
        let standing = Standing::new(None);
        calls_to_earn(&standing, &[seen(10, 10)], 32);
        assert_eq!(calls_to_lose(&standing, &[seen(10, 10)], LOOKS), None);
        assert!(!standing.is_looked_at());
        standing.note_quick(Duration::from_micros(20));
        assert!(!standing.is_looked_at());
        standing.note_quick(Duration::from_micros(200));
        assert!(standing.is_looked_at());
    }

    #[test]
    fn what_the_app_decided_stays() {
        for (blocking, is_on_worker) in [(Some(true), false), (Some(false), true)] {
            let standing = Standing::new(blocking);
            assert_eq!(calls_to_earn(&standing, &[seen(10, 10)], 1000), None);
            assert_eq!(calls_to_lose(&standing, &[seen(10_000, 10)], 1000), None);
            standing.note_quick(Duration::from_secs(1));
            assert!(standing.is_decided() && !standing.is_looked_at());
            assert_eq!(standing.is_on_worker(), is_on_worker);
        }
    }
}
