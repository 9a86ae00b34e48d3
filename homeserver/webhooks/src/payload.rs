//! The id and the body of a delivery (`spec/docs/webhooks.md`). Must not contain text of a document, except what streams of events
//! show of chat and comments.

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use ruma::RoomId;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};
use weft_dag::Pdu;
use weft_room_read::{EDIT, ShownEvent};
use weft_wire::limits::MAX_WEBHOOK_AUTHORS;

/// The name of the event that a user requests to test a webhook.
pub(crate) const TEST: &str = "test";

/// The last millisecond of the year 9999, the last that RFC 3339 has. The time of an event is the statement of its server.
const LAST_TIME_MS: u64 = 253_402_300_799_999;

/// The id of a delivery: the same for each attempt, and another one for each webhook and delivery.
pub(crate) fn delivery_id(webhook: &str, first_event: &str) -> String {
    let mut hash = Sha256::new();
    // Neither contains a line break.
    hash.update(format!("{webhook}\n{first_event}"));
    let hash = hash.finalize();
    format!("msg_{}", URL_SAFE_NO_PAD.encode(hash.get(..20).unwrap_or_default()))
}

/// The body of an event that is none of a document's text; `None` if it is not shown.
pub(crate) fn of_event(room: &RoomId, pdu: &Pdu) -> Option<Bytes> {
    let event = ShownEvent::of(pdu);
    let (name, data) = event.shown()?;
    let Value::Object(mut data) = data else { return None };
    // The update of a suggestion is text.
    if let Some(content) = data.get_mut("content").and_then(Value::as_object_mut) {
        content.remove("update");
    }
    data.insert("docId".to_owned(), json!(room));
    Some(body(name, event.timestamp, data))
}

/// The body of edits. `versions`: the first and the last version that they made here, as far as that is known.
pub(crate) fn of_edits(room: &RoomId, edits: &[Arc<Pdu>], versions: Option<(u64, u64)>) -> Option<Bytes> {
    let last = edits.last()?;
    let authors: BTreeSet<&str> = edits.iter().map(|edit| edit.sender().as_str()).collect();
    let authors: Vec<&str> = authors.into_iter().take(MAX_WEBHOOK_AUTHORS).collect();
    let mut data = Map::from_iter([
        ("docId".to_owned(), json!(room)),
        ("authors".to_owned(), json!(authors)),
        ("edits".to_owned(), json!(edits.len())),
    ]);
    if let Some((first, last)) = versions {
        data.insert("fromVersion".to_owned(), json!(first));
        data.insert("version".to_owned(), json!(last));
    }
    Some(body(EDIT, last.origin_server_ts().get().into(), data))
}

/// The body of a test.
pub(crate) fn of_test(webhook: &str, now: u64) -> Bytes {
    body(TEST, now, Map::from_iter([("webhookId".to_owned(), json!(webhook))]))
}

fn body(name: &str, timestamp: u64, data: Map<String, Value>) -> Bytes {
    let time = UNIX_EPOCH + Duration::from_millis(timestamp.min(LAST_TIME_MS));
    let time = humantime::format_rfc3339_millis(time).to_string();
    let body = json!({"type": name, "timestamp": time, "data": data});
    body.to_string().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_of_a_delivery_depends_on_webhook_and_event() {
        let id = delivery_id("one", "$e");
        assert_eq!(id, delivery_id("one", "$e"));
        assert!(id.starts_with("msg_") && !id.contains('.'));
        assert_ne!(id, delivery_id("two", "$e"));
        assert_ne!(id, delivery_id("one", "$f"));
    }

    #[test]
    fn a_body_has_the_form_of_the_specification() {
        let body: Value = serde_json::from_slice(&of_test("w", 1_667_506_810_344)).unwrap();
        let expected = json!({"type": "test", "timestamp": "2022-11-03T20:20:10.344Z", "data": {"webhookId": "w"}});
        assert_eq!(body, expected);
    }

    #[test]
    fn a_time_that_has_no_text_is_the_last_one_that_has() {
        for far in [LAST_TIME_MS, LAST_TIME_MS + 1, (1 << 53) - 1, u64::MAX] {
            let body: Value = serde_json::from_slice(&of_test("w", far)).unwrap();
            assert_eq!(body["timestamp"], "9999-12-31T23:59:59.999Z");
        }
    }
}
