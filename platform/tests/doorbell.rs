//! The doorbell under loom: every order of two threads' reads and writes that the memory model allows.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "../src/doorbell.rs"]
mod doorbell;

/// What the file above is made of here.
mod atomics {
    pub(crate) use loom::sync::atomic::{AtomicBool, Ordering, fence};
}

use std::sync::atomic::Ordering::Relaxed;

use doorbell::Doorbell;
use loom::sync::atomic::AtomicUsize;
use loom::sync::{Arc, Condvar, Mutex};
use loom::thread;
pub use turboapi_platform::Wake;

/// A platform that can only sleep.
#[derive(Clone)]
struct Bed(Arc<(Mutex<bool>, Condvar)>);

impl Bed {
    fn new() -> Self {
        Self(Arc::new((Mutex::new(false), Condvar::new())))
    }

    fn sleep(&self) {
        let (is_woken, condition) = &*self.0;
        let mut is_woken = is_woken.lock().unwrap();
        while !*is_woken {
            is_woken = condition.wait(is_woken).unwrap();
        }
        *is_woken = false;
    }
}

impl Wake for Bed {
    fn wake(&self) {
        *self.0.0.lock().unwrap() = true;
        self.0.1.notify_one();
    }
}

/// A worker sleeps until all that others announce has come. A lost ring is a sleep without end, which loom calls a deadlock.
/// `switches_max`: of threads before each is due to, as all orders of three threads are too many.
fn check(ringers_count: usize, switches_max: Option<usize>) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = switches_max;
    model.check(move || {
        let bed = Bed::new();
        let bell = Arc::new(Doorbell::new(bed.clone()));
        let queue = Arc::new(AtomicUsize::new(0));
        let ringers: Vec<_> = (0..ringers_count)
            .map(|_| {
                let (bell, queue) = (Arc::clone(&bell), Arc::clone(&queue));
                thread::spawn(move || {
                    queue.fetch_add(1, Relaxed);
                    bell.ring();
                })
            })
            .collect();
        let mut seen = 0;
        while seen < ringers_count {
            if bell.sleep() {
                bed.sleep();
            }
            bell.rise();
            if bell.answer() {
                seen = queue.load(Relaxed);
            }
        }
        for ringer in ringers {
            ringer.join().unwrap();
        }
    });
}

#[test]
fn a_ring_is_never_lost() {
    check(1, None);
}

#[test]
fn two_rings_are_never_lost() {
    check(2, Some(3));
}
