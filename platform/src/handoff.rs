//! Fresh connections that go from the worker that accepted them to another one. The same for workers that are threads and for
//! workers that were forked: a count for each worker in memory that all of them share, and a mailbox for each worker.
//!
//! A mailbox is a pair of Unix sockets. A descriptor that was put into it is held by the kernel until somebody takes it out, so
//! the holder of the pair (the parent) keeps what waits there, whatever becomes of the worker. The message itself is
//! what makes the worker's end readable: there is no other wake-up.
//!
//! Not here: which worker gets which connection. That is the server core's `balance.rs`.

#![expect(unsafe_code, reason = "shared memory and control messages are pointers; each block says why it holds")]

use std::io;
use std::mem;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, SocketAddrV6};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixDatagram;
use std::ptr::{self, NonNull};
use std::slice;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::ListenerId;

/// In `Cell::open`: nothing may be handed to this worker now.
const NO_TARGET: u32 = u32::MAX;

/// In `Turns::asked_at`: it waits in the kernel, or there is none.
const WAITING: u32 = 0;

/// What the others know of a worker. PERF: two cache lines, as processors fetch them in pairs; nobody else's writes share them.
/// Written per connection, never per request, but for `turns`, which has two lines to itself.
#[repr(C, align(128))]
#[derive(Debug)]
struct Cell {
    /// Connections that are open, as the worker itself counts them; or `NO_TARGET`.
    open: AtomicU32,
    /// Connections in its mailbox. Those who send count up, before they send; the worker counts down, and writes 0 when it has
    /// seen the mailbox empty: what a process that was killed in between had miscounted is so forgotten.
    queued: AtomicI32,
    /// Whether the mailbox takes no more: 1 after `Handoff::close`.
    is_closed: AtomicU32,
    turns: Turns,
}

/// Whether a worker is with the kernel. Stored by its worker alone, once a turn or twice.
#[repr(C, align(128))]
#[derive(Debug)]
struct Turns {
    /// When it asked the kernel last, in milliseconds of `Handoff::moment`; `WAITING` while it does so and nothing has come.
    asked_at: AtomicU32,
}

/// The cells of all workers, in memory that a fork does not copy.
#[derive(Debug)]
struct Cells {
    /// INVARIANT: `count` cells, mapped readable and writable for as long as this lives. All their fields are atomics, for which
    /// any bits are a value.
    first: NonNull<Cell>,
    count: usize,
}

// SAFETY: it is memory that belongs to no thread, and is only reached through shared references to atomics.
unsafe impl Send for Cells {}
// SAFETY: as above.
unsafe impl Sync for Cells {}

impl Cells {
    fn map(count: usize) -> io::Result<Self> {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_SHARED | libc::MAP_ANON;
        // SAFETY: a new mapping at an address of the kernel's choice; no descriptor, and no memory of ours is touched.
        let address = unsafe { libc::mmap(ptr::null_mut(), Self::bytes(count), protection, flags, -1, 0) };
        if address == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let first = NonNull::new(address.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { first, count })
    }

    const fn bytes(count: usize) -> usize {
        count * mem::size_of::<Cell>()
    }

    fn all(&self) -> &[Cell] {
        // SAFETY: see the invariant; the kernel gave zeroed memory at the start of a page, which aligns it.
        unsafe { slice::from_raw_parts(self.first.as_ptr(), self.count) }
    }
}

impl Drop for Cells {
    fn drop(&mut self) {
        // SAFETY: the very mapping that `map` made; no reference into it outlives `self`.
        unsafe { libc::munmap(self.first.as_ptr().cast(), Self::bytes(self.count)) };
    }
}

#[derive(Debug)]
struct Mailbox {
    /// Where everybody sends.
    slot: UnixDatagram,
    /// Where its worker receives.
    door: UnixDatagram,
}

/// What the workers of one server share. Made by their parent, before there is any of them.
#[derive(Debug)]
pub struct Handoff {
    cells: Cells,
    mailboxes: Box<[Mailbox]>,
    /// What moments are counted from. A forked worker has the same, and the same clock.
    started: Instant,
}

