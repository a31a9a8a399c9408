//! How often each thing happened over many seeds: a simulation that never meets a path is no check of it.

use turboapi_platform::fakes::simulated::Happening;

macro_rules! outcomes {
    ($($name:ident $text:literal)+) => {
        /// What came of requests and connections.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[expect(missing_docs, reason = "the texts below say it")]
        pub enum Outcome { $($name),+ }

        impl Outcome {
            /// All of them, with what they are.
            pub const ALL: &'static [(Outcome, &'static str)] = &[$((Outcome::$name, $text)),+];
        }
    };
}

outcomes! {
    Connection "connections judged"
    Answered "requests answered"
    Pipelined "answered out of a pipeline"
    TookLong "others came before the next of a pipeline, as a call took long"
    Body "request bodies with a length"
    Chunked "request bodies in chunks"
    InParts "bodies whose parts came one after the other, whole"
    StoppedReading "handler stopped reading before the end"
    AnsweredEarly "answered before the body was whole"
    HeldBack "reading stood, as parts were not taken"
    BodyCut "body cut short under its handler"
    BodyBroken "body malformed or too large under its handler"
    BodySlow "body too slow under its handler"
    BodyUnderAnswer "closed, as a body broke under an answer that was begun"
    DroppedToEnd "rest of a body dropped, and the next request read"
    DroppedTooMuch "closed, as too much of a body was left"
    DroppedTooLong "closed, as the rest of a body took too long"
    DroppedCut "ended within a body that was dropped"
    ContinueAsked "100 Continue that a handler has asked for"
    HeadMethod "HEAD answered"
    NoContent "204 or 304 answered"
    OldVersion "HTTP/1.0 answered"
    Streamed "streamed answers"
    Large "answers over 256 KiB"
    Later "answered later"
    Continue "100 Continue"
    InternalError "500 for a handler that said nothing or failed"
    Overloaded "503 at the bound of handlers"
    Broken "malformed refused"
    CutShort "400 for a request cut short by its peer's end"
    HeadTimeout "408 for a head"
    BodyTimeout "408 for a body"
    Silence "closed after silence"
    KeepAlive "closed after keep-alive time-out"
    WriteTimeout "reset after write time-out"
    HandlerCut "closed behind a handler's failure within an answer"
    HandlerReset "reset for a handler's failure within an answer that the connection's end would end"
    DrainAbort "reset at the drain's deadline"
    DrainClose "closed by a drain"
    PeerEnd "closed after the peer's end"
    SaidClose "closed after an answer that said so"
    PeerReset "ended by a reset of the peer"
    EndedGone "handler told Gone"
    EndedHalfClosed "handler told HalfClosed"
    Writable "handler told writable"
    StaleAnswer "late answer that found nobody"
    LeastRecentlyUsed "closed early for want of descriptors"
    Drain "drains at a random time"
}

/// Counts of one run, or of many.
#[derive(Clone, Debug)]
pub struct Tally {
    /// By [`Outcome`].
    pub outcomes: [u64; Outcome::ALL.len()],
    /// By [`Happening`].
    pub happenings: [u64; Happening::ALL.len()],
}

impl Default for Tally {
    fn default() -> Self {
        Self { outcomes: [0; Outcome::ALL.len()], happenings: [0; Happening::ALL.len()] }
    }
}

impl Tally {
    /// One more of it.
    pub fn add(&mut self, outcome: Outcome) {
        self.outcomes[outcome as usize] += 1;
    }

    /// Takes another's counts in.
    pub fn merge(&mut self, other: &Self) {
        for (sum, more) in self.outcomes.iter_mut().zip(other.outcomes) {
            *sum += more;
        }
        for (sum, more) in self.happenings.iter_mut().zip(other.happenings) {
            *sum += more;
        }
    }

    /// Each thing with its name and count.
    pub fn rows(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        let outcomes = Outcome::ALL.iter().map(|(outcome, text)| (*text, self.outcomes[*outcome as usize]));
        let happenings = Happening::ALL.iter().map(|(happening, text)| (*text, self.happenings[*happening as usize]));
        outcomes.chain(happenings)
    }
}
