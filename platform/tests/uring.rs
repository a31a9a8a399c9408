//! What only the raw ring can get wrong: its buffers run out, its completions overflow, its requests outlive their
//! connection. The rules that it shares with all backends are in contract.rs.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use turboapi_platform::probe::probe_uring;
use turboapi_platform::uring::Uring;
use turboapi_platform::{
    Close, ConnectionId, Event, IoConfig, ListenerId, OutBuf, Platform, Wait, Wake, WatchId, socket,
};

mod own_process;

use own_process::{descriptors, in_own_process};

/// Longer than anything here takes, even on a machine that is busy with something else.
const PATIENCE: Duration = Duration::from_secs(30);
const LISTENER: ListenerId = ListenerId(0);

/// An echo server that checks each event against the contract. It closes what ends.
struct Echo {
    platform: Uring,
    events: Vec<Event>,
    /// Bytes that a connection has received and not yet sent back, and whether a send is out.
    open: HashMap<ConnectionId, (Vec<u8>, bool)>,
    free: Vec<u32>,
    generations: Vec<u32>,
    bytes: usize,
    closed: usize,
    failed: usize,
    accepted: usize,
}

impl Echo {
    fn open(config: &IoConfig) -> Self {
        Self {
            platform: Uring::open(config).unwrap(),
            events: Vec::new(),
            open: HashMap::new(),
            free: Vec::new(),
            generations: Vec::new(),
            bytes: 0,
            closed: 0,
            failed: 0,
            accepted: 0,
        }
    }

    fn listen(&mut self) -> TcpListener {
        let listener = socket::listen_shared(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), socket::BACKLOG).unwrap();
        self.platform.listen(LISTENER, listener.as_fd()).unwrap();
        listener
    }

    fn adopt(&mut self, socket: OwnedFd) -> ConnectionId {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.generations.push(0);
            self.generations.len() as u32 - 1
        });
        let id = ConnectionId::new(slot, self.generations[slot as usize]);
        self.platform.adopt(id, socket).unwrap();
        self.open.insert(id, (Vec::new(), false));
        id
    }

    fn turn(&mut self, wait: Wait) {
        self.platform.turn(wait, &mut self.events).unwrap();
        for event in std::mem::take(&mut self.events) {
            self.on_event(event);
        }
    }

    fn on_event(&mut self, event: Event) {
        let id = match event {
            Event::Accepted { socket, .. } => {
                self.accepted += 1;
                self.adopt(socket);
                return;
            }
            Event::Data { connection, buffer } => {
                let bytes = self.platform.rx(&buffer).to_vec();
                self.platform.rx_release(buffer);
                self.bytes += bytes.len();
                self.open.get_mut(&connection).expect("Data for a connection that is gone").0.extend(bytes);
                connection
            }
            Event::Sent { connection, out } => {
                let place = self.open.get_mut(&connection).expect("Sent for a connection that is gone");
                assert!(std::mem::replace(&mut place.1, false) && !out.head.is_empty());
                connection
            }
            Event::Eof { connection } => return self.platform.close(connection, Close::AfterSend),
            Event::Error { connection, .. } => {
                self.failed += 1;
                return self.platform.close(connection, Close::Abort);
            }
            Event::Closed { connection } => {
                self.closed += 1;
                assert!(self.open.remove(&connection).is_some(), "Closed comes once");
                self.generations[connection.slot() as usize] += 1;
                return self.free.push(connection.slot());
            }
            other => panic!("{other:?}"),
        };
        let place = self.open.get_mut(&id).unwrap();
        if !place.1 && !place.0.is_empty() {
            place.1 = true;
            self.platform.send(id, OutBuf { head: std::mem::take(&mut place.0), body: Bytes::new() });
        }
    }

    fn until(&mut self, what: &str, mut done: impl FnMut(&mut Self) -> bool) {
        let start = Instant::now();
        while !done(self) {
            assert!(start.elapsed() < PATIENCE, "no {what}: {} bytes, {} closed", self.bytes, self.closed);
            self.turn(Wait::For(Duration::from_millis(20)));
        }
    }

    fn finish(self) {
        self.platform.finish(Instant::now() + PATIENCE).unwrap();
    }
}

