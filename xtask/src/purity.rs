//! Crates whose results must be the same on every server use no clock, no randomness and no I/O: those are arguments.
//! This makes their results reproducible on another server and in a test.

use crate::findings::Finding;
use crate::source::{is_test_file, lines_without_tests, without_comment};
use crate::tree::Tree;

/// Directories of pure crates.
const PURE: &[&str] = &[
    "spec/wire/src/",
    "spec/crdt/src/",
    "homeserver/dag/src/",
    "homeserver/convergence/src/",
];

/// Names that must not occur there, each with the reason.
const BANNED: &[(&str, &str)] = &[
    ("SystemTime", "the time is an argument"),
    ("Instant", "the time is an argument"),
    ("MilliSecondsSinceUnixEpoch::now", "the time is an argument"),
    ("SecondsSinceUnixEpoch::now", "the time is an argument"),
    ("TransactionId::new", "randomness is an argument"),
    ("rand", "randomness is an argument"),
    ("RandomState", "an order that differs from run to run; use a BTreeMap"),
    ("tokio", "no runtime here"),
    ("std::fs", "no I/O here"),
    ("std::net", "no I/O here"),
    ("std::io", "no I/O here"),
    ("std::env", "no environment here"),
    ("std::process", "no processes here"),
    ("std::thread", "no threads here"),
];

/// See the module.
pub(crate) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in tree.texts() {
        let pure = PURE.iter().any(|folder| path.starts_with(folder));
        if !pure || !path.ends_with(".rs") || is_test_file(path) {
            continue;
        }
        for (number, line) in lines_without_tests(text) {
            let code = without_comment(line);
            for (name, reason) in BANNED {
                if names(code, name) {
                    findings.push(Finding::line(
                        path,
                        number,
                        format!("`{name}` in a pure crate: {reason}"),
                    ));
                }
            }
        }
    }
    findings
}

/// Whether the code uses this name as a whole word, outside of string literals.
pub(crate) fn names(code: &str, name: &str) -> bool {
    let word = |character: char| character.is_alphanumeric() || character == '_';
    code.match_indices(name).any(|(at, found)| {
        let (before, rest) = code.split_at(at);
        let after = rest.strip_prefix(found).unwrap_or_default();
        let quoted = before.matches('"').count() % 2 == 1;
        !quoted && !before.ends_with(word) && !after.starts_with(word)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_and_io_are_found_only_in_pure_crates() {
        let tree = Tree::of(&[
            ("spec/wire/src/a.rs", "use std::time::SystemTime;\n"),
            ("homeserver/dag/src/b.rs", "let n = std::fs::read(p);\n"),
            ("homeserver/room/src/c.rs", "use std::time::Instant;\n"),
        ]);
        let paths: Vec<String> = check(&tree).into_iter().map(|finding| finding.path).collect();
        assert_eq!(paths, ["homeserver/dag/src/b.rs", "spec/wire/src/a.rs"]);
    }

    #[test]
    fn parts_of_words_comments_strings_and_tests_are_ignored() {
        let tree = Tree::of(&[(
            "spec/crdt/src/a.rs",
            "//! No tokio here.\nlet operand = brand::new(); // rand\nlet text = \"rand\";\n#[cfg(test)]\nmod tests {\n    use std::fs;\n}\n",
        )]);
        assert_eq!(check(&tree), []);
    }
}
