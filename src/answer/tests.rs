//! Tests of `answer`: what is refused, how an answer looks on the wire, and that another parser reads what was meant.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use proptest::prelude::*;

use super::*;
use crate::error::Parsed;
use crate::http::head::{self, Scan};
use crate::limits::Limits;

fn head_of(request: &str) -> Head {
    let mut head = Head::default();
    let parsed = head::parse(request.as_bytes(), &mut Scan::default(), &Limits::default(), &mut head);
    assert_eq!(parsed, Ok(Parsed::Complete(())), "{request:?}");
    head
}

fn state(request_line: &str) -> AnswerState {
    AnswerState::new(&head_of(&format!("{request_line}\r\nHost: h\r\n\r\n")), false)
}

#[test]
fn headers_that_are_refused() {
    let check = |name: &[u8], value: &[u8], expected: Result<(), HeaderError>| {
        let mut headers = Headers::default();
        assert_eq!(headers.push(name, value), expected);
        assert_eq!(headers.lines.is_empty(), expected.is_err(), "{name:?}: {value:?}");
        assert!(expected.is_ok() || headers.content_length().is_none());
    };
    let name = |name: &[u8]| Err(HeaderError::Name(name.to_vec()));
    let value = |value: &[u8]| Err(HeaderError::Value(value.to_vec()));
    let length = |value: &[u8]| Err(HeaderError::ContentLength(value.to_vec()));
    check(b"x-a", b"1", Ok(()));
    check(b"x-a", b"", Ok(()));
    check(b"x-a", "ä\t\"".as_bytes(), Ok(()));
    check(b"", b"1", name(b""));
    check(b"x a", b"1", name(b"x a"));
    check(b"x:", b"1", name(b"x:"));
    check(b"x\r\ny", b"1", name(b"x\r\ny"));
    check("ä".as_bytes(), b"1", name("ä".as_bytes()));
    check(b"x-a", b"1\r\nset-cookie: 2", value(b"1\r\nset-cookie: 2"));
    for byte in 0..=255 {
        let allowed = byte == b'\t' || (byte >= 0x20 && byte != 0x7f);
        check(b"x-a", &[b'1', byte, b'2'], if allowed { Ok(()) } else { value(&[b'1', byte, b'2']) });
    }
    for wrong in ["", "-1", "+1", "1 ", " 1", "1,1", "0x1", "1.0", "18446744073709551616"] {
        check(b"Content-Length", wrong.as_bytes(), length(wrong.as_bytes()));
    }
    check(b"content-length", b"18446744073709551615", Ok(()));
    check(b"content-length", b"007", Ok(()));
    for byte in 0..=255 {
        let name_of = [b'x', byte, b'y'];
        let allowed = byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        check(&name_of, b"1", if allowed { Ok(()) } else { name(&name_of) });
    }
    for wrong in ["", "gzip", "gzip, chunked", "chunked, chunked", "identity", "chunked;q=1"] {
        let expected = Err(HeaderError::TransferEncoding(wrong.as_bytes().to_vec()));
        check(b"Transfer-Encoding", wrong.as_bytes(), expected);
    }
}

/// What a layer does: what it takes away has never been there, whatever it meant for framing and persistence.
#[test]
fn lines_are_looked_up_and_taken_away() {
    let lines: [(&[u8], &[u8]); 9] = [
        (b"Vary", b"Origin"),
        (b"Content-Length", b"5"),
        (b"Content-Type", b"text/event-stream"),
        (b"Date", b"now"),
        (b"vary", b"a:b"),
        (b"X-Empty", b""),
        (b"Connection", b"close, upgrade"),
        (b"Server", b"me"),
        (b"Set-Cookie", b"a=1"),
    ];
    let made = |without: &[u8]| {
        let mut headers = Headers::default();
        for (name, value) in lines.iter().filter(|(name, _)| !name.eq_ignore_ascii_case(without)) {
            headers.push(name, value).unwrap();
        }
        headers
    };
    let headers = made(b"none");
    assert_eq!(headers.values(b"VARY").collect::<Vec<_>>(), [&b"Origin"[..], b"a:b"]);
    assert_eq!(headers.values(b"x-empty").collect::<Vec<_>>(), [b""]);
    assert_eq!(headers.values(b"connection").collect::<Vec<_>>(), [b"upgrade"]);
    assert_eq!(headers.values(b"var").count(), 0);
    for (name, _) in lines.iter().chain([&(&b"none"[..], &b""[..])]) {
        let mut headers = made(b"none");
        headers.remove(&name.to_ascii_uppercase());
        assert_eq!(headers.values(name).count(), 0);
        assert_eq!(format!("{headers:?}"), format!("{:?}", made(name)), "{name:?}");
    }
}

