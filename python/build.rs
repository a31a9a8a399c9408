//! Tells the source which interpreter it is built for: `cfg(Py_GIL_DISABLED)`, `cfg(Py_3_14)` and others.

fn main() {
    pyo3_build_config::use_pyo3_cfgs();
}
