//! Octets as text: what is printable stands as it is, everything else as an escape of Rust's and Python's.

/// Printable ASCII as it is, `\` doubled, the rest as `\r \n \t` or `\x00`.
#[must_use]
pub fn escape(octets: &[u8]) -> String {
    let mut text = String::with_capacity(octets.len());
    for &octet in octets {
        match octet {
            b'\r' => text.push_str("\\r"),
            b'\n' => text.push_str("\\n"),
            b'\t' => text.push_str("\\t"),
            b'\\' => text.push_str("\\\\"),
            b' '..=b'~' => text.push(char::from(octet)),
            _ => text.push_str(&format!("\\x{octet:02x}")),
        }
    }
    text
}

/// The inverse of [`escape`].
///
/// # Errors
/// The escape that is none, or the character that should have been one.
pub fn unescape(text: &str) -> Result<Vec<u8>, String> {
    let mut octets = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let (octet, length) = match first {
            '\\' => match rest.as_bytes().get(1) {
                Some(b'r') => (b'\r', 2),
                Some(b'n') => (b'\n', 2),
                Some(b't') => (b'\t', 2),
                Some(b'\\') => (b'\\', 2),
                Some(b'x') => {
                    let digits = rest.get(2..4).filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()));
                    let octet = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
                    (octet.ok_or_else(|| format!("no two hexadecimal digits in {rest:?}"))?, 4)
                }
                _ => return Err(format!("no escape at {rest:?}")),
            },
            ' '..='~' => (first as u8, 1),
            _ => return Err(format!("{first:?} must be written as an escape")),
        };
        octets.push(octet);
        rest = &rest[length..];
    }
    Ok(octets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_octet_comes_back() {
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(unescape(&escape(&all)), Ok(all));
        assert_eq!(escape(b"a\\b\r\n\t\0\xff"), "a\\\\b\\r\\n\\t\\x00\\xff");
    }

    #[test]
    fn what_is_no_escape_is_refused() {
        for text in ["\\", "\\x", "\\x4", "\\xg0", "\\x+1", "\\q", "é", "\u{1}"] {
            assert!(unescape(text).is_err(), "{text:?}");
        }
    }
}
