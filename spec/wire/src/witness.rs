//! Content of `dev.weft.witness`, and the field `dev.weft.stands`, in which an event names updates that stand.
//!
//! If a server's events follow two claims to the same clocks, and none of them follows one claim alone, the graph does not
//! show which claim the server received first. The server then names one in this field. The effect is specified in
//! `spec/docs/admission.md` ("Two claims to the same clocks"). Must not decide whether the named events exist or stand.

use ruma::{EventId, OwnedEventId};
use serde::{Deserialize, Serialize};

use crate::{event_types, limits::MAX_NAMED_EVENTS};

/// Content of a `dev.weft.witness` event.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WitnessContent {
    /// See [`stands`]. At most [`MAX_NAMED_EVENTS`].
    #[serde(rename = "dev.weft.stands", default, skip_serializing_if = "Vec::is_empty")]
    pub stands: Vec<OwnedEventId>,
}

/// Whether events of this type determine the text of a document. A server never redacts such an event that it has
/// unredacted.
#[must_use]
pub fn is_kept_whole(kind: &str) -> bool {
    kind == event_types::UPDATE || kind == event_types::WITNESS
}

/// The updates that an event names as standing.
///
/// The field counts in `dev.weft.update` and `dev.weft.witness`, without a state key: a server never redacts these if it has
/// them unredacted. Any other event may lose its content on some servers, which would then decide differently.
/// Returns an empty list unless the field is an array of at most [`MAX_NAMED_EVENTS`] valid event ids; the event stays valid.
#[must_use]
pub fn stands(kind: &str, content: &serde_json::Value) -> Vec<OwnedEventId> {
    if !is_kept_whole(kind) {
        return Vec::new();
    }
    let field = content.get(event_types::STANDS).and_then(serde_json::Value::as_array);
    let Some(field) = field.filter(|field| field.len() <= MAX_NAMED_EVENTS) else {
        return Vec::new();
    };
    let ids: Option<Vec<OwnedEventId>> = field
        .iter()
        .map(|id| id.as_str().and_then(|id| EventId::parse(id).ok()))
        .collect();
    ids.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn named_events_count_only_in_updates_and_witnesses() {
        let content = json!({ "dev.weft.stands": ["$a", "$b"] });
        assert_eq!(stands(event_types::UPDATE, &content), ["$a", "$b"]);
        assert_eq!(stands(event_types::WITNESS, &content), ["$a", "$b"]);
        assert!(stands("m.room.message", &content).is_empty());
        assert!(stands("m.room.name", &content).is_empty());
    }

    #[test]
    fn only_a_list_of_at_most_16_event_ids_names_events() {
        let full: Vec<String> = (0..MAX_NAMED_EVENTS).map(|n| format!("${n}")).collect();
        let over: Vec<String> = (0..=MAX_NAMED_EVENTS).map(|n| format!("${n}")).collect();
        let named = |field: serde_json::Value| stands(event_types::WITNESS, &json!({ "dev.weft.stands": field })).len();
        assert_eq!(named(json!(full)), MAX_NAMED_EVENTS);
        assert_eq!(named(json!(over)), 0);
        assert_eq!(named(json!("$a")), 0);
        assert_eq!(named(json!({ "0": "$a" })), 0);
        assert_eq!(named(json!(["$a", 1])), 0);
        assert_eq!(named(json!(["$a", "no event id"])), 0);
        assert_eq!(named(json!([])), 0);
        assert_eq!(stands(event_types::WITNESS, &json!({})).len(), 0);
    }

    #[test]
    fn content_has_the_field_names_of_the_specification() {
        let content = WitnessContent {
            stands: vec![EventId::parse("$a").unwrap()],
        };
        assert_eq!(
            serde_json::to_value(&content).unwrap(),
            json!({ "dev.weft.stands": ["$a"] })
        );
        assert_eq!(serde_json::to_value(WitnessContent::default()).unwrap(), json!({}));
    }
}
