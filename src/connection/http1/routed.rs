//! A head, and the route that its path leads to. No request yet: its body may not be here.

use crate::http::head::Head;
use crate::http::target;
use crate::router::{Match, Params, Router};

/// A head, and where it goes.
pub(super) struct Routed<'a> {
    pub(super) head: &'a Head,
    pub(super) head_bytes: &'a [u8],
    pub(super) path: &'a str,
    pub(super) matched: Match,
    pub(super) params: &'a Params,
}

#[inline]
pub(super) fn route<'a>(
    head: &'a Head,
    head_bytes: &'a [u8],
    path: &'a mut Vec<u8>,
    params: &'a mut Params,
    router: &Router,
) -> Routed<'a> {
    target::percent_decode_path(head.path.of(head_bytes), path);
    let path = std::str::from_utf8(path).expect("percent_decode_path appends UTF-8");
    let matched = router.find(head.method.name(head_bytes), path, params);
    Routed { head, head_bytes, path, matched, params }
}
