//! The chunked coding: what it decodes to, what it refuses, and that cuts do not matter.

use proptest::prelude::*;

use crate::error::BadRequest::{self, *};
use crate::http::chunked::ChunkedDecoder;
use crate::limits::Limits;

/// What of it was taken, whether it ended, and the body; or the refusal.
type Decoded = Result<(usize, bool, Vec<u8>), BadRequest>;

fn limits() -> Limits {
    Limits { chunk_extension_bytes_max: 32, trailer_bytes_max: 32, header_count_max: 4, ..Limits::default() }
}

/// Decodes parts as they would come off a socket; what is behind the end is given once and not taken.
fn decode<'p>(parts: impl Iterator<Item = &'p [u8]>, body_bytes_max: u64) -> Decoded {
    let (mut decoder, mut body, mut taken) = (ChunkedDecoder::new(body_bytes_max), Vec::new(), 0);
    for part in parts {
        let (count, is_finished) = decoder.decode(part, &mut body, &limits())?;
        taken += count;
        assert_eq!(is_finished, decoder.is_finished());
        if is_finished {
            return Ok((taken, true, body));
        }
        assert_eq!(count, part.len(), "all is taken until the end");
    }
    Ok((taken, false, body))
}

/// Decodes it whole, byte by byte, and in two at every place: the same each time.
fn decode_cut(bytes: &[u8], body_bytes_max: u64) -> Decoded {
    let whole = decode(std::iter::once(bytes), body_bytes_max);
    assert_eq!(decode(bytes.chunks(1), body_bytes_max), whole, "byte by byte: {}", bytes.escape_ascii());
    for cut in 0..bytes.len() {
        let (first, second) = bytes.split_at(cut);
        assert_eq!(
            decode([first, second].into_iter(), body_bytes_max),
            whole,
            "cut at {cut}: {}",
            bytes.escape_ascii()
        );
    }
    whole
}

/// A whole body, and the bytes behind it.
fn check(bytes: &str, body: &str, rest: &str) {
    let expected = (bytes.len() - rest.len(), true, body.as_bytes().to_vec());
    assert_eq!(decode_cut(bytes.as_bytes(), 100), Ok(expected), "{bytes:?}");
}

fn refuse(bytes: &[u8], expected: BadRequest) {
    assert_eq!(decode_cut(bytes, 100), Err(expected), "{}", bytes.escape_ascii());
}

#[test]
fn bodies() {
    check("0\r\n\r\n", "", "");
    check("0\r\n\r\nGET / HTTP/1.1", "", "GET / HTTP/1.1");
    check("0\r\n\r\n\r\n", "", "\r\n");
    check("5\r\nhello\r\n0\r\n\r\n", "hello", "");
    check("5\r\nhello\r\n6\r\n world\r\n0\r\n\r\nX", "hello world", "X");
    check("A\r\nhelloworld\r\n0\r\n\r\n", "helloworld", "");
    check("a\r\nhelloworld\r\n000\r\n\r\n", "helloworld", "");
    check("0000000000000005\r\nhello\r\n0\r\n\r\n", "hello", "");
    check("2\r\n\r\n\r\n0\r\n\r\n", "\r\n", "");
    check("7\r\n0\r\n\r\nab\r\n0\r\n\r\n", "0\r\n\r\nab", ""); // data that looks like an end
}

#[test]
fn cut_short() {
    let whole = b"5;a=b\r\nhello\r\n0\r\nX: y\r\n\r\n";
    for end in 0..whole.len() {
        let Ok((taken, is_finished, _)) = decode_cut(&whole[..end], 100) else { panic!("{end} bytes are no error") };
        assert_eq!((taken, is_finished), (end, false));
    }
}

#[test]
fn sizes() {
    for size in [
        "",
        "0x5",
        "+5",
        "-1",
        "-0",
        "+0",
        " 5",
        "5 ",
        "\t5",
        "5\t",
        "1_0",
        "5,",
        "g",
        "5h",
        "5.",
        "0 5",
        "00000000000000005",
        "\u{665}",
        "\"5\"",
    ] {
        refuse(format!("{size}\r\nhello\r\n0\r\n\r\n").as_bytes(), InvalidChunkSize);
    }
    refuse(b"8000000000000000\r\n", InvalidChunkSize);
    refuse(b"FFFFFFFFFFFFFFFF\r\n", InvalidChunkSize);
    refuse(b"10000000000000000\r\n", InvalidChunkSize);
    refuse(b"FFFFFFFFFFFFFFFF0\r\n", InvalidChunkSize);
    refuse(b"5\rhello\r\n0\r\n\r\n", InvalidChunkSize);
    refuse(b"5\nhello\r\n0\r\n\r\n", InvalidChunkSize);
    refuse(b"5\r\rhello\r\n0\r\n\r\n", InvalidChunkSize);
    refuse(b"\r\n", InvalidChunkSize);
    for byte in 0..=255_u8 {
        let bytes = [b"1", &[byte][..], b"\r\n"].concat();
        match byte {
            b';' => refuse(&bytes, InvalidChunkExtension),
            // Two digits: 0x10 to 0x1f. Nothing of them has come.
            _ if byte.is_ascii_hexdigit() => assert_eq!(decode_cut(&bytes, 100), Ok((4, false, Vec::new()))),
            _ => refuse(&bytes, InvalidChunkSize),
        }
    }
}

