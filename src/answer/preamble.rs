//! The lines that an answer begins with: status line, date, server, and what the operator wants on each. No line of the answer's own.

use super::headers::{HeaderError, Headers, has_line, write_header};
use crate::http::encode::{self, DateCache};

/// A line that each answer has that has none of this name itself.
#[derive(Debug)]
struct DefaultLine {
    name: Box<[u8]>,
    /// With its name and its CRLF.
    line: Vec<u8>,
}

/// The lines that each answer begins with, `date` among them, refreshed once a second.
#[derive(Debug)]
pub struct Preamble {
    date: DateCache,
    sends_date: bool,
    /// `server: …` with its CRLF, or empty.
    server_line: Vec<u8>,
    defaults: Vec<DefaultLine>,
    /// The status line of a 200 and all of these lines, joined.
    ok: Vec<u8>,
}

impl Preamble {
    /// Neither line is sent where it is not wanted. `server` must be a header value.
    #[must_use]
    pub fn new(server: Option<&str>, sends_date: bool) -> Self {
        let mut server_line = Vec::new();
        if let Some(name) = server {
            write_header(b"server", name.as_bytes(), &mut server_line);
        }
        let (date, defaults, ok) = (DateCache::default(), Vec::new(), Vec::new());
        let mut preamble = Self { date, sends_date, server_line, defaults, ok };
        preamble.rebuild();
        preamble
    }

    /// The same with further lines, each for the answers that have none of its name: refusals too. `Server` and `Date` among them
    /// are instead of ours.
    ///
    /// # Errors
    /// A line would break a message, or says how long it is.
    pub fn with_defaults<'a>(
        mut self,
        headers: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Self, HeaderError> {
        for (name, value) in headers {
            let mut checked = Headers::default();
            checked.push(name.as_bytes(), value.as_bytes())?;
            if checked.content_length.is_some() {
                return Err(HeaderError::ContentLength(value.into()));
            }
            self.sends_date &= !checked.has_date;
            if checked.has_server {
                self.server_line.clear();
            }
            self.defaults.push(DefaultLine { name: name.as_bytes().into(), line: checked.lines });
        }
        self.rebuild();
        Ok(self)
    }

    /// Tells the time, in seconds since 1970.
    pub fn set_time(&mut self, unix_seconds: u64) {
        if self.date.update(unix_seconds) {
            self.rebuild();
        }
    }

    fn rebuild(&mut self) {
        let mut ok = std::mem::take(&mut self.ok);
        ok.clear();
        encode::status_line(&mut ok, 200);
        self.write_lines(&mut ok, true, true, &[]);
        self.ok = ok;
    }

    fn write_lines(&self, out: &mut Vec<u8>, date: bool, server: bool, own: &[u8]) {
        if date && self.sends_date {
            write_header(b"date", self.date.value(), out);
        }
        if server {
            out.extend_from_slice(&self.server_line);
        }
        for default in &self.defaults {
            if !has_line(own, &default.name) {
                out.extend_from_slice(&default.line);
            }
        }
    }

    /// Status line, date, server, and the defaults that are not among the answer's own lines. PERF: one copy for the common status.
    pub(super) fn write(&self, out: &mut Vec<u8>, status: u16, without_date: bool, without_server: bool, own: &[u8]) {
        let is_plain = status == 200 && !without_date && !without_server;
        if is_plain && !self.defaults.iter().any(|default| has_line(own, &default.name)) {
            out.extend_from_slice(&self.ok);
        } else {
            encode::status_line(out, status);
            self.write_lines(out, !without_date, !without_server, own);
        }
    }
}
