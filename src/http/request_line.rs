//! The first line of a request: `method SP target SP version`, and which part of the target is what.
//! Percent-decoding is in `target`.

use memchr::memchr;

use super::ranges::{Head, Method, Span, TargetForm};
use super::{grammar, host};
use crate::error::BadRequest;

/// Bytes of the longest method. RFC 9110's longest is 7, the registry's (UPDATEREDIRECTREF) 17.
const METHOD_BYTES_MAX: usize = 32;

/// Reads the line at `span` of `bytes` (without its CRLF) into the head.
///
/// # Errors
/// What is wrong with the line. A version that we do not speak, 505, comes before CONNECT and the target's form, and behind a
/// byte that no target has.
pub(super) fn parse(bytes: &[u8], span: Span, head: &mut Head) -> Result<(), BadRequest> {
    let (start, line) = (span.start as usize, span.of(bytes));
    let method_end = method_end(line)?;
    let rest = &line[method_end + 1..];
    // RFC 9112 §3: exactly one space on either side of the target. There is none inside it, so the last one parts it off.
    let target_length = rest.iter().position(|&byte| !grammar::is_target(byte)).unwrap_or(rest.len());
    head.minor_version = match rest.get(target_length) {
        Some(b' ') if target_length > 0 => minor_version(&rest[target_length + 1..])?,
        Some(b' ') | None => return Err(BadRequest::InvalidRequestLine),
        Some(&byte) => return Err(BadRequest::InvalidTarget { byte }),
    };
    head.method = method(line, start, method_end)?;
    head.target = Span::new(start + method_end + 1, start + method_end + 1 + target_length);
    split_target(bytes, head)
}

/// Where the method ends: at the first space.
fn method_end(line: &[u8]) -> Result<usize, BadRequest> {
    match line.iter().position(|&byte| !grammar::is_token(byte)) {
        Some(end) if line[end] == b' ' && (1..=METHOD_BYTES_MAX).contains(&end) => Ok(end),
        Some(_) => Err(BadRequest::InvalidMethod),
        None => Err(BadRequest::InvalidRequestLine),
    }
}

fn method(line: &[u8], start: usize, end: usize) -> Result<Method, BadRequest> {
    Ok(match &line[..end] {
        b"GET" => Method::Get,
        b"HEAD" => Method::Head,
        b"POST" => Method::Post,
        b"PUT" => Method::Put,
        b"PATCH" => Method::Patch,
        b"DELETE" => Method::Delete,
        b"OPTIONS" => Method::Options,
        b"TRACE" => Method::Trace,
        b"CONNECT" => return Err(BadRequest::ConnectMethod),
        _ => Method::Other(Span::new(start, start + end)),
    })
}

/// RFC 9112 §2.3: `HTTP/` in capitals, one digit, a dot, one digit.
fn minor_version(version: &[u8]) -> Result<u8, BadRequest> {
    match version {
        b"HTTP/1.1" => Ok(1),
        b"HTTP/1.0" => Ok(0),
        // RFC 9110 §2.5: a minor version higher than ours SHOULD be read as the highest that we speak.
        [b'H', b'T', b'T', b'P', b'/', b'1', b'.', b'2'..=b'9'] => Ok(1),
        [b'H', b'T', b'T', b'P', b'/', b'0'..=b'9', b'.', b'0'..=b'9'] => Err(BadRequest::UnsupportedVersion),
        _ => Err(BadRequest::InvalidVersion),
    }
}

/// Finds path, query and authority in the target, by its form (RFC 9112 §3.2).
fn split_target(bytes: &[u8], head: &mut Head) -> Result<(), BadRequest> {
    let target = head.target.of(bytes);
    let (start, end) = (head.target.start as usize, head.target.end as usize);
    let path_start = match target {
        [b'/', ..] => start,
        b"*" if head.method == Method::Options => {
            head.target_form = TargetForm::Asterisk;
            start
        }
        _ => {
            let authority_start = start + scheme_length(target).ok_or(BadRequest::InvalidTargetForm)?;
            let after_scheme = &bytes[authority_start..end];
            let authority_length =
                after_scheme.iter().position(|byte| matches!(byte, b'/' | b'?')).unwrap_or(after_scheme.len());
            let authority = Span::new(authority_start, authority_start + authority_length);
            if !host::is_valid(authority.of(bytes)) {
                return Err(BadRequest::InvalidHost);
            }
            head.host = Some(authority);
            head.target_form = TargetForm::Absolute;
            authority.end as usize
        }
    };
    let query_mark = memchr(b'?', &bytes[path_start..end]).map(|at| path_start + at);
    let path_end = query_mark.unwrap_or(end);
    head.query = query_mark.map_or(Span::new(end, end), |mark| Span::new(mark + 1, end));
    head.path = if path_start < path_end {
        Span::new(path_start, path_end)
    } else {
        // RFC 9110 §4.2.3: an empty path is `/`. The one before the authority will do.
        let slash = start + target.iter().position(|&byte| byte == b'/').unwrap_or(0);
        Span::new(slash, slash + 1)
    };
    Ok(())
}

/// Bytes of `http://` or `https://` at the start; RFC 9110 §4.2: schemes are case-insensitive.
fn scheme_length(target: &[u8]) -> Option<usize> {
    let has = |scheme: &[u8]| target.len() >= scheme.len() && target[..scheme.len()].eq_ignore_ascii_case(scheme);
    match () {
        () if has(b"http://") => Some(7),
        () if has(b"https://") => Some(8),
        () => None,
    }
}
