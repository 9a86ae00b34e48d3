//! Cuts a text into passages, each an entry of the index: a hit then reads one passage and not the whole text. Must not cut a
//! character.

use weft_wire::limits::{MAX_SEARCHED_TEXT_BYTES, SEARCH_PASSAGE_BYTES};

/// The passages of a text: up to a limit of bytes, cut at the end of a line or word if there is one.
pub(crate) fn passages(text: &str) -> Vec<&str> {
    let mut rest = text
        .get(..text.floor_char_boundary(MAX_SEARCHED_TEXT_BYTES))
        .unwrap_or(text);
    let mut passages = Vec::new();
    while !rest.is_empty() {
        let end = rest.floor_char_boundary(SEARCH_PASSAGE_BYTES);
        let head = rest.get(..end).unwrap_or(rest);
        let cut = match end == rest.len() {
            true => end,
            false => head.rfind('\n').or_else(|| head.rfind(' ')).map_or(end, |at| at + 1),
        };
        let (passage, tail) = rest.split_at(cut);
        passages.push(passage);
        rest = tail;
    }
    passages
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passages_are_the_text_in_parts_of_a_limited_size() {
        for text in [
            String::new(),
            "short".to_owned(),
            "a line\n".repeat(20_000),
            "word ".repeat(20_000),
            "東".repeat(50_000),
        ] {
            let parts = passages(&text);
            assert_eq!(parts.concat(), text);
            assert!(parts.iter().all(|part| part.len() <= SEARCH_PASSAGE_BYTES));
        }
    }
}
