//! Who accepts, and whether. The ring tells that a backlog has something; plain calls take it, a batch in each turn.
//!
//! No multishot accept: it takes the whole backlog at once, however much that is, and whether or not there is room for it. What it
//! has taken can be told to no other worker, and is lost with this one. It saves no system call either, as it does not say who
//! the peer is.

use std::io;
use std::os::fd::BorrowedFd;
use std::time::Instant;

use super::ring::{Completion, Kind, Ring};
use crate::backlog::{Accepting, Backlog};
use crate::{ConnectionId, Event, ListenerId, socket};

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
    backlog: Backlog,
    in_ring: InRing,
    /// Tells it from others that had its id before.
    generation: u32,
}

impl Listener {
    /// The same 56 bits as a connection's, for a place of its own kind.
    const fn identity(&self) -> u64 {
        ConnectionId::new(self.backlog.id.0, self.generation).bits()
    }
}

/// All of a worker's listeners; there are few.
#[derive(Debug, Default)]
pub(super) struct Listeners {
    all: Vec<Listener>,
    generation: u32,
}

impl Listeners {
    /// Takes one.
    ///
    /// # Errors
    /// `AlreadyExists`, or what the kernel says.
    pub(super) fn add(&mut self, id: ListenerId, socket: BorrowedFd<'_>) -> io::Result<()> {
        let backlog = Backlog::open(id, socket, self.all.iter().map(|listener| &listener.backlog))?;
        self.generation = self.generation.wrapping_add(1);
        let generation = self.generation % ConnectionId::GENERATIONS;
        self.all.push(Listener { backlog, in_ring: InRing::Nothing, generation });
        Ok(())
    }

    fn of(&mut self, id: ListenerId) -> Option<&mut Listener> {
        self.all.iter_mut().find(|listener| listener.backlog.id == id)
    }

    pub(super) fn want_accept(&mut self, id: ListenerId, on: bool) {
        if let Some(listener) = self.of(id) {
            listener.backlog.want(on);
        }
    }

    pub(super) fn end(&mut self, id: ListenerId) {
        if let Some(listener) = self.of(id) {
            listener.backlog.accepting = Accepting::Ending;
        }
    }

    /// There is a descriptor again.
    pub(super) fn retry(&mut self) {
        for listener in &mut self.all {
            listener.backlog.retry_at = None;
        }
    }

    /// When the next of them is to be tried again.
    pub(super) fn next_retry(&self) -> Option<Instant> {
        self.all.iter().filter_map(|listener| listener.backlog.next_retry()).min()
    }

    /// Whether one of them is emptying its backlog, so that a turn must not sleep.
    pub(super) fn is_emptying(&self) -> bool {
        let ending = |listener: &Listener| {
            listener.backlog.accepting == Accepting::Ending
                && listener.in_ring == InRing::Nothing
                && listener.backlog.retry_at.is_none()
        };
        self.all.iter().any(ending)
    }

    /// Brings the ring in line with what is wanted.
    #[inline]
    pub(super) fn step(&mut self, ring: &mut Ring, batch: u32, events: &mut Vec<Event>) {
        let mut index = 0;
        while let Some(listener) = self.all.get_mut(index) {
            index += 1;
            match (listener.backlog.accepting, listener.in_ring) {
                (Accepting::On, InRing::Poll) | (_, InRing::Cancelled) | (Accepting::Paused, InRing::Nothing) => {}
                (_, InRing::Poll) => {
                    listener.in_ring = InRing::Cancelled;
                    ring.cancel(Kind::Accept, listener.identity());
                }
                (_, InRing::Nothing) if listener.backlog.rests() => {}
                (Accepting::On, InRing::Nothing) => {
                    listener.backlog.retry_at = None;
                    listener.in_ring = InRing::Poll;
                    ring.poll(listener.backlog.descriptor, false, Kind::Accept.of(listener.identity()));
                }
                (Accepting::Ending, InRing::Nothing) => {
                    let error = match listener.backlog.accept(batch, events) {
                        Ok(false) => continue,
                        Ok(true) => None,
                        Err(error) => Some(error),
                    };
                    events.push(Event::ListenerGone { listener: listener.backlog.id, error });
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
            0.. if listener.backlog.accepting == Accepting::On => listener.backlog.accept(batch, events).map(drop),
            0.. => Ok(()),
            _ => match completion.error() {
                error if error.raw_os_error() == Some(libc::ECANCELED) => Ok(()),
                error if socket::is_exhaustion(&error) => {
                    listener.backlog.stall(error, events);
                    Ok(())
                }
                error => Err(error),
            },
        };
        if let Err(error) = accepted {
            events.push(Event::ListenerGone { listener: listener.backlog.id, error: Some(error) });
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
