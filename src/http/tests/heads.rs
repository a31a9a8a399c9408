//! Request lines, header lines, Host, framing, keep-alive, limits.

use proptest::prelude::*;

use super::{Limits, parse, parse_with, whole};
use crate::error::BadRequest::{self, *};
use crate::error::Parsed;
use crate::http::framing::Framing;
use crate::http::head::{Head, Method, Span, TargetForm};

const HOST: &str = "Host: a\r\n";

/// The request line alone decides.
fn check_line(line: &[u8], expected: Result<(), BadRequest>) {
    let request = [line, b"\r\nHost: a\r\n\r\n"].concat();
    assert_eq!(parse(&request).map(|_| ()), expected, "{:?}", line.escape_ascii().to_string());
}

#[test]
fn request_lines() {
    check_line(b"GET / HTTP/1.1", Ok(()));
    check_line(b"GET / HTTP/1.0", Ok(()));
    check_line(b"get / HTTP/1.1", Ok(()));
    check_line(b"!#$%&'*+-.^_`|~09azAZ / HTTP/1.1", Ok(()));
    check_line(b"GET  / HTTP/1.1", Err(InvalidRequestLine));
    check_line(b"GET /  HTTP/1.1", Err(InvalidVersion));
    check_line(b"GET / HTTP/1.1 ", Err(InvalidVersion));
    check_line(b" GET / HTTP/1.1", Err(InvalidMethod));
    check_line(b"GET\t/ HTTP/1.1", Err(InvalidMethod));
    check_line(b"GET /\tHTTP/1.1", Err(InvalidTarget { byte: b'\t' }));
    check_line(b"GET /\rHTTP/1.1", Err(InvalidTarget { byte: b'\r' }));
    check_line(b"GET / HTTP/1.1\r", Err(InvalidVersion));
    check_line(b"GET / HTTP/1.1\rHost: a", Err(InvalidVersion));
    check_line(b"GET /pa th HTTP/1.1", Err(InvalidVersion));
    check_line(b"GET HTTP/1.1", Err(InvalidRequestLine));
    check_line(b"GET /", Err(InvalidRequestLine));
    check_line(b"GET ", Err(InvalidRequestLine));
    check_line(b"GET", Err(InvalidRequestLine));
    check_line(b"   ", Err(InvalidMethod));
    check_line(b"\x16\x03\x01", Err(InvalidMethod)); // TLS on a plain port
    check_line("M".repeat(32).as_bytes(), Err(InvalidRequestLine));
    check_line(format!("{} / HTTP/1.1", "M".repeat(32)).as_bytes(), Ok(()));
    check_line(format!("{} / HTTP/1.1", "M".repeat(33)).as_bytes(), Err(InvalidMethod));
}

#[test]
fn versions() {
    for version in 0..=9 {
        let request = format!("GET / HTTP/1.{version}\r\nHost: a\r\n\r\n");
        assert_eq!(whole(request.as_bytes()).minor_version, version.min(1));
    }
    check_line(b"GET / HTTP/0.9", Err(UnsupportedVersion));
    check_line(b"GET / HTTP/9.9", Err(UnsupportedVersion));
    check_line(b"PRI * HTTP/2.0", Err(UnsupportedVersion)); // the preface of HTTP/2: before its `*` is looked at
    for version in [
        "HTTP/1",
        "HTTP/1.",
        "HTTP/1.1.1",
        "HTTP/01.01",
        "HTTP/ 1.1",
        "http/1.1",
        "HTTP/1,1",
        "HTTP/1.1a",
        "XTTP/1.1",
        "1.1",
        "",
        "HTTP/1.\u{661}",
    ] {
        check_line(format!("GET / {version}").as_bytes(), Err(InvalidVersion));
    }
}

/// Method, form, path, query and authority of a target.
fn check_target(line: &str, form: TargetForm, path: &str, query: &str, host: &str) {
    let request = format!("{line} HTTP/1.1\r\nHost: {host}\r\n\r\n");
    let head = whole(request.as_bytes());
    let text = |span: Span| std::str::from_utf8(span.of(request.as_bytes())).expect("ASCII");
    assert_eq!(
        (head.target_form, text(head.path), text(head.query), head.host.map(text)),
        (form, path, query, Some(host)),
        "{line:?}"
    );
    assert_eq!(
        line.split_once(' '),
        Some((std::str::from_utf8(head.method.name(request.as_bytes())).expect("ASCII"), text(head.target)))
    );
}