#[test]
fn messages_say_what_was_seen() {
    let check = |error: HeaderError, message: &str| assert_eq!(error.to_string(), message);
    check(
        HeaderError::Name(b"x\r\ny".to_vec()),
        "header name \"x\\r\\ny\" is not a token, allowed are letters, digits and token marks",
    );
    check(
        HeaderError::Value([&b"\0\x1b\xff"[..], &[b'a'; 200]].concat()),
        &format!(
            "header value \"\\x00\\x1b\\xff{}\" and 103 bytes more has a control byte, only tab is allowed",
            "a".repeat(97)
        ),
    );
    check(HeaderError::ContentLength(b"+1".to_vec()), "content-length \"+1\" is not one number in decimal digits");
    check(
        HeaderError::TransferEncoding(b"gzip".to_vec()),
        "transfer-encoding \"gzip\" is not chunked; leave it out, the server frames the body",
    );
}

#[test]
fn one_length_is_said_once() {
    let mut headers = Headers::default();
    headers.push(b"content-length", b"3").unwrap();
    headers.push(b"Content-Length", b"3").unwrap();
    assert_eq!(headers.lines, b"content-length: 3\r\n");
    assert_eq!(headers.push(b"content-length", b"4"), Err(HeaderError::ContentLength(b"4".to_vec())));
    assert_eq!((headers.content_length(), headers.lines.as_slice()), (Some(3), b"content-length: 3\r\n".as_slice()));
    headers.clear();
    assert_eq!((headers.content_length(), headers.lines.len()), (None, 0));
}

/// The whole answer to `request_line` with these header lines.
fn check(request_line: &str, status: u16, lines: &[(&str, &str)], body: &str, expected: Result<&str, AnswerError>) {
    let mut headers = Headers::default();
    for (name, value) in lines {
        headers.push(name.as_bytes(), value.as_bytes()).unwrap();
    }
    for shared in [false, true] {
        let (mut out, mut state, preamble) = (Output::default(), state(request_line), Preamble::new(None, false));
        let mut answer = Answer { out: &mut out, state: &mut state, preamble: &preamble };
        let done = if shared {
            answer.whole_shared(status, &headers, Bytes::copy_from_slice(body.as_bytes()))
        } else {
            answer.whole(status, &headers, body.as_bytes())
        };
        assert_eq!(done, expected.map(|_| ()));
        assert_eq!(state.is_complete(), expected.is_ok());
        assert_eq!(String::from_utf8(out.small).unwrap(), expected.unwrap_or_default());
    }
}

#[test]
fn whole_answers() {
    const GET: &str = "GET / HTTP/1.1";
    const HEAD: &str = "HEAD / HTTP/1.1";
    check(GET, 200, &[], "hi", Ok("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi"));
    check(GET, 200, &[("A", "b")], "", Ok("HTTP/1.1 200 OK\r\nA: b\r\ncontent-length: 0\r\n\r\n"));
    check(GET, 299, &[], "", Ok("HTTP/1.1 299 \r\ncontent-length: 0\r\n\r\n"));
    check(HEAD, 200, &[], "hi", Ok("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n"));
    // RFC 9110 §8.6: the length is what GET would have. A handler that made no body did not say that GET has none.
    check(HEAD, 200, &[], "", Ok("HTTP/1.1 200 OK\r\n\r\n"));
    check("HEAD / HTTP/1.0", 200, &[], "", Ok("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n"));
    check(HEAD, 200, &[("Content-Length", "0")], "", Ok("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"));
    // A HEAD's handler may know a length without making a body.
    check(HEAD, 200, &[("Content-Length", "9")], "", Ok("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"));
    check(GET, 200, &[("content-length", "2")], "hi", Ok("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi"));
    let mismatch = |promised, sent| Err(AnswerError::LengthMismatch { promised, sent });
    check(GET, 200, &[("content-length", "3")], "hi", mismatch(3, 2));
    check(GET, 200, &[("content-length", "1")], "hi", mismatch(1, 2));
    // RFC 9110 §15.3.5 and §15.4.5: no body, whatever is said; §8.6: and a 204 says no length.
    check(
        GET,
        204,
        &[("a", "1"), ("content-length", "2"), ("b", "2")],
        "hi",
        Ok("HTTP/1.1 204 No Content\r\na: 1\r\nb: 2\r\n\r\n"),
    );
    check(GET, 304, &[], "hi", Ok("HTTP/1.1 304 Not Modified\r\n\r\n"));
    check(GET, 304, &[("content-length", "5")], "", Ok("HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\n"));
    // Framing and persistence are ours.
    check(GET, 200, &[("transfer-encoding", "Chunked ")], "hi", Ok("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi"));
    check(GET, 200, &[("keep-alive", "timeout=5")], "hi", Ok("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi"));
    check(GET, 200, &[("Connection", "Keep-Alive")], "", Ok("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"));
    let closed = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
    check(GET, 200, &[("Connection", ", CLOSE ,keep-alive")], "", Ok(closed));
    check("GET / HTTP/1.0", 200, &[], "", Ok(closed));
    let other = "HTTP/1.1 200 OK\r\nConnection: x, y\r\ncontent-length: 0\r\n";
    check(GET, 200, &[("Connection", "x, Keep-Alive,y")], "", Ok(&format!("{other}\r\n")));
    check(GET, 200, &[("Connection", "x, close, y")], "", Ok(&format!("{other}connection: close\r\n\r\n")));
    check(
        GET,
        200,
        &[("connection", "close"), ("Connection", "x, y")],
        "",
        Ok(&format!("{other}connection: close\r\n\r\n")),
    );
    check(
        GET,
        426,
        &[("upgrade", "websocket"), ("connection", "Upgrade")],
        "",
        Ok("HTTP/1.1 426 Upgrade Required\r\nupgrade: websocket\r\nconnection: Upgrade\r\ncontent-length: 0\r\n\r\n"),
    );
}

