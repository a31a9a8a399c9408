//! What the handler was called for, and what was held unsent and unread meanwhile.

use turboapi_platform::fakes::simulated::Moment;

use super::facts::{Answered, Facts, SEND_BYTES_MAX};

/// `Data` that may follow when reading was paused, and one turn's before that.
pub(super) const BUFFERS_AFTER_PAUSE: usize = 8;

impl Facts<'_> {
    /// Calls come once for each request, in order, and only those of whole ones that were not refused.
    pub(super) fn check_calls(&self, answers: &[Answered<'_>]) {
        let mut items = self.own.items.iter();
        for (index, call) in self.calls.iter().enumerate() {
            let item = items.by_ref().find(|item| item.token == call.token);
            let item = item.unwrap_or_else(|| panic!("call {index} for {} is doubled or out of order", call.token));
            assert!(item.valid().is_some(), "{} is malformed", call.token);
            if item.is_in_parts() {
                assert!(self.delivered(call.at) >= item.head_end(), "{} was called before its head", call.token);
                let breaks = item.valid().and_then(|valid| valid.body.breaks);
                assert!(breaks.is_none_or(|breaks| !breaks.is_declared), "{} is declared too large", call.token);
            } else {
                assert!(item.is_whole(self.delivered(call.at)), "{} was called before it was whole", call.token);
            }
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
    pub(super) fn check_bounds(&self, answers: &[Answered<'_>]) {
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
}
