//! Requests that the app's own ASGI call answers, and the way back. The protocol's messages are in `turboapi/asgi.py`; what is
//! sent and read goes through the worker's mailbox.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use pyo3::exceptions::{PyOSError, PyRuntimeError};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PyString};
use turboapi_core::answer::{AnswerError, Headers};
use turboapi_core::handler::{Ended, Part};
use turboapi_core::request::RequestId;

use crate::mailbox::{Mailbox, Ticket, lock};
use crate::proxies::Proxies;
use crate::reply::{checked_status, headers_from, shared_bytes};
use crate::request::Retained;

/// Unsent bytes of one answer over which the app is told to wait.
const UNSENT_BYTES_MAX: usize = 64 * 1024;

/// What a part counts for beside its bytes, as it waits in a queue of its own: parts of a byte each would be a hundred times theirs.
const PART_BYTES: usize = 128;

/// The exchanges of one worker whose connections still have something to tell them.
#[derive(Debug, Default)]
pub struct Exchanges {
    /// The worker's.
    pub mailbox: Arc<Mailbox>,
    open: Mutex<HashMap<RequestId, Py<Exchange>>>,
}

impl Exchanges {
    /// Makes one. `ended`: what its peer has done meanwhile.
    pub fn open(&self, py: Python<'_>, request: Arc<Retained>, ended: Option<Ended>) -> PyResult<Py<Exchange>> {
        let (id, mailbox) = (request.id, Arc::clone(&self.mailbox));
        let mut state = State { ticket: Some(Ticket::new(&mailbox)), ..State::default() };
        if let Some(how) = ended {
            state.note_end(how);
        }
        let exchange = Py::new(py, Exchange { request, mailbox, state: Mutex::new(state) })?;
        lock(&self.open).insert(id, exchange.clone_ref(py));
        Ok(exchange)
    }

    /// Makes one, and hands it and `argument` (a value, and the context in which it is to go on) to `hook`, which begins to
    /// answer.
    pub fn begin(
        &self,
        py: Python<'_>,
        request: Arc<Retained>,
        hook: &Py<PyAny>,
        argument: Option<(Py<PyAny>, Option<Py<PyAny>>)>,
        ended: Option<Ended>,
    ) -> PyResult<()> {
        let id = request.id;
        let exchange = self.open(py, request, ended)?;
        let hook = hook.bind(py);
        let started = match argument {
            Some((argument, context)) => hook.call1((exchange, argument, context)),
            None => hook.call1((exchange,)),
        };
        if started.is_err() {
            self.forget(id);
        }
        started.map(|_| ())
    }

    /// The exchange of a request, if it has one.
    pub fn get(&self, py: Python<'_>, id: RequestId) -> Option<Py<Exchange>> {
        lock(&self.open).get(&id).map(|exchange| exchange.clone_ref(py))
    }

    /// The same, and it gets no further notice and nothing more of its body.
    pub fn forget(&self, id: RequestId) -> Option<Py<Exchange>> {
        self.mailbox.drop_body(id);
        lock(&self.open).remove(&id)
    }

    /// The server is about to end. An event stream would not end by itself: its app is told as if the peer had gone, and may
    /// still send. All other answers go on.
    pub fn drain(&self, py: Python<'_>) {
        self.mailbox.drain();
        let exchanges: Vec<_> = lock(&self.open).values().map(|exchange| exchange.clone_ref(py)).collect();
        for exchange in exchanges {
            exchange.get().end_stream(py);
        }
    }

    /// Nobody will be answered any more.
    pub fn close(&self) {
        let exchanges = std::mem::take(&mut *lock(&self.open));
        drop(exchanges); // Outside of the lock: the end of an object may run any Python code.
        self.mailbox.close();
    }
}

