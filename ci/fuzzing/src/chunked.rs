//! `http::chunked::ChunkedDecoder` against the reference, whole and in pieces.

use turboapi_conformance::octets::escape;
use turboapi_core::error::BadRequest;
use turboapi_core::http::chunked::ChunkedDecoder;
use turboapi_core::limits::Limits;

use crate::reference::{self, Read};
use crate::{limits, split_at};

/// What was taken, whether the body ended, and its octets.
type Decoded = Result<(usize, bool, Vec<u8>), BadRequest>;

/// The first octet chooses the limits and a cut; what follows is decoded.
pub fn run(data: &[u8]) {
    let Some((&choice, octets)) = data.split_first() else { return };
    let limits = limits(choice & 1 == 1);
    let whole = decode([octets].into_iter(), &limits);
    let (first, second) = split_at(octets, usize::from(choice >> 1) * 7);
    assert_eq!(decode([first, second].into_iter(), &limits), whole, "cut at {}: {}", first.len(), escape(octets));
    assert_eq!(decode(octets.chunks(1), &limits), whole, "octet by octet: {}", escape(octets));
    let reference = reference::chunked(octets, &limits);
    match (&whole, &reference) {
        (Ok((taken, true, body)), Read::Whole(expected, length)) => {
            assert_eq!((*taken, body), (*length, expected), "{}", escape(octets));
        }
        (Ok((taken, false, _)), Read::Partial) => assert_eq!(*taken, octets.len()),
        (Err(_), Read::Refused | Read::Partial) => {}
        _ => panic!("{whole:?}, and the reference {reference:?}: {}", escape(octets)),
    }
}

fn decode<'p>(pieces: impl Iterator<Item = &'p [u8]>, limits: &Limits) -> Decoded {
    let (mut decoder, mut body, mut taken) = (ChunkedDecoder::new(limits.body_bytes_max), Vec::new(), 0);
    for piece in pieces.filter(|piece| !piece.is_empty()) {
        let (count, is_finished) = decoder.decode(piece, &mut body, limits)?;
        taken += count;
        assert_eq!(is_finished, decoder.is_finished());
        assert!(body.len() as u64 <= decoder.body_bytes() && decoder.body_bytes() <= limits.body_bytes_max);
        if is_finished {
            return Ok((taken, true, body));
        }
        assert_eq!(count, piece.len(), "all is taken until the end");
    }
    Ok((taken, false, body))
}
