//! What only kqueue can get wrong: what it is told, in how many calls, and what its reports mean. Over a script, which plays
//! exact lists as `kevent()` would return them; and a count of the calls. The rules that it shares with all backends are in
//! contract.rs.

#![allow(clippy::unwrap_used, missing_docs)]

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use turboapi_platform::kqueue::{
    EV_ADD, EV_CLEAR, EV_DELETE, EV_EOF, EV_ERROR, EV_ONESHOT, EVENTS_MAX, EVFILT_READ, EVFILT_USER, EVFILT_WRITE,
    Kevent, KqSys, KqueuePoller, NOTE_TRIGGER,
};
use turboapi_platform::readiness::{Readiness, Token};
use turboapi_platform::{Close, ConnectionId, Event, IoConfig, OutBuf, Platform, Wait, Wake, WatchId};

cfg_if::cfg_if! {
    if #[cfg(target_os = "macos")] {
        type SystemHere = turboapi_platform::kqueue::System;
    } else {
        mod kqueue_shim;
        type SystemHere = kqueue_shim::Shim;
    }
}

/// One `kevent()`, as it was called.
#[derive(Debug)]
struct Call {
    changes: Vec<Kevent>,
    /// How many reports there was room for.
    room: usize,
    timeout: Option<Duration>,
}

#[derive(Debug, Default)]
struct Script {
    calls: Vec<Call>,
    /// What the next calls with room for reports return: these, or this `errno`.
    answers: VecDeque<Result<Vec<Kevent>, i32>>,
    /// What the next call without room returns.
    refusal: Option<i32>,
}

thread_local! {
    /// Of the queue that this thread opens.
    static SCRIPT: RefCell<Arc<Mutex<Script>>> = RefCell::default();
}

/// A queue that plays what it was told.
#[derive(Debug)]
struct Scripted(Arc<Mutex<Script>>);

impl KqSys for Scripted {
    fn kqueue() -> io::Result<Self> {
        Ok(Self(SCRIPT.with_borrow(Arc::clone)))
    }

    fn kevent(&self, changes: &[Kevent], events: &mut [Kevent], timeout: Option<libc::timespec>) -> io::Result<usize> {
        let timeout = timeout.map(|time| Duration::new(time.tv_sec as u64, time.tv_nsec as u32));
        let mut script = self.0.lock().unwrap();
        script.calls.push(Call { changes: changes.to_vec(), room: events.len(), timeout });
        if events.is_empty() {
            return script.refusal.take().map_or(Ok(0), |code| Err(io::Error::from_raw_os_error(code)));
        }
        let answer = script.answers.pop_front().unwrap_or(Ok(Vec::new()));
        let reports = answer.map_err(io::Error::from_raw_os_error)?;
        assert!(reports.len() <= events.len(), "a kernel reports no more than there is room for");
        events[..reports.len()].copy_from_slice(&reports);
        Ok(reports.len())
    }
}

type Platformed = Readiness<KqueuePoller<Scripted>>;

/// A platform over a script, its opening call already looked at.
struct Bench {
    platform: Platformed,
    script: Arc<Mutex<Script>>,
    events: Vec<Event>,
}

impl Bench {
    fn new() -> Self {
        let script = Arc::new(Mutex::new(Script::default()));
        SCRIPT.set(Arc::clone(&script));
        let platform = Platformed::open(&IoConfig::default()).unwrap();
        let mut bench = Self { platform, script, events: Vec::new() };
        let opening = bench.calls();
        let user = kevent(0, EVFILT_USER, EV_ADD | EV_CLEAR, Token::WAKER.0);
        assert_eq!(opening.len(), 1);
        assert_eq!((opening[0].changes.as_slice(), opening[0].room), ([user].as_slice(), 0));
        bench
    }

    /// The calls since the last look.
    fn calls(&mut self) -> Vec<Call> {
        std::mem::take(&mut self.script.lock().unwrap().calls)
    }

    fn answer(&mut self, reports: impl Into<Vec<Kevent>>) {
        self.script.lock().unwrap().answers.push_back(Ok(reports.into()));
    }

    /// One turn, told as text; receive buffers go back.
    fn turn(&mut self, wait: Wait) -> Vec<String> {
        self.platform.turn(wait, &mut self.events).unwrap();
        let events = std::mem::take(&mut self.events);
        events.into_iter().map(|event| self.tell(event)).collect()
    }

