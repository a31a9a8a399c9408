//! HOT PATH: one connection, bytes in, bytes out. No I/O here, no clock, no timer: `worker.rs` has those.
//!
//! Requests are answered one at a time and in order. While an answer is awaited, what the peer sends further (pipelining) is
//! kept, up to a bound, and then not read. `receive`, `begin` and `call` are the hot path; all else is for the rarer turns.
//!
//! A body that is not here with its head either waits to be whole (`Phase::Body`), or goes to a handler that has been called
//! already, in parts (`incoming`). What no handler takes of one is dropped behind the answer, up to a bound
//! (`Phase::Discarding`). No request is looked at before the body of the one before it has come to its end.

mod body;
mod pending;
mod shared;

use std::time::Duration;

use bytes::Bytes;
use turboapi_platform::{Close, ConnectionId};

use crate::error::{BadRequest, Parsed};
use crate::handler::{BodyUse, Ended, Handler, Outcome};
use crate::http::chunked::ChunkedDecoder;
use crate::http::encode;
use crate::http::framing::Framing;
use crate::http::head::{self, Head, Method, Scan};
use crate::http::target;
use crate::refusals::Refusal;
use crate::request::{Origin, Request, RequestId};
use crate::response::{Answer, AnswerError, AnswerState, BodyLeft, Headers, Output};
use crate::router::{Match, Params, Router};
use crate::timers::{TICK_MILLISECONDS, Tick};
use body::{Held, Incoming, Rest};
use pending::Pending;
use shared::Scratch;
pub use shared::{Shared, Ticks};

/// Linger of a connection whose peer has sent nothing behind its last request: only what is on its way just now could turn
/// the close into a reset. A drain waits for this.
const QUIET_LINGER: Duration = Duration::from_millis(500);

/// What a platform may take to end a connection whose time is over, besides that time: with time-outs of a tenth of a second it may
/// be about to.
const CLOSE_PATIENCE: Tick = 1000 / TICK_MILLISECONDS;

/// So many requests that a peer sent at once (pipelining) are answered one after the other; then other connections come first.
/// Without it 370 of them, a whole receive buffer, went before everybody else.
const REQUESTS_AT_ONCE_MAX: u32 = 32;

/// What a connection is doing.
#[derive(Debug)]
enum Phase {
    /// Waiting for a head, or for the rest of one.
    Head,
    /// A head is complete, its body is not, and nobody was called yet.
    Body(Box<Held>),
    /// A handler has the request.
    Answering,
    /// The answer is complete and the request's body is not: what still comes of it is dropped, so much and so long.
    Discarding { bytes_left: usize, until: Tick },
    /// Nothing more is read: the rest of the output, then the end.
    Closing,
}

/// Bytes that a peer had acknowledged in all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Acknowledged {
    /// Since the platform took the last piece, nobody has asked.
    NotAsked,
    /// The platform cannot tell: only a piece that it has sent is progress.
    Unknown,
    Bytes(u64),
}

/// One connection. An idle one holds no buffer.
#[derive(Debug)]
pub struct Connection {
    id: ConnectionId,
    origin: Origin,
    phase: Phase,
    requests: u32,
    /// The rest of the body of a request that was handed over or answered before its end. INVARIANT: while there is one,
    /// `pending` is empty, as all that comes is of it.
    incoming: Option<Box<Incoming>>,
    pending: Pending,
    scan: Scan,
    head_since: Option<Tick>,
    answer: AnswerState,
    /// Encoded, and not yet with the platform.
    pub output: Output,
    /// Bytes that the platform has and has not sent.
    pub in_send: usize,
    /// Since when the peer has taken nothing of what is there for it.
    unsent_since: Option<Tick>,
    /// What it had taken when that was looked at last.
    acknowledged: Acknowledged,
    close: Option<Close>,
    peer_ended: bool,
    reads: bool,
    /// Has had its share, and goes on at [`Self::take_turn`]. INVARIANT: `pending` is not empty, and the phase is `Head`.
    waits_turn: bool,
    awaits_writable: bool,
    deadline: Option<Tick>,
    idle_since: Tick,
}

