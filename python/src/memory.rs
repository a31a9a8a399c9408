//! The memory of this process, for `turboapi/watching/memory.py`, which says when some of it is given back.

use pyo3::prelude::*;
use turboapi_platform::memory;

use crate::interpreter::detached;

/// Bytes of memory that are resident; None where nothing can be given back.
#[pyfunction]
pub fn resident_bytes() -> Option<u64> {
    memory::resident_bytes()
}

/// Gives free memory back to the system: 0.1 ms a MiB. Other Python threads run meanwhile, until they allocate.
#[pyfunction]
pub fn give_back_memory(py: Python<'_>) {
    detached(py, memory::give_back);
}
