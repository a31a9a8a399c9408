//! A load client that checks every answer: `turboapi-client PORT --connections 64 --rate 5000 --seconds 60`.
//!
//! It talks to the app of `benches/apps/turbo_app.py`, over the platform crate's epoll. Each request has a number of its own,
//! which its answer must bring back: a mixed-up, cut or doubled answer is seen. With a rate the load is open: requests are due
//! at fixed times, whether or not the server keeps up, and a latency counts from the time when its request was due. Rate 0 is
//! a closed load: the next request follows the answer.
//!
//! With cores to watch, it also finds out when these stood still (`stalls.rs`), and leaves what was due then out of the percentiles;
//! `--catch-up` is how long the load needs after a stop to be as before, in lengths of the stop.
//!
//! It writes a line of JSON for each second, for each interval and for the whole run, and ends with status 1 if any answer
//! was wrong. What is sent and expected is in `exchange.rs`, latencies in `latencies.rs`. Linux only.

#[cfg(target_os = "linux")]
mod client;
#[cfg(target_os = "linux")]
mod exchange;
#[cfg(target_os = "linux")]
mod latencies;
#[cfg(target_os = "linux")]
mod stalls;

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

/// What the command line says.
#[derive(Debug, PartialEq)]
struct Options {
    port: u16,
    connections: u32,
    /// Requests per second of all connections together; 0: as many as are answered.
    rate: f64,
    time: Duration,
    /// Over so long latencies are summed up for one line.
    interval: Duration,
    /// Those that the server and this client run on; may be none.
    watch_cores: Vec<u32>,
    catch_up: f64,
}

const USAGE: &str = "turboapi-client PORT [--connections N] [--rate PER_SECOND] [--seconds S] [--interval SECONDS] [--watch-cores N,N] [--catch-up N]";

fn parse(arguments: impl Iterator<Item = String>) -> Result<Options, String> {
    let mut arguments = arguments;
    let port = arguments.next().ok_or(USAGE)?;
    let port = port.parse().map_err(|_| format!("port is {port:?}; {USAGE}"))?;
    let mut options = Options {
        port,
        connections: 64,
        rate: 0.0,
        time: Duration::from_secs(10),
        interval: Duration::from_secs(60),
        watch_cores: Vec::new(),
        catch_up: 5.0,
    };
    while let Some(name) = arguments.next() {
        let text = arguments.next().ok_or_else(|| format!("{name} needs a value; {USAGE}"))?;
        if name == "--watch-cores" {
            let cores: Result<_, _> = text.split(',').map(str::parse).collect();
            options.watch_cores = cores.map_err(|_| format!("{name} is {text:?}, which is no list of cores"))?;
            continue;
        }
        let number: f64 = text.parse().map_err(|_| format!("{name} is {text:?}, which is no number"))?;
        let seconds = || Duration::try_from_secs_f64(number).map_err(|error| format!("{name} is {text:?}: {error}"));
        match name.as_str() {
            "--connections" if (1.0..=60_000.0).contains(&number) => options.connections = number as u32,
            "--rate" if number >= 0.0 && number.is_finite() => options.rate = number,
            "--seconds" => options.time = seconds()?,
            "--interval" if number >= 1.0 => options.interval = seconds()?,
            "--catch-up" if (0.0..=1000.0).contains(&number) => options.catch_up = number,
            _ => return Err(format!("{name} {text} is not allowed; {USAGE}")),
        }
    }
    Ok(options)
}

#[cfg(target_os = "linux")]
fn run(options: &Options) -> Result<bool, String> {
    client::run(options).map_err(|error| error.to_string())
}

#[cfg(not(target_os = "linux"))]
fn run(_options: &Options) -> Result<bool, String> {
    Err("only Linux has epoll".to_owned())
}

fn main() -> ExitCode {
    match parse(std::env::args().skip(1)).and_then(|options| run(&options)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(message) => {
            let _ = writeln!(std::io::stderr(), "turboapi-client: {message}");
            ExitCode::from(2)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options() {
        let check = |line: &str, expected: Option<(u32, f64, u64)>| {
            let seen = parse(line.split_whitespace().map(str::to_owned));
            let seen = seen.ok().map(|options| (options.connections, options.rate, options.time.as_secs()));
            assert_eq!(seen, expected, "{line:?}");
        };
        check("8000", Some((64, 0.0, 10)));
        check("8000 --connections 5 --rate 2.5 --seconds 60 --interval 30", Some((5, 2.5, 60)));
        for wrong in [
            "",
            "x",
            "70000",
            "1 --rate",
            "1 --rate x",
            "1 --rate -1",
            "1 --connections 0",
            "1 --seconds -1",
            "1 --size 4",
            "1 --watch-cores",
            "1 --watch-cores 0,x",
            "1 --catch-up -1",
        ] {
            check(wrong, None);
        }
        let watched = parse("1 --watch-cores 0,12 --catch-up 2.5".split(' ').map(str::to_owned)).expect("it is right");
        assert_eq!((watched.watch_cores, watched.catch_up), (vec![0, 12], 2.5));
    }
}