impl Connection {
    /// A connection that has not said anything yet.
    #[must_use]
    pub fn new(id: ConnectionId, origin: Origin, shared: &Shared) -> Self {
        Self {
            id,
            origin,
            phase: Phase::Head,
            requests: 0,
            incoming: None,
            pending: Pending::default(),
            scan: Scan::default(),
            head_since: None,
            answer: AnswerState::refusal(false),
            output: Output::default(),
            in_send: 0,
            unsent_since: None,
            acknowledged: Acknowledged::NotAsked,
            close: None,
            peer_ended: false,
            reads: true,
            waits_turn: false,
            awaits_writable: false,
            deadline: Some(shared.now + shared.ticks.silence),
            idle_since: shared.now,
        }
    }

    /// Its id.
    #[must_use]
    pub const fn id(&self) -> ConnectionId {
        self.id
    }

    /// Number of its latest request, from 1; 0 before there is one.
    #[must_use]
    pub const fn requests(&self) -> u32 {
        self.requests
    }

    /// When the worker has to call [`Self::expire`], if nothing happens before.
    #[must_use]
    pub const fn deadline(&self) -> Option<Tick> {
        self.deadline
    }

    /// How the connection should end, once all of its output is with the platform; none while it goes on.
    #[must_use]
    pub fn wants_close(&self) -> Option<Close> {
        self.close.filter(|close| *close == Close::Abort || self.output.is_empty())
    }

    /// Since when nothing is going on, if nothing is: no part of a request, no answer, nothing unsent.
    #[must_use]
    pub fn idle_since(&self) -> Option<Tick> {
        let is_idle = matches!(self.phase, Phase::Head) && !self.has_begun_head() && self.unsent() == 0;
        is_idle.then_some(self.idle_since)
    }

    /// RFC 9112 §2.2: an empty line behind a request is of no request. Who sends one has not begun another.
    fn has_begun_head(&self) -> bool {
        !matches!(self.pending.rest(), [] | [b'\r'] | [b'\r', b'\n'])
    }

    /// Whether a handler has one of its requests.
    #[must_use]
    pub const fn is_answering(&self) -> bool {
        matches!(self.phase, Phase::Answering)
    }

    /// Whether reading should go on, if that has changed since the last time.
    pub fn take_reads_change(&mut self, shared: &Shared) -> Option<bool> {
        let holds_enough = match self.phase {
            // What comes is dropped; how much of it is read is now for the platform to say.
            Phase::Closing => return None,
            Phase::Head if self.waits_turn => self.pending.len() >= shared.limits.head_bytes_max,
            Phase::Head => !self.takes_more(shared),
            Phase::Body(_) | Phase::Discarding { .. } => false,
            Phase::Answering => match &self.incoming {
                Some(incoming) => incoming.holds_enough(&shared.limits),
                // A request that waits behind another one need not be read further than its own head.
                None => self.pending.len() >= shared.limits.head_bytes_max,
            },
        };
        let reads = !holds_enough;
        (reads != self.reads).then(|| {
            self.reads = reads;
            reads
        })
    }

    fn unsent(&self) -> usize {
        self.output.len() + self.in_send
    }

    /// A peer that does not read its answers gets no further ones.
    fn takes_more(&self, shared: &Shared) -> bool {
        self.unsent() <= shared.limits.unsent_bytes_max
    }

    /// Takes received bytes, and calls the handler for each request that they complete.
    pub fn receive<H: Handler>(&mut self, data: &[u8], shared: &mut Shared, handler: &mut H) {
        if matches!(self.phase, Phase::Closing) {
            return;
        }
        if self.pending.is_empty() {
            let consumed = self.consume(data, shared, handler);
            self.pending.extend(&data[consumed..]);
        } else {
            self.pending.extend(data);
            self.consume_pending(shared, handler);
        }
        self.set_deadline(shared);
    }

    /// Whether it has had its share for now: the worker calls [`Self::take_turn`] when others have had theirs.
    #[must_use]
    pub const fn waits_turn(&self) -> bool {
        self.waits_turn
    }

    /// The others have had their share: goes on with the requests that wait. Nothing happens if none does.
    pub fn take_turn<H: Handler>(&mut self, shared: &mut Shared, handler: &mut H) {
        if std::mem::take(&mut self.waits_turn) {
            self.consume_pending(shared, handler);
            self.heed_end(shared, handler);
            self.set_deadline(shared);
        }
    }

