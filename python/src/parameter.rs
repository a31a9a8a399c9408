//! One argument of a plan: where its value comes from, how it is converted, and what stands for one that was not sent.
//!
//! Not here: all arguments of a call (`plan.rs`), the values of a parameter model (`gathering.rs`).

use std::borrow::Cow;

use jiter::{FloatMode, PartialMode, PythonParse, StringCacheMode};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyDict, PyFloat, PyInt, PyList, PyString};
use turboapi_core::http::cookie;
use turboapi_core::http::target::query_pairs;
use turboapi_core::request::Request;

use crate::fields;
use crate::gathering::{Gathering, Part, latin_1};

/// An argument that comes from the head.
pub struct Parameter {
    source: Source,
    kind: Kind,
    validate: Py<PyAny>,
    absent: Absent,
}

enum Source {
    /// Number of the parameter in the route's template.
    Path(usize),
    /// One value under the first of these names that is there. Whether an empty one is none.
    One(Part, Vec<String>, bool),
    /// All values under the first of these names that is there.
    All(Part, Vec<String>),
    /// A model.
    Model(Gathering),
}

/// Whose plain forms are converted here. The exact type, without constraints.
#[derive(Clone, Copy)]
enum Kind {
    Str,
    Int,
    Float,
    Bool,
    Validator,
}

/// An argument that is in the JSON body.
pub struct Body {
    /// Its names in the body's object; none: it is the whole body. Interned.
    keys: Vec<Py<PyString>>,
    validate: Py<PyAny>,
    absent: Absent,
}

/// What stands for a value that was not sent.
struct Absent {
    stand_in: StandIn,
    /// Whether that is validated as if it had been sent.
    is_validated: bool,
}

enum StandIn {
    /// Nothing does.
    Refused,
    Value(Py<PyAny>),
    Factory(Py<PyAny>),
}

/// Why there is no value.
pub struct Failure {
    /// What has failed.
    pub cause: Cause,
    /// Which names were looked at.
    pub names: Names,
}

/// What has failed.
pub enum Cause {
    /// Nothing was sent, and nothing stands for it.
    Missing,
    /// The validator has raised this.
    Invalid(PyErr),
    /// What makes a value that was not sent has raised this: it says nothing of what was sent, whatever its class.
    Raised(PyErr),
}

/// Which of its names were looked at for a value.
pub enum Names {
    /// The argument's.
    One(usize),
    /// Each field's of a model.
    Each(Vec<usize>),
}

/// All of a request's body, as arguments are made of it.
pub enum Whole<'py> {
    /// Nothing was sent.
    Absent,
    /// A value.
    Value(Bound<'py, PyAny>),
}

/// Why a body is none of these.
pub enum Unread {
    /// Only the app knows what it is.
    Unknown,
    /// It is no JSON, by the error that Python's json has raised.
    Malformed(PyErr),
}

type Value<'py> = Result<Bound<'py, PyAny>, Failure>;

impl Parameter {
    /// Reads a `plan.arguments.Parameter`. `path_names` are the template's parameters, in order.
    pub fn new(parameter: &Bound<'_, PyAny>, path_names: &[&str]) -> PyResult<Self> {
        let kind: String = fields::value(parameter, "kind")?;
        let kind = match kind.as_str() {
            "str" => Kind::Str,
            "int" => Kind::Int,
            "float" => Kind::Float,
            "bool" => Kind::Bool,
            "validator" => Kind::Validator,
            _ => return Err(fields::unknown("kind of value", &kind, "str, int, float, bool and validator")),
        };
        Ok(Self {
            source: Source::new(parameter, path_names)?,
            kind,
            validate: fields::object(parameter, "validate")?.unbind(),
            absent: Absent::new(parameter)?,
        })
    }

    /// Its value in a request.
    pub fn value<'py>(&self, py: Python<'py>, request: &Request<'_>) -> Value<'py> {
        match &self.source {
            Source::Path(index) => match request.params.spans().get(*index) {
                Some(span) => self.convert(py, &request.path[span.clone()], 0),
                None => self.absent.value(py, &self.validate, Names::One(0)),
            },
            Source::One(part, names, drops_empty) => {
                let found = names.iter().enumerate().find_map(|(at, name)| Some((at, text(*part, name, request)?)));
                let at = found.as_ref().map_or(0, |(at, _)| *at);
                match found.filter(|(_, text)| !(*drops_empty && text.is_empty())) {
                    Some((_, text)) => self.convert(py, &text, at),
                    None => self.absent.value(py, &self.validate, Names::One(at)),
                }
            }
            Source::All(part, names) => {
                for (at, name) in names.iter().enumerate() {
                    let texts = texts(*part, name, request);
                    if !texts.is_empty() {
                        let list = PyList::new(py, texts).map_err(|error| Failure::of(error, Names::One(at)))?;
                        return validated(&self.validate, list.into_any(), Names::One(at));
                    }
                }
                self.absent.value(py, &self.validate, Names::One(0))
            }
            Source::Model(gathering) => {
                let gathered =
                    gathering.gather(py, request).map_err(|error| Failure::of(error, Names::Each(Vec::new())))?;
                match gathered.values {
                    Some(values) => validated(&self.validate, values.into_any(), Names::Each(gathered.chosen)),
                    None => self.absent.value(py, &self.validate, Names::Each(gathered.chosen)),
                }
            }
        }
    }

