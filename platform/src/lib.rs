//! The kernel as turboapi sees it: sockets, wake-ups, waiting. No HTTP here, no CPython, no timers but one bound on a wait.
//!
//! One [`Platform`] belongs to one worker thread. The worker calls [`Platform::turn`], which submits what was asked for and
//! returns a batch of [`Event`]s; nothing calls back, so the worker may do what it likes between two turns. Receive buffers
//! belong to the driver (an idle connection holds none), send buffers to the caller, which gets each back in [`Event::Sent`].
//!
//! Rules that every backend keeps, and `tests/contract.rs` checks:
//! 1. Events of one connection come in this order: `Data`*, `Eof`?, `Error`?, `Closed`. `Closed` is always last and exactly
//!    once per adopted connection, after [`Platform::close`] was called; the kernel then holds nothing of it any more.
//! 2. Each [`Platform::send`] gives exactly one `Sent`, or is dropped without one when the connection failed (`Error`) or was
//!    aborted; the driver finishes short writes by itself. After [`Platform::close`] only that `Sent` and `Closed` follow.
//! 3. A [`ConnectionId`] carries a generation: an event for an old one is never delivered under a new one.
//! 4. [`Wait::Poll`] never blocks, and repeated polls make progress.
//! 5. An [`RxBuf`] is released exactly once, before the next turn; its bytes stay where they are until then.

#![warn(clippy::pedantic)]
#![allow(clippy::module_name_repetitions, clippy::missing_errors_doc)]
// Prose about kernels is full of their names.
#![allow(clippy::doc_markdown)]
// The kernel's interfaces are made of C integers; where a value could really be cut, the line says why it is not.
#![allow(clippy::cast_possible_truncation, clippy::cast_possible_wrap, clippy::cast_sign_loss)]

// Reading order, which is that of the imports (README.md): which backend, the backends, what they share. `kqueue` is compiled
// everywhere, for its tests, and has its system calls on macOS. `tokio_uring` is there with the feature of its name.
pub mod probe;
#[cfg(target_os = "linux")]
pub mod uring;
#[cfg(all(target_os = "linux", feature = "tokio-uring"))]
pub mod tokio_uring;
#[cfg(target_os = "linux")]
pub mod monoio;
#[cfg(target_os = "linux")]
pub mod ring_runtime;
#[cfg(target_os = "linux")]
pub mod epoll;
pub mod kqueue;
pub mod readiness;
pub mod fakes;
pub mod handoff;
#[cfg(target_os = "linux")]
pub mod eventfd;
mod slots;
mod backlog;
mod lingering;
pub mod pool;
pub mod socket;
pub mod doorbell;
pub mod thread_time;
pub mod memory;

/// What `doorbell` is made of; its test under loom has others.
mod atomics {
    pub(crate) use std::sync::atomic::{AtomicBool, Ordering, fence};
}

use std::io;
use std::net::SocketAddr;
use std::os::fd::{BorrowedFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

use bytes::Bytes;

/// A connection of one worker: slot in the low 32 bits, generation (24 bits) above. Chosen by the worker, not by the driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId(u64);

impl ConnectionId {
    /// Generations wrap at this number.
    pub const GENERATIONS: u32 = 1 << 24;

    /// Joins a slot and a generation; the generation is taken modulo [`Self::GENERATIONS`].
    #[must_use]
    pub const fn new(slot: u32, generation: u32) -> Self {
        Self(slot as u64 | ((generation % Self::GENERATIONS) as u64) << 32)
    }

    /// The place in the worker's table.
    #[must_use]
    pub const fn slot(self) -> u32 {
        (self.0 & 0xffff_ffff) as u32
    }

    /// How often that place had been used before, modulo [`Self::GENERATIONS`].
    #[must_use]
    pub const fn generation(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// All 56 bits, for a backend that must send them through the kernel.
    #[must_use]
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// The inverse of [`Self::bits`].
    #[must_use]
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits & 0x00ff_ffff_ffff_ffff)
    }
}

/// A listening socket of one worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ListenerId(pub u32);

/// A foreign descriptor that the worker watches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct WatchId(pub u32);

/// How long a turn may wait for its first event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Not at all.
    Poll,
    /// At most so long.
    For(Duration),
    /// Until something happens.
    Forever,
}

