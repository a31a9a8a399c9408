//! The router by itself, for the property test against Starlette's and for `turboapi routes`.

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use turboapi_core::router::{Match, Params};

use crate::subject::Standings;
use crate::table::Table;

/// A route table that is not served.
#[pyclass(frozen, module = "turboapi._core")]
pub struct Router(turboapi_core::router::Router);

#[pymethods]
impl Router {
    #[new]
    fn new(entries: &Bound<'_, PyAny>, redirect_slashes: bool) -> PyResult<Self> {
        Ok(Self(Table::new(entries, redirect_slashes, &mut Standings::default())?.router))
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