#[test]
fn targets() {
    use TargetForm::{Absolute, Asterisk, Origin};
    check_target("GET /", Origin, "/", "", "a");
    check_target("GET /a/b?c=d&e", Origin, "/a/b", "c=d&e", "a");
    check_target("GET /?", Origin, "/", "", "a");
    check_target("GET /??x?", Origin, "/", "?x?", "a");
    check_target("GET //b/c", Origin, "//b/c", "", "a"); // no authority: it is a path of two slashes
    check_target("GET /http://b/", Origin, "/http://b/", "", "a");
    check_target("GET /path\\file", Origin, "/path\\file", "", "a");
    check_target("GET /%00%0d%0a?%zz", Origin, "/%00%0d%0a", "%zz", "a");
    check_target("GET /\"<>[]^`{|}", Origin, "/\"<>[]^`{|}", "", "a");
    check_target("OPTIONS *", Asterisk, "*", "", "a");
    check_target("OPTIONS /", Origin, "/", "", "a");
    check_target("GET http://a.b:80/c?d", Absolute, "/c", "d", "a.b:80");
    check_target("GET HTTP://a", Absolute, "/", "", "a");
    check_target("GET https://a?b/c", Absolute, "/", "b/c", "a");
    check_target("GET http://[::1]:8/x", Absolute, "/x", "", "[::1]:8");
    check_target("PURGE /x", Origin, "/x", "", "a");
    check_line(b"GET *", Err(InvalidRequestLine));
    check_line(b"GET * HTTP/1.1", Err(InvalidTargetForm));
    check_line(b"OPTIONS ** HTTP/1.1", Err(InvalidTargetForm));
    check_line(b"GET a/b HTTP/1.1", Err(InvalidTargetForm));
    check_line(b"GET ?a HTTP/1.1", Err(InvalidTargetForm));
    check_line(b"GET a:80 HTTP/1.1", Err(InvalidTargetForm));
    check_line(b"GET http:/a HTTP/1.1", Err(InvalidTargetForm));
    check_line(b"GET ftp://a/ HTTP/1.1", Err(InvalidTargetForm));
    check_line(b"GET http:// HTTP/1.1", Err(InvalidHost));
    check_line(b"GET http:///a HTTP/1.1", Err(InvalidHost));
    check_line(b"GET http://u@a/ HTTP/1.1", Err(InvalidHost));
    check_line(b"GET http://b/ HTTP/1.1", Err(HostMismatch));
    check_line(b"GET http://a:80/ HTTP/1.1", Err(HostMismatch));
    check_line(b"GET http://A/ HTTP/1.1", Ok(()));
    check_line(b"CONNECT a:443 HTTP/1.1", Err(ConnectMethod));
    check_line(b"CONNECT / HTTP/1.1", Err(ConnectMethod));
    check_line(b"GET /path#frag HTTP/1.1", Err(InvalidTarget { byte: b'#' }));
}

#[test]
fn every_byte_in_a_target() {
    for byte in 0..=255_u8 {
        let expected = match byte {
            b'\n' => Err(BareLineFeed),
            b' ' => Err(InvalidVersion),
            0x21..=0x7e if byte != b'#' => Ok(()),
            _ => Err(InvalidTarget { byte }),
        };
        check_line(&[b"GET /a", &[byte][..], b"b HTTP/1.1"].concat(), expected);
    }
}

#[test]
fn every_byte_in_a_method() {
    for byte in 0..=255_u8 {
        let expected = match byte {
            b'\n' => Err(BareLineFeed),
            b' ' => Err(InvalidTargetForm),
            _ if is_token(byte) => Ok(()),
            _ => Err(InvalidMethod),
        };
        check_line(
            &[b"A", &[byte][..], b"B / HTTP/1.1"].concat(),
            if byte == b' ' { Err(InvalidVersion) } else { expected },
        );
        let first = if byte == b'\r' || byte == b' ' { Err(InvalidMethod) } else { expected };
        check_line(&[&[byte][..], b"B / HTTP/1.1"].concat(), first);
    }
}

/// RFC 9110 §5.6.2, written out once more.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// These header lines, after a Host, in an HTTP/1.1 POST.
fn check_lines(lines: &[u8], expected: Result<(), BadRequest>) {
    let request = [b"POST / HTTP/1.1\r\nHost: a\r\n", lines, b"\r\n\r\n"].concat();
    assert_eq!(parse(&request).map(|_| ()), expected, "{:?}", lines.escape_ascii().to_string());
}

