//! A route's plan: what `turboapi/plan/routes.py` has worked out at start, in the form in which a request can run through it.
//!
//! Here: a request becomes the arguments of a call (each by `parameter.rs`), or it is said why not. INVARIANT: a request is handed
//! over to the app's own ASGI call only as long as no code of the app's has run for it.

use std::sync::Arc;

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyTuple};
use turboapi_core::request::Request;

use crate::fields;
use crate::interpreter::Arguments;
use crate::invalid::{Failures, Unfit, Wording};
use crate::parameter::{Body, Parameter, Unread, Whole, read_body};
use crate::subject::{Deferred, Role, Standings, Subject};

/// One route, compiled.
pub struct Plan {
    /// The function.
    pub endpoint: Py<PyAny>,
    /// Whether calling it gives a coroutine.
    pub is_coroutine: bool,
    /// Status of an answer that says none of its own.
    pub status: u16,
    /// Makes a response of a value and of the background tasks that are to follow it, or None.
    pub render: Option<Py<PyAny>>,
    /// Makes JSON of a value by its response model.
    pub serialize: Option<Py<PyAny>>,
    /// Makes JSON of any value, as FastAPI does without a response model.
    pub encode: Py<PyAny>,
    /// The same, of a value, the `Response` that the function was given, which has said something of it, and the background tasks.
    pub respond: Py<PyAny>,
    /// Where the function runs, if it is no coroutine, and what the log calls it: method and path.
    pub subject: Arc<Subject>,
    /// What the request meets on its way to the function.
    pub place: Place,
    /// Whether one of the arguments is the request itself.
    pub takes_connection: bool,
    /// Whether the function itself has the answer sent, by an argument, as it has something to do after that.
    pub is_staged: bool,
    /// What the app wants called in the place of its dependencies: then the plan is not for it.
    overrides: Option<Py<PyDict>>,
    /// Whether the app can see that arguments are converted: only within the request's own task, then.
    pub runs_app_code: bool,
    /// What is wrong with arguments, in FastAPI's words.
    pub wording: Wording,
    parameters: Vec<Parameter>,
    bodies: Vec<Body>,
    /// Whether a body that is `null` is one.
    takes_null: bool,
    /// Python's own reader of JSON.
    read_json: Py<PyAny>,
    /// Makes the `Response` that is an argument, empty.
    make_response: Option<Py<PyAny>>,
    /// Makes the `BackgroundTasks` that is an argument, empty.
    make_tasks: Option<Py<PyAny>>,
    /// Names of all arguments, in the order in which they are pushed; none if there are none.
    names: Option<Py<PyTuple>>,
}

/// Where a route stands in its app.
pub struct Place {
    /// The router in whose place the plan runs, within the app's own ASGI call.
    pub router: Py<PyAny>,
    /// Whether the app has something around that router which each request has to pass.
    pub is_within_stack: bool,
    /// What the router writes into the scope: `(key, value)`.
    pub marks: Vec<(Py<PyString>, Py<PyAny>)>,
    /// For `path_params` of the scope: the names, and what makes their values of the texts; None: the text is the value.
    pub path_params: Vec<(Py<PyString>, Option<Py<PyAny>>)>,
    /// The path under which the router's app is mounted in the one that is served; empty for that one.
    pub prefix: String,
    /// A dict of what goes into the scope's `fastapi`, if the route is one of an included router.
    pub included: Option<Py<PyDict>>,
    /// What stands around the route's handler, if the plan runs within that: `turboapi/plan/wrapped.py`.
    pub wrapped: Option<Py<PyAny>>,
}