/// One request that the app's own ASGI call answers, and the way back.
#[pyclass(frozen, module = "turboapi._core")]
#[derive(Debug)]
pub struct Exchange {
    request: Arc<Retained>,
    mailbox: Arc<Mailbox>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The head that was started and not yet sent: it leaves with the first part of the body, as one piece if that is all.
    start: Option<(u16, Headers)>,
    is_started: bool,
    /// Whether the app has begun its answer, though middleware holds it back.
    has_begun: bool,
    /// What the app's own Content-Length leaves to send, if it said one and there is a body.
    promised: Option<u64>,
    is_complete: bool,
    /// Whether the answer is an event stream (text/event-stream), which has no end of its own.
    is_event_stream: bool,
    /// Until the app has returned.
    ticket: Option<Ticket>,
    unsent: usize,
    /// The peer waits no longer, or has everything.
    is_over: bool,
    /// The server ends, and an event stream is to come to an end before.
    is_told_to_end: bool,
    gone: bool,
    /// Whether the part of the body that came with the head was read.
    has_read: bool,
    /// Whether the connection knows that the body is waited for.
    has_asked: bool,
    on_writable: Option<Py<PyAny>>,
    on_body: Option<Py<PyAny>>,
    on_disconnect: Option<Py<PyAny>>,
    on_over: Option<Py<PyAny>>,
}

impl State {
    fn is_disconnected(&self) -> bool {
        self.is_over || self.is_told_to_end
    }

    fn note_end(&mut self, how: Ended) {
        self.is_over = true;
        self.gone |= how == Ended::Gone;
    }
}

impl Exchange {
    /// For what is done after an answer that was complete: nobody waits for anything that it says.
    pub fn after_answer(request: Arc<Retained>, mailbox: &Arc<Mailbox>, ticket: Ticket) -> Self {
        let state =
            State { ticket: Some(ticket), is_started: true, is_complete: true, is_over: true, ..State::default() };
        Self { request, mailbox: Arc::clone(mailbox), state: Mutex::new(state) }
    }

    /// What was sent has left.
    pub fn writable(&self, py: Python<'_>) {
        let callback = {
            let mut state = lock(&self.state);
            state.unsent = 0;
            state.on_writable.take()
        };
        call_back(py, callback);
    }

    /// More of the body has come.
    pub fn readable(&self, py: Python<'_>) {
        let callback = lock(&self.state).on_body.take();
        call_back(py, callback);
    }

    /// If the answer is an event stream: its app is told to come to an end.
    fn end_stream(&self, py: Python<'_>) {
        let disconnect = {
            let mut state = lock(&self.state);
            if !state.is_event_stream || state.is_complete {
                return;
            }
            state.is_told_to_end = true;
            state.on_disconnect.take()
        };
        call_back(py, disconnect);
    }

    /// The peer waits no longer, or has everything.
    pub fn ended(&self, py: Python<'_>, how: Ended) {
        let callbacks = {
            let mut state = lock(&self.state);
            state.note_end(how);
            let writable = if how == Ended::HalfClosed { None } else { state.on_writable.take() };
            [writable, state.on_body.take(), state.on_disconnect.take(), state.on_over.take()]
        };
        for callback in callbacks {
            call_back(py, callback);
        }
    }
}

/// A callback of ours that fails is logged as Python logs what it cannot raise: the worker goes on.
fn call_back(py: Python<'_>, callback: Option<Py<PyAny>>) {
    if let Some(callback) = callback
        && let Err(error) = callback.call0(py)
    {
        error.write_unraisable(py, Some(callback.bind(py)));
    }
}

impl Exchange {
    /// Calls back now if it `is_so`, else keeps it for when it becomes so, in place of any former one.
    fn call_back_once(
        &self,
        py: Python<'_>,
        callback: Py<PyAny>,
        is_so: impl FnOnce(&State) -> bool,
        place: impl FnOnce(&mut State) -> &mut Option<Py<PyAny>>,
    ) -> PyResult<()> {
        let mut state = lock(&self.state);
        if is_so(&state) {
            drop(state);
            callback.call0(py)?;
        } else {
            let former = place(&mut state).replace(callback);
            drop(state); // The end of an object may run any Python code.
            drop(former);
        }
        Ok(())
    }
}