#[test]
fn header_lines() {
    check_lines(b"A: b", Ok(()));
    check_lines(b"A:b", Ok(()));
    check_lines(b"A:", Ok(()));
    check_lines(b"A: \t ", Ok(()));
    check_lines(b"__proto__: b", Ok(()));
    check_lines(b"A : b", Err(InvalidHeaderName { byte: b' ' }));
    check_lines(b"A\t: b", Err(InvalidHeaderName { byte: b'\t' }));
    check_lines(b" A: b", Err(ObsoleteFold));
    check_lines(b"A: b\r\n c", Err(ObsoleteFold));
    check_lines(b"A: b\r\n\tc: d", Err(ObsoleteFold));
    check_lines(b"A: b\r\n ", Err(ObsoleteFold));
    check_lines(b": b", Err(InvalidHeaderName { byte: b':' }));
    check_lines(b"A", Err(HeaderWithoutColon));
    check_lines(b"Bad[A: b", Err(InvalidHeaderName { byte: b'[' }));
    check_lines("X-T\u{eb}st: b".as_bytes(), Err(InvalidHeaderName { byte: 0xc3 }));
    check_lines(b"A: b\nC: d", Err(BareLineFeed));
    check_lines(b"A: b\rC: d", Err(InvalidHeaderValue { byte: b'\r' }));
    check_lines(b"A: b\r", Err(InvalidHeaderValue { byte: b'\r' }));
    check_lines(b"A: \r", Err(InvalidHeaderValue { byte: b'\r' }));
    check_lines(b"A\r: b", Err(InvalidHeaderName { byte: b'\r' }));
    check_lines(b"\rA: b", Err(InvalidHeaderName { byte: b'\r' }));
    check_lines(b"\r", Err(HeaderWithoutColon));
    check_lines(b"A: foo=\x00bar", Err(InvalidHeaderValue { byte: 0 }));
}

#[test]
fn every_byte_in_a_header() {
    for byte in 0..=255_u8 {
        let name = match byte {
            b'\n' => Err(BareLineFeed),
            b':' => Ok(()),
            _ if is_token(byte) => Ok(()),
            _ => Err(InvalidHeaderName { byte }),
        };
        check_lines(&[b"A", &[byte][..], b"B: c"].concat(), name);
        let first = match byte {
            b' ' | b'\t' => Err(ObsoleteFold),
            b':' => Err(InvalidHeaderName { byte }),
            _ => name,
        };
        check_lines(&[&[byte][..], b"B: c"].concat(), first);
        let value = match byte {
            b'\n' => Err(BareLineFeed),
            b'\t' | 0x20..=0x7e | 0x80.. => Ok(()),
            _ => Err(InvalidHeaderValue { byte }),
        };
        check_lines(&[b"A: b", &[byte][..], b"c"].concat(), value);
        check_lines(&[b"A: ", &[byte][..]].concat(), value);
        check_lines(&[b"A:", &[byte][..]].concat(), value);
    }
}

#[test]
fn header_values_are_trimmed_of_spaces_and_tabs_only() {
    let check = |value: &[u8], expected: &[u8]| {
        let request = [b"GET / HTTP/1.1\r\nHost: a\r\nX-Y:", value, b"\r\n\r\n"].concat();
        let head = whole(&request);
        assert_eq!(head.value(&request, b"x-y"), Some(expected), "{:?}", value.escape_ascii().to_string());
        assert_eq!(head.headers[1].name.of(&request), b"X-Y");
    };
    check(b"", b"");
    check(b" \t ", b"");
    check(b"a", b"a");
    check(b" \ta \tb\t ", b"a \tb");
    check(b" \xa0a\x85 ", b"\xa0a\x85");
}

