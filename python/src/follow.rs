//! Does what is due when answers have left for the kernel: the background tasks of a request, and then what ends it. In the order of
//! the answers, in the context of the request; what fails is the app's exception handlers' and the log's; a drain waits.
//!
//! Plain functions that have earned the worker's own thread are called here, one after the other, at the cost of a call. The first
//! task that is none of these goes to Python with all that follows it, as an asyncio task of the request's (`Hooks::after`).
//! Not here: what a task does (`turboapi/serving/background.py`), tasks within the app's own ASGI call (`turboapi/plan/leaf.py`).

use std::time::Instant;

use pyo3::exceptions::PyBaseException;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyIterator, PyTuple};

use crate::after::After;
use crate::asgi::Exchange;
use crate::calls::Calls;
use crate::coroutine::Outstanding;
use crate::event_loop::AsyncioLoop;
use crate::handling::PythonHandler;
use crate::hooks::Hooks;
use crate::interpreter::EnteredContext;
use crate::subject::{Role, Standings};
use crate::task::{self, TaskTypes};

/// Does what is due, on the worker's thread, outside of any task.
pub fn follow_up(py: Python<'_>, handler: &mut PythonHandler, standings: &mut Standings, due: Vec<After>) {
    handler.publisher.enter_loop();
    let PythonHandler { task_types: types, calls, hooks, asyncio, outstanding, .. } = handler;
    let mut doing = Doing { types, calls, hooks, standings, asyncio, outstanding };
    for after in due {
        doing.run(py, after);
    }
    handler.publisher.leave();
}

/// What has to be awaited: a task, and those that follow it if it is one of several.
type Left<'py> = (Bound<'py, PyAny>, Option<Bound<'py, PyIterator>>);

/// Does what is due.
struct Doing<'a> {
    types: &'a TaskTypes,
    calls: &'a Calls,
    hooks: &'a Hooks,
    standings: &'a mut Standings,
    asyncio: &'a mut AsyncioLoop,
    outstanding: &'a Outstanding,
}

impl Doing<'_> {
    /// All that is due after one answer.
    fn run(&mut self, py: Python<'_>, after: After) {
        let told = match self.run_tasks(py, &after) {
            Ok(Some(left)) => self.go_on(py, after, left),
            done => self.end(py, after, done.err()),
        };
        if let Err(error) = told {
            // Our own Python failed, not the app's, whose errors the hooks log.
            error.write_unraisable(py, None);
        }
    }

    /// Calls tasks until one has to be awaited.
    fn run_tasks<'py>(&mut self, py: Python<'py>, after: &After) -> PyResult<Option<Left<'py>>> {
        let Some(background) = &after.background else { return Ok(None) };
        let background = background.bind(py);
        let class = background.get_type();
        let is_several = self.types.several.iter().any(|several| class.is(several.bind(py)));
        if !self.types.are_stock(py) || !is_several {
            let is_done = self.types.are_stock(py) && self.run_task(after, background)?;
            return Ok((!is_done).then(|| (background.clone(), None)));
        }
        // Further ones may be added meanwhile: the iterator of a list sees them.
        let mut tasks = background.getattr(intern!(py, "tasks"))?.try_iter()?;
        while let Some(task) = tasks.next() {
            let task = task?;
            if !self.run_task(after, &task)? {
                return Ok(Some((task, Some(tasks))));
            }
        }
        Ok(None)
    }

    /// Calls a task's function, in a copy of the context as in a thread. False: it has to be awaited, and nothing has happened.
    fn run_task(&mut self, after: &After, task: &Bound<'_, PyAny>) -> PyResult<bool> {
        let py = task.py();
        if !task.get_type().is(self.types.one.bind(py)) || task.getattr(intern!(py, "is_async"))?.is_truthy()? {
            return Ok(false);
        }
        let function = task.getattr(intern!(py, "func"))?;
        let owner = self.types.owner_of(&function)?;
        let standing = self.standings.of(&owner, None, Role::Whole);
        let (positional, named) = (task.getattr(intern!(py, "args"))?, task.getattr(intern!(py, "kwargs"))?);
        let (Ok(positional), Ok(named)) = (positional.cast_exact::<PyTuple>(), named.cast_exact::<PyDict>()) else {
            return Ok(false);
        };
        if !standing.is_on_worker() {
            return Ok(false);
        }
        self.asyncio.hide(py)?;
        let context = after.context_copy(py)?;
        let call = || {
            let _entered = EnteredContext::enter(context)?;
            function.call(positional, Some(named))
        };
        self.calls.here(py, &standing, Instant::now(), || task::label(&owner), call)?;
        Ok(true)
    }

    /// They are done, or have raised this.
    fn end(&mut self, py: Python<'_>, after: After, error: Option<PyErr>) -> PyResult<()> {
        match (&after.end, error) {
            (None, None) => Ok(()),
            (None, Some(error)) => self.report(py, after, &error),
            (Some(end), error) => {
                self.asyncio.show(py)?;
                let raised: Option<Py<PyBaseException>> = error.map(|error| error.into_value(py));
                end.bind(py).call1((raised,)).map(|_| ())
            }
        }
    }

    /// What has to be awaited is, in a task of the request's own.
    fn go_on(&mut self, py: Python<'_>, after: After, left: Left<'_>) -> PyResult<()> {
        self.asyncio.show(py)?;
        let After { request, end, context, ticket, .. } = after;
        let exchange = Py::new(py, Exchange::after_answer(request, self.outstanding.mailbox(), ticket))?;
        let (first, rest) = left;
        self.hooks.after.bind(py).call1((exchange, context, first, rest, end)).map(|_| ())
    }

    /// It failed: the app's exception handlers are asked, which cannot answer any more, and the log is told.
    #[cold]
    fn report(&mut self, py: Python<'_>, after: After, error: &PyErr) -> PyResult<()> {
        self.asyncio.show(py)?;
        let After { request, context, ticket, .. } = after;
        let exchange = Py::new(py, Exchange::after_answer(request, self.outstanding.mailbox(), ticket))?;
        self.hooks.raised.bind(py).call1((exchange, error.value(py), context)).map(|_| ())
    }
}
