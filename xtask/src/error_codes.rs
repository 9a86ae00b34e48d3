//! Compares the error codes in `spec/docs/errors.md` with those that the server responds with: each status with its
//! code, in both directions. Reads the source code, so that every constructor of an error is covered. Must not run the
//! server.

use std::collections::{BTreeMap, BTreeSet};

use crate::findings::Finding;
use crate::source;
use crate::tree::Tree;

const PAGE: &str = "spec/docs/errors.md";
const CODES: &str = "spec/wire/src/errcode.rs";
/// The file in which `Self::new` constructs an error.
const ERRORS: &str = "homeserver/http/src/errors";
/// Calls that pass on the error of another server: its codes are in a separate list.
const PASSING_ON: &[(&str, &str)] = &[("homeserver/app/src/adapters/remote.rs", "status, code")];

/// A status and an error code.
type Pair = (u16, String);

/// See the module.
pub(crate) fn check(tree: &Tree) -> Vec<Finding> {
    let Some(page) = tree.text(PAGE) else {
        return vec![Finding::file(PAGE, "does not exist")];
    };
    let mut findings = Vec::new();
    let constructed = constructed(tree, &mut findings);
    let documented = documented(page);
    for ((status, code), path) in &constructed {
        if !documented.contains_key(&(*status, code.clone())) {
            findings.push(Finding::file(
                path,
                format!("responds with {status} {code}, which {PAGE} does not list"),
            ));
        }
    }
    for ((status, code), line) in &documented {
        if !constructed.contains_key(&(*status, code.clone())) {
            findings.push(Finding::line(
                PAGE,
                *line,
                format!("lists {status} {code}, with which no code responds"),
            ));
        }
    }
    findings.extend(unnamed(tree, page));
    findings
}

/// Every status and code of the table "HTTP", with its line.
fn documented(page: &str) -> BTreeMap<Pair, usize> {
    let mut documented = BTreeMap::new();
    for (index, line) in page.lines().enumerate() {
        let mut cells = line.split('|').skip(1).map(str::trim);
        let (Some(status), Some(codes)) = (cells.next().and_then(|cell| cell.parse::<u16>().ok()), cells.next()) else {
            continue;
        };
        for code in codes.split('`').skip(1).step_by(2) {
            documented.insert((status, code.to_owned()), index + 1);
        }
    }
    documented
}

/// Every status and code with which an error is constructed, with a file that does so.
fn constructed(tree: &Tree, findings: &mut Vec<Finding>) -> BTreeMap<Pair, String> {
    let constants = constants(tree);
    let mut constructed = BTreeMap::new();
    for (path, text) in sources(tree) {
        let code = flattened(text);
        for arguments in calls(path, &code) {
            let passes_on = PASSING_ON
                .iter()
                .any(|(file, begin)| path == *file && arguments.starts_with(begin));
            if passes_on {
                continue;
            }
            let mut parts = arguments.splitn(3, ',').map(str::trim);
            let status = parts.next().and_then(|part| status(part, &code));
            let errcode = parts.next().and_then(|part| errcode(part, &constants));
            match (status, errcode) {
                (Some(status), Some(errcode)) => drop(constructed.insert((status, errcode), path.to_owned())),
                _ => {
                    let shown: String = arguments.chars().take(60).collect();
                    findings.push(Finding::file(
                        path,
                        format!("constructs an error whose status and code are not literals: {shown}"),
                    ));
                }
            }
        }
    }
    constructed
}

fn sources(tree: &Tree) -> impl Iterator<Item = (&str, &str)> {
    tree.texts().filter(|(path, _)| {
        let is_server_code = path.starts_with("homeserver/") || path.starts_with("federation/");
        is_server_code && path.ends_with(".rs") && !source::is_test_file(path)
    })
}

/// The code without tests and comments, on one line.
fn flattened(text: &str) -> String {
    let lines = source::lines_without_tests(text).into_iter();
    let words: Vec<&str> = lines
        .flat_map(|(_, line)| source::without_comment(line).split_whitespace())
        .collect();
    words.join(" ").replace("( ", "(")
}

/// The text after the opening parenthesis of each call that constructs an error.
fn calls<'a>(path: &str, code: &'a str) -> Vec<&'a str> {
    let mut names = vec!["ApiError::new("];
    if path.starts_with(ERRORS) {
        names.push("Self::new(");
    }
    names
        .into_iter()
        .flat_map(|name| code.match_indices(name).map(move |(at, _)| at + name.len()))
        .filter_map(|at| code.get(at..))
        .collect()
}

