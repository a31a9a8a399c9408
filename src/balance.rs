//! Which worker serves a fresh connection, and the worker's part in it: what it tells the others, and what they hand to it.
//! The means are the platform's (`handoff.rs`); when a connection is accepted, and what is done with it, is `worker.rs`.
//!
//! Nothing here is on the way of a request, but for one store, or two, on each turn. A connection that stays where it was
//! accepted costs a few loads for each worker and one store; one that goes to another costs that and four system calls.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

use turboapi_platform::handoff::{Arrival, Handoff, Received, Seat};
use turboapi_platform::{ListenerId, socket};

use crate::timers::Tick;

/// What decides where a connection of a listener is accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spread {
    /// The kernel: each worker has a socket of its own on the port. We only mend what its hash makes uneven.
    Kernel,
    /// This worker, which alone accepts, for all.
    Ours,
}

/// A worker that has not asked the kernel for longer than this gets nothing from the others: a handler computes there, or blocks,
/// and it is not known for how long. A batch of quick handlers takes some milliseconds; what a wrong guess costs is evenness. A
/// fifth of the default `watchdog_timeout`, after which the log names it.
///
/// Of 180 connections, one each 10 ms, to four workers of which one blocks, the others hand to that one (simulated):
///
/// | bound | each has its socket | one accepts for all |
/// |---|---|---|
/// | none | 21 | 45 |
/// | 200 ms | 1 | 5 |
pub const BLOCKED_AFTER: Duration = Duration::from_millis(200);

/// Whether a worker is inside of a dispatch for so long that no connection should wait for it.
#[must_use]
pub fn is_blocked(handoff: &Handoff, worker: usize, now: Instant) -> bool {
    handoff.busy_for(worker, now) > BLOCKED_AFTER
}

/// The worker that is to have a connection which `own` has accepted, but has not counted yet.
///
/// `open` are the connections that it has itself, none if it has no room; `load(worker)` those of the others, none if that
/// one takes no more. Of workers with the same load the next one after `after` has it: workers that accept at the same
/// time with the same view shall not choose the same one.
///
/// A worker's own connection is only worth the hand-off if it has clearly more than the mean, or if another has nothing at
/// all. Simulated with 1000 orders of arrival (max/mean at the end: mean, worst; share handed over), 64 connections:
///
/// | bound | 4 workers | 8 workers |
/// |---|---|---|
/// | none | 1.27, 1.81; 0 % | 1.54, 2.38; 0 % |
/// | 1.25 × mean + 4 | 1.25, 1.50; 1 % | 1.48, 1.75; 1 % |
/// | 1.1 × mean + 2 | 1.14, 1.19; 6 % | 1.23, 1.25; 9 % |
/// | 1.1 × mean + 1 | 1.10, 1.13; 14 % | 1.13, 1.13; 24 % |
/// | 1.1 × mean | 1.06, 1.06; 30 % | 1.00, 1.00; 44 % |
///
/// The last one moves every third connection for next to nothing, and where all workers accept at once, each by a view that
/// is one connection old, it is worse than the one before (8 workers: worst 1.63, against 1.50).
pub(crate) fn choose(
    own: usize,
    open: Option<u32>,
    workers: usize,
    spread: Spread,
    after: usize,
    load: impl Fn(usize) -> Option<u32>,
) -> usize {
    let (mut total, mut count) = open.map_or((1, 0), |open| (u64::from(open) + 1, 1));
    let mut least: Option<(u32, usize)> = None;
    for step in 1..=workers {
        let other = (after + step) % workers;
        if other == own {
            continue;
        }
        let Some(load) = load(other) else { continue };
        total += u64::from(load);
        count += 1;
        if least.is_none_or(|(least, _)| load < least) {
            least = Some((load, other));
        }
    }
    let Some((least, other)) = least else { return own };
    // Where there is no room even the fullest of the others is better.
    let Some(open) = open.map(u64::from) else { return other };
    let least = u64::from(least);
    let hands_over = match spread {
        Spread::Ours => least < open,
        // (open + 1) > 1.1 × total / count + 1, and the other has still less with it than this one had.
        Spread::Kernel => least < open && (least == 0 || open * 10 * count > total * 11),
    };
    if hands_over { other } else { own }
}

