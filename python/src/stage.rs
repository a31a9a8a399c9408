//! An answer that is sent from within its function, by the argument `respond`, as dependencies end after it (`turboapi/plan/compose.py`).
//! In the request's own task: the function goes on when the answer has left for the kernel and its background tasks are done.
//!
//! Not here: the same within the app's own ASGI call (`turboapi/plan/leaf.py`).

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use pyo3::exceptions::PyRuntimeError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use turboapi_core::handler::Part;

use crate::after::{After, Afterwards};
use crate::asgi::{Exchange, Exchanges};
use crate::error::out_of_coroutine;
use crate::event_loop::Running;
use crate::hooks::{Hook, Hooks};
use crate::layers::Around;
use crate::mailbox::{Ticket, lock};
use crate::plan::{Further, Plan};
use crate::reply::{Reply, ResponseTypes, Within};
use crate::request::Retained;

/// What is needed to answer.
pub struct Parts {
    /// The route's.
    pub plan: Arc<Plan>,
    /// What the answer has to go out through.
    pub around: Option<Around>,
    /// The worker's.
    pub types: Arc<ResponseTypes>,
    /// The worker's.
    pub hooks: Arc<Hooks>,
    /// The worker's.
    pub exchanges: Arc<Exchanges>,
    /// The worker's.
    pub afterwards: Arc<Afterwards>,
    /// The worker's.
    pub running: Arc<Running>,
    /// What was asked for.
    pub request: Arc<Retained>,
    /// The `Response` that the function was given as an argument.
    pub injected: Option<Py<PyAny>>,
    /// The `BackgroundTasks` that it was given.
    pub tasks: Option<Py<PyAny>>,
}

/// Of one request.
#[pyclass(frozen, module = "turboapi._core")]
pub struct Stage {
    parts: Parts,
    state: Mutex<State>,
}

struct State {
    /// What `make` has made, with its background tasks, until it is sent.
    made: Option<(Reply, Option<Py<PyAny>>)>,
    /// Its JSON, if it is some.
    json: Vec<u8>,
    /// Whether the handler's call that has begun the function still goes on: it takes the answer with it.
    is_within_call: bool,
    /// What it takes.
    sent: Option<Reply>,
    how: How,
    /// The future that is done when the answer has left and its background tasks are done.
    left: Option<Py<PyAny>>,
}

/// How the answer was sent.
enum How {
    NotYet,
    /// All at once.
    Whole,
    /// By a response that writes to this.
    By(Py<Exchange>),
}

impl Stage {
    /// For a function that is about to be called.
    pub fn new(parts: Parts) -> Self {
        let (json, how) = (Vec::new(), How::NotYet);
        Self { parts, state: Mutex::new(State { made: None, json, is_within_call: true, sent: None, how, left: None }) }
    }

    /// What was asked for.
    pub fn request(&self) -> &Arc<Retained> {
        &self.parts.request
    }

    /// The handler's call ends. An answer that was sent in it, with its JSON.
    pub fn leave_call(&self) -> Option<(Reply, Vec<u8>)> {
        let mut state = lock(&self.state);
        state.is_within_call = false;
        state.sent.take().map(|reply| (reply, std::mem::take(&mut state.json)))
    }

    /// The function has ended, in this context. What it has raised comes back if no answer was sent: it is what the answer is made of.
    pub fn end<'py>(
        &self,
        py: Python<'py>,
        result: PyResult<Bound<'py, PyAny>>,
        context: Option<Py<PyAny>>,
    ) -> PyResult<Option<PyErr>> {
        let Parts { hooks, exchanges, request, .. } = &self.parts;
        let how = std::mem::replace(&mut lock(&self.state).how, How::NotYet);
        let exchange = match (how, &result) {
            (How::NotYet, _) => {
                let unsent = || PyRuntimeError::new_err("the function has ended, and has sent no answer");
                return Ok(Some(result.err().unwrap_or_else(unsent)));
            }
            (How::Whole, Ok(_)) => return Ok(None),
            (How::Whole, Err(_)) => {
                let mailbox = &exchanges.mailbox;
                Py::new(py, Exchange::after_answer(Arc::clone(request), mailbox, Ticket::new(mailbox)))?
            }
            (How::By(exchange), _) => exchange,
        };
        match result {
            Ok(_) => hooks.finish.bind(py).call1((exchange,))?,
            // The answer has begun: the app's exception handlers are asked, and the log is told.
            Err(error) => hooks.raised.bind(py).call1((exchange, error.value(py), context))?,
        };
        Ok(None)
    }

    fn send_whole<'py>(
        &self,
        py: Python<'py>,
        slf: &Bound<'py, Self>,
        reply: Reply,
        background: Option<Py<PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let Parts { exchanges, afterwards, running, request, .. } = &self.parts;
        let left = running.future(py)?;
        // Its end is told in the task's own context, which the future's callback knows; background tasks have to be given it.
        let context = match &background {
            None => None,
            Some(_) => running.context(py)?,
        };
        {
            let mut state = lock(&self.state);
            state.how = How::Whole;
            state.left = Some(left.clone().unbind());
            if state.is_within_call {
                state.sent = Some(reply);
            } else {
                let part = match reply {
                    Reply::Json { status } => Part::Json { status, body: Bytes::from(std::mem::take(&mut state.json)) },
                    Reply::Whole { status, headers, body } => Part::Whole { status, headers, body },
                    Reply::Object(..) => return Err(PyRuntimeError::new_err("an answer that is not whole")),
                };
                exchanges.mailbox.push(request.id, part);
            }
        }
        let (end, ticket) = (Some(slf.clone().into_any().unbind()), Ticket::new(&exchanges.mailbox));
        afterwards.add(After { request: Arc::clone(request), background, end, context, ticket });
        Ok(left)
    }
}

