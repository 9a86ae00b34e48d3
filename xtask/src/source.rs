//! What several checks need to know of source text: which lines are tests, and which part of a line is a comment.
//! A reader of lines, not a parser: it relies on rustfmt's layout.

/// Does this file as a whole belong to tests, benchmarks or fuzzing?
pub(crate) fn is_test_file(path: &str) -> bool {
    path.split('/')
        .any(|part| matches!(part, "tests" | "benches" | "fuzz" | "e2e"))
        || path.ends_with("/tests.rs")
        || path.ends_with(".test.ts")
        || path.starts_with("conformance-tests/")
}

/// The lines of a Rust file, numbered from 1, without those of modules under `#[cfg(test)]`.
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
        // rustfmt puts the closing brace of a module into the column of its first line.
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

/// A line without its `//` comment. A `//` inside a string is taken for a comment too, which only hides code
/// from a check, and never invents a finding.
pub(crate) fn without_comment(line: &str) -> &str {
    line.split_once("//").map_or(line, |(code, _)| code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_module_is_left_out_and_what_follows_it_is_kept() {
        let text = "fn a() {}\n#[cfg(test)]\nmod tests {\n    fn b() {\n    }\n}\nfn c() {}\n";
        assert_eq!(lines_without_tests(text), [(1, "fn a() {}"), (7, "fn c() {}")]);
    }

    #[test]
    fn a_test_only_function_is_not_a_module() {
        let text = "#[cfg(test)]\nfn a() {}\n";
        assert_eq!(lines_without_tests(text).len(), 2);
    }

    #[test]
    fn comments_are_cut() {
        assert_eq!(without_comment("let a = 1; // tokio"), "let a = 1; ");
        assert_eq!(without_comment("/// tokio"), "");
    }

    #[test]
    fn test_files_are_known_by_their_place() {
        assert!(is_test_file("spec/crdt/tests/oracle.rs"));
        assert!(is_test_file("spec/crdt/fuzz/fuzz_targets/parse.rs"));
        assert!(is_test_file("homeserver/room/src/worker/tests.rs"));
        assert!(!is_test_file("homeserver/room/src/worker.rs"));
    }
}
