//! A case: what a peer sends, and what must come of it. From the text of its file; the format stands in README.md.

use std::fs;
use std::path::{Path, PathBuf};

use crate::octets;

/// How binding a case is: the RFC's word, or ours where the RFC leaves it open and we are stricter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "RFC 2119's words")]
pub enum Level {
    Must,
    Should,
    May,
    /// Either way would be right by the RFC; this one is ours.
    Ours,
}

/// What a connection is after all was sent and answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The next request would be answered.
    Open,
    /// In the middle of a message: nothing is answered before its rest comes, and its end is a cut.
    Waits,
    /// The server has closed it.
    Closes,
}

/// One answer that must come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expected {
    /// What the handler was called with: `METHOD TARGET BODY`; none for an answer that no handler gave.
    pub call: Option<String>,
    /// A 1xx that goes before it, where the peer waited for it.
    pub interim: Option<u16>,
    /// Its status.
    pub status: u16,
    /// Header lines that it has; the value where one is given.
    pub has: Vec<(String, Option<String>)>,
    /// Headers that it does not have.
    pub lacks: Vec<String>,
    /// What its body has in it.
    pub shows: Vec<Vec<u8>>,
    /// It ends with its head, whatever its length says: an answer to HEAD.
    pub is_bodiless: bool,
}

/// One case.
#[derive(Clone, Debug)]
pub struct Case {
    /// The file's name without its ending.
    pub name: String,
    /// How binding it is.
    pub level: Level,
    /// What is sent; before each part but the first the peer waits until something has come.
    pub parts: Vec<Vec<u8>>,
    /// Whether the peer ends its side then.
    pub ends: bool,
    /// The answers, in order.
    pub answers: Vec<Expected>,
    /// What must stand nowhere in what is sent back.
    pub never: Vec<Vec<u8>>,
    /// What the connection is then.
    pub end: End,
}

impl Case {
    /// All that is sent.
    #[must_use]
    pub fn sent(&self) -> Vec<u8> {
        self.parts.concat()
    }

    /// Reads the text of a file.
    ///
    /// # Errors
    /// What is wrong, with the number of the line.
    pub fn parse(name: &str, text: &str) -> Result<Self, String> {
        let mut reader = Reader::default();
        for (index, line) in text.lines().enumerate() {
            reader.line(line).map_err(|what| format!("line {}: {what}", index + 1))?;
        }
        let Reader { level, parts, ends, answers, call, interim, never, end, has_comment } = reader;
        if !has_comment {
            return Err("no comment that says which rule it is and why".into());
        }
        if call.is_some() || interim.is_some() {
            return Err("a call or interim without the answer that belongs to it".into());
        }
        Ok(Self {
            name: name.to_owned(),
            level: level.ok_or("no level")?,
            parts,
            ends,
            answers,
            never,
            end: end.ok_or("no open, waits or closes")?,
        })
    }
}

#[derive(Default)]
struct Reader {
    level: Option<Level>,
    parts: Vec<Vec<u8>>,
    ends: bool,
    answers: Vec<Expected>,
    call: Option<String>,
    interim: Option<u16>,
    never: Vec<Vec<u8>>,
    end: Option<End>,
    has_comment: bool,
}

impl Reader {
    fn line(&mut self, line: &str) -> Result<(), String> {
        if line.ends_with(' ') {
            return Err("ends in a space, which an editor may take away: write \\x20".into());
        }
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        match word {
            "" => {}
            "#" => self.has_comment = true,
            "level" => self.level = Some(level(rest)?),
            "pause" => self.parts.push(Vec::new()),
            "ends" => self.ends = true,
            "call" => self.call = Some(rest.to_owned()),
            "interim" => self.interim = Some(status(rest)?),
            "answer" => {
                let (call, interim, status) = (self.call.take(), self.interim.take(), status(rest)?);
                let is_bodiless = call.as_ref().is_some_and(|call| call.starts_with("HEAD "));
                self.answers.push(Expected { call, interim, status, is_bodiless, ..Expected::default() });
            }
            "has" => {
                let (name, value) = rest.split_once(": ").map_or((rest, None), |(name, value)| (name, Some(value)));
                let header = (name.to_owned(), value.map(str::to_owned));
                self.answer()?.has.push(header);
            }
            "lacks" => self.answer()?.lacks.push(rest.to_owned()),
            "shows" => {
                let octets = octets::unescape(rest)?;
                self.answer()?.shows.push(octets);
            }
            "bodiless" => self.answer()?.is_bodiless = true,
            "never" => self.never.push(octets::unescape(rest)?),
            "open" => self.end = Some(End::Open),
            "waits" => self.end = Some(End::Waits),
            "closes" => self.end = Some(End::Closes),
            _ if word.starts_with('>') => self.send(word, rest)?,
            _ => return Err(format!("unknown word {word:?}")),
        }
        Ok(())
    }

