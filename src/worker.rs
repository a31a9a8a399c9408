//! One core: turns the platform, feeds connections, keeps their time, drains. No HTTP here (`connection/http1.rs`), no CPython, and
//! not who may connect (`admission.rs`).
//!
//! [`Worker::turn`] may block and never calls the handler; [`Worker::dispatch`] calls it and never blocks. The caller can so
//! let go of whatever the handler needs (the interpreter) around the one and hold it during the other.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::time::{Duration, Instant, SystemTime};

use slab::Slab;
use turboapi_platform::handoff::{Arrival, Seat};
use turboapi_platform::{Close, ConnectionId, Event, OutBuf, Platform, Wait, WatchId, socket};

use crate::admission::{Admission, Drain, MAILBOX, least_recently_used};
use crate::answer::AnswerError;
use crate::balance::{Balance, RECEIVE_BATCH, Spread};
use crate::connection::{Connection, Shared};
use crate::handler::{Handler, Part};
use crate::refusals::Refusal;
use crate::request::{Origin, RequestId};
use crate::timers::{TICK_MILLISECONDS, Tick, Wheel};

/// A large part is sent in pieces of so many bytes, so that a slow reader's progress can be seen (`write_timeout`).
const SEND_BYTES_MAX: usize = 256 * 1024;

/// A peer that takes nothing is first looked at after this part of `write_timeout`, which counts from there.
const LOOKS: Tick = 16;

/// Output buffers kept for further use, and the largest that is worth keeping.
const SPARE_BUFFERS: usize = 64;
const SPARE_BYTES_MAX: usize = 16 * 1024;

/// Answers that are ready leave after so long, even if the batch that they came with is not worked off. PERF: a batch of quick
/// handlers takes less, and its answers leave together.
const FLUSH_AFTER: Duration = Duration::from_micros(500);

/// What the worker watches for its caller.
const CALLER: WatchId = WatchId(0);

/// One core's server.
#[derive(Debug)]
pub struct Worker<P: Platform> {
    platform: P,
    shared: Shared,
    connections: Slab<Slot>,
    generation: u32,
    events: Vec<Event>,
    /// Connections that have had their share while requests of theirs wait.
    waiting: VecDeque<ConnectionId>,
    wheel: Wheel,
    due: Vec<u32>,
    started: Instant,
    admission: Admission,
    spare: Vec<Vec<u8>>,
    drain: Option<Drain>,
    /// When the last dispatch began.
    dispatched_at: Tick,
    /// And the one before it.
    dispatched_before: Tick,
    statistics: Statistics,
}

#[derive(Debug)]
struct Slot {
    connection: Connection,
    asked_to_close: Option<Close>,
    /// It stands in `Worker::waiting`.
    is_waiting: bool,
}

/// What a worker has done, counted by itself alone.
#[derive(Clone, Copy, Debug, Default)]
pub struct Statistics {
    /// Connections accepted, also those that went to another worker.
    pub accepted: u64,
    /// Connections accepted here and given to another worker.
    pub handed_over: u64,
    /// Connections that another worker has accepted and given to this one.
    pub taken_over: u64,
    /// Times that accepting stalled for want of descriptors or memory.
    pub accept_stalls: u64,
    /// Deadlines that came.
    pub timeouts: u64,
    /// Platform turns.
    pub turns: u64,
}

/// What a round of dispatching saw that is not for connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// The watched descriptor is readable.
    pub watch: bool,
    /// Another thread woke this one.
    pub woken: bool,
    /// It is time to log what was refused: [`Worker::take_refusals`].
    pub refusals: bool,
}

impl<P: Platform> Worker<P> {
    /// Over an open platform.
    #[must_use]
    pub fn new(platform: P, shared: Shared) -> Self {
        let started = platform.now();
        let mut worker = Self {
            platform,
            shared,
            connections: Slab::new(),
            generation: 0,
            events: Vec::with_capacity(256),
            waiting: VecDeque::new(),
            wheel: Wheel::default(),
            due: Vec::new(),
            started,
            admission: Admission::default(),
            spare: Vec::new(),
            drain: None,
            dispatched_at: 0,
            dispatched_before: 0,
            statistics: Statistics::default(),
        };
        if P::TELLS_ACKNOWLEDGED {
            worker.shared.ticks.write_look = worker.shared.ticks.write_look.div_ceil(LOOKS);
        }
        worker.set_wall_clock();
        worker
    }

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
            Event::Woken => seen.woken = true,
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

    /// Gives a connection to the worker that should have it. It comes back if that is this one.
    fn pass(&mut self, socket: OwnedFd, arrival: Arrival) -> Option<OwnedFd> {
        let (open, max) = (self.connections.len(), self.shared.limits.connections_max);
        let back = self.admission.pass(socket, arrival, open, max);
        self.statistics.handed_over += u64::from(back.is_none());
        back
    }

