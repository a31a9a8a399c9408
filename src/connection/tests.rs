//! Tests of `connection`: one table a rule, every case cut at every byte and byte by byte, answered at once or at the end.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::time::Duration;

use super::http1::Phase;
use super::http1::QUIET_LINGER;
use bytes::Bytes;

use super::*;
use crate::answer::{Answer, Headers, Preamble};
use crate::error::BadRequest;
use crate::handler::{BodyUse, Ended, Outcome};
use crate::http::encode;
use crate::limits::Limits;
use crate::request::{Request, RequestId};
use crate::router::{Match, Router};

const LINGER: Option<Close> = Some(Close::Linger(Duration::from_secs(2)));
const AFTER_SEND: Option<Close> = Some(Close::AfterSend);
const ABORT: Option<Close> = Some(Close::Abort);

/// What a handler was told of a request that it answers later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    Writable,
    Ended(Ended),
}

/// A handler that writes down what it was asked, and answers as the path says.
#[derive(Debug, Default)]
pub(crate) struct Recorder {
    /// `method target body`, in order.
    pub(crate) calls: Vec<String>,
    /// Requests whose answer comes later, and what it is.
    pub(crate) waiting: Vec<(RequestId, Vec<Part>)>,
    /// With the number of the request.
    pub(crate) told: Vec<(u32, Told)>,
    /// Each call takes so long that others should come first.
    pub(crate) is_slow: bool,
    /// What it does with bodies; whole ones by default.
    pub(crate) body_use: Option<BodyUse>,
    /// Bodies of requests that were called before theirs was complete, and whether they have become so.
    bodies: Vec<(RequestId, Vec<u8>, bool)>,
}

pub(crate) const STREAMED: Option<BodyUse> = Some(BodyUse { is_wanted_whole: false, bytes_max: None });

pub(crate) fn headers(lines: &[(&str, &str)]) -> Headers {
    let mut headers = Headers::default();
    for (name, value) in lines {
        headers.push(name.as_bytes(), value.as_bytes()).unwrap();
    }
    headers
}

/// The parts of the answer that a path under `/later` asks for.
fn later(path: &str, call: &str) -> Vec<Part> {
    let body = |text: &str, more| Part::Body { data: Bytes::copy_from_slice(text.as_bytes()), more };
    let start = |lines: &[(&str, &str)]| Part::Start { status: 200, headers: headers(lines) };
    let whole = |lines: &[(&str, &str)]| {
        let body = Bytes::copy_from_slice(call.as_bytes());
        Part::Whole { status: 200, headers: headers(lines), body }
    };
    match path {
        "/later/json" => vec![Part::Json { status: 201, body: Bytes::from_static(b"{}") }],
        "/later/stream" => vec![start(&[]), body("one", true), body("", true), body("two", false)],
        "/later/length" => vec![start(&[("content-length", "6")]), body("one", true), body("two", false)],
        "/later/short" => vec![start(&[("content-length", "6")]), body("one", false)],
        "/later/long" => vec![start(&[("content-length", "2")]), body("one", false)],
        "/later/wrong" => vec![whole(&[("content-length", "1")])],
        "/later/twice" => vec![start(&[]), start(&[])],
        "/later/unstarted" => vec![body("one", false)],
        "/later/failed" => vec![Part::Failed],
        "/later/broken" => vec![start(&[]), body("one", true), Part::Failed],
        "/later/cut" => vec![start(&[("content-length", "6")]), body("one", true), Part::Failed],
        "/later/close" => vec![whole(&[("connection", "close")])],
        _ => vec![whole(&[])],
    }
}

/// The answer that says what was in the body.
fn echo(body: &[u8]) -> Vec<Part> {
    vec![Part::Whole { status: 200, headers: headers(&[]), body: Bytes::copy_from_slice(body) }]
}

impl Handler for Recorder {
    fn took_long(&mut self) -> bool {
        self.is_slow
    }

    fn body_use(&mut self, _matched: Match) -> BodyUse {
        self.body_use.unwrap_or(BodyUse { is_wanted_whole: true, bytes_max: None })
    }

    fn body(&mut self, id: RequestId, part: &[u8], is_complete: bool) {
        let (known, body, was_complete) = self.bodies.last_mut().unwrap();
        assert_eq!((*known, *was_complete), (id, false), "a part of no request");
        assert!(is_complete || !part.is_empty(), "a part of nothing");
        body.extend_from_slice(part);
        *was_complete = is_complete;
        if is_complete && !self.waiting.iter().any(|(waiting, _)| *waiting == id) {
            self.waiting.push((id, echo(body)));
        }
    }

    fn call(&mut self, request: &Request<'_>, answer: &mut Answer<'_>) -> Outcome {
        let method = String::from_utf8_lossy(request.head.method.name(request.head_bytes));
        let target = String::from_utf8_lossy(request.head.target.of(request.head_bytes));
        let mut call = format!("{method} {target}");
        assert!(request.is_body_complete || self.body_use.is_some_and(|body_use| !body_use.is_wanted_whole));
        if self.body_use == STREAMED && request.head.framing.has_body() {
            self.bodies.push((request.id, request.body.to_vec(), request.is_body_complete));
            if target.starts_with("/echo") {
                self.calls.push(call);
                if request.is_body_complete {
                    self.waiting.push((request.id, echo(request.body)));
                }
                return Outcome::Later;
            }
        }
        match request.body {
            _ if self.body_use == STREAMED => {}
            [] => {}
            body if body.len() <= 32 => call += &format!(" {}", body.escape_ascii()),
            body => call += &format!(" {} bytes", body.len()),
        }
        self.calls.push(call.clone());
        let part = |text: &str| Bytes::copy_from_slice(text.as_bytes());
        match request.path {
            path if path.starts_with("/later") => {
                self.waiting.push((request.id, later(path, &call)));
                return Outcome::Later;
            }
            path if path.starts_with("/big/") => {
                let bytes = path["/big/".len()..].parse().unwrap();
                answer.whole(200, &headers(&[]), &vec![b'x'; bytes]).unwrap();
            }
            "/nothing" => {}
            "/json" => answer.json(200, b"{}").unwrap(),
            "/close" => answer.whole(200, &headers(&[("connection", "close")]), b"").unwrap(),
            "/no-content" => answer.whole(204, &headers(&[]), b"").unwrap(),
            "/half" => {
                answer.start(200, &headers(&[("content-length", "9")])).unwrap();
                answer.part(part("half"), true).unwrap();
            }
            "/stream" => {
                answer.start(200, &headers(&[])).unwrap();
                answer.part(part("one"), true).unwrap();
                answer.part(part("two"), false).unwrap();
            }
            _ => answer.whole(200, &headers(&[]), call.as_bytes()).unwrap(),
        }
        Outcome::Answered
    }

    fn writable(&mut self, id: RequestId) {
        self.told.push((id.number, Told::Writable));
    }

    fn ended(&mut self, id: RequestId, how: Ended) {
        self.told.push((id.number, Told::Ended(how)));
    }
}

/// Limits that a case is written for; everything else has its default.
pub(crate) fn shared(change: impl FnOnce(&mut Limits)) -> Shared {
    let mut limits = Limits::default();
    change(&mut limits);
    Shared::new(limits, Router::new(Vec::new(), false).unwrap(), Preamble::new(None, false))
}

impl Connection {
    /// Bytes of all buffers that it holds.
    pub(crate) fn buffers_capacity(&self) -> usize {
        let large = self.wire.output.large.capacity() * size_of::<(usize, Bytes)>();
        self.wire.pending.capacity() + self.wire.output.small.capacity() + large
    }
}

/// A connection with a handler above it and, below it, what a worker and a platform would do.
struct Rig {
    shared: Shared,
    connection: Connection,
    handler: Recorder,
    wire: Vec<u8>,
    reads: bool,
}

impl Rig {
    fn new(change: impl FnOnce(&mut Limits)) -> Self {
        let shared = shared(change);
        let connection = Connection::new(ConnectionId::new(7, 1), Origin::NOWHERE, &shared);
        Self { shared, connection, handler: Recorder::default(), wire: Vec::new(), reads: true }
    }

    fn receive(&mut self, bytes: &[u8]) {
        let calls_before = self.handler.calls.len();
        let was_closing = self.connection.wire.closes().is_some();
        self.connection.receive(bytes, &mut self.shared, &mut self.handler);
        assert!(!was_closing || self.handler.calls.len() == calls_before, "a call after the end");
        self.settle();
    }

    /// The handler takes all that it has of the body, and waits for more.
    fn take_body(&mut self) {
        let untaken = self.connection.http1.incoming.as_ref().map_or(0, |incoming| incoming.untaken);
        self.connection.read_body(self.connection.place.requests, untaken, &self.shared);
        self.settle();
    }

    fn end(&mut self) {
        self.connection.end(&mut self.shared, &mut self.handler);
        self.settle();
    }

    /// Gives one part of the first answer that is waited for; false if there is none.
    fn answer(&mut self) -> bool {
        let Some((id, parts)) = self.handler.waiting.first_mut() else { return false };
        let (id, part) = (*id, parts.remove(0));
        if parts.is_empty() {
            self.handler.waiting.remove(0);
        }
        let done = self.connection.answer(id.number, part, &mut self.shared, &mut self.handler);
        if !matches!(done, Ok(true)) {
            self.handler.waiting.retain(|(other, _)| *other != id);
        }
        self.settle();
        true
    }

