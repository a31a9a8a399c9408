//! Routes, frozen at start: method and decoded path to a route and its parameters, or to 405, a redirect, or 404.
//!
//! The promise: the answer of Starlette's router, which tries one regular expression after the other in the order of
//! registration, for any table and any path. `python/tests/test_router.py` holds us to the installed FastAPI and Starlette.
//!
//! Here: which route wins. In `router/`: what an application declares, how a template is read, and which text each parameter gets. In neither:
//! percent-decoding (`http/target.rs`), the conversion of a parameter's text to a value, and the answers themselves. No regular
//! expression runs, and nothing allocates once `Params` has grown to the largest it needed.
//!
//! Two parts, and only the second decides:
//! 1. a tree over path segments, here, which yields the few templates that *could* match, in any order;
//! 2. `router/shape.rs`, which says exactly whether a template matches and what its parameters are.
//!
//! The lowest registration number among the matches wins. So an error in the tree could only lose a match, never invent
//! one, and a property test compares it with a plain scan.
//!
//! Why not matchit: it answers with the *most specific* route, and refuses tables where that is not defined (one place
//! under two names, `/{x}.json` next to `/{x}`, duplicates). We need the *first* route. To know that no earlier one
//! matches too we would have to hold everything in a second structure like this one, and would then not need the first.

mod template;
mod shape;
mod declared;

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::ops::Range;

use memchr::memchr;

pub use declared::{Convertor, Opaque, Parameter, RouteError, RouteKind, RouteSpec};
use shape::{Part, Shape};
use template::Template;

/// The place of a route in the list given to [`Router::new`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RouteId(pub u32);

/// What [`Router::find`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Match {
    /// This route answers; the parameters are filled in.
    Found(RouteId),
    /// 405. The `Allow` header is [`Router::allow`] of this route, the first of those that match in all but the method.
    MethodNotAllowed(RouteId),
    /// 307 to the same path with a slash added, or with all slashes at its end taken away.
    Redirect {
        /// Whether the slash is added.
        with_slash: bool,
    },
    /// 404.
    NotFound,
    /// An opaque route may stand before the answer: run the application's own router.
    Ask,
}

/// The parameters of the last match, and the room to find them. Kept by the worker and used for every request.
#[derive(Debug, Default)]
pub struct Params {
    spans: Vec<Range<usize>>,
    /// Of the template under test, until it turns out to be the best.
    trial: Vec<Range<usize>>,
    /// `backtrack`'s table.
    good: Vec<bool>,
    /// The path with a slash added, while a redirect is considered.
    with_slash: String,
}

impl Params {
    /// Where each parameter of the found route stands in the path, in the order of [`Router::parameters`].
    pub fn spans(&self) -> &[Range<usize>] {
        &self.spans
    }

    /// The same parameters, for a request that outlives its call.
    #[must_use]
    pub fn retained(&self) -> Self {
        Self { spans: self.spans.clone(), ..Self::default() }
    }
}

/// A frozen table of routes.
#[derive(Debug)]
pub struct Router {
    routes: Vec<Route>,
    shapes: Vec<Shape>,
    nodes: Vec<Node>,
    redirect_slashes: bool,
    /// Some template begins with text other than a slash, so that only the application knows about such paths.
    asks_without_slash: bool,
}

impl Router {
    /// Builds the table. The order of `specs` is the order of registration. WebSocket routes are to be left out.
    ///
    /// # Errors
    /// [`RouteError`] for a template that Starlette refuses.
    pub fn new(specs: Vec<RouteSpec>, redirect_slashes: bool) -> Result<Router, RouteError> {
        let mut router = Router {
            routes: Vec::with_capacity(specs.len()),
            shapes: Vec::new(),
            nodes: vec![Node::new(0)],
            redirect_slashes,
            asks_without_slash: false,
        };
        let mut shape_of: HashMap<Vec<Part>, usize> = HashMap::new();
        for (index, spec) in specs.into_iter().enumerate() {
            let index = u32::try_from(index).expect("a table of 2^32 routes does not fit in memory");
            let template = Template::compile(&spec)?;
            if template.parts.is_empty() && !spec.template.is_empty() {
                router.asks_without_slash = true;
            } else if let Some(&shape) = shape_of.get(&template.parts) {
                router.shapes[shape].routes.push(index);
            } else {
                shape_of.insert(template.parts.clone(), router.shapes.len());
                router.insert(Shape::new(template.parts, index));
            }
            router.routes.push(Route {
                allow: spec.methods.join(", "),
                methods: if spec.kind == RouteKind::Prefix { Vec::new() } else { spec.methods },
                parameters: template.parameters,
                opaque: template.opaque,
            });
        }
        Ok(router)
    }

