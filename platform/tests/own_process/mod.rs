//! A test in a process of its own, where descriptors can be counted and limited, and memory measured.

use std::env;
use std::process::Command;

/// Says to a test binary that it is the process of one test.
const VARIABLE: &str = "OWN_PROCESS";

/// Runs the test of this name, its modules before it, in a process of its own and sees it pass; false then. True in that process.
pub fn in_own_process(test: &str) -> bool {
    if env::var_os(VARIABLE).is_some() {
        return true;
    }
    let mut child = Command::new(env::current_exe().unwrap());
    child.args(["--exact", test, "--test-threads=1", "--nocapture"]).env(VARIABLE, "1");
    let output = child.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    // A binary that has no test of this name runs none, and is content.
    let has_passed = output.status.success() && said.contains("test result: ok. 1 passed;");
    assert!(has_passed, "{said}{}", String::from_utf8_lossy(&output.stderr));
    false
}

/// Descriptors that this process has open.
pub fn descriptors() -> usize {
    std::fs::read_dir("/dev/fd").unwrap().count()
}
