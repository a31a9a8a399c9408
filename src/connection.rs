//! One connection, bytes in, bytes out: what it is made of, its deadlines, and its place in the worker. No I/O here, no clock, no timer:
//! `worker.rs` has those. What its bytes mean is in `connection/http1.rs`, how they come and go in `connection/wire.rs`.

mod http1;
mod body;
mod shared;
mod place;
mod wire;
mod pending;

use turboapi_platform::{Close, ConnectionId};

use crate::answer::AnswerError;
use crate::handler::{Handler, Part};
use crate::refusals::Refusal;
use crate::request::Origin;
use crate::timers::Tick;
use http1::{Around, Http1};
use place::Place;
pub use shared::{Shared, Ticks};
pub use wire::Wire;

/// One connection. An idle one holds no buffer.
#[derive(Debug)]
pub struct Connection {
    place: Place,
    /// Its bytes, which the worker carries to the platform.
    pub wire: Wire,
    /// What it speaks.
    http1: Http1,
    deadline: Option<Tick>,
}

impl Connection {
    /// A connection that has not said anything yet.
    #[must_use]
    pub fn new(id: ConnectionId, origin: Origin, shared: &Shared) -> Self {
        Self {
            place: Place { id, origin, requests: 0, idle_since: shared.now, waits_share: false },
            wire: Wire::default(),
            http1: Http1::default(),
            deadline: Some(shared.now + shared.ticks.silence),
        }
    }

    /// Its id.
    #[must_use]
    pub const fn id(&self) -> ConnectionId {
        self.place.id
    }

    /// Number of its latest request, from 1; 0 before there is one.
    #[must_use]
    pub const fn requests(&self) -> u32 {
        self.place.requests
    }

    /// When the worker has to call [`Self::expire`], if nothing happens before.
    #[must_use]
    pub const fn deadline(&self) -> Option<Tick> {
        self.deadline
    }

    /// How the connection should end, once all of its output is with the platform; none while it goes on.
    #[must_use]
    pub fn wants_close(&self) -> Option<Close> {
        self.wire.wants_close()
    }

    /// Since when nothing is going on, if nothing is: no part of a request, no answer, nothing unsent.
    #[must_use]
    pub fn idle_since(&self) -> Option<Tick> {
        let is_idle = self.http1.is_between_requests(&self.wire) && self.wire.unsent() == 0;
        is_idle.then_some(self.place.idle_since)
    }

    /// Whether a handler has one of its requests.
    #[must_use]
    pub const fn is_answering(&self) -> bool {
        self.http1.is_answering()
    }

    /// Whether reading should go on, if that has changed since the last time.
    pub fn take_reads_change(&mut self, shared: &Shared) -> Option<bool> {
        let reads = self.http1.wants_read(&self.place, &self.wire, shared)?;
        self.wire.read(reads)
    }

    /// Takes received bytes, and calls the handler for each request that they complete.
    pub fn receive<H: Handler>(&mut self, data: &[u8], shared: &mut Shared, handler: &mut H) {
        if !self.http1.is_closing() {
            self.happen(shared, handler, |http1, around| http1.receive(data, around));
        }
    }

    /// Whether it has had its share for now: the worker calls [`Self::go_on`] when others have had theirs.
    #[must_use]
    pub const fn waits_share(&self) -> bool {
        self.place.waits_share
    }

    /// The others have had their share: goes on with the requests that wait. Nothing happens if none does.
    pub fn go_on<H: Handler>(&mut self, shared: &mut Shared, handler: &mut H) {
        if std::mem::take(&mut self.place.waits_share) {
            self.happen(shared, handler, Http1::go_on);
        }
    }

    /// The handler of request `number` has taken so many bytes of its body, and waits for more. Nothing happens if its body is
    /// complete. False: that request is over, and nothing more will come.
    pub fn read_body(&mut self, number: u32, taken: usize, shared: &Shared) -> bool {
        let goes_on = number == self.place.requests && self.is_answering();
        if goes_on && self.http1.read_body(taken, &mut self.wire) {
            self.set_deadline(shared);
        }
        goes_on
    }

