//! Words that must not occur in the project's texts.
//!
//! Three lists: hosts of package registries and paths of one machine, which belong in local settings; private words of
//! earlier versions, each with the standard term that replaced it (`docs/GLOSSARY.md`); and phrases that the style
//! excludes (`docs/STYLE.md`). Must not judge the style beyond these lists.

use crate::findings::Finding;
use crate::tree::Tree;

/// Written in two parts, so that this file passes its own check.
const BANNED: &[(&str, &str)] = &[
    (concat!("crates", ".io/"), "a registry's host"),
    (concat!("registry", ".npmjs"), "a registry's host"),
    (concat!("pypi", ".org"), "a registry's host"),
    (concat!("/wo", "rk/"), "a path of one machine"),
    (concat!("/ro", "ot/"), "a path of one machine"),
    (concat!("/home/", "user"), "a path of one machine"),
];

/// Private words and their replacements. They are found as words and as parts of names in snake case.
const PRIVATE: &[(&str, &str)] = &[
    (concat!("hol", "low"), "pruned update"),
    (concat!("vou", "ch"), "reconcile"),
    (concat!("vou", "ching"), "reconcile"),
    (concat!("vou", "cher"), "authorising user"),
    (concat!("dou", "bted"), "unconfirmed"),
    (concat!("un", "told"), "undelivered"),
    (concat!("un", "heard"), "unconfirmed"),
    (concat!("thea", "tre"), "scenario"),
    (concat!("li", "ar"), "malicious server"),
    (concat!("li", "ars"), "malicious servers"),
    (concat!("lets", "_pass"), "allows"),
    (concat!("lets", " pass"), "allows"),
    (concat!("is", "_talk"), "shown_without_updates"),
    (concat!("whom", "_to_ask"), "select_peers"),
    (concat!("take_their", "_word"), "trust_remote_state"),
    (concat!("be taken", " back"), "be redacted, be withdrawn"),
    (concat!("in", " vain"), "without success; negative cache"),
    (concat!("in", "_vain"), "negative_cache"),
    (concat!("put", " out"), "removed, kicked, banned"),
    (concat!("said", " aloud"), "announced"),
    (concat!("said", " again"), "sent again"),
    (concat!("says", " again"), "sends again"),
    (concat!("lets go", " of"), "drops, releases"),
    (concat!("before our", " time"), "before our join; backfilled"),
];

/// Phrases that the style excludes, in comments and documents.
const STYLE: &[(&str, &str)] = &[
    (
        concat!("who", "ever"),
        "name the subject: the user, the sender, the caller",
    ),
    (concat!("of", " who"), "name the subject"),
    (concat!("to", " who"), "name the subject"),
    (concat!("by", " who"), "name the subject"),
    (concat!("be", " it"), "say it directly"),
    (concat!("h", "e"), "they, or the role"),
    (concat!("h", "is"), "their, or the role's"),
    (concat!("h", "im"), "them, or the role"),
    (concat!("him", "self"), "themselves, or the role"),
    (concat!("sh", "e"), "they, or the role"),
    (concat!("her", "self"), "themselves, or the role"),
];

/// The page with the examples of what not to write.
const STYLE_PAGE: &str = "docs/STYLE.md";

/// See the module.
pub(crate) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in tree.texts() {
        for (index, line) in text.lines().enumerate() {
            let line = line.to_ascii_lowercase();
            let mut found = |word: &str, meaning: &str| {
                findings.push(Finding::line(path, index + 1, format!("names `{word}`: {meaning}")));
            };
            for (word, meaning) in BANNED {
                if line.contains(word) {
                    found(word, meaning);
                }
            }
            if is_prose_or_code(path) {
                words_in(&line, PRIVATE, &mut found);
                words_in(prose(path, &line), STYLE, &mut found);
            }
        }
    }
    findings
}

/// Whether the file is prose or code. Vectors, plans and corpora may keep their names.
fn is_prose_or_code(path: &str) -> bool {
    let written = ["rs", "md", "ts", "svelte", "mjs", "py", "sh", "toml"];
    path != STYLE_PAGE && path.rsplit_once('.').is_some_and(|(_, kind)| written.contains(&kind))
}

/// The prose in a line: the whole line of a document, the comment in a line of code.
fn prose<'a>(path: &str, line: &'a str) -> &'a str {
    let mark = match path.rsplit_once('.') {
        Some((_, "md")) => return line,
        Some((_, "py" | "sh" | "toml")) => "#",
        _ => "//",
    };
    line.split_once(mark).map_or("", |(_, comment)| comment)
}

fn words_in(line: &str, words: &[(&str, &str)], found: &mut impl FnMut(&str, &str)) {
    for (word, meaning) in words {
        if has_word(line, word) {
            found(word, meaning);
        }
    }
}

/// Whether the word occurs without an adjacent letter, digit or a preceding apostrophe or `%`.
fn has_word(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let before = line.get(..at).and_then(|part| part.chars().next_back());
        let after = line.get(at + word.len()..).and_then(|part| part.chars().next());
        !before.is_some_and(|letter| letter.is_alphanumeric() || letter == '\'' || letter == '%')
            && !after.is_some_and(char::is_alphanumeric)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_and_paths_are_found_in_any_text_file() {
        let host = format!("\"resolved\": \"https://{}.org/x\"\n", concat!("Registry", ".npmjs"));
        let local_path = format!("see {}main\n", concat!("/wo", "rk/"));
        let tree = Tree::of(&[
            ("web/package-lock.json", &host),
            ("README.md", &local_path),
            ("a.md", "a network/node\n"),
        ]);
        assert_eq!(check(&tree).len(), 2);
    }

    #[test]
    fn private_words_are_found_as_words_and_in_names_and_not_inside_other_words() {
        let name = format!("fn note_{}_update() {{}}\n", concat!("hol", "low"));
        let shown = format!("A {} of the style.\n", concat!("thea", "tre"));
        let tree = Tree::of(&[
            ("a.rs", &name),
            ("b.md", "A familiar pair of outliers.\n"),
            ("vectors/c.json", &name),
            (STYLE_PAGE, &shown),
        ]);
        assert_eq!(check(&tree).len(), 1);
    }

    #[test]
    fn the_style_is_checked_in_comments_and_documents_only() {
        let comment = format!("let x = 1; // what {} sent\n", concat!("h", "e"));
        let code = format!("let {} = 1;\n", concat!("h", "e"));
        let tree = Tree::of(&[("a.rs", &comment), ("b.rs", &code), ("c.md", "the thesis\n")]);
        assert_eq!(check(&tree).len(), 1);
    }
}
