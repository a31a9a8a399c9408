//! A background task's call: where it is to run, and how it was seen there. Who runs it, and when, is `turboapi/serving/background.py`.

use std::sync::{Arc, Mutex};
use std::time::Instant;

use pyo3::exceptions::PyRuntimeError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyString, PyType};
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

    #[cold]
    fn label(&self, py: Python<'_>) -> String {
        let function = lock(&self.state).function.as_ref().map(|function| function.clone_ref(py));
        label(function.unwrap_or_else(|| py.None()).bind(py))
    }
}

/// Starlette's and FastAPI's background tasks, as `turboapi/serving/background.py` knows them.
pub struct TaskTypes {
    /// `BackgroundTask`
    pub one: Py<PyType>,
    /// The lists of them.
    pub several: Vec<Py<PyType>>,
    /// `(owner, attribute, value)`: what is called here in the place of, as long as nobody has replaced it.
    stock: Vec<(Py<PyAny>, Py<PyString>, Py<PyAny>)>,
    /// `functools.partial`
    partial: Py<PyType>,
    /// `types.MethodType`
    method: Py<PyType>,
}

impl TaskTypes {
    /// Reads the attributes of the module.
    pub fn new(module: &Bound<'_, PyAny>) -> PyResult<Self> {
        let py = module.py();
        let mut stock = Vec::new();
        for (owner, name, value) in module.getattr("STOCK")?.extract::<Vec<(Py<PyAny>, String, Py<PyAny>)>>()? {
            stock.push((owner, PyString::intern(py, &name).unbind(), value));
        }
        Ok(Self {
            one: module.getattr("BackgroundTask")?.extract()?,
            several: module.getattr("SEVERAL")?.extract()?,
            stock,
            partial: py.import("functools")?.getattr("partial")?.extract()?,
            method: py.import("types")?.getattr("MethodType")?.extract()?,
        })
    }

    /// Whether Starlette's own code would run the tasks, so that they may be run here.
    pub fn are_stock(&self, py: Python<'_>) -> bool {
        self.stock.iter().all(|(owner, name, value)| {
            owner.bind(py).getattr(name.bind(py)).is_ok_and(|present| present.is(value.bind(py)))
        })
    }

    /// The function that a method or a partial is of: these are made anew for each task.
    pub fn owner_of<'py>(&self, function: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let py = function.py();
        let mut owner = function.clone();
        loop {
            let class = owner.get_type();
            if class.is(self.partial.bind(py)) {
                owner = owner.getattr(intern!(py, "func"))?;
            } else if class.is(self.method.bind(py)) {
                owner = owner.getattr(intern!(py, "__func__"))?;
            } else {
                return Ok(owner);
            }
        }
    }
}

/// What the log calls a task of this function: `background task reports.send`.
#[cold]
pub fn label(function: &Bound<'_, PyAny>) -> String {
    let part = |name| {
        let text = function.getattr(name).and_then(|text| text.extract::<String>());
        text.unwrap_or_else(|_| "?".to_owned())
    };
    format!("background task {}.{}", part("__module__"), part("__qualname__"))
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
