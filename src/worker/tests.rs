//! Tests of `worker` over the scripted platform, whose clock only waiting moves.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use bytes::Bytes;
use turboapi_platform::fakes::script::{Asked, Peer, Script, Stage, Step};
use turboapi_platform::handoff::{Handoff, Received};
use turboapi_platform::{Close, ListenerId, OutBuf};

use super::settle::SEND_BYTES_MAX;
use super::state::Slot;
use super::*;
use crate::answer::{Answer, Headers};
use crate::balance::BLOCKED_AFTER;
use crate::connection::tests::{Recorder, STREAMED, Told, shared};
use crate::handler::{Ended, Outcome};
use crate::limits::Limits;
use crate::request::Request;

const LISTENER: ListenerId = ListenerId(0);
const GET: &str = "GET /a HTTP/1.1\r\nHost: h\r\n\r\n";
const LATER: &str = "GET /later HTTP/1.1\r\nHost: h\r\n\r\n";
const ANSWER: &str = "HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nGET /a";
const LAST_ANSWER: &str = "HTTP/1.1 200 OK\r\ncontent-length: 6\r\nconnection: close\r\n\r\nGET /a";
const LATE_ANSWER: &str = "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nGET /later";

struct Rig {
    worker: Worker<Script>,
    stage: Stage,
    handler: Recorder,
    started: Instant,
}

impl Rig {
    fn new(change: impl FnOnce(&mut Limits)) -> Self {
        let script = Script::new();
        let (stage, started) = (script.stage(), script.now());
        let mut worker = Worker::new(script, shared(change));
        // The script never looks at the descriptor.
        worker.listen(File::open("/dev/null").unwrap().as_fd(), Spread::Kernel).unwrap();
        Self { worker, stage, handler: Recorder::default(), started }
    }

    fn turn(&mut self, wait: Wait) {
        self.worker.turn(wait).unwrap();
        self.worker.dispatch(&mut self.handler);
        assert_eq!(self.stage.buffers_out(), 0);
        for (_, slot) in &self.worker.connections {
            if slot.connection.idle_since().is_some() {
                // At most the CRLF that some send behind a request.
                assert!(slot.connection.buffers_capacity() <= 8, "idle, with a buffer");
            }
        }
    }

    /// Lets it work until nothing happens any more, without waiting.
    fn run(&mut self) {
        // Few turns are enough for what one step sets off.
        for _ in 0..8 {
            self.turn(Wait::Poll);
        }
        assert!(self.stage.is_over());
    }

    /// Lets this time pass as a worker does: turns that wait, each until the next deadline at most.
    fn pass(&mut self, seconds: f64) {
        self.run();
        let until = self.stage.now() + Duration::from_secs_f64(seconds);
        let mut turns = 0;
        while self.stage.now() < until {
            self.turn(Wait::For(until - self.stage.now()));
            turns += 1;
        }
        // A tick is the finest there is; nothing may turn without waiting.
        assert!(f64::from(turns) <= seconds * 10.0 + 20.0, "{turns} turns in {seconds} s");
        self.run();
    }

    fn seconds(&self) -> f64 {
        (self.stage.now() - self.started).as_secs_f64()
    }

    /// Waits for ever, as a worker with nothing to do, until this peer's connection is gone; tells when.
    fn closed_at(&mut self, peer: Peer) -> f64 {
        while !self.stage.is_closed(peer) {
            self.turn(Wait::Forever);
        }
        self.seconds()
    }

    fn play(&mut self, step: Step) {
        self.stage.push_turn(vec![step]);
        self.run();
    }

    fn connect(&mut self) -> Peer {
        let peer = self.stage.peer();
        self.play(Step::Connect { listener: LISTENER, peer });
        peer
    }

    fn say(&mut self, peer: Peer, text: &str) {
        self.play(Step::Bytes { peer, bytes: text.into() });
    }

    fn connect_and_say(&mut self, text: &str) -> Peer {
        let peer = self.connect();
        self.say(peer, text);
        peer
    }

    fn sent(&self, peer: Peer) -> String {
        String::from_utf8(self.stage.sent(peer)).unwrap()
    }

    /// Gives all the answers that handlers owe. Returns how many of them found their request.
    fn answer_all(&mut self) -> usize {
        let waiting = std::mem::take(&mut self.handler.waiting);
        let mut count = 0;
        for (id, parts) in waiting {
            for part in parts {
                count += usize::from(self.worker.answer(id, part, &mut self.handler) == Ok(true));
            }
        }
        self.run();
        count
    }

    fn drain(&mut self, seconds: u64) {
        self.worker.drain(Duration::from_secs(seconds));
        self.run();
    }
}

fn whole() -> Part {
    Part::Whole { status: 200, headers: Headers::default(), body: Bytes::from_static(b"GET /a") }
}