    /// Goes on with what waits, if it may now.
    fn consume_pending<H: Handler>(&mut self, shared: &mut Shared, handler: &mut H) {
        if self.pending.is_empty() || self.waits_turn || !matches!(self.phase, Phase::Head) {
            return;
        }
        let mut pending = std::mem::take(&mut self.pending);
        let consumed = self.consume(pending.rest(), shared, handler);
        pending.consume(consumed);
        self.pending = pending;
    }

    /// Parses and answers as much of `bytes` as can be now; returns how much was consumed.
    fn consume<H: Handler>(&mut self, bytes: &[u8], shared: &mut Shared, handler: &mut H) -> usize {
        let mut scratch = shared.scratch.take().unwrap_or_default();
        let consumed = self.consume_with(bytes, &mut scratch, shared, handler);
        shared.scratch = Some(scratch);
        consumed
    }

    fn consume_with<H: Handler>(
        &mut self,
        bytes: &[u8],
        scratch: &mut Scratch,
        shared: &mut Shared,
        handler: &mut H,
    ) -> usize {
        let (mut at, before) = (0, self.requests);
        loop {
            let takes_more = self.takes_more(shared);
            match &mut self.phase {
                Phase::Head if at < bytes.len() && takes_more => {
                    let called = self.requests.wrapping_sub(before);
                    if called > 0 && (called >= REQUESTS_AT_ONCE_MAX || handler.took_long()) {
                        self.waits_turn = true;
                        return at;
                    }
                    let rest = &bytes[at..];
                    match head::parse(rest, &mut self.scan, &shared.limits, &mut scratch.head) {
                        Ok(Parsed::Complete(())) => {
                            self.scan = Scan::default();
                            self.head_since = None;
                            at += self.begin(rest, scratch, shared, handler);
                        }
                        Ok(Parsed::NeedMore) => return at,
                        Err(reason) => {
                            self.refuse(reason, head::asks_for_head(rest), shared);
                            return bytes.len();
                        }
                    }
                }
                Phase::Body(held) => {
                    let Held { body, incoming, .. } = &mut **held;
                    match incoming.receive(&bytes[at..], body, shared.now, &shared.limits) {
                        Ok((consumed, is_complete)) => {
                            at += consumed;
                            if !is_complete {
                                return at;
                            }
                            if let Phase::Body(held) = std::mem::replace(&mut self.phase, Phase::Head) {
                                let Held { head, head_bytes, body, .. } = &*held;
                                let Scratch { path, params, .. } = &mut *scratch;
                                let routed = route(head, head_bytes, path, params, &shared.router);
                                self.call(&routed, body, shared, handler);
                            }
                        }
                        Err(reason) => {
                            let is_head = held.head.method == Method::Head;
                            self.refuse(reason, is_head, shared);
                            return bytes.len();
                        }
                    }
                }
                Phase::Closing => return bytes.len(),
                Phase::Answering | Phase::Discarding { .. } if self.incoming.is_some() && at < bytes.len() => {
                    at += self.receive_part(&bytes[at..], &mut scratch.part, shared, handler);
                }
                Phase::Head | Phase::Answering | Phase::Discarding { .. } => return at,
            }
        }
    }

    /// A head is complete: calls the handler, or keeps it until its body is here too. Returns what was consumed.
    fn begin<H: Handler>(
        &mut self,
        bytes: &[u8],
        scratch: &mut Scratch,
        shared: &mut Shared,
        handler: &mut H,
    ) -> usize {
        let Scratch { head, path, params, part } = scratch;
        let (head_bytes, after) = bytes.split_at(head.length as usize);
        let routed = route(head, head_bytes, path, params, &shared.router);
        let consumed = match head.framing {
            Framing::None => {
                self.call(&routed, &[], shared, handler);
                0
            }
            Framing::Length(_) | Framing::Chunked => self.begin_body(&routed, after, part, shared, handler),
        };
        head_bytes.len() + consumed
    }

