//! A connection's bytes, in and out, and how it closes. No HTTP here, no handler, no clock and no I/O: what the bytes mean is in
//! `http1`, the worker's platform carries them.

use bytes::Bytes;
use turboapi_platform::Close;

use super::pending::Pending;
use crate::output::Output;
use crate::timers::{TICK_MILLISECONDS, Tick};

/// Bytes that a peer had acknowledged in all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Acknowledged {
    /// It was not asked for since the platform took the last piece.
    NotAsked,
    /// The platform cannot tell: only a piece that it has sent is progress.
    Unknown,
    Bytes(u64),
}

/// How long a peer may take nothing of what is there for it.
#[derive(Clone, Copy, Debug)]
pub(super) struct WriteWait {
    pub(super) end: Tick,
    /// When it is first asked how much it has acknowledged.
    pub(super) look: Tick,
}

/// What has come and what has to go. An idle one holds no buffer.
#[derive(Debug)]
pub struct Wire {
    pub(super) pending: Pending,
    /// Encoded, and not yet with the platform.
    pub output: Output,
    /// Bytes that the platform has and has not sent.
    pub in_send: usize,
    /// Since when the peer has taken nothing of what is there for it.
    unsent_since: Option<Tick>,
    /// What it had taken when that was looked at last.
    acknowledged: Acknowledged,
    close: Option<Close>,
    peer_ended: bool,
    reads: bool,
}

impl Default for Wire {
    fn default() -> Self {
        Self {
            pending: Pending::default(),
            output: Output::default(),
            in_send: 0,
            unsent_since: None,
            acknowledged: Acknowledged::NotAsked,
            close: None,
            peer_ended: false,
            reads: true,
        }
    }
}

impl Wire {
    /// The next piece of output for the platform, if it has none and there is some.
    #[inline]
    pub fn take(&mut self, bytes_max: usize) -> Option<(Vec<u8>, Bytes)> {
        if self.in_send > 0 || self.output.is_empty() {
            return None;
        }
        let (head, body) = self.output.take(bytes_max);
        self.in_send = head.len() + body.len();
        Some((head, body))
    }

    /// How the connection should end, once all of its output is with the platform; none while it goes on.
    #[must_use]
    pub fn wants_close(&self) -> Option<Close> {
        self.close.filter(|close| *close == Close::Abort || self.output.is_empty())
    }

    pub(super) const fn closes(&self) -> Option<Close> {
        self.close
    }

    /// Bytes that the peer has still to be sent.
    #[inline]
    pub(super) fn unsent(&self) -> usize {
        self.output.len() + self.in_send
    }

    /// Sets whether reading goes on. Returns that if it has changed.
    pub(super) fn read(&mut self, reads: bool) -> Option<bool> {
        (reads != self.reads).then(|| {
            self.reads = reads;
            reads
        })
    }

    /// The platform has sent what it was given.
    pub(super) fn sent(&mut self) {
        self.in_send = 0;
        self.unsent_since = None;
        self.acknowledged = Acknowledged::NotAsked;
    }

    pub(super) const fn has_peer_ended(&self) -> bool {
        self.peer_ended
    }

    /// The peer will send nothing more.
    pub(super) fn end(&mut self) {
        self.peer_ended = true;
    }

    /// Ends the connection in this way, when all of the output has left; what has come and was not consumed is dropped.
    pub(super) fn close(&mut self, how: Close) {
        self.pending = Pending::default();
        self.close = Some(how);
    }

    /// Nothing is left to linger for.
    pub(super) fn stop_lingering(&mut self) {
        if matches!(self.close, Some(Close::Linger(_))) {
            self.close = Some(Close::AfterSend);
        }
    }

    /// Ends the connection at once, and drops all that is unsent.
    pub(super) fn cut(&mut self) {
        self.output.clear();
        self.in_send = 0;
        self.unsent_since = None;
        self.close(Close::Abort);
    }

    /// When the peer will have taken nothing for too long, or has to be asked what it took; none if it has all. What the peer sends
    /// does not move it, only what it takes.
    #[inline]
    pub(super) fn deadline(&mut self, now: Tick, wait: WriteWait) -> Option<Tick> {
        self.unsent_since = (self.unsent() > 0).then(|| self.unsent_since.unwrap_or(now));
        self.unsent_since.map(|since| since + self.wait(wait))
    }

    const fn wait(&self, wait: WriteWait) -> Tick {
        if matches!(self.acknowledged, Acknowledged::NotAsked) { wait.look } else { wait.end }
    }

    /// Whether the peer has taken nothing for too long.
    pub(super) fn is_overdue(&self, by: Tick, wait: WriteWait) -> bool {
        self.unsent_since.is_some_and(|since| since + wait.end <= by)
    }