    /// Makes a connection of a socket.
    fn adopt(&mut self, socket: OwnedFd, Arrival { listener, peer }: Arrival) {
        let entry = self.connections.vacant_entry();
        self.generation = self.generation.wrapping_add(1);
        let slot = u32::try_from(entry.key()).expect("connections_max is below 2^32");
        let id = ConnectionId::new(slot, self.generation);
        let origin = Origin { listener, peer, local: socket::local_address(socket.as_fd()) };
        let connection = Connection::new(id, origin, &self.shared);
        entry.insert(Slot { connection, asked_to_close: None, is_waiting: false });
        if self.platform.adopt(id, socket).is_err() {
            self.connections.remove(slot as usize);
        } else {
            self.settle(id);
        }
    }

    /// Takes what other workers have handed here, also over `connections_max`: the worker that sent it had seen room.
    fn take_handed(&mut self) {
        for _ in 0..RECEIVE_BATCH {
            let Some(balance) = &mut self.admission.balance else { return };
            match balance.receive() {
                Ok(Some((socket, arrival))) => {
                    self.statistics.taken_over += 1;
                    self.adopt(socket, arrival);
                }
                Ok(None) => break,
                Err(_) => {
                    self.count_stall();
                    self.admission.watch_mailbox(false, &mut self.platform, self.shared.now);
                    self.admission.look_again(self.shared.now);
                    self.close_least_recently_used();
                    break;
                }
            }
        }
        // A closed mailbox stays readable for ever, and that of a worker that leaves is its successor's.
        if self.admission.balance.as_ref().is_some_and(Balance::is_over) {
            self.admission.watch_mailbox(false, &mut self.platform, self.shared.now);
        }
        self.bound_connections();
    }

    fn count_stall(&mut self) {
        self.statistics.accept_stalls += 1;
        self.shared.refusals.count(Refusal::NoDescriptor, 1, self.shared.now);
    }

    /// A later answer, or a part of one. False: nobody waits for it, as the connection has gone or moved on.
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

    /// After anything that happened to a connection: what it wants of the platform, and when it has to be looked at.
    fn settle(&mut self, id: ConnectionId) {
        let Some(slot) = find(&mut self.connections, id) else {
            return;
        };
        let connection = &mut slot.connection;
        if slot.asked_to_close.is_none()
            && let Some((head, body)) = connection.wire.take(SEND_BYTES_MAX)
        {
            self.platform.send(id, OutBuf { head, body });
        }
        if connection.waits_share() && !std::mem::replace(&mut slot.is_waiting, true) {
            self.waiting.push_back(id);
        }
        let spare = connection.wire.output.reclaim();
        if let Some(reads) = connection.take_reads_change(&self.shared) {
            self.platform.want_read(id, reads);
        }
        if let Some(close) = connection.wants_close() {
            let is_harder = slot.asked_to_close.is_none_or(|asked| asked != Close::Abort && close == Close::Abort);
            if is_harder {
                slot.asked_to_close = Some(close);
                self.platform.close(id, close);
            }
        }
        if let Some(deadline) = connection.deadline() {
            self.wheel.schedule(id.slot(), deadline);
        }
        if let Some(spare) = spare {
            self.keep_spare(spare);
        }
    }

    /// Ends what has lasted too long. Only what had so at `by`, when the last dispatch but one began: a platform has asked the kernel
    /// since then what has come ([`Platform::turn`]), so nobody is ended for what waits there while a handler computes, or while
    /// the whole process was stopped.
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

    fn set_time(&mut self) -> Instant {
        let at = self.platform.now();
        let elapsed = at.saturating_duration_since(self.started);
        let now = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX) / TICK_MILLISECONDS;
        if now != self.shared.now {
            self.shared.now = now;
            self.set_wall_clock();
        }
        at
    }

    fn set_wall_clock(&mut self) {
        let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        self.shared.preamble.set_time(since_1970.as_secs());
    }

    fn keep_spare(&mut self, mut buffer: Vec<u8>) {
        if self.spare.len() < SPARE_BUFFERS && buffer.capacity() > 0 && buffer.capacity() <= SPARE_BYTES_MAX {
            buffer.clear();
            self.spare.push(buffer);
        }
    }

    fn bound_connections(&mut self) {
        self.admission.bound(self.connections.len(), &mut self.platform, &mut self.shared);
    }

    /// Descriptors ran short: the connection that has been idle for longest makes room.
    fn close_least_recently_used(&mut self) {
        let connections = self.connections.iter_mut().map(|(_, slot)| &mut slot.connection);
        if let Some(connection) = least_recently_used(connections) {
            connection.close_unanswered(&self.shared);
            let id = connection.id();
            self.settle(id);
        }
    }

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

    fn step_drain<H: Handler>(&mut self, handler: &mut H) {
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

    /// Whether a drain has ended: nothing listens, nobody is connected, nobody was handed here.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        let admits = self.admission.listens() || !self.admission.is_over();
        self.drain.is_some() && self.connections.is_empty() && !admits
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

fn find(connections: &mut Slab<Slot>, id: ConnectionId) -> Option<&mut Slot> {
    connections.get_mut(id.slot() as usize).filter(|slot| slot.connection.id() == id)
}

#[cfg(test)]
mod tests;
