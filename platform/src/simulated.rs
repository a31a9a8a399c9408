//! A platform without a kernel whose weather is drawn from a seed: it reorders, cuts, delays, shortens, starves and breaks,
//! within what the contract allows, on a clock of its own. The same seed gives the same run on every machine.
//!
//! The worker owns the [`Simulated`] (inside a [`crate::referee::Referee`], which checks both sides), the test keeps its
//! [`Network`]: peers that connect, send, read, end and reset. What peers say is the test's business, as is all HTTP. A fixed
//! list of events is in `script.rs`.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::lingering::LINGER_BYTES_MAX;
use crate::pool::ReceivePool;
use crate::script::ScriptWaker;
use crate::{Close, ConnectionId, Event, IoConfig, ListenerId, OutBuf, Platform, RxBuf, Wait, WatchId};

/// Microseconds since the run began.
pub type Moment = u64;

/// Buffers that one peer may fill in one turn, and `Data` that may follow `want_read(false)`: what the contract allows.
const READS_PER_TURN: u32 = 4;
/// As the real backends: how long accepting rests when descriptors run short.
const ACCEPT_BACK_OFF: Moment = 75_000;

/// Splitmix64: small, quick, and the same everywhere.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// A stream of numbers of its own for each seed.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `limit`, which is not 0.
    pub fn below(&mut self, limit: u64) -> u64 {
        ((u128::from(self.draw()) * u128::from(limit)) >> 64) as u64
    }

    /// True so many times out of 256.
    pub fn chance(&mut self, of_256: u8) -> bool {
        of_256 > 0 && self.below(256) < u64::from(of_256)
    }

    /// One of these.
    pub fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len() as u64) as usize]
    }
}

/// How the kernel and the way to it behave in one run. Chances are out of 256.
#[derive(Clone, Copy, Debug, Default)]
pub struct Weather {
    /// Microseconds that a segment or a completion may take.
    pub latency_max: Moment,
    /// That something which is due is not told in this turn.
    pub holds: u8,
    /// That received bytes are cut shorter than the buffer.
    pub cuts: u8,
    /// That there is no receive buffer, though one is free (another worker's traffic, ENOBUFS).
    pub starves: u8,
    /// That a turn comes back with nothing.
    pub empties: u8,
    /// That the kernel takes less of a send than it has room for.
    pub shortens: u8,
    /// That a reset destroys what the peer has not read yet, or what was not told yet.
    pub loses: u8,
    /// That `Data` and `Eof` still follow `want_read(false)`.
    pub overshoots: u8,
    /// That accepting fails for want of descriptors.
    pub stalls: u8,
    /// That a connection cannot be adopted.
    pub adopt_fails: u8,
}

/// How a peer takes what is sent to it.
#[derive(Clone, Copy, Debug)]
pub struct Reader {
    /// Bytes that the two kernels hold between us.
    pub window: usize,
    /// Bytes of one read.
    pub bytes: usize,
    /// Microseconds between two reads.
    pub pause: Moment,
    /// After so many bytes it reads no more.
    pub stops_after: usize,
}

impl Reader {
    /// One that keeps up.
    pub const PROMPT: Self = Self { window: 1 << 20, bytes: usize::MAX, pause: 0, stops_after: usize::MAX };
}

/// The other end of a simulated connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer(pub usize);

/// What a connection was told and was asked, with the time of each: what a judge needs afterwards.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// When it was adopted.
    pub adopted_at: Option<Moment>,
    /// Each `Data`: when, and how many bytes until then.
    pub data: Vec<(Moment, usize)>,
    /// When `Eof` was told.
    pub eof_at: Option<Moment>,
    /// When `Error` was told.
    pub error_at: Option<Moment>,
    /// When `Closed` was told.
    pub closed_at: Option<Moment>,
    /// Each send, in order.
    pub sends: Vec<SendRecord>,
    /// Each close that was asked for.
    pub closes: Vec<(Moment, Close)>,
    /// A reset took bytes from the peer that it had not read.
    pub lost: bool,
}

/// One send.
#[derive(Clone, Copy, Debug)]
pub struct SendRecord {
    /// When it was asked for.
    pub asked_at: Moment,
    /// Bytes of the connection with this one.
    pub end: usize,
    /// When `Sent` was told.
    pub told_at: Option<Moment>,
}