#[test]
fn empty_lines_before_the_request_line() {
    let check = |before: &[u8], expected: Result<(), BadRequest>| {
        let request = [before, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"].concat();
        assert_eq!(parse(&request).map(|_| ()), expected, "{:?}", before.escape_ascii().to_string());
    };
    check(b"\r\n", Ok(()));
    check(b"\r\n\r\n", Err(EmptyRequestLine));
    check(b"\n", Err(BareLineFeed));
    check(b"\r\n\n", Err(BareLineFeed));
    check(b"\r", Err(InvalidMethod));
    check(b"\r\r\n", Err(InvalidMethod));
    check(b" \r\n", Err(InvalidMethod));
    let request = b"\r\nGET /x HTTP/1.1\r\nHost: a\r\n\r\nrest";
    let head = whole(request);
    assert_eq!((head.path.of(request), head.length as usize), (&b"/x"[..], request.len() - 4));
}

#[test]
fn hosts() {
    let check = |host: &str, expected: Result<(), BadRequest>| {
        for version in ["1.0", "1.1"] {
            let request = format!("GET / HTTP/{version}\r\nHost: {host}\r\n\r\n");
            assert_eq!(parse(request.as_bytes()).map(|_| ()), expected, "{host:?} in {version}");
        }
    };
    for host in [
        "a",
        "a.b",
        "a.b.",
        "127.0.0.1:8080",
        "a:",
        "a:0",
        "a:65535",
        "a_b",
        "xn--a",
        "a%2fb",
        "a-b~c!$&'()*+;=",
        "[::1]",
        "[::1]:80",
        "[1:2:3:4:5:6:7:8]",
        "[::ffff:1.2.3.4]",
    ] {
        check(host, Ok(()));
    }
    for host in [
        "",
        " ",
        ":80",
        "u@a",
        "u:p@a",
        "a/",
        "a/b",
        "a?b",
        "a#b",
        "a\\b",
        "a, b",
        "a,b",
        "a b",
        "a\tb",
        "a:b",
        "a:80:80",
        "a:65536",
        "a:000080",
        "a:+1",
        "a:-1",
        "a: 80",
        "a%",
        "a%2",
        "a%zz",
        "[",
        "[]",
        "[::1",
        "::1",
        "[::1]a",
        "[::1]]",
        "[fe80::1%25eth0]",
        "[v1.a]",
        "[1.2.3.4]",
        "a[b]",
        "<a>",
        "\"a\"",
        "a|b",
        "a^b",
        "{a}",
        "\u{e4}",
        "http://a",
    ] {
        check(host, Err(InvalidHost));
    }
    for byte in 0x80..=0xff_u8 {
        let request = [b"GET / HTTP/1.1\r\nHost: a", &[byte][..], b"\r\n\r\n"].concat();
        assert_eq!(parse(&request).map(|_| ()), Err(InvalidHost));
    }
}

#[test]
fn number_of_hosts() {
    let check = |request: &str, expected: Result<Option<&str>, BadRequest>| {
        let found = parse(request.as_bytes()).map(|parsed| match parsed {
            Parsed::Complete(head) => {
                head.host.map(|span| String::from_utf8_lossy(span.of(request.as_bytes())).into_owned())
            }
            Parsed::NeedMore => panic!("{request:?} is whole"),
        });
        assert_eq!(found.as_ref().map(Option::as_deref), expected.as_ref().copied(), "{request:?}");
    };
    check("GET / HTTP/1.1\r\n\r\n", Err(MissingHost));
    check("GET / HTTP/1.0\r\n\r\n", Ok(None));
    check("GET / HTTP/1.1\r\nhOST:a\r\n\r\n", Ok(Some("a")));
    check("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", Err(DuplicateHost));
    check("GET / HTTP/1.0\r\nHost: a\r\nhost: b\r\n\r\n", Err(DuplicateHost));
    check("GET http://a/ HTTP/1.1\r\n\r\n", Err(MissingHost));
    check("GET http://a/ HTTP/1.0\r\n\r\n", Ok(Some("a")));
    check("GET / HTTP/1.1\r\nHosts: a\r\nXost: a\r\n\r\n", Err(MissingHost));
}

#[test]
fn framing() {
    let check_version = |version: &str, lines: &str, expected: Result<Framing, BadRequest>| {
        let request = format!("POST / HTTP/{version}\r\nHost: a\r\n{lines}\r\n\r\n");
        let found = parse(request.as_bytes()).map(|parsed| match parsed {
            Parsed::Complete(head) => head.framing,
            Parsed::NeedMore => panic!("{request:?} is whole"),
        });
        assert_eq!(found, expected, "{lines:?} in {version}");
    };
    let check = |lines: &str, expected| check_version("1.1", lines, expected);
    check("A: b", Ok(Framing::None));
    check("Content-Length: 0", Ok(Framing::Length(0)));
    check("Content-Length: 5", Ok(Framing::Length(5)));
    check("CONTENT-LENGTH:5", Ok(Framing::Length(5)));
    check("Content-Length: \t 5 \t", Ok(Framing::Length(5)));
    check("Content-Length: 005", Ok(Framing::Length(5))); // decimal, not octal
    check("Content-Length: 0200", Ok(Framing::Length(200)));
    check(&format!("Content-Length: {}7", "0".repeat(100)), Ok(Framing::Length(7)));
    check("Content-Length: 9223372036854775807", Ok(Framing::Length(i64::MAX as u64)));
    check("Content-Length: 9223372036854775808", Err(InvalidLength));
    check("Content-Length: 18446744073709551616", Err(InvalidLength));
    check("Content-Length: 99999999999999999999", Err(InvalidLength));
    for length in [
        "", "+5", "-1", "-0", "0x5", "0o5", "1_0", "1 0", "1,", ",1", "5, 5", "5, 10", "5,5,5", "5.0", "5e0", "abc",
        "5a", "\u{665}", "\u{a0}5", "\"5\"", "5;a",
    ] {
        check(&format!("Content-Length: {length}"), Err(InvalidLength));
    }
    check("Content-Length: 5\r\nContent-Length: 5", Err(DuplicateLength));
    check("Content-Length: 5\r\ncontent-length: 6", Err(DuplicateLength));
    check("Content-Length: 0\r\nContent-Length: 0", Err(DuplicateLength));
    check("Content_Length: 5", Ok(Framing::None)); // another header
    check("Content-Length: 5\r\nContent_Length: 9\r\nTransfer_Encoding: chunked", Ok(Framing::Length(5)));
    check("Transfer-Encoding: chunked", Ok(Framing::Chunked));
    check("TRANSFER-ENCODING:\tChunked \t", Ok(Framing::Chunked));
    for coding in [
        "",
        ",",
        "chunked,",
        ",chunked",
        "chunked, chunked",
        "chunked, gzip",
        "gzip, chunked",
        "identity",
        "Identity",
        "chunked;a=b",
        "\"chunked\"",
        "chunked chunked",
        "\u{a0}chunked",
        "chunked\u{85}",
    ] {
        check(&format!("Transfer-Encoding: {coding}"), Err(InvalidTransferEncoding));
    }
    for coding in ["gzip", "xchunked", "chunkedx", "chunke", "x"] {
        check(&format!("Transfer-Encoding: {coding}"), Err(UnknownTransferCoding));
    }
    check("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", Err(InvalidTransferEncoding));
    check("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity", Err(InvalidTransferEncoding));
    check("Transfer-Encoding: identity\r\nTransfer-Encoding: chunked", Err(InvalidTransferEncoding));
    check("Transfer-Encoding: chunked\r\nTransfer-Encoding:", Err(InvalidTransferEncoding));
    check("Transfer-Encoding: \x0bchunked", Err(InvalidHeaderValue { byte: 0x0b }));
    check("Transfer-Encoding: \x0cchunked", Err(InvalidHeaderValue { byte: 0x0c }));
    check("Transfer-Encoding: chunked\0", Err(InvalidHeaderValue { byte: 0 }));
    check("Transfer-Encoding:\r\n chunked", Err(ObsoleteFold));
    check("Transfer-Encoding: chunked\r\nContent-Length: 5", Err(AmbiguousLength));
    check("Content-Length: 5\r\nTransfer-Encoding: chunked", Err(AmbiguousLength));
    check("Content-Length: 0\r\nA: b\r\nTransfer-Encoding: chunked", Err(AmbiguousLength));
    check_version("1.0", "Content-Length: 5", Ok(Framing::Length(5)));
    check_version("1.0", "Transfer-Encoding: chunked", Err(TransferEncodingInOldVersion));
    check_version("1.0", "Transfer-Encoding: chunked\r\nContent-Length: 5", Err(TransferEncodingInOldVersion));
    // A GET may have a body; what follows it must still be found.
    let request = b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello";
    assert_eq!(whole(request).framing, Framing::Length(5));
}

#[test]
fn keep_alive() {
    let check = |version: &str, lines: &str, expected: bool| {
        let request = format!("GET / HTTP/{version}\r\n{HOST}{lines}\r\n");
        assert_eq!(whole(request.as_bytes()).keeps_alive, expected, "{lines:?} in {version}");
    };
    check("1.1", "", true);
    check("1.0", "", false);
    check("1.1", "Connection: close\r\n", false);
    check("1.1", "connection: CLOSE\r\n", false);
    check("1.1", "Connection: a ,\tclose , b\r\n", false);
    check("1.1", "Connection: a\r\nConnection: close\r\n", false);
    check("1.1", "Connection: keep-alive, close\r\n", false);
    check("1.1", "Connection: keep-alive\r\n", true);
    check("1.1", "Connection: closed, clos e, \"close\",,\r\n", true);
    check("1.1", "Connection:\r\n", true);
    check("1.1", "Proxy-Connection: close\r\n", true);
    check("1.0", "Connection: Keep-Alive\r\n", true);
    check("1.0", "Connection: a\r\nConnection: keep-alive\r\n", true);
    check("1.0", "Connection: keep-alive, close\r\n", false);
    check("1.0", "Connection: close, keep-alive\r\n", false);
    check("1.0", "Keep-Alive: timeout=5\r\n", false);
}

#[test]
fn expectations() {
    let check = |version: &str, lines: &str, expected: Result<bool, BadRequest>| {
        let request = format!("POST / HTTP/{version}\r\n{HOST}{lines}\r\n");
        let found = parse(request.as_bytes()).map(|parsed| match parsed {
            Parsed::Complete(head) => head.expects_continue,
            Parsed::NeedMore => panic!("{request:?} is whole"),
        });
        assert_eq!(found, expected, "{lines:?} in {version}");
    };
    check("1.1", "Content-Length: 5\r\n", Ok(false));
    check("1.1", "Content-Length: 5\r\nExpect: 100-continue\r\n", Ok(true));
    check("1.1", "Expect: 100-Continue\r\nTransfer-Encoding: chunked\r\n", Ok(true));
    check("1.1", "Expect: 100-continue\r\n", Ok(false)); // no body to wait for
    check("1.1", "Content-Length: 0\r\nExpect: 100-continue\r\n", Ok(false));
    check("1.1", "Expect: 200-ok\r\n", Err(UnknownExpectation));
    check("1.1", "Expect:\r\n", Err(UnknownExpectation));
    check("1.1", "Expect: 100-continue, a\r\n", Err(UnknownExpectation));
    check("1.1", "Expect: 100-continue\r\nExpect: a\r\n", Err(UnknownExpectation));
    check("1.1", "Expect: 100-continue\r\nExpect: 100-continue\r\n", Err(UnknownExpectation));
    check("1.0", "Content-Length: 5\r\nExpect: 100-continue\r\n", Ok(false));
    check("1.0", "Expect: 200-ok\r\n", Ok(false));
}

#[test]
fn upgrades() {
    let check = |version: &str, lines: &str, expected: Option<&[u8]>| {
        let request = format!("GET / HTTP/{version}\r\n{HOST}{lines}\r\n");
        let head = whole(request.as_bytes());
        assert_eq!(head.upgrade.map(|span| span.of(request.as_bytes())), expected, "{lines:?} in {version}");
    };
    check("1.1", "Connection: Upgrade\r\nUpgrade: websocket\r\n", Some(b"websocket"));
    check("1.1", "Upgrade: websocket\r\nConnection: keep-alive, upgrade\r\n", Some(b"websocket"));
    check("1.1", "Upgrade: websocket\r\n", None);
    check("1.1", "Connection: upgrade\r\n", None);
    check("1.0", "Connection: Upgrade\r\nUpgrade: websocket\r\n", None);
}

#[test]
fn limits() {
    let limits = Limits { request_line_bytes_max: 64, head_bytes_max: 256, header_count_max: 4, ..Limits::default() };
    let check = |request: &str, expected: Result<(), BadRequest>| {
        assert_eq!(parse_with(request.as_bytes(), &limits).map(|_| ()), expected, "{request:?}");
    };
    let line_of = |bytes: usize| format!("GET /{} HTTP/1.1", "a".repeat(bytes - 14));
    let too_long = Err(RequestLineTooLong { limit: 64 });
    let too_large = Err(HeadTooLarge { limit: 256 });
    check(&format!("{}\r\nHost: a\r\n\r\n", line_of(64)), Ok(()));
    check(&format!("\r\n{}\r\nHost: a\r\n\r\n", line_of(64)), Ok(()));
    check(&format!("{}\r\nHost: a\r\n\r\n", line_of(65)), too_long);
    check(&format!("{}\r\nHost: a\r\n\r\n", line_of(66)), too_long);
    check(&line_of(64), Ok(()));
    check(&format!("{}\r", line_of(64)), Ok(()));
    check(&line_of(66), too_long); // told before its end comes
    check(&"a".repeat(1000), too_long);
    let head_of = |bytes: usize| format!("GET / HTTP/1.1\r\nHost: a\r\nA: {}\r\n\r\n", "b".repeat(bytes - 32));
    check(&head_of(256), Ok(()));
    check(&head_of(257), too_large);
    check(&head_of(258), too_large);
    check(&head_of(5000), too_large);
    check(&head_of(5000)[..256], Ok(()));
    check(&head_of(5000)[..257], too_large);
    check(&format!("{}{}", head_of(256), "x".repeat(5000)), Ok(())); // what follows does not count
    let count_of = |count: usize| format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "A: b\r\n".repeat(count - 1));
    check(&count_of(4), Ok(()));
    check(&count_of(5), Err(TooManyHeaders { limit: 4 }));
    check(&count_of(6), Err(TooManyHeaders { limit: 4 }));
    // RFC 9112 §3: a request line of 8000 octets must pass.
    assert!(parse(format!("{}\r\nHost: a\r\n\r\n", line_of(8000)).as_bytes()).is_ok());
}

