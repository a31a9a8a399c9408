//! HOT PATH: HTTP/1.1 over a connection's bytes. `step` and `end_answer` are the hot path, and the table of all that can happen:
//!
//! | phase | bytes | answered | the peer ends | time is over |
//! |---|---|---|---|---|
//! | head | *whole*: call → answering, or as answered; *its body is not here*: → body, or call. *Bad*: refuse → closing | keeps alive → head; its body is still coming → discarding; else → closing | nothing begun → closing; may be whole: stays; else refuse → closing | nothing begun → closing; else refuse → closing |
//! | body | *whole*: as a whole head. *Bad*: refuse → closing | | refuse → closing | refuse → closing |
//! | answering | of its body: to the handler. *Bad*: tell the handler, refuse → closing | as for a head | its body is cut short: as for bad bytes; else stays | as for bad bytes, if its body came too slowly |
//! | discarding | dropped; *the last* → head; *too many* → closing | | → closing | → closing |
//! | closing | dropped | | lingers no longer | cut |
//!
//! Whatever the phase, a connection that is lost tells its handler, and is cut → closing.
//!
//! Requests are answered one at a time and in order. While an answer is awaited, what the peer sends further (pipelining) is
//! kept, up to a bound, and then not read. A body that is not here with its head either waits to be whole (`Phase::Body`), or goes
//! to a handler that has been called already, in parts (`incoming`). What no handler takes of one is dropped behind the answer, up to
//! a bound (`Phase::Discarding`). No request is looked at before the body of the one before it has come to its end.
//!
//! No deadline is kept here but what it is of each phase, nothing is sent, and nothing of the worker is known but its `Place`.

use std::time::Duration;

use turboapi_platform::Close;

use super::body::{Held, Incoming, Rest};
use super::place::Place;
use super::shared::{Scratch, Shared};
use super::wire::Wire;
use crate::answer::{Answer, AnswerError, AnswerState, BodyLeft, Headers};
use crate::error::{BadRequest, Parsed};
use crate::handler::{BodyUse, Ended, Handler, Outcome, Part};
use crate::http::chunked::ChunkedDecoder;
use crate::http::encode;
use crate::http::framing::Framing;
use crate::http::head::{self, Head, Method, Scan};
use crate::http::target;
use crate::refusals::Refusal;
use crate::request::Request;
use crate::router::{Match, Params, Router};
use crate::timers::{TICK_MILLISECONDS, Tick};

/// Linger of a connection whose peer has sent nothing behind its last request: only what is on its way just now could turn
/// the close into a reset. A drain waits for this.
pub(super) const QUIET_LINGER: Duration = Duration::from_millis(500);

/// What a platform may take to end a connection whose time is over, besides that time: with time-outs of a tenth of a second it may
/// be about to.
const CLOSE_PATIENCE: Tick = 1000 / TICK_MILLISECONDS;

/// So many requests that a peer sent at once (pipelining) are answered one after the other; then other connections come first.
/// Without it 370 of them, a whole receive buffer, went before everybody else.
const REQUESTS_AT_ONCE_MAX: u32 = 32;

/// What a connection is doing.
#[derive(Debug)]
pub(super) enum Phase {
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

/// What can happen.
enum Event<'a> {
    /// Further bytes have come, at least one.
    Bytes(&'a [u8], &'a mut Scratch),
    /// The peer will send nothing more.
    PeerEnded,
    /// The deadline had come at this time.
    Expired(Tick),
    /// The connection is gone.
    Lost,
}

/// What is lent for the length of an event.
pub(super) struct Around<'a, H> {
    pub(super) place: &'a mut Place,
    pub(super) wire: &'a mut Wire,
    pub(super) shared: &'a mut Shared,
    pub(super) handler: &'a mut H,
}

/// A connection that speaks HTTP/1.1.
#[derive(Debug)]
pub(super) struct Http1 {
    pub(super) phase: Phase,
    /// The rest of the body of a request that was handed over or answered before its end. INVARIANT: while there is one,
    /// nothing is pending, as all that comes is of it.
    pub(super) incoming: Option<Box<Incoming>>,
    scan: Scan,
    head_since: Option<Tick>,
    answer: AnswerState,
    awaits_writable: bool,
}

impl Default for Http1 {
    fn default() -> Self {
        Self {
            phase: Phase::Head,
            incoming: None,
            scan: Scan::default(),
            head_since: None,
            answer: AnswerState::refusal(false),
            awaits_writable: false,
        }
    }
}