    /// A body follows: calls the handler with what is here of it, or with nothing before it is whole. Returns what was consumed.
    fn begin_body<H: Handler>(
        &mut self,
        routed: &Routed<'_>,
        after: &[u8],
        part: &mut Vec<u8>,
        shared: &mut Shared,
        handler: &mut H,
    ) -> usize {
        let head = routed.head;
        let BodyUse { is_wanted_whole, bytes_max } = handler.body_use(routed.matched);
        let limit = bytes_max.unwrap_or(shared.limits.body_bytes_max);
        let rest = match head.framing {
            Framing::None => Rest::Length(0),
            Framing::Length(bytes) if bytes > limit => {
                self.refuse(BadRequest::BodyTooLarge { bytes, limit }, head.method == Method::Head, shared);
                return after.len();
            }
            Framing::Length(length) => {
                if let Some(body) = usize::try_from(length).ok().and_then(|length| after.get(..length)) {
                    self.call(routed, body, shared, handler);
                    return body.len();
                }
                Rest::Length(length)
            }
            Framing::Chunked => Rest::Chunked(ChunkedDecoder::new(limit)),
        };
        // RFC 9110 §10.1.1: a client that waits for it gets its go-ahead; one that has begun to send needs none.
        let mut incoming = Incoming::new(rest, head.expects_continue, shared.now);
        if is_wanted_whole {
            if incoming.owes_continue && after.is_empty() {
                self.output.push_bytes(encode::CONTINUE);
            }
            incoming.owes_continue = false;
            self.phase = Phase::Body(Box::new(Held {
                head: head.clone(),
                head_bytes: routed.head_bytes.to_vec(),
                // What was promised is not yet sent: memory follows the bytes, not the promise.
                body: Vec::new(),
                incoming,
            }));
            return 0;
        }
        part.clear();
        match incoming.receive(after, part, shared.now, &shared.limits) {
            Ok((consumed, is_complete)) => {
                if !is_complete {
                    incoming.untaken = part.len();
                    self.incoming = Some(Box::new(incoming));
                }
                self.call(routed, part, shared, handler);
                consumed
            }
            Err(reason) => {
                self.refuse(reason, head.method == Method::Head, shared);
                after.len()
            }
        }
    }

    /// A request: calls the handler, with all of its body or with what is here of it.
    #[inline]
    fn call<H: Handler>(&mut self, routed: &Routed<'_>, body: &[u8], shared: &mut Shared, handler: &mut H) {
        let &Routed { head, head_bytes, path, matched, params } = routed;
        self.requests = self.requests.wrapping_add(1);
        self.answer = AnswerState::new(head, shared.is_draining);
        let is_body_complete = match &self.incoming {
            Some(incoming) => {
                self.answer.set_body_left(incoming.left(&shared.limits));
                false
            }
            None => true,
        };
        let id = RequestId { connection: self.id, number: self.requests };
        if shared.in_flight >= shared.limits.handlers_in_flight_max {
            self.overloaded(shared);
            return;
        }
        let request =
            Request { id, head, head_bytes, path, matched, params, body, is_body_complete, origin: &self.origin };
        let mut answer = Answer { out: &mut self.output, state: &mut self.answer, preamble: &shared.preamble };
        match handler.call(&request, &mut answer) {
            Outcome::Answered => self.end_answer(shared),
            Outcome::Later => {
                shared.in_flight += 1;
                self.awaits_writable = false;
                self.phase = Phase::Answering;
                // One whose body was cut short is told so in `heed_end`.
                if self.peer_ended && is_body_complete {
                    handler.ended(id, Ended::HalfClosed);
                }
            }
        }
    }

    /// What has come of a body that nobody waits for to be whole: for the handler, or to be dropped. Returns how much of
    /// `bytes` it was.
    fn receive_part<H: Handler>(
        &mut self,
        bytes: &[u8],
        part: &mut Vec<u8>,
        shared: &mut Shared,
        handler: &mut H,
    ) -> usize {
        let Some(incoming) = &mut self.incoming else { return 0 };
        part.clear();
        let received = incoming.receive(bytes, part, shared.now, &shared.limits);
        if let Ok((_, is_complete)) = received {
            incoming.untaken += part.len();
            if is_complete {
                self.incoming = None;
            }
        }
        match (received, &mut self.phase) {
            (Ok((consumed, is_complete)), Phase::Discarding { bytes_left, .. }) => {
                *bytes_left = bytes_left.saturating_sub(consumed);
                if is_complete {
                    self.idle_since = shared.now;
                    self.phase = Phase::Head;
                } else if *bytes_left == 0 {
                    self.close_after_answer(shared.limits.linger_timeout);
                }
                consumed
            }
            (Ok((consumed, is_complete)), _) => {
                if is_complete || !part.is_empty() {
                    let id = RequestId { connection: self.id, number: self.requests };
                    handler.body(id, part, is_complete);
                }
                consumed
            }
            (Err(reason), _) => {
                self.fail_body(reason, shared, handler);
                bytes.len()
            }
        }
    }