#[test]
fn accepts_answers_and_keeps() {
    let mut rig = Rig::new(|_| {});
    let one = rig.connect_and_say(GET);
    let two = rig.connect_and_say(&LATER[..10]);
    assert_eq!((rig.sent(one).as_str(), rig.sent(two).as_str()), (ANSWER, ""));
    rig.say(two, &LATER[10..]);
    rig.say(one, &GET.repeat(2));
    assert_eq!(rig.sent(one), ANSWER.repeat(3));
    assert_eq!((rig.worker.in_flight(), rig.worker.connections_count()), (1, 2));
    assert_eq!(rig.answer_all(), 1);
    assert_eq!(rig.sent(two), LATE_ANSWER);
    assert_eq!((rig.worker.in_flight(), rig.worker.connections_count()), (0, 2));
    assert_eq!((rig.stage.closed(one), rig.stage.closed(two)), (None, None));
    assert_eq!(rig.worker.statistics().accepted, 2);
}

/// A handler that takes its time over a body: the peer is not read, nor blamed, and goes on when some was taken.
#[test]
fn a_body_is_read_as_it_is_taken() {
    let mut rig = Rig::new(|limits| limits.body_untaken_bytes_max = 4);
    rig.handler.body_use = STREAMED;
    let peer = rig.connect_and_say("POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\n12345");
    let switches = |rig: &Rig| -> Vec<(ConnectionId, bool)> {
        let asked = rig.stage.asked();
        asked
            .iter()
            .filter_map(|asked| if let Asked::WantRead(id, on) = asked { Some((*id, *on)) } else { None })
            .collect()
    };
    let [(connection, false)] = switches(&rig)[..] else { panic!("{:?}", switches(&rig)) };
    rig.pass(100.0);
    assert_eq!((rig.worker.in_flight(), rig.stage.closed(peer)), (1, None));
    // Of another request of this connection, and of no connection.
    rig.worker.read_body(RequestId { connection, number: 2 }, 5);
    rig.worker.read_body(RequestId { connection: ConnectionId::new(9, 9), number: 1 }, 5);
    assert_eq!(switches(&rig), [(connection, false)]);
    rig.worker.read_body(RequestId { connection, number: 1 }, 5);
    assert_eq!(switches(&rig), [(connection, false), (connection, true)]);
    rig.say(peer, "6789");
    assert_eq!(rig.answer_all(), 1);
    assert_eq!(rig.sent(peer), "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n123456789");
}

#[test]
fn deadlines_come_on_time_also_while_a_handler_is_suspended() {
    let check = |text: &str, low: f64, status: &str| {
        for is_suspended in [false, true] {
            let mut rig = Rig::new(|_| {});
            if is_suspended {
                rig.connect_and_say(LATER);
            }
            rig.pass(0.77);
            let peer = rig.connect_and_say(text);
            let seconds = rig.closed_at(peer) - 0.77;
            assert!((low..low + 0.21).contains(&seconds), "{text:?} was closed after {seconds} s");
            assert!(rig.sent(peer).starts_with(status), "{}", rig.sent(peer));
            assert_eq!(rig.worker.in_flight(), usize::from(is_suspended));
            assert_eq!(rig.worker.connections_count(), usize::from(is_suspended));
        }
    };
    check("", 10.0, "");
    check(GET, 75.0, ANSWER);
    // A refusal lingers for two seconds.
    check(&GET[..10], 12.0, "HTTP/1.1 408 Request Timeout\r\n");
    check("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nx", 7.0, "HTTP/1.1 408 Request Timeout\r\n");
    check("GARBAGE\r\n", 2.0, "HTTP/1.1 400 Bad Request\r\n");
}

#[test]
fn a_dribble_does_not_move_a_deadline() {
    let mut rig = Rig::new(|_| {});
    let peer = rig.connect();
    for byte in LATER.chars().take(12) {
        rig.say(peer, &byte.to_string());
        rig.pass(1.0);
    }
    assert!(rig.sent(peer).starts_with("HTTP/1.1 408 Request Timeout\r\n"));
    assert_eq!(rig.worker.statistics().timeouts, 1);
}

#[test]
fn a_peer_that_takes_nothing_is_reset() {
    let mut rig = Rig::new(|_| {});
    let peer = rig.connect();
    rig.stage.hold_sends(peer, true);
    rig.say(peer, GET);
    // What it sends meanwhile is answered, and is no reason to wait longer.
    for _ in 0..29 {
        rig.pass(1.0);
        rig.say(peer, GET);
    }
    assert_eq!(rig.handler.calls.len(), 30);
    let seconds = rig.closed_at(peer);
    assert!((30.0..30.2).contains(&seconds), "{seconds}");
    assert_eq!((rig.stage.closed(peer), rig.worker.connections_count()), (Some(Close::Abort), 0));
}

