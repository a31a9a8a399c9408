//! The rules of `Platform`, over every backend that this machine has. One function a rule; `backends!` runs each over all.
//! No sleeping to wait for something, no port by number: a loop turns the platform until what must come has come.

#![allow(clippy::unwrap_used, missing_docs)]
#![expect(
    unsafe_code,
    reason = "one test sends a signal to its own thread, one lowers a limit of a process of its own"
)]

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use turboapi_platform::{
    Close, ConnectionId, Event, IoConfig, ListenerId, OutBuf, Platform, Wait, Wake, WatchId, socket,
};

/// Longer than anything here takes, even on a machine that is busy with something else.
const PATIENCE: Duration = Duration::from_secs(20);
/// A time that must not pass: whoever waits for so long was not woken.
const LONG: Duration = Duration::from_secs(15);
const LISTENER: ListenerId = ListenerId(7);

cfg_if::cfg_if! {
    if #[cfg(target_os = "macos")] {
        type KqueueHere = turboapi_platform::kqueue::Kqueue;
    } else {
        mod kqueue_shim;
        /// The backend as it is, over an imitation of its two system calls; see there what that leaves unproven.
        type KqueueHere = turboapi_platform::readiness::Readiness<turboapi_platform::kqueue::KqueuePoller<kqueue_shim::Shim>>;
    }
}

mod own_process;
mod simulated_bridge;

use own_process::{descriptors, in_own_process};

