//! Tests of `handoff`: between threads, over a fork, and with everything full.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::{Duration, Instant};

use super::*;

const ARRIVAL: Arrival = Arrival { listener: ListenerId(0), peer: None };

/// A connection, and its other end.
fn connection() -> (OwnedFd, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    theirs.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    (ours.into(), theirs)
}

/// What waits for a worker, all of it.
fn drain(handoff: &Handoff, worker: usize) -> Vec<OwnedFd> {
    let mut found = Vec::new();
    while let Received::Connection(socket, _) = handoff.receive(worker).unwrap() {
        found.push(socket);
    }
    found
}

fn is_close_on_exec(socket: &OwnedFd) -> bool {
    // SAFETY: takes two integers.
    let flags = unsafe { libc::fcntl(socket.as_raw_fd(), libc::F_GETFD) };
    flags & libc::FD_CLOEXEC != 0
}

/// Whether a poll says that the mailbox is readable.
fn is_readable(seat: &Seat) -> bool {
    let mut asked = libc::pollfd { fd: seat.descriptor(), events: libc::POLLIN, revents: 0 };
    // SAFETY: `asked` is one entry, and lives through the call, which does not wait.
    unsafe { libc::poll(&raw mut asked, 1, 0) > 0 }
}

/// Runs `work` in a forked process, which ends by itself, with this status.
fn fork(work: impl FnOnce() -> i32) -> libc::pid_t {
    // SAFETY: the child calls only `work`, which takes no lock that another thread of the test could hold, and ends.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0);
    if pid == 0 {
        let status = work();
        // SAFETY: takes an integer. Nothing of the test's is run.
        unsafe { libc::_exit(status) };
    }
    pid
}

fn wait(pid: libc::pid_t) -> i32 {
    let mut status = 0;
    // SAFETY: `status` has room for an integer.
    assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
    status
}

#[test]
fn addresses_survive_the_way() {
    let check = |peer: Option<SocketAddr>| {
        for listener in [0, 1, u32::MAX].map(ListenerId) {
            assert_eq!(decode(encode(Arrival { listener, peer })), Arrival { listener, peer });
        }
    };
    check(None);
    check(Some("127.0.0.1:80".parse().unwrap()));
    check(Some("255.254.253.252:65535".parse().unwrap()));
    check(Some("[::1]:8000".parse().unwrap()));
    check(Some("[2001:db8:1:2:3:4:5:6]:1".parse().unwrap()));
    check(Some(SocketAddrV6::new(Ipv6Addr::LOCALHOST, 9, 0x000a_bcde, 7).into()));
}

#[test]
fn one_connection_goes_over_and_is_counted_once() {
    let handoff = Arc::new(Handoff::new(3).unwrap());
    let mut seat = Seat::new(Arc::clone(&handoff), 1);
    assert_eq!([0, 1, 2].map(|worker| handoff.load(worker)), [None; 3], "nobody has published");
    seat.publish(Some(5));
    assert_eq!(handoff.load(1), Some(5));
    assert!(!is_readable(&seat));

    let (socket, mut peer) = connection();
    let number = socket.as_raw_fd();
    let arrival = Arrival { listener: ListenerId(3), peer: "192.0.2.7:4711".parse().ok() };
    handoff.send(1, socket, arrival).unwrap();
    // SAFETY: takes two integers.
    assert_eq!(unsafe { libc::fcntl(number, libc::F_GETFD) }, -1, "the sender keeps no copy");
    assert_eq!(handoff.load(1), Some(6), "counted before it arrives");
    assert!(is_readable(&seat));

    let Received::Connection(socket, from) = seat.receive().unwrap() else { panic!("nothing came") };
    assert_eq!(from, arrival);
    assert!(is_close_on_exec(&socket));
    assert_eq!(handoff.load(1), Some(6), "counted once, and at no moment less");
    seat.publish(Some(6));
    assert_eq!(handoff.load(1), Some(6));
    assert!(matches!(seat.receive().unwrap(), Received::Empty));
    assert!(!is_readable(&seat));

    UnixStream::from(socket).write_all(b"hello").unwrap();
    let mut text = String::new();
    peer.read_to_string(&mut text).unwrap();
    assert_eq!(text, "hello");

    seat.publish(None);
    assert_eq!(handoff.load(1), None);
}

