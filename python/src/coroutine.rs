//! Requests whose function ends later, in the worker's asyncio loop or its thread pool, and how they are answered then.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use pyo3::intern;
use pyo3::prelude::*;
use turboapi_core::handler::{Ended, Part};
use turboapi_core::request::RequestId;

use crate::after::{After, Afterwards};
use crate::asgi::Exchanges;
use crate::hooks::Hooks;
use crate::layers::Around;
use crate::mailbox::{Mailbox, Ticket, lock};
use crate::plan::{Further, Plan};
use crate::reply::{Reply, ResponseTypes, Within};
use crate::request::Retained;
use crate::stage::Stage;

/// A task or job, and what answers when it is done.
type Suspended = (Py<PyAny>, Py<Completion>);

/// The context of a request's task: what the endpoint has set in it is seen by all that answers for it further.
pub fn context_of(task: Option<&Bound<'_, PyAny>>) -> Option<Py<PyAny>> {
    task?.call_method0(intern!(task?.py(), "get_context")).ok().map(Bound::unbind)
}

/// What Python has begun for the requests of one worker, and not ended. Only that worker's thread uses it.
#[derive(Default)]
pub struct Outstanding {
    /// Those that the app's own ASGI call answers.
    pub exchanges: Arc<Exchanges>,
    /// What is due when answers have left.
    pub afterwards: Arc<Afterwards>,
    /// asyncio itself holds a task weakly: one that waits for something that only it knows would be collected.
    suspended: Mutex<HashMap<RequestId, Suspended>>,
}

impl Outstanding {
    /// The worker's.
    pub fn mailbox(&self) -> &Arc<Mailbox> {
        &self.exchanges.mailbox
    }

    /// Keeps what a request waits for alive.
    pub fn suspend(&self, id: RequestId, task: Py<PyAny>, completion: Py<Completion>) {
        lock(&self.suspended).insert(id, (task, completion));
    }

    /// It is over.
    fn resume(&self, id: RequestId) -> Option<Suspended> {
        lock(&self.suspended).remove(&id)
    }

    /// The peer has ended its side, or gone.
    pub fn ended(&self, py: Python<'_>, id: RequestId, how: Ended) {
        let exchanges = &self.exchanges;
        let exchange = if how == Ended::HalfClosed { exchanges.get(py, id) } else { exchanges.forget(id) };
        if let Some(exchange) = exchange {
            exchange.get().ended(py, how);
        } else if let Some((_, completion)) = lock(&self.suspended).get(&id) {
            // The request may yet be answered by something that has to know.
            completion.get().note_end(how);
        }
    }

    /// Nobody will be answered any more. What waits is let go: from here Python's collector could not see that it is garbage.
    pub fn close(&self) {
        let suspended = std::mem::take(&mut *lock(&self.suspended));
        for (_, completion) in suspended.values() {
            completion.get().close();
        }
        drop(suspended); // Outside of the lock: the end of an object may run any Python code.
        drop(self.afterwards.take());
        self.exchanges.close();
    }
}

/// Called by asyncio when a request's task or future is done: answers the request.
///
/// It has no Python object of its own, only parts of the worker, which many share, so there is nothing for a collector to
/// visit. It gives them back when it was called, or when the worker ends (`Outstanding::close`).
#[pyclass(frozen, module = "turboapi._core")]
pub struct Completion {
    call: Mutex<Option<Call>>,
}

/// What is needed to answer.
pub struct Call {
    /// The route's.
    pub plan: Arc<Plan>,
    /// What its answer has to go out through.
    pub around: Option<Around>,
    /// The worker's.
    pub types: Arc<ResponseTypes>,
    /// The worker's.
    pub hooks: Arc<Hooks>,
    /// The worker's.
    pub outstanding: Arc<Outstanding>,
    /// Counts this call.
    pub ticket: Ticket,
    /// What was asked for.
    pub request: Arc<Retained>,
    /// The `Response` that the function was given as an argument.
    pub injected: Option<Py<PyAny>>,
    /// The `BackgroundTasks` that it was given.
    pub tasks: Option<Py<PyAny>>,
    /// What its peer has done meanwhile.
    pub ended: Option<Ended>,
    /// By what the function itself has its answer sent, if it does.
    pub stage: Option<Py<Stage>>,
}

impl Completion {
    /// For one call.
    pub fn new(call: Call) -> Self {
        Self { call: Mutex::new(Some(call)) }
    }

    /// Nobody waits for the answer any more.
    pub fn close(&self) {
        drop(self.take());
    }

    /// The peer has ended its side, or gone.
    pub fn note_end(&self, how: Ended) {
        if let Some(call) = &mut *lock(&self.call) {
            call.ended = Some(how);
        }
    }

    /// The function has returned or raised this.
    pub fn answer<'py>(&self, py: Python<'py>, result: PyResult<Bound<'py, PyAny>>, task: Option<&Bound<'py, PyAny>>) {
        // Once, and not at all that counts when the worker has ended.
        let Some(call) = self.take() else {
            return;
        };
        let (id, outstanding) = (call.request.id, Arc::clone(&call.outstanding));
        if let Err(error) = call.answer(py, result, task) {
            // Our own Python failed, not the app's, whose errors the hooks log.
            error.write_unraisable(py, None);
            outstanding.mailbox().push(id, Part::Failed);
        }
    }

    fn take(&self) -> Option<Call> {
        lock(&self.call).take()
    }
}

impl Call {
    fn answer<'py>(
        self,
        py: Python<'py>,
        result: PyResult<Bound<'py, PyAny>>,
        task: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<()> {
        let Self { plan, around, types, hooks, outstanding, ticket, request, injected, tasks, ended, stage } = self;
        drop(outstanding.resume(request.id));
        let result = match stage {
            None => result,
            Some(stage) => match stage.get().end(py, result, context_of(task))? {
                None => return Ok(()),
                Some(error) => Err(error),
            },
        };
        drop(ticket);
        let mut body = Vec::new();
        let further = Further {
            response: injected.map(|injected| injected.into_bound(py)),
            tasks: tasks.map(|tasks| tasks.into_bound(py)),
        };
        let (reply, background) =
            Reply::new((&plan, around.as_ref()), &types, &hooks, py, (result, Within::of(task)), &further, &mut body);
        let part = match reply {
            Reply::Json { status } => Part::Json { status, body: Bytes::from(body) },
            Reply::Whole { status, headers, body } => Part::Whole { status, headers, body },
            Reply::Object(hook, object) => {
                let argument = Some((object, context_of(task)));
                return outstanding.exchanges.begin(py, request, hooks.of(hook), argument, ended);
            }
        };
        outstanding.mailbox().push(request.id, part);
        if background.is_some() {
            let ticket = Ticket::new(outstanding.mailbox());
            outstanding.afterwards.add(After { request, background, end: None, context: context_of(task), ticket });
        }
        Ok(())
    }
}

#[pymethods]
impl Completion {
    fn __call__(&self, future: &Bound<'_, PyAny>) {
        let result = future.call_method0(intern!(future.py(), "result"));
        self.answer(future.py(), result, Some(future));
    }
}