/// Names each thing that may happen, for counting.
macro_rules! happenings {
    ($($name:ident $text:literal)+) => {
        /// What the weather did.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[expect(missing_docs, reason = "the texts below say it")]
        pub enum Happening { $($name),+ }

        impl Happening {
            /// All of them, with what they are.
            pub const ALL: &'static [(Happening, &'static str)] = &[$((Happening::$name, $text)),+];
        }
    };
}

happenings! {
    Cut "data cut short of its buffer"
    Starved "no receive buffer (ENOBUFS)"
    Held "event held back for a turn"
    EmptyTurn "turn with nothing"
    Shortened "send shortened"
    WindowFull "send waits for a slow reader"
    PeerReset "connection failed (ECONNRESET and others)"
    ResetInSend "failed with a send in flight (ECANCELED)"
    ResetWhileClosing "failed while it was closing"
    SentAfterClose "Sent after close was asked for"
    Eof "peer half-closed"
    DataAfterPause "Data after reading was paused"
    Paused "reading paused"
    AcceptStalled "accept stalled (EMFILE)"
    AdoptFailed "adopt failed"
    SlotReused "slot used again"
    BacklogWaited "connection waited in the backlog"
    ListenerFailed "listener failed"
    LingerTime "linger ended by time"
    LingerBytes "linger ended by bytes"
    LostBytes "reset took unread bytes from the peer"
    Woken "woken"
}

#[derive(Debug)]
enum Travel {
    Bytes(Vec<u8>),
    End,
    Reset(i32),
}

#[derive(Debug)]
enum Completion {
    Sent(OutBuf),
    Error(i32),
    Closed,
}

/// One connection between a peer and the worker.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts about one connection; most of their mixes occur")]
struct Wire {
    accepted_as: Option<RawFd>,
    connection: Option<ConnectionId>,
    socket: Option<OwnedFd>,
    under_way: VecDeque<(Moment, Travel)>,
    coming: VecDeque<u8>,
    has_ended: bool,
    has_failed: bool,
    told_of_failure: bool,
    pauses_reading: bool,
    overshoot: u32,
    /// Reads of this turn.
    reads: u32,
    /// Not told before.
    data_at: Moment,
    sending: Option<OutBuf>,
    /// All that the worker sent. INVARIANT: `read <= taken <= out.len()`.
    out: Vec<u8>,
    taken: usize,
    read: usize,
    take_at: Moment,
    read_at: Moment,
    reader: Reader,
    completions: VecDeque<(Moment, Completion)>,
    closing: Option<Close>,
    lingers: Option<(Moment, usize)>,
    is_released: bool,
    history: History,
}

#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts about one listener")]
struct Listener {
    id: ListenerId,
    accepts: bool,
    is_ending: bool,
    fails: bool,
    backlog: VecDeque<Peer>,
    retry_at: Moment,
    told_of_stall: bool,
}

#[derive(Debug)]
struct State {
    started: Instant,
    now: Moment,
    random: Random,
    weather: Weather,
    wires: Vec<Wire>,
    listeners: Vec<Listener>,
    null: File,
    counts: [u32; Happening::ALL.len()],
    hash: u64,
    trace: Option<Vec<String>>,
    slots_used: u64,
}

/// The platform. See the module.
#[derive(Debug)]
pub struct Simulated {
    pool: ReceivePool,
    state: Rc<RefCell<State>>,
    waker: ScriptWaker,
    /// Wires that may have something to tell, while one turn looks; kept for its memory.
    candidates: Vec<usize>,
}

/// The test's side of a [`Simulated`].
#[derive(Clone, Debug)]
pub struct Network {
    state: Rc<RefCell<State>>,
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
        };
        let (state, waker) = (Rc::new(RefCell::new(state)), ScriptWaker::default());
        Ok(Self { pool: ReceivePool::new(config)?, state, waker, candidates: Vec::new() })
    }

    /// The test's side of it.
    #[must_use]
    pub fn network(&self) -> Network {
        Network { state: Rc::clone(&self.state) }
    }
}

impl Network {
    /// Microseconds since the run began.
    #[must_use]
    pub fn now(&self) -> Moment {
        self.state.borrow().now
    }

    /// Time passes without a turn: a handler computes.
    pub fn pass(&self, time: Moment) {
        self.state.borrow_mut().now += time;
    }

