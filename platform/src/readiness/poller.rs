//! What the engine needs of a kernel: what is watched, what it reports, whose report it is. No connection state here.

use std::io;
use std::os::fd::{OwnedFd, RawFd};
use std::time::{Duration, Instant};

use crate::{ConnectionId, IoConfig, OutBuf, Wake};

/// What a descriptor was registered for, as the kernel hands it back: kind in the top byte, identity below.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token(pub u64);

impl Token {
    pub(super) const KIND_SHIFT: u32 = 56;
    pub(super) const CONNECTION: u64 = 0;
    pub(super) const LISTENER: u64 = 1;
    pub(super) const WATCH: u64 = 2;
    /// The poller's own wake-up.
    pub const WAKER: Self = Self(3 << Self::KIND_SHIFT);

    pub(super) const fn new(kind: u64, identity: u64) -> Self {
        Self(kind << Self::KIND_SHIFT | identity)
    }

    /// The connection that it was made for, if for one.
    #[must_use]
    pub const fn connection(self) -> Option<ConnectionId> {
        if self.0 >> Self::KIND_SHIFT == Self::CONNECTION { Some(ConnectionId::from_bits(self.0)) } else { None }
    }

    pub(super) const fn identity(self) -> u64 {
        self.0 & ((1 << Self::KIND_SHIFT) - 1)
    }
}

/// How a descriptor is to be watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interest {
    /// New: each arrival is told once.
    Read,
    /// Registered with `Read` before: now also each time it becomes writable again.
    ReadAndWrite,
    /// New: told by each wait for as long as it is readable.
    Level,
    /// Forget it.
    Nothing,
}

/// One report of the kernel.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "they are the kernel's own bits, unpacked; any mix can come")]
pub struct Polled {
    /// Whose report it is.
    pub token: Token,
    /// A read would not wait.
    pub is_readable: bool,
    /// A write would not wait.
    pub is_writable: bool,
    /// The peer's end, or a failure, waits behind the bytes that are still to be read.
    pub is_hung_up: bool,
    /// The socket failed, or what was asked for it could not be done.
    pub is_failed: bool,
    /// A send that was given to [`Poller::send`] is over; see [`Poller::take_sent`].
    pub is_sent: bool,
    /// A socket that was given to [`Poller::release`] is closed now.
    pub is_gone: bool,
}

/// Whether a socket is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Release {
    /// It is.
    Done,
    /// The kernel still watches it; a report with `is_gone` follows.
    Later,
}

/// What the engine needs of a kernel.
pub trait Poller: Sized + 'static {
    /// As `TURBOAPI_IO` and the log spell it.
    const NAME: &'static str;
    /// Its wake-up handle.
    type Waker: Wake;

    /// Whether each connection is told of once, and again only after [`Self::drained`] or another `ReadAndWrite`.
    const IS_ONE_SHOT: bool = false;

    /// Whether each `ReadAndWrite` is told of once, and writing is forgotten with that.
    const IS_WRITE_ONE_SHOT: bool = Self::IS_ONE_SHOT;

    /// Whether [`Self::send`] does anything: whether the kernel takes a turn's sends all at once.
    const TAKES_SENDS: bool = false;

    /// Opens it, with its waker registered as [`Token::WAKER`].
    fn open(config: &IoConfig) -> io::Result<Self>;
    /// A handle for other threads.
    fn waker(&self) -> Self::Waker;
    /// Lets the next wake through; called before [`Event::Woken`](crate::Event::Woken) is reported.
    fn clear_wake(&mut self);
    /// Changes what is watched. A connection's may be put off until the next wait, which then reports its failure as
    /// `is_failed` and says why as [`Self::refusal`].
    fn change(&mut self, descriptor: RawFd, token: Token, interest: Interest) -> io::Result<()>;
    /// Why a change could not be made that had been put off until the last wait.
    fn refusal(&self, _token: Token) -> Option<io::Error> {
        None
    }
    /// A one-shot kernel is to watch this connection for reading again.
    fn drained(&mut self, _token: Token) {}
    /// Sends all of `out.head`, `out.body` being empty, some time before the next wait ends. Called with `TAKES_SENDS` only.
    fn send(&mut self, _token: Token, _out: OutBuf) {}
    /// What became of a send that was reported as `is_sent`.
    fn take_sent(&mut self, _token: Token) -> Option<(OutBuf, io::Result<()>)> {
        None
    }
    /// Has the sends leave that were given to it. Nothing that is reported meanwhile is lost.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
    /// Stops watching a connection's socket and closes it. A send that is not over is broken off, by a reset.
    fn release(&mut self, _token: Token, socket: OwnedFd) -> Release {
        // Its registration ends with it, as no copy of it was made.
        drop(socket);
        Release::Done
    }
    /// Waits, for ever if no time-out is given, and never for less than it; a signal ends it. Number of reports.
    fn wait(&mut self, timeout: Option<Duration>) -> io::Result<usize>;
    /// One of the reports of the last wait.
    fn polled(&self, index: usize) -> Polled;
    /// Waits until the kernel holds nothing of what was released.
    fn finish(self, _deadline: Instant) -> io::Result<()> {
        Ok(())
    }
}
