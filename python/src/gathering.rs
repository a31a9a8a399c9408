//! A parameter model's values: what a query, the header lines or the cookies have under its fields' names, and all the rest.
//!
//! Here: one request's values as the dict that the model's validator takes, as FastAPI's `_request_param_model_to_args` makes it.
//! Not here: which names a model has (`turboapi/plan/gathering.py`).

use std::borrow::Cow;
use std::collections::HashMap;

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyString};
use turboapi_core::http::cookie;
use turboapi_core::http::target::query_pairs;
use turboapi_core::request::Request;

use crate::fields;

/// A part of the head that has names and values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The query string.
    Query,
    /// Header lines; a name is the same in any case.
    Headers,
    /// Cookies. Of two with the same name there is only the later one.
    Cookies,
}

type Pair<'r> = (Cow<'r, str>, Cow<'r, str>);

impl Part {
    /// The name as it is looked for.
    pub fn spelt(self, name: String) -> String {
        if self == Self::Headers { name.to_ascii_lowercase() } else { name }
    }

    fn pairs<'r>(self, request: &Request<'r>) -> Vec<Pair<'r>> {
        match self {
            Self::Query if request.query().is_empty() => Vec::new(),
            Self::Query => query_pairs(request.query()).collect(),
            Self::Headers => request.headers().map(|(name, value)| (lower_case(name), latin_1(value))).collect(),
            Self::Cookies => request.head.values(request.head_bytes, b"cookie").flat_map(cookie::cookies).collect(),
        }
    }
}

/// As Starlette decodes header lines.
pub fn latin_1(bytes: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(bytes) {
        Ok(text) if bytes.is_ascii() => Cow::Borrowed(text),
        _ => Cow::Owned(bytes.iter().map(|&byte| char::from(byte)).collect()),
    }
}

fn lower_case(name: &[u8]) -> Cow<'_, str> {
    if name.iter().any(u8::is_ascii_uppercase) {
        return Cow::Owned(name.iter().map(|byte| char::from(byte.to_ascii_lowercase())).collect());
    }
    latin_1(name)
}

/// How a model's values are found.
pub struct Gathering {
    part: Part,
    /// All names that mean something to it, numbered.
    names: HashMap<String, usize>,
    fields: Vec<Field>,
    /// Without a value of its own there is none.
    is_optional: bool,
    /// Whether further values are its own, too.
    takes_further: bool,
}

struct Field {
    /// Its names; the first that is there counts.
    choices: Vec<Choice>,
    takes_all: bool,
    drops_empty: bool,
    /// Names that are no further values either.
    further: Vec<usize>,
}

struct Choice {
    /// Interned.
    key: Py<PyString>,
    name: usize,
}

/// Where a name is among the pairs of a request.
#[derive(Clone, Copy, Default)]
struct Seen {
    count: usize,
    first: usize,
    last: usize,
    is_processed: bool,
}

/// What was found.
pub struct Gathered<'py> {
    /// For the validator. None: the model was not sent.
    pub values: Option<Bound<'py, PyDict>>,
    /// For each field which of its names was looked at, for an error's words.
    pub chosen: Vec<usize>,
}

/// The pairs of one request, with the number of each name that means something.
struct Read<'r> {
    pairs: Vec<Pair<'r>>,
    numbers: Vec<Option<usize>>,
    seen: Vec<Seen>,
}

impl Gathering {
    /// Reads a `plan.gathering.Gathering`.
    pub fn new(declared: &Bound<'_, PyAny>, part: Part) -> PyResult<Self> {
        let py = declared.py();
        let mut names = HashMap::new();
        let mut number_of = |name: String| {
            let next = names.len();
            *names.entry(part.spelt(name)).or_insert(next)
        };
        let mut fields = Vec::new();
        for field in fields::object(declared, "fields")?.try_iter()? {
            let field = field?;
            let choices = fields::value::<Vec<(String, String)>>(&field, "choices")?;
            let choices = choices
                .into_iter()
                .map(|(key, name)| Choice { key: PyString::intern(py, &key).unbind(), name: number_of(name) })
                .collect();
            fields.push(Field {
                choices,
                takes_all: fields::value(&field, "takes_all")?,
                drops_empty: fields::value(&field, "drops_empty")?,
                further: fields::value::<Vec<String>>(&field, "further_names")?
                    .into_iter()
                    .map(&mut number_of)
                    .collect(),
            });
        }
        Ok(Self {
            part,
            names,
            fields,
            is_optional: fields::value(declared, "is_optional")?,
            takes_further: fields::value(declared, "takes_further")?,
        })
    }

