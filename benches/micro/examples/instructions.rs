//! Serves one kind of request so many times, for a count of instructions that no noise disturbs:
//! `valgrind --tool=callgrind target/release/examples/instructions small 2000`, less the same with 1000, is that of 1000 requests.

#![expect(clippy::print_stderr, reason = "it tells how it is used")]

use turboapi_micro::{BODY, BROWSER_REQUEST, Bench, POST_REQUEST, SMALL_REQUEST};

fn main() -> std::process::ExitCode {
    let pipeline = SMALL_REQUEST.repeat(16);
    let (head, body) = POST_REQUEST.split_at(POST_REQUEST.len() - 27);
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [kind, count] = arguments.as_slice() else { return usage() };
    let pieces: &[&[u8]] = match kind.as_str() {
        "small" => &[SMALL_REQUEST],
        "browser" => &[BROWSER_REQUEST],
        "post" => &[POST_REQUEST],
        "pipelined" => &[&pipeline],
        "split" => &[head, body],
        _ => return usage(),
    };
    let Ok(count) = count.parse::<u32>() else { return usage() };
    let mut bench = Bench::default();
    for _ in 0..count {
        let sent: usize = pieces.iter().map(|piece| bench.serve(piece)).sum();
        assert!(sent > BODY.len(), "every request is answered");
    }
    std::process::ExitCode::SUCCESS
}

fn usage() -> std::process::ExitCode {
    eprintln!("usage: instructions small|browser|post|pipelined|split COUNT");
    std::process::ExitCode::FAILURE
}