impl Http1 {
    /// Parses and answers as much of `bytes` as can be now; returns how much was consumed.
    fn work_off<H: Handler>(&mut self, bytes: &[u8], scratch: &mut Scratch, around: &mut Around<'_, H>) -> usize {
        let (mut at, before) = (0, around.place.requests);
        while at < bytes.len() {
            if matches!(self.phase, Phase::Head) {
                if !takes_more(around.wire, around.shared) {
                    break;
                }
                let called = around.place.requests.wrapping_sub(before);
                if called > 0 && (called >= REQUESTS_AT_ONCE_MAX || around.handler.took_long()) {
                    around.place.waits_share = true;
                    break;
                }
            }
            match self.step(Event::Bytes(&bytes[at..], scratch), around) {
                0 => break,
                consumed => at += consumed,
            }
        }
        at
    }

    /// The table, but for its column of answers, which is `end_answer`. Of bytes it returns how many were consumed; none: they wait for
    /// more, or for the handler.
    #[inline]
    fn step<H: Handler>(&mut self, event: Event<'_>, around: &mut Around<'_, H>) -> usize {
        match (&self.phase, event) {
            (Phase::Head, Event::Bytes(bytes, scratch)) => return self.take_head(bytes, scratch, around),
            (Phase::Body(_), Event::Bytes(bytes, scratch)) => return self.take_body(bytes, scratch, around),
            (Phase::Answering | Phase::Discarding { .. }, Event::Bytes(..)) if self.incoming.is_none() => {}
            (Phase::Answering, Event::Bytes(bytes, scratch)) => return self.hand_part(bytes, scratch, around),
            (Phase::Discarding { .. }, Event::Bytes(bytes, scratch)) => return self.drop_part(bytes, scratch, around),
            (Phase::Closing, Event::Bytes(bytes, _)) => return bytes.len(),

            // Requests that wait for the peer to read, or for other connections, may be whole.
            (Phase::Head, Event::PeerEnded) if waits_for_others(around) => {}
            (Phase::Head, Event::PeerEnded) if has_begun_head(around.wire) => {
                self.refuse_here(BadRequest::CutShort, around);
            }
            (Phase::Body(_), Event::PeerEnded) => self.refuse_here(BadRequest::CutShort, around),
            (Phase::Answering, Event::PeerEnded) if self.incoming.is_some() => {
                self.fail_body(BadRequest::CutShort, around);
            }
            (Phase::Answering, Event::PeerEnded) if around.wire.pending.is_empty() => self.answer.close(),
            (Phase::Answering, Event::PeerEnded) => {}
            (Phase::Head | Phase::Discarding { .. }, Event::PeerEnded) => self.close_around(Close::AfterSend, around),
            (Phase::Closing, Event::PeerEnded) => around.wire.stop_lingering(),

            (Phase::Head, Event::Expired(_)) if has_begun_head(around.wire) => {
                self.refuse_here(BadRequest::HeadTimeout { timeout: around.shared.limits.head_timeout }, around);
            }
            (Phase::Head, Event::Expired(_)) => self.close_around(Close::AfterSend, around),
            (Phase::Body(_), Event::Expired(_)) => self.refuse_here(BadRequest::BodyTimeout, around),
            (Phase::Answering, Event::Expired(by)) if self.is_body_late(by, around.shared) => {
                self.fail_body(BadRequest::BodyTimeout, around);
            }
            (Phase::Answering, Event::Expired(_)) => {}
            (Phase::Discarding { .. }, Event::Expired(_)) => self.close_quietly(around),
            (Phase::Closing, Event::Expired(_)) => self.cut(around),

            (_, Event::Lost) => {
                self.leave_flight(Ended::Gone, around);
                self.cut(around);
            }
        }
        0
    }

    /// What comes seldom, so that `work_off` has a `step` of its own for bytes.
    #[cold]
    fn step_aside<H: Handler>(&mut self, event: Event<'_>, around: &mut Around<'_, H>) {
        self.step(event, around);
    }