#[test]
fn who_waits_in_the_kernel_is_not_busy() {
    let handoff = Arc::new(Handoff::new(2).unwrap());
    let seat = Seat::new(Arc::clone(&handoff), 1);
    let seconds = |count| handoff.started + Duration::from_secs(count);
    let busy_for = |count| handoff.busy_for(1, seconds(count));
    assert_eq!(busy_for(100), Duration::ZERO, "there is none");
    seat.publish_work(seconds(100));
    assert_eq!([99, 100, 103].map(busy_for), [0, 0, 3].map(Duration::from_secs));
    assert_eq!(handoff.busy_for(0, seconds(103)), Duration::ZERO, "each has its own");
    seat.publish_wait();
    assert_eq!(busy_for(1000), Duration::ZERO);
    // At the very start, and where the number begins anew, it is still no wait.
    for start in [Duration::ZERO, Duration::from_millis(1 << 32)] {
        seat.publish_work(handoff.started + start);
        let after = handoff.busy_for(1, handoff.started + start + Duration::from_millis(501));
        assert_eq!(after, Duration::from_millis(500), "its first millisecond is the second");
    }
    seat.publish_work(handoff.started + Duration::from_millis((1 << 32) - 300));
    assert_eq!(handoff.busy_for(1, handoff.started + Duration::from_millis((1 << 32) + 200)).as_millis(), 500);
    handoff.retire(1);
    assert_eq!(busy_for(9_000_000), Duration::ZERO);
}

#[test]
fn a_full_mailbox_gives_the_connection_back() {
    let handoff = Handoff::new(2).unwrap();
    let (mut peers, mut sent) = (Vec::new(), 0);
    let returned = loop {
        let (socket, peer) = connection();
        peers.push(peer);
        match handoff.send(1, socket, ARRIVAL) {
            Ok(()) => sent += 1,
            Err((socket, error)) => break (socket, error),
        }
        assert!(sent < 100_000, "no mailbox is endless");
    };
    // What a batch of accepting can bring has room: it is 64.
    assert!(sent >= 64, "{sent} fit");
    assert_eq!(returned.1.kind(), io::ErrorKind::WouldBlock);
    let mut last = peers.pop().unwrap();
    UnixStream::from(returned.0).write_all(b"kept").unwrap();
    let mut text = String::new();
    last.read_to_string(&mut text).unwrap();
    assert_eq!(text, "kept");

    handoff.cells.all()[1].open.store(0, Ordering::Relaxed);
    assert_eq!(handoff.load(1), Some(sent), "one that came back is not counted");
    assert_eq!(drain(&handoff, 1).len(), sent as usize);
    assert_eq!(handoff.load(1), Some(0));
    let (socket, _peer) = connection();
    handoff.send(1, socket, ARRIVAL).unwrap();
}

#[test]
fn close_is_the_end_after_what_was_sent_before() {
    let handoff = Arc::new(Handoff::new(2).unwrap());
    let mut seat = Seat::new(Arc::clone(&handoff), 0);
    let (first, _first_peer) = connection();
    handoff.send(0, first, ARRIVAL).unwrap();
    handoff.close();
    handoff.close();
    let (second, _second_peer) = connection();
    let (_, error) = handoff.send(0, second, ARRIVAL).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    assert!(matches!(seat.receive().unwrap(), Received::Connection(..)));
    assert!(matches!(seat.receive().unwrap(), Received::Closed));
    assert!(matches!(seat.receive().unwrap(), Received::Closed), "and stays so");
}

