//! What a server sent, into answers: a strict reader of responses (RFC 9112 §4 to §7) that shares nothing with the
//! server. What a careful client would stumble over is an error here.

/// One answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Three digits.
    pub status: u16,
    /// What stands behind it in the status line.
    pub reason: Vec<u8>,
    /// Header lines in order, names as they were spelt.
    pub headers: Vec<(String, Vec<u8>)>,
    /// Without its framing.
    pub body: Vec<u8>,
    /// Whether only the end of the connection ended it.
    pub ends_with_connection: bool,
}

impl Answer {
    /// The values of a header, which is named in lower case.
    pub fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        self.headers
            .iter()
            .filter(move |(other, _)| other.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_slice())
    }

    /// Whether Connection says that this is the last one.
    #[must_use]
    pub fn says_close(&self) -> bool {
        self.values("connection").any(|value| value.eq_ignore_ascii_case(b"close"))
    }
}

/// Reads all answers, 1xx among them. `is_bodiless` is asked for each final one, by its number: whether it answers a
/// HEAD.
///
/// # Errors
/// What is malformed or missing, and where.
pub fn parse(octets: &[u8], is_bodiless: impl Fn(usize) -> bool) -> Result<Vec<Answer>, String> {
    let (mut rest, mut answers, mut finals) = (octets, Vec::new(), 0);
    while !rest.is_empty() {
        let at = octets.len() - rest.len();
        let (answer, after) = one(rest, is_bodiless(finals)).map_err(|what| format!("answer at octet {at}: {what}"))?;
        finals += usize::from(answer.status >= 200);
        answers.push(answer);
        rest = after;
    }
    Ok(answers)
}

fn one(octets: &[u8], is_bodiless: bool) -> Result<(Answer, &[u8]), String> {
    let (status_line, mut rest) = line(octets)?;
    let (status, reason) = read_status_line(status_line)?;
    let mut headers = Vec::new();
    loop {
        let (header, after) = line(rest)?;
        rest = after;
        if header.is_empty() {
            break;
        }
        headers.push(read_header(header)?);
    }
    let mut answer = Answer { status, reason, headers, body: Vec::new(), ends_with_connection: false };
    let rest = read_body(&mut answer, rest, is_bodiless)?;
    Ok((answer, rest))
}

/// Up to the first LF, which must stand behind a CR.
fn line(octets: &[u8]) -> Result<(&[u8], &[u8]), String> {
    let end = octets.iter().position(|&octet| octet == b'\n').ok_or("a line has no end")?;
    let line = octets[..end].strip_suffix(b"\r").ok_or("a line ends in LF alone")?;
    Ok((line, &octets[end + 1..]))
}

/// RFC 9112 §4: `HTTP/1.1 SP 3DIGIT SP [ reason-phrase ]`.
fn read_status_line(line: &[u8]) -> Result<(u16, Vec<u8>), String> {
    let wrong = || format!("status line \"{}\"", line.escape_ascii());
    let rest = line.strip_prefix(b"HTTP/1.1 ").ok_or_else(wrong)?;
    let (digits, reason) = rest.split_at_checked(3).ok_or_else(wrong)?;
    let reason = reason.strip_prefix(b" ").ok_or_else(wrong)?;
    if !digits.iter().all(u8::is_ascii_digit) || digits[0] == b'0' || !reason.iter().all(|&octet| is_value(octet)) {
        return Err(wrong());
    }
    Ok((digits.iter().fold(0, |number, digit| number * 10 + u16::from(digit - b'0')), reason.to_vec()))
}

/// RFC 9112 §5: `field-name ":" OWS field-value OWS`.
fn read_header(line: &[u8]) -> Result<(String, Vec<u8>), String> {
    let wrong = || format!("header line \"{}\"", line.escape_ascii());
    let colon = line.iter().position(|&octet| octet == b':').ok_or_else(wrong)?;
    let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
    let is_name = !name.is_empty() && name.iter().all(|&octet| is_token(octet));
    if !is_name || !line[colon + 1..].iter().all(|&octet| is_value(octet)) {
        return Err(wrong());
    }
    Ok((String::from_utf8_lossy(name).into_owned(), value.to_vec()))
}

/// RFC 9112 §6.3, for a client.
fn read_body<'o>(answer: &mut Answer, rest: &'o [u8], is_bodiless: bool) -> Result<&'o [u8], String> {
    let codings: Vec<&[u8]> = answer.values("transfer-encoding").collect();
    let lengths: Vec<&[u8]> = answer.values("content-length").collect();
    let may_have_body = answer.status >= 200 && answer.status != 204;
    let has_framing = !codings.is_empty() || !lengths.is_empty();
    if has_framing && !may_have_body {
        return Err(format!("a {} with a length or a coding", answer.status));
    }
    if lengths.len() > 1 || codings.len() > 1 || !(codings.is_empty() || lengths.is_empty()) {
        return Err("more than one length or coding".into());
    }
    let length = match lengths.first() {
        Some(digits) if !digits.is_empty() && digits.iter().all(u8::is_ascii_digit) => {
            let text = String::from_utf8_lossy(digits);
            Some(text.parse::<u64>().map_err(|_| format!("length {text}"))?)
        }
        Some(other) => return Err(format!("length \"{}\"", other.escape_ascii())),
        None => None,
    };
    if codings.first().is_some_and(|coding| *coding != b"chunked") {
        return Err("a coding other than chunked".into());
    }
    if !may_have_body || is_bodiless || answer.status == 304 {
        return Ok(rest);
    }
    if !codings.is_empty() {
        return read_chunks(answer, rest);
    }
    let Some(length) = length else {
        (answer.body, answer.ends_with_connection) = (rest.to_vec(), true);
        return Ok(&[]);
    };
    let split = usize::try_from(length).ok().and_then(|length| rest.split_at_checked(length));
    let (body, rest) = split.ok_or_else(|| format!("{} octets of a body of {length}", rest.len()))?;
    answer.body = body.to_vec();
    Ok(rest)
}

