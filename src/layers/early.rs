//! What a layer says to a request by itself, without the handler: the two answers of Starlette's that they are made of.

use bytes::Bytes;

use super::whole::Whole;
use crate::answer::{HeaderError, Headers};
use crate::http::head::TargetForm;
use crate::request::Request;

/// What one layer says to a request.
pub(super) enum Step {
    On,
    Answer(Whole),
    Unsure,
}

/// `PlainTextResponse(text, status, headers)`.
pub(super) fn plain_text(status: u16, mut headers: Headers, text: String) -> Result<Whole, HeaderError> {
    headers.push(b"content-length", itoa::Buffer::new().format(text.len()).as_bytes())?;
    headers.push(b"content-type", b"text/plain; charset=utf-8")?;
    Ok(Whole { status, headers, body: Bytes::from(text) })
}

/// `RedirectResponse(url)`: the URL is made of what went through `quoted`.
pub(super) fn redirect(url: &[u8]) -> Result<Whole, HeaderError> {
    let mut headers = Headers::default();
    headers.push(b"content-length", b"0")?;
    headers.push(b"location", url)?;
    Ok(Whole { status: 307, headers, body: Bytes::new() })
}

/// Scheme and authority, and behind them path and query as `RedirectResponse(URL(scope=scope))` writes them. None: Python's
/// `urlsplit` would do more than that, or there is no path.
pub(super) fn redirect_url(scheme: &str, authority: &str, root_path: &str, request: &Request<'_>) -> Option<Vec<u8>> {
    // urlsplit drops line feeds and tabs, wherever they are.
    let is_clean = |text: &[u8]| !text.iter().any(u8::is_ascii_control);
    let query = request.query();
    let starts_well = if root_path.is_empty() { request.path.starts_with('/') } else { root_path.starts_with('/') };
    let is_a_path = starts_well && request.head.target_form != TargetForm::Asterisk;
    if !is_a_path || !is_clean(root_path.as_bytes()) || !is_clean(request.path.as_bytes()) || !is_clean(query) {
        return None;
    }
    let mut url = format!("{scheme}://{authority}").into_bytes();
    for part in [root_path, request.path] {
        for byte in part.bytes() {
            match byte {
                b'?' | b'#' | b'\\' => escape(byte, &mut url),
                _ => quote(byte, &mut url),
            }
        }
    }
    if !query.is_empty() {
        url.push(b'?');
        query.iter().for_each(|&byte| quote(byte, &mut url));
    }
    Some(url)
}

/// `urllib.parse.quote(…, safe=":/%#?=@[]!$&'()*+,;")`
fn quote(byte: u8, url: &mut Vec<u8>) {
    if byte.is_ascii_alphanumeric() || b"_.-~:/%#?=@[]!$&'()*+,;".contains(&byte) {
        url.push(byte);
    } else {
        escape(byte, url);
    }
}

fn escape(byte: u8, url: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    url.extend_from_slice(&[b'%', DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
}
