//! What ci/tidy reads: a file's code and comments apart, and in the code which modules are named, and how long functions are.
//! It knows words and brackets of Rust and Python, no types. What is asked of them is in tidy.rs.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Mod,
    PublicUse,
    Path,
}

/// One name of another module in code.
#[derive(Debug)]
pub(super) struct Use {
    pub(super) line: usize,
    pub(super) kind: Kind,
    pub(super) path: Vec<String>,
    /// The name under which it is known here.
    pub(super) name: String,
    /// Inline modules around it.
    pub(super) within: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Language {
    Rust,
    Python,
    Shell,
    Other,
}

pub(super) fn language(path: &str, text: &str) -> Language {
    match path.rsplit_once('/').map_or(path, |(_, name)| name).rsplit_once('.') {
        Some((_, "rs")) => Language::Rust,
        Some((_, "py")) => Language::Python,
        Some((_, "sh")) => Language::Shell,
        Some(_) => Language::Other,
        None if text.starts_with("#!") && text.lines().next().is_some_and(|line| line.contains("python")) => {
            Language::Python
        }
        None if text.starts_with("#!") => Language::Shell,
        None => Language::Other,
    }
}

pub(super) struct Token<'a> {
    pub(super) text: &'a str,
    pub(super) line: usize,
}

/// One file, its comments and its code apart; both keep their lines.
pub(super) struct Source<'a> {
    pub(super) path: &'a str,
    pub(super) text: &'a str,
    pub(super) language: Language,
    pub(super) is_test: bool,
    pub(super) code: String,
    pub(super) comments: String,
    pub(super) tokens: Vec<Token<'a>>,
}

impl<'a> Source<'a> {
    pub(super) fn new(path: &'a str, text: &'a str) -> Self {
        let language = language(path, text);
        let (code, comments) = match language {
            Language::Rust => apart(text, language),
            Language::Python => apart(text, language),
            _ => (
                String::new(),
                text.lines().map(|line| format!("{}\n", line.find('#').map_or("", |at| &line[at..]))).collect(),
            ),
        };
        let name = path.rsplit('/').next().unwrap_or_default();
        let is_test = path.split('/').any(|part| part == "tests")
            || name.starts_with("test_")
            || ["tests.rs", "tidy_tests.rs", "conftest.py"].contains(&name);
        let mut source = Self { path, text, language, is_test, code, comments, tokens: Vec::new() };
        if language == Language::Rust {
            source.tokens = without_tests(tokens(text, &source.code));
        }
        source
    }

    /// What this file, by its name in its crate or package, imports.
    pub(super) fn uses(&self, file: &str) -> Vec<Use> {
        if self.language == Language::Python { python_imports(file, self) } else { self.rust_uses() }
    }

    /// `mod`, `use` and paths that begin with `crate`, `self` or `super`.
    fn rust_uses(&self) -> Vec<Use> {
        let mut found = Vec::new();
        let mut within: Vec<(String, usize)> = Vec::new();
        let mut depth = 0;
        let mut at = 0;
        while let Some(token) = self.tokens.get(at) {
            let text = |ahead: usize| self.tokens.get(at + ahead).map_or("", |token| token.text);
            let path_within = || within.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
            match token.text {
                "{" => depth += 1,
                "}" => {
                    depth -= 1;
                    within.pop_if(|(_, opened)| *opened == depth);
                }
                "mod" if text(2) == "{" => within.push((text(1).to_owned(), depth)),
                "mod" if text(2) == ";" => {
                    let path = vec!["self".to_owned(), text(1).to_owned()];
                    let name = text(1).to_owned();
                    found.push(Use { line: token.line, kind: Kind::Mod, path, name, within: path_within() });
                }
                // Not `impl Trait + use<'a>`.
                "use" if text(1) != "<" => {
                    // `pub(crate)` has three tokens more.
                    let before = |back: usize| at.checked_sub(back).map_or("", |at| self.tokens[at].text);
                    let is_public = before(1) == "pub" || (before(1) == ")" && before(4) == "pub");
                    let kind = if is_public { Kind::PublicUse } else { Kind::Path };
                    let mut names = Vec::new();
                    at = self.use_tree(at + 1, &mut Vec::new(), &mut names);
                    found.extend(names.into_iter().map(|(line, path, name)| Use {
                        line,
                        kind,
                        path,
                        name,
                        within: path_within(),
                    }));
                }
                "crate" | "super" | "self" if text(1) == "::" && (at == 0 || self.tokens[at - 1].text != "::") => {
                    let mut path = vec![token.text.to_owned()];
                    while text(path.len() * 2 - 1) == "::" && is_name(text(path.len() * 2)) {
                        path.push(text(path.len() * 2).to_owned());
                    }
                    at += path.len() * 2 - 2;
                    let name = String::new();
                    found.push(Use { line: token.line, kind: Kind::Path, path, name, within: path_within() });
                }
                _ => {}
            }
            at += 1;
        }
        found
    }