impl Plan {
    /// Reads a `plan.NativeRoute`. `path_names` are the template's parameters, in order.
    pub fn new(route: &Bound<'_, PyAny>, path_names: &[&str], standings: &mut Standings) -> PyResult<Self> {
        let py = route.py();
        let hook = |name: &str| Ok::<_, PyErr>(fields::optional(route, name)?.map(Bound::unbind));
        let mut names = Vec::new();
        let mut parameters = Vec::new();
        for parameter in fields::object(route, "parameters")?.try_iter()? {
            let parameter = parameter?;
            names.push(fields::value::<String>(&parameter, "name")?);
            parameters.push(Parameter::new(&parameter, path_names)?);
        }
        let mut bodies = Vec::new();
        for body in fields::object(route, "bodies")?.try_iter()? {
            let body = body?;
            names.push(fields::value(&body, "name")?);
            bodies.push(Body::new(&body)?);
        }
        let connection: Option<String> = fields::value(route, "connection")?;
        let response: Option<String> = fields::value(route, "response")?;
        let takes_connection = connection.is_some();
        let make_response = if response.is_some() { hook("make_response")? } else { None };
        let tasks: Option<String> = fields::value(route, "tasks")?;
        let make_tasks = if tasks.is_some() { hook("make_tasks")? } else { None };
        let is_staged = fields::value(route, "is_staged")?;
        names.extend(connection);
        names.extend(response);
        names.extend(tasks);
        if is_staged {
            names.push("respond".to_owned());
        }
        // Interned, as the interpreter compares names by identity first.
        let names: Vec<_> = names.iter().map(|name| PyString::intern(py, name)).collect();
        let is_coroutine = fields::value(route, "is_coroutine")?;
        let role = if fields::value(route, "is_composed")? { Role::Composed } else { Role::Whole };
        let standing = standings.of(&fields::object(route, "owner")?, fields::value(route, "blocking")?, role);
        let label = fields::value(route, "label")?;
        Ok(Self {
            endpoint: fields::object(route, "endpoint")?.unbind(),
            is_coroutine,
            status: fields::value::<Option<u16>>(route, "status_code")?.unwrap_or(200),
            render: hook("render")?,
            serialize: hook("serialize")?,
            encode: fields::object(route, "encode")?.unbind(),
            respond: fields::object(route, "respond")?.unbind(),
            place: Place::new(&fields::object(route, "place")?)?,
            takes_connection,
            is_staged,
            overrides: fields::value(route, "overrides")?,
            make_response,
            make_tasks,
            subject: Arc::new(Subject { standing, label }),
            runs_app_code: fields::value(route, "runs_app_code")?,
            wording: Wording::new(route)?,
            parameters,
            bodies,
            takes_null: fields::value(route, "takes_null")?,
            read_json: fields::object(route, "read_json")?.unbind(),
            names: if names.is_empty() { None } else { Some(PyTuple::new(py, names)?.unbind()) },
        })
    }

    /// Whether a value of built-in types is written without asking FastAPI.
    pub fn writes_plain_json(&self) -> bool {
        self.render.is_none() && self.serialize.is_none()
    }

    /// Whether one of its arguments is in the request's body.
    pub fn reads_body(&self) -> bool {
        !self.bodies.is_empty()
    }

    /// Whether its request is for the plan only when its body is complete. What stands around a plan may answer before.
    pub fn wants_whole_body(&self) -> bool {
        self.reads_body() && !self.is_for_leaf()
    }

    /// Whether it needs more than the request as Rust has it: what stands around it, a `Request`, or the request's own task.
    pub fn is_for_leaf(&self) -> bool {
        self.place.is_within_stack || self.takes_connection || self.runs_app_code
    }

