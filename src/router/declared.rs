//! Routes as the application declares them, what may stand in their templates, and what is wrong with one. Nothing is matched here.

use std::fmt;

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
