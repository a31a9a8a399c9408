//! What a target means: percent-decoding of path and query, as Python's `urllib.parse` does it.
//! Where path and query stand is in `request_line`; which route it is, in `router`.

use std::borrow::Cow;

use memchr::{memchr, memchr2};

use super::grammar;

/// What percent-decoding made of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathText {
    /// Every escape was whole, and the bytes are UTF-8.
    Exact,
    /// An escape that is none stays as it is, bytes that are not UTF-8 become U+FFFD: what uvicorn hands to an app.
    Mended,
}

/// Writes the decoded path over `out`, as `urllib.parse.unquote(raw)`: `%2F` becomes `/`, and `+` stays.
/// What is written is UTF-8 always.
pub fn percent_decode_path(raw: &[u8], out: &mut Vec<u8>) -> PathText {
    out.clear();
    // PERF: most paths have no escape. A target is ASCII; this does not rest on it.
    if memchr(b'%', raw).is_none() && raw.is_ascii() {
        out.extend_from_slice(raw);
        return PathText::Exact;
    }
    let escapes_are_whole = unquote(raw, Plus::Stays, out);
    match String::from_utf8_lossy(out) {
        Cow::Borrowed(_) if escapes_are_whole => PathText::Exact,
        Cow::Borrowed(_) => PathText::Mended,
        Cow::Owned(mended) => {
            *out = mended.into_bytes();
            PathText::Mended
        }
    }
}

/// The pairs of a query string, as `urllib.parse.parse_qsl(raw, keep_blank_values=True)`. Borrows what needs no decoding.
pub fn query_pairs(raw: &[u8]) -> QueryPairs<'_> {
    QueryPairs { rest: Some(raw) }
}

/// Iterator of `query_pairs`.
#[derive(Clone, Debug)]
pub struct QueryPairs<'q> {
    rest: Option<&'q [u8]>,
}

impl<'q> Iterator for QueryPairs<'q> {
    type Item = (Cow<'q, str>, Cow<'q, str>);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let rest = self.rest?;
            let (pair, rest) = match memchr(b'&', rest) {
                Some(at) => (&rest[..at], Some(&rest[at + 1..])),
                None => (rest, None),
            };
            self.rest = rest;
            if pair.is_empty() {
                continue;
            }
            let (name, value) = match memchr(b'=', pair) {
                Some(at) => (&pair[..at], &pair[at + 1..]),
                None => (pair, &pair[pair.len()..]),
            };
            return Some((unquote_plus(name), unquote_plus(value)));
        }
    }
}

/// The text of one name or value, as `urllib.parse.unquote_plus(raw)`.
pub fn unquote_plus(raw: &[u8]) -> Cow<'_, str> {
    if memchr2(b'%', b'+', raw).is_none() {
        return String::from_utf8_lossy(raw);
    }
    let mut out = Vec::with_capacity(raw.len());
    unquote(raw, Plus::IsSpace, &mut out);
    Cow::Owned(match String::from_utf8(out) {
        Ok(text) => text,
        Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
    })
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Plus {
    Stays,
    IsSpace,
}

/// Appends the bytes that the escapes stand for. Returns whether every `%` began one; one that did not stays, as in Python.
fn unquote(raw: &[u8], plus: Plus, out: &mut Vec<u8>) -> bool {
    let mut escapes_are_whole = true;
    let mut at = 0;
    while let Some(&byte) = raw.get(at) {
        let escaped = match (byte, raw.get(at + 1), raw.get(at + 2)) {
            (b'%', Some(&high), Some(&low)) => grammar::hex_digit(high).zip(grammar::hex_digit(low)),
            _ => None,
        };
        if let Some((high, low)) = escaped {
            out.push(high << 4 | low);
            at += 3;
            continue;
        }
        escapes_are_whole &= byte != b'%';
        out.push(if byte == b'+' && plus == Plus::IsSpace { b' ' } else { byte });
        at += 1;
    }
    escapes_are_whole
}
