//! The parts of an answer's head and chunks, into bytes. Which of them an answer has is decided in `answer`.
//! No buffer of its own: everything is appended to the caller's.

pub use super::date::DateCache;
use super::grammar;

/// `status => reason`, for the status line of each.
macro_rules! status_lines {
    ($($status:literal $reason:literal)+) => {
        fn known_status_line(status: u16) -> Option<&'static str> {
            Some(match status {
                $($status => concat!("HTTP/1.1 ", $status, " ", $reason, "\r\n"),)+
                _ => return None,
            })
        }
    };
}

// As `http.HTTPStatus` of Python 3.13 spells them, which is what uvicorn sends.
status_lines! {
    100 "Continue"
    101 "Switching Protocols"
    102 "Processing"
    103 "Early Hints"
    200 "OK"
    201 "Created"
    202 "Accepted"
    203 "Non-Authoritative Information"
    204 "No Content"
    205 "Reset Content"
    206 "Partial Content"
    207 "Multi-Status"
    208 "Already Reported"
    226 "IM Used"
    300 "Multiple Choices"
    301 "Moved Permanently"
    302 "Found"
    303 "See Other"
    304 "Not Modified"
    305 "Use Proxy"
    307 "Temporary Redirect"
    308 "Permanent Redirect"
    400 "Bad Request"
    401 "Unauthorized"
    402 "Payment Required"
    403 "Forbidden"
    404 "Not Found"
    405 "Method Not Allowed"
    406 "Not Acceptable"
    407 "Proxy Authentication Required"
    408 "Request Timeout"
    409 "Conflict"
    410 "Gone"
    411 "Length Required"
    412 "Precondition Failed"
    413 "Content Too Large"
    414 "URI Too Long"
    415 "Unsupported Media Type"
    416 "Range Not Satisfiable"
    417 "Expectation Failed"
    418 "I'm a Teapot"
    421 "Misdirected Request"
    422 "Unprocessable Content"
    423 "Locked"
    424 "Failed Dependency"
    425 "Too Early"
    426 "Upgrade Required"
    428 "Precondition Required"
    429 "Too Many Requests"
    431 "Request Header Fields Too Large"
    451 "Unavailable For Legal Reasons"
    500 "Internal Server Error"
    501 "Not Implemented"
    502 "Bad Gateway"
    503 "Service Unavailable"
    504 "Gateway Timeout"
    505 "HTTP Version Not Supported"
    506 "Variant Also Negotiates"
    507 "Insufficient Storage"
    508 "Loop Detected"
    510 "Not Extended"
    511 "Network Authentication Required"
}

/// What a peer that waits for it is sent before its body is read.
pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// The end of a chunked body without trailers.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// Appends the status line; a status without a name of its own has an empty reason, as uvicorn sends it.
/// RFC 9112 §2.3: our version is 1.1 also in the answer to an HTTP/1.0 request.
pub fn status_line(out: &mut Vec<u8>, status: u16) {
    if let Some(line) = known_status_line(status) {
        out.extend_from_slice(line.as_bytes());
        return;
    }
    debug_assert!((100..1000).contains(&status), "status {status} was not checked");
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(itoa::Buffer::new().format(status).as_bytes());
    out.extend_from_slice(b" \r\n");
}

/// The reason phrase of a status, empty where it has no name of its own.
#[must_use]
pub fn reason(status: u16) -> &'static str {
    // After "HTTP/1.1 200 " and before CRLF.
    known_status_line(status).map_or("", |line| &line[13..line.len() - 2])
}

/// Whether a handler may answer with this status: three digits, and a final one. 1xx are ours to send.
#[must_use]
pub fn is_final_status(status: u16) -> bool {
    (200..1000).contains(&status)
}

/// Whether an answer of this status has a body at all (RFC 9112 §6.3). HEAD is the caller's to know.
#[must_use]
pub fn may_have_body(status: u16) -> bool {
    status >= 200 && status != 204 && status != 304
}

/// Appends the line before the data of a chunk; the data and CRLF must follow. `bytes` is not 0: that would end the body.
pub fn chunk_head(out: &mut Vec<u8>, bytes: usize) {
    debug_assert_ne!(bytes, 0, "a chunk of no bytes ends the body");
    let digits = (usize::BITS - bytes.leading_zeros()).div_ceil(4).max(1);
    for place in (0..digits).rev() {
        out.push(b"0123456789abcdef"[bytes >> (4 * place) & 15]);
    }
    out.extend_from_slice(b"\r\n");
}

/// RFC 9110 §5.1: whether this is a token, as header names must be.
#[must_use]
pub fn is_header_name(name: &[u8]) -> bool {
    !name.is_empty() && name.iter().all(|&byte| grammar::is_token(byte))
}

/// RFC 9110 §5.5: whether no control byte but HTAB is in it. With CR or LF the author of the value could write further
/// headers, or a whole answer.
#[must_use]
pub fn is_header_value(value: &[u8]) -> bool {
    // PERF: no early end, so that the compiler looks at 16 bytes at a time.
    value.iter().fold(true, |is_clean, &byte| is_clean & (((byte >= 0x20) & (byte != 0x7f)) | (byte == b'\t')))
}
