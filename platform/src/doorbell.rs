//! Wakes a worker from other threads, and costs them a system call only if it sleeps.
//!
//! What is announced stands in queues that are not here. INVARIANT: it is in its queue before [`Doorbell::ring`]; and the
//! worker looks at all queues after each [`Doorbell::answer`] that says true. A ring is then seen before a sleep or ends it.

use crate::Wake;
use crate::atomics::{AtomicBool, Ordering, fence};

/// One worker's. Others ring, the worker answers.
pub struct Doorbell {
    has_rung: AtomicBool,
    is_asleep: AtomicBool,
    wake: Box<dyn Fn() + Send + Sync>,
}

impl std::fmt::Debug for Doorbell {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Doorbell").field("is_asleep", &self.is_asleep).finish_non_exhaustive()
    }
}

impl Doorbell {
    /// Over the waker of the platform in which the worker sleeps.
    pub fn new(waker: impl Wake) -> Self {
        Self {
            has_rung: AtomicBool::new(false),
            is_asleep: AtomicBool::new(false),
            wake: Box::new(move || waker.wake()),
        }
    }

    /// There is something for the worker to look at. From any thread; never blocks.
    pub fn ring(&self) {
        // A swap, not a store: the answer to a later ring sees what was queued before this one, too.
        self.has_rung.swap(true, Ordering::Release);
        // Here and in `sleep`: of two threads that each write one flag and then read the other's, one at least sees the other's
        // write. With less than sequential consistency both may miss it, and the worker sleeps on what it was rung for.
        fence(Ordering::SeqCst);
        if self.is_asleep.load(Ordering::Relaxed) {
            (self.wake)();
        }
    }

    /// Whether it has rung since the last time.
    pub fn answer(&self) -> bool {
        // A plain look first: this is asked in each turn, and others write here seldom.
        self.has_rung.load(Ordering::Relaxed) && self.has_rung.swap(false, Ordering::Acquire)
    }

    /// True: the worker may sleep, and from here on a ring wakes it. To be ended by [`Self::rise`] in either case.
    #[must_use]
    pub fn sleep(&self) -> bool {
        self.is_asleep.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        !self.has_rung.load(Ordering::Relaxed)
    }

    /// The worker is awake.
    pub fn rise(&self) {
        self.is_asleep.store(false, Ordering::Relaxed);
    }
}
