//! An answer as a client reads it, strictly, and without any code of the server: RFC 9112 from the other side.

use std::borrow::Cow;
use std::str;

/// One message of the server.
#[derive(Debug)]
pub struct Response<'a> {
    /// Status code; under 200 is interim.
    pub status: u16,
    /// It says `connection: close`.
    pub closes: bool,
    /// It says `connection: keep-alive`.
    pub says_keep_alive: bool,
    /// The request that it claims to answer.
    pub token: Option<u32>,
    /// Without its framing.
    pub body: Cow<'a, [u8]>,
    /// Where it ends.
    pub end: usize,
    /// How its end is told.
    pub is_chunked: bool,
}

/// Reads the first message of `bytes`; none when more must come. `is_over`: nothing more will.
///
/// # Errors
/// What is wrong with it.
pub fn parse(bytes: &[u8], is_head: bool, is_over: bool) -> Result<Option<Response<'_>>, String> {
    let Some(head_end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else {
        return Ok(None);
    };
    let head = str::from_utf8(&bytes[..head_end]).map_err(|_| "the head is not text".to_owned())?;
    let mut lines = head.split("\r\n");
    let status_line = lines.next().unwrap_or_default();
    let status = status_line
        .strip_prefix("HTTP/1.1 ")
        .filter(|rest| rest.as_bytes().get(3) == Some(&b' '))
        .and_then(|rest| rest[..3].parse::<u16>().ok())
        .ok_or_else(|| format!("status line {status_line:?}"))?;
    let (mut length, mut is_chunked, mut closes, mut says_keep_alive, mut token) = (None, false, false, false, None);
    for line in lines {
        let (name, value) = line.split_once(": ").ok_or_else(|| format!("header line {line:?}"))?;
        if name.is_empty()
            || !name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-')
            || value.contains(['\r', '\n'])
        {
            return Err(format!("header line {line:?}"));
        }
        match name {
            "content-length" if length.is_some() => return Err("two lengths".to_owned()),
            "content-length" => length = Some(value.parse::<usize>().map_err(|_| format!("length {value:?}"))?),
            "transfer-encoding" if value == "chunked" => is_chunked = true,
            "transfer-encoding" => return Err(format!("coding {value:?}")),
            "connection" if closes || says_keep_alive => return Err("two connection lines".to_owned()),
            "connection" if value == "close" => closes = true,
            "connection" if value == "keep-alive" => says_keep_alive = true,
            "connection" => return Err(format!("connection {value:?}")),
            "x-token" => token = Some(value.parse().map_err(|_| format!("token {value:?}"))?),
            _ => {}
        }
    }
    if is_chunked && length.is_some() {
        return Err("both a length and chunks".to_owned());
    }
    let start = head_end + 4;
    let rest = &bytes[start..];
    let of = |body, end| Response { status, closes, says_keep_alive, token, body, end, is_chunked };
    if status < 200 || status == 204 || status == 304 || is_head {
        if status < 200 && (length.is_some() || is_chunked) || status == 204 && length.is_some() {
            return Err(format!("a {status} with a body's framing"));
        }
        return Ok(Some(of(Cow::Borrowed(&[]), start)));
    }
    if is_chunked {
        return Ok(chunks(rest)?.map(|(body, end)| of(Cow::Owned(body), start + end)));
    }
    match length {
        Some(length) => Ok(rest.get(..length).map(|body| of(Cow::Borrowed(body), start + length))),
        None if !closes => Err("neither length nor chunks nor close".to_owned()),
        None => Ok(is_over.then(|| of(Cow::Borrowed(rest), bytes.len()))),
    }
}

fn chunks(bytes: &[u8]) -> Result<Option<(Vec<u8>, usize)>, String> {
    let (mut at, mut body) = (0, Vec::new());
    loop {
        let Some(line) = bytes[at..].windows(2).take(20).position(|window| window == b"\r\n") else {
            return if bytes.len() - at > 20 { Err("chunk line too long".to_owned()) } else { Ok(None) };
        };
        let text = str::from_utf8(&bytes[at..at + line]).unwrap_or("?");
        let size = usize::from_str_radix(text, 16).map_err(|_| format!("chunk size {text:?}"))?;
        at += line + 2;
        let Some(data) = bytes.get(at..at + size + 2) else { return Ok(None) };
        if &data[size..] != b"\r\n" {
            return Err("chunk without its end".to_owned());
        }
        body.extend_from_slice(&data[..size]);
        at += size + 2;
        if size == 0 {
            return Ok(Some((body, at)));
        }
    }
}
