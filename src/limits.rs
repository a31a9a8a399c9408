//! Every bound of the server: its unit, its default, what it may be, why that number, and what users are told of it.
//! Nothing grows that is not here. Where a bound is enforced stands in the file that enforces it.
//!
//! This is the declaration of each. Where users read of one (Python's settings, `--help`, the table in the docs) a test compares
//! that with [`ROWS`].

use std::fmt;
use std::time::Duration;

use crate::error::StartError;

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;
const REQUEST_LINE_BYTES_MIN: usize = 64;
const TEN_MILLISECONDS: Duration = Duration::from_millis(10);
const HOUR: Duration = seconds(3600);
const DAY: Duration = seconds(24 * 3600);

/// One row a limit: why, name, type, default, smallest and largest allowed, unit, and what users are told of it.
macro_rules! limits {
    ($($(#[$why:meta])+ $name:ident: $kind:ident = $default:expr, from $min:expr, to $max:expr, $unit:ident: $what:literal;)+) => {
        /// The bounds of one server, the same for all its workers. Sizes in bytes, times as `Duration`.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct Limits { $($(#[$why])+ pub $name: $kind,)+ }

        impl Default for Limits {
            fn default() -> Self {
                Self { $($name: $default,)+ }
            }
        }

        /// The limits as data, in the order of [`Limits`].
        pub static ROWS: &[Row] = &[$(Row {
            name: stringify!($name),
            unit: Unit::$unit,
            default: value!($kind, $default),
            least: value!($kind, $min),
            most: value!($kind, $max),
            what: $what,
            get: |limits| Amount::value(limits.$name),
            set: |limits, value| Amount::of(value).map(|amount| limits.$name = amount),
        },)+];
    };
}

/// A constant as a [`Value`].
macro_rules! value {
    (Duration, $amount:expr) => {
        Value::Time($amount)
    };
    ($whole:ident, $amount:expr) => {
        Value::Whole({
            let amount: $whole = $amount;
            amount as u64
        })
    };
}

limits! {
    // The head.

    /// Bytes of the request line without its CRLF. RFC 9112 §3 asks for 8000 at least; 16 KiB is Node's whole head. 414.
    request_line_bytes_max: usize = 16 * KIB, from REQUEST_LINE_BYTES_MIN, to MIB,
        Bytes: "request line; longer is 414";
    /// Bytes of request line and headers together, with all CRLFs. Node has 16 KiB, nginx 4 × 8 KiB. 431.
    head_bytes_max: usize = 32 * KIB, from 256, to MIB,
        Bytes: "request line and headers together; more is 431";
    /// Header lines. hyper, Granian and gunicorn have 100 too; a browser sends about 20. 431.
    header_count_max: usize = 100, from 4, to 10_000,
        Count: "headers of a request; more is 431";

    // The body.

    /// Bytes of a body, held or streamed; a route may have its own. nginx has 1 MiB, gunicorn and uvicorn none: 16 MiB takes
    /// a photo or a table, and is no gift to a client that sends many. 413, before reading if declared.
    body_bytes_max: u64 = 16 * MIB as u64, from 0, to 1 << 40,
        Bytes: "body of a request, unless its route has a limit of its own; more is 413";
    /// Bytes of a streamed body that its handler has not taken, over which no more is read. uvicorn has the same: four
    /// receive buffers, so that a handler that keeps up never waits; a thousand that do not keep up cost 64 MiB.
    body_untaken_bytes_max: usize = 64 * KIB, from 0, to 64 * MIB,
        Bytes: "streamed body that its handler has not taken, before no more is read";
    /// Bytes of all chunk extensions of one body. hyper has the same; no use of them is known. 400.
    chunk_extension_bytes_max: usize = 16 * KIB, from 0, to MIB,
        Bytes: "chunk extensions of one body; more is 400";
    /// Bytes of all trailer lines of one body. hyper has the same. 431.
    trailer_bytes_max: usize = 16 * KIB, from 0, to MIB,
        Bytes: "trailer lines of one body; more is 431";

    // Time: how long a peer may take.

    /// From accept to the first byte. A browser's spare connection comes back without harm. Close.
    silence_timeout: Duration = seconds(10), from TEN_MILLISECONDS, to HOUR,
        Seconds: "from accept to the first byte; then the connection is closed";
    /// From the first byte of a head to its last, however the bytes come: what ends Slowloris. 408.
    head_timeout: Duration = seconds(10), from TEN_MILLISECONDS, to HOUR,
        Seconds: "from the first byte of a head to its last; then 408";
    /// Between two bytes of a body; a phone that changes cells needs some seconds. 408.
    body_idle_timeout: Duration = seconds(20), from TEN_MILLISECONDS, to HOUR,
        Seconds: "without a byte of a body that is due; then 408";
    /// Body bytes a second, on average after the grace; Kestrel's rule and number. 0 is no minimum. 408.
    body_bytes_per_second_min: u64 = 240, from 0, to 1 << 30,
        BytesPerSecond: "slowest body that is taken after body_rate_grace; slower is 408";
    /// How long a body may be slower than the minimum. Kestrel's too.
    body_rate_grace: Duration = seconds(5), from Duration::ZERO, to HOUR,
        Seconds: "before body_bytes_per_second_min is asked for";
    /// Without one byte taken by the peer while we have bytes for it. Half of nginx's; then a reset, as a close would wait on.
    /// Where the kernel tells what the peer has acknowledged (TCP on Linux) it comes up to a sixteenth late, elsewhere a byte is a
    /// piece of 256 KiB that the kernel has taken.
    write_timeout: Duration = seconds(30), from TEN_MILLISECONDS, to HOUR,
        Seconds: "without progress in sending an answer; then the connection is reset";
    /// Bytes of answers that a peer has to take a second, on average since it was last seen to take some, for that to count.
    /// As few as of a body: a byte now and then shall not hold an answer for ever. 0 is one byte.
    write_bytes_per_second_min: u64 = 240, from 0, to 1 << 30,
        BytesPerSecond: "slowest taking of an answer that counts as progress in sending it";
    /// Between an answer and the next request. More than the 60 s after which load balancers drop theirs, so that ours
    /// never closes first and costs them a 502.
    keep_alive_timeout: Duration = seconds(75), from Duration::ZERO, to DAY,
        Seconds: "idle between two requests; then the connection is closed";
    /// How long, after a refusal, we read and drop what the peer still sends, so that it sees the answer and not a reset.
    linger_timeout: Duration = seconds(2), from Duration::ZERO, to seconds(60),
        Seconds: "reading and dropping what a refused peer still sends, so that it sees the refusal";

    // How many at once.

    /// Bytes dropped while lingering, or of a body that no handler read, before we close at once.
    linger_bytes_max: usize = 64 * KIB, from 0, to 16 * MIB,
        Bytes: "dropped while lingering, before the connection is closed";
    /// Bytes of answers that the peer has not taken, over which no further pipelined request is read.
    unsent_bytes_max: usize = 64 * KIB, from KIB, to 64 * MIB,
        Bytes: "answers that the peer has not taken, before no more is read from it";
    /// Open connections of one worker; see `connections_max` for the default. Over it: stop accepting, never spin. It is passed by
    /// what has been accepted when it is reached: at most the rest of a batch (`IoConfig::accept_batch`, 64) for each listener, and
    /// one connection for each other worker that saw the last room in the same moment. A drain serves the backlog besides.
    connections_max: usize = connections_max(1024), from 1, to 1 << 20,
        Count: "open connections of one worker; by default from the number of file descriptors";
    /// Handlers begun and not ended, on one worker, with what they do behind their answers (background tasks). Takes thousands
    /// of suspended ones at some KiB each; over it, 503.
    handlers_in_flight_max: usize = 16_384, from 1, to 1 << 20,
        Count: "handlers that run or wait on one worker; more is 503";
    /// Connections that the kernel may queue before we accept them; uvicorn has the same. Linux cuts it to somaxconn (4096). It is
    /// applied where the listeners are opened, by the caller.
    backlog: usize = 2048, from 1, to 65_535,
        Count: "connections that the kernel holds until a worker takes them";

    // The end.

    /// From SIGTERM until handlers still running are cancelled. Kubernetes kills after 30 s by default.
    drain_timeout: Duration = seconds(30), from Duration::ZERO, to DAY,
        Seconds: "after SIGTERM for what is in flight; then handlers are cancelled";
    /// From cancelling handlers to closing whatever is left. The app's own shutdown, which comes after it, has as long.
    cancel_timeout: Duration = seconds(5), from Duration::ZERO, to HOUR,
        Seconds: "for cancelled handlers to end; then connections close; as long for the app's shutdown";
}

/// One limit: what it is, not what it is set to.
#[derive(Debug)]
pub struct Row {
    /// As in [`Limits`]; also the name of the setting.
    pub name: &'static str,
    /// What it is counted in.
    pub unit: Unit,
    /// What it is unless it is set.
    pub default: Value,
    /// The smallest allowed.
    pub least: Value,
    /// The largest allowed.
    pub most: Value,
    /// What it bounds and what comes of more, in a few words for users.
    pub what: &'static str,
    get: fn(&Limits) -> Value,
    set: fn(&mut Limits, Value) -> Option<()>,
}

/// What a limit is counted in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Of memory or of the wire.
    Bytes,
    /// On average, not in each second.
    BytesPerSecond,
    /// Of the things that its name says.
    Count,
    /// A length of time.
    Seconds,
}

/// What a limit is set to. INVARIANT: of one limit it is always of the same kind, `Time` where the unit is seconds. Those of
/// different kinds are ordered too, so that one of the wrong kind is outside of any range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Value {
    /// A number of bytes or of things.
    Whole(u64),
    /// A length of time.
    Time(Duration),
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole(number) => write!(f, "{number}"),
            Self::Time(time) => write!(f, "{} s", time.as_secs_f64()),
        }
    }
}