#[test]
fn counts_of_headers() {
    for count in [1, 2, 15, 16, 17, 31, 32, 33, 99, 100] {
        let lines: String = (1..count).map(|number| format!("X-{number}: {number}\r\n")).collect();
        let request = format!("GET / HTTP/1.1\r\n{HOST}{lines}\r\n");
        let head = whole(request.as_bytes());
        assert_eq!(head.headers.len(), count);
        let last = head.headers[count - 1];
        assert!(count == 1 || last.value.of(request.as_bytes()) == (count - 1).to_string().as_bytes());
    }
}

/// What stands behind the head is not the head's, and each head of a pipeline is found at the length of the one before.
#[test]
fn pipeline() {
    let requests: [&[u8]; 3] = [
        b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\n",
        b"HEAD /2?q HTTP/1.0\r\n\r\n",
        b"\r\nOPTIONS * HTTP/1.1\r\nHost: b\r\nX: \xff\r\n\r\n",
    ];
    let bytes = requests.concat();
    let mut at = 0;
    for request in requests {
        let head = whole(&bytes[at..]);
        assert_eq!(head, whole(request));
        assert_eq!(head.length as usize, request.len());
        at += request.len();
    }
}

#[test]
fn a_head_is_reused_without_a_trace() {
    let limits = Limits::default();
    let mut head = Head::default();
    let first = b"POST http://a/b?c HTTP/1.1\r\nHost: a\r\nConnection: close, upgrade\r\nUpgrade: x\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n";
    let second = b"GET / HTTP/1.0\r\n\r\n";
    for bytes in [&first[..], second] {
        crate::http::head::parse(bytes, &mut Default::default(), &limits, &mut head).expect("both are right");
    }
    assert_eq!(head, whole(second));
    assert_eq!(head.method, Method::Get);
    assert!(head.headers.capacity() >= 5, "the memory is kept");
}

