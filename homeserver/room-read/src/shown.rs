//! The events of a document as programs get them, by streams of events and webhooks: the name and the data of each
//! (`spec/docs/documents-api.md`, "Events"). Must not read anything, and must not decide who may see an event.

use serde_json::{Map, Value, json};
use weft_dag::Pdu;
use weft_wire::{event_types, purpose::Purpose};

/// The names under which programs get the events of a document; `edit` is for changes of the text.
pub const EVENT_NAMES: [&str; 9] = [
    "edit",
    "chat",
    "comment",
    "member",
    "version",
    "suggestion",
    "lock",
    "unlock",
    "approval",
];

/// The name of an event that changes the text.
pub const EDIT: &str = "edit";

/// An event of a room, as programs get it.
#[derive(Debug, Clone)]
pub struct ShownEvent {
    kind: String,
    state_key: Option<String>,
    id: String,
    sender: String,
    /// `origin_server_ts`, in milliseconds since 1970.
    pub timestamp: u64,
    /// The content of the event.
    pub content: Value,
}

impl ShownEvent {
    /// An event.
    #[must_use]
    pub fn of(pdu: &Pdu) -> Self {
        Self {
            kind: pdu.kind().to_owned(),
            state_key: pdu.state_key().map(ToString::to_string),
            id: pdu.event_id().to_string(),
            sender: pdu.sender().to_string(),
            timestamp: pdu.origin_server_ts().get().into(),
            content: pdu.content_as().unwrap_or_default(),
        }
    }

    /// The name under which it is sent, with its data; `None` if it is of no such type. Of an update of the text
    /// this is what it is for, if it says that; the update itself has another form for each receiver.
    #[must_use]
    pub fn shown(&self) -> Option<(&'static str, Value)> {
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
            (event_types::UPDATE, None) => return self.purpose(),
            _ => return None,
        };
        Some((name, self.with(more)))
    }

    /// The data of an event, with more fields.
    fn with(&self, more: Vec<(&str, Value)>) -> Value {
        let about = [
            ("eventId", json!(self.id)),
            ("sender", json!(self.sender)),
            ("timestamp", json!(self.timestamp)),
        ];
        let data = about.into_iter().chain(more);
        let data: Map<String, Value> = data.map(|(key, value)| (key.to_owned(), value)).collect();
        data.into()
    }

    /// What an update is for. Acceptances are told by the decision that follows them, or by the part that is accepted.
    fn purpose(&self) -> Option<(&'static str, Value)> {
        let purpose: Purpose = serde_json::from_value(self.content.clone()).ok()?;
        let content = |key: &str, value: Value| {
            let content = Map::from_iter([(key.to_owned(), value)]);
            vec![("content", Value::Object(content))]
        };
        if let Some(restores) = purpose.restores {
            return Some(("restore", self.with(content("restores", json!(restores)))));
        }
        if let Some(undone) = purpose.rolls_back {
            return Some(("rollback", self.with(content("rolls_back", json!(undone)))));
        }
        let part = purpose.accepts_part.filter(|_| purpose.accepts.is_none())?;
        let mut more = content("accepts_part", json!(part));
        more.push(("type", json!(self.kind)));
        Some(("suggestion", self.with(more)))
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
    fn messages_are_chat_or_comments() {
        let named = |kind: &str, state_key: Option<&str>, content: Value| {
            let event = ShownEvent {
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
            (
                "dev.weft.update",
                None,
                json!({"update": "", "restores": {"heads": ["$a"]}}),
                Some("restore"),
            ),
            (
                "dev.weft.update",
                None,
                json!({"rolls_back": {"user": "@a:x"}}),
                Some("rollback"),
            ),
            (
                "dev.weft.update",
                None,
                json!({"accepts_part": {"suggestion": "$s"}}),
                Some("suggestion"),
            ),
            ("dev.weft.update", None, json!({"accepts": "$s"}), None),
            ("dev.weft.update", None, json!({"update": ""}), None),
        ] {
            assert_eq!(named(kind, key, content), name, "{kind}");
        }
    }

    #[test]
    fn every_name_is_listed() {
        for (kind, key, content) in [
            ("m.room.message", None, json!({})),
            ("m.room.message", None, json!({"dev.weft.anchor": {}})),
            ("m.room.member", Some("@a:x"), json!({})),
            ("dev.weft.version", None, json!({})),
            ("dev.weft.suggestion", None, json!({})),
            ("dev.weft.lock", Some(""), json!({})),
            ("dev.weft.unlock", Some("$l"), json!({})),
            ("dev.weft.approval", Some("@a:x"), json!({})),
        ] {
            let event = ShownEvent {
                kind: kind.to_owned(),
                state_key: key.map(str::to_owned),
                id: "$e".to_owned(),
                sender: "@a:x".to_owned(),
                timestamp: 1,
                content,
            };
            let name = event.shown().map(|(name, _)| name);
            assert!(name.is_some_and(|name| EVENT_NAMES.contains(&name)), "{kind}: {name:?}");
        }
    }
}
