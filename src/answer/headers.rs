//! Header lines of an answer: checked once, and encoded. Which of them frame the body, and what `Connection` says, is not decided here.

use std::fmt;
use std::ops::Range;

use crate::http::encode;

/// Header lines, checked and encoded. Made once where they are always the same.
#[derive(Clone, Debug, Default)]
pub struct Headers {
    pub(super) lines: Vec<u8>,
    pub(super) content_length: Option<u64>,
    /// Where its line stands in `lines`: some answers must go without it.
    length_line: Range<usize>,
    pub(super) closes: bool,
    pub(super) has_date: bool,
    pub(super) has_server: bool,
    is_event_stream: bool,
}

/// A header that must not go on the wire. Raised in the handler; nothing is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HeaderError {
    /// Empty, or with a byte that no token has (RFC 9110 §5.1).
    Name(Vec<u8>),
    /// With a control byte: with CR or LF the author of the value could write further headers (RFC 9110 §5.5).
    Value(Vec<u8>),
    /// `Content-Length` is no number, or two of them differ.
    ContentLength(Vec<u8>),
    /// A coding other than `chunked`, which cannot be undone here and must not be forgotten (RFC 9112 §6.1).
    TransferEncoding(Vec<u8>),
}

/// What a message shows of a name or value: enough to find it by, as the whole may be a mebibyte that a peer chose.
const SEEN_BYTES_MAX: usize = 100;

/// Bytes as a message shows them: escaped, in quotes, and not without end.
struct Seen<'a>(&'a [u8]);

impl fmt::Display for Seen<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = &self.0[..self.0.len().min(SEEN_BYTES_MAX)];
        write!(f, "\"{}\"", shown.escape_ascii())?;
        if shown.len() < self.0.len() {
            write!(f, " and {} bytes more", self.0.len() - shown.len())?;
        }
        Ok(())
    }
}

impl fmt::Display for HeaderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => {
                write!(f, "header name {} is not a token, allowed are letters, digits and token marks", Seen(name))
            }
            Self::Value(value) => write!(f, "header value {} has a control byte, only tab is allowed", Seen(value)),
            Self::ContentLength(value) => {
                write!(f, "content-length {} is not one number in decimal digits", Seen(value))
            }
            Self::TransferEncoding(value) => {
                write!(f, "transfer-encoding {} is not chunked; leave it out, the server frames the body", Seen(value))
            }
        }
    }
}

impl std::error::Error for HeaderError {}

impl Headers {
    /// Appends a line. `Transfer-Encoding: chunked`, `Keep-Alive`, and `close` and `keep-alive` of `Connection` are left out:
    /// framing and persistence are decided here.
    ///
    /// # Errors
    /// When the line would break the message; nothing is appended then.
    pub fn push(&mut self, name: &[u8], value: &[u8]) -> Result<(), HeaderError> {
        if !encode::is_header_name(name) {
            return Err(HeaderError::Name(name.to_vec()));
        }
        if !encode::is_header_value(value) {
            return Err(HeaderError::Value(value.to_vec()));
        }
        match name.len() {
            14 if name.eq_ignore_ascii_case(b"content-length") => {
                return self.push_content_length(name, value);
            }
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => {
                let is_chunked = value.trim_ascii().eq_ignore_ascii_case(b"chunked");
                return if is_chunked { Ok(()) } else { Err(HeaderError::TransferEncoding(value.to_vec())) };
            }
            10 if name.eq_ignore_ascii_case(b"connection") => {
                self.push_connection(name, value);
                return Ok(());
            }
            // A promise about the connection, which is not the handler's to give.
            10 if name.eq_ignore_ascii_case(b"keep-alive") => return Ok(()),
            12 if name.eq_ignore_ascii_case(b"content-type") => {
                let essence = value.split(|octet| *octet == b';').next().unwrap_or_default();
                self.is_event_stream = essence.trim_ascii().eq_ignore_ascii_case(b"text/event-stream");
            }
            4 if name.eq_ignore_ascii_case(b"date") => self.has_date = true,
            6 if name.eq_ignore_ascii_case(b"server") => self.has_server = true,
            _ => {}
        }
        write_header(name, value, &mut self.lines);
        Ok(())
    }

    /// Whether the body is a stream of server-sent events, which has no end of its own (WHATWG HTML §9.2).
    #[must_use]
    pub const fn is_event_stream(&self) -> bool {
        self.is_event_stream
    }

