//! What a worker is, and its clock. What it does is in `worker`.

use std::collections::VecDeque;
use std::time::{Instant, SystemTime};

use slab::Slab;
use turboapi_platform::{Close, ConnectionId, Event, Platform};

use crate::admission::{Admission, Drain};
use crate::connection::{Connection, Shared};
use crate::timers::{TICK_MILLISECONDS, Tick, Wheel};

/// A peer that takes nothing is first looked at after this part of `write_timeout`, which counts from there.
const LOOKS: Tick = 16;

/// One core's server.
#[derive(Debug)]
pub struct Worker<P: Platform> {
    pub(super) platform: P,
    pub(super) shared: Shared,
    pub(super) connections: Slab<Slot>,
    pub(super) generation: u32,
    pub(super) events: Vec<Event>,
    /// Connections that have had their share while requests of theirs wait.
    pub(super) waiting: VecDeque<ConnectionId>,
    pub(super) wheel: Wheel,
    pub(super) due: Vec<u32>,
    pub(super) started: Instant,
    pub(super) admission: Admission,
    pub(super) spare: Vec<Vec<u8>>,
    pub(super) drain: Option<Drain>,
    /// When the last dispatch began.
    pub(super) dispatched_at: Tick,
    /// And the one before it.
    pub(super) dispatched_before: Tick,
    pub(super) statistics: Statistics,
}

#[derive(Debug)]
pub(super) struct Slot {
    pub(super) connection: Connection,
    pub(super) asked_to_close: Option<Close>,
    /// It stands in `Worker::waiting`.
    pub(super) is_waiting: bool,
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

    pub(super) fn set_time(&mut self) -> Instant {
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
}

pub(super) fn find(connections: &mut Slab<Slot>, id: ConnectionId) -> Option<&mut Slot> {
    connections.get_mut(id.slot() as usize).filter(|slot| slot.connection.id() == id)
}
