//! One send: bytes that the kernel reads until it says that it is done with them.
//!
//! No SEND_ZC here. PERF: over loopback the kernel copies all the same, and says so; CPU of the sender for a MiB in sends of
//! 16 KiB, 64 KiB, 256 KiB, 1 MiB: 546, 661, 336, 171 µs with SEND, 2600, 1280, 424, 381 with SEND_ZC. A network card that
//! gathers would have to show a gain first.

#![expect(unsafe_code, reason = "the kernel reads the caller's buffers after the call that submits them")]

use std::mem;
use std::os::fd::RawFd;

use io_uring::opcode;
use io_uring::types::Fd;

use super::ring::{Kind, Ring};
use crate::{ConnectionId, OutBuf};

/// MSG_WAITALL has the kernel go on after a short write by itself, as soon as there is room.
const FLAGS: i32 = libc::MSG_NOSIGNAL | libc::MSG_WAITALL;

/// Two parts in one request. The kernel copies this when it takes the request, but it costs nothing to keep it longer.
struct Message {
    header: libc::msghdr,
    parts: [libc::iovec; 2],
}

/// A send that the kernel has.
///
/// INVARIANT: it lives until the send's own completion; that of a cancel is none. The heap memory of `out` and `message`
/// stays where it is when this moves.
pub(super) struct Sending {
    out: OutBuf,
    bytes_sent: usize,
    message: Option<Box<Message>>,
}

impl Sending {
    /// Starts to send, with the next enter. `out` is not empty.
    pub(super) fn start(out: OutBuf, ring: &mut Ring, descriptor: RawFd, id: ConnectionId) -> Self {
        let mut sending = Self { out, bytes_sent: 0, message: None };
        sending.submit(ring, descriptor, id);
        sending
    }

    /// Asks for what is left. To be called when the kernel has nothing of it.
    pub(super) fn submit(&mut self, ring: &mut Ring, descriptor: RawFd, id: ConnectionId) {
        let head_sent = self.bytes_sent.min(self.out.head.len());
        let (head, body) = (&self.out.head[head_sent..], &self.out.body[self.bytes_sent - head_sent..]);
        let entry = if head.is_empty() || body.is_empty() {
            let only = if head.is_empty() { body } else { head };
            // What is over 4 GiB follows when this has left.
            let bytes = u32::try_from(only.len()).unwrap_or(u32::MAX);
            opcode::Send::new(Fd(descriptor), only.as_ptr(), bytes).flags(FLAGS).build()
        } else {
            let part = |bytes: &[u8]| libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
            let parts = [part(head), part(body)];
            let message = self.message.get_or_insert_with(|| {
                // SAFETY: all zero is a valid msghdr: no name, no parts, no control data.
                Box::new(Message { header: unsafe { mem::zeroed() }, parts })
            });
            message.parts = parts;
            message.header.msg_iov = message.parts.as_mut_ptr();
            message.header.msg_iovlen = 2;
            opcode::SendMsg::new(Fd(descriptor), &raw const message.header).flags(FLAGS as u32).build()
        };
        // SAFETY: the parts and the message live in this, which lives until the completion.
        unsafe { ring.push(entry.user_data(Kind::Send.of(id.bits()))) };
    }

    /// So many more bytes have left; whether that was all.
    pub(super) fn advance(&mut self, bytes: usize) -> bool {
        self.bytes_sent += bytes;
        debug_assert!(self.bytes_sent <= self.out.len(), "the kernel sent more than there was");
        self.bytes_sent >= self.out.len()
    }

    /// The buffer, when all of it has left.
    pub(super) fn into_out(self) -> OutBuf {
        self.out
    }
}