#[test]
fn large_answers_leave_in_pieces() {
    let mut rig = Rig::new(|_| {});
    let peer = rig.connect();
    rig.stage.hold_sends(peer, true);
    // Copied by the handler; the other one is shared.
    rig.say(peer, "GET /big/1000000 HTTP/1.1\r\nHost: h\r\n\r\n");
    rig.say(peer, LATER);
    // Each piece that is taken gives time for the next.
    for _ in 0..10 {
        rig.pass(20.0);
        rig.play(Step::Take { peer });
    }
    let body = Bytes::from(vec![b'y'; 1_000_000]);
    let (id, _) = rig.handler.waiting[0];
    let part = Part::Whole { status: 200, headers: Headers::default(), body };
    assert_eq!(rig.worker.answer(id, part, &mut rig.handler), Ok(true));
    for _ in 0..6 {
        rig.pass(20.0);
        rig.play(Step::Take { peer });
    }
    let sends: Vec<usize> = rig
        .stage
        .asked()
        .iter()
        .filter_map(|asked| match asked {
            Asked::Send(_, bytes) => Some(bytes.len()),
            _ => None,
        })
        .collect();
    assert!(sends.iter().all(|bytes| *bytes <= SEND_BYTES_MAX) && sends.len() <= 9, "{sends:?}");
    assert_eq!(
        rig.stage.sent(peer).len(),
        2 * (1_000_000 + "HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n".len())
    );
    assert_eq!(rig.stage.closed(peer), None);
}

#[test]
fn a_request_costs_no_wheel_operation() {
    let mut rig = Rig::new(|_| {});
    let peer = rig.connect();
    rig.pass(40.0);
    assert!(rig.stage.is_closed(peer));
    let peer = rig.connect_and_say(GET);
    rig.pass(11.0);
    for _ in 0..1000 {
        rig.say(peer, GET);
        assert!(rig.worker.wheel.count() <= 2);
    }
    // And over a long time they do not add up.
    for _ in 0..2000 {
        rig.pass(1.0);
        rig.say(peer, GET);
        assert!(rig.worker.wheel.count() <= 8, "{}", rig.worker.wheel.count());
    }
    assert_eq!(rig.worker.statistics().timeouts, 1);
}

/// A handler that took long: what is answered after it has its time from then on.
#[test]
fn late_answers_count_from_now() {
    let mut rig = Rig::new(|_| {});
    let peer = rig.connect_and_say(LATER);
    rig.stage.hold_sends(peer, true);
    rig.stage.advance(Duration::from_secs(60));
    assert_eq!(rig.answer_all(), 1);
    rig.pass(29.0);
    assert_eq!(rig.stage.closed(peer), None);
    rig.pass(1.2);
    assert_eq!(rig.stage.closed(peer), Some(Close::Abort));
}

/// A handler that computes before it answers.
struct Computing<'a> {
    inner: &'a mut Recorder,
    stage: &'a Stage,
    time: Duration,
}

impl Handler for Computing<'_> {
    fn call(&mut self, request: &Request<'_>, answer: &mut Answer<'_>) -> Outcome {
        self.stage.advance(self.time);
        self.inner.call(request, answer)
    }

    fn writable(&mut self, id: RequestId) {
        self.inner.writable(id);
    }

    fn ended(&mut self, id: RequestId, how: Ended) {
        self.inner.ended(id, how);
    }
}

/// What a handler computes on the worker's own thread shortens no peer's time: neither its own peer's, nor that of those
/// whose events came in the same turn.
#[test]
fn a_handler_that_computes_shortens_no_time_out() {
    let time = Duration::from_secs(20);
    // A peer that does not take its answer; one that is silent after it; one that has sent half a head.
    let mut rig = Rig::new(|_| {});
    let [stalled, silent, half] = [(); 3].map(|()| rig.connect());
    rig.stage.hold_sends(stalled, true);
    rig.stage.push_turn(vec![
        Step::Bytes { peer: stalled, bytes: GET.into() },
        Step::Bytes { peer: silent, bytes: GET.into() },
        Step::Bytes { peer: half, bytes: GET[..9].into() },
    ]);
    rig.worker.turn(Wait::Poll).unwrap();
    let stage = rig.stage.clone();
    rig.worker.dispatch(&mut Computing { inner: &mut rig.handler, stage: &stage, time });
    let check = |rig: &mut Rig, peer, expected: f64| {
        let at = rig.closed_at(peer);
        assert!((expected..expected + 0.3).contains(&at), "after {at} s, not {expected}");
    };
    // The two calls took until 40 s. A refusal lingers for 2 s.
    check(&mut rig, stalled, 20.0 + 30.0);
    check(&mut rig, half, 40.0 + 10.0 + 2.0);
    check(&mut rig, silent, 40.0 + 75.0);
}

/// What has come while a handler computed is looked at before anybody is ended for not having sent it.
#[test]
fn a_handler_that_computes_ends_no_connection_whose_bytes_are_here() {
    let mut rig = Rig::new(|_| {});
    let slow = rig.connect();
    let idle = rig.connect_and_say(GET);
    let half = rig.connect_and_say(&GET[..9]);
    let fresh = rig.connect();
    rig.stage.push_turn(vec![Step::Bytes { peer: slow, bytes: GET.into() }]);
    rig.worker.turn(Wait::Poll).unwrap();
    let stage = rig.stage.clone();
    let time = Duration::from_secs(100);
    rig.worker.dispatch(&mut Computing { inner: &mut rig.handler, stage: &stage, time });
    rig.stage.push_turn(vec![
        Step::Bytes { peer: idle, bytes: GET.into() },
        Step::Bytes { peer: half, bytes: GET[9..].into() },
        Step::Bytes { peer: fresh, bytes: GET.into() },
    ]);
    rig.run();
    for (peer, answers) in [(slow, 1), (idle, 2), (half, 1), (fresh, 1)] {
        assert_eq!(String::from_utf8_lossy(&rig.stage.sent(peer)), ANSWER.repeat(answers));
        assert_eq!(rig.stage.closed(peer), None);
    }
}

