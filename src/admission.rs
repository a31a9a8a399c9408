//! Which connections are admitted: listeners that accept or do not, fresh connections that go to other workers or come from them, which
//! one is closed when descriptors run short, and which on a drain. What an admitted connection does is in `connection.rs`; which worker has
//! room is known to `balance.rs`.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use turboapi_platform::handoff::{Arrival, Seat};
use turboapi_platform::{ListenerId, Platform, WatchId};

use crate::balance::{Balance, Spread};
use crate::connection::{Connection, Shared};
use crate::refusals::Refusal;
use crate::timers::{TICK_MILLISECONDS, Tick};

/// On a drain, a connection that was busy so lately may have its next request under way already. It is given
/// `DRAIN_GRACE` before it counts as idle; others are closed at once.
const RECENTLY: Tick = 1000 / TICK_MILLISECONDS;
const DRAIN_GRACE: Tick = 200 / TICK_MILLISECONDS;

/// Where other workers hand connections to this one.
pub(crate) const MAILBOX: WatchId = WatchId(1);

/// One worker's listeners, and its dealings with the others.
#[derive(Debug, Default)]
pub(crate) struct Admission {
    listeners: Vec<Listener>,
    /// None: it is the only worker.
    pub(crate) balance: Option<Balance>,
}

#[derive(Debug)]
struct Listener {
    id: ListenerId,
    accepts: bool,
    spread: Spread,
}

/// The orderly end of a worker, which `Worker::drain` began at `since`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Drain {
    pub(crate) since: Tick,
    pub(crate) deadline: Tick,
    pub(crate) next_step: Tick,
}

impl Admission {
    /// Accepts from a listening socket.
    pub(crate) fn listen<P: Platform>(
        &mut self,
        socket: BorrowedFd<'_>,
        spread: Spread,
        platform: &mut P,
    ) -> io::Result<()> {
        let id = ListenerId(u32::try_from(self.listeners.len()).expect("a worker has few listeners"));
        platform.listen(id, socket)?;
        self.listeners.push(Listener { id, accepts: true, spread });
        Ok(())
    }

    /// Shares connections with the other workers from now on.
    pub(crate) fn join<P: Platform>(&mut self, seat: Seat, platform: &mut P) -> io::Result<()> {
        let mut balance = Balance::new(seat, platform.now());
        platform.watch(MAILBOX, balance.descriptor())?;
        balance.is_watched = true;
        self.balance = Some(balance);
        Ok(())
    }

    /// Whether a listening socket is still accepted from.
    pub(crate) fn listens(&self) -> bool {
        !self.listeners.is_empty()
    }

    /// Whether no connection will be handed here any more.
    pub(crate) fn is_over(&self) -> bool {
        self.balance.as_ref().is_none_or(Balance::is_over)
    }

    /// The platform has let go of a listener: its backlog is empty.
    pub(crate) fn forget(&mut self, listener: ListenerId) {
        self.listeners.retain(|known| known.id != listener);
    }

    /// Begins to refuse: what waits in the backlogs and in the mailbox still comes.
    pub(crate) fn leave<P: Platform>(&mut self, platform: &mut P) {
        if let Some(balance) = &mut self.balance {
            balance.leave();
        }
        for listener in &self.listeners {
            platform.unlisten(listener.id);
        }
    }

    /// Gives a connection to the worker that should have it. It comes back if that is this one, which has so many open.
    pub(crate) fn pass(
        &mut self,
        socket: OwnedFd,
        arrival: Arrival,
        open: usize,
        connections_max: usize,
    ) -> Option<OwnedFd> {
        let Some(balance) = &mut self.balance else { return Some(socket) };
        let known = self.listeners.iter().find(|known| known.id == arrival.listener);
        balance.pass(socket, arrival, open, connections_max, known.map_or(Spread::Kernel, |listener| listener.spread))
    }

    /// Watches the mailbox, or no longer.
    pub(crate) fn watch_mailbox<P: Platform>(&mut self, on: bool, platform: &mut P, now: Tick) {
        let Some(balance) = self.balance.as_mut().filter(|balance| balance.is_watched != on) else { return };
        balance.is_watched = on;
        if !on {
            platform.unwatch(MAILBOX);
        } else if platform.watch(MAILBOX, balance.descriptor()).is_err() {
            balance.is_watched = false;
            self.look_again(now);
        }
    }

    /// Has `is_due` say so in a moment.
    pub(crate) fn look_again(&mut self, now: Tick) {
        if let Some(balance) = self.balance.as_mut().filter(|balance| balance.retry_at.is_none()) {
            // A worker is not told when another one has room again.
            balance.retry_at = Some(now + 1);
        }
    }

    /// Whether it is time to look again for workers that have room, once; the mailbox is then watched.
    pub(crate) fn is_due<P: Platform>(&mut self, platform: &mut P, now: Tick) -> bool {
        let due = |balance: &&mut Balance| balance.retry_at.is_some_and(|at| at <= now);
        let Some(balance) = self.balance.as_mut().filter(due) else { return false };
        balance.retry_at = None;
        if !balance.is_over() {
            self.watch_mailbox(true, platform, now);
        }
        true
    }

    /// So many are open. Over the bound, further connections go to other workers, and wait in the kernel's backlog when all are full.
    pub(crate) fn bound<P: Platform>(&mut self, open: usize, platform: &mut P, shared: &mut Shared) {
        let max = shared.limits.connections_max;
        let has_room = open < max;
        let mut accepts = has_room;
        if let Some(balance) = &self.balance {
            balance.publish(open, has_room);
            accepts = has_room || balance.others_have_room(max);
        }
        if !has_room {
            self.look_again(shared.now);
        }
        let mut has_stopped = false;
        for listener in &mut self.listeners {
            if listener.accepts != accepts {
                listener.accepts = accepts;
                has_stopped = !accepts;
                platform.want_accept(listener.id, accepts);
            }
        }
        if has_stopped {
            shared.refusals.count(Refusal::ConnectionsMax, 1, shared.now);
        }
    }
}

impl Drain {
    /// Whether a connection that no handler answers should end now.
    pub(crate) fn closes(&self, connection: &Connection, shared: &Shared) -> bool {
        let (since, now) = (self.since, shared.now);
        match connection.idle_since() {
            Some(idle_since) => now > since + DRAIN_GRACE || idle_since + RECENTLY < since,
            // A request of which only a part of the head has come within a second will not be answered any more.
            None => now >= since + RECENTLY && connection.has_partial_head(shared),
        }
    }
}

/// Descriptors ran short: the connection that has been idle for longest makes room.
pub(crate) fn least_recently_used<'a>(
    connections: impl Iterator<Item = &'a mut Connection>,
) -> Option<&'a mut Connection> {
    let idle = connections.filter_map(|connection| connection.idle_since().map(|since| (since, connection)));
    // Within a tick one that has had an answer goes first: the request of a fresh one may wait to be read.
    let oldest = idle.min_by_key(|(since, connection)| (*since, connection.requests() == 0));
    oldest.map(|(_, connection)| connection)
}
