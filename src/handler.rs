//! The seam: the only way out of the core. What is below knows HTTP and no handler; what is above knows handlers and no socket.

use crate::request::{Request, RequestId};
use crate::response::Answer;

/// Whether a request was answered in the call or will be later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// `answer` holds the whole answer. If it holds none, the peer gets a 500.
    Answered,
    /// The answer comes through `Worker::answer`, under the request's id.
    Later,
}

/// Answers requests. Called on the worker's own thread, never inside a platform's turn.
pub trait Handler {
    /// A whole request arrived. It is borrowed: what is needed later has to be copied.
    fn call(&mut self, request: &Request<'_>, answer: &mut Answer<'_>) -> Outcome;

    /// What had been sent of a streamed answer has left, and more is welcome.
    fn writable(&mut self, id: RequestId);

    /// The answer is complete, or the connection is gone: told exactly once for each request that was answered
    /// [`Outcome::Later`], and last. [`Ended::HalfClosed`] may come before it.
    fn ended(&mut self, id: RequestId, how: Ended);
}

/// Why a handler need not go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The answer was handed over completely.
    Complete,
    /// The peer shut down its sending side. It may still read: an answer is sent if one comes.
    HalfClosed,
    /// The connection is gone; what is answered goes nowhere.
    Gone,
}
