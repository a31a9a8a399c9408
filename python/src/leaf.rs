//! The compiled leaf's part in Rust: a plan that runs inside of the app's own ASGI call, in the place of its router.
//!
//! What is in Python is `turboapi/plan/leaf.py`: an ASGI callable. It asks here whether the router would find what Rust has found,
//! has the function called, and sends what became of it by the `send` that it was given. INVARIANT: where `call` returns
//! None, nothing has happened that the app's own router could not do again.

use std::sync::{Arc, Mutex};
use std::time::Instant;

use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PyString, PyTuple};
use turboapi_core::router::Params;

use crate::calls::Calls;
use crate::event_loop::Running;
use crate::interpreter::Arguments;
use crate::invalid::{INVALID, Unfit, write_errors};
use crate::job::Waiter;
use crate::mailbox::lock;
use crate::plan::{Further, Plan};
use crate::reply::{Made, ResponseTypes, Within};
use crate::request::Retained;

/// What it is made of.
pub struct Parts {
    /// The route's.
    pub plan: Arc<Plan>,
    /// The worker's.
    pub types: Arc<ResponseTypes>,
    /// The worker's.
    pub calls: Arc<Calls>,
    /// The worker's.
    pub running: Arc<Running>,
    /// What was asked for.
    pub request: Arc<Retained>,
    /// Where the route's parameters stand in its path.
    pub params: Params,
}

/// One request, and the plan of the route that was found for it. An app may call its router for it more than once.
#[pyclass(frozen, module = "turboapi._core")]
pub struct Matched {
    parts: Parts,
    given: Mutex<Option<Given>>,
}

/// One that there may be.
type Argument<'py> = Option<Bound<'py, PyAny>>;

/// What the scope was made of: an object that is still the same says what it said.
struct Given {
    method: Py<PyAny>,
    path: Py<PyAny>,
    root_path: Py<PyAny>,
    query_string: Py<PyAny>,
    headers: Py<PyList>,
    /// `headers` is a list, which middleware may change in place.
    pairs: Vec<Py<PyAny>>,
}

impl Matched {
    /// For one request.
    pub fn new(parts: Parts) -> Self {
        Self { parts, given: Mutex::new(None) }
    }
}

#[pymethods]
impl Matched {
    /// Remembers what a scope is made of, before anybody else has it. Not called if nobody else will before `call`.
    fn remember(&self, scope: &Bound<'_, PyDict>) -> PyResult<()> {
        let py = scope.py();
        let scope = scope.as_any();
        let headers = scope.get_item(intern!(py, "headers"))?.cast_into::<PyList>()?;
        let given = Given {
            method: scope.get_item(intern!(py, "method"))?.unbind(),
            path: scope.get_item(intern!(py, "path"))?.unbind(),
            root_path: scope.get_item(intern!(py, "root_path"))?.unbind(),
            query_string: scope.get_item(intern!(py, "query_string"))?.unbind(),
            pairs: headers.iter().map(Bound::unbind).collect(),
            headers: headers.unbind(),
        };
        let former = lock(&self.given).replace(given);
        drop(former); // Outside of the lock: the end of an object may run any Python code.
        Ok(())
    }

