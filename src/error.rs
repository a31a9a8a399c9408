//! Failures, sorted by which side must act: the peer (`BadRequest`) or the operator (`StartError`). Waiting for more bytes is not
//! among them: that is `Parsed::NeedMore`. A handler's mistakes about its answer are in `answer`.

use std::fmt;
use std::time::Duration;

/// What a parser that may lack bytes returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed<T> {
    /// All of it was there.
    Complete(T),
    /// Everything so far is right, and more bytes must come.
    NeedMore,
}

/// The peer broke HTTP or one of our limits. Sent as `status()`, then the connection closes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BadRequest {
    /// A WebSocket's opening handshake, which is no request of HTTP's alone: nothing here speaks what would follow.
    WebSocket,
    /// A line ends in LF without CR before it (RFC 9112 §2.2 lets us refuse it).
    BareLineFeed,
    /// More than one empty line stands before the request line.
    EmptyRequestLine,
    /// The request line is longer than `limits.request_line_bytes_max`.
    RequestLineTooLong {
        /// Bytes allowed.
        limit: usize,
    },
    /// The request line is not `method SP target SP version`.
    InvalidRequestLine,
    /// The method is empty, has a byte that no token has, or is over 32 bytes.
    InvalidMethod,
    /// CONNECT: this server is no proxy.
    ConnectMethod,
    /// The target has a control byte, a fragment or a byte over 0x7e.
    InvalidTarget {
        /// The byte seen.
        byte: u8,
    },
    /// The target is none of the forms that this method may have (RFC 9112 §3.2).
    InvalidTargetForm,
    /// The version is not of the form `HTTP/1.1`.
    InvalidVersion,
    /// A well-formed version whose major number is not 1.
    UnsupportedVersion,
    /// Request line and headers are together larger than `limits.head_bytes_max`.
    HeadTooLarge {
        /// Bytes allowed.
        limit: usize,
    },
    /// More header lines than `limits.header_count_max`.
    TooManyHeaders {
        /// Header lines allowed.
        limit: usize,
    },
    /// A header line begins with a space or a tab (RFC 9112 §5.2).
    ObsoleteFold,
    /// A header line has no colon.
    HeaderWithoutColon,
    /// A header name is empty or has a byte that no token has.
    InvalidHeaderName {
        /// The byte seen; a colon when the name is empty.
        byte: u8,
    },
    /// A header value has a control byte.
    InvalidHeaderValue {
        /// The byte seen.
        byte: u8,
    },
    /// An HTTP/1.1 request has no Host.
    MissingHost,
    /// A request has two Host headers.
    DuplicateHost,
    /// Host, or the authority of the target, is not `uri-host[:port]`.
    InvalidHost,
    /// The target names one authority and Host another.
    HostMismatch,
    /// Content-Length is not a decimal number below 2^63.
    InvalidLength,
    /// Two Content-Length headers, equal or not.
    DuplicateLength,
    /// Both a length and chunked coding were given (RFC 9112 §6.3).
    AmbiguousLength,
    /// Transfer-Encoding is not the one word `chunked`.
    InvalidTransferEncoding,
    /// Transfer-Encoding names one coding, and we do not know it.
    UnknownTransferCoding,
    /// Transfer-Encoding in an HTTP/1.0 request (RFC 9112 §6.1).
    TransferEncodingInOldVersion,
    /// An Expect other than `100-continue`.
    UnknownExpectation,
    /// The body is larger than the limit of this route.
    BodyTooLarge {
        /// Bytes declared, by Content-Length or by the chunks so far.
        bytes: u64,
        /// Bytes allowed.
        limit: u64,
    },
    /// A chunk size is not 1 to 16 hexadecimal digits, or is 2^63 or more.
    InvalidChunkSize,
    /// A chunk extension is not `;name[=value]`.
    InvalidChunkExtension,
    /// All extensions of one body are together over `limits.chunk_extension_bytes_max`.
    ChunkExtensionsTooLarge {
        /// Bytes allowed.
        limit: usize,
    },
    /// The data of a chunk is not followed by CRLF.
    InvalidChunkEnd,
    /// A trailer line is not `name: value`.
    InvalidTrailer,
    /// The trailers are together over `limits.trailer_bytes_max`.
    TrailersTooLarge {
        /// Bytes allowed.
        limit: usize,
    },
    /// The head was not whole in time.
    HeadTimeout {
        /// Time allowed, from its first byte.
        timeout: Duration,
    },
    /// The body stalled, or came slower than the minimum rate.
    BodyTimeout,
    /// The peer ended its side in the middle of a head or body.
    CutShort,
}

