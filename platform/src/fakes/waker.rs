//! How a fake is woken: it never waits, so its next turn says so.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::Wake;

/// Wakes a fake.
#[derive(Clone, Debug, Default)]
pub struct FakeWaker(Arc<AtomicBool>);

impl FakeWaker {
    /// Whether somebody has woken since the last call of this.
    pub(super) fn take(&self) -> bool {
        self.0.swap(false, Ordering::AcqRel)
    }
}

impl Wake for FakeWaker {
    fn wake(&self) {
        self.0.store(true, Ordering::Release);
    }
}
