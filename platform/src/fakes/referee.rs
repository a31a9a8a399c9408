//! Watches a platform and its worker at once: passes every call and event on, and panics at the first that breaks the
//! contract, on either side. For tests and simulation; no backend serves through it.
//!
//! What a worker may not do is here stricter than what a platform must bear: a call for an id that was closed is ignored by
//! every backend, but a worker that makes one has lost track of its connections.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd, RawFd};
use std::time::Instant;

use crate::{Close, ConnectionId, Event, IoConfig, ListenerId, OutBuf, Platform, RxBuf, Wait, WatchId};

/// What the contract allows after `want_read(false)`.
const DATA_AFTER_PAUSE: u32 = 4;

/// A platform under watch.
#[derive(Debug)]
pub struct Referee<P: Platform> {
    inner: P,
    /// By slot. The last connection of each place.
    seats: Vec<Option<Seat>>,
    buffers_out: Vec<u32>,
}

#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts about one connection; most of their mixes occur")]
struct Seat {
    id: ConnectionId,
    is_open: bool,
    is_sending: bool,
    has_ended: bool,
    has_failed: bool,
    /// In the last turn: the worker may not have looked at it yet.
    has_just_failed: bool,
    data_allowed: Option<u32>,
    closing: Option<Close>,
}

impl<P: Platform> Referee<P> {
    /// Watches this one from now on.
    #[must_use]
    pub fn over(inner: P) -> Self {
        Self { inner, seats: Vec::new(), buffers_out: Vec::new() }
    }

    fn seat(&mut self, id: ConnectionId, who: &str) -> &mut Seat {
        let seat = self.seats.get_mut(id.slot() as usize).and_then(Option::as_mut);
        let Some(seat) = seat.filter(|seat| seat.id == id) else {
            panic!("{who} names {id:?}, which was never adopted or is an old id")
        };
        assert!(seat.is_open, "{who} names {id:?} after its Closed");
        seat
    }

    fn check(&mut self, event: &Event) {
        let platform = "the platform";
        match event {
            Event::Data { connection, buffer } => {
                assert!(!self.buffers_out.contains(&buffer.index), "the platform lends buffer {} twice", buffer.index);
                assert!(buffer.len > 0, "the platform tells of no bytes");
                self.buffers_out.push(buffer.index);
                let seat = self.seat(*connection, platform);
                let is_in_order = seat.closing.is_none() && !seat.has_ended && !seat.has_failed;
                assert!(is_in_order, "the platform tells Data out of order: {seat:?}");
                if let Some(allowed) = &mut seat.data_allowed {
                    assert!(*allowed > 0, "the platform tells more than {DATA_AFTER_PAUSE} Data after a pause");
                    *allowed -= 1;
                }
            }
            Event::Eof { connection } => {
                let seat = self.seat(*connection, platform);
                let is_in_order = seat.closing.is_none() && !seat.has_ended && !seat.has_failed;
                assert!(is_in_order, "the platform tells Eof out of order: {seat:?}");
                seat.has_ended = true;
            }
            Event::Error { connection, .. } => {
                let seat = self.seat(*connection, platform);
                assert!(seat.closing.is_none() && !seat.has_failed, "the platform tells Error out of order: {seat:?}");
                (seat.has_failed, seat.has_just_failed, seat.is_sending) = (true, true, false);
            }
            Event::Sent { connection, .. } => {
                let seat = self.seat(*connection, platform);
                assert!(seat.is_sending && !seat.has_failed, "the platform tells Sent of no send: {seat:?}");
                seat.is_sending = false;
            }
            Event::Closed { connection } => {
                let seat = self.seat(*connection, platform);
                assert!(seat.closing.is_some(), "the platform tells Closed, which nobody asked for: {seat:?}");
                seat.is_open = false;
            }
            _ => {}
        }
    }
}

impl<P: Platform> Platform for Referee<P> {
    const NAME: &'static str = P::NAME;
    const TELLS_ACKNOWLEDGED: bool = P::TELLS_ACKNOWLEDGED;
    type Waker = P::Waker;

    fn open(config: &IoConfig) -> io::Result<Self> {
        P::open(config).map(Self::over)
    }

    fn now(&self) -> Instant {
        self.inner.now()
    }

