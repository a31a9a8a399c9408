//! One worker as Python drives it: `select` is what its asyncio loop waits in. Each call turns the platform and answers
//! requests until the loop has something of its own to do.

use std::os::fd::RawFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pyo3::exceptions::{PyOSError, PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyType};
use turboapi_core::answer::{Answer, Preamble};
use turboapi_core::balance::Spread;
use turboapi_core::connection::Shared;
use turboapi_core::handler::{Ended, Handler, Outcome};
use turboapi_core::http::encode::is_header_value;
use turboapi_core::request::{Request, RequestId};
use turboapi_core::router::Router;
use turboapi_core::worker;
use turboapi_platform::doorbell::Doorbell;
use turboapi_platform::handoff::Seat;
use turboapi_platform::probe::Start;
use turboapi_platform::{IoConfig, Platform, Wait};

use crate::error;
use crate::event_loop::AsyncioLoop;
use crate::follow::follow_up;
use crate::handler::Attached;
use crate::handling::PythonHandler;
use crate::handoff::Handoff;
use crate::hooks::Hooks;
use crate::interpreter::{ThreadBound, borrow_descriptor, detached};
use crate::job::{self, Returns};
use crate::layers::Layers;
use crate::limits::limits_from;
use crate::mailbox::Message;
use crate::probe::choose;
use crate::reply::ResponseTypes;
use crate::subject::{Role, Standings};
use crate::table::Table;
use crate::task::{TaskCall, TaskTypes};
use crate::watchdog::Activity;

/// Turns in a row that found work without waiting. After so many the interpreter is let go for a moment all the same: a
/// thread that wants to collect garbage, or the GIL, may be waiting for this one.
const BUSY_TURNS_MAX: u32 = 16;

/// Turns after a ring of the doorbell in which each poll lets the interpreter go.
const RUNG_TURNS: u32 = 64;

/// One core's server. It is made, turned and closed on one thread.
///
/// INVARIANT: its maker closes it. Until then it is a root, not garbage, as its thread runs in it; afterwards it
/// holds no Python object. So it takes no part in garbage collection.
#[pyclass(module = "turboapi._core")]
pub struct Worker {
    server: ThreadBound<Box<dyn Serve>>,
    bell: Arc<Doorbell>,
    backend: &'static str,
    fallback: Option<String>,
}

