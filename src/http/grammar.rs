//! Which byte may stand where: one table, filled at compile time.

const TOKEN: u8 = 1;
const TARGET: u8 = 2;
const VALUE: u8 = 4;
const NAME_OF_HOST: u8 = 8;

static CLASSES: [u8; 256] = classes();

const fn classes() -> [u8; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let b = byte as u8;
        if b.is_ascii_alphanumeric() {
            table[byte] |= TOKEN | NAME_OF_HOST;
        }
        // RFC 3986 §2.3 unreserved and §2.2 sub-delims, but no comma: to half of the world that is a list of hosts.
        if matches!(b, b'-' | b'.' | b'_' | b'~' | b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b';' | b'=')
        {
            table[byte] |= NAME_OF_HOST;
        }
        // RFC 9110 §5.6.2: tchar.
        if matches!(
            b,
            b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~'
        ) {
            table[byte] |= TOKEN;
        }
        // RFC 3986 leaves out more (" < > \ ^ ` { | }); browsers send them, and no two servers split a target there.
        if matches!(b, 0x21..=0x7e) && b != b'#' {
            table[byte] |= TARGET;
        }
        // RFC 9110 §5.5: field-vchar, SP, HTAB, obs-text.
        if matches!(b, b'\t' | 0x20..=0x7e | 0x80..) {
            table[byte] |= VALUE;
        }
        byte += 1;
    }
    table
}

/// RFC 9110 §5.6.2: a byte of a method, header name or chunk extension name.
pub(super) fn is_token(byte: u8) -> bool {
    CLASSES[usize::from(byte)] & TOKEN != 0
}

/// A byte of a request target.
pub(super) fn is_target(byte: u8) -> bool {
    CLASSES[usize::from(byte)] & TARGET != 0
}

/// RFC 9110 §5.5: a byte of a header value.
pub(super) fn is_value(byte: u8) -> bool {
    CLASSES[usize::from(byte)] & VALUE != 0
}

/// A byte of a host's name, percent signs aside.
pub(super) fn is_name_of_host(byte: u8) -> bool {
    CLASSES[usize::from(byte)] & NAME_OF_HOST != 0
}

/// The value without spaces and tabs around it. RFC 9110 §5.6.3: OWS is these two and no other.
pub(super) fn trim(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

/// The number that a hexadecimal digit stands for.
pub(super) fn hex_digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}
