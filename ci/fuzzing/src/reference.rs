//! A second reading of HTTP/1.1 requests: whole messages only, the RFC's grammar and our stricter rules written down as
//! slowly and plainly as can be. Nothing of the core is used but the numbers in `Limits`. Where the two differ, one of
//! them is wrong.

use std::net::Ipv6Addr;

use turboapi_core::limits::Limits;

/// What octets are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Read<T> {
    /// A whole message, and how many octets it has.
    Whole(T, usize),
    /// Not whole. It may be malformed already: that is for who reads on to say.
    Partial,
    /// No message that we would take.
    Refused,
}

/// A head as the RFC has it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the RFC's words")]
pub struct Head {
    pub method: Vec<u8>,
    pub target: Vec<u8>,
    pub minor_version: u8,
    pub headers: Vec<(Vec<u8>, Vec<u8>)>,
    pub length: Option<u64>,
    pub is_chunked: bool,
    pub keeps_alive: bool,
}

/// A whole request.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the RFC's words")]
pub struct Request {
    pub head: Head,
    pub body: Vec<u8>,
}

/// What a stream of requests ends in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rest {
    /// Nothing, or an empty line.
    Nothing,
    /// A message that is not whole.
    Partial,
    /// One that is refused.
    Refused,
    /// Whatever it is, it stands behind a request that said close.
    Unread,
}

const TOKEN_MARKS: &[u8] = b"!#$%&'*+-.^_`|~";

/// RFC 9110 §5.6.2.
#[must_use]
pub fn is_token(octets: &[u8]) -> bool {
    !octets.is_empty() && octets.iter().all(|octet| octet.is_ascii_alphanumeric() || TOKEN_MARKS.contains(octet))
}

/// RFC 9110 §5.5.
#[must_use]
pub fn is_value(octets: &[u8]) -> bool {
    octets.iter().all(|&octet| octet == 9 || (octet >= 32 && octet != 127))
}

fn find(octets: &[u8], part: &[u8]) -> Option<usize> {
    octets.windows(part.len()).position(|window| window == part)
}

/// The lines of octets that end in CRLF, none of them with a CR or LF inside.
fn lines(mut octets: &[u8]) -> Option<Vec<&[u8]>> {
    let mut lines = Vec::new();
    while let Some(end) = find(octets, b"\r\n") {
        if octets[..end].iter().any(|octet| matches!(octet, b'\r' | b'\n')) {
            return None;
        }
        lines.push(&octets[..end]);
        octets = &octets[end + 2..];
    }
    octets.is_empty().then_some(lines)
}

fn trim(octets: &[u8]) -> &[u8] {
    let is_text = |octet: &u8| !matches!(octet, b' ' | b'\t');
    let Some(start) = octets.iter().position(is_text) else { return &[] };
    let end = octets.iter().rposition(is_text).map_or(start, |last| last + 1);
    &octets[start..end]
}

/// The head at the start of `octets`.
#[must_use]
pub fn head(octets: &[u8], limits: &Limits) -> Read<Head> {
    let skipped = if octets.starts_with(b"\r\n") { 2 } else { 0 };
    let Some(end) = find(&octets[skipped..], b"\r\n\r\n").map(|at| skipped + at + 4) else { return Read::Partial };
    match whole_head(&octets[skipped..end - 2], end, limits) {
        Some(head) => Read::Whole(head, end),
        None => Read::Refused,
    }
}

fn whole_head(octets: &[u8], length: usize, limits: &Limits) -> Option<Head> {
    let lines = lines(octets)?;
    let (line, fields) = lines.split_first()?;
    if line.len() > limits.request_line_bytes_max
        || length > limits.head_bytes_max
        || fields.len() > limits.header_count_max
    {
        return None;
    }
    let words: Vec<&[u8]> = line.split(|&octet| octet == b' ').collect();
    let [method, target, version] = words[..] else { return None };
    let minor_version = match version {
        b"HTTP/1.0" => 0,
        [b'H', b'T', b'T', b'P', b'/', b'1', b'.', b'1'..=b'9'] => 1,
        _ => return None,
    };
    if !is_token(method) || method.len() > 32 || method == b"CONNECT" {
        return None;
    }
    let mut headers = Vec::new();
    for field in fields {
        let colon = field.iter().position(|&octet| octet == b':')?;
        let (name, value) = (&field[..colon], trim(&field[colon + 1..]));
        if !is_token(name) || !is_value(&field[colon + 1..]) {
            return None;
        }
        headers.push((name.to_vec(), value.to_vec()));
    }
    let values = |name: &str| -> Vec<&[u8]> {
        let named = headers.iter().filter(|(other, _)| other.eq_ignore_ascii_case(name.as_bytes()));
        named.map(|(_, value)| value.as_slice()).collect()
    };
    check_target(method, target, minor_version, &values("host"))?;
    let length = match values("content-length")[..] {
        [] => None,
        [digits] => Some(decimal(digits)?),
        _ => return None,
    };
    let is_chunked = match values("transfer-encoding")[..] {
        [] => false,
        [coding] if coding.eq_ignore_ascii_case(b"chunked") && length.is_none() && minor_version == 1 => true,
        _ => return None,
    };
    let is_met = match values("expect")[..] {
        [] => true,
        [expectation] => expectation.eq_ignore_ascii_case(b"100-continue"),
        _ => false,
    };
    if minor_version == 1 && !is_met {
        return None;
    }
    let words = words_of(&values("connection"));
    let says = |word: &[u8]| words.iter().any(|other| other == word);
    let keeps_alive = !says(b"close") && (minor_version == 1 || says(b"keep-alive"));
    Some(Head {
        method: method.to_vec(),
        target: target.to_vec(),
        minor_version,
        headers,
        length,
        is_chunked,
        keeps_alive,
    })
}