    /// Reads one tree of a `use`; returns the index of the token behind it.
    fn use_tree(&self, mut at: usize, path: &mut Vec<String>, found: &mut Vec<(usize, Vec<String>, String)>) -> usize {
        let length = path.len();
        let mut name = None;
        let line = self.tokens.get(at).map_or(0, |token| token.line);
        while let Some(token) = self.tokens.get(at) {
            match token.text {
                "{" => {
                    at += 1;
                    while self.tokens.get(at).is_some_and(|token| !["}", ";"].contains(&token.text)) {
                        at = self.use_tree(at, path, found);
                        at += usize::from(self.tokens.get(at).is_some_and(|token| token.text == ","));
                    }
                    path.truncate(length);
                    return at + 1;
                }
                "," | "}" | ";" => break,
                "as" => {
                    name = self.tokens.get(at + 1).map(|token| token.text.to_owned());
                    at += 1;
                }
                "::" | "*" => {}
                part => path.push(part.to_owned()),
            }
            at += 1;
        }
        let name = name.or_else(|| path.last().cloned()).unwrap_or_default();
        found.push((line, path.clone(), name));
        path.truncate(length);
        at
    }

    /// Each function's first line, name and number of lines.
    pub(super) fn functions(&self) -> Vec<(usize, String, usize)> {
        if self.language == Language::Python {
            return self.python_functions();
        }
        let mut found = Vec::new();
        for (at, pair) in self.tokens.windows(2).enumerate() {
            if pair[0].text == "fn" && is_name(pair[1].text) {
                let end = end_of_item(&self.tokens, at);
                let last = self.tokens.get(end).map_or(pair[0].line, |token| token.line);
                found.push((pair[0].line, pair[1].text.to_owned(), last + 1 - pair[0].line));
            }
        }
        found
    }

    fn python_functions(&self) -> Vec<(usize, String, usize)> {
        let lines: Vec<&str> = self.code.lines().collect();
        let indent = |line: &str| line.len() - line.trim_start().len();
        let mut found = Vec::new();
        for (at, line) in lines.iter().enumerate() {
            let start = line.trim_start();
            let Some(rest) = start.strip_prefix("async def ").or_else(|| start.strip_prefix("def ")) else { continue };
            let mut last = at;
            for (index, next) in lines.iter().enumerate().skip(at + 1).filter(|(_, next)| !next.trim().is_empty()) {
                if indent(next) <= indent(line) && !next.trim_start().starts_with(')') {
                    break;
                }
                last = index;
            }
            found.push((at + 1, rest.split('(').next().unwrap_or_default().to_owned(), last + 1 - at));
        }
        found
    }
}

fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