impl BadRequest {
    /// The status code to answer with.
    pub const fn status(&self) -> u16 {
        match self {
            Self::HeadTimeout { .. } | Self::BodyTimeout => 408,
            Self::BodyTooLarge { .. } => 413,
            Self::RequestLineTooLong { .. } => 414,
            Self::UnknownExpectation => 417,
            Self::HeadTooLarge { .. } | Self::TooManyHeaders { .. } | Self::TrailersTooLarge { .. } => 431,
            Self::ConnectMethod | Self::UnknownTransferCoding | Self::WebSocket => 501,
            Self::UnsupportedVersion => 505,
            _ => 400,
        }
    }
}

impl fmt::Display for BadRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match *self {
            Self::WebSocket => "WebSocket is not served here yet, only HTTP",
            Self::BareLineFeed => "a line ends in LF alone, only CR LF is allowed",
            Self::EmptyRequestLine => "two empty lines before the request line, one is allowed",
            Self::RequestLineTooLong { limit } => return write!(f, "request line is over the limit of {limit} bytes"),
            Self::InvalidRequestLine => "request line must be method, target and version with one space between them",
            Self::InvalidMethod => "method must be 1 to 32 letters, digits or token marks",
            Self::ConnectMethod => "method CONNECT is for proxies, this server is none",
            Self::InvalidTarget { byte } => {
                return write!(f, "target has byte 0x{byte:02x}, allowed are 0x21 to 0x7e but for #");
            }
            Self::InvalidTargetForm => "target must begin with / or http://, or be * for OPTIONS",
            Self::InvalidVersion => "version must be written HTTP/1.0 or HTTP/1.1",
            Self::UnsupportedVersion => "version is not HTTP/1.1 or HTTP/1.0",
            Self::HeadTooLarge { limit } => return write!(f, "head is over the limit of {limit} bytes"),
            Self::TooManyHeaders { limit } => return write!(f, "head has more than the allowed {limit} headers"),
            Self::ObsoleteFold => "a header line begins with white space, folded headers are not allowed",
            Self::HeaderWithoutColon => "a header line has no colon, it must be name: value",
            Self::InvalidHeaderName { byte: b':' } => "a header name is empty",
            Self::InvalidHeaderName { byte } => {
                return write!(f, "a header name has byte 0x{byte:02x}, allowed are letters, digits and token marks");
            }
            Self::InvalidHeaderValue { byte } => {
                return write!(f, "a header value has byte 0x{byte:02x}, no control byte but tab is allowed");
            }
            Self::MissingHost => "no host header, HTTP/1.1 needs one",
            Self::DuplicateHost => "two host headers, one is allowed",
            Self::InvalidHost => "host must be a name or address with an optional port",
            Self::HostMismatch => "target and host header name different hosts",
            Self::InvalidLength => "content-length must be decimal digits and below 2^63",
            Self::DuplicateLength => "two content-length headers, one is allowed",
            Self::AmbiguousLength => "both content-length and transfer-encoding are given, one is allowed",
            Self::InvalidTransferEncoding => "transfer-encoding must be the one word chunked",
            Self::UnknownTransferCoding => "transfer-encoding names an unknown coding, only chunked is known",
            Self::TransferEncodingInOldVersion => "transfer-encoding in an HTTP/1.0 request, it needs HTTP/1.1",
            Self::UnknownExpectation => "expect is unknown, only 100-continue is allowed",
            Self::BodyTooLarge { bytes, limit } => {
                return write!(f, "body is {bytes} bytes or more, limit is {limit} (body_bytes_max)");
            }
            Self::InvalidChunkSize => "chunk size must be 1 to 16 hexadecimal digits and below 2^63",
            Self::InvalidChunkExtension => "chunk extension must be ;name or ;name=value",
            Self::ChunkExtensionsTooLarge { limit } => {
                return write!(f, "chunk extensions are over the limit of {limit} bytes");
            }
            Self::InvalidChunkEnd => "chunk data must be followed by CR LF",
            Self::InvalidTrailer => "a trailer line must be name: value and end in CR LF",
            Self::TrailersTooLarge { limit } => return write!(f, "trailers are over the limit of {limit} bytes"),
            Self::HeadTimeout { timeout } => {
                return write!(f, "head was not complete {} seconds after its first byte", timeout.as_secs_f64());
            }
            Self::BodyTimeout => "body stalled or came too slowly",
            Self::CutShort => "connection ended before the request was complete",
        })
    }
}