    fn convert<'py>(&self, py: Python<'py>, text: &str, name: usize) -> Value<'py> {
        match plain(self.kind, py, text) {
            Some(value) => Ok(value),
            None => validated(&self.validate, PyString::new(py, text).into_any(), Names::One(name)),
        }
    }
}

impl Source {
    fn new(parameter: &Bound<'_, PyAny>, path_names: &[&str]) -> PyResult<Self> {
        let source: String = fields::value(parameter, "source")?;
        let names: Vec<String> = fields::value(parameter, "names")?;
        let part = match source.as_str() {
            "path" => {
                let index = path_names.iter().position(|name| names.first().is_some_and(|own| own == name));
                return index.map(Self::Path).ok_or_else(|| {
                    PyValueError::new_err(format!("no path parameter {names:?}, there are {path_names:?}"))
                });
            }
            "query" => Part::Query,
            "header" => Part::Headers,
            "cookie" => Part::Cookies,
            _ => return Err(fields::unknown("source", &source, "path, query, header and cookie")),
        };
        if let Some(gathering) = fields::optional(parameter, "gathering")? {
            return Ok(Self::Model(Gathering::new(&gathering, part)?));
        }
        let names = names.into_iter().map(|name| part.spelt(name)).collect();
        if fields::value(parameter, "takes_all")? {
            return Ok(Self::All(part, names));
        }
        Ok(Self::One(part, names, fields::value(parameter, "drops_empty")?))
    }
}

/// The one value that counts, if there are several of the name.
fn text<'r>(part: Part, name: &str, request: &Request<'r>) -> Option<Cow<'r, str>> {
    match part {
        // As in Starlette's QueryParams: the last one wins.
        Part::Query => {
            let query = request.query();
            if query.is_empty() {
                return None;
            }
            query_pairs(query).filter(|(key, _)| key == name).last().map(|(_, value)| value)
        }
        // As in Starlette's Headers: the first one wins, and bytes are Latin-1.
        Part::Headers => request.head.value(request.head_bytes, name.as_bytes()).map(latin_1),
        Part::Cookies => {
            let mut found = None;
            for line in request.head.values(request.head_bytes, b"cookie") {
                for (key, value) in cookie::cookies(line) {
                    if key == name {
                        found = Some(value.into_owned());
                    }
                }
            }
            found.map(Cow::Owned)
        }
    }
}

fn texts<'r>(part: Part, name: &str, request: &Request<'r>) -> Vec<Cow<'r, str>> {
    match part {
        Part::Query => query_pairs(request.query()).filter(|(key, _)| key == name).map(|(_, value)| value).collect(),
        Part::Headers => request.head.values(request.head_bytes, name.as_bytes()).map(latin_1).collect(),
        Part::Cookies => text(part, name, request).into_iter().collect(),
    }
}

/// The value of a text in a plain form. A validator has all others: " 5", "1_0", "5.0", and those that are wrong.
fn plain<'py>(kind: Kind, py: Python<'py>, text: &str) -> Option<Bound<'py, PyAny>> {
    match kind {
        Kind::Str => Some(PyString::new(py, text).into_any()),
        Kind::Int => {
            let digits = text.strip_prefix('-').unwrap_or(text);
            let is_plain = (1..=18).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit());
            let number = text.parse::<i64>().ok().filter(|_| is_plain)?;
            Some(PyInt::new(py, number).into_any())
        }
        Kind::Float => {
            let number = text.parse::<f64>().ok().filter(|_| is_plain_decimal(text))?;
            Some(PyFloat::new(py, number).into_any())
        }
        Kind::Bool => {
            let truth = match text {
                "true" | "1" => true,
                "false" | "0" => false,
                _ => return None,
            };
            Some(PyBool::new(py, truth).to_owned().into_any())
        }
        Kind::Validator => None,
    }
}

/// `12`, `-0.5`: digits, then perhaps a point and digits, few enough that nobody's parser rounds them in its own way.
fn is_plain_decimal(text: &str) -> bool {
    let unsigned = text.strip_prefix('-').unwrap_or(text);
    let (whole, fraction) = unsigned.split_once('.').unwrap_or((unsigned, "0"));
    let are_digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    unsigned.len() <= 17 && are_digits(whole) && are_digits(fraction)
}

fn validated<'py>(validate: &Py<PyAny>, value: Bound<'py, PyAny>, names: Names) -> Value<'py> {
    validate.bind(value.py()).call1((value,)).map_err(|error| Failure::of(error, names))
}

