//! Every case against the core over the scripted platform: as it is written, cut at every octet, and octet by octet.
//! What is sent back has to be the same each time, but for 1xx (RFC 9110 §10.1.1 lets them depend on what has come).

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::fs::File;
use std::os::fd::AsFd;

use bytes::Bytes;
use turboapi_conformance::case::{self, Case, End};
use turboapi_conformance::octets::escape;
use turboapi_conformance::verdict::{self, PROBE, Seen};
use turboapi_core::answer::{Answer, Headers, Preamble};
use turboapi_core::balance::Spread;
use turboapi_core::connection::Shared;
use turboapi_core::handler::{Ended, Handler, Outcome};
use turboapi_core::limits::Limits;
use turboapi_core::request::{Request, RequestId};
use turboapi_core::router::Router;
use turboapi_core::worker::Worker;
use turboapi_platform::fakes::script::{Peer, Script, Stage, Step};
use turboapi_platform::{Close, IoConfig, ListenerId, Platform, Wait};

/// Above so many octets a case is not cut at each of them.
const LONG: usize = 1000;

/// Says what it was called with. `app.py` is the same for a whole server.
#[derive(Default)]
struct Echo {
    calls: Vec<String>,
}

impl Handler for Echo {
    fn call(&mut self, request: &Request<'_>, answer: &mut Answer<'_>) -> Outcome {
        let method = escape(request.head.method.name(request.head_bytes));
        let mut target = escape(request.head.path.of(request.head_bytes));
        if !request.query().is_empty() {
            target = format!("{target}?{}", escape(request.query()));
        }
        let mut call = format!("{method} {target}");
        match request.body {
            [] => {}
            body if body.len() <= 64 => call += &format!(" {}", escape(body)),
            body => call += &format!(" {} octets", body.len()),
        }
        let mut headers = Headers::default();
        headers.push(b"call", call.as_bytes()).unwrap();
        headers.push(b"content-type", b"text/plain").unwrap();
        self.calls.push(call);
        if let Some(status) = request.path.strip_prefix("/status/") {
            // What an app may say of a 204, and a server must not (RFC 9110 §8.6).
            headers.push(b"content-length", b"0").unwrap();
            answer.whole(status.parse().unwrap(), &headers, b"").unwrap();
        } else if request.path == "/stream" {
            answer.start(200, &headers).unwrap();
            answer.part(Bytes::from_static(b"one"), true).unwrap();
            answer.part(Bytes::from_static(b"two"), false).unwrap();
        } else {
            let mut body = format!("path {}\n", request.path).into_bytes();
            for (name, value) in request.headers() {
                body.extend([&name.to_ascii_lowercase(), b": ".as_slice(), value, b"\n"].concat());
            }
            body.extend([b"\n", request.body].concat());
            answer.whole(200, &headers, &body).unwrap();
        }
        Outcome::Answered
    }

    fn writable(&mut self, _: RequestId) {}

    fn ended(&mut self, _: RequestId, _: Ended) {}
}

struct Server {
    worker: Worker<Script>,
    stage: Stage,
    peer: Peer,
    echo: Echo,
}

impl Server {
    fn new() -> Self {
        let script = Script::open(&IoConfig { receive_buffers: 8, ..IoConfig::default() }).unwrap();
        let stage = script.stage();
        let router = Router::new(Vec::new(), false).unwrap();
        let mut worker =
            Worker::new(script, Shared::new(Limits::default(), router, Preamble::new(Some("turboapi"), true)));
        // The script never looks at the descriptor.
        worker.listen(File::open("/dev/null").unwrap().as_fd(), Spread::Kernel).unwrap();
        let peer = stage.peer();
        let mut server = Self { worker, stage, peer, echo: Echo::default() };
        server.step(Step::Connect { listener: ListenerId(0), peer });
        server
    }

    fn step(&mut self, step: Step) {
        self.stage.push_turn(vec![step]);
        let mut sent = usize::MAX;
        // Until it has nothing more to do: a turn that sends nothing, when the script is over.
        while !self.stage.is_over() || sent != self.stage.asked().len() {
            sent = self.stage.asked().len();
            self.worker.turn(Wait::Poll).unwrap();
            self.worker.dispatch(&mut self.echo);
        }
    }

    fn send(&mut self, octets: &[u8]) {
        if !octets.is_empty() {
            self.step(Step::Bytes { peer: self.peer, bytes: octets.to_vec() });
        }
    }

    fn end(&mut self) {
        self.step(Step::End { peer: self.peer });
    }
}

fn play(case: &Case, pieces: &[&[u8]], is_paused: bool) -> Seen {
    let mut server = Server::new();
    for (index, piece) in pieces.iter().enumerate() {
        assert!(index == 0 || !is_paused || !server.stage.sent(server.peer).is_empty(), "{}: nothing came", case.name);
        server.send(piece);
    }
    if case.ends {
        server.end();
    }
    match case.end {
        End::Open => server.send(PROBE),
        End::Waits => server.end(),
        End::Closes => {}
    }
    // A reset would be a failure too: the peer might lose what was sent before it.
    let has_closed = matches!(server.stage.closed(server.peer), Some(Close::AfterSend | Close::Linger(_)));
    Seen { octets: server.stage.sent(server.peer), calls: Some(server.echo.calls), has_closed, is_paused }
}

/// Without the value of Date, as a second may pass between two plays, and without 1xx.
fn comparable(octets: &[u8]) -> Vec<u8> {
    let mut text = escape(octets).replace("HTTP/1.1 100 Continue\\r\\n\\r\\n", "");
    let mut from = 0;
    while let Some(at) = text[from..].find("date: ") {
        from += at + "date: ".len();
        text.replace_range(from..from + 29, "");
    }
    text.into_bytes()
}

/// Plays one case in every way; what failed first.
fn check(case: &Case) -> Result<usize, String> {
    let parts: Vec<&[u8]> = case.parts.iter().map(Vec::as_slice).collect();
    let judged = |name: String, seen: &Seen| {
        verdict::judge(case, seen).map_err(|what| verdict::report(case, &name, &what, seen))
    };
    let written = play(case, &parts, true);
    judged("as it is written".into(), &written)?;
    let sent = case.sent();
    // A long case is long because of one thing that is repeated.
    let step = if sent.len() <= LONG { 1 } else { sent.len() / 40 };
    let mut plays = vec![("octet by octet".to_owned(), sent.chunks(1).collect::<Vec<_>>())];
    for cut in (0..sent.len()).step_by(step) {
        let (one, two) = sent.split_at(cut);
        plays.push((format!("cut at {cut}"), vec![one, two]));
    }
    let count = plays.len() + 1;
    for (name, pieces) in plays {
        let seen = play(case, &pieces, false);
        judged(name.clone(), &seen)?;
        if comparable(&seen.octets) != comparable(&written.octets) || seen.calls != written.calls {
            return Err(verdict::report(case, &name, "other octets than without cuts", &seen));
        }
    }
    Ok(count)
}

#[test]
fn every_case() {
    let cases = case::read_all(&case::folder()).unwrap();
    assert!(cases.len() > 300, "{} cases: where are the others?", cases.len());
    let (mut failures, mut plays) = (Vec::new(), 0);
    for case in &cases {
        match check(case) {
            Ok(count) => plays += count,
            Err(failure) => failures.push(failure),
        }
    }
    println!("{} cases, {plays} plays", cases.len());
    assert!(failures.is_empty(), "{} of {} cases failed\n{}", failures.len(), cases.len(), failures.join("\n"));
}
