#![expect(
    unsafe_code,
    reason = "PyO3 has no safe form of these calls: a context per call, a call with a tuple of names"
)]
//! The few calls into CPython that PyO3 does not offer, each wrapped so that the rest of the crate needs no unsafe.

use std::os::fd::{BorrowedFd, RawFd};
use std::thread::ThreadId;

use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

/// A copy of the present context: what a function sets in it is gone when it is left.
pub fn copy_context(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    // SAFETY: attached, as `py` shows. The call returns a new reference or null with an error set.
    unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyContext_CopyCurrent()) }
}

/// A context, entered for as long as this lives.
pub struct EnteredContext<'py> {
    context: Bound<'py, PyAny>,
}

impl<'py> EnteredContext<'py> {
    /// Enters.
    ///
    /// # Errors
    /// Somebody has entered it already, or it is no context.
    pub fn enter(context: Bound<'py, PyAny>) -> PyResult<Self> {
        // SAFETY: attached, as `context` is bound. The call checks whether it is a context, and whether it has been entered.
        if unsafe { ffi::PyContext_Enter(context.as_ptr()) } != 0 {
            return Err(PyErr::fetch(context.py()));
        }
        Ok(Self { context })
    }
}

impl Drop for EnteredContext<'_> {
    fn drop(&mut self) {
        // SAFETY: attached, as `context` is bound, and the context was entered by `enter` on this thread. An error cannot
        // come back from a drop; there is none, as contexts are left in the reverse order of being entered.
        if unsafe { ffi::PyContext_Exit(self.context.as_ptr()) } != 0 {
            PyErr::fetch(self.context.py()).write_unraisable(self.context.py(), None);
        }
    }
}

/// Arguments of one call, all by keyword, in a row that lives on the stack or in a buffer that is used again.
#[derive(Default)]
pub struct Arguments {
    /// INVARIANT: empty, or a null that CPython may overwrite for the time of the call, then owned references.
    row: Vec<*mut ffi::PyObject>,
}

// SAFETY: between two calls the row is empty (`clear` runs at the end of each), and a null and owned references may be
// released on any attached thread.
unsafe impl Send for Arguments {}

impl Arguments {
    /// Adds the next argument.
    pub fn push(&mut self, value: Bound<'_, PyAny>) {
        if self.row.is_empty() {
            self.row.push(std::ptr::null_mut());
        }
        self.row.push(value.into_ptr());
    }

    /// Gives all references back.
    pub fn clear(&mut self, _py: Python<'_>) {
        for object in self.row.drain(..).skip(1) {
            // SAFETY: attached, and the reference is owned by the row, which forgets it here.
            unsafe { ffi::Py_DECREF(object) };
        }
    }

    /// Takes all arguments out, with their names, for a call that happens elsewhere.
    pub fn take<'py>(&mut self, py: Python<'py>) -> Vec<Bound<'py, PyAny>> {
        // SAFETY: attached, and each reference is owned by the row, which forgets it here.
        self.row.drain(..).skip(1).map(|object| unsafe { Bound::from_owned_ptr(py, object) }).collect()
    }

    /// Calls, with `names` for the arguments pushed so far; they are given back afterwards. None: there are no arguments.
    pub fn call<'py>(
        &mut self,
        callable: &Bound<'py, PyAny>,
        names: Option<&Bound<'py, PyTuple>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = callable.py();
        let result = match names {
            None => callable.call0(),
            Some(names) if names.len() + 1 == self.row.len() => {
                // SAFETY: attached. The row holds a scratch place and then as many valid references as there are names, as
                // was compared just now; PY_VECTORCALL_ARGUMENTS_OFFSET lets the callee use the scratch place.
                unsafe {
                    let first = self.row.as_mut_ptr().add(1);
                    let offset = ffi::PY_VECTORCALL_ARGUMENTS_OFFSET;
                    let result = ffi::PyObject_Vectorcall(callable.as_ptr(), first, offset, names.as_ptr());
                    Bound::from_owned_ptr_or_err(py, result)
                }
            }
            Some(names) => Err(PyRuntimeError::new_err(format!(
                "{} arguments for {} names",
                self.row.len().saturating_sub(1),
                names.len()
            ))),
        };
        self.clear(py);
        result
    }
}

/// Runs `work` on this same thread without the interpreter, so that others can have it, or collect its garbage.
///
/// PyO3 asks for `Send`, as `work` could start threads that attach; it must not. It must not touch Python objects either.
pub fn detached<T, F: FnOnce() -> T>(py: Python<'_>, work: F) -> T {
    struct SameThread<T>(T);
    // SAFETY: `detach` runs the closure on the calling thread and returns its value there: nothing is sent anywhere.
    unsafe impl<T> Send for SameThread<T> {}
    impl<F: FnOnce() -> T, T> SameThread<F> {
        fn run(self) -> SameThread<T> {
            SameThread((self.0)())
        }
    }
    let work = SameThread(work);
    py.detach(move || work.run()).0
}

/// Borrows a descriptor that Python gave as a number.
///
/// The number may be wrong, and then the kernel says so (EBADF). INVARIANT: it stays open for as long as the worker listens
/// on it, which the docstring of `Worker.listen` asks of the caller; the borrow itself lasts for one call.
pub fn borrow_descriptor(descriptor: &RawFd) -> PyResult<BorrowedFd<'_>> {
    if *descriptor < 0 {
        return Err(PyValueError::new_err(format!("descriptor is {descriptor}: the socket is closed")));
    }
    // SAFETY: see the invariant; -1, the only number that a `BorrowedFd` may not have, was refused just now.
    Ok(unsafe { BorrowedFd::borrow_raw(*descriptor) })
}

/// A value of one thread inside an object that Python may hand to any.
pub struct ThreadBound<T> {
    /// INVARIANT: touched on the thread `home` only.
    value: Option<T>,
    home: ThreadId,
}

// SAFETY: see the invariant: `get` and `take` refuse other threads, and a drop on another thread forgets the value.
unsafe impl<T> Send for ThreadBound<T> {}
// SAFETY: there is no access through a shared reference.
unsafe impl<T> Sync for ThreadBound<T> {}

impl<T> ThreadBound<T> {
    /// Bound to the calling thread.
    pub fn new(value: T) -> Self {
        Self { value: Some(value), home: std::thread::current().id() }
    }

    /// The value, on its thread and until it was taken.
    pub fn get(&mut self) -> PyResult<&mut T> {
        self.check()?;
        self.value.as_mut().ok_or_else(|| PyRuntimeError::new_err("the worker is closed"))
    }

    /// The value, for good. None if it was taken before.
    pub fn take(&mut self) -> PyResult<Option<T>> {
        self.check()?;
        Ok(self.value.take())
    }

    fn check(&self) -> PyResult<()> {
        if std::thread::current().id() == self.home {
            return Ok(());
        }
        Err(PyRuntimeError::new_err("a worker belongs to the thread that made it, and this is another one"))
    }
}

impl<T> Drop for ThreadBound<T> {
    fn drop(&mut self) {
        if self.check().is_err() {
            // Nobody closed it, and its thread is not here to: descriptors leak, which is better than a race.
            std::mem::forget(self.value.take());
        }
    }
}
