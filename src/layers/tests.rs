//! Tests of `layers`: tables of requests with the answers of Starlette 1.10. Python's tests hold the same against it over a socket.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::io::Read;

use bytes::Bytes;
use flate2::read::GzDecoder;
use proptest::prelude::*;

use super::*;
use crate::error::Parsed;
use crate::http::head::{self, Head, Scan};
use crate::http::target::percent_decode_path;
use crate::limits::Limits;
use crate::platform::ConnectionId;
use crate::request::{Origin, RequestId};
use crate::router::{Match, Params};

/// The layers, and an answer with these lines and this body from behind them.
struct App {
    layers: Layers,
    status: u16,
    lines: &'static [(&'static str, &'static str)],
    body: Vec<u8>,
}

impl App {
    fn new(layers: Vec<Layer>) -> Self {
        Self { layers: Layers::new(layers).unwrap(), status: 200, lines: &[], body: b"hello".to_vec() }
    }

    /// Enters with a request, whose head is given without its version and Host. `Answered` is taken for what came out.
    fn enter(&self, request: &str) -> Entered {
        let (line, lines) = request.split_once('\n').unwrap_or((request, ""));
        let lines: String = lines.lines().map(|line| format!("{line}\r\n")).collect();
        let host = if lines.to_lowercase().contains("host: ") { "" } else { "Host: h\r\n" };
        let bytes: Vec<u8> = format!("{line} HTTP/1.1\r\n{host}{lines}\r\n").chars().map(|c| c as u8).collect();
        let mut head = Head::default();
        let parsed = head::parse(&bytes, &mut Scan::default(), &Limits::default(), &mut head);
        assert_eq!(parsed, Ok(Parsed::Complete(())), "{request:?}");
        let mut path = Vec::new();
        percent_decode_path(head.path.of(&bytes), &mut path);
        self.layers.enter(
            &Request {
                id: RequestId { connection: ConnectionId::new(0, 1), number: 1 },
                head: &head,
                head_bytes: &bytes,
                path: std::str::from_utf8(&path).unwrap(),
                matched: Match::NotFound,
                params: &Params::default(),
                body: b"",
                is_body_complete: true,
                origin: &Origin::NOWHERE,
            },
            "http",
        )
    }

    fn ask(&self, request: &str) -> Result<Whole, &'static str> {
        match self.enter(request) {
            Entered::Answered(whole) => Ok(whole),
            Entered::Unsure => Err("unsure"),
            Entered::Through(trail) => {
                let mut headers = Headers::default();
                for (name, value) in self.lines {
                    headers.push(name.as_bytes(), value.as_bytes()).unwrap();
                }
                let mut whole = Whole { status: self.status, headers, body: Bytes::from(self.body.clone()) };
                self.layers.leave(&trail, &mut whole).map_err(|NotCovered| "not covered")?;
                Ok(whole)
            }
        }
    }

    /// Status, lines and body of what comes out, a line each; the body is left out if it is the handler's own.
    fn text(&self, request: &str) -> String {
        let whole = match self.ask(request) {
            Ok(whole) => whole,
            Err(word) => return word.to_owned(),
        };
        let latin_1 = |bytes: &[u8]| bytes.iter().map(|&byte| char::from(byte)).collect::<String>();
        let lines = whole.headers.iter().map(|(name, value)| format!("{}: {}", latin_1(name), latin_1(value)));
        let mut text = vec![whole.status.to_string()];
        text.extend(lines);
        if *whole.body != *self.body {
            text.push(latin_1(&whole.body));
        }
        text.join("\n")
    }

    #[track_caller]
    fn check(&self, request: &str, expected: &[&str]) {
        assert_eq!(self.text(request).lines().collect::<Vec<_>>(), expected, "{request:?}");
    }
}

fn octets(texts: &[&str]) -> Vec<Vec<u8>> {
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

fn lines(lines: &[(&str, &str)]) -> Vec<(Vec<u8>, Vec<u8>)> {
    lines.iter().map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec())).collect()
}

