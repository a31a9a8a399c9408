//! Every bound of the server: its unit, its default, what it may be, and why that number. Nothing grows that is not here.
//! Where a bound is enforced stands in the file that enforces it.

use std::time::Duration;

use crate::error::StartError;

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;
const MILLISECOND: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);

/// One row a limit: why, name, type, default, smallest and largest allowed.
macro_rules! limits {
    ($($(#[$why:meta])+ $name:ident: $kind:ty = $default:expr, from $min:expr, to $max:expr;)+) => {
        /// The bounds of one server, the same for all its workers. Sizes in bytes, times as `Duration`.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct Limits { $($(#[$why])+ pub $name: $kind,)+ }

        impl Default for Limits {
            fn default() -> Self {
                Self { $($name: $default,)+ }
            }
        }

        impl Limits {
            /// Checks each limit against what it may be.
            ///
            /// # Errors
            /// `StartError::Limit` for the first one that is outside; it names the limit, its value and the range.
            pub fn validate(&self) -> Result<(), StartError> {
                $(check(stringify!($name), self.$name, $min, $max)?;)+
                check("request_line_bytes_max", self.request_line_bytes_max, 64, self.head_bytes_max)
            }
        }
    };
}

limits! {
    // The head.

    /// Bytes of the request line without its CRLF. RFC 9112 §3 asks for 8000 at least; 16 KiB is Node's whole head. 414.
    request_line_bytes_max: usize = 16 * KIB, from 64, to MIB;
    /// Bytes of request line and headers together, with all CRLFs. Node has 16 KiB, nginx 4 × 8 KiB. 431.
    head_bytes_max: usize = 32 * KIB, from 256, to MIB;
    /// Header lines. hyper, Granian and gunicorn have 100 too; a browser sends about 20. 431.
    header_count_max: usize = 100, from 4, to 10_000;

    // The body.

    /// Bytes of a body, held or streamed; a route may have its own. nginx has 1 MiB, gunicorn and uvicorn none: 16 MiB takes
    /// a photo or a table, and is no gift to who sends many. 413, before reading if declared.
    body_bytes_max: u64 = 16 * MIB as u64, from 0, to 1 << 40;
    /// Bytes of a streamed body that its handler has not taken, over which no more is read. uvicorn has the same: four
    /// receive buffers, so that a handler that keeps up never waits; a thousand that do not keep up cost 64 MiB.
    body_untaken_bytes_max: usize = 64 * KIB, from 0, to 64 * MIB;
    /// Bytes of all chunk extensions of one body. hyper has the same; nobody is known to use them. 400.
    chunk_extension_bytes_max: usize = 16 * KIB, from 0, to MIB;
    /// Bytes of all trailer lines of one body. hyper has the same. 431.
    trailer_bytes_max: usize = 16 * KIB, from 0, to MIB;

    // Time: how long a peer may take.

    /// From accept to the first byte. A browser's spare connection comes back without harm. Close.
    silence_timeout: Duration = 10 * SECOND, from 10 * MILLISECOND, to HOUR;
    /// From the first byte of a head to its last, however the bytes come: what ends Slowloris. 408.
    head_timeout: Duration = 10 * SECOND, from 10 * MILLISECOND, to HOUR;
    /// Between two bytes of a body; a phone that changes cells needs some seconds. 408.
    body_idle_timeout: Duration = 20 * SECOND, from 10 * MILLISECOND, to HOUR;
    /// Body bytes a second, on average after the grace; Kestrel's rule and number. 0 is no minimum. 408.
    body_bytes_per_second_min: u64 = 240, from 0, to 1 << 30;
    /// How long a body may be slower than the minimum. Kestrel's too.
    body_rate_grace: Duration = 5 * SECOND, from Duration::ZERO, to HOUR;
    /// Without one byte taken by the peer while we have bytes for it. Half of nginx's; then a reset, as a close would wait on.
    /// Where the kernel tells what the peer has acknowledged (TCP on Linux) it comes up to a sixteenth late, elsewhere a byte is a
    /// piece of 256 KiB that the kernel has taken.
    write_timeout: Duration = 30 * SECOND, from 10 * MILLISECOND, to HOUR;
    /// Bytes of answers that a peer has to take a second, on average since it was last seen to take some, for that to count.
    /// As few as of a body: a byte now and then shall not hold an answer for ever. 0 is one byte.
    write_bytes_per_second_min: u64 = 240, from 0, to 1 << 30;
    /// Between an answer and the next request. More than the 60 s after which load balancers drop theirs, so that ours
    /// never closes first and costs them a 502.
    keep_alive_timeout: Duration = 75 * SECOND, from Duration::ZERO, to 24 * HOUR;
    /// How long, after a refusal, we read and drop what the peer still sends, so that it sees the answer and not a reset.
    linger_timeout: Duration = 2 * SECOND, from Duration::ZERO, to 60 * SECOND;

    // How many at once.

    /// Bytes dropped while lingering, or of a body that no handler read, before we close at once.
    linger_bytes_max: usize = 64 * KIB, from 0, to 16 * MIB;
    /// Bytes of answers that the peer has not taken, over which no further pipelined request is read.
    unsent_bytes_max: usize = 64 * KIB, from KIB, to 64 * MIB;
    /// Open connections of one worker; see `connections_max` for the default. Over it: stop accepting, never spin. It is passed by
    /// what has been accepted when it is reached: at most the rest of a batch (`IoConfig::accept_batch`, 64) for each listener, and
    /// one connection for each other worker that saw the last room in the same moment. A drain serves the backlog besides.
    connections_max: usize = connections_max(1024), from 1, to 1 << 20;
    /// Handlers begun and not ended, on one worker, with what they do behind their answers (background tasks). Takes thousands
    /// of suspended ones at some KiB each; over it, 503.
    handlers_in_flight_max: usize = 16_384, from 1, to 1 << 20;
    /// Connections that the kernel may queue before we accept them. Linux cuts it to somaxconn (4096).
    backlog_max: usize = 2048, from 1, to 65_535;

    // The end.

    /// From SIGTERM until handlers still running are cancelled. Kubernetes kills after 30 s by default.
    drain_timeout: Duration = 30 * SECOND, from Duration::ZERO, to 24 * HOUR;
    /// From cancelling handlers to closing whatever is left. The app's own shutdown, which comes after it, has as long.
    cancel_timeout: Duration = 5 * SECOND, from Duration::ZERO, to HOUR;
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

fn check<T: Amount>(name: &'static str, value: T, min: T, max: T) -> Result<(), StartError> {
    if min <= value && value <= max {
        return Ok(());
    }
    Err(StartError::Limit { name, value: value.text(), min: min.text(), max: max.text() })
}

/// What a limit can be counted in.
trait Amount: PartialOrd {
    fn text(&self) -> String;
}

impl Amount for usize {
    fn text(&self) -> String {
        self.to_string()
    }
}

impl Amount for u64 {
    fn text(&self) -> String {
        self.to_string()
    }
}

impl Amount for Duration {
    fn text(&self) -> String {
        format!("{} s", self.as_secs_f64())
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
