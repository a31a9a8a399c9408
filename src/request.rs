//! A request, as a handler sees it: ranges into bytes that are not its own.

use std::net::SocketAddr;

use turboapi_platform::{ConnectionId, ListenerId};

use crate::http::head::Head;
use crate::router::{Match, Params};

/// One request of one worker: a late answer to a connection that has moved on is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RequestId {
    /// Where it came from.
    pub connection: ConnectionId,
    /// Which one of that connection, counted from 1.
    pub number: u32,
}

/// Where a connection came in, and from which address: the same for all of its requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The listener, by a number that means the same place to all workers, whichever of them serves the connection.
    pub listener: ListenerId,
    /// The other end; none on a Unix socket.
    pub peer: Option<SocketAddr>,
    /// This end; none on a Unix socket. A listener on all addresses does not tell it.
    pub local: Option<SocketAddr>,
}

impl Origin {
    /// Of a connection that came by no listener.
    pub const NOWHERE: Self = Self { listener: ListenerId(0), peer: None, local: None };
}

/// A request whose head is complete and well-formed, and so is its body as far as it is here.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// For an answer that comes later.
    pub id: RequestId,
    /// The parsed head; its spans point into `head_bytes`.
    pub head: &'a Head,
    /// The head as it was received.
    pub head_bytes: &'a [u8],
    /// The target's path, percent-decoded as Python's `urllib.parse.unquote` does it.
    pub path: &'a str,
    /// What the router found.
    pub matched: Match,
    /// Ranges of `path`, in the order of the route's template.
    pub params: &'a Params,
    /// The body without its framing: whole, or its beginning.
    pub body: &'a [u8],
    /// Whether that is all of it; if not, the rest comes by `Handler::body`.
    pub is_body_complete: bool,
    /// Where its connection came in.
    pub origin: &'a Origin,
}

impl<'a> Request<'a> {
    /// The target's query string without its `?`, as it was received.
    #[must_use]
    pub fn query(&self) -> &'a [u8] {
        self.head.query.of(self.head_bytes)
    }

    /// All header lines, in the order in which they were received, names as they were spelt.
    pub fn headers(&self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> + use<'a> {
        let bytes = self.head_bytes;
        self.head.headers.iter().map(move |header| (header.name.of(bytes), header.value.of(bytes)))
    }
}