/// Received bytes, in a buffer that the driver owns. Move-only: to be given to [`Platform::rx_release`] before the next turn.
#[derive(Debug)]
#[must_use = "a receive buffer that is not released starves the pool"]
pub struct RxBuf {
    /// Which buffer of the driver's pool.
    pub index: u32,
    /// First byte.
    pub offset: u32,
    /// Number of bytes, at least 1.
    pub len: u32,
}

/// Bytes to send. The vector comes back in [`Event::Sent`] so that the caller can use its memory again.
#[derive(Debug, Default)]
pub struct OutBuf {
    /// Sent first.
    pub head: Vec<u8>,
    /// Sent after it without a copy; empty in the common case.
    pub body: Bytes,
}

impl OutBuf {
    /// Number of bytes in both parts.
    #[must_use]
    pub fn len(&self) -> usize {
        self.head.len() + self.body.len()
    }

    /// Whether there is nothing to send.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// How a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Close {
    /// When the pending send, if any, has left: close. What the peer still sends is not read.
    AfterSend,
    /// When the pending send has left: shut down writing, then read and discard for at most this time and
    /// [`IoConfig::linger_bytes_max`], then close. The peer can so read an answer that it would otherwise lose to a reset
    /// (RFC 9112 §9.6).
    Linger(Duration),
    /// At once, by a reset, with what was not sent yet.
    Abort,
}

/// What happened since the last turn.
#[derive(Debug)]
pub enum Event {
    /// A connection arrived; nothing is read from it until it is given to [`Platform::adopt`].
    Accepted {
        /// Where it arrived.
        listener: ListenerId,
        /// It, close-on-exec and non-blocking.
        socket: OwnedFd,
        /// Its other end; none for a Unix socket.
        peer: Option<SocketAddr>,
    },
    /// Bytes arrived.
    Data {
        /// On which connection.
        connection: ConnectionId,
        /// Where they are; see [`Platform::rx`].
        buffer: RxBuf,
    },
    /// The peer will send nothing more; it may still read.
    Eof {
        /// Which connection.
        connection: ConnectionId,
    },
    /// The connection failed; at most once, and no `Data`, `Eof` or `Sent` follows.
    Error {
        /// Which connection.
        connection: ConnectionId,
        /// Why.
        error: io::Error,
    },
    /// All of a [`Platform::send`] was taken by the kernel.
    Sent {
        /// Which connection.
        connection: ConnectionId,
        /// The buffer, for further use.
        out: OutBuf,
    },
    /// The connection is gone, and its id with it.
    Closed {
        /// Which connection.
        connection: ConnectionId,
    },
    /// A watched descriptor is readable. Level-triggered: it is told again each turn for as long as it stays so.
    Watch {
        /// Which one.
        watch: WatchId,
    },
    /// A [waker](Platform::Waker) was used since the last turn, once or more often.
    Woken,
    /// The listener accepts no more: after [`Platform::unlisten`] (`error` is none) or because it failed.
    ListenerGone {
        /// Which one.
        listener: ListenerId,
        /// Why, if nobody asked for it.
        error: Option<io::Error>,
    },
    /// Accepting failed for want of descriptors or memory. The driver stops accepting for a moment and tries again by itself.
    /// Told once, and again when it fails after a connection was accepted: each is a chance to make room for the next.
    AcceptStalled {
        /// Which one.
        listener: ListenerId,
        /// EMFILE, ENFILE, ENOBUFS or ENOMEM.
        error: io::Error,
    },
}

/// Ends another thread's wait. Cheap to clone; wakes that come before the turn ends are one.
pub trait Wake: Clone + Send + Sync + 'static {
    /// Makes the platform's present or next [`Platform::turn`] return with [`Event::Woken`].
    fn wake(&self);
}

/// Sizes that a driver needs to know before it starts.
#[derive(Clone, Copy, Debug)]
pub struct IoConfig {
    /// Bytes of one receive buffer.
    pub receive_buffer_bytes: u32,
    /// Number of receive buffers of one worker: the pool has to cover one turn.
    pub receive_buffers: u32,
    /// Submission queue entries of a ring.
    pub ring_entries: u32,
    /// Connections accepted from one listener in one turn, before other work gets its share. After [`Platform::want_accept`]
    /// has said no, those of the last turn are all that come.
    pub accept_batch: u32,
    /// Bytes that a lingering close reads and throws away before it gives up on the peer; with 0 the first byte ends it. The
    /// default, 64 KiB, is what Linux lets a peer have under way on a fresh connection: all that it can have sent before it
    /// could hear from us.
    pub linger_bytes_max: usize,
}