impl std::error::Error for BadRequest {}

/// The server cannot start as it was told to. One line for the operator, then exit status 1. What the system refuses at the start
/// (an address, a worker) is Python's to say: `python/turboapi/errors.py`.
#[derive(Debug)]
#[non_exhaustive]
pub enum StartError {
    /// A limit is outside what it may be.
    Limit {
        /// Its name in `Limits`, which is also the name of the option.
        name: &'static str,
        /// The value given.
        value: String,
        /// The smallest allowed.
        min: String,
        /// The largest allowed.
        max: String,
    },
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Limit { name, value, min, max } => write!(f, "{name} is {value}, allowed are {min} to {max}"),
        }
    }
}

impl std::error::Error for StartError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_and_messages() {
        let check = |reason: BadRequest, status: u16, message: &str| {
            assert_eq!((reason.status(), reason.to_string().as_str()), (status, message));
        };
        check(BadRequest::BareLineFeed, 400, "a line ends in LF alone, only CR LF is allowed");
        check(
            BadRequest::InvalidTarget { byte: b'#' },
            400,
            "target has byte 0x23, allowed are 0x21 to 0x7e but for #",
        );
        let head_timeout = |milliseconds| BadRequest::HeadTimeout { timeout: Duration::from_millis(milliseconds) };
        check(head_timeout(10_000), 408, "head was not complete 10 seconds after its first byte");
        check(head_timeout(250), 408, "head was not complete 0.25 seconds after its first byte");
        check(BadRequest::BodyTimeout, 408, "body stalled or came too slowly");
        check(
            BadRequest::BodyTooLarge { bytes: 9, limit: 8 },
            413,
            "body is 9 bytes or more, limit is 8 (body_bytes_max)",
        );
        check(BadRequest::RequestLineTooLong { limit: 8 }, 414, "request line is over the limit of 8 bytes");
        check(BadRequest::UnknownExpectation, 417, "expect is unknown, only 100-continue is allowed");
        check(BadRequest::HeadTooLarge { limit: 8 }, 431, "head is over the limit of 8 bytes");
        check(BadRequest::TooManyHeaders { limit: 8 }, 431, "head has more than the allowed 8 headers");
        check(BadRequest::TrailersTooLarge { limit: 8 }, 431, "trailers are over the limit of 8 bytes");
        check(BadRequest::ConnectMethod, 501, "method CONNECT is for proxies, this server is none");
        check(
            BadRequest::UnknownTransferCoding,
            501,
            "transfer-encoding names an unknown coding, only chunked is known",
        );
        check(BadRequest::WebSocket, 501, "WebSocket is not served here yet, only HTTP");
        check(BadRequest::UnsupportedVersion, 505, "version is not HTTP/1.1 or HTTP/1.0");
    }
}