/// `CORSMiddleware(allow_origins=["https://a"], allow_headers=["X-A"], allow_credentials=…)`, with a shorter Vary.
fn cors_of_one(allows_credentials: bool) -> Cors {
    let mut simple_headers = Vec::new();
    if allows_credentials {
        simple_headers = lines(&[("access-control-allow-credentials", "true")]);
    }
    Cors {
        allow_origins: octets(&["https://a"]),
        allow_methods: octets(&["GET"]),
        allow_headers: octets(&["accept", "x-a"]),
        allows_credentials,
        names_origin_in_preflight: true,
        simple_headers,
        preflight_headers: lines(&[("vary", "V"), ("access-control-allow-headers", "Accept, X-A")]),
        ..Cors::default()
    }
}

fn cors_of_all(allows_credentials: bool) -> Cors {
    Cors {
        allows_all_origins: true,
        allows_all_headers: true,
        names_origin_in_preflight: allows_credentials,
        simple_headers: lines(&[("access-control-allow-origin", "*")]),
        preflight_headers: lines(&[("vary", "V"), ("access-control-allow-origin", "*")]),
        ..cors_of_one(allows_credentials)
    }
}

#[test]
fn cors_of_simple_requests() {
    let one = App::new(vec![Layer::Cors(cors_of_one(false))]);
    one.check("GET /", &["200", "vary: Origin"]);
    one.check("GET /\nOrigin: https://a", &["200", "access-control-allow-origin: https://a", "vary: Origin"]);
    one.check("GET /\nOrigin: https://b", &["200", "vary: Origin"]);
    one.check("GET /\nOrigin: https://A", &["200", "vary: Origin"]);
    one.check("GET /\nOrigin: https://b\nOrigin: https://a", &["200", "vary: Origin"]);
    one.check("OPTIONS /\nOrigin: https://b", &["200", "vary: Origin"]);
    one.check("OPTIONS /\nAccess-Control-Request-Method: GET", &["200", "vary: Origin"]);
    let all = App::new(vec![Layer::Cors(cors_of_all(false))]);
    all.check("GET /", &["200", "vary: Origin"]);
    all.check("GET /\nOrigin: é", &["200", "access-control-allow-origin: *", "vary: Origin"]);
    let all = App::new(vec![Layer::Cors(cors_of_all(true))]);
    all.check("GET /\nOrigin: é", &["200", "access-control-allow-origin: é", "vary: Origin"]);
    let twice = App::new(vec![Layer::Cors(cors_of_all(false)), Layer::Cors(cors_of_one(false))]);
    twice.check("GET /\nOrigin: https://a", &["200", "access-control-allow-origin: *", "vary: Origin, Origin"]);
}

/// Lines of the handler's own stay in their places, each name once; a name that is spelt otherwise is another one.
#[test]
fn cors_beside_own_lines() {
    let mut app = App::new(vec![Layer::Cors(cors_of_one(true))]);
    app.lines = &[
        ("vary", "A"),
        ("access-control-allow-origin", "1"),
        ("Vary", "B"),
        ("x", ""),
        ("vary", "C"),
        ("access-control-allow-origin", "2"),
        ("content-length", "5"),
    ];
    app.check(
        "GET /\nOrigin: https://a",
        &[
            "200",
            "vary: A, C, Origin",
            "access-control-allow-origin: https://a",
            "Vary: B",
            "x: ",
            "content-length: 5",
            "access-control-allow-credentials: true",
        ],
    );
}

