//! Routes, frozen at start: method and decoded path to a route and its parameters, or to 405, a redirect, or 404.
//!
//! The promise: the answer of Starlette's router, which tries one regular expression after the other in the order of
//! registration, for any table and any path. `python/tests/test_router.py` holds us to the installed FastAPI and Starlette.
//!
//! Here: templates, which route wins, which text each parameter gets. Not here: percent-decoding (`http/target.rs`), the
//! conversion of a parameter's text to a value, and the answers themselves. No regular expression runs, and
//! nothing allocates once `Params` has grown to the largest it needed.
//!
//! Two parts, and only the second decides:
//! 1. a tree over path segments, which yields the few templates that *could* match, in any order;
//! 2. `Shape::matches`, which says exactly whether a template matches and what its parameters are.
//!
//! The lowest registration number among the matches wins. So an error in the tree could only lose a match, never invent
//! one, and a property test compares it with a plain scan.
//!
//! Why not matchit: it answers with the *most specific* route, and refuses tables where that is not defined (one place
//! under two names, `/{x}.json` next to `/{x}`, duplicates). We need the *first* route. To know that no earlier one
//! matches too we would have to hold everything in a second structure like this one, and would then not need the first.

use memchr::memchr;
use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasherDefault, Hasher};
use std::ops::Range;

/// The place of a route in the list given to [`Router::new`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RouteId(pub u32);

/// One route as the application declares it.
#[derive(Clone, Debug)]
pub struct RouteSpec {
    /// Starlette's template, such as `/users/{id:int}`.
    pub template: String,
    /// Methods in the order in which `Allow` names them, compared exactly. Empty: any method. The caller gives the full
    /// set: Starlette's `Route` adds HEAD to GET, FastAPI's `APIRoute` does not.
    pub methods: Vec<String>,
    /// What the template covers.
    pub kind: RouteKind,
}

/// What a template covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RouteKind {
    /// The whole path.
    Route,
    /// The path's beginning: Starlette's `Mount`. Matches any method; its last parameter, `path`, is the rest.
    Prefix,
    /// Something that only the application can decide, such as a `Host` route or an own `matches`. The template's text
    /// before its first parameter is a promise: a path that does not begin with it never matches. Empty: no promise.
    Opaque,
}

/// What a parameter accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Convertor {
    /// `[^/]+`
    Str,
    /// `.*`, which crosses slashes but no line feed.
    Path,
    /// `[0-9]+`
    Int,
    /// `[0-9]+(\.[0-9]+)?`
    Float,
    /// 32 hexadecimal digits, each of the four hyphens optional.
    Uuid,
}

/// A parameter of a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameter {
    /// The name between the braces.
    pub name: String,
    /// What it accepts.
    pub convertor: Convertor,
}

/// Why a route is left to the application.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Opaque {
    /// It was given as [`RouteKind::Opaque`].
    Declared,
    /// The template names a convertor that is not one of Starlette's own.
    Convertor(String),
    /// Starlette reads a template without a leading slash as a host name: case does not count, a port is cut off.
    NoLeadingSlash,
}

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

/// A template that no application could have registered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RouteError {
    /// Two parameters of one template have the same name.
    DuplicateParameter {
        /// The template.
        template: String,
        /// The name that stands twice.
        name: String,
    },
}

impl fmt::Display for RouteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RouteError::DuplicateParameter { template, name } => {
                write!(f, "{template} has two parameters named {name}, names must differ")
            }
        }
    }
}

impl std::error::Error for RouteError {}

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

/// FNV-1a. The keys of the tables are the application's, so nobody can choose them to collide.
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
        let raises = self.path.len() > INT_DIGITS_CERTAIN && shape.has_long_int(trial);
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

/// Decimal digits that Python's `int()` takes whatever `sys.set_int_max_str_digits` says. With more it may raise while
/// Starlette is still matching, so such a path is the application's.
const INT_DIGITS_CERTAIN: usize = 640;

/// A piece of a template.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Part {
    Literal(Box<str>),
    Parameter(Convertor),
    /// Of an opaque route: whatever follows.
    Anything,
}

/// A template without its names, and the routes that have it.
#[derive(Debug)]
struct Shape {
    parts: Vec<Part>,
    /// How many of the parts have one possible end each. From there on the parameters compete for the text.
    certain: usize,
    /// INVARIANT: ascending, never empty.
    routes: Vec<u32>,
}

