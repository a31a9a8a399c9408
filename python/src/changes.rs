#![expect(unsafe_code, reason = "PyO3 does not offer CPython's watchers of dicts")]
//! Whether what an app's plans were made from has changed since. It is noted where it changes, so that a request has only to look at
//! a number that nobody writes. What is watched is Python's to say (`turboapi/plan/changes.py`).

use std::os::raw::c_int;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use pyo3::exceptions::PyRuntimeError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::critical_section::with_critical_section;
use pyo3::types::{PyDict, PyString};

/// Of all apps of this process: a change of one makes the workers of another look once more than they have to.
static CHANGES_COUNT: AtomicU64 = AtomicU64::new(0);

/// How often something has changed.
#[inline]
pub fn count() -> u64 {
    CHANGES_COUNT.load(Ordering::Acquire)
}

/// The same, for Python.
#[pyfunction]
pub fn changes_count() -> u64 {
    count()
}

/// Something has changed, just now.
#[pyfunction]
pub fn note_change() {
    CHANGES_COUNT.fetch_add(1, Ordering::Release);
}

/// Has every change of one of the watched names in the `__dict__` of an object counted. Does nothing the second time, but for this:
/// a change that has been counted, and not yet been made by another thread, has been made when this returns.
///
/// # Errors
/// All eight watchers that CPython has are taken.
#[pyfunction]
pub fn watch_namespace(namespace: &Bound<'_, PyDict>) -> PyResult<()> {
    let watcher = watcher(namespace.py())?;
    // CPython tells before it changes, and holds the dict's lock from the one to the other.
    let done = with_critical_section(namespace.as_any(), || {
        // SAFETY: attached, as `namespace` is bound; it is a dict, and the watcher's number came from `PyDict_AddWatcher`.
        unsafe { PyDict_Watch(watcher, namespace.as_ptr()) }
    });
    if done == 0 { Ok(()) } else { Err(PyErr::fetch(namespace.py())) }
}

/// What an app's plans depend on: attributes of the app, its routers, routes, nodes of included routers, and middleware stack. Others
/// may be written at every request.
const NAMES: [&str; 24] = [
    "__call__",
    "_exception_handlers",
    "_status_handlers",
    "app",
    "build_middleware_stack",
    "debug",
    "default",
    "dependency_overrides",
    "dependency_overrides_provider",
    "get_route_handler",
    "handle",
    "handler",
    "matches",
    "max_body_size",
    "methods",
    "middleware_stack",
    "original_router",
    "param_convertors",
    "path_regex",
    "redirect_slashes",
    "root_path",
    "router",
    "routes",
    "user_middleware",
];

/// INVARIANT: addresses of interned strings that live for ever, so that they are compared and never looked at.
static NAMES_KNOWN: OnceLock<[usize; NAMES.len()]> = OnceLock::new();
static WATCHER: OnceLock<c_int> = OnceLock::new();

fn watcher(py: Python<'_>) -> PyResult<c_int> {
    if let Some(&watcher) = WATCHER.get() {
        return Ok(watcher);
    }
    NAMES_KNOWN.get_or_init(|| NAMES.map(|name| PyString::intern(py, name).into_ptr() as usize));
    // SAFETY: attached, and the function is what the call asks for.
    let watcher = unsafe { PyDict_AddWatcher(note_event) };
    if watcher < 0 {
        return Err(PyErr::take(py).unwrap_or_else(|| PyRuntimeError::new_err("no watcher of dicts is left")));
    }
    // Two threads may have added one each. The second one is as good, and the first may be in use.
    Ok(*WATCHER.get_or_init(|| watcher))
}

/// `PyDict_WatchEvent`: an entry is about to be added, changed or deleted; the dict is to become a copy of another. Behind these come the
/// two by which an object ends: the collector clears its dict, or it is freed. An app that has gone is no change of those that are served.
const ENTRY_EVENTS: std::ops::RangeInclusive<c_int> = 0..=2;
const CLONED: c_int = 3;

/// Called within the change of a dict, whose lock is held: touches no Python object.
extern "C" fn note_event(
    event: c_int,
    _namespace: *mut ffi::PyObject,
    name: *mut ffi::PyObject,
    _value: *mut ffi::PyObject,
) -> c_int {
    // CPython interns the names of attributes, so that a name has one address.
    let concerns = if ENTRY_EVENTS.contains(&event) {
        NAMES_KNOWN.get().is_some_and(|names| names.contains(&(name as usize)))
    } else {
        event == CLONED
    };
    if concerns {
        note_change();
    }
    0
}

type Callback = extern "C" fn(c_int, *mut ffi::PyObject, *mut ffi::PyObject, *mut ffi::PyObject) -> c_int;

// SAFETY: as `Include/cpython/dictobject.h` has them since CPython 3.12, which is the oldest that we build for.
unsafe extern "C" {
    fn PyDict_AddWatcher(callback: Callback) -> c_int;
    fn PyDict_Watch(watcher: c_int, dict: *mut ffi::PyObject) -> c_int;
}
