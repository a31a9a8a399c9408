//! `Connection` with a handler above it: any octets in any pieces. The handler is called for exactly those requests
//! that the reference finds, the same octets are answered however they came and whenever they were taken, and what a
//! connection keeps is bounded.

use bytes::Bytes;
use turboapi_conformance::answers;
use turboapi_conformance::octets::escape;
use turboapi_core::answer::{Answer, Headers, Preamble};
use turboapi_core::connection::{Connection, Shared};
use turboapi_core::handler::{Ended, Handler, Outcome, Part};
use turboapi_core::limits::Limits;
use turboapi_core::request::{Origin, Request, RequestId};
use turboapi_core::router::Router;
use turboapi_platform::{Close, ConnectionId};

use crate::reference::{self, Rest};
use crate::{limits, split_at};

/// How a request is answered: by the last octet of its target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Manner {
    AtOnce,
    AtOnceAndCloses,
    AtOnceInParts,
    Later,
    LaterInParts,
    LaterFailed,
}

impl Manner {
    fn of(target: &[u8]) -> Self {
        match target.last() {
            Some(b'c') => Self::AtOnceAndCloses,
            Some(b's') => Self::AtOnceInParts,
            Some(b'l') => Self::Later,
            Some(b'm') => Self::LaterInParts,
            Some(b'f') => Self::LaterFailed,
            _ => Self::AtOnce,
        }
    }

    fn is_in_parts(self) -> bool {
        matches!(self, Self::AtOnceInParts | Self::LaterInParts)
    }
}

/// A request as the handler saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Call {
    method: Vec<u8>,
    target: Vec<u8>,
    headers: Vec<(Vec<u8>, Vec<u8>)>,
    body: Vec<u8>,
}

impl Call {
    /// What it is answered with.
    fn answer(&self) -> Vec<u8> {
        [&self.method, b" ".as_slice(), &self.target, b" ", &self.body].concat()
    }
}

#[derive(Default)]
struct Recorder {
    calls: Vec<Call>,
    waiting: Option<(RequestId, Vec<Part>)>,
    ended: usize,
    later: usize,
}

impl Handler for Recorder {
    fn call(&mut self, request: &Request<'_>, answer: &mut Answer<'_>) -> Outcome {
        assert!(self.waiting.is_none(), "a second request is with the handler");
        let call = Call {
            method: request.head.method.name(request.head_bytes).to_vec(),
            target: request.head.target.of(request.head_bytes).to_vec(),
            headers: request.headers().map(|(name, value)| (name.to_vec(), value.to_vec())).collect(),
            body: request.body.to_vec(),
        };
        let (manner, body) = (Manner::of(&call.target), call.answer());
        self.calls.push(call);
        let (one, two) = body.split_at(body.len() / 2);
        let (one, two) = (Bytes::copy_from_slice(one), Bytes::copy_from_slice(two));
        let mut headers = Headers::default();
        if manner == Manner::AtOnceAndCloses {
            headers.push(b"connection", b"close").expect("well-formed");
        }
        let parts = match manner {
            Manner::AtOnce | Manner::AtOnceAndCloses => {
                answer.whole(200, &headers, &body).expect("the first answer");
                return Outcome::Answered;
            }
            Manner::AtOnceInParts => {
                answer.start(200, &headers).expect("the first answer");
                answer.part(one, true).expect("begun");
                answer.part(two, false).expect("begun");
                return Outcome::Answered;
            }
            Manner::Later => vec![Part::Whole { status: 200, headers, body: body.into() }],
            Manner::LaterInParts => {
                let body = |data, more| Part::Body { data, more };
                vec![Part::Start { status: 200, headers }, body(one, true), body(Bytes::new(), true), body(two, false)]
            }
            Manner::LaterFailed => vec![Part::Failed],
        };
        self.later += 1;
        self.waiting = Some((request.id, parts));
        Outcome::Later
    }

    fn writable(&mut self, _: RequestId) {}

    fn ended(&mut self, _: RequestId, how: Ended) {
        self.ended += usize::from(how != Ended::HalfClosed);
    }
}