proptest! {
    /// Whatever comes, the answer does not depend on how it was cut (`parse` cuts at each byte), and a head that is taken is
    /// read the same by httparse.
    #[test]
    fn noise(line in "(GET|POST|A b) (/|/a\\?b|\\*) HTTP/1\\.[01]\r?\n", lines in "([Hh]ost: ?[a:1]{0,3}\r?\n|X[ :a\r]{0,3}: [\t a\x7f]{0,3}\r\n){0,4}\r?\n?") {
        let bytes = [line.as_bytes(), lines.as_bytes()].concat();
        if let Ok(Parsed::Complete(head)) = parse(&bytes) {
            let mut slots = [httparse::EMPTY_HEADER; 8];
            let mut request = httparse::Request::new(&mut slots);
            prop_assert_eq!(request.parse(&bytes), Ok(httparse::Status::Complete(head.length as usize)));
            prop_assert_eq!(request.path.map(str::as_bytes), Some(head.target.of(&bytes)));
            let ours: Vec<_> = head.headers.iter().map(|header| (header.name.of(&bytes), header.value.of(&bytes))).collect();
            let theirs: Vec<_> = request.headers.iter().map(|header| (header.name.as_bytes(), header.value)).collect();
            prop_assert_eq!(ours, theirs);
        }
    }
}