/// Rules that the simulated kernel keeps too, calm and in a storm, between real sockets.
macro_rules! simulated {
    ($($rule:ident)*) => {
        mod simulated {
            $(#[test] fn $rule() { super::$rule::<super::simulated_bridge::Bridge<false>>(); })*
        }
        mod simulated_storm {
            $(#[test] fn $rule() { super::$rule::<super::simulated_bridge::Bridge<true>>(); })*
        }
    };
}

// Not for it: `a_signal_is_no_error`, as there is no wait that a signal could end; the two rules of watches, which it has not;
// `finish_gives_everything_back` and `exhausted_descriptors_stall_and_recover`, which are about what a real kernel holds: it holds
// nothing, and draws when accepting stalls; `adopts_a_socketpair`, as nothing leaves at its `flush`; `large_body_reaches_a_slow_reader` and
// `close_waits_for_the_send`, whose peers read on when nobody turns any more: what was sent may then still be in the bridge.
simulated! {
    accepts_and_echoes data_keeps_order_under_random_cuts eof_comes_once_and_last closed_comes_once
    sends_of_two_parts_arrive_in_order want_read_has_a_bound a_starved_pool_recovers
    poll_never_blocks_and_makes_progress a_time_out_is_never_early wakes_are_one_and_end_a_wait
    unlisten_serves_the_backlog want_accept_holds_the_backlog
    abort_is_a_reset linger_lets_the_peer_read linger_reads_as_much_as_it_may linger_ends_by_time
    an_aborted_send_is_not_told a_reset_is_told_once old_ids_are_dead idle_connections_hold_no_buffer
    many_connections_at_once calls_after_close_are_ignored
}

macro_rules! backends {
    ($($rule:ident)*) => {
        mod kqueue {
            $(#[test] fn $rule() { super::$rule::<super::KqueueHere>(); })*
        }
        #[cfg(target_os = "linux")]
        mod epoll {
            $(#[test] fn $rule() { super::$rule::<turboapi_platform::epoll::Epoll>(); })*
        }
        #[cfg(target_os = "linux")]
        mod uring {
            $(#[test] fn $rule() {
                // Where the kernel refuses io_uring, epoll is what is served, and what is tested.
                if turboapi_platform::probe::probe_uring().is_ok() { super::$rule::<turboapi_platform::uring::Uring>(); }
            })*
        }
        #[cfg(target_os = "linux")]
        mod monoio {
            $(#[test] fn $rule() {
                // Where the kernel refuses io_uring, epoll is what is served, and what is tested.
                if turboapi_platform::probe::probe_monoio().is_ok() { super::$rule::<turboapi_platform::monoio::Monoio>(); }
            })*
        }
        #[cfg(all(target_os = "linux", feature = "tokio-uring"))]
        mod tokio_uring {
            $(#[test] fn $rule() {
                if turboapi_platform::probe::probe_tokio_uring().is_ok() {
                    super::$rule::<turboapi_platform::tokio_uring::TokioUring>();
                }
            })*
        }
    };
}

backends! {
    accepts_and_echoes data_keeps_order_under_random_cuts eof_comes_once_and_last closed_comes_once
    large_body_reaches_a_slow_reader what_a_peer_takes_is_acknowledged
    sends_of_two_parts_arrive_in_order want_read_has_a_bound a_starved_pool_recovers
    poll_never_blocks_and_makes_progress a_time_out_is_never_early wakes_are_one_and_end_a_wait a_signal_is_no_error
    a_watch_is_level_triggered a_nested_watch_fires unlisten_serves_the_backlog want_accept_holds_the_backlog
    a_burst_is_accepted_a_batch_at_a_time
    abort_is_a_reset linger_lets_the_peer_read linger_reads_as_much_as_it_may linger_ends_by_time close_waits_for_the_send
    an_aborted_send_is_not_told a_reset_is_told_once old_ids_are_dead adopts_a_socketpair idle_connections_hold_no_buffer
    finish_gives_everything_back exhausted_descriptors_stall_and_recover many_connections_at_once calls_after_close_are_ignored
}

/// What happened on one connection, in order.
#[derive(Debug, Default)]
struct Seen {
    bytes: Vec<u8>,
    data_count: usize,
    /// One letter per event: D, E(of), X (error), S(ent), C(losed).
    order: String,
    spare: Option<OutBuf>,
}

impl Seen {
    fn count(&self, letter: char) -> usize {
        self.order.matches(letter).count()
    }
}

/// A platform with a listener, and a record of all it said.
struct Bench<P: Platform> {
    platform: P,
    listener: TcpListener,
    events: Vec<Event>,
    seen: HashMap<ConnectionId, Seen>,
    /// Accepted but not adopted.
    accepted: Vec<OwnedFd>,
    next_slot: u32,
    woken: usize,
    watched: Vec<WatchId>,
    listeners_gone: usize,
    stalls: usize,
}

impl<P: Platform> Bench<P> {
    fn new() -> Self {
        Self::with(&IoConfig { receive_buffer_bytes: 4096, receive_buffers: 8, ..IoConfig::default() })
    }

    fn with(config: &IoConfig) -> Self {
        let mut platform = P::open(config).unwrap();
        let listener = socket::listen_shared(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), socket::BACKLOG).unwrap();
        platform.listen(LISTENER, listener.as_fd()).unwrap();
        Self {
            platform,
            listener,
            events: Vec::new(),
            seen: HashMap::new(),
            accepted: Vec::new(),
            next_slot: 0,
            woken: 0,
            watched: Vec::new(),
            listeners_gone: 0,
            stalls: 0,
        }
    }

    /// One turn; the record has what it told.
    fn turn(&mut self, wait: Wait) -> usize {
        self.platform.turn(wait, &mut self.events).unwrap();
        let count = self.events.len();
        for event in std::mem::take(&mut self.events) {
            self.record(event);
        }
        count
    }

    fn record(&mut self, event: Event) {
        let (connection, letter) = match event {
            Event::Accepted { socket, listener, peer } => {
                assert_eq!(listener, LISTENER);
                assert!(peer.unwrap().ip().is_loopback());
                // SAFETY: takes integers.
                let flags = unsafe { libc::fcntl(socket.as_raw_fd(), libc::F_GETFD) };
                assert_ne!(flags & libc::FD_CLOEXEC, 0, "an accepted socket is close-on-exec");
                return self.accepted.push(socket);
            }
            Event::Data { connection, buffer } => {
                assert!(buffer.len > 0);
                let bytes = self.platform.rx(&buffer).to_vec();
                self.platform.rx_release(buffer);
                let seen = self.seen.get_mut(&connection).unwrap();
                seen.bytes.extend(bytes);
                seen.data_count += 1;
                (connection, 'D')
            }
            Event::Eof { connection } => (connection, 'E'),
            Event::Error { connection, .. } => (connection, 'X'),
            Event::Sent { connection, out } => {
                self.seen.get_mut(&connection).unwrap().spare = Some(out);
                (connection, 'S')
            }
            Event::Closed { connection } => (connection, 'C'),
            Event::Watch { watch } => return self.watched.push(watch),
            Event::Woken => return self.woken += 1,
            Event::ListenerGone { error, .. } => {
                assert!(error.is_none(), "{error:?}");
                return self.listeners_gone += 1;
            }
            Event::AcceptStalled { .. } => return self.stalls += 1,
        };
        let seen = self.seen.get_mut(&connection).expect("an event for a connection that was never adopted");
        seen.order.push(letter);
        let (order, after_close) = (&seen.order, seen.order.find('C').map(|at| &seen.order[at + 1..]));
        assert!(after_close.is_none_or(str::is_empty), "Closed is last, once: {order}");
        let after_end = order.split_once('E').map_or("", |(_, after)| after);
        assert!(!after_end.contains(['D', 'E']), "Eof is once and after all Data: {order}");
        let after_error = order.split_once('X').map_or("", |(_, after)| after);
        assert!(!after_error.contains(['D', 'E', 'S', 'X']), "only Closed follows Error: {order}");
    }

    /// Turns until `done`; what does not come within the patience fails.
    fn until(&mut self, what: &str, mut done: impl FnMut(&mut Self) -> bool) {
        let start = Instant::now();
        while !done(self) {
            assert!(start.elapsed() < PATIENCE, "no {what} within {PATIENCE:?}: {:?}", self.orders());
            self.turn(Wait::For(Duration::from_millis(20)));
        }
    }

    fn orders(&self) -> Vec<(ConnectionId, &str, usize)> {
        self.seen.iter().map(|(id, seen)| (*id, seen.order.as_str(), seen.bytes.len())).collect()
    }

    fn adopt(&mut self, socket: OwnedFd) -> ConnectionId {
        let id = ConnectionId::new(self.next_slot, 3);
        self.next_slot += 1;
        self.seen.insert(id, Seen::default());
        self.platform.adopt(id, socket).unwrap();
        id
    }

    /// A connected pair: the peer's end, blocking, and the id of ours.
    fn connect(&mut self) -> (TcpStream, ConnectionId) {
        let peer = TcpStream::connect(self.listener.local_addr().unwrap()).unwrap();
        peer.set_nodelay(true).unwrap();
        peer.set_read_timeout(Some(PATIENCE)).unwrap();
        self.until("Accepted", |bench| !bench.accepted.is_empty());
        let socket = self.accepted.pop().unwrap();
        let id = self.adopt(socket);
        (peer, id)
    }

    fn send(&mut self, id: ConnectionId, head: &[u8]) {
        self.platform.send(id, OutBuf { head: head.to_vec(), body: Bytes::new() });
    }

    fn order(&self, id: ConnectionId) -> &str {
        &self.seen[&id].order
    }

    fn finish(self) {
        self.platform.finish(Instant::now() + PATIENCE).unwrap();
    }
}

/// Xorshift: the tests' cuts are the same in each run.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit as u64) as usize
    }
}

/// More than the kernel holds, in one part or in two: backends may send them in different ways.
fn large(in_head: bool) -> OutBuf {
    let bytes = vec![5; 6_000_000];
    if in_head {
        OutBuf { head: bytes, body: Bytes::new() }
    } else {
        OutBuf { head: vec![5; 1], body: Bytes::from(bytes) }
    }
}

