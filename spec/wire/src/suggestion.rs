//! Content of `dev.weft.suggestion` (`spec/docs/suggestions.md`): an update that is not part of the text. Must not parse the update.

use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
use ruma::OwnedEventId;
use serde::{Deserialize, Serialize};

use crate::limits::{MAX_ANCHOR_HEADS, MAX_SEALED_UPDATE_BYTES, MAX_SUMMARY_BYTES};
use crate::resolution::Outcome;

/// Content of a `dev.weft.suggestion` event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SuggestionContent {
    /// A Yjs v1 update, unpadded standard base64, at most [`MAX_SEALED_UPDATE_BYTES`] decoded.
    pub update: String,
    /// What the suggestion is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<String>,
    /// The events whose content the author saw; without them that of the event's ancestors.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub heads: Vec<OwnedEventId>,
}

/// Whether a decision about a suggestion counts. `by_author`: its sender is that of the suggestion; `might_edit`: its sender might send
/// updates by the state before it. Acceptances are told by updates.
#[must_use]
pub const fn counts(outcome: Outcome, by_author: bool, might_edit: bool) -> bool {
    match outcome {
        Outcome::Withdrawn => by_author,
        Outcome::Rejected => might_edit,
        Outcome::Accepted | Outcome::Resolved | Outcome::Open => false,
    }
}

/// Errors of the content of a suggestion.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SuggestionError {
    /// The update is not unpadded standard base64.
    #[error("the update is not unpadded standard base64")]
    Base64,
    /// A field exceeds its limit.
    #[error("{what} is larger than {limit}")]
    TooLarge {
        /// The field.
        what: &'static str,
        /// Its limit: bytes, or events.
        limit: usize,
    },
}

impl SuggestionContent {
    /// The bytes of the update, if all fields are within their limits.
    ///
    /// # Errors
    /// Otherwise.
    pub fn bytes(&self) -> Result<Vec<u8>, SuggestionError> {
        let too_large = |what, limit| Err(SuggestionError::TooLarge { what, limit });
        if self.summary.as_ref().map_or(0, String::len) > MAX_SUMMARY_BYTES {
            return too_large("summary", MAX_SUMMARY_BYTES);
        }
        if self.heads.len() > MAX_ANCHOR_HEADS {
            return too_large("heads", MAX_ANCHOR_HEADS);
        }
        // Four characters for three bytes, and up to two more.
        if self.update.len() > MAX_SEALED_UPDATE_BYTES / 3 * 4 + 4 {
            return too_large("update", MAX_SEALED_UPDATE_BYTES);
        }
        let bytes = STANDARD_NO_PAD
            .decode(&self.update)
            .map_err(|_| SuggestionError::Base64)?;
        if bytes.len() > MAX_SEALED_UPDATE_BYTES {
            return too_large("update", MAX_SEALED_UPDATE_BYTES);
        }
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::resolution::{Resolution, standing};

    #[test]
    fn what_becomes_of_a_suggestion_matches_the_vectors() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../vectors/suggestions");
        let mut seen = 0;
        for file in std::fs::read_dir(folder).unwrap() {
            let path = file.unwrap().path();
            let vector: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
            let id = |value: &Value| OwnedEventId::try_from(value.as_str().unwrap()).unwrap();
            let decisions = vector["decisions"].as_array().unwrap().iter();
            let valid = decisions.filter(|one| {
                let outcome = serde_json::from_value(one["outcome"].clone()).unwrap();
                let by_author = one["sender"] == vector["author"];
                counts(outcome, by_author, one["might_edit"].as_bool().unwrap())
            });
            let left = standing(
                valid
                    .map(|one| Resolution {
                        event: id(&one["event_id"]),
                        at: one["at"].as_u64().unwrap(),
                        after: one["after"].as_array().into_iter().flatten().map(id).collect(),
                        value: one["outcome"].clone(),
                    })
                    .collect(),
            );
            let closed = left.last().map_or(json!("open"), |one| one.value.clone());
            let state = match vector["accepted"].as_bool() {
                Some(true) => json!("accepted"),
                _ => closed,
            };
            assert_eq!(state, vector["expect"], "{}", path.display());
            seen += 1;
        }
        assert!(seen >= 13, "{seen} vectors");
    }

    fn of(bytes: usize, summary: usize, heads: usize) -> Result<usize, SuggestionError> {
        let content = SuggestionContent {
            update: STANDARD_NO_PAD.encode(vec![7; bytes]),
            summary: Some("x".repeat(summary)),
            heads: vec![OwnedEventId::try_from("$a").unwrap(); heads],
        };
        content.bytes().map(|bytes| bytes.len())
    }

    #[test]
    fn each_field_has_its_limit() {
        assert_eq!(
            of(MAX_SEALED_UPDATE_BYTES, MAX_SUMMARY_BYTES, MAX_ANCHOR_HEADS),
            Ok(MAX_SEALED_UPDATE_BYTES)
        );
        for (bytes, summary, heads) in [
            (MAX_SEALED_UPDATE_BYTES + 1, 0, 0),
            (2 * MAX_SEALED_UPDATE_BYTES, 0, 0),
            (1, MAX_SUMMARY_BYTES + 1, 0),
            (1, 0, MAX_ANCHOR_HEADS + 1),
        ] {
            assert!(matches!(
                of(bytes, summary, heads),
                Err(SuggestionError::TooLarge { .. })
            ));
        }
    }

    #[test]
    fn padded_base64_is_refused() {
        let content = SuggestionContent {
            update: "AA==".to_owned(),
            summary: None,
            heads: Vec::new(),
        };
        assert_eq!(content.bytes(), Err(SuggestionError::Base64));
    }
}
