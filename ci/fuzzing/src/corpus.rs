//! Inputs to begin from: what the conformance cases send, what the fuzzer kept because it reaches further
//! (`corpus/TARGET.txt`), and what it found (`corpus/TARGET.found.txt`). One input a line, escaped: a finding becomes a test
//! by adding its line, and a reader sees what it is.

use std::fs;
use std::path::{Path, PathBuf};

use turboapi_conformance::case;
use turboapi_conformance::octets::{escape, unescape};

/// Above this an input tells a reader little, and a fuzzer makes its own.
const SEED_BYTES_MAX: usize = 4096;

/// The file with what was found for a target.
#[must_use]
pub fn file(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(format!("{target}.txt"))
}

/// What was kept, and what was found: the latter in a file that no fuzzer writes, if there is one.
///
/// # Errors
/// A file cannot be read, or a line is no escaped text.
pub fn kept(target: &str) -> Result<Vec<Vec<u8>>, String> {
    let mut inputs = read(&file(target))?;
    let found = file(&format!("{target}.found"));
    if found.exists() {
        inputs.extend(read(&found)?);
    }
    Ok(inputs)
}

fn read(path: &Path) -> Result<Vec<Vec<u8>>, String> {
    let text = fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let line = |(index, line): (usize, &str)| {
        unescape(line).map_err(|what| format!("{} line {}: {what}", path.display(), index + 1))
    };
    text.lines().enumerate().map(line).collect()
}

/// Writes what is to be kept, shortest first.
///
/// # Errors
/// The file cannot be written.
pub fn keep(target: &str, mut inputs: Vec<Vec<u8>>) -> Result<(), String> {
    inputs.sort_by_key(|input| (input.len(), input.clone()));
    inputs.dedup();
    let text: String = inputs.iter().map(|input| escape(input) + "\n").collect();
    fs::write(file(target), text).map_err(|error| error.to_string())
}

/// What the conformance cases give a target, in the form that it takes; for the encoder every octet in a name and a value.
///
/// # Errors
/// A case cannot be read.
pub fn seeds(target: &str) -> Result<Vec<Vec<u8>>, String> {
    let mut seeds = Vec::new();
    if target == "encoder" {
        // No branch of the core tells one octet of a value from another, so that the fuzzer would not keep them apart.
        for octet in 0..=255 {
            seeds.push([&[0, 0, 0, 0, 1, 0, 3, b'a', octet, b'b', 1, b'v'][..], b"\x02hi"].concat());
            seeds.push([&[0, 0, 0, 0, 1, 0, 1, b'a', 3, b'v', octet, b'w'][..], b"\x02hi"].concat());
        }
    }
    for case in case::read_all(&case::folder())? {
        let octets = case.sent();
        let end = octets.windows(4).position(|window| window == b"\r\n\r\n").map_or(octets.len(), |at| at + 4);
        let chosen = |choice: u8, octets: &[u8]| [&[choice], octets].concat();
        match target {
            "head" => seeds.extend([chosen(0, &octets[..end]), chosen(1, &octets[..end])]),
            "chunked" if end < octets.len() => seeds.extend([chosen(0, &octets[end..]), chosen(1, &octets[end..])]),
            "connection" => seeds.extend([0, 1, 2, 3].map(|choice| chosen(choice, &octets))),
            "target" => seeds.extend(octets.split(|octet| b" \r\n".contains(octet)).map(<[u8]>::to_vec)),
            _ => {}
        }
    }
    seeds.retain(|seed| seed.len() <= SEED_BYTES_MAX);
    seeds.sort();
    seeds.dedup();
    Ok(seeds)
}