/// RFC 6455 §4.1: what a client sends that wants a WebSocket. There is none here.
fn opens_websocket(head: &Head) -> bool {
    let values = |name: &str| -> Vec<&[u8]> {
        let named = head.headers.iter().filter(|(other, _)| other.eq_ignore_ascii_case(name.as_bytes()));
        named.map(|(_, value)| value.as_slice()).collect()
    };
    let says = |name: &str, word: &[u8]| words_of(&values(name)).iter().any(|other| other == word);
    head.method == b"GET"
        && head.minor_version == 1
        && says("connection", b"upgrade")
        && says("upgrade", b"websocket")
        && !values("sec-websocket-key").is_empty()
}

/// The words of all these lists, in lower case.
fn words_of(lists: &[&[u8]]) -> Vec<Vec<u8>> {
    let words = lists.iter().flat_map(|list| list.split(|&octet| octet == b','));
    words.map(|word| trim(word).to_ascii_lowercase()).collect()
}

fn decimal(digits: &[u8]) -> Option<u64> {
    let text =
        std::str::from_utf8(digits).ok().filter(|text| !text.is_empty() && text.bytes().all(|d| d.is_ascii_digit()))?;
    let significant = text.trim_start_matches('0');
    // 2^63 has 19 digits.
    let value: u128 = if significant.len() > 19 { return None } else { format!("0{significant}").parse().ok()? };
    (value < 1 << 63).then_some(value as u64)
}

/// RFC 9112 §3.2: the form of the target, and its agreement with Host.
fn check_target(method: &[u8], target: &[u8], minor_version: u8, hosts: &[&[u8]]) -> Option<()> {
    if target.is_empty() || !target.iter().all(|&octet| (0x21..0x7f).contains(&octet) && octet != b'#') {
        return None;
    }
    let host = match hosts {
        [] if minor_version == 0 => None,
        [host] if is_host(host) => Some(*host),
        _ => return None,
    };
    let text = std::str::from_utf8(target).ok()?;
    if text.starts_with('/') || (text == "*" && method == b"OPTIONS") {
        return Some(());
    }
    let (scheme, rest) = text.split_once("://")?;
    if !matches!(scheme.to_ascii_lowercase().as_str(), "http" | "https") {
        return None;
    }
    let authority = rest.split(['/', '?']).next()?;
    let agrees = host.is_none_or(|host| host.eq_ignore_ascii_case(authority.as_bytes()));
    (is_host(authority.as_bytes()) && agrees).then_some(())
}

/// RFC 9110 §7.2 with RFC 3986 §3.2.2, not empty, and without the comma.
fn is_host(octets: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(octets) else { return false };
    let (name, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let Some((address, port)) = rest.split_once(']') else { return false };
            if address.parse::<Ipv6Addr>().is_err() {
                return false;
            }
            ("address", port)
        }
        None => text.split_at(text.find(':').unwrap_or(text.len())),
    };
    let is_port = match port.strip_prefix(':') {
        None => port.is_empty(),
        Some(digits) => {
            digits.is_empty()
                || (digits.len() <= 5 && digits.bytes().all(|d| d.is_ascii_digit()) && digits.parse::<u16>().is_ok())
        }
    };
    let mut parts = name.split('%');
    let is_plain = |text: &str| text.chars().all(|c| c.is_ascii_alphanumeric() || "-._~!$&'()*+;=".contains(c));
    let first = parts.next().is_some_and(is_plain);
    let escaped = parts.all(|part| {
        part.get(..2).is_some_and(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()))
            && is_plain(&part[2..])
    });
    is_port && !name.is_empty() && first && escaped
}

