//! What one seed stands for: bounds, weather, what each client says and how the handler answers it. Small on purpose: a
//! failure should be readable, and a million seeds should take minutes. How it is drawn: `draw.rs`.

use std::time::Duration;

use turboapi_core::limits::Limits;
use turboapi_platform::IoConfig;
use turboapi_platform::fakes::simulated::{Moment, Reader, Weather};

use crate::bodies::{Body, OwnLimits};

/// All of one run.
#[derive(Debug)]
pub struct Plan {
    /// Bounds, much lower than the defaults, so that they are met.
    pub limits: Limits,
    /// What some routes have instead.
    pub own_limits: OwnLimits,
    /// Few and small receive buffers.
    pub io: IoConfig,
    /// How the kernel behaves.
    pub weather: Weather,
    /// Who connects.
    pub clients: Vec<ClientPlan>,
    /// A drain in the middle of everything.
    pub drain_at: Option<Moment>,
    /// For that one and for the one at the end.
    pub drain_timeout: Duration,
    /// Another thread wakes the worker.
    pub wake_at: Option<Moment>,
    /// The listener breaks.
    pub listener_fails_at: Option<Moment>,
}

/// One client's life.
#[derive(Debug)]
pub struct ClientPlan {
    /// When it connects.
    pub connect_at: Moment,
    /// How it reads.
    pub reader: Reader,
    /// What it says, in order.
    pub items: Vec<Item>,
    /// Whether it waits for no answer before its next request.
    pub is_pipelined: bool,
    /// Bytes of its longest write.
    pub write_bytes_max: usize,
    /// Time between two writes.
    pub write_pause: Moment,
    /// Time between an answer and the next request.
    pub think: Moment,
    /// How it ends.
    pub ending: Ending,
}

/// How a client ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It waits until the server closes.
    Waits,
    /// It ends its side when it has all its answers.
    AfterAnswers,
    /// It ends its side when it has written everything.
    AfterWriting,
    /// It stops in the middle of a write, and ends its side.
    Midway,
    /// It stops in the middle of a write, and says nothing any more.
    Stops,
    /// The connection breaks at this time after it was made, with this `errno`.
    Breaks(Moment, i32),
}

/// One request, or what was to pass for one.
#[derive(Debug)]
pub struct Item {
    /// In its path, and in its answer.
    pub token: u32,
    /// As it goes on the wire.
    pub bytes: Vec<u8>,
    /// Of its head alone.
    pub head_bytes: usize,
    /// Where it ends in all that its client says.
    pub end: usize,
    /// What it is.
    pub kind: Kind,
}

/// What an item is.
#[derive(Debug)]
pub enum Kind {
    /// To be answered, but for what its body breaks.
    Valid(Box<Valid>),
    /// To be refused with this status.
    Broken(u16),
}

/// What the handler must be given, and how it answers.
#[derive(Debug)]
pub struct Valid {
    /// Its method.
    pub method: &'static str,
    /// Its body, and which route it takes.
    pub body: Body,
    /// HTTP/1.0.
    pub is_old: bool,
    /// The request lets the connection stay.
    pub keeps_alive: bool,
    /// Its client waits for `100 Continue`, so long at most; for ever if none.
    pub expects: Option<Option<Moment>>,
    /// How it is answered.
    pub conduct: Conduct,
}

/// How the handler answers one request.
#[derive(Clone, Copy, Debug)]
pub struct Conduct {
    /// Not in the call, but so much later.
    pub later: Option<Moment>,
    /// In which form.
    pub form: Form,
    /// Status.
    pub status: u16,
    /// Bytes of the body.
    pub bytes: usize,
    /// The handler says `connection: close`.
    pub closes: bool,
    /// Time between two parts.
    pub part_pause: Moment,
    /// It computes for so long in the call.
    pub computes: Moment,
}

/// Which of the ways to answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// At once, copied or not.
    Whole,
    /// As JSON.
    Json,
    /// In so many parts.
    Parts {
        /// How many, at least 1.
        count: usize,
        /// With `content-length`.
        has_length: bool,
        /// The next part waits for `writable`.
        waits: bool,
    },
    /// It says nothing, or fails before it says anything: 500.
    Nothing,
    /// It fails within the answer.
    FailsWithin,
    /// It promises another length than it sends.
    WrongLength,
    /// It never answers; only a later answer can be that.
    Never,
}

impl Item {
    /// Whether its answer has no body because it is HEAD.
    #[must_use]
    pub fn is_head(&self) -> bool {
        matches!(&self.kind, Kind::Valid(valid) if valid.method == "HEAD")
    }

    /// Where it begins in all that its client says.
    #[must_use]
    pub fn start(&self) -> usize {
        self.end - self.bytes.len()
    }

    /// Where its head ends in all that its client says.
    #[must_use]
    pub fn head_end(&self) -> usize {
        self.start() + self.head_bytes
    }

    /// What it is, where it is to be answered.
    #[must_use]
    pub fn valid(&self) -> Option<&Valid> {
        match &self.kind {
            Kind::Valid(valid) => Some(valid),
            Kind::Broken(_) => None,
        }
    }

    /// Whether the handler has it as soon as its head is complete.
    #[must_use]
    pub fn is_in_parts(&self) -> bool {
        self.valid().is_some_and(|valid| !valid.body.route.is_whole())
    }

    /// Whether it is all there with so many bytes of its client, and right.
    #[must_use]
    pub fn is_whole(&self, delivered: usize) -> bool {
        delivered >= self.end && self.valid().is_some_and(|valid| valid.body.breaks.is_none())
    }
}

impl Valid {
    /// Whether the answer has no body, whatever the handler says.
    #[must_use]
    pub fn is_bodiless(&self) -> bool {
        self.method == "HEAD" || matches!(self.conduct.status, 204 | 304)
    }

    /// Whether its answer is begun before it is complete.
    #[must_use]
    pub fn streams(&self) -> bool {
        matches!(self.conduct.form, Form::Parts { .. } | Form::FailsWithin | Form::WrongLength)
    }

    /// Whether this answer ends its connection, if all goes well.
    #[must_use]
    pub fn ends_connection(&self) -> bool {
        !self.keeps_alive || self.conduct.closes && self.says_headers() || self.ends_by_closing()
    }

    /// Whether a handler that fails has said a length before.
    #[must_use]
    pub fn says_length(&self) -> bool {
        self.conduct.form == Form::WrongLength || self.conduct.bytes.is_multiple_of(2)
    }

    /// Whether the end of the connection is what would tell the end of the answer.
    #[must_use]
    pub fn ends_by_closing(&self) -> bool {
        let has_length = match self.conduct.form {
            Form::Parts { has_length, .. } => has_length,
            Form::FailsWithin => self.says_length(),
            _ => true,
        };
        self.is_old && !has_length && !self.is_bodiless()
    }

    /// Whether the handler's own header lines are in the answer.
    #[must_use]
    pub fn says_headers(&self) -> bool {
        matches!(self.conduct.form, Form::Whole | Form::Parts { .. } | Form::FailsWithin | Form::WrongLength)
    }
}
