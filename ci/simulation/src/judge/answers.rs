//! What was sent: each octet of it is an answer to the right request, and says what its handler said.

use turboapi_platform::fakes::simulated::Moment;

use super::facts::{Answered, Facts, SEND_BYTES_MAX};
use crate::bodies;
use crate::handler::Call;
use crate::plan::{Form, Item, Kind, Valid};
use crate::response::{self, Response};
use crate::tally::{Outcome, Tally};

impl Facts<'_> {
    /// Parses all that was sent, and holds each answer against its item. Also returns the requests that got a 100 Continue.
    pub(super) fn check_answers(&self, tally: &mut Tally) -> (Vec<Answered<'_>>, Vec<u32>) {
        let (mut answers, mut continued): (Vec<Answered<'_>>, _) = (Vec::new(), Vec::new());
        let (mut at, mut interims) = (0, 0);
        let mut start = 0;
        while at < self.out.len() {
            assert!(
                answers.last().is_none_or(|last| !last.response.closes),
                "octets after an answer that said close: {:?}",
                String::from_utf8_lossy(&self.out[at..])
            );
            let item = self.own.items.get(answers.len());
            let is_over = !self.was_cut() && self.history.error_at.is_none();
            let is_head = item.is_some_and(Item::is_head);
            let mut parsed = response::parse(&self.out[at..], is_head, is_over);
            // A refusal of half a head cannot know that it was to be HEAD, so it has a body.
            let is_refusal = matches!(&parsed, Ok(Some(one)) if one.closes && at + one.end < self.out.len());
            if is_head && is_refusal && item.is_some_and(|item| self.call(item.token).is_none()) {
                parsed = response::parse(&self.out[at..], false, is_over);
            }
            let parsed = parsed.unwrap_or_else(|reason| panic!("answer {}: {reason}", answers.len()));
            let Some(mut response) = parsed else {
                // Only a connection that was broken off may end within an answer.
                let is_broken = self.was_cut() || self.history.error_at.is_some() || self.has_failed_untold();
                assert!(is_broken || self.was_broken_off(), "answer {} is not whole", answers.len());
                break;
            };
            response.end += at;
            at = response.end;
            if response.status < 200 {
                assert_eq!(response.status, 100);
                let expects = item.filter(|item| item.valid().is_some_and(|valid| valid.expects.is_some()));
                continued.push(expects.unwrap_or_else(|| panic!("100 Continue, and nobody waits for it")).token);
                interims += 1;
                assert!(interims == 1, "100 Continue twice for one request");
                tally.add(Outcome::Continue);
                continue;
            }
            let is_refusal = self.check_answer(item, &response, &answers, interims, tally);
            answers.push(Answered { item, start, end: response.end, response, is_refusal });
            (start, interims) = (at, 0);
        }
        (answers, continued)
    }

    /// Holds one answer against its item; whether it is a refusal.
    fn check_answer(
        &self,
        item: Option<&Item>,
        response: &Response<'_>,
        before: &[Answered<'_>],
        interims: u32,
        tally: &mut Tally,
    ) -> bool {
        let (sent_at, waited) = self.sent_at(response.end);
        let begins_at =
            item.map_or(self.own.items.last().map_or(0, |item| item.end), |item| item.end - item.bytes.len());
        let is_whole = item.is_some_and(|item| item.is_whole(self.delivered(sent_at)));
        let is_in_parts = item.is_some_and(Item::is_in_parts);
        let has_head = item.is_some_and(|item| self.delivered(sent_at) >= item.head_end());
        let token = item.map_or(0, |item| item.token);
        let name = || format!("answer to {token} ({} on the wire, status {})", response.body.len(), response.status);
        let call = item.and_then(|item| self.call(item.token));
        // A handler whose body broke before it began to answer was told so, and its peer gets a refusal.
        let is_given_up = call.is_some_and(|call| call.was_gone && call.began.is_none());
        if let (Some(item), Some(call)) = (item, call.filter(|_| !is_given_up)) {
            let Some(valid) = item.valid() else { panic!("{}: malformed, and the handler was called", name()) };
            assert!(is_whole || is_in_parts && has_head, "{}: before the request was whole", name());
            assert!(call.at <= sent_at, "{}: before the handler was called", name());
            self.check_valid(item, valid, call, response, sent_at);
            count_answer(valid, response, tally);
            if before.len() + 1 < self.own.items.len() && self.own.is_pipelined {
                tally.add(Outcome::Pipelined);
            }
            return false;
        }
        if let Some(call) = call {
            assert!(is_in_parts && call.ended_at.is_some_and(|at| at <= sent_at), "{}: its handler goes on", name());
        }
        assert!(response.token.is_none(), "{}: says the token of a call that was not made", name());
        if response.status == 503 && call.is_none() {
            let bound = self.plan.limits.handlers_in_flight_max;
            assert!(bound <= self.plan.clients.len(), "{}: there is room for {bound} handlers", name());
            let is_request = is_whole || is_in_parts && has_head;
            assert!(is_request && item.is_some_and(|item| item.valid().is_some()), "{}: of no request", name());
            tally.add(Outcome::Overloaded);
            return false;
        }
        assert!(response.closes, "{}: a refusal that does not close", name());
        if !item.is_some_and(Item::is_head) {
            assert!(!response.body.is_empty() && response.body.len() < 200, "{}: a refusal says why", name());
        }
        if let Some(Item { kind: Kind::Broken(status), .. }) = item
            && response.status == *status
        {
            tally.add(Outcome::Broken);
            return true;
        }
        if let Some((item, breaks)) = item.and_then(|item| Some((item, item.valid()?.body.breaks?)))
            && response.status == breaks.status
            && self.delivered(sent_at) > item.start() + breaks.at
        {
            tally.add(if call.is_some() { Outcome::BodyBroken } else { Outcome::Broken });
            return true;
        }
        let has_begun = self.delivered(sent_at) > begins_at;
        match response.status {
            // When is checked below.
            408 => {
                assert!(has_begun, "{}: and nothing of it came", name());
                if let Some((item, valid)) = item.and_then(|item| Some((item, item.valid()?))) {
                    // One that waits for the go-ahead for ever must have been given it; unless the refusal is older than the
                    // end of the head, and waited for a send.
                    let waits = !waited && valid.expects == Some(None) && self.delivered(sent_at) == item.head_end();
                    assert!(!waits || interims == 1, "{}: it waited for 100 Continue", name());
                }
            }
            400 => {
                assert!(!is_whole, "{}: a whole request was refused", name());
                assert!(has_begun && self.history.eof_at.is_some_and(|at| at <= sent_at), "{}: and no end", name());
                tally.add(if call.is_some() { Outcome::BodyCut } else { Outcome::CutShort });
            }
            _ => panic!("{}: refused without a reason", name()),
        }
        true
    }

    fn check_valid(&self, item: &Item, valid: &Valid, call: &Call, response: &Response<'_>, sent_at: Moment) {
        let (conduct, token) = (valid.conduct, item.token);
        let is_error = matches!(conduct.form, Form::Nothing);
        let name = format!("answer to {token} ({:?})", conduct.form);
        if is_error {
            assert_eq!((response.status, response.token), (500, None), "{name}");
        } else {
            let fails = matches!(conduct.form, Form::WrongLength | Form::FailsWithin);
            let status = if fails { 200 } else { conduct.status };
            assert_eq!(response.status, status, "{name}");
            assert_eq!(response.token, valid.says_headers().then_some(token), "{name}: another request's token");
            // The head is all that HEAD gets, so it looks whole also where its handler fails after it.
            assert!(conduct.form != Form::Never && (!fails || valid.method == "HEAD"), "{name}: there is none");
            if valid.is_bodiless() {
                assert!(response.body.is_empty(), "{name}: a body");
            } else {
                let body = bodies::octets_of(token, conduct.bytes);
                assert!(
                    response.body == body,
                    "{name}: {} bytes of body, not the {} handed over",
                    response.body.len(),
                    body.len()
                );
            }
            let is_chunked = matches!(conduct.form, Form::Parts { has_length: false, .. }) && !valid.is_old;
            assert!(valid.is_bodiless() || response.is_chunked == is_chunked, "{name}: framing");
        }
        let ends = if is_error { !valid.keeps_alive } else { valid.ends_connection() };
        let may_end = self.drains_by(sent_at) || self.history.eof_at.is_some_and(|at| at <= sent_at);
        // RFC 9112 §9.3: what is left of the request would be in the way of the next.
        let (body_ends, body_may_end) = self.body_ends_connection(item, valid, call);
        let (ends, may_end) = (ends || body_ends, may_end || body_may_end);
        assert!(response.closes == ends || may_end && !ends, "{name}: says close {}, not {ends}", response.closes);
        assert_eq!(response.says_keep_alive, valid.is_old && !response.closes, "{name}: says keep-alive");
    }
}

fn count_answer(valid: &Valid, response: &Response<'_>, tally: &mut Tally) {
    tally.add(Outcome::Answered);
    let conduct = valid.conduct;
    let counted = [
        (valid.body.is_chunked, Outcome::Chunked),
        (!valid.body.is_chunked && !valid.body.content.is_empty(), Outcome::Body),
        (valid.method == "HEAD", Outcome::HeadMethod),
        (matches!(response.status, 204 | 304), Outcome::NoContent),
        (valid.is_old, Outcome::OldVersion),
        (matches!(conduct.form, Form::Parts { .. }), Outcome::Streamed),
        (response.body.len() > SEND_BYTES_MAX, Outcome::Large),
        (conduct.form == Form::Nothing, Outcome::InternalError),
    ];
    for (_, outcome) in counted.into_iter().filter(|(is_so, _)| *is_so) {
        tally.add(outcome);
    }
}
