//! When a 408 was sent: not early, not late.

use super::facts::{Answered, Facts, latest};
use crate::tally::{Outcome, Tally};

impl Facts<'_> {
    /// A 408 is on time.
    pub(super) fn check_refusal_times(&self, answers: &[Answered<'_>], tally: &mut Tally) {
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
        // What has no body may be there before its handler is done.
        let done = self.calls.iter().filter_map(|call| call.ended_at).filter(|done| *done < at).max().unwrap_or(0);
        let before = before.max(done);
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
        let item = &items[index];
        let (since, clock) = self.body_since(item, head_at);
        tally.add(if self.call(item.token).is_some() { Outcome::BodySlow } else { Outcome::BodyTimeout });
        // One that waited for a send was decided some time before, and what came since was dropped.
        assert!(
            waited || self.is_body_late(head_end, since, at, clock),
            "408 for a body, {} µs after its head, {clock:?}",
            at - head_at
        );
        let due = self.body_due(head_end, since_max.max(since), at, clock);
        assert!(waited || at <= due, "408 for a body {} µs late", at - due);
    }
}
