//! The order of modules, for ci/tidy: the READMEs' maps, who imports whom, and what of that points up or goes in a circle.
//! README.md beside this file has the format of a map. Which names a file imports is read in tidy_source.rs.

use std::collections::{BTreeMap, BTreeSet};

use super::tidy_source::{Kind, Source, Use};
use super::{Findings, Tree};

/// Folder whose files have an order, the file that has its map, and a word of the heading over the map.
const MAPS: [(&str, &str, &str); 5] = [
    ("src", "src/README.md", "map"),
    ("platform/src", "platform/README.md", "map"),
    ("python/src", "python/README.md", "python/src"),
    ("python/turboapi", "python/README.md", "python/turboapi"),
    ("ci/simulation/src", "ci/README.md", "ci/simulation"),
];

/// Checks each folder that has a map.
pub(super) fn check(tree: &Tree, sources: &BTreeMap<&str, Source<'_>>, findings: &mut Findings) {
    for (folder, readme, heading) in MAPS {
        check_map(folder, readme, heading, tree, sources, findings);
    }
}

/// The map: names in the order in which they are written. A name that ends with `/` stands for what lies in it.
fn names_of_map(text: &str, heading: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut inside = false;
    for line in text.lines() {
        if line.starts_with('#') {
            if !names.is_empty() {
                break;
            }
            inside = line.to_lowercase().contains(heading);
        } else if inside && line.starts_with('|') {
            let cell = line.split('|').nth(1).unwrap_or_default();
            names.extend(cell.split('`').skip(1).step_by(2).map(str::to_owned));
        } else if !names.is_empty() {
            break;
        }
    }
    names
}

fn check_names(
    folder: &str,
    readme: &str,
    names: &[String],
    files: &BTreeMap<&str, &Source<'_>>,
    findings: &mut Findings,
) {
    for name in names {
        if !files.keys().any(|file| file == name || (name.ends_with('/') && file.starts_with(name.as_str()))) {
            findings.add(readme, 1, "map", format!("lists {folder}/{name}, which is not there: take it off the map"));
        }
    }
    for (place, name) in names.iter().enumerate() {
        if names[..place].contains(name) {
            findings.add(readme, 1, "map", format!("lists {folder}/{name} twice: leave one of them"));
        }
    }
}

fn check_map(
    folder: &str,
    readme: &str,
    heading: &str,
    tree: &Tree,
    sources: &BTreeMap<&str, Source<'_>>,
    findings: &mut Findings,
) {
    let files: BTreeMap<&str, &Source<'_>> = sources
        .iter()
        .filter_map(|(path, source)| Some((path.strip_prefix(folder)?.strip_prefix('/')?, source)))
        .filter(|(name, source)| !source.is_test && !name.starts_with("bin/") && *name != "main.rs")
        .collect();
    let names = tree.get(readme).map(|text| names_of_map(text, heading)).unwrap_or_default();
    if files.is_empty() && names.is_empty() {
        return;
    }
    if names.is_empty() {
        let advice = format!("has no map of {folder}: a table under a heading with `{heading}`, files in backticks");
        findings.add(readme, 1, "map", advice);
        return;
    }
    check_names(folder, readme, &names, &files, findings);
    let crate_files = CrateFiles::new(&files);
    let mut edges: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (file, source) in &files {
        let from = place(file, &names, &crate_files);
        if from.is_none() && !source.code.trim().is_empty() {
            findings.add(source.path, 1, "map", format!("is on no map: give it a row in {readme}"));
        }
        for (line, to) in crate_files.imports(file, source) {
            if to == *file {
                continue;
            }
            edges.entry(file).or_default().insert(to);
            if folder == "src"
                && file.starts_with("http/")
                && !to.starts_with("http")
                && !["limits.rs", "error.rs"].contains(&to)
            {
                findings.add(
                    source.path,
                    line,
                    "order",
                    format!("http/ imports {to}, but may know only limits and error"),
                );
            }
            if let (Some(from), Some(below)) = (&from, place(to, &names, &crate_files))
                && below < *from
            {
                let advice = format!(
                    "imports {to}, which stands further up in {readme}: move what both need below both, or hand it over as an argument"
                );
                findings.add(source.path, line, "order", advice);
            }
        }
    }
    for circle in circles(&edges) {
        let advice = format!("imports itself in a circle, {}: move what they share below them", circle.join(" -> "));
        findings.add(&format!("{folder}/{}", circle[0]), 1, "circle", advice);
    }
}

/// Where a file stands: the row that names it, or the folder it lies in, then its place in that. The crate's root needs no row:
/// it is above all.
fn place(file: &str, names: &[String], files: &CrateFiles<'_>) -> Option<(usize, Vec<usize>)> {
    if let Some(row) = names.iter().position(|name| name == file) {
        return Some((row + 1, Vec::new()));
    }
    let row = names.iter().enumerate().filter(|(_, name)| name.ends_with('/') && file.starts_with(name.as_str()));
    if let Some((row, _)) = row.max_by_key(|(_, name)| name.len()) {
        return Some((row + 1, files.reading_order(file)));
    }
    (file == "lib.rs").then(|| (0, Vec::new()))
}

