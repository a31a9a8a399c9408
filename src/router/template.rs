//! Starlette's templates, read: `/users/{id:int}` into parts and named parameters. Once for each route, at start.

use super::declared::{Convertor, Opaque, Parameter, RouteError, RouteKind, RouteSpec};
use super::shape::Part;

/// A template, read.
pub(super) struct Template {
    /// Empty for one that matches the empty path, and for one that matches no path that begins with a slash.
    pub(super) parts: Vec<Part>,
    pub(super) parameters: Vec<Parameter>,
    /// Why the route is left to the application, if it is.
    pub(super) opaque: Option<Opaque>,
}

impl Template {
    pub(super) fn compile(spec: &RouteSpec) -> Result<Template, RouteError> {
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
