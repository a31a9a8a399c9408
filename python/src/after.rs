//! What is due when an answer has left for the kernel, until then. Not here: how it is done (`follow.rs`).

use std::sync::{Arc, Mutex};

use pyo3::intern;
use pyo3::prelude::*;

use crate::interpreter::copy_context;
use crate::mailbox::{Ticket, lock};
use crate::request::Retained;

/// What is due after one answer.
pub struct After {
    /// What was asked for, for those who are told of a failure.
    pub request: Arc<Retained>,
    /// `await background()` is due; a `BackgroundTask` or a list of them, or of an app's own making.
    pub background: Option<Py<PyAny>>,
    /// What is told that it is done, and goes on with the request: called once with the exception that the background tasks have raised, or
    /// None.
    pub end: Option<Py<PyAny>>,
    /// The context of the request. None: a copy of the worker's.
    pub context: Option<Py<PyAny>>,
    /// Counts the request as open until all of this is done.
    pub ticket: Ticket,
}

impl After {
    /// A copy of the context, as each function of a thread has one.
    pub fn context_copy<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        match &self.context {
            None => copy_context(py),
            Some(context) => context.bind(py).call_method0(intern!(py, "copy")),
        }
    }
}

/// What is due on one worker.
#[derive(Default)]
pub struct Afterwards(Mutex<Vec<After>>);

impl Afterwards {
    /// Has this done after the platform's next turn, with which the answer leaves: it was handed over, or is about to be before the worker
    /// turns again.
    pub fn add(&self, after: After) {
        lock(&self.0).push(after);
    }

    /// Takes all that is due.
    pub fn take(&self) -> Vec<After> {
        std::mem::take(&mut *lock(&self.0))
    }

    /// Whether nothing is.
    pub fn is_empty(&self) -> bool {
        lock(&self.0).is_empty()
    }
}