/// Where a connection came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// The listener, by a number that means the same place to all workers.
    pub listener: ListenerId,
    /// Its other end; none for a Unix socket.
    pub peer: Option<SocketAddr>,
}

/// What a look into a mailbox found.
#[derive(Debug)]
pub enum Received {
    /// A connection, and where it came in.
    Connection(OwnedFd, Arrival),
    /// Nothing now.
    Empty,
    /// Nothing, for ever.
    Closed,
}

impl Handoff {
    /// For so many workers. Nobody is a target before his seat has been taken and published.
    ///
    /// # Errors
    /// There is no memory or no descriptor left.
    pub fn new(workers: usize) -> io::Result<Self> {
        let mailboxes = (0..workers)
            .map(|_| UnixDatagram::pair().map(|(slot, door)| Mailbox { slot, door }))
            .collect::<io::Result<_>>()?;
        let cells = Cells::map(workers.max(1))?;
        for cell in cells.all() {
            cell.open.store(NO_TARGET, Ordering::Relaxed);
        }
        Ok(Self { cells, mailboxes, started: Instant::now() })
    }

    /// Number of workers.
    #[must_use]
    pub fn workers(&self) -> usize {
        self.mailboxes.len()
    }

    /// Connections that a worker has or is about to get; none if it takes no more.
    #[must_use]
    #[inline]
    pub fn load(&self, worker: usize) -> Option<u32> {
        let open = self.cells.all()[worker].open.load(Ordering::Relaxed);
        (open != NO_TARGET).then(|| open.saturating_add(self.queued(worker)))
    }

    /// Connections that wait in a worker's mailbox, or are about to.
    #[must_use]
    #[inline]
    pub fn queued(&self, worker: usize) -> u32 {
        self.cells.all()[worker].queued.load(Ordering::Relaxed).max(0).unsigned_abs()
    }

    /// For how long a worker has not asked the kernel what came, as it computes or blocks. One that waits in the kernel has asked
    /// just now, however long it waits: it is woken by whatever comes.
    #[must_use]
    #[inline]
    pub fn busy_for(&self, worker: usize, now: Instant) -> Duration {
        let asked_at = self.cells.all()[worker].turns.asked_at.load(Ordering::Relaxed);
        if asked_at == WAITING {
            return Duration::ZERO;
        }
        // Negative if it has asked since `now`, or if this was 25 days ago, after which nobody knows.
        let milliseconds = self.moment(now).wrapping_sub(asked_at) as i32;
        Duration::from_millis(u64::from(milliseconds.max(0).unsigned_abs()))
    }

    /// A time as all workers write it: in milliseconds, again from the start after 50 days, and never `WAITING`.
    #[inline]
    fn moment(&self, at: Instant) -> u32 {
        let since = at.saturating_duration_since(self.started);
        (since.as_secs() as u32).wrapping_mul(1000).wrapping_add(since.subsec_millis()).max(WAITING + 1)
    }

    /// The worker has gone, or is going: nothing is handed to it until its successor publishes itself.
    pub fn retire(&self, worker: usize) {
        let cell = &self.cells.all()[worker];
        cell.open.store(NO_TARGET, Ordering::Relaxed);
        cell.turns.asked_at.store(WAITING, Ordering::Relaxed);
    }

    /// Gives a connection to a worker. It is counted as that one's at once. Never waits.
    ///
    /// # Errors
    /// The connection itself with what was wrong: its mailbox is full (`WouldBlock`) or closed (`BrokenPipe`), or the kernel has
    /// too many descriptors under way.
    pub fn send(&self, to: usize, socket: OwnedFd, arrival: Arrival) -> Result<(), (OwnedFd, io::Error)> {
        let queued = &self.cells.all()[to].queued;
        queued.fetch_add(1, Ordering::Relaxed);
        let sent = send_descriptor(self.mailboxes[to].slot.as_fd(), socket.as_fd(), &encode(arrival));
        sent.map_err(|error| {
            queued.fetch_sub(1, Ordering::Relaxed);
            (socket, error)
        })
    }