/// The chunked body at the start of `octets`.
#[must_use]
pub fn chunked(octets: &[u8], limits: &Limits) -> Read<Vec<u8>> {
    let (mut rest, mut body, mut extensions) = (octets, Vec::new(), 0);
    loop {
        let Some(end) = find(rest, b"\r\n") else { return Read::Partial };
        let Some((size, extension)) = chunk_line(&rest[..end]) else { return Read::Refused };
        extensions += extension;
        let total = body.len() as u128 + size;
        if extensions > limits.chunk_extension_bytes_max || total > u128::from(limits.body_bytes_max) || size >= 1 << 63
        {
            return Read::Refused;
        }
        rest = &rest[end + 2..];
        if size == 0 {
            break;
        }
        let Some((data, after)) = rest.split_at_checked(size as usize) else { return Read::Partial };
        body.extend_from_slice(data);
        match after {
            [b'\r', b'\n', after @ ..] => rest = after,
            [] | [b'\r'] => return Read::Partial,
            _ => return Read::Refused,
        }
    }
    let end = if rest.starts_with(b"\r\n") { Some(0) } else { find(rest, b"\r\n\r\n").map(|at| at + 2) };
    let Some(end) = end else { return Read::Partial };
    let Some(lines) = lines(&rest[..end]) else { return Read::Refused };
    let is_trailer = |line: &&[u8]| {
        let colon = line.iter().position(|&octet| octet == b':');
        colon.is_some_and(|colon| is_token(&line[..colon]) && is_value(&line[colon + 1..]))
    };
    if end > limits.trailer_bytes_max || lines.len() > limits.header_count_max || !lines.iter().all(is_trailer) {
        return Read::Refused;
    }
    let length = octets.len() - rest.len() + end + 2;
    Read::Whole(body, length)
}

/// The size, and the octets that the extension counts for: those behind its first semicolon, and the CR.
fn chunk_line(line: &[u8]) -> Option<(u128, usize)> {
    let digits = line.iter().take_while(|octet| octet.is_ascii_hexdigit()).count();
    if !(1..=16).contains(&digits) {
        return None;
    }
    let size = u128::from_str_radix(std::str::from_utf8(&line[..digits]).ok()?, 16).ok()?;
    match &line[digits..] {
        [] => Some((size, 0)),
        [b';', extension @ ..] => are_extensions(extension).then_some((size, extension.len() + 1)),
        _ => None,
    }
}

/// `token [ "=" ( token / quoted-string ) ]`, parted by semicolons.
fn are_extensions(mut rest: &[u8]) -> bool {
    loop {
        let name = rest.iter().take_while(|&&octet| is_token(&[octet])).count();
        if name == 0 {
            return false;
        }
        rest = &rest[name..];
        if let [b'=', b'"', quoted @ ..] = rest {
            let Some(after) = behind_quoted(quoted) else { return false };
            rest = after;
        } else if let [b'=', value @ ..] = rest {
            let length = value.iter().take_while(|&&octet| is_token(&[octet])).count();
            if length == 0 {
                return false;
            }
            rest = &value[length..];
        }
        match rest {
            [] => return true,
            [b';', after @ ..] => rest = after,
            _ => return false,
        }
    }
}

fn behind_quoted(octets: &[u8]) -> Option<&[u8]> {
    let mut is_escaped = false;
    for (at, &octet) in octets.iter().enumerate() {
        match octet {
            _ if !is_value(&[octet]) => return None,
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = true,
            b'"' => return Some(&octets[at + 1..]),
            _ => {}
        }
    }
    None
}

/// The requests of a stream, in order, and what stands behind them. `ends` says of a request whether its answer is the
/// last.
#[must_use]
pub fn stream(octets: &[u8], limits: &Limits, ends: impl Fn(&Head) -> bool) -> (Vec<Request>, Rest) {
    let (mut requests, mut rest) = (Vec::new(), octets);
    loop {
        let (head, length) = match head(rest, limits) {
            Read::Whole(head, length) => (head, length),
            Read::Partial if matches!(rest, [] | [b'\r'] | [b'\r', b'\n']) => return (requests, Rest::Nothing),
            Read::Partial => return (requests, Rest::Partial),
            Read::Refused => return (requests, Rest::Refused),
        };
        if opens_websocket(&head) {
            return (requests, Rest::Refused);
        }
        rest = &rest[length..];
        let body = match head.length {
            _ if head.is_chunked => chunked(rest, limits),
            None => Read::Whole(Vec::new(), 0),
            Some(length) if length > limits.body_bytes_max => Read::Refused,
            Some(length) => match rest.split_at_checked(length as usize) {
                Some((body, _)) => Read::Whole(body.to_vec(), body.len()),
                None => Read::Partial,
            },
        };
        let (body, length) = match body {
            Read::Whole(body, length) => (body, length),
            Read::Partial => return (requests, Rest::Partial),
            Read::Refused => return (requests, Rest::Refused),
        };
        rest = &rest[length..];
        let is_last = ends(&head);
        requests.push(Request { head, body });
        if is_last {
            return (requests, Rest::Unread);
        }
    }
}
