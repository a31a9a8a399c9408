//! Requests that must be refused, each with the status that says why. Their path has a token like any other's, so that one
//! which reaches the handler is seen there.

use turboapi_core::limits::Limits;
use turboapi_platform::fakes::simulated::Random;

/// A head behind its request line, what follows it, and the status of its refusal.
const CASES: &[(&str, &str, u16)] = &[
    ("GET", " HTTP/1.1\nHost: h\r\n\r\n", 400),
    ("GET", " HTTP/1.1\r\nHost : h\r\n\r\n", 400),
    ("GET", " HTTP/1.1\r\n\r\n", 400),
    ("GET", " HTTP/1.1\r\nHost: h\r\nHost: h\r\n\r\n", 400),
    ("GET", " HTTP/1.1\r\nHost: h\r\n folded\r\n\r\n", 400),
    ("GET", " HTTP/1.1\r\nHost: h\r\nno colon\r\n\r\n", 400),
    ("GET", " HTTP/1.1\r\nHost: h\r\nX: a\0b\r\n\r\n", 400),
    ("G(T", " HTTP/1.1\r\nHost: h\r\n\r\n", 400),
    ("GET", "#f HTTP/1.1\r\nHost: h\r\n\r\n", 400),
    ("GET", " HTTP/2.0\r\nHost: h\r\n\r\n", 505),
    ("CONNECT", " HTTP/1.1\r\nHost: h\r\n\r\n", 501),
    ("POST", " HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    ("POST", " HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\nContent-Length: 4\r\n\r\nabcd", 400),
    ("POST", " HTTP/1.1\r\nHost: h\r\nContent-Length: +4\r\n\r\nabcd", 400),
    ("POST", " HTTP/1.0\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    ("POST", " HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip\r\n\r\n", 501),
    ("POST", " HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0x4\r\nabcd\r\n0\r\n\r\n", 400),
    ("POST", " HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nabcdX\r\n0\r\n\r\n", 400),
    ("POST", " HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nabcd\r\n0\r\nno colon\r\n\r\n", 400),
    ("POST", " HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n4;=\r\nabcd\r\n0\r\n\r\n", 400),
    ("POST", " HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\nExpect: tea\r\n\r\nabcd", 417),
];

/// Draws one.
#[must_use]
pub fn draw(random: &mut Random, token: u32, limits: &Limits) -> (Vec<u8>, u16) {
    let chunked = " HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n";
    match random.below(CASES.len() as u64 + 5) {
        0 => (b"\x16\x03\x01\x02\x00".to_vec(), 400),
        1 => {
            let length = limits.body_bytes_max + 1;
            let head = format!("POST /{token} HTTP/1.1\r\nHost: h\r\nContent-Length: {length}\r\n\r\n");
            (head.into_bytes(), 413)
        }
        2 => (format!("POST /{token}{chunked}{:x}\r\n", limits.body_bytes_max + 1).into_bytes(), 413),
        3 => {
            let filler = "x".repeat(limits.head_bytes_max);
            (format!("GET /{token} HTTP/1.1\r\nHost: h\r\nX: {filler}\r\n\r\n").into_bytes(), 431)
        }
        4 => {
            let filler = "x".repeat(limits.request_line_bytes_max);
            (format!("GET /{token}/{filler} HTTP/1.1\r\nHost: h\r\n\r\n").into_bytes(), 414)
        }
        case => {
            let (method, rest, status) = CASES[case as usize - 5];
            let target = if method == "CONNECT" { "h:80".to_owned() } else { format!("/{token}") };
            (format!("{method} {target}{rest}").into_bytes(), status)
        }
    }
}