#[test]
fn cors_preflights() {
    let mut one = App::new(vec![Layer::Cors(cors_of_one(false))]);
    one.body.clear();
    let check = |lines: &str, allows_origin: bool, failures: &str| {
        let request = format!("OPTIONS /\n{lines}");
        let text = one.text(&request);
        let status = if failures.is_empty() { "200" } else { "400" };
        assert!(text.starts_with(status), "{request:?} {text}");
        assert_eq!(text.contains("access-control-allow-origin: https://a"), allows_origin, "{request:?} {text}");
        let body = if failures.is_empty() { "OK".to_owned() } else { format!("Disallowed CORS {failures}") };
        assert!(text.ends_with(&format!("content-type: text/plain; charset=utf-8\n{body}")), "{request:?} {text}");
        assert!(text.contains(&format!("content-length: {}\n", body.len())), "{request:?} {text}");
    };
    let get = "Access-Control-Request-Method: GET";
    check(&format!("Origin: https://a\n{get}"), true, "");
    check(&format!("Origin: https://b\n{get}"), false, "origin");
    check("Origin: https://a\nAccess-Control-Request-Method: PUT", true, "method");
    check("Origin: https://a\nAccess-Control-Request-Method: get", true, "method");
    for (names, failures) in [
        ("x-a", ""),
        (" X-A ,accept", ""),
        ("x-b", "headers"),
        ("", "headers"),
        ("x-a,", "headers"),
        ("x-a,x-b", "headers"),
    ] {
        check(&format!("Origin: https://a\n{get}\nAccess-Control-Request-Headers: {names}"), true, failures);
    }
    check(&format!("Origin: https://a\n{get}\nAccess-Control-Request-Private-Network: no"), true, "private-network");
    let all_wrong = "Origin: x\nAccess-Control-Request-Method: X\nAccess-Control-Request-Headers: x\nAccess-Control-Request-Private-Network: ";
    check(all_wrong, false, "origin, method, headers, private-network");
    one.check(&format!("OPTIONS /\nOrigin: https://a\n{get}\nAccess-Control-Request-Headers: \u{e9}"), &["unsure"]);

    let mut cors = cors_of_all(false);
    cors.allows_private_network = true;
    let all = App::new(vec![Layer::Cors(cors)]);
    all.check(
        &format!("OPTIONS /\nOrigin: x\n{get}\nAccess-Control-Request-Headers: é, Q\nAccess-Control-Request-Private-Network: 1"),
        &[
            "200",
            "vary: V",
            "access-control-allow-origin: *",
            "access-control-allow-headers: é, Q",
            "access-control-allow-private-network: true",
            "content-length: 2",
            "content-type: text/plain; charset=utf-8",
            "OK",
        ],
    );
}

#[test]
fn cors_with_a_pattern() {
    let mut cors = cors_of_one(false);
    cors.origin_pattern =
        Some(OriginPattern(Box::new(|origin| if origin == b"?" { None } else { Some(origin.ends_with(b"c")) })));
    let app = App::new(vec![Layer::Cors(cors)]);
    for (origin, is_allowed) in [("https://a", true), ("abc", true), ("abd", false)] {
        let text = app.text(&format!("GET /\nOrigin: {origin}"));
        assert_eq!(text.contains(&format!("access-control-allow-origin: {origin}")), is_allowed, "{text}");
    }
    app.check("GET /\nOrigin: ?", &["unsure"]);
    app.check("GET /", &["200", "vary: Origin"]);
}

fn gzip(minimum_size: usize) -> Layer {
    let excluded = ["image/png", "audio/*", "application/grpc"].map(str::to_owned).to_vec();
    Layer::Gzip(Gzip::new(minimum_size, 1000, 9, excluded))
}

fn unzip(body: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    GzDecoder::new(body).read_to_end(&mut plain).unwrap();
    plain
}

#[test]
fn gzip_of_whole_answers() {
    let mut app = App::new(vec![gzip(5)]);
    app.lines = &[("vary", "A"), ("content-length", "5"), ("x", "y")];
    // Whether it is compressed; what Vary is then.
    let check = |app: &App, accept: &str, is_compressed: bool, vary: &[u8]| {
        let whole = app.ask(&format!("GET /\nAccept-Encoding: {accept}")).unwrap();
        let (names, values): (Vec<_>, Vec<_>) = whole.headers.iter().unzip();
        assert_eq!(names.contains(&&b"content-encoding"[..]), is_compressed, "{accept:?} {names:?}");
        assert_eq!(values[0], vary, "{accept:?}");
        if is_compressed {
            assert_eq!(whole.headers.content_length(), Some(whole.body.len() as u64));
            assert_eq!(names, [&b"vary"[..], b"content-length", b"x", b"content-encoding"]);
            assert_eq!(whole.body[..10], *b"\x1f\x8b\x08\0\0\0\0\0\x02\x03", "zlib's own head at level 9");
            assert_eq!(unzip(&whole.body), app.body);
        } else {
            assert_eq!(whole.body, app.body);
        }
    };
    for accept in ["gzip", "gzip;q=0", "br, gzip", "x-gzip"] {
        check(&app, accept, true, b"A, Accept-Encoding");
    }
    for accept in ["", "br", "GZIP", "*", "br\nAccept-Encoding: gzip"] {
        check(&app, accept, false, b"A, Accept-Encoding");
    }
    app.status = 206;
    check(&app, "gzip", false, b"A");
    app.status = 200;
    app.body.pop();
    app.lines = &[("vary", "A")];
    check(&app, "gzip", false, b"A");
}