impl Shape {
    fn new(parts: Vec<Part>, first: u32) -> Shape {
        let certain = (0..parts.len()).take_while(|&at| has_one_end(&parts[at], parts.get(at + 1))).count();
        Shape { parts, certain, routes: vec![first] }
    }

    /// Whether Python's `re` would match the template's expression, and if so what each group would hold.
    fn matches(&self, path: &str, spans: &mut Vec<Range<usize>>, good: &mut Vec<bool>) -> bool {
        spans.clear();
        let bytes = path.as_bytes();
        let (certain, contested) = self.parts.split_at(self.certain);
        let mut at = 0;
        for part in certain {
            match part {
                Part::Literal(text) => {
                    if !bytes[at..].starts_with(text.as_bytes()) {
                        return false;
                    }
                    at += text.len();
                }
                Part::Parameter(convertor) => {
                    let Some(end) = convertor.longest(bytes, at) else {
                        return false;
                    };
                    spans.push(at..end);
                    at = end;
                }
                Part::Anything => return true,
            }
        }
        if contested.is_empty() { is_end(bytes, at) } else { backtrack(contested, path, at, spans, good) }
    }

    fn has_long_int(&self, spans: &[Range<usize>]) -> bool {
        let convertors = self.parts.iter().filter_map(|part| match part {
            Part::Parameter(convertor) => Some(*convertor),
            _ => None,
        });
        convertors.zip(spans).any(|(convertor, span)| convertor == Convertor::Int && span.len() > INT_DIGITS_CERTAIN)
    }
}

/// Python's `$`: the end, or before a line feed that ends the text.
fn is_end(bytes: &[u8], at: usize) -> bool {
    matches!(bytes[at..], [] | [b'\n'])
}

/// Whether only the longest text that `part` can take lets `next` match.
fn has_one_end(part: &Part, next: Option<&Part>) -> bool {
    let Part::Parameter(convertor) = part else {
        return true;
    };
    match next {
        None => true,
        Some(Part::Literal(text)) => match (convertor, text.as_bytes()[0]) {
            (Convertor::Str, first) => first == b'/',
            (Convertor::Path, _) => false,
            (Convertor::Int, first) => !first.is_ascii_digit(),
            (Convertor::Float, first) => !first.is_ascii_digit() && first != b'.',
            (Convertor::Uuid, _) => true,
        },
        Some(_) => *convertor == Convertor::Uuid,
    }
}