fn pattern(bytes: usize) -> Vec<u8> {
    (0..bytes as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

fn accepts_and_echoes<P: Platform>() {
    let mut bench = Bench::<P>::new();
    let (mut peer, id) = bench.connect();
    for round in 0..3usize {
        peer.write_all(b"ping").unwrap();
        bench.until("Data", |bench| bench.seen[&id].bytes.len() == 4 * (round + 1));
        bench.send(id, b"pong!");
        bench.until("Sent", |bench| bench.seen[&id].count('S') == round + 1);
        let mut answer = [0; 5];
        peer.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"pong!");
        assert_eq!(bench.seen[&id].spare.as_ref().unwrap().head, b"pong!", "the buffer comes back");
    }
    bench.finish();
}

fn data_keeps_order_under_random_cuts<P: Platform>() {
    let mut bench = Bench::<P>::new();
    let sent = pattern(600_000);
    let writers: Vec<_> = (1..=4u64)
        .map(|seed| {
            let (mut peer, id) = bench.connect();
            let sent = sent.clone();
            let writer = thread::spawn(move || {
                let (mut rest, mut random) = (sent.as_slice(), Random(seed));
                while !rest.is_empty() {
                    let cut = 1 + random.below(rest.len().min(9000));
                    peer.write_all(&rest[..cut]).unwrap();
                    rest = &rest[cut..];
                }
                peer.shutdown(Shutdown::Write).unwrap();
                peer
            });
            (writer, id)
        })
        .collect();
    bench.until("Eof of all", |bench| writers.iter().all(|(_, id)| bench.seen[id].count('E') == 1));
    for (writer, id) in writers {
        writer.join().unwrap();
        assert!(bench.seen[&id].bytes == sent, "every byte, in order");
    }
    bench.finish();
}

fn eof_comes_once_and_last<P: Platform>() {
    let mut bench = Bench::<P>::new();
    let (mut peer, id) = bench.connect();
    // The end is there before the first byte is read: a short read must not hide it.
    peer.write_all(b"last words").unwrap();
    peer.shutdown(Shutdown::Write).unwrap();
    bench.until("Eof", |bench| bench.seen[&id].count('E') == 1);
    assert_eq!((bench.order(id), bench.seen[&id].bytes.as_slice()), ("DE", b"last words".as_slice()));
    for _ in 0..20 {
        bench.turn(Wait::Poll);
    }
    assert_eq!(bench.order(id), "DE");
    // The other direction is still open.
    bench.send(id, b"answer");
    bench.platform.close(id, Close::AfterSend);
    bench.until("Closed", |bench| bench.seen[&id].count('C') == 1);
    assert_eq!(bench.order(id), "DESC");
    let mut answer = String::new();
    peer.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "answer");
    bench.finish();
}

fn closed_comes_once<P: Platform>() {
    let mut bench = Bench::<P>::new();
    for how in [Close::AfterSend, Close::Abort, Close::Linger(Duration::ZERO)] {
        let (_peer, id) = bench.connect();
        bench.platform.close(id, how);
        bench.platform.close(id, Close::AfterSend);
        bench.platform.close(id, Close::Abort);
        bench.until("Closed", |bench| bench.seen[&id].count('C') == 1);
        bench.platform.close(id, Close::Abort);
        for _ in 0..5 {
            bench.turn(Wait::Poll);
        }
        assert_eq!(bench.order(id), "C", "{how:?}");
    }
    bench.finish();
}

fn large_body_reaches_a_slow_reader<P: Platform>() {
    let mut bench = Bench::<P>::new();
    let (mut peer, id) = bench.connect();
    let body = Bytes::from(pattern(6_000_000));
    bench.platform.send(id, OutBuf { head: b"head".to_vec(), body: body.clone() });
    for _ in 0..10 {
        bench.turn(Wait::Poll);
    }
    assert_eq!(bench.order(id), "", "more than the kernel holds is not Sent before somebody reads");
    let reader = thread::spawn(move || {
        let (mut all, mut random) = (Vec::new(), Random(99));
        let mut piece = vec![0; 200_000];
        while all.len() < 6_000_004 {
            let count = peer.read(&mut piece[..1 + random.below(200_000)]).unwrap();
            assert_ne!(count, 0, "ended after {} bytes", all.len());
            all.extend_from_slice(&piece[..count]);
        }
        all
    });
    bench.until("Sent", |bench| bench.seen[&id].count('S') == 1);
    let all = reader.join().unwrap();
    assert!(all[..4] == *b"head" && all[4..] == body);
    assert_eq!(bench.seen[&id].spare.as_ref().unwrap().body.len(), body.len());
    // And again: later short sends of a connection wait like the first.
    let (mut peer, id) = bench.connect();
    for (round, in_head) in [true, false, true, false].into_iter().enumerate() {
        let out = large(in_head);
        let bytes = out.len() as u64;
        bench.platform.send(id, out);
        let reader = thread::spawn(move || (io::copy(&mut (&mut peer).take(bytes), &mut io::sink()).unwrap(), peer));
        bench.until("Sent", |bench| bench.seen[&id].count('S') == round + 1);
        let copied;
        (copied, peer) = reader.join().unwrap();
        assert_eq!(copied, bytes);
    }
    bench.finish();
}

fn what_a_peer_takes_is_acknowledged<P: Platform>() {
    let mut bench = Bench::<P>::new();
    let (mut peer, id) = bench.connect();
    bench.platform.send(id, OutBuf { head: Vec::new(), body: Bytes::from(pattern(16_000_000)) });
    for _ in 0..10 {
        bench.turn(Wait::Poll);
    }
    let before = bench.platform.acknowledged(id);
    assert_eq!(before.is_some(), P::TELLS_ACKNOWLEDGED);
    if let Some(before) = before {
        // Far less than would make the kernel take more from us.
        peer.read_exact(&mut vec![0; 300_000]).unwrap();
        bench.until("acknowledged", |bench| bench.platform.acknowledged(id).unwrap() > before);
        assert_eq!(bench.order(id), "");
    }
    let (ours, _theirs) = UnixStream::pair().unwrap();
    let id = bench.adopt(ours.into());
    assert_eq!(bench.platform.acknowledged(id), None);
    bench.finish();
}

