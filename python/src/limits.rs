//! The limits as Python sees them: what there is, and a whole set of them for a worker. Declared in the core's `limits.rs`.

use std::time::Duration;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict};
use turboapi_core::limits::{self, Limits, ROWS, Row, Unit, Value};

/// What one limit is.
#[pyclass(frozen, get_all, module = "turboapi._core")]
pub struct Limit {
    name: &'static str,
    unit: &'static str,
    default: Amount,
    least: Amount,
    most: Amount,
    what: &'static str,
}

/// A whole number, or seconds.
#[derive(Clone, Copy, IntoPyObject)]
enum Amount {
    Whole(u64),
    Seconds(f64),
}

impl From<Value> for Amount {
    fn from(value: Value) -> Self {
        match value {
            Value::Whole(number) => Self::Whole(number),
            Value::Time(time) => Self::Seconds(time.as_secs_f64()),
        }
    }
}

/// What limits there are, in the order of the core.
#[pyfunction]
#[pyo3(name = "limits")]
pub fn declared_limits() -> Vec<Limit> {
    let limit = |row: &Row| Limit {
        name: row.name,
        unit: match row.unit {
            Unit::Bytes => "bytes",
            Unit::BytesPerSecond => "bytes per second",
            Unit::Count => "count",
            Unit::Seconds => "seconds",
        },
        default: row.default.into(),
        least: row.least.into(),
        most: row.most.into(),
        what: row.what,
    };
    ROWS.iter().map(limit).collect()
}

/// The `connections_max` that so many file descriptors allow.
#[pyfunction]
pub fn connections_max(descriptors: u64) -> usize {
    limits::connections_max(descriptors)
}

/// Reads the limits that `turboapi.config` gives. All of them, as it gives all: one that is missing shows that the two are not of the
/// same build.
pub fn limits_from(values: &Bound<'_, PyDict>) -> PyResult<Limits> {
    let mut limits = Limits::default();
    for name in values.keys() {
        let name: String = name.extract()?;
        if !ROWS.iter().any(|row| row.name == name) {
            let allowed: Vec<&str> = ROWS.iter().map(|row| row.name).collect();
            return Err(PyValueError::new_err(format!("unknown limit {name:?}, allowed are {}", allowed.join(", "))));
        }
    }
    for row in ROWS {
        let given = values.get_item(row.name)?.ok_or_else(|| {
            PyValueError::new_err(format!("{} is missing, allowed are {} to {}", row.name, row.least, row.most))
        })?;
        let done = match value(row, &given) {
            Some(value) => row.set(&mut limits, value),
            None => Err(row.refuse(given.repr()?)),
        };
        done.map_err(|error| PyValueError::new_err(error.to_string()))?;
    }
    limits.validate().map_err(|error| PyValueError::new_err(error.to_string()))?;
    Ok(limits)
}

/// None: it is of the wrong type, or nothing that could be allowed.
fn value(row: &Row, given: &Bound<'_, PyAny>) -> Option<Value> {
    if given.is_instance_of::<PyBool>() {
        return None;
    }
    match row.default {
        Value::Whole(_) => given.extract().ok().map(Value::Whole),
        Value::Time(_) => Duration::try_from_secs_f64(given.extract().ok()?).ok().map(Value::Time),
    }
}
