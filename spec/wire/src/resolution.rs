//! Which of several `dev.weft.resolution` events about one comment or suggestion counts (`spec/docs/comments.md`). Pure: the same events
//! give the same result on every server, whatever the order in which they arrived.

use std::collections::BTreeSet;

use ruma::OwnedEventId;
use serde::{Deserialize, Serialize};

use crate::limits::MAX_RESOLUTIONS_NAMED;

/// What is decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// A comment is done.
    Resolved,
    /// A comment is open again.
    Open,
    /// A suggestion became part of the text.
    Accepted,
    /// An editor does not want a suggestion.
    Rejected,
    /// The author of a suggestion does not want it any more.
    Withdrawn,
}

/// Content of `dev.weft.resolution`, besides `m.relates_to`, which names the comment or suggestion.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResolutionContent {
    /// What is decided.
    pub outcome: Outcome,
    /// Earlier decisions that the sender's server had: this one replaces them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub after: Vec<OwnedEventId>,
    /// Of an accepted suggestion: the `dev.weft.update` that has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub update: Option<OwnedEventId>,
}

/// One decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolution<T> {
    /// The event.
    pub event: OwnedEventId,
    /// Its `origin_server_ts`.
    pub at: u64,
    /// Decisions that it replaces.
    pub after: Vec<OwnedEventId>,
    /// What is kept with it.
    pub value: T,
}

/// The decisions that no other one replaces, the one that counts last: by time, and by event id if the times are equal.
#[must_use]
pub fn standing<T>(all: Vec<Resolution<T>>) -> Vec<Resolution<T>> {
    let replaced: BTreeSet<OwnedEventId> = all
        .iter()
        .flat_map(|one| one.after.iter().take(MAX_RESOLUTIONS_NAMED).cloned())
        .collect();
    let mut left: Vec<Resolution<T>> = all.into_iter().filter(|one| !replaced.contains(&one.event)).collect();
    left.sort_by(|a, b| (a.at, &a.event).cmp(&(b.at, &b.event)));
    left
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn id(value: &Value) -> OwnedEventId {
        OwnedEventId::try_from(value.as_str().unwrap()).unwrap()
    }

    #[test]
    fn the_same_decision_counts_in_every_order_of_arrival() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../vectors/resolutions");
        let mut seen = 0;
        for file in std::fs::read_dir(folder).unwrap() {
            let path = file.unwrap().path();
            let vector: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
            let mut all: Vec<Resolution<Value>> = vector["resolutions"]
                .as_array()
                .unwrap()
                .iter()
                .map(|one| Resolution {
                    event: id(&one["event_id"]),
                    at: one["at"].as_u64().unwrap(),
                    after: one["after"].as_array().into_iter().flatten().map(id).collect(),
                    value: one["outcome"].clone(),
                })
                .collect();
            for _ in 0..all.len().max(1) {
                let found = standing(all.clone());
                let found = found.last().map_or(Value::Null, |one| one.value.clone());
                assert_eq!(found, vector["expect"], "{}", path.display());
                if !all.is_empty() {
                    all.rotate_left(1);
                }
            }
            seen += 1;
        }
        assert!(seen >= 6, "{seen} vectors");
    }

    #[test]
    fn content_is_written_as_the_specification_says() {
        let content = ResolutionContent {
            outcome: Outcome::Resolved,
            after: vec![id(&json!("$a"))],
            update: None,
        };
        assert_eq!(
            serde_json::to_value(content).unwrap(),
            json!({"outcome": "resolved", "after": ["$a"]})
        );
    }
}
