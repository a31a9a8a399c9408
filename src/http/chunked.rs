//! The chunked coding of a request body, decoded as it comes: RFC 9112 §7.1. Can stop and go on at every byte.
//!
//! Stricter than the grammar: no white space anywhere in a chunk line. Extensions and trailers are checked, counted and
//! dropped: no handler reads them, and a trailer must never pass for a header.

use super::grammar;
use crate::error::BadRequest;
use crate::limits::Limits;

/// The longest chunk size that fits 64 bits.
const SIZE_DIGITS_MAX: u8 = 16;

/// One body's decoder. Start each body with a new one.
#[derive(Clone, Debug)]
pub struct ChunkedDecoder {
    state: State,
    /// Of the chunk being read: while its size is read, the size; then the bytes still to come.
    remaining: u64,
    size_digits: u8,
    /// Bytes that the chunks so far declared together.
    body_bytes: u64,
    body_bytes_max: u64,
    extension_bytes: usize,
    trailer_bytes: usize,
    trailers_count: usize,
}

/// What the next byte is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Size,
    ExtensionNameStart,
    ExtensionName,
    ExtensionValueStart,
    ExtensionValue,
    ExtensionQuoted,
    ExtensionQuotedPair,
    ExtensionQuotedEnd,
    SizeLineFeed,
    Data,
    DataCarriageReturn,
    DataLineFeed,
    TrailerStart,
    TrailerName,
    TrailerValue,
    TrailerLineFeed,
    EndLineFeed,
    Finished,
}

impl ChunkedDecoder {
    /// A decoder for a body of at most `body_bytes_max` bytes; `u64::MAX` is no limit.
    #[must_use]
    pub fn new(body_bytes_max: u64) -> Self {
        Self {
            state: State::Size,
            remaining: 0,
            size_digits: 0,
            body_bytes: 0,
            body_bytes_max,
            extension_bytes: 0,
            trailer_bytes: 0,
            trailers_count: 0,
        }
    }

    /// Takes `input` and adds the data in it to `body`. Returns how many bytes it took, which is all of them unless the body
    /// ended, and whether it did. What follows the taken bytes is then the next head.
    ///
    /// A chunk that would pass the limit is refused at its size, before any of its data.
    ///
    /// # Errors
    /// What the peer did wrong; `body` then has what came before it.
    pub fn decode(&mut self, input: &[u8], body: &mut Vec<u8>, limits: &Limits) -> Result<(usize, bool), BadRequest> {
        let mut taken = 0;
        while self.state != State::Finished {
            let Some(&byte) = input.get(taken) else { return Ok((taken, false)) };
            if self.state == State::Data {
                let available = (input.len() - taken) as u64;
                // Not over `available`, so it fits.
                let length = self.remaining.min(available) as usize;
                body.extend_from_slice(&input[taken..taken + length]);
                taken += length;
                self.remaining -= length as u64;
                if self.remaining == 0 {
                    self.state = State::DataCarriageReturn;
                }
                continue;
            }
            self.state = self.next_state(byte, limits)?;
            taken += 1;
        }
        Ok((taken, true))
    }

