//! Each warning and error of the server has a stable name, the field `event`, for alerts and searches: messages may be reworded.
//! The names are listed in docs/LOG-EVENTS.md, which must be complete and have no others.

use std::collections::{BTreeMap, BTreeSet};

use crate::findings::Finding;
use crate::source::{is_test_file, lines_without_tests, without_comment};
use crate::tree::Tree;

/// The page with the names.
const PAGE: &str = "docs/LOG-EVENTS.md";
/// The code of the server.
const FOLDERS: [&str; 2] = ["homeserver/", "federation/"];
const MACROS: [(&str, &str); 2] = [("warn!(", "warn"), ("error!(", "error")];

/// A name as it is used: its levels, and where it was found first.
struct Used {
    levels: BTreeSet<&'static str>,
    path: String,
    line: usize,
}

/// See the module.
pub(crate) fn check(tree: &Tree) -> Vec<Finding> {
    let (mut findings, mut used) = (Vec::new(), BTreeMap::<String, Used>::new());
    for (path, text) in tree.texts() {
        let is_source = FOLDERS.iter().any(|folder| path.starts_with(folder)) && path.ends_with(".rs");
        if !is_source || is_test_file(path) {
            continue;
        }
        let lines = lines_without_tests(text);
        for (index, (number, line)) in lines.iter().enumerate() {
            let Some((level, rest)) = call(without_comment(line)) else {
                continue;
            };
            // The first field is in the same line or, if the call has several lines, in the next.
            let next = lines.get(index + 1).map_or("", |(_, next)| next.trim());
            let first = if rest.is_empty() { next } else { rest };
            match name(first) {
                Some(name) => {
                    let entry = used.entry(name.to_owned()).or_insert_with(|| Used {
                        levels: BTreeSet::new(),
                        path: path.to_owned(),
                        line: *number,
                    });
                    entry.levels.insert(level);
                }
                None => findings.push(Finding::line(
                    path,
                    *number,
                    "has no name: the first field must be `event = \"area.what\"`, with a row in docs/LOG-EVENTS.md",
                )),
            }
        }
    }
    findings.extend(compare(&used, tree.text(PAGE).unwrap_or_default()));
    findings
}

/// The level of a call of the log in a line, and what follows.
fn call(line: &str) -> Option<(&'static str, &str)> {
    MACROS.iter().find_map(|(start, level)| {
        let (before, rest) = line.split_once(start)?;
        let is_whole = !before.ends_with(|last: char| last.is_alphanumeric() || last == '_');
        is_whole.then(|| (*level, rest.trim()))
    })
}

/// The name in the first field.
fn name(first: &str) -> Option<&str> {
    let (name, _) = first.strip_prefix("event = \"")?.split_once('"')?;
    let (area, what) = name.split_once('.')?;
    let is_word = |word: &str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    (is_word(area) && is_word(what)).then_some(name)
}

/// Compares the names of the code with the rows of the page: name, levels, meaning.
fn compare(used: &BTreeMap<String, Used>, page: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut listed = BTreeSet::new();
    for (index, line) in page.lines().enumerate() {
        let Some((name, rest)) = line.strip_prefix("| `").and_then(|row| row.split_once("` | ")) else {
            continue;
        };
        if !listed.insert(name) {
            findings.push(Finding::line(PAGE, index + 1, format!("{name} is listed twice")));
        }
        let levels = rest.split(" | ").next().unwrap_or_default();
        match used.get(name) {
            None => findings.push(Finding::line(PAGE, index + 1, format!("{name} is not used"))),
            Some(used) => {
                let expected = used.levels.iter().copied().collect::<Vec<_>>().join(", ");
                if levels != expected {
                    findings.push(Finding::line(
                        PAGE,
                        index + 1,
                        format!("the level of {name} is {expected}"),
                    ));
                }
            }
        }
    }
    for (name, at) in used.iter().filter(|(name, _)| !listed.contains(name.as_str())) {
        findings.push(Finding::line(&at.path, at.line, format!("{name} is missing in {PAGE}")));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATH: &str = "homeserver/room/src/sealing.rs";

    fn found(text: &str, page: &str) -> Vec<String> {
        let findings = check(&Tree::of(&[(PATH, text), (PAGE, page)]));
        findings.into_iter().map(|finding| finding.message).collect()
    }

    const ROW: &str = "| `room.seal_failed` | error | edits could not be sealed |\n";

    #[test]
    fn each_warning_and_error_has_a_name_in_the_list() {
        let one_line = "    tracing::error!(event = \"room.seal_failed\", %error, \"failed\");\n";
        let lines = "    tracing::error!(\n        event = \"room.seal_failed\",\n        \"failed\"\n    );\n";
        assert!(found(one_line, ROW).is_empty());
        assert!(found(lines, ROW).is_empty());
        assert_eq!(
            found(one_line, ""),
            ["room.seal_failed is missing in docs/LOG-EVENTS.md"]
        );
        assert_eq!(found("", ROW), ["room.seal_failed is not used"]);
        assert_eq!(found(one_line, &format!("{ROW}{ROW}")).len(), 1);
        let warning = one_line.replace("error!", "warn!");
        assert_eq!(found(&warning, ROW), ["the level of room.seal_failed is warn"]);
    }

    #[test]
    fn a_missing_or_malformed_name_is_found() {
        for text in [
            "tracing::warn!(%error, \"failed\");\n",
            "tracing::warn!(\n    %error,\n    \"failed\"\n);\n",
            "warn!(event = \"failed\", \"failed\");\n",
            "warn!(event = \"Room.Failed\", \"failed\");\n",
            "warn!(%event, \"failed\");\n",
        ] {
            assert_eq!(found(text, "").len(), 1, "{text}");
        }
    }

    #[test]
    fn other_levels_tests_and_comments_need_none() {
        for text in [
            "tracing::info!(%error, \"failed\");\n",
            "// tracing::warn!(%error)\n",
            "#[cfg(test)]\nmod tests {\n    fn f() { tracing::warn!(\"failed\") }\n}\n",
            "compile_error!(\"failed\");\n",
        ] {
            assert!(found(text, "").is_empty(), "{text}");
        }
    }
}
