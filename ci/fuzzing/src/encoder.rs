//! The way out: any status, header lines and body parts that a handler may give. What leaves is read back by httparse
//! and by the reader of the conformance cases: it says what was given, and the answer behind it begins where it should.
//! No octet that was given ends a line.

use bytes::Bytes;
use turboapi_conformance::answers;
use turboapi_conformance::octets::escape;
use turboapi_core::answer::{Answer, AnswerError, Headers, Preamble};
use turboapi_core::connection::{Connection, Shared};
use turboapi_core::handler::{Ended, Handler, Outcome, Part};
use turboapi_core::request::{Origin, Request, RequestId};
use turboapi_core::router::Router;
use turboapi_platform::{Close, ConnectionId};

use crate::{limits, reference};

/// Names in lower case, and values.
type Lines = Vec<(String, Vec<u8>)>;

/// The ways in which a handler answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Manner {
    Whole,
    Shared,
    Json,
    InParts,
    LaterWhole,
    LaterJson,
    LaterInParts,
}

const MANNERS: [Manner; 7] = [
    Manner::Whole,
    Manner::Shared,
    Manner::Json,
    Manner::InParts,
    Manner::LaterWhole,
    Manner::LaterJson,
    Manner::LaterInParts,
];

/// An answer, read from the fuzzer's octets.
#[derive(Debug)]
struct Given {
    manner: Manner,
    is_head: bool,
    is_1_0: bool,
    asks_to_stay: bool,
    status: u16,
    headers: Vec<(Vec<u8>, Vec<u8>)>,
    parts: Vec<Vec<u8>>,
}

struct Octets<'d>(&'d [u8]);

impl<'d> Octets<'d> {
    fn one(&mut self) -> u8 {
        let (first, rest) = self.0.split_first().unwrap_or((&0, &[]));
        self.0 = rest;
        *first
    }

    fn some(&mut self, count: usize) -> &'d [u8] {
        let (first, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        first
    }
}

impl Given {
    fn read(data: &[u8]) -> Self {
        let mut octets = Octets(data);
        let (manner, flags) = (octets.one(), octets.one());
        let status = 200 + u16::from(octets.one()) * 4 % 800 + u16::from(octets.one()) % 4;
        let (headers_count, parts_count) = (octets.one() % 6, octets.one() % 4 + 1);
        let headers = (0..headers_count)
            .map(|_| {
                let name = match octets.one() {
                    // Names that mean something to the encoder would be found by luck only.
                    0xff => b"Content-Length".as_slice(),
                    0xfe => b"Transfer-Encoding",
                    0xfd => b"connection",
                    0xfc => b"Date",
                    0xfb => b"server",
                    length => octets.some(usize::from(length % 16)),
                };
                let length = octets.one() % 16;
                (name.to_vec(), octets.some(usize::from(length)).to_vec())
            })
            .collect();
        let parts = (0..parts_count)
            .map(|_| {
                let length = octets.one();
                let data = octets.some(usize::from(length % 64));
                // A part that is not copied is a large one.
                if length >= 0xf0 {
                    data.iter().copied().cycle().take(if data.is_empty() { 0 } else { 20_000 }).collect()
                } else {
                    data.to_vec()
                }
            })
            .collect();
        Self {
            manner: MANNERS[usize::from(manner) % MANNERS.len()],
            is_head: flags & 1 != 0,
            is_1_0: flags & 2 != 0,
            asks_to_stay: flags & 4 != 0,
            status,
            headers,
            parts,
        }
    }

    fn body(&self) -> Vec<u8> {
        self.parts.concat()
    }

    fn is_json(&self) -> bool {
        matches!(self.manner, Manner::Json | Manner::LaterJson)
    }

    fn is_in_parts(&self) -> bool {
        matches!(self.manner, Manner::InParts | Manner::LaterInParts)
    }

    /// The same lines as the encoder should take, and the length that they promise.
    fn headers(&self) -> (Headers, Lines, Option<u64>) {
        let (mut headers, mut lines, mut length) = (Headers::default(), Vec::new(), None);
        for (name, value) in &self.headers {
            let lower = String::from_utf8_lossy(name).to_ascii_lowercase();
            let digits =
                std::str::from_utf8(value).ok().filter(|text| text.bytes().all(|digit| digit.is_ascii_digit()));
            let number: Option<u64> = digits.and_then(|digits| digits.parse().ok());
            let is_length = lower == "content-length";
            let fits = !is_length || (number.is_some() && length.is_none_or(|length| Some(length) == number));
            // Another coding than the one that the server applies itself would be a promise that nobody keeps.
            let is_coded = lower != "transfer-encoding" || value.trim_ascii().eq_ignore_ascii_case(b"chunked");
            let is_right = reference::is_token(name) && reference::is_value(value) && fits && is_coded;
            let pushed = headers.push(name, value);
            assert_eq!(pushed.is_ok(), is_right, "{}: {}", escape(name), escape(value));
            if !is_right || lower == "transfer-encoding" || (is_length && length.is_some()) {
                continue;
            }
            if is_length {
                length = number;
            }
            lines.push((lower, value.trim_ascii().to_vec()));
        }
        (headers, lines, length)
    }
}