/// The status of `StatusCode::NAME`, or of a variable to which the file assigns one.
fn status(part: &str, code: &str) -> Option<u16> {
    let name = match part.rsplit_once("StatusCode::") {
        Some((_, name)) => name,
        None => {
            let given = format!("let {part} = StatusCode::");
            code.split_once(&given)?.1.split(';').next()?
        }
    };
    Some(match name {
        "BAD_REQUEST" => 400,
        "UNAUTHORIZED" => 401,
        "FORBIDDEN" => 403,
        "NOT_FOUND" => 404,
        "METHOD_NOT_ALLOWED" => 405,
        "REQUEST_TIMEOUT" => 408,
        "CONFLICT" => 409,
        "PAYLOAD_TOO_LARGE" => 413,
        "UNPROCESSABLE_ENTITY" => 422,
        "TOO_MANY_REQUESTS" => 429,
        "INTERNAL_SERVER_ERROR" => 500,
        "RANGE_NOT_SATISFIABLE" => 416,
        "NOT_IMPLEMENTED" => 501,
        "BAD_GATEWAY" => 502,
        "GATEWAY_TIMEOUT" => 504,
        "SERVICE_UNAVAILABLE" => 503,
        _ => return None,
    })
}

/// The code of a string literal or of a constant of the wire crate.
fn errcode(part: &str, constants: &BTreeMap<String, String>) -> Option<String> {
    match part.strip_prefix('"') {
        Some(text) => text.strip_suffix('"').map(str::to_owned),
        None => constants.get(part.strip_prefix("errcode::")?).cloned(),
    }
}

/// The constants of the wire crate that are error codes, by name.
fn constants(tree: &Tree) -> BTreeMap<String, String> {
    let text = tree.text(CODES).unwrap_or_default();
    text.lines()
        .filter_map(|line| {
            let (name, value) = line.strip_prefix("pub const ")?.split_once(": &str = \"")?;
            Some((name.to_owned(), value.strip_suffix("\";")?.to_owned()))
        })
        .collect()
}

/// Codes that occur elsewhere in the source (in the list of codes that are passed on) and that the page does not list.
fn unnamed(tree: &Tree, page: &str) -> Vec<Finding> {
    let named: BTreeSet<&str> = page.split('`').skip(1).step_by(2).collect();
    let mut findings = Vec::new();
    for (path, text) in sources(tree).chain(tree.text(CODES).map(|text| (CODES, text))) {
        for (line, text) in source::lines_without_tests(text) {
            let words = source::without_comment(text).split('"').skip(1).step_by(2);
            for word in words.filter(|word| is_code(word) && !named.contains(word)) {
                findings.push(Finding::line(
                    path,
                    line,
                    format!("has the error code {word}, which {PAGE} does not list"),
                ));
            }
        }
    }
    findings
}

fn is_code(word: &str) -> bool {
    let rest = word.strip_prefix("M_").or_else(|| word.strip_prefix("DEV_WEFT_"));
    rest.is_some_and(|rest| rest.len() > 2 && rest.chars().all(|letter| letter.is_ascii_uppercase() || letter == '_'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "| status | `errcode` | when |\n|---|---|---|\n| 400 | `M_A_CODE`, `DEV_WEFT_B` | x |\n";

    fn messages(files: &[(&str, &str)]) -> Vec<String> {
        let mut all = vec![(PAGE, TABLE), (CODES, "pub const BEE: &str = \"DEV_WEFT_B\";\n")];
        all.extend_from_slice(files);
        check(&Tree::of(&all))
            .into_iter()
            .map(|finding| finding.message)
            .collect()
    }

    #[test]
    fn a_code_in_the_table_and_in_the_source_is_accepted() {
        let source = "let bad = StatusCode::BAD_REQUEST;\nApiError::new(\n    bad,\n    \"M_A_CODE\",\n    x)\n\
                      ApiError::new(StatusCode::BAD_REQUEST, errcode::BEE, x)\n";
        assert_eq!(messages(&[("homeserver/a/src/b.rs", source)]), [""; 0]);
    }

    #[test]
    fn every_difference_is_found() {
        let found = messages(&[
            (
                "homeserver/a/src/b.rs",
                "ApiError::new(StatusCode::CONFLICT, \"M_A_CODE\", x)\n",
            ),
            ("homeserver/a/src/c.rs", "ApiError::new(status, code, x)\n"),
            (
                "homeserver/http/src/errors/d.rs",
                "Self::new(StatusCode::NOT_FOUND, \"M_OTHER\", x)\n",
            ),
            (
                "homeserver/a/tests/e.rs",
                "ApiError::new(StatusCode::NOT_FOUND, \"M_TEST\", x)\n",
            ),
        ]);
        let about = |text: &str| found.iter().filter(|message| message.contains(text)).count();
        assert_eq!(about("responds with 409 M_A_CODE"), 1, "{found:?}");
        assert_eq!(about("are not literals: status, code"), 1, "{found:?}");
        assert_eq!(about("M_OTHER"), 2, "as a pair and as a word: {found:?}");
        assert_eq!(about("with which no code responds"), 2, "{found:?}");
        assert_eq!(about("M_TEST"), 0);
    }
}