    /// Finds what answers `method` on `path`.
    ///
    /// `path` is decoded as uvicorn decodes it: percent-decoded, then every malformed sequence replaced by U+FFFD, which
    /// is what `String::from_utf8_lossy` does. It is cut at the application's `root_path`, which must not end in a slash.
    pub fn find(&self, method: &[u8], path: &str, params: &mut Params) -> Match {
        params.spans.clear();
        if self.asks(path) {
            return Match::Ask;
        }
        let best = self.search(method, path, params);
        match best {
            Best { full: NONE, partial: NONE, .. } => self.redirect(path, params),
            Best { full: NONE, partial, .. } => Match::MethodNotAllowed(RouteId(partial)),
            Best { is_opaque: true, .. } => Match::Ask,
            Best { full, .. } => Match::Found(RouteId(full)),
        }
    }

    /// The value of `Allow` for a route.
    pub fn allow(&self, route: RouteId) -> &str {
        &self.routes[route.0 as usize].allow
    }

    /// The parameters of a route, in the order of [`Params::spans`]; none for an opaque one.
    pub fn parameters(&self, route: RouteId) -> &[Parameter] {
        &self.routes[route.0 as usize].parameters
    }

    /// Why a route is left to the application; `None` for one that is found here.
    pub fn opaque(&self, route: RouteId) -> Option<&Opaque> {
        self.routes[route.0 as usize].opaque.as_ref()
    }

    fn asks(&self, path: &str) -> bool {
        self.asks_without_slash && !path.is_empty() && !path.starts_with('/')
    }

    /// What to do with a path that nothing matches.
    fn redirect(&self, path: &str, params: &mut Params) -> Match {
        if !self.redirect_slashes || path == "/" {
            return Match::NotFound;
        }
        let has_slash = path.ends_with('/');
        let mut other = std::mem::take(&mut params.with_slash);
        other.clear();
        if has_slash {
            other.push_str(path.trim_end_matches('/'));
        } else {
            other.push_str(path);
            other.push('/');
        }
        // Here a match without the method counts as much as a full one, so no method is as good as any.
        let best = self.search(b"", &other, params);
        params.with_slash = other;
        params.spans.clear();
        match best {
            Best { full: NONE, partial: NONE, .. } => Match::NotFound,
            Best { full, partial, is_opaque: true } if full < partial => Match::Ask,
            _ => Match::Redirect { with_slash: !has_slash },
        }
    }

    fn search(&self, method: &[u8], path: &str, params: &mut Params) -> Best {
        let mut search = Search { router: self, method, path, params, best: Best::default() };
        search.visit(0, 0);
        search.best
    }

    /// Hangs a shape into the tree, at the end of its segments or where its first `Path` begins.
    fn insert(&mut self, shape: Shape) {
        let id = self.shapes.len();
        let first = shape.routes[0];
        let mut node = 0;
        let mut segment = Some(String::new()); // `None` once the segment has a parameter
        for part in &shape.parts {
            match part {
                Part::Literal(text) => {
                    let mut pieces = text.split('/');
                    if let (Some(segment), Some(piece)) = (&mut segment, pieces.next()) {
                        segment.push_str(piece);
                    }
                    for piece in pieces {
                        node = self.child(node, segment, first);
                        segment = Some(piece.to_owned());
                    }
                }
                Part::Parameter(Convertor::Path) | Part::Anything => {
                    self.nodes[node].tails.push(id);
                    self.shapes.push(shape);
                    return;
                }
                Part::Parameter(_) => segment = None,
            }
        }
        node = self.child(node, segment, first);
        self.nodes[node].ends.push(id);
        self.shapes.push(shape);
    }

    fn child(&mut self, node: usize, segment: Option<String>, first: u32) -> usize {
        let new = self.nodes.len();
        let Node { texts, any, .. } = &mut self.nodes[node];
        match segment {
            None => {
                if let Some(child) = *any {
                    return child;
                }
                *any = Some(new);
            }
            Some(text) => {
                if let Some(&child) = texts.get(text.as_bytes()) {
                    return child;
                }
                texts.insert(text.into_bytes().into(), new);
            }
        }
        self.nodes.push(Node::new(first));
        new
    }
}

