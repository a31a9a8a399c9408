//! Who accepts, and whether. The ring tells that a backlog has something; plain calls take it, a batch in each turn.
//!
//! No multishot accept: it takes the whole backlog at once, however much that is, and whether or not there is room for it. What it
//! has taken can be told to no other worker, and is lost with this one. It saves no system call either, as it does not say who
//! the peer is.

use std::io;
use std::mem;
use std::os::fd::RawFd;
use std::time::{Duration, Instant};

use super::ring::{Completion, Kind, Ring};
use crate::{ConnectionId, Event, ListenerId, socket};

/// How long accepting rests when the machine has no descriptor or memory left. Long enough to cost nothing, short enough
/// that nobody takes us for dead; a connection of our own that closes ends it early.
const ACCEPT_BACK_OFF: Duration = Duration::from_millis(75);

/// What the worker wants of a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Accepting {
    On,
    Paused,
    /// Until the backlog is empty.
    Ending,
}

/// What the ring does for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum InRing {
    Nothing,
    /// A poll, which ends when the backlog has something.
    Poll,
    /// One that was told to end.
    Cancelled,
}

#[derive(Debug)]
struct Listener {
    id: ListenerId,
    descriptor: RawFd,
    accepting: Accepting,
    in_ring: InRing,
    /// Tells it from others that had its id before.
    generation: u32,
    /// Set while there is no room for another descriptor.
    retry_at: Option<Instant>,
    /// Whether the present stall was reported; it ends with the next connection, or an empty backlog.
    told_of_stall: bool,
}

impl Listener {
    /// The same 56 bits as a connection's, for a place of its own kind.
    const fn identity(&self) -> u64 {
        ConnectionId::new(self.id.0, self.generation).bits()
    }

    fn stall(&mut self, error: io::Error, events: &mut Vec<Event>) {
        self.retry_at = Some(Instant::now() + ACCEPT_BACK_OFF);
        if !mem::replace(&mut self.told_of_stall, true) {
            events.push(Event::AcceptStalled { listener: self.id, error });
        }
    }

    /// Accepts some of what waits; whether nothing does any more.
    ///
    /// # Errors
    /// What makes the listener useless.
    fn accept_rest(&mut self, batch: u32, events: &mut Vec<Event>) -> io::Result<bool> {
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

/// All of a worker's listeners; there are few.
#[derive(Debug, Default)]
pub(super) struct Listeners {
    all: Vec<Listener>,
    generation: u32,
}

impl Listeners {
    /// Takes one, which is non-blocking.
    ///
    /// # Errors
    /// `AlreadyExists`.
    pub(super) fn add(&mut self, id: ListenerId, descriptor: RawFd) -> io::Result<()> {
        if self.all.iter().any(|listener| listener.id == id) {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, format!("listener {} is in use", id.0)));
        }
        self.generation = self.generation.wrapping_add(1);
        self.all.push(Listener {
            id,
            descriptor,
            accepting: Accepting::On,
            in_ring: InRing::Nothing,
            generation: self.generation % ConnectionId::GENERATIONS,
            retry_at: None,
            told_of_stall: false,
        });
        Ok(())
    }

    pub(super) fn want_accept(&mut self, id: ListenerId, on: bool) {
        for listener in self.all.iter_mut().filter(|listener| listener.id == id) {
            if listener.accepting != Accepting::Ending {
                listener.accepting = if on { Accepting::On } else { Accepting::Paused };
            }
        }
    }

    pub(super) fn end(&mut self, id: ListenerId) {
        for listener in self.all.iter_mut().filter(|listener| listener.id == id) {
            listener.accepting = Accepting::Ending;
        }
    }

    /// There is a descriptor again.
    pub(super) fn retry(&mut self) {
        for listener in &mut self.all {
            listener.retry_at = None;
        }
    }

    /// When the next of them is to be tried again.
    pub(super) fn next_retry(&self) -> Option<Instant> {
        let waiting = self.all.iter().filter(|listener| listener.accepting != Accepting::Paused);
        waiting.filter_map(|listener| listener.retry_at).min()
    }

    /// Whether one of them is emptying its backlog, so that a turn must not sleep.
    pub(super) fn is_emptying(&self) -> bool {
        let ending = |listener: &Listener| {
            listener.accepting == Accepting::Ending
                && listener.in_ring == InRing::Nothing
                && listener.retry_at.is_none()
        };
        self.all.iter().any(ending)
    }

    /// Brings the ring in line with what is wanted.
    #[inline]
    pub(super) fn step(&mut self, ring: &mut Ring, batch: u32, events: &mut Vec<Event>) {
        let mut index = 0;
        while let Some(listener) = self.all.get_mut(index) {
            index += 1;
            match (listener.accepting, listener.in_ring) {
                (Accepting::On, InRing::Poll) | (_, InRing::Cancelled) | (Accepting::Paused, InRing::Nothing) => {}
                (_, InRing::Poll) => {
                    listener.in_ring = InRing::Cancelled;
                    ring.cancel(Kind::Accept, listener.identity());
                }
                (_, InRing::Nothing) if listener.retry_at.is_some_and(|retry_at| retry_at > Instant::now()) => {}
                (Accepting::On, InRing::Nothing) => {
                    listener.retry_at = None;
                    listener.in_ring = InRing::Poll;
                    ring.poll(listener.descriptor, false, Kind::Accept.of(listener.identity()));
                }
                (Accepting::Ending, InRing::Nothing) => {
                    listener.retry_at = None;
                    let error = match listener.accept_rest(batch, events) {
                        Ok(false) => continue,
                        Ok(true) => None,
                        Err(error) => Some(error),
                    };
                    events.push(Event::ListenerGone { listener: listener.id, error });
                    index -= 1;
                    self.all.swap_remove(index);
                }
            }
        }
    }

    /// A backlog has something, or its poll was told to end.
    pub(super) fn on_accept(&mut self, completion: Completion, batch: u32, events: &mut Vec<Event>) {
        let found = self.all.iter().position(|listener| listener.identity() == completion.identity());
        debug_assert!(found.is_some(), "a listener is forgotten after its last completion");
        let Some(index) = found else { return };
        let listener = &mut self.all[index];
        listener.in_ring = InRing::Nothing;
        // Of one that is to pause or end, `step` knows what to do.
        let accepted = match completion.result {
            0.. if listener.accepting == Accepting::On => listener.accept_rest(batch, events).map(drop),
            0.. => Ok(()),
            _ => match completion.error() {
                error if error.raw_os_error() == Some(libc::ECANCELED) => Ok(()),
                error if socket::is_exhaustion(&error) => {
                    listener.stall(error, events);
                    Ok(())
                }
                error => Err(error),
            },
        };
        if let Err(error) = accepted {
            events.push(Event::ListenerGone { listener: listener.id, error: Some(error) });
            self.all.swap_remove(index);
        }
    }

    /// A cancel found no poll to end: it had just ended, or has to be told again.
    pub(super) fn on_cancel_failed(&mut self, identity: u64) {
        for listener in self.all.iter_mut().filter(|listener| listener.identity() == identity) {
            if listener.in_ring == InRing::Cancelled {
                listener.in_ring = InRing::Poll;
            }
        }
    }
}
