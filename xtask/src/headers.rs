//! Checks that every source file begins with a comment about its purpose, and that no file has a meaningless name. Must not
//! judge the text.

use crate::findings::Finding;
use crate::tree::Tree;

/// Names without a meaning: files with such names collect unrelated code.
const EMPTY_NAMES: &[&str] = &["utils", "util", "helpers", "helper", "common", "misc", "mod"];

/// The accepted first lines of a kind of file, and their form for the message.
fn opening(path: &str) -> Option<(&'static [&'static str], &'static str)> {
    match path.rsplit_once('.')?.1 {
        "rs" => Some((&["//!"], "`//! ...`")),
        "ts" | "mts" | "js" | "mjs" => Some((&["//", "/*"], "`// ...` or `/** ... */`")),
        "svelte" | "html" => Some((&["<!--", "<!doctype html>\n<!--"], "`<!-- ... -->`")),
        "css" => Some((&["/*"], "`/* ... */`")),
        _ => None,
    }
}

/// See the module.
pub(crate) fn check(tree: &Tree) -> Vec<Finding> {
    tree.texts().flat_map(|(path, text)| check_file(path, text)).collect()
}

fn check_file(path: &str, text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    let Some((openings, shown)) = opening(path) else {
        return findings;
    };
    let body = text
        .strip_prefix("#!/")
        .map_or(text, |rest| rest.split_once('\n').map_or("", |(_, body)| body));
    if !openings.iter().any(|opening| body.starts_with(opening)) {
        findings.push(Finding::line(
            path,
            1,
            format!("begins without {shown} about the purpose of the file"),
        ));
    }
    for part in path.split('/') {
        let stem = part.split_once('.').map_or(part, |(stem, _)| stem);
        if EMPTY_NAMES.contains(&stem) {
            findings.push(Finding::file(
                path,
                format!("`{stem}` has no meaning; name the file after what it does"),
            ));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_of_every_kind_are_accepted() {
        let tree = Tree::of(&[
            ("a/src/lib.rs", "//! What it is for.\n"),
            ("web/main.ts", "// What it is for.\n"),
            ("web/script.mjs", "#!/usr/bin/env node\n// What it is for.\n"),
            ("web/App.svelte", "<!-- What it is for. -->\n"),
            ("README.md", "no header needed\n"),
        ]);
        assert_eq!(check(&tree), []);
    }

    #[test]
    fn a_file_without_header_is_found() {
        let tree = Tree::of(&[
            ("a/src/lib.rs", "use std::fmt;\n//! Too late.\n"),
            ("web/main.ts", "import x;\n"),
        ]);
        let paths: Vec<String> = check(&tree).into_iter().map(|finding| finding.path).collect();
        assert_eq!(paths, ["a/src/lib.rs", "web/main.ts"]);
    }

    #[test]
    fn meaningless_names_are_found_in_files_and_directories() {
        let tree = Tree::of(&[
            ("a/src/utils.rs", "//! x\n"),
            ("a/src/room/mod.rs", "//! x\n"),
            ("a/src/common/role.rs", "//! x\n"),
            ("a/src/commonality.rs", "//! x\n"),
        ]);
        assert_eq!(check(&tree).len(), 3);
    }
}