    /// The column of answers: it is complete, or should be; the next request may follow, or the end.
    #[inline]
    fn end_answer<H: Handler>(&mut self, around: &mut Around<'_, H>) {
        if !self.answer.is_complete() && !self.complete(around) {
            self.cut(around);
            return;
        }
        around.place.idle_since = around.shared.now;
        match self.incoming {
            None if self.answer.keeps_alive() => self.phase = Phase::Head,
            Some(_) if self.may_discard(around.shared) => self.phase = discarding(around.shared),
            None if around.wire.pending.is_empty() => self.close_quietly(around),
            _ => self.close_after_answer(around.shared.limits.linger_timeout, around),
        }
    }

    /// Answers for a handler that has said nothing; false if it has left its answer undone.
    #[cold]
    fn complete<H: Handler>(&mut self, around: &mut Around<'_, H>) -> bool {
        let preamble = &around.shared.preamble;
        let mut answer = Answer { out: &mut around.wire.output, state: &mut self.answer, preamble };
        if !answer.is_untouched() {
            return false;
        }
        let done = answer.whole(500, &text_headers(), b"Internal Server Error");
        debug_assert!(done.is_ok(), "an untouched answer takes a text");
        true
    }

    /// Takes received bytes, and calls the handler for each request that they complete.
    pub(super) fn receive<H: Handler>(&mut self, data: &[u8], around: &mut Around<'_, H>) {
        if around.wire.pending.is_empty() {
            let consumed = self.consume(data, around);
            around.wire.pending.extend(&data[consumed..]);
        } else {
            around.wire.pending.extend(data);
            self.consume_pending(around);
        }
    }

    fn consume<H: Handler>(&mut self, bytes: &[u8], around: &mut Around<'_, H>) -> usize {
        let mut scratch = around.shared.scratch.take().unwrap_or_default();
        let consumed = self.work_off(bytes, &mut scratch, around);
        around.shared.scratch = Some(scratch);
        consumed
    }

    /// Goes on with what waits, if it may now.
    fn consume_pending<H: Handler>(&mut self, around: &mut Around<'_, H>) {
        if around.wire.pending.is_empty() || around.place.waits_share || !matches!(self.phase, Phase::Head) {
            return;
        }
        let mut pending = std::mem::take(&mut around.wire.pending);
        let consumed = self.consume(pending.rest(), around);
        pending.consume(consumed);
        around.wire.pending = pending;
    }

    /// Goes on with the requests that wait, and minds that the peer may have ended behind them.
    pub(super) fn go_on<H: Handler>(&mut self, around: &mut Around<'_, H>) {
        self.consume_pending(around);
        self.heed_end(around);
    }

    /// The platform has sent what it was given: more is welcome, and requests that waited for the peer to read its answers go on.
    pub(super) fn sent<H: Handler>(&mut self, around: &mut Around<'_, H>) {
        if around.wire.output.is_empty() && self.awaits_writable && self.is_answering() {
            self.awaits_writable = false;
            around.handler.writable(around.place.request());
        }
        self.go_on(around);
    }

    /// The peer will send nothing more.
    pub(super) fn end<H: Handler>(&mut self, around: &mut Around<'_, H>) {
        if self.is_answering() && self.incoming.is_none() {
            around.handler.ended(around.place.request(), Ended::HalfClosed);
        }
        self.heed_end(around);
    }

    /// Where the peer has ended its side: requests that are whole are answered, one that was cut short is not.
    fn heed_end<H: Handler>(&mut self, around: &mut Around<'_, H>) {
        if around.wire.has_peer_ended() {
            self.step_aside(Event::PeerEnded, around);
        }
    }

    /// The connection is lost.
    pub(super) fn fail<H: Handler>(&mut self, around: &mut Around<'_, H>) {
        self.step_aside(Event::Lost, around);
    }

    /// Its deadline had come at `by`.
    pub(super) fn expire<H: Handler>(&mut self, by: Tick, around: &mut Around<'_, H>) {
        self.step_aside(Event::Expired(by), around);
    }

    /// A head, or a part of one. Returns what was consumed.
    #[inline]
    fn take_head<H: Handler>(&mut self, bytes: &[u8], scratch: &mut Scratch, around: &mut Around<'_, H>) -> usize {
        match head::parse(bytes, &mut self.scan, &around.shared.limits, &mut scratch.head) {
            Ok(Parsed::Complete(())) => {
                self.scan = Scan::default();
                self.head_since = None;
                self.begin(bytes, scratch, around)
            }
            Ok(Parsed::NeedMore) => 0,
            Err(reason) => {
                self.refuse(reason, head::asks_for_head(bytes), around);
                bytes.len()
            }
        }
    }