/// When the peer takes what it is sent, and when later answers come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pace {
    AtOnce,
    AtTheEnd,
}

/// What came of it.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    calls: Vec<Call>,
    octets: Vec<u8>,
    has_closed: bool,
}

/// The connection, and what a worker and a platform would do for it.
struct Rig {
    shared: Shared,
    connection: Connection,
    handler: Recorder,
    octets: Vec<u8>,
    reads: bool,
    unsent_max: usize,
}

impl Rig {
    fn new(limits: Limits, input_length: usize) -> Self {
        // Requests that are taken before the bound is seen, each answered once.
        let unsent_max = limits.unsent_bytes_max + 2 * input_length + 1024;
        let router = Router::new(Vec::new(), false).expect("no routes are routes");
        let shared = Shared::new(limits, router, Preamble::new(None, false));
        let connection = Connection::new(ConnectionId::new(7, 1), Origin::NOWHERE, &shared);
        Self { shared, connection, handler: Recorder::default(), octets: Vec::new(), reads: true, unsent_max }
    }

    fn receive(&mut self, piece: &[u8]) {
        // A platform that was told not to read does not bring more; the peer has to take something first.
        // One that closes takes what comes, and drops it.
        while !self.reads && self.connection.wants_close().is_none() {
            assert!(self.answer() || self.take() || self.go_on(), "it reads no more, and nothing can change that");
        }
        self.connection.receive(piece, &mut self.shared, &mut self.handler);
        self.settle();
    }

    /// Gives one part of the answer that is waited for.
    fn answer(&mut self) -> bool {
        let Some((id, parts)) = &mut self.handler.waiting else { return false };
        let (id, part) = (*id, parts.remove(0));
        if parts.is_empty() {
            self.handler.waiting = None;
        }
        let done = self.connection.answer(id.number, part, &mut self.shared, &mut self.handler);
        assert!(matches!(done, Ok(true)), "{done:?}");
        self.settle();
        true
    }

    fn take(&mut self) -> bool {
        if self.connection.wire.in_send == 0 {
            return false;
        }
        self.connection.sent(&mut self.shared, &mut self.handler);
        self.settle();
        true
    }

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
        assert!(
            connection.wire.output.len() + connection.wire.in_send <= self.unsent_max,
            "{} unsent",
            connection.wire.output.len()
        );
        if connection.wire.in_send == 0 && !connection.wire.output.is_empty() {
            let (head, body) = connection.wire.output.take(usize::MAX);
            connection.wire.in_send = head.len() + body.len();
            assert_ne!(connection.wire.in_send, 0);
            self.octets.extend_from_slice(&head);
            self.octets.extend_from_slice(&body);
        }
        if let Some(reads) = connection.take_reads_change(&self.shared) {
            assert_ne!(reads, self.reads, "no change");
            self.reads = reads;
        }
        assert_eq!(self.shared.in_flight, usize::from(connection.is_answering()));
        assert_eq!(connection.is_answering(), self.handler.waiting.is_some(), "who answers knows of it");
    }
}

fn play<'p>(pieces: impl Iterator<Item = &'p [u8]>, length: usize, ends: bool, pace: Pace, limits: &Limits) -> Seen {
    let mut rig = Rig::new(limits.clone(), length);
    for piece in pieces.filter(|piece| !piece.is_empty()) {
        rig.receive(piece);
        while pace == Pace::AtOnce && (rig.answer() || rig.take() || rig.go_on()) {}
    }
    if ends {
        rig.connection.end(&mut rig.shared, &mut rig.handler);
        rig.settle();
    }
    while rig.answer() || rig.take() || rig.go_on() {}
    assert_eq!(rig.handler.ended, rig.handler.later, "each later answer ends once");
    let close = rig.connection.wants_close();
    assert_ne!(close, Some(Close::Abort));
    Seen { calls: rig.handler.calls, octets: without_continue(&rig.octets), has_closed: close.is_some() }
}

/// Whether the go-ahead is sent depends on how the octets come (RFC 9110 §10.1.1).
fn without_continue(octets: &[u8]) -> Vec<u8> {
    const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";
    let (mut out, mut at) = (Vec::new(), 0);
    while at < octets.len() {
        if octets[at..].starts_with(CONTINUE) {
            at += CONTINUE.len();
        } else {
            out.push(octets[at]);
            at += 1;
        }
    }
    out
}