/// What became of the connections that waited for a worker which has died.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClearedUp {
    /// Another worker has them.
    pub moved: usize,
    /// There was none to take them: they are closed.
    pub lost: usize,
}

/// Hands what waits for a worker that will never come back, in its mailbox and in the backlogs of its listeners, to the others.
///
/// # Errors
/// What the kernel says of a listener; what was moved until then is.
pub fn clear_up(handoff: &Handoff, worker: usize, listeners: &[(ListenerId, BorrowedFd<'_>)]) -> io::Result<ClearedUp> {
    handoff.retire(worker);
    let mut cleared = ClearedUp::default();
    let mut give = |socket, arrival| {
        let target = choose(worker, None, handoff.workers(), Spread::Ours, worker, |other| handoff.load(other));
        // Dropped, that is closed, if there is no target or it cannot take it.
        let is_moved = target != worker && handoff.send(target, socket, arrival).is_ok();
        *(if is_moved { &mut cleared.moved } else { &mut cleared.lost }) += 1;
    };
    while let Received::Connection(socket, arrival) = handoff.receive(worker)? {
        give(socket, arrival);
    }
    for &(listener, backlog) in listeners {
        socket::set_non_blocking(backlog)?;
        loop {
            match socket::accept(backlog) {
                Ok((socket, peer)) => give(socket, Arrival { listener, peer }),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if socket::is_of_one_connection(&error) => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(cleared)
}

/// Connections that one call of [`relieve`] moves from the mailbox, and from each listener: about what a mailbox holds.
const RELIEF_BATCH: usize = 256;

/// Hands what waits for a worker that is blocked, in its mailbox and in the backlogs of its listeners, to the others, as far as
/// they have room; `max` is how many each may have. What is left waits on. To be called again while there is some; returns how
/// many others have now.
///
/// # Errors
/// What the kernel says of a listener; or there is no descriptor now.
pub fn relieve(
    handoff: &Handoff,
    worker: usize,
    listeners: &[(ListenerId, BorrowedFd<'_>)],
    max: usize,
) -> io::Result<usize> {
    let now = Instant::now();
    if !is_blocked(handoff, worker, now) {
        return Ok(0);
    }
    let mut relief = Relief { handoff, worker, max, now, last: worker, moved: 0 };
    for _ in 0..RELIEF_BATCH {
        let Some(target) = relief.target() else { return Ok(relief.moved) };
        let Received::Connection(socket, arrival) = handoff.receive(worker)? else { break };
        relief.give(target, socket, arrival);
    }
    for &(listener, backlog) in listeners {
        socket::set_non_blocking(backlog)?;
        for _ in 0..RELIEF_BATCH {
            let Some(target) = relief.target() else { return Ok(relief.moved) };
            match socket::accept(backlog) {
                Ok((socket, peer)) => relief.give(target, socket, Arrival { listener, peer }),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if socket::is_of_one_connection(&error) => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(relief.moved)
}

/// One call of [`relieve`].
struct Relief<'a> {
    handoff: &'a Handoff,
    worker: usize,
    max: usize,
    now: Instant,
    last: usize,
    moved: usize,
}

impl Relief<'_> {
    /// The worker that is to have the next one.
    fn target(&self) -> Option<usize> {
        let load = |other| room(self.handoff, other, self.max, self.now);
        let target = choose(self.worker, None, self.handoff.workers(), Spread::Ours, self.last, load);
        (target != self.worker).then_some(target)
    }

    fn give(&mut self, target: usize, socket: OwnedFd, arrival: Arrival) {
        self.last = target;
        match self.handoff.send(target, socket, arrival) {
            Ok(()) => self.moved += 1,
            // That mailbox is full in this moment. The blocked one's has room, and it comes to it some time.
            Err((socket, _)) => drop(self.handoff.send(self.worker, socket, arrival)),
        }
    }
}

/// The load of a worker that has room and is not blocked. All have the same bound, which what is under way to one counts for too.
fn room(handoff: &Handoff, worker: usize, max: usize, now: Instant) -> Option<u32> {
    let load = handoff.load(worker).filter(|&load| (load as usize) < max)?;
    (!is_blocked(handoff, worker, now)).then_some(load)
}

/// Connections that are taken from the mailbox before other work gets its share.
pub(crate) const RECEIVE_BATCH: usize = 64;

/// A worker among others.
#[derive(Debug)]
pub(crate) struct Balance {
    seat: Seat,
    /// The worker that it chose last.
    last: usize,
    /// Whether the platform watches the mailbox.
    pub is_watched: bool,
    /// Whether this worker has been told to drain, and says nothing to the others any more: its successor may do so.
    is_leaving: bool,
    /// Whether the last look has found the mailbox empty.
    is_empty: bool,
    /// Whether nothing will come any more.
    is_closed: bool,
    /// When to look again at what could not be done for want of room.
    pub retry_at: Option<Tick>,
    /// When this worker asked the kernel last.
    asked_at: Instant,
}

impl Balance {
    pub fn new(seat: Seat, now: Instant) -> Self {
        let last = seat.index();
        seat.publish_work(now);
        Self {
            seat,
            last,
            is_watched: false,
            is_leaving: false,
            is_empty: false,
            is_closed: false,
            retry_at: None,
            asked_at: now,
        }
    }

    /// Tells the others that this worker waits in the kernel from now on.
    #[inline]
    pub fn wait(&self) {
        if !self.is_leaving {
            self.seat.publish_wait();
        }
    }

    /// Tells the others that this worker works from now on.
    #[inline]
    pub fn work(&mut self, now: Instant) {
        self.asked_at = now;
        if !self.is_leaving {
            self.seat.publish_work(now);
        }
    }

    /// What is readable when a connection was handed here.
    pub fn descriptor(&self) -> RawFd {
        self.seat.descriptor()
    }

    /// Tells the others what is open here.
    #[inline]
    pub fn publish(&self, open: usize, has_room: bool) {
        if !self.is_leaving {
            self.seat.publish(has_room.then_some(open));
        }
    }

    /// From now on nothing is handed to this worker, and it keeps what it accepts.
    pub fn leave(&mut self) {
        self.seat.publish(None);
        // Its successor writes there from now on.
        self.seat.publish_wait();
        self.is_leaving = true;
        // What was handed here before has to be looked for once more.
        self.is_empty = false;
    }

    /// Gives a connection to the worker that should have it; it comes back if that is this one, or if the other cannot take it. `open`:
    /// what this worker has, of `max` that each may have.
    pub fn pass(
        &mut self,
        socket: OwnedFd,
        arrival: Arrival,
        open: usize,
        max: usize,
        spread: Spread,
    ) -> Option<OwnedFd> {
        if self.is_leaving {
            return Some(socket);
        }
        let (own, handoff) = (self.seat.index(), self.seat.handoff());
        let open = (open < max).then_some(open);
        // With what was handed here and not looked at yet: else a busy worker keeps all of its own, and gets the others' besides.
        let open = open.map(|open| u32::try_from(open).unwrap_or(u32::MAX).saturating_add(handoff.queued(own)));
        let load = |worker| room(handoff, worker, max, self.asked_at);
        let target = choose(own, open, handoff.workers(), spread, self.last, load);
        if target == own {
            return Some(socket);
        }
        self.last = target;
        handoff.send(target, socket, arrival).err().map(|(socket, _)| socket)
    }

    /// Whether another worker has room.
    pub fn others_have_room(&self, max: usize) -> bool {
        let (own, handoff) = (self.seat.index(), self.seat.handoff());
        let has_room = |worker| room(handoff, worker, max, self.asked_at).is_some();
        !self.is_leaving && (0..handoff.workers()).any(|worker| worker != own && has_room(worker))
    }

    /// The next connection that was handed here.
    ///
    /// # Errors
    /// There is no descriptor for it now.
    pub fn receive(&mut self) -> io::Result<Option<(OwnedFd, Arrival)>> {
        let received = self.seat.receive()?;
        self.is_closed = matches!(received, Received::Closed);
        self.is_empty = !matches!(received, Received::Connection(..));
        Ok(match received {
            Received::Connection(socket, arrival) => Some((socket, arrival)),
            Received::Empty | Received::Closed => None,
        })
    }

    /// Whether this worker is done with its mailbox. One that leaves is when it has seen it empty, after it had said that it
    /// leaves, and also after the mailbox was closed if it was: then there is no successor that would look.
    pub fn is_over(&self) -> bool {
        let has_successor = || !self.seat.handoff().is_closed(self.seat.index());
        self.is_closed || (self.is_leaving && self.is_empty && has_successor())
    }
}

#[cfg(test)]
mod tests;
