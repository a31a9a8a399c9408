//! The worker's asyncio loop as its requests need it: shown and hidden, given tasks, asked whether it has work.
//!
//! The loop runs `serve.rs` as its selector's `select`. So a handler is called inside the loop, and everything that asyncio
//! offers works in it; the loop itself turns only when a coroutine has really suspended, or a thread has called into it.

use std::sync::Arc;
use std::time::Duration;

use pyo3::prelude::*;
use pyo3::types::PyDict;

/// As `TASK_NAME` of `turboapi/asgi.py`.
const TASK_NAME: &str = "turboapi-request";

/// Runs of the loop without a turn: from a database's answer to the task that takes the connection over it is three.
const PASSES_MAX: u32 = 4;

/// That a loop runs on this thread, and a task in it, as far as a function can see.
pub struct Running {
    event_loop: Py<PyAny>,
    /// `asyncio.events._get_running_loop`
    get_running: Py<PyAny>,
    /// `asyncio.events._set_running_loop`
    set_running: Py<PyAny>,
    /// `asyncio.tasks._swap_current_task`, since Python 3.12. Private, as the one above.
    swap_task: Py<PyAny>,
}

impl Running {
    /// Whether the caller runs in this loop: an app may have its requests answered in another thread, or in a loop of its own.
    pub fn is_here(&self, py: Python<'_>) -> PyResult<bool> {
        Ok(self.get_running.bind(py).call0()?.is(self.event_loop.bind(py)))
    }

    /// Calls within a task as if no loop ran and no task: in a `def` it is as in any thread that has none.
    pub fn without<T>(&self, py: Python<'_>, work: impl FnOnce() -> PyResult<T>) -> PyResult<T> {
        let event_loop = self.event_loop.bind(py);
        let task = self.swap_task.bind(py).call1((event_loop, py.None()))?;
        self.set(py, None)?;
        let result = work();
        self.set(py, Some(event_loop))?;
        self.swap_task.bind(py).call1((event_loop, task))?;
        result
    }

    fn set(&self, py: Python<'_>, event_loop: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        self.set_running.bind(py).call1((event_loop,)).map(|_| ())
    }

    /// The context of the task that runs; None: there is none.
    pub fn context(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        let event_loop = self.event_loop.bind(py);
        let task = self.swap_task.bind(py).call1((event_loop, py.None()))?;
        self.swap_task.bind(py).call1((event_loop, &task))?;
        if task.is_none() {
            return Ok(None);
        }
        task.call_method0(pyo3::intern!(py, "get_context")).map(|context| Some(context.unbind()))
    }

    /// A fresh future of the loop.
    pub fn future<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.event_loop.bind(py).call_method0(pyo3::intern!(py, "create_future"))
    }
}

/// The loop of one worker.
pub struct AsyncioLoop {
    running: Arc<Running>,
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
    /// Runs of the loop in a row without a turn of the platform before them.
    passes: u32,
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
        let running = Running {
            event_loop: event_loop.clone().unbind(),
            get_running: asyncio.getattr("events")?.getattr("_get_running_loop")?.unbind(),
            set_running: asyncio.getattr("events")?.getattr("_set_running_loop")?.unbind(),
            swap_task: asyncio.getattr("tasks")?.getattr("_swap_current_task")?.unbind(),
        };
        Ok(Self {
            running: Arc::new(running),
            task: asyncio.getattr("Task")?.unbind(),
            task_options: options.unbind(),
            ready: event_loop.getattr("_ready")?.unbind(),
            scheduled: event_loop.getattr("_scheduled")?.unbind(),
            scheduled_count: 0,
            is_touched: false,
            is_hidden: false,
            passes: 0,
        })
    }

    /// For calls from within its tasks.
    pub fn running(&self) -> Arc<Running> {
        Arc::clone(&self.running)
    }

    /// From here on no loop runs, as far as a function can see: `asyncio.run` works in it, and guards against blocking a
    /// loop let it pass.
    pub fn hide(&mut self, py: Python<'_>) -> PyResult<()> {
        if !self.is_hidden {
            self.running.set(py, None)?;
            self.is_hidden = true;
        }
        Ok(())
    }

    /// From here on the loop runs again.
    pub fn show(&mut self, py: Python<'_>) -> PyResult<()> {
        self.is_touched = true;
        if self.is_hidden {
            self.running.set(py, Some(self.running.event_loop.bind(py)))?;
            self.is_hidden = false;
        }
        Ok(())
    }

    /// Runs a coroutine to its first suspension, as a task.
    pub fn start_task<'py>(&self, coroutine: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let py = coroutine.py();
        self.task.bind(py).call((coroutine,), Some(self.task_options.bind(py)))
    }

    /// Another thread may have given the loop work.
    pub fn touch(&mut self) {
        self.is_touched = true;
    }

    /// Remembers how many timers there are.
    pub fn mark(&mut self, py: Python<'_>) -> PyResult<()> {
        self.scheduled_count = self.scheduled.bind(py).len()?;
        self.is_touched = false;
        Ok(())
    }

    /// Whether what is woken goes on before anything new is begun, when the loop would wait for so long. A request is begun within
    /// the turn in which it comes, and would take what a task that has waited longer was just given: a pool's connection, of which
    /// that task finds none when it runs, and queues up again, as the last.
    pub fn goes_on_first(&mut self, py: Python<'_>, timeout: Option<Duration>) -> PyResult<bool> {
        let goes_on = timeout == Some(Duration::ZERO) && self.passes < PASSES_MAX && self.is_ready(py)?;
        self.passes = if goes_on { self.passes + 1 } else { 0 };
        Ok(goes_on)
    }

    /// Whether the loop has callbacks that are due.
    fn is_ready(&self, py: Python<'_>) -> PyResult<bool> {
        Ok(self.ready.bind(py).len()? > 0)
    }

    /// Whether the loop has something to do at once, or other timers than at the mark.
    pub fn has_work(&self, py: Python<'_>) -> PyResult<bool> {
        Ok(self.is_touched && (self.is_ready(py)? || self.scheduled.bind(py).len()? != self.scheduled_count))
    }
}