    /// Whether this router would find the same route for the scope as it is now, and with the same parameters, and the caller runs in
    /// the worker's own loop: futures and threads of the plan are that one's.
    fn is_for(&self, router: &Bound<'_, PyAny>, scope: &Bound<'_, PyAny>) -> PyResult<bool> {
        let py = scope.py();
        // Another mapping may look up and write in a way of its own.
        let Ok(scope) = scope.cast_exact::<PyDict>() else { return Ok(false) };
        if !self.parts.plan.place.router.bind(py).is(router) || !self.parts.running.is_here(py)? {
            return Ok(false);
        }
        let is_http = |kind: &Bound<'_, PyAny>| kind.cast_exact::<PyString>().is_ok_and(|kind| kind == "http");
        if !scope.get_item(intern!(py, "type"))?.as_ref().is_some_and(is_http) {
            return Ok(false);
        }
        let Some((method, path, root_path)) = self
            .with_given(|given| (given.method.clone_ref(py), given.path.clone_ref(py), given.root_path.clone_ref(py)))
        else {
            return Ok(false);
        };
        let is_same = |name: &Bound<'_, PyString>, value: &Py<PyAny>| -> PyResult<bool> {
            Ok(scope.get_item(name)?.is_some_and(|present| present.is(value.bind(py))))
        };
        let has_no_parameters = match scope.get_item(intern!(py, "path_params"))? {
            None => true,
            // A mount has put its own there, of which it has none.
            Some(present) => {
                !self.parts.plan.place.prefix.is_empty()
                    && present.is_exact_instance_of::<PyDict>()
                    && present.len()? == 0
            }
        };
        Ok(is_same(intern!(py, "method"), &method)?
            && is_same(intern!(py, "path"), &path)?
            && self.is_root_path(scope, root_path.bind(py))?
            // What stands in the way has found parameters of its own.
            && has_no_parameters)
    }

    /// Whether the route is one of this router's own, with nothing around its handler.
    fn is_of(&self, router: &Bound<'_, PyAny>) -> bool {
        let place = &self.parts.plan.place;
        place.router.bind(router.py()).is(router) && place.prefix.is_empty() && place.wrapped.is_none()
    }

    /// Whether one of the arguments is in the body.
    #[getter]
    fn reads_body(&self) -> bool {
        self.parts.plan.reads_body()
    }

    /// Whether one of the arguments is the request.
    #[getter]
    fn takes_connection(&self) -> bool {
        self.parts.plan.takes_connection
    }

    /// Whether the function sends the answer by an argument.
    #[getter]
    fn is_staged(&self) -> bool {
        self.parts.plan.is_staged
    }

    /// A `Response` and a `BackgroundTasks` as arguments, for `call` and `answer`; None for one that there is not.
    fn make_further<'py>(&self, py: Python<'py>) -> PyResult<(Argument<'py>, Argument<'py>)> {
        let Further { response, tasks } = self.parts.plan.make_further(py)?;
        Ok((response, tasks))
    }

    /// The same background tasks, to be called in Starlette's way, of which plain functions run by their standing.
    fn by_standing<'py>(&self, background: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        self.parts.calls.hooks.by_standing.bind(background.py()).call1((background,))
    }

    /// Calls the function, with arguments from the request as the scope has it now. None: it is not for the plan, and nothing has
    /// happened. Else `("value", result)`, `("awaitable", coroutine)` or `("job", job)`; or `("invalid", (errors, body, cause))`,
    /// where arguments are missing or wrong.
    #[pyo3(signature = (scope, body, connection, response, tasks, respond))]
    fn call<'py>(
        &self,
        scope: &Bound<'py, PyDict>,
        body: Option<&Bound<'py, PyBytes>>,
        connection: Option<Bound<'py, PyAny>>,
        response: Option<Bound<'py, PyAny>>,
        tasks: Option<Bound<'py, PyAny>>,
        respond: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Option<(&'static str, Bound<'py, PyAny>)>> {
        let py = scope.py();
        let Parts { plan, calls, running, params, .. } = &self.parts;
        let Some(request) = self.as_it_is_now(scope)? else { return Ok(None) };
        let body = body.map_or(&[][..], |body| body.as_bytes());
        let mut arguments = Arguments::default();
        match plan.fill(py, &request.with_body(params, body), &mut arguments) {
            Ok(()) if plan.place.wrapped.is_some() => {}
            Ok(()) => self.mark(scope)?,
            Err(Unfit::HandOver) => return Ok(None),
            Err(Unfit::Raised(error)) => {
                self.mark(scope)?;
                return Err(error);
            }
            Err(Unfit::Invalid(invalid)) => {
                self.mark(scope)?;
                let found = (invalid.errors(py, &plan.wording)?, &invalid.body, invalid.cause(py));
                return Ok(Some(("invalid", found.into_pyobject(py)?.into_any())));
            }
        }
        for further in [connection, response, tasks, respond].into_iter().flatten() {
            arguments.push(further);
        }
        if plan.is_coroutine {
            return Ok(Some(("awaitable", arguments.call(plan.endpoint.bind(py), plan.names(py))?)));
        }
        if plan.subject.standing.is_on_worker() {
            let call = || arguments.call(plan.endpoint.bind(py), plan.names(py));
            let value = running.without(py, || calls.inline(py, &plan.subject, Instant::now(), call))?;
            return Ok(Some(("value", value)));
        }
        let waiter = Waiter::Task(running.future(py)?.unbind());
        Ok(Some(("job", calls.in_thread(py, plan.deferred(py, &mut arguments), waiter)?.into_any())))
    }

    /// What becomes of the function's value: `(status, header pairs, body, background)`, where the last is to be called afterwards, or
    /// None; or a response that has to be called.
    ///
    /// # Errors
    /// What FastAPI would have raised.
    fn answer<'py>(
        &self,
        value: &Bound<'py, PyAny>,
        response: Option<Bound<'py, PyAny>>,
        tasks: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = value.py();
        let further = Further { response, tasks };
        let Parts { plan, types, .. } = &self.parts;
        let mut json = Vec::new();
        match Made::new(plan, types, value, Within::Present, &further, &mut json)? {
            Made::Json => whole(py, plan.status, &json, further.due()?),
            Made::Response(response) if types.is_plain(&response) => {
                let part = |name| response.getattr(name);
                let parts = [
                    part(intern!(py, "status_code"))?,
                    part(intern!(py, "raw_headers"))?,
                    part(intern!(py, "body"))?,
                    part(intern!(py, "background"))?,
                ];
                Ok(PyTuple::new(py, parts)?.into_any())
            }
            Made::Response(response) => Ok(response),
        }
    }

    /// Writes into the scope what the router writes.
    #[pyo3(name = "mark")]
    fn mark_scope(&self, scope: &Bound<'_, PyDict>) -> PyResult<()> {
        self.mark(scope)
    }

    /// What stands around the route's handler (`Wrapped`), if the plan runs within that.
    #[getter]
    fn wrapped<'py>(&self, py: Python<'py>) -> Option<&Bound<'py, PyAny>> {
        self.parts.plan.place.wrapped.as_ref().map(|wrapped| wrapped.bind(py))
    }

    /// Whether the caller runs in the worker's own loop.
    fn is_here(&self, py: Python<'_>) -> PyResult<bool> {
        self.parts.running.is_here(py)
    }

    /// What becomes of the function's value, for somebody who wants to see it: a response, or its JSON as bytes.
    ///
    /// # Errors
    /// What FastAPI would have raised.
    fn made<'py>(&self, value: &Bound<'py, PyAny>, response: Option<Bound<'py, PyAny>>) -> PyResult<Bound<'py, PyAny>> {
        let further = Further { response, tasks: None };
        let mut json = Vec::new();
        match Made::new(&self.parts.plan, &self.parts.types, value, Within::Present, &further, &mut json)? {
            Made::Json => Ok(PyBytes::new(value.py(), &json).into_any()),
            Made::Response(response) => Ok(response),
        }
    }

    /// The plan's words for arguments that are missing or wrong; None if it has none.
    #[getter]
    fn wording(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.parts.plan.wording.words().map(|words| words.clone_ref(py))
    }

    /// What FastAPI's stock handler answers to errors of arguments, as `answer` has it.
    ///
    /// # Errors
    /// What it would have raised.
    fn refusal<'py>(&self, errors: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let mut json = Vec::new();
        write_errors(&self.parts.plan.encode, errors, &mut json)?;
        whole(errors.py(), INVALID, &json, None)
    }

    /// A scope may be copied deeply, or pickled; for a copy of it there is no plan.
    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyTuple>> {
        let py = slf.py();
        (py.None().bind(py).get_type(), PyTuple::empty(py)).into_pyobject(py)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        // The lock is held for moments only, and never while Python runs; a collection that comes then sees it next time.
        if let Ok(given) = self.given.try_lock()
            && let Some(given) = &*given
        {
            visit.call(&given.headers)?;
            for pair in &given.pairs {
                visit.call(pair)?;
            }
        }
        Ok(())
    }

    fn __clear__(&self) {
        let given = lock(&self.given).take();
        drop(given); // Outside of the lock: the end of an object may run any Python code.
    }
}

