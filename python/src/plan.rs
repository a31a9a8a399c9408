//! A route's plan: what `turboapi/plan/routes.py` has worked out at start, in the form in which a request can run through it.
//!
//! Here: the texts of a request become the arguments of a call, or the request is handed over. INVARIANT: a plan never
//! words an error. Whatever does not convert goes to the app's own ASGI call, which says so as FastAPI does.

use std::borrow::Cow;
use std::sync::Arc;

use jiter::{FloatMode, PartialMode, PythonParse, StringCacheMode};
use pyo3::exceptions::PyValueError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyFloat, PyInt, PyString, PyTuple};
use turboapi_core::http::cookie;
use turboapi_core::http::target::query_pairs;
use turboapi_core::request::Request;

use crate::fields;
use crate::interpreter::Arguments;
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
    parameters: Vec<Parameter>,
    body: Option<Body>,
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

struct Parameter {
    source: Source,
    kind: Kind,
    validate: Py<PyAny>,
    absent: Absent,
}

enum Source {
    /// Number of the parameter in the route's template.
    Path(usize),
    Query(String),
    Header(String),
    Cookie(String),
}

/// Whose plain forms are converted here. The exact type, without constraints.
#[derive(Clone, Copy)]
enum Kind {
    Str,
    Int,
    Float,
    Bool,
    Validator,
}

/// What stands for a value that was not sent.
enum Absent {
    /// Nothing does: the request is handed over.
    Refused,
    Value(Py<PyAny>),
    Factory(Py<PyAny>),
}

struct Body {
    validate: Py<PyAny>,
}

/// The request is not for the plan: the app's own ASGI call has it. Nothing has happened yet.
#[derive(Debug)]
pub struct HandOver;

impl From<PyErr> for HandOver {
    /// What a validator raised will be raised again, and worded, on the ASGI path.
    fn from(_: PyErr) -> Self {
        Self
    }
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
        let mut body = None;
        if let Some(declared) = fields::optional(route, "body")? {
            names.push(fields::value(&declared, "name")?);
            body = Some(Body { validate: fields::object(&declared, "validate")?.unbind() });
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
            parameters,
            body,
            names: if names.is_empty() { None } else { Some(PyTuple::new(py, names)?.unbind()) },
        })
    }

    /// Whether a value of built-in types is written without asking FastAPI.
    pub fn writes_plain_json(&self) -> bool {
        self.render.is_none() && self.serialize.is_none()
    }

    /// Whether one of its arguments is in the request's body.
    pub fn reads_body(&self) -> bool {
        self.body.is_some()
    }

    /// Whether its request is for the plan only when its body is complete. What stands around a plan may answer before.
    pub fn wants_whole_body(&self) -> bool {
        self.reads_body() && !self.is_for_leaf()
    }

    /// Whether it needs more than the request as Rust has it: what stands around it, a `Request`, or somebody who sends its answer.
    pub fn is_for_leaf(&self) -> bool {
        self.place.is_within_stack || self.takes_connection || self.is_staged
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
    pub fn fill(&self, py: Python<'_>, request: &Request<'_>, arguments: &mut Arguments) -> Result<(), HandOver> {
        let done = self.try_fill(py, request, arguments);
        if done.is_err() {
            arguments.clear(py);
        }
        done
    }

    fn try_fill(&self, py: Python<'_>, request: &Request<'_>, arguments: &mut Arguments) -> Result<(), HandOver> {
        if self.overrides.as_ref().is_some_and(|overrides| !overrides.bind(py).is_empty()) {
            return Err(HandOver);
        }
        for parameter in &self.parameters {
            arguments.push(parameter.value(py, request)?);
        }
        if let Some(body) = &self.body {
            arguments.push(body.value(py, request)?);
        }
        Ok(())
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

impl Parameter {
    fn new(parameter: &Bound<'_, PyAny>, path_names: &[&str]) -> PyResult<Self> {
        let wire_name: String = fields::value(parameter, "wire_name")?;
        let source: String = fields::value(parameter, "source")?;
        let source = match source.as_str() {
            "path" => Source::Path(path_names.iter().position(|name| *name == wire_name).ok_or_else(|| {
                PyValueError::new_err(format!("no path parameter {wire_name:?}, there are {path_names:?}"))
            })?),
            "query" => Source::Query(wire_name),
            "header" => Source::Header(wire_name),
            "cookie" => Source::Cookie(wire_name),
            _ => return Err(fields::unknown("source", &source, "path, query, header and cookie")),
        };
        let kind: String = fields::value(parameter, "kind")?;
        let kind = match kind.as_str() {
            "str" => Kind::Str,
            "int" => Kind::Int,
            "float" => Kind::Float,
            "bool" => Kind::Bool,
            "validator" => Kind::Validator,
            _ => return Err(fields::unknown("kind of value", &kind, "str, int, float, bool and validator")),
        };
        let default = fields::object(parameter, "default")?.unbind();
        let absent = match (fields::value(parameter, "required")?, fields::optional(parameter, "default_factory")?) {
            (true, _) => Absent::Refused,
            (false, Some(factory)) => Absent::Factory(factory.unbind()),
            (false, None) => Absent::Value(default),
        };
        Ok(Self { source, kind, validate: fields::object(parameter, "validate")?.unbind(), absent })
    }

    fn value<'py>(&self, py: Python<'py>, request: &Request<'_>) -> Result<Bound<'py, PyAny>, HandOver> {
        match self.text(request) {
            Some(text) => self.convert(py, &text),
            None => match &self.absent {
                Absent::Refused => Err(HandOver),
                Absent::Value(value) => Ok(value.bind(py).clone()),
                Absent::Factory(factory) => Ok(factory.bind(py).call0()?),
            },
        }
    }

    fn text<'r>(&self, request: &Request<'r>) -> Option<Cow<'r, str>> {
        match &self.source {
            Source::Path(index) => {
                request.params.spans().get(*index).map(|span| Cow::Borrowed(&request.path[span.clone()]))
            }
            // As in Starlette's QueryParams: the last one wins.
            Source::Query(name) => {
                let query = request.query();
                if query.is_empty() {
                    return None;
                }
                query_pairs(query).filter(|(key, _)| key == name).last().map(|(_, value)| value)
            }
            // As in Starlette's Headers: the first one wins, and bytes are Latin-1.
            Source::Header(name) => request.head.value(request.head_bytes, name.as_bytes()).map(latin_1),
            Source::Cookie(name) => {
                let mut found = None;
                for line in request.head.values(request.head_bytes, b"cookie") {
                    for (key, value) in cookie::cookies(line) {
                        if key == *name {
                            found = Some(value.into_owned());
                        }
                    }
                }
                found.map(Cow::Owned)
            }
        }
    }

    fn convert<'py>(&self, py: Python<'py>, text: &str) -> Result<Bound<'py, PyAny>, HandOver> {
        // Plain forms only. `validate` has all others: " 5", "1_0", "5.0", and those that are wrong.
        match self.kind {
            Kind::Str => return Ok(PyString::new(py, text).into_any()),
            Kind::Int => {
                let digits = text.strip_prefix('-').unwrap_or(text);
                if (1..=18).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit()) {
                    let number: i64 = text.parse().map_err(|_| HandOver)?;
                    return Ok(PyInt::new(py, number).into_any());
                }
            }
            Kind::Float => {
                if is_plain_decimal(text) {
                    let number: f64 = text.parse().map_err(|_| HandOver)?;
                    return Ok(PyFloat::new(py, number).into_any());
                }
            }
            Kind::Bool => {
                let truth = match text {
                    "true" | "1" => Some(true),
                    "false" | "0" => Some(false),
                    _ => None,
                };
                if let Some(truth) = truth {
                    return Ok(PyBool::new(py, truth).to_owned().into_any());
                }
            }
            Kind::Validator => {}
        }
        Ok(self.validate.bind(py).call1((PyString::new(py, text),))?)
    }
}

