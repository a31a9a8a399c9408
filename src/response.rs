//! An answer on its way out: header lines checked once, framing decided here, bytes appended to the connection's output.
//!
//! A handler says status, header lines and body. Which of Content-Length, chunked coding or closing ends the body, whether
//! there may be a body at all, and what `Connection` says, is not a handler's business: RFC 9112 §6 decides it here.

use std::collections::VecDeque;
use std::fmt;
use std::ops::Range;

use bytes::Bytes;

use crate::http::encode::{self, DateCache};
use crate::http::head::{Head, Method};

/// A body of at least so many bytes is sent from where it is instead of being copied behind its head.
pub const COPY_BYTES_MAX: usize = 16 * 1024;

/// Header lines, checked and encoded. Made once where they are always the same.
#[derive(Clone, Debug, Default)]
pub struct Headers {
    lines: Vec<u8>,
    content_length: Option<u64>,
    /// Where its line stands in `lines`: some answers must go without it.
    length_line: Range<usize>,
    closes: bool,
    has_date: bool,
    has_server: bool,
    is_event_stream: bool,
}

/// A header that must not go on the wire. Raised in the handler; nothing is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HeaderError {
    /// Empty, or with a byte that no token has (RFC 9110 §5.1).
    Name(Vec<u8>),
    /// With a control byte: CR or LF would let whoever chose the value write headers of their own (RFC 9110 §5.5).
    Value(Vec<u8>),
    /// `Content-Length` is no number, or two of them differ.
    ContentLength(Vec<u8>),
    /// A coding other than `chunked`, which cannot be undone here and must not be forgotten (RFC 9112 §6.1).
    TransferEncoding(Vec<u8>),
}

/// What a message shows of a name or value: enough to find it by, as the whole may be a mebibyte that a peer chose.
const SEEN_BYTES_MAX: usize = 100;

/// Bytes as a message shows them: escaped, in quotes, and not without end.
struct Seen<'a>(&'a [u8]);

impl fmt::Display for Seen<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = &self.0[..self.0.len().min(SEEN_BYTES_MAX)];
        write!(f, "\"{}\"", shown.escape_ascii())?;
        if shown.len() < self.0.len() {
            write!(f, " and {} bytes more", self.0.len() - shown.len())?;
        }
        Ok(())
    }
}

impl fmt::Display for HeaderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => {
                write!(f, "header name {} is not a token, allowed are letters, digits and token marks", Seen(name))
            }
            Self::Value(value) => write!(f, "header value {} has a control byte, only tab is allowed", Seen(value)),
            Self::ContentLength(value) => {
                write!(f, "content-length {} is not one number in decimal digits", Seen(value))
            }
            Self::TransferEncoding(value) => {
                write!(f, "transfer-encoding {} is not chunked; leave it out, the server frames the body", Seen(value))
            }
        }
    }
}

impl std::error::Error for HeaderError {}

impl Headers {
    /// Appends a line. `Transfer-Encoding: chunked`, `Keep-Alive`, and `close` and `keep-alive` of `Connection` are left out:
    /// framing and persistence are decided here.
    ///
    /// # Errors
    /// When the line would break the message; nothing is appended then.
    pub fn push(&mut self, name: &[u8], value: &[u8]) -> Result<(), HeaderError> {
        if !encode::is_header_name(name) {
            return Err(HeaderError::Name(name.to_vec()));
        }
        if !encode::is_header_value(value) {
            return Err(HeaderError::Value(value.to_vec()));
        }
        match name.len() {
            14 if name.eq_ignore_ascii_case(b"content-length") => {
                return self.push_content_length(name, value);
            }
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => {
                let is_chunked = value.trim_ascii().eq_ignore_ascii_case(b"chunked");
                return if is_chunked { Ok(()) } else { Err(HeaderError::TransferEncoding(value.to_vec())) };
            }
            10 if name.eq_ignore_ascii_case(b"connection") => {
                self.push_connection(name, value);
                return Ok(());
            }
            // A promise about the connection, which is not the handler's to give.
            10 if name.eq_ignore_ascii_case(b"keep-alive") => return Ok(()),
            12 if name.eq_ignore_ascii_case(b"content-type") => {
                let essence = value.split(|octet| *octet == b';').next().unwrap_or_default();
                self.is_event_stream = essence.trim_ascii().eq_ignore_ascii_case(b"text/event-stream");
            }
            4 if name.eq_ignore_ascii_case(b"date") => self.has_date = true,
            6 if name.eq_ignore_ascii_case(b"server") => self.has_server = true,
            _ => {}
        }
        write_header(name, value, &mut self.lines);
        Ok(())
    }