/// A process that was stopped and goes on with news that it had before: the next turn need not ask the kernel, and what peers
/// have sent meanwhile is looked at in the one after it.
#[test]
fn a_process_that_was_stopped_ends_no_connection_whose_bytes_are_here() {
    let mut rig = Rig::new(|_| {});
    let (first, second) = (rig.connect_and_say(GET), rig.connect_and_say(GET));
    let news = |peer| vec![Step::Bytes { peer, bytes: GET.into() }];
    rig.stage.push_turn(news(first));
    rig.worker.turn(Wait::Poll).unwrap();
    rig.stage.advance(Duration::from_secs(100));
    rig.worker.dispatch(&mut rig.handler);
    rig.stage.push_turn(vec![]);
    rig.turn(Wait::Poll);
    rig.stage.push_turn(news(second));
    rig.run();
    for peer in [first, second] {
        assert_eq!((rig.sent(peer), rig.stage.closed(peer)), (ANSWER.repeat(2), None));
    }
}

/// A connection that seems idle while its next request stands in the same batch, behind the news that descriptors ran short.
#[test]
fn descriptors_that_run_short_cost_no_request_that_is_here() {
    let mut rig = Rig::new(|_| {});
    let peer = rig.connect_and_say(GET);
    rig.stage.push_turn(vec![Step::Stall { listener: LISTENER, code: 24 }, Step::Bytes { peer, bytes: LATER.into() }]);
    rig.run();
    assert_eq!(rig.answer_all(), 1);
    assert_eq!(rig.stage.closed(peer), None);
}

#[test]
fn accepting_stops_at_the_bound_and_resumes_below_it() {
    let mut rig = Rig::new(|limits| limits.connections_max = 2);
    let accepts = |rig: &Rig| -> Vec<bool> {
        let asked = rig.stage.asked();
        asked.iter().filter_map(|asked| if let Asked::WantAccept(_, on) = asked { Some(*on) } else { None }).collect()
    };
    let peers: Vec<Peer> = (0..4).map(|_| rig.connect()).collect();
    assert_eq!((rig.worker.connections_count(), accepts(&rig)), (2, vec![false]));
    rig.play(Step::End { peer: peers[0] });
    // Both that waited come at once: one more than there is room for, and not one more than that.
    assert_eq!(accepts(&rig), [false, true, false]);
    assert_eq!(rig.worker.connections_count(), 3);
    for peer in peers {
        rig.play(Step::End { peer });
    }
    assert_eq!((rig.worker.connections_count(), accepts(&rig)), (0, vec![false, true, false, true]));
    assert_eq!(rig.worker.statistics().accepted, 4);
}

#[test]
fn when_descriptors_run_short_the_longest_idle_connection_is_closed() {
    let mut rig = Rig::new(|_| {});
    let first = rig.connect_and_say(LATER);
    let second = rig.connect_and_say(GET);
    rig.pass(2.0);
    let third = rig.connect_and_say(GET);
    rig.pass(2.0);
    rig.say(second, GET);
    let half = rig.connect_and_say(&GET[..9]);
    let stall = || Step::Stall { listener: LISTENER, code: 24 };
    let closed = |rig: &Rig| [first, second, third, half].map(|peer| rig.stage.is_closed(peer));
    rig.play(stall());
    assert_eq!(closed(&rig), [false, false, true, false]);
    rig.play(stall());
    assert_eq!(closed(&rig), [false, true, true, false]);
    // No other connection is idle: they stay.
    rig.play(stall());
    assert_eq!(closed(&rig), [false, true, true, false]);
    assert_eq!((rig.worker.connections_count(), rig.worker.statistics().accept_stalls), (2, 3));
}

/// In the same tick, in a slot before it: an answer more or less is all that tells them apart.
#[test]
fn when_descriptors_run_short_a_fresh_connection_stays() {
    let mut rig = Rig::new(|_| {});
    let fresh = rig.connect();
    let answered = rig.connect_and_say(GET);
    rig.play(Step::Stall { listener: LISTENER, code: 24 });
    assert_eq!([fresh, answered].map(|peer| rig.stage.is_closed(peer)), [false, true]);
    rig.play(Step::Stall { listener: LISTENER, code: 24 });
    assert!(rig.stage.is_closed(fresh), "no other connection is idle");
}

