//! A plain function that a composed one calls: by its own standing, on the worker's thread or in another.

use std::sync::{Arc, OnceLock};
use std::time::Instant;

use pyo3::exceptions::PyRuntimeError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use crate::calls::Calls;
use crate::event_loop::Running;
use crate::interpreter::Arguments;
use crate::job::Waiter;
use crate::subject::{Deferred, Role, Standings, Subject};

/// One function among those of a route, called from within a task of the worker's loop.
#[pyclass(frozen, module = "turboapi._core")]
pub struct Part {
    function: Py<PyAny>,
    label: String,
    blocking: Option<bool>,
    is_end: bool,
    subject: OnceLock<Arc<Subject>>,
    worker: OnceLock<(Arc<Calls>, Arc<Running>)>,
}

impl Part {
    /// Takes the function's standing.
    pub fn settle(&self, py: Python<'_>, standings: &mut Standings) {
        let role = if self.is_end { Role::End } else { Role::Whole };
        let standing = standings.of(self.function.bind(py), self.blocking, role);
        self.subject.get_or_init(|| Arc::new(Subject { standing, label: self.label.clone() }));
    }

    /// The worker on whose thread it is called from here on.
    pub fn bind(&self, calls: &Arc<Calls>, running: &Arc<Running>) {
        self.worker.get_or_init(|| (Arc::clone(calls), Arc::clone(running)));
    }

    fn call<'py>(
        &self,
        py: Python<'py>,
        callable: Bound<'py, PyAny>,
        mut arguments: Arguments,
        names: Option<Bound<'py, PyTuple>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let (Some(subject), Some((calls, running))) = (self.subject.get(), self.worker.get()) else {
            return Err(PyRuntimeError::new_err("the part has no worker"));
        };
        if subject.standing.is_on_worker() {
            let call = || arguments.call(&callable, names.as_ref());
            return running.without(py, || calls.inline(py, subject, Instant::now(), call));
        }
        let call = Deferred {
            subject: Arc::clone(subject),
            callable: callable.unbind(),
            arguments: arguments.take(py).into_iter().map(Bound::unbind).collect(),
            names: names.map(Bound::unbind),
            is_limited: !self.is_end,
        };
        let waiter = Waiter::Task(running.future(py)?.unbind());
        Ok(calls.in_thread(py, call, waiter)?.into_any())
    }
}

#[pymethods]
impl Part {
    #[new]
    #[pyo3(signature = (function, label, blocking, is_end))]
    fn new(function: Py<PyAny>, label: String, blocking: Option<bool>, is_end: bool) -> Self {
        Self { function, label, blocking, is_end, subject: OnceLock::new(), worker: OnceLock::new() }
    }

    /// Calls the function. What it returns, or the `Job` of a thread that calls it.
    #[pyo3(signature = (**arguments))]
    fn __call__<'py>(&self, py: Python<'py>, arguments: Option<&Bound<'py, PyDict>>) -> PyResult<Bound<'py, PyAny>> {
        let function = self.function.bind(py).clone();
        let Some(arguments) = arguments else { return self.call(py, function, Arguments::default(), None) };
        let mut row = Arguments::default();
        for value in arguments.values() {
            row.push(value);
        }
        self.call(py, function, row, Some(arguments.keys().to_tuple()))
    }

    /// Calls something without arguments that stands for a call of the function. Gives what `__call__` does.
    fn run<'py>(&self, callable: Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        self.call(callable.py(), callable, Arguments::default(), None)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.function)
    }
}