/// A worker over one of the platforms.
trait Serve {
    fn listen(&mut self, descriptor: RawFd, spread: Spread) -> PyResult<()>;
    fn join(&mut self, seat: Seat) -> PyResult<()>;
    fn standings(&mut self) -> &mut Standings;
    fn task(&mut self, function: &Bound<'_, PyAny>, call: Py<PyAny>) -> PyResult<TaskCall>;
    fn set_routes(&mut self, router: Router, handler: PythonHandler);
    fn select(&mut self, py: Python<'_>, timeout: Option<Duration>) -> PyResult<bool>;
    fn drain(&mut self, py: Python<'_>, timeout: Duration);
    fn is_drained(&self) -> bool;
    fn listens(&self) -> bool;
    fn activity(&self) -> Option<Activity>;
    fn statistics(&self) -> Statistics;
    fn finish(self: Box<Self>, py: Python<'_>) -> std::io::Result<()>;
}

struct Statistics {
    worker: worker::Statistics,
    connections: usize,
    in_flight: usize,
}

struct Server<P: Platform> {
    worker: worker::Worker<P>,
    bell: Arc<Doorbell>,
    standings: Standings,
    handler: Option<PythonHandler>,
    messages: Vec<(RequestId, Message)>,
    busy_turns: u32,
    /// Turns in which other threads are still taken to want the interpreter.
    rung_turns: u32,
}

/// Stands in until there are routes; nothing listens before, so nobody calls it.
struct Unready;

impl Handler for Unready {
    fn call(&mut self, _request: &Request<'_>, _answer: &mut Answer<'_>) -> Outcome {
        Outcome::Answered
    }

    fn writable(&mut self, _id: RequestId) {}

    fn ended(&mut self, _id: RequestId, _how: Ended) {}
}

/// A worker that has no platform yet.
struct Opening {
    shared: Shared,
    watch: RawFd,
}

impl Start for Opening {
    type Output = std::io::Result<Worker>;

    fn start<P: Platform>(self, platform: P, fallback: Option<String>) -> Self::Output {
        let mut worker = worker::Worker::new(platform, self.shared);
        worker.watch(self.watch)?;
        let bell = Arc::new(Doorbell::new(worker.waker()));
        let server = Server {
            worker,
            bell: Arc::clone(&bell),
            standings: Standings::default(),
            handler: None,
            messages: Vec::new(),
            busy_turns: 0,
            rung_turns: 0,
        };
        Ok(Worker { bell, server: ThreadBound::new(Box::new(server)), backend: P::NAME, fallback })
    }
}

impl<P: Platform> Server<P> {
    /// Gives the connections what Python has answered since, and tells them what it has read.
    fn apply_answers(&mut self, py: Python<'_>) {
        let Some(handler) = &mut self.handler else {
            return;
        };
        let mut messages = std::mem::take(&mut self.messages);
        loop {
            handler.take_returns(py);
            handler.outstanding.mailbox().take(&mut messages);
            if messages.is_empty() {
                break;
            }
            for (id, message) in messages.drain(..) {
                let part = match message {
                    Message::Answer(part) => part,
                    Message::Read(bytes) => {
                        if !self.worker.read_body(id, bytes) {
                            // Its peer had gone before there was an exchange to be told so.
                            handler.notice_gone(id);
                        }
                        continue;
                    }
                };
                match self.worker.answer(id, part, &mut Attached { py, handler }) {
                    Ok(true) => {}
                    Ok(false) => handler.notice_gone(id),
                    Err(error) => handler.report(py, id, &error.to_string()),
                }
            }
            handler.deliver(py);
        }
        self.messages = messages;
    }

    /// One turn: events, from the kernel to the handler.
    fn turn(&mut self, py: Python<'_>, wait: Wait) -> PyResult<worker::Seen> {
        // What these follow was handed to the platform before, which gives it to the kernel in this turn.
        let due = self.handler.as_ref().map(|handler| handler.outstanding.afterwards.take()).unwrap_or_default();
        let wait = if due.is_empty() { wait } else { Wait::Poll };
        // While calls are out in threads these want the interpreter, and would wait for it until its switch interval is over. Of
        // threads that are not ours we know when they ring.
        self.rung_turns = self.rung_turns.saturating_sub(1);
        let lets_go =
            self.rung_turns > 0 || self.handler.as_ref().is_some_and(|handler| handler.calls.returns.awaits_any());
        // PERF: while there is work, look for more without letting go of the interpreter.
        let polls = wait == Wait::Poll || (1..BUSY_TURNS_MAX).contains(&self.busy_turns);
        if polls && lets_go {
            detached(py, || self.worker.turn(Wait::Poll))?;
        } else if polls {
            self.worker.turn(Wait::Poll)?;
        }
        if wait != Wait::Poll && !(polls && self.worker.has_work()) {
            let wait = if self.bell.sleep() { wait } else { Wait::Poll };
            let turned = detached(py, || self.worker.turn(wait));
            self.bell.rise();
            turned?;
            // A signal may have ended the wait, whose handler is Python's and runs on this thread, if it is the main one.
            py.check_signals()?;
        }
        if self.bell.answer() {
            self.rung_turns = RUNG_TURNS;
            if let Some(handler) = &mut self.handler {
                handler.asyncio.touch();
            }
        }
        if let Some(handler) = self.handler.as_mut().filter(|_| !due.is_empty()) {
            follow_up(py, handler, &mut self.standings, due);
        }
        self.busy_turns = if self.worker.has_work() { self.busy_turns % BUSY_TURNS_MAX + 1 } else { 0 };
        Ok(match &mut self.handler {
            Some(handler) => {
                let seen = self.worker.dispatch(&mut Attached { py, handler });
                handler.deliver(py);
                if handler.overloads_count > 0 {
                    self.worker.count_overloads(std::mem::take(&mut handler.overloads_count));
                }
                if seen.refusals {
                    handler.hooks.tell_refusals(py, self.worker.take_refusals());
                }
                seen
            }
            None => self.worker.dispatch(&mut Unready),
        })
    }

    fn has_loop_work(&self, py: Python<'_>) -> PyResult<bool> {
        match &self.handler {
            Some(handler) => handler.asyncio.has_work(py),
            // Before there are routes we do not know the loop's queues: it looks itself when the doorbell rang in the last turn.
            None => Ok(self.rung_turns == RUNG_TURNS),
        }
    }

    fn select_until(&mut self, py: Python<'_>, deadline: Option<Instant>) -> PyResult<bool> {
        loop {
            let wait = match deadline.map(|deadline| deadline.saturating_duration_since(Instant::now())) {
                None => Wait::Forever,
                Some(Duration::ZERO) => Wait::Poll,
                Some(left) => Wait::For(left),
            };
            let listened = self.worker.listens();
            let seen = self.turn(py, wait)?;
            self.apply_answers(py);
            if seen.watch {
                return Ok(true);
            }
            // The worker's Python part closes its sockets when nobody accepts from them any more.
            let has_stopped_listening = listened && !self.worker.listens();
            let is_for_python = has_stopped_listening || self.is_drained();
            if wait == Wait::Poll || is_for_python || self.has_loop_work(py)? {
                return Ok(false);
            }
        }
    }
}

impl<P: Platform> Serve for Server<P> {
    fn listen(&mut self, descriptor: RawFd, spread: Spread) -> PyResult<()> {
        Ok(self.worker.listen(borrow_descriptor(&descriptor)?, spread)?)
    }

    fn join(&mut self, seat: Seat) -> PyResult<()> {
        Ok(self.worker.join(seat)?)
    }

    fn standings(&mut self) -> &mut Standings {
        &mut self.standings
    }

    fn task(&mut self, function: &Bound<'_, PyAny>, call: Py<PyAny>) -> PyResult<TaskCall> {
        let handler = self.handler.as_ref().ok_or_else(|| PyRuntimeError::new_err("the worker has no routes yet"))?;
        let owner = handler.task_types.owner_of(function)?;
        let standing = self.standings.of(&owner, None, Role::Whole);
        Ok(TaskCall::new(&owner, call, standing, Arc::clone(&handler.calls), handler.asyncio.running()))
    }

    fn set_routes(&mut self, router: Router, mut handler: PythonHandler) {
        let shared = self.worker.shared_mut();
        shared.router = router;
        handler.open_max = shared.limits.handlers_in_flight_max;
        match &mut self.handler {
            // What is under way stays known.
            Some(present) => {
                (present.routes, present.hooks, present.layers) = (handler.routes, handler.hooks, handler.layers);
                present.around = None;
            }
            None => self.handler = Some(handler),
        }
        if let Some(handler) = &self.handler {
            handler.bind_parts();
        }
    }

    fn select(&mut self, py: Python<'_>, timeout: Option<Duration>) -> PyResult<bool> {
        let mut goes_on = false;
        if let Some(handler) = &mut self.handler {
            handler.publisher.leave();
            handler.asyncio.mark(py)?;
            goes_on = handler.asyncio.goes_on_first(py, timeout)?;
        }
        self.apply_answers(py);
        let now = if self.has_loop_work(py)? { Some(Duration::ZERO) } else { timeout };
        let seen = if goes_on { Ok(false) } else { self.select_until(py, now.map(|timeout| Instant::now() + timeout)) };
        if let Some(handler) = &mut self.handler {
            handler.asyncio.show(py)?;
            handler.publisher.enter_loop();
        }
        seen
    }

    fn drain(&mut self, py: Python<'_>, timeout: Duration) {
        self.worker.drain(timeout);
        if let Some(handler) = &self.handler {
            handler.outstanding.exchanges.drain(py);
        }
    }

    fn is_drained(&self) -> bool {
        let is_done = |handler: &PythonHandler| handler.outstanding.afterwards.is_empty();
        self.worker.is_drained() && self.handler.as_ref().is_none_or(is_done)
    }

    fn listens(&self) -> bool {
        self.worker.listens()
    }

    fn activity(&self) -> Option<Activity> {
        self.handler.as_ref().map(|handler| handler.publisher.activity())
    }

    fn statistics(&self) -> Statistics {
        Statistics {
            worker: self.worker.statistics(),
            connections: self.worker.connections_count(),
            in_flight: self.worker.in_flight(),
        }
    }

    fn finish(self: Box<Self>, py: Python<'_>) -> std::io::Result<()> {
        let Self { mut worker, handler, .. } = *self;
        // Here, while the thread is attached: it holds Python objects.
        if let Some(handler) = handler {
            if handler.overloads_count > 0 {
                worker.count_overloads(handler.overloads_count);
            }
            let refusals = worker.take_refusals();
            if !refusals.is_empty() {
                handler.hooks.tell_refusals(py, refusals);
            }
            handler.outstanding.close();
            handler.calls.returns.close();
        }
        detached(py, || worker.finish(FINISH_PATIENCE))
    }
}

/// How long the kernel may take to let go of what this worker gave it.
const FINISH_PATIENCE: Duration = Duration::from_secs(2);

#[pymethods]
impl Worker {
    /// Opens the platform, on the thread that will serve.
    #[new]
    #[pyo3(signature = (*, backend, limits, watch, server_header, date_header, headers = Vec::new()))]
    fn new(
        backend: &str,
        limits: &Bound<'_, PyDict>,
        watch: RawFd,
        server_header: Option<&str>,
        date_header: bool,
        headers: Vec<(String, String)>,
    ) -> PyResult<Self> {
        let choice = choose(backend)?;
        if !is_header_value(server_header.unwrap_or_default().as_bytes()) {
            return Err(PyValueError::new_err(format!(
                "server header is {server_header:?}, control bytes are not allowed"
            )));
        }
        let router = Router::new(Vec::new(), false).map_err(|error| PyValueError::new_err(error.to_string()))?;
        let preamble = Preamble::new(server_header, date_header)
            .with_defaults(headers.iter().map(|(name, value)| (name.as_str(), value.as_str())))
            .map_err(|problem| error::header(&problem))?;
        let limits = limits_from(limits)?;
        let io = IoConfig { linger_bytes_max: limits.linger_bytes_max, ..IoConfig::default() };
        let shared = Shared::new(limits, router, preamble);
        let refused =
            |error: std::io::Error| PyOSError::new_err(format!("{} cannot be opened: {error}", choice.backend.name()));
        choice.start(&io, Opening { shared, watch }).map_err(refused)?.map_err(refused)
    }

    /// Why it does not run on the backend that the probe chose; None if it does.
    #[getter]
    fn fallback(&self) -> Option<&str> {
        self.fallback.as_deref()
    }

    /// What it really runs on.
    #[getter]
    fn backend(&self) -> &'static str {
        self.backend
    }

    /// Takes the routes, in order of registration. Called again when the app has got further ones.
    #[pyo3(signature = (*, event_loop, routes, layers, redirect_slashes, hooks, response, plain_responses, inline_budget))]
    #[expect(clippy::too_many_arguments, reason = "all by keyword, from one place")]
    fn start(
        &mut self,
        event_loop: &Bound<'_, PyAny>,
        routes: &Bound<'_, PyAny>,
        layers: &Bound<'_, PyAny>,
        redirect_slashes: bool,
        hooks: &Bound<'_, PyAny>,
        response: Py<PyType>,
        plain_responses: Vec<Py<PyType>>,
        inline_budget: f64,
    ) -> PyResult<()> {
        let server = self.server.get()?;
        let table = Table::new(routes, redirect_slashes, server.standings())?;
        let budget = Duration::try_from_secs_f64(inline_budget)
            .map_err(|error| PyValueError::new_err(format!("inline_budget is {inline_budget}: {error}")))?;
        let types = ResponseTypes::new(response, plain_responses);
        let types = (types, TaskTypes::new(&hooks.getattr("tasks")?)?);
        let returns = Arc::new(Returns::new(Arc::clone(&self.bell)));
        let hooks = Arc::new(Hooks::new(hooks)?);
        let mut handler = PythonHandler::new(hooks, types, AsyncioLoop::new(event_loop)?, returns, budget);
        handler.routes = table.routes;
        handler.layers = Layers::new(layers, handler.hooks.proxies.get())?;
        server.set_routes(table.router, handler);
        Ok(())
    }

    /// A background task's call: `call`, without arguments, is one of `function`, whose standing (or that of the function which a
    /// method or a partial is of) says where it is to run.
    fn task(&mut self, function: &Bound<'_, PyAny>, call: Py<PyAny>) -> PyResult<TaskCall> {
        self.server.get()?.task(function, call)
    }

    /// Accepts from a listening socket, which the caller keeps open. If no other worker does, `for_all`, it deals out what comes.
    #[pyo3(signature = (descriptor, *, for_all = false))]
    fn listen(&mut self, descriptor: RawFd, for_all: bool) -> PyResult<()> {
        self.server.get()?.listen(descriptor, if for_all { Spread::Ours } else { Spread::Kernel })
    }

    /// Shares connections with the other workers from now on. To be called once it can serve.
    fn join(&mut self, handoff: &Bound<'_, Handoff>, index: usize) -> PyResult<()> {
        let handoff = handoff.get();
        handoff.check(index)?;
        self.server.get()?.join(Seat::new(Arc::clone(&handoff.shared), index))
    }

    /// Serves until asyncio has something to do or the time is over. True: the watched descriptor is readable.
    fn select(&mut self, py: Python<'_>, timeout: Option<f64>) -> PyResult<bool> {
        let timeout = timeout.map(|seconds| Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(Duration::MAX / 4));
        self.server.get()?.select(py, timeout.map(|timeout| timeout.min(Duration::from_secs(86_400))))
    }

    /// Stops accepting, closes what is idle, lets what was begun finish, and ends what is left after `timeout` seconds.
    fn drain(&mut self, py: Python<'_>, timeout: f64) -> PyResult<()> {
        let timeout = Duration::try_from_secs_f64(timeout).map_err(|error| PyValueError::new_err(error.to_string()))?;
        self.server.get().map(|server| server.drain(py, timeout))
    }

    /// Whether a drain has ended.
    #[getter]
    fn drained(&mut self) -> PyResult<bool> {
        Ok(self.server.get()?.is_drained())
    }

    /// Whether a listening socket is still accepted from.
    #[getter]
    fn listening(&mut self) -> PyResult<bool> {
        Ok(self.server.get()?.listens())
    }

    /// What other threads wake it by.
    #[getter]
    fn doorbell(&self) -> job::Doorbell {
        job::Doorbell(Arc::clone(&self.bell))
    }

    /// What its thread runs right now, for another thread to see; None before `start`.
    #[getter]
    fn activity(&mut self) -> PyResult<Option<Activity>> {
        Ok(self.server.get()?.activity())
    }

    /// Ends everything. Nothing happens the second time.
    fn close(&mut self, py: Python<'_>) -> PyResult<()> {
        Ok(self.server.take()?.map_or(Ok(()), |server| server.finish(py))?)
    }

    /// Counters of this worker.
    fn statistics<'py>(&mut self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let Statistics { worker, connections, in_flight } = self.server.get()?.statistics();
        let counters = PyDict::new(py);
        counters.set_item("connections", connections)?;
        counters.set_item("in_flight", in_flight)?;
        counters.set_item("accepted", worker.accepted)?;
        counters.set_item("handed_over", worker.handed_over)?;
        counters.set_item("taken_over", worker.taken_over)?;
        counters.set_item("accept_stalls", worker.accept_stalls)?;
        counters.set_item("timeouts", worker.timeouts)?;
        counters.set_item("turns", worker.turns)?;
        Ok(counters)
    }
}