#[test]
fn late_events_do_not_reach_the_connection_that_has_the_slot_now() {
    let mut rig = Rig::new(|_| {});
    let old = rig.connect_and_say(LATER);
    let old_id = rig.stage.connection(old).unwrap();
    let (request, _) = rig.handler.waiting.remove(0);
    rig.play(Step::Fail { peer: old, code: 104 });
    assert_eq!(rig.handler.told, [(1, Told::Ended(Ended::Gone))]);
    let new = rig.connect_and_say(LATER);
    let new_id = rig.stage.connection(new).unwrap();
    assert_eq!(new_id.slot(), old_id.slot());
    assert_ne!(new_id, old_id);
    rig.worker.events.extend([
        Event::Sent { connection: old_id, out: OutBuf::default() },
        Event::Eof { connection: old_id },
        Event::Error { connection: old_id, error: io::Error::from_raw_os_error(104) },
        Event::Closed { connection: old_id },
    ]);
    rig.worker.dispatch(&mut rig.handler);
    assert_eq!(rig.worker.answer(request, whole(), &mut rig.handler), Ok(false));
    assert_eq!((rig.worker.in_flight(), rig.worker.connections_count(), rig.handler.told.len()), (1, 1, 1));
    assert_eq!(rig.answer_all(), 1);
    assert_eq!(rig.sent(new), LATE_ANSWER);
}

/// Whatever a connection is doing, however it ends: it leaves nothing behind.
#[test]
fn every_connection_is_removed_once_it_is_closed() {
    let phases = [
        "",
        "\r\n",
        GET,
        &GET[..20],
        "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 500\r\n\r\nx",
        "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
        LATER,
        &LATER.repeat(3),
        "GET /big/900000 HTTP/1.1\r\nHost: h\r\n\r\n",
        "GET /close HTTP/1.1\r\nHost: h\r\n\r\n",
        "GARBAGE\r\n",
    ];
    type End = fn(&mut Rig, Peer);
    let ends: [End; 5] = [
        |rig, peer| rig.play(Step::Fail { peer, code: 104 }),
        |rig, peer| rig.play(Step::End { peer }),
        |rig, _| rig.pass(200.0),
        |rig, _| rig.drain(0),
        |rig, _| rig.drain(3),
    ];
    for text in phases {
        for (number, end) in ends.iter().enumerate() {
            for holds_sends in [false, true] {
                let mut rig = Rig::new(|_| {});
                let peer = rig.connect();
                rig.stage.hold_sends(peer, holds_sends);
                if !text.is_empty() {
                    rig.say(peer, text);
                }
                let later = rig.handler.waiting.len();
                end(&mut rig, peer);
                rig.answer_all();
                rig.answer_all();
                rig.answer_all();
                rig.pass(130.0);
                let case = format!("{text:?}, end {number}, {holds_sends}");
                assert!(rig.stage.is_closed(peer), "{case}");
                assert_eq!((rig.worker.in_flight(), rig.worker.connections_count()), (0, 0), "{case}");
                let last = rig
                    .handler
                    .told
                    .iter()
                    .filter(|(_, told)| matches!(told, Told::Ended(Ended::Complete | Ended::Gone)));
                assert!(last.count() >= later, "{case}: {:?}", rig.handler.told);
                rig.worker.finish(Duration::ZERO).unwrap();
            }
        }
    }
}

#[test]
fn a_drain_takes_its_leave_of_each_as_it_should() {
    let mut rig = Rig::new(|_| {});
    let idle = rig.connect_and_say(GET);
    let silent = rig.connect();
    let suspended = rig.connect_and_say(&LATER.repeat(2));
    let endless = rig.connect_and_say(LATER);
    let last_waiting = rig.handler.waiting.pop().unwrap();
    let uploading = rig.connect_and_say("POST /b HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nx");
    rig.pass(3.0);
    let busy = rig.connect_and_say(GET);
    let busy_again = rig.connect_and_say(GET);
    let half = rig.connect_and_say(&GET[..20]);
    let began = rig.seconds();

    rig.drain(30);
    let closed = |rig: &Rig, peers: &[Peer]| peers.iter().map(|peer| rig.stage.is_closed(*peer)).collect::<Vec<_>>();
    assert_eq!(closed(&rig, &[idle, silent]), [true, true], "at once");
    assert_eq!(closed(&rig, &[suspended, endless, uploading, busy, busy_again, half]), [false; 6]);
    // The next request of one that was just busy was under way.
    rig.pass(0.1);
    rig.say(busy_again, GET);
    assert_eq!(rig.sent(busy_again), [ANSWER, LAST_ANSWER].concat());
    rig.pass(0.3);
    assert_eq!(closed(&rig, &[busy, half]), [true, false], "after its grace");
    rig.pass(0.8);
    assert_eq!(closed(&rig, &[half]), [true], "within about a second");
    assert_eq!(rig.sent(half), "");
    rig.say(uploading, "x");
    assert_eq!(rig.sent(uploading), "HTTP/1.1 200 OK\r\ncontent-length: 10\r\nconnection: close\r\n\r\nPOST /b xx");
    // What is in flight is finished; the pipelined one behind it is not begun any more.
    assert_eq!(rig.answer_all(), 1);
    assert!(rig.sent(suspended).contains("connection: close\r\n"));
    for peer in [suspended, uploading, busy_again] {
        assert!(matches!(rig.stage.closed(peer), Some(Close::Linger(_))));
        rig.play(Step::End { peer });
    }
    assert_eq!(closed(&rig, &[suspended, uploading, busy_again]), [true; 3]);
    assert_eq!((rig.worker.connections_count(), rig.worker.is_drained()), (1, false));
    let seconds = rig.closed_at(endless) - began;
    assert!((29.9..30.2).contains(&seconds), "{seconds}");
    assert_eq!(rig.stage.closed(endless), Some(Close::Abort));
    assert_eq!(rig.worker.answer(last_waiting.0, whole(), &mut rig.handler), Ok(false));
    assert!(rig.worker.is_drained());
    let accepting = rig.stage.asked().iter().filter(|asked| matches!(asked, Asked::WantAccept(..))).count();
    assert_eq!(accepting, 0, "nothing is asked of a listener that was given up");
}