    fn waker(&self) -> P::Waker {
        self.inner.waker()
    }

    fn listen(&mut self, listener: ListenerId, socket: BorrowedFd<'_>) -> io::Result<()> {
        self.inner.listen(listener, socket)
    }

    fn unlisten(&mut self, listener: ListenerId) {
        self.inner.unlisten(listener);
    }

    fn want_accept(&mut self, listener: ListenerId, on: bool) {
        self.inner.want_accept(listener, on);
    }

    fn adopt(&mut self, id: ConnectionId, socket: OwnedFd) -> io::Result<()> {
        let slot = id.slot() as usize;
        if self.seats.len() <= slot {
            self.seats.resize_with(slot + 1, || None);
        }
        if let Some(seat) = &self.seats[slot] {
            assert!(!seat.is_open, "the worker adopts {id:?} in the slot of {:?}, which is open", seat.id);
            assert!(seat.id != id, "the worker uses {id:?} again");
        }
        self.inner.adopt(id, socket)?;
        self.seats[slot] = Some(Seat {
            id,
            is_open: true,
            is_sending: false,
            has_ended: false,
            has_failed: false,
            has_just_failed: false,
            data_allowed: None,
            closing: None,
        });
        Ok(())
    }

    fn want_read(&mut self, id: ConnectionId, on: bool) {
        let seat = self.seat(id, "want_read");
        assert!(seat.closing.is_none(), "the worker calls want_read after close: {seat:?}");
        seat.data_allowed = (!on).then_some(DATA_AFTER_PAUSE);
        self.inner.want_read(id, on);
    }

    fn send(&mut self, id: ConnectionId, out: OutBuf) {
        let seat = self.seat(id, "send");
        assert!(seat.closing.is_none(), "the worker sends after close: {seat:?}");
        // What came with the `Error`, and before it, may still be answered: nothing leaves.
        assert!(!seat.has_failed || seat.has_just_failed, "the worker sends after Error: {seat:?}");
        assert!(!seat.is_sending, "the worker sends with a send in flight: {seat:?}");
        assert!(!out.is_empty(), "the worker sends no bytes: {seat:?}");
        seat.is_sending = !seat.has_failed;
        self.inner.send(id, out);
    }

    fn acknowledged(&mut self, connection: ConnectionId) -> Option<u64> {
        self.inner.acknowledged(connection)
    }

    fn close(&mut self, id: ConnectionId, how: Close) {
        let seat = self.seat(id, "close");
        let is_harder = seat.closing.is_none_or(|asked| how == Close::Abort && asked != Close::Abort);
        assert!(is_harder, "the worker closes twice, and not harder: {how:?}, {seat:?}");
        seat.closing = Some(how);
        self.inner.close(id, how);
    }

    fn watch(&mut self, watch: WatchId, descriptor: RawFd) -> io::Result<()> {
        self.inner.watch(watch, descriptor)
    }

    fn unwatch(&mut self, watch: WatchId) {
        self.inner.unwatch(watch);
    }

    fn turn(&mut self, wait: Wait, events: &mut Vec<Event>) -> io::Result<()> {
        assert!(self.buffers_out.is_empty(), "the worker turns with receive buffers {:?} unreleased", self.buffers_out);
        for seat in self.seats.iter_mut().flatten() {
            seat.has_just_failed = false;
        }
        let told_before = events.len();
        let done = self.inner.turn(wait, events);
        for event in &events[told_before..] {
            self.check(event);
        }
        done
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }

    fn rx(&self, buffer: &RxBuf) -> &[u8] {
        assert!(self.buffers_out.contains(&buffer.index), "the worker reads buffer {} after its release", buffer.index);
        self.inner.rx(buffer)
    }

    fn rx_release(&mut self, buffer: RxBuf) {
        let at = self.buffers_out.iter().position(|index| *index == buffer.index);
        let Some(at) = at else { panic!("the worker releases buffer {} twice", buffer.index) };
        self.buffers_out.swap_remove(at);
        self.inner.rx_release(buffer);
    }

    fn finish(self, deadline: Instant) -> io::Result<()> {
        assert!(self.buffers_out.is_empty(), "the worker ends with receive buffers {:?} unreleased", self.buffers_out);
        self.inner.finish(deadline)
    }
}
