//! `http::head::parse` against the reference and httparse, whole and in pieces.

use turboapi_conformance::octets::escape;
use turboapi_core::error::{BadRequest, Parsed};
use turboapi_core::http::framing::Framing;
use turboapi_core::http::head::{self, Head, Scan};
use turboapi_core::limits::Limits;

use crate::reference::{self, Read};
use crate::{limits, split_at};

/// The first octet chooses the limits and a cut; what follows is parsed.
pub fn run(data: &[u8]) {
    let Some((&choice, octets)) = data.split_first() else { return };
    let limits = limits(choice & 1 == 1);
    let whole = parse([octets].into_iter(), octets, &limits);
    let (first, second) = split_at(octets, usize::from(choice >> 1) * 7);
    assert_eq!(
        parse([first, second].into_iter(), octets, &limits),
        whole,
        "cut at {}: {}",
        first.len(),
        escape(octets)
    );
    assert_eq!(parse(octets.chunks(1), octets, &limits), whole, "octet by octet: {}", escape(octets));
    let reference = reference::head(octets, &limits);
    match (&whole, &reference) {
        (Ok(Parsed::Complete(head)), Read::Whole(expected, length)) => {
            assert_eq!(head.length as usize, *length, "{}", escape(octets));
            compare(head, expected, octets);
            compare_with_httparse(head, octets);
        }
        (Ok(Parsed::NeedMore), Read::Partial) | (Err(_), Read::Refused | Read::Partial) => {}
        _ => panic!("{whole:?}, and the reference {reference:?}: {}", escape(octets)),
    }
}

/// What becomes of pieces that come one after the other. They are all of `octets`.
fn parse<'p>(
    pieces: impl Iterator<Item = &'p [u8]>,
    octets: &[u8],
    limits: &Limits,
) -> Result<Parsed<Head>, BadRequest> {
    let (mut scan, mut head, mut length) = (Scan::default(), Head::default(), 0);
    for piece in pieces {
        length += piece.len();
        if let Parsed::Complete(()) = head::parse(&octets[..length], &mut scan, limits, &mut head)? {
            return Ok(Parsed::Complete(head));
        }
    }
    Ok(Parsed::NeedMore)
}

fn compare(head: &Head, expected: &reference::Head, octets: &[u8]) {
    let shown = || escape(octets);
    assert_eq!(head.method.name(octets), expected.method, "{}", shown());
    assert_eq!(head.target.of(octets), expected.target, "{}", shown());
    assert_eq!(head.minor_version, expected.minor_version, "{}", shown());
    assert_eq!(head.keeps_alive, expected.keeps_alive, "{}", shown());
    let headers: Vec<_> =
        head.headers.iter().map(|header| (header.name.of(octets).to_vec(), header.value.of(octets).to_vec())).collect();
    assert_eq!(headers, expected.headers, "{}", shown());
    let framing = match expected.length {
        _ if expected.is_chunked => Framing::Chunked,
        Some(length) => Framing::Length(length),
        None => Framing::None,
    };
    assert_eq!(head.framing, framing, "{}", shown());
    assert!(!head.path.is_empty(), "{}", shown());
    assert!(head.query.is_empty() || expected.target.contains(&b'?'), "{}", shown());
}

/// The parts that the core does not take from it: where the head ends, and the request line.
fn compare_with_httparse(head: &Head, octets: &[u8]) {
    let mut slots = [httparse::EMPTY_HEADER; 100];
    let mut request = httparse::Request::new(&mut slots);
    // httparse knows 1.0 and 1.1 only.
    let line = head.target.end as usize..;
    if !octets[line].starts_with(b" HTTP/1.0") && !octets[head.target.end as usize..].starts_with(b" HTTP/1.1") {
        return;
    }
    match request.parse(octets) {
        Ok(httparse::Status::Complete(length)) => {
            assert_eq!(length, head.length as usize, "{}", escape(octets));
            assert_eq!(request.method.map(str::as_bytes), Some(head.method.name(octets)));
            assert_eq!(request.path.map(str::as_bytes), Some(head.target.of(octets)));
            assert_eq!(request.version, Some(head.minor_version));
            assert_eq!(request.headers.len(), head.headers.len());
        }
        other => panic!("httparse has {other:?}: {}", escape(octets)),
    }
}