    /// Takes a connection out of a mailbox, for who clears up after its worker, or relieves it. Never waits.
    ///
    /// # Errors
    /// What the kernel says, such as that no descriptor is free; `OutOfMemory` when the last one went to somebody else in this
    /// moment, and there was a connection: it is lost then.
    pub fn receive(&self, worker: usize) -> io::Result<Received> {
        drop(self.mailboxes[worker].door.as_fd().try_clone_to_owned()?);
        self.take(worker, || {})
    }

    fn take(&self, worker: usize, before_uncounted: impl FnOnce()) -> io::Result<Received> {
        let cell = &self.cells.all()[worker];
        // Before the look: what is found empty after it was closed stays so.
        let is_closed = self.is_closed(worker);
        let mut message = [0; MESSAGE_BYTES];
        match receive_descriptor(self.mailboxes[worker].door.as_fd(), &mut message) {
            Ok(Some(socket)) => {
                before_uncounted();
                cell.queued.fetch_sub(1, Ordering::Relaxed);
                Ok(Received::Connection(socket, decode(message)))
            }
            Ok(None) => Ok(Received::Closed),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if cell.queued.load(Ordering::Relaxed) != 0 {
                    cell.queued.store(0, Ordering::Relaxed);
                }
                Ok(if is_closed { Received::Closed } else { Received::Empty })
            }
            Err(error) => Err(error),
        }
    }

    /// What is readable when a connection waits in a worker's mailbox, or when none will come any more.
    #[must_use]
    pub fn descriptor(&self, worker: usize) -> RawFd {
        self.mailboxes[worker].door.as_raw_fd()
    }

    /// Whether nothing can be put into this mailbox any more.
    #[must_use]
    pub fn is_closed(&self, worker: usize) -> bool {
        self.cells.all()[worker].is_closed.load(Ordering::Acquire) != 0
    }

    /// Closes all mailboxes: from the moment this returns nothing more comes into them, in any process. What is in them can
    /// still be taken. Twice does no harm.
    pub fn close(&self) {
        for (mailbox, cell) in self.mailboxes.iter().zip(self.cells.all()) {
            // The kernel looks at this under the same lock as it queues: a sender is either before it, or refused (EPIPE).
            // On macOS a socket that reads no more throws away what it holds; there the sending end, which all share, is ended.
            let _ = if cfg!(target_os = "macos") {
                mailbox.slot.shutdown(Shutdown::Write)
            } else {
                mailbox.door.shutdown(Shutdown::Read)
            };
            cell.is_closed.store(1, Ordering::Release);
        }
    }
}

/// A worker's own place. Its holder receives for the worker, and says how many connections it has.
#[derive(Debug)]
pub struct Seat {
    handoff: Arc<Handoff>,
    index: usize,
    /// Keeps a descriptor free for what comes: a connection that finds none in the moment of its arrival is lost.
    spare: Option<OwnedFd>,
}

impl Seat {
    /// The place of a worker.
    ///
    /// # Panics
    /// There is no such worker.
    #[must_use]
    pub fn new(handoff: Arc<Handoff>, index: usize) -> Self {
        assert!(index < handoff.workers(), "worker {index} of {}", handoff.workers());
        Self { handoff, index, spare: None }
    }

    /// Number of this worker.
    #[must_use]
    pub fn index(&self) -> usize {
        self.index
    }

    /// Of all workers.
    #[must_use]
    pub fn handoff(&self) -> &Handoff {
        &self.handoff
    }

    /// Tells the others how many connections are open here; none: nothing shall be handed here now.
    #[inline]
    pub fn publish(&self, open: Option<usize>) {
        let open = open.map_or(NO_TARGET, |open| u32::try_from(open).unwrap_or(NO_TARGET).min(NO_TARGET - 1));
        self.handoff.cells.all()[self.index].open.store(open, Ordering::Relaxed);
    }

    /// Tells the others that this worker asks the kernel now, and waits.
    #[inline]
    pub fn publish_wait(&self) {
        self.handoff.cells.all()[self.index].turns.asked_at.store(WAITING, Ordering::Relaxed);
    }