#[test]
fn gzip_leaves_some_types() {
    for (content_type, is_left) in [
        ("image/png", true),
        ("Image/PNG ; x", true),
        ("image/png2", false),
        ("image/svg+xml", false),
        ("audio/x", true),
        ("audio", true),
        ("audiobook/x", false),
        ("application/grpc", true),
        ("application/grpc+x", true),
        ("application/grpc-web", false),
        ("", false),
    ] {
        let mut app = App::new(vec![gzip(0)]);
        app.lines = Box::leak(Box::new([("content-type", content_type)]));
        let text = app.text("GET /\nAccept-Encoding: gzip");
        assert_eq!(!text.contains("content-encoding"), is_left, "{content_type:?} {text}");
        assert_eq!(!text.contains("vary"), is_left, "{content_type:?} {text}");
    }
    let mut app = App::new(vec![gzip(0)]);
    app.lines = &[("content-encoding", "")];
    app.check("GET /\nAccept-Encoding: gzip", &["200", "content-encoding: "]);
}

#[test]
fn gzip_that_is_not_covered() {
    let ask = |app: &App| app.ask("GET /\nAccept-Encoding: gzip").map(|whole| whole.status);
    let mut app = App::new(vec![Layer::Cors(cors_of_all(true)), gzip(0)]);
    assert_eq!(ask(&app), Ok(200));
    app.body = vec![b'x'; 999];
    assert_eq!(ask(&app), Ok(200));
    app.body.push(b'x');
    assert_eq!(ask(&app), Err("not covered"), "Starlette does it in a thread");
    assert!(app.ask("GET /").is_ok());
    app.body.clear();
    app.status = 204;
    assert_eq!(ask(&app), Err("not covered"), "what a 204 with a body becomes is the server's to say");
    app.status = 200;
    app.lines = &[("Content-Length", "0")];
    assert_eq!(ask(&app), Err("not covered"), "Starlette would leave it beside its own");
    app.lines = &[("content-type", "image/png\u{a0}")];
    assert_eq!(ask(&app), Err("not covered"), "Python strips more than ASCII");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// At every level any body comes back, from the compressor that has written others before, however much room it takes.
    #[test]
    fn gzip_comes_back(bodies in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..3000), 1..40_usize), 1..4), level in 0..=9_u32) {
        let mut app = App::new(vec![Layer::Gzip(Gzip::new(0, usize::MAX, level, Vec::new()))]);
        for (noise, times) in bodies {
            app.body = noise.repeat(times);
            let whole = app.ask("GET /\nAccept-Encoding: gzip").unwrap();
            prop_assert_eq!(unzip(&whole.body), app.body.clone());
            prop_assert_eq!(whole.headers.content_length(), Some(whole.body.len() as u64));
        }
    }
}

#[test]
fn trusted_hosts() {
    let check = |allowed: &[&str], www_redirect: bool, host: &str, expected: &str| {
        let allowed_hosts = allowed.iter().map(|&host| host.to_owned()).collect();
        let app =
            App::new(vec![Layer::TrustedHost(TrustedHost { allowed_hosts, www_redirect, ..TrustedHost::default() })]);
        let text = app.text(&format!("GET /a?b\nHost: {host}"));
        let word = match text.split_once('\n') {
            None => text.as_str(),
            Some(("307", rest)) => rest.strip_prefix("content-length: 0\nlocation: ").unwrap(),
            Some((status, rest)) => {
                assert_eq!(rest, "content-length: 19\ncontent-type: text/plain; charset=utf-8\nInvalid host header");
                status
            }
        };
        assert_eq!(word.trim_end(), expected, "{allowed:?} {host:?}");
    };
    check(&["a.test"], true, "a.test", "200");
    check(&["a.test"], true, "A.Test:8080", "200");
    check(&["a.test"], true, "b.test", "400");
    check(&["a.test"], true, "a.test.", "400");
    check(&["*.a.test"], true, "x.y.a.test", "200");
    check(&["*.a.test"], true, ".a.test", "200");
    check(&["*.a.test"], true, "a.test", "400");
    check(&["*.a.test"], true, "xa.test", "400");
    check(&["www.a.test"], true, "a.test", "http://www.a.test/a?b");
    check(&["www.a.test"], true, "A.test:80", "http://www.A.test:80/a?b");
    check(&["www.a.test", "a.test"], true, "a.test", "200");
    check(&["www.a.test"], false, "a.test", "400");
    check(&[], true, "a.test", "400");
    for unsure in ["[::1]", "[::1]:80", "a.test:", "a%2etest"] {
        check(&["a.test"], true, unsure, "unsure");
    }
    let any = App::new(vec![Layer::TrustedHost(TrustedHost { allows_any: true, ..TrustedHost::default() })]);
    any.check("GET /\nHost: [::1]", &["200"]);
}