/// Answers `/` as given, and everything else with its path.
struct Giver<'g> {
    given: &'g Given,
    waiting: Option<(RequestId, Vec<Part>)>,
    failed: Option<AnswerError>,
}

impl Giver<'_> {
    fn give(&mut self, id: RequestId, answer: &mut Answer<'_>) -> Result<Outcome, AnswerError> {
        let (given, (headers, _, _)) = (self.given, self.given.headers());
        let (status, body) = (given.status, given.body());
        let last = given.parts.len() - 1;
        match given.manner {
            Manner::Whole => answer.whole(status, &headers, &body)?,
            Manner::Shared => answer.whole_shared(status, &headers, body.into())?,
            Manner::Json => answer.json(status, &body)?,
            Manner::InParts => {
                answer.start(status, &headers)?;
                for (index, part) in given.parts.iter().enumerate() {
                    answer.part(Bytes::copy_from_slice(part), index < last)?;
                }
            }
            Manner::LaterWhole => self.waiting = Some((id, vec![Part::Whole { status, headers, body: body.into() }])),
            Manner::LaterJson => self.waiting = Some((id, vec![Part::Json { status, body: body.into() }])),
            Manner::LaterInParts => {
                let mut parts = vec![Part::Start { status, headers }];
                parts.extend(
                    given
                        .parts
                        .iter()
                        .enumerate()
                        .map(|(index, part)| Part::Body { data: Bytes::copy_from_slice(part), more: index < last }),
                );
                self.waiting = Some((id, parts));
            }
        }
        Ok(if self.waiting.is_some() { Outcome::Later } else { Outcome::Answered })
    }
}

impl Handler for Giver<'_> {
    fn call(&mut self, request: &Request<'_>, answer: &mut Answer<'_>) -> Outcome {
        if request.path != "/" {
            answer.whole(200, &Headers::default(), request.path.as_bytes()).expect("the first answer");
            return Outcome::Answered;
        }
        self.give(request.id, answer).unwrap_or_else(|error| {
            self.failed = Some(error);
            Outcome::Answered
        })
    }

    fn writable(&mut self, _: RequestId) {}

    fn ended(&mut self, _: RequestId, _: Ended) {}
}

/// What leaves for a request that is answered as given and one behind it, whether it was broken off, and whether
/// the core said that the answer breaks its promise.
fn play(given: &Given) -> (Vec<u8>, bool, bool) {
    let router = Router::new(Vec::new(), false).expect("no routes are routes");
    let mut shared = Shared::new(limits(false), router, Preamble::new(Some("s"), true));
    let mut connection = Connection::new(ConnectionId::new(7, 1), Origin::NOWHERE, &shared);
    let mut giver = Giver { given, waiting: None, failed: None };
    let method = if given.is_head { "HEAD" } else { "GET" };
    let version = u8::from(!given.is_1_0);
    let stays = if given.asks_to_stay { "Connection: keep-alive\r\n" } else { "" };
    let request = format!("{method} / HTTP/1.{version}\r\nHost: h\r\n{stays}\r\nGET /next HTTP/1.1\r\nHost: h\r\n\r\n");
    connection.receive(request.as_bytes(), &mut shared, &mut giver);
    if let Some((id, parts)) = giver.waiting.take() {
        for part in parts {
            if let Err(error) = connection.answer(id.number, part, &mut shared, &mut giver) {
                giver.failed = Some(error);
                break;
            }
        }
    }
    let mut octets = Vec::new();
    while !connection.wire.output.is_empty() {
        let (head, body) = connection.wire.output.take(1000);
        assert!(head.len() + body.len() <= 1000 && head.len() + body.len() > 0);
        octets.extend([&head[..], &body].concat());
        // The peer takes it: what stands behind a large answer waits for that.
        connection.sent(&mut shared, &mut giver);
    }
    // A mistake that is seen within the call is a 500. One that comes later, or within the answer, ends the connection.
    let is_told = octets.starts_with(b"HTTP/1.1 500");
    let is_broken_off = giver.failed.is_some() && !is_told && connection.wants_close().is_some();
    assert_ne!(connection.wants_close(), Some(Close::Abort), "a reset, where a length tells the end");
    (octets, is_broken_off, giver.failed.is_some())
}

