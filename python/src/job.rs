//! A function's call in a thread of the worker's pool: what it takes there, how it is measured, and how it comes back.

use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use pyo3::exceptions::PyRuntimeError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use turboapi_core::standing::Seen;
use turboapi_platform::doorbell;
use turboapi_platform::thread_time::ThreadTime;

use crate::coroutine::Completion;
use crate::interpreter::{Arguments, EnteredContext};
use crate::mailbox::lock;
use crate::subject::{Deferred, Subject};

/// Wakes a worker from another thread: the loop's `_write_to_self`.
#[pyclass(frozen, module = "turboapi._core")]
pub struct Doorbell(pub Arc<doorbell::Doorbell>);

#[pymethods]
impl Doorbell {
    /// There is something for the worker to look at. Never blocks, and does not let the interpreter go.
    fn ring(&self) {
        HAS_CALLED.set(true);
        self.0.ring();
    }
}

/// Where the jobs of one worker come back to. Threads write, the worker reads.
#[derive(Debug)]
pub struct Returns {
    /// None once the worker has ended: a job that comes later would keep itself alive here.
    jobs: Mutex<Option<Vec<Py<Job>>>>,
    /// Jobs that are in threads, or wait for one. Only the worker's own thread counts.
    out_count: AtomicUsize,
    bell: Arc<doorbell::Doorbell>,
}

impl Returns {
    /// Of the worker that answers to this bell.
    pub fn new(bell: Arc<doorbell::Doorbell>) -> Self {
        Self { jobs: Mutex::new(Some(Vec::new())), out_count: AtomicUsize::new(0), bell }
    }

    /// Whether any job is in a thread, or waits for one.
    pub fn awaits_any(&self) -> bool {
        self.out_count.load(Ordering::Relaxed) > 0
    }

    /// A job is handed to the threads by `pool` (`Hooks::pool`).
    ///
    /// # Errors
    /// There is no thread, and none can be had.
    pub fn send_out(&self, job: &Bound<'_, Job>, pool: &Py<PyAny>) -> PyResult<()> {
        pool.bind(job.py()).call1((job,))?;
        self.out_count.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// The worker ends: what has come and what will is let go.
    pub fn close(&self) {
        let jobs = lock(&self.jobs).take();
        drop(jobs); // Outside of the lock: the end of an object may run any Python code.
    }

    /// Takes those that have come, in order.
    pub fn take(&self) -> Vec<Py<Job>> {
        let jobs = lock(&self.jobs).as_mut().map(std::mem::take).unwrap_or_default();
        self.out_count.fetch_sub(jobs.len(), Ordering::Relaxed);
        jobs
    }
}

/// One call. Made by the worker, run by a thread, taken apart by the worker.
#[pyclass(frozen, module = "turboapi._core")]
pub struct Job {
    subject: Arc<Subject>,
    is_limited: bool,
    waiter: Waiter,
    returns: Arc<Returns>,
    state: Mutex<State>,
}

/// Who goes on when a job is done.
pub enum Waiter {
    /// A request without a task of its own: this answers it.
    Request(Py<Completion>),
    /// A task, by the asyncio future that it waits for. It takes the result itself (`Job::result`).
    Task(Py<PyAny>),
}

struct State {
    /// A copy of the worker's, for this call.
    context: Option<Py<PyAny>>,
    callable: Option<Py<PyAny>>,
    arguments: Vec<Py<PyAny>>,
    names: Option<Py<PyTuple>>,
    result: Option<(PyResult<Py<PyAny>>, Seen)>,
}

impl Job {
    /// For a thread to run. `context` is entered by nobody else.
    pub fn new(call: Deferred, context: Py<PyAny>, waiter: Waiter, returns: Arc<Returns>) -> Self {
        let Deferred { subject, callable, arguments, names, is_limited } = call;
        let state = State { context: Some(context), callable: Some(callable), arguments, names, result: None };
        Self { subject, is_limited, waiter, returns, state: Mutex::new(state) }
    }

    /// Whose standing it counts for.
    pub fn subject(&self) -> &Subject {
        &self.subject
    }

    /// Whether it had a place among those of which only so many run at once.
    pub fn is_limited(&self) -> bool {
        self.is_limited
    }

    /// How its call was seen; None if it was never made.
    pub fn seen(&self) -> Option<Seen> {
        lock(&self.state).result.as_ref().map(|(_, seen)| *seen)
    }

