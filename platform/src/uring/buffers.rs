//! The provided buffer ring: memory that the kernel picks from when bytes arrive, so that an idle connection holds none.

#![expect(unsafe_code, reason = "the kernel writes to this memory, and reads the ring's tail")]

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::Submitter;
use io_uring::types::BufRingEntry;

use crate::IoConfig;

/// The kernel's own bound on the entries of a buffer ring.
const BUFFERS_MAX: u32 = 1 << 15;
/// The ring must start on a page, and no Linux page is larger.
const PAGE_BYTES_MAX: usize = 64 * 1024;
/// Less than a page, so that memory nobody has written to yet costs address space only.
const MEMORY_ALIGN: usize = 16;

/// The ring and the buffers in it.
///
/// INVARIANT: a buffer is the kernel's from `put` to `take`, and ours from `take` to `put`; `is_out` says whose.
pub(super) struct BufferRing {
    entries: NonNull<BufRingEntry>,
    entries_layout: Layout,
    memory: NonNull<u8>,
    memory_layout: Layout,
    buffer_bytes: u32,
    mask: u16,
    /// Entries before it are the kernel's.
    tail: u16,
    is_out: Box<[bool]>,
    out_count: usize,
}

impl BufferRing {
    /// Makes the ring and registers it as `group`, with all buffers in it.
    ///
    /// # Errors
    /// `InvalidInput` when the sizes do not fit; what the kernel says to the registration.
    pub(super) fn register(submitter: &Submitter<'_>, group: u16, config: &IoConfig) -> io::Result<Self> {
        let (bytes, count) = (config.receive_buffer_bytes, config.receive_buffers);
        let all = u64::from(bytes) * u64::from(count);
        if all == 0 || all > 2 << 30 || count > BUFFERS_MAX {
            let message = format!(
                "{count} receive buffers of {bytes} bytes: both must be at least 1, together at most 2 GiB, at most {BUFFERS_MAX} buffers"
            );
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        let places = count.next_power_of_two() as usize;
        let (entries, entries_layout) = zeroed(places * size_of::<BufRingEntry>(), PAGE_BYTES_MAX);
        let (memory, memory_layout) = zeroed(all as usize, MEMORY_ALIGN);
        let mut buffers = Self {
            entries: entries.cast(),
            entries_layout,
            memory,
            memory_layout,
            buffer_bytes: bytes,
            // At most 2^15 - 1.
            mask: (places - 1) as u16,
            tail: 0,
            is_out: vec![true; count as usize].into_boxed_slice(),
            out_count: count as usize,
        };
        // SAFETY: the address is that of so many entries, on a page boundary. The kernel pins their pages by itself; the
        // buffers they name outlive its use of them (see `Uring`).
        unsafe { submitter.register_buf_ring_with_flags(entries.as_ptr() as u64, places as u16, group, 0)? };
        for index in 0..count {
            buffers.put(index);
        }
        Ok(buffers)
    }

    /// Takes over a buffer that a completion has handed us.
    ///
    /// # Errors
    /// When it is not the kernel's to hand over: its bytes may then be another connection's.
    #[inline]
    pub(super) fn take(&mut self, index: u16, bytes: usize) -> io::Result<u32> {
        let index = u32::from(index);
        match self.is_out.get_mut(index as usize) {
            Some(is_out) if !*is_out && bytes <= self.buffer_bytes as usize => {
                *is_out = true;
                self.out_count += 1;
                Ok(index)
            }
            _ => Err(io::Error::other(format!(
                "the kernel handed over {bytes} bytes in receive buffer {index}, which it did not have"
            ))),
        }
    }

    /// Gives a buffer back to the kernel.
    ///
    /// # Panics
    /// When it was not out: its bytes may then be another connection's, and going on would mix two peers' data.
    #[inline]
    pub(super) fn put(&mut self, index: u32) {
        let is_out = &mut self.is_out[index as usize];
        assert!(*is_out, "receive buffer {index} was released twice");
        *is_out = false;
        self.out_count -= 1;
        let start = index as usize * self.buffer_bytes as usize;
        // SAFETY: the place is inside the ring, and the kernel reads no entry at or after the tail.
        let entry = unsafe { self.entries.add(usize::from(self.tail & self.mask)).as_mut() };
        // SAFETY: the index was checked, so the start is inside the memory.
        entry.set_addr(unsafe { self.memory.add(start) }.as_ptr() as u64);
        entry.set_len(self.buffer_bytes);
        // Below 2^15.
        entry.set_bid(index as u16);
        self.tail = self.tail.wrapping_add(1);
        // SAFETY: the tail lies in the ring's first entry, two-byte aligned. The kernel only reads it, and no reference to
        // that entry as a whole lives here any more.
        let tail = unsafe { &*BufRingEntry::tail(self.entries.as_ptr()).cast::<AtomicU16>() };
        tail.store(self.tail, Ordering::Release);
    }

    /// What a buffer that is out holds.
    ///
    /// # Panics
    /// When it is not out, or not so large.
    #[inline]
    pub(super) fn bytes(&self, index: u32, offset: u32, bytes: u32) -> &[u8] {
        assert!(self.is_out[index as usize], "receive buffer {index} is read after its release");
        assert!(u64::from(offset) + u64::from(bytes) <= u64::from(self.buffer_bytes));
        let start = index as usize * self.buffer_bytes as usize + offset as usize;
        // SAFETY: inside the memory, all of which was zeroed at first; the kernel does not write to a buffer that is out,
        // and `put`, which hands it over, takes `&mut self`.
        unsafe { std::slice::from_raw_parts(self.memory.add(start).as_ptr(), bytes as usize) }
    }

    /// Bytes of one buffer.
    pub(super) fn buffer_bytes(&self) -> u32 {
        self.buffer_bytes
    }

    /// How many are ours.
    pub(super) fn out_count(&self) -> usize {
        self.out_count
    }

    /// How many are the kernel's.
    pub(super) fn free_count(&self) -> usize {
        self.is_out.len() - self.out_count
    }
}

impl Drop for BufferRing {
    fn drop(&mut self) {
        // SAFETY: both were allocated with these layouts. `Uring` drops this only when no request is in flight, so the
        // kernel neither picks nor fills a buffer any more.
        unsafe {
            dealloc(self.entries.as_ptr().cast(), self.entries_layout);
            dealloc(self.memory.as_ptr(), self.memory_layout);
        }
    }
}

fn zeroed(bytes: usize, align: usize) -> (NonNull<u8>, Layout) {
    let layout = Layout::from_size_align(bytes, align).expect("a power of two, and at most 2 GiB");
    // SAFETY: the size is not zero.
    let memory = unsafe { alloc_zeroed(layout) };
    (NonNull::new(memory).unwrap_or_else(|| handle_alloc_error(layout)), layout)
}
