//! One core: turns the platform, feeds connections, keeps their time. No HTTP here (`connection/http1.rs`), no CPython, and not which
//! connections are admitted (`admission.rs`). How sockets come in is in `arrivals`, the end in `drain`, what a connection wants of the
//! platform in `settle`.
//!
//! [`Worker::turn`] may block and never calls the handler; [`Worker::dispatch`] calls it and never blocks. So the caller can
//! release what the handler needs (the interpreter) around `turn`, and hold it during `dispatch`.

mod drain;
mod arrivals;
mod settle;
mod state;

use std::io;
use std::os::fd::{BorrowedFd, RawFd};
use std::time::{Duration, Instant};

use turboapi_platform::handoff::{Arrival, Seat};
use turboapi_platform::{ConnectionId, Event, Platform, Wait, WatchId};

use crate::admission::MAILBOX;
use crate::answer::AnswerError;
use crate::balance::Spread;
use crate::connection::Shared;
use crate::handler::{Handler, Part};
use crate::refusals::Refusal;
use crate::request::RequestId;
use crate::timers::{TICK_MILLISECONDS, Tick};
use state::find;
pub use state::{Statistics, Worker};

/// Answers that are ready leave after so long, even if the batch that they came with is not worked off. PERF: a batch of quick
/// handlers takes less, and its answers leave together.
const FLUSH_AFTER: Duration = Duration::from_micros(500);

/// What the worker watches for its caller.
const CALLER: WatchId = WatchId(0);

/// What a dispatch has seen that is not for connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// The watched descriptor is readable.
    pub watch: bool,
    /// It is time to log what was refused: [`Worker::take_refusals`].
    pub refusals: bool,
}

impl<P: Platform> Worker<P> {
    /// The platform's wake-up handle.
    pub fn waker(&self) -> P::Waker {
        self.platform.waker()
    }

    /// Bounds, routes and what else the connections share.
    pub fn shared_mut(&mut self) -> &mut Shared {
        &mut self.shared
    }

    /// Connections that are open.
    #[must_use]
    pub fn connections_count(&self) -> usize {
        self.connections.len()
    }