    /// A peer connects, and is accepted when the worker gets to it. None where nobody listens any more.
    #[must_use]
    pub fn connect(&self, listener: ListenerId, reader: Reader) -> Option<Peer> {
        let mut state = self.state.borrow_mut();
        let peer = Peer(state.wires.len());
        let listener = state.listeners.iter_mut().find(|known| known.id == listener && !known.is_ending)?;
        let waits = !listener.accepts;
        listener.backlog.push_back(peer);
        if waits {
            state.count(Happening::BacklogWaited);
        }
        state.wires.push(Wire::new(reader));
        state.note("peer connects", peer.0 as u64, 0);
        Some(peer)
    }

    /// A peer writes.
    pub fn write(&self, peer: Peer, bytes: &[u8]) {
        self.state.borrow_mut().travel(peer, "peer writes", bytes.len(), Travel::Bytes(bytes.to_vec()));
    }

    /// A peer ends its sending side.
    pub fn end(&self, peer: Peer) {
        self.state.borrow_mut().travel(peer, "peer ends", 0, Travel::End);
    }

    /// The connection breaks. What the worker is told of it is this `errno`.
    pub fn reset(&self, peer: Peer, code: i32) {
        self.state.borrow_mut().travel(peer, "peer resets", 0, Travel::Reset(code));
    }

    /// A listener breaks.
    pub fn fail_listener(&self, listener: ListenerId) {
        let mut state = self.state.borrow_mut();
        for known in state.listeners.iter_mut().filter(|known| known.id == listener) {
            known.fails = true;
        }
    }

    /// Looks at what a peer has read so far.
    pub fn with_read<T>(&self, peer: Peer, look: impl FnOnce(&[u8]) -> T) -> T {
        let state = self.state.borrow();
        let wire = &state.wires[peer.0];
        look(&wire.out[..wire.read])
    }

    /// Looks at all that the worker sent to a peer, read or not, how much of it was read, and the connection's history.
    pub fn with_history<T>(&self, peer: Peer, look: impl FnOnce(&[u8], usize, &History) -> T) -> T {
        let state = self.state.borrow();
        let wire = &state.wires[peer.0];
        look(&wire.out, wire.read, &wire.history)
    }

    /// The id that the worker gave to this peer's connection.
    #[must_use]
    pub fn connection(&self, peer: Peer) -> Option<ConnectionId> {
        self.state.borrow().wires[peer.0].connection
    }

    /// Whether the worker's side of it is closed, or it was never accepted and never will be.
    #[must_use]
    pub fn is_over(&self, peer: Peer) -> bool {
        let state = self.state.borrow();
        let wire = &state.wires[peer.0];
        wire.is_released
            || (wire.connection.is_none() && state.listeners.iter().all(|one| !one.backlog.contains(&peer)))
    }

    /// Whether the peer can see that the connection is over: all that was sent and not lost is read.
    #[must_use]
    pub fn is_over_for_peer(&self, peer: Peer) -> bool {
        let wire_is_read = {
            let state = self.state.borrow();
            let wire = &state.wires[peer.0];
            wire.read == wire.taken || wire.has_failed || !wire.is_reading()
        };
        wire_is_read && self.is_over(peer)
    }

    /// Draws from the run's own stream.
    pub fn draw<T>(&self, draw: impl FnOnce(&mut Random) -> T) -> T {
        draw(&mut self.state.borrow_mut().random)
    }

    /// Writes a line into the trace, and into its hash.
    pub fn note(&self, what: &'static str, whom: u64, amount: u64) {
        self.state.borrow_mut().note(what, whom, amount);
    }

    /// How often this happened.
    #[must_use]
    pub fn count(&self, what: Happening) -> u32 {
        self.state.borrow().counts[what as usize]
    }

    /// A number that two runs share only if the same things happened at the same times.
    #[must_use]
    pub fn hash(&self) -> u64 {
        let state = self.state.borrow();
        state.wires.iter().fold(state.hash, |hash, wire| mix(mix(hash, wire.out.len() as u64), sum(&wire.out)))
    }

    /// The lines of the trace, if it is kept.
    #[must_use]
    pub fn take_trace(&self) -> Vec<String> {
        self.state.borrow_mut().trace.take().unwrap_or_default()
    }
}

fn mix(hash: u64, value: u64) -> u64 {
    (hash ^ value).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29)
}

/// Depends on each byte and its place; eight at a time.
fn sum(bytes: &[u8]) -> u64 {
    let words = bytes.chunks(8).map(|chunk| {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        u64::from_le_bytes(word)
    });
    words.fold(0, mix)
}

