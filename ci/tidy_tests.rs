//! For each rule a small tree that keeps it and one that breaks it.

use super::{Tree, check};

const MAP: &str = "## Code map\n\n| file | what |\n|---|---|\n| `worker.rs` | |\n| `connection.rs`, `connection/` | |\n| `http/` | |\n| `limits.rs` | |\n";
const PYTHON: &str =
    "## The map of python/turboapi\n\n| file |\n|---|\n| `app.py` |\n| `plan/routes.py` |\n| `errors.py` |\n";
const HTTP: (&str, &str) = ("src/http/mod.rs", "mod head;\nmod grammar;\n");

/// The rules that a tree breaks, each as often as it does.
fn broken(map: (&str, &str), files: &[(&str, &str)]) -> Vec<&'static str> {
    let all = files.iter().chain([&map]);
    let tree: Tree = all.map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect();
    check(&tree)
        .into_iter()
        .filter(|finding| !finding.advice.contains("not there"))
        .map(|finding| finding.rule)
        .collect()
}

fn rust(files: &[(&str, &str)], rules: &[&str]) {
    assert_eq!(broken(("src/README.md", MAP), files), rules, "{files:?}");
}

fn python(files: &[(&str, &str)], rules: &[&str]) {
    assert_eq!(broken(("python/README.md", PYTHON), files), rules, "{files:?}");
}

#[test]
fn imports_point_down() {
    let worker = ("src/worker.rs", "");
    rust(&[("src/worker.rs", "use crate::limits::Limits;"), ("src/limits.rs", "")], &[]);
    rust(&[worker, ("src/limits.rs", "use crate::worker::Worker;")], &["order"]);
    rust(&[worker, ("src/limits.rs", "use crate::{worker::{self, Worker}};")], &["order"]);
    rust(&[worker, ("src/limits.rs", "fn f() { super::worker::f(); }")], &["order"]);
    rust(&[worker, ("src/limits.rs", "// use crate::worker;\nconst A: &str = \"crate::worker\";")], &[]);
    rust(&[worker, ("src/limits.rs", "#[cfg(test)]\nmod tests { use crate::worker::Worker; }")], &[]);
    rust(&[worker, ("src/limits.rs", "#[cfg(not(test))]\nuse crate::worker::Worker;")], &["order"]);
    rust(&[worker, ("src/limits.rs", "#[cfg(any(test, fuzzing))]\nuse crate::worker::Worker;")], &["order"]);
    rust(&[worker, ("src/limits.rs", "fn f() -> impl Sized + use<'_> { }\nuse crate::worker::Worker;")], &["order"]);
    rust(&[worker, ("src/limits.rs", "mod inline { use super::super::worker::Worker; }")], &["order"]);
    rust(
        &[worker, ("src/lib.rs", "pub mod worker;\npub(crate) use worker::A;"), ("src/limits.rs", "use crate::A;")],
        &["order"],
    );
    rust(&[worker, ("src/lib.rs", "pub mod worker;\npub mod limits;"), ("src/limits.rs", "")], &[]);
}

#[test]
fn children_do_not_import_their_parent() {
    let parent = ("src/connection.rs", "mod wire;\nmod body;\n");
    rust(&[parent, ("src/connection/wire.rs", "use super::body::Body;"), ("src/connection/body.rs", "")], &[]);
    rust(&[parent, ("src/connection/body.rs", "use super::wire::Wire;"), ("src/connection/wire.rs", "")], &["order"]);
    rust(&[parent, ("src/connection/wire.rs", "use super::Connection;")], &["circle", "order"]);
    rust(&[HTTP, ("src/http/head.rs", "use super::grammar::f;"), ("src/http/grammar.rs", "")], &[]);
    rust(&[HTTP, ("src/http/head.rs", ""), ("src/http/grammar.rs", "use super::head::f;")], &["order"]);
    rust(&[HTTP, ("src/http/head.rs", "use crate::connection::f;"), ("src/connection.rs", "")], &["order", "order"]);
}

#[test]
fn each_file_is_on_its_map() {
    rust(&[("src/lost.rs", "fn f() {}")], &["map"]);
    assert_eq!(broken(("src/README.md", "# No map"), &[("src/worker.rs", "")]), ["map"]);
    python(&[("python/turboapi/lost.py", "x = 1")], &["map"]);
    let twice = MAP.replace("| `limits.rs` | |", "| `limits.rs`, `worker.rs` | |");
    assert_eq!(broken(("src/README.md", &twice), &[("src/worker.rs", "")]), ["map"]);
}

