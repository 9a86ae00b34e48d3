//! The part of a passage around what was found. Must not show anything that is not in the passage.

use crate::words::{Phrase, words};

/// Characters before the first place, and of the whole snippet.
const BEFORE: usize = 40;
const LENGTH: usize = 200;

/// A part of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snippet {
    /// The text, on one line.
    pub text: String,
    /// What was found in it: UTF-16 code units, from and to.
    pub matches: Vec<(usize, usize)>,
}

/// The snippet of a passage.
#[must_use]
pub fn snippet(passage: &str, phrases: &[Phrase]) -> Snippet {
    let is_wanted = |word: &str| {
        phrases
            .iter()
            .any(|phrase| phrase.0.iter().any(|wanted| wanted == word))
    };
    let found: Vec<(usize, usize)> = words(passage)
        .into_iter()
        .filter(|word| is_wanted(&word.text))
        .map(|word| (word.from, word.to))
        .collect();
    let first = found.first().map_or(0, |place| place.0);
    let starts = passage.get(..first).unwrap_or_default().char_indices().rev();
    let start = starts.take(BEFORE).last().map_or(first, |(at, _)| at);
    let rest = passage.get(start..).unwrap_or_default();
    let end = rest
        .char_indices()
        .nth(LENGTH)
        .map_or(passage.len(), |(at, _)| start + at);
    let text = passage.get(start..end).unwrap_or_default();
    let units = |to: usize| passage.get(start..to).map_or(0, |part| part.encode_utf16().count());
    let mut matches: Vec<(usize, usize)> = Vec::new();
    for (from, to) in found.into_iter().filter(|(from, to)| *from >= start && *to <= end) {
        let (from, to) = (units(from), units(to));
        match matches.last_mut() {
            // Pairs of characters overlap.
            Some(last) if from <= last.1 => last.1 = last.1.max(to),
            _ => matches.push((from, to)),
        }
    }
    let text = text.replace(['\n', '\r', '\t'], " ");
    Snippet { text, matches }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::words::phrases;

    #[test]
    fn a_snippet_shows_what_was_found() {
        let text = format!("{} the Needle\nin {}", "hay ".repeat(100), "straw ".repeat(100));
        let found = snippet(&text, &phrases("needle"));
        let [(from, to)] = found.matches.as_slice() else {
            panic!("{found:?}")
        };
        let units: Vec<u16> = found.text.encode_utf16().collect();
        assert_eq!(String::from_utf16(&units[*from..*to]).unwrap(), "Needle");
        assert!(found.text.chars().count() <= LENGTH && !found.text.contains('\n'));
        let found = snippet("\u{1f600}東京都", &phrases("東京都"));
        assert_eq!(found.matches, [(2, 5)]);
        assert_eq!(snippet("", &phrases("a")).text, "");
    }
}
