//! Who accepts, and whether there is something to accept.

use std::io;
use std::os::fd::BorrowedFd;
use std::time::Instant;

use super::poller::{Interest, Poller, Token};
use crate::backlog::{Accepting, Backlog};
use crate::{Event, ListenerId};

#[derive(Debug)]
struct Listener {
    backlog: Backlog,
    /// INVARIANT: false only when the kernel has said that the backlog is empty, and no edge came since.
    is_readable: bool,
}

/// All of a worker's listeners; there are few.
#[derive(Debug, Default)]
pub(super) struct Listeners(Vec<Listener>);

impl Listeners {
    /// Takes one.
    ///
    /// # Errors
    /// `AlreadyExists`, or what the kernel says.
    pub(super) fn add(&mut self, id: ListenerId, socket: BorrowedFd<'_>, poller: &mut impl Poller) -> io::Result<()> {
        let backlog = Backlog::open(id, socket, self.0.iter().map(|listener| &listener.backlog))?;
        poller.change(backlog.descriptor, Token::new(Token::LISTENER, id.0.into()), Interest::Read)?;
        self.0.push(Listener { backlog, is_readable: false });
        Ok(())
    }

    fn of(&mut self, id: ListenerId) -> Option<&mut Listener> {
        self.0.iter_mut().find(|listener| listener.backlog.id == id)
    }

    pub(super) fn want_accept(&mut self, id: ListenerId, on: bool) {
        if let Some(listener) = self.of(id) {
            listener.backlog.want(on);
        }
    }

    pub(super) fn end(&mut self, id: ListenerId) {
        if let Some(listener) = self.of(id) {
            listener.backlog.accepting = Accepting::Ending;
            // So that the next turn looks, and finds out that the backlog is empty.
            listener.is_readable = true;
        }
    }

    /// A backlog has something.
    pub(super) fn on_readable(&mut self, id: ListenerId) {
        if let Some(listener) = self.of(id) {
            listener.is_readable = true;
        }
    }

    /// There is a descriptor again.
    pub(super) fn retry(&mut self) {
        for listener in &mut self.0 {
            listener.backlog.retry_at = None;
        }
    }

    /// When the next of them is to be tried again.
    pub(super) fn next_retry(&self) -> Option<Instant> {
        self.0.iter().filter_map(|listener| listener.backlog.next_retry()).min()
    }

    /// Accepts from each that has a backlog and may.
    pub(super) fn step(&mut self, batch: u32, poller: &mut impl Poller, events: &mut Vec<Event>) {
        self.0.retain_mut(|Listener { backlog, is_readable }| {
            if !*is_readable || backlog.accepting == Accepting::Paused || backlog.rests() {
                return true;
            }
            let gone = match backlog.accept(batch, events) {
                Ok(is_empty) => {
                    *is_readable = !is_empty;
                    if !is_empty || backlog.accepting != Accepting::Ending {
                        return true;
                    }
                    None
                }
                Err(error) => Some(error),
            };
            events.push(Event::ListenerGone { listener: backlog.id, error: gone });
            // It may have been closed already, which ends the registration as well.
            let token = Token::new(Token::LISTENER, backlog.id.0.into());
            let _ = poller.change(backlog.descriptor, token, Interest::Nothing);
            false
        });
    }
}
