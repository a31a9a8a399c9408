//! The run: connections, their schedules, and the lines that are written about them.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use turboapi_platform::epoll::Epoll;
use turboapi_platform::{Close, ConnectionId, Event, IoConfig, OutBuf, Platform, Wait};

use crate::Options;
use crate::exchange::{Seen, check, write_request};
use crate::latencies::Tally;
use crate::stalls::{Watch, Windows};

/// Wrong answers that are shown whole.
const SHOWN_MAX: u64 = 10;
/// For the answers that are due when the time is over.
const PATIENCE: Duration = Duration::from_secs(5);
/// An answer is counted so long after it came: a core that stood still is known then, its meter runs before anything else does.
const SETTLING: Duration = Duration::from_millis(100);
/// Before a connection that could not be made is tried again.
const RETRY: Duration = Duration::from_millis(100);

#[derive(Debug)]
struct Connection {
    generation: u32,
    is_open: bool,
    /// The platform has our bytes and has not said that they have left.
    sends: bool,
    retry_at: Option<Instant>,
    /// The number that is asked for and when it was due.
    asked: Option<(u64, Instant)>,
    /// Numbers of this connection's requests that are due and were not sent.
    owed: u64,
    /// Requests that became due before the next one to send.
    done: u64,
    received: Vec<u8>,
    spare: Vec<u8>,
}

#[derive(Debug, Default)]
struct Counts {
    right: u64,
    wrong: u64,
    /// Connections that ended, or could not be made, by no wish of ours.
    lost: u64,
}

/// An answer that was right and is not counted yet.
#[derive(Debug)]
struct Answered {
    due_at: Instant,
    at: Instant,
}

struct Run<'a> {
    options: &'a Options,
    platform: Epoll,
    connections: Vec<Connection>,
    counts: Counts,
    started: Instant,
    /// Requests of all connections that became due.
    due: u64,
    /// In the order in which they came.
    answered: VecDeque<Answered>,
    second: Tally,
    interval: Tally,
    all: Tally,
    /// Nothing where no core is to be watched, or the kernel does not let us.
    watch: Option<Watch>,
    windows: Windows,
}

/// Runs to the end; returns whether every answer was right.
pub fn run(options: &Options) -> io::Result<bool> {
    let watch = match &options.watch_cores[..] {
        [] => None,
        cores => Watch::start(cores)
            .inspect_err(|error| {
                let _ = writeln!(io::stderr(), "cores are not watched, all latencies count: {error}");
            })
            .ok(),
    };
    let mut run = Run {
        options,
        platform: Epoll::open(&IoConfig::default())?,
        connections: Vec::new(),
        counts: Counts::default(),
        started: Instant::now(),
        due: 0,
        answered: VecDeque::new(),
        second: Tally::default(),
        interval: Tally::default(),
        all: Tally::default(),
        watch,
        windows: Windows::new(options.catch_up),
    };
    for place in 0..options.connections {
        run.connections.push(Connection {
            generation: 0,
            is_open: false,
            sends: false,
            retry_at: None,
            asked: None,
            owed: 0,
            done: 0,
            received: Vec::new(),
            spare: Vec::new(),
        });
        run.open(place as usize);
    }
    run.started = Instant::now();
    run.drive()?;
    let is_right = run.counts.wrong == 0 && run.counts.lost == 0;
    run.platform.finish(Instant::now() + PATIENCE)?;
    Ok(is_right)
}

