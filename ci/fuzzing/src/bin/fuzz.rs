//! libFuzzer over one target, which `TURBOAPI_FUZZ_TARGET` names. One program for all of them: linking is most of its
//! build. Run by `ci/fuzz`.

#![no_main]

use std::sync::OnceLock;

use turboapi_fuzzing::{TARGETS, Target};

static TARGET: OnceLock<Target> = OnceLock::new();

fn target() -> Target {
    let name = std::env::var("TURBOAPI_FUZZ_TARGET").unwrap_or_default();
    let found = TARGETS.into_iter().find(|target| target.name == name);
    found.unwrap_or_else(|| {
        eprintln!("TURBOAPI_FUZZ_TARGET is {name:?}, allowed are {:?}", TARGETS.map(|target| target.name));
        std::process::exit(2);
    })
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| (TARGET.get_or_init(target).run)(data));