/// RFC 9112 §7.1; a server has no business with extensions and trailers that nobody asked for.
fn read_chunks<'o>(answer: &mut Answer, mut rest: &'o [u8]) -> Result<&'o [u8], String> {
    loop {
        let (digits, after) = line(rest)?;
        let text = String::from_utf8_lossy(digits);
        let is_size = !digits.is_empty() && digits.len() <= 15 && digits.iter().all(u8::is_ascii_hexdigit);
        let size = usize::from_str_radix(&text, 16).ok().filter(|_| is_size);
        let size = size.ok_or_else(|| format!("chunk size \"{}\"", digits.escape_ascii()))?;
        let (data, after) = after.split_at_checked(size).ok_or("a chunk is cut short")?;
        answer.body.extend_from_slice(data);
        rest = after.strip_prefix(b"\r\n").ok_or("no CRLF behind a chunk")?;
        if size == 0 {
            return Ok(rest);
        }
    }
}

fn is_token(octet: u8) -> bool {
    octet.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&octet)
}

fn is_value(octet: u8) -> bool {
    octet == b'\t' || (octet >= b' ' && octet != 0x7f)
}

/// Whether this is `Sun, 06 Nov 1994 08:49:37 GMT` or any other such date (RFC 9110 §5.6.7). The day of the week is not
/// checked against the date.
#[must_use]
pub fn is_date(value: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(value) else { return false };
    let (days, months) = ("Mon Tue Wed Thu Fri Sat Sun", "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec");
    let shape: String = text.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    let (Some(day), Some(month)) = (text.get(..3), text.get(8..11)) else { return false };
    days.split(' ').any(|known| known == day)
        && months.split(' ').any(|known| known == month)
        && shape == format!("{day}, 00 {month} 0000 00:00:00 GMT")
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read() {
        let check = |octets: &str, is_bodiless: bool, expected: &[(u16, &str)]| {
            let answers = parse(octets.as_bytes(), |_| is_bodiless).unwrap();
            let seen: Vec<_> = answers.iter().map(|a| (a.status, std::str::from_utf8(&a.body).unwrap())).collect();
            assert_eq!(seen, expected, "{octets:?}");
        };
        let ok = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi";
        check("", false, &[]);
        check(&ok.repeat(2), false, &[(200, "hi"), (200, "hi")]);
        check(&ok[..ok.len() - 2], true, &[(200, "")]);
        check("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 \r\n\r\n", false, &[(100, ""), (204, "")]);
        check("HTTP/1.1 304 N\r\ncontent-length: 2\r\n\r\n", false, &[(304, "")]);
        check("HTTP/1.1 200 OK\r\n\r\nto the end", false, &[(200, "to the end")]);
        check(
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\nA\r\n0123456789\r\n0\r\n\r\n",
            false,
            &[(200, "hi0123456789")],
        );
    }

    #[test]
    fn what_a_client_would_stumble_over_is_an_error() {
        for octets in [
            "HTTP/1.0 200 OK\r\n\r\n",
            "HTTP/1.1 20 OK\r\n\r\n",
            "HTTP/1.1 200\r\n\r\n",
            "HTTP/1.1 200 OK\n\r\n",
            "HTTP/1.1 200 OK\r\n",
            "HTTP/1.1 200 O\rK\r\n\r\n",
            "HTTP/1.1 200 OK\r\na b: c\r\n\r\n",
            "HTTP/1.1 200 OK\r\n: c\r\n\r\n",
            "HTTP/1.1 200 OK\r\na: b\0\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 1\r\n\r\na",
            "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: +1\r\n\r\na",
            "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\na",
            "HTTP/1.1 204 N\r\ncontent-length: 0\r\n\r\n",
            "HTTP/1.1 100 C\r\ntransfer-encoding: chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0x1\r\na\r\n0\r\n\r\n",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nab\r\n0\r\n\r\n",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n",
            "garbage",
        ] {
            assert!(parse(octets.as_bytes(), |_| false).is_err(), "{octets:?}");
        }
    }

    #[test]
    fn dates() {
        assert!(is_date(b"Sun, 06 Nov 1994 08:49:37 GMT"));
        for wrong in
            ["", "Sun, 6 Nov 1994 08:49:37 GMT", "Sun, 06 Nov 1994 08:49:37 UTC", "Xxx, 06 Nov 1994 08:49:37 GMT"]
        {
            assert!(!is_date(wrong.as_bytes()), "{wrong:?}");
        }
    }
}
