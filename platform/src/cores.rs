//! The machine's cores and limits as this process may use them. Not here: how many workers there are, which is the caller's.

#![expect(
    unsafe_code,
    reason = "the affinity and limit calls take pointers; each block passes memory that outlives its call"
)]

use std::io;

/// CPUs that an affinity mask is first tried with; a machine with more has it doubled, up to the last.
#[cfg(target_os = "linux")]
const CPUS_FIRST: usize = 1024;
#[cfg(target_os = "linux")]
const CPUS_LAST: usize = 1 << 17;

cfg_if::cfg_if! {
    if #[cfg(target_os = "linux")] {
        /// The CPUs that this thread may run on, in order: what a container or `taskset` leaves.
        pub fn allowed() -> io::Result<Vec<usize>> {
            let mut cpus = CPUS_FIRST;
            loop {
                let mut mask = vec![0u64; cpus / 64];
                // SAFETY: the mask is writable for as many bytes as the call is told, and aligned for its words; 0 is this thread.
                let result = unsafe { libc::sched_getaffinity(0, cpus / 8, mask.as_mut_ptr().cast()) };
                if result == 0 {
                    return Ok((0..cpus).filter(|cpu| mask[cpu / 64] >> (cpu % 64) & 1 == 1).collect());
                }
                let error = io::Error::last_os_error();
                // EINVAL: the kernel's mask is larger than ours.
                if error.raw_os_error() != Some(libc::EINVAL) || cpus >= CPUS_LAST {
                    return Err(error);
                }
                cpus *= 2;
            }
        }

        /// Lets this thread run on these CPUs only; threads that it starts inherit that. To undo a pinning, pass what
        /// [`allowed`] gave before it.
        ///
        /// # Errors
        /// `InvalidInput` when none of them may be used.
        pub fn restrict_to(cpus: &[usize]) -> io::Result<()> {
            let words = cpus.iter().max().map_or(1, |cpu| cpu / 64 + 1);
            let mut mask = vec![0u64; words];
            for cpu in cpus {
                mask[cpu / 64] |= 1 << (cpu % 64);
            }
            // SAFETY: the mask is readable for as many bytes as the call is told, and aligned for its words; 0 is this thread.
            let result = unsafe { libc::sched_setaffinity(0, words * 8, mask.as_ptr().cast()) };
            if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
        }
    } else {
        /// The number of CPUs, counted from 0: this system does not tell which of them a thread may use.
        pub fn allowed() -> io::Result<Vec<usize>> {
            std::thread::available_parallelism().map(|count| (0..count.get()).collect())
        }

        /// Does nothing: macOS places threads by itself, and its affinity tags are hints that Apple's own chips ignore.
        pub fn restrict_to(_cpus: &[usize]) -> io::Result<()> {
            Ok(())
        }
    }
}

/// Lets this thread run on one CPU only.
pub fn pin_to(cpu: usize) -> io::Result<()> {
    restrict_to(&[cpu])
}

/// Open descriptors that this process may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DescriptorLimit {
    /// In force.
    pub soft: u64,
    /// Up to which the soft one may be raised.
    pub hard: u64,
}

/// Reads RLIMIT_NOFILE.
pub fn descriptor_limit() -> io::Result<DescriptorLimit> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is writable during the call.
    let result = unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(DescriptorLimit { soft: limit.rlim_cur, hard: limit.rlim_max })
}

#[cfg(test)]
mod tests {
    use super::{allowed, descriptor_limit, pin_to, restrict_to};

    #[test]
    #[cfg(target_os = "linux")]
    fn pins_and_unpins() {
        // Its own thread: the others of the test keep their cores.
        let thread = std::thread::spawn(|| {
            let before = allowed().expect("a thread has a mask");
            let last = *before.last().expect("a thread runs somewhere");
            pin_to(last).expect("it is allowed");
            assert_eq!(allowed().expect("a thread has a mask"), [last]);
            restrict_to(&before).expect("it was allowed");
            assert_eq!(allowed().expect("a thread has a mask"), before);
            assert!(pin_to(100_000).is_err());
            assert!(restrict_to(&[]).is_err());
        });
        thread.join().expect("the thread's assertions hold");
    }

    #[test]
    fn limit_is_sane() {
        let limit = descriptor_limit().expect("there is one");
        assert!(limit.soft > 0 && limit.soft <= limit.hard);
    }
}
