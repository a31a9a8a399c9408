//! The router by itself, for the property test against Starlette's and for `turboapi routes`.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use turboapi_core::router::{self, Match, Params, RouteKind, RouteSpec};

/// A route table that is not served.
#[pyclass(frozen, module = "turboapi._core")]
pub struct Router(router::Router);

/// Reads "route", "prefix" or "opaque".
pub fn kind(text: &str) -> PyResult<RouteKind> {
    match text {
        "route" => Ok(RouteKind::Route),
        "prefix" => Ok(RouteKind::Prefix),
        "opaque" => Ok(RouteKind::Opaque),
        _ => Err(PyValueError::new_err(format!("kind of route is {text:?}, allowed are route, prefix and opaque"))),
    }
}

#[pymethods]
impl Router {
    #[new]
    fn new(specs: Vec<(String, Vec<String>, String)>, redirect_slashes: bool) -> PyResult<Self> {
        let specs = specs
            .into_iter()
            .map(|(template, methods, text)| Ok(RouteSpec { template, methods, kind: kind(&text)? }))
            .collect::<PyResult<_>>()?;
        let router =
            router::Router::new(specs, redirect_slashes).map_err(|error| PyValueError::new_err(error.to_string()))?;
        Ok(Self(router))
    }

    /// ("found", index, parameters), ("method_not_allowed", allow), ("redirect", path), ("not_found",) or ("ask",).
    fn find<'py>(&self, py: Python<'py>, method: &str, path: &str) -> PyResult<Bound<'py, PyTuple>> {
        let mut params = Params::default();
        match self.0.find(method.as_bytes(), path, &mut params) {
            Match::Found(route) => {
                let texts = PyDict::new(py);
                for (parameter, span) in self.0.parameters(route).iter().zip(params.spans()) {
                    texts.set_item(&parameter.name, &path[span.clone()])?;
                }
                ("found", route.0, texts).into_pyobject(py)
            }
            Match::MethodNotAllowed(route) => ("method_not_allowed", self.0.allow(route)).into_pyobject(py),
            Match::Redirect { with_slash: true } => ("redirect", format!("{path}/")).into_pyobject(py),
            Match::Redirect { with_slash: false } => ("redirect", path.trim_end_matches('/')).into_pyobject(py),
            Match::NotFound => PyTuple::new(py, ["not_found"]),
            Match::Ask => PyTuple::new(py, ["ask"]),
        }
    }
}
