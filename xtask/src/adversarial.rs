//! The table of hostile inputs names a test for every number, or says why there is none; and every test that it names is
//! there. A table that nobody checks would be right for a month.

use std::collections::BTreeMap;

use crate::findings::Finding;
use crate::tree::Tree;

/// The table.
const TABLE: &str = "conformance-tests/ADVERSARIAL.md";
/// The numbers that there are, first and last of each run.
const NUMBERS: &[(u32, u32)] = &[(1, 68), (70, 86), (90, 113)];
/// How a row without a test begins.
const EXCUSES: &[&str] = &["not yet: ", "later: "];

/// See the module.
pub(crate) fn check(tree: &Tree) -> Vec<Finding> {
    let Some(text) = tree.text(TABLE) else {
        return vec![Finding::file(TABLE, "is not there")];
    };
    let mut findings = Vec::new();
    let mut seen: BTreeMap<u32, usize> = BTreeMap::new();
    for (index, line) in text.lines().enumerate() {
        let Some((number, tests)) = row(line) else { continue };
        *seen.entry(number).or_default() += 1;
        findings.extend(check_row(number, tests).map(|message| Finding::line(TABLE, index + 1, message)));
        for message in missing(tree, tests) {
            findings.push(Finding::line(TABLE, index + 1, message));
        }
    }
    let wanted = NUMBERS.iter().flat_map(|(first, last)| *first..=*last);
    for number in wanted {
        match seen.remove(&number) {
            Some(1) => {}
            Some(rows) => findings.push(Finding::file(TABLE, format!("has {rows} rows for T{number:02}"))),
            None => findings.push(Finding::file(TABLE, format!("has no row for T{number:02}"))),
        }
    }
    for number in seen.into_keys() {
        findings.push(Finding::file(
            TABLE,
            format!("has a row for T{number:02}, which is no number of the list"),
        ));
    }
    findings
}

/// The number and the last cell of a row.
fn row(line: &str) -> Option<(u32, &str)> {
    let mut cells = line.trim().strip_prefix("| T")?.strip_suffix('|')?.split('|');
    let number = cells.next()?.trim().parse().ok()?;
    Some((number, cells.nth(1)?.trim()))
}

fn check_row(number: u32, tests: &str) -> Option<String> {
    let named = named(tests).next().is_some();
    let excused = EXCUSES
        .iter()
        .any(|excuse| tests.starts_with(excuse) && tests.len() > excuse.len());
    (!named && !excused).then(|| format!("T{number:02} has neither a test nor a reason why there is none"))
}

/// What stands in backticks: `file::function`.
fn named(tests: &str) -> impl Iterator<Item = &str> {
    tests.split('`').skip(1).step_by(2)
}

/// The tests that are not there.
fn missing(tree: &Tree, tests: &str) -> Vec<String> {
    let mut missing = Vec::new();
    for name in named(tests) {
        let Some((path, function)) = name.rsplit_once("::") else {
            missing.push(format!("`{name}` is not of the form `file::function`"));
            continue;
        };
        match tree.text(path) {
            None => missing.push(format!("names {path}, which is not there")),
            Some(text) if !text.contains(&declaration(path, function)) => {
                missing.push(format!("names {function}, which is not in {path}"));
            }
            Some(_) => {}
        }
    }
    missing
}

/// How a test begins: a function in Rust, a title in quotes in tests of the page.
fn declaration(path: &str, test: &str) -> String {
    if path.ends_with(".rs") {
        format!("fn {test}(")
    } else {
        format!("'{test}'")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(change: impl Fn(u32) -> Option<String>) -> Vec<String> {
        let rows = NUMBERS.iter().flat_map(|(first, last)| *first..=*last);
        let text: String = rows
            .filter_map(|number| {
                let tests = change(number)?;
                Some(format!("| T{number:02} | what | {tests} |\n"))
            })
            .collect();
        let page = "it('holds in the page', () => {});\n";
        let tree = Tree::of(&[
            (TABLE, &text),
            ("a/tests/b.rs", "async fn holds() {}\n"),
            ("web/c.test.ts", page),
        ]);
        check(&tree).into_iter().map(|finding| finding.message).collect()
    }

    #[test]
    fn a_row_has_tests_that_are_there_or_a_reason() {
        let none: Vec<String> = Vec::new();
        assert_eq!(messages(|_| Some("`a/tests/b.rs::holds`".to_owned())), none);
        assert_eq!(messages(|_| Some("later: nothing has it".to_owned())), none);
        assert_eq!(
            messages(|_| Some("`web/c.test.ts::holds in the page`".to_owned())),
            none
        );
        let one = |tests: &'static str| {
            messages(move |number| Some(if number == 7 { tests } else { "later: x" }.to_owned())).remove(0)
        };
        assert_eq!(one("`a/tests/b.rs::hold`"), "names hold, which is not in a/tests/b.rs");
        assert_eq!(
            one("`web/c.test.ts::holds`"),
            "names holds, which is not in web/c.test.ts"
        );
        assert_eq!(one("`a/tests/c.rs::holds`"), "names a/tests/c.rs, which is not there");
        assert_eq!(one("`holds`"), "`holds` is not of the form `file::function`");
        assert_eq!(one(""), "T07 has neither a test nor a reason why there is none");
        assert_eq!(one("later: "), "T07 has neither a test nor a reason why there is none");
    }

    #[test]
    fn every_number_has_one_row() {
        let found = messages(|number| (number != 33).then(|| "later: x".to_owned()));
        assert_eq!(found, ["has no row for T33"]);
    }
}