    /// Whether the last chunk and the trailers have come.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.state == State::Finished
    }

    /// Bytes of data decoded or declared so far.
    #[must_use]
    pub fn body_bytes(&self) -> u64 {
        self.body_bytes
    }

    fn next_state(&mut self, byte: u8, limits: &Limits) -> Result<State, BadRequest> {
        match self.state {
            State::Size => self.size(byte),
            State::SizeLineFeed if byte == b'\n' => self.start_of_data(),
            State::SizeLineFeed => Err(BadRequest::InvalidChunkSize),
            State::DataCarriageReturn if byte == b'\r' => Ok(State::DataLineFeed),
            State::DataLineFeed if byte == b'\n' => Ok(State::Size),
            State::Data | State::DataCarriageReturn | State::DataLineFeed => Err(BadRequest::InvalidChunkEnd),
            State::TrailerStart
            | State::TrailerName
            | State::TrailerValue
            | State::TrailerLineFeed
            | State::EndLineFeed => self.trailer(byte, limits),
            State::Finished => Ok(State::Finished),
            _ => self.extension(byte, limits),
        }
    }

    fn size(&mut self, byte: u8) -> Result<State, BadRequest> {
        match (grammar::hex_digit(byte), self.size_digits) {
            (Some(_), SIZE_DIGITS_MAX) => Err(BadRequest::InvalidChunkSize),
            (Some(digit), _) => {
                self.remaining = self.remaining << 4 | u64::from(digit);
                self.size_digits += 1;
                Ok(State::Size)
            }
            (None, 1..) if byte == b'\r' => Ok(State::SizeLineFeed),
            (None, 1..) if byte == b';' => Ok(State::ExtensionNameStart),
            (None, _) => Err(BadRequest::InvalidChunkSize),
        }
    }

    fn start_of_data(&mut self) -> Result<State, BadRequest> {
        self.size_digits = 0;
        if self.remaining == 0 {
            return Ok(State::TrailerStart);
        }
        if self.remaining > i64::MAX as u64 {
            return Err(BadRequest::InvalidChunkSize);
        }
        self.body_bytes = self.body_bytes.saturating_add(self.remaining);
        if self.body_bytes > self.body_bytes_max {
            return Err(BadRequest::BodyTooLarge { bytes: self.body_bytes, limit: self.body_bytes_max });
        }
        Ok(State::Data)
    }

    /// RFC 9112 §7.1.1: `;name`, `;name=token` or `;name="quoted"`.
    fn extension(&mut self, byte: u8, limits: &Limits) -> Result<State, BadRequest> {
        self.extension_bytes += 1;
        if self.extension_bytes > limits.chunk_extension_bytes_max {
            return Err(BadRequest::ChunkExtensionsTooLarge { limit: limits.chunk_extension_bytes_max });
        }
        let is_token = grammar::is_token(byte);
        match (self.state, byte) {
            (State::ExtensionNameStart | State::ExtensionName, _) if is_token => Ok(State::ExtensionName),
            (State::ExtensionValueStart | State::ExtensionValue, _) if is_token => Ok(State::ExtensionValue),
            (State::ExtensionName, b'=') => Ok(State::ExtensionValueStart),
            (State::ExtensionValueStart, b'"') => Ok(State::ExtensionQuoted),
            (State::ExtensionQuoted, b'"') => Ok(State::ExtensionQuotedEnd),
            (State::ExtensionQuoted, b'\\') => Ok(State::ExtensionQuotedPair),
            (State::ExtensionQuoted | State::ExtensionQuotedPair, _) if grammar::is_value(byte) => {
                Ok(State::ExtensionQuoted)
            }
            (State::ExtensionName | State::ExtensionValue | State::ExtensionQuotedEnd, b';') => {
                Ok(State::ExtensionNameStart)
            }
            (State::ExtensionName | State::ExtensionValue | State::ExtensionQuotedEnd, b'\r') => {
                Ok(State::SizeLineFeed)
            }
            _ => Err(BadRequest::InvalidChunkExtension),
        }
    }

    /// RFC 9112 §7.1.2: header lines, then an empty one.
    fn trailer(&mut self, byte: u8, limits: &Limits) -> Result<State, BadRequest> {
        if !matches!((self.state, byte), (State::TrailerStart, b'\r') | (State::EndLineFeed, _)) {
            self.trailer_bytes += 1;
        }
        if self.trailer_bytes > limits.trailer_bytes_max {
            return Err(BadRequest::TrailersTooLarge { limit: limits.trailer_bytes_max });
        }
        match (self.state, byte) {
            (State::TrailerStart, b'\r') => Ok(State::EndLineFeed),
            (State::TrailerStart, _) if grammar::is_token(byte) => {
                self.trailers_count += 1;
                if self.trailers_count > limits.header_count_max {
                    return Err(BadRequest::TooManyHeaders { limit: limits.header_count_max });
                }
                Ok(State::TrailerName)
            }
            (State::TrailerName, b':') => Ok(State::TrailerValue),
            (State::TrailerName, _) if grammar::is_token(byte) => Ok(State::TrailerName),
            (State::TrailerValue, b'\r') => Ok(State::TrailerLineFeed),
            (State::TrailerValue, _) if grammar::is_value(byte) => Ok(State::TrailerValue),
            (State::TrailerLineFeed, b'\n') => Ok(State::TrailerStart),
            (State::EndLineFeed, b'\n') => Ok(State::Finished),
            _ => Err(BadRequest::InvalidTrailer),
        }
    }
}
