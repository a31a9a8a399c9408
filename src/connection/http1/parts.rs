//! The rest of a body that is under way: its parts go to the handler, or are dropped behind the answer, or it breaks off.

use super::state::{Around, Http1, Phase};
use crate::answer::BodyLeft;
use crate::connection::shared::{Scratch, Shared};
use crate::connection::wire::Wire;
use crate::error::BadRequest;
use crate::handler::{Ended, Handler};
use crate::http::encode;

impl Http1 {
    /// What has come of the body that a handler takes in parts. Returns how much of `bytes` it was.
    pub(super) fn hand_part<H: Handler>(
        &mut self,
        bytes: &[u8],
        scratch: &mut Scratch,
        around: &mut Around<'_, H>,
    ) -> usize {
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

    /// What has come of a body that no handler takes any more. Returns how much of `bytes` it was.
    pub(super) fn drop_part<H: Handler>(
        &mut self,
        bytes: &[u8],
        scratch: &mut Scratch,
        around: &mut Around<'_, H>,
    ) -> usize {
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
    pub(super) fn fail_body<H: Handler>(&mut self, reason: BadRequest, around: &mut Around<'_, H>) {
        self.incoming = None;
        if !self.is_answering() {
            // The answer was complete before.
            self.close_after_answer(around.shared.limits.linger_timeout, around);
        } else if self.answer.is_started() {
            self.break_off(around);
        } else {
            self.leave_flight(Ended::Gone, around);
            let is_head = self.answer.is_head();
            self.refuse(reason, is_head, around);
        }
    }

    /// The handler has taken so many bytes of the body of its request, and waits for more. False: the body is complete.
    pub(crate) fn read_body(&mut self, taken: usize, wire: &mut Wire) -> bool {
        let Some(incoming) = &mut self.incoming else { return false };
        incoming.untaken = incoming.untaken.saturating_sub(taken);
        if std::mem::take(&mut incoming.owes_continue) && !self.answer.is_started() {
            wire.output.push_bytes(encode::CONTINUE);
        }
        true
    }

    /// Whether a little of a body is dropped for the sake of the connection.
    #[cold]
    pub(super) fn may_discard(&self, shared: &Shared) -> bool {
        let left = self.incoming.as_ref().map(|incoming| incoming.left(&shared.limits));
        left == Some(BodyLeft::Little) && self.answer.keeps_alive()
    }
}