/// 200 connections send at once, over a pool of 4: each is served, none waits for another's end.
#[test]
fn an_exhausted_pool_serves_all() {
    if probe_uring().is_err() {
        return;
    }
    let mut echo = Echo::open(&IoConfig { receive_buffer_bytes: 256, receive_buffers: 4, ..IoConfig::default() });
    let mut peers: Vec<_> = (0..200)
        .map(|_| {
            let (ours, theirs) = UnixStream::pair().unwrap();
            echo.adopt(ours.into());
            theirs
        })
        .collect();
    // The first never stops; the others must not starve behind it.
    let mut endless = peers.remove(0);
    endless.set_nonblocking(true).unwrap();
    for peer in &mut peers {
        peer.write_all(&[7; 2000]).unwrap();
    }
    let readers: Vec<_> = peers
        .into_iter()
        .map(|mut peer| {
            peer.set_read_timeout(Some(PATIENCE)).unwrap();
            thread::spawn(move || peer.read_exact(&mut [0; 2000]).map(|()| peer).unwrap())
        })
        .collect();
    let mut scratch = [0; 8192];
    echo.until("answer to all", |_| {
        let _ = endless.write(&scratch);
        let _ = endless.read(&mut scratch);
        readers.iter().all(|reader| reader.is_finished())
    });
    let peers: Vec<_> = readers.into_iter().map(|reader| reader.join().unwrap()).collect();
    drop((peers, endless));
    echo.until("Closed of all", |echo| echo.open.is_empty());
    echo.finish();
}

/// More completions at once than the ring holds: the kernel keeps the rest, and none is lost.
#[test]
fn completions_overflow_and_none_is_lost() {
    if probe_uring().is_err() || !in_own_process("completions_overflow_and_none_is_lost") {
        return;
    }
    // Two requests each, which all complete while nothing is reaped: a send, and a receive of the peer's end.
    let count = 6000;
    let limit = libc_limit(2 * count as u64 + 100);
    let mut echo = Echo::open(&IoConfig {
        receive_buffers: 64,
        receive_buffer_bytes: 64,
        ring_entries: 64,
        ..IoConfig::default()
    });
    let count = count.min(limit / 2 - 60);
    let mut peers = Vec::new();
    for _ in 0..count {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let id = echo.adopt(ours.into());
        peers.push((theirs, id));
    }
    echo.turn(Wait::Poll);
    for (peer, id) in &mut peers {
        echo.open.get_mut(id).unwrap().1 = true;
        echo.platform.send(*id, OutBuf { head: b"hello".to_vec(), body: Bytes::new() });
        peer.write_all(b"x").unwrap();
        peer.shutdown(std::net::Shutdown::Write).unwrap();
    }
    for _ in 0..3 {
        echo.platform.flush().unwrap();
    }
    echo.until("Closed of all", |echo| echo.closed == count);
    assert_eq!(echo.bytes, count);
    for (mut peer, _) in peers {
        let mut all = Vec::new();
        // Its own byte comes back where the server was quick enough.
        match peer.read_to_end(&mut all) {
            Ok(_) => assert!(all.starts_with(b"hello")),
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::ConnectionReset),
        }
    }
    echo.finish();
}

/// Raises this process's limit of descriptors as far as it may; what it is then.
#[expect(unsafe_code, reason = "the limit of descriptors has no safe interface")]
fn libc_limit(wanted: u64) -> usize {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is writable during the first call and readable during the second.
    unsafe {
        libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit);
        limit.rlim_cur = wanted.min(limit.rlim_max);
        libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit);
    }
    limit.rlim_cur as usize
}

