//! Fuzz targets: functions that take any octets and panic when the core does what it must not. `ci/fuzz` runs them
//! under libFuzzer, `tests/replay.rs` runs them over the corpus with any compiler.
//!
//! Each holds the core against something that shares no code with it: [`reference`], httparse, or the answers' reader
//! of the conformance cases. A plain "does not panic" would miss what matters here: two readers of one message.

#![forbid(unsafe_code)]

pub mod head;
pub mod chunked;
pub mod target;
pub mod connection;
pub mod encoder;
pub mod reference;
pub mod corpus;

use turboapi_core::limits::Limits;

/// One fuzz target.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// As `ci/fuzz --target` and the corpus file spell it.
    pub name: &'static str,
    /// Panics on a finding.
    pub run: fn(&[u8]),
}

/// All of them.
pub const TARGETS: [Target; 5] = [
    Target { name: "head", run: head::run },
    Target { name: "chunked", run: chunked::run },
    Target { name: "target", run: target::run },
    Target { name: "connection", run: connection::run },
    Target { name: "encoder", run: encoder::run },
];

/// The default limits, or the smallest that may be, so that few octets reach them.
fn limits(are_small: bool) -> Limits {
    let mut limits = Limits::default();
    if are_small {
        (limits.request_line_bytes_max, limits.head_bytes_max, limits.header_count_max) = (64, 256, 4);
        (limits.body_bytes_max, limits.chunk_extension_bytes_max, limits.trailer_bytes_max) = (24, 8, 16);
        limits.unsent_bytes_max = 1024;
    }
    limits
}

/// Two parts of `octets`, parted where `choice` says.
fn split_at(octets: &[u8], choice: usize) -> (&[u8], &[u8]) {
    octets.split_at(choice % (octets.len() + 1))
}
