//! Seeds that every change must pass, and that they meet what they are for. More of them: `ci/simulate`.

#![allow(clippy::unwrap_used, missing_docs)]

use turboapi_simulation::simulate;
use turboapi_simulation::tally::Tally;

/// Seeds that found something once, and what.
const KNOWN: &[(u64, &str)] = &[(767_923, "a drain left whole requests unanswered that waited for their peer to read")];

/// Each outcome and each happening must come so often in the seeds of the test; what is rare is named.
const TIMES_MIN: u64 = 20;
const RARE: &[(&str, u64)] = &[
    ("listener failed", 10),
    ("answers over 256 KiB", 2),
    ("closed by a drain", 10),
    ("body cut short under its handler", 3),
    ("body too slow under its handler", 10),
    ("closed, as a body broke under an answer that was begun", 1),
    ("reset for a handler's failure within an answer that the connection's end would end", 1),
    ("closed, as the rest of a body took too long", 5),
    ("ended within a body that was dropped", 1),
    ("failed with a send in flight (ECANCELED)", 2),
    ("100 Continue", 10),
];

#[test]
fn seeds_pass_and_meet_every_path() {
    let mut all = Tally::default();
    for seed in 0..2000 {
        // Seen only when it fails: the harness keeps what a test prints.
        println!("ci/simulate --seed {seed} --trace");
        all.merge(&simulate(seed, None).tally);
    }
    for (name, count) in all.rows() {
        let least = RARE.iter().find(|(rare, _)| *rare == name).map_or(TIMES_MIN, |(_, least)| *least);
        assert!(count >= least, "{name}: {count} times, {least} expected");
    }
}

#[test]
fn known_seeds_pass() {
    for (seed, what) in KNOWN {
        println!("ci/simulate --seed {seed} --trace: {what}");
        simulate(*seed, None);
    }
}

#[test]
fn the_same_seed_is_the_same_run() {
    for seed in 0..200 {
        let (mut one, mut two) = (Vec::new(), Vec::new());
        let first = simulate(seed, Some(&mut one)).hash;
        assert_eq!(simulate(seed, None).hash, first, "seed {seed}, without a trace");
        assert_eq!(simulate(seed, Some(&mut two)).hash, first, "seed {seed}");
        assert!(one == two, "seed {seed}: two traces");
        assert_ne!(simulate(seed + 1, None).hash, first, "seeds {seed} and the next");
    }
}
