//! The grammar of Host and of a target's authority: `uri-host [ ":" port ]` (RFC 9110 §7.2).

use std::net::Ipv6Addr;

use super::grammar;

/// Whether this names one host. No user before it, no list, no path: Starlette's `request.url` is built from it, and one
/// that is more than a host moves the path (CVE-2026-48710). Empty is refused, though the grammar of RFC 3986 has it.
pub(super) fn is_valid(host: &[u8]) -> bool {
    let Some(length) = name_length(host) else { return false };
    match &host[length..] {
        [] => true,
        [b':', port @ ..] => is_port(port),
        _ => false,
    }
}

/// Bytes of the name or address at the start, `None` if there is none.
fn name_length(host: &[u8]) -> Option<usize> {
    if let [b'[', rest @ ..] = host {
        let length = rest.iter().position(|&byte| byte == b']')?;
        // RFC 3986's IPvFuture has never been used, and zones (`fe80::1%eth0`) mean nothing to a server.
        let address = std::str::from_utf8(&rest[..length]).ok()?;
        return address.parse::<Ipv6Addr>().ok().map(|_| length + 2);
    }
    let mut at = 0;
    while let Some(&byte) = host.get(at) {
        match byte {
            b'%' => match host.get(at + 1..at + 3) {
                Some([high, low]) if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => at += 3,
                _ => return None,
            },
            _ if grammar::is_name_of_host(byte) => at += 1,
            _ => break,
        }
    }
    (at > 0).then_some(at)
}

/// RFC 3986 §3.2.3: digits, or none. Over 65,535 is no port.
fn is_port(port: &[u8]) -> bool {
    port.len() <= 5
        && port.iter().all(u8::is_ascii_digit)
        && port.iter().fold(0, |number, digit| number * 10 + u32::from(digit - b'0')) <= 65_535
}
