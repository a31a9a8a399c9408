//! When the machine stood still: what is late then is late by the hypervisor, not by the server.
//!
//! On each core that is watched a thread of real-time priority sleeps a millisecond at a time. It waits for no ordinary thread, so one
//! that wakes late says that its core ran nothing at all, or the kernel's interrupts only. That other *processes* had the core is
//! not seen, and must not be: the meter cannot tell a neighbour from a second thread of the server, and a server that
//! computes for too long would excuse itself. Where the kernel grants no such priority, nothing is watched.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use std::{fs, io};

/// How long a meter sleeps. A stop that is longer than this and `LATE` is seen always, one between the two sometimes.
/// Where the timer is the hypervisor's, a wake takes 12 µs of an idle core and up to 40 of a busy one: 4 %, the same all the time.
const PERIOD: Duration = Duration::from_millis(1);
/// Wakes after which a meter tells what it has cost.
const TELLING: u64 = 200;
/// A meter that woke later than this had been held up. Under load 99.8 % of the wakes are within 0.2 ms of their time, and what is
/// between that and this is the kernel's own work; under a twentieth of a per cent are beyond it, nearly all by over a millisecond.
const LATE: Duration = Duration::from_micros(500);
/// Windows are kept for so long after they ended; an answer that was due before is not asked about any more.
const KEPT: Duration = Duration::from_secs(120);

/// A core stood still.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stall {
    /// Its meter was last seen running then, up to a period before it stopped.
    from: Instant,
    to: Instant,
}

/// Stops and what followed from them, as times in which nothing that was due says anything about the server.
///
/// A stop of the server's core or of the client's leaves requests waiting, and while they are worked off later ones wait behind
/// them. With a load of 70 % there is 0.3 s of time for 0.7 s of work: the time after a stop is `catch_up` times its length.
#[derive(Debug)]
pub struct Windows {
    catch_up: f64,
    /// The end of the last stop that was counted, whichever core's.
    stopped_to: Option<Instant>,
    /// From and to, ascending, without overlaps.
    windows: Vec<(Instant, Instant)>,
}

impl Windows {
    pub fn new(catch_up: f64) -> Self {
        Self { catch_up, stopped_to: None, windows: Vec::new() }
    }

    /// Adds a stop. They come in the order of their ends, but for what two cores have at once.
    fn add(&mut self, stall: Stall) {
        // Two cores that stand still together hold requests up once.
        let from = self.stopped_to.map_or(stall.from, |seen| seen.max(stall.from));
        let Some(length) = stall.to.checked_duration_since(from).filter(|length| !length.is_zero()) else { return };
        self.stopped_to = Some(stall.to);
        let to = stall.to + length.mul_f64(self.catch_up);
        match self.windows.last_mut() {
            // What was not worked off when the machine stopped again has still to be.
            Some((_, former)) if *former >= from => *former = to + former.duration_since(from),
            _ => self.windows.push((from, to)),
        }
        let outdated = stall.to.checked_sub(KEPT);
        let first = self.windows.partition_point(|(_, to)| Some(*to) < outdated);
        self.windows.drain(..first);
    }

    /// Whether what was due then came into one.
    ///
    /// Only the time decides, never how late the answer was: what is left is a fair sample of the others.
    pub fn contain(&self, due_at: Instant) -> bool {
        let place = self.windows.partition_point(|(_, to)| *to < due_at);
        self.windows.get(place).is_some_and(|(from, _)| *from <= due_at)
    }
}

/// A meter on each of some cores.
#[derive(Debug)]
pub struct Watch {
    is_over: Arc<AtomicBool>,
    meters: Vec<JoinHandle<()>>,
    /// CPU time of each meter until now, microseconds.
    costs: Vec<Arc<AtomicU64>>,
    stalls: Receiver<Stall>,
}

impl Watch {
    /// Starts them.
    ///
    /// # Errors
    /// A core cannot be had, or the kernel does not grant real-time priority.
    pub fn start(cores: &[u32]) -> io::Result<Self> {
        let (sender, stalls) = channel();
        let mut watch = Self { is_over: Arc::default(), meters: Vec::new(), costs: Vec::new(), stalls };
        for &core in cores {
            let (sender, is_over, cost) = (sender.clone(), Arc::clone(&watch.is_over), Arc::default());
            watch.costs.push(Arc::clone(&cost));
            let (tell, told) = channel();
            watch.meters.push(thread::spawn(move || {
                let prepared = take_core(core);
                let is_ready = prepared.is_ok();
                let _ = tell.send(prepared);
                if is_ready {
                    measure(&sender, &is_over, &cost);
                }
            }));
            told.recv().unwrap_or_else(|_| Err(io::Error::other("the meter's thread ended")))?;
        }
        Ok(watch)
    }