#[pymethods]
impl Stage {
    /// Makes an answer of the function's value, for `send`.
    ///
    /// # Errors
    /// What FastAPI would have raised.
    fn make<'py>(&self, value: &Bound<'py, PyAny>) -> PyResult<()> {
        let py = value.py();
        let Parts { plan, types, injected, tasks, .. } = &self.parts;
        let bound = |object: &Option<Py<PyAny>>| object.as_ref().map(|object| object.bind(py).clone());
        let further = Further { response: bound(injected), tasks: bound(tasks) };
        let mut json = Vec::new();
        let made = Reply::of_value(plan, types, value, Within::Present, &further, &mut json)?;
        let former = {
            let mut state = lock(&self.state);
            state.json = json;
            state.made.replace(made)
        };
        drop(former); // Outside of the lock: the end of an object may run any Python code.
        Ok(())
    }

    /// Sends what was made. Gives what has to be awaited then: until the answer has left and all is done that a response does after it.
    fn send<'py>(slf: &Bound<'py, Self>, _made: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let (py, stage) = (slf.py(), slf.get());
        let Parts { around, types, hooks, exchanges, request, .. } = &stage.parts;
        let (made, json) = {
            let mut state = lock(&stage.state);
            (state.made.take(), std::mem::take(&mut state.json))
        };
        let Some((reply, background)) = made else {
            return Err(PyRuntimeError::new_err("no answer was made, or it was sent before"));
        };
        let (reply, background) = match around {
            None => (reply, background),
            Some(around) => reply.leave(around, types, py, &json, background),
        };
        match reply {
            Reply::Object(Hook::Raised, error) => Err(PyErr::from_value(error.into_bound(py))),
            Reply::Object(_, response) => {
                let exchange = exchanges.open(py, Arc::clone(request), None)?;
                lock(&stage.state).how = How::By(exchange.clone_ref(py));
                hooks.send.bind(py).call1((exchange, response))
            }
            whole => {
                lock(&stage.state).json = json;
                stage.send_whole(py, slf, whole, background)
            }
        }
    }

    /// The answer has left, and its background tasks are done or have raised this.
    fn __call__(&self, raised: Option<Bound<'_, PyAny>>, py: Python<'_>) -> PyResult<()> {
        let Some(left) = lock(&self.state).left.take() else { return Ok(()) };
        let left = left.bind(py);
        // The task may have been cancelled meanwhile.
        if left.call_method0(intern!(py, "done"))?.is_truthy()? {
            return Ok(());
        }
        match raised {
            None => left.call_method1(intern!(py, "set_result"), (py.None(),)),
            Some(error) => {
                let error = out_of_coroutine(py, PyErr::from_value(error));
                left.call_method1(intern!(py, "set_exception"), (error.value(py),))
            }
        }
        .map(|_| ())
    }

    /// Whether the answer was sent.
    #[getter]
    fn is_done(&self) -> bool {
        !matches!(lock(&self.state).how, How::NotYet)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.parts.injected)?;
        visit.call(&self.parts.tasks)?;
        // The lock is held for moments only, and never while Python runs; a collection that comes then sees it next time.
        if let Ok(state) = self.state.try_lock() {
            if let Some((reply, background)) = &state.made {
                visit.call(background)?;
                if let Reply::Object(_, object) = reply {
                    visit.call(object)?;
                }
            }
            visit.call(&state.left)?;
            if let How::By(exchange) = &state.how {
                visit.call(exchange)?;
            }
        }
        Ok(())
    }

    fn __clear__(&self) {
        let state = {
            let mut state = lock(&self.state);
            (state.made.take(), state.left.take(), std::mem::replace(&mut state.how, How::Whole))
        };
        drop(state); // Outside of the lock: the end of an object may run any Python code.
    }
}