#[pymethods]
impl Exchange {
    /// Writes what an ASGI scope has of the request. The app is served by a proxy under `root_path`, which was taken off its path;
    /// `raw_root_path` is that in octets, percent-encoded. `servers`: address and port of each listener. `proxies`: who is believed.
    fn fill(
        &self,
        scope: &Bound<'_, PyDict>,
        root_path: &str,
        raw_root_path: &[u8],
        servers: &Bound<'_, PyList>,
        proxies: &Proxies,
    ) -> PyResult<()> {
        let (py, request) = (scope.py(), &self.request);
        scope.set_item(intern!(py, "http_version"), request.http_version(py))?;
        // Of this connection: a listener on all addresses does not say at which of them it was reached.
        match request.server() {
            Some(server) => scope.set_item(intern!(py, "server"), server)?,
            None => scope.set_item(intern!(py, "server"), servers.get_item(request.listener() as usize)?)?,
        }
        let (client, scheme) = request.client(&proxies.core);
        scope.set_item(intern!(py, "client"), client)?;
        let scheme = scheme.map_or_else(|| intern!(py, "http").clone(), |scheme| PyString::new(py, scheme));
        scope.set_item(intern!(py, "scheme"), scheme)?;
        scope.set_item(intern!(py, "method"), request.method(py))?;
        let (path, raw_path) = (request.path(), request.raw_path());
        let (path, raw_path) = if root_path.is_empty() {
            (PyString::new(py, path), PyBytes::new(py, raw_path))
        } else {
            (PyString::new(py, &format!("{root_path}{path}")), PyBytes::new(py, &[raw_root_path, raw_path].concat()))
        };
        scope.set_item(intern!(py, "path"), path)?;
        scope.set_item(intern!(py, "raw_path"), raw_path)?;
        scope.set_item(intern!(py, "query_string"), PyBytes::new(py, request.query()))?;
        scope.set_item(intern!(py, "headers"), request.headers(py)?)
    }

    /// The index of the route that was found for it, in the table as it was then.
    #[getter]
    fn route(&self) -> Option<u32> {
        self.request.route()
    }

