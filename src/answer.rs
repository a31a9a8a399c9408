//! An answer on its way out: framing and persistence are decided here, and bytes appended to the connection's output.
//! Header lines are in `answer/headers`, the lines that each answer has in `answer/preamble`.
//!
//! A handler says status, header lines and body. Which of Content-Length, chunked coding or closing ends the body, whether
//! there may be a body at all, and what `Connection` says, is not a handler's business: RFC 9112 §6 decides it here.

mod preamble;
mod headers;

use std::fmt;

use bytes::Bytes;

use crate::http::encode;
use crate::http::head::{Head, Method};
use crate::output::Output;
pub use headers::{HeaderError, Headers};
pub use preamble::Preamble;

/// How the end of a streamed body is told to the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum BodyEnd {
    /// There is no body: HEAD, 204, 304. What the handler sends of one is dropped.
    NoBody,
    /// After so many bytes more.
    Length(u64),
    /// By a chunk of no bytes.
    Chunked,
    /// By closing the connection: a streamed answer to HTTP/1.0.
    Close,
}

/// How far the answer to one request has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Nothing,
    Body(BodyEnd),
    Complete,
}

/// What of the request's body is still to come when its answer is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyLeft {
    /// Nothing, or as much as can be dropped.
    Little,
    /// More than that: an answer that is whole is the connection's last. A handler that begins one may be about to read on.
    Much,
    /// The peer waits for `100 Continue`. After an answer it may send the body or its next request, and we could not tell
    /// them apart: any answer is the last.
    Unasked,
}

/// Whether the connection outlives the answer. PERF: one value, as each answer looks at it once (benches/micro, callgrind:
/// 9 instructions less than a flag and a `BodyLeft`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Persistence {
    Stays,
    /// If the answer only begins before the rest of the request's body was read.
    StaysIfBegun,
    /// If the request's body is asked for before the answer begins.
    StaysIfAsked,
    Closes,
}

/// What of the request the answer depends on, and how far it has come.
#[derive(Clone, Copy, Debug)]
pub struct AnswerState {
    is_head: bool,
    is_http_1_0: bool,
    persistence: Persistence,
    stage: Stage,
}

/// A handler's mistake about its own answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnswerError {
    /// The answer was begun already.
    StartedTwice,
    /// A body part came before the start or after the end.
    OutOfOrder,
    /// More or fewer bytes than `Content-Length` says.
    LengthMismatch {
        /// Bytes that `Content-Length` promised and that were not sent yet.
        promised: u64,
        /// Bytes of this part.
        sent: u64,
    },
}

impl fmt::Display for AnswerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::StartedTwice => f.write_str("the answer was started twice"),
            Self::OutOfOrder => f.write_str("a body part was sent before the answer's start or after its end"),
            Self::LengthMismatch { promised, sent } => {
                write!(f, "content-length leaves {promised} bytes to send, and {sent} were sent")
            }
        }
    }
}

impl std::error::Error for AnswerError {}

impl AnswerState {
    /// For a request with this head.
    #[must_use]
    pub fn new(head: &Head, is_draining: bool) -> Self {
        Self {
            is_head: head.method == Method::Head,
            is_http_1_0: head.minor_version == 0,
            persistence: if head.keeps_alive && !is_draining { Persistence::Stays } else { Persistence::Closes },
            stage: Stage::Nothing,
        }
    }

    /// For an answer to what was no request: the connection closes after it. `is_head`: it was to be a HEAD, as far as it came.
    #[must_use]
    pub const fn refusal(is_head: bool) -> Self {
        Self { is_head, is_http_1_0: false, persistence: Persistence::Closes, stage: Stage::Nothing }
    }

    /// Whether the next request may follow on this connection.
    #[must_use]
    pub fn keeps_alive(&self) -> bool {
        self.persistence == Persistence::Stays
    }

    /// Whether it is for a HEAD.
    #[must_use]
    pub const fn is_head(&self) -> bool {
        self.is_head
    }