#[test]
fn ends_of_chunks() {
    refuse(b"5\r\nhello0\r\n\r\n", InvalidChunkEnd);
    refuse(b"5\r\nhello!!\r\n0\r\n\r\n", InvalidChunkEnd);
    refuse(b"5\r\nhello\n0\r\n\r\n", InvalidChunkEnd);
    refuse(b"5\r\nhello\r0\r\n\r\n", InvalidChunkEnd);
    refuse(b"5\r\nhello\r\n\r\n", InvalidChunkSize);
    for byte in 0..=255_u8 {
        if byte != b'\r' {
            refuse(&[b"1\r\nx", &[byte][..], b"\n0\r\n\r\n"].concat(), InvalidChunkEnd);
        }
        if byte != b'\n' {
            refuse(&[b"1\r\nx\r", &[byte][..], b"0\r\n\r\n"].concat(), InvalidChunkEnd);
        }
    }
}

#[test]
fn extensions() {
    check("5;a\r\nhello\r\n0\r\n\r\n", "hello", "");
    check("5;a=b\r\nhello\r\n0;c\r\n\r\n", "hello", "");
    check("5;a=b;c;d=\"e\"\r\nhello\r\n0\r\n\r\n", "hello", "");
    check("5;a=\" \t;\\\"\\\\\u{e4}\"\r\nhello\r\n0\r\n\r\n", "hello", "");
    check("5;a=\"\"\r\nhello\r\n0\r\n\r\n", "hello", "");
    for extension in [
        "",
        ";",
        "a;",
        "=b",
        "a=",
        "a=;b",
        "a=b=c",
        "a=b\"",
        "a=\"b\"c",
        "a b",
        " a",
        "a ",
        "a =b",
        "a= b",
        "bad[=x",
        "\0ext",
        "a=\"\r",
        "a=\"b\n",
        "a=\"\\\0\"",
        "\u{e4}",
        "a=\u{e4}",
        "\nhello",
        "a\n",
        "a=b\n",
        "a=\"b\"\n",
        "a=\"\x7f\"",
    ] {
        refuse(format!("5;{extension}\r\nhello\r\n0\r\n\r\n").as_bytes(), InvalidChunkExtension);
    }
    refuse(b"5;a\rX\r\nhello\r\n0\r\n\r\n", InvalidChunkSize);
    for byte in 0..=255_u8 {
        let is_token = byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        let bytes = [b"0;a", &[byte][..], b"b\r\n\r\n"].concat();
        match byte {
            b'=' | b';' => assert_eq!(decode_cut(&bytes, 100), Ok((9, true, Vec::new()))),
            b'\r' => refuse(&bytes, InvalidChunkSize),
            _ if is_token => assert_eq!(decode_cut(&bytes, 100), Ok((9, true, Vec::new()))),
            _ => refuse(&bytes, InvalidChunkExtension),
        }
        let quoted = [b"0;a=\"b", &[byte][..], b"\"\r\n\r\n"].concat();
        match byte {
            b'"' => refuse(&quoted, InvalidChunkExtension),
            b'\\' => refuse(&quoted, InvalidChunkExtension), // then the quotes never end
            b'\t' | 0x20..=0x7e | 0x80.. => assert_eq!(decode_cut(&quoted, 100), Ok((12, true, Vec::new()))),
            _ => refuse(&quoted, InvalidChunkExtension),
        }
    }
    let too_large = ChunkExtensionsTooLarge { limit: 32 };
    check(&format!("1;{}\r\nx\r\n0\r\n\r\n", "a".repeat(31)), "x", "");
    refuse(format!("1;{}\r\nx\r\n0\r\n\r\n", "a".repeat(32)).as_bytes(), too_large);
    refuse(format!("1;{}", "a".repeat(33)).as_bytes(), too_large);
    refuse("1;a\r\nx\r\n".repeat(17).as_bytes(), too_large); // together, not each
}

