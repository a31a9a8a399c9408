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
//! Here is what happens, from a head to the handler and on to the end of its answer. What it happens to is in `state`, where a head
//! leads in `routed`; `parts` and `closing` have the arms of the table that call no handler for a request, `waits` says how long each
//! phase may last. Nothing is sent, and nothing of the worker is known but its `Place`.

mod parts;
mod closing;
mod waits;
mod routed;
mod state;

use turboapi_platform::Close;

use super::body::{Held, Incoming, Rest};
use super::shared::Scratch;
use crate::answer::{Answer, AnswerError, AnswerState, BodyLeft};
use crate::error::{BadRequest, Parsed};
use crate::handler::{BodyUse, Ended, Handler, Outcome, Part};
use crate::http::chunked::ChunkedDecoder;
use crate::http::encode;
use crate::http::framing::Framing;
use crate::http::head::{self, Method, Scan};
use crate::refusals::Refusal;
use crate::request::Request;
use crate::timers::Tick;
use closing::text_headers;
use routed::{Routed, route};
#[cfg(test)]
pub(super) use state::QUIET_LINGER;
pub(super) use state::{Around, Http1, Phase};
use waits::{has_begun_head, takes_more, waits_for_others};

/// So many requests that a peer sent at once (pipelining) are answered one after the other; then other connections come first.
/// Without it 370 of them, a whole receive buffer, went before all other connections.
const REQUESTS_AT_ONCE_MAX: u32 = 32;

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

            (_, Event::Lost) => self.lose(around),
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
            self.break_off(around);
            return;
        }
        around.place.idle_since = around.shared.now;
        match self.incoming {
            None if self.answer.keeps_alive() => self.phase = Phase::Head,
            Some(_) if self.may_discard(around.shared) => self.phase = Phase::discarding(around.shared),
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
        if head.upgrade.is_some() && head.opens_websocket(head_bytes) {
            self.refuse(BadRequest::WebSocket, false, around);
            return bytes.len();
        }
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
        // RFC 9110 §10.1.1: a peer that waits for `100 Continue` gets it; one that has begun to send needs none.
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

    /// As many handlers as there may be are at work: told from here, without one of them.
    fn overloaded<H: Handler>(&mut self, around: &mut Around<'_, H>) {
        let mut answer =
            Answer { out: &mut around.wire.output, state: &mut self.answer, preamble: &around.shared.preamble };
        let done = answer.overloaded();
        debug_assert!(done.is_ok(), "nothing was said before a refusal");
        around.shared.refusals.count(Refusal::Status(503), 1, around.shared.now);
        self.end_answer(around);
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
                self.break_off(around);
                return Ok(());
            }
        };
        if done.is_err() {
            self.break_off(around);
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
}
