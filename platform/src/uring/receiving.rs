//! How bytes come in: receives that are armed and end, the buffers that they fill, and bytes that cannot be told yet. What the peer's
//! end, a failure or too many bytes mean for a connection is not decided here.

use std::collections::VecDeque;
use std::io;
use std::mem;

use super::buffers::BufferRing;
use super::connection::{Connection, Phase, Receive};
use super::ring::{Completion, GROUP, Kind, Ring};
use crate::slots::Slots;
use crate::{ConnectionId, Event, IoConfig, RxBuf};

/// `Data` events of one connection in one turn. The contract promises this bound to `want_read(false)`; what is more waits
/// for the next turn, as one.
const DATA_PER_TURN: u8 = 4;

/// Marks an [`RxBuf`] whose bytes are not in the buffer ring but in [`Receiving::lent`].
const LENT: u32 = 1 << 31;

/// What the connections' receives share.
pub(super) struct Receiving {
    /// What the kernel writes to.
    buffers: BufferRing,
    /// Connections whose receive found no buffer.
    starved: VecDeque<ConnectionId>,
    /// Connections that have bytes of an earlier turn to tell.
    holding: Vec<ConnectionId>,
    /// Such bytes, told in the last turn.
    lent: Vec<Vec<u8>>,
    turn: u32,
}

/// What became of bytes that came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Delivered {
    Told,
    /// They wait for a turn that may tell them: no more are to come before.
    Kept,
    Dropped,
    /// Dropped, and a lingering close has read with them as much as it may.
    TooMuch,
}

/// Ends the receive of a connection, if it has one.
pub(super) fn cancel(id: ConnectionId, connection: &mut Connection, ring: &mut Ring) {
    if connection.receive == Receive::Armed {
        connection.receive = Receive::Cancelled;
        ring.cancel(Kind::Receive, id.bits());
    }
}

impl Receiving {
    /// Gives the ring its buffers.
    pub(super) fn open(ring: &Ring, config: &IoConfig) -> io::Result<Self> {
        Ok(Self {
            buffers: BufferRing::register(&ring.submitter(), GROUP, config)?,
            starved: VecDeque::new(),
            holding: Vec::new(),
            lent: Vec::new(),
            turn: 0,
        })
    }

    /// A new turn: what was told in the last one is nobody's any more.
    #[inline]
    pub(super) fn begin_turn(&mut self) {
        debug_assert_eq!(self.buffers.out_count(), 0, "receive buffers must be released before the next turn");
        self.turn = self.turn.wrapping_add(1);
        self.lent.clear();
    }

    /// Arms the receive of a connection that wants it and has none.
    #[inline]
    pub(super) fn arm(&self, id: ConnectionId, connection: &mut Connection, ring: &mut Ring) {
        if !connection.has_to_receive() {
            return;
        }
        connection.receive = Receive::Armed;
        let (descriptor, user_data) = (connection.descriptor(), Kind::Receive.of(id.bits()));
        if connection.is_bulk {
            ring.receive_once(descriptor, self.buffers.buffer_bytes(), user_data);
        } else {
            ring.receive(descriptor, user_data);
        }
    }

    /// Arms the receives of those in line, as far as there are buffers.
    #[inline]
    pub(super) fn step(&mut self, connections: &mut Slots<Connection>, ring: &mut Ring) {
        // As many as there are buffers, and for one buffer each: the first would take them all, and no order would be fair.
        for _ in 0..self.buffers.free_count().min(self.starved.len()) {
            let Some(id) = self.starved.pop_front() else { break };
            let starved = connections.get_mut(id).filter(|connection| connection.receive == Receive::Starved);
            let Some(connection) = starved else { continue };
            connection.receive = Receive::Off;
            if connection.has_to_receive() {
                connection.receive = Receive::Armed;
                let user_data = Kind::Receive.of(id.bits());
                ring.receive_once(connection.descriptor(), self.buffers.buffer_bytes(), user_data);
            }
        }
    }

    /// Whether somebody stands in line for a buffer, so that a turn must not sleep.
    pub(super) fn is_starving(&self) -> bool {
        !self.starved.is_empty()
    }

    /// Whether more buffers are out than the kernel has.
    pub(super) fn is_short(&self) -> bool {
        self.buffers.out_count() > self.buffers.free_count()
    }

    /// The bytes that a completion brought, if it did. A buffer without any goes straight back.
    ///
    /// # Errors
    /// As [`BufferRing::take`].
    #[inline]
    pub(super) fn take(&mut self, completion: Completion) -> io::Result<Option<RxBuf>> {
        let Some(index) = completion.buffer() else { return Ok(None) };
        // Not negative after `max`.
        let bytes = completion.result.max(0) as usize;
        let index = self.buffers.take(index, bytes)?;
        if bytes == 0 {
            self.buffers.put(index);
            return Ok(None);
        }
        // A buffer's length came from a u32.
        Ok(Some(RxBuf { index, offset: 0, len: bytes as u32 }))
    }

