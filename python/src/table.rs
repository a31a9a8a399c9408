//! The route table as `turboapi/plan/routes.py` has it: its entries become the core's router and a plan each. Read here alone.

use std::sync::Arc;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use turboapi_core::router::{RouteId, RouteKind, RouteSpec, Router};

use crate::fields;
use crate::part::Part;
use crate::plan::Plan;
use crate::subject::Standings;

/// Which route a request is for, and what is to be done about it.
pub struct Table {
    /// Finds the route.
    pub router: Router,
    /// By `RouteId`.
    pub routes: Vec<Route>,
}

/// One route of the app.
pub struct Route {
    /// None: the app's own ASGI call answers.
    pub plan: Option<Arc<Plan>>,
    /// The functions that the plan's own calls by their standing.
    pub parts: Vec<Py<Part>>,
    /// Its own limit of a body.
    pub body_bytes_max: Option<u64>,
}

impl Table {
    /// Reads a list of `plan.Entry`, in order of registration.
    ///
    /// # Errors
    /// Of an entry that lacks something or has a word that is not known, with its number and template; of templates that
    /// contradict each other.
    pub fn new(entries: &Bound<'_, PyAny>, redirect_slashes: bool, standings: &mut Standings) -> PyResult<Self> {
        let entries = entries.try_iter()?.collect::<PyResult<Vec<_>>>()?;
        let specs = entries.iter().enumerate().map(|(index, entry)| within(index, entry, read_spec(entry)));
        let router = Router::new(specs.collect::<PyResult<_>>()?, redirect_slashes)
            .map_err(|error| PyValueError::new_err(error.to_string()))?;
        let routes = entries
            .iter()
            .enumerate()
            .map(|(index, entry)| within(index, entry, read_route(index, entry, &router, standings)));
        let routes = routes.collect::<PyResult<_>>()?;
        Ok(Self { router, routes })
    }
}

fn read_spec(entry: &Bound<'_, PyAny>) -> PyResult<RouteSpec> {
    let kind: String = fields::value(entry, "kind")?;
    let kind = match kind.as_str() {
        "route" => RouteKind::Route,
        "prefix" => RouteKind::Prefix,
        "opaque" => RouteKind::Opaque,
        _ => return Err(fields::unknown("kind of route", &kind, "route, prefix and opaque")),
    };
    Ok(RouteSpec { template: fields::value(entry, "template")?, methods: fields::value(entry, "methods")?, kind })
}

fn read_route(index: usize, entry: &Bound<'_, PyAny>, router: &Router, standings: &mut Standings) -> PyResult<Route> {
    let mut parts: Vec<Py<Part>> = Vec::new();
    let plan = match fields::optional(entry, "native")? {
        None => None,
        Some(native) => {
            let id = RouteId(u32::try_from(index).map_err(|error| PyValueError::new_err(error.to_string()))?);
            let names: Vec<&str> = router.parameters(id).iter().map(|parameter| parameter.name.as_str()).collect();
            parts = fields::value(&native, "parts")?;
            for part in &parts {
                part.get().settle(entry.py(), standings);
            }
            Some(Arc::new(Plan::new(&native, &names, standings)?))
        }
    };
    Ok(Route { plan, parts, body_bytes_max: fields::value(entry, "body_bytes_max")? })
}

/// Says of an error which entry it is in.
fn within<T>(index: usize, entry: &Bound<'_, PyAny>, read: PyResult<T>) -> PyResult<T> {
    read.map_err(|error| {
        let py = entry.py();
        let template = entry.getattr("template").map_or_else(|_| String::new(), |template| format!(" ({template:?})"));
        let message = format!("entry {index} of the route table{template}: {}", error.value(py));
        PyErr::from_type(error.get_type(py), message)
    })
}
