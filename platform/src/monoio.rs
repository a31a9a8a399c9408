//! io_uring through monoio 0.2, under the readiness engine; the jobs of a connection are `ring_runtime`'s.
//!
//! PERF: server's time per request, `examples/turn_cost.rs`, K requests ready at once. With sends as plain calls 5.3 µs at
//! K = 8 and 5.2 at 64; with sends in the ring 4.7 and 4.3; epoll 4.7 and 4.7. A monoio program with receives in the ring
//! too came to 3.9 and 4.0, and with what is here to 4.4 and 4.2: those last 0.2 to 0.5 µs would cost a buffer per idle
//! connection, which the contract forbids.
//!
//! What monoio lacks is faked so (runtime.rs of monoio 0.2.4):
//! - One turn is one `block_on`, whose future is never ready before it has been parked: only `park` asks the kernel for
//!   completions, and without that SINGLE_ISSUER with DEFER_TASKRUN would starve.
//! - No monoio task is spawned: a woken task would make `block_on` submit without reaping, one system call for nothing.
//!
//! A signal does not end a wait here: monoio parks again after EINTR.

#![expect(unsafe_code, reason = "monoio's streams own their descriptor; ours borrow it from the engine")]

use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{FromRawFd, IntoRawFd, RawFd};
use std::pin::pin;
use std::task::{Context, Poll};
use std::time::Duration;

use monoio::io::AsyncWriteRentExt;
use monoio::net::TcpStream;
use monoio::time::TimeDriver;
use monoio::{IoUringDriver, Runtime, RuntimeBuilder};

use crate::readiness::Readiness;
use crate::ring_runtime::{RingRuntime, RuntimePoller, poll_turn};

/// The engine over monoio's ring.
pub type Monoio = Readiness<RuntimePoller<MonoioRuntime>>;

/// Completions that the kernel can keep for us. Each connection has one watch in the ring, and all may end in one moment.
const COMPLETIONS: u32 = 4096;

/// A stream over a descriptor that somebody else owns, and keeps open for as long as this lives.
#[derive(Debug)]
pub struct Borrowed {
    stream: ManuallyDrop<TcpStream>,
    /// Jobs in the ring, each of which holds a reference of its own.
    in_ring: Cell<u32>,
}

impl Borrowed {
    fn new(descriptor: RawFd) -> Self {
        // SAFETY: the standard stream is taken apart again by `from_std`, and the one that is made of it never dropped but
        // taken apart by our `drop`: the descriptor is closed by its owner alone.
        let stream = unsafe { std::net::TcpStream::from_raw_fd(descriptor) };
        // With io_uring alone there is nothing to register.
        let stream = TcpStream::from_std(stream).expect("monoio wraps a descriptor without a call");
        Self { stream: ManuallyDrop::new(stream), in_ring: Cell::new(0) }
    }
}

impl Drop for Borrowed {
    fn drop(&mut self) {
        // Should a job still be in the ring, the little memory of the stream is leaked: its end would close what is not ours.
        if self.in_ring.get() == 0 {
            // SAFETY: this is the only place that takes it, and it is not used after.
            let _ = unsafe { ManuallyDrop::take(&mut self.stream) }.into_raw_fd();
        }
    }
}

/// A ring with the best flags that this kernel knows.
fn open_runtime(entries: u32) -> io::Result<Runtime<TimeDriver<IoUringDriver>>> {
    let flags: [fn(&mut io_uring_06::Builder); 4] = [
        // Linux 6.1. PERF: 7.4 µs a request with it and 10.3 without, at 64 connections.
        |builder| {
            builder.setup_single_issuer().setup_defer_taskrun();
        },
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
        let mut builder = io_uring_06::IoUring::builder();
        // A forked child that touched the ring would corrupt it.
        builder.dontfork().setup_cqsize(COMPLETIONS.max(entries * 4));
        set_flags(&mut builder);
        let runtime =
            RuntimeBuilder::<TimeDriver<IoUringDriver>>::new().with_entries(entries).uring_builder(builder).build();
        match runtime {
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => refused = Some(error),
            other => return other,
        }
    }
    Err(refused.unwrap_or_else(|| io::ErrorKind::Unsupported.into()))
}

/// monoio's runtime, with its timers.
pub struct MonoioRuntime(Runtime<TimeDriver<IoUringDriver>>);

impl RingRuntime for MonoioRuntime {
    const NAME: &'static str = "monoio";
    type Stream = Borrowed;

    fn open(entries: u32) -> io::Result<Self> {
        open_runtime(entries).map(Self)
    }

    fn borrow(descriptor: RawFd) -> Borrowed {
        Borrowed::new(descriptor)
    }

    fn readable(borrowed: &Borrowed) -> impl Future<Output = io::Result<()>> {
        borrowed.stream.readable(false)
    }

    fn writable(borrowed: &Borrowed) -> impl Future<Output = io::Result<()>> {
        borrowed.stream.writable(false)
    }

    fn send(borrowed: &mut Borrowed, bytes: Vec<u8>) -> impl Future<Output = (io::Result<usize>, Vec<u8>)> {
        borrowed.stream.write_all(bytes)
    }

    fn hold(borrowed: &Borrowed) {
        borrowed.in_ring.set(borrowed.in_ring.get() + 1);
    }

    fn let_go(borrowed: &Borrowed) {
        borrowed.in_ring.set(borrowed.in_ring.get() - 1);
    }

    fn turn(&mut self, bound: Option<Duration>, mut advance: impl FnMut(&mut Context<'_>) -> Poll<()>) {
        self.0.block_on(async {
            // A day is for ever, and fits what monoio's timers can count.
            let mut sleep = pin!(bound.map(|time| monoio::time::sleep(time.min(Duration::from_secs(86_400)))));
            poll_fn(|context| poll_turn(context, &mut advance, sleep.as_mut())).await;
        });
    }

    fn abandon(&mut self) {
        // A ring that is dropped with a watch in it is leaked by monoio as it is, and the sockets with it.
    }
}
