//! What has happened to connections while they were dealt with, for the exchanges that answer on them. Those are Python's, and are
//! told afterwards.

use pyo3::prelude::*;
use turboapi_core::handler::Ended;
use turboapi_core::request::RequestId;

use crate::coroutine::Outstanding;
use crate::event_loop::AsyncioLoop;

/// What an exchange has to be told.
pub enum Notice {
    /// There is room for more of its answer.
    Writable,
    /// More of its body has come.
    Readable,
    /// Nobody waits for its answer any more.
    Ended(Ended),
}

/// Notices in the order in which things happened.
#[derive(Default)]
pub struct Notices(Vec<(RequestId, Notice)>);

impl Notices {
    /// Keeps one until `deliver`.
    pub fn push(&mut self, id: RequestId, notice: Notice) {
        self.0.push((id, notice));
    }

    /// Tells the exchanges that are still there. Runs Python.
    pub fn deliver(&mut self, py: Python<'_>, asyncio: &mut AsyncioLoop, outstanding: &Outstanding) {
        if self.0.is_empty() {
            return;
        }
        if let Err(error) = asyncio.show(py) {
            error.write_unraisable(py, None);
        }
        let exchange = |id| outstanding.exchanges.get(py, id);
        for (id, notice) in self.0.drain(..) {
            match notice {
                Notice::Writable => {
                    if let Some(exchange) = exchange(id) {
                        exchange.get().writable(py);
                    }
                }
                Notice::Readable => {
                    if let Some(exchange) = exchange(id) {
                        exchange.get().readable(py);
                    }
                }
                Notice::Ended(how) => outstanding.ended(py, id, how),
            }
        }
    }
}
