//! One fixed HTTP answer over a backend by name, which is what the platform alone costs: `echo_http epoll 8080`. Any name that
//! `TURBOAPI_IO` takes. No HTTP parsing: a request is whatever comes before an empty line. `benches/parity` measures it.

// The limit row's own: so that both send the same octets, and find the end of a request by the same work.
#[path = "../../benches/fixed/src/answer.rs"]
mod answer;
#[path = "../../benches/fixed/src/scan.rs"]
mod scan;

use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::AsFd;
use std::process::ExitCode;
use std::time::Duration;

use answer::{answer, http_date, now};
use scan::Scan;
use turboapi_platform::probe::{Requested, Start, choose};
use turboapi_platform::{Close, ConnectionId, Event, IoConfig, ListenerId, OutBuf, Platform, Wait, socket};

/// What turboapi answers to `GET /users/123`.
const BODY: &str = r#"{"user_id":123}"#;
/// Output buffers kept for further use, as many as a worker keeps.
const SPARE_BUFFERS: usize = 64;

/// The worker, for whichever backend the probe took.
struct Serve {
    port: u16,
}

impl Start for Serve {
    type Output = io::Result<()>;

    fn start<P: Platform>(self, platform: P, fallback: Option<String>) -> io::Result<()> {
        serve(platform, self.port, fallback)
    }
}

/// One place in the table of connections.
#[derive(Default)]
struct Slot {
    generation: u32,
    scan: Scan,
    /// Whether a send is with the platform, which takes one at a time.
    sends: bool,
    /// Requests that came while it was. A peer that sends and never reads costs a number, not memory.
    owed: usize,
}

fn serve<P: Platform>(mut platform: P, port: u16, fallback: Option<String>) -> io::Result<()> {
    let listener = socket::listen_shared(SocketAddr::from((Ipv4Addr::LOCALHOST, port)), socket::BACKLOG)?;
    writeln!(io::stdout(), "backend {} on {} {}", P::NAME, listener.local_addr()?, fallback.unwrap_or_default())?;
    platform.listen(ListenerId(0), listener.as_fd())?;
    let (mut slots, mut free): (Vec<Slot>, Vec<u32>) = (Vec::new(), Vec::new());
    let mut spare: Vec<Vec<u8>> = Vec::new();
    let (mut events, mut turns, mut requests, mut told) = (Vec::new(), 0u64, 0u64, 0);
    let (mut made, mut fixed) = (0, Vec::new());
    // So that the figures of the engine with the worker's way of polling before it waits can be compared.
    let polls_first = std::env::var_os("POLL_FIRST").is_some();
    let report = std::env::var_os("REPORT").is_some();
    loop {
        turns += 1;
        if polls_first {
            platform.turn(Wait::Poll, &mut events)?;
        }
        if events.is_empty() {
            platform.turn(Wait::For(Duration::from_secs(1)), &mut events)?;
        }
        let second = now();
        if second != made {
            (made, fixed) = (second, answer(&http_date(second), BODY));
        }
        let answers = |count: usize, spare: &mut Vec<Vec<u8>>| {
            let mut head = spare.pop().unwrap_or_default();
            head.clear();
            (0..count).for_each(|_| head.extend_from_slice(&fixed));
            OutBuf { head, ..OutBuf::default() }
        };
        for event in events.drain(..) {
            match event {
                Event::Accepted { socket, .. } => {
                    let place = free.pop().unwrap_or_else(|| {
                        slots.push(Slot::default());
                        slots.len() as u32 - 1
                    });
                    let slot = &mut slots[place as usize];
                    *slot = Slot { generation: slot.generation + 1, ..Slot::default() };
                    // A socket that failed this early is closed by the platform, and nothing more is told of it.
                    if platform.adopt(ConnectionId::new(place, slot.generation), socket).is_err() {
                        free.push(place);
                    }
                }
                Event::Data { connection, buffer } => {
                    let slot = &mut slots[connection.slot() as usize];
                    let bytes = platform.rx(&buffer);
                    let asks_count =
                        !slot.sends && slot.scan.is_between_requests() && bytes.starts_with(b"GET /calls ");
                    let ends = slot.scan.count_ends(bytes);
                    platform.rx_release(buffer);
                    if asks_count && ends == 1 {
                        slot.sends = true;
                        let head = answer(&http_date(made), &requests.to_string());
                        platform.send(connection, OutBuf { head, ..OutBuf::default() });
                    } else if slot.sends {
                        slot.owed += ends;
                    } else if ends > 0 {
                        slot.sends = true;
                        platform.send(connection, answers(ends, &mut spare));
                    }
                    requests += ends as u64;
                }
                Event::Sent { connection, out } => {
                    if spare.len() < SPARE_BUFFERS {
                        spare.push(out.head);
                    }
                    let slot = &mut slots[connection.slot() as usize];
                    slot.sends = slot.owed > 0;
                    if slot.sends {
                        platform.send(connection, answers(std::mem::take(&mut slot.owed), &mut spare));
                    }
                }
                Event::Eof { connection } => platform.close(connection, Close::AfterSend),
                Event::Error { connection, .. } => platform.close(connection, Close::Abort),
                Event::Closed { connection } => free.push(connection.slot()),
                _ => {}
            }
        }
        if report && requests >= told + 100_000 {
            told = requests;
            writeln!(io::stderr(), "{requests} requests in {turns} turns")?;
        }
    }
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "echo_http: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> io::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let name = arguments.next().unwrap_or_default();
    let port = arguments.next().and_then(|port| port.parse().ok()).unwrap_or(8080);
    let choice = Requested::parse(&name).and_then(choose).map_err(|error| invalid(error.to_string()))?;
    writeln!(io::stdout(), "{}: {}", choice.backend.name(), choice.reason)?;
    let mut config = IoConfig::default();
    // `BUFFERS=256x4096`: how many receive buffers, of how many bytes.
    if let Some((count, bytes)) = std::env::var("BUFFERS").ok().as_deref().and_then(|sizes| sizes.split_once('x')) {
        let number =
            |text: &str| text.parse().map_err(|_| invalid(format!("BUFFERS has {text:?}, allowed is COUNTxBYTES")));
        (config.receive_buffers, config.receive_buffer_bytes) = (number(count)?, number(bytes)?);
    }
    choice.start(&config, Serve { port })?
}

fn invalid(message: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, message)
}