impl Convertor {
    /// Where the longest text from `at` that fits ends.
    fn longest(self, bytes: &[u8], at: usize) -> Option<usize> {
        let until = |byte| memchr(byte, &bytes[at..]).map_or(bytes.len(), |found| at + found);
        let digits = |from: usize| from + bytes[from..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        let end = match self {
            Convertor::Path => return Some(until(b'\n')),
            Convertor::Str => until(b'/'),
            Convertor::Int => digits(at),
            Convertor::Float => match digits(at) {
                dot if bytes[dot..].first() == Some(&b'.') && digits(dot + 1) > dot + 1 && dot > at => digits(dot + 1),
                end => end,
            },
            Convertor::Uuid => return uuid(bytes, at),
        };
        (end > at).then_some(end)
    }
}

fn uuid(bytes: &[u8], mut at: usize) -> Option<usize> {
    for (group, digits) in [8, 4, 4, 4, 12].into_iter().enumerate() {
        if group > 0 && bytes.get(at) == Some(&b'-') {
            at += 1;
        }
        if !bytes.get(at..at + digits)?.iter().all(u8::is_ascii_hexdigit) {
            return None;
        }
        at += digits;
    }
    Some(at)
}

/// Shares the text from `start` among parameters that compete for it, each taking as much as lets the rest match.
///
/// Python tries the ways one by one, which can take the n-th power of the length for n parameters. This takes a table,
/// from the last part to the first: `good[part][at]` says whether the parts from this one on match the text from `at`
/// on. Its time is the length times the parts, whatever a peer sends.
fn backtrack(parts: &[Part], path: &str, start: usize, spans: &mut Vec<Range<usize>>, good: &mut Vec<bool>) -> bool {
    let text = &path.as_bytes()[start..];
    let width = text.len() + 1;
    good.clear();
    good.resize((parts.len() + 1) * width, false);
    for at in text.len().saturating_sub(1)..width {
        good[parts.len() * width + at] = is_end(text, at);
    }
    for (row, part) in parts.iter().enumerate().rev() {
        let (this, next) = good[row * width..][..2 * width].split_at_mut(width);
        fill(part, text, this, next);
        for (at, is_good) in this.iter_mut().enumerate() {
            *is_good &= path.is_char_boundary(start + at); // a character is not cut
        }
    }
    if !good[0] {
        return false;
    }
    let mut at = 0;
    for (row, part) in parts.iter().enumerate() {
        let next = &good[(row + 1) * width..][..width];
        match part {
            Part::Literal(text) => at += text.len(),
            Part::Parameter(convertor) => {
                let longest = convertor.longest(text, at).expect("the table says that it fits");
                let shortest = match convertor {
                    Convertor::Path => at,
                    Convertor::Uuid => longest,
                    _ => at + 1,
                };
                let fits = |&end: &usize| next[end] && !(*convertor == Convertor::Float && text[end - 1] == b'.');
                let end = (shortest..=longest).rev().find(fits).expect("the table says that an end exists");
                spans.push(start + at..start + end);
                at = end;
            }
            Part::Anything => break,
        }
    }
    true
}

/// One row of `backtrack`'s table from the row after it.
fn fill(part: &Part, text: &[u8], this: &mut [bool], next: &[bool]) {
    // Going left through a run of the parameter's characters, `reaches` says whether a good end lies to the right in it.
    let mut reaches = false;
    match part {
        Part::Literal(literal) => {
            for (at, is_good) in this[..text.len()].iter_mut().enumerate() {
                *is_good = text[at..].starts_with(literal.as_bytes()) && next[at + literal.len()];
            }
        }
        Part::Parameter(Convertor::Uuid) => {
            for (at, is_good) in this[..text.len()].iter_mut().enumerate() {
                *is_good = uuid(text, at).is_some_and(|end| next[end]);
            }
        }
        Part::Parameter(Convertor::Path) => {
            this[text.len()] = next[text.len()];
            for at in (0..text.len()).rev() {
                reaches = text[at] != b'\n' && (reaches || next[at + 1]);
                this[at] = reaches || next[at];
            }
        }
        Part::Parameter(Convertor::Str) => {
            for at in (0..text.len()).rev() {
                reaches = text[at] != b'/' && (reaches || next[at + 1]);
                this[at] = reaches;
            }
        }
        Part::Parameter(Convertor::Int) => {
            for at in (0..text.len()).rev() {
                reaches = text[at].is_ascii_digit() && (reaches || next[at + 1]);
                this[at] = reaches;
            }
        }
        Part::Parameter(Convertor::Float) => {
            let mut fraction_reaches = false;
            for at in (0..text.len()).rev() {
                if text[at].is_ascii_digit() {
                    reaches |= next[at + 1];
                    this[at] = reaches || fraction_reaches;
                } else {
                    fraction_reaches = text[at] == b'.' && reaches;
                    reaches = false;
                }
            }
        }
        Part::Anything => this.fill(true),
    }
}

/// A template, read.
struct Template {
    /// Empty for one that matches the empty path, and for one that matches no path that begins with a slash.
    parts: Vec<Part>,
    parameters: Vec<Parameter>,
    opaque: Option<Opaque>,
}

impl Template {
    fn compile(spec: &RouteSpec) -> Result<Template, RouteError> {
        let text = match spec.kind {
            RouteKind::Prefix => spec.template.trim_end_matches('/').to_owned() + "/{path:path}",
            RouteKind::Route | RouteKind::Opaque => spec.template.clone(),
        };
        let has_slash = text.starts_with('/');
        let mut parts = Vec::new();
        let mut parameters: Vec<Parameter> = Vec::new();
        let mut opaque = match spec.kind {
            RouteKind::Opaque => Some(Opaque::Declared),
            RouteKind::Route | RouteKind::Prefix if has_slash || text.is_empty() => None,
            RouteKind::Route | RouteKind::Prefix => Some(Opaque::NoLeadingSlash),
        };
        for piece in pieces(&text) {
            match piece {
                Piece::Literal(literal) => parts.push(Part::Literal(literal.into())),
                Piece::Parameter { name, .. } if parameters.iter().any(|known| known.name == name) => {
                    return Err(RouteError::DuplicateParameter { template: text.clone(), name: name.to_owned() });
                }
                Piece::Parameter { name, convertor } => {
                    let convertor = match convertor {
                        "str" => Convertor::Str,
                        "path" => Convertor::Path,
                        "int" => Convertor::Int,
                        "float" => Convertor::Float,
                        "uuid" => Convertor::Uuid,
                        other => {
                            opaque.get_or_insert_with(|| Opaque::Convertor(other.to_owned()));
                            Convertor::Str
                        }
                    };
                    parts.push(Part::Parameter(convertor));
                    parameters.push(Parameter { name: name.to_owned(), convertor });
                }
            }
        }
        if let Some(reason) = &opaque {
            parameters.clear();
            let begins_with_text = matches!(parts.first(), Some(Part::Literal(_)));
            parts.truncate(usize::from(begins_with_text && has_slash));
            if !(begins_with_text && *reason == Opaque::NoLeadingSlash) {
                parts.push(Part::Anything);
            }
        }
        Ok(Template { parts, parameters, opaque })
    }
}

enum Piece<'a> {
    Literal(&'a str),
    Parameter { name: &'a str, convertor: &'a str },
}

/// Cuts a template as Starlette does. Braces that do not hold a parameter are text.
fn pieces(text: &str) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    let (mut literal, mut at) = (0, 0);
    while let Some(brace) = text[at..].find('{').map(|found| at + found) {
        at = brace + 1;
        if let Some((length, piece)) = parameter(&text[brace..]) {
            if literal < brace {
                pieces.push(Piece::Literal(&text[literal..brace]));
            }
            pieces.push(piece);
            at = brace + length;
            literal = at;
        }
    }
    if literal < text.len() {
        pieces.push(Piece::Literal(&text[literal..]));
    }
    pieces
}