/// An answer of JSON: `(status, header pairs, body, background)`.
fn whole<'py>(py: Python<'py>, status: u16, json: &[u8], background: Argument<'py>) -> PyResult<Bound<'py, PyAny>> {
    let length = PyBytes::new(py, json.len().to_string().as_bytes());
    let headers = [
        (PyBytes::new(py, b"content-length"), length),
        (PyBytes::new(py, b"content-type"), PyBytes::new(py, b"application/json")),
    ];
    Ok((status, PyList::new(py, headers)?, PyBytes::new(py, json), background).into_pyobject(py)?.into_any())
}

impl Matched {
    /// Whether the scope's `root_path` is the one that was given, with the path of the mount behind it.
    fn is_root_path(&self, scope: &Bound<'_, PyDict>, given: &Bound<'_, PyAny>) -> PyResult<bool> {
        let Some(present) = scope.get_item(intern!(scope.py(), "root_path"))? else { return Ok(false) };
        let prefix = &self.parts.plan.place.prefix;
        if prefix.is_empty() {
            return Ok(present.is(given));
        }
        let (Ok(present), Ok(given)) = (present.cast_exact::<PyString>(), given.cast_exact::<PyString>()) else {
            return Ok(false);
        };
        Ok(present.to_str()?.strip_suffix(prefix.as_str()) == Some(given.to_str()?))
    }

