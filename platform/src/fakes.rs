//! Platforms without a kernel, for tests and simulation: no backend serves through one. [`referee`] watches any platform and its
//! worker, [`script`] plays a list of events, [`simulated`] draws its disorder from a seed.
//! Imports point down: [`waker`] is what the last two share.

pub mod referee;
pub mod script;
pub mod simulated;
pub mod waker;