impl Wire {
    fn new(reader: Reader) -> Self {
        Self {
            accepted_as: None,
            connection: None,
            socket: None,
            under_way: VecDeque::new(),
            coming: VecDeque::new(),
            has_ended: false,
            has_failed: false,
            told_of_failure: false,
            pauses_reading: false,
            overshoot: 0,
            reads: 0,
            data_at: 0,
            sending: None,
            out: Vec::new(),
            taken: 0,
            read: 0,
            take_at: 0,
            read_at: 0,
            reader,
            completions: VecDeque::new(),
            closing: None,
            lingers: None,
            is_released: false,
            history: History::default(),
        }
    }

    fn is_reading(&self) -> bool {
        self.read < self.reader.stops_after
    }

    fn room(&self) -> usize {
        self.reader.window.saturating_sub(self.taken - self.read)
    }

    /// Whether there are bytes, or an end, that the worker may be told of now.
    fn has_data(&self) -> bool {
        let may_be_told = self.connection.is_some()
            && self.closing.is_none()
            && !self.told_of_failure
            && (!self.pauses_reading || self.overshoot > 0);
        let has_end = self.has_ended && self.history.eof_at.is_none() && !self.has_failed;
        may_be_told && (!self.coming.is_empty() || has_end)
    }

    fn complete(&mut self, at: Moment, completion: Completion) {
        let at = self.completions.back().map_or(at, |(last, _)| at.max(*last));
        self.completions.push_back((at, completion));
    }

    /// When something may happen to it that has not yet.
    fn next_due(&self) -> Option<Moment> {
        let adopted = self.connection.is_some();
        let travels = self.under_way.front().filter(|_| adopted).map(|(at, _)| *at);
        let completes = self.completions.front().map(|(at, _)| *at);
        let tells = self.has_data().then_some(self.data_at);
        let reads = (self.read < self.taken && self.is_reading() && !self.has_failed).then_some(self.read_at);
        let takes = (self.sending.is_some() && self.room() > 0).then_some(self.take_at);
        let lingers = self.lingers.filter(|_| !self.is_released).map(|(at, _)| at);
        [travels, completes, tells, reads, takes, lingers].into_iter().flatten().min()
    }
}

impl State {
    fn count(&mut self, what: Happening) {
        self.counts[what as usize] += 1;
    }

    fn note(&mut self, what: &'static str, whom: u64, amount: u64) {
        self.hash = mix(mix(mix(mix(self.hash, self.now), sum(what.as_bytes())), whom), amount);
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{:>12.6} s  {what} {whom:#x} {amount}", Duration::from_micros(self.now).as_secs_f64()));
        }
    }

    fn latency(&mut self) -> Moment {
        let max = self.weather.latency_max;
        if max == 0 { 0 } else { self.random.below(max) }
    }

    fn travel(&mut self, peer: Peer, what: &'static str, amount: usize, travel: Travel) {
        self.note(what, peer.0 as u64, amount as u64);
        let at = self.now + self.latency();
        let wire = &mut self.wires[peer.0];
        let at = wire.under_way.back().map_or(at, |(last, _)| at.max(*last));
        wire.under_way.push_back((at, travel));
    }

    fn of(&mut self, id: ConnectionId) -> Option<usize> {
        self.wires.iter().position(|wire| wire.connection == Some(id) && wire.history.closed_at.is_none())
    }

    /// Lets everything happen to one wire that is due, but for the telling.
    fn work(&mut self, index: usize) {
        if self.wires[index].connection.is_none() {
            return;
        }
        while self.wires[index].under_way.front().is_some_and(|(at, _)| *at <= self.now) {
            if let Some((_, travel)) = self.wires[index].under_way.pop_front() {
                self.arrive(index, travel);
            }
        }
        // Reading makes room, and room lets the kernel take more.
        while self.read(index) | self.take(index) {}
        self.go_on_closing(index);
    }

    fn arrive(&mut self, index: usize, travel: Travel) {
        let wire = &mut self.wires[index];
        match travel {
            Travel::Bytes(_) if wire.is_released => self.destroy_unread(index),
            Travel::Bytes(bytes) => {
                if let Some((until, left)) = &mut wire.lingers {
                    let was_left = std::mem::replace(left, left.saturating_sub(bytes.len()));
                    if *left == 0 && was_left > 0 {
                        *until = self.now;
                        // What stands behind these 64 KiB is answered by a reset.
                        wire.coming.push_back(0);
                        self.count(Happening::LingerBytes);
                    }
                } else if !wire.has_failed {
                    wire.coming.extend(bytes);
                }
            }
            Travel::End => {
                wire.has_ended = true;
                self.count(Happening::Eof);
            }
            Travel::Reset(code) => self.fail(index, code),
        }
    }

