//! Compresses what it reads so many times, as the gzip layer does (one compressor, level 9), so that `benches/tax` can tell this part of a
//! request's cost from the rest: `compressor 10000 <body`.

#![expect(clippy::print_stderr, reason = "it tells how it is used")]

use std::hint::black_box;
use std::io::Read;
use std::process::ExitCode;

use flate2::{Compress, Compression, FlushCompress, Status};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [count] = arguments.as_slice() else { return usage() };
    let Ok(count) = count.parse::<u32>() else { return usage() };
    let mut body = Vec::new();
    if std::io::stdin().read_to_end(&mut body).is_err() {
        return ExitCode::FAILURE;
    }
    let mut compressor = Compress::new_gzip(Compression::new(9), 15);
    for _ in 0..count {
        let mut out = Vec::with_capacity(body.len() + 64);
        let status = compressor.compress_vec(black_box(&body), &mut out, FlushCompress::Finish);
        assert!(matches!(status, Ok(Status::StreamEnd)), "there is room for all of it");
        compressor.reset();
        black_box(out);
    }
    ExitCode::SUCCESS
}

fn usage() -> ExitCode {
    eprintln!("usage: compressor COUNT <BODY");
    ExitCode::from(2)
}
