//! What a function returned or raised becomes an answer, here and nowhere else. The order of the questions is FastAPI's.
//!
//! 1. A `Response` is used as it is.
//! 2. A declared response class makes one.
//! 3. A response model is validated and dumped by pydantic.
//! 4. Plain values are written by `json.rs`, all others by FastAPI's own encoder.

use bytes::Bytes;
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::{PyBytes, PyList, PyTuple, PyType};
use turboapi_core::answer::Headers;
use turboapi_core::layers::Whole;
use turboapi_core::output::COPY_BYTES_MAX;

use crate::error;
use crate::hooks::{Hook, Hooks};
use crate::interpreter::{EnteredContext, copy_context};
use crate::invalid::{INVALID, Unfit, write_errors};
use crate::json;
use crate::layers::Around;
use crate::plan::{Further, Plan};

/// What becomes of a function's result.
pub enum Reply {
    /// JSON bytes, in the buffer that was given.
    Json {
        /// Status code.
        status: u16,
    },
    /// Status, header lines and body.
    Whole {
        /// Status code.
        status: u16,
        /// Header lines.
        headers: Headers,
        /// Body.
        body: Bytes,
    },
    /// Something that a hook has to answer for: a response that streams, reads a file or does something afterwards
    /// (`Hook::Respond`), or an exception about which the app has to be asked (`Hook::Raised`).
    Object(Hook, Py<PyAny>),
}

impl Reply {
    /// Makes an answer of what a function returned or raised, and has the app's layers see it. JSON goes to `scratch`, which is
    /// cleared first. Also gives the background tasks that are due when the answer has left, where no hook has them.
    pub fn new<'py>(
        (plan, around): (&Plan, Option<&Around>),
        types: &ResponseTypes,
        hooks: &Hooks,
        py: Python<'py>,
        (result, within): (PyResult<Bound<'py, PyAny>>, Within<'_, 'py>),
        further: &Further<'py>,
        scratch: &mut Vec<u8>,
    ) -> (Self, Option<Py<PyAny>>) {
        let replied = result.and_then(|value| Self::of_value(plan, types, &value, within, further, scratch));
        let (reply, background) = match replied {
            Ok(replied) => replied,
            Err(exception) => (from_exception(types, hooks, py, exception), None),
        };
        match around {
            None => (reply, background),
            Some(around) => reply.leave(around, types, py, scratch, background),
        }
    }

    /// Makes it of a value alone, and not through the app's layers.
    ///
    /// # Errors
    /// What FastAPI would have raised.
    pub fn of_value<'py>(
        plan: &Plan,
        types: &ResponseTypes,
        value: &Bound<'py, PyAny>,
        within: Within<'_, 'py>,
        further: &Further<'py>,
        scratch: &mut Vec<u8>,
    ) -> PyResult<(Self, Option<Py<PyAny>>)> {
        match Made::new(plan, types, value, within, further, scratch)? {
            Made::Json => Ok((Self::Json { status: plan.status }, further.due()?.map(Bound::unbind))),
            Made::Response(response) => from_response(types, &response),
        }
    }

    /// FastAPI's own answer where arguments are missing or wrong. None: the app has to be asked.
    pub fn unfit(
        (plan, around): (&Plan, Option<&Around>),
        types: &ResponseTypes,
        py: Python<'_>,
        unfit: &Unfit,
        scratch: &mut Vec<u8>,
    ) -> Option<Self> {
        let Unfit::Invalid(invalid) = unfit else { return None };
        if !plan.wording.answers_invalid {
            return None;
        }
        let errors = invalid.errors(py, &plan.wording).ok()?;
        write_errors(&plan.encode, &errors, scratch).ok()?;
        Some(Self::json(INVALID, around, types, py, scratch))
    }

    /// An answer of the JSON in `scratch`.
    pub fn json(status: u16, around: Option<&Around>, types: &ResponseTypes, py: Python<'_>, scratch: &[u8]) -> Self {
        let reply = Self::Json { status };
        match around {
            None => reply,
            Some(around) => reply.leave(around, types, py, scratch, None).0,
        }
    }

    /// Out through the layers. Those of the app's own middleware have what a hook answers for.
    pub fn leave(
        self,
        around: &Around,
        types: &ResponseTypes,
        py: Python<'_>,
        scratch: &[u8],
        background: Option<Py<PyAny>>,
    ) -> (Self, Option<Py<PyAny>>) {
        let mut whole = match self {
            Self::Json { status } => Whole::json(status, Bytes::copy_from_slice(scratch)),
            Self::Whole { status, headers, body } => Whole { status, headers, body },
            Self::Object(..) => return (self, background),
        };
        if around.leave(&mut whole).is_ok() {
            let Whole { status, headers, body } = whole;
            return (Self::Whole { status, headers, body }, background);
        }
        let reply = match types.response(py, &whole, background) {
            Ok(response) => Self::Object(Hook::Respond, response),
            Err(error) => Self::Object(Hook::Raised, error.into_value(py).into_any()),
        };
        (reply, None)
    }
}

