//! Decides, after a run, whether one connection went as it had to: every octet that was sent, why it ended, and when.
//!
//! Knows the plan and the connection's history, and nothing of the core. Where two things may happen at once and either is
//! right, either is accepted; everything else panics.

use std::time::Duration;

use turboapi_platform::Close;
use turboapi_platform::simulated::{History, Moment};

use crate::handler::Call;
use crate::plan::{self, ClientPlan, Ending, Form, Item, Kind, Plan, Valid};
use crate::response::{self, Response};
use crate::tally::{Outcome, Tally};

/// A time-out comes up to a tick after its time, and the tick in which it begins counts for nothing; the kernel and a handler
/// that computes add some milliseconds.
const TICK: Moment = 100_000;
const LATE_MAX: Moment = 2 * TICK + 30_000;
/// As the worker's: no send is longer.
const SEND_BYTES_MAX: usize = 256 * 1024;
/// `Data` that may follow when reading was paused, and one turn's before that.
const BUFFERS_AFTER_PAUSE: usize = 8;

/// All that is known of one connection.
#[derive(Debug)]
pub struct Facts<'a> {
    /// The whole run's plan.
    pub plan: &'a Plan,
    /// This client's.
    pub own: &'a ClientPlan,
    /// All that the worker sent.
    pub out: &'a [u8],
    /// How much of it the peer has read.
    pub read: usize,
    /// What the connection was told and asked.
    pub history: &'a History,
    /// The handler's calls for this connection.
    pub calls: &'a [Call],
    /// When the drain began, if one did.
    pub drain_began_at: Option<Moment>,
    /// Whether descriptors ran short in this run.
    pub stalls: bool,
}

/// One answer, and which item it is for.
struct Answered<'a> {
    item: Option<&'a Item>,
    response: Response<'a>,
    /// Its first octet, interim answers before it included.
    start: usize,
    end: usize,
    is_refusal: bool,
}

/// Checks one connection.
///
/// # Panics
/// At the first thing that must not have happened.
pub fn judge(facts: &Facts<'_>, tally: &mut Tally) {
    tally.add(Outcome::Connection);
    let answers = facts.check_answers(tally);
    facts.check_calls(&answers);
    facts.check_bounds(&answers);
    facts.check_refusal_times(&answers, tally);
    facts.check_end(&answers, tally);
}

const fn micros(duration: Duration) -> Moment {
    duration.as_micros() as Moment
}

/// A worker does not look at the clock for each event. A handler may compute for so long before it looks again.
const COMPUTED_MAX: Moment = 1_000;

/// The latest time that a time-out which begins at `since` may fire.
fn latest(since: Moment, timeout: Duration) -> Moment {
    since + micros(timeout).div_ceil(TICK) * TICK + LATE_MAX
}

