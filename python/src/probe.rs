//! Which of the platform's backends serves.

use std::sync::OnceLock;

use pyo3::exceptions::{PyOSError, PyValueError};
use pyo3::prelude::*;
use turboapi_platform::probe::{self, Choice, Requested};

/// Which backend serves for this wish, and why: `(name, reason)`.
#[pyfunction]
#[pyo3(name = "probe")]
pub fn probe_backend(wish: &str) -> PyResult<(&'static str, String)> {
    let choice = choose(wish)?;
    Ok((choice.backend.name(), choice.reason))
}

/// The answer of the probe, for all workers of this process and those that are forked from it.
static AUTOMATIC: OnceLock<Choice> = OnceLock::new();

/// The backend for a wish.
///
/// # Errors
///
/// An unknown name is a `ValueError`, a backend that does not run here an `OSError`.
pub fn choose(wish: &str) -> PyResult<Choice> {
    let requested = Requested::parse(wish).map_err(|error| PyValueError::new_err(error.to_string()))?;
    if let (Requested::Auto, Some(choice)) = (requested, AUTOMATIC.get()) {
        return Ok(choice.clone());
    }
    let choice = probe::choose(requested).map_err(|error| PyOSError::new_err(error.to_string()))?;
    if requested == Requested::Auto {
        return Ok(AUTOMATIC.get_or_init(|| choice).clone());
    }
    Ok(choice)
}
