//! The extension module `turboapi._core`: the list below is all that Python can see of it. The only crate that names pyo3.
//!
//! A request's way through it: `serve.rs` turns the worker, `handler.rs` is called with a whole request and calls the
//! function that `plan.rs` has prepared, `coroutine.rs` waits where that is a coroutine that suspends, `reply.rs` makes an
//! answer of what it returned. `watchdog.rs` publishes what runs. What no plan covers goes to the app's own ASGI call through
//! `asgi.rs`, and so does a plan within the app's middleware (`leaf.rs`).

mod serve;
mod follow;
mod probe;
mod limits;
mod router;
mod handler;
mod handling;
mod notices;
mod table;
mod leaf;
mod part;
mod task;
mod calls;
mod job;
mod coroutine;
mod stage;
mod after;
mod asgi;
mod reply;
mod layers;
mod proxies;
mod plan;
mod invalid;
mod parameter;
mod gathering;
mod subject;
mod fields;
mod json;
mod event_loop;
mod mailbox;
mod hooks;
mod changes;
mod request;
mod watchdog;
mod handoff;
mod memory;
mod error;
mod interpreter;

use pyo3::prelude::*;

/// turboapi's server core.
#[pymodule(gil_used = false)]
mod _core {
    use super::{Bound, PyModule, PyModuleMethods, PyResult};

    #[pymodule_export]
    use super::asgi::Exchange;
    #[pymodule_export]
    use super::changes::{changes_count, note_change, watch_namespace};
    #[pymodule_export]
    use super::coroutine::Completion;
    #[pymodule_export]
    use super::handoff::Handoff;
    #[pymodule_export]
    use super::job::{Doorbell, Job, note_needs_thread};
    #[pymodule_export]
    use super::leaf::Matched;
    #[pymodule_export]
    use super::limits::{Limit, connections_max, declared_limits};
    #[pymodule_export]
    use super::memory::{give_back_memory, resident_bytes};
    #[pymodule_export]
    use super::part::Part;
    #[pymodule_export]
    use super::probe::probe_backend;
    #[pymodule_export]
    use super::proxies::Proxies;
    #[pymodule_export]
    use super::router::Router;
    #[pymodule_export]
    use super::serve::Worker;
    #[pymodule_export]
    use super::task::TaskCall;
    #[pymodule_export]
    use super::watchdog::Activity;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("__version__", env!("CARGO_PKG_VERSION"))
    }
}