    /// Bytes of a body that waits to be whole. Returns what was consumed.
    fn take_body<H: Handler>(&mut self, bytes: &[u8], scratch: &mut Scratch, around: &mut Around<'_, H>) -> usize {
        let Phase::Body(held) = &mut self.phase else { return 0 };
        let Held { body, incoming, .. } = &mut **held;
        match incoming.receive(bytes, body, around.shared.now, &around.shared.limits) {
            Ok((consumed, is_complete)) => {
                if is_complete && let Phase::Body(held) = std::mem::replace(&mut self.phase, Phase::Head) {
                    let Held { head, head_bytes, body, .. } = &*held;
                    let Scratch { path, params, .. } = scratch;
                    let routed = route(head, head_bytes, path, params, &around.shared.router);
                    self.call(&routed, body, around);
                }
                consumed
            }
            Err(reason) => {
                self.refuse_here(reason, around);
                bytes.len()
            }
        }
    }

    /// A head is complete: calls the handler, or keeps it until its body is here too. Returns what was consumed.
    fn begin<H: Handler>(&mut self, bytes: &[u8], scratch: &mut Scratch, around: &mut Around<'_, H>) -> usize {
        let Scratch { head, path, params, part } = scratch;
        let (head_bytes, after) = bytes.split_at(head.length as usize);
        let routed = route(head, head_bytes, path, params, &around.shared.router);
        let consumed = match head.framing {
            Framing::None => {
                self.call(&routed, &[], around);
                0
            }
            Framing::Length(_) | Framing::Chunked => self.begin_body(&routed, after, part, around),
        };
        head_bytes.len() + consumed
    }