    /// Whether the body is a stream of server-sent events, which has no end of its own (WHATWG HTML §9.2).
    #[must_use]
    pub const fn is_event_stream(&self) -> bool {
        self.is_event_stream
    }

    fn push_content_length(&mut self, name: &[u8], value: &[u8]) -> Result<(), HeaderError> {
        let digits = std::str::from_utf8(value).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
        let length: Option<u64> = digits.and_then(|digits| digits.parse().ok());
        match (length, self.content_length) {
            (Some(length), None) => {
                self.content_length = Some(length);
                let start = self.lines.len();
                write_header(name, value, &mut self.lines);
                self.length_line = start..self.lines.len();
                Ok(())
            }
            // RFC 9110 §8.6: said twice it may be taken for a list, which is no length.
            (Some(length), Some(said)) if length == said => Ok(()),
            _ => Err(HeaderError::ContentLength(value.to_vec())),
        }
    }

    /// What else `Connection` names stays, as `upgrade` must beside an `Upgrade` (RFC 9110 §7.8).
    fn push_connection(&mut self, name: &[u8], value: &[u8]) {
        let is = |token: &[u8], word: &[u8]| token.eq_ignore_ascii_case(word);
        let tokens = || value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii).filter(|token| !token.is_empty());
        self.closes |= tokens().any(|token| is(token, b"close"));
        let others: Vec<_> = tokens().filter(|token| !is(token, b"close") && !is(token, b"keep-alive")).collect();
        if !others.is_empty() {
            write_header(name, &others.join(&b", "[..]), &mut self.lines);
        }
    }

    fn write(&self, out: &mut Vec<u8>, without_length: bool) {
        if without_length {
            out.extend_from_slice(&self.lines[..self.length_line.start]);
            out.extend_from_slice(&self.lines[self.length_line.end..]);
        } else {
            out.extend_from_slice(&self.lines);
        }
    }

    /// Forgets all lines and keeps the memory.
    pub fn clear(&mut self) {
        let mut lines = std::mem::take(&mut self.lines);
        lines.clear();
        *self = Self { lines, ..Self::default() };
    }

    /// What `Content-Length` says, if there is one.
    #[must_use]
    pub fn content_length(&self) -> Option<u64> {
        self.content_length
    }
}

/// A line that each answer has that has none of this name itself.
#[derive(Debug)]
struct DefaultLine {
    name: Box<[u8]>,
    /// With its name and its CRLF.
    line: Vec<u8>,
}

/// The lines that each answer begins with, `date` among them, refreshed once a second.
#[derive(Debug)]
pub struct Preamble {
    date: DateCache,
    sends_date: bool,
    /// `server: …` with its CRLF, or empty.
    server_line: Vec<u8>,
    defaults: Vec<DefaultLine>,
    /// The status line of a 200 and all of these lines, joined.
    ok: Vec<u8>,
}

impl Preamble {
    /// Neither line is sent where it is not wanted. `server` must be a header value.
    #[must_use]
    pub fn new(server: Option<&str>, sends_date: bool) -> Self {
        let mut server_line = Vec::new();
        if let Some(name) = server {
            write_header(b"server", name.as_bytes(), &mut server_line);
        }
        let (date, defaults, ok) = (DateCache::default(), Vec::new(), Vec::new());
        let mut preamble = Self { date, sends_date, server_line, defaults, ok };
        preamble.rebuild();
        preamble
    }

    /// The same with further lines, each for the answers that have none of its name: refusals too. `Server` and `Date` among them
    /// are instead of ours.
    ///
    /// # Errors
    /// A line would break a message, or says how long it is.
    pub fn with_defaults<'a>(
        mut self,
        headers: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Self, HeaderError> {
        for (name, value) in headers {
            let mut checked = Headers::default();
            checked.push(name.as_bytes(), value.as_bytes())?;
            if checked.content_length.is_some() {
                return Err(HeaderError::ContentLength(value.into()));
            }
            self.sends_date &= !checked.has_date;
            if checked.has_server {
                self.server_line.clear();
            }
            self.defaults.push(DefaultLine { name: name.as_bytes().into(), line: checked.lines });
        }
        self.rebuild();
        Ok(self)
    }

    /// Tells the time, in seconds since 1970.
    pub fn set_time(&mut self, unix_seconds: u64) {
        if self.date.update(unix_seconds) {
            self.rebuild();
        }
    }

    fn rebuild(&mut self) {
        let mut ok = std::mem::take(&mut self.ok);
        ok.clear();
        encode::status_line(&mut ok, 200);
        self.write_lines(&mut ok, true, true, &[]);
        self.ok = ok;
    }

