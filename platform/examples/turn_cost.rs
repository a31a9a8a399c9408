//! What a request costs the server's side, where the machine is too busy for wrk: `turn_cost epoll 64`.
//! Client and server take turns on one thread, so each batch is timed alone, and the fastest tenth of many batches is
//! told: that is the cost without the neighbours. All K requests of a batch are there when the server looks.
//! `BATCHES=1000` ends it after so many instead of after 2 s: the difference of two such runs under
//! `valgrind --tool=callgrind` counts instructions, which no neighbour changes.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use turboapi_platform::probe::{Requested, Start, choose};
use turboapi_platform::{ConnectionId, Event, IoConfig, ListenerId, OutBuf, Platform, Wait, socket};

const REQUEST: &[u8] = b"GET /users/123 HTTP/1.1\r\nHost: localhost\r\n\r\n";
const ANSWER: &[u8] =
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 15\r\n\r\n{\"user_id\":123}";
const TIME: Duration = Duration::from_secs(2);

struct Measure {
    connections: usize,
    /// How many; if none, as many as there is time for.
    batches: Option<usize>,
}

impl Start for Measure {
    type Output = io::Result<()>;

    fn start<P: Platform>(self, mut platform: P, _fallback: Option<String>) -> io::Result<()> {
        let listener = socket::listen_shared(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), socket::BACKLOG)?;
        platform.listen(ListenerId(0), listener.as_fd())?;
        let mut events = Vec::new();
        let mut peers = Vec::new();
        while peers.len() < self.connections {
            let peer = TcpStream::connect(listener.local_addr()?)?;
            peer.set_nodelay(true)?;
            let id = ConnectionId::new(peers.len() as u32, 0);
            peers.push(peer);
            let mut is_adopted = false;
            while !is_adopted {
                platform.turn(Wait::Forever, &mut events)?;
                for event in events.drain(..) {
                    if let Event::Accepted { socket, .. } = event {
                        platform.adopt(id, socket)?;
                        is_adopted = true;
                    }
                }
            }
        }
        let (mut spare, mut costs, mut turns) = (Vec::new(), Vec::new(), 0u64);
        let begin = Instant::now();
        while self.batches.map_or_else(|| begin.elapsed() < TIME, |batches| costs.len() < batches) {
            for peer in &mut peers {
                peer.write_all(REQUEST)?;
            }
            let start = Instant::now();
            let mut sent_count = 0;
            while sent_count < peers.len() {
                platform.turn(Wait::For(Duration::from_secs(10)), &mut events)?;
                turns += 1;
                for event in events.drain(..) {
                    match event {
                        Event::Data { connection, buffer } => {
                            let is_whole = platform.rx(&buffer).ends_with(b"\r\n\r\n");
                            platform.rx_release(buffer);
                            assert!(is_whole);
                            let mut head: Vec<u8> = spare.pop().unwrap_or_default();
                            head.clear();
                            head.extend_from_slice(ANSWER);
                            platform.send(connection, OutBuf { head, ..OutBuf::default() });
                        }
                        Event::Sent { out, .. } => {
                            spare.push(out.head);
                            sent_count += 1;
                        }
                        other => return Err(io::Error::other(format!("{other:?}"))),
                    }
                }
            }
            // What a server does when all is answered: it looks once more.
            platform.turn(Wait::Poll, &mut events)?;
            costs.push(start.elapsed());
            for peer in &mut peers {
                peer.read_exact(&mut [0; ANSWER.len()])?;
            }
        }
        costs.sort_unstable();
        let cost = |part: usize| costs[costs.len() / part].as_secs_f64() * 1e6 / peers.len() as f64;
        let (low, median, batches) = (cost(10), cost(2), costs.len());
        let turns = turns as f64 / batches as f64;
        writeln!(
            io::stdout(),
            "{} {} {low:.2} us (median {median:.2}, {batches} batches of {turns:.1} turns)",
            P::NAME,
            peers.len()
        )
    }
}

fn main() -> io::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let name = arguments.next().unwrap_or_default();
    let connections = arguments.next().and_then(|count| count.parse().ok()).unwrap_or(64);
    let choice =
        Requested::parse(&name).and_then(choose).map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
    let mut config = IoConfig::default();
    // `BUFFERS=256x4096`: how many receive buffers, of how many bytes.
    if let Some((count, bytes)) = std::env::var("BUFFERS").ok().as_deref().and_then(|sizes| sizes.split_once('x')) {
        let number = |text: &str| text.parse().map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error));
        (config.receive_buffers, config.receive_buffer_bytes) = (number(count)?, number(bytes)?);
    }
    let batches = std::env::var("BATCHES").ok().and_then(|count| count.parse().ok());
    choice.start(&config, Measure { connections, batches })?
}
