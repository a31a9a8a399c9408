//! A platform without a kernel whose weather is drawn from a seed: it reorders, cuts, delays, shortens, starves and breaks,
//! within what the contract allows, on a clock of its own. The same seed gives the same run on every machine.
//!
//! The worker owns the [`Simulated`] (inside a [`crate::fakes::referee::Referee`], which checks both sides), the test keeps its
//! [`Network`]: peers that connect, send, read, end and reset. What peers say is the test's business, as is all HTTP. A fixed
//! list of events is in `script.rs`. Here is what the worker sees, and in which order it is told; what happens to its
//! connections meanwhile is in `simulated/state.rs`.

// From the top: each imports only what is further down.
mod network;
mod state;
mod wire;
mod weather;
mod random;
mod moment;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::waker::FakeWaker;
use crate::pool::ReceivePool;
use crate::{Close, ConnectionId, Event, IoConfig, ListenerId, OutBuf, Platform, RxBuf, Wait, WatchId};
use state::{Listener, State};
use wire::{Completion, Wire};

pub use moment::Moment;
pub use network::Network;
pub use random::Random;
pub use weather::{Happening, Weather};
pub use wire::{History, Peer, Reader, SendRecord};

/// Buffers that one peer may fill in one turn, and `Data` that may follow `want_read(false)`: what the contract allows.
const READS_PER_TURN: u32 = 4;

/// The platform. See the module.
#[derive(Debug)]
pub struct Simulated {
    pool: ReceivePool,
    state: Rc<RefCell<State>>,
    waker: FakeWaker,
    /// Wires that may have something to tell, while one turn looks; kept for its memory.
    candidates: Vec<usize>,
}

impl Simulated {
    /// A run with this seed and weather; `has_trace` keeps a line for each thing that happens.
    ///
    /// # Errors
    /// When the sizes do not fit, or `/dev/null` cannot be opened (it stands in for sockets).
    pub fn new(config: &IoConfig, seed: u64, weather: Weather, has_trace: bool) -> io::Result<Self> {
        let state = State {
            started: Instant::now(),
            now: 0,
            random: Random::new(seed ^ 0x6b65_726e_656c),
            weather,
            wires: Vec::new(),
            listeners: Vec::new(),
            null: File::open("/dev/null")?,
            counts: [0; Happening::ALL.len()],
            hash: 0xcbf2_9ce4_8422_2325,
            trace: has_trace.then(Vec::new),
            slots_used: 0,
            linger_bytes_max: config.linger_bytes_max,
        };
        let (state, waker) = (Rc::new(RefCell::new(state)), FakeWaker::default());
        Ok(Self { pool: ReceivePool::new(config)?, state, waker, candidates: Vec::new() })
    }

    /// The test's side of it.
    #[must_use]
    pub fn network(&self) -> Network {
        Network { state: Rc::clone(&self.state) }
    }
}

impl Simulated {
    /// Tells one thing of a wire, if one is due.
    fn tell(&mut self, index: usize, events: &mut Vec<Event>) -> bool {
        let mut state = self.state.borrow_mut();
        let state = &mut *state;
        let wire = &state.wires[index];
        let has_completion = wire.completions.front().is_some_and(|(at, _)| *at <= state.now);
        let has_data = wire.has_data() && wire.data_at <= state.now && wire.reads < READS_PER_TURN;
        if !has_completion && !has_data {
            return false;
        }
        if state.random.chance(state.weather.holds) {
            state.count(Happening::Held);
            let at = state.now + 1 + state.latency();
            let wire = &mut state.wires[index];
            wire.data_at = at;
            if let Some((due, _)) = wire.completions.front_mut() {
                *due = at.max(*due);
            }
            return false;
        }
        if has_completion && (!has_data || state.random.chance(128)) {
            return state.tell_completion(index, events);
        }
        let wire = &mut state.wires[index];
        let Some(connection) = wire.connection else { return false };
        if wire.coming.is_empty() {
            wire.history.eof_at = Some(state.now);
            state.note("Eof", connection.bits(), 0);
            events.push(Event::Eof { connection });
            return true;
        }
        let starves = state.random.chance(state.weather.starves);
        let Some(buffer) = (if starves { None } else { self.pool.take() }) else {
            state.count(Happening::Starved);
            state.wires[index].data_at = state.now + 1;
            return false;
        };
        let piece = self.pool.piece_mut(buffer);
        let wire = &mut state.wires[index];
        let mut bytes = wire.coming.len().min(piece.len());
        if bytes > 1 && state.random.chance(state.weather.cuts) {
            bytes = 1 + state.random.below(bytes as u64 - 1) as usize;
            state.counts[Happening::Cut as usize] += 1;
        }
        for (to, from) in piece.iter_mut().zip(wire.coming.drain(..bytes)) {
            *to = from;
        }
        wire.reads += 1;
        let total = wire.history.data.last().map_or(0, |(_, total)| *total) + bytes;
        wire.history.data.push((state.now, total));
        if wire.pauses_reading {
            wire.overshoot -= 1;
            state.count(Happening::DataAfterPause);
        }
        state.note("Data", connection.bits(), bytes as u64);
        events.push(Event::Data { connection, buffer: RxBuf { index: buffer, offset: 0, len: bytes as u32 } });
        true
    }

