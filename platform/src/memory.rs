//! The memory of this process: how much of it is resident, and giving back what is free. No policy (`turboapi/watching/memory.py` has it).
//!
//! Only glibc on Linux, whose heap keeps what is free until it is asked. Elsewhere there is nothing to ask.

#![cfg_attr(
    all(target_os = "linux", target_env = "gnu"),
    expect(unsafe_code, reason = "two calls of the C library that are given no memory of ours")
)]

cfg_if::cfg_if! {
    if #[cfg(all(target_os = "linux", target_env = "gnu"))] {
        /// Bytes of memory that are resident; none where [`give_back`] does nothing.
        #[must_use]
        pub fn resident_bytes() -> Option<u64> {
            let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
            let pages: u64 = statm.split_ascii_whitespace().nth(1)?.parse().ok()?;
            // SAFETY: it takes a number and gives one.
            let page = u64::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).ok()?;
            Some(pages * page)
        }

        /// Gives the system back the whole pages of the heap that are free. Other threads that allocate wait meanwhile.
        pub fn give_back() {
            // SAFETY: it touches only what is free, under the allocator's own locks.
            unsafe { libc::malloc_trim(0) };
        }
    } else {
        /// Bytes of memory that are resident; none where [`give_back`] does nothing.
        #[must_use]
        pub const fn resident_bytes() -> Option<u64> {
            None
        }

        /// Gives the system back the whole pages of the heap that are free.
        pub const fn give_back() {}
    }
}
