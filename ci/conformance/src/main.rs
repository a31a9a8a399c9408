//! turboapi-conformance PORT [--sample]
//!
//! Plays every case against the server on 127.0.0.1:PORT, which must serve `app.py`: as it is written, cut in three
//! places and, if it is short, octet by octet. Exit status 1 when one fails. `--sample` plays each as it is written and
//! cut once.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use turboapi_conformance::case::{self, Case, End, Level};
use turboapi_conformance::verdict::{self, PROBE, Seen};

/// Longer than any answer takes, also on a machine that is busy with something else; shorter than the server's own
/// time-outs.
const PATIENCE: Duration = Duration::from_secs(5);
/// Between two pieces, so that they arrive apart. Where they do not, the play is one without that cut: no failure, only
/// less of a test.
const APART: Duration = Duration::from_millis(1);
/// Connections at a time: far below what a server queues, and enough that nobody waits for a piece's pause.
const PLAYERS: usize = 16;
/// The longest case that is sent octet by octet.
const SHORT: usize = 400;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let (port, option) = (arguments.next().and_then(|port| port.parse().ok()), arguments.next());
    let is_sample = option.as_deref() == Some("--sample");
    let (Some(port), true) = (port, option.is_none() || is_sample) else {
        eprintln!("usage: turboapi-conformance PORT [--sample]");
        return ExitCode::from(2);
    };
    let cases = match case::read_all(&case::folder()) {
        Ok(cases) => cases,
        Err(what) => {
            eprintln!("{what}");
            return ExitCode::from(2);
        }
    };
    let started = Instant::now();
    let (next, plays, failures) = (AtomicUsize::new(0), AtomicUsize::new(0), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for _ in 0..PLAYERS {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    match check(case, port, is_sample) {
                        Ok(count) => _ = plays.fetch_add(count, Ordering::Relaxed),
                        Err(failure) => failures.lock().expect("no player panics").push(failure),
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().expect("no player panics");
    for failure in &failures {
        println!("{failure}");
    }
    let of = |level: Level| cases.iter().filter(|case| case.level == level).count();
    println!(
        "{} cases (must {}, should {}, may {}, ours {}), {} plays, {} failed, in {:.1} s",
        cases.len(),
        of(Level::Must),
        of(Level::Should),
        of(Level::May),
        of(Level::Ours),
        plays.into_inner(),
        failures.len(),
        started.elapsed().as_secs_f64()
    );
    ExitCode::from(u8::from(!failures.is_empty()))
}

/// Plays one case in every way; how many, or what failed first.
fn check(case: &Case, port: u16, is_sample: bool) -> Result<usize, String> {
    let parts: Vec<&[u8]> = case.parts.iter().map(Vec::as_slice).collect();
    let sent = case.sent();
    let mut plays = vec![("as it is written".to_owned(), parts, true)];
    let mut cuts = if is_sample {
        vec![sent.len() / 2]
    } else {
        vec![sent.len() / 4, sent.len() / 2, sent.len().saturating_sub(1)]
    };
    cuts.dedup();
    for cut in cuts {
        let (one, two) = sent.split_at(cut);
        plays.push((format!("cut at {cut}"), vec![one, two], false));
    }
    if sent.len() <= SHORT && !is_sample {
        plays.push(("octet by octet".to_owned(), sent.chunks(1).collect(), false));
    }
    let count = plays.len();
    for (name, pieces, is_paused) in plays {
        let seen = play(case, &pieces, is_paused, port)
            .map_err(|error| format!("FAILED {}.http, {name}\n  {error}", case.name))?;
        verdict::judge(case, &seen).map_err(|what| verdict::report(case, &name, &what, &seen))?;
    }
    Ok(count)
}

fn play(case: &Case, pieces: &[&[u8]], is_paused: bool, port: u16) -> std::io::Result<Seen> {
    let mut socket = TcpStream::connect(("127.0.0.1", port))?;
    socket.set_nodelay(true)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    let mut octets = Vec::new();
    for (index, piece) in pieces.iter().enumerate() {
        if index > 0 && is_paused {
            read_some(&mut socket, &mut octets)?;
        } else if index > 0 {
            thread::sleep(APART);
        }
        // A server that has refused may not take the rest.
        if socket.write_all(piece).is_err() {
            break;
        }
    }
    let _ = match case.end {
        End::Open if !case.ends => socket.write_all(PROBE),
        End::Closes if !case.ends => Ok(()),
        _ => socket.shutdown(Shutdown::Write),
    };
    let has_closed = loop {
        match read_some(&mut socket, &mut octets) {
            Ok(0) => break true,
            Ok(_) => {}
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => break false,
            Err(error) => return Err(error),
        }
    };
    Ok(Seen { octets, calls: None, has_closed, is_paused })
}

fn read_some(socket: &mut TcpStream, octets: &mut Vec<u8>) -> std::io::Result<usize> {
    let mut buffer = [0; 16 * 1024];
    let count = socket.read(&mut buffer)?;
    octets.extend_from_slice(&buffer[..count]);
    Ok(count)
}
