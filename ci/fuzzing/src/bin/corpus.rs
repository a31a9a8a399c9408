//! The corpora between their text files and the folders that libFuzzer works on. Run by `ci/fuzz`.
//!
//! turboapi-corpus names               prints the targets
//! turboapi-corpus unpack TARGET FOLDER  writes seeds and kept inputs into the folder, a file each
//! turboapi-corpus pack TARGET FOLDER    keeps the folder's inputs but for the seeds, the shortest first, 48 KiB of them
//! turboapi-corpus show FILE           prints an input as a line of a corpus

use std::fs;
use std::path::Path;
use std::process::ExitCode;

use turboapi_conformance::octets::escape;
use turboapi_fuzzing::{TARGETS, corpus};

/// Octets of one target's kept inputs, escaped: all five stay below 300 KB.
const KEPT_BYTES_MAX: usize = 48 * 1024;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match words[..] {
        ["names"] => {
            TARGETS.iter().for_each(|target| println!("{}", target.name));
            Ok(())
        }
        ["unpack", target, folder] => unpack(target, Path::new(folder)),
        ["pack", target, folder] => pack(target, Path::new(folder)),
        ["show", file] => {
            fs::read(file).map(|octets| println!("{}", escape(&octets))).map_err(|error| error.to_string())
        }
        _ => Err("usage: turboapi-corpus names | unpack TARGET FOLDER | pack TARGET FOLDER | show FILE".into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(what) => {
            eprintln!("{what}");
            ExitCode::FAILURE
        }
    }
}

fn unpack(target: &str, folder: &Path) -> Result<(), String> {
    fs::create_dir_all(folder).map_err(|error| error.to_string())?;
    let inputs = [corpus::seeds(target)?, corpus::kept(target)?].concat();
    for (index, input) in inputs.iter().enumerate() {
        fs::write(folder.join(format!("{index:05}")), input).map_err(|error| error.to_string())?;
    }
    Ok(())
}

fn pack(target: &str, folder: &Path) -> Result<(), String> {
    let seeds = corpus::seeds(target)?;
    let mut inputs = Vec::new();
    for entry in fs::read_dir(folder).map_err(|error| error.to_string())? {
        let path = entry.map_err(|error| error.to_string())?.path();
        inputs.push(fs::read(path).map_err(|error| error.to_string())?);
    }
    inputs.retain(|input| !seeds.contains(input));
    inputs.sort_by_key(Vec::len);
    let mut bytes = 0;
    inputs.retain(|input| {
        bytes += escape(input).len() + 1;
        bytes <= KEPT_BYTES_MAX
    });
    corpus::keep(target, inputs)
}
