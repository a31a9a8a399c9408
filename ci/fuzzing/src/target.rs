//! What a target and a cookie mean: every input has a meaning, and what was encoded comes back.

use turboapi_conformance::octets::escape;
use turboapi_core::http::cookie;
use turboapi_core::http::target::{self, PathText};

/// The octets are taken for a path, a query, a cookie, and for text that is encoded and read back.
pub fn run(data: &[u8]) {
    let (shown, mut path) = (|| escape(data), Vec::new());
    let exactness = target::percent_decode_path(data, &mut path);
    let text = std::str::from_utf8(&path).unwrap_or_else(|_| panic!("the path is no UTF-8: {}", shown()));
    let plain = unquote(data, false);
    assert_eq!(text, String::from_utf8_lossy(&plain), "{}", shown());
    let is_whole = escapes_are_whole(data) && std::str::from_utf8(&plain).is_ok();
    assert_eq!(exactness == PathText::Exact, is_whole, "{}", shown());

    let expected: Vec<(String, String)> = data
        .split(|&octet| octet == b'&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let at = pair.iter().position(|&octet| octet == b'=');
            let (name, value) = at.map_or((pair, [].as_slice()), |at| (&pair[..at], &pair[at + 1..]));
            let text = |part| String::from_utf8_lossy(&unquote(part, true)).into_owned();
            (text(name), text(value))
        })
        .collect();
    let pairs: Vec<_> =
        target::query_pairs(data).map(|(name, value)| (name.into_owned(), value.into_owned())).collect();
    assert_eq!(pairs, expected, "{}", shown());

    // Every octet escaped, in either case: comes back as it was.
    let text = String::from_utf8_lossy(data);
    let escaped = |digits: &[u8; 16]| -> String {
        let escape = |octet: u8| [b'%', digits[usize::from(octet >> 4)], digits[usize::from(octet & 15)]];
        text.bytes().flat_map(escape).map(char::from).collect()
    };
    let (upper, lower) = (escaped(b"0123456789ABCDEF"), escaped(b"0123456789abcdef"));
    assert_eq!(target::percent_decode_path(upper.as_bytes(), &mut path), PathText::Exact);
    assert_eq!(path, text.as_bytes());
    let query = format!("{lower}={upper}&{upper}={lower}");
    let pair = (text.clone(), text.clone());
    assert_eq!(target::query_pairs(query.as_bytes()).collect::<Vec<_>>(), [pair.clone(), pair]);

    let parts = data.split(|&octet| octet == b';').count();
    let cookies: Vec<_> = cookie::cookies(data).collect();
    assert!(cookies.len() <= parts, "{}", shown());
    assert!(cookies.iter().all(|(name, _)| !name.contains([';', '='])), "{}", shown());
}

fn hex(octet: u8) -> Option<u8> {
    char::from(octet).to_digit(16).map(|digit| digit as u8)
}

fn unquote(octets: &[u8], plus_is_space: bool) -> Vec<u8> {
    let (mut out, mut at) = (Vec::new(), 0);
    while at < octets.len() {
        let digits = octets.get(at + 1..at + 3).and_then(|two| Some((hex(two[0])?, hex(two[1])?)));
        match (octets[at], digits) {
            (b'%', Some((high, low))) => {
                out.push(high * 16 + low);
                at += 2;
            }
            (b'+', _) if plus_is_space => out.push(b' '),
            (octet, _) => out.push(octet),
        }
        at += 1;
    }
    out
}

fn escapes_are_whole(octets: &[u8]) -> bool {
    octets
        .split(|&octet| octet == b'%')
        .skip(1)
        .all(|part| part.get(..2).is_some_and(|two| hex(two[0]).is_some() && hex(two[1]).is_some()))
}
