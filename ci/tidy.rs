//! The house's own rules, those that no other linter has: how long is long and what needs a reason here, which module may import
//! which in tidy_order.rs. README.md lists them; `ci/long.txt` is the list of what may be long.
//!
//! Text in, findings out. It reads words, not types: strings and comments are told from code, and tests are exempt from the order.
//! No layout here (ci/fmt) and nothing that clippy or ruff know (ci/lint).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;

mod tidy_order;
mod tidy_source;
#[cfg(test)]
mod tidy_tests;

use tidy_source::{Language, Source, language};

const ROOTS: [&str; 5] = ["src", "platform", "python", "benches", "ci"];
const LONG_LIST: &str = "ci/long.txt";
const FILE_LINES_MAX: usize = 500;
const FUNCTION_LINES_MAX: usize = 70;
const EMPTY_NAMES: [&str; 6] = ["utils", "util", "common", "manager", "misc", "helpers"];
/// Where a crate may not be named, though Cargo would let it: folder, crates.
const FOREIGN: [(&str, &[&str]); 4] = [
    ("platform/", &["turboapi_core", "pyo3"]),
    ("src/", &["pyo3", "libc"]),
    ("benches/", &["pyo3"]),
    ("ci/", &["pyo3"]),
];

/// Path in the repository to text.
type Tree = BTreeMap<String, String>;

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Finding {
    path: String,
    line: usize,
    rule: &'static str,
    advice: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}:{}: {}: {}", self.path, self.line, self.rule, self.advice)
    }
}

fn main() {
    let mut tree = Tree::new();
    for root in ROOTS {
        read(Path::new(root), &mut tree);
    }
    if tree.is_empty() {
        println!("nothing of {ROOTS:?} is here: run it in the repository's folder, as ci/tidy does");
        std::process::exit(1);
    }
    let findings = check(&tree);
    for finding in &findings {
        println!("{finding}");
    }
    if !findings.is_empty() {
        println!("{} findings; ci/README.md has the rules", findings.len());
        std::process::exit(1);
    }
}

fn read(path: &Path, tree: &mut Tree) {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    if name.starts_with('.') || ["target", "__pycache__", "corpus", "cases"].contains(&name.as_ref()) {
        return;
    }
    if path.is_dir() {
        let Ok(entries) = std::fs::read_dir(path) else { return };
        entries.flatten().for_each(|entry| read(&entry.path(), tree));
    } else if let Ok(text) = std::fs::read_to_string(path) {
        tree.insert(path.to_string_lossy().into_owned(), text);
    }
}

fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Findings::default();
    let sources: BTreeMap<&str, Source<'_>> = tree
        .iter()
        .filter(|(path, text)| language(path, text) != Language::Other)
        .map(|(path, text)| (path.as_str(), Source::new(path, text)))
        .collect();
    tidy_order::check(tree, &sources, &mut findings);
    check_sizes(tree, &sources, &mut findings);
    for source in sources.values() {
        check_words(source, &mut findings);
        check_unsafe(source, &mut findings);
        check_crates(source, &mut findings);
    }
    if let Some(source) = sources.get("src/limits.rs") {
        check_limits(source, &mut findings);
    }
    findings.0.sort();
    findings.0.dedup();
    findings.0
}

#[derive(Default)]
struct Findings(Vec<Finding>);

impl Findings {
    fn add(&mut self, path: &str, line: usize, rule: &'static str, advice: impl Into<String>) {
        self.0.push(Finding { path: path.to_owned(), line, rule, advice: advice.into() });
    }
}

// Sizes.

fn check_sizes(tree: &Tree, sources: &BTreeMap<&str, Source<'_>>, findings: &mut Findings) {
    let list = tree.get(LONG_LIST).map_or("", String::as_str);
    let mut allowed = BTreeMap::new();
    for (index, line) in list.lines().enumerate().filter(|(_, line)| !line.is_empty() && !line.starts_with('#')) {
        match line.split_once(": ") {
            Some((name, reason)) if reason.split_whitespace().count() > 2 => drop(allowed.insert(name, index + 1)),
            _ => findings.add(
                LONG_LIST,
                index + 1,
                "size",
                "wants `path: reason` or `path function: reason`, the reason in words",
            ),
        }
    }
    let mut needed = BTreeSet::new();
    for source in sources.values().filter(|source| !source.is_test) {
        let lines = source.text.lines().count();
        if lines > FILE_LINES_MAX {
            needed.insert(source.path.to_owned());
            if !allowed.contains_key(source.path) {
                let advice =
                    format!("has {lines} lines, over {FILE_LINES_MAX}: part it by noun, or give {LONG_LIST} a reason");
                findings.add(source.path, 1, "size", advice);
            }
        }
        for (line, name, length) in source.functions() {
            if length > FUNCTION_LINES_MAX {
                let entry = format!("{} {name}", source.path);
                if !allowed.contains_key(entry.as_str()) {
                    let advice = format!(
                        "{name} has {length} lines, over {FUNCTION_LINES_MAX}: part it, or give {LONG_LIST} a reason"
                    );
                    findings.add(source.path, line, "size", advice);
                }
                needed.insert(entry);
            }
        }
    }
    for (name, line) in allowed.into_iter().filter(|(name, _)| !needed.contains(*name)) {
        findings.add(LONG_LIST, line, "size", format!("{name} is not long any more: take it off the list"));
    }
}