    /// Adds what was seen since the last call to the windows; returns how many stops there were, and their sum over all cores.
    pub fn collect(&self, windows: &mut Windows) -> (u64, Duration) {
        let (mut count, mut sum) = (0, Duration::ZERO);
        for stall in self.stalls.try_iter() {
            windows.add(stall);
            count += 1;
            sum += stall.to - stall.from;
        }
        (count, sum)
    }

    /// CPU time that they took until now, the sum over all cores, to a fifth of a second or so of theirs.
    pub fn cpu_time(&self) -> Duration {
        self.costs.iter().map(|cost| Duration::from_micros(cost.load(Ordering::Relaxed))).sum()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        for meter in self.meters.drain(..) {
            let _ = meter.join();
        }
    }
}

/// Binds this thread to the core and gives it the lowest real-time priority. util-linux does it from outside, as
/// the standard library cannot.
fn take_core(core: u32) -> io::Result<()> {
    let link = fs::read_link("/proc/thread-self")?;
    let thread = link.file_name().unwrap_or_default();
    for command in [["taskset", "-cp", &core.to_string()], ["chrt", "-fp", "1"]] {
        let [program, arguments @ ..] = command;
        let output = Command::new(program).args(arguments).arg(thread).output()?;
        if !output.status.success() {
            return Err(io::Error::other(String::from_utf8_lossy(&output.stderr).trim().to_owned()));
        }
    }
    Ok(())
}

/// Sleeps and looks at the clock until it is told to end.
fn measure(stalls: &Sender<Stall>, is_over: &AtomicBool, cost: &AtomicU64) {
    let mut wakes = 0_u64;
    let mut seen = Instant::now();
    let mut due = seen + PERIOD;
    while !is_over.load(Ordering::Relaxed) {
        thread::sleep(due.saturating_duration_since(Instant::now()));
        let now = Instant::now();
        if now.saturating_duration_since(due) > LATE {
            // Nobody listens any more when the run is over.
            let _ = stalls.send(Stall { from: seen, to: now });
        }
        seen = now;
        while due <= now {
            due += PERIOD;
        }
        wakes += 1;
        if wakes.is_multiple_of(TELLING) {
            cost.store(cpu_microseconds().unwrap_or(0), Ordering::Relaxed);
        }
    }
}

/// Of this thread until now; nothing where the kernel does not tell.
fn cpu_microseconds() -> Option<u64> {
    let text = fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    let nanoseconds: u64 = text.split(' ').next()?.parse().ok()?;
    Some(nanoseconds / 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Stops and windows in milliseconds; what is due at `inside` came into one and the next microsecond did not.
    fn check(catch_up: f64, stalls: &[(u64, u64)], expected: &[(u64, u64)]) {
        let start = Instant::now();
        let at = |milliseconds: u64| start + Duration::from_millis(milliseconds);
        let mut windows = Windows::new(catch_up);
        for &(from, to) in stalls {
            windows.add(Stall { from: at(from), to: at(to) });
        }
        let seen: Vec<_> = (0..1000).filter(|&moment| windows.contain(at(moment))).collect();
        let wanted: Vec<_> = expected.iter().flat_map(|&(from, to)| from..=to).collect();
        assert_eq!(seen, wanted, "{stalls:?}");
    }

    #[test]
    fn windows() {
        check(2.0, &[], &[]);
        check(2.0, &[(100, 110)], &[(100, 130)]);
        check(0.0, &[(100, 110)], &[(100, 110)]);
        check(2.0, &[(100, 110), (200, 201)], &[(100, 130), (200, 203)]);
        // Both cores at once: one stop, as long as the longer.
        check(2.0, &[(100, 110), (100, 110)], &[(100, 130)]);
        check(2.0, &[(100, 110), (105, 115)], &[(100, 145)]);
        check(2.0, &[(102, 110), (100, 110)], &[(102, 126)]);
        // Again, 5 ms before the former was worked off: 4 ms, the 5, and twice 4.
        check(2.0, &[(100, 110), (125, 129)], &[(100, 142)]);
        // So often that it never gets through.
        let often: Vec<_> = (0..10).map(|number| (number * 20, number * 20 + 10)).collect();
        check(2.0, &often, &[(0, 190 + 110)]);
    }

    #[test]
    fn old_windows_are_dropped() {
        let (start, mut windows) = (Instant::now(), Windows::new(1.0));
        for second in 0..1000 {
            let from = start + Duration::from_secs(second);
            windows.add(Stall { from, to: from + PERIOD });
        }
        assert!(windows.contain(start + Duration::from_secs(900)));
        assert_eq!(windows.windows.len(), KEPT.as_secs() as usize + 1);
    }

    #[test]
    fn a_core_that_is_not_there_is_refused() {
        assert!(Watch::start(&[100_000]).is_err());
    }
}
