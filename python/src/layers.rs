//! The app's middleware that runs in Rust, as `turboapi/plan/layers.py` has it. What it does is the core's (`src/layers.rs`).

use std::sync::Arc;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyList, PyString, PyTuple};
use turboapi_core::layers::{self, Cors, Entered, Gzip, HttpsRedirect, Layer, NotCovered, OriginPattern, Trail};
use turboapi_core::layers::{LAYERS_MAX, TrustedHost, Whole};
use turboapi_core::proxies;
use turboapi_core::request::Request;

use crate::fields;
use crate::proxies::Proxies;

/// All of an app's.
pub struct Layers {
    core: layers::Layers,
    live: Vec<Live>,
    /// Who is believed about the scheme; None: nobody asks.
    proxies: Option<Arc<proxies::Proxies>>,
}

/// A list of the app's that Starlette looks into at each request, and what was in it.
struct Live {
    list: Py<PyList>,
    seen: Py<PyTuple>,
}

/// The layers that a request has come in through, which its answer has to go out through.
#[derive(Clone)]
pub struct Around {
    layers: Arc<Layers>,
    trail: Trail,
}

impl Layers {
    /// Reads a list of layers of `plan/layers.py`, outermost first; none for an app without. `proxies`: who is believed about the scheme.
    ///
    /// # Errors
    /// A layer lacks something, or has something that is not known.
    pub fn new(entries: &Bound<'_, PyAny>, proxies: &Proxies) -> PyResult<Option<Arc<Self>>> {
        let mut layers = Vec::new();
        let mut live = Vec::new();
        for entry in entries.try_iter()? {
            let entry = entry?;
            let kind: String = fields::value(&entry, "kind")?;
            layers.push(match kind.as_str() {
                "cors" => {
                    for list in fields::object(&entry, "live")?.try_iter()? {
                        let list = list?.cast_into::<PyList>()?;
                        live.push(Live { seen: list.to_tuple().unbind(), list: list.unbind() });
                    }
                    Layer::Cors(read_cors(&entry)?)
                }
                "gzip" => Layer::Gzip(read_gzip(&entry)?),
                "trusted_host" => Layer::TrustedHost(TrustedHost {
                    allowed_hosts: fields::value(&entry, "allowed_hosts")?,
                    allows_any: fields::value(&entry, "allow_any")?,
                    www_redirect: fields::value(&entry, "www_redirect")?,
                    root_path: fields::value(&entry, "root_path")?,
                }),
                "https_redirect" => {
                    Layer::HttpsRedirect(HttpsRedirect { root_path: fields::value(&entry, "root_path")? })
                }
                _ => {
                    return Err(fields::unknown("kind of layer", &kind, "cors, gzip, trusted_host and https_redirect"));
                }
            });
        }
        if layers.is_empty() {
            return Ok(None);
        }
        let (count, max) = (layers.len(), LAYERS_MAX);
        let core = layers::Layers::new(layers)
            .ok_or_else(|| PyValueError::new_err(format!("{count} layers were given, allowed are {max}")))?;
        let proxies = core.uses_scheme().then(|| Arc::clone(&proxies.core));
        Ok(Some(Arc::new(Self { core, live, proxies })))
    }

    /// A request, before anything else is done about it. `Through` comes with what its answer has to go out through.
    pub fn enter(self: &Arc<Self>, py: Python<'_>, request: &Request<'_>) -> Entered<Around> {
        if !self.live.iter().all(|live| live.is_as_seen(py)) {
            // It was changed while the app runs: the app's own middleware, which looks into it, is right.
            return Entered::Unsure;
        }
        let told = self
            .proxies
            .as_ref()
            .and_then(|proxies| proxies.scheme(request.origin.peer, request.head, request.head_bytes));
        self.core.enter(request, told.unwrap_or("http")).map(|trail| Around { layers: Arc::clone(self), trail })
    }
}

impl Live {
    fn is_as_seen(&self, py: Python<'_>) -> bool {
        let (list, seen) = (self.list.bind(py), self.seen.bind(py));
        // Strings do not change: the same ones say the same.
        list.len() == seen.len() && list.iter().zip(seen.iter_borrowed()).all(|(now, before)| now.is(before))
    }
}

impl Around {
    /// An answer on its way out. Not covered: the app's own middleware has to have it, as it is.
    pub fn leave(&self, whole: &mut Whole) -> Result<(), NotCovered> {
        self.layers.core.leave(&self.trail, whole)
    }
}

fn read_cors(entry: &Bound<'_, PyAny>) -> PyResult<Cors> {
    let list = |name: &str| fields::value::<Vec<Vec<u8>>>(entry, name);
    let lines = |name: &str| {
        let lines: Vec<(Vec<u8>, Vec<u8>)> = fields::value(entry, name)?;
        match lines.iter().find(|(known, value)| !layers::is_line(known, value)) {
            None => Ok(lines),
            Some(line) => Err(PyValueError::new_err(format!("{name} has {line:?}, which is no line of a head"))),
        }
    };
    let origin_pattern = fields::optional(entry, "origin_matches")?.map(|matches| pattern(matches.unbind()));
    Ok(Cors {
        allow_origins: list("allow_origins")?,
        allow_methods: list("allow_methods")?,
        allow_headers: list("allow_headers")?,
        allows_all_origins: fields::value(entry, "allow_all_origins")?,
        allows_all_headers: fields::value(entry, "allow_all_headers")?,
        allows_credentials: fields::value(entry, "allow_credentials")?,
        names_origin_in_preflight: fields::value(entry, "preflight_explicit_allow_origin")?,
        allows_private_network: fields::value(entry, "allow_private_network")?,
        origin_pattern,
        simple_headers: lines("simple_headers")?,
        preflight_headers: lines("preflight_headers")?,
    })
}

/// Python's own regular expression, asked by Python's own `fullmatch`: no other engine reads all of its language as it does.
fn pattern(fullmatch: Py<PyAny>) -> OriginPattern {
    OriginPattern(Box::new(move |origin| {
        // PERF: the thread is attached already, so this costs a look at a counter.
        Python::attach(|py| {
            let text: String = origin.iter().map(|&byte| char::from(byte)).collect();
            let found = fullmatch.bind(py).call1((PyString::new(py, &text),)).ok()?;
            Some(!found.is_none())
        })
    }))
}

fn read_gzip(entry: &Bound<'_, PyAny>) -> PyResult<Gzip> {
    let level: u32 = fields::value(entry, "level")?;
    if level > 9 {
        return Err(PyValueError::new_err(format!("level is {level}, allowed are 0 to 9")));
    }
    Ok(Gzip::new(
        fields::value(entry, "minimum_size")?,
        fields::value(entry, "thread_minimum_size")?,
        level,
        fields::value(entry, "exclude_content_types")?,
    ))
}