    /// A later answer to request `number`, or a part of one. False, and nothing happens, if that request is over.
    ///
    /// # Errors
    /// When the part does not fit what was said before; the connection is then cut.
    pub fn answer<H: Handler>(
        &mut self,
        number: u32,
        part: Part,
        shared: &mut Shared,
        handler: &mut H,
    ) -> Result<bool, AnswerError> {
        if number != self.place.requests || !self.is_answering() {
            return Ok(false);
        }
        self.happen(shared, handler, |http1, around| http1.answer(part, around)).map(|()| true)
    }

    /// The platform has sent what it was given. Returns whether requests that had waited for that were handed over.
    pub fn sent<H: Handler>(&mut self, shared: &mut Shared, handler: &mut H) -> bool {
        let requests = self.place.requests;
        self.wire.sent();
        if self.wire.output.is_empty() {
            self.place.idle_since = shared.now;
        }
        self.happen(shared, handler, Http1::sent);
        self.place.requests != requests
    }

    /// The peer will send nothing more.
    pub fn end<H: Handler>(&mut self, shared: &mut Shared, handler: &mut H) {
        self.wire.end();
        self.happen(shared, handler, Http1::end);
    }

    /// The connection is lost.
    pub fn fail<H: Handler>(&mut self, shared: &mut Shared, handler: &mut H) {
        self.happen(shared, handler, Http1::fail);
    }

    /// Whether the worker has to say how much the peer has acknowledged, before [`Self::expire`].
    #[must_use]
    pub fn wants_acknowledged(&self, by: Tick, shared: &Shared) -> bool {
        self.wire.wants_acknowledged(by, shared.ticks.write_wait())
    }

    /// So much the peer has acknowledged.
    pub fn note_acknowledged(&mut self, bytes: Option<u64>, shared: &Shared) {
        self.wire.note_acknowledged(bytes, shared.now, shared.limits.write_bytes_per_second_min);
        self.set_deadline(shared);
    }

    /// Its deadline had come at `by`.
    pub fn expire<H: Handler>(&mut self, by: Tick, shared: &mut Shared, handler: &mut H) {
        if self.wire.is_overdue(by, shared.ticks.write_wait()) {
            shared.refusals.count(Refusal::NotTaken, 1, shared.now);
            self.fail(shared, handler);
        } else {
            self.happen(shared, handler, |http1, around| http1.expire(by, around));
        }
    }

    /// Whether a part of a head has come and the rest of it has not. What waits for the peer to read its answers, or for its share,
    /// may be whole.
    #[must_use]
    pub fn has_partial_head(&self, shared: &Shared) -> bool {
        self.http1.has_partial_head(&self.place, &self.wire, shared)
    }

    /// Ends the connection when what is unsent has left; only for one that no handler answers.
    pub fn close_unanswered(&mut self, shared: &Shared) {
        if !self.is_answering() && self.wire.closes().is_none() {
            self.http1.close(Close::AfterSend, &mut self.place, &mut self.wire);
            self.set_deadline(shared);
        }
    }

    /// A handler computed for long: what began at `before`, by the clock of then, begins now. So no peer's time is shortened.
    pub fn move_times(&mut self, before: Tick, shared: &Shared) {
        self.http1.move_times(before, shared);
        self.wire.move_times(before, shared.now);
        if self.place.idle_since == before {
            self.place.idle_since = shared.now;
        }
        self.set_deadline(shared);
    }

    /// Everything that happens to the connection goes through here, and may move its deadline.
    #[inline]
    fn happen<H: Handler, T>(
        &mut self,
        shared: &mut Shared,
        handler: &mut H,
        what: impl FnOnce(&mut Http1, &mut Around<'_, H>) -> T,
    ) -> T {
        let mut around = Around { place: &mut self.place, wire: &mut self.wire, shared, handler };
        let done = what(&mut self.http1, &mut around);
        self.set_deadline(shared);
        done
    }

    /// Says when the present state has lasted too long.
    #[inline]
    fn set_deadline(&mut self, shared: &Shared) {
        let write = self.wire.deadline(shared.now, shared.ticks.write_wait());
        let phase = self.http1.deadline(&self.place, &self.wire, shared);
        self.deadline = match (write, phase) {
            (Some(write), Some(phase)) => Some(write.min(phase)),
            (write, phase) => write.or(phase),
        };
    }
}

#[cfg(test)]
pub(crate) mod tests;
