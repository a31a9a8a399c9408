//! HTTP/1.1 conformance cases: files under `cases/`, one a case, and what reads and judges them. The format stands in
//! README.md.
//!
//! Nothing of the server is used here, so that what judges it shares no mistake with it. The two players are
//! `tests/in_memory.rs` (the core over the scripted platform) and `main.rs` (any server, over sockets).

#![forbid(unsafe_code)]

pub mod case;
pub mod answers;
pub mod verdict;
pub mod octets;
