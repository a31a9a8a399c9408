#![expect(unsafe_code, reason = "two system calls about the calling thread, each with a structure to fill")]
//! What the calling thread has had of the processor, as the kernel counts it.

use std::mem::MaybeUninit;
use std::time::Duration;

/// Up to now, since the thread began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ThreadTime {
    /// On a processor.
    pub computing: Duration,
    /// How often it went to sleep for something: a lock, a file, a socket, a time. None where the kernel does not count it for
    /// each thread (macOS).
    pub waits: Option<u64>,
}

impl ThreadTime {
    /// Asks the kernel, in about 0.4 µs.
    #[must_use]
    pub fn now() -> Self {
        let mut time = MaybeUninit::<libc::timespec>::uninit();
        // SAFETY: writable for the length of a timespec. The clock is the calling thread's, which lives; so it cannot fail.
        let failed = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, time.as_mut_ptr()) } != 0;
        debug_assert!(!failed, "the clock of the calling thread is there");
        if failed {
            return Self::default();
        }
        // SAFETY: filled by the call just now.
        let time = unsafe { time.assume_init() };
        Self { computing: Duration::new(time.tv_sec as u64, time.tv_nsec as u32), waits: waits() }
    }
}

#[cfg(target_os = "linux")]
fn waits() -> Option<u64> {
    let mut usage = MaybeUninit::<libc::rusage>::uninit();
    // SAFETY: writable for the length of a rusage.
    if unsafe { libc::getrusage(libc::RUSAGE_THREAD, usage.as_mut_ptr()) } != 0 {
        return None;
    }
    // SAFETY: filled by the call just now.
    Some(unsafe { usage.assume_init() }.ru_nvcsw as u64)
}

#[cfg(not(target_os = "linux"))]
fn waits() -> Option<u64> {
    None
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn computing_and_waiting_are_told_apart() {
        let (begin, started) = (ThreadTime::now(), Instant::now());
        while started.elapsed() < Duration::from_millis(5) {
            std::hint::black_box(());
        }
        let computed = ThreadTime::now();
        assert!(computed.computing > begin.computing, "{begin:?} {computed:?}");
        std::thread::sleep(Duration::from_millis(20));
        let slept = ThreadTime::now();
        assert!(slept.computing < computed.computing + Duration::from_millis(10), "{computed:?} {slept:?}");
        if let (Some(before), Some(after)) = (computed.waits, slept.waits) {
            assert!(after > before, "{computed:?} {slept:?}");
        }
    }
}
