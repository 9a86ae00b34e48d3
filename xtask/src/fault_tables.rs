//! Checks the tables of hostile inputs and of faults found in operation: every number names a test or a reason why there is
//! none, and every named test exists. Must not run the tests.

use std::collections::BTreeMap;

use crate::findings::Finding;
use crate::tree::Tree;

/// A table: its file, the letter before the numbers, and the first and last number of each range.
struct Table {
    path: &'static str,
    letter: char,
    numbers: &'static [(u32, u32)],
}

const FIELD: &str = "conformance-tests/FIELD.md";
const TABLES: &[Table] = &[
    Table {
        path: "conformance-tests/ADVERSARIAL.md",
        letter: 'T',
        numbers: &[(1, 68), (70, 86), (90, 113), (120, 136)],
    },
    Table {
        path: FIELD,
        letter: 'F',
        numbers: &[(1, 20)],
    },
    Table {
        path: FIELD,
        letter: 'W',
        numbers: &[(1, 16)],
    },
    Table {
        path: FIELD,
        letter: 'P',
        numbers: &[(1, 22)],
    },
    // Faults that were found by reading the code.
    Table {
        path: FIELD,
        letter: 'B',
        numbers: &[(1, 19)],
    },
];
/// The beginnings of rows without a test.
const EXCUSES: &[&str] = &["not yet: ", "later: ", "by the specification: ", "elsewhere: "];

/// See the module.
pub(crate) fn check(tree: &Tree) -> Vec<Finding> {
    TABLES.iter().flat_map(|table| check_table(tree, table)).collect()
}

fn check_table(tree: &Tree, table: &Table) -> Vec<Finding> {
    let Table { path, letter, numbers } = *table;
    let Some(text) = tree.text(path) else {
        return vec![Finding::file(path, "does not exist")];
    };
    let mut findings = Vec::new();
    let mut seen: BTreeMap<u32, usize> = BTreeMap::new();
    for (index, line) in text.lines().enumerate() {
        let Some((number, tests)) = row(line, letter) else {
            continue;
        };
        *seen.entry(number).or_default() += 1;
        let wrong = (!has_test_or_reason(tests))
            .then(|| format!("{letter}{number:02} has neither a test nor a reason why there is none"));
        let messages = wrong.into_iter().chain(missing(tree, tests));
        findings.extend(messages.map(|message| Finding::line(path, index + 1, message)));
    }
    for number in numbers.iter().flat_map(|(first, last)| *first..=*last) {
        match seen.remove(&number) {
            Some(1) => {}
            Some(rows) => findings.push(Finding::file(path, format!("has {rows} rows for {letter}{number:02}"))),
            None => findings.push(Finding::file(path, format!("has no row for {letter}{number:02}"))),
        }
    }
    let unlisted = seen.into_keys();
    findings.extend(unlisted.map(|number| {
        Finding::file(
            path,
            format!("has a row for {letter}{number:02}, a number that the list does not have"),
        )
    }));
    findings
}

/// The number and the last cell of a row.
fn row(line: &str, letter: char) -> Option<(u32, &str)> {
    let cells = line.trim().strip_prefix("| ")?.strip_prefix(letter)?;
    let mut cells = cells.strip_suffix('|')?.split('|');
    let number = cells.next()?.trim().parse().ok()?;
    Some((number, cells.nth(1)?.trim()))
}

fn has_test_or_reason(tests: &str) -> bool {
    let has_reason = EXCUSES
        .iter()
        .any(|excuse| tests.starts_with(excuse) && tests.len() > excuse.len());
    has_reason || named(tests).next().is_some()
}

/// The names in backticks: `file::function`, or `file::title` for a test of the web page.
fn named(tests: &str) -> impl Iterator<Item = &str> {
    tests.split('`').skip(1).step_by(2)
}

/// Messages for the named tests that do not exist.
fn missing(tree: &Tree, tests: &str) -> Vec<String> {
    let mut missing = Vec::new();
    for name in named(tests) {
        let Some((path, function)) = name.rsplit_once("::") else {
            missing.push(format!("`{name}` is not of the form `file::function`"));
            continue;
        };
        match tree.text(path) {
            None => missing.push(format!("names {path}, which does not exist")),
            Some(text) if !defines(path, text, function) => {
                missing.push(format!("names {function}, which is not in {path}"));
            }
            Some(_) => {}
        }
    }
    missing
}

/// Whether a file has a test: a function in Rust, a title in quotes in tests of the web page.
fn defines(path: &str, text: &str, test: &str) -> bool {
    if path.ends_with(".rs") {
        text.contains(&format!("fn {test}("))
    } else {
        text.contains(&format!("'{test}'"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: Table = Table {
        path: "rows.md",
        letter: 'T',
        numbers: &[(1, 8), (30, 34)],
    };

    fn messages(change: impl Fn(u32) -> Option<String>) -> Vec<String> {
        let rows = TABLE.numbers.iter().flat_map(|(first, last)| *first..=*last);
        let text: String = rows
            .filter_map(|number| {
                let tests = change(number)?;
                Some(format!("| T{number:02} | what | {tests} |\n"))
            })
            .collect();
        let texts = [
            (TABLE.path, text.as_str()),
            ("a/tests/b.rs", "async fn holds() {}\n"),
            ("a/b.test.ts", "it('keeps the title', () => {})\n"),
        ];
        let findings = check_table(&Tree::of(&texts), &TABLE);
        findings.into_iter().map(|finding| finding.message).collect()
    }

    #[test]
    fn a_row_has_existing_tests_or_a_reason() {
        let none: Vec<String> = Vec::new();
        assert_eq!(messages(|_| Some("`a/tests/b.rs::holds`".to_owned())), none);
        assert_eq!(messages(|_| Some("`a/b.test.ts::keeps the title`".to_owned())), none);
        assert_eq!(messages(|_| Some("later: nothing has it".to_owned())), none);
        let one = |tests: &'static str| {
            messages(move |number| Some(if number == 7 { tests } else { "later: x" }.to_owned())).remove(0)
        };
        assert_eq!(one("`a/tests/b.rs::hold`"), "names hold, which is not in a/tests/b.rs");
        assert_eq!(one("`a/tests/c.rs::holds`"), "names a/tests/c.rs, which does not exist");
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