impl Failure {
    fn of(error: PyErr, names: Names) -> Self {
        Self { cause: Cause::Invalid(error), names }
    }
}

impl Absent {
    /// Reads the `plan.absent.Absent` of an argument.
    fn new(argument: &Bound<'_, PyAny>) -> PyResult<Self> {
        let absent = fields::object(argument, "absent")?;
        let stand_in = match (fields::value(&absent, "is_refused")?, fields::optional(&absent, "factory")?) {
            (true, _) => StandIn::Refused,
            (false, Some(factory)) => StandIn::Factory(factory.unbind()),
            (false, None) => StandIn::Value(fields::object(&absent, "value")?.unbind()),
        };
        Ok(Self { stand_in, is_validated: fields::value(&absent, "is_validated")? })
    }

    fn value<'py>(&self, py: Python<'py>, validate: &Py<PyAny>, names: Names) -> Value<'py> {
        let value = match &self.stand_in {
            StandIn::Refused => return Err(Failure { cause: Cause::Missing, names }),
            StandIn::Value(value) => value.bind(py).clone(),
            StandIn::Factory(factory) => match factory.bind(py).call0() {
                Ok(value) => value,
                Err(error) => return Err(Failure { cause: Cause::Raised(error), names }),
            },
        };
        if self.is_validated { validated(validate, value, names) } else { Ok(value) }
    }
}

impl Body {
    /// Reads a `plan.arguments.Body`.
    pub fn new(body: &Bound<'_, PyAny>) -> PyResult<Self> {
        let keys = fields::value::<Vec<String>>(body, "keys")?;
        Ok(Self {
            keys: keys.iter().map(|key| PyString::intern(body.py(), key).unbind()).collect(),
            validate: fields::object(body, "validate")?.unbind(),
            absent: Absent::new(body)?,
        })
    }

    /// Whether `null` stands for it within a request's body.
    pub fn is_null(&self, whole: &Whole<'_>) -> bool {
        let Whole::Value(value) = whole else { return false };
        let Ok(object) = value.cast_exact::<PyDict>() else { return false };
        self.keys.iter().any(|key| object.get_item(key).is_ok_and(|found| found.is_some_and(|value| value.is_none())))
    }

    /// Its value in a request's body.
    pub fn value<'py>(&self, py: Python<'py>, whole: &Whole<'py>) -> Value<'py> {
        let none = Names::One(0);
        match whole {
            Whole::Absent => self.absent.value(py, &self.validate, none),
            Whole::Value(value) if self.keys.is_empty() => validated(&self.validate, value.clone(), none),
            Whole::Value(value) => {
                // Arguments within a body ask for an object: without one even those with a default are missing.
                let Ok(object) = value.cast_exact::<PyDict>() else {
                    return Err(Failure { cause: Cause::Missing, names: none });
                };
                for (at, key) in self.keys.iter().enumerate() {
                    let found = object.get_item(key).map_err(|error| Failure::of(error, Names::One(at)))?;
                    if let Some(value) = found {
                        return validated(&self.validate, value, Names::One(at));
                    }
                }
                self.absent.value(py, &self.validate, none)
            }
        }
    }
}

/// All of a request's body. `takes_null`: whether `null` is a value; `read_json` is Python's.
pub fn read_body<'py>(
    py: Python<'py>,
    request: &Request<'_>,
    takes_null: bool,
    read_json: &Py<PyAny>,
) -> Result<Whole<'py>, Unread> {
    if request.body.is_empty() {
        return Ok(Whole::Absent);
    }
    // FastAPI before 0.165 takes `null` for a body that was not sent, later ones for a value.
    let is_known = takes_null || request.body.trim_ascii() != b"null";
    let content_type = request.head.value(request.head_bytes, b"content-type");
    if !is_known || !content_type.is_some_and(is_json) {
        return Err(Unread::Unknown);
    }
    // Python's json knows NaN, lone surrogates, a byte order mark and UTF-16: errors here, and then asked of it.
    let parse = PythonParse {
        allow_inf_nan: false,
        cache_mode: StringCacheMode::None,
        partial_mode: PartialMode::Off,
        catch_duplicate_keys: false,
        float_mode: FloatMode::Float,
    };
    if let Ok(value) = parse.python_parse(py, request.body) {
        return Ok(Whole::Value(value));
    }
    match read_json.bind(py).call1((PyBytes::new(py, request.body),)) {
        Ok(value) if takes_null || !value.is_none() => Ok(Whole::Value(value)),
        Ok(_) => Err(Unread::Unknown),
        Err(error) => Err(Unread::Malformed(error)),
    }
}

/// The two ways in which clients write it; FastAPI decides about any other.
fn is_json(content_type: &[u8]) -> bool {
    content_type.eq_ignore_ascii_case(b"application/json")
        || content_type.eq_ignore_ascii_case(b"application/json; charset=utf-8")
        || content_type.eq_ignore_ascii_case(b"application/json;charset=utf-8")
}