    fn tell(&mut self, event: Event) -> String {
        match event {
            Event::Data { connection, buffer } => {
                let text = String::from_utf8_lossy(self.platform.rx(&buffer)).into_owned();
                self.platform.rx_release(buffer);
                format!("{} data {text}", connection.slot())
            }
            Event::Eof { connection } => format!("{} eof", connection.slot()),
            Event::Error { connection, error } => {
                format!("{} error {}", connection.slot(), error.raw_os_error().unwrap_or(0))
            }
            Event::Sent { connection, .. } => format!("{} sent", connection.slot()),
            Event::Closed { connection } => format!("{} closed", connection.slot()),
            Event::Watch { watch } => format!("watch {}", watch.0),
            Event::Woken => "woken".to_owned(),
            other => format!("{other:?}"),
        }
    }

    /// Adopts one end of a pair: its descriptor, and the other end.
    fn adopt(&mut self, id: ConnectionId) -> (RawFd, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let descriptor = ours.as_raw_fd();
        self.platform.adopt(id, ours.into()).unwrap();
        (descriptor, theirs)
    }
}

fn kevent(ident: RawFd, filter: i16, flags: u16, udata: u64) -> Kevent {
    Kevent { ident: ident as usize, filter, flags, udata, ..Kevent::default() }
}

fn readable(descriptor: RawFd, id: ConnectionId) -> Kevent {
    kevent(descriptor, EVFILT_READ, EV_ADD | EV_CLEAR, id.bits())
}

const FIRST: ConnectionId = ConnectionId::new(0, 7);
const SECOND: ConnectionId = ConnectionId::new(1, 7);

#[test]
fn adoptions_leave_with_the_call_that_waits() {
    let mut bench = Bench::new();
    let (first, mut first_peer) = bench.adopt(FIRST);
    let (second, mut second_peer) = bench.adopt(SECOND);
    assert!(bench.calls().is_empty(), "nothing is asked of the kernel before the turn");
    first_peer.write_all(b"one").unwrap();
    second_peer.write_all(b"two").unwrap();
    bench.answer([readable(first, FIRST), readable(second, SECOND)]);
    assert_eq!(bench.turn(Wait::For(Duration::from_micros(1_500_000))), ["0 data one", "1 data two"]);
    let calls = bench.calls();
    assert_eq!(calls.len(), 1);
    assert_eq!(calls[0].changes, [readable(first, FIRST), readable(second, SECOND)]);
    assert_eq!((calls[0].room, calls[0].timeout), (EVENTS_MAX, Some(Duration::from_millis(1500))));
    // Once is enough.
    bench.turn(Wait::Forever);
    let calls = bench.calls();
    assert_eq!((calls.len(), calls[0].changes.len(), calls[0].timeout), (1, 0, None));
    bench.turn(Wait::For(Duration::MAX));
    assert_eq!(bench.calls()[0].timeout, Some(Duration::new(i32::MAX as u64, 999_999_999)));
}

#[test]
fn a_refused_change_fails_its_connection() {
    let mut bench = Bench::new();
    let (first, _first_peer) = bench.adopt(FIRST);
    let (second, mut second_peer) = bench.adopt(SECOND);
    let refused = Kevent { data: libc::ENOMEM as isize, ..kevent(first, EVFILT_READ, EV_ERROR, FIRST.bits()) };
    bench.answer([refused]);
    assert_eq!(bench.turn(Wait::Forever), [format!("0 error {}", libc::ENOMEM)]);
    second_peer.write_all(b"well").unwrap();
    bench.answer([readable(second, SECOND)]);
    assert_eq!(bench.turn(Wait::Forever), ["1 data well"], "the others are as they were");
    bench.platform.close(FIRST, Close::AfterSend);
    assert_eq!(bench.turn(Wait::Poll), ["0 closed"]);
    // Of a connection that was closed meanwhile, and of one with another generation, nobody hears.
    bench.answer([refused, Kevent { udata: ConnectionId::new(1, 6).bits(), ..refused }]);
    assert!(bench.turn(Wait::Poll).is_empty());
}