    /// A body will never be whole: its handler is told that the peer is gone, and the peer what was wrong, if it still can be.
    fn fail_body<H: Handler>(&mut self, reason: BadRequest, shared: &mut Shared, handler: &mut H) {
        self.incoming = None;
        if !self.is_answering() {
            // The answer was complete before.
            self.close_after_answer(shared.limits.linger_timeout);
        } else if self.answer.is_started() {
            self.fail(shared, handler);
        } else {
            self.leave_flight(Ended::Gone, shared, handler);
            let is_head = self.answer.is_head();
            self.refuse(reason, is_head, shared);
        }
    }

    /// The handler of request `number` has taken so many bytes of its body, and waits for more. Nothing happens if its body is
    /// complete. False: that request is over, and nothing more will come.
    pub fn read_body(&mut self, number: u32, taken: usize, shared: &Shared) -> bool {
        if number != self.requests || !self.is_answering() {
            return false;
        }
        let Some(incoming) = &mut self.incoming else { return true };
        incoming.untaken = incoming.untaken.saturating_sub(taken);
        if std::mem::take(&mut incoming.owes_continue) && !self.answer.is_started() {
            self.output.push_bytes(encode::CONTINUE);
        }
        self.set_deadline(shared);
        true
    }

    /// As many handlers as there may be are at work: told from here, without one of them.
    fn overloaded(&mut self, shared: &mut Shared) {
        let mut answer = Answer { out: &mut self.output, state: &mut self.answer, preamble: &shared.preamble };
        let done = answer.overloaded();
        debug_assert!(done.is_ok(), "nothing was said before a refusal");
        shared.refusals.count(Refusal::Status(503), 1, shared.now);
        self.end_answer(shared);
    }

    /// The answer is complete, or should be: the next request may follow, or the end.
    fn end_answer(&mut self, shared: &mut Shared) {
        if !self.answer.is_complete() {
            let mut answer = Answer { out: &mut self.output, state: &mut self.answer, preamble: &shared.preamble };
            if answer.is_untouched() {
                let done = answer.whole(500, &text_headers(), b"Internal Server Error");
                debug_assert!(done.is_ok(), "an untouched answer takes a text");
            } else {
                self.cut();
                return;
            }
        }
        self.idle_since = shared.now;
        if self.incoming.is_some() {
            self.end_answer_before_body(shared);
        } else if self.answer.keeps_alive() {
            self.phase = Phase::Head;
        } else {
            let linger = shared.limits.linger_timeout;
            self.close_after_answer(if self.pending.is_empty() { linger.min(QUIET_LINGER) } else { linger });
        }
    }

    /// The request's body is still coming: drops a little of it for the sake of the connection, or ends that.
    #[cold]
    fn end_answer_before_body(&mut self, shared: &Shared) {
        let left = self.incoming.as_ref().map(|incoming| incoming.left(&shared.limits));
        if left == Some(BodyLeft::Little) && self.answer.keeps_alive() {
            let bytes_left = shared.limits.linger_bytes_max;
            self.phase = Phase::Discarding { bytes_left, until: shared.now + shared.ticks.linger };
        } else {
            self.close_after_answer(shared.limits.linger_timeout);
        }
    }

    /// The peer broke HTTP: one answer in its place after earlier ones, then a lingering close.
    fn refuse(&mut self, reason: BadRequest, is_head: bool, shared: &mut Shared) {
        self.answer = AnswerState::refusal(is_head);
        let mut answer = Answer { out: &mut self.output, state: &mut self.answer, preamble: &shared.preamble };
        let done = answer.whole(reason.status(), &text_headers(), reason.to_string().as_bytes());
        debug_assert!(done.is_ok(), "a refusal is the first thing said to its request");
        shared.refusals.count(Refusal::Status(reason.status()), 1, shared.now);
        self.close_after_answer(shared.limits.linger_timeout);
    }