/// Whatever moment the close finds the senders in: each connection is received, or came back to its sender.
#[test]
fn nothing_is_lost_between_a_send_and_a_close() {
    const SENDERS: usize = 3;
    for round in 0..200 {
        let handoff = Arc::new(Handoff::new(1).unwrap());
        let senders: Vec<_> = (0..SENDERS)
            .map(|_| {
                let handoff = Arc::clone(&handoff);
                thread::spawn(move || {
                    let mut sent = 0;
                    loop {
                        match handoff.send(0, connection().0, ARRIVAL) {
                            Ok(()) => sent += 1,
                            Err((_, error)) if error.kind() == io::ErrorKind::BrokenPipe => return sent,
                            Err((_, error)) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
                        }
                    }
                })
            })
            .collect();
        let mut received = 0;
        let closes_at = round % 20;
        loop {
            match handoff.receive(0).unwrap() {
                Received::Connection(..) => received += 1,
                Received::Empty => thread::yield_now(),
                Received::Closed => break,
            }
            if received >= closes_at {
                handoff.close();
            }
        }
        let sent: usize = senders.into_iter().map(|sender| sender.join().unwrap()).sum();
        assert_eq!(received, sent, "round {round}");
    }
}

#[test]
fn threads_hand_each_other_connections_and_each_arrives_once() {
    const WORKERS: usize = 4;
    const EACH: usize = 200;
    let handoff = Arc::new(Handoff::new(WORKERS).unwrap());
    let (sockets, peers): (Vec<_>, Vec<_>) = (0..WORKERS * EACH).map(|_| connection()).unzip();
    let mut sockets = sockets.into_iter();
    let threads: Vec<_> = (0..WORKERS)
        .map(|own| {
            let mine: Vec<_> = sockets.by_ref().take(EACH).collect();
            let seat = Seat::new(Arc::clone(&handoff), own);
            thread::spawn(move || {
                let mut kept = Vec::new();
                for (step, mut socket) in mine.into_iter().enumerate() {
                    let to = (own + 1 + step % (WORKERS - 1)) % WORKERS;
                    while let Err((back, error)) = seat.handoff().send(to, socket, ARRIVAL) {
                        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
                        socket = back;
                        kept.append(&mut drain(seat.handoff(), own));
                    }
                }
                let until = Instant::now() + Duration::from_secs(10);
                // Three others have sent a third of theirs here.
                let due = (0..WORKERS)
                    .filter(|&other| other != own)
                    .map(|other| (0..EACH).filter(|step| (other + 1 + step % (WORKERS - 1)) % WORKERS == own).count());
                let due: usize = due.sum();
                loop {
                    kept.append(&mut drain(seat.handoff(), own));
                    if kept.len() == due || Instant::now() > until {
                        return kept;
                    }
                    thread::yield_now();
                }
            })
        })
        .collect();
    let arrived: Vec<OwnedFd> = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
    assert_eq!(arrived.len(), WORKERS * EACH);
    for (number, socket) in arrived.into_iter().enumerate() {
        UnixStream::from(socket).write_all(&(number as u32).to_ne_bytes()).unwrap();
    }
    // Each peer has heard from exactly one.
    let mut heard = BTreeSet::new();
    for mut peer in peers {
        let mut bytes = Vec::new();
        peer.read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes.len(), 4);
        assert!(heard.insert(bytes));
    }
}

#[test]
fn a_forked_worker_receives_and_its_count_is_seen() {
    let handoff = Arc::new(Handoff::new(2).unwrap());
    let (socket, mut peer) = connection();
    let child = fork(|| {
        let mut seat = Seat::new(Arc::clone(&handoff), 1);
        seat.publish(Some(41));
        for _ in 0..2000 {
            if let Ok(Received::Connection(socket, _)) = seat.receive() {
                seat.publish(Some(42));
                let is_well = is_close_on_exec(&socket) && UnixStream::from(socket).write_all(b"child").is_ok();
                return i32::from(!is_well);
            }
            thread::sleep(Duration::from_millis(5));
        }
        2
    });
    while handoff.load(1).is_none() {
        thread::yield_now();
    }
    assert_eq!(handoff.load(1), Some(41), "another process's writing");
    handoff.send(1, socket, ARRIVAL).unwrap();
    let mut text = [0; 5];
    peer.read_exact(&mut text).unwrap();
    assert_eq!(&text, b"child");
    assert_eq!(wait(child), 0);
    assert_eq!(handoff.load(1), Some(42));
}