    /// Tells the others that this worker has asked the kernel, and works off what came from now on.
    #[inline]
    pub fn publish_work(&self, now: Instant) {
        let moment = self.handoff.moment(now);
        self.handoff.cells.all()[self.index].turns.asked_at.store(moment, Ordering::Relaxed);
    }

    /// What is readable when a connection waits here, or when none will come any more.
    #[must_use]
    pub fn descriptor(&self) -> RawFd {
        self.handoff.descriptor(self.index)
    }

    /// Takes the next connection that was handed here. Never waits.
    ///
    /// # Errors
    /// No descriptor is free for one; what waits goes on waiting.
    pub fn receive(&mut self) -> io::Result<Received> {
        let reserve = |handoff: &Handoff| handoff.mailboxes[self.index].door.as_fd().try_clone_to_owned();
        let spare = match self.spare.take() {
            Some(spare) => spare,
            None => reserve(&self.handoff)?,
        };
        drop(spare);
        let open = &self.handoff.cells.all()[self.index].open;
        // Counted as open before it is no more counted as queued: a worker that is interrupted in between must not look idle, or
        // it gets everything. The true number follows when the connection is made.
        let received = self.handoff.take(self.index, || match open.load(Ordering::Relaxed) {
            NO_TARGET => {}
            seen => open.store((seen + 1).min(NO_TARGET - 1), Ordering::Relaxed),
        });
        // If there is none now, the next call says it, before it takes anything.
        self.spare = reserve(&self.handoff).ok();
        received
    }
}

/// A message: family, address, port, flow, scope, listener. All of one length.
const MESSAGE_BYTES: usize = 1 + 16 + 2 + 4 + 4 + 4;

/// Where a connection came in, as bytes. The receiver could ask the kernel for the other end, but not once the peer has gone.
fn encode(arrival: Arrival) -> [u8; MESSAGE_BYTES] {
    let mut message = [0; MESSAGE_BYTES];
    message[27..31].copy_from_slice(&arrival.listener.0.to_ne_bytes());
    let Some(peer) = arrival.peer else { return message };
    match peer {
        SocketAddr::V4(v4) => {
            message[0] = 4;
            message[1..5].copy_from_slice(&v4.ip().octets());
        }
        SocketAddr::V6(v6) => {
            message[0] = 6;
            message[1..17].copy_from_slice(&v6.ip().octets());
            message[19..23].copy_from_slice(&v6.flowinfo().to_ne_bytes());
            message[23..27].copy_from_slice(&v6.scope_id().to_ne_bytes());
        }
    }
    message[17..19].copy_from_slice(&peer.port().to_ne_bytes());
    message
}

fn decode(message: [u8; MESSAGE_BYTES]) -> Arrival {
    fn part<const N: usize>(message: &[u8], at: usize) -> [u8; N] {
        std::array::from_fn(|index| message[at + index])
    }
    let port = u16::from_ne_bytes(part(&message, 17));
    let peer = match message[0] {
        4 => Some(SocketAddr::new(IpAddr::V4(Ipv4Addr::from(part::<4>(&message, 1))), port)),
        6 => {
            let (flow, scope) = (u32::from_ne_bytes(part(&message, 19)), u32::from_ne_bytes(part(&message, 23)));
            Some(SocketAddrV6::new(Ipv6Addr::from(part::<16>(&message, 1)), port, flow, scope).into())
        }
        _ => None,
    };
    Arrival { listener: ListenerId(u32::from_ne_bytes(part(&message, 27))), peer }
}

/// Room for one control message with one descriptor, aligned as its header wants it.
#[repr(C, align(8))]
struct Control([u8; 64]);

/// Bytes of a control message that carries one descriptor.
const DESCRIPTOR_BYTES: u32 = mem::size_of::<RawFd>() as u32;

cfg_if::cfg_if! {
    if #[cfg(target_os = "macos")] {
        const SEND_FLAGS: i32 = libc::MSG_DONTWAIT;
        const RECEIVE_FLAGS: i32 = libc::MSG_DONTWAIT;
    } else {
        const SEND_FLAGS: i32 = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
        const RECEIVE_FLAGS: i32 = libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC;
    }
}