/// A row that names nothing is found, also where the whole folder has gone.
#[test]
fn each_row_of_a_map_has_a_file() {
    for files in [&[("src/worker.rs", "")][..], &[]] {
        let all = files.iter().chain([&("src/README.md", MAP)]);
        let tree: Tree = all.map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect();
        let lost = check(&tree).iter().filter(|finding| finding.advice.contains("not there")).count();
        assert_eq!(lost, 5 - files.len());
    }
}

#[test]
fn python_imports_point_down() {
    let app = ("python/turboapi/app.py", "from .plan.routes import x\n");
    for text in [
        "from ..app import x",
        "from .. import app",
        "def f():\n    import turboapi.app",
        "if TYPE_CHECKING:\n    from turboapi import app",
        "importlib.import_module(\"turboapi.app\")",
        "importlib.import_module('turboapi.app')",
        "from .. import (\n    errors,\n    app)",
    ] {
        python(&[("python/turboapi/app.py", ""), ("python/turboapi/plan/routes.py", text)], &["order"]);
    }
    python(
        &[app, ("python/turboapi/plan/routes.py", "from ..errors import E"), ("python/turboapi/errors.py", "")],
        &[],
    );
    python(
        &[app, ("python/turboapi/plan/routes.py", "\"\"\"\nfrom ..app import x\n\"\"\"\n# from ..app import x")],
        &[],
    );
}

#[test]
fn what_is_long_has_a_reason() {
    let file = "\n".repeat(501);
    let function = format!("fn f() {{\n{}}}\n", "g();\n".repeat(70));
    rust(&[("src/worker.rs", &file)], &["size"]);
    rust(&[("src/worker.rs", &function)], &["size"]);
    rust(&[("src/worker.rs", &file), ("ci/long.txt", "src/worker.rs: one deep algorithm\n")], &[]);
    rust(&[("src/worker.rs", &function), ("ci/long.txt", "src/worker.rs f: one deep algorithm\n")], &[]);
    rust(&[("src/worker.rs", ""), ("ci/long.txt", "src/worker.rs: one deep algorithm\n")], &["size"]);
    rust(&[("src/worker.rs", &file), ("ci/long.txt", "src/worker.rs: long\n")], &["size", "size"]);
    python(&[("python/turboapi/app.py", &format!("def f():\n{}", "    g()\n".repeat(70)))], &["size"]);
    rust(&[("src/worker/tests.rs", &file)], &[]);
}

#[test]
fn what_needs_a_reason_has_one() {
    let expected = "#![expect(unsafe_code, reason = \"…\")]\n";
    let with = |text: &str| broken(("x", ""), &[("platform/examples/a.rs", &format!("{expected}{text}"))]);
    assert!(with("// SAFETY: it is ours.\nunsafe { f() }").is_empty());
    assert!(with("/// # Safety\n/// Once.\n#[inline]\npub unsafe fn f() {}").is_empty());
    assert_eq!(with("fn g() {\n    unsafe { f() }\n}"), ["unsafe"]);
    assert_eq!(broken(("x", ""), &[("platform/examples/a.rs", "// SAFETY: it is ours.\nunsafe { f() }")]), ["unsafe"]);
    rust(&[("src/worker.rs", "#![expect(unsafe_code)]\n// SAFETY: it is ours.\nunsafe { f() }")], &["unsafe"]);
    let limit = |why: &str| format!("limits! {{\n    {why}\n    a_max: usize = 1, from 0, to 2;\n}}\n");
    rust(&[("src/limits.rs", &limit("/// Header lines. hyper has 100 too. 431."))], &[]);
    rust(&[("src/limits.rs", &limit("/// Header lines."))], &["limit"]);
    rust(&[("src/limits.rs", "pub struct Limits {}")], &["limit"]);
    rust(&[("src/worker.rs", "// TODO later")], &["marker"]);
    rust(&[("src/worker.rs", "// TODO #12: later\nconst A: &str = \"TODO\";")], &[]);
    assert_eq!(broken(("x", ""), &[("benches/utils.py", "")]), ["name"]);
}

#[test]
fn crates_know_those_below() {
    rust(&[("src/worker.rs", "use pyo3::Python;")], &["crate"]);
    assert_eq!(broken(("x", ""), &[("platform/examples/a.rs", "use turboapi_core::worker::Worker;")]), ["crate"]);
}