    /// Requests that handlers have.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.shared.in_flight
    }

    /// Counters.
    #[must_use]
    pub fn statistics(&self) -> Statistics {
        self.statistics
    }

    /// What was refused since the last time.
    pub fn take_refusals(&mut self) -> Vec<(Refusal, u64)> {
        self.shared.refusals.take()
    }

    /// The handler has refused so many requests, as it has enough of them.
    pub fn count_overloads(&mut self, times: u64) {
        self.shared.refusals.count(Refusal::Status(503), times, self.shared.now);
    }

    /// Accepts from a listening socket, which the caller keeps open.
    ///
    /// # Errors
    /// What the platform says.
    pub fn listen(&mut self, socket: BorrowedFd<'_>, spread: Spread) -> io::Result<()> {
        self.admission.listen(socket, spread, &mut self.platform)
    }

    /// Shares connections with the other workers from now on: some that are accepted here go to them, and theirs come here.
    ///
    /// # Errors
    /// What the platform says.
    pub fn join(&mut self, seat: Seat) -> io::Result<()> {
        self.admission.join(seat, &mut self.platform)?;
        self.bound_connections();
        Ok(())
    }

    /// Watches a foreign descriptor; see [`Seen::watch`].
    ///
    /// # Errors
    /// What the platform says.
    pub fn watch(&mut self, descriptor: RawFd) -> io::Result<()> {
        self.platform.watch(CALLER, descriptor)
    }

    /// Lets the kernel work: submits, and waits as told if nothing is there, but not past the next deadline.
    ///
    /// # Errors
    /// When the platform is broken; the worker cannot go on.
    pub fn turn(&mut self, wait: Wait) -> io::Result<()> {
        let until_deadline = || {
            let at = self.started + Duration::from_millis(self.next_tick()? * TICK_MILLISECONDS);
            Some(at.saturating_duration_since(self.platform.now()))
        };
        let wait = match wait {
            _ if !self.waiting.is_empty() => Wait::Poll,
            Wait::Poll => Wait::Poll,
            Wait::Forever => until_deadline().map_or(Wait::Forever, Wait::For),
            Wait::For(duration) => Wait::For(until_deadline().map_or(duration, |limit| duration.min(limit))),
        };
        self.statistics.turns += 1;
        if let Some(balance) = self.admission.balance.as_ref().filter(|_| wait != Wait::Poll) {
            balance.wait();
        }
        let done = self.platform.turn(wait, &mut self.events);
        if let Some(balance) = &mut self.admission.balance {
            balance.work(self.platform.now());
        }
        done
    }

    /// When there is something to do even if nothing happens.
    fn next_tick(&self) -> Option<Tick> {
        let drain = self.drain.as_ref().filter(|_| !self.is_drained()).map(|drain| drain.next_step);
        let balance = self.admission.balance.as_ref().and_then(|balance| balance.retry_at);
        let refusals = self.shared.refusals.tell_at();
        self.wheel.next().into_iter().chain(drain).chain(balance).chain(refusals).min()
    }

    /// Whether there is something for `dispatch`: what a turn brought, or requests that wait for their connection's share.
    #[must_use]
    pub fn has_work(&self) -> bool {
        !self.events.is_empty() || !self.waiting.is_empty()
    }

    /// Works off what the last turns brought.
    pub fn dispatch<H: Handler>(&mut self, handler: &mut H) -> Seen {
        let mut looked_at = self.set_time();
        let last = std::mem::replace(&mut self.dispatched_at, self.shared.now);
        let before_last = std::mem::replace(&mut self.dispatched_before, last);
        let mut seen = Seen::default();
        let mut events = std::mem::take(&mut self.events);
        let mut stalls = 0;
        // A connection that had its share the last time comes behind the events; one that has it now, the next time.
        let waiting = self.waiting.len();
        for event in events.drain(..) {
            stalls += u32::from(matches!(event, Event::AcceptStalled { .. }));
            if let Some(called) = self.event(event, &mut seen, handler) {
                self.look_at_clock(&mut looked_at, called);
            }
        }
        self.events = events;
        for _ in 0..waiting {
            let Some(id) = self.waiting.pop_front() else { break };
            let Some(slot) = find(&mut self.connections, id) else { continue };
            slot.is_waiting = false;
            slot.connection.wire.output.lend(&mut self.spare);
            slot.connection.go_on(&mut self.shared, handler);
            self.settle(id);
            self.look_at_clock(&mut looked_at, id);
        }
        // Now, as one that seemed idle may have had its next request among these events.
        for _ in 0..stalls {
            self.close_least_recently_used();
        }
        self.expire(before_last, handler);
        if self.admission.is_due(&mut self.platform, self.shared.now) {
            self.bound_connections();
        }
        self.step_drain(handler);
        seen.refusals = self.shared.refusals.is_due(self.shared.now);
        seen
    }

    /// Works off one event. Returns the connection for which the handler may have been called, and so have taken long.
    fn event<H: Handler>(&mut self, event: Event, seen: &mut Seen, handler: &mut H) -> Option<ConnectionId> {
        match event {
            Event::Data { connection, buffer } => {
                if let Some(slot) = find(&mut self.connections, connection) {
                    slot.connection.wire.output.lend(&mut self.spare);
                    slot.connection.receive(self.platform.rx(&buffer), &mut self.shared, handler);
                }
                self.platform.rx_release(buffer);
                self.settle(connection);
                return Some(connection);
            }
            Event::Sent { connection, out } => {
                self.keep_spare(out.head);
                if let Some(slot) = find(&mut self.connections, connection) {
                    let goes_on = slot.connection.sent(&mut self.shared, handler);
                    self.settle(connection);
                    return goes_on.then_some(connection);
                }
            }
            Event::Accepted { listener, socket, peer } => {
                self.statistics.accepted += 1;
                let arrival = Arrival { listener, peer };
                if let Some(socket) = self.pass(socket, arrival) {
                    self.adopt(socket, arrival);
                }
                self.bound_connections();
            }
            Event::Eof { connection } => {
                if let Some(slot) = find(&mut self.connections, connection) {
                    slot.connection.end(&mut self.shared, handler);
                    self.settle(connection);
                }
            }
            Event::Error { connection, error: _ } => {
                if let Some(slot) = find(&mut self.connections, connection) {
                    slot.connection.fail(&mut self.shared, handler);
                    self.settle(connection);
                }
            }
            Event::Closed { connection } => {
                if let Some(slot) = find(&mut self.connections, connection) {
                    slot.connection.fail(&mut self.shared, handler);
                    self.connections.remove(connection.slot() as usize);
                    self.bound_connections();
                }
            }
            Event::Watch { watch: MAILBOX } => self.take_handed(),
            Event::Watch { watch: _ } => seen.watch = true,
            // It has ended the turn's wait, which was all.
            Event::Woken => {}
            Event::ListenerGone { listener, error: _ } => self.admission.forget(listener),
            Event::AcceptStalled { listener: _, error: _ } => self.count_stall(),
        }
        None
    }

    /// A handler that computes must not hold back the answers that were ready before it.
    fn look_at_clock(&mut self, looked_at: &mut Instant, called: ConnectionId) {
        if self.platform.now().saturating_duration_since(*looked_at) > FLUSH_AFTER {
            // What is broken now will be so at the next turn, which says it.
            let _ = self.platform.flush();
            self.catch_up(called);
            *looked_at = self.platform.now();
        }
    }

    /// A handler took long: what began in its call, as far as the clock knew, begins now.
    #[cold]
    fn catch_up(&mut self, called: ConnectionId) {
        let before = self.shared.now;
        self.set_time();
        if self.shared.now != before
            && let Some(slot) = find(&mut self.connections, called)
        {
            slot.connection.move_times(before, &self.shared);
            self.settle(called);
        }
    }

    /// A later answer, or a part of one. False: no request waits for it, as the connection has gone or moved on.
    ///
    /// # Errors
    /// When the part does not fit what was said before; the connection is then cut.
    pub fn answer<H: Handler>(&mut self, id: RequestId, part: Part, handler: &mut H) -> Result<bool, AnswerError> {
        // What called the handler may have taken long, and deadlines count from now.
        self.set_time();
        let Some(slot) = find(&mut self.connections, id.connection) else {
            return Ok(false);
        };
        slot.connection.wire.output.lend(&mut self.spare);
        let done = slot.connection.answer(id.number, part, &mut self.shared, handler);
        let goes_on = slot.connection.requests() != id.number;
        self.settle(id.connection);
        if goes_on {
            // Requests that had waited behind this one were handed over.
            self.catch_up(id.connection);
        }
        done
    }

    /// The handler of a request has taken so many bytes of its body, and waits for more. False: nothing more will come, as the
    /// request is over or its connection gone.
    pub fn read_body(&mut self, id: RequestId, taken: usize) -> bool {
        self.set_time();
        let Some(slot) = find(&mut self.connections, id.connection) else { return false };
        slot.connection.wire.output.lend(&mut self.spare);
        let goes_on = slot.connection.read_body(id.number, taken, &self.shared);
        self.settle(id.connection);
        goes_on
    }

    /// Ends what has lasted too long. Only what had so at `by`, when the last dispatch but one began: a platform has asked the kernel
    /// since then what has come ([`Platform::turn`]), so no connection is ended for want of bytes that wait there while a handler
    /// computes, or while the whole process was stopped.
    fn expire<H: Handler>(&mut self, by: Tick, handler: &mut H) {
        let mut due = std::mem::take(&mut self.due);
        self.wheel.advance(by, &mut due);
        for place in due.drain(..) {
            let Some(slot) = self.connections.get_mut(place as usize) else {
                continue;
            };
            if slot.connection.wants_acknowledged(by, &self.shared) {
                let bytes = self.platform.acknowledged(slot.connection.id());
                slot.connection.note_acknowledged(bytes, &self.shared);
            }
            if slot.connection.deadline().is_some_and(|deadline| deadline <= by) {
                self.statistics.timeouts += 1;
                slot.connection.expire(by, &mut self.shared, handler);
            }
            let id = slot.connection.id();
            self.settle(id);
        }
        self.due = due;
    }

    /// Submits what was asked for without waiting: for when a long call is ahead.
    ///
    /// # Errors
    /// When the platform is broken.
    pub fn flush(&mut self) -> io::Result<()> {
        self.platform.flush()
    }

    /// Ends everything; the kernel holds nothing of this worker afterwards.
    ///
    /// # Errors
    /// When the kernel kept something for longer than `patience`.
    pub fn finish(self, patience: Duration) -> io::Result<()> {
        let deadline = self.platform.now() + patience;
        self.platform.finish(deadline)
    }
}

#[cfg(test)]
mod tests;