fn sends_of_two_parts_arrive_in_order<P: Platform>() {
    let mut bench = Bench::<P>::new();
    let (mut peer, id) = bench.connect();
    let cases: [(&[u8], &[u8]); 4] = [(b"only head", b""), (b"head+", b"body"), (b"", b"only body"), (b"", b"")];
    let mut expected = Vec::new();
    for (round, (head, body)) in cases.into_iter().enumerate() {
        expected.extend([head, body].concat());
        bench.platform.send(id, OutBuf { head: head.to_vec(), body: Bytes::from_static(body) });
        bench.until("Sent", |bench| bench.seen[&id].count('S') == round + 1);
    }
    bench.platform.close(id, Close::AfterSend);
    bench.until("Closed", |bench| bench.seen[&id].count('C') == 1);
    let mut all = Vec::new();
    peer.read_to_end(&mut all).unwrap();
    assert_eq!(all, expected);
    bench.finish();
}

fn want_read_has_a_bound<P: Platform>() {
    let mut bench = Bench::<P>::new();
    let (mut peer, id) = bench.connect();
    peer.write_all(&pattern(200_000)).unwrap();
    peer.shutdown(Shutdown::Write).unwrap();
    bench.until("Data", |bench| bench.seen[&id].data_count > 0);
    bench.platform.want_read(id, false);
    let before = bench.seen[&id].data_count;
    for _ in 0..20 {
        bench.turn(Wait::Poll);
    }
    let paused = bench.seen[&id].data_count;
    assert!(paused - before <= 4, "{} Data after want_read(false)", paused - before);
    assert!(bench.seen[&id].bytes.len() < 200_000);
    bench.platform.want_read(id, true);
    bench.until("Eof", |bench| bench.seen[&id].count('E') == 1);
    assert!(bench.seen[&id].bytes == pattern(200_000));
    bench.finish();
}

fn a_starved_pool_recovers<P: Platform>() {
    let mut bench =
        Bench::<P>::with(&IoConfig { receive_buffer_bytes: 512, receive_buffers: 2, ..IoConfig::default() });
    let mut peers: Vec<_> = (0..12).map(|_| bench.connect()).collect();
    for (peer, _) in &mut peers {
        peer.write_all(&pattern(20_000)).unwrap();
    }
    bench.until("all bytes", |bench| peers.iter().all(|(_, id)| bench.seen[id].bytes.len() == 20_000));
    for (_, id) in &peers {
        assert!(bench.seen[id].bytes == pattern(20_000));
    }
    bench.finish();
}

fn poll_never_blocks_and_makes_progress<P: Platform>() {
    let mut bench = Bench::<P>::new();
    let start = Instant::now();
    for _ in 0..1000 {
        assert_eq!(bench.turn(Wait::Poll), 0);
    }
    assert!(start.elapsed() < LONG, "1000 idle polls took {:?}", start.elapsed());

    // Nothing but polls: accept, read, a send that is taken in pieces, and the end.
    let mut peer = TcpStream::connect(bench.listener.local_addr().unwrap()).unwrap();
    let start = Instant::now();
    let poll_until = |bench: &mut Bench<P>, what: &str, done: &dyn Fn(&Bench<P>) -> bool| {
        while !done(bench) {
            assert!(start.elapsed() < PATIENCE, "polls alone brought no {what}");
            bench.turn(Wait::Poll);
        }
    };
    poll_until(&mut bench, "Accepted", &|bench| !bench.accepted.is_empty());
    let socket = bench.accepted.pop().unwrap();
    let id = bench.adopt(socket);
    peer.write_all(b"hello").unwrap();
    poll_until(&mut bench, "Data", &|bench| bench.seen[&id].bytes == b"hello");
    bench.platform.send(id, OutBuf { head: Vec::new(), body: Bytes::from(vec![1; 5_000_000]) });
    let reader = thread::spawn(move || io::copy(&mut peer, &mut io::sink()).unwrap());
    poll_until(&mut bench, "Sent", &|bench| bench.seen[&id].count('S') == 1);
    bench.platform.close(id, Close::AfterSend);
    poll_until(&mut bench, "Closed", &|bench| bench.seen[&id].count('C') == 1);
    assert_eq!(reader.join().unwrap(), 5_000_000);
    bench.finish();
}

fn a_time_out_is_never_early<P: Platform>() {
    let mut bench = Bench::<P>::new();
    for time in [Duration::from_micros(300), Duration::from_millis(1), Duration::from_millis(30)] {
        let start = Instant::now();
        assert_eq!(bench.turn(Wait::For(time)), 0);
        assert!(start.elapsed() >= time, "waited {:?} of {time:?}", start.elapsed());
        assert!(start.elapsed() < LONG);
    }
    bench.finish();
}

fn wakes_are_one_and_end_a_wait<P: Platform>() {
    let mut bench = Bench::<P>::new();
    let waker = bench.platform.waker();
    // Before the turn, and many: one event.
    for _ in 0..50 {
        waker.wake();
    }
    bench.turn(Wait::Forever);
    assert_eq!(bench.woken, 1);
    for _ in 0..5 {
        bench.turn(Wait::Poll);
    }
    assert_eq!(bench.woken, 1);
    // During the turn, from another thread, several times over.
    for round in 2..12 {
        let (from_thread, is_in_turn) = (waker.clone(), Arc::new(AtomicBool::new(false)));
        let told = Arc::clone(&is_in_turn);
        let other = thread::spawn(move || {
            while !told.load(Ordering::Acquire) {
                thread::yield_now();
            }
            from_thread.wake();
            from_thread.clone().wake();
        });
        is_in_turn.store(true, Ordering::Release);
        let start = Instant::now();
        while bench.woken < round {
            bench.turn(Wait::Forever);
        }
        assert!(start.elapsed() < LONG);
        other.join().unwrap();
        // The second of the two may have come after the first was told.
        bench.turn(Wait::Poll);
        bench.turn(Wait::Poll);
        assert!(bench.woken <= round + 1, "{} after {round}", bench.woken);
        bench.woken = round;
    }
    // A waker may outlive its platform.
    bench.finish();
    waker.wake();
}

extern "C" fn count_signal(_: i32) {
    SIGNALS.fetch_add(1, Ordering::SeqCst);
}
static SIGNALS: AtomicU32 = AtomicU32::new(0);

