//! `GZipMiddleware`, for answers that are whole.

use std::fmt;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use flate2::{Compress, Compression, FlushCompress, Status};

use super::whole::{NotCovered, Whole, add_vary};
use crate::answer::Headers;
use crate::http::encode;

/// Its options, and a compressor.
pub struct Gzip {
    minimum_size: usize,
    thread_minimum_size: usize,
    level: Compression,
    excluded: Vec<String>,
    /// PERF: a quarter of a MiB that is made once for each worker and not for each answer: 19 µs instead of 23 for 2 KB of JSON at
    /// level 9 (Python's zlib: 73). None before the first, and while one is being written.
    idle: Mutex<Option<Compress>>,
}

impl fmt::Debug for Gzip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gzip").field("minimum_size", &self.minimum_size).finish_non_exhaustive()
    }
}

/// The format's window, as a power of two: that of Starlette.
const WINDOW_BITS: u8 = 15;

/// What an answer's frame may need beyond its body: gzip's head and end, and a block's head for each 16 KiB that do not compress.
const FRAME_BYTES: usize = 64;

/// Whether this is what Starlette takes for consent: the letters, wherever they stand. `gzip;q=0` is too.
pub(super) fn names_gzip(accept_encoding: &[u8]) -> bool {
    accept_encoding.windows(4).any(|word| word == b"gzip")
}

impl Gzip {
    /// `minimum_size`: bytes of a body that is compressed; from `thread_minimum_size` on it is done in a thread, and so not here.
    /// `level` is zlib's, 0 to 9. `excluded`: media types, lower case, without parameters.
    ///
    /// # Panics
    /// `level` is over 9.
    #[must_use]
    pub fn new(minimum_size: usize, thread_minimum_size: usize, level: u32, excluded: Vec<String>) -> Self {
        assert!(level <= 9, "level is {level}, allowed are 0 to 9");
        Self { minimum_size, thread_minimum_size, level: Compression::new(level), excluded, idle: Mutex::default() }
    }

    /// Whether a body of so many bytes is one that this layer has to do with.
    fn looks_at(&self, status: u16, headers: &Headers, body_bytes: usize) -> bool {
        let is_left = body_bytes < self.minimum_size
            || status == 206
            || headers.values_of(b"content-encoding").next().is_some()
            || self.is_excluded(headers.values_of(b"content-type").next().unwrap_or_default());
        !is_left
    }

    fn is_excluded(&self, content_type: &[u8]) -> bool {
        let media_type = content_type.split(|&byte| byte == b';').next().unwrap_or_default().trim_ascii();
        let kind = media_type.split(|&byte| byte == b'/').next().unwrap_or_default();
        let is_grpc = media_type.to_ascii_lowercase().starts_with(b"application/grpc+");
        self.excluded.iter().map(String::as_bytes).any(|excluded| {
            excluded.eq_ignore_ascii_case(media_type)
                || excluded.strip_suffix(b"/*").is_some_and(|whole_kind| whole_kind.eq_ignore_ascii_case(kind))
                || (is_grpc && excluded == b"application/grpc")
        })
    }

    pub(super) fn covers(&self, accepts_gzip: bool, status: u16, headers: &Headers, body_bytes: usize) -> bool {
        if !headers.values_of(b"content-type").all(<[u8]>::is_ascii) {
            return false; // Python lowers and strips more than ASCII.
        }
        if !accepts_gzip || !self.looks_at(status, headers, body_bytes) {
            return true;
        }
        // A status without a body gets one from Starlette, and what becomes of that is the server's to say. A length that is spelt
        // in another way stays beside the true one.
        let has_odd_length =
            headers.content_length().is_some() && headers.values_of(b"content-length").next().is_none();
        body_bytes < self.thread_minimum_size && encode::may_have_body(status) && !has_odd_length
    }

    /// An answer on its way out.
    pub(super) fn leave(&self, accepts_gzip: bool, whole: &mut Whole) -> Result<(), NotCovered> {
        if !self.looks_at(whole.status, &whole.headers, whole.body.len()) {
            return Ok(());
        }
        add_vary(&mut whole.headers, b"Accept-Encoding")?;
        if accepts_gzip {
            let body = self.compress(&whole.body);
            whole.headers.set(b"content-encoding", b"gzip")?;
            whole.headers.set(b"content-length", itoa::Buffer::new().format(body.len()).as_bytes())?;
            whole.body = Bytes::from(body);
        }
        Ok(())
    }

    fn compress(&self, body: &[u8]) -> Vec<u8> {
        let idle = self.idle().take();
        let mut compressor = idle.unwrap_or_else(|| Compress::new_gzip(self.level, WINDOW_BITS));
        // Most bodies come to a third at most; what needs more room gets it.
        let mut out = Vec::with_capacity(body.len() / 2 + FRAME_BYTES);
        loop {
            let done = compressor.total_in() as usize;
            let status = compressor
                .compress_vec(&body[done..], &mut out, FlushCompress::Finish)
                .expect("deflate fails only where its stream was ended before");
            if status == Status::StreamEnd {
                break;
            }
            out.reserve(body.len() / 2 + FRAME_BYTES);
        }
        compressor.reset();
        *self.idle() = Some(compressor);
        out
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Option<Compress>> {
        // Held for a move only; nothing panics under it.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