    /// What has come of the body and was not read yet, and whether more follows. None: nothing has, or the body has broken off.
    fn read<'py>(&self, py: Python<'py>) -> PyResult<Option<(Bound<'py, PyBytes>, bool)>> {
        let id = self.request.id;
        if self.request.is_body_complete() {
            return Ok(Some((PyBytes::new(py, self.request.body()), false)));
        }
        let (bytes, is_complete) = self.mailbox.take_body(id);
        let mut state = lock(&self.state);
        // Its end was not told, and will not be: what is here must not pass for a part of something whole.
        if state.is_over && !is_complete {
            return Ok(None);
        }
        let beginning = if state.has_read { &[] } else { self.request.body() };
        let length = beginning.len() + bytes.len();
        if !is_complete && (length > 0 || !state.has_asked) {
            self.mailbox.push_read(id, length);
        }
        state.has_asked = true;
        if length == 0 && !is_complete {
            return Ok(None);
        }
        state.has_read = true;
        drop(state);
        let body = PyBytes::new_with(py, length, |room| {
            room[..beginning.len()].copy_from_slice(beginning);
            room[beginning.len()..].copy_from_slice(&bytes);
            Ok(())
        })?;
        Ok(Some((body, !is_complete)))
    }

    /// Calls back once when more of the body has come, or none will.
    fn on_body(&self, callback: Py<PyAny>) {
        let former = lock(&self.state).on_body.replace(callback);
        drop(former);
    }

    /// Whether `receive` gives a disconnect: the answer is over, or the server ends and this is an event stream.
    #[getter]
    fn disconnected(&self) -> bool {
        lock(&self.state).is_disconnected()
    }

    /// Whether the peer waits no longer, or has everything.
    #[getter]
    fn over(&self) -> bool {
        lock(&self.state).is_over
    }

    /// The app has begun its answer. Middleware may hold that back.
    fn note_begun(&self) {
        lock(&self.state).has_begun = true;
    }

    /// Whether it does.
    #[getter]
    fn held_back(&self) -> bool {
        let state = lock(&self.state);
        state.has_begun && !state.is_started
    }

    #[getter]
    fn started(&self) -> bool {
        lock(&self.state).is_started
    }

    #[getter]
    fn complete(&self) -> bool {
        lock(&self.state).is_complete
    }

    /// Begins the answer. Nothing is sent before the first `send`, but for the head of an event stream: its first event may be
    /// long in coming, and a browser calls the stream open when it has the head.
    fn start(&self, status: u16, headers: &Bound<'_, PyAny>) -> PyResult<()> {
        let status = checked_status(status)?;
        let headers = headers_from(headers)?;
        let mut state = lock(&self.state);
        if state.is_started || state.is_complete {
            return Err(PyRuntimeError::new_err("http.response.start was sent, and the answer was started before"));
        }
        state.is_started = true;
        state.is_event_stream = headers.is_event_stream();
        state.is_told_to_end |= state.is_event_stream && self.mailbox.is_draining();
        state.promised = headers.content_length().filter(|_| self.request.may_have_body(status));
        if state.is_event_stream {
            self.mailbox.push(self.request.id, Part::Start { status, headers });
        } else {
            state.start = Some((status, headers));
        }
        Ok(())
    }

    /// Sends a part of the body. True: so much is unsent that the app should wait for `on_writable`.
    fn send(&self, data: &Bound<'_, PyBytes>, more: bool) -> PyResult<bool> {
        let mut state = lock(&self.state);
        if !state.is_started {
            return Err(PyRuntimeError::new_err("http.response.body was sent before http.response.start"));
        }
        if state.is_complete {
            return Err(PyRuntimeError::new_err("http.response.body was sent, and the answer was complete before"));
        }
        if state.gone {
            return Err(PyOSError::new_err("the peer has gone"));
        }
        if let Some(promised) = state.promised {
            // Here, where the app is told of its mistake. The connection would only be cut for it.
            let sent = data.as_bytes().len() as u64;
            if sent > promised || (!more && sent < promised) {
                return Err(PyRuntimeError::new_err(AnswerError::LengthMismatch { promised, sent }.to_string()));
            }
            state.promised = Some(promised - sent);
        }
        state.is_complete = !more;
        let id = self.request.id;
        let data = shared_bytes(data);
        match state.start.take() {
            Some((status, headers)) if !more => self.mailbox.push(id, Part::Whole { status, headers, body: data }),
            start => {
                if let Some((status, headers)) = start {
                    self.mailbox.push(id, Part::Start { status, headers });
                }
                state.unsent += data.len() + PART_BYTES;
                self.mailbox.push(id, Part::Body { data, more });
            }
        }
        Ok(more && state.unsent > UNSENT_BYTES_MAX)
    }

    /// The whole answer, as `start` and one `send`. For a peer that has gone it is dropped.
    fn whole(&self, status: u16, headers: &Bound<'_, PyAny>, data: &Bound<'_, PyBytes>) -> PyResult<()> {
        self.start(status, headers)?;
        match self.send(data, false) {
            Err(error) if error.is_instance_of::<PyOSError>(headers.py()) => Ok(()),
            sent => sent.map(|_| ()),
        }
    }

    /// Calls back once when what was sent has left, or the peer is gone.
    fn on_writable(&self, py: Python<'_>, callback: Py<PyAny>) -> PyResult<()> {
        self.call_back_once(
            py,
            callback,
            |state| state.unsent <= UNSENT_BYTES_MAX || state.gone,
            |state| &mut state.on_writable,
        )
    }

    /// Calls back once when `disconnected` becomes true.
    fn on_disconnect(&self, py: Python<'_>, callback: Py<PyAny>) -> PyResult<()> {
        self.call_back_once(py, callback, State::is_disconnected, |state| &mut state.on_disconnect)
    }

    /// Calls back once when `over` becomes true.
    fn on_over(&self, py: Python<'_>, callback: Py<PyAny>) -> PyResult<()> {
        self.call_back_once(py, callback, |state| state.is_over, |state| &mut state.on_over)
    }

    /// The app has returned or raised. True: its answer is complete, or nobody waits for the rest. Else a 500 if nothing was sent, or
    /// the connection is cut.
    fn finish(&self) -> bool {
        let mut state = lock(&self.state);
        state.ticket = None;
        if state.is_complete {
            return true;
        }
        state.is_complete = true;
        let was_told_to_end = state.is_event_stream && state.is_disconnected() && !state.gone;
        let part = match state.start.take() {
            // Each event is complete by itself, so the stream is too.
            None if was_told_to_end => Part::Body { data: Bytes::new(), more: false },
            _ => Part::Failed,
        };
        self.mailbox.push(self.request.id, part);
        state.is_disconnected()
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        // The lock is held for moments only, and never while Python runs; a collection that comes then sees it next time.
        if let Ok(state) = self.state.try_lock() {
            visit.call(&state.on_writable)?;
            visit.call(&state.on_body)?;
            visit.call(&state.on_disconnect)?;
            visit.call(&state.on_over)?;
        }
        Ok(())
    }

    fn __clear__(&self) {
        let callbacks = {
            let mut state = lock(&self.state);
            (state.on_writable.take(), state.on_body.take(), state.on_disconnect.take(), state.on_over.take())
        };
        drop(callbacks); // Outside of the lock: the end of an object may run any Python code.
    }
}