#[test]
fn a_refused_watch_is_told_at_once() {
    let mut bench = Bench::new();
    let (ours, _theirs) = UnixStream::pair().unwrap();
    bench.script.lock().unwrap().refusal = Some(libc::EINVAL);
    let error = bench.platform.watch(WatchId(5), ours.as_raw_fd()).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EINVAL));
    bench.platform.watch(WatchId(5), ours.as_raw_fd()).unwrap();
    assert!(bench.platform.watch(WatchId(6), ours.as_raw_fd()).is_err(), "the second would replace the first");
    let calls = bench.calls();
    assert_eq!(calls.len(), 2);
    assert!(calls.iter().all(|call| call.room == 0 && call.changes[0].flags == EV_ADD), "level-triggered, no EV_CLEAR");
    let report = calls[1].changes[0];
    bench.answer([report, Kevent { flags: EV_EOF, ..report }]);
    assert_eq!(bench.turn(Wait::Forever), ["watch 5", "watch 5"], "an end is readable too");
    bench.calls();
    bench.platform.unwatch(WatchId(5));
    assert_eq!(bench.calls()[0].changes[0].flags, EV_DELETE);
    bench.answer([report]);
    assert!(bench.turn(Wait::Poll).is_empty());
}

#[test]
fn an_end_is_read_up_to() {
    let mut bench = Bench::new();
    let (first, mut peer) = bench.adopt(FIRST);
    peer.write_all(b"last").unwrap();
    drop(peer);
    // A short read would be taken for "drained" without the flag.
    bench.answer([Kevent { flags: EV_CLEAR | EV_EOF, ..readable(first, FIRST) }]);
    assert_eq!(bench.turn(Wait::Forever), ["0 data last", "0 eof"]);
    // A failure behind the end, which no read tells any more. The socket itself knows of none here.
    let failed = Kevent { flags: EV_CLEAR | EV_EOF, fflags: libc::ETIMEDOUT as u32, ..readable(first, FIRST) };
    bench.answer([failed]);
    assert_eq!(bench.turn(Wait::Forever), ["0 error 0"], "a reset by name, where the socket has no errno");
}

#[test]
fn an_end_without_failure_is_none() {
    let mut bench = Bench::new();
    let (first, mut peer) = bench.adopt(FIRST);
    peer.shutdown(std::net::Shutdown::Write).unwrap();
    let end = Kevent { flags: EV_CLEAR | EV_EOF, ..readable(first, FIRST) };
    bench.answer([end]);
    assert_eq!(bench.turn(Wait::Forever), ["0 eof"]);
    bench.answer([end]);
    assert!(bench.turn(Wait::Forever).is_empty(), "told once");
    bench.platform.send(FIRST, OutBuf { head: b"answer".to_vec(), ..OutBuf::default() });
    assert_eq!(bench.turn(Wait::Poll), ["0 sent"], "the other direction is open");
    let mut answer = [0; 6];
    peer.read_exact(&mut answer).unwrap();
}

#[test]
fn reports_of_old_ids_are_dead() {
    let mut bench = Bench::new();
    let (first, mut first_peer) = bench.adopt(FIRST);
    bench.turn(Wait::Poll);
    bench.platform.close(FIRST, Close::AfterSend);
    assert_eq!(bench.turn(Wait::Poll), ["0 closed"]);
    let _ = first_peer.write_all(b"late");
    // The same place, and, as likely as not, the same descriptor.
    let next = ConnectionId::new(0, 8);
    let (again, mut peer) = bench.adopt(next);
    peer.write_all(b"new").unwrap();
    bench.answer([readable(first, FIRST), kevent(first, EVFILT_WRITE, EV_ONESHOT | EV_EOF, FIRST.bits())]);
    assert!(bench.turn(Wait::Poll).is_empty());
    bench.answer([readable(again, next)]);
    assert_eq!(bench.turn(Wait::Poll), ["0 data new"]);
}

#[test]
fn a_closed_descriptor_is_not_registered() {
    let mut bench = Bench::new();
    let (_first, _first_peer) = bench.adopt(FIRST);
    let (second, _second_peer) = bench.adopt(SECOND);
    // Its number may be any other file's before the wait.
    bench.platform.close(FIRST, Close::AfterSend);
    assert_eq!(bench.turn(Wait::Poll), ["0 closed"]);
    assert_eq!(bench.turn(Wait::Poll), [""; 0]);
    let changes: Vec<_> = bench.calls().into_iter().flat_map(|call| call.changes).collect();
    assert_eq!(changes, [readable(second, SECOND)]);
}

