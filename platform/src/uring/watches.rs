//! Foreign descriptors that the worker watches. Each is a poll that is over when it has fired, and each turn asks anew: this is what
//! makes them level-triggered.

use std::io;
use std::os::fd::RawFd;

use super::ring::{Completion, Kind, Ring};
use crate::{ConnectionId, Event, WatchId};

#[derive(Debug)]
struct Watch {
    id: WatchId,
    descriptor: RawFd,
    /// Tells it from others that had its id before.
    generation: u32,
    is_armed: bool,
}

impl Watch {
    /// The same 56 bits as a connection's, for a place of its own kind.
    const fn identity(&self) -> u64 {
        ConnectionId::new(self.id.0, self.generation).bits()
    }
}

/// All that a worker watches; there are few.
#[derive(Debug, Default)]
pub(super) struct Watches {
    all: Vec<Watch>,
    generation: u32,
}

impl Watches {
    /// Takes one.
    ///
    /// # Errors
    /// `AlreadyExists`.
    pub(super) fn add(&mut self, id: WatchId, descriptor: RawFd) -> io::Result<()> {
        if self.all.iter().any(|watch| watch.id == id) {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, format!("watch {} is in use", id.0)));
        }
        self.generation = self.generation.wrapping_add(1);
        let generation = self.generation % ConnectionId::GENERATIONS;
        self.all.push(Watch { id, descriptor, generation, is_armed: false });
        Ok(())
    }

    /// Forgets one, if it is there.
    pub(super) fn end(&mut self, id: WatchId, ring: &mut Ring) {
        let Some(index) = self.all.iter().position(|watch| watch.id == id) else { return };
        let watch = self.all.swap_remove(index);
        if watch.is_armed {
            ring.cancel(Kind::Watch, watch.identity());
        }
    }

    /// Has the ring watch what has fired or is new.
    #[inline]
    pub(super) fn step(&mut self, ring: &mut Ring) {
        for watch in self.all.iter_mut().filter(|watch| !watch.is_armed) {
            watch.is_armed = true;
            ring.poll(watch.descriptor, false, Kind::Watch.of(watch.identity()));
        }
    }

    /// One has fired, or cannot be watched.
    pub(super) fn on_watch(&mut self, completion: Completion, events: &mut Vec<Event>) {
        let found = self.all.iter_mut().find(|watch| watch.identity() == completion.identity());
        // Another: it was unwatched meanwhile.
        let Some(watch) = found else { return };
        // A descriptor that cannot be watched is told of once, and not asked for again.
        watch.is_armed = completion.result < 0;
        events.push(Event::Watch { watch: watch.id });
    }
}
