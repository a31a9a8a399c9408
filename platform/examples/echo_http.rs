//! One fixed HTTP answer over a backend by name, to compare backends with wrk: `echo_http epoll 8080`.
//! Any name that `TURBOAPI_IO` takes. No HTTP parsing: it counts blank lines.

use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::AsFd;
use std::time::Duration;

use turboapi_platform::probe::{Requested, Start, choose};
use turboapi_platform::{Close, ConnectionId, Event, IoConfig, ListenerId, OutBuf, Platform, Wait, socket};

const ANSWER: &[u8] =
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 15\r\n\r\n{\"user_id\":123}";

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

fn serve<P: Platform>(mut platform: P, port: u16, fallback: Option<String>) -> io::Result<()> {
    let listener = socket::listen_shared(SocketAddr::from((Ipv4Addr::LOCALHOST, port)), socket::BACKLOG)?;
    writeln!(io::stdout(), "{} on {} {}", P::NAME, listener.local_addr()?, fallback.unwrap_or_default())?;
    platform.listen(ListenerId(0), listener.as_fd())?;
    let (mut free, mut generations) = (Vec::new(), Vec::new());
    let mut spare: Vec<Vec<u8>> = Vec::new();
    let (mut events, mut turns, mut requests) = (Vec::new(), 0u64, 0u64);
    // So that the figures of the engine with the worker's way of polling before it waits can be compared.
    let polls_first = std::env::var_os("POLL_FIRST").is_some();
    let report = std::env::var_os("REPORT").is_some();
    let mut told = 0;
    loop {
        turns += 1;
        if polls_first {
            platform.turn(Wait::Poll, &mut events)?;
        }
        if events.is_empty() {
            platform.turn(Wait::For(Duration::from_secs(1)), &mut events)?;
        }
        for event in events.drain(..) {
            match event {
                Event::Accepted { socket, .. } => {
                    let slot = free.pop().unwrap_or_else(|| {
                        generations.push(0);
                        generations.len() as u32 - 1
                    });
                    platform.adopt(ConnectionId::new(slot, generations[slot as usize]), socket)?;
                }
                Event::Data { connection, buffer } => {
                    let heads = platform.rx(&buffer).windows(4).filter(|window| window == b"\r\n\r\n").count();
                    platform.rx_release(buffer);
                    requests += heads as u64;
                    let mut head = spare.pop().unwrap_or_default();
                    head.clear();
                    (0..heads).for_each(|_| head.extend_from_slice(ANSWER));
                    platform.send(connection, OutBuf { head, ..OutBuf::default() });
                }
                Event::Sent { out, .. } => spare.push(out.head),
                Event::Eof { connection } => platform.close(connection, Close::AfterSend),
                Event::Error { connection, .. } => platform.close(connection, Close::Abort),
                Event::Closed { connection } => {
                    generations[connection.slot() as usize] += 1;
                    free.push(connection.slot());
                }
                _ => {}
            }
        }
        if report && requests >= told + 100_000 {
            told = requests;
            writeln!(io::stderr(), "{requests} requests in {turns} turns")?;
        }
    }
}

fn main() -> io::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let name = arguments.next().unwrap_or_default();
    let port = arguments.next().and_then(|port| port.parse().ok()).unwrap_or(8080);
    let choice =
        Requested::parse(&name).and_then(choose).map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
    writeln!(io::stdout(), "{}: {}", choice.backend.name(), choice.reason)?;
    let mut config = IoConfig::default();
    // `BUFFERS=256x4096`: how many receive buffers, of how many bytes.
    if let Some((count, bytes)) = std::env::var("BUFFERS").ok().as_deref().and_then(|sizes| sizes.split_once('x')) {
        let number = |text: &str| text.parse().map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error));
        (config.receive_buffers, config.receive_buffer_bytes) = (number(count)?, number(bytes)?);
    }
    choice.start(&config, Serve { port })?
}
