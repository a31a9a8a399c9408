//! Encoded bytes of one connection, and where they are: what is not with the platform yet is here. It knows no HTTP.

use std::collections::VecDeque;

use bytes::Bytes;

/// A body of at least so many bytes is sent from where it is instead of being copied behind its head.
pub const COPY_BYTES_MAX: usize = 16 * 1024;

/// Encoded bytes that the platform has not got yet: small parts joined, large ones as they are.
#[derive(Debug, Default)]
pub struct Output {
    /// Joined parts.
    pub small: Vec<u8>,
    /// Parts too large to copy, each with the number of bytes of `small` that go before it. Empty in the common case.
    pub large: VecDeque<(usize, Bytes)>,
    large_bytes: usize,
}

impl Output {
    /// Bytes not yet taken.
    #[must_use]
    pub fn len(&self) -> usize {
        self.small.len() + self.large_bytes
    }

    /// Whether there is nothing to send.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.small.is_empty() && self.large.is_empty()
    }

    /// Appends a copy.
    pub fn push_bytes(&mut self, bytes: &[u8]) {
        self.small.extend_from_slice(bytes);
    }

    /// Appends a body: a large one is not copied.
    pub(crate) fn push_large(&mut self, body: Bytes) {
        if body.len() < COPY_BYTES_MAX {
            self.push_bytes(&body);
        } else {
            self.large_bytes += body.len();
            self.large.push_back((self.small.len(), body));
        }
    }

    /// Takes the next bytes to send, at most so many. Nothing is copied but what stands behind a large part.
    pub fn take(&mut self, bytes_max: usize) -> (Vec<u8>, Bytes) {
        let before = self.large.front().map_or(self.small.len(), |&(before, _)| before);
        let mut head = Vec::new();
        if before > 0 {
            let after = if before < self.small.len() { self.small.split_off(before) } else { Vec::new() };
            head = std::mem::replace(&mut self.small, after);
        }
        for (position, _) in &mut self.large {
            *position -= before;
        }
        if head.len() > bytes_max {
            // Small parts that came to much, or a body that was copied: from here on a large part like any other.
            self.large_bytes += head.len();
            self.large.push_front((0, Bytes::from(std::mem::take(&mut head))));
        }
        let room = bytes_max - head.len();
        let part = self.large.front_mut().map(|(_, part)| part.split_to(part.len().min(room))).unwrap_or_default();
        self.large_bytes -= part.len();
        if self.large.front().is_some_and(|(_, part)| part.is_empty()) {
            self.large.pop_front();
            if self.large.is_empty() {
                self.large = VecDeque::new(); // An idle connection holds no buffer.
            }
        }
        (head, part)
    }

    /// Gives it memory to write to, if it has none.
    pub fn lend(&mut self, spare: &mut Vec<Vec<u8>>) {
        if self.small.capacity() == 0 {
            self.small = spare.pop().unwrap_or_default();
        }
    }

    /// Takes memory that is not needed now: an idle connection holds none.
    pub fn reclaim(&mut self) -> Option<Vec<u8>> {
        (self.small.is_empty() && self.small.capacity() > 0).then(|| std::mem::take(&mut self.small))
    }

    /// Drops everything.
    pub fn clear(&mut self) {
        *self = Self::default();
    }
}