#[test]
fn trailers() {
    check("0\r\nX-Checksum: abc\r\n\r\n", "", "");
    check("0\r\nA:\r\nB: \t\u{e4}\r\n\r\nGET", "", "GET");
    // A trailer is never a header: these are dropped like all others.
    check("0\r\nContent-Length: 50\r\n\r\n", "", "");
    check("0\r\nTransfer-Encoding: chunked\r\n\r\n", "", "");
    check("0\r\nHost: evil\r\n\r\n", "", "");
    for trailers in [
        "\n",
        "A",
        ": b",
        "A : b",
        " A: b",
        "A: b\r\n c",
        "A: b\nC: d",
        "A: b\rC",
        "A: \0",
        "A: b\r\n\n",
        "A[: b",
        "\u{e4}: b",
        "\rX",
        "A: b\r\r",
    ] {
        refuse(format!("0\r\n{trailers}\r\n\r\n").as_bytes(), InvalidTrailer);
    }
    for byte in 0..=255_u8 {
        let is_value = matches!(byte, b'\t' | 0x20..=0x7e | 0x80..);
        let bytes = [b"0\r\nA: ", &[byte][..], b"\r\n\r\n"].concat();
        if is_value {
            assert_eq!(decode_cut(&bytes, 100), Ok((11, true, Vec::new())));
        } else {
            refuse(&bytes, InvalidTrailer);
        }
        let is_token = byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        let bytes = [b"0\r\nA", &[byte][..], b": b\r\n\r\n"].concat();
        if is_token || byte == b':' {
            assert_eq!(decode_cut(&bytes, 100), Ok((12, true, Vec::new())));
        } else {
            refuse(&bytes, InvalidTrailer);
        }
    }
    let too_large = TrailersTooLarge { limit: 32 };
    check(&format!("0\r\nA:{}\r\n\r\n", "b".repeat(28)), "", "");
    refuse(format!("0\r\nA:{}\r\n\r\n", "b".repeat(29)).as_bytes(), too_large);
    refuse(format!("0\r\n{}", "b".repeat(33)).as_bytes(), too_large);
    check(&format!("0\r\n{}\r\n", "A:b\r\n".repeat(4)), "", "");
    refuse(format!("0\r\n{}\r\n", "A:b\r\n".repeat(5)).as_bytes(), TooManyHeaders { limit: 4 });
}

#[test]
fn body_limit() {
    check(&format!("64\r\n{}\r\n0\r\n\r\n", "x".repeat(100)), &"x".repeat(100), "");
    refuse(b"65\r\n", BodyTooLarge { bytes: 101, limit: 100 });
    refuse(b"1\r\nx\r\n64\r\n", BodyTooLarge { bytes: 101, limit: 100 }); // before any byte of it
    refuse(b"7fffffffffffffff\r\n", BodyTooLarge { bytes: i64::MAX as u64, limit: 100 });
    let sum = decode_cut(b"1\r\nx\r\n7fffffffffffffff\r\nab", u64::MAX);
    assert_eq!(sum, Ok((26, false, b"xab".to_vec())), "no limit, and nothing is set aside for what was promised");
}

proptest! {
    /// Any body, in any chunks, cut anywhere, decodes to itself; what follows is left.
    #[test]
    fn cuts_do_not_matter(
        chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40), 0..8),
        cuts in prop::collection::vec(1_usize..30, 1..50),
        rest in prop::collection::vec(any::<u8>(), 0..8),
    ) {
        let mut bytes = Vec::new();
        for chunk in &chunks {
            crate::http::encode::chunk_head(&mut bytes, chunk.len());
            bytes.extend_from_slice(chunk);
            bytes.extend_from_slice(b"\r\n");
        }
        bytes.extend_from_slice(b"0\r\n\r\n");
        let end = bytes.len();
        bytes.extend_from_slice(&rest);
        prop_assert_eq!(decode(pieces(&bytes, &cuts).into_iter(), u64::MAX), Ok((end, true, chunks.concat())));
    }

    /// Any bytes of the coding's alphabet give the same answer however they are cut.
    #[test]
    fn cuts_do_not_matter_for_noise(noise in "[05aF;=\"\\\\ x:\r\n]{0,60}", cuts in prop::collection::vec(1_usize..9, 1..50)) {
        let whole = decode(std::iter::once(noise.as_bytes()), 100);
        prop_assert_eq!(decode(pieces(noise.as_bytes(), &cuts).into_iter(), 100), whole);
    }
}

/// The bytes in pieces of these lengths, the rest as one.
fn pieces<'b>(mut bytes: &'b [u8], cuts: &[usize]) -> Vec<&'b [u8]> {
    let mut pieces = Vec::new();
    for &cut in cuts {
        let (piece, rest) = bytes.split_at(cut.min(bytes.len()));
        pieces.push(piece);
        bytes = rest;
    }
    pieces.push(bytes);
    pieces
}
