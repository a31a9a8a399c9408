//! What may happen to a kernel and the way to it: how likely each thing is, and how often it came.

use super::moment::Moment;

/// How the kernel and the way to it behave in one run. Chances are out of 256.
#[derive(Clone, Copy, Debug, Default)]
pub struct Weather {
    /// Microseconds that a segment or a completion may take.
    pub latency_max: Moment,
    /// That something which is due is not told in this turn.
    pub holds: u8,
    /// That received bytes are cut shorter than the buffer.
    pub cuts: u8,
    /// That there is no receive buffer, though one is free (another worker's traffic, ENOBUFS).
    pub starves: u8,
    /// That a turn comes back with nothing.
    pub empties: u8,
    /// That the kernel takes less of a send than it has room for.
    pub shortens: u8,
    /// That a reset destroys what the peer has not read yet, or what was not told yet.
    pub loses: u8,
    /// That `Data` and `Eof` still follow `want_read(false)`.
    pub overshoots: u8,
    /// That accepting fails for want of descriptors.
    pub stalls: u8,
    /// That a connection cannot be adopted.
    pub adopt_fails: u8,
}

/// Names each thing that may happen, for counting.
macro_rules! happenings {
    ($($name:ident $text:literal)+) => {
        /// What the weather did.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[expect(missing_docs, reason = "the texts below say it")]
        pub enum Happening { $($name),+ }

        impl Happening {
            /// All of them, with what they are.
            pub const ALL: &'static [(Happening, &'static str)] = &[$((Happening::$name, $text)),+];
        }
    };
}

happenings! {
    Cut "data cut short of its buffer"
    Starved "no receive buffer (ENOBUFS)"
    Held "event held back for a turn"
    EmptyTurn "turn with nothing"
    Shortened "send shortened"
    WindowFull "send waits for a slow reader"
    PeerReset "connection failed (ECONNRESET and others)"
    ResetInSend "failed with a send in flight (ECANCELED)"
    ResetWhileClosing "failed while it was closing"
    SentAfterClose "Sent after close was asked for"
    Eof "peer half-closed"
    DataAfterPause "Data after reading was paused"
    Paused "reading paused"
    AcceptStalled "accept stalled (EMFILE)"
    AdoptFailed "adopt failed"
    SlotReused "slot used again"
    BacklogWaited "connection waited in the backlog"
    ListenerFailed "listener failed"
    LingerTime "linger ended by time"
    LingerBytes "linger ended by bytes"
    LostBytes "reset took unread bytes from the peer"
    Woken "woken"
}
