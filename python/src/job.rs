//! A function's call in a thread of the worker's pool: what it takes there, how it is measured, and how it comes back.

use std::sync::{Arc, Mutex};
use std::time::Instant;

use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use turboapi_core::standing::Seen;
use turboapi_platform::doorbell;
use turboapi_platform::thread_time::ThreadTime;

use crate::coroutine::Completion;
use crate::interpreter::{Arguments, EnteredContext};
use crate::mailbox::lock;
use crate::plan::Plan;

/// Wakes a worker from another thread: the loop's `_write_to_self`.
#[pyclass(frozen, module = "turboapi._core")]
pub struct Doorbell(pub Arc<doorbell::Doorbell>);

#[pymethods]
impl Doorbell {
    /// There is something for the worker to look at. Never blocks, and does not let the interpreter go.
    fn ring(&self) {
        self.0.ring();
    }
}

/// Where the jobs of one worker come back to. Threads write, the worker reads.
#[derive(Debug)]
pub struct Returns {
    /// None once the worker has ended: a job that comes later would keep itself alive here.
    jobs: Mutex<Option<Vec<Py<Job>>>>,
    bell: Arc<doorbell::Doorbell>,
}

impl Returns {
    /// Of the worker that answers to this bell.
    pub fn new(bell: Arc<doorbell::Doorbell>) -> Self {
        Self { jobs: Mutex::new(Some(Vec::new())), bell }
    }

    /// The worker ends: what has come and what will is let go.
    pub fn close(&self) {
        let jobs = lock(&self.jobs).take();
        drop(jobs); // Outside of the lock: the end of an object may run any Python code.
    }

    /// Takes those that have come, in order.
    pub fn take(&self) -> Vec<Py<Job>> {
        lock(&self.jobs).as_mut().map(std::mem::take).unwrap_or_default()
    }
}

/// One call. Made by the worker, run by a thread, taken apart by the worker.
#[pyclass(frozen, module = "turboapi._core")]
pub struct Job {
    plan: Arc<Plan>,
    completion: Py<Completion>,
    returns: Arc<Returns>,
    state: Mutex<State>,
}

struct State {
    /// A copy of the worker's, for this call.
    context: Option<Py<PyAny>>,
    arguments: Vec<Py<PyAny>>,
    result: Option<(PyResult<Py<PyAny>>, Seen)>,
}

impl Job {
    /// For a thread to run. `context` is entered by nobody else.
    pub fn new(
        plan: Arc<Plan>,
        context: Py<PyAny>,
        arguments: Vec<Py<PyAny>>,
        completion: Py<Completion>,
        returns: Arc<Returns>,
    ) -> Self {
        Self { plan, completion, returns, state: Mutex::new(State { context: Some(context), arguments, result: None }) }
    }

    /// The route's.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// What answers the request.
    pub fn completion(&self) -> &Py<Completion> {
        &self.completion
    }

    /// What the function returned or raised, and how its call was seen.
    pub fn take_result(&self) -> Option<(PyResult<Py<PyAny>>, Seen)> {
        lock(&self.state).result.take()
    }

    fn call(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let (context, values) = {
            let mut state = lock(&self.state);
            (state.context.take(), std::mem::take(&mut state.arguments))
        };
        let Some(context) = context else {
            return Err(pyo3::exceptions::PyRuntimeError::new_err("a job is run once"));
        };
        let mut arguments = Arguments::default();
        for value in values {
            arguments.push(value.into_bound(py));
        }
        let entered = EnteredContext::enter(context.into_bound(py))?;
        let result = arguments.call(self.plan.endpoint.bind(py), self.plan.names(py));
        drop(entered);
        result.map(Bound::unbind)
    }
}

#[pymethods]
impl Job {
    /// Calls the function, and tells the worker. In any thread, once.
    fn run(slf: &Bound<'_, Self>) {
        let job = slf.get();
        let (begin, clock) = (ThreadTime::now(), Instant::now());
        let result = job.call(slf.py());
        let seen = seen_since(begin, clock);
        lock(&job.state).result = Some((result, seen));
        if let Some(jobs) = &mut *lock(&job.returns.jobs) {
            jobs.push(slf.clone().unbind());
        }
        job.returns.bell.ring();
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        // The lock is held for moments only, and never while Python runs; a collection that comes then sees it next time.
        if let Ok(state) = self.state.try_lock() {
            visit.call(&state.context)?;
            for argument in &state.arguments {
                visit.call(argument)?;
            }
            if let Some((Ok(value), _)) = &state.result {
                visit.call(value)?;
            }
        }
        visit.call(&self.completion)
    }

    fn __clear__(&self) {
        let state = {
            let mut state = lock(&self.state);
            (state.context.take(), std::mem::take(&mut state.arguments), state.result.take())
        };
        drop(state); // Outside of the lock: the end of an object may run any Python code.
    }
}

/// What a call on this thread was, from its begin until now.
pub fn seen_since(begin: ThreadTime, clock: Instant) -> Seen {
    let (wall, end) = (clock.elapsed(), ThreadTime::now());
    let has_slept = begin.waits.zip(end.waits).map(|(before, after)| before != after);
    Seen { wall, computing: end.computing.saturating_sub(begin.computing), has_slept }
}
