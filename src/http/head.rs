//! The head of a request: from bytes to a `Head` of ranges into them.
//!
//! The request line is in `request_line`, what the body's length rests on in `framing`, Connection in `persistence`.
//! httparse reads the header lines; what it is lenient about (a line that ends in LF alone) is refused here before.

use memchr::memchr;

use super::framing::{Framing, FramingFields};
use super::persistence::ConnectionTokens;
use super::{grammar, host, request_line};
use crate::error::{BadRequest, Parsed};
use crate::limits::Limits;

/// A range in the bytes of a head.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// The first byte.
    pub start: u32,
    /// One past the last.
    pub end: u32,
}

impl Span {
    /// The range from `start` to `end`. Both fit: a head is at most `limits.head_bytes_max`, which is a MiB at most.
    pub(super) fn new(start: usize, end: usize) -> Self {
        Self { start: start as u32, end: end as u32 }
    }

    /// The bytes of this range; `bytes` begins where the parsed head began.
    #[must_use]
    pub fn of<'b>(&self, bytes: &'b [u8]) -> &'b [u8] {
        &bytes[self.start as usize..self.end as usize]
    }

    /// How many bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        (self.end - self.start) as usize
    }

    /// Whether it has no byte.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }
}

/// One header line. The name as it was written; the value without white space around it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// 1 or more token bytes.
    pub name: Span,
    /// No control bytes but tabs; bytes over 0x7f are possible.
    pub value: Span,
}

/// What the request asks to be done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Method {
    #[default]
    Get,
    Head,
    Post,
    Put,
    Patch,
    Delete,
    Options,
    Trace,
    /// Any other token of up to 32 bytes, `get` among them: methods are case-sensitive (RFC 9110 §9.1). Never CONNECT.
    Other(Span),
}

impl Method {
    /// The method as it was written; `bytes` begins where the parsed head began.
    #[must_use]
    pub fn name<'b>(&self, bytes: &'b [u8]) -> &'b [u8] {
        match self {
            Self::Get => b"GET",
            Self::Head => b"HEAD",
            Self::Post => b"POST",
            Self::Put => b"PUT",
            Self::Patch => b"PATCH",
            Self::Delete => b"DELETE",
            Self::Options => b"OPTIONS",
            Self::Trace => b"TRACE",
            Self::Other(span) => span.of(bytes),
        }
    }
}

/// How the target was written (RFC 9112 §3.2). There is no authority form here: CONNECT is refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TargetForm {
    /// `/path?query`
    #[default]
    Origin,
    /// `http://host/path?query`
    Absolute,
    /// `*`, the server as a whole; OPTIONS only.
    Asterisk,
}

/// A parsed head: ranges, never borrows, so that the buffer may grow and move. Reused from request to request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// What is to be done.
    pub method: Method,
    /// The whole target as it was written.
    pub target: Span,
    /// How the target was written.
    pub target_form: TargetForm,
    /// The path, still percent-encoded. Never empty: for `http://host` it reads `/`, for `OPTIONS *` it reads `*`.
    pub path: Span,
    /// What follows the first `?`, empty if there is none.
    pub query: Span,
    /// 0 or 1, after `HTTP/1.`.
    pub minor_version: u8,
    /// All header lines, in order.
    pub headers: Vec<Header>,
    /// The authority that the request is for; `None` only in HTTP/1.0. Grammar checked.
    pub host: Option<Span>,
    /// What body follows.
    pub framing: Framing,
    /// Whether the peer lets the connection stay after this request; `response` has the last word.
    pub keeps_alive: bool,
    /// Whether the peer waits for `100 Continue` before it sends a body. Never without a body, never in HTTP/1.0.
    pub expects_continue: bool,
    /// The value of Upgrade, where Connection names it too and the version is 1.1.
    pub upgrade: Option<Span>,
    /// Bytes of the head, an empty line before it and the CRLF that ends it included.
    pub length: u32,
}

impl Head {
    /// Empties it and keeps the memory.
    pub fn clear(&mut self) {
        let mut headers = std::mem::take(&mut self.headers);
        headers.clear();
        *self = Self { headers, ..Self::default() };
    }

