//! The clock of a run.

/// Microseconds since the run began.
pub type Moment = u64;