fn a_signal_is_no_error<P: Platform>() {
    let mut bench = Bench::<P>::new();
    // SAFETY: all zero is a valid sigaction; the handler only counts. No SA_RESTART: waits see EINTR.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = count_signal as extern "C" fn(i32) as usize;
        assert_eq!(libc::sigaction(libc::SIGUSR2, &raw const action, std::ptr::null_mut()), 0);
    }
    // SAFETY: the thread is this one, which lives until the other has been joined.
    let this = unsafe { libc::pthread_self() } as usize;
    let (waker, is_over) = (bench.platform.waker(), Arc::new(AtomicBool::new(false)));
    let told = Arc::clone(&is_over);
    let other = thread::spawn(move || {
        for _ in 0..200 {
            // SAFETY: the thread is alive, see above.
            unsafe { libc::pthread_kill(this as libc::pthread_t, libc::SIGUSR2) };
            thread::yield_now();
        }
        told.store(true, Ordering::Release);
        waker.wake();
    });
    let start = Instant::now();
    while !is_over.load(Ordering::Acquire) {
        bench.turn(Wait::For(PATIENCE));
    }
    assert!(start.elapsed() < LONG);
    other.join().unwrap();
    assert!(SIGNALS.load(Ordering::SeqCst) > 0);
    // It still works.
    let (mut peer, id) = bench.connect();
    peer.write_all(b"x").unwrap();
    bench.until("Data", |bench| bench.seen[&id].data_count == 1);
    bench.finish();
}

fn a_watch_is_level_triggered<P: Platform>() {
    let mut bench = Bench::<P>::new();
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let watch = WatchId(3);
    bench.platform.watch(watch, ours.as_raw_fd()).unwrap();
    assert!(bench.platform.watch(watch, ours.as_raw_fd()).is_err());
    bench.turn(Wait::Poll);
    assert_eq!(bench.watched, []);
    theirs.write_all(b"x").unwrap();
    for round in 1..=4 {
        bench.until("Watch", |bench| bench.watched.len() == round);
    }
    assert!(bench.watched.iter().all(|told| *told == watch));
    (&ours).read_exact(&mut [0]).unwrap();
    bench.turn(Wait::Poll);
    bench.watched.clear();
    for _ in 0..5 {
        bench.turn(Wait::Poll);
    }
    assert_eq!(bench.watched, [], "it is told only while it is readable");
    theirs.write_all(b"x").unwrap();
    bench.platform.unwatch(watch);
    bench.platform.unwatch(watch);
    for _ in 0..5 {
        bench.turn(Wait::Poll);
    }
    assert_eq!(bench.watched, [], "and not after unwatch");
    bench.platform.watch(watch, ours.as_raw_fd()).unwrap();
    bench.turn(Wait::Forever);
    bench.until("Watch", |bench| !bench.watched.is_empty());
    bench.finish();
}

/// What the system's selectors are made of, with one descriptor in it, level-triggered.
fn selector_of(watched: &UnixStream) -> OwnedFd {
    cfg_if::cfg_if! {
        if #[cfg(target_os = "macos")] {
            // SAFETY: takes nothing.
            let raw = unsafe { libc::kqueue() };
            // SAFETY: all zero is a valid kevent.
            let mut event: libc::kevent = unsafe { std::mem::zeroed() };
            (event.ident, event.filter, event.flags) =
                (watched.as_raw_fd() as usize, libc::EVFILT_READ, libc::EV_ADD);
            // SAFETY: one change, no room for reports, no time-out.
            let result = unsafe { libc::kevent(raw, &raw const event, 1, std::ptr::null_mut(), 0, std::ptr::null()) };
        } else {
            // SAFETY: takes an integer.
            let raw = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
            let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: 0 };
            // SAFETY: `event` is readable during the call.
            let result = unsafe { libc::epoll_ctl(raw, libc::EPOLL_CTL_ADD, watched.as_raw_fd(), &raw mut event) };
        }
    }
    assert!(raw >= 0 && result == 0);
    // SAFETY: just made, and nobody else's.
    unsafe { <OwnedFd as std::os::fd::FromRawFd>::from_raw_fd(raw) }
}

/// As asyncio's selector is watched.
fn a_nested_watch_fires<P: Platform>() {
    let mut bench = Bench::<P>::new();
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let nested = selector_of(&ours);
    bench.platform.watch(WatchId(0), nested.as_raw_fd()).unwrap();
    bench.turn(Wait::Poll);
    assert_eq!(bench.watched, []);
    theirs.write_all(b"x").unwrap();
    for round in 1..=3 {
        bench.until("Watch", |bench| bench.watched.len() == round);
    }
    (&ours).read_exact(&mut [0]).unwrap();
    bench.turn(Wait::Poll);
    bench.watched.clear();
    bench.turn(Wait::Poll);
    assert_eq!(bench.watched, []);
    bench.finish();
}

fn unlisten_serves_the_backlog<P: Platform>() {
    let mut bench = Bench::<P>::new();
    let address = bench.listener.local_addr().unwrap();
    bench.turn(Wait::Poll);
    // More than one batch, so that it takes several turns.
    let peers: Vec<_> = (0..100).map(|_| TcpStream::connect(address).unwrap()).collect();
    bench.platform.want_accept(LISTENER, false);
    bench.platform.unlisten(LISTENER);
    bench.until("ListenerGone", |bench| bench.listeners_gone == 1);
    assert_eq!(bench.accepted.len(), peers.len());
    let _late = TcpStream::connect(address).unwrap();
    for _ in 0..5 {
        bench.turn(Wait::Poll);
    }
    assert_eq!((bench.accepted.len(), bench.listeners_gone), (peers.len(), 1));
    // The socket is still the caller's, and may be listened to again.
    let listener = bench.listener.try_clone().unwrap();
    bench.platform.listen(LISTENER, listener.as_fd()).unwrap();
    bench.until("Accepted", |bench| bench.accepted.len() == peers.len() + 1);
    bench.finish();
}

fn want_accept_holds_the_backlog<P: Platform>() {
    let mut bench = Bench::<P>::new();
    bench.platform.want_accept(LISTENER, false);
    let _peer = TcpStream::connect(bench.listener.local_addr().unwrap()).unwrap();
    for _ in 0..10 {
        bench.turn(Wait::Poll);
    }
    assert!(bench.accepted.is_empty());
    bench.platform.want_accept(LISTENER, true);
    bench.turn(Wait::Forever);
    bench.until("Accepted", |bench| bench.accepted.len() == 1);
    bench.finish();
}

