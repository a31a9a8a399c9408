//! `ci/simulate`: many seeds over all cores, or one with its trace.

use std::panic;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use turboapi_simulation::simulate;
use turboapi_simulation::tally::Tally;

/// Seeds that a thread takes at once.
const BATCH: u64 = 64;

struct Options {
    count: u64,
    from: u64,
    jobs: usize,
    seed: Option<u64>,
    has_trace: bool,
}

fn options() -> Result<Options, String> {
    let jobs = thread::available_parallelism().map_or(1, usize::from);
    let mut options = Options { count: 100_000, from: 0, jobs, seed: None, has_trace: false };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut number = || {
            let value = arguments.next().ok_or_else(|| format!("{argument} needs a number"))?;
            value.parse::<u64>().map_err(|_| format!("{argument} needs a number, not {value:?}"))
        };
        match argument.as_str() {
            "--from" => options.from = number()?,
            "--jobs" => options.jobs = usize::try_from(number()?).unwrap_or(1).max(1),
            "--seed" => options.seed = Some(number()?),
            "--trace" => options.has_trace = true,
            count => options.count = count.parse().map_err(|_| format!("{count:?} is no number of seeds"))?,
        }
    }
    Ok(options)
}

fn main() -> ExitCode {
    let options = match options() {
        Ok(options) => options,
        Err(message) => {
            eprintln!("simulate: {message}");
            return ExitCode::from(2);
        }
    };
    match options.seed {
        Some(seed) => one(seed, options.has_trace),
        None => many(&options),
    }
}

fn one(seed: u64, has_trace: bool) -> ExitCode {
    let mut trace = Vec::new();
    let result = panic::catch_unwind(panic::AssertUnwindSafe(|| simulate(seed, has_trace.then_some(&mut trace))));
    for line in trace {
        println!("{line}");
    }
    match result {
        Ok(report) => {
            println!("seed {seed} passed, trace hash {:016x}", report.hash);
            ExitCode::SUCCESS
        }
        Err(_) => ExitCode::FAILURE,
    }
}

fn many(options: &Options) -> ExitCode {
    let started = Instant::now();
    let (next, is_over) = (AtomicU64::new(0), AtomicBool::new(false));
    let failed: Mutex<Option<(u64, String)>> = Mutex::new(None);
    let all = Mutex::new(Tally::default());
    panic::set_hook(Box::new(|_| {}));
    thread::scope(|scope| {
        let workers: Vec<_> = (0..options.jobs)
            .map(|_| {
                scope.spawn(|| {
                    let mut tally = Tally::default();
                    while !is_over.load(Ordering::Relaxed) {
                        let first = next.fetch_add(BATCH, Ordering::Relaxed);
                        if first >= options.count {
                            break;
                        }
                        for index in first..(first + BATCH).min(options.count) {
                            let seed = options.from + index;
                            match panic::catch_unwind(|| simulate(seed, None)) {
                                Ok(report) => tally.merge(&report.tally),
                                Err(reason) => {
                                    is_over.store(true, Ordering::Relaxed);
                                    let mut failed = failed.lock().expect("nobody panics with it");
                                    if failed.as_ref().is_none_or(|(other, _)| seed < *other) {
                                        *failed = Some((seed, message(reason.as_ref())));
                                    }
                                    break;
                                }
                            }
                        }
                    }
                    all.lock().expect("nobody panics with it").merge(&tally);
                })
            })
            .collect();
        let mut told = Instant::now();
        while !workers.iter().all(thread::ScopedJoinHandle::is_finished) {
            thread::sleep(Duration::from_millis(20));
            if told.elapsed() > Duration::from_secs(5) {
                told = Instant::now();
                let done = next.load(Ordering::Relaxed).min(options.count);
                eprintln!("simulate: {done} of {} seeds, {:.0} s", options.count, started.elapsed().as_secs_f64());
            }
        }
    });
    let seconds = started.elapsed().as_secs_f64();
    let failed = failed.into_inner().ok().flatten();
    if let Some((seed, reason)) = failed {
        println!("seed {seed} failed: {reason}");
        println!("replay it with: ci/simulate --seed {seed} --trace");
        return ExitCode::FAILURE;
    }
    if let Ok(tally) = all.into_inner() {
        for (name, count) in tally.rows() {
            println!("{count:>12}  {name}");
        }
    }
    let each = seconds * 1000.0 / options.count.max(1) as f64;
    println!("{} seeds from {} passed in {seconds:.1} s, {each:.3} ms each", options.count, options.from);
    ExitCode::SUCCESS
}

fn message(reason: &(dyn std::any::Any + Send)) -> String {
    let text = reason.downcast_ref::<String>().cloned();
    text.or_else(|| reason.downcast_ref::<&str>().map(ToString::to_string)).unwrap_or_else(|| "a panic".to_owned())
}