    /// RFC 9112 §9.6: what the peer has sent behind its last request would turn a plain close into a reset.
    fn close_after_answer(&mut self, linger: Duration) {
        self.close(if self.peer_ended { Close::AfterSend } else { Close::Linger(linger) });
    }

    fn close(&mut self, how: Close) {
        self.pending = Pending::default();
        self.waits_turn = false;
        self.incoming = None;
        self.phase = Phase::Closing;
        self.close = Some(how);
    }

    /// Ends the connection at once: what the peer has got of an answer must not look whole.
    fn cut(&mut self) {
        self.output.clear();
        self.in_send = 0;
        self.unsent_since = None;
        self.deadline = None;
        self.close(Close::Abort);
    }

    /// A later answer to request `number`, or a part of one. False, and nothing happens, if that request is over.
    ///
    /// # Errors
    /// When the part does not fit what was said before; the connection is then cut.
    pub fn answer<H: Handler>(
        &mut self,
        number: u32,
        part: Part,
        shared: &mut Shared,
        handler: &mut H,
    ) -> Result<bool, AnswerError> {
        if number != self.requests || !self.is_answering() {
            return Ok(false);
        }
        if shared.is_draining && !self.answer.is_started() {
            self.answer.close();
        }
        let left = self.incoming.as_ref().map_or(BodyLeft::Little, |incoming| incoming.left(&shared.limits));
        self.answer.set_body_left(left);
        let mut answer = Answer { out: &mut self.output, state: &mut self.answer, preamble: &shared.preamble };
        let mut asks_for_more = false;
        let done = match part {
            Part::Whole { status, headers, body } => answer.whole_shared(status, &headers, body),
            Part::Json { status, body } => answer.json(status, &body),
            Part::Start { status, headers } => answer.start(status, &headers),
            Part::Body { data, more } => {
                asks_for_more = more;
                answer.part(data, more)
            }
            Part::Failed if answer.is_untouched() => answer.whole(500, &text_headers(), b"Internal Server Error"),
            Part::Failed => {
                self.fail(shared, handler);
                return Ok(true);
            }
        };
        if done.is_err() {
            self.fail(shared, handler);
            return done.map(|()| true);
        }
        if self.answer.is_complete() {
            self.leave_flight(Ended::Complete, shared, handler);
            self.end_answer(shared);
            self.consume_pending(shared, handler);
        } else if asks_for_more {
            // Nothing leaves of a part that is empty, or of a body that HEAD does not get: there will be no `sent` for it.
            self.awaits_writable = self.unsent() > 0;
            if !self.awaits_writable {
                handler.writable(RequestId { connection: self.id, number });
            }
        }
        self.heed_end(shared, handler);
        self.set_deadline(shared);
        Ok(true)
    }

    fn leave_flight<H: Handler>(&mut self, how: Ended, shared: &mut Shared, handler: &mut H) {
        if self.is_answering() {
            shared.in_flight -= 1;
            handler.ended(RequestId { connection: self.id, number: self.requests }, how);
        }
    }

    /// The platform has sent what it was given. Returns whether requests that had waited for that were handed over.
    pub fn sent<H: Handler>(&mut self, shared: &mut Shared, handler: &mut H) -> bool {
        let requests = self.requests;
        self.in_send = 0;
        self.unsent_since = None;
        self.acknowledged = Acknowledged::NotAsked;
        if self.output.is_empty() {
            self.idle_since = shared.now;
            if self.awaits_writable && self.is_answering() {
                self.awaits_writable = false;
                handler.writable(RequestId { connection: self.id, number: self.requests });
            }
        }
        // Requests that waited for the peer to read its answers.
        self.consume_pending(shared, handler);
        self.heed_end(shared, handler);
        self.set_deadline(shared);
        self.requests != requests
    }

    /// The peer will send nothing more.
    pub fn end<H: Handler>(&mut self, shared: &mut Shared, handler: &mut H) {
        self.peer_ended = true;
        if self.is_answering() && self.incoming.is_none() {
            handler.ended(RequestId { connection: self.id, number: self.requests }, Ended::HalfClosed);
        }
        self.heed_end(shared, handler);
        self.set_deadline(shared);
    }