/// The context in which code of the app's runs that makes an answer of a value: validators and serializers of its models.
#[derive(Clone, Copy)]
pub enum Within<'a, 'py> {
    /// The present one.
    Present,
    /// That of the function's task.
    Task(&'a Bound<'py, PyAny>),
    /// A copy of the present one, as the function has run in another.
    Copy,
}

impl<'py> Within<'_, 'py> {
    /// As the function's task has it, or a function without one.
    pub fn of<'a>(task: Option<&'a Bound<'py, PyAny>>) -> Within<'a, 'py> {
        task.map_or(Within::Copy, Within::Task)
    }

    fn call(self, py: Python<'py>, call: impl FnOnce() -> PyResult<Bound<'py, PyAny>>) -> PyResult<Bound<'py, PyAny>> {
        let context = match self {
            Self::Present => None,
            Self::Task(task) => Some(task.call_method0(intern!(py, "get_context"))?),
            Self::Copy => Some(copy_context(py)?),
        };
        let _entered = context.map(EnteredContext::enter).transpose()?;
        call()
    }
}

/// What was made of the value that a function returned.
pub enum Made<'py> {
    /// JSON bytes, in the buffer that was given, for an answer with the plan's own status and no further headers. The background
    /// tasks are those that the function was given.
    Json,
    /// A `Response`.
    Response(Bound<'py, PyAny>),
}

/// Starlette's response classes: which are known to be their bytes and nothing else.
pub struct ResponseTypes {
    base: Py<PyType>,
    plain: Vec<Py<PyType>>,
}

impl ResponseTypes {
    /// `base` is `Response`; `plain` are the classes whose `__call__` sends status, headers and body and no more.
    pub fn new(base: Py<PyType>, plain: Vec<Py<PyType>>) -> Self {
        Self { base, plain }
    }

    /// A response that sends this, and has these background tasks.
    fn response(&self, py: Python<'_>, whole: &Whole, background: Option<Py<PyAny>>) -> PyResult<Py<PyAny>> {
        let response = self.base.bind(py).call1((PyBytes::new(py, &whole.body), whole.status))?;
        let lines = whole.headers.iter().map(|(name, value)| (PyBytes::new(py, name), PyBytes::new(py, value)));
        response.setattr(intern!(py, "raw_headers"), PyList::new(py, lines.collect::<Vec<_>>())?)?;
        response.setattr(intern!(py, "background"), background)?;
        Ok(response.unbind())
    }

    fn is_response(&self, value: &Bound<'_, PyAny>) -> PyResult<bool> {
        value.is_instance(self.base.bind(value.py()))
    }

    /// Whether it is sent as status, headers and body, and nothing comes of it after that but its background tasks.
    pub fn is_plain(&self, value: &Bound<'_, PyAny>) -> bool {
        let class = value.get_type();
        self.plain.iter().any(|plain| plain.is(&class))
    }
}

impl<'py> Made<'py> {
    /// Of a function's value, and of what it was given to say more by. JSON goes to `scratch`, which is cleared first.
    ///
    /// # Errors
    /// What FastAPI would have raised.
    pub fn new(
        plan: &Plan,
        types: &ResponseTypes,
        value: &Bound<'py, PyAny>,
        within: Within<'_, 'py>,
        further: &Further<'py>,
        scratch: &mut Vec<u8>,
    ) -> PyResult<Self> {
        let py = value.py();
        scratch.clear();
        if let Some(injected) = &further.response {
            if types.is_response(value)? {
                return Self::as_it_is(value, further);
            }
            if has_said_something(injected)? {
                let response = within.call(py, || plan.respond.bind(py).call1((value, injected, &further.tasks)));
                return response.map(Self::Response);
            }
        }
        if plan.writes_plain_json() {
            if json::write(value, scratch).is_ok() {
                return Ok(Self::Json);
            }
            scratch.clear();
        }
        if types.is_response(value)? {
            return Self::as_it_is(value, further);
        }
        if let Some(render) = &plan.render {
            let response = within.call(py, || render.bind(py).call1((value, &further.tasks)));
            return response.map(Self::Response);
        }
        let encode = plan.serialize.as_ref().unwrap_or(&plan.encode);
        let body = within.call(py, || encode.bind(py).call1((value,)))?;
        scratch.extend_from_slice(body.cast::<PyBytes>()?.as_bytes());
        Ok(Self::Json)
    }