#[test]
fn what_waits_for_a_killed_worker_is_its_successors() {
    let handoff = Arc::new(Handoff::new(2).unwrap());
    let child = fork(|| {
        Seat::new(Arc::clone(&handoff), 1).publish(Some(7));
        loop {
            thread::sleep(Duration::from_secs(1));
        }
    });
    while handoff.load(1).is_none() {
        thread::yield_now();
    }
    let mut peers = Vec::new();
    for _ in 0..5 {
        let (socket, peer) = connection();
        handoff.send(1, socket, ARRIVAL).unwrap();
        peers.push(peer);
    }
    assert_eq!(handoff.load(1), Some(12));
    // SAFETY: takes two integers; the process is our child and has not been waited for.
    unsafe { libc::kill(child, libc::SIGKILL) };
    wait(child);
    handoff.retire(1);
    assert_eq!(handoff.load(1), None);

    let successor = fork(|| {
        let mut seat = Seat::new(Arc::clone(&handoff), 1);
        seat.publish(Some(0));
        if handoff.load(1) != Some(5) {
            return 1;
        }
        let mut count = 0;
        while let Ok(Received::Connection(socket, _)) = seat.receive() {
            count += 1;
            seat.publish(Some(count));
            if UnixStream::from(socket).write_all(b"served").is_err() {
                return 2;
            }
        }
        i32::from(handoff.load(1) != Some(5))
    });
    for mut peer in peers {
        let mut text = String::new();
        peer.read_to_string(&mut text).unwrap();
        assert_eq!(text, "served");
    }
    assert_eq!(wait(successor), 0);
}

/// A process that is killed between counting and sending leaves a count behind; it is forgotten with the next look.
#[test]
fn a_miscount_is_forgotten_when_the_mailbox_is_empty() {
    let handoff = Arc::new(Handoff::new(1).unwrap());
    let mut seat = Seat::new(Arc::clone(&handoff), 0);
    seat.publish(Some(1));
    for wrong in [3, -3] {
        handoff.cells.all()[0].queued.store(wrong, Ordering::Relaxed);
        assert!(matches!(seat.receive().unwrap(), Received::Empty));
        assert_eq!(handoff.load(0), Some(1));
    }
}

/// In a process of its own, as it takes all descriptors there are.
#[test]
fn without_a_free_descriptor_a_connection_waits() {
    let handoff = Arc::new(Handoff::new(1).unwrap());
    let status = wait(fork(|| {
        let mut seat = Seat::new(Arc::clone(&handoff), 0);
        let (first, _first_peer) = connection();
        let (second, _second_peer) = connection();
        if handoff.send(0, first, ARRIVAL).is_err() || handoff.send(0, second, ARRIVAL).is_err() {
            return 1;
        }
        let limit = libc::rlimit { rlim_cur: 64, rlim_max: 64 };
        // SAFETY: `limit` is readable.
        if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) } != 0 {
            return 2;
        }
        let Ok(Received::Connection(first, _)) = seat.receive() else { return 3 };
        let mut hoard = Vec::new();
        while let Ok(copy) = first.try_clone() {
            hoard.push(copy);
        }
        // The reserve is there for the second one. After that there is none, and it says so before it takes anything.
        let Ok(Received::Connection(_second, _)) = seat.receive() else { return 4 };
        let (third, _) = (hoard.pop(), hoard.pop());
        let Some(third) = third else { return 5 };
        if handoff.send(0, third, ARRIVAL).is_err() {
            return 6;
        }
        while let Ok(copy) = first.try_clone() {
            hoard.push(copy);
        }
        seat.spare = None;
        if seat.receive().is_ok() {
            return 7;
        }
        hoard.clear();
        i32::from(!matches!(seat.receive(), Ok(Received::Connection(..)))) * 8
    }));
    assert_eq!(libc::WEXITSTATUS(status), 0);
    assert!(libc::WIFEXITED(status));
}
