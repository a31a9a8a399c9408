//! The calls into `turboapi/serving/hooks.py`, for the cases that are Python's.

use pyo3::prelude::*;

/// What `turboapi/serving/hooks.py` has.
pub struct Hooks {
    /// `app(exchange)`: starts the app's own ASGI call.
    pub app: Py<PyAny>,
    /// `respond(exchange, response)`: starts a response object's ASGI call.
    pub respond: Py<PyAny>,
    /// `raised(exchange, exception)`: starts what the app does about an exception of a handler.
    pub raised: Py<PyAny>,
    /// `http_response(exception)`: the response for a plain HTTPException, None for any other.
    pub http_response: Py<PyAny>,
    /// `pool(function, arguments, done)`: calls a function in the thread pool, and `done(future)` on the loop after it.
    pub pool: Py<PyAny>,
    /// `moved(label, seconds)`: a route was moved to the thread pool.
    pub moved: Py<PyAny>,
    /// `refused(counts)`: what the server itself has refused since the last call, by name.
    pub refused: Py<PyAny>,
    /// `broken(problem)`: an answer was cut for its own mistake.
    pub broken: Py<PyAny>,
    /// `routes_changed()`: whether the app has other routes than at the start.
    pub routes_changed: Py<PyAny>,
    /// Whether 404 and 405 are FastAPI's own.
    pub answers_unmatched: bool,
}

impl Hooks {
    /// Reads the attributes of the object that Python gave.
    pub fn new(hooks: &Bound<'_, PyAny>) -> PyResult<Self> {
        let hook = |name: &str| -> PyResult<Py<PyAny>> { Ok(hooks.getattr(name)?.unbind()) };
        Ok(Self {
            app: hook("app")?,
            respond: hook("respond")?,
            raised: hook("raised")?,
            http_response: hook("http_response")?,
            pool: hook("pool")?,
            moved: hook("moved")?,
            refused: hook("refused")?,
            broken: hook("broken")?,
            routes_changed: hook("routes_changed")?,
            answers_unmatched: hooks.getattr("answers_unmatched")?.extract()?,
        })
    }
}