    fn push_content_length(&mut self, name: &[u8], value: &[u8]) -> Result<(), HeaderError> {
        let digits = std::str::from_utf8(value).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
        let length: Option<u64> = digits.and_then(|digits| digits.parse().ok());
        match (length, self.content_length) {
            (Some(length), None) => {
                self.content_length = Some(length);
                let start = self.lines.len();
                write_header(name, value, &mut self.lines);
                self.length_line = start..self.lines.len();
                Ok(())
            }
            // RFC 9110 §8.6: said twice it may be taken for a list, which is no length.
            (Some(length), Some(said)) if length == said => Ok(()),
            _ => Err(HeaderError::ContentLength(value.to_vec())),
        }
    }

    /// What else `Connection` names stays, as `upgrade` must beside an `Upgrade` (RFC 9110 §7.8).
    fn push_connection(&mut self, name: &[u8], value: &[u8]) {
        let is = |token: &[u8], word: &[u8]| token.eq_ignore_ascii_case(word);
        let tokens = || value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii).filter(|token| !token.is_empty());
        self.closes |= tokens().any(|token| is(token, b"close"));
        let others: Vec<_> = tokens().filter(|token| !is(token, b"close") && !is(token, b"keep-alive")).collect();
        if !others.is_empty() {
            write_header(name, &others.join(&b", "[..]), &mut self.lines);
        }
    }

    /// Appends all lines.
    pub(super) fn write(&self, out: &mut Vec<u8>, without_length: bool) {
        if without_length {
            out.extend_from_slice(&self.lines[..self.length_line.start]);
            out.extend_from_slice(&self.lines[self.length_line.end..]);
        } else {
            out.extend_from_slice(&self.lines);
        }
    }

    /// Forgets all lines and keeps the memory.
    pub fn clear(&mut self) {
        let mut lines = std::mem::take(&mut self.lines);
        lines.clear();
        *self = Self { lines, ..Self::default() };
    }

    /// The values of all lines of this name, in order. With [`Self::remove`] and [`Self::push`] it is what a layer around a handler
    /// changes an answer by, before it is encoded.
    pub fn values<'a>(&'a self, name: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
        lines(&self.lines).filter(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// Takes all lines of this name away, and what they meant.
    ///
    /// # Panics
    /// Never: what stays was checked when it was pushed.
    pub fn remove(&mut self, name: &[u8]) {
        let closes = self.closes && !name.eq_ignore_ascii_case(b"connection");
        let before = std::mem::replace(self, Self { closes, ..Self::default() });
        for (known, value) in lines(&before.lines).filter(|(known, _)| !known.eq_ignore_ascii_case(name)) {
            self.push(known, value).expect("what stays was checked when it was pushed");
        }
    }

    /// The values of all lines whose name is spelt exactly so, in order and with the white space that they were pushed with.
    pub fn values_of<'a>(&'a self, name: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
        lines(&self.lines).filter(move |(known, _)| *known == name).map(|(_, value)| value)
    }

    /// Gives this value to the first line whose name is spelt exactly so and takes any further ones away, or appends a line: what
    /// Starlette's `headers[name] = value` does.
    ///
    /// # Errors
    /// When the line would break the message; some lines may be missing then.
    pub fn set(&mut self, name: &[u8], value: &[u8]) -> Result<(), HeaderError> {
        if self.values_of(name).next().is_none() {
            return self.push(name, value);
        }
        let before = std::mem::replace(self, Self { closes: self.closes, ..Self::default() });
        self.lines.reserve(before.lines.len() + value.len());
        let mut is_set = false;
        for (known, known_value) in lines(&before.lines) {
            if known != name {
                self.push(known, known_value)?;
            } else if !std::mem::replace(&mut is_set, true) {
                self.push(name, value)?;
            }
        }
        Ok(())
    }

    /// Names and values of all lines, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        lines(&self.lines)
    }

    /// What `Content-Length` says, if there is one.
    #[must_use]
    pub fn content_length(&self) -> Option<u64> {
        self.content_length
    }
}

/// Names and values of encoded lines.
fn lines(encoded: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    encoded.split(|&byte| byte == b'\n').filter_map(|line| {
        let colon = line.iter().position(|&byte| byte == b':')?;
        // As `write_header` writes them: one space before the value, CR behind it.
        Some((&line[..colon], &line[colon + 2..line.len() - 1]))
    })
}

/// Whether one of these header lines has this name.
pub(super) fn has_line(lines: &[u8], name: &[u8]) -> bool {
    lines.split(|&byte| byte == b'\n').any(|line| {
        line.get(name.len()) == Some(&b':')
            && line.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name))
    })
}

/// Appends one line.
pub(super) fn write_header(name: &[u8], value: &[u8], out: &mut Vec<u8>) {
    out.reserve(name.len() + value.len() + 4);
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}
