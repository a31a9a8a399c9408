//! What a runtime of futures has to bring, and the future of one turn. Nothing is known here of connections.

use std::future::Future;
use std::io;
use std::os::fd::RawFd;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

/// What the poller needs of a runtime. All of it is monomorphised.
pub trait RingRuntime: Sized + 'static {
    /// As `TURBOAPI_IO` and the log spell it.
    const NAME: &'static str;
    /// A descriptor that somebody else owns, and keeps open for as long as this lives or the ring holds it.
    type Stream: 'static;

    /// Opens a ring with so many entries, with the best flags that this kernel knows.
    fn open(entries: u32) -> io::Result<Self>;
    /// Makes a stream. Dropping it does not close the descriptor.
    fn borrow(descriptor: RawFd) -> Self::Stream;
    /// Ends when the descriptor is readable or has failed: its failure is told to the next read.
    /// PERF: this, `writable` and `send` are to be the runtime's own futures, as they are. With one more around each of
    /// monoio's, `examples/turn_cost` counted 2,850 instructions a request at K = 64, without 2,778.
    fn readable(stream: &Self::Stream) -> impl Future<Output = io::Result<()>>;
    /// Ends when the descriptor is writable or has failed: its failure is told to who writes next.
    fn writable(stream: &Self::Stream) -> impl Future<Output = io::Result<()>>;
    /// Sends all of the bytes, without SIGPIPE, and gives them back with their number.
    fn send(stream: &mut Self::Stream, bytes: Vec<u8>) -> impl Future<Output = (io::Result<usize>, Vec<u8>)>;
    /// Called before the ring gets one of these.
    fn hold(_stream: &Self::Stream) {}
    /// Called when it has answered; not when the future is dropped before.
    fn let_go(_stream: &Self::Stream) {}
    /// Polls `advance` until it is ready or the bound has passed, and never for less than that; each time before it waits, the
    /// ring gets what was asked of it. Without a bound it may wait for ever. A signal need not end it.
    fn turn(&mut self, bound: Option<Duration>, advance: impl FnMut(&mut Context<'_>) -> Poll<()>);
    /// Called at most once, and before the drop, when the ring still holds jobs: the drop must then neither wait for them nor
    /// free what they use.
    fn abandon(&mut self);
}

/// What the future of a turn does when it is polled: ready as `advance` is, or the sleep if there is one.
/// PERF: a function, not a future of its own: with that `examples/turn_cost` counted 2,846 instructions a request at K = 64, with
/// this 2,777.
#[inline]
pub fn poll_turn(
    context: &mut Context<'_>,
    advance: &mut impl FnMut(&mut Context<'_>) -> Poll<()>,
    sleep: Pin<&mut Option<impl Future<Output = ()>>>,
) -> Poll<()> {
    if advance(context).is_ready() {
        return Poll::Ready(());
    }
    sleep.as_pin_mut().map_or(Poll::Pending, |sleep| sleep.poll(context))
}
