//! What goes between Python and the connections of one worker: answers on their way out, bodies on their way in, and how many
//! requests Python has begun and not ended. What waits for them is not here: see `coroutine.rs` and `asgi.rs`.
//!
//! What an app sends reaches the connection when it has returned to the worker: an app may send from inside a turn's handler call
//! as well as from any later callback of the loop. A body that comes after its head waits here too, as it may not be known yet who
//! will read it: a native handler's request gets an exchange only when it raises, or returns a response that streams.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use turboapi_core::handler::Part;
use turboapi_core::request::RequestId;

/// What Python has for a connection.
#[derive(Debug)]
pub enum Message {
    /// An answer, or a part of one.
    Answer(Part),
    /// So many bytes of the body were taken, and more are waited for.
    Read(usize),
}

/// A body on its way from a connection to its reader.
#[derive(Debug, Default)]
struct Arriving {
    bytes: Vec<u8>,
    is_complete: bool,
}

/// One worker's. Only that worker's thread uses it, so that its locks are never waited for.
#[derive(Debug, Default)]
pub struct Mailbox {
    messages: Mutex<Vec<(RequestId, Message)>>,
    bodies: Mutex<HashMap<RequestId, Arriving>>,
    /// Requests that Python has begun and not ended, whether or not anybody waits for their answer.
    open_count: AtomicUsize,
    /// Whether event streams have been told that the server ends.
    is_draining: AtomicBool,
}

impl Mailbox {
    /// Adds an answer or a part of one.
    pub fn push(&self, id: RequestId, part: Part) {
        lock(&self.messages).push((id, Message::Answer(part)));
    }

    /// So many bytes of the body were taken, and more are waited for.
    pub fn push_read(&self, id: RequestId, bytes: usize) {
        lock(&self.messages).push((id, Message::Read(bytes)));
    }

    /// Takes all messages, in order, leaving `into`'s memory behind.
    pub fn take(&self, into: &mut Vec<(RequestId, Message)>) {
        std::mem::swap(&mut *lock(&self.messages), into);
    }

    /// Keeps a part of a body until it is read.
    pub fn add_body(&self, id: RequestId, part: &[u8], is_complete: bool) {
        let mut bodies = lock(&self.bodies);
        let body = bodies.entry(id).or_default();
        body.bytes.extend_from_slice(part);
        body.is_complete = is_complete;
    }

    /// What has come of a body since the last time, and whether that was the rest of it.
    pub fn take_body(&self, id: RequestId) -> (Vec<u8>, bool) {
        let mut bodies = lock(&self.bodies);
        let Some(body) = bodies.get_mut(&id) else { return (Vec::new(), false) };
        (std::mem::take(&mut body.bytes), body.is_complete)
    }

    /// Nobody reads this body any more.
    pub fn drop_body(&self, id: RequestId) {
        lock(&self.bodies).remove(&id);
    }

    /// Requests that Python has begun and not ended: also those whose peer has gone, which the connections do not count.
    pub fn open_count(&self) -> usize {
        self.open_count.load(Ordering::Relaxed)
    }

    /// Event streams that begin from now on are told to end.
    pub fn drain(&self) {
        self.is_draining.store(true, Ordering::Relaxed);
    }

    /// Whether the server is about to end.
    pub fn is_draining(&self) -> bool {
        self.is_draining.load(Ordering::Relaxed)
    }

    /// Nobody will read any more.
    pub fn close(&self) {
        lock(&self.bodies).clear();
    }
}

/// Counts one request as open for as long as this lives.
#[derive(Debug)]
pub struct Ticket(Arc<Mailbox>);

impl Ticket {
    /// For a request that is handed to Python.
    pub fn new(mailbox: &Arc<Mailbox>) -> Self {
        mailbox.open_count.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(mailbox))
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.0.open_count.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Locks what one worker's thread uses alone, or shares with its pool's threads for moments.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // No Python runs and nothing panics under these locks; what a poisoned one holds is whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
