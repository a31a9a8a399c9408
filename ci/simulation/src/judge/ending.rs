//! Why, when and how a connection ended.

use std::time::Duration;

use turboapi_platform::Close;
use turboapi_platform::fakes::simulated::Moment;

use super::facts::{Answered, Facts, latest, micros};
use crate::plan::{Ending, Item};
use crate::tally::{Outcome, Tally};

impl Facts<'_> {
    /// Why, and when, the worker closed.
    pub(super) fn check_end(&self, answers: &[Answered<'_>], tally: &mut Tally) {
        let history = self.history;
        let (at, how) = self.closed_first().unwrap_or_else(|| panic!("never closed"));
        assert!(history.closed_at.is_some(), "never told Closed");
        if let Some(&(abort_at, _)) = history.closes.iter().find(|(_, how)| *how == Close::Abort) {
            return self.check_abort(abort_at, tally);
        }
        let has_failed = self.calls.last().is_some_and(|call| call.was_cut);
        if has_failed || self.has_broken_body(at, tally) {
            if has_failed {
                tally.add(Outcome::HandlerCut);
            }
            self.check_arrival(how);
            return;
        }
        self.check_idle_gaps(answers);
        // All that was answered is there, in place of all that was whole.
        let delivered = self.delivered(at);
        let whole = self.own.items.iter().filter(|item| item.is_whole(delivered)).count();
        let closes = answers.last().is_some_and(|last| last.response.closes);
        if closes {
            tally.add(Outcome::SaidClose);
            // The last may be of one whose body was not awaited.
            if !answers.last().is_some_and(|last| last.is_refusal) {
                let is_early = answers.last().and_then(|last| last.item).is_some_and(Item::is_in_parts);
                assert!(answers.len() <= whole + usize::from(is_early), "answered what was not whole");
            }
            self.check_arrival(how);
            return;
        }
        let is_broken = history.error_at.is_some() || self.has_failed_untold() && answers.len() <= whole;
        if is_broken && history.error_at.is_some() {
            tally.add(Outcome::PeerReset);
            return;
        }
        if self.dropping_ended(answers, at, matches!(how, Close::Linger(_)), tally) {
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
        self.check_idle_close(at, answers, tally);
    }

    /// A close at `at` that has no other reason: the connection was silent, or idle, for just so long.
    fn check_idle_close(&self, at: Moment, answers: &[Answered<'_>], tally: &mut Tally) {
        let history = self.history;
        let told = history.sends.iter().map(|send| send.told_at.unwrap_or(Moment::MAX)).max();
        let (since, timeout) = match told {
            None => (history.adopted_at.unwrap_or_default(), self.plan.limits.silence_timeout),
            // The rest of a body may have come behind its answer, and one without a body is there before its handler is done.
            Some(told) => {
                let item = answers.last().and_then(|last| last.item).filter(|item| item.is_in_parts());
                let whole_at = item.and_then(|item| self.time_of(item.end - 1)).unwrap_or(0);
                let done_at = self.calls.last().and_then(|call| call.ended_at).unwrap_or(0);
                (told.max(whole_at).max(done_at), self.plan.limits.keep_alive_timeout)
            }
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
        // An answer that says where it ends needs none, and would be lost by it to a peer that has not read all of it.
        let ends_by_closing = self.calls.last().is_some_and(|call| self.plan.valid(call.token).ends_by_closing());
        if ends_by_closing && self.calls.last().is_some_and(|call| call.was_cut) {
            tally.add(Outcome::HandlerReset);
            return;
        }
        let deadline = self.drain_began_at.map(|began| began + micros(self.plan.drain_timeout));
        if deadline.is_some_and(|deadline| at >= deadline) {
            tally.add(Outcome::DrainAbort);
            return;
        }
        if ends_by_closing && self.has_broken_body(at, tally) {
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
            // What has no body may be there before its handler is done.
            let done = self.call(item.token).and_then(|call| call.ended_at).unwrap_or(told);
            let due = latest(told.max(done), self.plan.limits.keep_alive_timeout);
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
        let is_broken = is_broken || self.history.sent_too_much;
        if !reads || !lingers_long || is_broken {
            return;
        }
        assert!(
            !self.history.lost && self.read == self.out.len(),
            "a reset overtook the last answer, closed by {how:?}"
        );
    }
}