#[test]
fn https_redirects() {
    let check = |root_path: &str, target: &str, host: &str, expected: &str| {
        let root_path = root_path.to_owned();
        let app = App::new(vec![Layer::HttpsRedirect(HttpsRedirect { root_path })]);
        let text = app.text(&format!("{target}\nHost: {host}"));
        let text = text.trim_end();
        assert_eq!(
            text.strip_prefix("307\ncontent-length: 0\nlocation: ").unwrap_or(text),
            expected,
            "{target} {host}"
        );
    };
    check("", "GET /a", "a.test", "https://a.test/a");
    check("", "GET /a", "A.Test:80", "https://a.test/a");
    check("", "GET /a", "A.Test:0443", "https://a.test/a");
    check("", "GET /a", "A.Test:8080", "https://A.Test:8080/a");
    check("", "POST /a?", "a.test", "https://a.test/a");
    check("", "GET /a?b=%20'[]|&c", "a.test", "https://a.test/a?b=%20'[]%7C&c");
    check("", "GET /%3F%23%5C%20%C3%A9%25%22", "a.test", "https://a.test/%3F%23%5C%20%C3%A9%%22");
    check("", "GET //b//c", "a.test", "https://a.test//b//c");
    check("", "GET /~!$&'()*+,;=:@", "a.test", "https://a.test/~!$&'()*+,;=:@");
    check("/r s", "GET /a", "a.test", "https://a.test/r%20s/a");
    check("r", "GET /a", "a.test", "unsure");
    check("", "GET /a%0Ab", "a.test", "unsure");
    check("", "GET /a%7Fb", "a.test", "unsure");
    check("", "OPTIONS *", "a.test", "unsure");
    check("", "GET /", "[::1]:80", "unsure");
}

/// What a layer answers by itself goes through those outside of it, and not through those inside.
#[test]
fn early_answers() {
    let hosts =
        || Layer::TrustedHost(TrustedHost { allowed_hosts: vec!["a.test".to_owned()], ..TrustedHost::default() });
    let request = "GET /\nHost: b.test\nOrigin: https://a\nAccept-Encoding: gzip";
    let plain = ["400", "content-length: 19", "content-type: text/plain; charset=utf-8"];
    let inside = App::new(vec![hosts(), gzip(0), Layer::Cors(cors_of_one(false))]);
    inside.check(request, &[&plain[..], &["Invalid host header"]].concat());
    let outside = App::new(vec![Layer::Cors(cors_of_one(false)), hosts()]);
    let lines = ["access-control-allow-origin: https://a", "vary: Origin", "Invalid host header"];
    outside.check(request, &[&plain[..], &lines].concat());
    let zipped = App::new(vec![gzip(0), hosts()]).ask(request).unwrap();
    assert_eq!(unzip(&zipped.body), b"Invalid host header");
    let in_thread = App::new(vec![Layer::Gzip(Gzip::new(0, 0, 9, Vec::new())), hosts()]);
    in_thread.check(request, &["unsure"]);
}

#[test]
fn not_more_than_a_trail_holds() {
    let layers = |count| Layers::new((0..count).map(|_| Layer::Cors(cors_of_all(true))).collect());
    assert!(layers(LAYERS_MAX + 1).is_none());
    let app = App { layers: layers(LAYERS_MAX).unwrap(), ..App::new(Vec::new()) };
    assert!(app.text("GET /\nOrigin: x").contains("access-control-allow-origin: x\n"));
}