/// Code with comments and strings blanked, and comments with all else blanked.
fn apart(text: &str, language: Language) -> (String, String) {
    let (mut code, mut comments) = (String::with_capacity(text.len()), String::with_capacity(text.len()));
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let (length, is_comment) = match language {
            Language::Rust => rust_piece(rest, code.as_bytes().last().copied()),
            _ => python_piece(rest),
        };
        let (piece, is_code) = if length == 0 { (&rest[..first.len_utf8()], true) } else { (&rest[..length], false) };
        // Of as many octets, so that places are the same in all three.
        let blank = || piece.bytes().map(|octet| if octet == b'\n' { '\n' } else { ' ' });
        if is_code {
            code.push_str(piece)
        } else {
            code.extend(blank())
        }
        if is_comment {
            comments.push_str(piece)
        } else {
            comments.extend(blank())
        }
        rest = &rest[piece.len()..];
    }
    (code, comments)
}

/// The length of the comment or string that the text begins with, or 0, and whether it is a comment.
fn rust_piece(text: &str, before: Option<u8>) -> (usize, bool) {
    let octets = text.as_bytes();
    if text.starts_with("//") {
        return (text.find('\n').unwrap_or(text.len()), true);
    }
    if text.starts_with("/*") {
        return (text.find("*/").map_or(text.len(), |end| end + 2), true);
    }
    if octets[0] == b'"' {
        return (quoted(text, "\""), false);
    }
    if octets[0] == b'r'
        && !before.is_some_and(|octet| octet.is_ascii_alphanumeric() && octet != b'b' && octet != b'c' || octet == b'_')
    {
        let marks = octets[1..].iter().take_while(|octet| **octet == b'#').count();
        if octets.get(1 + marks) == Some(&b'"') {
            let end = format!("\"{}", "#".repeat(marks));
            return (text[2 + marks..].find(&end).map_or(text.len(), |at| 2 + marks + at + end.len()), false);
        }
    }
    if octets[0] == b'\'' {
        // A character, not a lifetime.
        let mut characters = text[1..].chars();
        let first = characters.next();
        if first == Some('\\') || characters.next() == Some('\'') {
            return (quoted(text, "'"), false);
        }
    }
    (0, false)
}

fn python_piece(text: &str) -> (usize, bool) {
    if text.starts_with('#') {
        return (text.find('\n').unwrap_or(text.len()), true);
    }
    let quote = ["\"\"\"", "'''", "\"", "'"].into_iter().find(|quote| text.starts_with(quote));
    (quote.map_or(0, |quote| quoted(text, quote)), false)
}

/// The length of the string that the text begins with, quotes and all.
fn quoted(text: &str, quote: &str) -> usize {
    let mut at = quote.len();
    while at < text.len() {
        if text.as_bytes()[at] == b'\\' {
            at += 1;
        } else if text.as_bytes()[at..].starts_with(quote.as_bytes()) {
            return at + quote.len();
        }
        at += 1;
    }
    text.len()
}

/// Names, `::` and single marks.
fn tokens<'a>(text: &'a str, code: &str) -> Vec<Token<'a>> {
    let mut found = Vec::new();
    let mut line = 1;
    let mut at = 0;
    while let Some(first) = code[at..].chars().next() {
        let length = if first.is_alphanumeric() || first == '_' {
            code[at..].find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(code.len() - at)
        } else if code[at..].starts_with("::") {
            2
        } else {
            first.len_utf8()
        };
        line += usize::from(first == '\n');
        if !first.is_whitespace() {
            found.push(Token { text: &text[at..at + length], line });
        }
        at += length;
    }
    found
}