    /// Where the peer has ended its side: requests that are whole are answered, one that was cut short is not.
    fn heed_end<H: Handler>(&mut self, shared: &mut Shared, handler: &mut H) {
        if !self.peer_ended {
            return;
        }
        match &self.phase {
            // Requests that wait for the peer to read, or for other connections, may be whole.
            Phase::Head if self.waits_turn || (!self.takes_more(shared) && !self.pending.is_empty()) => {}
            Phase::Head if !self.has_begun_head() => self.close(Close::AfterSend),
            Phase::Head => {
                let is_head = head::asks_for_head(self.pending.rest());
                self.refuse(BadRequest::CutShort, is_head, shared);
            }
            Phase::Body(held) => {
                let is_head = held.head.method == Method::Head;
                self.refuse(BadRequest::CutShort, is_head, shared);
            }
            Phase::Answering if self.incoming.is_some() => self.fail_body(BadRequest::CutShort, shared, handler),
            Phase::Answering if self.pending.is_empty() => self.answer.close(),
            Phase::Answering => {}
            Phase::Discarding { .. } => self.close(Close::AfterSend),
            Phase::Closing => {
                if matches!(self.close, Some(Close::Linger(_))) {
                    self.close = Some(Close::AfterSend);
                }
            }
        }
    }

    /// The connection is lost.
    pub fn fail<H: Handler>(&mut self, shared: &mut Shared, handler: &mut H) {
        self.leave_flight(Ended::Gone, shared, handler);
        self.cut();
    }

    fn write_wait(&self, ticks: &Ticks) -> Tick {
        if self.acknowledged == Acknowledged::NotAsked { ticks.write_look } else { ticks.write }
    }

    /// Whether the worker has to say how much the peer has acknowledged, before [`Self::expire`].
    #[must_use]
    pub fn wants_acknowledged(&self, by: Tick, shared: &Shared) -> bool {
        self.unsent_since.is_some_and(|since| since + self.write_wait(&shared.ticks) <= by)
    }

    /// So much the peer has acknowledged. It has its time from here if that is enough more than the last time, or if there was
    /// none: what it took before is not known then.
    pub fn note_acknowledged(&mut self, bytes: Option<u64>, shared: &Shared) {
        let seconds = self.unsent_since.map_or(0, |since| (shared.now - since) * TICK_MILLISECONDS / 1000);
        let enough = (seconds * shared.limits.write_bytes_per_second_min).max(1);
        let has_taken = match (self.acknowledged, bytes) {
            (_, None) => false,
            (Acknowledged::Bytes(before), Some(bytes)) => bytes.saturating_sub(before) >= enough,
            (Acknowledged::NotAsked | Acknowledged::Unknown, Some(_)) => true,
        };
        if has_taken {
            self.unsent_since = Some(shared.now);
        }
        self.acknowledged = bytes.map_or(Acknowledged::Unknown, Acknowledged::Bytes);
        self.set_deadline(shared);
    }

    /// Its deadline had come at `by`.
    pub fn expire<H: Handler>(&mut self, by: Tick, shared: &mut Shared, handler: &mut H) {
        if self.unsent_since.is_some_and(|since| since + shared.ticks.write <= by) {
            shared.refusals.count(Refusal::NotTaken, 1, shared.now);
            self.fail(shared, handler);
            return;
        }
        match &self.phase {
            Phase::Head if !self.has_begun_head() => self.close(Close::AfterSend),
            Phase::Head => {
                let timeout = shared.limits.head_timeout;
                let is_head = head::asks_for_head(self.pending.rest());
                self.refuse(BadRequest::HeadTimeout { timeout }, is_head, shared);
            }
            Phase::Body(held) => {
                let is_head = held.head.method == Method::Head;
                self.refuse(BadRequest::BodyTimeout, is_head, shared);
            }
            Phase::Answering => {
                let deadline = self.incoming.as_ref().and_then(|incoming| incoming.deadline(shared));
                if deadline.is_some_and(|deadline| deadline <= by) {
                    self.fail_body(BadRequest::BodyTimeout, shared, handler);
                }
            }
            Phase::Discarding { .. } => self.close_after_answer(QUIET_LINGER.min(shared.limits.linger_timeout)),
            Phase::Closing => self.cut(),
        }
        self.set_deadline(shared);
    }

