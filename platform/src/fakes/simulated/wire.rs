//! One connection between a peer and the worker: what is under way in it, and what it was told and asked.

use std::collections::VecDeque;
use std::os::fd::{OwnedFd, RawFd};

use super::moment::Moment;
use crate::{Close, ConnectionId, OutBuf};

/// The other end of a simulated connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer(pub usize);

/// How a peer takes what is sent to it.
#[derive(Clone, Copy, Debug)]
pub struct Reader {
    /// Bytes that the two kernels hold between us.
    pub window: usize,
    /// Bytes of one read.
    pub bytes: usize,
    /// Microseconds between two reads.
    pub pause: Moment,
    /// After so many bytes it reads no more.
    pub stops_after: usize,
}

impl Reader {
    /// One that keeps up.
    pub const PROMPT: Self = Self { window: 1 << 20, bytes: usize::MAX, pause: 0, stops_after: usize::MAX };
}

/// What a connection was told and was asked, with the time of each: what a judge needs afterwards.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// When it was adopted.
    pub adopted_at: Option<Moment>,
    /// Each `Data`: when, and how many bytes until then.
    pub data: Vec<(Moment, usize)>,
    /// When `Eof` was told.
    pub eof_at: Option<Moment>,
    /// When `Error` was told.
    pub error_at: Option<Moment>,
    /// When `Closed` was told.
    pub closed_at: Option<Moment>,
    /// Each send, in order.
    pub sends: Vec<SendRecord>,
    /// Each close that was asked for.
    pub closes: Vec<(Moment, Close)>,
    /// A reset took bytes from the peer that it had not read.
    pub lost: bool,
    /// The worker's side ended by a reset.
    pub was_reset: bool,
    /// A lingering close has read as much as it may.
    pub sent_too_much: bool,
}

/// One send.
#[derive(Clone, Copy, Debug)]
pub struct SendRecord {
    /// When it was asked for.
    pub asked_at: Moment,
    /// Bytes of the connection with this one.
    pub end: usize,
    /// When `Sent` was told.
    pub told_at: Option<Moment>,
}

#[derive(Debug)]
pub(super) enum Travel {
    Bytes(Vec<u8>),
    End,
    Reset(i32),
}

#[derive(Debug)]
pub(super) enum Completion {
    Sent(OutBuf),
    Error(i32),
    Closed,
}

/// One connection between a peer and the worker.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts about one connection; most of their mixes occur")]
pub(super) struct Wire {
    pub(super) accepted_as: Option<RawFd>,
    pub(super) connection: Option<ConnectionId>,
    pub(super) socket: Option<OwnedFd>,
    pub(super) under_way: VecDeque<(Moment, Travel)>,
    pub(super) coming: VecDeque<u8>,
    pub(super) has_ended: bool,
    pub(super) has_failed: bool,
    pub(super) told_of_failure: bool,
    pub(super) pauses_reading: bool,
    pub(super) overshoot: u32,
    /// Reads of this turn.
    pub(super) reads: u32,
    /// Not told before.
    pub(super) data_at: Moment,
    pub(super) sending: Option<OutBuf>,
    /// All that the worker sent. INVARIANT: `read <= taken <= out.len()`.
    pub(super) out: Vec<u8>,
    pub(super) taken: usize,
    pub(super) read: usize,
    pub(super) take_at: Moment,
    pub(super) read_at: Moment,
    pub(super) reader: Reader,
    pub(super) completions: VecDeque<(Moment, Completion)>,
    pub(super) closing: Option<Close>,
    pub(super) lingers: Option<(Moment, usize)>,
    pub(super) is_released: bool,
    pub(super) history: History,
}

impl Wire {
    pub(super) fn new(reader: Reader) -> Self {
        Self {
            accepted_as: None,
            connection: None,
            socket: None,
            under_way: VecDeque::new(),
            coming: VecDeque::new(),
            has_ended: false,
            has_failed: false,
            told_of_failure: false,
            pauses_reading: false,
            overshoot: 0,
            reads: 0,
            data_at: 0,
            sending: None,
            out: Vec::new(),
            taken: 0,
            read: 0,
            take_at: 0,
            read_at: 0,
            reader,
            completions: VecDeque::new(),
            closing: None,
            lingers: None,
            is_released: false,
            history: History::default(),
        }
    }

    pub(super) fn is_reading(&self) -> bool {
        self.read < self.reader.stops_after
    }

    pub(super) fn room(&self) -> usize {
        self.reader.window.saturating_sub(self.taken - self.read)
    }

    /// Whether there are bytes, or an end, that the worker may be told of now.
    pub(super) fn has_data(&self) -> bool {
        let may_be_told = self.connection.is_some()
            && self.closing.is_none()
            && !self.told_of_failure
            && (!self.pauses_reading || self.overshoot > 0);
        let has_end = self.has_ended && self.history.eof_at.is_none() && !self.has_failed;
        may_be_told && (!self.coming.is_empty() || has_end)
    }

    pub(super) fn complete(&mut self, at: Moment, completion: Completion) {
        let at = self.completions.back().map_or(at, |(last, _)| at.max(*last));
        self.completions.push_back((at, completion));
    }

    /// When something may happen to it that has not yet.
    pub(super) fn next_due(&self) -> Option<Moment> {
        let adopted = self.connection.is_some();
        let travels = self.under_way.front().filter(|_| adopted).map(|(at, _)| *at);
        let completes = self.completions.front().map(|(at, _)| *at);
        let tells = self.has_data().then_some(self.data_at);
        let reads = (self.read < self.taken && self.is_reading() && !self.has_failed).then_some(self.read_at);
        let takes = (self.sending.is_some() && self.room() > 0).then_some(self.take_at);
        let lingers = self.lingers.filter(|_| !self.is_released).map(|(at, _)| at);
        [travels, completes, tells, reads, takes, lingers].into_iter().flatten().min()
    }
}
