//! Whether a template matches a path, exactly, and which text each of its parameters gets: what Python's `re` would say of the
//! expression that Starlette makes of it. No regular expression runs here, and the time is bounded by path times template.
//!
//! Which templates are asked at all, and which of those that match wins, is in the parent.

use std::ops::Range;

use memchr::memchr;

use super::declared::Convertor;

/// Decimal digits that Python's `int()` takes whatever `sys.set_int_max_str_digits` says. With more it may raise while
/// Starlette is still matching, so such a path is the application's.
const INT_DIGITS_CERTAIN: usize = 640;

/// A piece of a template.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Part {
    Literal(Box<str>),
    Parameter(Convertor),
    /// Of an opaque route: whatever follows.
    Anything,
}

/// A template without its names, and the routes that have it.
#[derive(Debug)]
pub(super) struct Shape {
    pub(super) parts: Vec<Part>,
    /// How many of the parts have one possible end each. From there on the parameters compete for the text.
    certain: usize,
    /// INVARIANT: ascending, never empty.
    pub(super) routes: Vec<u32>,
}

impl Shape {
    /// `first` is the number of the first route that has it.
    pub(super) fn new(parts: Vec<Part>, first: u32) -> Shape {
        let certain = (0..parts.len()).take_while(|&at| has_one_end(&parts[at], parts.get(at + 1))).count();
        Shape { parts, certain, routes: vec![first] }
    }

    /// Whether Python's `re` would match the template's expression, and if so what each group would hold.
    pub(super) fn matches(&self, path: &str, spans: &mut Vec<Range<usize>>, good: &mut Vec<bool>) -> bool {
        spans.clear();
        let bytes = path.as_bytes();
        let (certain, contested) = self.parts.split_at(self.certain);
        let mut at = 0;
        for part in certain {
            match part {
                Part::Literal(text) => {
                    if !bytes[at..].starts_with(text.as_bytes()) {
                        return false;
                    }
                    at += text.len();
                }
                Part::Parameter(convertor) => {
                    let Some(end) = convertor.longest(bytes, at) else {
                        return false;
                    };
                    spans.push(at..end);
                    at = end;
                }
                Part::Anything => return true,
            }
        }
        if contested.is_empty() { is_end(bytes, at) } else { backtrack(contested, path, at, spans, good) }
    }

    /// Whether Python may refuse to read one of the numbers that it has matched.
    #[inline]
    pub(super) fn may_raise(&self, path: &str, spans: &[Range<usize>]) -> bool {
        path.len() > INT_DIGITS_CERTAIN && self.has_long_int(spans)
    }

    fn has_long_int(&self, spans: &[Range<usize>]) -> bool {
        let convertors = self.parts.iter().filter_map(|part| match part {
            Part::Parameter(convertor) => Some(*convertor),
            _ => None,
        });
        convertors.zip(spans).any(|(convertor, span)| convertor == Convertor::Int && span.len() > INT_DIGITS_CERTAIN)
    }
}

/// Python's `$`: the end, or before a line feed that ends the text.
fn is_end(bytes: &[u8], at: usize) -> bool {
    matches!(bytes[at..], [] | [b'\n'])
}

/// Whether only the longest text that `part` can take lets `next` match.
fn has_one_end(part: &Part, next: Option<&Part>) -> bool {
    let Part::Parameter(convertor) = part else {
        return true;
    };
    match next {
        None => true,
        Some(Part::Literal(text)) => match (convertor, text.as_bytes()[0]) {
            (Convertor::Str, first) => first == b'/',
            (Convertor::Path, _) => false,
            (Convertor::Int, first) => !first.is_ascii_digit(),
            (Convertor::Float, first) => !first.is_ascii_digit() && first != b'.',
            (Convertor::Uuid, _) => true,
        },
        Some(_) => *convertor == Convertor::Uuid,
    }
}