/// However many come at once: who has no room for more than a few can say so in time.
fn a_burst_is_accepted_a_batch_at_a_time<P: Platform>() {
    const BATCH: usize = 8;
    let mut bench = Bench::<P>::with(&IoConfig { accept_batch: BATCH as u32, ..IoConfig::default() });
    let address = bench.listener.local_addr().unwrap();
    bench.turn(Wait::Poll);
    let peers: Vec<_> = (0..100).map(|_| TcpStream::connect(address).unwrap()).collect();
    bench.until("Accepted", |bench| !bench.accepted.is_empty());
    assert!(bench.accepted.len() <= BATCH, "{} in one turn", bench.accepted.len());
    bench.platform.want_accept(LISTENER, false);
    let before = bench.accepted.len();
    for _ in 0..10 {
        bench.turn(Wait::Poll);
    }
    assert_eq!(bench.accepted.len(), before);
    bench.platform.want_accept(LISTENER, true);
    bench.until("all", |bench| {
        let before = bench.accepted.len();
        bench.turn(Wait::For(Duration::from_millis(20)));
        assert!(bench.accepted.len() - before <= BATCH, "{} in one turn", bench.accepted.len() - before);
        bench.accepted.len() == peers.len()
    });
    bench.finish();
}

fn abort_is_a_reset<P: Platform>() {
    let mut bench = Bench::<P>::new();
    for in_flight in [None, Some(true), Some(false)] {
        let (mut peer, id) = bench.connect();
        if let Some(in_head) = in_flight {
            bench.platform.send(id, large(in_head));
            bench.turn(Wait::Poll);
        }
        bench.platform.close(id, Close::Abort);
        bench.until("Closed", |bench| bench.seen[&id].count('C') == 1);
        assert_eq!(bench.order(id), "C");
        let error = io::copy(&mut peer, &mut io::sink()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    }
    bench.finish();
}

fn linger_lets_the_peer_read<P: Platform>() {
    let mut bench = Bench::<P>::new();
    let (mut peer, id) = bench.connect();
    // Bytes that nobody reads: with a plain close they would turn the answer into a reset.
    peer.write_all(&pattern(30_000)).unwrap();
    bench.until("Data", |bench| bench.seen[&id].data_count > 0);
    bench.platform.want_read(id, false);
    bench.send(id, b"too large");
    bench.platform.close(id, Close::Linger(PATIENCE));
    let mut answer = String::new();
    let reader = thread::spawn(move || {
        peer.write_all(&pattern(10_000)).unwrap();
        peer.read_to_string(&mut answer).unwrap();
        answer
    });
    bench.until("Closed", |bench| bench.seen[&id].count('C') == 1);
    assert_eq!(reader.join().unwrap(), "too large");
    assert!(!bench.order(id).contains('E'));
    // A peer that goes on for ever is cut off.
    let (mut peer, id) = bench.connect();
    bench.platform.close(id, Close::Linger(PATIENCE));
    let writer = thread::spawn(move || while peer.write_all(&[0; 4096]).is_ok() {});
    bench.until("Closed", |bench| bench.seen[&id].count('C') == 1);
    writer.join().unwrap();
    bench.finish();
}

fn linger_reads_as_much_as_it_may<P: Platform>() {
    // Longer than anybody waits here: what ends a lingering close is how much comes.
    let how = Close::Linger(10 * PATIENCE);
    for (linger_bytes_max, within) in [(0, 0), (1, 0), (1000, 999), (100_000, 70_000)] {
        let mut bench = Bench::<P>::with(&IoConfig { linger_bytes_max, ..IoConfig::default() });
        let (mut peer, id) = bench.connect();
        bench.platform.close(id, how);
        peer.write_all(&pattern(within)).unwrap();
        for _ in 0..20 {
            bench.turn(Wait::For(Duration::from_millis(1)));
        }
        assert_eq!(bench.order(id), "", "{within} bytes ended what may read {linger_bytes_max}");
        peer.write_all(&pattern(linger_bytes_max.max(1) - within)).unwrap();
        bench.until("Closed", |bench| bench.seen[&id].count('C') == 1);
        assert_eq!(bench.order(id), "C");
        bench.finish();
    }
    // More than the kernel holds is read to its end, and its sender gets its answer.
    let mut bench = Bench::<P>::with(&IoConfig { linger_bytes_max: 8_000_000, ..IoConfig::default() });
    let (mut peer, id) = bench.connect();
    bench.send(id, b"too large");
    bench.platform.close(id, how);
    let reader = thread::spawn(move || {
        peer.write_all(&pattern(6_000_000))?;
        peer.shutdown(Shutdown::Write)?;
        io::read_to_string(peer)
    });
    bench.until("Closed", |bench| bench.seen[&id].count('C') == 1);
    assert_eq!(reader.join().unwrap().unwrap(), "too large");
    bench.finish();
}

fn linger_ends_by_time<P: Platform>() {
    let mut bench = Bench::<P>::new();
    let (_peer, id) = bench.connect();
    let (start, time) = (Instant::now(), Duration::from_millis(50));
    bench.platform.close(id, Close::Linger(time));
    // The driver ends a wait by itself for it.
    while bench.seen[&id].count('C') == 0 {
        bench.turn(Wait::Forever);
    }
    assert!(start.elapsed() >= time);
    assert!(start.elapsed() < LONG);
    bench.finish();
}

fn close_waits_for_the_send<P: Platform>() {
    let mut bench = Bench::<P>::new();
    let linger = Close::Linger(PATIENCE);
    for (how, in_head) in [(Close::AfterSend, true), (Close::AfterSend, false), (linger, true), (linger, false)] {
        let (mut peer, id) = bench.connect();
        let out = large(in_head);
        let bytes = out.len() as u64;
        bench.platform.send(id, out);
        bench.platform.close(id, how);
        for _ in 0..5 {
            bench.turn(Wait::Poll);
        }
        assert_eq!(bench.order(id), "", "{how:?}");
        let reader = thread::spawn(move || io::copy(&mut peer, &mut io::sink()).unwrap());
        bench.until("Closed", |bench| bench.seen[&id].count('C') == 1);
        assert_eq!(reader.join().unwrap(), bytes);
        assert_eq!(bench.order(id), "SC");
    }
    bench.finish();
}

fn an_aborted_send_is_not_told<P: Platform>() {
    let mut bench = Bench::<P>::new();
    let linger = Close::Linger(PATIENCE);
    // With no turn between send and abort, with one, and with one more after a softer close.
    for (first, in_head, turns) in [
        (None, true, 0),
        (None, false, 1),
        (Some(Close::AfterSend), true, 1),
        (Some(linger), false, 1),
        (Some(linger), true, 0),
    ] {
        let (_peer, id) = bench.connect();
        bench.platform.send(id, large(in_head));
        for _ in 0..turns {
            bench.turn(Wait::Poll);
        }
        if let Some(first) = first {
            bench.platform.close(id, first);
            bench.turn(Wait::Poll);
        }
        bench.platform.close(id, Close::Abort);
        bench.until("Closed", |bench| bench.seen[&id].count('C') == 1);
        assert_eq!(bench.order(id), "C");
    }
    bench.finish();
}

fn a_reset_is_told_once<P: Platform>() {
    let mut bench = Bench::<P>::new();
    // While reading, and while a send waits for room.
    for in_flight in [None, Some(true), Some(false)] {
        let (peer, id) = bench.connect();
        if let Some(in_head) = in_flight {
            bench.platform.send(id, large(in_head));
            bench.turn(Wait::Poll);
        }
        socket::set_reset_on_close(peer.as_fd()).unwrap();
        drop(peer);
        bench.until("Error", |bench| bench.seen[&id].count('X') == 1);
        bench.send(id, b"into the void");
        for _ in 0..5 {
            bench.turn(Wait::Poll);
        }
        assert_eq!(bench.order(id), "X");
        bench.platform.close(id, Close::AfterSend);
        bench.until("Closed", |bench| bench.seen[&id].count('C') == 1);
    }
    bench.finish();
}

fn old_ids_are_dead<P: Platform>() {
    let mut bench = Bench::<P>::new();
    let (mut old_peer, old) = bench.connect();
    let (_new_peer, unused) = bench.connect();
    // The report is in the kernel when the connection is closed.
    old_peer.write_all(b"late").unwrap();
    bench.platform.close(old, Close::Abort);
    bench.until("Closed", |bench| bench.seen[&old].count('C') == 1);
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let new = ConnectionId::new(old.slot(), old.generation() + 1);
    bench.seen.insert(new, Seen::default());
    bench.platform.adopt(new, ours.into()).unwrap();
    // Nothing that is asked of the old one reaches the new one.
    bench.platform.want_read(old, false);
    bench.platform.close(old, Close::Abort);
    theirs.write_all(b"new").unwrap();
    bench.until("Data", |bench| bench.seen[&new].bytes == b"new");
    assert_eq!((bench.order(new), bench.order(old)), ("D", "C"));
    // A slot that is in use refuses another.
    let (third, _fourth) = UnixStream::pair().unwrap();
    assert!(bench.platform.adopt(ConnectionId::new(new.slot(), 77), third.into()).is_err());
    assert_eq!(bench.order(unused), "");
    bench.finish();
}

fn adopts_a_socketpair<P: Platform>() {
    let mut bench = Bench::<P>::new();
    // Blocking, as another process may have left it.
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    theirs.write_all(b"there before").unwrap();
    let id = bench.adopt(ours.into());
    bench.until("Data", |bench| bench.seen[&id].bytes == b"there before");
    // What was asked for leaves with the next turn at the latest, or with a flush.
    bench.send(id, b"answer");
    bench.platform.flush().unwrap();
    let mut answer = [0; 6];
    theirs.read_exact(&mut answer).unwrap();
    bench.until("Sent", |bench| bench.seen[&id].count('S') == 1);
    drop(theirs);
    bench.until("Eof", |bench| bench.order(id).contains(['E', 'X']));
    bench.platform.close(id, Close::AfterSend);
    bench.until("Closed", |bench| bench.seen[&id].count('C') == 1);
    bench.finish();
}

fn idle_connections_hold_no_buffer<P: Platform>() {
    // 4 buffers for 1,000 connections: each of them is read once, then idle, and the last is served like the first.
    let mut bench =
        Bench::<P>::with(&IoConfig { receive_buffer_bytes: 1024, receive_buffers: 4, ..IoConfig::default() });
    let mut peers: Vec<_> = (0..1000)
        .map(|_| {
            let (ours, theirs) = UnixStream::pair().unwrap();
            (theirs, bench.adopt(ours.into()))
        })
        .collect();
    for round in 1..=2 {
        for (peer, _) in &mut peers {
            peer.write_all(b"GET").unwrap();
        }
        bench.until("Data of all", |bench| peers.iter().all(|(_, id)| bench.seen[id].bytes.len() == 3 * round));
    }
    bench.finish();
}

fn many_connections_at_once<P: Platform>() {
    let mut bench = Bench::<P>::with(&IoConfig::default());
    let mut peers: Vec<_> = (0..300).map(|_| bench.connect()).collect();
    for (peer, _) in &mut peers {
        peer.write_all(b"ask").unwrap();
    }
    bench.until("Data of all", |bench| peers.iter().all(|(_, id)| bench.seen[id].bytes == b"ask"));
    for (_, id) in &peers {
        bench.send(*id, b"answer");
    }
    bench.until("Sent of all", |bench| peers.iter().all(|(_, id)| bench.seen[id].count('S') == 1));
    for (peer, _) in &mut peers {
        let mut answer = [0; 6];
        peer.read_exact(&mut answer).unwrap();
    }
    // All at once.
    let ids: Vec<_> = peers.iter().map(|(_, id)| *id).collect();
    drop(peers);
    bench.until("Eof of all", |bench| ids.iter().all(|id| bench.seen[id].count('E') == 1));
    for id in &ids {
        bench.platform.close(*id, Close::AfterSend);
    }
    bench.until("Closed of all", |bench| ids.iter().all(|id| bench.seen[id].count('C') == 1));
    bench.finish();
}

fn calls_after_close_are_ignored<P: Platform>() {
    let mut bench = Bench::<P>::new();
    let (mut peer, id) = bench.connect();
    peer.write_all(b"unread").unwrap();
    bench.platform.close(id, Close::Linger(Duration::from_millis(20)));
    bench.send(id, b"no");
    bench.platform.want_read(id, true);
    bench.until("Closed", |bench| bench.seen[&id].count('C') == 1);
    bench.platform.want_read(id, true);
    bench.send(id, b"no");
    bench.turn(Wait::Poll);
    assert_eq!(bench.order(id), "C");
    bench.finish();
}

/// The name of one rule over one backend.
fn test_of<P: Platform>(rule: &str) -> String {
    format!("{}::{rule}", P::NAME.replace('-', "_"))
}

#[cfg(target_os = "macos")]
fn resident_kib() -> usize {
    // SAFETY: all zero is a valid rusage.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: `usage` is writable during the call.
    assert_eq!(unsafe { libc::getrusage(libc::RUSAGE_SELF, &raw mut usage) }, 0);
    // The most that it ever was, in bytes: what is kept from round to round raises that too.
    usage.ru_maxrss as usize / 1024
}

#[cfg(target_os = "linux")]
fn resident_kib() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

fn finish_gives_everything_back<P: Platform>() {
    if !in_own_process(&test_of::<P>("finish_gives_everything_back")) {
        return;
    }
    // One for all, as the allocator keeps what is freed; a third of the sends has a copy, a round's of which are 72 MB.
    let body = Bytes::from(vec![1; 6_000_000]);
    let mut after_first = 0;
    for (round, by_drop) in [(0, false), (1, true), (2, false), (3, true), (4, false)] {
        let before = descriptors();
        let mut bench = Bench::<P>::new();
        let (outside, mut inside) = UnixStream::pair().unwrap();
        bench.platform.watch(WatchId(1), outside.as_raw_fd()).unwrap();
        inside.write_all(b"x").unwrap();
        // Everything is in flight: reads, sends that nobody takes, closes, a lingering one, a backlog, a wake, a watch.
        let mut peers: Vec<_> = (0..60).map(|_| bench.connect()).collect();
        for (index, (peer, id)) in peers.iter_mut().enumerate() {
            match index % 5 {
                0 => peer.write_all(&pattern(9000)).unwrap(),
                1 => bench.platform.send(*id, OutBuf { head: Vec::new(), body: body.clone() }),
                2 => bench.platform.send(*id, OutBuf { head: body.to_vec(), body: Bytes::new() }),
                3 => bench.platform.close(*id, Close::Linger(PATIENCE)),
                _ => {}
            }
            if index % 5 == 2 {
                bench.platform.close(*id, Close::AfterSend);
            }
        }
        let late: Vec<_> = (0..5).map(|_| TcpStream::connect(bench.listener.local_addr().unwrap()).unwrap()).collect();
        bench.platform.waker().wake();
        bench.turn(Wait::Poll);
        if by_drop {
            drop(bench);
        } else {
            bench.finish();
        }
        // The peers are told: nothing keeps their connection.
        for (peer, _) in &mut peers {
            match io::copy(peer, &mut io::sink()) {
                Ok(_) => {}
                Err(error) => assert_eq!(error.kind(), io::ErrorKind::ConnectionReset),
            }
        }
        drop((peers, late, inside, outside));
        // A ring is taken down by the kernel in its own time, but its descriptor is gone at once.
        assert_eq!(descriptors(), before, "round {round}");
        if round == 0 {
            after_first = resident_kib();
        }
    }
    let grown = resident_kib().saturating_sub(after_first);
    assert!(grown < 64 * 1024, "four more rounds left {grown} KiB");
}

fn exhausted_descriptors_stall_and_recover<P: Platform>() {
    if !in_own_process(&test_of::<P>("exhausted_descriptors_stall_and_recover")) {
        return;
    }
    // Before the listener is armed: what accepts in the kernel's time may keep the limit that it was started under.
    let limit = libc::rlimit { rlim_cur: 100, rlim_max: 100 };
    // SAFETY: `limit` is readable during the call.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) }, 0);
    let take_all = || std::iter::from_fn(|| std::fs::File::open("/dev/null").ok()).collect::<Vec<_>>();

    let mut bench = Bench::<P>::new();
    let (_first_peer, first) = bench.connect();
    let peers: Vec<_> = (0..4).map(|_| TcpStream::connect(bench.listener.local_addr().unwrap()).unwrap()).collect();
    let taken = take_all();
    let (start, mut turns) = (Instant::now(), 0);
    while start.elapsed() < Duration::from_millis(400) {
        bench.turn(Wait::Forever);
        turns += 1;
    }
    assert_eq!(bench.stalls, 1, "a stall is told once");
    assert!(bench.accepted.is_empty());
    assert!(turns < 20, "{turns} turns in 400 ms: it spins");
    // It recovers by itself,
    drop(taken);
    bench.until("Accepted", |bench| bench.accepted.len() == peers.len());
    // and stalls again, until one of its own connections closes: at once, without waiting for the back-off.
    let more: Vec<_> = (0..2).map(|_| TcpStream::connect(bench.listener.local_addr().unwrap()).unwrap()).collect();
    bench.until("Accepted", |bench| bench.accepted.len() == peers.len() + more.len());
    let late: Vec<_> = (0..2).map(|_| TcpStream::connect(bench.listener.local_addr().unwrap()).unwrap()).collect();
    let taken = take_all();
    bench.until("AcceptStalled", |bench| bench.stalls == 2);
    let before = bench.accepted.len();
    bench.platform.close(first, Close::AfterSend);
    bench.until("Accepted", |bench| bench.accepted.len() == before + 1);
    assert_eq!(bench.seen[&first].count('C'), 1);
    // That one took the descriptor. The next one waits, and its stall is told too: who hears of it may make room once more.
    bench.until("AcceptStalled", |bench| bench.stalls == 3);
    drop(taken);
    drop((peers, more, late));
    bench.finish();
}
