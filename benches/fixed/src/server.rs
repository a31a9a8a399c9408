//! One thread, one ring: multishot accept, multishot receive, one send a batch of requests.
#![expect(unsafe_code, reason = "a submission lends memory and descriptors to the kernel")]

use std::io;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd};

use io_uring::{IoUring, cqueue, opcode, squeue, types};

use crate::answer::{answer, http_date, now};
use crate::buffers::Buffers;
use crate::scan::Scan;

/// Submissions in one turn; more are passed on at once.
const SUBMISSIONS: u32 = 1024;
/// Completions that the ring holds. What is over that, the kernel keeps.
const COMPLETIONS: u32 = 8192;
/// Connections that may wait to be accepted.
const BACKLOG: i32 = 4096;
/// Answers in one send: bounds what a connection's buffer holds.
const ANSWERS_PER_SEND: usize = 512;
/// The buffer group, there is one.
const GROUP: u16 = 0;
/// What turboapi answers to `GET /users/123`.
const BODY: &str = r#"{"user_id":123}"#;

/// What a completion belongs to: the two low bits of its user data, the slot stands above them.
const ACCEPT: u64 = 0;
const RECEIVE: u64 = 1;
const SEND: u64 = 2;

struct Connection {
    stream: TcpStream,
    scan: Scan,
    /// Requests that came and are not in a send yet. A peer that sends and never reads costs a number, not memory.
    owed: usize,
    /// INVARIANT: not touched while `sends`, the kernel reads it.
    out: Vec<u8>,
    sent: usize,
    /// A send is with the kernel.
    sends: bool,
    /// The multishot receive is armed.
    receives: bool,
    /// The peer is done, or the connection is broken.
    ends: bool,
}

/// The program.
pub struct Server {
    ring: IoUring,
    buffers: Buffers,
    listener: TcpListener,
    /// INVARIANT: a slot is freed when neither `sends` nor `receives`, so no completion ever meets a stranger in it.
    connections: Vec<Option<Connection>>,
    free: Vec<usize>,
    /// Slots whose receive found no buffer. Armed again when the turn's buffers are back.
    starved: Vec<usize>,
    answer: Vec<u8>,
    answer_made: u64,
    /// Requests so far.
    calls: usize,
}

impl Server {
    /// Sets up the ring on this thread.
    ///
    /// # Errors
    /// What the kernel says: it has no such ring (before Linux 6.1), or it is forbidden.
    pub fn new(listener: TcpListener) -> io::Result<Self> {
        // SAFETY: a plain call on an open descriptor. The standard library's backlog is too short for a burst of connects.
        if unsafe { libc::listen(listener.as_raw_fd(), BACKLOG) } < 0 {
            return Err(io::Error::last_os_error());
        }
        let mut builder = IoUring::builder();
        builder
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_taskrun_flag()
            .setup_submit_all()
            .setup_cqsize(COMPLETIONS);
        // Linux 6.6 can leave out the array between us and the submissions; older ones do not know the flag.
        let ring = builder.clone().setup_no_sqarray().build(SUBMISSIONS).or_else(|_| builder.build(SUBMISSIONS))?;
        let buffers = Buffers::register(&ring.submitter(), GROUP)?;
        let (connections, free, starved) = (Vec::new(), Vec::new(), Vec::new());
        Ok(Self { ring, buffers, listener, connections, free, starved, answer: Vec::new(), answer_made: 0, calls: 0 })
    }

    /// Serves until killed.
    ///
    /// # Errors
    /// The ring or the listener failed.
    pub fn run(&mut self) -> io::Result<()> {
        self.arm_accept()?;
        let mut completions: Vec<(u64, i32, u32)> = Vec::new();
        loop {
            match self.ring.submit_and_wait(1) {
                Err(error) if !matches!(error.raw_os_error(), Some(libc::EINTR | libc::EAGAIN | libc::EBUSY)) => {
                    return Err(error);
                }
                _ => {}
            }
            let second = now();
            if second != self.answer_made {
                (self.answer, self.answer_made) = (answer(&http_date(second), BODY), second);
            }
            completions.extend(self.ring.completion().map(|entry| (entry.user_data(), entry.result(), entry.flags())));
            for (user_data, result, flags) in completions.drain(..) {
                let slot = (user_data >> 2) as usize;
                match user_data & 3 {
                    ACCEPT => self.accepted(result, flags)?,
                    RECEIVE => self.received(slot, result, flags)?,
                    _ => self.sent(slot, result)?,
                }
            }
            self.buffers.publish();
            for slot in std::mem::take(&mut self.starved) {
                self.arm_receive(slot)?;
            }
        }
    }

