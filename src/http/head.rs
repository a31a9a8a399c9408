//! The head of a request: from bytes to a `Head` of ranges into them. What a head is stands in `ranges`.
//!
//! The request line is in `request_line`, what the body's length rests on in `framing`, Connection in `persistence`.
//! httparse reads the header lines; what it is lenient about (a line that ends in LF alone) is refused here before.

use memchr::memchr;

use super::framing::FramingFields;
use super::persistence::ConnectionTokens;
pub use super::ranges::{Head, Header, Method, Span, TargetForm};
use super::{grammar, host, request_line};
use crate::error::{BadRequest, Parsed};
use crate::limits::Limits;

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
