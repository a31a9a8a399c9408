//! Tests of `balance`: the choice as a table, and what it makes of 64 connections that arrive in a thousand orders.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use super::*;

const FULL: Option<u32> = None;

/// Worker 0 has accepted a connection, besides those that it has (`loads[0]`). Which worker gets it?
fn check(spread: Spread, loads: &[Option<u32>], expected: usize) {
    assert_eq!(choose(0, loads[0], loads.len(), spread, 0, |worker| loads[worker]), expected, "{spread:?} {loads:?}");
}

fn some(loads: &[u32]) -> Vec<Option<u32>> {
    loads.iter().copied().map(Some).collect()
}

#[test]
fn an_own_connection_is_kept_unless_there_are_clearly_too_many() {
    let check = |loads: &[u32], expected| check(Spread::Kernel, &some(loads), expected);
    check(&[0], 0);
    check(&[9], 0);
    check(&[0, 0], 0);
    check(&[1, 0], 1); // another has nothing at all
    check(&[1, 1], 0);
    check(&[2, 1], 0); // 3 of 4 over 2: mean 2, bound 3.2
    check(&[3, 1], 1); // 4 of 5: mean 2.5, bound 3.75
    check(&[16, 16, 16, 16], 0);
    check(&[17, 16, 16, 15], 0); // 18 of 65: mean 16.25, bound 18.9
    check(&[18, 16, 16, 14], 3); // 19
    check(&[1000, 1000, 1000, 1000], 0);
    check(&[1099, 1000, 1000, 1000], 0); // mean 1025, bound 1128.5
    check(&[1150, 1000, 1000, 1000], 1); // mean 1037.75, bound 1142.5
    check(&[4, 5, 6, 7], 0);
    check(&[u32::MAX, u32::MAX - 1], 0); // no overflow
}

#[test]
fn what_one_accepts_for_all_goes_to_the_least_loaded() {
    let check = |loads: &[u32], expected| check(Spread::Ours, &some(loads), expected);
    check(&[0], 0);
    check(&[0, 0, 0], 0);
    check(&[1, 0, 0], 1);
    check(&[1, 1, 0], 2);
    check(&[1, 1, 1], 0);
    check(&[3, 5, 2, 9], 2);
    check(&[3, 5, 4, 9], 0);
}

#[test]
fn a_worker_without_room_gets_nothing_and_keeps_nothing() {
    for spread in [Spread::Kernel, Spread::Ours] {
        check(spread, &[Some(40), FULL, FULL], 0);
        check(spread, &[Some(40), FULL, Some(2)], 2);
        check(spread, &[FULL, Some(90), Some(70)], 2);
        check(spread, &[FULL, FULL, FULL], 0); // one of them must have it
    }
}

#[test]
fn ties_go_round() {
    let load = |worker: usize| [Some(9), Some(1), Some(1), Some(1)][worker];
    let chosen = |after| choose(0, load(0), 4, Spread::Kernel, after, load);
    assert_eq!([0, 1, 2, 3].map(chosen), [1, 2, 3, 1]);
}

/// Numbers that look like chance (SplitMix64), the same in each run.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        // The bound is far below 2^64, so this is even enough.
        ((mixed ^ (mixed >> 31)) % bound as u64) as usize
    }
}