#[test]
fn date_and_server() {
    let lines = |server: Option<&str>, date: bool, own: &[(&str, &str)]| {
        let mut preamble = Preamble::new(server, date);
        preamble.set_time(784_111_777);
        let mut headers = Headers::default();
        for (name, value) in own {
            headers.push(name.as_bytes(), value.as_bytes()).unwrap();
        }
        let (mut out, mut state) = (Output::default(), state("GET / HTTP/1.1"));
        Answer { out: &mut out, state: &mut state, preamble: &preamble }.whole(200, &headers, b"").unwrap();
        let text = String::from_utf8(out.small).unwrap();
        text.strip_prefix("HTTP/1.1 200 OK\r\n").unwrap().strip_suffix("content-length: 0\r\n\r\n").unwrap().to_owned()
    };
    let date = "date: Sun, 06 Nov 1994 08:49:37 GMT\r\n";
    assert_eq!(lines(None, false, &[]), "");
    assert_eq!(lines(Some("s"), false, &[]), "server: s\r\n");
    assert_eq!(lines(Some("s"), true, &[]), format!("{date}server: s\r\n"));
    assert_eq!(lines(Some("s"), true, &[("Server", "t")]), format!("{date}Server: t\r\n"));
    assert_eq!(lines(Some("s"), true, &[("Date", "d")]), "server: s\r\nDate: d\r\n");
}

#[test]
fn default_headers() {
    let lines = |defaults: &[(&str, &str)], status: u16, own: &[(&str, &str)]| {
        let preamble = Preamble::new(Some("s"), false).with_defaults(defaults.iter().copied()).unwrap();
        let mut headers = Headers::default();
        for (name, value) in own {
            headers.push(name.as_bytes(), value.as_bytes()).unwrap();
        }
        let (mut out, mut state) = (Output::default(), state("GET / HTTP/1.1"));
        Answer { out: &mut out, state: &mut state, preamble: &preamble }.whole(status, &headers, b"").unwrap();
        let text = String::from_utf8(out.small).unwrap();
        let (_, lines) = text.split_once("\r\n").unwrap();
        lines.strip_suffix("content-length: 0\r\n\r\n").unwrap().to_owned()
    };
    for status in [200, 404] {
        let lines = |defaults, own| lines(defaults, status, own);
        assert_eq!(lines(&[("X-A", "1"), ("x-b", "")], &[]), "server: s\r\nX-A: 1\r\nx-b: \r\n");
        assert_eq!(lines(&[("x-a", "1"), ("x-a", "2")], &[]), "server: s\r\nx-a: 1\r\nx-a: 2\r\n");
        assert_eq!(lines(&[("x-a", "1"), ("x-b", "2")], &[("X-a", "o")]), "server: s\r\nx-b: 2\r\nX-a: o\r\n");
        // A name that another one begins with, and a value that looks like a line, are not it.
        let own = [("x-ab", "x-a: 1")];
        assert_eq!(lines(&[("x-a", "1")], &own), "server: s\r\nx-a: 1\r\nx-ab: x-a: 1\r\n");
        assert_eq!(lines(&[("Server", "t")], &[]), "Server: t\r\n");
        assert_eq!(lines(&[("Server", "t")], &[("server", "o")]), "server: o\r\n");
    }
    let date = |defaults: &[(&'static str, &'static str)]| {
        let mut preamble = Preamble::new(None, true).with_defaults(defaults.iter().copied()).unwrap();
        preamble.set_time(784_111_777);
        let (mut out, mut state) = (Output::default(), state("GET / HTTP/1.1"));
        Answer { out: &mut out, state: &mut state, preamble: &preamble }.json(200, b"1").unwrap();
        String::from_utf8(out.small).unwrap().matches("date: ").count()
    };
    assert_eq!(date(&[("x-a", "1")]), 1);
    assert_eq!(date(&[("date", "d")]), 1);
    let refused = |name, value| Preamble::new(None, false).with_defaults([(name, value)]).unwrap_err();
    assert_eq!(refused("a b", ""), HeaderError::Name(b"a b".to_vec()));
    assert_eq!(refused("a", "\r\n"), HeaderError::Value(b"\r\n".to_vec()));
    assert_eq!(refused("Content-Length", "5"), HeaderError::ContentLength(b"5".to_vec()));
}

