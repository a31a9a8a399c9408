//! `CORSMiddleware`.

use std::fmt;

use super::early::{Step, plain_text};
use super::whole::{Whole, add_vary};
use crate::answer::{HeaderError, Headers};
use crate::http::head::Method;
use crate::request::Request;

/// Whether an origin fits. None: nobody knows.
type Fits = dyn Fn(&[u8]) -> Option<bool> + Send + Sync;

/// A pattern, which is not ours to read.
pub struct OriginPattern(pub Box<Fits>);

impl fmt::Debug for OriginPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OriginPattern")
    }
}

/// Its options, as its constructor has worked them out.
#[derive(Debug, Default)]
pub struct Cors {
    /// Origins that are allowed.
    pub allow_origins: Vec<Vec<u8>>,
    /// Methods that are, in the words of Access-Control-Request-Method.
    pub allow_methods: Vec<Vec<u8>>,
    /// Header names that are, lower case.
    pub allow_headers: Vec<Vec<u8>>,
    /// Whether every origin is.
    pub allows_all_origins: bool,
    /// Whether every header is.
    pub allows_all_headers: bool,
    /// Whether credentials are.
    pub allows_credentials: bool,
    /// Whether a preflight's answer names the origin.
    pub names_origin_in_preflight: bool,
    /// Whether pages of the public network may ask.
    pub allows_private_network: bool,
    /// Further origins that are.
    pub origin_pattern: Option<OriginPattern>,
    /// Lines of each answer to a request with an Origin.
    pub simple_headers: Vec<(Vec<u8>, Vec<u8>)>,
    /// Lines of each answer to a preflight. No name twice.
    pub preflight_headers: Vec<(Vec<u8>, Vec<u8>)>,
}

const ALLOW_ORIGIN: &[u8] = b"access-control-allow-origin";
const ALLOW_HEADERS: &[u8] = b"access-control-allow-headers";
const ALLOW_PRIVATE_NETWORK: &[u8] = b"access-control-allow-private-network";

impl Cors {
    /// Whether its origin is allowed, or what comes instead of going on.
    pub(super) fn enter(&self, request: &Request<'_>) -> Result<bool, Step> {
        let value = |name| request.head.value(request.head_bytes, name);
        let Some(origin) = value(b"origin") else { return Ok(false) };
        let is_allowed = self.is_allowed(origin).ok_or(Step::Unsure)?;
        match value(b"access-control-request-method") {
            Some(method) if request.head.method == Method::Options => {
                Err(self.preflight(request, origin, is_allowed, method).unwrap_or(Step::Unsure))
            }
            _ => Ok(is_allowed),
        }
    }

    fn is_allowed(&self, origin: &[u8]) -> Option<bool> {
        if self.allows_all_origins || self.allow_origins.iter().any(|allowed| allowed == origin) {
            return Some(true);
        }
        self.origin_pattern.as_ref().map_or(Some(false), |pattern| (pattern.0)(origin))
    }

    fn preflight(&self, request: &Request<'_>, origin: &[u8], is_allowed: bool, method: &[u8]) -> Option<Step> {
        let value = |name| request.head.value(request.head_bytes, name);
        let mut lines: Vec<(&[u8], &[u8])> =
            self.preflight_headers.iter().map(|(name, value)| (name.as_slice(), value.as_slice())).collect();
        let mut failures = Vec::new();
        if !is_allowed {
            failures.push("origin");
        } else if self.names_origin_in_preflight {
            put(&mut lines, ALLOW_ORIGIN, origin);
        }
        if !self.allow_methods.iter().any(|allowed| allowed == method) {
            failures.push("method");
        }
        if let Some(requested) = value(b"access-control-request-headers") {
            if self.allows_all_headers {
                put(&mut lines, ALLOW_HEADERS, requested);
            } else if !requested.is_ascii() {
                // Python lowers and strips more than ASCII.
                return None;
            } else if !requested.split(|&byte| byte == b',').all(|name| self.is_allowed_header(name)) {
                failures.push("headers");
            }
        }
        if value(b"access-control-request-private-network").is_some() {
            if self.allows_private_network {
                put(&mut lines, ALLOW_PRIVATE_NETWORK, b"true");
            } else {
                failures.push("private-network");
            }
        }
        answer(&lines, &failures).ok().map(Step::Answer)
    }

    fn is_allowed_header(&self, name: &[u8]) -> bool {
        let name = name.trim_ascii();
        self.allow_headers.iter().any(|allowed| allowed.eq_ignore_ascii_case(name))
    }

    /// An answer on its way out.
    pub(super) fn leave(
        &self,
        origin: Option<&[u8]>,
        is_allowed: bool,
        headers: &mut Headers,
    ) -> Result<(), HeaderError> {
        if let Some(origin) = origin {
            for (name, value) in &self.simple_headers {
                headers.set(name, value)?;
            }
            if if self.allows_all_origins { self.allows_credentials } else { is_allowed } {
                headers.set(ALLOW_ORIGIN, origin)?;
            }
        }
        add_vary(headers, b"Origin")
    }
}

/// As a dict of Python does it: in its place, or at the end.
fn put<'a>(lines: &mut Vec<(&'a [u8], &'a [u8])>, name: &'a [u8], value: &'a [u8]) {
    match lines.iter_mut().find(|(known, _)| *known == name) {
        Some(line) => line.1 = value,
        None => lines.push((name, value)),
    }
}

fn answer(lines: &[(&[u8], &[u8])], failures: &[&str]) -> Result<Whole, HeaderError> {
    let mut headers = Headers::default();
    for (name, value) in lines {
        headers.push(name, value)?;
    }
    if failures.is_empty() {
        return plain_text(200, headers, "OK".to_owned());
    }
    plain_text(400, headers, format!("Disallowed CORS {}", failures.join(", ")))
}
