//! Which peers are proxies of one's own, as `turboapi/proxies.py` has read it. What is believed of them is the core's (`src/proxies.rs`).

use std::net::IpAddr;
use std::sync::Arc;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use turboapi_core::proxies;

/// Which peers are believed when they say whom they ask for.
#[pyclass(frozen, module = "turboapi._core")]
pub struct Proxies {
    /// The core's.
    pub core: Arc<proxies::Proxies>,
}

#[pymethods]
impl Proxies {
    /// `networks`: each an address and the length of its prefix.
    #[new]
    #[pyo3(signature = (*, everyone, unix, networks))]
    fn new(everyone: bool, unix: bool, networks: Vec<(String, u8)>) -> PyResult<Self> {
        let mut read = Vec::with_capacity(networks.len());
        for (address, length) in networks {
            let known: IpAddr = address
                .parse()
                .map_err(|problem| PyValueError::new_err(format!("{address:?} is no address: {problem}")))?;
            read.push((known, length));
        }
        Ok(Self { core: Arc::new(proxies::Proxies { everyone, unix, networks: read }) })
    }
}
