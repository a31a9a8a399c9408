//! Where a request's body ends: RFC 9112 §6. What two servers could read differently is refused.
//! The chunked coding itself is in `chunked`. A request body never ends with the connection.

use super::grammar;
use crate::error::BadRequest;

/// What body follows a head.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Framing {
    /// None: neither a length nor a coding was given.
    #[default]
    None,
    /// This many bytes.
    Length(u64),
    /// Chunks, for `chunked::ChunkedDecoder`.
    Chunked,
}

impl Framing {
    /// Whether a byte follows the head that is not of the next one.
    pub fn has_body(self) -> bool {
        !matches!(self, Self::None | Self::Length(0))
    }
}

/// The two headers that say it, as they come.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct FramingFields {
    length: Option<u64>,
    is_chunked: bool,
}

impl FramingFields {
    pub(super) fn add_content_length(&mut self, value: &[u8]) -> Result<(), BadRequest> {
        let length = content_length(value).ok_or(BadRequest::InvalidLength)?;
        // RFC 9112 §6.3 lets us fold equal ones; then the one behind us must fold them too.
        match self.length.replace(length) {
            None => Ok(()),
            Some(_) => Err(BadRequest::DuplicateLength),
        }
    }

    pub(super) fn add_transfer_encoding(&mut self, value: &[u8]) -> Result<(), BadRequest> {
        if self.is_chunked {
            return Err(BadRequest::InvalidTransferEncoding);
        }
        self.is_chunked = value.eq_ignore_ascii_case(b"chunked");
        let is_one_coding = !value.is_empty() && value.iter().all(|&byte| grammar::is_token(byte));
        match (self.is_chunked, is_one_coding) {
            (true, _) => Ok(()),
            // RFC 9112 §7: identity is gone since RFC 7230. Some took it for "no coding", so it is no honest request.
            (false, true) if !value.eq_ignore_ascii_case(b"identity") => Err(BadRequest::UnknownTransferCoding),
            (false, _) => Err(BadRequest::InvalidTransferEncoding),
        }
    }

    pub(super) fn decide(self, minor_version: u8) -> Result<Framing, BadRequest> {
        match (self.is_chunked, self.length) {
            // RFC 9112 §6.1: Transfer-Encoding in HTTP/1.0 is faulty framing: the sender cannot know what it means.
            (true, _) if minor_version == 0 => Err(BadRequest::TransferEncodingInOldVersion),
            // RFC 9112 §6.1: a request with both may be refused, and the connection must close after it. We refuse:
            // a proxy in front of us may have read a different end of this message.
            (true, Some(_)) => Err(BadRequest::AmbiguousLength),
            (true, None) => Ok(Framing::Chunked),
            (false, Some(length)) => Ok(Framing::Length(length)),
            (false, None) => Ok(Framing::None),
        }
    }
}

/// RFC 9110 §8.6: one or more decimal digits, and nothing else. Below 2^63, so that sums of it stay in range.
fn content_length(value: &[u8]) -> Option<u64> {
    if value.is_empty() {
        return None;
    }
    let mut length = 0_u64;
    for &byte in value {
        if !byte.is_ascii_digit() {
            return None;
        }
        length = length.checked_mul(10)?.checked_add(u64::from(byte - b'0'))?;
    }
    (length <= i64::MAX as u64).then_some(length)
}
