//! `turboapi-fixed PORT`: a fixed answer from a bare `io_uring` program, the limit of what a server on one core can do.
//!
//! It has what no server can leave out (accept, receive, find the end of each request, send, close) and nothing more:
//! no head parser, no routes, no request bodies, no time-outs, no drain. `GET` only, `127.0.0.1` only, Linux only.

#[cfg(target_os = "linux")]
mod answer;
#[cfg(target_os = "linux")]
mod buffers;
#[cfg(target_os = "linux")]
mod scan;
#[cfg(target_os = "linux")]
mod server;

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [port] = arguments.as_slice() else {
        eprintln!("usage: turboapi-fixed PORT");
        return ExitCode::from(2);
    };
    let Ok(port) = port.parse::<u16>() else {
        eprintln!("turboapi-fixed: port is {port:?}, allowed is 0 to 65535");
        return ExitCode::from(2);
    };
    match serve(port) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("turboapi-fixed: {error}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(target_os = "linux")]
fn serve(port: u16) -> std::io::Result<()> {
    let listener = std::net::TcpListener::bind(("127.0.0.1", port))?;
    server::Server::new(listener)?.run()
}

#[cfg(not(target_os = "linux"))]
fn serve(_port: u16) -> std::io::Result<()> {
    Err(std::io::Error::other("io_uring is a part of Linux, there is nothing to measure here"))
}