    fn write_lines(&self, out: &mut Vec<u8>, date: bool, server: bool, own: &[u8]) {
        if date && self.sends_date {
            write_header(b"date", self.date.value(), out);
        }
        if server {
            out.extend_from_slice(&self.server_line);
        }
        for default in &self.defaults {
            if !has_line(own, &default.name) {
                out.extend_from_slice(&default.line);
            }
        }
    }

    /// Status line, date, server, and the defaults that are not among the answer's own lines. PERF: one copy for the common status.
    fn write(&self, out: &mut Vec<u8>, status: u16, without_date: bool, without_server: bool, own: &[u8]) {
        let is_plain = status == 200 && !without_date && !without_server;
        if is_plain && !self.defaults.iter().any(|default| has_line(own, &default.name)) {
            out.extend_from_slice(&self.ok);
        } else {
            encode::status_line(out, status);
            self.write_lines(out, !without_date, !without_server, own);
        }
    }
}

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
    /// More than that: an answer that is whole is the connection's last. Who begins one may be about to read on.
    Much,
    /// The client waits for `100 Continue`. After an answer it may send the body or its next request, and nobody could tell
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

/// Encoded bytes that the platform has not got yet: small parts joined, large ones as they are.
#[derive(Debug, Default)]
pub struct Output {
    /// Joined parts.
    pub small: Vec<u8>,
    /// Parts too large to copy, each with the number of bytes of `small` that go before it. Empty in the common case.
    pub large: VecDeque<(usize, Bytes)>,
    large_bytes: usize,
}

impl Output {
    /// Bytes not yet taken.
    #[must_use]
    pub fn len(&self) -> usize {
        self.small.len() + self.large_bytes
    }

    /// Whether there is nothing to send.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.small.is_empty() && self.large.is_empty()
    }

    /// Appends a copy.
    pub fn push_bytes(&mut self, bytes: &[u8]) {
        self.small.extend_from_slice(bytes);
    }

    fn push_large(&mut self, body: Bytes) {
        if body.len() < COPY_BYTES_MAX {
            self.push_bytes(&body);
        } else {
            self.large_bytes += body.len();
            self.large.push_back((self.small.len(), body));
        }
    }

    /// Takes the next bytes to send, at most so many. Nothing is copied but what stands behind a large part.
    pub fn take(&mut self, bytes_max: usize) -> (Vec<u8>, Bytes) {
        let before = self.large.front().map_or(self.small.len(), |&(before, _)| before);
        let mut head = Vec::new();
        if before > 0 {
            let after = if before < self.small.len() { self.small.split_off(before) } else { Vec::new() };
            head = std::mem::replace(&mut self.small, after);
        }
        for (position, _) in &mut self.large {
            *position -= before;
        }
        if head.len() > bytes_max {
            // Small parts that came to much, or a body that was copied: from here on a large part like any other.
            self.large_bytes += head.len();
            self.large.push_front((0, Bytes::from(std::mem::take(&mut head))));
        }
        let room = bytes_max - head.len();
        let part = self.large.front_mut().map(|(_, part)| part.split_to(part.len().min(room))).unwrap_or_default();
        self.large_bytes -= part.len();
        if self.large.front().is_some_and(|(_, part)| part.is_empty()) {
            self.large.pop_front();
            if self.large.is_empty() {
                self.large = VecDeque::new(); // An idle connection holds no buffer.
            }
        }
        (head, part)
    }

    /// Gives it memory to write to, if it has none.
    pub fn lend(&mut self, spare: &mut Vec<Vec<u8>>) {
        if self.small.capacity() == 0 {
            self.small = spare.pop().unwrap_or_default();
        }
    }

    /// Takes memory that is not needed now: an idle connection holds none.
    pub fn reclaim(&mut self) -> Option<Vec<u8>> {
        (self.small.is_empty() && self.small.capacity() > 0).then(|| std::mem::take(&mut self.small))
    }

    /// Drops everything.
    pub fn clear(&mut self) {
        *self = Self::default();
    }
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
                // RFC 9110 §8.6: in the answer to a HEAD it is what GET would have, and who made no body has not said that.
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

/// Whether one of these header lines has this name.
fn has_line(lines: &[u8], name: &[u8]) -> bool {
    lines.split(|&byte| byte == b'\n').any(|line| {
        line.get(name.len()) == Some(&b':')
            && line.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name))
    })
}

fn write_header(name: &[u8], value: &[u8], out: &mut Vec<u8>) {
    out.reserve(name.len() + value.len() + 4);
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

fn write_content_length(bytes: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(b"content-length: ");
    out.extend_from_slice(itoa::Buffer::new().format(bytes).as_bytes());
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests;
