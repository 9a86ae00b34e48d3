//! Source text for several checks: which lines are tests, and which part of a line is a comment. It reads lines and relies
//! on rustfmt's layout; it must not become a parser.

/// Whether the whole file belongs to tests, benchmarks or fuzzing.
pub(crate) fn is_test_file(path: &str) -> bool {
    path.split('/')
        .any(|part| matches!(part, "tests" | "benches" | "fuzz" | "e2e"))
        || path.ends_with("/tests.rs")
        || path.ends_with(".test.ts")
        || path.starts_with("conformance-tests/")
}

/// The lines of a Rust file without modules under `#[cfg(test)]`, numbered from 1.
pub(crate) fn lines_without_tests(text: &str) -> Vec<(usize, &str)> {
    let mut kept = Vec::new();
    let mut lines = text.lines().enumerate().peekable();
    while let Some((index, line)) = lines.next() {
        let opens_tests = line.trim_start().starts_with("#[cfg(test)]")
            && lines
                .peek()
                .is_some_and(|(_, next)| next.trim_start().starts_with("mod ") && next.ends_with('{'));
        if !opens_tests {
            kept.push((index + 1, line));
            continue;
        }
        // rustfmt puts the closing brace of a module in the column of its first line.
        let column = line.len() - line.trim_start().len();
        let closing = format!("{}}}", " ".repeat(column));
        for (_, inner) in lines.by_ref() {
            if inner == closing {
                break;
            }
        }
    }
    kept
}

/// A line without its `//` comment. A `//` inside a string also counts as a comment, which can hide code from a check
/// but never causes a finding.
pub(crate) fn without_comment(line: &str) -> &str {
    line.split_once("//").map_or(line, |(code, _)| code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_module_is_skipped_and_later_lines_are_kept() {
        let text = "fn a() {}\n#[cfg(test)]\nmod tests {\n    fn b() {\n    }\n}\nfn c() {}\n";
        assert_eq!(lines_without_tests(text), [(1, "fn a() {}"), (7, "fn c() {}")]);
    }

    #[test]
    fn a_test_only_function_is_not_a_module() {
        let text = "#[cfg(test)]\nfn a() {}\n";
        assert_eq!(lines_without_tests(text).len(), 2);
    }

    #[test]
    fn comments_are_removed() {
        assert_eq!(without_comment("let a = 1; // tokio"), "let a = 1; ");
        assert_eq!(without_comment("/// tokio"), "");
    }

    #[test]
    fn test_files_are_recognised_by_their_path() {
        assert!(is_test_file("spec/crdt/tests/oracle.rs"));
        assert!(is_test_file("spec/crdt/fuzz/fuzz_targets/parse.rs"));
        assert!(is_test_file("homeserver/room/src/worker/tests.rs"));
        assert!(!is_test_file("homeserver/room/src/worker.rs"));
    }
}
