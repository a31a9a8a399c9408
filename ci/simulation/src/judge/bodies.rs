//! Bodies that came to their handler in parts: what it was given and when, what waited for it, how long that took, and what
//! became of the rest behind an answer.

use std::time::Duration;

use turboapi_platform::fakes::simulated::Moment;

use super::calls::BUFFERS_AFTER_PAUSE;
use super::facts::{Answered, COMPUTED_IN_ALL_MAX, Facts, TICK, latest};
use crate::handler::{Call, Progress};
use crate::plan::{Item, Valid};
use crate::tally::{Outcome, Tally};

/// How long a body's clock has stood, because its peer waited for its handler.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Clock {
    stood: Moment,
    /// How often; each may count a tick too many or too few.
    stops: Moment,
    /// When it went on last.
    resumed_at: Moment,
    stands: bool,
}

impl Facts<'_> {
    /// Bytes that the worker was told of before then.
    fn delivered_before(&self, until: Moment) -> usize {
        let count = self.history.data.partition_point(|(at, _)| *at < until);
        self.history.data[..count].last().map_or(0, |(_, total)| *total)
    }

    /// Calls whose body came in parts.
    fn calls_in_parts(&self) -> impl Iterator<Item = (&Call, &Item, &Valid)> {
        self.calls.iter().filter_map(|call| {
            let item = self.own.items.iter().find(|item| item.token == call.token && item.is_in_parts())?;
            Some((call, item, item.valid()?))
        })
    }

    /// What handlers were given, and what they were not.
    pub(super) fn check_bodies(&self, continued: &[u32], tally: &mut Tally) {
        for (call, item, valid) in self.calls_in_parts() {
            self.check_parts(call, item, valid);
            self.check_untaken(call, tally);
            self.check_go_ahead(call, item, valid, continued, tally);
            if let Some(ended_at) = call.ended_at.filter(|_| call.given.last().is_some_and(|last| !last.is_complete)) {
                let clock = self.clock(call, item, valid, ended_at);
                let due = self.body_due(item.head_end(), call.at, ended_at, clock);
                let token = call.token;
                assert!(clock.stands || ended_at <= due, "the body of {token} was waited for {} µs", ended_at - due);
            }
            let is_streamed = call.given.len() > 2 && call.given.last().is_some_and(|last| last.is_complete);
            if is_streamed {
                tally.add(Outcome::InParts);
            }
        }
    }

    /// It was given all that came, as it came, and told of the end as soon as that was there.
    fn check_parts(&self, call: &Call, item: &Item, valid: &Valid) {
        let token = call.token;
        let decoded = |delivered: usize| valid.body.decoded(delivered.saturating_sub(item.start()));
        for progress in &call.given {
            let came = decoded(self.delivered(progress.at));
            assert!(progress.given <= came, "{token} was given {} bytes, and {came} had come", progress.given);
            let is_whole = item.is_whole(self.delivered(progress.at));
            assert!(!progress.is_complete || is_whole, "{token} was told of the end before it came");
        }
        let ended_at = call.ended_at.unwrap_or(Moment::MAX);
        let data = self.history.data.iter().map(|(at, _)| *at);
        for at in data.filter(|at| *at > call.at && *at <= ended_at) {
            let given = call.given[..call.given.partition_point(|progress| progress.at < at)].last();
            let given = given.map_or(0, |progress| progress.given);
            let came = decoded(self.delivered_before(at));
            assert_eq!(given, came, "bytes that {token} was given of those that had come before {at}");
        }
        let is_complete = call.given.last().is_some_and(|last| last.is_complete);
        if let Some(cut_at) = self.history.eof_at.filter(|_| !is_complete) {
            assert!(
                ended_at <= cut_at.max(call.at) + COMPUTED_IN_ALL_MAX,
                "{token} was not told that its body is cut short"
            );
        }
        let Some(whole_at) = self.time_of(item.end - 1) else { return };
        if valid.body.breaks.is_none() {
            assert!(
                is_complete || ended_at <= whole_at + COMPUTED_IN_ALL_MAX,
                "{token} was not told of its body's end"
            );
        } else {
            assert!(ended_at <= whole_at + COMPUTED_IN_ALL_MAX, "{token} was not told that its body is malformed");
        }
    }

    /// What it had not taken is bounded.
    fn check_untaken(&self, call: &Call, tally: &mut Tally) {
        let limits = &self.plan.limits;
        let buffers = BUFFERS_AFTER_PAUSE * self.plan.io.receive_buffer_bytes as usize;
        let mut reads = call.reads.iter().peekable();
        let (mut taken, mut is_held_back) = (0, false);
        for (index, progress) in call.given.iter().enumerate() {
            while let Some((_, total)) = reads.next_if(|(at, _)| *at < progress.at) {
                taken = *total;
            }
            let untaken = progress.given - taken;
            // What comes with the call had waited behind the request before.
            let first = call.given[0].given;
            let bound =
                buffers + if index == 0 { limits.head_bytes_max } else { limits.body_untaken_bytes_max.max(first) };
            assert!(untaken <= bound, "{} has {untaken} bytes that it did not take, bound {bound}", call.token);
            is_held_back |= untaken > limits.body_untaken_bytes_max && !progress.is_complete;
        }
        if is_held_back {
            tally.add(Outcome::HeldBack);
        }
    }

    /// Who asks for a body whose peer waits has it told so.
    fn check_go_ahead(&self, call: &Call, item: &Item, valid: &Valid, continued: &[u32], tally: &mut Tally) {
        let is_continued = continued.contains(&call.token);
        let first_read = call.reads.first().map(|(at, _)| *at);
        if let Some(asked_at) = first_read.filter(|_| valid.expects.is_some()) {
            let has_begun = call.began.is_some_and(|began| began.reads == 0);
            let is_broken = self.was_cut() || self.history.error_at.is_some() || self.has_failed_untold();
            let must = !has_begun && self.delivered(asked_at) == item.head_end() && !is_broken;
            assert!(is_continued || !must, "{} has asked for its body, and its peer waits", call.token);
            let came_before = self.delivered_before(asked_at) > item.head_end();
            assert!(!is_continued || !came_before, "100 Continue for {}, whose body has begun", call.token);
        }
        if is_continued {
            assert!(first_read.is_some(), "100 Continue for {}, and its handler has not asked", call.token);
            let has_asked_first = call.began.is_none_or(|began| began.reads > 0);
            assert!(has_asked_first, "100 Continue within the answer to {}", call.token);
            tally.add(Outcome::ContinueAsked);
        }
    }

    /// How a body's clock went until then.
    pub(super) fn clock(&self, call: &Call, item: &Item, valid: &Valid, until: Moment) -> Clock {
        let bound = self.plan.limits.body_untaken_bytes_max;
        let came_at = self.time_of(item.head_end()).unwrap_or(Moment::MAX);
        let asked_at = call.reads.first().map_or(Moment::MAX, |(at, _)| *at);
        let owed_until = if valid.expects.is_some() { came_at.min(asked_at) } else { 0 };
        let mut clock = Clock { resumed_at: call.at, ..Clock::default() };
        let (mut given, mut reads) = (call.given.iter().peekable(), call.reads.iter().peekable());
        let (mut has, mut taken, mut stands_since) = (0, 0, None);
        loop {
            let owed = Some(owed_until).filter(|at| *at > call.at && stands_since.is_some_and(|since| since < *at));
            let next = [given.peek().map(|given| given.at), reads.peek().map(|(at, _)| *at), owed];
            let Some(at) = next.into_iter().flatten().min().filter(|at| *at <= until) else { break };
            while let Some(progress) = given.next_if(|progress| progress.at == at) {
                has = progress.given;
            }
            while let Some((_, total)) = reads.next_if(|(read_at, _)| *read_at == at) {
                taken = *total;
            }
            let stands = has - taken > bound || at < owed_until;
            match stands_since {
                None if stands => stands_since = Some(at),
                Some(since) if !stands => {
                    clock = Clock {
                        stood: clock.stood + at - since,
                        stops: clock.stops + 1,
                        resumed_at: at,
                        stands: false,
                    };
                    stands_since = None;
                }
                // The go-ahead was given, and it stands for what was not taken.
                Some(since) if since < owed_until && at >= owed_until => {
                    clock.stood += at - since;
                    stands_since = Some(at);
                }
                _ => {}
            }
        }
        if let Some(since) = stands_since {
            (clock.stands, clock.stood) = (true, clock.stood + until - since);
        }
        clock
    }

    /// The latest time that a body is waited for, as far as it had come at `at`.
    pub(super) fn body_due(&self, head_end: usize, since: Moment, at: Moment, clock: Clock) -> Moment {
        let limits = &self.plan.limits;
        let last = self.last_data(at);
        let idle = latest(last.max(since).max(clock.resumed_at), limits.body_idle_timeout);
        let rate = self
            .earned(head_end, at)
            .map(|earned| latest(since + clock.stood + clock.stops * TICK, limits.body_rate_grace + earned));
        rate.map_or(idle, |rate| idle.min(rate))
    }

    /// Whether a body may be given up at `at`.
    pub(super) fn is_body_late(&self, head_end: usize, since: Moment, at: Moment, clock: Clock) -> bool {
        let limits = &self.plan.limits;
        let idle = self.last_data(at).max(clock.resumed_at) + self.at_least(limits.body_idle_timeout);
        let rate = self.earned(head_end, at).is_some_and(|earned| {
            // The wheel counts what was earned in whole ticks.
            let slack = (1 + clock.stops) * TICK;
            at + slack >= since + clock.stood + self.at_least(limits.body_rate_grace + earned)
        });
        !clock.stands && (at >= idle || rate)
    }

    fn last_data(&self, until: Moment) -> Moment {
        self.history.data.iter().map(|(at, _)| *at).filter(|at| *at <= until).max().unwrap_or(0)
    }

    /// The time that so many bytes may take at the slowest rate.
    fn earned(&self, head_end: usize, at: Moment) -> Option<Duration> {
        let received = self.delivered(at).saturating_sub(head_end) as u64;
        (received * 1_000_000).checked_div(self.plan.limits.body_bytes_per_second_min).map(Duration::from_micros)
    }

    /// Whether an answer that began then must, and whether it may, end the connection for what was left of its body.
    pub(super) fn body_ends_connection(&self, item: &Item, valid: &Valid, call: &Call) -> (bool, bool) {
        let Some(began) = call.began.filter(|began| item.is_in_parts() && !began.is_complete) else {
            return (false, false);
        };
        if valid.expects.is_some() && began.reads == 0 && began.given == 0 {
            // What is no data yet, such as a chunk's size, also says that the peer does not wait.
            let waits = self.delivered(began.at) <= item.head_end();
            let may_wait = self.delivered_before(began.at) <= item.head_end();
            if waits || may_wait {
                return (waits, true);
            }
        }
        let is_whole_answer = call.answered.is_some_and(|answered| answered.at == began.at) && !valid.streams();
        let is_much = is_whole_answer && self.leaves_much(valid, began);
        (is_much, is_much)
    }

    fn leaves_much(&self, valid: &Valid, progress: Progress) -> bool {
        let left = valid.body.content.len() - progress.given;
        !valid.body.is_chunked && left > self.plan.limits.linger_bytes_max
    }

    /// How far the body of this answer's request had come when the answer was complete, if it was not whole then; and
    /// the earliest time at which that may have been, where it is not sure.
    fn answered_early(&self, answer: &Answered<'_>) -> Option<(&Item, &Valid, Progress, Moment)> {
        let item = self.own.items.iter().find(|item| answer.item.is_some_and(|own| own.token == item.token))?;
        let valid = item.valid().filter(|_| item.is_in_parts() && !answer.is_refusal)?;
        if let Some(call) = self.call(item.token) {
            let progress = call.answered?;
            return (!progress.is_complete).then_some((item, valid, progress, progress.at));
        }
        // The 503 of a server that is full: nobody was called, and it may have waited for a send before it.
        let (at, _) = self.sent_at(answer.end);
        let head_at = self.time_of(item.head_end() - 1)?;
        Some((item, valid, Progress { at, given: 0, is_complete: false, reads: 0 }, head_at))
    }

    /// What is left of a body behind its answer is dropped, so much and so long.
    pub(super) fn check_dropped(&self, answers: &[Answered<'_>], tally: &mut Tally) {
        for answer in answers {
            let Some((item, valid, progress, _)) = self.answered_early(answer) else { continue };
            if self.call(item.token).is_some() {
                tally.add(Outcome::AnsweredEarly);
            }
            if answer.response.closes {
                continue;
            }
            let limits = &self.plan.limits;
            let base = self.delivered(progress.at);
            let times = self.history.data.iter().map(|(at, _)| *at).filter(|at| *at > progress.at);
            for at in times {
                let came = self.delivered_before(at);
                if came >= item.end && valid.body.breaks.is_none() {
                    tally.add(Outcome::DroppedToEnd);
                    break;
                }
                // A close waits until all of the answers is with the platform.
                if self.is_sending(at) {
                    continue;
                }
                assert!(
                    came <= base || came - base < limits.linger_bytes_max,
                    "{} bytes behind the answer to {} were dropped, and more is read",
                    came - base,
                    item.token
                );
                assert!(
                    at <= latest(progress.at, limits.linger_timeout),
                    "the body of {} was dropped for {} µs",
                    item.token,
                    at - progress.at
                );
            }
            if self.call(item.token).is_some() && self.leaves_much(valid, progress) {
                let closed = self.closed_first().map(|(at, _)| at);
                let is_prompt = closed.is_some_and(|at| at <= progress.at + COMPUTED_IN_ALL_MAX || self.is_sending(at));
                assert!(is_prompt, "much of the body of {} is left, and the connection stays", item.token);
            }
        }
    }

    /// Whether a send had not left just before then.
    fn is_sending(&self, at: Moment) -> bool {
        self.history.sends.iter().any(|send| send.asked_at < at && send.told_at.is_none_or(|told| told >= at))
    }

    /// Why a connection was closed at `at` that had said nothing of it, if that was within a body that it dropped.
    pub(super) fn dropping_ended(
        &self,
        answers: &[Answered<'_>],
        at: Moment,
        lingers: bool,
        tally: &mut Tally,
    ) -> bool {
        let Some((item, valid, progress, earliest)) = answers.last().and_then(|last| self.answered_early(last)) else {
            return false;
        };
        let delivered = self.delivered(at);
        let limits = &self.plan.limits;
        let taken_until = item.start() + valid.body.place_of(progress.given).max(item.head_bytes);
        let dropped = delivered.saturating_sub(taken_until);
        let is_broken = valid.body.breaks.is_some_and(|breaks| delivered > item.start() + breaks.at);
        let is_much = dropped >= limits.linger_bytes_max.max(1) || self.leaves_much(valid, progress);
        let has_ended = self.history.eof_at.is_some_and(|end| end <= at);
        let may_end_from = earliest + self.at_least(limits.linger_timeout);
        let is_late = self.time_of(item.end - 1).is_some_and(|whole_at| whole_at >= may_end_from);
        // One that drops too much or for too long may drop the end too, while its close waits for a send.
        if item.is_whole(delivered) && !lingers && !(has_ended && (is_much || is_late)) {
            return false;
        }
        if has_ended && !lingers {
            tally.add(Outcome::DroppedCut);
            return true;
        }
        assert!(lingers, "closed without lingering within the body of {}", item.token);
        if is_broken || is_much {
            tally.add(if is_broken { Outcome::BodyBroken } else { Outcome::DroppedTooMuch });
            return true;
        }
        let timeout = limits.linger_timeout;
        assert!(
            at >= may_end_from,
            "the rest of {} was dropped for {} µs, {timeout:?} allowed",
            item.token,
            at - progress.at
        );
        assert!(
            at <= latest(progress.at, timeout) || self.is_sending(at),
            "the rest of {} was dropped for {} µs, {timeout:?} allowed",
            item.token,
            at - progress.at
        );
        tally.add(Outcome::DroppedTooLong);
        true
    }

    /// Whether an end at `at` is for a body that broke, or was too slow, after its answer had begun.
    pub(super) fn has_broken_body(&self, at: Moment, tally: &mut Tally) -> bool {
        let Some((call, item, valid)) = self.calls_in_parts().last().filter(|(call, ..)| {
            call.was_gone
                && call.began.is_some()
                && self.calls.last().is_some_and(|last| last.token == call.token)
                && call.given.last().is_some_and(|last| !last.is_complete)
        }) else {
            return false;
        };
        let is_broken = valid.body.breaks.is_some_and(|breaks| self.delivered(at) > item.start() + breaks.at);
        let is_cut = self.history.eof_at.is_some_and(|end| end <= at);
        let clock = self.clock(call, item, valid, at);
        let is_late = self.is_body_late(item.head_end(), call.at, at, clock);
        if is_broken || is_cut || is_late {
            tally.add(Outcome::BodyUnderAnswer);
        }
        is_broken || is_cut || is_late
    }

    /// When something of an item's body was seen first, for its time-outs: its handler's call, or its head.
    pub(super) fn body_since(&self, item: &Item, head_at: Moment) -> (Moment, Clock) {
        match (self.call(item.token), item.valid()) {
            (Some(call), Some(valid)) => {
                let at = call.ended_at.unwrap_or(Moment::MAX);
                (call.at, self.clock(call, item, valid, at))
            }
            _ => (head_at, Clock::default()),
        }
    }
}
