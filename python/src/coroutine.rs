//! What suspends: the worker's asyncio loop as its requests need it, and the answer to a request whose function ends later.
//!
//! The loop runs `serve.rs` as its selector's `select`. So a handler is called inside the loop, and everything that asyncio
//! offers works in it; the loop itself turns only when a coroutine has really suspended.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use turboapi_core::handler::{Ended, Part};

use crate::asgi::{Exchange, Later, Ticket};
use crate::handler::Hooks;
use crate::plan::Plan;
use crate::request::Retained;
use crate::response::{self, Rendered, ResponseTypes};

/// As `TASK_NAME` of `turboapi/asgi.py`.
const TASK_NAME: &str = "turboapi-request";

/// The loop of one worker.
pub struct AsyncioLoop {
    event_loop: Py<PyAny>,
    /// `asyncio.events._set_running_loop`
    set_running: Py<PyAny>,
    /// `asyncio.Task`
    task: Py<PyAny>,
    task_options: Py<PyDict>,
    /// The loop's own queue of callbacks. Private, and so called since Python 3.4.
    ready: Py<PyAny>,
    /// The loop's own heap of timers. The same.
    scheduled: Py<PyAny>,
    scheduled_count: usize,
    /// Whether anything ran since the mark that may have given the loop work.
    is_touched: bool,
    is_hidden: bool,
}

impl AsyncioLoop {
    /// For a loop that this thread runs.
    pub fn new(event_loop: &Bound<'_, PyAny>) -> PyResult<Self> {
        let py = event_loop.py();
        let asyncio = py.import("asyncio")?;
        let options = PyDict::new(py);
        options.set_item("loop", event_loop)?;
        options.set_item("eager_start", true)?;
        // A name of its own would be counted up by all workers at one place. By this one `turboapi/serving/worker.py` finds requests at its end.
        options.set_item("name", TASK_NAME)?;
        Ok(Self {
            set_running: asyncio.getattr("events")?.getattr("_set_running_loop")?.unbind(),
            task: asyncio.getattr("Task")?.unbind(),
            task_options: options.unbind(),
            ready: event_loop.getattr("_ready")?.unbind(),
            scheduled: event_loop.getattr("_scheduled")?.unbind(),
            scheduled_count: 0,
            is_touched: false,
            is_hidden: false,
            event_loop: event_loop.clone().unbind(),
        })
    }

    /// From here on no loop runs, as far as a function can see: `asyncio.run` works in it, and guards against blocking a
    /// loop let it pass.
    pub fn hide(&mut self, py: Python<'_>) -> PyResult<()> {
        if !self.is_hidden {
            self.set_running.bind(py).call1((py.None(),))?;
            self.is_hidden = true;
        }
        Ok(())
    }

    /// From here on the loop runs again.
    pub fn show(&mut self, py: Python<'_>) -> PyResult<()> {
        self.is_touched = true;
        if self.is_hidden {
            self.set_running.bind(py).call1((self.event_loop.bind(py),))?;
            self.is_hidden = false;
        }
        Ok(())
    }

    /// Runs a coroutine to its first suspension, as a task.
    pub fn start_task<'py>(&self, coroutine: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let py = coroutine.py();
        self.task.bind(py).call((coroutine,), Some(self.task_options.bind(py)))
    }

    /// Remembers how many timers there are.
    pub fn mark(&mut self, py: Python<'_>) -> PyResult<()> {
        self.scheduled_count = self.scheduled.bind(py).len()?;
        self.is_touched = false;
        Ok(())
    }

    /// Whether the loop has something to do at once, or other timers than at the mark.
    pub fn has_work(&self, py: Python<'_>) -> PyResult<bool> {
        Ok(self.is_touched
            && (self.ready.bind(py).len()? > 0 || self.scheduled.bind(py).len()? != self.scheduled_count))
    }
}

/// Called by asyncio when a request's task or future is done: answers the request.
///
/// It has no Python object of its own, only parts of the worker, which many share, so there is nothing for a collector to
/// visit. It gives them back when it was called, or when the worker ends (`Later::close`).
#[pyclass(frozen, module = "turboapi._core")]
pub struct Completion {
    call: Mutex<Option<Call>>,
}

/// What is needed to answer.
pub struct Call {
    /// The route's.
    pub plan: Arc<Plan>,
    /// The worker's.
    pub types: Arc<ResponseTypes>,
    /// The worker's.
    pub hooks: Arc<Hooks>,
    /// The worker's.
    pub later: Arc<Later>,
    /// Counts this call.
    pub ticket: Ticket,
    /// What was asked for.
    pub request: Retained,
    /// What its peer has done meanwhile.
    pub ended: Option<Ended>,
}

impl Completion {
    /// For one call.
    pub fn new(call: Call) -> Self {
        Self { call: Mutex::new(Some(call)) }
    }

    /// Nobody waits for the answer any more.
    pub fn close(&self) {
        drop(self.take());
    }

    /// The peer has ended its side, or gone.
    pub fn note_end(&self, how: Ended) {
        if let Some(call) = &mut *self.call.lock().unwrap_or_else(PoisonError::into_inner) {
            call.ended = Some(how);
        }
    }

    fn take(&self) -> Option<Call> {
        self.call.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Call {
    fn answer(self, future: &Bound<'_, PyAny>) -> PyResult<()> {
        let Self { plan, types, hooks, later, ticket, request, ended } = self;
        let py = future.py();
        drop(ticket);
        drop(later.resume(request.id));
        let mut body = Vec::new();
        let result = future.call_method0(intern!(py, "result"));
        let rendered = result.and_then(|value| response::render(&plan, &types, &value, &mut body));
        let rendered = rendered.or_else(|error| response::from_exception(&types, &hooks, py, error));
        let part = match rendered {
            Ok(Rendered::Json { status }) => Part::Json { status, body: Bytes::from(body) },
            Ok(Rendered::Whole { status, headers, body }) => Part::Whole { status, headers, body },
            Ok(Rendered::Object(object)) => {
                return Exchange::begin(py, request, &later, &hooks.respond, Some(object), ended);
            }
            Err(error) => {
                let exception = error.into_value(py).into_any();
                return Exchange::begin(py, request, &later, &hooks.raised, Some(exception), ended);
            }
        };
        later.push(request.id, part);
        Ok(())
    }
}

#[pymethods]
impl Completion {
    fn __call__(&self, future: &Bound<'_, PyAny>) {
        // A future calls back once, and not at all that counts when the worker has ended.
        let Some(call) = self.take() else {
            return;
        };
        let (id, later) = (call.request.id, Arc::clone(&call.later));
        if let Err(error) = call.answer(future) {
            // Our own Python failed, not the app's, whose errors the hooks log.
            error.write_unraisable(future.py(), None);
            later.push(id, Part::Failed);
        }
    }
}
