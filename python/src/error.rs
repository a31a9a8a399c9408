//! Failures of the seam as Python exceptions.

use pyo3::PyErr;
use pyo3::exceptions::PyValueError;
use turboapi_core::answer::HeaderError;

/// A header that HTTP cannot hold: the handler's `ValueError`.
pub fn header(error: &HeaderError) -> PyErr {
    PyValueError::new_err(error.to_string())
}
