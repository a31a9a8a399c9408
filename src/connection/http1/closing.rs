//! How HTTP/1.1 ends: with a refusal, behind an answer, or cut. How the connection's bytes end by that is in `wire`.

use std::time::Duration;

use turboapi_platform::Close;

use super::state::{Around, Http1, Phase, QUIET_LINGER};
use crate::answer::{Answer, AnswerState, Headers};
use crate::connection::place::Place;
use crate::connection::wire::Wire;
use crate::error::BadRequest;
use crate::handler::{Ended, Handler};
use crate::http::head::{self, Method};
use crate::refusals::Refusal;

impl Http1 {
    /// The peer broke HTTP: one answer in its place after earlier ones, then a lingering close.
    pub(super) fn refuse<H: Handler>(&mut self, reason: BadRequest, is_head: bool, around: &mut Around<'_, H>) {
        self.answer = AnswerState::refusal(is_head);
        let mut answer =
            Answer { out: &mut around.wire.output, state: &mut self.answer, preamble: &around.shared.preamble };
        let done = answer.whole(reason.status(), &text_headers(), reason.to_string().as_bytes());
        debug_assert!(done.is_ok(), "a refusal is the first thing said to its request");
        let refusal = match reason {
            BadRequest::WebSocket => Refusal::WebSocket,
            _ => Refusal::Status(reason.status()),
        };
        around.shared.refusals.count(refusal, 1, around.shared.now);
        self.close_after_answer(around.shared.limits.linger_timeout, around);
    }

    /// The same, where what has come of the request is not at hand but kept.
    pub(super) fn refuse_here<H: Handler>(&mut self, reason: BadRequest, around: &mut Around<'_, H>) {
        let is_head = match &self.phase {
            Phase::Body(held) => held.head.method == Method::Head,
            _ => head::asks_for_head(around.wire.pending.rest()),
        };
        self.refuse(reason, is_head, around);
    }

    /// RFC 9112 §9.6: what the peer has sent behind its last request would turn a plain close into a reset.
    pub(super) fn close_after_answer<H: Handler>(&mut self, linger: Duration, around: &mut Around<'_, H>) {
        let how = if around.wire.has_peer_ended() { Close::AfterSend } else { Close::Linger(linger) };
        self.close_around(how, around);
    }

    /// The same, where the peer has sent nothing behind its last request as far as is known.
    pub(super) fn close_quietly<H: Handler>(&mut self, around: &mut Around<'_, H>) {
        self.close_after_answer(around.shared.limits.linger_timeout.min(QUIET_LINGER), around);
    }

    pub(super) fn close_around<H: Handler>(&mut self, how: Close, around: &mut Around<'_, H>) {
        self.close(how, around.place, around.wire);
    }

    /// Ends the connection in this way; nothing of what has come is looked at any more.
    pub(crate) fn close(&mut self, how: Close, place: &mut Place, wire: &mut Wire) {
        self.stop(place);
        wire.close(how);
    }

    /// An answer that was begun will never be whole: tells its handler, and ends the connection behind what there is of it, without
    /// its last chunk or the rest of its length. RFC 9112 §8: by that the peer knows that it is incomplete. A reset would take away
    /// from it what it has been sent and not yet read, so it is kept for a body that only the connection's end would end.
    pub(super) fn break_off<H: Handler>(&mut self, around: &mut Around<'_, H>) {
        self.leave_flight(Ended::Gone, around);
        if self.answer.tells_its_end() {
            self.close_after_answer(around.shared.limits.linger_timeout, around);
        } else {
            self.cut(around);
        }
    }

    /// Ends the connection at once: what the peer has got of an answer must not look whole.
    pub(super) fn cut<H: Handler>(&mut self, around: &mut Around<'_, H>) {
        self.stop(around.place);
        around.wire.cut();
    }

    /// The connection is of no use any more: tells its handler, and ends it at once.
    pub(super) fn lose<H: Handler>(&mut self, around: &mut Around<'_, H>) {
        self.leave_flight(Ended::Gone, around);
        self.cut(around);
    }

    /// The handler has its request no longer.
    pub(super) fn leave_flight<H: Handler>(&mut self, how: Ended, around: &mut Around<'_, H>) {
        if self.is_answering() {
            around.shared.in_flight -= 1;
            around.handler.ended(around.place.request(), how);
        }
    }

    fn stop(&mut self, place: &mut Place) {
        place.waits_share = false;
        self.incoming = None;
        self.phase = Phase::Closing;
    }
}

pub(super) fn text_headers() -> Headers {
    let mut headers = Headers::default();
    let done = headers.push(b"content-type", b"text/plain; charset=utf-8");
    debug_assert!(done.is_ok(), "a constant header is well-formed");
    headers
}