    /// The values of all headers of this name, in order. `name` is lower case.
    pub fn values<'b>(&self, bytes: &'b [u8], name: &[u8]) -> impl Iterator<Item = &'b [u8]> {
        self.headers
            .iter()
            .filter(move |header| header.name.len() == name.len() && header.name.of(bytes).eq_ignore_ascii_case(name))
            .map(|header| header.value.of(bytes))
    }

    /// The value of the first header of this name. `name` is lower case.
    #[must_use]
    pub fn value<'b>(&self, bytes: &'b [u8], name: &[u8]) -> Option<&'b [u8]> {
        self.values(bytes, name).next()
    }
}

/// How far the search for the end of a head has come, so that a head that comes byte by byte costs no more than a whole one.
/// One for each connection; start each head with a fresh one.
#[derive(Clone, Copy, Debug, Default)]
pub struct Scan {
    /// INVARIANT: no LF in `line_start..searched`.
    searched: u32,
    line_start: u32,
    /// Whole lines that are not empty.
    lines_count: u32,
    request_line: Span,
    has_leading_empty_line: bool,
}

/// Looks for a whole head at the start of `bytes` and, when it is there, fills `head`.
///
/// After `NeedMore`, call again with the same `scan`, the same bytes and more behind them; `head` then holds nothing of use
/// and may serve another connection in between. A request line that is wrong is refused when it ends, not when the head
/// ends. The answer does not depend on how the bytes were cut.
///
/// # Errors
/// What the peer did wrong. Of several things: what is wrong with the request line; then, by line, an end in LF or a limit that
/// is passed; then the form of the header lines; and last what they say.
pub fn parse(bytes: &[u8], scan: &mut Scan, limits: &Limits, head: &mut Head) -> Result<Parsed<()>, BadRequest> {
    // What follows the head is not looked at, however much there is.
    let window = &bytes[..bytes.len().min(limits.head_bytes_max + 1)];
    // PERF: GET with 6 headers, release, one run: 160 ns, and 270 by lines alone; httparse takes 95 of either (benches/micro,
    // group head).
    if scan.searched == 0 && parse_at_once(window, limits, head) == Some(()) {
        return Ok(Parsed::Complete(()));
    }
    parse_by_lines(window, scan, limits, head)
}

/// Whether a head of which this has come asks for HEAD, right or wrong otherwise: its refusal has no body either (RFC 9110
/// §9.3.2). Nothing is refused for what is behind the method before that is known.
#[must_use]
pub fn asks_for_head(bytes: &[u8]) -> bool {
    bytes.strip_prefix(b"\r\n").unwrap_or(bytes).starts_with(b"HEAD ")
}

/// The common case: a whole head, nothing wrong with it, at most 32 headers. `None` is anything else, and `parse_by_lines`
/// says what; it would have filled `head` in the same way.
fn parse_at_once(window: &[u8], limits: &Limits, head: &mut Head) -> Option<()> {
    head.clear();
    let line_end = memchr(b'\n', window)?;
    if line_end == 0 || window[line_end - 1] != b'\r' || line_end > limits.request_line_bytes_max {
        return None;
    }
    request_line::parse(window, Span::new(0, line_end - 1), head).ok()?;
    let section = &window[line_end + 1..];
    let mut slots = [httparse::EMPTY_HEADER; 32];
    let Ok(httparse::Status::Complete((length, parsed))) = httparse::parse_headers(section, &mut slots) else {
        return None;
    };
    let section = &section[..length];
    let head_bytes = &window[..line_end + 1 + length];
    // httparse ends a line at LF alone too. It takes no CR into a name or value, so one that stands before each line's LF
    // shows that all of them are CRLF.
    let base = section.as_ptr() as usize;
    let are_all_crlf = parsed.iter().skip(1).all(|header| section[header.name.as_ptr() as usize - base - 2] == b'\r')
        && (section == b"\r\n" || section.ends_with(b"\r\n\r\n"));
    if !are_all_crlf || head_bytes.len() > limits.head_bytes_max || parsed.len() > limits.header_count_max {
        return None;
    }
    head.length = head_bytes.len() as u32;
    take_headers(head_bytes, parsed, head).ok()
}

