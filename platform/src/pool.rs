//! Receive buffers of one worker: one block of memory, cut into equal pieces. No growing, and no policy: which connection gets one is decided elsewhere.

use std::io;

use crate::{IoConfig, RxBuf};

/// The pool. The piece that was given back last is given out first, so that few connections touch little memory.
#[derive(Debug)]
pub struct ReceivePool {
    memory: Box<[u8]>,
    piece_bytes: usize,
    free: Vec<u32>,
    /// INVARIANT: `is_out[i]` is the opposite of `free.contains(i)`.
    is_out: Box<[bool]>,
}

impl ReceivePool {
    /// Memory that nobody has written to yet costs address space only.
    ///
    /// # Errors
    /// `InvalidInput` when one of the sizes is 0 or they do not fit.
    pub fn new(config: &IoConfig) -> io::Result<Self> {
        let (bytes, count) = (config.receive_buffer_bytes, config.receive_buffers);
        let refused = || {
            let message =
                format!("{count} receive buffers of {bytes} bytes: both must be at least 1, together at most 2 GiB");
            io::Error::new(io::ErrorKind::InvalidInput, message)
        };
        let all = u64::from(bytes) * u64::from(count);
        if all == 0 || all > 2 << 30 {
            return Err(refused());
        }
        let all = usize::try_from(all).map_err(|_| refused())?;
        Ok(Self {
            memory: vec![0; all].into_boxed_slice(),
            piece_bytes: bytes as usize,
            free: (0..count).rev().collect(),
            is_out: vec![false; count as usize].into_boxed_slice(),
        })
    }

    /// Takes a buffer out, or none when all are out.
    #[inline]
    pub fn take(&mut self) -> Option<u32> {
        let index = self.free.pop()?;
        self.is_out[index as usize] = true;
        Some(index)
    }

    /// Puts a buffer back.
    ///
    /// # Panics
    /// When it was not out: its bytes may then be another connection's, and going on would mix two peers' data.
    #[inline]
    pub fn put(&mut self, index: u32) {
        let is_out = &mut self.is_out[index as usize];
        assert!(*is_out, "receive buffer {index} was released twice");
        *is_out = false;
        self.free.push(index);
    }

    /// The whole of a buffer that is out, to be written to.
    #[inline]
    pub fn piece_mut(&mut self, index: u32) -> &mut [u8] {
        let start = index as usize * self.piece_bytes;
        &mut self.memory[start..start + self.piece_bytes]
    }

    /// What a buffer that is out holds.
    ///
    /// # Panics
    /// When it is not out.
    #[inline]
    #[must_use]
    pub fn bytes(&self, buffer: &RxBuf) -> &[u8] {
        assert!(self.is_out[buffer.index as usize], "receive buffer {} is read after its release", buffer.index);
        let start = buffer.index as usize * self.piece_bytes + buffer.offset as usize;
        &self.memory[start..start + buffer.len as usize]
    }

    /// Bytes of one buffer.
    #[must_use]
    pub fn piece_bytes(&self) -> usize {
        self.piece_bytes
    }

    /// Whether all are out.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.free.is_empty()
    }

    /// How many are out.
    #[must_use]
    pub fn out_count(&self) -> usize {
        self.is_out.len() - self.free.len()
    }
}