    /// A body follows: calls the handler with what is here of it, or with nothing before it is whole. Returns what was consumed.
    fn begin_body<H: Handler>(
        &mut self,
        routed: &Routed<'_>,
        after: &[u8],
        part: &mut Vec<u8>,
        around: &mut Around<'_, H>,
    ) -> usize {
        let head = routed.head;
        let BodyUse { is_wanted_whole, bytes_max } = around.handler.body_use(routed.matched);
        let limit = bytes_max.unwrap_or(around.shared.limits.body_bytes_max);
        let rest = match head.framing {
            Framing::None => Rest::Length(0),
            Framing::Length(bytes) if bytes > limit => {
                self.refuse(BadRequest::BodyTooLarge { bytes, limit }, head.method == Method::Head, around);
                return after.len();
            }
            Framing::Length(length) => {
                if let Some(body) = usize::try_from(length).ok().and_then(|length| after.get(..length)) {
                    self.call(routed, body, around);
                    return body.len();
                }
                Rest::Length(length)
            }
            Framing::Chunked => Rest::Chunked(ChunkedDecoder::new(limit)),
        };
        // RFC 9110 §10.1.1: a client that waits for it gets its go-ahead; one that has begun to send needs none.
        let mut incoming = Incoming::new(rest, head.expects_continue, around.shared.now);
        if is_wanted_whole {
            if incoming.owes_continue && after.is_empty() {
                around.wire.output.push_bytes(encode::CONTINUE);
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
        match incoming.receive(after, part, around.shared.now, &around.shared.limits) {
            Ok((consumed, is_complete)) => {
                if !is_complete {
                    incoming.untaken = part.len();
                    self.incoming = Some(Box::new(incoming));
                }
                self.call(routed, part, around);
                consumed
            }
            Err(reason) => {
                self.refuse(reason, head.method == Method::Head, around);
                after.len()
            }
        }
    }

    /// A request: calls the handler, with all of its body or with what is here of it.
    #[inline]
    fn call<H: Handler>(&mut self, routed: &Routed<'_>, body: &[u8], around: &mut Around<'_, H>) {
        let &Routed { head, head_bytes, path, matched, params } = routed;
        around.place.requests = around.place.requests.wrapping_add(1);
        self.answer = AnswerState::new(head, around.shared.is_draining);
        let is_body_complete = match &self.incoming {
            Some(incoming) => {
                self.answer.set_body_left(incoming.left(&around.shared.limits));
                false
            }
            None => true,
        };
        let id = around.place.request();
        if around.shared.in_flight >= around.shared.limits.handlers_in_flight_max {
            self.overloaded(around);
            return;
        }
        let request = Request {
            id,
            head,
            head_bytes,
            path,
            matched,
            params,
            body,
            is_body_complete,
            origin: &around.place.origin,
        };
        let mut answer =
            Answer { out: &mut around.wire.output, state: &mut self.answer, preamble: &around.shared.preamble };
        match around.handler.call(&request, &mut answer) {
            Outcome::Answered => self.end_answer(around),
            Outcome::Later => {
                around.shared.in_flight += 1;
                self.awaits_writable = false;
                self.phase = Phase::Answering;
                // One whose body was cut short is told so in `heed_end`.
                if around.wire.has_peer_ended() && is_body_complete {
                    around.handler.ended(id, Ended::HalfClosed);
                }
            }
        }
    }

    /// What has come of the body that a handler takes in parts. Returns how much of `bytes` it was.
    fn hand_part<H: Handler>(&mut self, bytes: &[u8], scratch: &mut Scratch, around: &mut Around<'_, H>) -> usize {
        match self.receive_part(bytes, &mut scratch.part, around.shared) {
            Ok((consumed, is_complete)) => {
                if is_complete || !scratch.part.is_empty() {
                    around.handler.body(around.place.request(), &scratch.part, is_complete);
                }
                consumed
            }
            Err(reason) => {
                self.fail_body(reason, around);
                bytes.len()
            }
        }
    }

    /// What has come of a body that nobody takes any more. Returns how much of `bytes` it was.
    fn drop_part<H: Handler>(&mut self, bytes: &[u8], scratch: &mut Scratch, around: &mut Around<'_, H>) -> usize {
        let received = self.receive_part(bytes, &mut scratch.part, around.shared);
        let Phase::Discarding { bytes_left, .. } = &mut self.phase else { return 0 };
        match received {
            Ok((consumed, is_complete)) => {
                *bytes_left = bytes_left.saturating_sub(consumed);
                if is_complete {
                    around.place.idle_since = around.shared.now;
                    self.phase = Phase::Head;
                } else if *bytes_left == 0 {
                    self.close_after_answer(around.shared.limits.linger_timeout, around);
                }
                consumed
            }
            Err(reason) => {
                self.fail_body(reason, around);
                bytes.len()
            }
        }
    }

    /// Adds what has come of `incoming` to `part`, which is emptied before. Returns how much that was, and whether it is complete.
    fn receive_part(&mut self, bytes: &[u8], part: &mut Vec<u8>, shared: &Shared) -> Result<(usize, bool), BadRequest> {
        part.clear();
        let Some(incoming) = &mut self.incoming else { return Ok((0, false)) };
        let (consumed, is_complete) = incoming.receive(bytes, part, shared.now, &shared.limits)?;
        incoming.untaken += part.len();
        if is_complete {
            self.incoming = None;
        }
        Ok((consumed, is_complete))
    }

    /// A body will never be whole: its handler is told that the peer is gone, and the peer what was wrong, if it still can be.
    fn fail_body<H: Handler>(&mut self, reason: BadRequest, around: &mut Around<'_, H>) {
        self.incoming = None;
        if !self.is_answering() {
            // The answer was complete before.
            self.close_after_answer(around.shared.limits.linger_timeout, around);
        } else if self.answer.is_started() {
            self.fail(around);
        } else {
            self.leave_flight(Ended::Gone, around);
            let is_head = self.answer.is_head();
            self.refuse(reason, is_head, around);
        }
    }

    /// The handler has taken so many bytes of the body of its request, and waits for more. False: the body is complete.
    pub(super) fn read_body(&mut self, taken: usize, wire: &mut Wire) -> bool {
        let Some(incoming) = &mut self.incoming else { return false };
        incoming.untaken = incoming.untaken.saturating_sub(taken);
        if std::mem::take(&mut incoming.owes_continue) && !self.answer.is_started() {
            wire.output.push_bytes(encode::CONTINUE);
        }
        true
    }

    /// As many handlers as there may be are at work: told from here, without one of them.
    fn overloaded<H: Handler>(&mut self, around: &mut Around<'_, H>) {
        let mut answer =
            Answer { out: &mut around.wire.output, state: &mut self.answer, preamble: &around.shared.preamble };
        let done = answer.overloaded();
        debug_assert!(done.is_ok(), "nothing was said before a refusal");
        around.shared.refusals.count(Refusal::Status(503), 1, around.shared.now);
        self.end_answer(around);
    }

    /// Whether a little of a body is dropped for the sake of the connection.
    #[cold]
    fn may_discard(&self, shared: &Shared) -> bool {
        let left = self.incoming.as_ref().map(|incoming| incoming.left(&shared.limits));
        left == Some(BodyLeft::Little) && self.answer.keeps_alive()
    }

    /// The peer broke HTTP: one answer in its place after earlier ones, then a lingering close.
    fn refuse<H: Handler>(&mut self, reason: BadRequest, is_head: bool, around: &mut Around<'_, H>) {
        self.answer = AnswerState::refusal(is_head);
        let mut answer =
            Answer { out: &mut around.wire.output, state: &mut self.answer, preamble: &around.shared.preamble };
        let done = answer.whole(reason.status(), &text_headers(), reason.to_string().as_bytes());
        debug_assert!(done.is_ok(), "a refusal is the first thing said to its request");
        around.shared.refusals.count(Refusal::Status(reason.status()), 1, around.shared.now);
        self.close_after_answer(around.shared.limits.linger_timeout, around);
    }

    /// The same, where what has come of the request is not at hand but kept.
    fn refuse_here<H: Handler>(&mut self, reason: BadRequest, around: &mut Around<'_, H>) {
        let is_head = match &self.phase {
            Phase::Body(held) => held.head.method == Method::Head,
            _ => head::asks_for_head(around.wire.pending.rest()),
        };
        self.refuse(reason, is_head, around);
    }

    /// RFC 9112 §9.6: what the peer has sent behind its last request would turn a plain close into a reset.
    fn close_after_answer<H: Handler>(&mut self, linger: Duration, around: &mut Around<'_, H>) {
        let how = if around.wire.has_peer_ended() { Close::AfterSend } else { Close::Linger(linger) };
        self.close_around(how, around);
    }

    /// The same, where the peer has sent nothing behind its last request as far as is known.
    fn close_quietly<H: Handler>(&mut self, around: &mut Around<'_, H>) {
        self.close_after_answer(around.shared.limits.linger_timeout.min(QUIET_LINGER), around);
    }

    fn close_around<H: Handler>(&mut self, how: Close, around: &mut Around<'_, H>) {
        self.close(how, around.place, around.wire);
    }

    /// Ends the connection in this way; nothing of what has come is looked at any more.
    pub(super) fn close(&mut self, how: Close, place: &mut Place, wire: &mut Wire) {
        self.stop(place);
        wire.close(how);
    }

    /// Ends the connection at once: what the peer has got of an answer must not look whole.
    fn cut<H: Handler>(&mut self, around: &mut Around<'_, H>) {
        self.stop(around.place);
        around.wire.cut();
    }

    fn stop(&mut self, place: &mut Place) {
        place.waits_share = false;
        self.incoming = None;
        self.phase = Phase::Closing;
    }

    /// A later answer, or a part of one, to the request that a handler has.
    pub(super) fn answer<H: Handler>(&mut self, part: Part, around: &mut Around<'_, H>) -> Result<(), AnswerError> {
        if around.shared.is_draining && !self.answer.is_started() {
            self.answer.close();
        }
        let left = self.incoming.as_ref().map_or(BodyLeft::Little, |incoming| incoming.left(&around.shared.limits));
        self.answer.set_body_left(left);
        let mut answer =
            Answer { out: &mut around.wire.output, state: &mut self.answer, preamble: &around.shared.preamble };
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
                self.fail(around);
                return Ok(());
            }
        };
        if done.is_err() {
            self.fail(around);
            return done;
        }
        if self.answer.is_complete() {
            self.leave_flight(Ended::Complete, around);
            self.end_answer(around);
            self.consume_pending(around);
        } else if asks_for_more {
            // Nothing leaves of a part that is empty, or of a body that HEAD does not get: there will be no `sent` for it.
            self.awaits_writable = around.wire.unsent() > 0;
            if !self.awaits_writable {
                around.handler.writable(around.place.request());
            }
        }
        self.heed_end(around);
        Ok(())
    }