    /// The peer takes what it is sent; false if there is nothing.
    fn take(&mut self) -> bool {
        if self.connection.wire.in_send == 0 {
            return false;
        }
        self.connection.sent(&mut self.shared, &mut self.handler);
        self.settle();
        true
    }

    /// The other connections have had their share; false if it does not wait for that.
    fn go_on(&mut self) -> bool {
        if !self.connection.waits_share() {
            return false;
        }
        self.connection.go_on(&mut self.shared, &mut self.handler);
        self.settle();
        true
    }

    fn settle(&mut self) {
        let connection = &mut self.connection;
        if connection.wire.in_send == 0 && !connection.wire.output.is_empty() {
            let (head, body) = connection.wire.output.take(256 * 1024);
            connection.wire.in_send = head.len() + body.len();
            self.wire.extend_from_slice(&head);
            self.wire.extend_from_slice(&body);
        }
        drop(connection.wire.output.reclaim());
        if let Some(reads) = connection.take_reads_change(&self.shared) {
            assert_ne!(reads, self.reads, "no change");
            self.reads = reads;
        }
        assert_eq!(self.shared.in_flight, usize::from(connection.is_answering()));
        // A body that is not asked for, or not taken, has no deadline either.
        let waits_for_peer = connection
            .http1
            .incoming
            .as_ref()
            .is_some_and(|incoming| !incoming.owes_continue && !incoming.holds_enough(&self.shared.limits));
        let may_last = connection.is_answering() && connection.wire.unsent() == 0 && !waits_for_peer
            || connection.wire.closes() == ABORT;
        let may_last = may_last || connection.waits_share() && connection.wire.unsent() == 0;
        let has_requests = matches!(connection.http1.phase, Phase::Head) && !connection.wire.pending.is_empty();
        assert!(!connection.waits_share() || has_requests, "it waits for nothing");
        assert!(
            connection.http1.incoming.is_none() || connection.wire.pending.is_empty(),
            "bytes of a body wait behind it"
        );
        assert_eq!(connection.deadline().is_none(), may_last, "deadline in {:?}", connection.http1.phase);
        if connection.idle_since().is_some() && connection.wire.pending.is_empty() {
            assert_eq!(
                connection.wire.pending.capacity() + connection.wire.output.small.capacity(),
                0,
                "idle, with a buffer"
            );
        }
        if connection.wire.closes().is_some() {
            assert!(connection.wire.pending.is_empty() && !connection.is_answering());
        }
    }

    fn at(&mut self, seconds: f64) -> &mut Self {
        self.shared.now = ticks(seconds);
        self
    }

