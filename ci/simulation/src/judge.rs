//! Decides, after a run, whether one connection went as it had to: every octet that was sent, why it ended, and when.
//!
//! Knows the plan and the connection's history, and nothing of the core. Where two things may happen at once and either is
//! right, either is accepted; everything else panics. What is known of a connection is in `judge/facts.rs`, what is asked of it beside that.

mod answers;
mod refusals;
mod ending;
mod bodies;
mod calls;
mod facts;

pub use facts::Facts;

use crate::tally::{Outcome, Tally};

/// Checks one connection.
///
/// # Panics
/// At the first thing that must not have happened.
pub fn judge(facts: &Facts<'_>, tally: &mut Tally) {
    tally.add(Outcome::Connection);
    let (answers, continued) = facts.check_answers(tally);
    facts.check_calls(&answers);
    facts.check_bodies(&continued, tally);
    facts.check_dropped(&answers, tally);
    facts.check_bounds(&answers);
    facts.check_refusal_times(&answers, tally);
    facts.check_end(&answers, tally);
}
