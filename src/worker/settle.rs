//! What a connection wants of the platform and of the wheel, after anything that happened to it.

use turboapi_platform::{Close, ConnectionId, OutBuf, Platform};

use super::state::{Worker, find};

/// A large part is sent in pieces of so many bytes, so that a slow reader's progress can be seen (`write_timeout`).
pub(super) const SEND_BYTES_MAX: usize = 256 * 1024;

/// Output buffers kept for further use, and the largest that is worth keeping.
const SPARE_BUFFERS: usize = 64;
const SPARE_BYTES_MAX: usize = 16 * 1024;

impl<P: Platform> Worker<P> {
    /// After anything that happened to a connection: what it wants of the platform, and when it has to be looked at.
    pub(super) fn settle(&mut self, id: ConnectionId) {
        let Some(slot) = find(&mut self.connections, id) else {
            return;
        };
        let connection = &mut slot.connection;
        if slot.asked_to_close.is_none()
            && let Some((head, body)) = connection.wire.take(SEND_BYTES_MAX)
        {
            self.platform.send(id, OutBuf { head, body });
        }
        if connection.waits_share() && !std::mem::replace(&mut slot.is_waiting, true) {
            self.waiting.push_back(id);
        }
        let spare = connection.wire.output.reclaim();
        if let Some(reads) = connection.take_reads_change(&self.shared) {
            self.platform.want_read(id, reads);
        }
        if let Some(close) = connection.wants_close() {
            let is_harder = slot.asked_to_close.is_none_or(|asked| asked != Close::Abort && close == Close::Abort);
            if is_harder {
                slot.asked_to_close = Some(close);
                self.platform.close(id, close);
            }
        }
        if let Some(deadline) = connection.deadline() {
            self.wheel.schedule(id.slot(), deadline);
        }
        if let Some(spare) = spare {
            self.keep_spare(spare);
        }
    }

    pub(super) fn keep_spare(&mut self, mut buffer: Vec<u8>) {
        if self.spare.len() < SPARE_BUFFERS && buffer.capacity() > 0 && buffer.capacity() <= SPARE_BYTES_MAX {
            buffer.clear();
            self.spare.push(buffer);
        }
    }
}