impl Default for IoConfig {
    fn default() -> Self {
        Self {
            receive_buffer_bytes: 16 * 1024,
            receive_buffers: 64,
            ring_entries: 256,
            accept_batch: 64,
            linger_bytes_max: 64 * 1024,
        }
    }
}

/// One worker's way to the kernel. Not `Send`: it lives and dies on the thread that opened it.
pub trait Platform: Sized + 'static {
    /// As `TURBOAPI_IO` and the log spell it.
    const NAME: &'static str;
    /// Whether [`Self::acknowledged`] can tell anything.
    const TELLS_ACKNOWLEDGED: bool = false;
    /// Its wake-up handle.
    type Waker: Wake;

    /// Opens the driver, on the thread that will use it and after any fork.
    fn open(config: &IoConfig) -> io::Result<Self>;

    /// The clock that [`Wait::For`] is measured with. `script` plays its own.
    fn now(&self) -> Instant {
        Instant::now()
    }

    /// A handle for other threads.
    fn waker(&self) -> Self::Waker;

    /// Accepts from a listening socket, which is made non-blocking, and TCP_NODELAY for all that it accepts. The caller
    /// keeps the descriptor open until [`Event::ListenerGone`].
    fn listen(&mut self, listener: ListenerId, socket: BorrowedFd<'_>) -> io::Result<()>;

    /// Accepts what already waits in the backlog, even where [`Self::want_accept`] held it back, then stops;
    /// [`Event::ListenerGone`] follows.
    fn unlisten(&mut self, listener: ListenerId);

    /// Stops (`false`) or resumes (`true`) accepting without giving the listener up: connections wait in the backlog.
    fn want_accept(&mut self, listener: ListenerId, on: bool);

    /// Takes a connected socket, blocking or not, and starts to read from it. On an error the socket is closed and no event
    /// follows. A slot may be used again, with its next generation, once its `Closed` was told.
    fn adopt(&mut self, connection: ConnectionId, socket: OwnedFd) -> io::Result<()>;

    /// Stops (`false`) or resumes (`true`) reading, for back-pressure. After `false` at most 4 more `Data` may come.
    fn want_read(&mut self, connection: ConnectionId, on: bool);

    /// Sends bytes; one send may be in flight per connection, until its `Sent`.
    ///
    /// # Panics
    /// In debug builds, when one is in flight already or the connection was never adopted. To a connection that has failed
    /// or was closed nothing is sent, and no event follows.
    fn send(&mut self, connection: ConnectionId, out: OutBuf);

    /// Bytes that the peer has acknowledged since it connected. What a slow reader takes shows here long before the kernel takes
    /// more from us: its send buffer may have megabytes, and a third of them has to be free first. None: nobody can tell.
    fn acknowledged(&mut self, _connection: ConnectionId) -> Option<u64> {
        None
    }

    /// Ends the connection; [`Event::Closed`] follows. Any further call for the id is ignored. A second `close` may only
    /// be harder (`Abort` after another).
    fn close(&mut self, connection: ConnectionId, how: Close);

    /// Reports readability of a foreign descriptor, level-triggered. The caller keeps it open until [`Self::unwatch`].
    fn watch(&mut self, watch: WatchId, descriptor: RawFd) -> io::Result<()>;

    /// Forgets a watched descriptor.
    fn unwatch(&mut self, watch: WatchId);

    /// Submits what was asked for, waits as told if there is nothing yet, and appends what happened to `events`.
    /// It may end early with nothing to tell. If there is something to tell it need not ask the kernel for more, but of two
    /// turns in a row one asks. A signal is no error, and need not end the wait (monoio waits on): what has to hear of one watches
    /// a descriptor, such as Python's `set_wakeup_fd`, or wakes.
    fn turn(&mut self, wait: Wait, events: &mut Vec<Event>) -> io::Result<()>;

    /// Submits without reaping: for when a long call into user code is ahead.
    fn flush(&mut self) -> io::Result<()>;

    /// The received bytes.
    fn rx(&self, buffer: &RxBuf) -> &[u8];

    /// Gives a receive buffer back.
    fn rx_release(&mut self, buffer: RxBuf);

    /// Cancels all, waits until the kernel holds nothing any more, and closes every adopted socket.
    ///
    /// # Errors
    /// `TimedOut` when the kernel still held something at `deadline`; that memory is then leaked, never freed early.
    fn finish(self, deadline: Instant) -> io::Result<()>;
}