#[test]
fn parts_in_order_only() {
    let (mut out, mut state, preamble) = (Output::default(), state("GET / HTTP/1.1"), Preamble::new(None, false));
    let mut answer = Answer { out: &mut out, state: &mut state, preamble: &preamble };
    let none = Headers::default();
    assert_eq!(answer.part(Bytes::new(), true), Err(AnswerError::OutOfOrder));
    answer.start(200, &none).unwrap();
    assert_eq!(answer.start(200, &none), Err(AnswerError::StartedTwice));
    assert_eq!(answer.whole(200, &none, b""), Err(AnswerError::StartedTwice));
    assert_eq!(answer.json(200, b""), Err(AnswerError::StartedTwice));
    answer.part(Bytes::new(), false).unwrap();
    assert_eq!(answer.part(Bytes::new(), false), Err(AnswerError::OutOfOrder));
    assert_eq!(out.small, b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n");
}

#[test]
fn nothing_is_taken_that_is_larger_than_asked() {
    let mut out = Output::default();
    let mut expected = Vec::new();
    for (bytes, is_large) in
        [(10, false), (50_000, true), (0, false), (40_000, false), (16_384, true), (16_384, true), (1, false)]
    {
        let bytes: Vec<u8> = (0..bytes).map(|at| (at % 251) as u8).collect();
        expected.extend_from_slice(&bytes);
        if is_large { out.push_large(bytes.into()) } else { out.push_bytes(&bytes) }
    }
    let mut taken = Vec::new();
    while !out.is_empty() {
        assert_eq!(out.len(), expected.len() - taken.len());
        let (head, body) = out.take(10_000);
        assert!((1..=10_000).contains(&(head.len() + body.len())));
        taken.extend_from_slice(&head);
        taken.extend_from_slice(&body);
    }
    assert!(taken == expected);
    assert_eq!(out.len(), 0);
}

#[derive(Clone, Debug)]
struct Meant {
    is_head: bool,
    minor_version: u8,
    keeps_alive: bool,
    status: u16,
    lines: Vec<(String, String)>,
    parts: Vec<Vec<u8>>,
    has_length: bool,
    is_whole: bool,
    piece: usize,
}

fn meant() -> impl Strategy<Value = Meant> {
    let line = ("x-[!#$%&'*+.^_`|~0-9A-Za-z-]{0,12}", "[ -~\t]{0,30}");
    let parts = prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40_000), 0..4);
    let status = prop_oneof![Just(200_u16), Just(204), Just(304), 200..1000_u16];
    let flags = (any::<bool>(), 0..2_u8, any::<bool>(), any::<bool>(), any::<bool>());
    let rest = (status, prop::collection::vec(line, 0..6), parts, 1..50_000_usize);
    (flags, rest).prop_map(
        |((is_head, minor_version, keeps_alive, has_length, is_whole), (status, lines, parts, piece))| Meant {
            is_head,
            minor_version,
            keeps_alive,
            status,
            lines,
            parts,
            has_length,
            is_whole,
            piece,
        },
    )
}

/// What the output is when it is taken in pieces of so many bytes.
fn wire(out: &mut Output, piece: usize) -> Vec<u8> {
    let mut wire = Vec::new();
    while !out.is_empty() {
        let (head, body) = out.take(piece);
        assert!((1..=piece).contains(&(head.len() + body.len())));
        wire.extend_from_slice(&head);
        wire.extend_from_slice(&body);
    }
    wire
}