#[test]
fn a_signal_ends_the_wait_and_loses_no_change() {
    let mut bench = Bench::new();
    let (first, _peer) = bench.adopt(FIRST);
    bench.script.lock().unwrap().answers.push_back(Err(libc::EINTR));
    assert!(bench.turn(Wait::Forever).is_empty());
    bench.turn(Wait::Forever);
    bench.turn(Wait::Forever);
    let calls: Vec<_> = bench.calls().into_iter().map(|call| call.changes).collect();
    assert_eq!(calls, [vec![readable(first, FIRST)], vec![readable(first, FIRST)], vec![]]);
    // What is no signal is the caller's.
    bench.script.lock().unwrap().answers.push_back(Err(libc::EBADF));
    let error = bench.platform.turn(Wait::Poll, &mut Vec::new()).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EBADF));
}

#[test]
fn each_change_has_room_to_fail() {
    let mut bench = Bench::new();
    let count = EVENTS_MAX + 44;
    let mut peers = Vec::new();
    let mut refused = Vec::new();
    for slot in 0..count as u32 {
        let id = ConnectionId::new(slot, 1);
        let (descriptor, peer) = bench.adopt(id);
        refused.push(Kevent { data: libc::ENOMEM as isize, ..kevent(descriptor, EVFILT_READ, EV_ERROR, id.bits()) });
        peers.push(peer);
    }
    bench.answer(refused);
    assert_eq!(bench.turn(Wait::Forever).len(), count);
    let calls = bench.calls();
    assert_eq!((calls.len(), calls[0].changes.len(), calls[0].room), (1, count, count));
}

#[test]
fn a_full_list_is_not_drained_in_the_same_turn() {
    let mut bench = Bench::new();
    let mut all: Vec<_> = (0..EVENTS_MAX as u32 + 44)
        .map(|slot| {
            let id = ConnectionId::new(slot, 1);
            let (descriptor, mut peer) = bench.adopt(id);
            peer.write_all(b"x").unwrap();
            (readable(descriptor, id), peer)
        })
        .collect();
    bench.turn(Wait::Poll);
    bench.calls();
    let reports: Vec<_> = all.iter().map(|(report, _)| *report).collect();
    bench.answer(&reports[..EVENTS_MAX]);
    bench.answer(&reports[EVENTS_MAX..]);
    // As many as there are receive buffers; the others wait for the next turn, in order.
    let mut told = Vec::new();
    while told.len() < all.len() {
        told.extend(bench.turn(Wait::Poll));
        assert!(bench.calls().len() <= 1, "an empty kevent costs a Mac more than a full one");
    }
    told.sort_by_key(|text| text.split(' ').next().unwrap().parse::<usize>().unwrap());
    let expected: Vec<_> = (0..all.len()).map(|slot| format!("{slot} data x")).collect();
    assert_eq!(told, expected);
    all.clear();
}

#[test]
fn wakes_are_one_call() {
    let mut bench = Bench::new();
    let waker = bench.platform.waker();
    let other = waker.clone();
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let waker = waker.clone();
            thread::spawn(move || (0..100).for_each(|_| waker.wake()))
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    other.wake();
    let calls = bench.calls();
    assert_eq!(calls.len(), 1, "400 wakes before the turn");
    let trigger = Kevent { fflags: NOTE_TRIGGER, ..kevent(0, EVFILT_USER, 0, Token::WAKER.0) };
    assert_eq!((calls[0].changes.as_slice(), calls[0].room), ([trigger].as_slice(), 0));
    bench.answer([Kevent { flags: EV_CLEAR, ..trigger }]);
    assert_eq!(bench.turn(Wait::Forever), ["woken"]);
    bench.calls();
    waker.wake();
    assert_eq!(bench.calls().len(), 1, "and the next one is a new one");
}