#[test]
fn a_drain_answers_what_waits_for_its_peer_to_read() {
    let mut rig = Rig::new(|_| {});
    let peer = rig.connect();
    rig.stage.hold_sends(peer, true);
    rig.say(peer, &["GET /big/100000 HTTP/1.1\r\nHost: h\r\n\r\n", GET].concat());
    rig.drain(30);
    // Longer than a head of which only a part has come may take now.
    rig.pass(2.0);
    assert!(!rig.stage.is_closed(peer) && rig.stage.closed(peer).is_none());
    for _ in 0..3 {
        rig.play(Step::Take { peer });
    }
    assert!(rig.sent(peer).ends_with(LAST_ANSWER), "{}", rig.sent(peer).len());
}

#[test]
fn a_drain_ends_also_when_nothing_happens_any_more() {
    // Waits for ever would never come back, if the drain had no timer of its own.
    let mut rig = Rig::new(|_| {});
    let peer = rig.connect_and_say(LATER);
    rig.play(Step::ListenerFails { listener: LISTENER, code: 9 });
    rig.worker.drain(Duration::from_secs(5));
    while !rig.worker.is_drained() {
        rig.turn(Wait::Forever);
    }
    assert!(rig.stage.is_closed(peer));
    assert!((5.0..5.2).contains(&rig.seconds()), "{}", rig.seconds());
    // Begun just before a tick ends, it still lasts as long as it was told to.
    let mut rig = Rig::new(|_| {});
    rig.connect_and_say(LATER);
    rig.pass(0.99);
    rig.worker.drain(Duration::from_secs(1));
    while !rig.worker.is_drained() {
        rig.turn(Wait::Forever);
    }
    assert!((1.99..2.21).contains(&rig.seconds()), "{}", rig.seconds());
    // A second one may only be shorter.
    let mut rig = Rig::new(|_| {});
    rig.connect_and_say(LATER);
    rig.worker.drain(Duration::from_secs(50));
    rig.pass(1.0);
    rig.worker.drain(Duration::from_secs(500));
    rig.worker.drain(Duration::ZERO);
    while !rig.worker.is_drained() {
        rig.turn(Wait::Forever);
    }
    assert!(rig.seconds() < 1.3, "{}", rig.seconds());
}

#[test]
fn what_still_comes_from_the_backlog_is_served() {
    let mut rig = Rig::new(|limits| limits.connections_max = 1);
    let held = rig.connect_and_say(LATER);
    let waiting = rig.connect();
    rig.stage.push_turn(vec![Step::Bytes { peer: waiting, bytes: GET.into() }]);
    rig.drain(30);
    rig.pass(0.2);
    assert_eq!(rig.sent(waiting), LAST_ANSWER);
    rig.answer_all();
    for peer in [held, waiting] {
        rig.play(Step::End { peer });
    }
    assert!(rig.worker.is_drained());
}

#[test]
fn what_is_not_for_connections_is_told() {
    let mut rig = Rig::new(|_| {});
    rig.worker.watch(0).unwrap();
    rig.stage.push_turn(vec![Step::Readable { watch: WatchId(0) }]);
    rig.worker.turn(Wait::Poll).unwrap();
    assert!(rig.worker.has_work());
    assert_eq!(rig.worker.dispatch(&mut rig.handler), Seen { watch: true, refusals: false });
    turboapi_platform::Wake::wake(&rig.worker.waker());
    rig.worker.turn(Wait::Forever).unwrap();
    assert_eq!(rig.worker.dispatch(&mut rig.handler), Seen { watch: false, refusals: false });
    rig.play(Step::ListenerFails { listener: LISTENER, code: 9 });
    assert!(!rig.worker.listens());
}

#[test]
fn an_idle_connection_costs_little() {
    assert!(size_of::<Slot>() <= 512, "{}", size_of::<Slot>());
}

/// A worker with the first seat of two, and the handoff that the second one's side is played with.
fn rig_of_two(change: impl FnOnce(&mut Limits)) -> (Rig, Arc<Handoff>) {
    let handoff = Arc::new(Handoff::new(2).unwrap());
    let mut rig = Rig::new(change);
    rig.worker.join(Seat::new(Arc::clone(&handoff), 0)).unwrap();
    (rig, handoff)
}