/// Any head, however it comes: line by line, each looked at once.
fn parse_by_lines(window: &[u8], scan: &mut Scan, limits: &Limits, head: &mut Head) -> Result<Parsed<()>, BadRequest> {
    head.clear();
    check_first_byte(window)?;
    while let Some(found) = memchr(b'\n', &window[scan.searched as usize..]) {
        let (line_start, line_end) = (scan.line_start as usize, scan.searched as usize + found + 1);
        if scan.lines_count == 0 && line_end - line_start > limits.request_line_bytes_max + 2 {
            return Err(BadRequest::RequestLineTooLong { limit: limits.request_line_bytes_max });
        }
        if line_end > limits.head_bytes_max {
            return Err(BadRequest::HeadTooLarge { limit: limits.head_bytes_max });
        }
        // RFC 9112 §2.2: a recipient MAY take LF alone for a line's end. Half of the proxies do and half do not, so we do not.
        let Some(line) = window[line_start..line_end].strip_suffix(b"\r\n") else {
            return Err(BadRequest::BareLineFeed);
        };
        scan.searched = line_end as u32;
        scan.line_start = line_end as u32;
        match (scan.lines_count, line.is_empty()) {
            // RFC 9112 §2.2: a server SHOULD ignore at least one empty line before the request line.
            (0, true) if scan.has_leading_empty_line => return Err(BadRequest::EmptyRequestLine),
            (0, true) => scan.has_leading_empty_line = true,
            (0, false) => {
                scan.request_line = Span::new(line_start, line_end - 2);
                scan.lines_count = 1;
                request_line::parse(window, scan.request_line, head)?;
            }
            (_, true) => {
                // Once more: `head` may have been another connection's in between.
                head.clear();
                request_line::parse(window, scan.request_line, head)?;
                head.length = line_end as u32;
                return parse_headers(&window[..line_end], scan, head).map(Parsed::Complete);
            }
            (count, false) if count as usize > limits.header_count_max => {
                return Err(BadRequest::TooManyHeaders { limit: limits.header_count_max });
            }
            (_, false) => scan.lines_count += 1,
        }
    }
    scan.searched = window.len() as u32;
    if scan.lines_count == 0 && window.len() - scan.line_start as usize > limits.request_line_bytes_max + 1 {
        return Err(BadRequest::RequestLineTooLong { limit: limits.request_line_bytes_max });
    }
    if window.len() > limits.head_bytes_max {
        return Err(BadRequest::HeadTooLarge { limit: limits.head_bytes_max });
    }
    Ok(Parsed::NeedMore)
}

/// A TLS hello, or other things that are no HTTP, may never have an LF: they are told at once, not after the time-out.
fn check_first_byte(bytes: &[u8]) -> Result<(), BadRequest> {
    match bytes.first() {
        Some(b'\n') => Err(BadRequest::BareLineFeed),
        Some(&byte) if byte != b'\r' && !grammar::is_token(byte) => Err(BadRequest::InvalidMethod),
        _ => Ok(()),
    }
}

/// Reads the header lines of a whole head whose lines all end in CRLF.
fn parse_headers(bytes: &[u8], scan: &Scan, head: &mut Head) -> Result<(), BadRequest> {
    let section = &bytes[scan.request_line.end as usize + 2..];
    // An allocation, and only here: a head that came in pieces has paid more than that already.
    let mut slots = vec![httparse::EMPTY_HEADER; scan.lines_count as usize - 1];
    match httparse::parse_headers(section, &mut slots) {
        Ok(httparse::Status::Complete((length, parsed))) if length == section.len() => {
            take_headers(bytes, parsed, head)
        }
        // Also where httparse would see another end than we: never seen, and no request to trust.
        _ => Err(explain(section)),
    }
}

