//! Failures of the seam as Python exceptions.

use pyo3::exceptions::{PyRuntimeError, PyStopIteration, PyValueError};
use pyo3::{PyErr, Python};
use turboapi_core::answer::HeaderError;

/// A header that HTTP cannot hold: the handler's `ValueError`.
pub fn header(error: &HeaderError) -> PyErr {
    PyValueError::new_err(error.to_string())
}

/// What a function has raised, as it would come out of a coroutine or one of AnyIO's threads: neither lets a `StopIteration` through.
#[cold]
pub fn out_of_coroutine(py: Python<'_>, error: PyErr) -> PyErr {
    if !error.is_instance_of::<PyStopIteration>(py) {
        return error;
    }
    let outer = PyRuntimeError::new_err("coroutine raised StopIteration");
    outer.set_cause(py, Some(error));
    outer
}