/// What came into the other worker's mailbox.
fn handed_over(handoff: &Handoff) -> usize {
    let mut count = 0;
    while let Received::Connection(..) = handoff.receive(1).unwrap() {
        count += 1;
    }
    count
}

#[test]
fn hands_over_what_is_too_much_and_says_what_it_has() {
    let (mut rig, handoff) = rig_of_two(|_| {});
    assert_eq!(handoff.load(0), Some(0));
    // The other one does not serve yet.
    let first = rig.connect();
    rig.connect();
    assert_eq!((handoff.load(0), handed_over(&handoff)), (Some(2), 0));
    let other = Seat::new(Arc::clone(&handoff), 1);
    other.publish(Some(0));
    rig.connect();
    assert_eq!((handoff.load(0), handoff.load(1)), (Some(2), Some(1)));
    assert_eq!(handed_over(&handoff), 1);
    other.publish(Some(2));
    rig.connect();
    assert_eq!((handoff.load(0), handed_over(&handoff)), (Some(3), 0));
    assert_eq!((rig.worker.statistics().accepted, rig.worker.statistics().handed_over), (4, 1));
    rig.play(Step::End { peer: first });
    assert_eq!(handoff.load(0), Some(2));
}

#[test]
fn a_full_worker_passes_all_on_and_stops_when_all_are_full() {
    let (mut rig, handoff) = rig_of_two(|limits| limits.connections_max = 2);
    let other = Seat::new(Arc::clone(&handoff), 1);
    other.publish(Some(1));
    let first = rig.connect();
    rig.connect();
    assert_eq!((handoff.load(0), handoff.load(1)), (None, Some(1)));
    let wants = |rig: &Rig| {
        let wish = |asked: &Asked| if let Asked::WantAccept(_, on) = asked { Some(*on) } else { None };
        rig.stage.asked().iter().rev().find_map(wish)
    };
    assert_eq!(wants(&rig), None, "the other one has room");
    rig.connect();
    assert_eq!(wants(&rig), Some(false), "what is under way to it takes its last room");
    assert_eq!(handed_over(&handoff), 1);
    other.publish(Some(2));
    rig.pass(0.2);
    assert_eq!(wants(&rig), Some(false));
    // A worker is not told when another has room again, so it looks.
    other.publish(Some(1));
    rig.pass(0.2);
    assert_eq!(wants(&rig), Some(true));
    other.publish(None);
    rig.pass(0.2);
    assert_eq!(wants(&rig), Some(false));
    rig.play(Step::End { peer: first });
    assert_eq!((handoff.load(0), wants(&rig)), (Some(1), Some(true)));
}

#[test]
fn what_blocks_is_seen_by_the_others_and_gets_nothing() {
    let (mut rig, handoff) = rig_of_two(|_| {});
    let busy_for = |rig: &Rig| handoff.busy_for(0, rig.stage.now());
    rig.connect_and_say(GET);
    rig.stage.advance(Duration::from_millis(7001));
    assert_eq!(busy_for(&rig).as_secs(), 7, "its caller computes, and turns no more");
    rig.turn(Wait::For(Duration::from_secs(1)));
    rig.turn(Wait::Poll);
    assert_eq!(busy_for(&rig), Duration::ZERO);
    // A handler is called in a dispatch, long after the turn that brought the request.
    rig.stage.push_turn(vec![]);
    rig.worker.turn(Wait::Poll).unwrap();
    rig.stage.advance(Duration::from_millis(2001));
    assert_eq!(busy_for(&rig).as_secs(), 2);

    // And the other way round.
    let other = Seat::new(Arc::clone(&handoff), 1);
    other.publish(Some(0));
    other.publish_work(rig.stage.now());
    rig.turn(Wait::Poll);
    rig.connect();
    assert_eq!(handed_over(&handoff), 1);
    rig.stage.advance(BLOCKED_AFTER + Duration::from_millis(1));
    rig.connect();
    assert_eq!((handed_over(&handoff), rig.worker.connections_count()), (0, 2));
    other.publish_wait();
    rig.connect();
    assert_eq!((handed_over(&handoff), rig.worker.connections_count()), (1, 2));

    // One that drains has a successor, which writes in the same place.
    rig.worker.drain(Duration::from_secs(5));
    rig.turn(Wait::Poll);
    rig.stage.advance(Duration::from_millis(2001));
    assert_eq!(busy_for(&rig), Duration::ZERO);
}