/// Each circle once: the strongly connected files, in the order of a walk through them.
fn circles<'a>(edges: &BTreeMap<&'a str, BTreeSet<&'a str>>) -> Vec<Vec<&'a str>> {
    let mut found = Vec::new();
    let mut known = BTreeSet::new();
    for start in edges.keys() {
        let mut path = vec![*start];
        let mut seen = BTreeSet::new();
        if !known.contains(start) && returns(start, start, edges, &mut seen, &mut path) {
            known.extend(path.iter().copied());
            path.push(start);
            found.push(path);
        }
    }
    found
}

fn returns<'a>(
    at: &'a str,
    start: &str,
    edges: &BTreeMap<&'a str, BTreeSet<&'a str>>,
    seen: &mut BTreeSet<&'a str>,
    path: &mut Vec<&'a str>,
) -> bool {
    for next in edges.get(at).into_iter().flatten() {
        if *next == start {
            return true;
        }
        if seen.insert(next) {
            path.push(next);
            if returns(next, start, edges, seen, path) {
                return true;
            }
            path.pop();
        }
    }
    false
}

/// The files of one crate or package, by the names that its code gives them: `["http", "head"]` to `http/head.rs`.
struct CrateFiles<'a> {
    modules: BTreeMap<Vec<String>, &'a str>,
    /// Of a Rust module: its children as its `mod` lines stand.
    children: BTreeMap<Vec<String>, Vec<String>>,
    /// What the root hands on under a name of its own: `pub use handler::Handler`.
    reexports: BTreeMap<String, Vec<String>>,
}

impl<'a> CrateFiles<'a> {
    fn new(files: &BTreeMap<&'a str, &Source<'_>>) -> Self {
        let mut this = Self { modules: BTreeMap::new(), children: BTreeMap::new(), reexports: BTreeMap::new() };
        for (file, source) in files {
            this.modules.insert(module_of(file), file);
            if file.ends_with(".rs") {
                let children = source.uses(file).into_iter().filter(|found| found.kind == Kind::Mod);
                this.children
                    .insert(module_of(file), children.filter_map(|found| found.path.last().cloned()).collect());
            }
        }
        if let Some(root) = files.get("lib.rs") {
            let exported = root.uses("lib.rs").into_iter().filter(|found| found.kind == Kind::PublicUse);
            this.reexports = exported.map(|found| (found.name, found.path)).collect();
        }
        this
    }

    /// Files that this one imports, with the line of each.
    fn imports(&self, file: &str, source: &Source<'_>) -> Vec<(usize, &'a str)> {
        let own = module_of(file);
        let found = source.uses(file);
        // The root's list of modules, and what it exports, is what it is there for; its place on the map is about what it declares.
        let found = found.into_iter().filter(|found| !(own.is_empty() && file == "lib.rs" && found.kind != Kind::Path));
        found.filter_map(|found| Some((found.line, self.file_of(&found, &own, file)?))).collect()
    }

    fn file_of(&self, found: &Use, own: &[String], file: &str) -> Option<&'a str> {
        if file.ends_with(".py") {
            return self.longest(&found.path);
        }
        let mut rest = found.path.as_slice();
        let mut base = match rest.first().map(String::as_str) {
            Some("crate") => Vec::new(),
            // From within an inline module `super` is the file's own.
            Some("self" | "super") => [own, &found.within].concat(),
            Some(first) if self.modules.contains_key(&[own, &[first.to_owned()]].concat()) => own.to_vec(),
            _ => return None,
        };
        while let Some(first) = rest.first() {
            match first.as_str() {
                "super" => drop(base.pop()),
                "crate" | "self" => {}
                _ => break,
            }
            rest = &rest[1..];
        }
        if base.is_empty()
            && let Some(first) = rest.first()
            && !self.modules.contains_key(std::slice::from_ref(first))
            && let Some(target) = self.reexports.get(first)
        {
            let target: Vec<_> = target.iter().filter(|part| *part != "crate" && *part != "self").cloned().collect();
            // Of another crate.
            self.modules.get(&target[..1])?;
            return self.longest(&target);
        }
        self.longest(&[base.as_slice(), rest].concat())
    }

    fn longest(&self, path: &[String]) -> Option<&'a str> {
        (0..=path.len()).rev().find_map(|length| self.modules.get(&path[..length]).copied())
    }

    fn reading_order(&self, file: &str) -> Vec<usize> {
        let module = module_of(file);
        (1..=module.len())
            .filter_map(|length| {
                self.children.get(&module[..length - 1])?.iter().position(|name| *name == module[length - 1])
            })
            .collect()
    }
}

fn module_of(file: &str) -> Vec<String> {
    let stem = file.rsplit_once('.').map_or(file, |(stem, _)| stem);
    let mut parts: Vec<String> = stem.split('/').map(str::to_owned).collect();
    if matches!(parts.last().map(String::as_str), Some("lib" | "mod" | "__init__")) {
        parts.pop();
    }
    parts
}
