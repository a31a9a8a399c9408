//! A listener's backlog: how much is taken of it at once, and how accepting rests while the machine has no room. When to look is
//! the driver's to know.

use std::io;
use std::mem;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::time::{Duration, Instant};

use crate::{Event, ListenerId, socket};

/// How long accepting rests when the machine has no descriptor or memory left. Long enough to cost nothing, short enough
/// that nobody takes us for dead; a connection of our own that closes ends it early.
const ACCEPT_BACK_OFF: Duration = Duration::from_millis(75);

/// What the worker wants of a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Accepting {
    On,
    Paused,
    /// Until the backlog is empty.
    Ending,
}

/// One listener.
#[derive(Debug)]
pub(crate) struct Backlog {
    pub(crate) id: ListenerId,
    pub(crate) descriptor: RawFd,
    pub(crate) accepting: Accepting,
    /// Set while there is no room for another descriptor.
    pub(crate) retry_at: Option<Instant>,
    /// Whether the present stall was reported; it ends with the next connection, or an empty backlog.
    told_of_stall: bool,
}

impl Backlog {
    /// Takes a listening socket, unless one of these has its id.
    pub(crate) fn open<'a>(
        id: ListenerId,
        socket: BorrowedFd<'_>,
        mut others: impl Iterator<Item = &'a Self>,
    ) -> io::Result<Self> {
        if others.any(|other| other.id == id) {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, format!("listener {} is in use", id.0)));
        }
        socket::set_non_blocking(socket)?;
        // What it accepts inherits this, without a call for each. A Unix socket has no such option, and no need.
        let _ = socket::set_no_delay(socket);
        let descriptor = socket.as_raw_fd();
        Ok(Self { id, descriptor, accepting: Accepting::On, retry_at: None, told_of_stall: false })
    }

    /// One that is ending does so.
    pub(crate) fn want(&mut self, on: bool) {
        if self.accepting != Accepting::Ending {
            self.accepting = if on { Accepting::On } else { Accepting::Paused };
        }
    }

    /// Whether accepting rests now.
    pub(crate) fn rests(&self) -> bool {
        self.retry_at.is_some_and(|retry_at| retry_at > Instant::now())
    }

    /// When it is to be tried again, if it waits for that.
    pub(crate) fn next_retry(&self) -> Option<Instant> {
        self.retry_at.filter(|_| self.accepting != Accepting::Paused)
    }

    /// There is no room for another connection.
    pub(crate) fn stall(&mut self, error: io::Error, events: &mut Vec<Event>) {
        self.retry_at = Some(Instant::now() + ACCEPT_BACK_OFF);
        if !mem::replace(&mut self.told_of_stall, true) {
            events.push(Event::AcceptStalled { listener: self.id, error });
        }
    }

    /// Accepts up to `batch` of what waits; whether nothing does any more.
    ///
    /// # Errors
    /// What makes the listener useless.
    pub(crate) fn accept(&mut self, batch: u32, events: &mut Vec<Event>) -> io::Result<bool> {
        self.retry_at = None;
        // The contract has the caller keep the descriptor open until `ListenerGone`.
        let descriptor = socket::borrow(self.descriptor);
        for _ in 0..batch {
            match socket::accept(descriptor) {
                Ok((socket, peer)) => {
                    self.told_of_stall = false;
                    events.push(Event::Accepted { listener: self.id, socket, peer });
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.told_of_stall = false;
                    return Ok(true);
                }
                Err(error) if socket::is_exhaustion(&error) => {
                    self.stall(error, events);
                    return Ok(false);
                }
                Err(error) if socket::is_of_one_connection(&error) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(false)
    }
}