    /// Lets the deadline come, which must be this one.
    fn expire_at(&mut self, seconds: f64) {
        assert_eq!(self.connection.deadline(), Some(ticks(seconds)));
        self.at(seconds);
        self.connection.expire(self.shared.now, &mut self.shared, &mut self.handler);
        self.settle();
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a few seconds, and not below none")]
fn ticks(seconds: f64) -> Tick {
    (seconds * 10.0).round() as Tick
}

/// When answers are given, and when the peer takes them.
#[derive(Clone, Copy, Debug)]
enum Pace {
    AtOnce,
    AtTheEnd,
}

#[derive(Debug, PartialEq, Eq)]
struct Seen {
    calls: Vec<String>,
    output: String,
    close: Option<Close>,
    told: Vec<(u32, Told)>,
}

/// What comes of these pieces, and of the peer's end behind them if it `ends`.
fn play(pieces: &[&[u8]], ends: bool, pace: Pace, change: fn(&mut Limits)) -> Seen {
    let mut rig = Rig::new(change);
    for piece in pieces {
        rig.receive(piece);
        while matches!(pace, Pace::AtOnce) && (rig.answer() || rig.take() || rig.go_on()) {}
    }
    if ends {
        rig.end();
    }
    while rig.answer() || rig.take() || rig.go_on() {}
    let Rig { connection, handler, wire, .. } = rig;
    let (calls, told) = (handler.calls, handler.told);
    // How long it lingers may depend on how the bytes behind the last request were cut; that it does may not.
    let close =
        connection.wire.closes().map(|close| if matches!(close, Close::Linger(_)) { LINGER.unwrap() } else { close });
    Seen { calls, output: String::from_utf8(wire).unwrap(), close, told }
}

/// The same for every way to cut the bytes.
fn play_cut(input: &[u8], ends: bool, paces: &[Pace], change: fn(&mut Limits)) -> Seen {
    let whole = play(&[input], ends, paces[0], change);
    for &pace in paces {
        let shown = input[..input.len().min(300)].escape_ascii().to_string();
        for cut in (0..input.len()).step_by((input.len() / 1000).max(1)) {
            let (one, two) = input.split_at(cut);
            // An empty piece is never received.
            let pieces: &[&[u8]] = if cut == 0 { &[two] } else { &[one, two] };
            let seen = play(pieces, ends, pace, change);
            assert_eq!(without_continue(seen), without_continue_of(&whole), "{pace:?}, cut at {cut}: {shown}");
        }
        let bytes: Vec<&[u8]> = input.chunks(1).collect();
        let seen = play(&bytes, ends, pace, change);
        assert_eq!(without_continue(seen), without_continue_of(&whole), "{pace:?}, byte by byte: {shown}");
    }
    whole
}

/// Whether the go-ahead is sent depends on how the bytes come; `continues` has a table of that.
fn without_continue(seen: Seen) -> Seen {
    Seen { output: seen.output.replace("HTTP/1.1 100 Continue\r\n\r\n", ""), ..seen }
}

fn without_continue_of(seen: &Seen) -> Seen {
    let Seen { calls, output, close, told } = seen;
    without_continue(Seen { calls: calls.clone(), output: output.clone(), close: *close, told: told.clone() })
}

const BOTH: &[Pace] = &[Pace::AtOnce, Pace::AtTheEnd];

fn check_with(change: fn(&mut Limits), input: &[String], calls: &[&str], output: &[String], close: Option<Close>) {
    let input = input.concat();
    let seen = play_cut(input.as_bytes(), false, BOTH, change);
    assert_eq!(seen.calls, calls, "{input:?}");
    assert_eq!(seen.output, output.concat(), "{input:?}");
    assert_eq!(seen.close, close, "{input:?}");
}

fn check(input: &[String], calls: &[&str], output: &[String], close: Option<Close>) {
    check_with(|_| {}, input, calls, output, close);
}

/// A request of 1.1 with these headers besides Host.
fn request(line: &str, headers: &[&str], body: &str) -> String {
    let headers: String = headers.iter().map(|header| format!("{header}\r\n")).collect();
    format!("{line} HTTP/1.1\r\nHost: h\r\n{headers}\r\n{body}")
}

fn get(path: &str) -> String {
    request(&format!("GET {path}"), &[], "")
}

fn answer(status: &str, lines: &[&str], body: &str) -> String {
    let lines: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
    format!("HTTP/1.1 {status}\r\n{lines}\r\n{body}")
}

fn ok(body: &str) -> String {
    answer("200 OK", &[&format!("content-length: {}", body.len())], body)
}

fn last(body: &str) -> String {
    answer("200 OK", &[&format!("content-length: {}", body.len()), "connection: close"], body)
}

fn text(status: u16, closes: bool, body: &str) -> String {
    let mut line = Vec::new();
    encode::status_line(&mut line, status);
    let line = String::from_utf8(line).unwrap();
    let close = if closes { "connection: close\r\n" } else { "" };
    let length = body.len();
    format!("{line}content-type: text/plain; charset=utf-8\r\ncontent-length: {length}\r\n{close}\r\n{body}")
}

fn refused(reason: BadRequest) -> String {
    text(reason.status(), true, &reason.to_string())
}

/// The same to a HEAD.
fn refused_head(reason: BadRequest) -> String {
    let whole = refused(reason);
    whole[..whole.len() - reason.to_string().len()].to_owned()
}

fn internal_error() -> String {
    text(500, false, "Internal Server Error")
}

#[test]
fn requests_and_pipelines() {
    check(&[get("/a")], &["GET /a"], &[ok("GET /a")], None);
    check(&[get("/a?b=1")], &["GET /a?b=1"], &[ok("GET /a?b=1")], None);
    check(&[get("/a"), get("/b")], &["GET /a", "GET /b"], &[ok("GET /a"), ok("GET /b")], None);
    check(
        &["\r\n".into(), get("/a"), "\r\n".into(), get("/b")],
        &["GET /a", "GET /b"],
        &[ok("GET /a"), ok("GET /b")],
        None,
    );
    check(&[get("/a"), "\r\n".into()], &["GET /a"], &[ok("GET /a")], None);
    check(
        &[get("/json")],
        &["GET /json"],
        &[answer("200 OK", &["content-length: 2", "content-type: application/json"], "{}")],
        None,
    );
    check(
        &[get("/no-content"), get("/a")],
        &["GET /no-content", "GET /a"],
        &[answer("204 No Content", &[], ""), ok("GET /a")],
        None,
    );
    check(&[get("/nothing"), get("/a")], &["GET /nothing", "GET /a"], &[internal_error(), ok("GET /a")], None);
    // A part of a head is no request yet.
    check(&[get("/a"), "GET /b HTTP/1.1\r\nHo".into()], &["GET /a"], &[ok("GET /a")], None);
}

#[test]
fn bodies() {
    let post =
        |path: &str, body: &str| request(&format!("POST {path}"), &[&format!("Content-Length: {}", body.len())], body);
    let chunked = |path: &str, body: &str| request(&format!("POST {path}"), &["Transfer-Encoding: chunked"], body);
    check(&[post("/a", "hello")], &["POST /a hello"], &[ok("POST /a hello")], None);
    check(&[post("/a", "")], &["POST /a"], &[ok("POST /a")], None);
    check(
        &[post("/a", "GET /x"), get("/b")],
        &["POST /a GET /x", "GET /b"],
        &[ok("POST /a GET /x"), ok("GET /b")],
        None,
    );
    check(&[chunked("/a", "0\r\n\r\n")], &["POST /a"], &[ok("POST /a")], None);
    check(
        &[chunked("/a", "3\r\nabc\r\n2;x=\"y\"\r\nde\r\n0\r\nT: 1\r\n\r\n"), get("/b")],
        &["POST /a abcde", "GET /b"],
        &[ok("POST /a abcde"), ok("GET /b")],
        None,
    );
    // A body that is not whole reaches no handler.
    check(&[request("POST /a", &["Content-Length: 6"], "hello")], &[], &[], None);
    check(&[chunked("/a", "3\r\nabc\r\n0\r\n")], &[], &[], None);
    let large = "x".repeat(40_000);
    let calls = ["POST /a 40000 bytes", "POST /b 40000 bytes"];
    check(&[post("/a", &large), chunked("/b", &format!("9c40\r\n{large}\r\n0\r\n\r\n"))], &calls, &calls.map(ok), None);
}

#[test]
fn head_requests() {
    let head = |path: &str| request(&format!("HEAD {path}"), &[], "");
    check(
        &[head("/a"), get("/b")],
        &["HEAD /a", "GET /b"],
        &[answer("200 OK", &["content-length: 7"], ""), ok("GET /b")],
        None,
    );
    for path in ["/stream", "/later/stream"] {
        let calls = [format!("HEAD {path}"), "GET /b".into()];
        let calls = [calls[0].as_str(), &calls[1]];
        check(
            &[head(path), get("/b")],
            &calls,
            &[answer("200 OK", &["transfer-encoding: chunked"], ""), ok("GET /b")],
            None,
        );
    }
    let long = request("HEAD /a", &["Content-Length: 99"], "");
    let reason = BadRequest::BodyTooLarge { bytes: 99, limit: 98 };
    check_with(|limits| limits.body_bytes_max = 98, &[long], &[], &[refused_head(reason)], LINGER);
    let broken = request("HEAD /a", &["Transfer-Encoding: chunked"], "x");
    check(&[broken], &[], &[refused_head(BadRequest::InvalidChunkSize)], LINGER);
}

#[test]
fn persistence() {
    let old = |header: &str| format!("GET /a HTTP/1.0\r\n{header}\r\n");
    let kept = answer("200 OK", &["content-length: 6", "connection: keep-alive"], "GET /a");
    check(&[old(""), get("/b")], &["GET /a"], &[last("GET /a")], LINGER);
    check(&[old("Connection: Keep-Alive\r\n"), get("/b")], &["GET /a", "GET /b"], &[kept, ok("GET /b")], None);
    check(&[request("GET /a", &["Connection: x, Close"], ""), get("/b")], &["GET /a"], &[last("GET /a")], LINGER);
    check(&[get("/close"), get("/b")], &["GET /close"], &[last("")], LINGER);
    check(&[get("/later/close"), get("/b")], &["GET /later/close"], &[last("GET /later/close")], LINGER);
    // Upgrade is not for us: an answer as if it were not there.
    let upgrade = request("GET /a", &["Connection: upgrade", "Upgrade: websocket"], "");
    check(&[upgrade, get("/b")], &["GET /a", "GET /b"], &[ok("GET /a"), ok("GET /b")], None);
    // A WebSocket's handshake is refused, whatever stands around it, and nothing behind it is looked at.
    let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";
    let websocket = request("GET /a", &["Connection: upgrade", "Upgrade: websocket", key], "");
    check(&[get("/b"), websocket, get("/c")], &["GET /b"], &[ok("GET /b"), refused(BadRequest::WebSocket)], LINGER);
}

#[test]
fn streamed_answers() {
    let chunked = |closes| {
        answer(
            "200 OK",
            if closes { &["transfer-encoding: chunked", "connection: close"] } else { &["transfer-encoding: chunked"] },
            "3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n",
        )
    };
    for path in ["/stream", "/later/stream"] {
        let call = format!("GET {path}");
        check(&[get(path), get("/b")], &[&call, "GET /b"], &[chunked(false), ok("GET /b")], None);
        check(&[request(&call, &["Connection: close"], "")], &[&call], &[chunked(true)], LINGER);
        // 1.0 knows no chunks: the end of the connection is the end of the body.
        let old = format!("{call} HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
        check(&[old, get("/b")], &[&call], &[answer("200 OK", &["connection: close"], "onetwo")], LINGER);
    }
    let length = answer("200 OK", &["content-length: 6"], "onetwo");
    check(&[get("/later/length"), get("/b")], &["GET /later/length", "GET /b"], &[length, ok("GET /b")], None);
}

#[test]
fn later_answers() {
    let calls = ["GET /later", "GET /a", "GET /later/json", "GET /b"];
    let json = answer("201 Created", &["content-length: 2", "content-type: application/json"], "{}");
    check(
        &[get("/later"), get("/a"), get("/later/json"), get("/b")],
        &calls,
        &[ok(calls[0]), ok(calls[1]), json, ok(calls[3])],
        None,
    );
    check(
        &[get("/later/failed"), get("/a")],
        &["GET /later/failed", "GET /a"],
        &[internal_error(), ok("GET /a")],
        None,
    );
    let post = request("POST /later", &["Content-Length: 2"], "hi");
    check(&[post, get("/later")], &["POST /later hi", "GET /later"], &[ok("POST /later hi"), ok("GET /later")], None);
}

/// What does not fit ends the connection behind what was sent before it, of which the peer sees that it is not the whole.
#[test]
fn answers_that_break_their_promise() {
    let check = |path: &str, output: &str, told: &[Told]| {
        let seen = play_cut([get(path), get("/b")].concat().as_bytes(), false, BOTH, |_| {});
        assert_eq!(seen.calls, [format!("GET {path}")]);
        assert_eq!((seen.output.as_str(), seen.close), (output, LINGER), "{path}");
        assert_eq!(seen.told, told.iter().map(|&told| (1, told)).collect::<Vec<_>>(), "{path}");
    };
    let gone = Told::Ended(Ended::Gone);
    let length = |length: u8| format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n");
    check("/half", &(length(9) + "half"), &[]);
    check("/later/short", &length(6), &[gone]);
    check("/later/long", &length(2), &[gone]);
    check("/later/wrong", "", &[gone]);
    check("/later/unstarted", "", &[gone]);
    check("/later/twice", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", &[gone]);
}

/// The peer gets what was answered before a failure, whether it had left by then or not, and no end of it. Where it would take the
/// connection's end for that of the body, it gets a reset, and what has not left is dropped.
#[test]
fn a_failure_within_an_answer() {
    let check = |request: &str, output: &str, unsent: &str, close| {
        for has_left in [true, false] {
            let mut rig = Rig::new(|_| {});
            rig.receive(request.as_bytes());
            while rig.answer() {
                if has_left {
                    rig.take();
                }
            }
            rig.take();
            let seen = String::from_utf8(rig.wire).unwrap();
            assert_eq!(seen, if has_left { output } else { unsent }, "{request:?}");
            assert_eq!(rig.connection.wants_close(), close, "{request:?}");
            assert_eq!(rig.handler.told.last(), Some(&(1, Told::Ended(Ended::Gone))), "{request:?}");
        }
    };
    let chunks = answer("200 OK", &["transfer-encoding: chunked"], "3\r\none\r\n");
    check(&get("/later/broken"), &chunks, &chunks, LINGER);
    let length = answer("200 OK", &["content-length: 6"], "one");
    check(&get("/later/cut"), &length, &length, LINGER);
    // All that HEAD gets is the head.
    let head = answer("200 OK", &["transfer-encoding: chunked"], "");
    check(&request("HEAD /later/broken", &[], ""), &head, &head, LINGER);
    let old = |body| answer("200 OK", &["connection: close"], body);
    check("GET /later/broken HTTP/1.0\r\n\r\n", &old("one"), &old(""), ABORT);
    let old = "GET /later/cut HTTP/1.0\r\nConnection: keep-alive\r\n\r\n";
    let length = answer("200 OK", &["content-length: 6", "connection: keep-alive"], "one");
    check(old, &length, &length, LINGER);
}

#[test]
fn refusals_stand_behind_the_answers_before_them() {
    let check = |change: fn(&mut Limits), bad: &str, reason: BadRequest| {
        check_with(change, &[bad.into()], &[], &[refused(reason)], LINGER);
        let calls = ["GET /a", "GET /later"];
        let behind = [get("/a"), get("/later"), bad.into(), get("/never")];
        check_with(change, &behind, &calls, &[ok("GET /a"), ok("GET /later"), refused(reason)], LINGER);
    };
    let usual: fn(&mut Limits) = |_| {};
    check(usual, "G\0T / HTTP/1.1\r\n", BadRequest::InvalidMethod);
    check(usual, "GET / HTTP/1.1\n", BadRequest::BareLineFeed);
    check(usual, "GET / HTTP/1.1\r\n\r\n", BadRequest::MissingHost);
    check(usual, "GET / HTTP/2.0\r\n", BadRequest::UnsupportedVersion);
    check(usual, "CONNECT h:1 HTTP/1.1\r\n", BadRequest::ConnectMethod);
    check(usual, &request("GET /", &[" folded"], ""), BadRequest::ObsoleteFold);
    check(
        usual,
        &request("POST /", &["Content-Length: 1", "Transfer-Encoding: chunked"], "x"),
        BadRequest::AmbiguousLength,
    );
    check(usual, &request("POST /", &["Content-Length: +1"], "x"), BadRequest::InvalidLength);
    check(usual, &request("POST /", &["Expect: more", "Content-Length: 1"], ""), BadRequest::UnknownExpectation);
    let chunked = |body: &str| request("POST /", &["Transfer-Encoding: chunked"], body);
    check(usual, &chunked("0x1\r\n"), BadRequest::InvalidChunkSize);
    check(usual, &chunked("1\r\nabc"), BadRequest::InvalidChunkEnd);
    check(usual, &chunked("1;\r\n"), BadRequest::InvalidChunkExtension);
    check(usual, &chunked("0\r\n: x\r\n"), BadRequest::InvalidTrailer);
    let small: fn(&mut Limits) = |limits| {
        (limits.request_line_bytes_max, limits.head_bytes_max, limits.header_count_max) = (64, 256, 4);
        (limits.body_bytes_max, limits.chunk_extension_bytes_max, limits.trailer_bytes_max) = (4, 4, 4);
    };
    let x = |count| "x".repeat(count);
    check(small, &format!("GET /{}", x(300)), BadRequest::RequestLineTooLong { limit: 64 });
    check(small, &format!("GET / HTTP/1.1\r\nA: {}", x(300)), BadRequest::HeadTooLarge { limit: 256 });
    check(small, &request("GET /", &["A: 1", "B: 1", "C: 1", "D: 1"], ""), BadRequest::TooManyHeaders { limit: 4 });
    let too_large = BadRequest::BodyTooLarge { bytes: 5, limit: 4 };
    check(small, &request("POST /", &["Content-Length: 5"], ""), too_large);
    check(small, &request("POST /", &["Content-Length: 5"], "hello"), too_large);
    check(small, &request("POST /", &["Content-Length: 5", "Expect: 100-continue"], ""), too_large);
    check(small, &chunked("3\r\nabc\r\n2\r\n"), too_large);
    check(small, &chunked("1;abcd\r\n"), BadRequest::ChunkExtensionsTooLarge { limit: 4 });
    check(small, &chunked("0\r\nab: c\r\n"), BadRequest::TrailersTooLarge { limit: 4 });
    check(
        small,
        &request("POST /", &["Content-Length: 9223372036854775807"], ""),
        BadRequest::BodyTooLarge { bytes: i64::MAX as u64, limit: 4 },
    );
}

#[test]
fn continues() {
    const CONTINUE: &str = "HTTP/1.1 100 Continue\r\n\r\n";
    let check = |pieces: &[&str], calls: &[&str], output: &[String]| {
        let pieces: Vec<&[u8]> = pieces.iter().map(|piece| piece.as_bytes()).collect();
        let seen = play(&pieces, false, Pace::AtOnce, |limits| limits.body_bytes_max = 9);
        assert_eq!((seen.calls, seen.output), (calls.iter().map(|call| (*call).into()).collect(), output.concat()));
    };
    let expects = |length: u8| request("POST /a", &[&format!("Content-Length: {length}"), "Expect: 100-continue"], "");
    let interim = CONTINUE.to_owned();
    check(&[&expects(2)], &[], std::slice::from_ref(&interim));
    check(&[&expects(2), "hi"], &["POST /a hi"], &[interim.clone(), ok("POST /a hi")]);
    check(
        &[&get("/b"), &expects(2), "hi"],
        &["GET /b", "POST /a hi"],
        &[ok("GET /b"), interim.clone(), ok("POST /a hi")],
    );
    // RFC 9110 §10.1.1: it may be left out where the body has begun to come, and must be where there is none.
    check(&[&(expects(2) + "h"), "i"], &["POST /a hi"], &[ok("POST /a hi")]);
    check(&[&expects(0)], &["POST /a"], &[ok("POST /a")]);
    check(&[&expects(10)], &[], &[refused(BadRequest::BodyTooLarge { bytes: 10, limit: 9 })]);
    let old = "POST /a HTTP/1.0\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n";
    check(&[old, "hi"], &["POST /a hi"], &[last("POST /a hi")]);
    let chunked = request("POST /a", &["Transfer-Encoding: chunked", "Expect: 100-continue"], "");
    check(&[&chunked, "2\r\nhi\r\n0\r\n\r\n"], &["POST /a hi"], &[interim, ok("POST /a hi")]);
    play_cut((expects(2) + "hi").as_bytes(), false, BOTH, |_| {});
}

/// Whether a handler takes what it is given of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Taking {
    AtOnce,
    Never,
}

/// What comes of these pieces with a handler that is called at the head, and of the peer's end behind them if it `ends`.
fn stream(pieces: &[&[u8]], ends: bool, taking: Taking, change: fn(&mut Limits)) -> (Seen, Vec<(String, bool)>) {
    let mut rig = Rig::new(change);
    rig.handler.body_use = STREAMED;
    for piece in pieces {
        rig.receive(piece);
        if taking == Taking::AtOnce {
            rig.take_body();
        }
        while rig.answer() || rig.take() || rig.go_on() {}
    }
    if ends {
        rig.end();
    }
    while rig.answer() || rig.take() || rig.go_on() {}
    let Rig { connection, handler, wire, .. } = rig;
    let close =
        connection.wire.closes().map(|close| if matches!(close, Close::Linger(_)) { LINGER.unwrap() } else { close });
    let bodies = handler.bodies.into_iter().map(|(_, body, whole)| (body.escape_ascii().to_string(), whole)).collect();
    (Seen { calls: handler.calls, output: String::from_utf8(wire).unwrap(), close, told: handler.told }, bodies)
}

/// The same for every way to cut the bytes. Returns what is seen when they come at once, and all that was ever given to a handler.
fn stream_cut(input: &[u8], ends: bool, change: fn(&mut Limits)) -> (Seen, Vec<(String, bool)>) {
    let (whole, mut given) = stream(&[input], ends, Taking::AtOnce, change);
    for taking in [Taking::AtOnce, Taking::Never] {
        let mut play = |pieces: &[&[u8]], how: &str| {
            let (seen, bodies) = stream(pieces, ends, taking, change);
            let output = seen.output.replace("HTTP/1.1 100 Continue\r\n\r\n", "");
            assert_eq!((output, seen.close), (whole.output.clone(), whole.close), "{taking:?}, {how}");
            given.extend(bodies);
        };
        for cut in 1..input.len() {
            let (one, two) = input.split_at(cut);
            play(&[one, two], &format!("cut at {cut}"));
        }
        play(&input.chunks(1).collect::<Vec<_>>(), "byte by byte");
    }
    (whole, given)
}

fn post(path: &str, body: &str) -> String {
    request(&format!("POST {path}"), &[&format!("Content-Length: {}", body.len())], body)
}

fn chunked(path: &str, body: &str) -> String {
    request(&format!("POST {path}"), &["Transfer-Encoding: chunked"], body)
}

#[test]
fn streamed_bodies() {
    let check = |input: &[String], bodies: &[&str], output: &[String]| {
        let (seen, given) = stream_cut(input.concat().as_bytes(), false, |_| {});
        assert_eq!((seen.output, seen.close), (output.concat(), None), "{input:?}");
        for found in given.chunks(bodies.len()) {
            let whole: Vec<_> = bodies.iter().map(|body| ((*body).to_owned(), true)).collect();
            assert_eq!(found, whole, "{input:?}");
        }
    };
    check(&[post("/echo", "hello")], &["hello"], &[ok("hello")]);
    check(&[post("/echo", "GET /x"), get("/b")], &["GET /x"], &[ok("GET /x"), ok("GET /b")]);
    check(&[post("/echo/a", "one"), post("/echo/b", "two")], &["one", "two"], &[ok("one"), ok("two")]);
    check(&[chunked("/echo", "0\r\n\r\n"), get("/b")], &[""], &[ok(""), ok("GET /b")]);
    check(
        &[get("/a"), chunked("/echo", "3\r\nabc\r\n2;x=\"y\"\r\nde\r\n0\r\nT: 1\r\n\r\n"), get("/b")],
        &["abcde"],
        &[ok("GET /a"), ok("abcde"), ok("GET /b")],
    );
    // No body, or one of nothing, is whole at once.
    let (seen, given) = stream_cut([get("/echo"), post("/echo", "")].concat().as_bytes(), false, |_| {});
    assert_eq!((seen.output, given), ([ok("GET /echo"), ok("POST /echo")].concat(), vec![]));
}

/// A handler that was called learns that it is over, and never of an end; one that was not is not called.
#[test]
fn bodies_that_break_under_a_handler() {
    let check_with = |change: fn(&mut Limits), bad: &str, ends: bool, reason: BadRequest| {
        let close = if ends { AFTER_SEND } else { LINGER };
        let (seen, given) = stream_cut((get("/a") + bad).as_bytes(), ends, change);
        assert_eq!((seen.output, seen.close), (ok("GET /a") + &refused(reason), close), "{bad:?}");
        assert!(given.iter().all(|(_, is_whole)| !is_whole), "{bad:?} is whole: {given:?}");
        // Byte by byte it is called in any case, and told of the end, once.
        let input: Vec<&[u8]> = bad.as_bytes().chunks(1).collect();
        let (seen, given) = stream(&input, ends, Taking::AtOnce, change);
        assert_eq!((given.len(), seen.told), (1, vec![(1, Told::Ended(Ended::Gone))]), "{bad:?}");
        // An answer that was begun ends with the connection, unfinished.
        let begun = bad.replace("/echo", "/later/begun");
        let mut rig = Rig::new(change);
        rig.handler.body_use = STREAMED;
        let head = begun.find("\r\n\r\n").unwrap() + 4;
        rig.receive(&begun.as_bytes()[..head]);
        rig.handler.waiting.clear();
        let start = Part::Start { status: 200, headers: headers(&[]) };
        rig.connection.answer(1, start, &mut rig.shared, &mut rig.handler).unwrap();
        rig.settle();
        for byte in &begun.as_bytes()[head..] {
            rig.receive(&[*byte]);
        }
        if ends {
            rig.end();
        }
        assert_eq!(
            (rig.connection.wire.closes(), rig.handler.told),
            (close, vec![(1, Told::Ended(Ended::Gone))]),
            "{bad:?}"
        );
    };
    let check = |bad: &str, reason| check_with(|_| {}, bad, false, reason);
    check(&chunked("/echo", "0x1\r\n"), BadRequest::InvalidChunkSize);
    check(&chunked("/echo", "3\r\nabc\r\nx"), BadRequest::InvalidChunkSize);
    check(&chunked("/echo", "1\r\nabc"), BadRequest::InvalidChunkEnd);
    check(&chunked("/echo", "1\r\na\r\n0\r\n: x\r\n"), BadRequest::InvalidTrailer);
    let small: fn(&mut Limits) = |limits| (limits.body_bytes_max, limits.trailer_bytes_max) = (4, 4);
    check_with(small, &chunked("/echo", "3\r\nabc\r\n2\r\n"), false, BadRequest::BodyTooLarge { bytes: 5, limit: 4 });
    check_with(small, &chunked("/echo", "0\r\nab: c\r\n"), false, BadRequest::TrailersTooLarge { limit: 4 });
    for cut in ["", "hell"] {
        let bad = request("POST /echo", &["Content-Length: 5"], cut);
        check_with(|_| {}, &bad, true, BadRequest::CutShort);
    }
    check_with(|_| {}, &chunked("/echo", "3\r\nabc\r\n0\r\n"), true, BadRequest::CutShort);
    // What is declared too large is refused before anybody is called.
    let (seen, given) = stream_cut(post("/echo", "hello").as_bytes(), false, small);
    assert_eq!(seen.output, refused(BadRequest::BodyTooLarge { bytes: 5, limit: 4 }));
    assert_eq!((seen.close, given), (LINGER, vec![]));
    // A HEAD gets the head of the refusal.
    let head = request("HEAD /echo", &["Transfer-Encoding: chunked"], "x");
    let (seen, _) = stream_cut(head.as_bytes(), false, |_| {});
    assert_eq!(seen.output, refused_head(BadRequest::InvalidChunkSize));
}

#[test]
fn a_route_has_a_limit_of_its_own() {
    for is_wanted_whole in [true, false] {
        let check = |input: String, bytes_max: u64, reason: Option<BadRequest>| {
            let mut rig = Rig::new(|limits| limits.body_bytes_max = 5);
            rig.handler.body_use = Some(BodyUse { is_wanted_whole, bytes_max: Some(bytes_max) });
            rig.receive(input.as_bytes());
            let output = String::from_utf8(rig.wire).unwrap();
            match reason {
                None => assert_eq!(rig.handler.calls.len(), 1, "{input:?}"),
                Some(reason) => assert_eq!((output, rig.handler.calls.len()), (refused(reason), 0), "{input:?}"),
            }
        };
        let too_large = |bytes, limit| Some(BadRequest::BodyTooLarge { bytes, limit });
        check(post("/a", "1234567"), 7, None);
        check(post("/a", "1234567"), 6, too_large(7, 6));
        check(post("/a", "12"), 1, too_large(2, 1));
        check(post("/a", ""), 0, None);
        check(chunked("/a", "7\r\n1234567\r\n0\r\n\r\n"), 7, None);
        check(chunked("/a", "3\r\n123\r\n4\r\n"), 6, too_large(7, 6));
    }
}

/// A handler that does not take its body is not sent more of it than the limit and four receive buffers; the peer waits, and
/// is not timed out for it.
#[test]
fn a_body_that_is_not_taken_is_not_read() {
    let mut rig = Rig::new(|_| {});
    rig.handler.body_use = STREAMED;
    rig.receive(request("POST /echo", &["Content-Length: 1000000"], "").as_bytes());
    let (buffer, mut sent, mut given_max) = ([b'x'; 16 * 1024], 0, 0);
    let mut second = 0.0;
    while sent < 1_000_000 {
        while rig.reads && sent < 1_000_000 {
            let bytes = buffer.len().min(1_000_000 - sent);
            rig.receive(&buffer[..bytes]);
            sent += bytes;
        }
        for _ in 0..4 {
            let bytes = buffer.len().min(1_000_000 - sent);
            if bytes > 0 {
                rig.receive(&buffer[..bytes]);
                sent += bytes;
            }
        }
        given_max = given_max.max(rig.connection.http1.incoming.as_ref().map_or(0, |incoming| incoming.untaken));
        if rig.connection.http1.incoming.is_some() {
            assert_eq!(rig.connection.deadline(), None, "the handler is waited for");
            second += 1000.0;
            rig.at(second).take_body();
            assert!(rig.reads);
            assert_eq!(rig.connection.deadline(), Some(rig.shared.now + 201), "the peer has its time again");
        }
    }
    assert!(given_max > 64 * 1024 && given_max <= (64 + 5 * 16) * 1024, "{given_max}");
    while rig.answer() || rig.take() || rig.go_on() {}
    assert!(rig.wire.ends_with(&[b'x'; 100]), "{:?}", rig.wire.len());
    assert_eq!((rig.reads, rig.connection.idle_since().is_some()), (true, true));
}

/// The clock of the rate stands while the handler is waited for, and goes on where it stood.
#[test]
fn a_streamed_body_has_its_time() {
    let mut rig = Rig::new(|limits| limits.body_untaken_bytes_max = 10);
    rig.handler.body_use = STREAMED;
    rig.receive(request("POST /echo", &["Content-Length: 1000"], "").as_bytes());
    assert_eq!(rig.connection.deadline(), Some(51), "the grace");
    rig.at(3.0).receive(&[b'x'; 24]);
    assert_eq!((rig.connection.deadline(), rig.reads), (None, false));
    rig.at(100.0).take_body();
    assert_eq!((rig.connection.deadline(), rig.reads), (Some(1000 + 51 - 30 + 1), true), "24 bytes have earned a tick");
    rig.expire_at(102.2);
    assert_eq!(String::from_utf8(rig.wire).unwrap(), refused(BadRequest::BodyTimeout));
    assert_eq!((rig.connection.wire.closes(), rig.handler.told), (LINGER, vec![(1, Told::Ended(Ended::Gone))]));
    // The idle time-out; after an answer has begun there is no 408.
    let mut rig = Rig::new(|limits| limits.body_bytes_per_second_min = 0);
    rig.handler.body_use = STREAMED;
    rig.receive(request("POST /later/stream", &["Content-Length: 1000"], "x").as_bytes());
    rig.at(19.0).answer();
    rig.take();
    rig.expire_at(20.1);
    assert_eq!((rig.connection.wire.closes(), rig.handler.told), (LINGER, vec![(1, Told::Ended(Ended::Gone))]));
}

/// `100 Continue` is sent when the handler waits for the body, and only to a peer that waits for it.
#[test]
fn a_handler_that_waits_for_a_body_asks_for_it() {
    const CONTINUE: &str = "HTTP/1.1 100 Continue\r\n\r\n";
    let expects = |path: &str| request(&format!("POST {path}"), &["Content-Length: 2", "Expect: 100-continue"], "");
    let rig = |path: &str| {
        let mut rig = Rig::new(|_| {});
        rig.handler.body_use = STREAMED;
        rig.receive(expects(path).as_bytes());
        assert_eq!((rig.wire.len(), rig.connection.deadline()), (0, None), "the handler has not asked");
        rig
    };
    let mut asked = rig("/echo");
    asked.at(60.0).take_body();
    assert_eq!(asked.connection.deadline(), Some(600 + 51));
    asked.take_body();
    asked.receive(b"hi");
    while asked.answer() || asked.take() {}
    assert_eq!(String::from_utf8(asked.wire).unwrap(), [CONTINUE, &ok("hi")].concat());
    assert_eq!(asked.connection.wire.closes(), None);
    // A peer that sends without it needs none.
    let mut unasked = rig("/echo");
    unasked.receive(b"h");
    unasked.take_body();
    unasked.receive(b"i");
    while unasked.answer() || unasked.take() {}
    assert_eq!(unasked.wire, ok("hi").as_bytes());
    // An answer without it: what comes next could be the body or a request, so nothing is taken for either.
    let mut refusing = rig("/later");
    refusing.answer();
    refusing.receive(get("/never").as_bytes());
    assert_eq!(refusing.wire, last("POST /later").as_bytes());
    assert_eq!((refusing.connection.wire.closes(), refusing.handler.calls.len()), (LINGER, 1));
    // Nor is there a go-ahead once an answer has begun.
    let mut begun = rig("/later/stream");
    begun.answer();
    begun.take_body();
    while begun.answer() || begun.take() {}
    let body = "3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n";
    let whole = answer("200 OK", &["transfer-encoding: chunked", "connection: close"], body);
    assert_eq!((String::from_utf8(begun.wire).unwrap(), begun.connection.wire.closes()), (whole, LINGER));
}

/// What is left of a body behind its answer is dropped up to a bound, and is never taken for a request.
#[test]
fn bodies_that_no_handler_reads() {
    let play = |path: &str, length: usize, body: &str| {
        let mut rig = Rig::new(|limits| limits.linger_bytes_max = 100);
        rig.handler.body_use = STREAMED;
        rig.receive(request(&format!("POST {path}"), &[&format!("Content-Length: {length}")], body).as_bytes());
        while rig.answer() || rig.take() || rig.go_on() {}
        rig
    };
    let output = |rig: &Rig| String::from_utf8(rig.wire.clone()).unwrap();
    for path in ["/a", "/later"] {
        let call = format!("POST {path}");
        // Little is left.
        let mut rig = play(path, 101, "x");
        assert_eq!((output(&rig), rig.connection.wire.closes()), (ok(&call), None));
        rig.receive(get("/no").as_bytes());
        assert_eq!(rig.handler.calls.len(), 1, "bytes of a body were taken for a request");
        let rest = [&"x".repeat(100 - get("/no").len()), get("/b").as_str()].concat();
        rig.receive(rest.as_bytes());
        rig.take();
        assert_eq!((output(&rig), rig.connection.idle_since()), ([ok(&call), ok("GET /b")].concat(), Some(0)));
        assert!(rig.handler.told.iter().all(|told| *told == (1, Told::Ended(Ended::Complete))));
        // It does not come.
        let mut rig = play(path, 101, "x");
        rig.expire_at(2.1);
        assert_eq!(rig.connection.wire.closes(), Some(Close::Linger(QUIET_LINGER)));
        let mut rig = play(path, 101, "x");
        rig.end();
        assert_eq!((rig.connection.wire.closes(), output(&rig)), (AFTER_SEND, ok(&call)));
        // Much is left.
        let rig = play(path, 102, "x");
        assert_eq!((output(&rig), rig.connection.wire.closes()), (last(&call), LINGER));
    }
    // How much is left is not known: it turns out to be too much, or to be wrong.
    for (rest, close) in [("1\r\nx\r\n0\r\n\r\n", None), ("64\r\n", None), ("x", LINGER), ("0\r\n\rx", LINGER)] {
        let mut rig = Rig::new(|limits| limits.linger_bytes_max = 100);
        rig.handler.body_use = STREAMED;
        rig.receive(chunked("/a", "").as_bytes());
        rig.receive(rest.as_bytes());
        assert_eq!((output(&rig), rig.connection.wire.closes()), (ok("POST /a"), close), "{rest:?}");
        if rest == "64\r\n" {
            rig.receive(&[b'x'; 96]);
            assert_eq!(rig.connection.wire.closes(), LINGER);
        }
    }
    // A handler that begins an answer may read on. Only at its end much that is left ends the connection.
    let mut rig = Rig::new(|limits| limits.linger_bytes_max = 1);
    rig.handler.body_use = STREAMED;
    rig.receive(request("POST /later/stream", &["Content-Length: 9"], "1234").as_bytes());
    rig.answer();
    rig.take();
    rig.receive(b"56789");
    while rig.answer() || rig.take() || rig.go_on() {}
    rig.receive(get("/b").as_bytes());
    assert_eq!(rig.handler.calls, ["POST /later/stream", "GET /b"]);
    // The 503 of a server that is full is one for which no handler has read a body.
    let mut rig = Rig::new(|limits| limits.handlers_in_flight_max = 1);
    rig.handler.body_use = STREAMED;
    rig.shared.in_flight = 1;
    rig.connection.receive(
        request("POST /a", &["Content-Length: 3"], "x").as_bytes(),
        &mut rig.shared,
        &mut rig.handler,
    );
    rig.connection.receive(b"yz", &mut rig.shared, &mut rig.handler);
    assert!(matches!(rig.connection.http1.phase, Phase::Head) && rig.handler.calls.is_empty());
}

#[test]
fn more_requests_than_handlers_may_have() {
    let mut rig = Rig::new(|limits| limits.handlers_in_flight_max = 1);
    let mut other = Connection::new(ConnectionId::new(8, 2), Origin::NOWHERE, &rig.shared);
    other.receive(get("/later").as_bytes(), &mut rig.shared, &mut rig.handler);
    assert_eq!(rig.shared.in_flight, 1);
    let full = "HTTP/1.1 503 Service Unavailable\r\ncontent-type: text/plain; charset=utf-8\r\nretry-after: 1\r\n\
        content-length: 59\r\n\r\ntoo many requests are being answered, try again in a second";
    rig.connection.receive(get("/a").as_bytes(), &mut rig.shared, &mut rig.handler);
    let head_only = &full[..full.len() - 59];
    rig.connection.receive(request("HEAD /a", &[], "").as_bytes(), &mut rig.shared, &mut rig.handler);
    let (sent, _) = rig.connection.wire.output.take(9999);
    assert_eq!(String::from_utf8(sent).unwrap(), [full, head_only].concat());
    let whole = Part::Whole { status: 200, headers: Headers::default(), body: Bytes::new() };
    other.answer(1, whole, &mut rig.shared, &mut rig.handler).unwrap();
    rig.connection.receive(get("/a").as_bytes(), &mut rig.shared, &mut rig.handler);
    assert_eq!(rig.handler.calls, ["GET /later", "GET /a"]);
    assert_eq!(rig.shared.in_flight, 0);
}

/// The peer ends its side behind the bytes: what was whole is answered, what was cut short is not.
#[test]
fn ends() {
    let check = |input: &[String], pace: Pace, calls: &[&str], output: &[String], told: &[(u32, Told)]| {
        let input = input.concat();
        let seen = play_cut(input.as_bytes(), true, &[pace], |_| {});
        let calls: Vec<String> = calls.iter().map(|call| (*call).into()).collect();
        let expected = Seen { calls, output: output.concat(), close: AFTER_SEND, told: told.to_vec() };
        assert_eq!(seen, expected, "{input:?}");
    };
    let cut = refused(BadRequest::CutShort);
    let complete = |number| (number, Told::Ended(Ended::Complete));
    let half = |number| (number, Told::Ended(Ended::HalfClosed));
    let now = Pace::AtOnce;
    let end = Pace::AtTheEnd;
    check(&[], now, &[], &[], &[]);
    check(&["\r\n".into()], now, &[], &[], &[]);
    check(&[get("/a")], now, &["GET /a"], &[ok("GET /a")], &[]);
    check(&[get("/a"), "\r\n".into()], now, &["GET /a"], &[ok("GET /a")], &[]);
    check(&[get("/close")], now, &["GET /close"], &[last("")], &[]);
    let whole = get("/a");
    for length in 3..whole.len() {
        check(&[get("/b"), whole[..length].into()], now, &["GET /b"], &[ok("GET /b"), cut.clone()], &[]);
    }
    check(&[request("POST /a", &["Content-Length: 6"], "hello")], now, &[], std::slice::from_ref(&cut), &[]);
    check(
        &[request("POST /a", &["Transfer-Encoding: chunked"], "1\r\na\r\n0\r\n")],
        now,
        &[],
        std::slice::from_ref(&cut),
        &[],
    );
    check(&[request("HEAD /a", &["Content-Length: 6"], "hello")], now, &[], &[refused_head(BadRequest::CutShort)], &[]);
    check(&[get("/later")], now, &["GET /later"], &[ok("GET /later")], &[complete(1)]);
    // The answer comes after the end: a half-closed peer may still read it, and the handler that gives it learns of both.
    check(&[get("/later")], end, &["GET /later"], &[last("GET /later")], &[half(1), complete(1)]);
    let seen = play_cut(get("/later/broken").as_bytes(), true, &[end], |_| {});
    assert_eq!((seen.close, seen.told), (AFTER_SEND, vec![half(1), (1, Told::Ended(Ended::Gone))]));
}

#[test]
fn pipelined_requests_before_the_end_are_answered() {
    let input = [get("/later"), get("/a"), get("/later"), get("/b"), "GET /c HT".into()].concat();
    let seen = play_cut(input.as_bytes(), true, &[Pace::AtTheEnd], |_| {});
    assert_eq!(seen.calls, ["GET /later", "GET /a", "GET /later", "GET /b"]);
    let answers = [ok("GET /later"), ok("GET /a"), ok("GET /later"), ok("GET /b"), refused(BadRequest::CutShort)];
    assert_eq!((seen.output, seen.close), (answers.concat(), AFTER_SEND));
    let ended = [(1, Ended::HalfClosed), (1, Ended::Complete), (3, Ended::HalfClosed), (3, Ended::Complete)];
    assert_eq!(seen.told, ended.map(|(number, how)| (number, Told::Ended(how))));
}

/// They wait for the peer to take what it asked for before: it is still there to do so.
#[test]
fn unread_answers_do_not_lose_the_requests_behind_them() {
    let mut rig = Rig::new(|_| {});
    rig.receive([get("/big/70000"), get("/a"), get("/b")].concat().as_bytes());
    assert_eq!(rig.handler.calls, ["GET /big/70000"]);
    rig.end();
    assert_eq!(rig.connection.wire.closes(), None);
    while rig.take() {}
    assert_eq!(rig.handler.calls, ["GET /big/70000", "GET /a", "GET /b"]);
    assert!(rig.wire.ends_with([ok("GET /a"), ok("GET /b")].concat().as_bytes()));
    assert_eq!(rig.connection.wire.closes(), AFTER_SEND);
}

#[test]
fn answers_to_connections_that_moved_on_go_nowhere() {
    let whole = || Part::Whole { status: 200, headers: Headers::default(), body: Bytes::new() };
    let mut rig = Rig::new(|_| {});
    let answer = |rig: &mut Rig, number| {
        let done = rig.connection.answer(number, whole(), &mut rig.shared, &mut rig.handler);
        rig.settle();
        done
    };
    assert_eq!(answer(&mut rig, 0), Ok(false));
    assert_eq!(answer(&mut rig, 1), Ok(false));
    rig.receive(get("/later").as_bytes());
    assert_eq!(answer(&mut rig, 2), Ok(false));
    assert_eq!(answer(&mut rig, 1), Ok(true));
    assert_eq!(answer(&mut rig, 1), Ok(false));
    rig.take();
    rig.receive(get("/later").as_bytes());
    assert_eq!(answer(&mut rig, 1), Ok(false));
    rig.connection.fail(&mut rig.shared, &mut rig.handler);
    rig.settle();
    assert_eq!(answer(&mut rig, 2), Ok(false));
    assert_eq!(rig.connection.wants_close(), ABORT);
    rig.connection.fail(&mut rig.shared, &mut rig.handler);
    assert_eq!(rig.handler.told, [(1, Told::Ended(Ended::Complete)), (2, Told::Ended(Ended::Gone))]);
    assert_eq!(rig.wire, ok("").as_bytes());
}

/// A peer that asks for ever and never reads: what it costs is bounded, and nothing is lost when it reads after all.
#[test]
fn a_peer_that_does_not_read() {
    for path in ["/big/1000", "/later"] {
        let mut rig = Rig::new(|_| {});
        let stream = get(path).repeat(20_000);
        let (mut at, mut kept_max, mut unsent_max) = (0, 0, 0);
        let mut stalled_at = None;
        while rig.handler.calls.len() < 20_000 || rig.connection.wire.unsent() > 0 {
            // As a platform does: up to four buffers come after reading was stopped.
            for _ in 0..4 {
                let piece = &stream.as_bytes()[at..(at + 16 * 1024).min(stream.len())];
                if !piece.is_empty() {
                    rig.receive(piece);
                    at += piece.len();
                }
            }
            let is_stalled = !rig.reads || at == stream.len();
            if is_stalled {
                stalled_at.get_or_insert(at);
                // An answer or, when there is none to give, a read, or a turn.
                let _ = rig.answer() || rig.take() || rig.go_on();
                while !rig.reads && (rig.answer() || rig.take() || rig.go_on()) {}
            }
            kept_max = kept_max.max(rig.connection.wire.pending.len());
            unsent_max = unsent_max.max(rig.connection.wire.unsent());
        }
        while rig.answer() || rig.take() || rig.go_on() {}
        assert!(stalled_at < Some(200_000), "{path}: {stalled_at:?} bytes were read of a peer that does not read");
        assert!(kept_max <= 32 * 1024 + 4 * 16 * 1024, "{path}: {kept_max}");
        assert!(unsent_max <= 64 * 1024 + 1100, "{path}: {unsent_max}");
        assert_eq!(rig.wire.windows(15).filter(|bytes| bytes == b"HTTP/1.1 200 OK").count(), 20_000);
        assert!(rig.connection.idle_since().is_some() && rig.reads);
    }
}

#[test]
fn reading_stops_while_enough_waits() {
    let mut rig = Rig::new(|_| {});
    rig.receive(get("/later").as_bytes());
    rig.receive(&[b'x'; 32 * 1024 - 1]);
    assert!(rig.reads);
    rig.receive(b"x");
    assert!(!rig.reads);
    // A body is read on behind answers that were not taken: it is bounded by itself.
    let mut rig = Rig::new(|_| {});
    rig.receive(get("/big/65000").as_bytes());
    assert!(rig.reads);
    rig.receive(request("POST /a", &["Content-Length: 2"], "h").as_bytes());
    assert!(rig.reads);
    rig.receive(&[b"i", get("/big/2000").as_bytes(), get("/c").as_bytes()].concat());
    assert!(!rig.reads);
    assert_eq!(rig.handler.calls.last().unwrap(), "GET /big/2000");
    rig.take();
    assert!(rig.reads);
    assert_eq!(rig.handler.calls.last().unwrap(), "GET /c");
}

#[test]
fn a_handler_that_streams_is_told_when_to_go_on() {
    let mut rig = Rig::new(|_| {});
    let number = |rig: &Rig| rig.connection.place.requests;
    let say = |rig: &mut Rig, part: Part| {
        rig.connection.answer(number(rig), part, &mut rig.shared, &mut rig.handler).unwrap();
        rig.settle();
        std::mem::take(&mut rig.handler.told)
    };
    let start = || Part::Start { status: 200, headers: Headers::default() };
    let body = |bytes: usize, more| Part::Body { data: vec![b'x'; bytes].into(), more };
    let writable = |number| vec![(number, Told::Writable)];
    rig.receive(get("/later").as_bytes());
    assert_eq!(say(&mut rig, start()), []);
    assert_eq!(say(&mut rig, body(600_000, true)), []);
    // Several pieces leave one after the other; only then all of it has left.
    while rig.connection.wire.unsent() > 0 {
        assert_eq!(rig.handler.told, []);
        rig.take();
    }
    assert_eq!(std::mem::take(&mut rig.handler.told), writable(1));
    assert_eq!(say(&mut rig, body(0, true)), writable(1), "nothing left, so nothing will be told to have left");
    assert_eq!(say(&mut rig, body(1, true)), []);
    assert_eq!(say(&mut rig, body(1, false)), [(1, Told::Ended(Ended::Complete))]);
    // What the first answer waited for is not told to the second.
    rig.receive(get("/later").as_bytes());
    rig.take();
    rig.take();
    assert_eq!(rig.handler.told, []);
    // HEAD: the parts go nowhere, and must not wait for anybody.
    let mut rig = Rig::new(|_| {});
    rig.receive(request("HEAD /later", &[], "").as_bytes());
    assert_eq!(say(&mut rig, start()), []);
    rig.take();
    assert_eq!(say(&mut rig, body(600_000, true)), writable(1));
    assert_eq!(say(&mut rig, body(1, false)), [(1, Told::Ended(Ended::Complete))]);
}

/// `Connection: close` on every answer that was not begun before the drain.
#[test]
fn draining() {
    let mut rig = Rig::new(|_| {});
    rig.receive([get("/later"), get("/a")].concat().as_bytes());
    rig.shared.is_draining = true;
    while rig.answer() || rig.take() || rig.go_on() {}
    assert_eq!(String::from_utf8(rig.wire).unwrap(), last("GET /later"));
    assert_eq!((rig.connection.wire.closes(), rig.handler.calls.len()), (LINGER, 1));

    let mut rig = Rig::new(|_| {});
    rig.receive([get("/later/stream"), get("/a")].concat().as_bytes());
    rig.answer();
    rig.shared.is_draining = true;
    while rig.answer() || rig.take() || rig.go_on() {}
    let chunked = answer("200 OK", &["transfer-encoding: chunked"], "3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n");
    assert_eq!(String::from_utf8(rig.wire).unwrap(), [chunked, last("GET /a")].concat());
    assert_eq!(rig.connection.wire.closes(), Some(Close::Linger(QUIET_LINGER)));
}

#[test]
fn silence_and_keep_alive_time_out() {
    let mut rig = Rig::new(|_| {});
    rig.expire_at(10.1);
    assert_eq!((rig.connection.wire.closes(), rig.wire.len()), (AFTER_SEND, 0));

    let mut rig = Rig::new(|_| {});
    rig.at(3.0).receive(get("/a").as_bytes());
    rig.at(4.0).take();
    rig.expire_at(79.1);
    assert_eq!((rig.connection.wire.closes(), rig.wire.len()), (AFTER_SEND, ok("GET /a").len()));

    // Counted from when the peer has its answer, not from when we had it.
    let mut rig = Rig::new(|_| {});
    rig.receive(get("/big/500000").as_bytes());
    rig.at(25.0).take();
    rig.at(50.0).take();
    rig.expire_at(125.1);
    assert_eq!(rig.connection.wire.closes(), AFTER_SEND);

    // RFC 9112 §2.2: an empty line behind a request is nothing, and no reason for a 408.
    let mut rig = Rig::new(|_| {});
    rig.receive(get("/a").as_bytes());
    rig.take();
    rig.at(1.0).receive(b"\r");
    rig.at(2.0).receive(b"\n");
    assert_eq!(rig.connection.idle_since(), Some(0));
    let sent = rig.wire.len();
    rig.expire_at(75.1);
    assert_eq!((rig.connection.wire.closes(), rig.wire.len()), (AFTER_SEND, sent));
}

#[test]
fn a_head_has_its_time_however_it_comes() {
    let refusal = refused(BadRequest::HeadTimeout { timeout: Duration::from_secs(10) });
    let mut rig = Rig::new(|_| {});
    for (second, byte) in (4..14).zip(b"GET / HTTP") {
        rig.at(f64::from(second)).receive(&[*byte]);
        assert_eq!(rig.connection.deadline(), Some(141), "at {second}");
    }
    rig.expire_at(14.1);
    assert_eq!((String::from_utf8(rig.wire).unwrap(), rig.connection.wire.closes()), (refusal.clone(), LINGER));

    // RFC 9110 §9.3.2: no body in the answer to HEAD.
    let mut rig = Rig::new(|_| {});
    rig.receive(b"\r\nHEAD /");
    rig.expire_at(10.1);
    let bodiless = refused_head(BadRequest::HeadTimeout { timeout: Duration::from_secs(10) });
    assert_eq!((String::from_utf8(rig.wire).unwrap(), rig.connection.wire.closes()), (bodiless, LINGER));

    // The second head has a time of its own; and the one that was begun behind an answer begins when it is looked at.
    let mut rig = Rig::new(|_| {});
    rig.at(1.0).receive(b"GET");
    rig.at(9.0).receive([&get("/later")[3..], "GET /b"].concat().as_bytes());
    assert_eq!(rig.connection.deadline(), None);
    rig.at(60.0).receive(b" HT");
    assert_eq!(rig.connection.deadline(), None);
    rig.at(100.0).answer();
    assert_eq!(rig.connection.deadline(), Some(1101));
    rig.take();
    rig.expire_at(110.1);
    assert_eq!(String::from_utf8(rig.wire).unwrap(), [ok("GET /later"), refusal.clone()].concat());

    // It runs also while the answer before it has not left.
    let mut rig = Rig::new(|_| {});
    rig.receive([get("/a"), "GET".into()].concat().as_bytes());
    rig.expire_at(10.1);
    rig.take();
    assert_eq!(String::from_utf8(rig.wire).unwrap(), [ok("GET /a"), refusal].concat());
}

#[test]
fn a_body_must_go_on_and_not_too_slowly() {
    let post = |length: usize| request("POST /a", &[&format!("Content-Length: {length}")], "");
    // A byte a second: the grace, and what 240 bytes a second earn.
    let mut rig = Rig::new(|_| {});
    rig.receive(post(1000).as_bytes());
    for second in 1..=5 {
        assert_eq!(rig.connection.deadline(), Some(51), "before {second}");
        rig.at(f64::from(second)).receive(b"x");
    }
    rig.expire_at(5.1);
    assert_eq!(String::from_utf8(rig.wire).unwrap(), refused(BadRequest::BodyTimeout));
    assert_eq!((rig.connection.wire.closes(), rig.handler.calls.len()), (LINGER, 0));
    // Enough bytes, and then none.
    let mut rig = Rig::new(|_| {});
    rig.receive((post(100_000) + &"x".repeat(50_000)).as_bytes());
    rig.at(12.0).receive(b"x");
    rig.expire_at(32.1);
    assert_eq!(String::from_utf8(rig.wire).unwrap(), refused(BadRequest::BodyTimeout));
    // What the peer takes is no byte of a body.
    let mut rig = Rig::new(|limits| limits.body_bytes_per_second_min = 0);
    rig.receive([get("/big/10"), post(10)].concat().as_bytes());
    rig.at(19.0).take();
    rig.expire_at(20.1);
    // Chunks of nothing but framing count as they are: bytes.
    let mut rig = Rig::new(|_| {});
    rig.receive(request("POST /a", &["Transfer-Encoding: chunked"], "1\r\na").as_bytes());
    assert_eq!(rig.connection.deadline(), Some(51));
}

#[test]
fn a_peer_must_take_its_answers() {
    // What it sends meanwhile does not help it.
    let mut rig = Rig::new(|_| {});
    rig.receive([get("/a"), get("/later")].concat().as_bytes());
    for second in 1..30 {
        rig.at(f64::from(second)).receive(b"x");
    }
    rig.expire_at(30.1);
    assert_eq!((rig.connection.wants_close(), rig.shared.in_flight), (ABORT, 0));
    assert_eq!(rig.handler.told, [(1, Told::Ended(Ended::Gone))].map(|(_, told)| (2, told)));
    assert_eq!(rig.connection.deadline(), None);
    // Neither does a body.
    let mut rig = Rig::new(|_| {});
    rig.receive([get("/a"), request("POST /b", &["Content-Length: 100000"], "")].concat().as_bytes());
    for second in 1..30 {
        rig.at(f64::from(second)).receive(&[b'x'; 1000]);
    }
    rig.expire_at(30.1);
    assert_eq!(rig.connection.wants_close(), ABORT);
    // Each piece that it takes gives it time for the next.
    let mut rig = Rig::new(|_| {});
    rig.receive(get("/big/700000").as_bytes());
    for second in [20, 40] {
        rig.at(f64::from(second)).take();
        assert_eq!(rig.connection.deadline(), Some(second as Tick * 10 + 301));
    }
    rig.expire_at(70.1);
    assert_eq!(rig.connection.wants_close(), ABORT);
    // A connection that is to close and cannot.
    let mut rig = Rig::new(|_| {});
    rig.receive(get("/close").as_bytes());
    rig.expire_at(30.1);
    assert_eq!(rig.connection.wants_close(), ABORT);
    let mut rig = Rig::new(|_| {});
    rig.receive(get("/close").as_bytes());
    rig.at(1.0).take();
    rig.expire_at(34.2);
    assert_eq!(rig.connection.wants_close(), ABORT);
}

#[test]
fn a_handler_has_no_deadline() {
    let mut rig = Rig::new(|_| {});
    rig.receive(get("/later").as_bytes());
    assert_eq!(rig.connection.deadline(), None);
    rig.at(1e6);
    rig.connection.expire(rig.shared.now, &mut rig.shared, &mut rig.handler);
    rig.answer();
    assert_eq!(rig.wire, ok("GET /later").as_bytes());
}

#[test]
fn requests_at_once_leave_others_their_turn() {
    // For a handler that is quick or slow: how many of 100 requests it is called for at once, then in each further turn.
    for (is_slow, share) in [(false, 32), (true, 1)] {
        let mut rig = Rig::new(|_| {});
        rig.handler.is_slow = is_slow;
        rig.receive(get("/a").repeat(100).as_bytes());
        for turns in 1..=100_usize.div_ceil(share) {
            assert_eq!(rig.handler.calls.len(), (share * turns).min(100), "slow: {is_slow}, turn {turns}");
            assert_eq!(rig.connection.idle_since(), None);
            // What comes meanwhile, or leaves, does not go before.
            rig.receive(b"");
            assert_eq!(rig.go_on(), share * turns < 100);
        }
        rig.take();
        rig.take();
        assert_eq!(rig.wire.windows(8).filter(|window| window == b"HTTP/1.1").count(), 100);
        assert!(rig.connection.idle_since().is_some() && rig.reads);
    }
}

#[test]
fn a_connection_that_waits_for_its_share_is_read_up_to_a_head_and_heard_to_the_end() {
    let mut rig = Rig::new(|limits| limits.head_bytes_max = 256);
    rig.receive(get("/a").repeat(33).as_bytes());
    assert!(rig.connection.waits_share() && rig.reads);
    rig.receive(get("/a").repeat(20).as_bytes());
    assert!(!rig.reads, "{} bytes are pending", rig.connection.wire.pending.len());
    assert_eq!(rig.handler.calls.len(), 32);
    rig.take();
    assert_eq!(rig.handler.calls.len(), 32, "what has left gives no turn");
    // They came whole before the end, so they are answered.
    rig.end();
    assert_eq!(rig.connection.wire.closes(), None);
    assert!(!rig.connection.has_partial_head(&rig.shared) && rig.go_on() && !rig.go_on());
    assert_eq!(rig.handler.calls.len(), 53);
    assert_eq!(rig.connection.wire.closes(), AFTER_SEND);
}

/// Where the platform can tell what the peer has acknowledged, a peer that takes its answer slowly is told from one that takes
/// nothing of it.
#[test]
fn a_peer_that_takes_its_answer_slowly_has_time() {
    // What it has acknowledged at a tick, and the tick at which it is ended, of 3000: 30 s are 301 of them.
    let check = |acknowledged: fn(Tick) -> Option<u64>, expected: Option<Tick>| {
        let mut shared = shared(|_| {});
        shared.ticks.write_look = 75;
        let mut connection = Connection::new(ConnectionId::new(0, 1), Origin::NOWHERE, &shared);
        connection.wire.in_send = 1000;
        connection.set_deadline(&shared);
        let mut ended_at = None;
        while shared.now < 3000 && ended_at.is_none() {
            shared.now = connection.deadline().unwrap();
            if connection.wants_acknowledged(shared.now, &shared) {
                connection.note_acknowledged(acknowledged(shared.now), &shared);
            }
            ended_at = connection.deadline().filter(|deadline| *deadline <= shared.now);
        }
        assert_eq!(ended_at, expected);
    };
    check(|_| None, Some(301));
    check(|_| Some(5000), Some(75 + 301)); // what it took before the first look is not known
    check(|now| Some(5000 + now * 48), None); // 480 bytes a second
    check(|now| Some(5000 + now * 10), Some(75 + 301)); // 100 are too few
    check(|now| Some(now.min(400) * 48), Some(75 + 2 * 301)); // 1152 bytes after the look at 37.6 s, then nothing
}
