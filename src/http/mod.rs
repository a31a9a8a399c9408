//! HTTP/1.1: bytes to values and back. In the order in which a request meets them.
//!
//! No I/O, no clock and no buffers of its own here; no HTTP/2, no WebSocket frames, no routing.
//! Imports nothing of ours but `limits` and `error`.

// Private modules are parts of the public ones beside them.
pub mod head;
mod request_line;
mod ranges;
mod host;
pub mod framing;
mod persistence;
pub mod chunked;
pub mod target;
pub mod cookie;
pub mod encode;
mod date;
mod grammar;

#[cfg(test)]
mod tests;
