//! The bytes of a connection that have come and have to wait. What waits, and for what, is in `http1`.

/// Received and not yet consumed: part of a head, or requests behind the one that is being answered.
///
/// What was consumed is cut off only when it is the larger part: each of many small requests would else move all that are
/// behind it.
#[derive(Debug, Default)]
pub(super) struct Pending {
    bytes: Vec<u8>,
    /// INVARIANT: below `bytes.len()`, or both are 0.
    start: usize,
}

impl Pending {
    /// Puts further bytes behind what is there.
    pub(super) fn extend(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// What is not consumed yet.
    pub(super) fn rest(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len() - self.start
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Takes away so many of its first bytes.
    pub(super) fn consume(&mut self, bytes: usize) {
        self.start += bytes;
        if self.start == self.bytes.len() {
            *self = Self::default(); // An idle connection holds no buffer.
        } else if self.start > self.bytes.len() / 2 {
            self.bytes.drain(..self.start);
            self.start = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Pending {
        /// Bytes of memory.
        pub(in super::super) fn capacity(&self) -> usize {
            self.bytes.capacity()
        }
    }

    /// What was consumed is cut off in bulk: each of many requests would else move all that are behind it.
    #[test]
    fn pending_moves_each_byte_but_once_or_twice() {
        let mut pending = Pending { bytes: vec![0; 1000], start: 0 };
        let mut moved = 0;
        while !pending.is_empty() {
            let (start, kept) = (pending.start, pending.len());
            pending.consume(10);
            moved += if pending.start < start { kept } else { 0 };
        }
        assert!(moved <= 1000, "{moved}");
        assert_eq!(pending.bytes.capacity(), 0);
    }
}
