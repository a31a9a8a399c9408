//! Percent-decoding, query strings and cookies. The expected values are CPython 3.13's and Starlette 1.10's own answers.

use std::borrow::Cow;

use crate::http::cookie::cookies;
use crate::http::target::{PathText, percent_decode_path, query_pairs};

#[test]
fn paths() {
    let check = |raw: &[u8], expected: &str, kind: PathText| {
        let mut out = b"what was there before".to_vec();
        assert_eq!(percent_decode_path(raw, &mut out), kind, "{}", raw.escape_ascii());
        assert_eq!(std::str::from_utf8(&out), Ok(expected), "{}", raw.escape_ascii());
    };
    use PathText::{Exact, Mended};
    check(b"", "", Exact);
    check(b"/a+b", "/a+b", Exact);
    check(b"/%41%2f%2F%25", "/A//%", Exact);
    check(b"/a%20b%00%0d%0a", "/a b\0\r\n", Exact);
    check(b"/caf%C3%A9", "/caf\u{e9}", Exact);
    check(b"/%F0%9F%98%80", "/\u{1f600}", Exact);
    check(b"/%2541", "/%41", Exact); // once
    check(b"/%", "/%", Mended);
    check(b"/%4", "/%4", Mended);
    check(b"/%zz%4z%z4", "/%zz%4z%z4", Mended);
    check(b"/%%41", "/%A", Mended);
    check(b"/%E9", "/\u{fffd}", Mended);
    check(b"/%C0%AF", "/\u{fffd}\u{fffd}", Mended);
    check(b"/%E2%82x", "/\u{fffd}x", Mended); // one mark for what could have become one character
    check(b"/%F0%9F%98", "/\u{fffd}", Mended);
    check(b"/%ED%A0%80", "/\u{fffd}\u{fffd}\u{fffd}", Mended); // a lone surrogate
    check(b"/%F4%90%80%80", "/\u{fffd}\u{fffd}\u{fffd}\u{fffd}", Mended); // over U+10FFFF
    check(b"/\xff", "/\u{fffd}", Mended);
    for high in 0..=255_u8 {
        let expected = char::from(high).to_digit(16).map(|digit| u8::try_from(digit * 16 + 1).expect("two digits"));
        let raw = [b'%', high, b'1'];
        let mut out = Vec::new();
        percent_decode_path(&raw, &mut out);
        match expected {
            Some(byte) => assert_eq!(out, String::from_utf8_lossy(&[byte]).as_bytes()),
            None => assert_eq!(out, String::from_utf8_lossy(&raw).as_bytes()),
        }
    }
}

#[test]
fn queries() {
    let check = |raw: &str, expected: &[(&str, &str)]| {
        let pairs: Vec<_> = query_pairs(raw.as_bytes()).collect();
        let pairs: Vec<_> = pairs.iter().map(|(name, value)| (&**name, &**value)).collect();
        assert_eq!(pairs, expected, "{raw:?}");
    };
    check("", &[]);
    check("&", &[]);
    check("&&&", &[]);
    check("a", &[("a", "")]);
    check("a=", &[("a", "")]);
    check("=", &[("", "")]);
    check("=a", &[("", "a")]);
    check("a=b", &[("a", "b")]);
    check("a=b=c", &[("a", "b=c")]);
    check("a=1&a=2&&b", &[("a", "1"), ("a", "2"), ("b", "")]);
    check("a=1;b=2", &[("a", "1;b=2")]);
    check("a+b=c+d", &[("a b", "c d")]);
    check("a%2Bb=%26%3D&c", &[("a+b", "&="), ("c", "")]);
    check("%2B=%2b", &[("+", "+")]);
    check("a=%", &[("a", "%")]);
    check("a=%4&b=%zz+", &[("a", "%4"), ("b", "%zz ")]);
    check("a=%E9&b=%C3%A9", &[("a", "\u{fffd}"), ("b", "\u{e9}")]);
    check("a=%E2%82&%E2=x", &[("a", "\u{fffd}"), ("\u{fffd}", "x")]);
    check("a=%00", &[("a", "\0")]);
    check("?a=b", &[("?a", "b")]);
}

#[test]
fn what_needs_no_decoding_is_borrowed() {
    assert!(query_pairs(b"a=b").all(|pair| matches!(pair, (Cow::Borrowed("a"), Cow::Borrowed("b")))));
    assert!(cookies(b"a=\"b\"").all(|pair| matches!(pair, (Cow::Borrowed("a"), Cow::Borrowed("b")))));
}

#[test]
fn cookie_headers() {
    let check = |raw: &[u8], expected: &[(&str, &str)]| {
        let pairs: Vec<_> = cookies(raw).collect();
        let pairs: Vec<_> = pairs.iter().map(|(name, value)| (&**name, &**value)).collect();
        assert_eq!(pairs, expected, "{}", raw.escape_ascii());
    };
    check(b"", &[]);
    check(b" ; ;;\t", &[]);
    check(b"foo=bar", &[("foo", "bar")]);
    check(b"a=1; b=2;c=3", &[("a", "1"), ("b", "2"), ("c", "3")]);
    check(b"a=1; a=2", &[("a", "1"), ("a", "2")]);
    check(b"foo=", &[("foo", "")]);
    check(b"=foo", &[("", "foo")]);
    check(b"foo", &[("", "foo")]);
    check(b"=", &[]);
    check(b"===;;;", &[("", "==")]);
    check(b"a=hello world; b=x=y", &[("a", "hello world"), ("b", "x=y")]);
    check(b" a b = c d ", &[("a b", "c d")]);
    check(b"\xa0\x85\x1c\x0ba\x0c=\x1fb\xa0", &[("a", "b")]);
    check(b"a=caf\xc3\xa9", &[("a", "caf\u{c3}\u{a9}")]); // latin-1, as ASGI headers are read
    check(b"\xe9=\xff", &[("\u{e9}", "\u{ff}")]);
    check(b"a=\"b c\"", &[("a", "b c")]);
    check(b"a=\"", &[("a", "\"")]);
    check(b"a=\"\"", &[("a", "")]);
    check(b"=\"\"", &[("", "")]);
    check(b"a=\"b", &[("a", "\"b")]);
    check(b"a=b\"", &[("a", "b\"")]);
    check(b"a=b\\\"c", &[("a", "b\\\"c")]); // not in quotes
    check(b"a=\"b\\\"c\\\\d\"", &[("a", "b\"c\\d")]);
    check(b"a=\"\\073\\101\\377\"", &[("a", ";A\u{ff}")]);
    check(b"a=\"\\400\\08\\9\\12\"", &[("a", "40008912")]);
    check(b"a=\"b\\\"", &[("a", "b\\")]);
    check(b"a=\"\\\nb\"", &[("a", "\\\nb")]);
    check(b"a=\"b;c\"", &[("a", "\"b"), ("", "c\"")]); // a semicolon parts, also in quotes
    check(b"a=\"\xe9\\\xe9\"", &[("a", "\u{e9}\u{e9}")]);
}