/// A peer that sends as fast as it can takes one buffer a turn and leaves the others to the others. What comes in one
/// buffer too many is copied, and told as one piece: that happens when the flood begins, and not again.
#[test]
fn a_flood_takes_one_buffer_a_turn() {
    if probe_uring().is_err() {
        return;
    }
    let config = IoConfig { receive_buffer_bytes: 4096, receive_buffers: 64, ..IoConfig::default() };
    let mut platform = Uring::open(&config).unwrap();
    let (ours, mut flood) = UnixStream::pair().unwrap();
    flood.set_nonblocking(true).unwrap();
    let id = ConnectionId::new(0, 0);
    platform.adopt(id, ours.into()).unwrap();
    // Each octet tells where it stands: none is lost, doubled or out of order.
    let all: Vec<u8> = (0..4usize << 20).map(|at| (at % 251) as u8).collect();
    let (mut sent, mut received, mut copied, mut events) = (0, 0, 0, Vec::new());
    let start = Instant::now();
    while received < all.len() {
        assert!(start.elapsed() < PATIENCE, "{received} octets came");
        // The socket is full before each turn.
        while let Ok(count @ 1..) = flood.write(&all[sent..]) {
            sent += count;
        }
        platform.turn(Wait::For(Duration::from_millis(20)), &mut events).unwrap();
        for event in events.drain(..) {
            let Event::Data { buffer, .. } = event else { panic!("{event:?}") };
            let bytes = platform.rx(&buffer);
            assert!(bytes == &all[received..received + bytes.len()], "octets from {received} on differ");
            received += bytes.len();
            copied += usize::from(bytes.len() > 4096);
            platform.rx_release(buffer);
        }
    }
    assert!(copied <= 2, "{copied} pieces were copied");
    platform.finish(Instant::now() + PATIENCE).unwrap();
}

/// Peers that reset while bytes are on their way both ways: each connection ends once, ids are used again at once, and
/// nothing of an old one reaches a new one.
#[test]
fn thousands_of_resets_in_flight() {
    if probe_uring().is_err() || !in_own_process("thousands_of_resets_in_flight") {
        return;
    }
    let before = descriptors();
    let mut echo = Echo::open(&IoConfig { receive_buffer_bytes: 1024, receive_buffers: 16, ..IoConfig::default() });
    let listener = echo.listen();
    let address = listener.local_addr().unwrap();
    let clients: Vec<_> = (0..4u8)
        .map(|client| {
            thread::spawn(move || {
                for round in 0..500 {
                    let mut peers: Vec<_> = (0..3).map(|_| TcpStream::connect(address).unwrap()).collect();
                    for (index, peer) in peers.iter_mut().enumerate() {
                        // Some speak and vanish, some wait for a part of the answer, some say nothing.
                        if index != 2 {
                            let _ = peer.write_all(&[client; 3000]);
                        }
                        if index == 1 && round % 4 == 0 {
                            let mut byte = [0];
                            peer.set_read_timeout(Some(PATIENCE)).unwrap();
                            peer.read_exact(&mut byte).unwrap();
                            assert_eq!(byte, [client], "an answer to somebody else");
                        }
                        if (round + index) % 2 == 0 {
                            socket::set_reset_on_close(peer.as_fd()).unwrap();
                        }
                    }
                }
            })
        })
        .collect();
    echo.until("end of the clients", |_| clients.iter().all(|client| client.is_finished()));
    for client in clients {
        client.join().unwrap();
    }
    echo.until("Closed of all", |echo| echo.accepted == 6000 && echo.open.is_empty());
    assert_eq!(echo.closed, 6000);
    assert!(echo.failed > 100, "{} were reset", echo.failed);
    assert!(echo.generations.len() < 1000, "ids are used again: {}", echo.generations.len());
    echo.finish();
    drop(listener);
    assert_eq!(descriptors(), before);
}