    /// Tells bytes, or keeps or drops them.
    #[inline]
    pub(super) fn deliver(
        &mut self,
        id: ConnectionId,
        connection: &mut Connection,
        buffer: RxBuf,
        events: &mut Vec<Event>,
    ) -> Delivered {
        let is_wanted = connection.phase == Phase::Open && connection.wants_read && connection.held.is_empty();
        if is_wanted && connection.may_tell(self.turn, DATA_PER_TURN) {
            events.push(Event::Data { connection: id, buffer });
            return Delivered::Told;
        }
        self.on_unwanted(id, connection, &buffer)
    }

    /// Bytes that cannot be told now, or never.
    #[cold]
    fn on_unwanted(&mut self, id: ConnectionId, connection: &mut Connection, buffer: &RxBuf) -> Delivered {
        let delivered = match &mut connection.phase {
            Phase::Open => {
                connection.held.extend_from_slice(self.buffers.bytes(buffer.index, 0, buffer.len));
                // PERF: one that brings more in a turn than may be told receives once a turn from here on. Left to itself it
                // would fill all buffers in every turn, and nearly all of that be copied here. One upload as fast as it goes:
                // 670 µs of CPU a MiB before (epoll 290), 400 with it; 8 uploads at once 490 and 490 (epoll 540).
                connection.is_bulk = true;
                self.queue(id, connection);
                Delivered::Kept
            }
            Phase::Lingering { bytes_left } => {
                *bytes_left = bytes_left.saturating_sub(buffer.len as usize);
                if *bytes_left == 0 { Delivered::TooMuch } else { Delivered::Dropped }
            }
            _ => Delivered::Dropped,
        };
        self.buffers.put(buffer.index);
        delivered
    }

    /// A receive has ended, for whatever reason.
    #[inline]
    pub(super) fn on_end(&self, connection: &mut Connection, completion: Completion) {
        connection.receive = Receive::Off;
        // A buffer that was not filled has emptied the socket.
        connection.is_bulk &= completion.result < 0 || completion.result as u32 == self.buffers.buffer_bytes();
    }

    /// Puts a connection that found no buffer in line.
    pub(super) fn starve(&mut self, id: ConnectionId, connection: &mut Connection) {
        if connection.has_to_receive() {
            connection.receive = Receive::Starved;
            self.starved.push_back(id);
        }
    }

    /// Puts a connection in line to tell what it holds, unless it stands there.
    pub(super) fn queue(&mut self, id: ConnectionId, connection: &mut Connection) {
        let has_to_tell = connection.phase == Phase::Open && connection.wants_read && !connection.held.is_empty();
        if has_to_tell && !mem::replace(&mut connection.is_queued, true) {
            self.holding.push(id);
        }
    }

    /// Tells what earlier turns have left.
    #[inline]
    pub(super) fn tell_held(&mut self, connections: &mut Slots<Connection>, ring: &mut Ring, events: &mut Vec<Event>) {
        if self.holding.is_empty() {
            return;
        }
        for id in mem::take(&mut self.holding) {
            let Some(connection) = connections.get_mut(id) else { continue };
            connection.is_queued = false;
            if connection.phase != Phase::Open || !connection.wants_read || connection.held.is_empty() {
                continue;
            }
            let held = mem::take(&mut connection.held);
            let _ = connection.may_tell(self.turn, DATA_PER_TURN);
            // The kernel had this many buffers' bytes at most, which is below 2 GiB; and turns have few such connections.
            let buffer = RxBuf { index: LENT | self.lent.len() as u32, offset: 0, len: held.len() as u32 };
            self.lent.push(held);
            events.push(Event::Data { connection: id, buffer });
            if mem::take(&mut connection.owes_eof) {
                events.push(Event::Eof { connection: id });
            }
            self.arm(id, connection, ring);
        }
    }

    #[inline]
    pub(super) fn bytes(&self, buffer: &RxBuf) -> &[u8] {
        if buffer.index & LENT != 0 {
            let start = buffer.offset as usize;
            return &self.lent[(buffer.index ^ LENT) as usize][start..start + buffer.len as usize];
        }
        self.buffers.bytes(buffer.index, buffer.offset, buffer.len)
    }

    #[inline]
    pub(super) fn release(&mut self, buffer: &RxBuf) {
        if buffer.index & LENT == 0 {
            self.buffers.put(buffer.index);
        }
    }
}
