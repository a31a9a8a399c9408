//! Sockets that become connections of this worker or of another one, and what happens when descriptors run short. Which worker has
//! room, and whether listeners accept, is in `admission`.

use std::os::fd::{AsFd, OwnedFd};

use turboapi_platform::handoff::Arrival;
use turboapi_platform::{ConnectionId, Platform, socket};

use super::state::{Slot, Worker};
use crate::admission::least_recently_used;
use crate::balance::{Balance, RECEIVE_BATCH};
use crate::connection::Connection;
use crate::refusals::Refusal;
use crate::request::Origin;

impl<P: Platform> Worker<P> {
    /// Gives a connection to the worker that should have it. It comes back if that is this one.
    pub(super) fn pass(&mut self, socket: OwnedFd, arrival: Arrival) -> Option<OwnedFd> {
        let (open, max) = (self.connections.len(), self.shared.limits.connections_max);
        let back = self.admission.pass(socket, arrival, open, max);
        self.statistics.handed_over += u64::from(back.is_none());
        back
    }

    /// Makes a connection of a socket.
    pub(super) fn adopt(&mut self, socket: OwnedFd, Arrival { listener, peer }: Arrival) {
        let entry = self.connections.vacant_entry();
        self.generation = self.generation.wrapping_add(1);
        let slot = u32::try_from(entry.key()).expect("connections_max is below 2^32");
        let id = ConnectionId::new(slot, self.generation);
        let origin = Origin { listener, peer, local: socket::local_address(socket.as_fd()) };
        let connection = Connection::new(id, origin, &self.shared);
        entry.insert(Slot { connection, asked_to_close: None, is_waiting: false });
        if self.platform.adopt(id, socket).is_err() {
            self.connections.remove(slot as usize);
        } else {
            self.settle(id);
        }
    }

    /// Takes what other workers have handed here, also over `connections_max`: the worker that sent it had seen room.
    pub(super) fn take_handed(&mut self) {
        for _ in 0..RECEIVE_BATCH {
            let Some(balance) = &mut self.admission.balance else { return };
            match balance.receive() {
                Ok(Some((socket, arrival))) => {
                    self.statistics.taken_over += 1;
                    self.adopt(socket, arrival);
                }
                Ok(None) => break,
                Err(_) => {
                    self.count_stall();
                    self.admission.watch_mailbox(false, &mut self.platform, self.shared.now);
                    self.admission.look_again(self.shared.now);
                    self.close_least_recently_used();
                    break;
                }
            }
        }
        // A closed mailbox stays readable for ever, and that of a worker that leaves is its successor's.
        if self.admission.balance.as_ref().is_some_and(Balance::is_over) {
            self.admission.watch_mailbox(false, &mut self.platform, self.shared.now);
        }
        self.bound_connections();
    }

    pub(super) fn count_stall(&mut self) {
        self.statistics.accept_stalls += 1;
        self.shared.refusals.count(Refusal::NoDescriptor, 1, self.shared.now);
    }

    pub(super) fn bound_connections(&mut self) {
        self.admission.bound(self.connections.len(), &mut self.platform, &mut self.shared);
    }

    /// Descriptors ran short: the connection that has been idle for longest makes room.
    pub(super) fn close_least_recently_used(&mut self) {
        let connections = self.connections.iter_mut().map(|(_, slot)| &mut slot.connection);
        if let Some(connection) = least_recently_used(connections) {
            connection.close_unanswered(&self.shared);
            let id = connection.id();
            self.settle(id);
        }
    }
}