// What needs a reason.

fn check_words(source: &Source<'_>, findings: &mut Findings) {
    for part in source.path.split('/') {
        let stem = part.split('.').next().unwrap_or_default();
        if EMPTY_NAMES.contains(&stem) {
            findings.add(
                source.path,
                1,
                "name",
                format!("`{stem}` says nothing: put each helper beside its caller, or name its noun"),
            );
        }
    }
    for (index, line) in source.comments.lines().enumerate() {
        let mut words = line.split(|c: char| !c.is_alphanumeric());
        let has_number = line.split('#').skip(1).any(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
            || line.split("issue ").skip(1).any(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
        if words.any(|word| ["TODO", "FIXME", "XXX"].contains(&word)) && !has_number {
            findings.add(source.path, index + 1, "marker", "has no issue: do it, delete it, or name the issue (`#12`)");
        }
    }
}

fn check_unsafe(source: &Source<'_>, findings: &mut Findings) {
    if source.language != Language::Rust {
        return;
    }
    let lines: Vec<&str> = source.text.lines().collect();
    let places: Vec<_> = source.tokens.iter().enumerate().filter(|(_, token)| token.text == "unsafe").collect();
    let Some((_, first)) = places.first() else { return };
    // benches/fixed is a yardstick: a server of one answer straight on the kernel.
    if !(source.path.starts_with("platform/")
        || source.path.starts_with("python/src/")
        || source.path.starts_with("benches/fixed/")
        || source.is_test)
    {
        findings.add(
            source.path,
            first.line,
            "unsafe",
            "unsafe code is for platform/ and python/src/: put it behind a safe type there",
        );
    }
    let declared =
        source.tokens.windows(3).any(|three| three.iter().map(|token| token.text).eq(["expect", "(", "unsafe_code"]));
    if !declared && !source.is_test {
        let advice = "a file with unsafe code says so at its top: #![expect(unsafe_code, reason = \"…\")]";
        findings.add(source.path, first.line, "unsafe", advice);
    }
    for (index, token) in places {
        // `unsafe fn(…)` is a type, `unsafe(no_mangle)` an attribute; the call or the item is what needs a reason.
        let next: Vec<&str> = source.tokens[index + 1..].iter().take(4).map(|token| token.text).collect();
        if next.first() == Some(&"(") || next.windows(2).any(|pair| pair == ["fn", "("]) {
            continue;
        }
        if !has_safety(&lines, token.line - 1) {
            findings.add(
                source.path,
                token.line,
                "unsafe",
                "has no `SAFETY:` above it: say which invariant makes it sound",
            );
        }
    }
}

/// Whether a comment on the statement's own lines or above them says `SAFETY:`, or `# Safety` for an item. One may speak for a row.
fn has_safety(lines: &[&str], at: usize) -> bool {
    let says = |line: &str| line.contains("SAFETY:") || line.contains("# Safety");
    if says(lines[at]) || lines.get(at + 1).is_some_and(|next| next.trim_start().starts_with("// SAFETY:")) {
        return true;
    }
    let mut comment_seen = false;
    for line in lines[..at].iter().rev() {
        let line = line.trim();
        if line.starts_with("//") {
            if says(line) {
                return true;
            }
            comment_seen = true;
        } else if comment_seen || line.is_empty() || (line.ends_with([';', '{', '}']) && !line.contains("unsafe")) {
            return false;
        }
    }
    false
}

fn check_crates(source: &Source<'_>, findings: &mut Findings) {
    for (folder, crates) in FOREIGN {
        if !source.path.starts_with(folder) {
            continue;
        }
        for pair in source.tokens.windows(2) {
            if crates.contains(&pair[0].text) && pair[1].text == "::" {
                findings.add(source.path, pair[0].line, "crate", format!("{folder} may not know {}", pair[0].text));
            }
        }
    }
}

/// A limit's comment says what it counts, then why that number: two sentences at least.
fn check_limits(source: &Source<'_>, findings: &mut Findings) {
    let lines: Vec<&str> = source.text.lines().collect();
    let mut are_found = false;
    for (index, code) in source.code.lines().enumerate() {
        let code = code.trim();
        let is_row = code.contains(" from ") && code.contains(" to ") && code.contains(": ") && !code.starts_with('$');
        if !(is_row && !code.contains('$') || code.starts_with("pub const ")) {
            continue;
        }
        are_found = true;
        let above = lines[..index].iter().rev().map(|line| line.trim()).take_while(|line| line.starts_with("///"));
        let mut reason: Vec<&str> = above.map(|line| line.trim_start_matches('/').trim()).collect();
        reason.reverse();
        let reason = reason.join(" ");
        if reason.split_whitespace().count() < 6 || !reason.trim_end_matches('.').contains(['.', ';', ':', ',']) {
            let name = code.trim_start_matches("pub const ").split(':').next().unwrap_or_default();
            findings.add(
                source.path,
                index + 1,
                "limit",
                format!("{name} has no reason: say what it counts, and why that number"),
            );
        }
    }
    if !are_found && source.code.contains("struct Limits") {
        findings.add(
            source.path,
            1,
            "limit",
            "no row `name: type = default, from …, to …` is found: teach ci/tidy.rs the new form",
        );
    }
}
