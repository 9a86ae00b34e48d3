//! Checks the length of source files: at most 800 lines outside tests, so that a file stays readable. Must not count tests.

use crate::findings::Finding;
use crate::source::{is_test_file, lines_without_tests};
use crate::tree::Tree;

/// The limit at which a file must be split. Most files have fewer than 450 lines.
const LINES_MAX: usize = 800;

/// See the module.
pub(crate) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in tree.texts() {
        let lines = match path.rsplit_once('.') {
            _ if is_test_file(path) => continue,
            Some((_, "rs")) => lines_without_tests(text).len(),
            Some((_, "ts" | "mjs" | "svelte")) => text.lines().count(),
            _ => continue,
        };
        if lines > LINES_MAX {
            findings.push(Finding::file(
                path,
                format!("{lines} lines without tests; at most {LINES_MAX}"),
            ));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_do_not_count() {
        let code = "fn a() {}\n".repeat(LINES_MAX);
        let tests = format!(
            "#[cfg(test)]\nmod tests {{\n{}}}\n",
            "    fn b() {}\n".repeat(LINES_MAX)
        );
        let tree = Tree::of(&[
            ("a/src/fits.rs", &format!("{code}{tests}")),
            ("a/src/long.rs", &format!("{code}fn c() {{}}\n")),
            ("a/tests/long.rs", &format!("{code}fn c() {{}}\n")),
        ]);
        let findings = check(&tree);
        assert_eq!(findings.len(), 1);
        assert!(findings.iter().all(|finding| finding.path == "a/src/long.rs"));
    }
}