#[test]
fn a_drain_takes_what_was_handed_here_and_hands_nothing_over() {
    for is_last in [false, true] {
        let (mut rig, handoff) = rig_of_two(|_| {});
        Seat::new(Arc::clone(&handoff), 1).publish(Some(0));
        let send =
            || handoff.send(0, UnixStream::pair().unwrap().0.into(), Arrival { listener: ListenerId(0), peer: None });
        send().unwrap();
        if is_last {
            handoff.close();
        }
        rig.worker.drain(Duration::from_secs(5));
        assert_eq!(handoff.load(0), None);
        assert!(!rig.worker.is_drained(), "its mailbox was not looked into");
        rig.stage.push_turn(vec![Step::Connect { listener: LISTENER, peer: rig.stage.peer() }]);
        rig.turn(Wait::Poll);
        assert_eq!(rig.worker.statistics().taken_over, 1);
        assert_eq!(handed_over(&handoff), 0);
        assert_eq!(send().is_err(), is_last, "what comes now waits for the successor, if there is to be one");
        rig.pass(2.0);
        assert!(rig.worker.is_drained());
        assert_eq!(handoff.queued(0), u32::from(!is_last));
        if !is_last {
            // The whole server ends before there was a successor: then it looks once more.
            handoff.close();
            assert!(!rig.worker.is_drained());
            rig.pass(1.0);
            assert_eq!(rig.worker.statistics().taken_over, 2);
        }
        assert_eq!(rig.stage.asked().iter().filter(|asked| **asked == Asked::Unwatch(MAILBOX)).count(), 1);
    }
}

#[test]
fn many_requests_at_once_do_not_go_before_those_of_others() {
    let mut rig = Rig::new(|_| {});
    let (flood, other) = (rig.connect(), rig.connect());
    let bytes = |peer, text: &str| Step::Bytes { peer, bytes: text.into() };
    let many = "GET /flood HTTP/1.1\r\nHost: h\r\n\r\n".repeat(100);
    rig.stage.push_turn(vec![bytes(flood, &many), bytes(other, GET)]);
    rig.stage.push_turn(vec![bytes(other, GET)]);
    // No connection waits in the kernel while one waits here.
    for calls in [33, 66, 98, 102] {
        rig.turn(Wait::Forever);
        assert_eq!(rig.handler.calls.len(), calls);
        assert_eq!(rig.worker.has_work(), calls < 102);
    }
    assert_eq!([32, 33].map(|index| rig.handler.calls[index].as_str()), ["GET /a", "GET /a"]);
    rig.run();
    assert_eq!(rig.sent(other), ANSWER.repeat(2));
    assert_eq!(rig.sent(flood).matches("200 OK").count(), 100);
}

#[test]
fn a_connection_that_waits_for_its_share_can_end_meanwhile() {
    let mut rig = Rig::new(|_| {});
    let (gone, next) = (rig.connect(), rig.stage.peer());
    let many = GET.repeat(100).into_bytes();
    rig.stage.push_turn(vec![Step::Bytes { peer: gone, bytes: many }]);
    rig.stage.push_turn(vec![Step::Fail { peer: gone, code: 104 }, Step::Connect { listener: LISTENER, peer: next }]);
    rig.turn(Wait::Forever);
    assert!(rig.worker.has_work());
    rig.turn(Wait::Forever);
    assert_eq!(rig.handler.calls.len(), 32, "nothing is asked for one that has gone");
    rig.say(next, GET);
    assert_eq!((rig.handler.calls.len(), rig.worker.has_work()), (33, false));
    assert_eq!(rig.sent(next), ANSWER);
}

/// What is told of refusals in so many seconds, and when: as with nothing else to do, so it has to wake by itself.
fn told_refusals(rig: &mut Rig, seconds: f64) -> Vec<(f64, Vec<(Refusal, u64)>)> {
    let until = rig.stage.now() + Duration::from_secs_f64(seconds);
    let mut told = Vec::new();
    while rig.stage.now() < until {
        rig.worker.turn(Wait::For(until - rig.stage.now())).unwrap();
        if rig.worker.dispatch(&mut rig.handler).refusals {
            told.push((rig.seconds(), rig.worker.take_refusals()));
        }
    }
    told
}

#[test]
fn refusals_are_told_at_once_and_then_once_a_minute() {
    let mut rig = Rig::new(|limits| (limits.handlers_in_flight_max, limits.connections_max) = (1, 6));
    rig.connect_and_say(LATER);
    assert_eq!(told_refusals(&mut rig, 1.0), []);
    for text in [GET, "GET /\r\n\r\n", GET, "GET /\r\n\r\n"] {
        let peer = rig.stage.peer();
        let bytes = Step::Bytes { peer, bytes: text.into() };
        rig.stage.push_turn(vec![Step::Connect { listener: LISTENER, peer }, bytes, Step::End { peer }]);
    }
    let first = told_refusals(&mut rig, 5.0);
    assert_eq!(first.iter().map(|(_, counts)| counts).collect::<Vec<_>>(), [&[(Refusal::Status(503), 1)]]);
    // Five more fill it.
    for _ in 0..5 {
        rig.connect();
    }
    let rest = told_refusals(&mut rig, 100.0);
    let counts = [(Refusal::Status(400), 2), (Refusal::Status(503), 1), (Refusal::ConnectionsMax, 1)];
    assert_eq!(rest.iter().map(|(_, counts)| counts).collect::<Vec<_>>(), [&counts]);
    assert!((60.0..60.2).contains(&(rest[0].0 - first[0].0)), "{first:?} {rest:?}");
}