    fn accepted(&mut self, result: i32, flags: u32) -> io::Result<()> {
        if !cqueue::more(flags) {
            self.arm_accept()?;
        }
        match -result {
            ..=0 => {}
            libc::ECONNABORTED | libc::EINTR | libc::EPROTO => return Ok(()),
            error => return Err(io::Error::from_raw_os_error(error)),
        }
        // SAFETY: the kernel has just made this descriptor for us, nobody else has it.
        let stream = unsafe { TcpStream::from_raw_fd(result) };
        stream.set_nodelay(true)?;
        let connection = Connection {
            stream,
            scan: Scan::default(),
            owed: 0,
            out: Vec::new(),
            sent: 0,
            sends: false,
            receives: false,
            ends: false,
        };
        let slot = self.free.pop().unwrap_or_else(|| {
            self.connections.push(None);
            self.connections.len() - 1
        });
        self.connections[slot] = Some(connection);
        self.arm_receive(slot)
    }

    fn received(&mut self, slot: usize, result: i32, flags: u32) -> io::Result<()> {
        let connection = self.connections[slot].as_mut().expect("a slot is freed after its last completion");
        connection.receives = cqueue::more(flags);
        // A last completion may carry a buffer too, even an empty one.
        if let Some(id) = cqueue::buffer_select(flags) {
            let bytes = self.buffers.bytes(id, result.max(0) as usize);
            let is_alone = connection.scan.is_between_requests() && connection.owed == 0 && !connection.sends;
            let asks_calls = is_alone && bytes.starts_with(b"GET /calls ");
            let ends = connection.scan.count_ends(bytes);
            connection.owed += ends;
            if asks_calls && ends == 1 {
                connection.owed = 0;
                connection.out = answer(&http_date(self.answer_made), &self.calls.to_string());
            }
            self.calls += ends;
            self.buffers.give_back(id);
        }
        if result == -libc::ENOBUFS {
            self.starved.push(slot);
        } else if result <= 0 {
            connection.ends = true;
        } else if !connection.receives {
            self.arm_receive(slot)?;
        }
        self.go_on(slot)
    }

    fn sent(&mut self, slot: usize, result: i32) -> io::Result<()> {
        let connection = self.connections[slot].as_mut().expect("a slot is freed after its last completion");
        connection.sends = false;
        if result < 0 {
            (connection.owed, connection.ends) = (0, true);
            connection.out.clear();
            // The receive must end before the slot is free, and only the socket's end ends it.
            // It may have ended already, with the same error: nothing to report.
            let _ = connection.stream.shutdown(Shutdown::Both);
        } else {
            connection.sent += result as usize;
            if connection.sent == connection.out.len() {
                connection.out.clear();
                connection.sent = 0;
            }
        }
        self.go_on(slot)
    }

    /// Sends what is due, or frees a slot that is done.
    fn go_on(&mut self, slot: usize) -> io::Result<()> {
        let connection = self.connections[slot].as_mut().expect("the caller has just used it");
        if connection.sends {
            return Ok(());
        }
        if connection.out.is_empty() {
            let count = connection.owed.min(ANSWERS_PER_SEND);
            connection.owed -= count;
            connection.sent = 0;
            for _ in 0..count {
                connection.out.extend_from_slice(&self.answer);
            }
        }
        if let Some(rest) = connection.out.get(connection.sent..).filter(|rest| !rest.is_empty()) {
            connection.sends = true;
            let entry = opcode::Send::new(types::Fd(connection.stream.as_raw_fd()), rest.as_ptr(), rest.len() as u32)
                .flags(libc::MSG_NOSIGNAL)
                .build()
                .user_data((slot as u64) << 2 | SEND);
            return self.push(&entry);
        }
        if connection.ends && !connection.receives && !self.starved.contains(&slot) {
            self.connections[slot] = None;
            self.free.push(slot);
        }
        Ok(())
    }

    fn arm_accept(&mut self) -> io::Result<()> {
        let entry = opcode::AcceptMulti::new(types::Fd(self.listener.as_raw_fd())).flags(libc::SOCK_CLOEXEC).build();
        self.push(&entry.user_data(ACCEPT))
    }

    fn arm_receive(&mut self, slot: usize) -> io::Result<()> {
        let connection = self.connections[slot].as_mut().expect("a slot that waits for a receive is not freed");
        connection.receives = true;
        let entry = opcode::RecvMulti::new(types::Fd(connection.stream.as_raw_fd()), GROUP).build();
        self.push(&entry.user_data((slot as u64) << 2 | RECEIVE))
    }

    fn push(&mut self, entry: &squeue::Entry) -> io::Result<()> {
        loop {
            // SAFETY: the descriptor and the `out` behind the entry live until its completion (see `connections`, `out`).
            if unsafe { self.ring.submission().push(entry) }.is_ok() {
                return Ok(());
            }
            self.ring.submit()?;
        }
    }
}