impl Row {
    /// Sets this limit in `limits`.
    ///
    /// # Errors
    /// `StartError::Limit` if the value is outside of what is allowed, or of the wrong kind; nothing is set.
    pub fn set(&self, limits: &mut Limits, value: Value) -> Result<(), StartError> {
        self.check(value)?;
        (self.set)(limits, value).ok_or_else(|| self.refuse(value))
    }

    /// The error for something that this limit cannot be.
    #[must_use]
    pub fn refuse(&self, seen: impl fmt::Display) -> StartError {
        StartError::Limit {
            name: self.name,
            value: seen.to_string(),
            min: self.least.to_string(),
            max: self.most.to_string(),
        }
    }

    fn check(&self, value: Value) -> Result<(), StartError> {
        if (self.least..=self.most).contains(&value) { Ok(()) } else { Err(self.refuse(value)) }
    }
}

impl Limits {
    /// Checks each limit against what it may be.
    ///
    /// # Errors
    /// `StartError::Limit` for the first one that is outside; it names the limit, its value and the range.
    pub fn validate(&self) -> Result<(), StartError> {
        for row in ROWS {
            row.check((row.get)(self))?;
        }
        if self.request_line_bytes_max > self.head_bytes_max {
            return Err(StartError::Limit {
                name: "request_line_bytes_max",
                value: self.request_line_bytes_max.to_string(),
                min: REQUEST_LINE_BYTES_MIN.to_string(),
                max: self.head_bytes_max.to_string(),
            });
        }
        Ok(())
    }
}