    /// `> OCTETS`, or `>*N OCTETS` for N times the same.
    fn send(&mut self, word: &str, rest: &str) -> Result<(), String> {
        let times = match word.strip_prefix(">*") {
            Some(number) => number.parse().map_err(|_| format!("no number in {word:?}"))?,
            None if word == ">" => 1,
            None => return Err(format!("unknown word {word:?}")),
        };
        let octets = octets::unescape(rest)?.repeat(times);
        if self.parts.is_empty() {
            self.parts.push(Vec::new());
        }
        self.parts.last_mut().expect("one was pushed").extend(octets);
        Ok(())
    }

    fn answer(&mut self) -> Result<&mut Expected, String> {
        self.answers.last_mut().ok_or_else(|| "before any answer".into())
    }
}

fn level(word: &str) -> Result<Level, String> {
    Ok(match word {
        "must" => Level::Must,
        "should" => Level::Should,
        "may" => Level::May,
        "ours" => Level::Ours,
        _ => return Err(format!("level {word:?}, allowed are must, should, may and ours")),
    })
}

fn status(digits: &str) -> Result<u16, String> {
    digits.parse().ok().filter(|status| (100..600).contains(status)).ok_or_else(|| format!("{digits:?} is no status"))
}

/// The folder with the cases of this checkout.
#[must_use]
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("cases")
}

/// All cases of a folder, by name.
///
/// # Errors
/// The first file that cannot be read, or is no case.
pub fn read_all(folder: &Path) -> Result<Vec<Case>, String> {
    let failed = |path: &Path, what: String| format!("{}: {what}", path.display());
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).map_err(|error| failed(folder, error.to_string()))? {
        paths.push(entry.map_err(|error| failed(folder, error.to_string()))?.path());
    }
    paths.sort();
    let mut cases = Vec::new();
    for path in paths {
        let name = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_suffix(".http"));
        let name = name.ok_or_else(|| failed(&path, "its name does not end in .http".into()))?;
        let text = fs::read_to_string(&path).map_err(|error| failed(&path, error.to_string()))?;
        cases.push(Case::parse(name, &text).map_err(|what| failed(&path, what))?);
    }
    Ok(cases)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    const TEXT: &str = "# Why.\nlevel must\n> GET / HTTP/1.1\\r\\n\n>*3 ab\npause\n> \\x00\ncall GET /\ninterim 100\n\
        answer 200\nhas date\nhas a: b\nlacks c\nshows x\\n\nanswer 400\nnever y\ncloses\n";

    #[test]
    fn a_case_is_read() {
        let case = Case::parse("a", TEXT).unwrap();
        assert_eq!(case.parts, [b"GET / HTTP/1.1\r\nababab".to_vec(), vec![0]]);
        assert_eq!((case.level, case.ends, case.end), (Level::Must, false, End::Closes));
        assert_eq!((case.answers.len(), case.never), (2, vec![b"y".to_vec()]));
        let first = &case.answers[0];
        assert_eq!((first.call.as_deref(), first.interim, first.status), (Some("GET /"), Some(100), 200));
        assert_eq!(first.has, [("date".into(), None), ("a".into(), Some("b".into()))]);
        assert_eq!((&first.lacks, &first.shows), (&vec!["c".to_owned()], &vec![b"x\n".to_vec()]));
    }

    #[test]
    fn what_is_no_case_is_refused() {
        let check = |from: &str, to: &str, what: &str| {
            assert_eq!(Case::parse("a", &TEXT.replacen(from, to, 1)).unwrap_err(), what);
        };
        check("# Why.\n", "", "no comment that says which rule it is and why");
        check("level must", "level most", "line 2: level \"most\", allowed are must, should, may and ours");
        check("level must", "", "no level");
        check("closes\n", "", "no open, waits or closes");
        check("answer 200", "answer 20", "line 9: \"20\" is no status");
        check("answer 400", "call GET /", "a call or interim without the answer that belongs to it");
        check("level must", "has date", "line 2: before any answer");
        check("ab\n", "ab \n", "line 4: ends in a space, which an editor may take away: write \\x20");
        check(">*3", ">*x", "line 4: no number in \">*x\"");
        check(">*3", ">3", "line 4: unknown word \">3\"");
        check("pause", "paws", "line 5: unknown word \"paws\"");
    }
}