/// Turns httparse's borrows into ranges of `bytes`, and looks at those headers that are ours.
fn take_headers(bytes: &[u8], parsed: &[httparse::Header<'_>], head: &mut Head) -> Result<(), BadRequest> {
    let base = bytes.as_ptr() as usize;
    let span = |part: &[u8]| {
        let start = part.as_ptr() as usize - base;
        Span::new(start, start + part.len())
    };
    let mut known = KnownHeaders::default();
    head.headers.reserve(parsed.len());
    for header in parsed {
        let (name, value) = (header.name.as_bytes(), span(header.value));
        head.headers.push(Header { name: span(name), value });
        known.take(name, header.value, value)?;
    }
    known.settle(bytes, head)
}

/// The headers that decide how the connection goes on; all others are the handler's.
#[derive(Default)]
struct KnownHeaders {
    host: Option<Span>,
    framing: FramingFields,
    connection: ConnectionTokens,
    upgrade: Option<Span>,
    expectation: Expectation,
}

#[derive(Clone, Copy, Default)]
enum Expectation {
    #[default]
    None,
    Continue,
    Unknown,
}

impl KnownHeaders {
    // PERF: most names are told apart by their length alone.
    #[inline]
    fn take(&mut self, name: &[u8], value: &[u8], value_span: Span) -> Result<(), BadRequest> {
        match name.len() {
            4 if name.eq_ignore_ascii_case(b"host") => match self.host.replace(value_span) {
                None => {}
                Some(_) => return Err(BadRequest::DuplicateHost),
            },
            6 if name.eq_ignore_ascii_case(b"expect") => {
                self.expectation = match self.expectation {
                    Expectation::None if value.eq_ignore_ascii_case(b"100-continue") => Expectation::Continue,
                    _ => Expectation::Unknown,
                }
            }
            7 if name.eq_ignore_ascii_case(b"upgrade") => self.upgrade = Some(value_span),
            10 if name.eq_ignore_ascii_case(b"connection") => self.connection.add(value),
            14 if name.eq_ignore_ascii_case(b"content-length") => self.framing.add_content_length(value)?,
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => self.framing.add_transfer_encoding(value)?,
            _ => {}
        }
        Ok(())
    }

    /// What the headers say together.
    fn settle(self, bytes: &[u8], head: &mut Head) -> Result<(), BadRequest> {
        match self.host {
            Some(span) if !host::is_valid(span.of(bytes)) => return Err(BadRequest::InvalidHost),
            // RFC 9112 §3.2: an HTTP/1.1 request without Host is 400, also when the target names the authority.
            None if head.minor_version == 1 => return Err(BadRequest::MissingHost),
            _ => {}
        }
        // RFC 9112 §3.2.2: the authority of the target overrides Host. They must be the same (RFC 9110 §7.2), and a request
        // where they are not was written to be read differently by two servers.
        match (head.host, self.host) {
            (Some(authority), Some(header)) if !authority.of(bytes).eq_ignore_ascii_case(header.of(bytes)) => {
                return Err(BadRequest::HostMismatch);
            }
            (None, header) => head.host = header,
            _ => {}
        }
        head.framing = self.framing.decide(head.minor_version)?;
        head.keeps_alive = self.connection.keeps_alive(head.minor_version);
        // RFC 9110 §7.8 and §10.1.1: Upgrade and Expect in an HTTP/1.0 request are not looked at.
        if head.minor_version == 1 {
            if self.connection.has_upgrade {
                head.upgrade = self.upgrade;
            }
            match self.expectation {
                Expectation::None => {}
                Expectation::Continue => head.expects_continue = head.framing.has_body(),
                Expectation::Unknown => return Err(BadRequest::UnknownExpectation),
            }
        }
        Ok(())
    }
}

/// Why httparse refused these header lines: the first line that is wrong, read again slowly.
#[cold]
fn explain(section: &[u8]) -> BadRequest {
    for line in section.split(|&byte| byte == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() {
            continue;
        }
        if matches!(line[0], b' ' | b'\t') {
            return BadRequest::ObsoleteFold;
        }
        let Some(colon) = memchr(b':', line) else {
            return BadRequest::HeaderWithoutColon;
        };
        let (name, value) = (&line[..colon], &line[colon + 1..]);
        if let Some(&byte) = name.iter().find(|&&byte| !grammar::is_token(byte)) {
            return BadRequest::InvalidHeaderName { byte };
        }
        if name.is_empty() {
            return BadRequest::InvalidHeaderName { byte: b':' };
        }
        if let Some(&byte) = value.iter().find(|&&byte| !grammar::is_value(byte)) {
            return BadRequest::InvalidHeaderValue { byte };
        }
    }
    BadRequest::HeaderWithoutColon
}