/// Reads `{name}` or `{name:convertor}` and its length.
fn parameter(text: &str) -> Option<(usize, Piece<'_>)> {
    let inside = text.strip_prefix('{')?;
    let inside = &inside[..inside.find('}')?];
    let (name, convertor) = inside.split_once(':').unwrap_or((inside, "str"));
    let is_word = |word: &str| {
        !word.starts_with(|first: char| first.is_ascii_digit())
            && !word.is_empty()
            && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    (is_word(name) && is_word(convertor)).then_some((inside.len() + 2, Piece::Parameter { name, convertor }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const UUID: &str = "0123abcd-4567-89ef-0123-456789ABCDEF";

    /// Routes as lines: methods (`*` for any), template, and `mount` or `opaque` where it is one.
    fn router(table: &[&str]) -> Router {
        let specs = table.iter().map(|line| {
            let mut words = line.split(' ');
            let methods = words.next().filter(|methods| *methods != "*").unwrap_or("");
            let template = words.next().unwrap_or("").to_owned();
            let kind = match words.next() {
                Some("mount") => RouteKind::Prefix,
                Some("opaque") => RouteKind::Opaque,
                _ => RouteKind::Route,
            };
            let methods = methods.split(',').filter(|method| !method.is_empty()).map(str::to_owned).collect();
            RouteSpec { template, methods, kind }
        });
        Router::new(specs.collect(), true).expect("the table is good")
    }

    /// The answer as text: `1 id=7`, `405 GET, HEAD`, `307 /a`, `404` or `ask`.
    fn answer(router: &Router, method: &str, path: &str) -> String {
        let mut params = Params::default();
        match router.find(method.as_bytes(), path, &mut params) {
            Match::Found(route) => {
                let named = router.parameters(route).iter().zip(params.spans());
                let texts = named.map(|(parameter, span)| format!(" {}={}", parameter.name, &path[span.clone()]));
                route.0.to_string() + &texts.collect::<String>()
            }
            Match::MethodNotAllowed(route) => format!("405 {}", router.allow(route)),
            Match::Redirect { with_slash: true } => format!("307 {path}/"),
            Match::Redirect { with_slash: false } => format!("307 {}", path.trim_end_matches('/')),
            Match::NotFound => "404".to_owned(),
            Match::Ask => "ask".to_owned(),
        }
    }

    #[track_caller]
    fn check(table: &[&str], request: &str, expected: &str) {
        let (method, path) = request.split_once(' ').expect("a method and a path");
        assert_eq!(answer(&router(table), method, path), expected, "{table:?} {request:?}");
    }

    #[test]
    fn the_first_route_wins() {
        check(&["GET /users/me", "GET /users/{id}"], "GET /users/me", "0");
        check(&["GET /users/{id}", "GET /users/me"], "GET /users/me", "0 id=me");
        check(&["GET /users/{id:int}", "GET /users/{name}"], "GET /users/7", "0 id=7");
        check(&["GET /users/{id:int}", "GET /users/{name}"], "GET /users/bo", "1 name=bo");
        check(&["GET /{a}/x", "GET /{b}/y", "GET /{c}/x"], "GET /1/y", "1 b=1");
        check(&["GET /a", "GET /a"], "GET /a", "0");
        check(&["GET /{p:path}", "GET /a"], "GET /a", "0 p=a");
        check(&["GET /a/{x}/c", "GET /{p:path}", "GET /a/b/c"], "GET /a/b/c", "0 x=b");
        check(&["GET /a/b/{x:int}", "GET /a/{y}/c"], "GET /a/b/c", "1 y=b");
        check(&[], "GET /", "404");
    }

    #[test]
    fn methods() {
        let table = ["POST,PUT /a", "GET /{x}", "DELETE /a"];
        check(&table, "POST /a", "0");
        check(&table, "GET /a", "1 x=a"); // a full match later beats a partial one earlier
        check(&table, "DELETE /a", "2");
        check(&table, "PATCH /a", "405 POST, PUT"); // of the first partial match only
        check(&table, "get /a", "405 POST, PUT");
        check(&table, "HEAD /b", "405 GET");
        check(&["* /a", "GET /a"], "ANYTHING /a", "0");
        check(&["POST /a/", "GET /a"], "GET /a/", "405 POST"); // a partial match is not redirected
    }

    #[test]
    fn convertors() {
        check(&["GET /{x:int}"], "GET /0123", "0 x=0123");
        for path in ["/-1", "/+1", "/1_0", "/1.0", "/", "/ 1", "/１", "/1x"] {
            check(&["GET /{x:int}"], &format!("GET {path}"), "404");
        }
        check(&["GET /{x:float}"], "GET /1", "0 x=1");
        check(&["GET /{x:float}"], "GET /1.50", "0 x=1.50");
        for path in ["/1.", "/.5", "/1.2.3", "/1e5", "/nan"] {
            check(&["GET /{x:float}"], &format!("GET {path}"), "404");
        }
        check(&["GET /{x:uuid}"], &format!("GET /{UUID}"), &format!("0 x={UUID}"));
        check(&["GET /{x:uuid}"], "GET /0123abcd4567-89ef0123456789ABCDEF", "0 x=0123abcd4567-89ef0123456789ABCDEF");
        check(&["GET /{x:uuid}"], "GET /0123abcd--4567-89ef-0123-456789ABCDEF", "404");
        check(&["GET /{x:uuid}"], "GET /0123abcd-4567-89ef-0123-456789ABCDE", "404");
        check(&["GET /{x:path}"], "GET /", "0 x=");
        check(&["GET /{x:path}"], "GET /a//b/", "0 x=a//b/");
        check(&["GET /f/{x:path}/raw"], "GET /f/a/raw/raw", "0 x=a/raw");
        check(&["GET /f/{x:path}/raw"], "GET /f//raw", "0 x=");
        check(&["GET /{x}"], "GET /é", "0 x=é");
        check(&["GET /{x}"], "GET /a/b", "404");
    }

    #[test]
    fn every_byte_as_a_segment() {
        for byte in 0..=127u8 {
            let path = format!("/{}", char::from(byte));
            let of = |template: &str| answer(&router(&[&format!("GET {template}")]), "GET", &path);
            let found = |takes: bool| {
                if takes { format!("0 x={}", char::from(byte)) } else { "404".to_owned() }
            };
            assert_eq!(of("/{x:int}"), if byte == b'/' { "404".into() } else { found(byte.is_ascii_digit()) });
            if byte != b'/' {
                assert_eq!(of("/{x}"), found(true));
                assert_eq!(of("/{x:path}"), if byte == b'\n' { "0 x=".to_owned() } else { found(true) });
            }
        }
    }

    #[test]
    fn parameters_share_a_segment() {
        check(&["GET /a{x}b{y}"], "GET /aXbYbZ", "0 x=XbY y=Z"); // the first takes what it can
        check(&["GET /a{x}b{y}"], "GET /ab", "404");
        check(&["GET /{x}.json", "GET /{x}"], "GET /a.json.json", "0 x=a.json");
        check(&["GET /{x}.json", "GET /{x}"], "GET /.json", "1 x=.json");
        check(&["GET /{x}{y}"], "GET /aéß", "0 x=aé y=ß"); // in characters, not in bytes
        check(&["GET /{x:int}{y:int}"], "GET /123", "0 x=12 y=3");
        check(&["GET /{x:float}{y}"], "GET /1.5", "0 x=1 y=.5");
        check(&["GET /{x:float}{y}"], "GET /1.55", "0 x=1.5 y=5");
        check(&["GET /{x:float}.{y:int}"], "GET /1.2.3", "0 x=1.2 y=3");
        check(&["GET /{x:float}.{y:int}"], "GET /1.2", "0 x=1 y=2");
        check(&["GET /{x:uuid}{y}"], &format!("GET /{UUID}-"), &format!("0 x={UUID} y=-"));
        check(&["GET /{x}-{y:uuid}"], &format!("GET /a-{UUID}"), &format!("0 x=a y={UUID}"));
        check(&["GET /{p:path}{x:int}"], "GET /a/12", "0 p=a/1 x=2");
        check(&["GET /{p:path}/{q:path}"], "GET /a/b/c", "0 p=a/b q=c");
    }

    #[test]
    fn a_line_feed_at_the_end() {
        check(&["GET /a"], "GET /a\n", "0");
        check(&["GET /a"], "GET /a\n\n", "404");
        check(&["GET /a/"], "GET /a/\n", "0");
        check(&["GET /a", "GET /a\n"], "GET /a\n", "0");
        check(&["GET /{x}"], "GET /a\n", "0 x=a\n");
        check(&["GET /{x:int}"], "GET /1\n", "0 x=1");
        check(&["GET /{x}/b"], "GET /\n/b\n", "0 x=\n");
        check(&["GET /{x:path}"], "GET /a\n", "0 x=a");
        check(&["GET /{x:path}"], "GET /a\nb", "404");
        check(&["GET /{x:path}{y}"], "GET /a\n", "0 x=a y=\n");
        check(&["* /m mount"], "GET /m/\n", "0 path=");
    }

    #[test]
    fn templates() {
        check(&["GET /a.b+(c)[d]^$|\\*?"], "GET /a.b+(c)[d]^$|\\*?", "0");
        check(&["GET /a.b"], "GET /axb", "404");
        for literal in ["/{", "/}", "/{}", "/{1x}", "/{x:}", "/{x-y}", "/{é}", "/{x:1}", "/{x:a:b}"] {
            check(&[&format!("GET {literal}")], &format!("GET {literal}"), "0");
            check(&[&format!("GET {literal}")], "GET /other", "404");
        }
        check(&["GET /{{x}}"], "GET /{a}", "0 x=a");
        check(&["GET /{x{y}"], "GET /{xa", "0 y=a");
        check(&["GET /{x:str}"], "GET /a", "0 x=a");
        check(&["GET "], "GET ", "0");
        check(&["GET /"], "GET ", "307 /");
        let twice = RouteSpec { template: "/{x}/{x}".into(), methods: vec![], kind: RouteKind::Route };
        let error = Router::new(vec![twice], true).expect_err("a name stands twice");
        assert_eq!(error.to_string(), "/{x}/{x} has two parameters named x, names must differ");
    }

    #[test]
    fn slashes() {
        check(&["GET /a"], "GET /a/", "307 /a");
        check(&["GET /a"], "GET /a///", "307 /a");
        check(&["GET /a/"], "GET /a", "307 /a/");
        check(&["POST /a/"], "GET /a", "307 /a/"); // the method does not count
        check(&["GET /a/", "GET /a"], "GET /a", "1");
        check(&["GET /{x}/"], "GET /a", "307 /a/");
        check(&["GET /a"], "GET //a", "404");
        check(&["GET "], "GET /", "404"); // the root is never redirected
        check(&["GET "], "GET //", "307 ");
        let spec = RouteSpec { template: "/a".into(), methods: vec![], kind: RouteKind::Route };
        let strict = Router::new(vec![spec], false).expect("the table is good");
        assert_eq!(answer(&strict, "GET", "/a/"), "404");
    }

    #[test]
    fn mounts() {
        check(&["* /m mount"], "GET /m", "307 /m/");
        check(&["* /m mount"], "GET /m/", "0 path=");
        check(&["* /m/ mount"], "GET /m/a/b", "0 path=a/b");
        check(&["* /m mount"], "GET /mm/a", "404");
        check(&["*  mount"], "GET /any/thing", "0 path=any/thing");
        check(&["* /{v}/m mount"], "GET /1/m/a", "0 v=1 path=a");
        check(&["* /m mount", "GET /m/a"], "GET /m/a", "0 path=a");
        check(&["GET /m/a", "* /m mount"], "POST /m/a", "1 path=a"); // any method: full, so it beats the partial
        check(&["GET /m/a", "GET /m/ mount"], "POST /m/a", "1 path=a");
    }

    #[test]
    fn opaque_routes_keep_their_place() {
        check(&["GET /a", "*  opaque"], "GET /a", "0");
        check(&["GET /a", "*  opaque"], "POST /a", "ask");
        check(&["GET /a", "*  opaque"], "GET /b", "ask");
        check(&["*  opaque", "GET /a"], "GET /a", "ask");
        check(&["GET /d/{x:date}", "GET /d/{y}", "GET /e"], "GET /d/1", "ask");
        check(&["GET /d/{x:date}", "GET /d/{y}", "GET /e"], "GET /e", "2");
        check(&["GET /d/{x:date}", "GET /d/{y}", "GET /e"], "POST /e", "405 GET");
        check(&["GET /d/{x:date}", "GET /d/{y}", "GET /e"], "GET /d", "ask"); // whether to redirect
        check(&["GET /e/", "GET /e{x:date}"], "GET /e", "ask");
        check(&["GET /e/{x:int}/", "GET /e/{x:date}"], "GET /e", "ask");
        check(&["GET a", "GET /a"], "GET /a", "1");
        check(&["GET a", "GET /a"], "GET A", "ask");
        check(&["GET /a"], "OPTIONS *", "404");
        check(&["GET {p:path}", "GET /a"], "GET /a", "ask");
        let table = router(&["GET /{x:date}", "GET a", "* b.example opaque", "GET /a"]);
        let reasons =
            [Some(Opaque::Convertor("date".into())), Some(Opaque::NoLeadingSlash), Some(Opaque::Declared), None];
        for (index, reason) in reasons.iter().enumerate() {
            assert_eq!(table.opaque(RouteId(index as u32)), reason.as_ref());
        }
    }

    #[test]
    fn an_int_that_python_may_refuse() {
        let (short, long) = ("1".repeat(640), "1".repeat(641));
        check(&["GET /{x:int}"], &format!("GET /{short}"), &format!("0 x={short}"));
        check(&["GET /{x:int}"], &format!("GET /{long}"), "ask");
        check(&["POST /{x:int}", "GET /{x}"], &format!("GET /{long}"), "ask"); // it raises before the method is looked at
        check(&["GET /{x}", "GET /{x:int}"], &format!("GET /{long}"), &format!("0 x={long}"));
        check(&["GET /{x:int}/"], &format!("GET /{long}"), "ask");
        check(&["GET /{x:float}"], &format!("GET /{long}"), &format!("0 x={long}"));
    }

    /// Python's backtracking would not come back from this one.
    #[test]
    fn time_is_linear_in_the_path() {
        let table = router(&["GET /{a:path}/{b:path}/{c:path}/{d:path}/{e:path}/end"]);
        assert_eq!(answer(&table, "GET", &"/a".repeat(8_000)), "404");
        let table = router(&["GET /{a}{b}{c}{d}{e}-"]);
        assert_eq!(answer(&table, "GET", &format!("/{}", "a".repeat(16_000))), "404");
    }

    /// The slow matcher: every way in the order in which a backtracking regular expression tries them.
    fn slow(parts: &[Part], text: &str, at: usize, spans: &mut Vec<Range<usize>>) -> bool {
        let Some((part, rest)) = parts.split_first() else {
            return matches!(&text[at..], "" | "\n");
        };
        let convertor = match part {
            Part::Literal(literal) => {
                return text[at..].starts_with(&**literal) && slow(rest, text, at + literal.len(), spans);
            }
            Part::Parameter(convertor) => *convertor,
            Part::Anything => return true,
        };
        (at..=text.len()).rev().filter(|&end| text.is_char_boundary(end)).any(|end| {
            spans.push(at..end);
            let found = accepts(convertor, &text[at..end]) && slow(rest, text, end, spans);
            if !found {
                spans.pop();
            }
            found
        })
    }

    fn accepts(convertor: Convertor, text: &str) -> bool {
        let is_int = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_digit());
        match convertor {
            Convertor::Str => !text.is_empty() && !text.contains('/'),
            Convertor::Path => !text.contains('\n'),
            Convertor::Int => is_int(text),
            Convertor::Float => text.split_once('.').map_or(is_int(text), |(a, b)| is_int(a) && is_int(b)),
            Convertor::Uuid => {
                let places = [8, 12, 16, 20];
                let mut digits = 0;
                let mut last = ' ';
                text.chars().all(|c| {
                    let fits = c.is_ascii_hexdigit() || c == '-' && last != '-' && places.contains(&digits);
                    digits += usize::from(c != '-');
                    last = c;
                    fits
                }) && digits == 32
                    && last != '-'
            }
        }
    }

    /// The slow router: every route in order.
    fn slow_answer(router: &Router, specs: &[RouteSpec], method: &str, path: &str) -> String {
        let mut partial = None;
        let parts_of = |spec: &RouteSpec| Template::compile(spec).expect("the table is good").parts;
        for (index, spec) in specs.iter().enumerate() {
            let mut spans = Vec::new();
            if !slow(&parts_of(spec), path, 0, &mut spans) {
                continue;
            }
            if spec.kind == RouteKind::Opaque {
                return "ask".to_owned();
            }
            if spec.kind == RouteKind::Prefix || spec.methods.is_empty() || spec.methods.iter().any(|m| m == method) {
                let names = router.parameters(RouteId(index as u32)).iter();
                let texts = names.zip(spans).map(|(name, span)| format!(" {}={}", name.name, &path[span]));
                return index.to_string() + &texts.collect::<String>();
            }
            partial = partial.or(Some(spec));
        }
        if let Some(spec) = partial {
            return format!("405 {}", spec.methods.join(", "));
        }
        let other = if path.ends_with('/') { path.trim_end_matches('/').to_owned() } else { format!("{path}/") };
        for spec in specs.iter().filter(|_| path != "/") {
            if slow(&parts_of(spec), &other, 0, &mut Vec::new()) {
                return if spec.kind == RouteKind::Opaque { "ask".to_owned() } else { format!("307 {other}") };
            }
        }
        "404".to_owned()
    }

    fn template() -> impl Strategy<Value = String> {
        let piece = prop_oneof![
            6 => prop::sample::select(vec!["/", "/", "/", "a", "b", "ab", "1", "0.5", ".", "-", "é", "\n", "{"]).prop_map(str::to_owned),
            5 => prop::sample::select(vec!["", "", ":str", ":int", ":float", ":path", ":uuid"]).prop_map(|kind| format!("{{NAME{kind}}}")),
        ];
        prop::collection::vec(piece, 0..7).prop_map(|pieces| {
            let numbered = pieces.iter().enumerate().map(|(at, piece)| piece.replace("NAME", &format!("p{at}")));
            "/".to_owned() + &numbered.collect::<String>()
        })
    }

    fn spec() -> impl Strategy<Value = RouteSpec> {
        let methods = prop::sample::select(vec![vec![], vec!["GET"], vec!["GET", "HEAD"], vec!["POST"]]);
        let kind = prop::sample::select(vec![RouteKind::Route; 6]).prop_union(prop::sample::select(vec![
            RouteKind::Route,
            RouteKind::Prefix,
            RouteKind::Opaque,
        ]));
        (template(), methods, kind).prop_map(|(template, methods, kind)| RouteSpec {
            template,
            methods: methods.into_iter().map(str::to_owned).collect(),
            kind,
        })
    }

    fn path() -> impl Strategy<Value = String> {
        let pieces = vec!["/", "/", "/", "/", "a", "b", "ab", "1", "22", "0.5", ".", "-", "é", "\n", "{", UUID];
        prop::collection::vec(prop::sample::select(pieces), 0..9).prop_map(|pieces| "/".to_owned() + &pieces.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn agrees_with_the_slow_router(
            specs in prop::collection::vec(spec(), 0..9),
            paths in prop::collection::vec(path(), 1..20),
        ) {
            let table = Router::new(specs.clone(), true).expect("names differ");
            for path in paths {
                prop_assert_eq!(
                    answer(&table, "GET", &path), slow_answer(&table, &specs, "GET", &path), "{:?} {:?}", specs, path
                );
            }
        }
    }
}