    /// Tells what is due at this moment, connections in random order, the order of each its own.
    fn tell_all(&mut self, events: &mut Vec<Event>) {
        let mut candidates = std::mem::take(&mut self.candidates);
        {
            let mut state = self.state.borrow_mut();
            for index in 0..state.wires.len() {
                state.work(index);
                if state.wires[index].history.closed_at.is_none() {
                    state.wires[index].reads = 0;
                    candidates.push(index);
                }
            }
            if state.random.chance(128) {
                state.accept(events);
            }
        }
        while !candidates.is_empty() {
            let at = self.state.borrow_mut().random.below(candidates.len() as u64) as usize;
            if !self.tell(candidates[at], events) {
                candidates.swap_remove(at);
            }
        }
        self.state.borrow_mut().accept(events);
        self.candidates = candidates;
    }
}

impl Platform for Simulated {
    const NAME: &'static str = "simulated";
    type Waker = FakeWaker;

    /// Seed 0, and weather that is calm.
    fn open(config: &IoConfig) -> io::Result<Self> {
        Self::new(config, 0, Weather::default(), false)
    }

    fn now(&self) -> Instant {
        let state = self.state.borrow();
        state.started + Duration::from_micros(state.now)
    }

    fn waker(&self) -> FakeWaker {
        self.waker.clone()
    }