/// `12`, `-0.5`: digits, then perhaps a point and digits, few enough that nobody's parser rounds them in its own way.
fn is_plain_decimal(text: &str) -> bool {
    let unsigned = text.strip_prefix('-').unwrap_or(text);
    let (whole, fraction) = unsigned.split_once('.').unwrap_or((unsigned, "0"));
    let are_digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    unsigned.len() <= 17 && are_digits(whole) && are_digits(fraction)
}

fn latin_1(bytes: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(bytes) {
        Ok(text) if bytes.is_ascii() => Cow::Borrowed(text),
        _ => Cow::Owned(bytes.iter().map(|&byte| char::from(byte)).collect()),
    }
}

impl Body {
    fn value<'py>(&self, py: Python<'py>, request: &Request<'_>) -> Result<Bound<'py, PyAny>, HandOver> {
        let content_type = request.head.value(request.head_bytes, b"content-type").ok_or(HandOver)?;
        // FastAPI before 0.165 takes `null` for a body that was not sent, later ones for a value.
        if request.body.is_empty() || request.body.trim_ascii() == b"null" || !is_json(content_type) {
            return Err(HandOver);
        }
        // Python's json knows NaN, lone surrogates, a byte order mark and UTF-16: errors here, and so handed over.
        let parse = PythonParse {
            allow_inf_nan: false,
            cache_mode: StringCacheMode::None,
            partial_mode: PartialMode::Off,
            catch_duplicate_keys: false,
            float_mode: FloatMode::Float,
        };
        let value = parse.python_parse(py, request.body).map_err(|_| HandOver)?;
        Ok(self.validate.bind(py).call1((value,))?)
    }
}

/// The two ways in which clients write it; FastAPI decides about any other.
fn is_json(content_type: &[u8]) -> bool {
    content_type.eq_ignore_ascii_case(b"application/json")
        || content_type.eq_ignore_ascii_case(b"application/json; charset=utf-8")
        || content_type.eq_ignore_ascii_case(b"application/json;charset=utf-8")
}
