//! The provided buffer ring: memory that the kernel picks from when bytes arrive, so that an idle connection holds none.
#![expect(unsafe_code, reason = "the kernel writes to this memory and reads the ring's tail")]

use std::alloc::{Layout, alloc_zeroed, handle_alloc_error};
use std::io;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::Submitter;
use io_uring::types::BufRingEntry;

/// Buffers in the ring. All come back within one turn, so this bounds a turn, not the connections. A power of two.
const COUNT: u16 = 256;
/// Octets in each: many small requests, or one large head in a few reads.
const SIZE: usize = 4096;
/// The ring must start on a page, and no Linux page is larger.
const PAGE_BYTES_MAX: usize = 64 * 1024;

/// The ring and its buffers, never freed: they live as long as the process.
pub struct Buffers {
    entries: *mut BufRingEntry,
    memory: *mut u8,
    /// INVARIANT: entries before it are the kernel's once `publish` ran; a buffer is ours from its completion to `give_back`.
    tail: u16,
}

impl Buffers {
    /// Makes the ring and registers it as `group`, with all buffers in it.
    ///
    /// # Errors
    /// What the kernel says to the registration: `EINVAL` before Linux 5.19.
    pub fn register(submitter: &Submitter<'_>, group: u16) -> io::Result<Self> {
        let entries = zeroed(usize::from(COUNT) * size_of::<BufRingEntry>(), PAGE_BYTES_MAX).cast();
        let memory = zeroed(usize::from(COUNT) * SIZE, PAGE_BYTES_MAX);
        // SAFETY: `entries` is COUNT entries on a page boundary, and is never freed.
        unsafe { submitter.register_buf_ring_with_flags(entries as u64, COUNT, group, 0)? };
        let mut buffers = Self { entries, memory, tail: 0 };
        for id in 0..COUNT {
            buffers.give_back(id);
        }
        buffers.publish();
        Ok(buffers)
    }

    /// What the kernel wrote to buffer `id`, which a completion has just named.
    pub fn bytes(&self, id: u16, length: usize) -> &[u8] {
        debug_assert!(id < COUNT && length <= SIZE, "buffer {id} of {COUNT}, {length} octets of {SIZE}");
        // SAFETY: inside `memory`, and the kernel does not write to it again before `give_back`, which takes `&mut self`.
        unsafe { std::slice::from_raw_parts(self.memory.add(usize::from(id) * SIZE), length) }
    }

    /// Puts buffer `id` back into the ring; the kernel sees it after `publish`.
    pub fn give_back(&mut self, id: u16) {
        // SAFETY: the index is below COUNT, and the kernel reads no entry at or after the published tail.
        let entry = unsafe { &mut *self.entries.add(usize::from(self.tail % COUNT)) };
        entry.set_addr(self.memory.wrapping_add(usize::from(id) * SIZE) as u64);
        entry.set_len(SIZE as u32);
        entry.set_bid(id);
        self.tail = self.tail.wrapping_add(1);
    }

    /// Shows the kernel all that came back.
    pub fn publish(&mut self) {
        // SAFETY: the tail lies in the ring's first entry, two-byte aligned; the kernel only reads it, and we only write it here.
        let tail = unsafe { &*BufRingEntry::tail(self.entries).cast::<AtomicU16>() };
        tail.store(self.tail, Ordering::Release);
    }
}

fn zeroed(size: usize, align: usize) -> *mut u8 {
    let layout = Layout::from_size_align(size, align).expect("a power of two, far below the address space");
    // SAFETY: the size is not zero.
    let memory = unsafe { alloc_zeroed(layout) };
    if memory.is_null() {
        handle_alloc_error(layout);
    }
    memory
}