/// The first octet chooses limits, the peer's end and cuts; what follows is received.
pub fn run(data: &[u8]) {
    let Some((&choice, octets)) = data.split_first() else { return };
    let (limits, ends, length) = (limits(choice & 1 == 1), choice & 2 != 0, octets.len());
    let cut = usize::from(choice >> 2) * 13;
    let play = |pieces: &[&[u8]], pace| play(pieces.iter().copied(), length, ends, pace, &limits);
    let whole = play(&[octets], Pace::AtOnce);
    let (first, second) = split_at(octets, cut);
    let shown = || escape(octets);
    // A half-closed peer may be told so in the last answer: that depends on which answers were there before its end.
    let same = |seen: &Seen, pace: Pace, how: &str| {
        if ends && pace == Pace::AtTheEnd {
            assert_eq!((&seen.calls, seen.has_closed), (&whole.calls, whole.has_closed), "{how}: {}", shown());
        } else {
            assert!(*seen == whole, "{how}: {seen:?}, and whole {whole:?}: {}", shown());
        }
    };
    for pace in [Pace::AtOnce, Pace::AtTheEnd] {
        same(&play(&[first, second], pace), pace, "cut");
        same(&play(&octets.chunks(1).collect::<Vec<_>>(), pace), pace, "octet by octet");
    }
    same(&play(&octets.chunks(cut % 7 + 2).collect::<Vec<_>>(), Pace::AtOnce), Pace::AtOnce, "in pieces");
    compare(&whole, octets, ends, &limits);
}

fn compare(seen: &Seen, octets: &[u8], ends: bool, limits: &Limits) {
    let shown = || escape(octets);
    let is_last = |head: &reference::Head| {
        let manner = Manner::of(&head.target);
        let needs_close = head.minor_version == 0 && manner.is_in_parts() && head.method != b"HEAD";
        !head.keeps_alive || manner == Manner::AtOnceAndCloses || needs_close
    };
    let (requests, rest) = reference::stream(octets, limits, is_last);
    let expected: Vec<Call> = requests
        .iter()
        .map(|request| {
            let reference::Request { head, body } = request.clone();
            Call { method: head.method, target: head.target, headers: head.headers, body }
        })
        .collect();
    assert_eq!(seen.calls, expected, "{}", shown());
    let is_bodiless = |index: usize| requests.get(index).is_some_and(|request| request.head.method == b"HEAD");
    // A refused HEAD has no body either, and only the core knows that it was one: its length is not looked at.
    let answered = match answers::parse(&seen.octets, is_bodiless) {
        Err(_) if matches!(rest, Rest::Refused | Rest::Partial) => {
            answers::parse(&seen.octets, |index| is_bodiless(index) || index == requests.len())
        }
        parsed => parsed,
    };
    let answered = answered.unwrap_or_else(|what| panic!("{what}: {} to {}", escape(&seen.octets), shown()));
    let is_refused = match rest {
        Rest::Refused => true,
        // What cannot become a message may be refused early, and what is cut has to be.
        Rest::Partial => ends || answered.len() > requests.len(),
        Rest::Nothing | Rest::Unread => false,
    };
    assert_eq!(answered.len(), requests.len() + usize::from(is_refused), "{}", shown());
    assert_eq!(seen.has_closed, is_refused || ends || rest == Rest::Unread, "{}", shown());
    for (answer, (request, call)) in answered.iter().zip(requests.iter().zip(&expected)) {
        let has_failed = Manner::of(&call.target) == Manner::LaterFailed;
        assert_eq!(answer.status, if has_failed { 500 } else { 200 }, "{}", shown());
        let body = if request.head.method == b"HEAD" { Vec::new() } else { call.answer() };
        assert!(has_failed || answer.body == body, "{}", shown());
    }
    if is_refused {
        let refusal = answered.last().expect("counted above");
        assert!(refusal.status >= 400 && refusal.says_close(), "{}", shown());
    }
}
