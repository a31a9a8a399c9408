//! Layers around a handler: what Starlette's stock middleware does, by its own rules, to the letter.
//!
//! An app declares them (`python/turboapi/plan/layers.py`); here they meet a request on its way in and its answer on its way out.
//! Not here: bodies that come in parts, and what is compressed in a thread, which the app's own middleware does. Where a layer is
//! not certain of what Starlette would say, it says so, and the request takes the app's own way.
//! Source: Starlette 1.10, `starlette/middleware`.

mod trusted_host;
mod https_redirect;
mod host;
mod gzip;
mod cors;
mod early;
mod whole;

use crate::answer::Headers;
use crate::http::encode;
use crate::request::Request;
pub use cors::{Cors, OriginPattern};
pub use gzip::Gzip;
pub use https_redirect::HttpsRedirect;
pub use trusted_host::TrustedHost;
pub use whole::{NotCovered, Whole};

use early::Step;

/// One of them.
#[derive(Debug)]
pub enum Layer {
    /// Cross-origin requests.
    Cors(Cors),
    /// Compression.
    Gzip(Gzip),
    /// Which hosts are served.
    TrustedHost(TrustedHost),
    /// Everything goes to https.
    HttpsRedirect(HttpsRedirect),
}

/// All of an app's, outermost first.
#[derive(Debug)]
pub struct Layers {
    layers: Vec<Layer>,
    uses_origin: bool,
    uses_coding: bool,
}

/// How many layers there may be: as many as a `Trail` has bits for.
pub const LAYERS_MAX: usize = 32;

/// What the layers have seen of a request, for its answer.
#[derive(Debug, Clone, Default)]
pub struct Trail {
    /// The value of Origin.
    origin: Option<Box<[u8]>>,
    /// Whether the layer of each place allows that origin, a bit for each.
    allowed: u32,
    /// Whether the peer takes gzip.
    accepts_gzip: bool,
}

/// What became of a request on its way in.
#[derive(Debug)]
pub enum Entered<T = Trail> {
    /// It goes on to the handler, whose answer has to come back with this.
    Through(T),
    /// A layer has answered, and those around it have had that answer.
    Answered(Whole),
    /// None of this is certain: the app's own middleware has the request.
    Unsure,
}

impl<T> Entered<T> {
    /// The same with something else to come back with.
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> Entered<U> {
        match self {
            Self::Through(trail) => Entered::Through(change(trail)),
            Self::Answered(whole) => Entered::Answered(whole),
            Self::Unsure => Entered::Unsure,
        }
    }
}

impl Layers {
    /// In this order, outermost first. None if there are more than `LAYERS_MAX`.
    #[must_use]
    pub fn new(layers: Vec<Layer>) -> Option<Self> {
        if layers.len() > LAYERS_MAX {
            return None;
        }
        let uses_origin = layers.iter().any(|layer| matches!(layer, Layer::Cors(_)));
        let uses_coding = layers.iter().any(|layer| matches!(layer, Layer::Gzip(_)));
        Some(Self { layers, uses_origin, uses_coding })
    }

    /// Whether one of them looks at the scheme by which its client has asked.
    #[must_use]
    pub fn uses_scheme(&self) -> bool {
        self.layers.iter().any(|layer| matches!(layer, Layer::TrustedHost(_) | Layer::HttpsRedirect(_)))
    }

    /// A request, before its handler is called. `scheme`: by which its client has asked.
    pub fn enter(&self, request: &Request<'_>, scheme: &str) -> Entered {
        let head = |name| request.head.value(request.head_bytes, name);
        let mut trail = Trail::default();
        if self.uses_origin {
            trail.origin = head(b"origin").map(Into::into);
        }
        if self.uses_coding {
            trail.accepts_gzip = head(b"accept-encoding").is_some_and(gzip::names_gzip);
        }
        for (place, layer) in self.layers.iter().enumerate() {
            let step = match layer {
                Layer::Cors(cors) => match cors.enter(request) {
                    Ok(is_allowed) => {
                        trail.allowed |= u32::from(is_allowed) << place;
                        Step::On
                    }
                    Err(step) => step,
                },
                Layer::Gzip(_) => Step::On,
                Layer::TrustedHost(hosts) => hosts.enter(request, scheme),
                Layer::HttpsRedirect(redirect) => redirect.enter(request, scheme),
            };
            match step {
                Step::On => {}
                Step::Answer(mut whole) => {
                    return match self.leave_from(place, &trail, &mut whole) {
                        Ok(()) => Entered::Answered(whole),
                        Err(NotCovered) => Entered::Unsure,
                    };
                }
                Step::Unsure => return Entered::Unsure,
            }
        }
        Entered::Through(trail)
    }

    fn covers_from(&self, depth: usize, trail: &Trail, status: u16, headers: &Headers, body_bytes: usize) -> bool {
        self.layers[..depth].iter().all(|layer| match layer {
            Layer::Gzip(gzip) => gzip.covers(trail.accepts_gzip, status, headers, body_bytes),
            Layer::Cors(_) | Layer::TrustedHost(_) | Layer::HttpsRedirect(_) => true,
        })
    }

    /// The handler's answer, before it is sent.
    ///
    /// # Errors
    /// Starlette would do more to it than is done here: it compresses a large body in a thread. The answer is as it was then.
    pub fn leave(&self, trail: &Trail, whole: &mut Whole) -> Result<(), NotCovered> {
        self.leave_from(self.layers.len(), trail, whole)
    }

    /// An answer of the layer at `depth` goes through those outside of it.
    fn leave_from(&self, depth: usize, trail: &Trail, whole: &mut Whole) -> Result<(), NotCovered> {
        if !self.covers_from(depth, trail, whole.status, &whole.headers, whole.body.len()) {
            return Err(NotCovered);
        }
        for (place, layer) in self.layers[..depth].iter().enumerate().rev() {
            match layer {
                Layer::Cors(cors) => {
                    cors.leave(trail.origin.as_deref(), trail.allowed >> place & 1 == 1, &mut whole.headers)?;
                }
                Layer::Gzip(gzip) => gzip.leave(trail.accepts_gzip, whole)?,
                Layer::TrustedHost(_) | Layer::HttpsRedirect(_) => {}
            }
        }
        Ok(())
    }
}

/// Whether these can be name and value of a line that a layer adds.
#[must_use]
pub fn is_line(name: &[u8], value: &[u8]) -> bool {
    encode::is_header_name(name) && encode::is_header_value(value)
}

#[cfg(test)]
mod tests;