    fn with_given<T>(&self, look: impl FnOnce(&Given) -> T) -> Option<T> {
        lock(&self.given).as_ref().map(look)
    }

    /// The request with the query and the header lines of the scope. None: nobody but the app can read them.
    fn as_it_is_now(&self, scope: &Bound<'_, PyDict>) -> PyResult<Option<Arc<Retained>>> {
        let py = scope.py();
        let request = &self.parts.request;
        let (Some(query), Some(headers)) =
            (scope.get_item(intern!(py, "query_string"))?, scope.get_item(intern!(py, "headers"))?)
        else {
            return Ok(None);
        };
        let is_unchanged = self.with_given(|given| {
            query.is(given.query_string.bind(py))
                && headers.is(given.headers.bind(py))
                && given.headers.bind(py).len() == given.pairs.len()
                && given.headers.bind(py).iter().zip(&given.pairs).all(|(now, then)| now.is(then.bind(py)))
        });
        // Nothing is remembered where nobody has had the scope.
        if is_unchanged != Some(false) {
            return Ok(Some(Arc::clone(request)));
        }
        let (Ok(query), Ok(headers)) =
            (query.cast_exact::<PyBytes>(), headers.extract::<Vec<(Bound<'_, PyAny>, Bound<'_, PyAny>)>>())
        else {
            return Ok(None);
        };
        let mut fields = Vec::with_capacity(headers.len());
        for (name, value) in &headers {
            let (Ok(name), Ok(value)) = (name.cast_exact::<PyBytes>(), value.cast_exact::<PyBytes>()) else {
                return Ok(None);
            };
            // Starlette compares names as they are, we do without regard to case: lower case is what ASGI asks for.
            if name.as_bytes().iter().any(u8::is_ascii_uppercase) {
                return Ok(None);
            }
            fields.push((name.as_bytes(), value.as_bytes()));
        }
        Ok(request.with_fields(query.as_bytes(), fields).map(Arc::new))
    }

    /// Writes into the scope what the router writes.
    fn mark(&self, scope: &Bound<'_, PyDict>) -> PyResult<()> {
        let py = scope.py();
        let place = &self.parts.plan.place;
        if !scope.contains(intern!(py, "router"))? {
            scope.set_item(intern!(py, "router"), place.router.bind(py))?;
        }
        if let Some(included) = &place.included {
            let key = intern!(py, "fastapi");
            match scope.get_item(key)? {
                Some(present) => present.cast_into::<PyDict>()?.update(included.bind(py).as_mapping())?,
                None => scope.set_item(key, included.bind(py).copy()?)?,
            }
        }
        for (key, value) in &place.marks {
            scope.set_item(key.bind(py), value.bind(py))?;
        }
        let values = PyDict::new(py);
        let path = self.parts.request.path();
        for ((name, convert), span) in place.path_params.iter().zip(self.parts.params.spans()) {
            let text = PyString::new(py, &path[span.clone()]);
            match convert {
                None => values.set_item(name.bind(py), text)?,
                Some(convert) => values.set_item(name.bind(py), convert.bind(py).call1((text,))?)?,
            }
        }
        scope.set_item(intern!(py, "path_params"), values)
    }
}
