//! The orderly end of a worker. Which connections end when is in `admission`.

use std::time::Duration;

use turboapi_platform::Platform;

use super::state::{Slot, Worker};
use crate::admission::Drain;
use crate::handler::Handler;
use crate::timers::TICK_MILLISECONDS;

impl<P: Platform> Worker<P> {
    /// Stops accepting, closes what is idle, lets what was begun finish, and ends what is left after `timeout`.
    pub fn drain(&mut self, timeout: Duration) {
        self.set_time();
        let ticks = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX / 4).div_ceil(TICK_MILLISECONDS);
        // One more, as the present tick has begun already: what is in flight gets all of its time. None is none.
        let deadline = self.shared.now + ticks + u64::from(ticks > 0);
        if let Some(drain) = &mut self.drain {
            drain.deadline = drain.deadline.min(deadline);
            return;
        }
        self.shared.is_draining = true;
        self.drain = Some(Drain { since: self.shared.now, deadline, next_step: self.shared.now });
        self.admission.leave(&mut self.platform);
    }

    pub(super) fn step_drain<H: Handler>(&mut self, handler: &mut H) {
        let now = self.shared.now;
        let Some(drain) = self.drain.as_mut().filter(|drain| now >= drain.next_step) else {
            return;
        };
        drain.next_step = now + 1;
        let drain = *drain;
        if !self.admission.is_over() {
            self.take_handed();
        }
        let mut ended = Vec::new();
        for (_, Slot { connection, .. }) in &mut self.connections {
            if now >= drain.deadline {
                connection.fail(&mut self.shared, handler);
            } else if drain.closes(connection, &self.shared) {
                connection.close_unanswered(&self.shared);
            } else {
                continue;
            }
            ended.push(connection.id());
        }
        for id in ended {
            self.settle(id);
        }
    }

    /// Whether a listening socket is still accepted from: after a drain began, until its backlog is empty.
    #[must_use]
    pub fn listens(&self) -> bool {
        self.admission.listens()
    }

    /// Whether a drain has ended: nothing listens, no connection is open, and none was handed here.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        let admits = self.admission.listens() || !self.admission.is_over();
        self.drain.is_some() && self.connections.is_empty() && !admits
    }
}
