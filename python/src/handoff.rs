//! What the workers of a server share, as its parent holds it. It does not say which worker gets what: see `balance.rs` of the core.

use std::os::fd::{BorrowedFd, RawFd};
use std::sync::Arc;

use pyo3::prelude::*;
use turboapi_core::balance;
use turboapi_platform::{ListenerId, handoff};

use crate::interpreter::borrow_descriptor;

/// Lets workers hand fresh connections to each other. Made by the parent, before it starts threads or forks.
#[pyclass(frozen, module = "turboapi._core")]
pub struct Handoff {
    pub shared: Arc<handoff::Handoff>,
}

#[pymethods]
impl Handoff {
    /// For so many workers.
    #[new]
    fn new(workers: usize) -> PyResult<Self> {
        Ok(Self { shared: Arc::new(handoff::Handoff::new(workers)?) })
    }

    /// Number of workers.
    #[getter]
    fn workers(&self) -> usize {
        self.shared.workers()
    }

    /// The connections of each worker, with those that wait for it; None for one that takes no more.
    fn loads(&self) -> Vec<Option<u32>> {
        (0..self.shared.workers()).map(|worker| self.shared.load(worker)).collect()
    }

    /// What is readable when a connection waits in a worker's mailbox.
    fn descriptor(&self, worker: usize) -> PyResult<RawFd> {
        self.check(worker)?;
        Ok(self.shared.descriptor(worker))
    }

    /// The worker has ended: nothing is handed to it until its successor serves. What it was handed waits for that one.
    fn retire(&self, worker: usize) -> PyResult<()> {
        self.check(worker)?;
        self.shared.retire(worker);
        Ok(())
    }

    /// The worker has ended and has no successor: what waits for it, there or in its listeners, goes to the others. Returns how
    /// many did, and how many had to be closed as nobody takes them.
    fn clear_up(&self, worker: usize, listeners: Vec<(u32, RawFd)>) -> PyResult<(usize, usize)> {
        self.check(worker)?;
        let listeners = numbered(&listeners)?;
        let cleared = balance::clear_up(&self.shared, worker, &listeners)?;
        Ok((cleared.moved, cleared.lost))
    }

    /// If the worker's thread is held by a handler, what waits for it, there or in its listeners, goes to the others,
    /// as far as these have room. Returns how many did. `connections_max`: what each may have.
    fn relieve(&self, worker: usize, listeners: Vec<(u32, RawFd)>, connections_max: usize) -> PyResult<usize> {
        self.check(worker)?;
        let listeners = numbered(&listeners)?;
        Ok(balance::relieve(&self.shared, worker, &listeners, connections_max)?)
    }

    /// The server stops: from now on each worker keeps what it accepts, and what was handed over is served.
    fn close(&self) {
        self.shared.close();
    }
}

impl Handoff {
    /// Whether there is such a worker.
    pub fn check(&self, worker: usize) -> PyResult<()> {
        if worker < self.shared.workers() {
            return Ok(());
        }
        Err(pyo3::exceptions::PyIndexError::new_err(format!("worker is {worker}, there are {}", self.shared.workers())))
    }
}

fn numbered(listeners: &[(u32, RawFd)]) -> PyResult<Vec<(ListenerId, BorrowedFd<'_>)>> {
    listeners.iter().map(|(number, descriptor)| Ok((ListenerId(*number), borrow_descriptor(descriptor)?))).collect()
}
