//! `TrustedHostMiddleware`.

use super::early::{Step, plain_text, redirect, redirect_url};
use super::host;
use crate::answer::Headers;
use crate::request::Request;

/// Its options.
#[derive(Debug, Clone, Default)]
pub struct TrustedHost {
    /// Lower case; `*.example.com` is every host below that one.
    pub allowed_hosts: Vec<String>,
    /// Whether every host is.
    pub allows_any: bool,
    /// Whether a host that is allowed with `www.` before it is sent there.
    pub www_redirect: bool,
    /// The path under which a proxy serves the app: the first part of what the app takes for the path.
    pub root_path: String,
}

impl TrustedHost {
    pub(super) fn enter(&self, request: &Request<'_>, scheme: &str) -> Step {
        if self.allows_any {
            return Step::On;
        }
        let header = request.head.value(request.head_bytes, b"host");
        let Some(host) = header.and_then(host::parse) else { return Step::Unsure };
        let name = host.name.to_ascii_lowercase();
        let mut goes_to_www = false;
        for pattern in &self.allowed_hosts {
            if name == *pattern || pattern.strip_prefix('*').is_some_and(|end| name.ends_with(end)) {
                return Step::On;
            }
            goes_to_www |= pattern.strip_prefix("www.").is_some_and(|rest| rest == name);
        }
        let whole = if goes_to_www && self.www_redirect {
            let authority = format!("www.{}", host.authority);
            redirect_url(scheme, &authority, &self.root_path, request).map(|url| redirect(&url))
        } else {
            Some(plain_text(400, Headers::default(), "Invalid host header".to_owned()))
        };
        match whole {
            Some(Ok(whole)) => Step::Answer(whole),
            _ => Step::Unsure,
        }
    }
}