    /// A response that the function itself has made.
    fn as_it_is(response: &Bound<'py, PyAny>, further: &Further<'py>) -> PyResult<Self> {
        further.give_to(response)?;
        Ok(Self::Response(response.clone()))
    }
}

/// Whether a function has set a status or a header of the `Response` that it was given.
fn has_said_something(injected: &Bound<'_, PyAny>) -> PyResult<bool> {
    let py = injected.py();
    Ok(!injected.getattr(intern!(py, "status_code"))?.is_none()
        || injected.getattr(intern!(py, "raw_headers"))?.len()? > 0)
}

/// Takes a response apart, if it is one that can be.
fn from_response(types: &ResponseTypes, response: &Bound<'_, PyAny>) -> PyResult<(Reply, Option<Py<PyAny>>)> {
    let py = response.py();
    let as_it_is = || (Reply::Object(Hook::Respond, response.clone().unbind()), None);
    if !types.is_plain(response) {
        return Ok(as_it_is());
    }
    let status = checked_status(response.getattr(intern!(py, "status_code"))?.extract()?)?;
    let headers = headers_from(&response.getattr(intern!(py, "raw_headers"))?)?;
    let body = response.getattr(intern!(py, "body"))?;
    let Ok(body) = body.cast_exact::<PyBytes>() else {
        // A memoryview: Starlette allows that too.
        return Ok(as_it_is());
    };
    if headers.content_length().is_some_and(|length| length != body.as_bytes().len() as u64) {
        // FastAPI empties the body of a 205 and leaves its length; what the server does with it is for the ASGI path to say.
        return Ok(as_it_is());
    }
    let background = response.getattr(intern!(py, "background"))?;
    let background = (!background.is_none()).then(|| background.unbind());
    Ok((Reply::Whole { status, headers, body: shared_bytes(body) }, background))
}

/// The bytes of a body, which stay where Python has them if they are many: an app that sends the same ones to many peers holds
/// them once, however slowly those read.
pub fn shared_bytes(body: &Bound<'_, PyBytes>) -> Bytes {
    let bytes = body.as_bytes();
    if bytes.len() < COPY_BYTES_MAX {
        Bytes::copy_from_slice(bytes)
    } else {
        Bytes::from_owner(PyBackedBytes::from(body.clone()))
    }
}

/// A plain HTTPException is an answer: FastAPI's own one.
fn from_exception(types: &ResponseTypes, hooks: &Hooks, py: Python<'_>, exception: PyErr) -> Reply {
    let exception = error::out_of_coroutine(py, exception);
    let reply = match hooks.http_response.bind(py).call1((exception.value(py),)) {
        Ok(response) if !response.is_none() => from_response(types, &response).map(|(reply, _)| reply),
        _ => Err(exception),
    };
    reply.unwrap_or_else(|error| Reply::Object(Hook::Raised, error.into_value(py).into_any()))
}

/// Header lines from an iterable of pairs of bytes.
pub fn headers_from(pairs: &Bound<'_, PyAny>) -> PyResult<Headers> {
    let mut headers = Headers::default();
    let invalid = |problem: PyErr| PyTypeError::new_err(format!("headers must be pairs of bytes: {problem}"));
    for pair in pairs.try_iter()? {
        let pair = pair?;
        let (name, value): (PyBackedBytes, PyBackedBytes) = if pair.is_exact_instance_of::<PyTuple>() {
            pair.extract().map_err(invalid)?
        } else {
            // ASGI asks for iterables, and its own examples have lists.
            let [name, value] = pair.extract::<[PyBackedBytes; 2]>().map_err(invalid)?;
            (name, value)
        };
        headers.push(&name, &value).map_err(|problem| error::header(&problem))?;
    }
    Ok(headers)
}

/// A status that a handler may answer with.
pub fn checked_status(status: u16) -> PyResult<u16> {
    if turboapi_core::http::encode::is_final_status(status) {
        Ok(status)
    } else {
        Err(PyValueError::new_err(format!("status is {status}, allowed are 200 to 999")))
    }
}

/// Memory for rendering that is kept from one request to the next.
const SCRATCH_BYTES_MAX: usize = 64 * 1024;

/// Lets go of what an answer has needed beyond that, or a value that turned out to be none when most of it was written.
#[inline]
pub fn bound_scratch(scratch: &mut Vec<u8>) {
    if scratch.capacity() > SCRATCH_BYTES_MAX {
        *scratch = Vec::new();
    }
}
