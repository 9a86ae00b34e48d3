//! Words of a text: runs of letters and digits in lower case. In Chinese, Japanese and Korean, which have no spaces between words or
//! long compounds, each pair of neighbouring characters is a word, and each character is one at the same position.
//!
//! Must not allocate more than a text's length, whatever the text is.

use tantivy::tokenizer::{Token, TokenStream, Tokenizer};

/// Longer words are cut into none: they are keys, hashes and base64.
const MAX_WORD_BYTES: usize = 100;

/// What a query must contain: one word, or words that follow each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Phrase(pub Vec<String>);

/// A word with its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Word {
    pub(crate) text: String,
    /// Bytes of the text.
    pub(crate) from: usize,
    pub(crate) to: usize,
    position: usize,
}

const fn is_without_spaces(letter: char) -> bool {
    matches!(letter,
        '\u{1100}'..='\u{11ff}' | '\u{3040}'..='\u{30ff}' | '\u{3130}'..='\u{318f}' | '\u{31f0}'..='\u{31ff}'
        | '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}' | '\u{ac00}'..='\u{d7af}' | '\u{f900}'..='\u{faff}'
        | '\u{ff66}'..='\u{ff9f}' | '\u{20000}'..='\u{323af}')
}

/// A run of letters of one sort, as bytes from and to.
fn runs(text: &str) -> impl Iterator<Item = (usize, usize, bool)> {
    let mut letters = text.char_indices().peekable();
    std::iter::from_fn(move || {
        loop {
            let (from, first) = letters.next()?;
            // A combining mark belongs to the word that it follows.
            if !first.is_alphanumeric() {
                continue;
            }
            let kind = is_without_spaces(first);
            let mut to = from + first.len_utf8();
            while let Some((at, letter)) = letters.peek().copied() {
                let is_mark = !kind && matches!(letter, '\u{300}'..='\u{36f}');
                let is_same = letter.is_alphanumeric() && is_without_spaces(letter) == kind;
                if !is_same && !is_mark {
                    break;
                }
                to = at + letter.len_utf8();
                letters.next();
            }
            return Some((from, to, kind));
        }
    })
}

/// The words of a text, as they are indexed.
pub(crate) fn words(text: &str) -> Vec<Word> {
    let mut words = Vec::new();
    let mut position = 0;
    for (from, to, without_spaces) in runs(text) {
        let Some(run) = text.get(from..to) else { continue };
        if without_spaces {
            let letters: Vec<(usize, char)> = run.char_indices().collect();
            for (index, (at, letter)) in letters.iter().enumerate() {
                let start = from + at;
                let word = |text: String| Word {
                    from: start,
                    to: start + text.len(),
                    text,
                    position,
                };
                words.push(word(letter.to_string()));
                if let Some((_, next)) = letters.get(index + 1) {
                    words.push(word(String::from_iter([*letter, *next])));
                }
                position += 1;
            }
        } else {
            if run.len() <= MAX_WORD_BYTES {
                words.push(Word {
                    text: run.to_lowercase(),
                    from,
                    to,
                    position,
                });
            }
            position += 1;
        }
    }
    words
}

/// What a text must contain to be found by a query: each of these.
#[must_use]
pub fn phrases(query: &str) -> Vec<Phrase> {
    let found = runs(query).filter_map(|(from, to, without_spaces)| {
        let run = query.get(from..to)?;
        if !without_spaces {
            return (run.len() <= MAX_WORD_BYTES).then(|| Phrase(vec![run.to_lowercase()]));
        }
        let letters: Vec<char> = run.chars().collect();
        let pairs: Vec<String> = letters.windows(2).map(|pair| pair.iter().collect()).collect();
        Some(Phrase(if pairs.is_empty() { vec![run.to_owned()] } else { pairs }))
    });
    found.collect()
}

/// The words for the index.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Words;

/// See [`Words`].
pub(crate) struct WordStream {
    words: std::vec::IntoIter<Word>,
    token: Token,
}

impl Tokenizer for Words {
    type TokenStream<'a> = WordStream;

    fn token_stream<'a>(&'a mut self, text: &'a str) -> WordStream {
        WordStream {
            words: words(text).into_iter(),
            token: Token::default(),
        }
    }
}

impl TokenStream for WordStream {
    fn advance(&mut self) -> bool {
        let Some(word) = self.words.next() else { return false };
        self.token = Token {
            offset_from: word.from,
            offset_to: word.to,
            position: word.position,
            text: word.text,
            position_length: 1,
        };
        true
    }

    fn token(&self) -> &Token {
        &self.token
    }

    fn token_mut(&mut self) -> &mut Token {
        &mut self.token
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(text: &str) -> Vec<String> {
        words(text).into_iter().map(|word| word.text).collect()
    }

    #[test]
    fn words_are_runs_of_letters_and_pairs_where_there_are_no_spaces() {
        for (text, expected) in [
            ("Hello, World-2!", vec!["hello", "world", "2"]),
            ("Привет МИР", vec!["привет", "мир"]),
            ("東京都", vec!["東", "東京", "京", "京都", "都"]),
            ("한국어 a", vec!["한", "한국", "국", "국어", "어", "a"]),
            ("iPhone東京", vec!["iphone", "東", "東京", "京"]),
            ("", vec![]),
        ] {
            assert_eq!(texts(text), expected, "{text}");
        }
        assert_eq!(texts(&"x".repeat(101)), Vec::<String>::new());
    }

    #[test]
    fn every_phrase_of_a_text_is_among_its_words() {
        for text in ["Hello 東京都 МИР", "日本語テキスト", "a東b"] {
            let words = texts(text);
            for phrase in phrases(text) {
                assert!(phrase.0.iter().all(|word| words.contains(word)), "{text}: {phrase:?}");
            }
        }
        assert_eq!(phrases("都"), [Phrase(vec!["都".to_owned()])]);
        assert_eq!(phrases("東京都"), [Phrase(vec!["東京".to_owned(), "京都".to_owned()])]);
    }
}
