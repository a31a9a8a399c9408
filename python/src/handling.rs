//! What one worker's handler has: Python's part, what was begun and not ended, memory that is used again.
//! Not here: what it does with a request (`handler.rs`).

use std::sync::Arc;
use std::time::{Duration, Instant};

use pyo3::prelude::*;
use turboapi_core::handler::Ended;
use turboapi_core::request::RequestId;

use crate::calls::Calls;
use crate::coroutine::Outstanding;
use crate::event_loop::AsyncioLoop;
use crate::hooks::Hooks;
use crate::interpreter::Arguments;
use crate::job::Returns;
use crate::layers::{Around, Layers};
use crate::notices::{Notice, Notices};
use crate::reply::ResponseTypes;
use crate::table::Route;
use crate::task::TaskTypes;
use crate::watchdog::Publisher;

/// Calls Python for one worker's requests.
pub struct PythonHandler {
    /// By `RouteId`.
    pub routes: Vec<Route>,
    /// The app's middleware that runs here; none: the app has none, or none of its routes is native because of it.
    pub layers: Option<Arc<Layers>>,
    /// What the answer to the request that is being dealt with has to go out through.
    pub around: Option<Around>,
    /// Python's part.
    pub hooks: Arc<Hooks>,
    /// What Python has begun and not ended.
    pub outstanding: Arc<Outstanding>,
    /// Starlette's classes.
    pub types: Arc<ResponseTypes>,
    /// The same, of background tasks.
    pub task_types: TaskTypes,
    /// The worker's loop.
    pub asyncio: AsyncioLoop,
    /// Calls of functions, on this thread and others.
    pub calls: Arc<Calls>,
    /// Requests that Python may have begun and not ended, with those whose peer has gone.
    pub open_max: usize,
    /// Tells the watchdog what runs.
    pub publisher: Publisher,
    /// Requests that were refused because of it, and not yet counted by the worker.
    pub overloads_count: u64,
    /// When the last call of Python began, if the last request came to one.
    pub called_at: Option<Instant>,
    /// What exchanges have to be told when the connections have been dealt with.
    pub notices: Notices,
    /// Of the call that is about to be made.
    pub arguments: Arguments,
    /// JSON of the answer that is being made.
    pub scratch: Vec<u8>,
}

impl PythonHandler {
    /// Everything at its start.
    pub fn new(
        hooks: Arc<Hooks>,
        (types, task_types): (ResponseTypes, TaskTypes),
        asyncio: AsyncioLoop,
        returns: Arc<Returns>,
        inline_budget: Duration,
    ) -> Self {
        let calls = Calls { hooks: Arc::clone(&hooks), returns, inline_budget };
        Self {
            routes: Vec::new(),
            layers: None,
            around: None,
            hooks,
            outstanding: Arc::default(),
            types: Arc::new(types),
            task_types,
            asyncio,
            calls: Arc::new(calls),
            open_max: usize::MAX,
            publisher: Publisher::default(),
            overloads_count: 0,
            called_at: None,
            notices: Notices::default(),
            arguments: Arguments::default(),
            scratch: Vec::new(),
        }
    }

    /// Gives the plans' parts what they call by.
    pub fn bind_parts(&self) {
        for part in self.routes.iter().flat_map(|route| &route.parts) {
            part.get().bind(&self.calls, &self.asyncio.running());
        }
    }

    /// Tells exchanges what has happened to their connections. Runs Python.
    pub fn deliver(&mut self, py: Python<'_>) {
        self.notices.deliver(py, &mut self.asyncio, &self.outstanding);
    }

    /// Answers by what threads have brought back. Runs Python.
    pub fn take_returns(&mut self, py: Python<'_>) {
        if !self.calls.returns.awaits_any() {
            return;
        }
        let jobs = self.calls.returns.take();
        if jobs.is_empty() {
            return;
        }
        // First the next ones, so that threads have something to do meanwhile.
        let limited_count = jobs.iter().filter(|job| job.get().is_limited()).count();
        let counts = (limited_count, jobs.len() - limited_count);
        let told = self.asyncio.show(py).and_then(|()| self.hooks.returned.bind(py).call1(counts));
        if let Err(error) = told {
            error.write_unraisable(py, None);
        }
        for job in &jobs {
            let job = job.get();
            let subject = job.subject();
            if let Some(seen) = job.seen() {
                self.calls.note_return(py, &subject.standing, &seen, || subject.label.clone());
            }
            if let Err(error) = job.finish(py) {
                error.write_unraisable(py, None);
            }
        }
    }

    /// From here on Python may take long.
    pub fn start_clock(&mut self) -> Instant {
        *self.called_at.insert(Instant::now())
    }

    /// The peer of an answer has gone: what makes the answer need not go on.
    pub fn notice_gone(&mut self, id: RequestId) {
        self.notices.push(id, Notice::Ended(Ended::Gone));
    }

    /// An answer did not keep to what it had promised, and its connection was cut.
    pub fn report(&mut self, py: Python<'_>, id: RequestId, problem: &str) {
        if let Err(error) = self.hooks.broken.bind(py).call1((problem,)) {
            error.write_unraisable(py, None);
        }
        self.notice_gone(id);
    }
}