    /// Lets whoever waits for it go on.
    pub fn finish(&self, py: Python<'_>) -> PyResult<()> {
        match &self.waiter {
            Waiter::Request(completion) => {
                if let Some(result) = self.take_result() {
                    completion.get().answer(py, result.map(|value| value.into_bound(py)), None);
                }
            }
            Waiter::Task(future) => {
                let future = future.bind(py);
                // Its task may have been cancelled meanwhile.
                if !future.call_method0(intern!(py, "done"))?.is_truthy()? {
                    future.call_method1(intern!(py, "set_result"), (py.None(),))?;
                }
            }
        }
        Ok(())
    }

    fn take_result(&self) -> Option<PyResult<Py<PyAny>>> {
        lock(&self.state).result.take().map(|(result, _)| result)
    }

    fn call(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let (context, callable, values, names) = {
            let mut state = lock(&self.state);
            (state.context.take(), state.callable.take(), std::mem::take(&mut state.arguments), state.names.take())
        };
        let (Some(context), Some(callable)) = (context, callable) else {
            return Err(PyRuntimeError::new_err("a job is run once"));
        };
        let mut arguments = Arguments::default();
        for value in values {
            arguments.push(value.into_bound(py));
        }
        let entered = EnteredContext::enter(context.into_bound(py))?;
        let result = arguments.call(callable.bind(py), names.as_ref().map(|names| names.bind(py)));
        drop(entered);
        result.map(Bound::unbind)
    }
}

#[pymethods]
impl Job {
    /// Calls the function, and tells the worker. In any thread, once.
    fn run(slf: &Bound<'_, Self>) {
        let job = slf.get();
        let done = seen_in_thread(|| job.call(slf.py()));
        lock(&job.state).result = Some(done);
        if let Some(jobs) = &mut *lock(&job.returns.jobs) {
            jobs.push(slf.clone().unbind());
        }
        job.returns.bell.ring();
    }

    /// The asyncio future that is done when the function has returned or raised; None if no task waits for it.
    #[getter]
    fn future(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        match &self.waiter {
            Waiter::Task(future) => Some(future.clone_ref(py)),
            Waiter::Request(_) => None,
        }
    }

    /// What the function has returned, or raises what it has raised. Once, when `future` is done.
    fn result(&self) -> PyResult<Py<PyAny>> {
        self.take_result()
            .unwrap_or_else(|| Err(PyRuntimeError::new_err("the job is not done, or its result was taken")))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        // The lock is held for moments only, and never while Python runs; a collection that comes then sees it next time.
        if let Ok(state) = self.state.try_lock() {
            visit.call(&state.context)?;
            visit.call(&state.callable)?;
            for argument in &state.arguments {
                visit.call(argument)?;
            }
            if let Some((Ok(value), _)) = &state.result {
                visit.call(value)?;
            }
        }
        match &self.waiter {
            Waiter::Request(completion) => visit.call(completion),
            Waiter::Task(future) => visit.call(future),
        }
    }

    fn __clear__(&self) {
        let state = {
            let mut state = lock(&self.state);
            (state.context.take(), state.callable.take(), std::mem::take(&mut state.arguments), state.result.take())
        };
        drop(state); // Outside of the lock: the end of an object may run any Python code.
    }
}

thread_local! {
    /// Whether something on this thread has given the worker's loop work.
    static HAS_CALLED: Cell<bool> = const { Cell::new(false) };
    /// Whether something on this thread, a worker's own, has asked for what there is only in others.
    static NEEDS_THREAD: Cell<bool> = const { Cell::new(false) };
}

/// The function that runs on this thread, a worker's own, has asked for what there is only in others.
#[pyfunction]
pub fn note_needs_thread() {
    NEEDS_THREAD.set(true);
}

/// Makes a call on the worker's own thread, and tells whether it has asked for what there is only in others.
pub fn seen_to_need_thread<T>(call: impl FnOnce() -> T) -> (T, bool) {
    NEEDS_THREAD.set(false);
    let result = call();
    (result, NEEDS_THREAD.get())
}

/// Makes a call in a thread that is not the worker's own, and tells what it was.
pub fn seen_in_thread<T>(call: impl FnOnce() -> T) -> (T, Seen) {
    HAS_CALLED.set(false);
    let (begin, clock) = (ThreadTime::now(), Instant::now());
    let result = call();
    let seen = Seen { has_called: HAS_CALLED.get(), ..seen_since(begin, clock) };
    (result, seen)
}

/// What a call on this thread was, from its begin until now.
pub fn seen_since(begin: ThreadTime, clock: Instant) -> Seen {
    let (wall, end) = (clock.elapsed(), ThreadTime::now());
    let has_slept = begin.waits.zip(end.waits).map(|(before, after)| before != after);
    Seen { wall, computing: end.computing.saturating_sub(begin.computing), has_slept, has_called: false }
}