    /// The values of a request.
    pub fn gather<'py>(&self, py: Python<'py>, request: &Request<'_>) -> PyResult<Gathered<'py>> {
        let mut read = self.read(request);
        let values = PyDict::new(py);
        let mut chosen = Vec::with_capacity(self.fields.len());
        for field in &self.fields {
            let at = field.choices.iter().position(|choice| read.seen[choice.name].count > 0).unwrap_or(0);
            let choice = &field.choices[at];
            if let Some(value) = self.value(py, field, choice.name, &read)? {
                values.set_item(&choice.key, value)?;
            }
            chosen.push(at);
            for &name in field.further.iter().chain([&choice.name]) {
                read.seen[name].is_processed = true;
            }
        }
        if let Some(further) = self.further(py, &read)? {
            values.update(further.as_mapping())?;
        }
        let is_sent = !self.is_optional
            || (self.takes_further && !values.is_empty())
            || self.fields.iter().flat_map(|field| &field.choices).any(|choice| read.seen[choice.name].count > 0);
        Ok(Gathered { values: is_sent.then_some(values), chosen })
    }

    fn read<'r>(&self, request: &Request<'r>) -> Read<'r> {
        let pairs = self.part.pairs(request);
        let mut seen = vec![Seen::default(); self.names.len()];
        let number = |(at, (name, _)): (usize, &Pair<'_>)| {
            let number = self.names.get(name.as_ref()).copied()?;
            let seen = &mut seen[number];
            if seen.count == 0 {
                seen.first = at;
            }
            seen.last = at;
            seen.count += 1;
            Some(number)
        };
        let numbers = pairs.iter().enumerate().map(number).collect();
        Read { pairs, numbers, seen }
    }

    /// The value of one field; None: there is none.
    fn value<'py>(
        &self,
        py: Python<'py>,
        field: &Field,
        name: usize,
        read: &Read<'_>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let seen = read.seen[name];
        if seen.count == 0 {
            return Ok(None);
        }
        if field.takes_all {
            let list = PyList::empty(py);
            for ((_, value), number) in read.pairs.iter().zip(&read.numbers) {
                if *number == Some(name) {
                    list.append(PyString::new(py, value))?;
                }
            }
            return Ok(Some(list.into_any()));
        }
        // As Starlette has it: of header lines the first counts, of all others the last.
        let value = &read.pairs[if self.part == Part::Headers { seen.first } else { seen.last }].1;
        Ok(if value.is_empty() && field.drops_empty { None } else { Some(PyString::new(py, value).into_any()) })
    }

    /// All values that no field has taken, under their own names, in the order of these; None: there are none.
    fn further<'py>(&self, py: Python<'py>, read: &Read<'_>) -> PyResult<Option<Bound<'py, PyDict>>> {
        let mut further: Option<Bound<'py, PyDict>> = None;
        for ((name, value), number) in read.pairs.iter().zip(&read.numbers) {
            if number.is_some_and(|number| read.seen[number].is_processed) {
                continue;
            }
            let further = further.get_or_insert_with(|| PyDict::new(py));
            let (name, value) = (PyString::new(py, name), PyString::new(py, value));
            match further.get_item(&name)?.filter(|_| self.part != Part::Cookies) {
                None => further.set_item(name, value)?,
                Some(former) => match former.cast::<PyList>() {
                    Ok(list) => list.append(value)?,
                    Err(_) => further.set_item(name, PyList::new(py, [former.clone(), value.into_any()])?)?,
                },
            }
        }
        Ok(further)
    }
}
