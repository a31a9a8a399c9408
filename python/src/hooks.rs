//! The calls into `turboapi/serving/hooks.py`, for the cases that are Python's.

use std::collections::BTreeMap;

use pyo3::prelude::*;
use turboapi_core::refusals::Refusal;
use turboapi_core::standing::Seen;

use crate::changes;
use crate::proxies::Proxies;

/// What `turboapi/serving/hooks.py` has.
pub struct Hooks {
    /// `app(exchange)`: starts the app's own ASGI call.
    pub app: Py<PyAny>,
    /// `stack(exchange, matched, context)`: starts the app's own ASGI call, with a plan for its innermost part.
    pub stack: Py<PyAny>,
    /// `respond(exchange, response, context)`: starts a response object's ASGI call.
    pub respond: Py<PyAny>,
    /// `send(exchange, response)`: a coroutine that is a response object's ASGI call.
    pub send: Py<PyAny>,
    /// `finish(exchange)`: whoever had to answer has returned.
    pub finish: Py<PyAny>,
    /// `raised(exchange, exception, context)`: starts what the app does about an exception of a handler.
    pub raised: Py<PyAny>,
    /// `after(exchange, context, first, rest, end)`: awaits what is due after an answer (`after.rs`): the task `first` and those of the
    /// iterator `rest`, and calls `end(exception)` then.
    pub after: Py<PyAny>,
    /// `by_standing(background)`: the same background tasks, of which plain functions run by their standing.
    pub by_standing: Py<PyAny>,
    /// `http_response(exception)`: the response for a plain HTTPException, None for any other.
    pub http_response: Py<PyAny>,
    /// `pool(job)`: has a job run in a thread.
    pub pool: Py<PyAny>,
    /// `pool_beyond(job)`: the same at once, however many run.
    pub pool_beyond: Py<PyAny>,
    /// `returned(count, beyond_count)`: so many jobs have come back, and so many of those beyond.
    pub returned: Py<PyAny>,
    /// `moved(label, seconds, waited, computing)`: a function has lost the worker's own thread, by a call of these seconds.
    pub moved: Py<PyAny>,
    /// `needs_thread(label)`: a function has lost it, as it has asked for what there is only in other threads.
    pub needs_thread: Py<PyAny>,
    /// `earned(label)`: a function has earned it.
    pub earned: Py<PyAny>,
    /// `refused(counts)`: what the server itself has refused since the last call, by name.
    pub refused: Py<PyAny>,
    /// `broken(problem)`: an answer was cut for its own mistake.
    pub broken: Py<PyAny>,
    /// `routes_changed()`: whether the app is no longer what its plans were made from.
    pub routes_changed: Py<PyAny>,
    /// Who is believed when he says whom he asks for.
    pub proxies: Py<Proxies>,
    /// The count of changes (`changes.rs`) at which it is. None: that cannot tell, and `routes_changed` has to be asked.
    pub version: Option<u64>,
    /// Whether 404 and 405 are FastAPI's own.
    pub answers_unmatched: bool,
}

/// One of those that begin to answer a request through an exchange.
#[derive(Clone, Copy, Debug)]
pub enum Hook {
    /// `Hooks::app`
    App,
    /// `Hooks::stack`
    Stack,
    /// `Hooks::respond`
    Respond,
    /// `Hooks::raised`
    Raised,
}

impl Hooks {
    /// The one of this name.
    pub fn of(&self, hook: Hook) -> &Py<PyAny> {
        match hook {
            Hook::App => &self.app,
            Hook::Stack => &self.stack,
            Hook::Respond => &self.respond,
            Hook::Raised => &self.raised,
        }
    }

    /// A function has lost the worker's own thread, by this call.
    #[cold]
    pub fn tell_moved(&self, py: Python<'_>, label: &str, seen: &Seen) {
        let seconds = (seen.wall.as_secs_f64(), seen.waited().as_secs_f64(), seen.computing.as_secs_f64());
        if let Err(error) = self.moved.bind(py).call1((label, seconds.0, seconds.1, seconds.2)) {
            error.write_unraisable(py, None);
        }
    }

    /// A function has lost it, as it has asked for what there is only in other threads.
    #[cold]
    pub fn tell_needs_thread(&self, py: Python<'_>, label: &str) {
        if let Err(error) = self.needs_thread.bind(py).call1((label,)) {
            error.write_unraisable(py, None);
        }
    }

    /// A function has earned it.
    #[cold]
    pub fn tell_earned(&self, py: Python<'_>, label: &str) {
        if let Err(error) = self.earned.bind(py).call1((label,)) {
            error.write_unraisable(py, None);
        }
    }

    /// Has Python log what was refused.
    #[cold]
    pub fn tell_refusals(&self, py: Python<'_>, counts: Vec<(Refusal, u64)>) {
        let named = |(refusal, count): (Refusal, u64)| {
            let name = match refusal {
                Refusal::Status(status) => status.to_string(),
                Refusal::WebSocket => "websocket".to_owned(),
                Refusal::NotTaken => "not_taken".to_owned(),
                Refusal::ConnectionsMax => "connections_max".to_owned(),
                Refusal::NoDescriptor => "no_descriptor".to_owned(),
            };
            (name, count)
        };
        let counts: BTreeMap<String, u64> = counts.into_iter().map(named).collect();
        if let Err(error) = self.refused.bind(py).call1((counts,)) {
            error.write_unraisable(py, None);
        }
    }

    /// Whether the app is still what its plans were made from. If not, its own call answers, until they have been made anew.
    #[inline]
    pub fn is_unchanged(&self, py: Python<'_>) -> bool {
        self.version == Some(changes::count()) || self.is_unchanged_by_hook(py)
    }

    #[cold]
    fn is_unchanged_by_hook(&self, py: Python<'_>) -> bool {
        let changed = self.routes_changed.bind(py).call0();
        changed.and_then(|changed| changed.is_truthy()).is_ok_and(|changed| !changed)
    }

    /// Reads the attributes of the object that Python gave.
    pub fn new(hooks: &Bound<'_, PyAny>) -> PyResult<Self> {
        let hook = |name: &str| -> PyResult<Py<PyAny>> { Ok(hooks.getattr(name)?.unbind()) };
        Ok(Self {
            app: hook("app")?,
            stack: hook("stack")?,
            respond: hook("respond")?,
            send: hook("send")?,
            finish: hook("finish")?,
            raised: hook("raised")?,
            after: hook("after")?,
            by_standing: hook("by_standing")?,
            http_response: hook("http_response")?,
            pool: hook("pool")?,
            pool_beyond: hook("pool_beyond")?,
            returned: hook("returned")?,
            moved: hook("moved")?,
            needs_thread: hook("needs_thread")?,
            earned: hook("earned")?,
            refused: hook("refused")?,
            broken: hook("broken")?,
            routes_changed: hook("routes_changed")?,
            proxies: hooks.getattr("proxies")?.cast_into::<Proxies>()?.unbind(),
            version: hooks.getattr("version")?.extract()?,
            answers_unmatched: hooks.getattr("answers_unmatched")?.extract()?,
        })
    }
}
