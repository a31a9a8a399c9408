//! The seam: the only way out of the core. What is below knows HTTP and no handler; what is above knows handlers and no socket.

use crate::request::{Request, RequestId};
use bytes::Bytes;

use crate::answer::{Answer, Headers};
use crate::router::Match;

/// Whether a request was answered in the call or will be later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// `answer` holds the whole answer. If it holds none, the peer gets a 500.
    Answered,
    /// The answer comes through `Worker::answer`, under the request's id.
    Later,
}

/// What a handler does with the body of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BodyUse {
    /// The handler is called when the body is complete. If not, when the head is: [`Handler::body`] then brings what comes
    /// further, and what it does not take is not read.
    pub is_wanted_whole: bool,
    /// The largest body that is taken, instead of `limits.body_bytes_max`.
    pub bytes_max: Option<u64>,
}

/// Answers requests. Called on the worker's own thread, never inside a platform's turn.
pub trait Handler {
    /// A request arrived, whole or, where [`Self::body_use`] says so, with what is here of its body. It is borrowed: what is
    /// needed later has to be copied.
    fn call(&mut self, request: &Request<'_>, answer: &mut Answer<'_>) -> Outcome;

    /// Whether the last call took so long that other connections should come before a further request of the same one. Asked
    /// only when there is one.
    fn took_long(&mut self) -> bool {
        false
    }

    /// What the handler of a request will do with its body. Asked when a head is complete that has one.
    fn body_use(&mut self, _matched: Match) -> BodyUse {
        BodyUse { is_wanted_whole: true, bytes_max: None }
    }

    /// A further part of the body of a request that was answered [`Outcome::Later`] before its body was complete; the last one
    /// if `is_complete`. A body that breaks off, or breaks HTTP, never gets there: [`Ended::Gone`] is told instead.
    /// `Worker::read_body` says that parts were taken: over `limits.body_untaken_bytes_max` no more is read.
    fn body(&mut self, _id: RequestId, _part: &[u8], _is_complete: bool) {}

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

/// A later answer, or a part of one.
#[derive(Debug)]
pub enum Part {
    /// All of it.
    Whole {
        /// Status code.
        status: u16,
        /// Header lines.
        headers: Headers,
        /// Body.
        body: Bytes,
    },
    /// All of it, in JSON.
    Json {
        /// Status code.
        status: u16,
        /// Body.
        body: Bytes,
    },
    /// Its beginning.
    Start {
        /// Status code.
        status: u16,
        /// Header lines.
        headers: Headers,
    },
    /// A part of its body.
    Body {
        /// The bytes.
        data: Bytes,
        /// Whether another part follows.
        more: bool,
    },
    /// The handler failed: 500 if nothing was said yet, else the connection ends behind what was said.
    Failed,
}