/// Sends one message with one descriptor, of which the kernel makes a copy.
fn send_descriptor(to: BorrowedFd<'_>, socket: BorrowedFd<'_>, bytes: &[u8; MESSAGE_BYTES]) -> io::Result<()> {
    let mut part = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    let mut control = Control([0; 64]);
    // SAFETY: all zero is a valid msghdr: no name, no parts, no control data.
    let mut message: libc::msghdr = unsafe { mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = (&raw mut control).cast();
    // SAFETY: computes a size.
    message.msg_controllen = unsafe { libc::CMSG_SPACE(DESCRIPTOR_BYTES) } as _;
    // SAFETY: `message` names `control`, which is zeroed, aligned, and larger than CMSG_SPACE of one descriptor (at most 32
    // bytes anywhere), so the header and its data lie inside of it.
    unsafe {
        let header = libc::CMSG_FIRSTHDR(&raw const message);
        (*header).cmsg_level = libc::SOL_SOCKET;
        (*header).cmsg_type = libc::SCM_RIGHTS;
        (*header).cmsg_len = libc::CMSG_LEN(DESCRIPTOR_BYTES) as _;
        ptr::write_unaligned(libc::CMSG_DATA(header).cast::<RawFd>(), socket.as_raw_fd());
    }
    loop {
        // SAFETY: `message` names `part` and `control`, which live until the call returns; sendmsg only reads them.
        if unsafe { libc::sendmsg(to.as_raw_fd(), &raw const message, SEND_FLAGS) } >= 0 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        match error.raw_os_error() {
            Some(libc::EINTR) => {}
            // macOS says so of a full mailbox.
            Some(libc::ENOBUFS) => return Err(io::ErrorKind::WouldBlock.into()),
            _ => return Err(error),
        }
    }
}

/// Takes one message and its descriptor, close-on-exec; none: the mailbox was closed and is empty.
fn receive_descriptor(from: BorrowedFd<'_>, bytes: &mut [u8; MESSAGE_BYTES]) -> io::Result<Option<OwnedFd>> {
    let mut part = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
    let mut control = Control([0; 64]);
    // SAFETY: all zero is a valid msghdr: no name, no parts, no control data.
    let mut message: libc::msghdr = unsafe { mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = (&raw mut control).cast();
    message.msg_controllen = mem::size_of::<Control>() as _;
    let received = loop {
        // SAFETY: `message` names `part` and `control`, which are writable for the lengths that it gives and live until the
        // call returns.
        let received = unsafe { libc::recvmsg(from.as_raw_fd(), &raw mut message, RECEIVE_FLAGS) };
        if let Ok(received) = usize::try_from(received) {
            break received;
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    };
    if received == 0 {
        return Ok(None);
    }
    // SAFETY: the kernel has filled `control` and written how much of it; a header is only read if it lies inside, and its
    // level and type say that a descriptor follows, of which the sender gave exactly one.
    let descriptor = unsafe {
        let header = libc::CMSG_FIRSTHDR(&raw const message);
        let is_descriptor =
            !header.is_null() && (*header).cmsg_level == libc::SOL_SOCKET && (*header).cmsg_type == libc::SCM_RIGHTS;
        is_descriptor.then(|| ptr::read_unaligned(libc::CMSG_DATA(header).cast::<RawFd>()))
    };
    let Some(descriptor) = descriptor else {
        return Err(io::Error::new(io::ErrorKind::OutOfMemory, "no descriptor was free for a connection"));
    };
    // SAFETY: the kernel has just made this descriptor for us, and nobody else knows it.
    let socket = unsafe { OwnedFd::from_raw_fd(descriptor) };
    #[cfg(target_os = "macos")]
    {
        // No flag of recvmsg does it there.
        // SAFETY: fcntl with this command takes an integer and touches no memory.
        unsafe { libc::fcntl(socket.as_raw_fd(), libc::F_SETFD, libc::FD_CLOEXEC) };
    }
    Ok(Some(socket))
}

#[cfg(test)]
mod tests;