    /// What is still to come of the request's body. Of no effect once the answer has begun, and has said what follows it.
    pub fn set_body_left(&mut self, left: BodyLeft) {
        if self.persistence != Persistence::Closes && !self.is_started() {
            self.persistence = match left {
                BodyLeft::Little => Persistence::Stays,
                BodyLeft::Much => Persistence::StaysIfBegun,
                BodyLeft::Unasked => Persistence::StaysIfAsked,
            };
        }
    }

    /// The connection closes after this answer.
    pub fn close(&mut self) {
        self.persistence = Persistence::Closes;
    }

    /// Whether all of the answer was handed over.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.stage == Stage::Complete
    }

    /// Whether a peer that finds the connection ended here knows whether it has the whole answer. Not if the end of the connection is
    /// the end of the body.
    #[must_use]
    pub fn tells_its_end(&self) -> bool {
        self.stage != Stage::Body(BodyEnd::Close)
    }

    /// Whether some of the answer was handed over.
    #[must_use]
    pub fn is_started(&self) -> bool {
        self.stage != Stage::Nothing
    }
}

/// Where an answer is written: the connection's output.
#[derive(Debug)]
pub struct Answer<'a> {
    pub(crate) out: &'a mut Output,
    pub(crate) state: &'a mut AnswerState,
    pub(crate) preamble: &'a Preamble,
}

/// Lines of an answer that is JSON and nothing else; `content-length` goes before it, as Starlette writes them.
const JSON_LINES: &[u8] = b"content-type: application/json\r\n";

