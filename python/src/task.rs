//! A background task's call: where it is to run, and how it was seen there. Who runs it, and when, is `turboapi/serving/background.py`.

use std::sync::{Arc, Mutex};
use std::time::Instant;

use pyo3::exceptions::PyRuntimeError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use turboapi_core::standing::{Seen, Standing};

use crate::calls::Calls;
use crate::event_loop::Running;
use crate::job::seen_in_thread;
use crate::mailbox::lock;

/// One call of a plain function, once, by its standing.
#[pyclass(frozen, module = "turboapi._core")]
pub struct TaskCall {
    standing: Arc<Standing>,
    /// The worker's.
    calls: Arc<Calls>,
    /// The worker's.
    running: Arc<Running>,
    state: Mutex<State>,
}

struct State {
    /// Whose standing it is, for the log.
    function: Option<Py<PyAny>>,
    /// What is called, without arguments.
    call: Option<Py<PyAny>>,
    /// Of a call in a thread.
    result: Option<(PyResult<Py<PyAny>>, Seen)>,
}

impl TaskCall {
    /// `call` is one of `function`, whose standing this is.
    pub fn new(
        function: &Bound<'_, PyAny>,
        call: Py<PyAny>,
        standing: Arc<Standing>,
        calls: Arc<Calls>,
        running: Arc<Running>,
    ) -> Self {
        let state = State { function: Some(function.clone().unbind()), call: Some(call), result: None };
        Self { standing, calls, running, state: Mutex::new(state) }
    }

    fn call(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let call = lock(&self.state).call.take();
        call.ok_or_else(|| PyRuntimeError::new_err("a task is run once"))?.call0(py)
    }

    /// `background task reports.send`.
    #[cold]
    fn label(&self, py: Python<'_>) -> String {
        let function = lock(&self.state).function.as_ref().map(|function| function.clone_ref(py));
        let text = |name| function.as_ref()?.getattr(py, name).ok()?.extract::<String>(py).ok();
        let part = |name| text(name).unwrap_or_else(|| "?".to_owned());
        format!("background task {}.{}", part("__module__"), part("__qualname__"))
    }
}

#[pymethods]
impl TaskCall {
    /// Whether it is one for the worker's own thread.
    #[getter]
    fn is_for_worker(&self) -> bool {
        self.standing.is_on_worker()
    }

    /// Calls the function on the worker's thread, within a task, without a running loop and a current task, as in a thread.
    fn run_here(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.running
            .without(py, || self.calls.here(py, &self.standing, Instant::now(), || self.label(py), || self.call(py)))
    }

    /// Calls the function, in any other thread; `result` has what comes of it.
    fn run(&self, py: Python<'_>) {
        let done = seen_in_thread(|| self.call(py));
        lock(&self.state).result = Some(done);
    }

    /// What it returned or raised in its thread. On the worker's thread, once.
    fn result(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let Some((result, seen)) = lock(&self.state).result.take() else {
            return Err(PyRuntimeError::new_err("the task has not run"));
        };
        self.calls.note_return(py, &self.standing, &seen, || self.label(py));
        result
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        // The lock is held for moments only, and never while Python runs; a collection that comes then sees it next time.
        if let Ok(state) = self.state.try_lock() {
            visit.call(&state.function)?;
            visit.call(&state.call)?;
            if let Some((Ok(value), _)) = &state.result {
                visit.call(value)?;
            }
        }
        Ok(())
    }

    fn __clear__(&self) {
        let state = {
            let mut state = lock(&self.state);
            (state.function.take(), state.call.take(), state.result.take())
        };
        drop(state); // Outside of the lock: the end of an object may run any Python code.
    }
}