    fn leave_flight<H: Handler>(&mut self, how: Ended, around: &mut Around<'_, H>) {
        if self.is_answering() {
            around.shared.in_flight -= 1;
            around.handler.ended(around.place.request(), how);
        }
    }

    /// Whether a handler has one of its requests.
    pub(super) const fn is_answering(&self) -> bool {
        matches!(self.phase, Phase::Answering)
    }

    /// Whether all that comes is dropped.
    pub(super) const fn is_closing(&self) -> bool {
        matches!(self.phase, Phase::Closing)
    }

    /// Whether no request has begun behind the last answer.
    pub(super) fn is_between_requests(&self, wire: &Wire) -> bool {
        matches!(self.phase, Phase::Head) && !has_begun_head(wire)
    }

    /// Whether a part of a head has come and the rest of it has not.
    pub(super) fn has_partial_head(&self, place: &Place, wire: &Wire, shared: &Shared) -> bool {
        matches!(self.phase, Phase::Head) && !place.waits_share && has_begun_head(wire) && takes_more(wire, shared)
    }

    /// Whether reading should go on; none where that is for the platform to say.
    pub(super) fn wants_read(&self, place: &Place, wire: &Wire, shared: &Shared) -> Option<bool> {
        let holds_enough = match self.phase {
            // What comes is dropped; how much of it is read is now for the platform to say.
            Phase::Closing => return None,
            Phase::Head if place.waits_share => wire.pending.len() >= shared.limits.head_bytes_max,
            Phase::Head => !takes_more(wire, shared),
            Phase::Body(_) | Phase::Discarding { .. } => false,
            Phase::Answering => match &self.incoming {
                Some(incoming) => incoming.holds_enough(&shared.limits),
                // A request that waits behind another one need not be read further than its own head.
                None => wire.pending.len() >= shared.limits.head_bytes_max,
            },
        };
        Some(!holds_enough)
    }

