//! io_uring through tokio-uring 0.5, under the readiness engine; the jobs of a connection are `ring_runtime`'s. For comparison:
//! the crate has no maintainer (its #336), so it is behind the cargo feature `tokio-uring`, and `auto` never takes it.
//!
//! What tokio-uring lacks is done so (its runtime/mod.rs, and tokio's scheduler/current_thread):
//! - It has no poll operation. Watches, and sends that raise no SIGPIPE, are entries of our own through its public
//!   `UnsubmittedOneshot`; so a stream here is a plain descriptor, and nothing of it is closed by accident.
//! - The kernel gets what was asked for only when tokio is about to park. So the future of a turn is never ready before the
//!   first park, unless there is something to tell anyway, which the engine's next turn makes up for.
//! - Completions are read only when tokio's epoll instance says that the ring is readable. DEFER_TASKRUN, where it takes an
//!   `io_uring_enter` of ours to make completions, would therefore starve.
//! - Dropping the runtime waits without a bound for each operation to end (its #102). So all are ended before, and a ring
//!   which keeps one in spite of that is leaked.
//!
//! Time-outs are tokio's, never early: its wheel rounds up to the millisecond, and so does its wait. 60 waits of 30 ms ended
//! 0.3 to 1.5 ms late, median 1.2; monoio's 0.1 to 1.2, median 1.1. A signal does not end a wait: tokio parks again after EINTR.

use std::future::poll_fn;
use std::io;
use std::mem;
use std::os::fd::RawFd;
use std::pin::pin;
use std::task::{Context, Poll};
use std::time::Duration;

use ::tokio_uring::{OneshotOutputTransform, Runtime, UnsubmittedOneshot};
use io_uring_06::{IoUring, cqueue, opcode, squeue, types};

use crate::readiness::Readiness;
use crate::ring_runtime::{RingRuntime, RuntimePoller, poll_turn};

/// The engine over tokio-uring's ring.
pub type TokioUring = Readiness<RuntimePoller<TokioUringRuntime>>;

/// Completions that the kernel can keep for us. Each connection has one watch in the ring, and all may end in one moment.
const COMPLETIONS: u32 = 4096;

/// tokio-uring's runtime, and tokio's inside it.
pub struct TokioUringRuntime {
    /// None only between [`RingRuntime::abandon`] and the drop.
    runtime: Option<Runtime>,
}

/// What becomes of an operation: its result, or the negative `errno`, and the memory that the kernel used meanwhile.
struct Outcome<D>(std::marker::PhantomData<D>);

impl<D> OneshotOutputTransform for Outcome<D> {
    type Output = (i32, D);
    type StoredData = D;

    fn transform_oneshot_output(self, data: D, completion: cqueue::Entry) -> (i32, D) {
        (completion.result(), data)
    }
}

/// Has the ring do one thing. `data` is what the entry points into: tokio-uring keeps it until the kernel has answered, even
/// when the future is dropped before.
async fn ask<D: Unpin + 'static>(data: D, entry: squeue::Entry) -> (i32, D) {
    UnsubmittedOneshot::new(data, Outcome(std::marker::PhantomData), entry).submit().await
}

/// A negative result is an `errno`.
fn check(result: i32) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::from_raw_os_error(-result))
}

/// Ends when one of these poll(2) events, or a failure, is there.
async fn poll(descriptor: RawFd, events: i16) -> io::Result<()> {
    // The events are small positive numbers.
    let (result, ()) = ask((), opcode::PollAdd::new(types::Fd(descriptor), events as u32).build()).await;
    check(result).map(drop)
}

impl RingRuntime for TokioUringRuntime {
    const NAME: &'static str = "tokio-uring";
    type Stream = RawFd;

    fn open(entries: u32) -> io::Result<Self> {
        let flags: [fn(&mut io_uring_06::Builder); 3] = [
            // Linux 6.0.
            |builder| {
                builder.setup_single_issuer().setup_coop_taskrun();
            },
            // Linux 5.19.
            |builder| {
                builder.setup_coop_taskrun();
            },
            |_| {},
        ];
        let mut refused = None;
        for set_flags in flags {
            let mut ring = IoUring::builder();
            // A forked child that touched the ring would corrupt it.
            ring.dontfork().setup_cqsize(COMPLETIONS.max(entries * 4));
            set_flags(&mut ring);
            match Runtime::new(::tokio_uring::builder().entries(entries).uring_builder(&ring)) {
                Err(error) if error.raw_os_error() == Some(libc::EINVAL) => refused = Some(error),
                other => return Ok(Self { runtime: Some(other?) }),
            }
        }
        Err(refused.unwrap_or_else(|| io::ErrorKind::Unsupported.into()))
    }

    fn borrow(descriptor: RawFd) -> RawFd {
        descriptor
    }

    fn readable(descriptor: &RawFd) -> impl Future<Output = io::Result<()>> {
        poll(*descriptor, libc::POLLIN)
    }

    fn writable(descriptor: &RawFd) -> impl Future<Output = io::Result<()>> {
        poll(*descriptor, libc::POLLOUT)
    }

    async fn send(descriptor: &mut RawFd, mut bytes: Vec<u8>) -> (io::Result<usize>, Vec<u8>) {
        let mut sent = 0;
        while sent < bytes.len() {
            let rest = &bytes[sent..];
            // More than this goes in several pieces.
            let length = u32::try_from(rest.len()).unwrap_or(u32::MAX);
            // The vector moves, its bytes do not. Without MSG_WAITALL, under which a reset in the middle would be told as a
            // short send: the failure would be gone then, and the reader would take the reset for the peer's end.
            let entry = opcode::Send::new(types::Fd(*descriptor), rest.as_ptr(), length);
            let result;
            (result, bytes) = ask(bytes, entry.flags(libc::MSG_NOSIGNAL).build()).await;
            match check(result) {
                Ok(0) => return (Err(io::ErrorKind::WriteZero.into()), bytes),
                Ok(count) => sent += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return (Err(error), bytes),
            }
        }
        (Ok(sent), bytes)
    }

    fn turn(&mut self, bound: Option<Duration>, mut advance: impl FnMut(&mut Context<'_>) -> Poll<()>) {
        let Some(runtime) = &self.runtime else { return };
        runtime.block_on(async {
            let mut sleep = pin!(bound.map(::tokio::time::sleep));
            poll_fn(|context| poll_turn(context, &mut advance, sleep.as_mut())).await;
        });
    }

    fn abandon(&mut self) {
        mem::forget(self.runtime.take());
    }
}