/// Reading that is switched off and on, in each state that a receive can be in, loses and doubles nothing.
#[test]
fn reading_flaps() {
    if probe_uring().is_err() {
        return;
    }
    let mut platform =
        Uring::open(&IoConfig { receive_buffer_bytes: 512, receive_buffers: 8, ..IoConfig::default() }).unwrap();
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let id = ConnectionId::new(5, 1);
    platform.adopt(id, ours.into()).unwrap();
    let sent: Vec<u8> = (0..2_000_000u32).map(|index| (index.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let expected = sent.clone();
    let writer = thread::spawn(move || theirs.write_all(&sent));
    let (mut received, mut events, mut random, mut is_on) = (Vec::new(), Vec::new(), 88_172_645_463_325_252u64, true);
    let (mut is_at_end, mut told_while_off) = (false, 0);
    let start = Instant::now();
    while !is_at_end {
        assert!(start.elapsed() < PATIENCE, "{} of {} bytes", received.len(), expected.len());
        platform.turn(if is_on { Wait::For(Duration::from_millis(1)) } else { Wait::Poll }, &mut events).unwrap();
        for event in events.drain(..) {
            match event {
                Event::Data { buffer, .. } => {
                    received.extend_from_slice(platform.rx(&buffer));
                    platform.rx_release(buffer);
                    told_while_off += usize::from(!is_on);
                    assert!(told_while_off <= 4);
                }
                Event::Eof { .. } => is_at_end = true,
                other => panic!("{other:?}"),
            }
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            // Several times in one turn, too.
            for _ in 0..random % 4 {
                is_on = !is_on;
                platform.want_read(id, is_on);
                told_while_off = 0;
            }
        }
        if random % 3 == 0 || !is_on {
            is_on = true;
            platform.want_read(id, true);
            told_while_off = 0;
            random = random.wrapping_add(1);
        }
    }
    writer.join().unwrap().unwrap();
    assert!(received == expected);
    platform.finish(Instant::now() + PATIENCE).unwrap();
}

/// Reading is off for long: what came is kept, the peer is held up, and all of it comes later.
#[test]
fn a_paused_connection_holds_its_peer_up() {
    if probe_uring().is_err() {
        return;
    }
    let mut platform = Uring::open(&IoConfig::default()).unwrap();
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let id = ConnectionId::new(0, 0);
    platform.adopt(id, ours.into()).unwrap();
    platform.want_read(id, false);
    theirs.set_nonblocking(true).unwrap();
    let (mut sent, mut events, piece) = (0, Vec::new(), [9; 65536]);
    let mut blocked = 0;
    while blocked < 50 {
        platform.turn(Wait::Poll, &mut events).unwrap();
        assert!(events.is_empty(), "{events:?}");
        match theirs.write(&piece) {
            Ok(bytes) => sent += bytes,
            Err(error) => {
                assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
                blocked += 1;
            }
        }
        assert!(sent < 8 << 20, "nothing holds the peer up");
    }
    drop(theirs);
    platform.want_read(id, true);
    let (mut received, mut is_at_end, start) = (0, false, Instant::now());
    while !is_at_end {
        assert!(start.elapsed() < PATIENCE, "{received} of {sent} bytes");
        platform.turn(Wait::For(Duration::from_millis(20)), &mut events).unwrap();
        for event in events.drain(..) {
            match event {
                Event::Data { buffer, .. } => {
                    assert!(platform.rx(&buffer).iter().all(|byte| *byte == 9));
                    received += buffer.len as usize;
                    platform.rx_release(buffer);
                }
                Event::Eof { .. } => is_at_end = true,
                other => panic!("{other:?}"),
            }
        }
    }
    assert_eq!(received, sent);
    platform.finish(Instant::now() + PATIENCE).unwrap();
}

/// An idle ring is not entered: a poll without work makes no system call. Seen from outside, by its time.
#[test]
fn an_idle_poll_is_cheap() {
    if probe_uring().is_err() {
        return;
    }
    let mut platform = Uring::open(&IoConfig::default()).unwrap();
    let mut events = Vec::new();
    platform.turn(Wait::Poll, &mut events).unwrap();
    // The fastest of many: the machine may be busy.
    let fastest = (0..200)
        .map(|_| {
            let start = Instant::now();
            for _ in 0..50 {
                platform.turn(Wait::Poll, &mut events).unwrap();
            }
            start.elapsed() / 50
        })
        .min()
        .unwrap();
    assert!(fastest < Duration::from_micros(5), "{fastest:?}");
    platform.finish(Instant::now() + PATIENCE).unwrap();
}

/// Finish while all kinds of requests are in the queue, in the kernel, cancelled, or completed and not reaped.
#[test]
fn finish_with_everything_in_flight() {
    if probe_uring().is_err() || !in_own_process("finish_with_everything_in_flight") {
        return;
    }
    let before = descriptors();
    let body = Bytes::from(vec![1; 3_000_000]);
    for round in 0..40usize {
        let mut platform =
            Uring::open(&IoConfig { receive_buffers: 4, ring_entries: 16, ..IoConfig::default() }).unwrap();
        let listener = socket::listen_shared(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), socket::BACKLOG).unwrap();
        platform.listen(LISTENER, listener.as_fd()).unwrap();
        let (outside, mut inside) = UnixStream::pair().unwrap();
        platform.watch(WatchId(0), outside.as_raw_fd()).unwrap();
        let mut events = Vec::new();
        let mut peers = Vec::new();
        for index in 0..50u32 {
            let (ours, mut theirs) = UnixStream::pair().unwrap();
            let id = ConnectionId::new(index, round as u32);
            platform.adopt(id, ours.into()).unwrap();
            match index % 6 {
                0 => platform.send(id, OutBuf { head: body.to_vec(), body: Bytes::new() }),
                1 => platform.send(id, OutBuf { head: vec![2; 10], body: body.clone() }),
                2 => theirs.write_all(&[3; 100]).unwrap(),
                3 => platform.close(id, Close::Linger(PATIENCE)),
                4 => platform.want_read(id, false),
                _ => {}
            }
            if index % 7 == 0 {
                platform.close(id, Close::AfterSend);
            }
            if index % 11 == 0 {
                platform.close(id, Close::Abort);
            }
            peers.push(theirs);
            if index as usize % 10 == round % 10 {
                release_all(&mut platform, &mut events);
            }
        }
        inside.write_all(b"x").unwrap();
        let late = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        platform.waker().wake();
        match round % 4 {
            0 => {}
            1 => platform.flush().unwrap(),
            2 => release_all(&mut platform, &mut events),
            _ => platform.unlisten(LISTENER),
        }
        events.clear();
        if round % 3 == 0 {
            drop(platform);
        } else {
            platform.finish(Instant::now() + PATIENCE).unwrap();
        }
        // Nothing keeps their connections.
        for mut peer in peers {
            let _ = io::copy(&mut peer, &mut io::sink());
        }
        drop((late, inside, outside, listener));
        assert_eq!(descriptors(), before, "round {round}");
    }
}

fn release_all(platform: &mut Uring, events: &mut Vec<Event>) {
    platform.turn(Wait::Poll, events).unwrap();
    for event in events.drain(..) {
        if let Event::Data { buffer, .. } = event {
            platform.rx_release(buffer);
        }
    }
}

/// Connections come and go by thousands over few slots; descriptors stay flat meanwhile.
#[test]
fn churn_keeps_descriptors_flat() {
    if probe_uring().is_err() || !in_own_process("churn_keeps_descriptors_flat") {
        return;
    }
    let mut echo = Echo::open(&IoConfig::default());
    let before = descriptors();
    for round in 0..3000u32 {
        let mut peers = Vec::new();
        for _ in 0..4 {
            let (ours, theirs) = UnixStream::pair().unwrap();
            let id = echo.adopt(ours.into());
            peers.push((theirs, id));
        }
        for (index, (peer, id)) in peers.iter_mut().enumerate() {
            match (round as usize + index) % 5 {
                0 => peer.write_all(b"one").unwrap(),
                1 => echo.platform.close(*id, Close::Abort),
                2 => {
                    peer.write_all(b"two").unwrap();
                    echo.turn(Wait::Poll);
                    echo.platform.close(*id, Close::Linger(PATIENCE));
                }
                3 => {
                    echo.open.get_mut(id).unwrap().1 = true;
                    echo.platform.send(*id, OutBuf { head: vec![1; 500_000], body: Bytes::new() });
                    echo.turn(Wait::Poll);
                    echo.platform.close(*id, Close::Abort);
                }
                _ => {}
            }
        }
        drop(peers);
        echo.until("Closed of all", |echo| echo.open.is_empty());
        assert!(echo.generations.len() <= 4, "{} slots", echo.generations.len());
    }
    assert_eq!(descriptors(), before);
    echo.finish();
}