/// Mean and worst ratio of the busiest worker to the mean, over 1000 orders of arrival; and the share that was handed over.
/// `at_once`: so many are accepted by workers that do not see yet what the others do with theirs.
fn simulate(connections: usize, workers: usize, at_once: usize, is_on: bool) -> (f64, f64, f64) {
    const ROUNDS: usize = 1000;
    let mut chance = Chance(42);
    let (mut sum, mut worst, mut handed) = (0.0, 0.0f64, 0);
    let mut last: Vec<usize> = (0..workers).collect();
    for _ in 0..ROUNDS {
        let mut loads = vec![0u32; workers];
        for _ in 0..connections / at_once {
            // What each worker sees: the loads of before, and what it has itself done since.
            let mut views = vec![loads.clone(); workers];
            for _ in 0..at_once {
                let own = chance.below(workers);
                let view = &mut views[own];
                let load = |worker: usize| Some(view[worker]);
                let target = if is_on { choose(own, load(own), workers, Spread::Kernel, last[own], load) } else { own };
                if target != own {
                    last[own] = target;
                    handed += 1;
                }
                view[target] += 1;
                loads[target] += 1;
            }
        }
        let mean = connections as f64 / workers as f64;
        let ratio = f64::from(*loads.iter().max().unwrap()) / mean;
        sum += ratio;
        worst = worst.max(ratio);
    }
    let share = handed as f64 / (ROUNDS * connections) as f64;
    println!(
        "{connections} over {workers}, {at_once} at once, on: {is_on}: mean {:.3}, worst {worst:.3}, handed over {share:.3}",
        sum / 1000.0
    );
    (sum / ROUNDS as f64, worst, share)
}

#[test]
fn sixty_four_connections_are_even_in_every_order_of_arrival() {
    // Without it, to see that there is something to mend.
    assert!(simulate(64, 4, 1, false).0 > 1.25);
    assert!(simulate(64, 8, 1, false).0 > 1.5);

    let check = |workers, at_once, bar: f64, handed_max: f64| {
        let (_, worst, handed) = simulate(64, workers, at_once, true);
        assert!(worst <= bar, "{worst} with {workers} workers, {at_once} at once");
        assert!(handed <= handed_max, "{handed} of the connections were handed over");
    };
    check(4, 1, 1.25, 0.2);
    check(8, 1, 1.30, 0.3);
    check(4, 2, 1.25, 0.2);
    check(8, 2, 1.30, 0.3);
    check(4, 4, 1.25, 0.3);
}

/// What others hand to a worker that blocks from the 20th of 200 connections on, one of which comes each 10 ms, to four workers.
/// `accepts`: the worker that accepts each; `bound`: after how long the others see it.
fn handed_to_a_blocked_one(bound: Duration, spread: Spread, accepts: impl Fn(usize) -> usize) -> u32 {
    const WORKERS: usize = 4;
    const BLOCKED: usize = 3;
    const BEFORE: usize = 20;
    let mut loads = [0u32; WORKERS];
    let mut last: [usize; WORKERS] = [0, 1, 2, 3];
    let mut handed = 0;
    for number in 0..200 {
        let own = accepts(number);
        let since = Duration::from_millis(10) * number.saturating_sub(BEFORE) as u32;
        if own == BLOCKED && number >= BEFORE {
            // It waits in that one's own backlog, which no other sees.
            continue;
        }
        let load = |worker| (worker != BLOCKED || since <= bound).then_some(loads[worker]);
        let target = choose(own, load(own), WORKERS, spread, last[own], load);
        if target != own {
            last[own] = target;
        }
        handed += u32::from(target == BLOCKED && number >= BEFORE);
        loads[target] += 1;
    }
    handed
}

/// The figures of `BLOCKED_AFTER`.
#[test]
fn one_that_blocks_is_handed_nothing_for_long() {
    let check = |bound, spread, accepts: fn(usize) -> usize, expected| {
        assert_eq!(handed_to_a_blocked_one(bound, spread, accepts), expected, "{bound:?} {spread:?}");
    };
    check(Duration::MAX, Spread::Kernel, |number| number % 4, 21);
    check(BLOCKED_AFTER, Spread::Kernel, |number| number % 4, 1);
    check(Duration::MAX, Spread::Ours, |_| 0, 45);
    check(BLOCKED_AFTER, Spread::Ours, |_| 0, 5);
}