impl Answer<'_> {
    /// The whole answer: status, header lines, body.
    ///
    /// # Errors
    /// When an answer was begun already, or `Content-Length` does not fit the body; nothing is written then.
    pub fn whole(&mut self, status: u16, headers: &Headers, body: &[u8]) -> Result<(), AnswerError> {
        let has_body = self.begin_whole(status, headers, body.len())?;
        if has_body {
            self.out.push_bytes(body);
        }
        Ok(())
    }

    /// The same, and a large body is not copied.
    ///
    /// # Errors
    /// As [`Self::whole`].
    pub fn whole_shared(&mut self, status: u16, headers: &Headers, body: Bytes) -> Result<(), AnswerError> {
        let has_body = self.begin_whole(status, headers, body.len())?;
        if has_body {
            self.out.push_large(body);
        }
        Ok(())
    }

    fn begin_whole(&mut self, status: u16, headers: &Headers, body_bytes: usize) -> Result<bool, AnswerError> {
        if self.state.is_started() {
            return Err(AnswerError::StartedTwice);
        }
        let has_body = !self.state.is_head && encode::may_have_body(status);
        if let Some(promised) = headers.content_length
            && has_body
            && promised != body_bytes as u64
        {
            return Err(AnswerError::LengthMismatch { promised, sent: body_bytes as u64 });
        }
        self.head(status, headers, Some(body_bytes as u64));
        self.state.stage = Stage::Complete;
        Ok(has_body)
    }

    /// A whole answer of JSON.
    ///
    /// # Errors
    /// When an answer was begun already.
    pub fn json(&mut self, status: u16, body: &[u8]) -> Result<(), AnswerError> {
        // PERF: the common answer, without a `Headers`: one copy of the preamble, one of the body.
        if self.state.is_started() {
            return Err(AnswerError::StartedTwice);
        }
        let out = &mut self.out.small;
        out.reserve(256 + body.len());
        self.preamble.write(out, status, false, false, &[]);
        let may_have_body = encode::may_have_body(status);
        if may_have_body {
            write_content_length(body.len() as u64, out);
        }
        out.extend_from_slice(JSON_LINES);
        self.connection_line();
        self.out.small.extend_from_slice(b"\r\n");
        if may_have_body && !self.state.is_head {
            self.out.push_bytes(body);
        }
        self.state.stage = Stage::Complete;
        Ok(())
    }

    /// 503 with Retry-After: as many requests are being answered as may be (RFC 9110 §15.6.4).
    ///
    /// # Errors
    /// When an answer was begun already.
    pub fn overloaded(&mut self) -> Result<(), AnswerError> {
        let mut headers = Headers::default();
        let pushed = headers
            .push(b"content-type", b"text/plain; charset=utf-8")
            .and_then(|()| headers.push(b"retry-after", b"1"));
        debug_assert!(pushed.is_ok(), "constant headers are well-formed");
        self.whole(503, &headers, b"too many requests are being answered, try again in a second")
    }

    /// Begins an answer whose body follows in parts.
    ///
    /// # Errors
    /// When one was begun already.
    pub fn start(&mut self, status: u16, headers: &Headers) -> Result<(), AnswerError> {
        if self.state.is_started() {
            return Err(AnswerError::StartedTwice);
        }
        let end = if self.state.is_head || !encode::may_have_body(status) {
            BodyEnd::NoBody
        } else if let Some(length) = headers.content_length {
            BodyEnd::Length(length)
        } else if self.state.is_http_1_0 {
            // RFC 9112 §6.3: without a length and without chunks only the end of the connection ends the body.
            self.state.close();
            BodyEnd::Close
        } else {
            BodyEnd::Chunked
        };
        self.state.persistence = match self.state.persistence {
            Persistence::Stays | Persistence::StaysIfBegun => Persistence::Stays,
            Persistence::StaysIfAsked | Persistence::Closes => Persistence::Closes,
        };
        self.head(status, headers, None);
        self.state.stage = Stage::Body(end);
        Ok(())
    }

    /// Sends a part of the body, the last one if `more` is false.
    ///
    /// # Errors
    /// When it does not fit what was promised; the connection then has to be cut.
    pub fn part(&mut self, data: Bytes, more: bool) -> Result<(), AnswerError> {
        let Stage::Body(end) = self.state.stage else {
            return Err(AnswerError::OutOfOrder);
        };
        match end {
            BodyEnd::NoBody => {}
            BodyEnd::Close => self.out.push_large(data),
            BodyEnd::Length(promised) => {
                let sent = data.len() as u64;
                if sent > promised || (!more && sent < promised) {
                    return Err(AnswerError::LengthMismatch { promised, sent });
                }
                self.state.stage = Stage::Body(BodyEnd::Length(promised - sent));
                self.out.push_large(data);
            }
            BodyEnd::Chunked => {
                if !data.is_empty() {
                    encode::chunk_head(&mut self.out.small, data.len());
                    self.out.push_large(data);
                    self.out.small.extend_from_slice(b"\r\n");
                }
                if !more {
                    self.out.small.extend_from_slice(encode::LAST_CHUNK);
                }
            }
        }
        if !more {
            self.state.stage = Stage::Complete;
        }
        Ok(())
    }

    /// Whether nothing was written yet.
    #[must_use]
    pub fn is_untouched(&self) -> bool {
        !self.state.is_started()
    }

    fn head(&mut self, status: u16, headers: &Headers, body_bytes: Option<u64>) {
        let out = &mut self.out.small;
        self.preamble.write(out, status, headers.has_date, headers.has_server, &headers.lines);
        // RFC 9110 §8.6: no Content-Length in a 204. A 304 may say the length that a 200 would have.
        headers.write(out, status == 204);
        if headers.content_length.is_none() && encode::may_have_body(status) {
            match body_bytes {
                // RFC 9110 §8.6: in the answer to a HEAD it is what GET would have, and a handler that made no body has not said that.
                Some(0) if self.state.is_head => {}
                Some(length) => write_content_length(length, out),
                None if !self.state.is_http_1_0 => out.extend_from_slice(b"transfer-encoding: chunked\r\n"),
                None => {}
            }
        }
        if headers.closes {
            self.state.close();
        }
        self.connection_line();
        self.out.small.extend_from_slice(b"\r\n");
    }

    fn connection_line(&mut self) {
        // RFC 9112 §9.3: 1.1 persists unless told otherwise, 1.0 only if told so.
        if !self.state.keeps_alive() {
            self.out.small.extend_from_slice(b"connection: close\r\n");
        } else if self.state.is_http_1_0 {
            self.out.small.extend_from_slice(b"connection: keep-alive\r\n");
        }
    }
}

fn write_content_length(bytes: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(b"content-length: ");
    out.extend_from_slice(itoa::Buffer::new().format(bytes).as_bytes());
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests;
