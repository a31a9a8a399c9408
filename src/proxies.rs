//! What proxies say of a client: its address, and the scheme by which it asked. Believed of peers that are trusted, and of no others.
//!
//! Here: `X-Forwarded-For` and `X-Forwarded-Proto`, read as uvicorn reads them. Not here: `Forwarded` (RFC 7239), and headers that say what
//! host or path was asked for: many proxies pass a client's own on.
//! Source: uvicorn/middleware/proxy_headers.py

use std::net::{IpAddr, SocketAddr};

use crate::http::head::Head;

/// Which peers are proxies of one's own.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Proxies {
    /// Whether every peer is.
    pub everyone: bool,
    /// Whether whoever comes by a Unix socket is.
    pub unix: bool,
    /// Address and length of the prefix that counts.
    pub networks: Vec<(IpAddr, u8)>,
}

/// What a request was before it came to the proxies.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen {
    /// Address and port, 0 if it was not said. As the proxy has written it: it need not be an address.
    pub client: Option<(String, u16)>,
    /// `http`, `https`, `ws` or `wss`.
    pub scheme: Option<&'static str>,
}

impl Proxies {
    /// What is to be believed of this request; nothing if its peer is none of the proxies.
    #[must_use]
    pub fn seen(&self, peer: Option<SocketAddr>, head: &Head, head_bytes: &[u8]) -> Seen {
        if !self.trusts_peer(peer) {
            return Seen::default();
        }
        Seen { client: self.client(head, head_bytes), scheme: scheme(head, head_bytes) }
    }

    /// The scheme alone.
    #[must_use]
    pub fn scheme(&self, peer: Option<SocketAddr>, head: &Head, head_bytes: &[u8]) -> Option<&'static str> {
        if self.trusts_peer(peer) { scheme(head, head_bytes) } else { None }
    }

    fn trusts_peer(&self, peer: Option<SocketAddr>) -> bool {
        self.everyone || peer.map_or(self.unix, |peer| self.trusts(peer.ip()))
    }

    fn trusts(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.networks.iter().any(|&(network, length)| match (network.to_canonical(), address) {
            (IpAddr::V4(network), IpAddr::V4(address)) => {
                (u32::from(network) ^ u32::from(address)).checked_shr(32 - u32::from(length.min(32))).unwrap_or(0) == 0
            }
            (IpAddr::V6(network), IpAddr::V6(address)) => {
                (u128::from(network) ^ u128::from(address)).checked_shr(128 - u32::from(length.min(128))).unwrap_or(0)
                    == 0
            }
            _ => false,
        })
    }

    /// The last one in the list that is no proxy of ours: each proxy has put its own peer behind what it was told.
    fn client(&self, head: &Head, head_bytes: &[u8]) -> Option<(String, u16)> {
        let lines: Vec<String> = lines(head, head_bytes, b"x-forwarded-for").map(latin1).collect();
        let list = lines.join(",");
        let mut hops = list.split(',').map(str::trim);
        let first = hops.clone().next().map(host_and_port);
        let found = if self.everyone {
            first
        } else {
            let stranger = hops.by_ref().rev().map(host_and_port).find(|(host, _)| !self.names_proxy(host));
            stranger.or(first)
        };
        found.filter(|(host, _)| !host.is_empty()).map(|(host, port)| (host.to_owned(), port))
    }

    fn names_proxy(&self, host: &str) -> bool {
        host.parse().is_ok_and(|address| self.trusts(address))
    }
}

fn scheme(head: &Head, head_bytes: &[u8]) -> Option<&'static str> {
    let value = lines(head, head_bytes, b"x-forwarded-proto").last()?;
    ["http", "https", "ws", "wss"].into_iter().find(|scheme| scheme.as_bytes() == value.trim_ascii())
}

fn lines<'a>(head: &'a Head, bytes: &'a [u8], name: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
    head.headers
        .iter()
        .filter(move |header| header.name.of(bytes).eq_ignore_ascii_case(name))
        .map(move |header| header.value.of(bytes))
}

fn latin1(bytes: &[u8]) -> String {
    bytes.iter().copied().map(char::from).collect()
}

/// An address, or one of IPv4 with a port, or one of IPv6 in brackets, with or without one. Anything else is all host.
fn host_and_port(text: &str) -> (&str, u16) {
    let port = |digits: &str| digits.parse().unwrap_or(0);
    if let Some(rest) = text.strip_prefix('[') {
        return match rest.split_once(']') {
            Some((host, "")) => (host, 0),
            Some((host, behind)) if behind.starts_with(':') => (host, port(&behind[1..])),
            _ => (text, 0),
        };
    }
    match text.split_once(':') {
        Some((host, digits)) if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            (host, port(digits))
        }
        _ => (text, 0),
    }
}

#[cfg(test)]
mod tests;
