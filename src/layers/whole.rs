//! What a layer is given of an answer.

use bytes::Bytes;

use crate::answer::{HeaderError, Headers};
use crate::http::encode;

/// An answer that is whole.
#[derive(Debug, Clone)]
pub struct Whole {
    /// Status code.
    pub status: u16,
    /// Header lines.
    pub headers: Headers,
    /// Body.
    pub body: Bytes,
}

/// The app's own middleware has to have this answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotCovered;

impl From<HeaderError> for NotCovered {
    /// Nothing that a layer adds is one: its lines were checked when it was made, and the request's when that was read.
    fn from(problem: HeaderError) -> Self {
        debug_assert!(false, "a layer has added a line that is none: {problem}");
        Self
    }
}

impl Whole {
    /// An answer of JSON and nothing else, with the lines of `JSONResponse`.
    ///
    /// # Panics
    /// Never: its lines are well-formed.
    #[must_use]
    pub fn json(status: u16, body: Bytes) -> Self {
        let mut headers = Headers::default();
        let length = itoa::Buffer::new().format(body.len()).to_owned();
        let lines = [(&b"content-length"[..], length.as_bytes()), (b"content-type", b"application/json")];
        let first = usize::from(!encode::may_have_body(status));
        for (name, value) in &lines[first..] {
            headers.push(name, value).expect("digits and a constant are well-formed");
        }
        Self { status, headers, body }
    }
}

/// `MutableHeaders.add_vary_header`: one line in the place of the first, with what all of them said.
pub(super) fn add_vary(headers: &mut Headers, name: &[u8]) -> Result<(), HeaderError> {
    let mut vary = headers.values_of(b"vary").collect::<Vec<_>>();
    if vary.is_empty() {
        return headers.push(b"vary", name);
    }
    vary.push(name);
    let vary = vary.join(&b", "[..]);
    headers.set(b"vary", &vary)
}
