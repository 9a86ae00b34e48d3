//! Checks that links and paths in documents exist, and that every test vector is used by a test or a document. Must not
//! follow links to other hosts.

use crate::findings::Finding;
use crate::tree::Tree;

/// Prefixes by which a word in backticks is recognised as a path of this repository.
const PLACES: &[&str] = &[
    "spec/",
    "homeserver/",
    "federation/",
    "client-sdk/",
    "conformance-tests/",
    "xtask/",
    ".ci/",
];

/// See the module.
pub(crate) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in tree.texts().filter(|(path, _)| path.ends_with(".md")) {
        findings.extend(check_links(tree, path, text));
        if path.starts_with("spec/") {
            findings.extend(check_mentions(tree, path, text));
        }
    }
    findings.extend(unused_vectors(tree));
    findings
}

/// Markdown links to files: `[text](path)`.
fn check_links(tree: &Tree, path: &str, text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    let prose = text.lines().enumerate().filter(|(_, line)| !line.starts_with("    "));
    for (index, line) in prose {
        for target in line
            .split("](")
            .skip(1)
            .filter_map(|rest| Some(rest.split_once(')')?.0))
        {
            let target = target.split(['#', ' ']).next().unwrap_or_default();
            if target.is_empty() || target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            let resolved = resolve(path, target);
            if !resolved.is_some_and(|resolved| resolved.is_empty() || tree.contains(&resolved)) {
                findings.push(Finding::line(
                    path,
                    index + 1,
                    format!("links to {target}, which does not exist"),
                ));
            }
        }
    }
    findings
}

/// Paths in backticks.
fn check_mentions(tree: &Tree, path: &str, text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (index, line) in text.lines().enumerate() {
        for word in line.split('`').skip(1).step_by(2) {
            let is_path = PLACES.iter().any(|place| word.starts_with(place))
                && !word.contains(['<', '*', '{', ' ', '$'])
                && word.len() > 1;
            if is_path && !tree.contains(word.trim_end_matches('/')) {
                findings.push(Finding::line(
                    path,
                    index + 1,
                    format!("names `{word}`, which does not exist"),
                ));
            }
        }
    }
    findings
}

/// Vectors that no document and no test names, neither by file nor by directory.
fn unused_vectors(tree: &Tree) -> Vec<Finding> {
    const ROOT: &str = "spec/vectors/";
    let readers: Vec<&str> = tree
        .texts()
        .filter(|(path, _)| {
            let source = [".rs", ".ts", ".mjs", ".js"]
                .iter()
                .any(|ending| path.ends_with(ending));
            source || (path.starts_with("spec/docs/") && path.ends_with(".md"))
        })
        .map(|(_, text)| text)
        .collect();
    let vectors = tree
        .files()
        .filter(|path| path.starts_with(ROOT) && !path.ends_with(".md"));
    vectors
        .filter(|path| {
            let inner = path.strip_prefix(ROOT).unwrap_or(path);
            let mut names = vec![format!("vectors/{inner}")];
            names.extend(
                inner
                    .match_indices('/')
                    .filter_map(|(at, _)| Some(format!("vectors/{}", inner.get(..at)?))),
            );
            !readers
                .iter()
                .any(|text| names.iter().any(|name| text.contains(name.as_str())))
        })
        .map(|path| Finding::file(path, "no test reads it and no document names it"))
        .collect()
}

/// The path of a link in a document, from the root. `None`: it is outside of the repository.
fn resolve(document: &str, target: &str) -> Option<String> {
    let mut parts: Vec<&str> = match target.strip_prefix('/') {
        Some(_) => Vec::new(),
        None => document
            .rsplit_once('/')
            .map_or(Vec::new(), |(folder, _)| folder.split('/').collect()),
    };
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_resolved_from_their_document() {
        let tree = Tree::of(&[
            (
                "README.md",
                "[a](spec/docs/live.md#top) [b](https://example.org/x) [c](#here) [d](nowhere.md)\n",
            ),
            (
                "spec/docs/live.md",
                "[e](../../README.md) [f](roles.md) [g](../../../out.md)\n",
            ),
        ]);
        let messages: Vec<String> = check(&tree).into_iter().map(|finding| finding.message).collect();
        let expected =
            ["nowhere.md", "roles.md", "../../../out.md"].map(|t| format!("links to {t}, which does not exist"));
        assert_eq!(messages, expected);
    }

    #[test]
    fn paths_in_backticks_of_the_specification_exist() {
        let tree = Tree::of(&[(
            "spec/docs/a.md",
            "`spec/docs/a.md`, `spec/wire/src/x.rs`, `spec/<name>`, `a/b`\n",
        )]);
        assert_eq!(check(&tree).len(), 1);
    }

    #[test]
    fn a_vector_is_used_by_its_name_or_its_directory() {
        let tree = Tree::of(&[
            ("spec/vectors/crdt/one.json", "{}"),
            ("spec/vectors/dag/two.json", "{}"),
            ("spec/vectors/lost/three.json", "{}"),
            ("spec/vectors/README.md", "what they are\n"),
            ("spec/crdt/tests/v.rs", "\"../vectors/crdt\""),
            ("spec/docs/dag.md", "see [two](../vectors/dag/two.json)\n"),
        ]);
        let paths: Vec<String> = check(&tree).into_iter().map(|finding| finding.path).collect();
        assert_eq!(paths, ["spec/vectors/lost/three.json"]);
    }
}
