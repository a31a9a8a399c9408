//! What is asked and what must come back: each request carries a number that nobody else has.

use std::io::Write;

/// The longest answer that is looked at. The app's are below 300 bytes.
const ANSWER_BYTES_MAX: usize = 4096;

/// Appends the request of this number.
pub fn write_request(number: u64, out: &mut Vec<u8>) {
    // Writing to a vector cannot fail.
    let _ = match kind(number) {
        Kind::Function => write!(out, "GET /users/{number} HTTP/1.1\r\nhost: localhost\r\n\r\n"),
        Kind::Coroutine => write!(out, "GET /async/users/{number} HTTP/1.1\r\nhost: localhost\r\n\r\n"),
        Kind::Body => {
            let body = body(number);
            let length = body.len();
            write!(
                out,
                "POST /items HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
            )
        }
    };
}

/// How far an answer has come.
#[derive(Debug, PartialEq, Eq)]
pub enum Seen {
    /// It may become right.
    NeedMore,
    /// It is whole and right, and nothing stands behind it.
    Right,
    /// It cannot be right any more: why.
    Wrong(&'static str),
}

/// Compares what was received since the request of this number with what has to come.
pub fn check(number: u64, received: &[u8]) -> Seen {
    const STATUS: &[u8] = b"HTTP/1.1 200 OK\r\n";
    let compared = received.len().min(STATUS.len());
    if received[..compared] != STATUS[..compared] {
        return Seen::Wrong("status");
    }
    let Some(end) = received.windows(4).position(|window| window == b"\r\n\r\n") else {
        return if received.len() > ANSWER_BYTES_MAX { Seen::Wrong("head without an end") } else { Seen::NeedMore };
    };
    let (head, content) = (&received[..end], &received[end + 4..]);
    let expected = expected(number);
    match length_of(head) {
        Some(length) if length == expected.len() => {}
        Some(_) => return Seen::Wrong("length"),
        None => return Seen::Wrong("no length"),
    }
    if content.len() > expected.len() {
        Seen::Wrong("more than one answer")
    } else if *content != expected.as_bytes()[..content.len()] {
        Seen::Wrong("body")
    } else if content.len() < expected.len() {
        Seen::NeedMore
    } else {
        Seen::Right
    }
}

enum Kind {
    Function,
    Coroutine,
    Body,
}

fn kind(number: u64) -> Kind {
    match number % 8 {
        0 => Kind::Body,
        1..=3 => Kind::Coroutine,
        _ => Kind::Function,
    }
}

fn body(number: u64) -> String {
    format!("{{\"name\":\"thing {number}\",\"price\":0.5,\"tags\":[\"{number}\"]}}")
}

fn expected(number: u64) -> String {
    match kind(number) {
        Kind::Body => body(number),
        Kind::Function | Kind::Coroutine => format!("{{\"user_id\":{number}}}"),
    }
}

/// What the one Content-Length of a head says.
fn length_of(head: &[u8]) -> Option<usize> {
    let mut found = None;
    for line in head.split(|&byte| byte == b'\n') {
        let Some(colon) = line.iter().position(|&byte| byte == b':') else { continue };
        if line[..colon].eq_ignore_ascii_case(b"content-length") {
            if found.is_some() {
                return None;
            }
            found = Some(std::str::from_utf8(&line[colon + 1..]).ok()?.trim().parse().ok()?);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers() {
        let check = |number, answer: &str, expected: Seen| {
            assert_eq!(super::check(number, answer.as_bytes()), expected, "{answer:?}");
            if expected == Seen::Right {
                for end in 0..answer.len() {
                    assert_eq!(super::check(number, &answer.as_bytes()[..end]), Seen::NeedMore, "{end}");
                }
            }
        };
        check(12, "HTTP/1.1 200 OK\r\nServer: x\r\nContent-Length: 14\r\n\r\n{\"user_id\":12}", Seen::Right);
        check(9, "HTTP/1.1 200 OK\r\ncontent-length: 13\r\n\r\n{\"user_id\":9}", Seen::Right);
        let item = r#"{"name":"thing 8","price":0.5,"tags":["8"]}"#;
        check(8, &format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{item}", item.len()), Seen::Right);
        check(12, "HTTP/1.1 500 Internal", Seen::Wrong("status"));
        check(12, "\r\n", Seen::Wrong("status"));
        check(12, "HTTP/1.1 200 OK\r\n\r\n{\"user_id\":12}", Seen::Wrong("no length"));
        check(12, "HTTP/1.1 200 OK\r\ncontent-length: 13\r\n\r\n{\"user_id\":1}", Seen::Wrong("length"));
        check(12, "HTTP/1.1 200 OK\r\ncontent-length: 14\r\n\r\n{\"user_id\":13}", Seen::Wrong("body"));
        check(
            12,
            "HTTP/1.1 200 OK\r\ncontent-length: 14\r\n\r\n{\"user_id\":12}H",
            Seen::Wrong("more than one answer"),
        );
        check(12, "HTTP/1.1 200 OK\r\ncontent-length: 14\r\ncontent-length: 14\r\n\r\n", Seen::Wrong("no length"));
    }
}