    /// A reset reaches the peer: on many systems that ends what it had not read yet.
    fn destroy_unread(&mut self, index: usize) {
        let loses = self.random.chance(self.weather.loses);
        let wire = &mut self.wires[index];
        if loses && wire.read < wire.out.len() {
            (wire.history.lost, wire.taken) = (true, wire.read);
            self.count(Happening::LostBytes);
        }
    }

    fn fail(&mut self, index: usize, code: i32) {
        let loses = self.random.chance(self.weather.loses);
        let at = self.now + self.latency();
        let wire = &mut self.wires[index];
        if wire.is_released || wire.has_failed {
            return;
        }
        wire.has_failed = true;
        if loses {
            wire.coming.clear();
            wire.completions.retain(|(_, completion)| !matches!(completion, Completion::Sent(_)));
        }
        let was_sending = wire.sending.take().is_some();
        if wire.closing.is_some() {
            self.count(Happening::ResetWhileClosing);
            self.release(index);
            return;
        }
        wire.complete(at, Completion::Error(code));
        self.count(Happening::PeerReset);
        if was_sending {
            self.count(Happening::ResetInSend);
        }
    }

    /// The peer reads; whether it did.
    fn read(&mut self, index: usize) -> bool {
        let now = self.now;
        let wire = &mut self.wires[index];
        if wire.read == wire.taken || !wire.is_reading() || wire.has_failed || wire.read_at > now {
            return false;
        }
        let bytes = (wire.taken - wire.read).min(wire.reader.bytes).min(wire.reader.stops_after - wire.read);
        wire.read += bytes;
        wire.read_at = now + wire.reader.pause;
        true
    }

    /// The kernel takes of the present send what it has room for; whether it took any.
    fn take(&mut self, index: usize) -> bool {
        let wire = &self.wires[index];
        if wire.sending.is_none() || wire.take_at > self.now || (wire.room() == 0 && wire.taken < wire.out.len()) {
            return false;
        }
        let all = wire.out.len() - wire.taken;
        let mut bytes = all.min(wire.room());
        let is_full = bytes < all;
        if bytes > 1 && self.random.chance(self.weather.shortens) {
            bytes = 1 + self.random.below(bytes as u64 - 1) as usize;
            self.wires[index].take_at = self.now + 1 + self.latency();
            self.count(Happening::Shortened);
        } else if is_full {
            self.count(Happening::WindowFull);
        }
        let at = self.now + self.latency();
        let wire = &mut self.wires[index];
        wire.taken += bytes;
        if wire.taken == wire.out.len() {
            if let Some(out) = wire.sending.take() {
                wire.complete(at, Completion::Sent(out));
            }
        }
        true
    }

    fn go_on_closing(&mut self, index: usize) {
        let now = self.now;
        let wire = &mut self.wires[index];
        if wire.is_released || wire.sending.is_some() {
            return;
        }
        let is_over = match (wire.closing, wire.lingers) {
            (None, _) => false,
            (Some(Close::Abort | Close::AfterSend), _) => true,
            (Some(Close::Linger(time)), None) => {
                let left = LINGER_BYTES_MAX.saturating_sub(wire.coming.len());
                wire.coming.clear();
                wire.lingers = Some((now + time.as_micros() as Moment, left));
                wire.has_ended || time.is_zero()
            }
            (Some(Close::Linger(_)), Some((until, left))) => {
                let is_over_by_time = until <= now && !wire.has_ended && left > 0;
                if is_over_by_time {
                    self.counts[Happening::LingerTime as usize] += 1;
                }
                wire.has_ended || until <= now
            }
        };
        if is_over {
            self.release(index);
        }
    }

    /// The kernel closes the socket. Bytes that nobody read turn that into a reset.
    fn release(&mut self, index: usize) {
        let at = self.now + self.latency();
        let wire = &mut self.wires[index];
        let is_reset = wire.closing == Some(Close::Abort) || !wire.coming.is_empty();
        wire.is_released = true;
        wire.socket = None;
        wire.complete(at, Completion::Closed);
        if is_reset {
            self.destroy_unread(index);
        }
    }

