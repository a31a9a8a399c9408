//! Where a `def` is called, by its standing: on the worker's own thread, or in one of its pool's.

use std::sync::Arc;
use std::time::{Duration, Instant};

use pyo3::prelude::*;
use turboapi_core::standing::{Seen, Standing};
use turboapi_platform::thread_time::ThreadTime;

use crate::error::out_of_coroutine;
use crate::hooks::Hooks;
use crate::interpreter::{EnteredContext, copy_context};
use crate::job::{Job, Returns, Waiter, seen_since, seen_to_need_thread};
use crate::subject::{Deferred, Subject};

/// One worker's.
pub struct Calls {
    /// Python's part.
    pub hooks: Arc<Hooks>,
    /// Where the calls in threads come back to.
    pub returns: Arc<Returns>,
    /// A function that computes longer is one for the threads.
    pub inline_budget: Duration,
}

impl Calls {
    /// Makes a call here and now, in a context of its own. `clock`: since when. No loop may seem to run.
    pub fn inline<'py>(
        &self,
        py: Python<'py>,
        subject: &Subject,
        clock: Instant,
        call: impl FnOnce() -> PyResult<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let within = || {
            let _entered = EnteredContext::enter(copy_context(py)?)?;
            call()
        };
        self.here(py, &subject.standing, clock, || subject.label.clone(), within)
    }

    /// Makes a call here and now, by which its function may lose the worker's own thread. `label` is for the log.
    ///
    /// # Errors
    /// What it raises, as it comes from a thread.
    pub fn here<T>(
        &self,
        py: Python<'_>,
        standing: &Standing,
        clock: Instant,
        label: impl FnOnce() -> String,
        call: impl FnOnce() -> PyResult<T>,
    ) -> PyResult<T> {
        // PERF: what the kernel knows costs 0.8 µs a call, so it is asked only of functions that were not always quick.
        let begin = standing.is_looked_at().then(ThreadTime::now);
        let (result, needs_thread) = seen_to_need_thread(call);
        if needs_thread && standing.note_needs_thread() {
            self.hooks.tell_needs_thread(py, &label());
        } else if let Some(begin) = begin {
            let seen = seen_since(begin, clock);
            if standing.note_on_worker(&seen, self.inline_budget) {
                self.hooks.tell_moved(py, &label(), &seen);
            }
        } else {
            standing.note_quick(clock.elapsed());
        }
        result.map_err(|error| out_of_coroutine(py, error))
    }

    /// Has a thread make the call, in a copy of the present context.
    pub fn in_thread<'py>(&self, py: Python<'py>, call: Deferred, waiter: Waiter) -> PyResult<Bound<'py, Job>> {
        let context = copy_context(py)?.unbind();
        let pool = if call.is_limited { &self.hooks.pool } else { &self.hooks.pool_beyond };
        let job = Bound::new(py, Job::new(call, context, waiter, Arc::clone(&self.returns)))?;
        self.returns.send_out(&job, pool)?;
        Ok(job)
    }

    /// A call in a thread has come back: its function may have earned the worker's own. `label` is for the log.
    pub fn note_return(&self, py: Python<'_>, standing: &Standing, seen: &Seen, label: impl FnOnce() -> String) {
        if standing.note_in_thread(seen, self.inline_budget) {
            self.hooks.tell_earned(py, &label());
        }
    }
}