impl Run<'_> {
    fn drive(&mut self) -> io::Result<()> {
        let end = self.started + self.options.time;
        let mut next_second = self.started + Duration::from_secs(1);
        let mut next_interval = self.started + self.options.interval;
        let mut events = Vec::new();
        loop {
            let now = Instant::now();
            self.settle(now.checked_sub(SETTLING));
            if now >= next_second {
                self.report("second", &self.second.clone())?;
                self.interval.add_all(&self.second);
                self.second.clear();
                next_second += Duration::from_secs(1);
            }
            if now >= next_interval {
                self.report("interval", &self.interval.clone())?;
                self.all.add_all(&self.interval);
                self.interval.clear();
                next_interval += self.options.interval;
            }
            let is_over = now >= end;
            if is_over && (now >= end + PATIENCE || self.connections.iter().all(|one| one.asked.is_none())) {
                break;
            }
            let wake = self.prepare(now, is_over);
            let wait = wake.min(next_second).saturating_duration_since(Instant::now());
            self.platform.turn(if wait.is_zero() { Wait::Poll } else { Wait::For(wait) }, &mut events)?;
            for event in events.drain(..) {
                self.take(event, is_over);
            }
        }
        for place in 0..self.connections.len() {
            if let Some((number, _)) = self.connections[place].asked.take() {
                self.wrong(place, number, "no answer");
            }
        }
        self.settle(Some(Instant::now()));
        self.interval.add_all(&self.second);
        self.all.add_all(&self.interval);
        self.report("total", &self.all.clone())
    }

    /// Counts the answers that came until then, and what the meters saw.
    fn settle(&mut self, until: Option<Instant>) {
        if let Some(watch) = &self.watch {
            let (count, sum) = watch.collect(&mut self.windows);
            self.second.stalls += count;
            self.second.stalled += sum;
        }
        while let Some(answered) = self.answered.front().filter(|answered| Some(answered.at) <= until) {
            let latency = answered.at.saturating_duration_since(answered.due_at);
            let is_disturbed = self.windows.contain(answered.due_at);
            self.second.add(u64::try_from(latency.as_micros()).unwrap_or(u64::MAX), is_disturbed);
            self.answered.pop_front();
        }
    }

    /// Sends what is due; returns when there is something to do next.
    fn prepare(&mut self, now: Instant, is_over: bool) -> Instant {
        let mut wake = now + Duration::from_secs(1);
        if is_over {
            return now + Duration::from_millis(10);
        }
        if self.options.rate > 0.0 {
            let count = self.connections.len() as u64;
            loop {
                let due_at = self.due_at(self.due);
                if due_at > now {
                    wake = wake.min(due_at);
                    break;
                }
                let place = (self.due % count) as usize;
                self.due += 1;
                self.connections[place].owed += 1;
                self.send_next(place, now);
            }
        }
        for place in 0..self.connections.len() {
            if self.connections[place].is_open {
                continue;
            }
            match self.connections[place].retry_at {
                Some(at) if at <= now => self.open(place),
                Some(at) => wake = wake.min(at),
                None => {}
            }
        }
        wake
    }

    /// The time of the request of this number, all connections counted together.
    fn due_at(&self, index: u64) -> Instant {
        self.started + Duration::from_secs_f64(index as f64 / self.options.rate)
    }

    fn open(&mut self, place: usize) {
        let connection = &mut self.connections[place];
        connection.generation += 1;
        connection.retry_at = None;
        connection.received.clear();
        let id = ConnectionId::new(place as u32, connection.generation);
        let made = TcpStream::connect((Ipv4Addr::LOCALHOST, self.options.port)).and_then(|stream| {
            stream.set_nodelay(true)?;
            self.platform.adopt(id, OwnedFd::from(stream))
        });
        let connection = &mut self.connections[place];
        connection.is_open = made.is_ok();
        if made.is_err() {
            self.counts.lost += 1;
            connection.retry_at = Some(Instant::now() + RETRY);
        } else {
            self.send_next(place, Instant::now());
        }
    }

    /// Sends the next request of a connection, if one is due and nothing stands before it.
    fn send_next(&mut self, place: usize, now: Instant) {
        let is_open_load = self.options.rate > 0.0;
        let count = self.connections.len() as u64;
        let connection = &self.connections[place];
        if !connection.is_open
            || connection.sends
            || connection.asked.is_some()
            || (is_open_load && connection.owed == 0)
        {
            return;
        }
        let number = connection.done * count + place as u64;
        let due_at = if is_open_load { self.due_at(number) } else { now };
        let connection = &mut self.connections[place];
        connection.done += 1;
        connection.owed = connection.owed.saturating_sub(1);
        connection.asked = Some((number, due_at));
        connection.sends = true;
        let mut head = std::mem::take(&mut connection.spare);
        head.clear();
        write_request(number, &mut head);
        let id = ConnectionId::new(place as u32, connection.generation);
        self.platform.send(id, OutBuf { head, ..OutBuf::default() });
    }

    fn take(&mut self, event: Event, is_over: bool) {
        let place = match event {
            Event::Data { connection: id, buffer } => {
                let place = id.slot() as usize;
                self.connections[place].received.extend_from_slice(self.platform.rx(&buffer));
                self.platform.rx_release(buffer);
                self.judge(place);
                place
            }
            Event::Sent { connection: id, out } => {
                let connection = &mut self.connections[id.slot() as usize];
                connection.sends = false;
                connection.spare = out.head;
                id.slot() as usize
            }
            Event::Eof { connection: id } | Event::Error { connection: id, .. } => {
                self.lose(id.slot() as usize);
                return;
            }
            Event::Closed { connection: id } => {
                // Its slot is free again only now.
                let connection = &mut self.connections[id.slot() as usize];
                connection.sends = false;
                connection.retry_at = Some(Instant::now());
                return;
            }
            _ => return,
        };
        if !is_over {
            self.send_next(place, Instant::now());
        }
    }

    fn judge(&mut self, place: usize) {
        let connection = &mut self.connections[place];
        let Some((number, due_at)) = connection.asked else {
            return self.wrong(place, 0, "nothing was asked for");
        };
        match check(number, &connection.received) {
            Seen::NeedMore => {}
            Seen::Right => {
                self.answered.push_back(Answered { due_at, at: Instant::now() });
                self.counts.right += 1;
                connection.asked = None;
                connection.received.clear();
            }
            Seen::Wrong(why) => self.wrong(place, number, why),
        }
    }

    /// A wrong answer: said, counted, and its connection made anew, as nobody knows where the next answer would begin.
    fn wrong(&mut self, place: usize, number: u64, why: &str) {
        self.counts.wrong += 1;
        let connection = &mut self.connections[place];
        if self.counts.wrong <= SHOWN_MAX {
            let seen = connection.received.escape_ascii();
            let _ = writeln!(io::stderr(), "request {number}: {why}: \"{seen}\"");
        }
        connection.asked = None;
        self.close(place);
    }

    /// The server has ended a connection.
    fn lose(&mut self, place: usize) {
        if !self.connections[place].is_open {
            return;
        }
        self.counts.lost += 1;
        if self.counts.lost <= SHOWN_MAX {
            let _ = writeln!(
                io::stderr(),
                "connection {place} ended, asked for {:?}",
                self.connections[place].asked.map(|(number, _)| number)
            );
        }
        self.connections[place].asked = None;
        self.close(place);
    }

    fn close(&mut self, place: usize) {
        let connection = &mut self.connections[place];
        if std::mem::replace(&mut connection.is_open, false) {
            let id = ConnectionId::new(place as u32, connection.generation);
            self.platform.close(id, Close::Abort);
        }
    }

    fn report(&self, kind: &str, tally: &Tally) -> io::Result<()> {
        let Counts { right, wrong, lost } = self.counts;
        let seconds = self.started.elapsed().as_secs_f64();
        let (answers, disturbed, largest) = (tally.raw.count(), tally.disturbed(), tally.raw.largest());
        let [half, most, raw_most] =
            [(&tally.quiet, 0.5), (&tally.quiet, 0.99), (&tally.raw, 0.99)].map(|(of, share)| of.quantile(share));
        let (stalls, stalled) = (tally.stalls, tally.stalled.as_micros());
        let meters = self.watch.as_ref().map_or(Duration::ZERO, Watch::cpu_time).as_micros();
        let mut out = io::stdout().lock();
        writeln!(
            out,
            "{{\"kind\":\"{kind}\",\"seconds\":{seconds:.3},\"answers\":{answers},\"disturbed\":{disturbed},\"p50_us\":{half},\
             \"p99_us\":{most},\"raw_p99_us\":{raw_most},\"largest_us\":{largest},\"stalls\":{stalls},\"stalled_us\":{stalled},\"meters_cpu_us\":{meters},\
             \"right\":{right},\"wrong\":{wrong},\"lost\":{lost}}}"
        )?;
        out.flush()
    }
}