    /// Whether a part of a head has come and the rest of it has not. What waits for the peer to read its answers, or for its turn,
    /// may be whole.
    #[must_use]
    pub fn has_partial_head(&self, shared: &Shared) -> bool {
        matches!(self.phase, Phase::Head) && !self.waits_turn && self.has_begun_head() && self.takes_more(shared)
    }

    /// Ends the connection when what is unsent has left; only for one that no handler answers.
    pub fn close_unanswered(&mut self, shared: &Shared) {
        if !self.is_answering() && self.close.is_none() {
            self.close(Close::AfterSend);
            self.set_deadline(shared);
        }
    }

    /// A handler computed for long: what began at `before`, by the clock of then, begins now. So nobody's time is shortened.
    pub fn move_times(&mut self, before: Tick, shared: &Shared) {
        let now = shared.now;
        let held = if let Phase::Body(held) = &mut self.phase { Some(&mut held.incoming) } else { None };
        for incoming in held.into_iter().chain(self.incoming.as_deref_mut()) {
            incoming.move_times(before, now);
        }
        if let Phase::Discarding { until, .. } = &mut self.phase {
            *until += if *until == before + shared.ticks.linger { now - before } else { 0 };
        }
        let sinces = [self.unsent_since.as_mut(), self.head_since.as_mut(), Some(&mut self.idle_since)];
        sinces.into_iter().flatten().filter(|since| **since == before).for_each(|since| *since = now);
        self.set_deadline(shared);
    }

    /// Says when the present state has lasted too long. Called after everything that happens to the connection.
    fn set_deadline(&mut self, shared: &Shared) {
        let (now, ticks) = (shared.now, &shared.ticks);
        let has_unsent = self.unsent() > 0;
        // What the peer sends does not move it, only what it takes.
        self.unsent_since = has_unsent.then(|| self.unsent_since.unwrap_or(now));
        let write = self.unsent_since.map(|since| since + self.write_wait(ticks));
        let phase = match &self.phase {
            // Waits for the peer to read, which is bounded, or for us.
            Phase::Head if self.waits_turn || !self.takes_more(shared) => None,
            Phase::Head if !self.has_begun_head() => {
                let timeout = if self.requests == 0 { ticks.silence } else { ticks.keep_alive };
                (!has_unsent).then_some(self.idle_since + timeout)
            }
            // Absolute from the first byte: a byte a second does not move it.
            Phase::Head => Some(*self.head_since.get_or_insert(now) + ticks.head),
            Phase::Body(held) => held.incoming.deadline(shared),
            Phase::Answering => self.incoming.as_mut().and_then(|incoming| {
                incoming.keep_time(now, &shared.limits);
                incoming.deadline(shared)
            }),
            Phase::Discarding { until, .. } => Some(*until),
            // The platform lingers by itself; this is for one that cannot end.
            Phase::Closing if self.close == Some(Close::Abort) => None,
            Phase::Closing => (!has_unsent).then_some(now + ticks.linger + ticks.write + CLOSE_PATIENCE),
        };
        self.deadline = match (write, phase) {
            (Some(write), Some(phase)) => Some(write.min(phase)),
            (write, phase) => write.or(phase),
        };
    }
}

/// A head, and where it goes.
struct Routed<'a> {
    head: &'a Head,
    head_bytes: &'a [u8],
    path: &'a str,
    matched: Match,
    params: &'a Params,
}

#[inline]
fn route<'a>(
    head: &'a Head,
    head_bytes: &'a [u8],
    path: &'a mut Vec<u8>,
    params: &'a mut Params,
    router: &Router,
) -> Routed<'a> {
    target::percent_decode_path(head.path.of(head_bytes), path);
    let path = std::str::from_utf8(path).expect("percent_decode_path appends UTF-8");
    let matched = router.find(head.method.name(head_bytes), path, params);
    Routed { head, head_bytes, path, matched, params }
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
    /// The handler failed: 500 if nothing was said yet, else the connection is cut.
    Failed,
}

fn text_headers() -> Headers {
    let mut headers = Headers::default();
    let done = headers.push(b"content-type", b"text/plain; charset=utf-8");
    debug_assert!(done.is_ok(), "a constant header is well-formed");
    headers
}

#[cfg(test)]
pub(crate) mod tests;
