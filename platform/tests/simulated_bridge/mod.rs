//! The simulated kernel between real sockets, so that it is held to the contract that the real ones keep: what arrives at a
//! real socket travels through it to the caller, and what it lets its peer read is written to that socket. Its clock follows
//! the wall's. `STORMS`: its weather is drawn, not calm.
//!
//! What a turn waits for here is looked at each tenth of a millisecond, as a simulated wait ends by its own clock alone.

use std::cell::Cell;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::thread;
use std::time::{Duration, Instant};

use turboapi_platform::fakes::simulated::{Network, Peer, Reader, Simulated, Weather};
use turboapi_platform::fakes::waker::FakeWaker;
use turboapi_platform::{
    Close, ConnectionId, Event, IoConfig, ListenerId, OutBuf, Platform, RxBuf, Wait, WatchId, socket,
};

/// Bytes that the simulated peer may read before the real one has them.
const AHEAD: usize = 64 * 1024;
/// Pieces that are carried from a real socket before anything else is done: a peer may write as fast as it is read.
const PIECES: usize = 16;
const LOOK_AGAIN: Duration = Duration::from_micros(100);
/// A turn adds some microseconds to the simulated clock: it must not be ahead of the wall's.
const BEHIND: u64 = 50;

thread_local! {
    static SEED: Cell<u64> = const { Cell::new(0) };
}

pub struct Bridge<const STORMS: bool> {
    inner: Simulated,
    network: Network,
    started: Instant,
    listeners: Vec<(ListenerId, OwnedFd)>,
    ends: Vec<End>,
}

/// The real socket of one simulated peer.
struct End {
    peer: Peer,
    socket: OwnedFd,
    address: Option<std::net::SocketAddr>,
    written: usize,
    has_ended: bool,
    is_shut: bool,
}

impl End {
    /// Carries what there is both ways; false when it is over.
    fn carry(&mut self, network: &Network) -> bool {
        let mut piece = [0; 16 * 1024];
        for _ in 0..PIECES {
            if self.has_ended {
                break;
            }
            match socket::receive(self.socket.as_fd(), &mut piece) {
                Ok(0) => {
                    self.has_ended = true;
                    network.end(self.peer);
                }
                Ok(bytes) => network.write(self.peer, &piece[..bytes]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => {
                    self.has_ended = true;
                    network.reset(self.peer, error.raw_os_error().unwrap_or(libc::ECONNRESET));
                }
            }
        }
        // One that was accepted and not adopted yet is in no backlog any more.
        let is_over = network.connection(self.peer).is_some() && network.is_over(self.peer);
        let (was_reset, lingers, is_all) = network.with_history(self.peer, |out, read, history| {
            while self.written < read {
                match socket::send(self.socket.as_fd(), &out[self.written..read], &[]) {
                    Ok(bytes) => self.written += bytes,
                    Err(_) => break,
                }
            }
            let lingers = matches!(history.closes.first(), Some((_, Close::Linger(_))));
            (history.was_reset, lingers, self.written == out.len())
        });
        network.let_read(self.peer, self.written + AHEAD);
        if is_over && was_reset {
            let _ = socket::set_reset_on_close(self.socket.as_fd());
            return false;
        }
        if lingers && is_all && !self.is_shut {
            self.is_shut = true;
            let _ = socket::shutdown_write(self.socket.as_fd());
        }
        !(is_over && is_all)
    }
}

impl<const STORMS: bool> Bridge<STORMS> {
    fn accept(&mut self) {
        for (id, listener) in &self.listeners {
            while let Ok((socket, address)) = socket::accept(listener.as_fd()) {
                let reader = Reader { window: AHEAD, stops_after: AHEAD, ..Reader::PROMPT };
                let Some(peer) = self.network.connect(*id, reader) else { break };
                self.ends.push(End { peer, socket, address, written: 0, has_ended: false, is_shut: false });
            }
        }
    }