    /// Whether it has to be asked now how much the peer has acknowledged.
    pub(super) fn wants_acknowledged(&self, by: Tick, wait: WriteWait) -> bool {
        self.unsent_since.is_some_and(|since| since + self.wait(wait) <= by)
    }

    /// So much the peer has acknowledged. It has its time from here if that is enough more than the last time, or if there was
    /// none: what it took before is not known then.
    pub(super) fn note_acknowledged(&mut self, bytes: Option<u64>, now: Tick, bytes_per_second_min: u64) {
        let seconds = self.unsent_since.map_or(0, |since| (now - since) * TICK_MILLISECONDS / 1000);
        let enough = (seconds * bytes_per_second_min).max(1);
        let has_taken = match (self.acknowledged, bytes) {
            (_, None) => false,
            (Acknowledged::Bytes(before), Some(bytes)) => bytes.saturating_sub(before) >= enough,
            (Acknowledged::NotAsked | Acknowledged::Unknown, Some(_)) => true,
        };
        if has_taken {
            self.unsent_since = Some(now);
        }
        self.acknowledged = bytes.map_or(Acknowledged::Unknown, Acknowledged::Bytes);
    }

    /// What began at `before` begins at `now`.
    pub(super) fn move_times(&mut self, before: Tick, now: Tick) {
        self.unsent_since.iter_mut().filter(|since| **since == before).for_each(|since| *since = now);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const WAIT: WriteWait = WriteWait { end: 300, look: 20 };

    fn with_output(bytes: usize) -> Wire {
        let mut wire = Wire::default();
        wire.output.push_bytes(&vec![b'x'; bytes]);
        wire
    }

    #[test]
    fn one_piece_is_with_the_platform_at_a_time() {
        let mut wire = with_output(10);
        assert_eq!(wire.take(100).map(|(head, body)| head.len() + body.len()), Some(10));
        wire.output.push_bytes(b"more");
        assert_eq!((wire.unsent(), wire.take(100)), (14, None));
        wire.sent();
        assert_eq!(wire.take(100).map(|(head, body)| head.len() + body.len()), Some(4));
        wire.sent();
        assert_eq!((wire.unsent(), wire.take(100)), (0, None));
    }

    #[test]
    fn it_closes_when_the_platform_has_its_output_and_at_once_where_it_is_cut() {
        for how in [Close::AfterSend, Close::Linger(Duration::from_secs(2))] {
            let mut wire = with_output(10);
            wire.pending.extend(b"behind");
            wire.close(how);
            assert_eq!((wire.wants_close(), wire.pending.len()), (None, 0));
            drop(wire.take(100));
            assert_eq!(wire.wants_close(), Some(how));
            wire.stop_lingering();
            assert_eq!(wire.wants_close(), Some(Close::AfterSend));
        }
        let mut wire = with_output(10);
        wire.cut();
        wire.stop_lingering();
        assert_eq!((wire.wants_close(), wire.unsent(), wire.deadline(5, WAIT)), (Some(Close::Abort), 0, None));
    }

    #[test]
    fn reading_is_told_when_it_changes() {
        let mut wire = Wire::default();
        let told = [true, false, false, true, true].map(|reads| wire.read(reads));
        assert_eq!(told, [None, Some(false), None, Some(true), None]);
    }

    #[test]
    fn the_peers_time_follows_what_it_takes() {
        let mut wire = with_output(10);
        assert_eq!((wire.deadline(100, WAIT), wire.deadline(110, WAIT)), (Some(120), Some(120)));
        assert_eq!((wire.wants_acknowledged(119, WAIT), wire.wants_acknowledged(120, WAIT)), (false, true));
        wire.note_acknowledged(Some(1000), 120, 10);
        assert_eq!(wire.deadline(120, WAIT), Some(420));
        // Ten seconds, and less than ten bytes for each of them.
        wire.note_acknowledged(Some(1099), 220, 10);
        assert_eq!(wire.deadline(220, WAIT), Some(420));
        wire.note_acknowledged(Some(1199), 220, 10);
        assert_eq!(wire.deadline(220, WAIT), Some(520));
        assert_eq!((wire.is_overdue(519, WAIT), wire.is_overdue(520, WAIT)), (false, true));
        wire.sent();
        assert_eq!(wire.deadline(230, WAIT), Some(250));
        assert!(!wire.is_overdue(520, WAIT));
        wire.move_times(230, 240);
        assert_eq!(wire.deadline(240, WAIT), Some(260));
    }

    #[test]
    fn a_platform_that_cannot_tell_leaves_the_whole_wait() {
        let mut wire = with_output(10);
        assert_eq!(wire.deadline(100, WAIT), Some(120));
        wire.note_acknowledged(None, 120, 10);
        assert_eq!(wire.deadline(120, WAIT), Some(400));
    }
}
