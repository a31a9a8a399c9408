//! Every seed and every kept input through its target, with any compiler and without a fuzzer.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use turboapi_conformance::octets::escape;
use turboapi_fuzzing::{TARGETS, corpus};

fn replay(name: &str) {
    let target = TARGETS.into_iter().find(|target| target.name == name).unwrap();
    let (seeds, kept) = (corpus::seeds(name).unwrap(), corpus::kept(name).unwrap());
    assert!(!kept.is_empty(), "nothing was kept for {name}");
    for input in [seeds, kept].concat() {
        // The panic says what was found; this says which line of the corpus it was.
        let shown = Shown(&input);
        (target.run)(&input);
        std::mem::forget(shown);
    }
}

/// Says the input when it is dropped by a panic.
struct Shown<'i>(&'i [u8]);

impl Drop for Shown<'_> {
    fn drop(&mut self) {
        eprintln!("input: {}", escape(self.0));
    }
}

#[test]
fn head() {
    replay("head");
}

#[test]
fn chunked() {
    replay("chunked");
}

#[test]
fn target() {
    replay("target");
}

#[test]
fn connection() {
    replay("connection");
}

#[test]
fn encoder() {
    replay("encoder");
}

#[test]
fn every_target_is_replayed() {
    assert_eq!(TARGETS.map(|target| target.name), ["head", "chunked", "target", "connection", "encoder"]);
}
