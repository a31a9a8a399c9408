//! What a driver keeps for each connection, by the worker's own numbers. A place outlives its connections, so that an old id finds
//! nothing.

use std::io;

use crate::ConnectionId;

/// A place in the table.
#[derive(Debug)]
struct Slot<C> {
    /// The present or last id of this place.
    id: ConnectionId,
    connection: Option<C>,
}

/// All connections of a worker.
#[derive(Debug)]
pub(crate) struct Slots<C>(Vec<Slot<C>>);

impl<C> Default for Slots<C> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<C> Slots<C> {
    /// Makes the place for an id.
    ///
    /// # Errors
    /// `AlreadyExists` while another has it.
    pub(crate) fn make_room(&mut self, id: ConnectionId) -> io::Result<()> {
        let index = id.slot() as usize;
        if self.0.len() <= index {
            // Places between were never used: an id of their own says so, and no connection.
            let unused = |slot| ConnectionId::new(slot as u32, ConnectionId::GENERATIONS - 1);
            let places = self.0.len()..=index;
            self.0.extend(places.map(|slot| Slot { id: unused(slot), connection: None }));
        }
        if self.0[index].connection.is_some() {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, format!("slot {index} is in use")));
        }
        Ok(())
    }

    /// Takes the place of an id.
    ///
    /// # Errors
    /// As [`Self::make_room`].
    pub(crate) fn insert(&mut self, id: ConnectionId, connection: C) -> io::Result<()> {
        self.make_room(id)?;
        self.0[id.slot() as usize] = Slot { id, connection: Some(connection) };
        Ok(())
    }

    #[inline]
    fn slot_mut(&mut self, id: ConnectionId) -> Option<&mut Slot<C>> {
        self.0.get_mut(id.slot() as usize).filter(|slot| slot.id == id)
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, id: ConnectionId) -> Option<&mut C> {
        self.slot_mut(id)?.connection.as_mut()
    }

    /// Whether there ever was one of this id, and no other since.
    pub(crate) fn knows(&self, id: ConnectionId) -> bool {
        self.0.get(id.slot() as usize).is_some_and(|slot| slot.id == id)
    }

    pub(crate) fn remove(&mut self, id: ConnectionId) -> Option<C> {
        self.slot_mut(id)?.connection.take()
    }

    /// Empties the table.
    pub(crate) fn take_all(&mut self) -> impl Iterator<Item = (ConnectionId, C)> {
        std::mem::take(&mut self.0).into_iter().filter_map(|slot| Some((slot.id, slot.connection?)))
    }
}
