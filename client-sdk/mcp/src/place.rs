//! Where a quoted text is in a document: assistants quote, the document API takes positions. Must not guess: a quote that
//! occurs twice is no place.

use serde::Deserialize;
use serde_json::{Value, json};

use crate::McpError;

/// The document in runs (`GET /documents/{id}/blame`): consecutive runs of one path are one text.
#[derive(Debug, Deserialize)]
pub(crate) struct Runs {
    runs: Vec<Run>,
}

#[derive(Debug, Deserialize)]
struct Run {
    /// Empty in plain text; indexes in a rich text; element and key in a board.
    #[serde(default)]
    path: Vec<Value>,
    text: String,
}

/// A range in UTF-16 code units, as the document API counts.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Range {
    /// The text in which it is, as in a run.
    path: Vec<Value>,
    from: usize,
    to: usize,
}

impl Range {
    /// The fields of a new comment.
    pub(crate) fn fields(self) -> Value {
        let Self { path, from, to } = self;
        match &*path {
            [] => json!({"from": from, "to": to}),
            [element @ Value::String(_), key] => {
                json!({"in": {"element": element, "key": key}, "from": from, "to": to})
            }
            _ => json!({"in": {"path": path}, "from": from, "to": to}),
        }
    }
}

impl Runs {
    /// The only place of a quote.
    ///
    /// # Errors
    /// When the quote is empty, or occurs never or several times.
    pub(crate) fn find(self, quote: &str) -> Result<Range, McpError> {
        if quote.is_empty() {
            return Err(McpError::Arguments("The quote is empty.".to_owned()));
        }
        let mut found = None;
        let mut count = 0_usize;
        for (path, text) in self.texts() {
            for (at, _) in text.match_indices(quote) {
                count += 1;
                let from = text.get(..at).map_or(0, length);
                let to = from + length(quote);
                let path = path.clone();
                found = Some(Range { path, from, to });
            }
        }
        match (found, count) {
            (Some(range), 1) => Ok(range),
            (None, _) => Err(McpError::Arguments(
                "The document does not contain the quote.".to_owned(),
            )),
            (Some(_), count) => Err(McpError::Arguments(format!(
                "The quote occurs {count} times. Quote more of the text, so that it occurs once."
            ))),
        }
    }

    fn texts(self) -> Vec<(Vec<Value>, String)> {
        let mut texts: Vec<(Vec<Value>, String)> = Vec::new();
        for Run { path, text } in self.runs {
            match texts.last_mut() {
                Some((last, whole)) if *last == path => whole.push_str(&text),
                _ => texts.push((path, text)),
            }
        }
        texts
    }
}

fn length(text: &str) -> usize {
    text.encode_utf16().count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runs(runs: Value) -> Runs {
        serde_json::from_value(json!({"runs": runs})).unwrap()
    }

    #[test]
    fn a_quote_is_found_across_authors_and_counted_in_utf_16() {
        let document = json!([{"text": "🙂 we sh", "author": "@a:x"}, {"text": "all meet"}]);
        let found = runs(document).find("shall").unwrap();
        assert_eq!(found.fields(), json!({"from": 6, "to": 11}));
    }

    #[test]
    fn blocks_are_texts_of_their_own() {
        let document = json!([{"path": [0], "text": "one"}, {"path": [1], "text": "two"}]);
        assert_eq!(
            runs(document.clone()).find("tw").unwrap().fields(),
            json!({"in": {"path": [1]}, "from": 0, "to": 2})
        );
        assert!(runs(document).find("onetwo").is_err());
        let board = json!([{"path": ["note", "text"], "text": "one"}]);
        assert_eq!(
            runs(board).find("ne").unwrap().fields(),
            json!({"in": {"element": "note", "key": "text"}, "from": 1, "to": 3})
        );
    }

    #[test]
    fn an_ambiguous_quote_is_no_place() {
        let error = runs(json!([{"text": "la la"}])).find("la").unwrap_err();
        assert!(error.to_string().contains("2 times"), "{error}");
        assert!(runs(json!([])).find("la").is_err());
        assert!(runs(json!([{"text": "la"}])).find("").is_err());
    }
}
