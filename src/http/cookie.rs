//! The Cookie header, read as `starlette.requests.cookie_parser` reads it. Setting cookies is the framework's.

use std::borrow::Cow;

use memchr::memchr;

/// The cookies of one Cookie header, in order. As in a Python dict, a later one of the same name replaces an earlier:
/// that is left to the caller.
pub fn cookies(value: &[u8]) -> Cookies<'_> {
    Cookies { rest: Some(value) }
}

/// Iterator of `cookies`.
#[derive(Clone, Debug)]
pub struct Cookies<'c> {
    rest: Option<&'c [u8]>,
}

impl<'c> Iterator for Cookies<'c> {
    type Item = (Cow<'c, str>, Cow<'c, str>);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let rest = self.rest?;
            let (part, rest) = match memchr(b';', rest) {
                Some(at) => (&rest[..at], Some(&rest[at + 1..])),
                None => (rest, None),
            };
            self.rest = rest;
            // A part without `=` is the value of a cookie with an empty name, as in browsers.
            let (name, value) = match memchr(b'=', part) {
                Some(at) => (&part[..at], &part[at + 1..]),
                None => (&part[..0], part),
            };
            let (name, value) = (strip(name), strip(value));
            if !name.is_empty() || !value.is_empty() {
                return Some((latin_1(name), unquote(value)));
            }
        }
    }
}

/// Python's `str.strip()` of a text that was decoded as latin-1.
fn strip(mut text: &[u8]) -> &[u8] {
    while let [b'\t'..=b'\r' | 0x1c..=b' ' | 0x85 | 0xa0, rest @ ..]
    | [rest @ .., b'\t'..=b'\r' | 0x1c..=b' ' | 0x85 | 0xa0] = text
    {
        text = rest;
    }
    text
}

/// ASGI's headers are bytes, and Starlette reads them as latin-1.
fn latin_1(text: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(text) {
        Ok(ascii) if text.is_ascii() => Cow::Borrowed(ascii),
        _ => Cow::Owned(text.iter().copied().map(char::from).collect()),
    }
}

/// Python's `http.cookies._unquote`: within quotes, `\ooo` is an octal number and `\x` is x.
fn unquote(value: &[u8]) -> Cow<'_, str> {
    let [b'"', inner @ .., b'"'] = value else { return latin_1(value) };
    if memchr(b'\\', inner).is_none() {
        return latin_1(inner);
    }
    let mut text = String::with_capacity(inner.len());
    let mut rest = inner;
    while let [byte, after @ ..] = rest {
        rest = match rest {
            [b'\\', high @ b'0'..=b'3', middle @ b'0'..=b'7', low @ b'0'..=b'7', after @ ..] => {
                text.push(char::from((high - b'0') << 6 | (middle - b'0') << 3 | (low - b'0')));
                after
            }
            // `.` of Python's pattern is any character but a line feed.
            [b'\\', escaped, after @ ..] if *escaped != b'\n' => {
                text.push(char::from(*escaped));
                after
            }
            _ => {
                text.push(char::from(*byte));
                after
            }
        };
    }
    Cow::Owned(text)
}