    fn is_body_late(&self, by: Tick, shared: &Shared) -> bool {
        let deadline = self.incoming.as_ref().and_then(|incoming| incoming.deadline(shared));
        deadline.is_some_and(|deadline| deadline <= by)
    }

    /// What began at `before` begins now.
    pub(super) fn move_times(&mut self, before: Tick, shared: &Shared) {
        let now = shared.now;
        let held = if let Phase::Body(held) = &mut self.phase { Some(&mut held.incoming) } else { None };
        for incoming in held.into_iter().chain(self.incoming.as_deref_mut()) {
            incoming.move_times(before, now);
        }
        if let Phase::Discarding { until, .. } = &mut self.phase {
            *until += if *until == before + shared.ticks.linger { now - before } else { 0 };
        }
        self.head_since.iter_mut().filter(|since| **since == before).for_each(|since| *since = now);
    }

    /// When the phase has lasted too long, besides what the peer takes of its answers.
    #[inline]
    pub(super) fn deadline(&mut self, place: &Place, wire: &Wire, shared: &Shared) -> Option<Tick> {
        let (now, ticks) = (shared.now, &shared.ticks);
        let has_unsent = wire.unsent() > 0;
        match &self.phase {
            // Waits for the peer to read, which is bounded, or for us.
            Phase::Head if place.waits_share || !takes_more(wire, shared) => None,
            Phase::Head if !has_begun_head(wire) => {
                let timeout = if place.requests == 0 { ticks.silence } else { ticks.keep_alive };
                (!has_unsent).then_some(place.idle_since + timeout)
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
            Phase::Closing if wire.closes() == Some(Close::Abort) => None,
            Phase::Closing => (!has_unsent).then_some(now + ticks.linger + ticks.write + CLOSE_PATIENCE),
        }
    }
}

/// A peer that does not read its answers gets no further ones.
#[inline]
fn takes_more(wire: &Wire, shared: &Shared) -> bool {
    wire.unsent() <= shared.limits.unsent_bytes_max
}

/// RFC 9112 §2.2: an empty line behind a request is of no request. A client that sends one has not begun another.
fn has_begun_head(wire: &Wire) -> bool {
    !matches!(wire.pending.rest(), [] | [b'\r'] | [b'\r', b'\n'])
}

/// Whether what is pending waits for the peer to read, or for other connections.
fn waits_for_others<H>(around: &Around<'_, H>) -> bool {
    around.place.waits_share || (!takes_more(around.wire, around.shared) && !around.wire.pending.is_empty())
}

fn discarding(shared: &Shared) -> Phase {
    Phase::Discarding { bytes_left: shared.limits.linger_bytes_max, until: shared.now + shared.ticks.linger }
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

fn text_headers() -> Headers {
    let mut headers = Headers::default();
    let done = headers.push(b"content-type", b"text/plain; charset=utf-8");
    debug_assert!(done.is_ok(), "a constant header is well-formed");
    headers
}