    /// Tells one completion of a wire, if one is due.
    fn tell_completion(&mut self, index: usize, events: &mut Vec<Event>) -> bool {
        let now = self.now;
        let wire = &mut self.wires[index];
        let Some(connection) = wire.connection else { return false };
        if wire.completions.front().is_none_or(|(at, _)| *at > now) {
            return false;
        }
        let Some((_, completion)) = wire.completions.pop_front() else { return false };
        match completion {
            Completion::Sent(out) => {
                let record = wire.history.sends.iter_mut().find(|record| record.told_at.is_none());
                let bytes = out.len() as u64;
                if let Some(record) = record {
                    record.told_at = Some(now);
                }
                let is_late = wire.closing.is_some();
                events.push(Event::Sent { connection, out });
                self.note("Sent", connection.bits(), bytes);
                if is_late {
                    self.count(Happening::SentAfterClose);
                }
            }
            Completion::Error(code) => {
                // Closed meanwhile: only `Closed` follows, and `close` has seen to it.
                wire.coming.clear();
                wire.told_of_failure = true;
                wire.history.error_at = Some(now);
                events.push(Event::Error { connection, error: io::Error::from_raw_os_error(code) });
                self.note("Error", connection.bits(), code as u64);
            }
            Completion::Closed => {
                wire.history.closed_at = Some(now);
                events.push(Event::Closed { connection });
                self.note("Closed", connection.bits(), 0);
            }
        }
        true
    }

    fn accept(&mut self, events: &mut Vec<Event>) {
        let mut at = 0;
        while at < self.listeners.len() {
            if self.accept_from(at, events) {
                at += 1;
            } else {
                self.listeners.swap_remove(at);
            }
        }
    }

    /// Whether the listener goes on.
    fn accept_from(&mut self, at: usize, events: &mut Vec<Event>) -> bool {
        let id = self.listeners[at].id;
        if self.listeners[at].fails {
            self.note("ListenerGone", id.0.into(), 1);
            self.count(Happening::ListenerFailed);
            events.push(Event::ListenerGone { listener: id, error: Some(io::ErrorKind::InvalidInput.into()) });
            return false;
        }
        while (self.listeners[at].accepts || self.listeners[at].is_ending)
            && self.listeners[at].retry_at <= self.now
            && !self.listeners[at].backlog.is_empty()
        {
            if self.random.chance(self.weather.stalls) {
                self.listeners[at].retry_at = self.now + ACCEPT_BACK_OFF;
                if !std::mem::replace(&mut self.listeners[at].told_of_stall, true) {
                    self.note("AcceptStalled", id.0.into(), 0);
                    self.count(Happening::AcceptStalled);
                    let error = io::Error::from_raw_os_error(libc::EMFILE);
                    events.push(Event::AcceptStalled { listener: id, error });
                }
                return true;
            }
            let Some(peer) = self.listeners[at].backlog.pop_front() else { break };
            let socket = OwnedFd::from(self.null.try_clone().expect("a simulation has a descriptor left"));
            self.wires[peer.0].accepted_as = Some(socket.as_raw_fd());
            self.note("Accepted", peer.0 as u64, 0);
            events.push(Event::Accepted { listener: id, socket, peer: None });
        }
        if self.listeners[at].backlog.is_empty() {
            self.listeners[at].told_of_stall = false;
            if self.listeners[at].is_ending {
                self.note("ListenerGone", id.0.into(), 0);
                events.push(Event::ListenerGone { listener: id, error: None });
                return false;
            }
        }
        true
    }

    fn next_due(&self) -> Option<Moment> {
        let listeners = self.listeners.iter().filter(|listener| {
            listener.fails || listener.is_ending || (listener.accepts && !listener.backlog.is_empty())
        });
        let wires = self.wires.iter().filter_map(Wire::next_due);
        listeners.map(|listener| listener.retry_at).chain(wires).min()
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
    type Waker = ScriptWaker;

    /// Seed 0, and weather that is calm.
    fn open(config: &IoConfig) -> io::Result<Self> {
        Self::new(config, 0, Weather::default(), false)
    }

    fn now(&self) -> Instant {
        let state = self.state.borrow();
        state.started + Duration::from_micros(state.now)
    }

    fn waker(&self) -> ScriptWaker {
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