fn chunked(mut rest: &[u8]) -> (Vec<u8>, &[u8]) {
    let mut body = Vec::new();
    loop {
        let Ok(httparse::Status::Complete((at, bytes))) = httparse::parse_chunk_size(rest) else { panic!("no chunk") };
        let (chunk, after) = rest[at..].split_at(usize::try_from(bytes).unwrap());
        body.extend_from_slice(chunk);
        rest = after.strip_prefix(b"\r\n").unwrap();
        if bytes == 0 {
            return (body, rest);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn another_parser_reads_what_was_meant(meant in meant()) {
        let body = meant.parts.concat();
        let mut headers = Headers::default();
        for (name, value) in &meant.lines {
            headers.push(name.as_bytes(), value.as_bytes()).unwrap();
        }
        if meant.has_length {
            headers.push(b"content-length", body.len().to_string().as_bytes()).unwrap();
        }
        let method = if meant.is_head { "HEAD" } else { "GET" };
        let connection = if meant.keeps_alive { "keep-alive" } else { "close" };
        let request = format!("{method} / HTTP/1.{}\r\nHost: h\r\nConnection: {connection}\r\n\r\n", meant.minor_version);
        let (mut out, mut state) = (Output::default(), AnswerState::new(&head_of(&request), false));
        let preamble = Preamble::new(Some("turboapi"), true);
        let mut answer = Answer { out: &mut out, state: &mut state, preamble: &preamble };
        if meant.is_whole {
            answer.whole_shared(meant.status, &headers, Bytes::from(body.clone())).unwrap();
        } else {
            answer.start(meant.status, &headers).unwrap();
            for part in &meant.parts {
                answer.part(Bytes::from(part.clone()), true).unwrap();
            }
            answer.part(Bytes::new(), false).unwrap();
        }
        prop_assert!(state.is_complete());
        let wire = wire(&mut out, meant.piece);

        let mut slots = [httparse::EMPTY_HEADER; 32];
        let mut parsed = httparse::Response::new(&mut slots);
        let httparse::Status::Complete(length) = parsed.parse(&wire).unwrap() else { panic!("no whole head") };
        prop_assert_eq!((parsed.code, parsed.version), (Some(meant.status), Some(1)));
        let values = |wanted: &str| -> Vec<String> {
            let found = parsed.headers.iter().filter(|header| header.name.eq_ignore_ascii_case(wanted));
            found.map(|header| String::from_utf8_lossy(header.value).into_owned()).collect()
        };
        // The handler's lines as they are and in order, and what is ours once or not at all.
        let own = parsed.headers.iter().filter(|header| header.name.starts_with("x-"));
        let own: Vec<(String, String)> = own.map(|header| (header.name.into(), String::from_utf8_lossy(header.value).into())).collect();
        let trimmed: Vec<(String, String)> =
            meant.lines.iter().map(|(name, value)| (name.clone(), value.trim_matches([' ', '\t']).to_owned())).collect();
        prop_assert_eq!(own, trimmed);
        prop_assert_eq!((values("date").len(), values("server")), (1, vec!["turboapi".to_owned()]));
        let says = values("connection");
        let expected: &[&str] = match (state.keeps_alive(), meant.minor_version) {
            (true, 1) => &[],
            (true, _) => &["keep-alive"],
            (false, _) => &["close"],
        };
        prop_assert_eq!(says, expected);

        let may_have_body = meant.status != 204 && meant.status != 304;
        let (lengths, codings, rest) = (values("content-length"), values("transfer-encoding"), &wire[length..]);
        prop_assert!(lengths.len() + codings.len() <= 1);
        prop_assert!(meant.status != 204 || lengths.is_empty() && codings.is_empty());
        if meant.is_head || !may_have_body {
            prop_assert!(rest.is_empty());
            prop_assert_eq!(state.keeps_alive(), meant.keeps_alive);
        } else if let [length] = lengths.as_slice() {
            prop_assert_eq!(length.parse::<usize>().unwrap(), body.len());
            prop_assert!(rest == body);
            prop_assert_eq!(state.keeps_alive(), meant.keeps_alive);
        } else if codings.is_empty() {
            // RFC 9112 §6.3: the end of the connection is the end of the body, so it must end.
            prop_assert!(rest == body && meant.minor_version == 0 && !state.keeps_alive());
        } else {
            prop_assert_eq!((codings, meant.minor_version), (vec!["chunked".to_owned()], 1));
            prop_assert!(chunked(rest) == (body, &b""[..]));
            prop_assert_eq!(state.keeps_alive(), meant.keeps_alive);
        }
    }
}