#[test]
fn what_waits_for_a_dead_worker_goes_to_the_others() {
    let handoff = Arc::new(Handoff::new(3).unwrap());
    let survivor = Seat::new(Arc::clone(&handoff), 2);
    survivor.publish(Some(4));
    Seat::new(Arc::clone(&handoff), 0).publish(Some(1));
    let (waiting, _waiting_peer) = UnixStream::pair().unwrap();
    handoff.send(0, waiting.into(), Arrival { listener: ListenerId(1), peer: None }).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut clients: Vec<_> = (0..3).map(|_| TcpStream::connect(listener.local_addr().unwrap()).unwrap()).collect();

    let cleared = clear_up(&handoff, 0, &[(ListenerId(2), listener.as_fd())]).unwrap();
    assert_eq!(cleared, ClearedUp { moved: 4, lost: 0 });
    assert_eq!(handoff.load(0), None);
    assert_eq!(handoff.load(2), Some(8));
    assert!(matches!(
        handoff.receive(2).unwrap(),
        Received::Connection(_, Arrival { listener: ListenerId(1), peer: None })
    ));
    for client in &mut clients {
        let Received::Connection(socket, arrival) = handoff.receive(2).unwrap() else { panic!("one is missing") };
        assert_eq!(arrival, Arrival { listener: ListenerId(2), peer: client.local_addr().ok() });
        TcpStream::from(socket).write_all(b"served").unwrap();
        client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let mut text = String::new();
        client.read_to_string(&mut text).unwrap();
        assert_eq!(text, "served");
    }

    // No worker is left to take them: they are counted and closed.
    survivor.publish(None);
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    assert_eq!(clear_up(&handoff, 0, &[(ListenerId(2), listener.as_fd())]).unwrap(), ClearedUp { moved: 0, lost: 1 });
    assert_eq!(client.read(&mut [0]).unwrap_or(0), 0);
}

#[test]
fn what_waits_for_a_blocked_worker_goes_to_one_that_has_room() {
    let handoff = Arc::new(Handoff::new(4).unwrap());
    let seats: Vec<_> = (0..4).map(|index| Seat::new(Arc::clone(&handoff), index)).collect();
    let now = Instant::now();
    let later = now + BLOCKED_AFTER + Duration::from_millis(50);
    for seat in &seats {
        seat.publish(Some(1));
    }
    seats[0].publish_work(now);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let clients: Vec<_> = (0..4).map(|_| TcpStream::connect(listener.local_addr().unwrap()).unwrap()).collect();
    let relieve = |max| relieve(&handoff, 0, &[(ListenerId(2), listener.as_fd())], max).unwrap();
    let loads = || [0, 1, 2, 3].map(|worker| handoff.load(worker));

    assert_eq!(relieve(9), 0, "it has only begun");
    std::thread::sleep(later.saturating_duration_since(Instant::now()));
    // One of the others is blocked too, one takes nothing.
    seats[1].publish_work(now);
    seats[3].publish(None);
    let (handed, _handed_peer) = UnixStream::pair().unwrap();
    handoff.send(0, handed.into(), Arrival { listener: ListenerId(1), peer: None }).unwrap();
    assert_eq!((relieve(3), loads()), (2, [Some(1), Some(1), Some(3), None]));
    assert_eq!(relieve(3), 0, "no worker has room, and no connection is closed");
    seats[3].publish(Some(2));
    seats[1].publish_wait();
    assert_eq!((relieve(4), loads()), (3, [Some(1), Some(3), Some(3), Some(3)]));
    seats[0].publish_wait();
    let _late = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    assert_eq!(relieve(9), 0, "it is back");
    assert!(
        matches!(handoff.receive(2).unwrap(), Received::Connection(_, Arrival { listener: ListenerId(1), peer: None })),
        "what was handed to it goes first"
    );
    let Received::Connection(_, arrival) = handoff.receive(2).unwrap() else { panic!("one is missing") };
    assert_eq!(arrival, Arrival { listener: ListenerId(2), peer: clients[0].local_addr().ok() });
}