const fn seconds(number: u64) -> Duration {
    Duration::from_secs(number)
}

/// Connections that `nofile` descriptors (RLIMIT_NOFILE) allow: a tenth and 64 are left for Python's files, sockets and
/// databases, and 65,536 is the most that one process takes without being asked to.
pub const fn connections_max(nofile: u64) -> usize {
    let usable = (nofile - nofile / 10).saturating_sub(64);
    match usable {
        0 => 1,
        1..65_536 => usable as usize,
        _ => 65_536,
    }
}

/// What a limit is in [`Limits`].
trait Amount: Sized {
    fn value(self) -> Value;
    /// None if it is of the other kind, or more than the type holds.
    fn of(value: Value) -> Option<Self>;
}

impl Amount for usize {
    fn value(self) -> Value {
        Value::Whole(self as u64)
    }

    fn of(value: Value) -> Option<Self> {
        u64::of(value)?.try_into().ok()
    }
}

impl Amount for u64 {
    fn value(self) -> Value {
        Value::Whole(self)
    }

    fn of(value: Value) -> Option<Self> {
        if let Value::Whole(number) = value { Some(number) } else { None }
    }
}

impl Amount for Duration {
    fn value(self) -> Value {
        Value::Time(self)
    }

    fn of(value: Value) -> Option<Self> {
        if let Value::Time(time) = value { Some(time) } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_allowed() {
        assert!(Limits::default().validate().is_ok());
    }

    #[test]
    fn what_is_outside_is_named_with_its_range() {
        let check = |change: fn(&mut Limits), message: &str| {
            let mut limits = Limits::default();
            change(&mut limits);
            assert_eq!(limits.validate().map_err(|error| error.to_string()), Err(message.to_owned()));
        };
        check(|limits| limits.head_bytes_max = 0, "head_bytes_max is 0, allowed are 256 to 1048576");
        check(|limits| limits.head_bytes_max = 1 << 20 | 1, "head_bytes_max is 1048577, allowed are 256 to 1048576");
        check(|limits| limits.head_timeout = Duration::ZERO, "head_timeout is 0 s, allowed are 0.01 s to 3600 s");
        check(|limits| limits.head_bytes_max = 8192, "request_line_bytes_max is 16384, allowed are 64 to 8192");
        check(|limits| limits.connections_max = 0, "connections_max is 0, allowed are 1 to 1048576");
    }

    #[test]
    fn each_row_sets_and_reads_its_own_limit() {
        let (mut limits, is_set) = (Limits::default(), |row: &Row, limits: &Limits| (row.get)(limits) == row.most);
        for (index, row) in ROWS.iter().enumerate() {
            assert_eq!(row.default, (row.get)(&Limits::default()), "{}", row.name);
            assert!(row.set(&mut limits, row.most).is_ok(), "{}", row.name);
            assert!(ROWS[..=index].iter().all(|row| is_set(row, &limits)), "{}", row.name);
            assert!(!ROWS[index + 1..].iter().any(|row| is_set(row, &limits)), "{}", row.name);
            assert_eq!(row.unit == Unit::Seconds, matches!(row.least, Value::Time(_)), "{}", row.name);
        }
    }

    #[test]
    fn what_a_row_cannot_be_is_named_and_not_set() {
        let check = |name: &str, value: Value, message: &str| {
            let mut limits = Limits::default();
            let row = ROWS.iter().find(|row| row.name == name).expect("a limit that exists");
            assert_eq!(row.set(&mut limits, value).map_err(|error| error.to_string()), Err(message.to_owned()));
            assert_eq!(limits, Limits::default());
        };
        check("header_count_max", Value::Whole(3), "header_count_max is 3, allowed are 4 to 10000");
        check("header_count_max", Value::Time(seconds(5)), "header_count_max is 5 s, allowed are 4 to 10000");
        check("linger_timeout", Value::Time(seconds(61)), "linger_timeout is 61 s, allowed are 0 s to 60 s");
        check("linger_timeout", Value::Whole(1), "linger_timeout is 1, allowed are 0 s to 60 s");
    }

    #[test]
    fn connections_by_descriptors() {
        for (nofile, expected) in [
            (0, 1),
            (64, 1),
            (72, 1),
            (73, 2),
            (80, 8),
            (1024, 858),
            (72_889, 65_537 - 1),
            (72_900, 65_536),
            (u64::MAX, 65_536),
        ] {
            assert_eq!(connections_max(nofile), expected, "{nofile}");
        }
    }
}