impl Convertor {
    /// Where the longest text from `at` that fits ends.
    fn longest(self, bytes: &[u8], at: usize) -> Option<usize> {
        let until = |byte| memchr(byte, &bytes[at..]).map_or(bytes.len(), |found| at + found);
        let digits = |from: usize| from + bytes[from..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        let end = match self {
            Convertor::Path => return Some(until(b'\n')),
            Convertor::Str => until(b'/'),
            Convertor::Int => digits(at),
            Convertor::Float => match digits(at) {
                dot if bytes[dot..].first() == Some(&b'.') && digits(dot + 1) > dot + 1 && dot > at => digits(dot + 1),
                end => end,
            },
            Convertor::Uuid => return uuid(bytes, at),
        };
        (end > at).then_some(end)
    }
}

fn uuid(bytes: &[u8], mut at: usize) -> Option<usize> {
    for (group, digits) in [8, 4, 4, 4, 12].into_iter().enumerate() {
        if group > 0 && bytes.get(at) == Some(&b'-') {
            at += 1;
        }
        if !bytes.get(at..at + digits)?.iter().all(u8::is_ascii_hexdigit) {
            return None;
        }
        at += digits;
    }
    Some(at)
}

/// Shares the text from `start` among parameters that compete for it, each taking as much as lets the rest match.
///
/// Python tries the ways one by one, which can take the n-th power of the length for n parameters. This takes a table,
/// from the last part to the first: `good[part][at]` says whether the parts from this one on match the text from `at`
/// on. Its time is the length times the parts, whatever a peer sends.
fn backtrack(parts: &[Part], path: &str, start: usize, spans: &mut Vec<Range<usize>>, good: &mut Vec<bool>) -> bool {
    let text = &path.as_bytes()[start..];
    let width = text.len() + 1;
    good.clear();
    good.resize((parts.len() + 1) * width, false);
    for at in text.len().saturating_sub(1)..width {
        good[parts.len() * width + at] = is_end(text, at);
    }
    for (row, part) in parts.iter().enumerate().rev() {
        let (this, next) = good[row * width..][..2 * width].split_at_mut(width);
        fill(part, text, this, next);
        for (at, is_good) in this.iter_mut().enumerate() {
            *is_good &= path.is_char_boundary(start + at); // a character is not cut
        }
    }
    if !good[0] {
        return false;
    }
    let mut at = 0;
    for (row, part) in parts.iter().enumerate() {
        let next = &good[(row + 1) * width..][..width];
        match part {
            Part::Literal(text) => at += text.len(),
            Part::Parameter(convertor) => {
                let longest = convertor.longest(text, at).expect("the table says that it fits");
                let shortest = match convertor {
                    Convertor::Path => at,
                    Convertor::Uuid => longest,
                    _ => at + 1,
                };
                let fits = |&end: &usize| next[end] && !(*convertor == Convertor::Float && text[end - 1] == b'.');
                let end = (shortest..=longest).rev().find(fits).expect("the table says that an end exists");
                spans.push(start + at..start + end);
                at = end;
            }
            Part::Anything => break,
        }
    }
    true
}

/// One row of `backtrack`'s table from the row after it.
fn fill(part: &Part, text: &[u8], this: &mut [bool], next: &[bool]) {
    // Going left through a run of the parameter's characters, `reaches` says whether a good end lies to the right in it.
    let mut reaches = false;
    match part {
        Part::Literal(literal) => {
            for (at, is_good) in this[..text.len()].iter_mut().enumerate() {
                *is_good = text[at..].starts_with(literal.as_bytes()) && next[at + literal.len()];
            }
        }
        Part::Parameter(Convertor::Uuid) => {
            for (at, is_good) in this[..text.len()].iter_mut().enumerate() {
                *is_good = uuid(text, at).is_some_and(|end| next[end]);
            }
        }
        Part::Parameter(Convertor::Path) => {
            this[text.len()] = next[text.len()];
            for at in (0..text.len()).rev() {
                reaches = text[at] != b'\n' && (reaches || next[at + 1]);
                this[at] = reaches || next[at];
            }
        }
        Part::Parameter(Convertor::Str) => {
            for at in (0..text.len()).rev() {
                reaches = text[at] != b'/' && (reaches || next[at + 1]);
                this[at] = reaches;
            }
        }
        Part::Parameter(Convertor::Int) => {
            for at in (0..text.len()).rev() {
                reaches = text[at].is_ascii_digit() && (reaches || next[at + 1]);
                this[at] = reaches;
            }
        }
        Part::Parameter(Convertor::Float) => {
            let mut fraction_reaches = false;
            for at in (0..text.len()).rev() {
                if text[at].is_ascii_digit() {
                    reaches |= next[at + 1];
                    this[at] = reaches || fraction_reaches;
                } else {
                    fraction_reaches = text[at] == b'.' && reaches;
                    reaches = false;
                }
            }
        }
        Part::Anything => this.fill(true),
    }
}
