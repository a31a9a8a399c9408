//! Tests of `http`: one table a rule, every head and body cut at every byte.

mod bodies;
mod encode;
mod heads;
mod targets;

use super::head::{self, Head, Scan};
use crate::error::{BadRequest, Parsed};
use crate::limits::Limits;

/// What `head::parse` says of `bytes` when they come at once; checks that it says the same however they are cut.
fn parse_with(bytes: &[u8], limits: &Limits) -> Result<Parsed<Head>, BadRequest> {
    let mut head = Head::default();
    let parse = |bytes: &[u8], scan: &mut Scan, head: &mut Head| {
        Ok(match head::parse(bytes, scan, limits, head)? {
            Parsed::Complete(()) => Parsed::Complete(head.clone()),
            Parsed::NeedMore => Parsed::NeedMore,
        })
    };
    let whole = parse(bytes, &mut Scan::default(), &mut head);
    // Byte by byte, and in two parts at every place. After an answer the rest is not given, as in a connection.
    let mut scan = Scan::default();
    let mut answer = Ok(Parsed::NeedMore);
    for end in 0..=bytes.len() {
        if answer == Ok(Parsed::NeedMore) {
            answer = parse(&bytes[..end], &mut scan, &mut head);
        }
    }
    assert_eq!(answer, whole, "byte by byte: {:?}", bytes.escape_ascii().to_string());
    let cuts_step = (bytes.len() / 2000).max(1);
    for cut in (0..bytes.len()).step_by(cuts_step) {
        let mut scan = Scan::default();
        let mut answer = parse(&bytes[..cut], &mut scan, &mut head);
        if answer == Ok(Parsed::NeedMore) {
            answer = parse(bytes, &mut scan, &mut head);
        }
        assert_eq!(answer, whole, "cut at {cut}: {:?}", bytes.escape_ascii().to_string());
    }
    whole
}

fn parse(bytes: &[u8]) -> Result<Parsed<Head>, BadRequest> {
    parse_with(bytes, &Limits::default())
}

/// The head of a whole request.
fn whole(bytes: &[u8]) -> Head {
    match parse(bytes) {
        Ok(Parsed::Complete(head)) => head,
        other => panic!("{other:?} for {:?}", bytes.escape_ascii().to_string()),
    }
}