/// Drops what is compiled for tests only.
fn without_tests(mut tokens: Vec<Token<'_>>) -> Vec<Token<'_>> {
    let mut at = 0;
    while at < tokens.len() {
        let is_attribute = tokens[at].text == "#" && tokens.get(at + 1).is_some_and(|token| token.text == "[");
        if !is_attribute {
            at += 1;
            continue;
        }
        let end = closing(&tokens, at + 1);
        let words: Vec<&str> = tokens[at..end].iter().map(|token| token.text).collect();
        if words.get(2) == Some(&"cfg") && words.contains(&"test") && !words.contains(&"not") && !words.contains(&"any")
        {
            let mut item = end + 1;
            while tokens.get(item).is_some_and(|token| token.text == "#") {
                item = closing(&tokens, item + 1) + 1;
            }
            let last = end_of_item(&tokens, item).min(tokens.len() - 1);
            tokens.drain(at..=last);
        } else {
            at = end + 1;
        }
    }
    tokens
}

/// The index of the mark that closes the one at `at`.
fn closing(tokens: &[Token<'_>], at: usize) -> usize {
    let mut depth = 0_usize;
    for (index, token) in tokens.iter().enumerate().skip(at) {
        match token.text {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth = depth.saturating_sub(1),
            _ => continue,
        }
        if depth == 0 {
            return index;
        }
    }
    tokens.len()
}

/// The index of the last token of the item that begins at `at`: its `;`, or the brace that closes it.
fn end_of_item(tokens: &[Token<'_>], mut at: usize) -> usize {
    while let Some(token) = tokens.get(at) {
        match token.text {
            ";" => return at,
            "{" => return closing(tokens, at),
            "(" | "[" => at = closing(tokens, at),
            _ => {}
        }
        at += 1;
    }
    at
}

fn python_imports(file: &str, source: &Source<'_>) -> Vec<Use> {
    let mut found = Vec::new();
    let mut package: Vec<String> = file.split('/').map(str::to_owned).collect();
    package.pop();
    let mut add = |line: usize, path: Vec<String>| {
        found.push(Use { line, kind: Kind::Path, name: String::new(), path, within: Vec::new() });
    };
    for (index, line) in source.code.lines().enumerate() {
        let number = index + 1;
        let words: Vec<&str> = line.split([' ', ',', '(', ')', '\t', ';']).filter(|word| !word.is_empty()).collect();
        match words.first() {
            Some(&"from") if words.len() > 2 => {
                let Some(base) = python_module(words[1], &package) else { continue };
                // Names in parentheses may go on over lines.
                let mut text = line.split_once(" import ").map_or("", |(_, names)| names).to_owned();
                if text.contains('(') && !text.contains(')') {
                    for next in source.code.lines().skip(number) {
                        text.extend([" ", next]);
                        if next.contains(')') {
                            break;
                        }
                    }
                }
                for name in text.replace(['(', ')'], " ").split(',').filter_map(|name| name.split_whitespace().next()) {
                    add(number, [base.as_slice(), &[name.to_owned()]].concat());
                }
            }
            Some(&"import") => {
                words[1..].iter().filter_map(|name| python_module(name, &package)).for_each(|path| add(number, path))
            }
            _ => {}
        }
        if line.contains("import_module(")
            && let Some(name) = source
                .text
                .lines()
                .nth(index)
                .and_then(|raw| raw.split("import_module(").nth(1)?.split(['"', '\'']).nth(1))
            && let Some(path) = python_module(name, &package)
        {
            add(number, path);
        }
    }
    // The extension has no file here.
    found.retain(|found| found.path.first().is_none_or(|name| name != "_core"));
    found
}

fn python_module(name: &str, package: &[String]) -> Option<Vec<String>> {
    let dots = name.len() - name.trim_start_matches('.').len();
    let rest = if dots == 0 {
        if name != "turboapi" && !name.starts_with("turboapi.") {
            return None;
        }
        name["turboapi".len()..].trim_start_matches('.')
    } else {
        &name[dots..]
    };
    let base = if dots == 0 { &[] } else { &package[..package.len().checked_sub(dots - 1)?] };
    Some(base.iter().cloned().chain(rest.split('.').filter(|part| !part.is_empty()).map(str::to_owned)).collect())
}
