//! Checks that no file names the host of a package registry or a path of a development machine: the first belongs in each
//! user's own settings, the second exists only on that machine. Must not contain the words in one piece.

use crate::findings::Finding;
use crate::tree::Tree;

/// Forbidden words, written in two parts so that this file passes its own check.
const BANNED: &[(&str, &str)] = &[
    (concat!("crates", ".io/"), "the host of a package registry"),
    (concat!("registry", ".npmjs"), "the host of a package registry"),
    (concat!("pypi", ".org"), "the host of a package registry"),
    (concat!("/wo", "rk/"), "a path of one machine"),
    (concat!("/ro", "ot/"), "a path of one machine"),
    (concat!("/home/", "user"), "a path of one machine"),
];

/// See the module.
pub(crate) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in tree.texts() {
        for (index, line) in text.lines().enumerate() {
            let line = line.to_ascii_lowercase();
            for (word, meaning) in BANNED {
                if line.contains(word) {
                    findings.push(Finding::line(path, index + 1, format!("names `{word}`, {meaning}")));
                }
            }
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_and_paths_are_found_in_any_text_file() {
        let host = format!("\"resolved\": \"https://{}.org/x\"\n", concat!("Registry", ".npmjs"));
        let place = format!("see {}main\n", concat!("/wo", "rk/"));
        let tree = Tree::of(&[
            ("web/package-lock.json", &host),
            ("README.md", &place),
            ("a.md", "a network/node\n"),
        ]);
        assert_eq!(check(&tree).len(), 2);
    }
}
