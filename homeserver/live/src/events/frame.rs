//! The text of a stream of events (HTML, "Server-sent events"). Must not read anything.

use std::fmt;

use bytes::Bytes;
use serde_json::{Map, Value, json};
use weft_room_api::CommittedEvent;
use weft_wire::event_types;

/// How far a reader is. Its text is the id of the events; it means something on this server only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Point {
    /// The version of the document.
    pub(super) version: u64,
    /// The stream position of the last event of the room.
    pub(super) position: u64,
}

impl Point {
    /// Reads `Last-Event-ID`.
    pub(super) fn parse(id: &str) -> Option<Self> {
        let (version, position) = id.split_once('.')?;
        Some(Self {
            version: version.parse().ok()?,
            position: position.parse().ok()?,
        })
    }
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.version, self.position)
    }
}

/// The beginning: how long a client waits before it connects again, and an id from which it can go on even if nothing happens.
pub(super) fn beginning(point: Point) -> Bytes {
    format!("retry: 2000\nid: {point}\n\n").into()
}

/// A comment.
pub(super) fn keep_alive() -> Bytes {
    Bytes::from_static(b":\n\n")
}

/// An event. JSON has no line breaks.
pub(super) fn event(name: &str, point: Point, data: &Value) -> Bytes {
    format!("event: {name}\nid: {point}\ndata: {data}\n\n").into()
}

/// An event of the room.
pub(super) struct RoomEvent {
    pub(super) kind: String,
    pub(super) state_key: Option<String>,
    pub(super) id: String,
    pub(super) sender: String,
    /// `origin_server_ts`.
    pub(super) timestamp: u64,
    pub(super) content: Value,
}

impl RoomEvent {
    pub(super) fn of(event: &CommittedEvent) -> Self {
        let pdu = &event.pdu;
        Self {
            kind: pdu.kind().to_owned(),
            state_key: pdu.state_key().map(ToString::to_string),
            id: pdu.event_id().to_string(),
            sender: pdu.sender().to_string(),
            timestamp: pdu.origin_server_ts().get().into(),
            content: pdu.content_as().unwrap_or_default(),
        }
    }

    /// The name under which it is sent, with its data; `None` if it is of no such type.
    pub(super) fn shown(&self) -> Option<(&'static str, Value)> {
        let content = || vec![("content", self.content.clone())];
        let with_type = || vec![("type", json!(self.kind)), ("content", self.content.clone())];
        let (name, more) = match (&*self.kind, self.state_key.as_deref()) {
            ("m.room.message", None) if self.is_comment() => ("comment", content()),
            ("m.room.message", None) => ("chat", content()),
            ("m.room.member", Some(user)) => {
                let membership = self.content.get("membership").cloned();
                let more = [("userId", json!(user)), ("membership", membership.unwrap_or_default())];
                ("member", more.into())
            }
            (event_types::VERSION, None) => ("version", content()),
            (event_types::SUGGESTION, None) => ("suggestion", with_type()),
            (event_types::RESOLUTION, None) if self.is_of_suggestion() => ("suggestion", with_type()),
            (event_types::RESOLUTION, None) => ("comment", with_type()),
            (event_types::LOCK, Some("")) => ("lock", content()),
            (event_types::UNLOCK, Some(lock)) => ("unlock", vec![("lock", json!(lock))]),
            (event_types::APPROVAL, Some(_)) => ("approval", content()),
            _ => return None,
        };
        let about = [
            ("eventId", json!(self.id)),
            ("sender", json!(self.sender)),
            ("timestamp", json!(self.timestamp)),
        ];
        let data = about.into_iter().chain(more);
        let data: Map<String, Value> = data.map(|(key, value)| (key.to_owned(), value)).collect();
        Some((name, data.into()))
    }

    /// The other decisions are about comments.
    fn is_of_suggestion(&self) -> bool {
        let outcome = self.content.get("outcome").and_then(Value::as_str);
        matches!(outcome, Some("accepted" | "rejected" | "withdrawn"))
    }

    /// A comment has an anchor, or answers one in its thread.
    fn is_comment(&self) -> bool {
        let relation = self.content.pointer("/m.relates_to/rel_type");
        relation.and_then(Value::as_str) == Some("m.thread") || self.content.get(event_types::ANCHOR).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_point_is_read_as_it_was_written() {
        let point = Point {
            version: 7,
            position: u64::MAX,
        };
        assert_eq!(Point::parse(&point.to_string()), Some(point));
        for id in [
            "",
            ".",
            "7",
            "7.",
            ".7",
            "-1.7",
            "7.18446744073709551616",
            "7.7.7",
            "a.b",
        ] {
            assert_eq!(Point::parse(id), None, "{id}");
        }
    }

    #[test]
    fn an_event_has_one_line_for_its_data() {
        let point = Point {
            version: 1,
            position: 2,
        };
        let text = event("chat", point, &json!({"body": "a\nb\r\nc\u{2028}"}));
        assert_eq!(
            text,
            "event: chat\nid: 1.2\ndata: {\"body\":\"a\\nb\\r\\nc\u{2028}\"}\n\n".as_bytes()
        );
    }

    #[test]
    fn messages_are_chat_or_comments() {
        let named = |kind: &str, state_key: Option<&str>, content: Value| {
            let event = RoomEvent {
                kind: kind.to_owned(),
                state_key: state_key.map(str::to_owned),
                id: "$e".to_owned(),
                sender: "@a:x".to_owned(),
                timestamp: 1,
                content,
            };
            event.shown().map(|(name, _)| name)
        };
        let thread = json!({"body": "x", "m.relates_to": {"rel_type": "m.thread", "event_id": "$r"}});
        let anchored = json!({"body": "x", "dev.weft.anchor": {}});
        for (kind, key, content, name) in [
            ("m.room.message", None, json!({"body": "x"}), Some("chat")),
            ("m.room.message", None, thread, Some("comment")),
            ("m.room.message", None, anchored, Some("comment")),
            ("m.room.message", Some(""), json!({"body": "x"}), None),
            (
                "m.room.member",
                Some("@a:x"),
                json!({"membership": "join"}),
                Some("member"),
            ),
            ("dev.weft.version", None, json!({"name": "1"}), Some("version")),
            ("dev.weft.suggestion", None, json!({"update": ""}), Some("suggestion")),
            (
                "dev.weft.resolution",
                None,
                json!({"outcome": "rejected"}),
                Some("suggestion"),
            ),
            ("dev.weft.resolution", None, json!({"outcome": "open"}), Some("comment")),
            ("m.room.topic", Some(""), json!({}), None),
        ] {
            assert_eq!(named(kind, key, content), name, "{kind}");
        }
    }
}
