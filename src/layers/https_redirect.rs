//! `HTTPSRedirectMiddleware`.

use super::early::{Step, redirect, redirect_url};
use super::host;
use crate::request::Request;

/// Its options.
#[derive(Debug, Clone, Default)]
pub struct HttpsRedirect {
    /// The path under which a proxy serves the app: the first part of what the app takes for the path.
    pub root_path: String,
}

impl HttpsRedirect {
    pub(super) fn enter(&self, request: &Request<'_>, scheme: &str) -> Step {
        match scheme {
            "http" => {}
            "https" => return Step::On,
            _ => return Step::Unsure,
        }
        let header = request.head.value(request.head_bytes, b"host");
        let Some(host) = header.and_then(host::parse) else { return Step::Unsure };
        // The port of http says nothing about that of https; another one stays, as it is all that there is to go by.
        let name = host.name.to_ascii_lowercase();
        let authority = if matches!(host.port, Some(80 | 443)) { &name } else { host.authority };
        match redirect_url("https", authority, &self.root_path, request).map(|url| redirect(&url)) {
            Some(Ok(whole)) => Step::Answer(whole),
            _ => Step::Unsure,
        }
    }
}