#[derive(Debug)]
struct Route {
    methods: Vec<String>,
    allow: String,
    parameters: Vec<Parameter>,
    opaque: Option<Opaque>,
}

impl Route {
    fn allows(&self, method: &[u8]) -> bool {
        self.methods.is_empty() || self.methods.iter().any(|allowed| allowed.as_bytes() == method)
    }
}

/// One point of the tree: some segments of the path are consumed.
#[derive(Debug)]
struct Node {
    /// The first route below. INVARIANT: no route below has a lower number (routes are inserted in order).
    first: u32,
    /// Children for a segment that is plain text.
    texts: HashMap<Box<[u8]>, usize, BuildHasherDefault<Fnv>>,
    /// The child for a segment with any parameter in it.
    any: Option<usize>,
    /// Shapes that end here.
    ends: Vec<usize>,
    /// Shapes that may take any number of segments from here.
    tails: Vec<usize>,
}

impl Node {
    fn new(first: u32) -> Node {
        Node { first, texts: HashMap::default(), any: None, ends: Vec::new(), tails: Vec::new() }
    }
}

/// FNV-1a. The keys of the tables are the application's, so no peer can choose them to collide.
// PERF: `/users/123` among 50 routes: 95 ns, 122 ns with the standard library's hasher. The last of 500 plain
// routes: 101 ns, 169 ns with a binary search.
struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Fnv {
        Fnv(0xcbf2_9ce4_8422_2325)
    }
}

impl Hasher for Fnv {
    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
        }
    }

    /// The length, which says nothing that the bytes do not say here.
    fn write_usize(&mut self, _: usize) {}

    fn finish(&self) -> u64 {
        self.0
    }
}

/// No route.
const NONE: u32 = u32::MAX;

/// The lowest numbers so far.
struct Best {
    /// A route that answers, or an opaque one that may.
    full: u32,
    is_opaque: bool,
    /// A route that has the path but not the method. Exact while `full` is higher.
    partial: u32,
}

impl Default for Best {
    fn default() -> Best {
        Best { full: NONE, is_opaque: false, partial: NONE }
    }
}

struct Search<'a> {
    router: &'a Router,
    method: &'a [u8],
    path: &'a str,
    params: &'a mut Params,
    best: Best,
}

impl Search<'_> {
    /// Follows the tree below `node`; the path's next segment begins at `start`. As deep as the longest template.
    fn visit(&mut self, node: usize, start: usize) {
        let node = &self.router.nodes[node];
        if node.first > self.best.full {
            return;
        }
        for &shape in &node.tails {
            self.test(shape);
        }
        let rest = &self.path.as_bytes()[start..];
        let (segment, next) = match memchr(b'/', rest) {
            Some(slash) => (&rest[..slash], Some(start + slash + 1)),
            None => (rest, None),
        };
        if let Some(child) = node.texts.get(segment).copied() {
            self.enter(child, next);
        }
        // Python's `$` also matches before a line feed that ends the text.
        if let (None, [text @ .., b'\n']) = (next, segment)
            && let Some(child) = node.texts.get(text).copied()
        {
            self.enter(child, next);
        }
        if let Some(child) = node.any {
            self.enter(child, next);
        }
    }

    fn enter(&mut self, node: usize, next: Option<usize>) {
        match next {
            Some(start) => self.visit(node, start),
            None => {
                for &shape in &self.router.nodes[node].ends {
                    self.test(shape);
                }
            }
        }
    }

    fn test(&mut self, shape: usize) {
        let shape = &self.router.shapes[shape];
        let Params { spans, trial, good, .. } = &mut *self.params;
        if shape.routes[0] > self.best.full || !shape.matches(self.path, trial, good) {
            return;
        }
        let raises = shape.may_raise(self.path, trial);
        for &index in &shape.routes {
            let route = &self.router.routes[index as usize];
            if index > self.best.full {
                return;
            }
            if raises || route.opaque.is_some() {
                (self.best.full, self.best.is_opaque) = (index, true);
                return;
            }
            if route.allows(self.method) {
                (self.best.full, self.best.is_opaque) = (index, false);
                std::mem::swap(spans, trial);
                return;
            }
            self.best.partial = self.best.partial.min(index);
        }
    }
}

#[cfg(test)]
mod tests;
