//! What a parsed head is: ranges into its bytes, which are not its own. Nothing is parsed here.

use super::framing::Framing;

/// A range in the bytes of a head.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// The first byte.
    pub start: u32,
    /// One past the last.
    pub end: u32,
}

impl Span {
    /// The range from `start` to `end`. Both fit: a head is at most `limits.head_bytes_max`, which is a MiB at most.
    pub(super) fn new(start: usize, end: usize) -> Self {
        Self { start: start as u32, end: end as u32 }
    }

    /// The bytes of this range; `bytes` begins where the parsed head began.
    #[must_use]
    pub fn of<'b>(&self, bytes: &'b [u8]) -> &'b [u8] {
        &bytes[self.start as usize..self.end as usize]
    }

    /// How many bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        (self.end - self.start) as usize
    }

    /// Whether it has no byte.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }
}

/// One header line. The name as it was written; the value without white space around it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// 1 or more token bytes.
    pub name: Span,
    /// No control bytes but tabs; bytes over 0x7f are possible.
    pub value: Span,
}

/// What the request asks to be done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Method {
    #[default]
    Get,
    Head,
    Post,
    Put,
    Patch,
    Delete,
    Options,
    Trace,
    /// Any other token of up to 32 bytes, `get` among them: methods are case-sensitive (RFC 9110 §9.1). Never CONNECT.
    Other(Span),
}

impl Method {
    /// The method as it was written; `bytes` begins where the parsed head began.
    #[must_use]
    pub fn name<'b>(&self, bytes: &'b [u8]) -> &'b [u8] {
        match self {
            Self::Get => b"GET",
            Self::Head => b"HEAD",
            Self::Post => b"POST",
            Self::Put => b"PUT",
            Self::Patch => b"PATCH",
            Self::Delete => b"DELETE",
            Self::Options => b"OPTIONS",
            Self::Trace => b"TRACE",
            Self::Other(span) => span.of(bytes),
        }
    }
}

/// How the target was written (RFC 9112 §3.2). There is no authority form here: CONNECT is refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TargetForm {
    /// `/path?query`
    #[default]
    Origin,
    /// `http://host/path?query`
    Absolute,
    /// `*`, the server as a whole; OPTIONS only.
    Asterisk,
}

/// A parsed head: ranges, never borrows, so that the buffer may grow and move. Reused from request to request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// What is to be done.
    pub method: Method,
    /// The whole target as it was written.
    pub target: Span,
    /// How the target was written.
    pub target_form: TargetForm,
    /// The path, still percent-encoded. Never empty: for `http://host` it reads `/`, for `OPTIONS *` it reads `*`.
    pub path: Span,
    /// What follows the first `?`, empty if there is none.
    pub query: Span,
    /// 0 or 1, after `HTTP/1.`.
    pub minor_version: u8,
    /// All header lines, in order.
    pub headers: Vec<Header>,
    /// The authority that the request is for; `None` only in HTTP/1.0. Grammar checked.
    pub host: Option<Span>,
    /// What body follows.
    pub framing: Framing,
    /// Whether the peer lets the connection stay after this request; `answer` has the last word.
    pub keeps_alive: bool,
    /// Whether the peer waits for `100 Continue` before it sends a body. Never without a body, never in HTTP/1.0.
    pub expects_continue: bool,
    /// The value of Upgrade, where Connection names it too and the version is 1.1.
    pub upgrade: Option<Span>,
    /// Bytes of the head, an empty line before it and the CRLF that ends it included.
    pub length: u32,
}

impl Head {
    /// Empties it and keeps the memory.
    pub fn clear(&mut self) {
        let mut headers = std::mem::take(&mut self.headers);
        headers.clear();
        *self = Self { headers, ..Self::default() };
    }

    /// The same request with another query and other header lines, and the bytes that its ranges are of: what is left of a request
    /// when something has changed it on its way. Its path, target and what was read from its old lines are empty.
    ///
    /// `None` if that is too much for a `Span`.
    #[must_use]
    pub fn with_fields<'b>(
        &self,
        query: &[u8],
        fields: impl IntoIterator<Item = (&'b [u8], &'b [u8])>,
    ) -> Option<(Self, Vec<u8>)> {
        let mut bytes = Vec::new();
        let mut span = |part: &[u8]| {
            let start = bytes.len();
            bytes.extend_from_slice(part);
            u32::try_from(bytes.len()).ok().map(|_| Span::new(start, bytes.len()))
        };
        let mut head = Self { minor_version: self.minor_version, query: span(query)?, ..Self::default() };
        for (name, value) in fields {
            head.headers.push(Header { name: span(name)?, value: span(value)? });
        }
        Some((head, bytes))
    }

    /// Whether this is a WebSocket's opening handshake (RFC 6455 §4.1), of whatever version. The client goes on only if it is
    /// taken, so it is no request that may be answered as if its Upgrade were not there (RFC 9110 §7.8): no handler means it so,
    /// and a proxy that takes the connection for a tunnel from here on must find it closed.
    #[must_use]
    pub fn opens_websocket(&self, bytes: &[u8]) -> bool {
        let mut protocols = self.values(bytes, b"upgrade").flat_map(|value| value.split(|&byte| byte == b','));
        self.method == Method::Get
            && self.upgrade.is_some()
            && protocols.any(|protocol| protocol.trim_ascii().eq_ignore_ascii_case(b"websocket"))
            && self.values(bytes, b"sec-websocket-key").next().is_some()
    }

    /// The values of all headers of this name, in order. `name` is lower case.
    pub fn values<'b>(&self, bytes: &'b [u8], name: &[u8]) -> impl Iterator<Item = &'b [u8]> {
        self.headers
            .iter()
            .filter(move |header| header.name.len() == name.len() && header.name.of(bytes).eq_ignore_ascii_case(name))
            .map(|header| header.value.of(bytes))
    }

    /// The value of the first header of this name. `name` is lower case.
    #[must_use]
    pub fn value<'b>(&self, bytes: &'b [u8], name: &[u8]) -> Option<&'b [u8]> {
        self.values(bytes, name).next()
    }
}
