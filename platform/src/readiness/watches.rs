//! Foreign descriptors that the worker watches. Level-triggered, as the poller has them.

use std::io;
use std::os::fd::RawFd;

use super::poller::{Interest, Poller, Token};
use crate::{Event, WatchId};

/// All that a worker watches; there are few.
#[derive(Debug, Default)]
pub(super) struct Watches(Vec<(WatchId, RawFd)>);

impl Watches {
    /// Takes one.
    ///
    /// # Errors
    /// `AlreadyExists`, or what the kernel says.
    pub(super) fn add<P: Poller>(&mut self, id: WatchId, descriptor: RawFd, poller: &mut P) -> io::Result<()> {
        if self.0.iter().any(|(other, _)| *other == id) {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, format!("watch {} is in use", id.0)));
        }
        // Of a kqueue, the second would take the first one's place without a word.
        if self.0.iter().any(|(_, other)| *other == descriptor) {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, format!("descriptor {descriptor} is watched")));
        }
        poller.change(descriptor, Token::new(Token::WATCH, id.0.into()), Interest::Level)?;
        self.0.push((id, descriptor));
        Ok(())
    }

    /// Forgets one, if it is there.
    pub(super) fn end<P: Poller>(&mut self, id: WatchId, poller: &mut P) {
        let Some(index) = self.0.iter().position(|(other, _)| *other == id) else { return };
        let (_, descriptor) = self.0.swap_remove(index);
        // It may have been closed already, which ends the registration as well.
        let _ = poller.change(descriptor, Token::new(Token::WATCH, id.0.into()), Interest::Nothing);
    }

    /// The kernel says that one is readable. It may have been unwatched meanwhile.
    pub(super) fn on_readable(&self, id: WatchId, events: &mut Vec<Event>) {
        if self.0.iter().any(|(other, _)| *other == id) {
            events.push(Event::Watch { watch: id });
        }
    }
}