    /// What of its arguments is to be filled in by the function, empty.
    pub fn make_further<'py>(&self, py: Python<'py>) -> PyResult<Further<'py>> {
        let make = |make: &Option<Py<PyAny>>| make.as_ref().map(|make| make.bind(py).call0()).transpose();
        Ok(Further { response: make(&self.make_response)?, tasks: make(&self.make_tasks)? })
    }

    /// Names of the arguments: of those that `fill` makes, then of the connection, the `Response`, the `BackgroundTasks` and what
    /// sends the answer.
    pub fn names<'a, 'py>(&'a self, py: Python<'py>) -> Option<&'a Bound<'py, PyTuple>> {
        self.names.as_ref().map(|names| names.bind(py))
    }

    /// Its call, for a thread. Takes the arguments.
    pub fn deferred(&self, py: Python<'_>, arguments: &mut Arguments) -> Deferred {
        Deferred {
            subject: Arc::clone(&self.subject),
            callable: self.endpoint.clone_ref(py),
            arguments: arguments.take(py).into_iter().map(Bound::unbind).collect(),
            names: self.names.as_ref().map(|names| names.clone_ref(py)),
            is_limited: true,
        }
    }

    /// Fills `arguments` from the request.
    pub fn fill(&self, py: Python<'_>, request: &Request<'_>, arguments: &mut Arguments) -> Result<(), Unfit> {
        let done = self.try_fill(py, request, arguments);
        if done.is_err() {
            arguments.clear(py);
        }
        done
    }

    fn try_fill(&self, py: Python<'_>, request: &Request<'_>, arguments: &mut Arguments) -> Result<(), Unfit> {
        if self.overrides.as_ref().is_some_and(|overrides| !overrides.bind(py).is_empty()) {
            return Err(Unfit::HandOver);
        }
        let whole = if self.bodies.is_empty() {
            Whole::Absent
        } else {
            match read_body(py, request, self.takes_null, &self.read_json) {
                Ok(whole) => whole,
                Err(Unread::Unknown) => return Err(Unfit::HandOver),
                Err(Unread::Malformed(error)) => return Err(self.wording.malformed(py, error)),
            }
        };
        // As of the whole body: while nothing of the app's has run.
        if !self.takes_null && self.bodies.iter().any(|body| body.is_null(&whole)) {
            return Err(Unfit::HandOver);
        }
        // All are converted, as FastAPI does: each may have an error, and the app may see that it is.
        let mut failures = Failures::new(&self.wording, self.runs_app_code);
        for (number, parameter) in self.parameters.iter().enumerate() {
            match parameter.value(py, request) {
                Ok(value) => arguments.push(value),
                Err(failure) => failures.push(py, number, failure)?,
            }
        }
        for (number, body) in self.bodies.iter().enumerate() {
            match body.value(py, &whole) {
                Ok(value) => arguments.push(value),
                Err(failure) => failures.push(py, self.parameters.len() + number, failure)?,
            }
        }
        failures.into_result(whole)
    }
}

/// What a function was given as arguments to say more of its answer by.
#[derive(Default)]
pub struct Further<'py> {
    /// A `Response`, whose status and headers count.
    pub response: Option<Bound<'py, PyAny>>,
    /// A `BackgroundTasks`.
    pub tasks: Option<Bound<'py, PyAny>>,
}

impl<'py> Further<'py> {
    /// Has the function called with them, behind its other arguments.
    pub fn push_to(&self, arguments: &mut Arguments) {
        for argument in [&self.response, &self.tasks].into_iter().flatten() {
            arguments.push(argument.clone());
        }
    }

    /// The background tasks, if there are any.
    pub fn due(&self) -> PyResult<Option<Bound<'py, PyAny>>> {
        let Some(tasks) = &self.tasks else { return Ok(None) };
        Ok(tasks.getattr(intern!(tasks.py(), "tasks"))?.is_truthy()?.then(|| tasks.clone()))
    }

    /// Gives them to a response that the function has returned, as FastAPI does.
    pub fn give_to(&self, response: &Bound<'py, PyAny>) -> PyResult<()> {
        let name = intern!(response.py(), "background");
        match &self.tasks {
            Some(tasks) if response.getattr(name)?.is_none() => response.setattr(name, tasks),
            _ => Ok(()),
        }
    }
}

impl Place {
    fn new(place: &Bound<'_, PyAny>) -> PyResult<Self> {
        let py = place.py();
        let mut marks = Vec::new();
        for (key, value) in fields::value::<Vec<(String, Py<PyAny>)>>(place, "marks")? {
            marks.push((PyString::intern(py, &key).unbind(), value));
        }
        let mut path_params = Vec::new();
        for (name, convert) in fields::value::<Vec<(String, Option<Py<PyAny>>)>>(place, "path_params")? {
            path_params.push((PyString::intern(py, &name).unbind(), convert));
        }
        Ok(Self {
            router: fields::object(place, "router")?.unbind(),
            is_within_stack: fields::value(place, "is_within_stack")?,
            marks,
            path_params,
            prefix: fields::value(place, "prefix")?,
            included: fields::value(place, "included")?,
            wrapped: fields::optional(place, "wrapped")?.map(Bound::unbind),
        })
    }
}
