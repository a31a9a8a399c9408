//! Tests of `proxies`: tables of what came, and what uvicorn 0.54 makes of it.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use super::*;
use crate::error::Parsed;
use crate::http::head::{self, Scan};
use crate::limits::Limits;

fn network(text: &str) -> (IpAddr, u8) {
    let (address, length) = text.split_once('/').unwrap();
    (address.parse().unwrap(), length.parse().unwrap())
}

fn local() -> Proxies {
    Proxies { networks: vec![network("127.0.0.1/32"), network("::1/128"), network("10.0.0.0/8")], ..Proxies::default() }
}

fn everyone() -> Proxies {
    Proxies { everyone: true, ..Proxies::default() }
}

fn seen(proxies: &Proxies, peer: Option<&str>, lines: &[u8]) -> Seen {
    let bytes = [b"GET / HTTP/1.1\r\nHost: h\r\n", lines, b"\r\n"].concat();
    let mut head = Head::default();
    let parsed = head::parse(&bytes, &mut Scan::default(), &Limits::default(), &mut head);
    assert_eq!(parsed, Ok(Parsed::Complete(())), "{lines:?}");
    let peer = peer.map(|peer| SocketAddr::new(peer.parse().unwrap(), 4711));
    assert_eq!(proxies.scheme(peer, &head, &bytes), proxies.seen(peer, &head, &bytes).scheme);
    proxies.seen(peer, &head, &bytes)
}

fn client(proxies: &Proxies, peer: Option<&str>, list: &str) -> Option<(String, u16)> {
    seen(proxies, peer, format!("X-Forwarded-For: {list}\r\n").as_bytes()).client
}

fn address(host: &str, port: u16) -> Option<(String, u16)> {
    Some((host.to_owned(), port))
}

#[test]
fn a_peer_that_is_no_proxy_changes_nothing() {
    let lines = b"X-Forwarded-For: 1.2.3.4\r\nX-Forwarded-Proto: https\r\n";
    for peer in [Some("127.0.0.2"), Some("11.0.0.1"), Some("::2"), Some("::ffff:127.0.0.2"), None] {
        assert_eq!(seen(&local(), peer, lines), Seen::default(), "{peer:?}");
    }
    for (proxies, peer) in [
        (local(), Some("127.0.0.1")),
        (local(), Some("::1")),
        (local(), Some("10.200.3.4")),
        (local(), Some("::ffff:127.0.0.1")),
        (everyone(), Some("8.8.8.8")),
        (everyone(), None),
        (Proxies { unix: true, ..Proxies::default() }, None),
    ] {
        assert_eq!(
            seen(&proxies, peer, lines),
            Seen { client: address("1.2.3.4", 0), scheme: Some("https") },
            "{peer:?}"
        );
    }
}

#[test]
fn networks_by_their_prefix() {
    let trusts = |text: &str, peer: &str| {
        let proxies = Proxies { networks: vec![network(text)], ..Proxies::default() };
        seen(&proxies, Some(peer), b"X-Forwarded-Proto: https\r\n").scheme.is_some()
    };
    assert!(trusts("0.0.0.0/0", "9.9.9.9") && !trusts("0.0.0.0/0", "::2") && trusts("::/0", "2001:db8::1"));
    assert!(trusts("192.168.4.0/22", "192.168.7.255") && !trusts("192.168.4.0/22", "192.168.8.0"));
    assert!(trusts("2001:db8::/33", "2001:db8:7fff::1") && !trusts("2001:db8::/33", "2001:db8:8000::1"));
}

#[test]
fn the_last_hop_that_is_no_proxy_is_the_client() {
    for (list, found) in [
        ("1.2.3.4", address("1.2.3.4", 0)),
        ("6.6.6.6, 1.2.3.4", address("1.2.3.4", 0)),
        ("6.6.6.6, 1.2.3.4, 10.0.0.7", address("1.2.3.4", 0)),
        ("10.0.0.1, 10.0.0.7", address("10.0.0.1", 0)),
        ("1.2.3.4:567", address("1.2.3.4", 567)),
        ("[2001:db8::1]:443", address("2001:db8::1", 443)),
        ("[2001:db8::1]", address("2001:db8::1", 0)),
        ("2001:db8::1", address("2001:db8::1", 0)),
        ("1.2.3.4:x", address("1.2.3.4:x", 0)),
        ("1.2.3.4:70000", address("1.2.3.4", 0)),
        ("[::1", address("[::1", 0)),
        ("[::1]x", address("[::1]x", 0)),
        ("unknown", address("unknown", 0)),
        (",", None),
        ("", None),
        ("1.2.3.4,", None),
        ("1.2.3.4\t, 10.0.0.1 ", address("1.2.3.4", 0)),
    ] {
        assert_eq!(client(&local(), Some("127.0.0.1"), list), found, "{list:?}");
    }
    assert_eq!(client(&everyone(), None, "6.6.6.6, 1.2.3.4"), address("6.6.6.6", 0));
    let lines = b"X-Forwarded-For: 6.6.6.6\r\nx-forwarded-for: 1.2.3.4, 10.0.0.1\r\n";
    assert_eq!(seen(&local(), Some("::1"), lines).client, address("1.2.3.4", 0));
    assert_eq!(seen(&local(), Some("::1"), b"X-Forwarded-For: \xe9\r\n").client, address("\u{e9}", 0));
}

#[test]
fn the_last_scheme_that_was_told_counts() {
    for (lines, scheme) in [
        (&b"X-Forwarded-Proto: https\r\n"[..], Some("https")),
        (b"X-Forwarded-Proto: \thttp \r\n", Some("http")),
        (b"X-Forwarded-Proto: https\r\nX-FORWARDED-PROTO: http\r\n", Some("http")),
        (b"X-Forwarded-Proto: https\r\nX-Forwarded-Proto: ftp\r\n", None),
        (b"X-Forwarded-Proto: https,http\r\n", None),
        (b"X-Forwarded-Proto: HTTPS\r\n", None),
        (b"X-Forwarded-Proto: wss\r\n", Some("wss")),
        (b"X-Forwarded-Proto:\r\n", None),
        (b"", None),
    ] {
        assert_eq!(seen(&local(), Some("127.0.0.1"), lines).scheme, scheme, "{lines:?}");
    }
}
