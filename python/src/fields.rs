//! Attributes of the values in which Python declares what is to be served. Each is read by its name, and what is missing or
//! wrong is an error that says so: a default in its place would serve something else.

use pyo3::conversion::FromPyObjectOwned;
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;

/// The attribute, as it is.
pub fn object<'py>(owner: &Bound<'py, PyAny>, name: &str) -> PyResult<Bound<'py, PyAny>> {
    owner.getattr(name).map_err(|_| PyTypeError::new_err(format!("{} has no {name}", kind_of(owner))))
}

/// The attribute, unless it is None.
pub fn optional<'py>(owner: &Bound<'py, PyAny>, name: &str) -> PyResult<Option<Bound<'py, PyAny>>> {
    Ok(Some(object(owner, name)?).filter(|value| !value.is_none()))
}

/// The attribute, as a value of Rust.
pub fn value<'py, T: FromPyObjectOwned<'py>>(owner: &Bound<'py, PyAny>, name: &str) -> PyResult<T> {
    let value = object(owner, name)?;
    value.extract().map_err(|problem: T::Error| {
        let problem: PyErr = problem.into();
        let (kind, reason) = (kind_of(owner), problem.value(owner.py()));
        PyTypeError::new_err(format!("{name} of {kind} is {value:?}: {reason}"))
    })
}

/// A word that is none of those that are allowed.
pub fn unknown(name: &str, seen: &str, allowed: &str) -> PyErr {
    PyValueError::new_err(format!("{name} is {seen:?}, allowed are {allowed}"))
}

fn kind_of(owner: &Bound<'_, PyAny>) -> String {
    owner.get_type().name().map_or_else(|_| "object".to_owned(), |name| name.to_string())
}
