//! A request that outlives the call it came with: for a handler that suspends, and for the app's own ASGI call.

use std::net::SocketAddr;

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyString, PyTuple};
use turboapi_core::http::head::{Head, Method};
use turboapi_core::proxies::{Proxies, Seen};
use turboapi_core::request::{Origin, Request, RequestId};
use turboapi_core::router::{Match, Params};

/// An owned copy of a request: head, decoded path, what is here of the body.
#[derive(Debug)]
pub struct Retained {
    /// Which request this is.
    pub id: RequestId,
    head: Head,
    head_bytes: Box<[u8]>,
    path: Box<str>,
    body: Box<[u8]>,
    is_body_complete: bool,
    origin: Origin,
    matched: Match,
}

impl Retained {
    /// Copies the request. Costs an allocation for each of its parts.
    pub fn new(request: &Request<'_>) -> Self {
        Self {
            id: request.id,
            head: request.head.clone(),
            head_bytes: request.head_bytes.into(),
            path: request.path.into(),
            body: request.body.into(),
            is_body_complete: request.is_body_complete,
            origin: *request.origin,
            matched: request.matched,
        }
    }

    /// The same request with another query and other header lines, without its body. `None` if they are too long.
    pub fn with_fields<'b>(
        &self,
        query: &[u8],
        fields: impl IntoIterator<Item = (&'b [u8], &'b [u8])>,
    ) -> Option<Self> {
        let (head, head_bytes) = self.head.with_fields(query, fields)?;
        Some(Self {
            id: self.id,
            head,
            head_bytes: head_bytes.into(),
            path: self.path.clone(),
            body: Box::default(),
            is_body_complete: false,
            origin: self.origin,
            matched: self.matched,
        })
    }

    /// As a plan reads it, with this as its whole body.
    pub fn with_body<'r>(&'r self, params: &'r Params, body: &'r [u8]) -> Request<'r> {
        Request {
            id: self.id,
            head: &self.head,
            head_bytes: &self.head_bytes,
            path: &self.path,
            matched: self.matched,
            params,
            body,
            is_body_complete: true,
            origin: &self.origin,
        }
    }

    /// The route that was found for it.
    pub fn route(&self) -> Option<u32> {
        match self.matched {
            Match::Found(route) => Some(route.0),
            Match::NotFound | Match::MethodNotAllowed(_) | Match::Redirect { .. } | Match::Ask => None,
        }
    }

    /// The method, as it was written.
    pub fn method<'py>(&self, py: Python<'py>) -> Bound<'py, PyString> {
        match self.head.method {
            Method::Get => intern!(py, "GET").clone(),
            Method::Post => intern!(py, "POST").clone(),
            _ => PyString::new(py, &String::from_utf8_lossy(self.head.method.name(&self.head_bytes))),
        }
    }

    /// Whether an answer of this status to it has a body.
    pub fn may_have_body(&self, status: u16) -> bool {
        self.head.method != Method::Head && turboapi_core::http::encode::may_have_body(status)
    }

    /// `1.0` or `1.1`.
    pub fn http_version<'py>(&self, py: Python<'py>) -> Bound<'py, PyString> {
        if self.head.minor_version == 0 { intern!(py, "1.0").clone() } else { intern!(py, "1.1").clone() }
    }

    /// The decoded path.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The path as it was received.
    pub fn raw_path(&self) -> &[u8] {
        self.head.path.of(&self.head_bytes)
    }

    /// The query string as it was received, without its `?`.
    pub fn query(&self) -> &[u8] {
        self.head.query.of(&self.head_bytes)
    }

    /// The body, or what came of it with the head.
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// Whether that is all of it.
    pub fn is_body_complete(&self) -> bool {
        self.is_body_complete
    }

    /// Address and port of the client, and the scheme by which it has asked, if proxies say so.
    pub fn client(&self, proxies: &Proxies) -> (Option<(String, u16)>, Option<&'static str>) {
        let Seen { client, scheme } = proxies.seen(self.origin.peer, &self.head, &self.head_bytes);
        (client.or_else(|| self.origin.peer.map(in_words)), scheme)
    }

    /// Address and port of this end.
    pub fn server(&self) -> Option<(String, u16)> {
        self.origin.local.map(in_words)
    }

    /// Number of the listener that it came by.
    pub fn listener(&self) -> u32 {
        self.origin.listener.0
    }

    /// Pairs of name (lower case, as ASGI wants it) and value.
    pub fn headers<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let list = PyList::empty(py);
        for header in &self.head.headers {
            let name = header.name.of(&self.head_bytes);
            let name = PyBytes::new_with(py, name.len(), |room| {
                room.copy_from_slice(name);
                room.make_ascii_lowercase();
                Ok(())
            })?;
            let value = PyBytes::new(py, header.value.of(&self.head_bytes));
            list.append(PyTuple::new(py, [name, value])?)?;
        }
        Ok(list)
    }
}

fn in_words(address: SocketAddr) -> (String, u16) {
    (address.ip().to_string(), address.port())
}