    fn listen(&mut self, id: ListenerId, _socket: BorrowedFd<'_>) -> io::Result<()> {
        let mut state = self.state.borrow_mut();
        if state.listeners.iter().any(|known| known.id == id) {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, format!("listener {} is in use", id.0)));
        }
        state.listeners.push(Listener {
            id,
            accepts: true,
            is_ending: false,
            fails: false,
            backlog: VecDeque::new(),
            retry_at: 0,
            told_of_stall: false,
        });
        Ok(())
    }

    fn unlisten(&mut self, id: ListenerId) {
        let mut state = self.state.borrow_mut();
        state.note("unlisten", id.0.into(), 0);
        for known in state.listeners.iter_mut().filter(|known| known.id == id) {
            known.is_ending = true;
        }
    }

    fn want_accept(&mut self, id: ListenerId, on: bool) {
        let mut state = self.state.borrow_mut();
        state.note("want_accept", id.0.into(), on.into());
        for known in state.listeners.iter_mut().filter(|known| known.id == id) {
            known.accepts = on;
        }
    }

    fn adopt(&mut self, id: ConnectionId, socket: OwnedFd) -> io::Result<()> {
        let mut state = self.state.borrow_mut();
        let state = &mut *state;
        let in_use = |wire: &Wire| wire.connection.is_some_and(|known| known.slot() == id.slot());
        if state.wires.iter().any(|wire| in_use(wire) && wire.history.closed_at.is_none()) {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, format!("slot {} is in use", id.slot())));
        }
        let descriptor = Some(socket.as_raw_fd());
        let known = state.wires.iter().position(|wire| wire.accepted_as == descriptor);
        let index = known.unwrap_or_else(|| {
            state.wires.push(Wire::new(Reader::PROMPT));
            state.wires.len() - 1
        });
        state.wires[index].accepted_as = None;
        if state.random.chance(state.weather.adopt_fails) {
            state.note("adopt fails", id.bits(), index as u64);
            state.count(Happening::AdoptFailed);
            return Err(io::Error::from_raw_os_error(libc::ENOMEM));
        }
        let bit = 1_u64 << (id.slot() % 64);
        if state.slots_used & bit != 0 {
            state.count(Happening::SlotReused);
        }
        state.slots_used |= bit;
        state.note("adopt", id.bits(), index as u64);
        let now = state.now;
        let wire = &mut state.wires[index];
        (wire.connection, wire.socket, wire.history.adopted_at) = (Some(id), Some(socket), Some(now));
        Ok(())
    }

    fn want_read(&mut self, id: ConnectionId, on: bool) {
        let mut state = self.state.borrow_mut();
        let state = &mut *state;
        state.note("want_read", id.bits(), on.into());
        let overshoots = state.random.chance(state.weather.overshoots);
        let overshoot = if overshoots { 1 + state.random.below(READS_PER_TURN.into()) as u32 } else { 0 };
        if !on {
            state.count(Happening::Paused);
        }
        if let Some(index) = state.of(id) {
            (state.wires[index].pauses_reading, state.wires[index].overshoot) = (!on, overshoot);
        }
    }

    fn send(&mut self, id: ConnectionId, out: OutBuf) {
        let mut state = self.state.borrow_mut();
        let state = &mut *state;
        state.note("send", id.bits(), out.len() as u64);
        let at = state.now;
        let Some(index) = state.of(id) else { return };
        let wire = &mut state.wires[index];
        if wire.closing.is_some() || wire.told_of_failure {
            return;
        }
        wire.out.extend_from_slice(&out.head);
        wire.out.extend_from_slice(&out.body);
        wire.history.sends.push(SendRecord { asked_at: at, end: wire.out.len(), told_at: None });
        // Failed, and not told yet: the send is dropped, and the `Error` says so.
        if !wire.has_failed {
            wire.sending = Some(out);
        }
    }

    fn close(&mut self, id: ConnectionId, how: Close) {
        let mut state = self.state.borrow_mut();
        let state = &mut *state;
        let time = if let Close::Linger(time) = how { time.as_micros() as u64 } else { 0 };
        let name = match how {
            Close::AfterSend => "close after send",
            Close::Linger(_) => "close lingering",
            Close::Abort => "close by abort",
        };
        state.note(name, id.bits(), time);
        let now = state.now;
        let loses = state.random.chance(state.weather.loses);
        let Some(index) = state.of(id) else { return };
        let wire = &mut state.wires[index];
        if wire.closing.is_some() && how != Close::Abort {
            return;
        }
        wire.closing = Some(how);
        wire.history.closes.push((now, how));
        // An `Error` that was not told yet is not told any more.
        let before = wire.completions.len();
        wire.completions.retain(|(_, completion)| !matches!(completion, Completion::Error(_)));
        let had_failed = wire.told_of_failure || wire.completions.len() < before;
        if how == Close::Abort {
            wire.sending = None;
            // One that had left already may be told, or not.
            if loses {
                wire.completions.retain(|(_, completion)| !matches!(completion, Completion::Sent(_)));
            }
        }
        if had_failed && !wire.is_released {
            state.release(index);
        }
    }

    /// Nothing is ever readable here: `script.rs` and the real backends have watches.
    fn watch(&mut self, _: WatchId, _: RawFd) -> io::Result<()> {
        Ok(())
    }

    fn unwatch(&mut self, _: WatchId) {}

    fn turn(&mut self, wait: Wait, events: &mut Vec<Event>) -> io::Result<()> {
        let told_before = events.len();
        let limit = {
            let mut state = self.state.borrow_mut();
            let state = &mut *state;
            let limit = match wait {
                Wait::Poll => Some(state.now),
                Wait::For(time) => Some(state.now + time.as_nanos().div_ceil(1000) as Moment),
                Wait::Forever => None,
            };
            // No turn takes no time at all: so repeated polls make progress.
            state.now += 1 + state.random.below(20);
            if state.random.chance(state.weather.empties) {
                state.count(Happening::EmptyTurn);
                return Ok(());
            }
            limit
        };
        if self.waker.take() {
            let mut state = self.state.borrow_mut();
            state.note("Woken", 0, 0);
            state.count(Happening::Woken);
            events.push(Event::Woken);
        }
        loop {
            self.tell_all(events);
            if events.len() > told_before {
                return Ok(());
            }
            let mut state = self.state.borrow_mut();
            let due = state.next_due().map(|due| due.max(state.now + 1));
            state.now = match (due, limit) {
                (Some(due), limit) if limit.is_none_or(|limit| due <= limit) => due,
                (_, Some(limit)) => {
                    state.now = state.now.max(limit);
                    return Ok(());
                }
                _ => {
                    let message = "nothing will ever happen, and the worker waits for ever";
                    return Err(io::Error::new(io::ErrorKind::UnexpectedEof, message));
                }
            };
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn rx(&self, buffer: &RxBuf) -> &[u8] {
        self.pool.bytes(buffer)
    }

    fn rx_release(&mut self, buffer: RxBuf) {
        self.pool.put(buffer.index);
    }

    fn finish(self, _deadline: Instant) -> io::Result<()> {
        Ok(())
    }
}