impl Facts<'_> {
    fn drains_by(&self, at: Moment) -> bool {
        self.drain_began_at.is_some_and(|began| began <= at)
    }

    /// How long a time-out must last at least.
    fn at_least(&self, timeout: Duration) -> Moment {
        let computes = |item: &Item| matches!(&item.kind, Kind::Valid(valid) if valid.conduct.computes > 0);
        let has_computed = self.plan.clients.iter().flat_map(|client| &client.items).any(computes);
        micros(timeout).saturating_sub(if has_computed { COMPUTED_MAX } else { 0 })
    }

    /// Bytes that the worker was told of until then.
    fn delivered(&self, until: Moment) -> usize {
        self.history.data.iter().take_while(|(at, _)| *at <= until).last().map_or(0, |(_, total)| *total)
    }

    /// When the worker was told of more than so many bytes.
    fn time_of(&self, bytes: usize) -> Option<Moment> {
        self.history.data.iter().find(|(_, total)| *total > bytes).map(|(at, _)| *at)
    }

    /// When the octet before `end` was given to the platform, and whether it had to wait for a send before it.
    fn sent_at(&self, end: usize) -> (Moment, bool) {
        let at = self.history.sends.iter().position(|send| send.end >= end);
        let at = at.unwrap_or_else(|| panic!("octet {end} was never sent"));
        let asked_at = self.history.sends[at].asked_at;
        let waited = at > 0 && self.history.sends[at - 1].told_at.is_none_or(|told| told >= asked_at);
        (asked_at, waited)
    }

    /// When the platform told last, not after `until`, that a send had left.
    fn last_told(&self, until: Moment) -> Option<Moment> {
        self.history.sends.iter().filter_map(|send| send.told_at).filter(|told| *told <= until).max()
    }

    fn call(&self, token: u32) -> Option<&Call> {
        self.calls.iter().find(|call| call.token == token)
    }

    fn was_cut(&self) -> bool {
        self.history.closes.iter().any(|(_, how)| *how == Close::Abort)
    }

    fn closed_first(&self) -> Option<(Moment, Close)> {
        self.history.closes.first().copied()
    }

    /// Parses all that was sent, and holds each answer against its item.
    fn check_answers(&self, tally: &mut Tally) -> Vec<Answered<'_>> {
        let mut answers: Vec<Answered<'_>> = Vec::new();
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
                assert!(is_broken, "answer {} is not whole", answers.len());
                break;
            };
            response.end += at;
            at = response.end;
            if response.status < 200 {
                assert_eq!(response.status, 100);
                let expects = matches!(item, Some(Item { kind: Kind::Valid(valid), .. }) if valid.expects.is_some());
                assert!(expects, "100 Continue, and nobody waits for it");
                interims += 1;
                assert!(interims == 1, "100 Continue twice for one request");
                tally.add(Outcome::Continue);
                continue;
            }
            let is_refusal = self.check_answer(item, &response, &answers, interims, tally);
            answers.push(Answered { item, start, end: response.end, response, is_refusal });
            (start, interims) = (at, 0);
        }
        answers
    }

    /// The connection broke and the worker closed it before it was told.
    fn has_failed_untold(&self) -> bool {
        matches!(self.own.ending, Ending::Breaks(..))
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
        let sent_at = self.sent_at(response.end).0;
        let begins_at =
            item.map_or(self.own.items.last().map_or(0, |item| item.end), |item| item.end - item.bytes.len());
        let is_whole = item.is_some_and(|item| self.delivered(sent_at) >= item.end);
        let token = item.map_or(0, |item| item.token);
        let name = || format!("answer to {token} ({} on the wire, status {})", response.body.len(), response.status);
        let call = item.and_then(|item| self.call(item.token));
        if let (Some(item), Some(call)) = (item, call) {
            let Kind::Valid(valid) = &item.kind else { panic!("{}: malformed, and the handler was called", name()) };
            assert!(is_whole, "{}: before the request was whole", name());
            assert!(call.at <= sent_at, "{}: before the handler was called", name());
            self.check_valid(valid, token, response, sent_at);
            count_answer(valid, response, tally);
            if before.len() + 1 < self.own.items.len() && self.own.is_pipelined {
                tally.add(Outcome::Pipelined);
            }
            return false;
        }
        assert!(response.token.is_none(), "{}: says the token of a call that was not made", name());
        if response.status == 503 {
            let bound = self.plan.limits.handlers_in_flight_max;
            assert!(bound <= self.plan.clients.len(), "{}: there is room for {bound} handlers", name());
            assert!(
                is_whole && matches!(item, Some(Item { kind: Kind::Valid(_), .. })),
                "{}: of no whole request",
                name()
            );
            tally.add(Outcome::Overloaded);
            return false;
        }
        assert!(response.closes, "{}: a refusal that does not close", name());
        if !item.is_some_and(Item::is_head) {
            assert!(!response.body.is_empty() && response.body.len() < 200, "{}: a refusal says why", name());
        }
        if let Some(Item { kind: Kind::Broken(status), .. }) = item {
            if response.status == *status {
                tally.add(Outcome::Broken);
                return true;
            }
        }
        let has_begun = self.delivered(sent_at) > begins_at;
        match response.status {
            // When is checked below.
            408 => {
                assert!(has_begun, "{}: and nothing of it came", name());
                if let Some(Item { kind: Kind::Valid(valid), head_bytes, .. }) = item {
                    // One that waits for the go-ahead for ever must have been given it.
                    let waits = valid.expects == Some(None) && self.delivered(sent_at) == begins_at + head_bytes;
                    assert!(!waits || interims == 1, "{}: it waited for 100 Continue", name());
                }
            }
            400 => {
                assert!(!is_whole, "{}: a whole request was refused", name());
                assert!(has_begun && self.history.eof_at.is_some_and(|at| at <= sent_at), "{}: and no end", name());
                tally.add(Outcome::CutShort);
            }
            _ => panic!("{}: refused without a reason", name()),
        }
        true
    }

    fn check_valid(&self, valid: &Valid, token: u32, response: &Response<'_>, sent_at: Moment) {
        let conduct = valid.conduct;
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
                let body = plan::body(token, conduct.bytes);
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
        assert!(response.closes == ends || may_end && !ends, "{name}: says close {}, not {ends}", response.closes);
        assert_eq!(response.says_keep_alive, valid.is_old && !response.closes, "{name}: says keep-alive");
    }

    /// Calls come once for each request, in order, and only those of whole ones that were not refused.
    fn check_calls(&self, answers: &[Answered<'_>]) {
        let mut items = self.own.items.iter();
        for (index, call) in self.calls.iter().enumerate() {
            let item = items.by_ref().find(|item| item.token == call.token);
            let item = item.unwrap_or_else(|| panic!("call {index} for {} is doubled or out of order", call.token));
            assert!(matches!(item.kind, Kind::Valid(_)), "{} is malformed", call.token);
            assert!(self.delivered(call.at) >= item.end, "{} was called before it was whole", call.token);
            assert!(
                call.waiting_before < self.plan.limits.handlers_in_flight_max,
                "{} was called over the bound of handlers",
                call.token
            );
            assert!(call.ended_at.is_some(), "the handler of {} was never told its end", call.token);
            if let Some(next) = self.calls.get(index + 1) {
                assert!(call.ended_at.is_some_and(|end| end <= next.at), "two requests of a connection at once");
            }
        }
        // Between two that were called only those stand that got a 503.
        for (index, item) in self.own.items.iter().enumerate().take_while(|(index, _)| *index < answers.len()) {
            let is_called = self.call(item.token).is_some();
            assert!(
                is_called || answers[index].is_refusal || answers[index].response.status == 503,
                "{} was skipped",
                item.token
            );
        }
        let called_last =
            self.calls.last().and_then(|call| self.own.items.iter().position(|item| item.token == call.token));
        // What a connection that broke had not sent is gone with it.
        let is_broken = self.was_cut() || self.history.error_at.is_some() || self.has_failed_untold();
        if let Some(last) = called_last.filter(|_| !is_broken) {
            assert!(last <= answers.len(), "request {last} was called before {} was answered", answers.len());
        }
    }

    /// What was held unsent or unread.
    fn check_bounds(&self, answers: &[Answered<'_>]) {
        let limits = &self.plan.limits;
        let mut sent = 0;
        for send in &self.history.sends {
            assert!(send.end - sent <= SEND_BYTES_MAX, "a send of {} bytes", send.end - sent);
            sent = send.end;
        }
        for answer in answers {
            let Some(call) = answer.item.and_then(|item| self.call(item.token)) else { continue };
            let told = self.history.sends.iter().filter(|send| send.told_at.is_some_and(|told| told <= call.at));
            let unsent = answer.start.saturating_sub(told.map(|send| send.end).max().unwrap_or(0));
            assert!(unsent <= limits.unsent_bytes_max, "{} was called with {unsent} bytes unsent", call.token);
        }
        let buffers = BUFFERS_AFTER_PAUSE * self.plan.io.receive_buffer_bytes as usize;
        for call in self.calls {
            let Some(item) = self.own.items.iter().find(|item| item.token == call.token) else { continue };
            let until = call.ended_at.unwrap_or(Moment::MAX);
            let in_between = self.history.data.iter().filter(|(at, _)| *at > call.at && *at <= until);
            let held = in_between.map(|(_, total)| total.saturating_sub(item.end)).max().unwrap_or(0);
            let bound = limits.head_bytes_max + buffers;
            assert!(
                held <= bound,
                "{held} bytes were read behind {}, which is being answered, bound {bound}",
                call.token
            );
        }
    }

    /// A 408 is on time.
    fn check_refusal_times(&self, answers: &[Answered<'_>], tally: &mut Tally) {
        let Some(answer) = answers.last().filter(|answer| answer.is_refusal && answer.response.status == 408) else {
            return;
        };
        let limits = &self.plan.limits;
        let (at, waited) = self.sent_at(answer.end);
        let items = &self.own.items;
        let index = answers.len() - 1;
        let begins_at = if index == 0 { 0 } else { items.get(index - 1).map_or(0, |item| item.end) };
        // RFC 9112 §2.2: an empty line before a request is none of it.
        let empty_line = items.get(index).map_or(0, |item| if item.bytes.starts_with(b"\r\n") { 2 } else { 0 });
        let first = self.time_of(begins_at + empty_line).unwrap_or_else(|| panic!("408, and nothing came"));
        // The request before may have kept it waiting, and so may a peer that did not read.
        let before = answers.len().checked_sub(2).map_or(0, |before| self.sent_at(answers[before].end).0);
        let told = self.last_told(at).unwrap_or(0);
        let since_max = first.max(before).max(told);
        let head_end = items.get(index).map(|item| begins_at + item.head_bytes);
        let head_at = head_end.and_then(|end| self.time_of(end - 1)).filter(|head_at| *head_at <= at);
        let Some((head_at, head_end)) = head_at.zip(head_end) else {
            tally.add(Outcome::HeadTimeout);
            assert!(
                at >= first + self.at_least(limits.head_timeout),
                "408 for a head {} µs after its first byte",
                at - first
            );
            assert!(
                waited || at <= latest(since_max, limits.head_timeout),
                "408 for a head {} µs late",
                at - since_max
            );
            return;
        };
        tally.add(Outcome::BodyTimeout);
        let last = self.history.data.iter().map(|(at, _)| *at).filter(|data| *data <= at).max().unwrap_or(0);
        let received = (self.delivered(at) - head_end) as u64;
        let rate = limits.body_bytes_per_second_min;
        let earned = (received * 1_000_000).checked_div(rate).map(Duration::from_micros);
        let by_idle = at >= last + self.at_least(limits.body_idle_timeout);
        let grace = earned.map(|earned| limits.body_rate_grace + earned);
        // The wheel counts what was earned in whole ticks.
        let by_rate = grace.is_some_and(|grace| at + TICK >= head_at + self.at_least(grace));
        // One that waited for a send was decided some time before, and what came since was dropped.
        assert!(
            waited || by_idle || by_rate,
            "408 for a body, {} µs after its head and {} µs after its last byte",
            at - head_at,
            at - last
        );
        let since = since_max.max(head_at);
        let idle = latest(last.max(since), limits.body_idle_timeout);
        let due = grace.map_or(idle, |grace| idle.min(latest(since, grace)));
        assert!(waited || at <= due, "408 for a body {} µs late", at - due);
    }

    /// Why, and when, the worker closed.
    fn check_end(&self, answers: &[Answered<'_>], tally: &mut Tally) {
        let history = self.history;
        let (at, how) = self.closed_first().unwrap_or_else(|| panic!("never closed"));
        assert!(history.closed_at.is_some(), "never told Closed");
        if let Some(&(abort_at, _)) = history.closes.iter().find(|(_, how)| *how == Close::Abort) {
            return self.check_abort(abort_at, tally);
        }
        self.check_idle_gaps(answers);
        // All that was answered is there, in place of all that was whole.
        let whole_until = |until| self.own.items.iter().filter(|item| item.end <= self.delivered(until)).count();
        let whole = whole_until(at);
        let closes = answers.last().is_some_and(|last| last.response.closes);
        if closes {
            tally.add(Outcome::SaidClose);
            if !answers.last().is_some_and(|last| last.is_refusal) {
                assert!(answers.len() <= whole, "answered what was not whole");
            }
            self.check_arrival(how);
            return;
        }
        let is_broken = history.error_at.is_some() || self.has_failed_untold() && answers.len() <= whole;
        if is_broken && history.error_at.is_some() {
            tally.add(Outcome::PeerReset);
            return;
        }
        assert_eq!(how, Close::AfterSend, "an idle connection lingers");
        let has_rest = self.delivered(at) > answers.last().and_then(|last| last.item).map_or(0, |item| item.end) + 2;
        if self.drains_by(at) {
            assert!(
                answers.len() >= whole || is_broken,
                "a drain left {} of {whole} unanswered",
                whole - answers.len()
            );
            tally.add(Outcome::DrainClose);
            return;
        }
        if !is_broken {
            assert_eq!(answers.len(), whole, "closed after {} answers to {whole} whole requests", answers.len());
        }
        assert!(!has_rest || is_broken, "closed within a request, without a refusal");
        if history.eof_at.is_some() {
            tally.add(Outcome::PeerEnd);
            return;
        }
        let told = history.sends.iter().map(|send| send.told_at.unwrap_or(Moment::MAX)).max();
        let (since, timeout) = match told {
            None => (history.adopted_at.unwrap_or_default(), self.plan.limits.silence_timeout),
            Some(told) => (told, self.plan.limits.keep_alive_timeout),
        };
        let is_early = at < since.saturating_add(self.at_least(timeout));
        if is_early && self.stalls {
            tally.add(Outcome::LeastRecentlyUsed);
            return;
        }
        assert!(
            !is_early,
            "closed as idle {} µs before {timeout:?} had passed since {since}",
            since + micros(timeout) - at
        );
        assert!(at <= latest(since, timeout), "closed as idle {} µs after {timeout:?}", at - since);
        tally.add(if told.is_none() { Outcome::Silence } else { Outcome::KeepAlive });
    }

    /// A reset needs a reason, and its time.
    fn check_abort(&self, at: Moment, tally: &mut Tally) {
        let history = self.history;
        if history.error_at.is_some_and(|error| error <= at) {
            tally.add(Outcome::PeerReset);
            return;
        }
        if self.calls.last().is_some_and(|call| call.was_cut) {
            tally.add(Outcome::HandlerCut);
            return;
        }
        let deadline = self.drain_began_at.map(|began| began + micros(self.plan.drain_timeout));
        if deadline.is_some_and(|deadline| at >= deadline) {
            tally.add(Outcome::DrainAbort);
            return;
        }
        let unsent = history.sends.last().filter(|send| send.told_at.is_none_or(|told| told > at));
        let Some(unsent) = unsent else { panic!("a reset without a reason") };
        let timeout = self.plan.limits.write_timeout;
        assert!(
            at >= unsent.asked_at + self.at_least(timeout),
            "reset {} µs after progress, {timeout:?} allowed",
            at - unsent.asked_at
        );
        assert!(
            at <= latest(unsent.asked_at, timeout),
            "reset {} µs after progress, {timeout:?} allowed",
            at - unsent.asked_at
        );
        tally.add(Outcome::WriteTimeout);
    }

    /// No time between an answer and what comes next is longer than keep-alive.
    fn check_idle_gaps(&self, answers: &[Answered<'_>]) {
        for answer in answers.iter().filter(|answer| !answer.response.closes) {
            let Some(item) = answer.item else { continue };
            let told = self.history.sends.iter().find(|send| send.end >= answer.end).and_then(|send| send.told_at);
            let Some(told) = told.filter(|told| self.delivered(*told) == item.end) else { continue };
            let next = self.time_of(item.end).into_iter().chain(self.closed_first().map(|(at, _)| at)).min();
            let due = latest(told, self.plan.limits.keep_alive_timeout);
            assert!(next.is_none_or(|next| next <= due), "idle after {} for longer than keep-alive", item.token);
        }
    }

    /// What the last answer says reaches a peer that reads: no reset overtakes it.
    fn check_arrival(&self, how: Close) {
        // RFC 9112 §9.6: what the peer may still be sending would turn a plain close into a reset.
        let lingers = matches!(how, Close::Linger(_)) || self.history.eof_at.is_some();
        assert!(
            lingers || self.history.error_at.is_some(),
            "closed by {how:?} after its last answer, without lingering"
        );
        let reads = self.own.reader.pause == 0 && self.own.reader.stops_after == usize::MAX;
        let lingers_long = self.plan.limits.linger_timeout >= Duration::from_millis(300);
        let is_broken = matches!(self.own.ending, Ending::Breaks(..)) || self.was_cut();
        if !reads || !lingers_long || is_broken {
            return;
        }
        assert!(
            !self.history.lost && self.read == self.out.len(),
            "a reset overtook the last answer, closed by {how:?}"
        );
    }
}

fn count_answer(valid: &Valid, response: &Response<'_>, tally: &mut Tally) {
    tally.add(Outcome::Answered);
    let conduct = valid.conduct;
    let counted = [
        (valid.is_chunked, Outcome::Chunked),
        (!valid.is_chunked && !valid.body.is_empty(), Outcome::Body),
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
