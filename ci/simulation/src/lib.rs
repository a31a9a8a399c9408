//! The server core under seeded disorder. One seed draws limits, weather, clients and a handler's conduct; the real `Worker`
//! runs over a simulated kernel on a clock of its own; a judge then checks every octet, every time-out and every bound.
//! The same seed gives the same run, so a failure is one number. No sockets, no threads, no wall clock in here.
//!
//! [`run`] drives a [`plan`], which [`draw`] has drawn with [`bodies`] and [`broken`]; [`client`] writes and reads, [`handler`]
//! takes bodies and answers, [`response`] parses what came back without any code of the core, [`judge`] decides.
//! The kernel is `platform/src/fakes/simulated.rs`.

pub mod run;
pub mod client;
pub mod judge;
pub mod response;
pub mod handler;
pub mod draw;
pub mod broken;
pub mod plan;
pub mod bodies;
pub mod tally;

pub use run::{Report, simulate};