    fn carry(&mut self) {
        self.accept();
        self.ends.retain_mut(|end| end.carry(&self.network));
    }
}

impl<const STORMS: bool> Platform for Bridge<STORMS> {
    const NAME: &'static str = "simulated";
    type Waker = FakeWaker;

    fn open(config: &IoConfig) -> io::Result<Self> {
        let seed = SEED.get() + 1;
        SEED.set(seed);
        let storm = Weather {
            latency_max: 300,
            holds: 60,
            cuts: 120,
            starves: 60,
            empties: 40,
            shortens: 100,
            loses: 128,
            overshoots: 255,
            stalls: 0,
            adopt_fails: 0,
        };
        let inner = Simulated::new(config, seed, if STORMS { storm } else { Weather::default() }, false)?;
        let network = inner.network();
        Ok(Self { inner, network, started: Instant::now(), listeners: Vec::new(), ends: Vec::new() })
    }

    fn waker(&self) -> FakeWaker {
        self.inner.waker()
    }

    fn listen(&mut self, id: ListenerId, listener: BorrowedFd<'_>) -> io::Result<()> {
        self.inner.listen(id, listener)?;
        socket::set_non_blocking(listener)?;
        self.listeners.push((id, listener.try_clone_to_owned()?));
        Ok(())
    }

    fn unlisten(&mut self, id: ListenerId) {
        self.accept();
        self.listeners.retain(|(known, _)| *known != id);
        self.inner.unlisten(id);
    }

    fn want_accept(&mut self, id: ListenerId, on: bool) {
        self.inner.want_accept(id, on);
    }

    fn adopt(&mut self, id: ConnectionId, socket: OwnedFd) -> io::Result<()> {
        let real = socket.try_clone()?;
        self.inner.adopt(id, socket)?;
        let Some(peer) = self.network.peer(id) else { return Ok(()) };
        // What was not accepted here brings its own socket.
        if self.ends.iter().all(|end| end.peer != peer) {
            socket::set_non_blocking(real.as_fd())?;
            let end = End { peer, socket: real, address: None, written: 0, has_ended: false, is_shut: false };
            self.network.let_read(peer, AHEAD);
            self.ends.push(end);
        }
        Ok(())
    }

    fn want_read(&mut self, id: ConnectionId, on: bool) {
        self.inner.want_read(id, on);
    }

    fn send(&mut self, id: ConnectionId, out: OutBuf) {
        self.inner.send(id, out);
    }

    fn close(&mut self, id: ConnectionId, how: Close) {
        self.inner.close(id, how);
    }

    fn watch(&mut self, _: WatchId, _: RawFd) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn unwatch(&mut self, _: WatchId) {}

    fn turn(&mut self, wait: Wait, events: &mut Vec<Event>) -> io::Result<()> {
        let (start, told_before) = (Instant::now(), events.len());
        loop {
            let wall = (self.started.elapsed().as_micros() as u64).saturating_sub(BEHIND);
            self.network.pass(wall.saturating_sub(self.network.now()));
            self.carry();
            self.inner.turn(Wait::Poll, events)?;
            self.carry();
            for event in &mut events[told_before..] {
                if let Event::Accepted { socket, peer, .. } = event {
                    let accepted = self.network.accepted_as(socket.as_raw_fd());
                    *peer = self.ends.iter().find(|end| Some(end.peer) == accepted).and_then(|end| end.address);
                }
            }
            let is_over = match wait {
                Wait::Poll => true,
                Wait::For(time) => start.elapsed() >= time,
                Wait::Forever => false,
            };
            if is_over || events.len() > told_before {
                return Ok(());
            }
            thread::sleep(LOOK_AGAIN);
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.network.pass(0);
        self.carry();
        Ok(())
    }

    fn rx(&self, buffer: &RxBuf) -> &[u8] {
        self.inner.rx(buffer)
    }

    fn rx_release(&mut self, buffer: RxBuf) {
        self.inner.rx_release(buffer);
    }

    fn finish(self, deadline: Instant) -> io::Result<()> {
        self.inner.finish(deadline)
    }
}
