//! The Host header as Starlette takes it apart (`starlette/_utils.py`), where it is a plain name: addresses in brackets are not here.

/// A name, and perhaps a port, of a Host header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Host<'a> {
    /// All of it: `authority` of Starlette's `ParsedHost`.
    pub(super) authority: &'a str,
    /// The name, as it was spelt.
    pub(super) name: &'a str,
    /// The port, if there is one.
    pub(super) port: Option<u32>,
}

/// None for what is not `name` or `name:digits`: empty ports, brackets, escapes, more than there may be.
pub(super) fn parse(value: &[u8]) -> Option<Host<'_>> {
    let authority = std::str::from_utf8(value).ok()?;
    let (name, port) = match authority.split_once(':') {
        None => (authority, None),
        Some((name, digits)) => {
            let is_port = (1..=5).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit());
            let port = digits.parse().ok().filter(|&port: &u32| is_port && port <= 65_535)?;
            (name, Some(port))
        }
    };
    // Starlette also has `%`, behind which `SplitResult.hostname` keeps its case. Nobody sends it.
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"._~!$&'()*+,;=-".contains(&byte);
    (!name.is_empty() && name.bytes().all(is_name)).then_some(Host { authority, name, port })
}
