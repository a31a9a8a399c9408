//! Arguments that are missing or wrong: what failed in one request, and what FastAPI says to it.
//!
//! The words are Python's (`turboapi/plan/invalid.py`). Not here: who answers with them (`reply.rs`, `leaf.rs`).

use pyo3::exceptions::PyValueError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};

use crate::fields;
use crate::json;
use crate::parameter::{Cause, Failure, Names, Whole};

/// The status of FastAPI's answer to them.
pub const INVALID: u16 = 422;

/// Why a plan does not call its function.
pub enum Unfit {
    /// The request is for the app's own ASGI call. Nothing has happened yet.
    HandOver,
    /// Arguments are missing or wrong.
    Invalid(Invalid),
    /// Code of the app's has raised this, as a function might have.
    Raised(PyErr),
}

/// What failed.
pub struct Invalid {
    failed: Failed,
    /// What was read of the body; None: nothing was sent.
    pub body: Option<Py<PyAny>>,
}

enum Failed {
    /// `(number of the argument, error, names)` each.
    Arguments(Py<PyList>),
    /// The body is no JSON.
    Body(PyErr),
}

/// What has failed so far.
pub struct Failures<'a> {
    wording: &'a Wording,
    /// Whether code of the app's may have run: the request is not handed over then.
    runs_app_code: bool,
    failures: Option<Py<PyList>>,
}

impl<'a> Failures<'a> {
    /// None yet.
    pub fn new(wording: &'a Wording, runs_app_code: bool) -> Self {
        Self { wording, runs_app_code, failures: None }
    }

    /// One more.
    ///
    /// # Errors
    /// It is none that is collected.
    #[cold]
    pub fn push(&mut self, py: Python<'_>, number: usize, failure: Failure) -> Result<(), Unfit> {
        let unfit = |error| if self.runs_app_code { Unfit::Raised(error) } else { Unfit::HandOver };
        if !self.wording.is_known() {
            return Err(Unfit::HandOver);
        }
        let error = match failure.cause {
            Cause::Raised(error) => return Err(unfit(error)),
            Cause::Invalid(error) if !self.wording.collects(py, &error).map_err(unfit)? => return Err(unfit(error)),
            Cause::Invalid(error) => Some(error.into_value(py)),
            Cause::Missing => None,
        };
        let names = match failure.names {
            Names::One(at) => at.into_pyobject(py).map(Bound::into_any).map_err(PyErr::from),
            Names::Each(each) => PyList::new(py, each).map(Bound::into_any),
        };
        let failures = self.failures.get_or_insert_with(|| PyList::empty(py).unbind()).bind(py);
        names.and_then(|names| failures.append((number, error, names))).map_err(unfit)
    }

    /// Whether there were none.
    pub fn into_result(self, whole: Whole<'_>) -> Result<(), Unfit> {
        let Some(failures) = self.failures else { return Ok(()) };
        let body = match whole {
            Whole::Absent => None,
            Whole::Value(value) => Some(value.unbind()),
        };
        Err(Unfit::Invalid(Invalid { failed: Failed::Arguments(failures), body }))
    }
}

/// A route's words, or none.
pub struct Wording {
    /// `plan.invalid.Wording`
    words: Option<Py<PyAny>>,
    /// Whether FastAPI's stock handler answers, where no middleware says otherwise.
    pub answers_invalid: bool,
    /// `pydantic_core.ValidationError`
    collected: Py<PyAny>,
    /// `json.JSONDecodeError`
    malformed: Py<PyAny>,
}

impl Wording {
    /// Reads that of a `plan.NativeRoute`.
    pub fn new(route: &Bound<'_, PyAny>) -> PyResult<Self> {
        let py = route.py();
        Ok(Self {
            words: fields::optional(route, "wording")?.map(Bound::unbind),
            answers_invalid: fields::value(route, "answers_invalid")?,
            collected: py.import("pydantic_core")?.getattr("ValidationError")?.unbind(),
            malformed: py.import("json")?.getattr("JSONDecodeError")?.unbind(),
        })
    }

    /// Whether there are words.
    pub fn is_known(&self) -> bool {
        self.words.is_some()
    }

    /// The words themselves.
    pub fn words(&self) -> Option<&Py<PyAny>> {
        self.words.as_ref()
    }

    fn collects(&self, py: Python<'_>, error: &PyErr) -> PyResult<bool> {
        error.value(py).is_instance(self.collected.bind(py))
    }

    /// Why a body that is no JSON makes a request unfit, by the error of Python's json.
    #[cold]
    pub fn malformed(&self, py: Python<'_>, error: PyErr) -> Unfit {
        // Another error than that one is answered with 400, by the app.
        match error.value(py).is_instance(self.malformed.bind(py)) {
            Ok(true) if self.is_known() => Unfit::Invalid(Invalid { failed: Failed::Body(error), body: None }),
            _ => Unfit::HandOver,
        }
    }
}

impl Invalid {
    /// The list of errors, as FastAPI has it.
    ///
    /// # Errors
    /// What the app's own parts of an error raise.
    pub fn errors<'py>(&self, py: Python<'py>, wording: &Wording) -> PyResult<Bound<'py, PyAny>> {
        let words = wording.words().ok_or_else(|| PyValueError::new_err("a plan without words"))?.bind(py);
        match &self.failed {
            Failed::Arguments(failures) => words.call_method1(intern!(py, "errors"), (failures,)),
            Failed::Body(error) => words.call_method1(intern!(py, "malformed"), (error.value(py),)),
        }
    }

    /// The error of Python's json, if the body is none.
    pub fn cause(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        match &self.failed {
            Failed::Arguments(_) => None,
            Failed::Body(error) => Some(error.value(py).clone().into_any().unbind()),
        }
    }
}

/// The body of FastAPI's own answer to such errors, instead of what is in `out`. `encode` makes JSON as FastAPI does.
///
/// # Errors
/// What its handler would have raised: there are errors that are no JSON.
pub fn write_errors(encode: &Py<PyAny>, errors: &Bound<'_, PyAny>, out: &mut Vec<u8>) -> PyResult<()> {
    let py = errors.py();
    let content = PyDict::new(py);
    content.set_item(intern!(py, "detail"), errors)?;
    out.clear();
    if json::write(&content, out).is_err() {
        out.clear();
        out.extend_from_slice(encode.bind(py).call1((content,))?.extract()?);
    }
    Ok(())
}