#[test]
fn writing_is_watched_only_while_a_send_is_short() {
    let mut bench = Bench::new();
    let (first, mut peer) = bench.adopt(FIRST);
    bench.turn(Wait::Poll);
    bench.platform.send(FIRST, OutBuf { head: b"short".to_vec(), ..OutBuf::default() });
    assert_eq!(bench.turn(Wait::Poll), ["0 sent"]);
    bench.turn(Wait::Poll);
    assert!(bench.calls().iter().all(|call| call.changes.iter().all(|change| change.filter == EVFILT_READ)));
    peer.read_exact(&mut [0; 5]).unwrap();

    let bytes = 3_000_000;
    bench.platform.send(FIRST, OutBuf { head: vec![5; bytes], ..OutBuf::default() });
    let watched = kevent(first, EVFILT_WRITE, EV_ADD | EV_ONESHOT, FIRST.bits());
    let reader = thread::spawn(move || io::copy(&mut (&mut peer).take(bytes as u64), &mut io::sink()).unwrap());
    let (mut told, mut asked) = (Vec::new(), 0);
    let start = Instant::now();
    while told.is_empty() {
        assert!(start.elapsed() < Duration::from_secs(20));
        bench.answer([Kevent { flags: EV_ONESHOT, ..watched }]);
        told = bench.turn(Wait::Poll);
        for call in bench.calls() {
            // Each report has ended the watch, so each send that is still short asks anew: once, in the call that waits.
            assert!(call.changes.is_empty() || call.changes == [watched], "{:?}", call.changes);
            asked += call.changes.len();
        }
    }
    assert_eq!(told, ["0 sent"]);
    assert!(asked > 0);
    reader.join().unwrap();
    bench.turn(Wait::Poll);
    bench.turn(Wait::Poll);
    assert!(bench.calls().iter().all(|call| call.changes.is_empty()));
}

#[test]
fn a_send_whose_watch_is_refused_fails() {
    let mut bench = Bench::new();
    let (first, _peer) = bench.adopt(FIRST);
    bench.turn(Wait::Poll);
    bench.platform.send(FIRST, OutBuf { head: vec![5; 3_000_000], ..OutBuf::default() });
    bench.answer([Kevent { data: libc::ENOMEM as isize, ..kevent(first, EVFILT_WRITE, EV_ERROR, FIRST.bits()) }]);
    assert_eq!(bench.turn(Wait::Forever), [format!("0 error {}", libc::ENOMEM)], "or it would never end");
}

/// Of the one test that counts.
static CALLS: AtomicU64 = AtomicU64::new(0);

#[derive(Debug)]
struct Counted(SystemHere);

impl KqSys for Counted {
    fn kqueue() -> io::Result<Self> {
        SystemHere::kqueue().map(Self)
    }

    fn kevent(&self, changes: &[Kevent], events: &mut [Kevent], timeout: Option<libc::timespec>) -> io::Result<usize> {
        CALLS.fetch_add(1, Ordering::Relaxed);
        self.0.kevent(changes, events, timeout)
    }
}

/// An echo takes one call for all the connections that are ready at once.
#[test]
fn calls_of_an_echo() {
    const ROUNDS: usize = 100;
    for (connections, calls_allowed) in [(1, 1.0), (64, 1.0 / 64.0)] {
        let mut platform = Readiness::<KqueuePoller<Counted>>::open(&IoConfig::default()).unwrap();
        let mut peers: Vec<_> = (0..connections)
            .map(|slot| {
                let (ours, theirs) = UnixStream::pair().unwrap();
                platform.adopt(ConnectionId::new(slot, 0), OwnedFd::from(ours)).unwrap();
                theirs
            })
            .collect();
        let mut events = Vec::new();
        platform.turn(Wait::Poll, &mut events).unwrap();
        let before = CALLS.load(Ordering::Relaxed);
        for _ in 0..ROUNDS {
            peers.iter_mut().for_each(|peer| peer.write_all(b"ask").unwrap());
            let mut sent_count = 0;
            while sent_count < peers.len() {
                platform.turn(Wait::For(Duration::from_secs(20)), &mut events).unwrap();
                for event in events.drain(..) {
                    match event {
                        Event::Data { connection, buffer } => {
                            let head = platform.rx(&buffer).to_vec();
                            platform.rx_release(buffer);
                            platform.send(connection, OutBuf { head, ..OutBuf::default() });
                        }
                        Event::Sent { .. } => sent_count += 1,
                        other => panic!("{other:?}"),
                    }
                }
            }
            peers.iter_mut().for_each(|peer| peer.read_exact(&mut [0; 3]).unwrap());
        }
        let requests = f64::from(connections) * ROUNDS as f64;
        let calls = (CALLS.load(Ordering::Relaxed) - before) as f64 / requests;
        println!("{connections} connections: {calls} calls of kevent() a request");
        assert!(calls <= calls_allowed, "{calls} calls a request at {connections} connections");
        platform.finish(Instant::now() + Duration::from_secs(20)).unwrap();
    }
}