/// The octets say how a handler answers.
pub fn run(data: &[u8]) {
    let given = Given::read(data);
    let (octets, is_broken_off, has_failed) = play(&given);
    let (_, lines, length) = given.headers();
    let may_have_body = !given.is_head && given.status != 204 && given.status != 304;
    // Told only when something is wrong: it costs more than all the rest.
    let shown = || format!("{given:?}\n{}", escape(&octets));
    // A promise of another length than the body's is the only mistake that can be made here.
    let breaks = may_have_body && !given.is_json() && length.is_some_and(|length| length != given.body().len() as u64);
    assert_eq!(has_failed, breaks, "{}", shown());
    if is_broken_off {
        // All that the length has room for, and nothing that says there is no more to come.
        let head = octets.windows(4).position(|window| window == b"\r\n\r\n").map_or(octets.len(), |at| at + 4);
        let sent = &octets[head..];
        assert!(given.body().starts_with(sent) && sent.len() as u64 <= length.unwrap_or(0), "{}", shown());
        return;
    }
    let answered = answers::parse(&octets, |index| index == 0 && given.is_head)
        .unwrap_or_else(|what| panic!("{what}: {}", shown()));
    let answer = &answered[0];
    let status = if breaks { 500 } else { given.status };
    assert_eq!(answer.status, status, "{}", shown());
    let expected = match () {
        () if breaks => b"Internal Server Error".to_vec(),
        () if may_have_body => given.body(),
        () => Vec::new(),
    };
    if answer.ends_with_connection {
        // Only where nothing else can end it: the parts of an answer to 1.0, and nothing stands behind them.
        assert!(given.is_1_0 && given.is_in_parts() && length.is_none() && answered.len() == 1, "{}", shown());
    }
    assert_eq!(answer.body, expected, "{}", shown());
    check_lines(&given, answer, &lines, breaks, &shown);
    if answer.says_close() {
        assert_eq!(answered.len(), 1, "{}", shown());
    } else {
        assert_eq!(answered.len(), 2, "{}", shown());
        assert_eq!(answered[1].body, b"/next", "{}", shown());
    }
    check_with_httparse(&octets, answer, &shown);
}

/// The lines that were given are there in order, and no others but those that the server writes.
fn check_lines(
    given: &Given,
    answer: &answers::Answer,
    lines: &[(String, Vec<u8>)],
    breaks: bool,
    shown: &impl Fn() -> String,
) {
    let lines: Lines = lines.iter().filter_map(|(name, value)| as_sent(name, value, given.status)).collect();
    let sent: Lines = answer.headers.iter().map(|(name, value)| (name.to_ascii_lowercase(), value.clone())).collect();
    let mut left = sent.iter();
    if !breaks && !given.is_json() {
        for line in &lines {
            assert!(left.any(|other| other == line), "{line:?} is not there: {}", shown());
        }
    }
    for (name, value) in &sent {
        let is_given = lines.iter().any(|line| (&line.0, &line.1) == (name, value));
        let is_ours =
            matches!(name.as_str(), "date" | "server" | "content-length" | "transfer-encoding" | "connection");
        assert!(is_given || is_ours || ((breaks || given.is_json()) && name == "content-type"), "{name}: {}", shown());
    }
}

/// A given line as it may leave: how long the connection lasts is the server's to say (RFC 9110 §7.6.1), and a 204 has no length
/// (RFC 9110 §8.6).
fn as_sent(name: &str, value: &[u8], status: u16) -> Option<(String, Vec<u8>)> {
    let words = ["close", "keep-alive"].map(str::as_bytes);
    let value = match name {
        "keep-alive" => return None,
        "content-length" if status == 204 => return None,
        "connection" => {
            let tokens = value.split(|&octet| octet == b',').map(<[u8]>::trim_ascii);
            let kept: Vec<_> = tokens
                .filter(|token| !token.is_empty() && !words.iter().any(|word| token.eq_ignore_ascii_case(word)))
                .collect();
            if kept.is_empty() {
                return None;
            }
            kept.join(&b", "[..])
        }
        _ => value.to_vec(),
    };
    Some((name.to_owned(), value))
}

fn check_with_httparse(octets: &[u8], answer: &answers::Answer, shown: &impl Fn() -> String) {
    let mut slots = [httparse::EMPTY_HEADER; 32];
    let mut response = httparse::Response::new(&mut slots);
    let Ok(httparse::Status::Complete(_)) = response.parse(octets) else { panic!("httparse refuses {}", shown()) };
    assert_eq!((response.code, response.version), (Some(answer.status), Some(1)), "{}", shown());
    let headers: Vec<_> =
        response.headers.iter().map(|header| (header.name.to_owned(), header.value.to_vec())).collect();
    assert_eq!(headers, answer.headers, "{}", shown());
}
