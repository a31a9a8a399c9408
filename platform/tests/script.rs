//! What the script platform promises beyond the contract: its clock, its record, and its harder checks.

#![allow(clippy::unwrap_used, missing_docs)]

use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use turboapi_platform::fakes::script::{Peer, Script, Stage, Step};
use turboapi_platform::{Close, ConnectionId, Event, ListenerId, OutBuf, Platform, Wait, Wake};

const SECOND: Duration = Duration::from_secs(1);

fn adopted() -> (Script, Stage, Peer, ConnectionId) {
    let mut script = Script::new();
    let stage = script.stage();
    let peer = stage.peer();
    stage.push_turn(vec![Step::Connect { listener: ListenerId(0), peer }]);
    let [Event::Accepted { socket, .. }] = <[Event; 1]>::try_from(turn(&mut script, Wait::Poll)).unwrap() else {
        panic!()
    };
    let id = ConnectionId::new(0, 0);
    script.adopt(id, socket).unwrap();
    (script, stage, peer, id)
}

fn turn(script: &mut Script, wait: Wait) -> Vec<Event> {
    let mut events = Vec::new();
    script.turn(wait, &mut events).unwrap();
    events
}

fn names(events: &[Event]) -> String {
    let name = |event: &Event| match event {
        Event::Accepted { .. } => 'A',
        Event::Data { .. } => 'D',
        Event::Eof { .. } => 'E',
        Event::Error { .. } => 'X',
        Event::Sent { .. } => 'S',
        Event::Closed { .. } => 'C',
        Event::Woken => 'W',
        _ => '?',
    };
    events.iter().map(name).collect()
}

#[test]
fn waiting_moves_the_clock() {
    let (mut script, stage, peer, _) = adopted();
    let start = script.now();
    stage.push_turn_after(10 * SECOND, vec![Step::End { peer }]);
    assert_eq!(names(&turn(&mut script, Wait::For(3 * SECOND))), "");
    assert_eq!(script.now() - start, 3 * SECOND);
    assert_eq!(names(&turn(&mut script, Wait::Poll)), "");
    assert_eq!(names(&turn(&mut script, Wait::Forever)), "E");
    assert_eq!(script.now() - start, 10 * SECOND);
    script.waker().wake();
    assert_eq!(names(&turn(&mut script, Wait::Forever)), "W");
    assert!(stage.is_over());
    assert!(script.turn(Wait::Forever, &mut Vec::new()).is_err(), "nothing can come any more");
}

#[test]
fn held_sends_and_lingering() {
    let (mut script, stage, peer, id) = adopted();
    stage.hold_sends(peer, true);
    script.send(id, OutBuf { head: b"answer".to_vec(), ..OutBuf::default() });
    script.close(id, Close::Linger(2 * SECOND));
    assert_eq!(names(&turn(&mut script, Wait::Poll)), "");
    stage.push_turn(vec![Step::Take { peer }]);
    assert_eq!(names(&turn(&mut script, Wait::Poll)), "S");
    assert_eq!((stage.sent(peer), stage.is_closed(peer)), (b"answer".to_vec(), false));
    assert_eq!(names(&turn(&mut script, Wait::Forever)), "C");
    assert_eq!(stage.closed(peer), Some(Close::Linger(2 * SECOND)));
}

#[test]
fn paused_reading_keeps_the_bytes() {
    let (mut script, stage, peer, id) = adopted();
    script.want_read(id, false);
    stage.push_turn(vec![Step::Bytes { peer, bytes: vec![1; 100_000] }, Step::End { peer }]);
    assert_eq!(names(&turn(&mut script, Wait::Poll)), "");
    script.want_read(id, true);
    let (mut count, mut all) = (0, String::new());
    while !all.ends_with('E') {
        let events = turn(&mut script, Wait::Poll);
        all += &names(&events);
        for event in events {
            if let Event::Data { buffer, .. } = event {
                count += script.rx(&buffer).len();
                script.rx_release(buffer);
            }
        }
    }
    assert_eq!((count, all.as_str()), (100_000, "DDDDDDDE"));
}

#[test]
#[should_panic(expected = "released before the next turn")]
fn a_leaked_buffer_panics() {
    let (mut script, stage, peer, _) = adopted();
    stage.push_turn(vec![Step::Bytes { peer, bytes: b"x".to_vec() }]);
    let events = turn(&mut script, Wait::Poll);
    assert_eq!((names(&events).as_str(), stage.buffers_out()), ("D", 1));
    turn(&mut script, Wait::Poll);
}

#[test]
#[should_panic(expected = "released twice")]
fn a_double_release_panics() {
    let (mut script, stage, peer, _) = adopted();
    stage.push_turn(vec![Step::Bytes { peer, bytes: b"x".to_vec() }]);
    for event in turn(&mut script, Wait::Poll) {
        if let Event::Data { buffer, .. } = event {
            let again = turboapi_platform::RxBuf { index: buffer.index, offset: buffer.offset, len: buffer.len };
            script.rx_release(buffer);
            script.rx_release(again);
        }
    }
}

#[test]
fn a_failure_ends_all_but_closed() {
    let (mut script, stage, peer, id) = adopted();
    script.send(id, OutBuf { head: b"x".to_vec(), ..OutBuf::default() });
    stage.hold_sends(peer, true);
    stage.push_turn(vec![Step::Bytes { peer, bytes: b"x".to_vec() }, Step::Fail { peer, code: libc::ECONNRESET }]);
    assert_eq!(names(&turn(&mut script, Wait::Poll)), "X");
    script.close(id, Close::AfterSend);
    assert_eq!(names(&turn(&mut script, Wait::Poll)), "C");
    let other = UnixDatagram::unbound().unwrap();
    script.adopt(ConnectionId::new(0, 1), other.into()).unwrap();
}
