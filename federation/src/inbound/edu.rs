//! EDUs of other servers: only known types, and only for users of the sending server (T50 to T53).
//!
//! Must not pass on anything about a user of another server than the one that sent the EDU.

use ruma::{MilliSecondsSinceUnixEpoch, OwnedEventId, OwnedRoomId, OwnedUserId, RoomId, ServerName};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use weft_wire::{
    awareness::AwarenessEdu,
    event_types, limits,
    presence::{PresenceEdu, PresenceEntry},
};

use crate::tally::Tally;

/// An EDU about a user of the server that sent it.
#[derive(Debug, Clone, PartialEq)]
pub enum InboundEdu {
    /// A user started or stopped typing.
    Typing {
        /// The room.
        room_id: OwnedRoomId,
        /// The user.
        user_id: OwnedUserId,
        /// Whether the user is typing.
        typing: bool,
    },
    /// A user has read up to an event.
    Receipt(Receipt),
    /// The awareness state of a user in a document.
    Awareness(AwarenessEdu),
    /// The presence of a user.
    Presence(PresenceEntry),
}

/// A public read receipt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// The room.
    pub room_id: OwnedRoomId,
    /// The user.
    pub user_id: OwnedUserId,
    /// The event up to which the user has read.
    pub event_id: OwnedEventId,
    /// The thread: an event id, `main`, or none.
    pub thread_id: Option<String>,
    /// The time of reading, as the other server reports it.
    pub ts: Option<MilliSecondsSinceUnixEpoch>,
}

impl InboundEdu {
    /// The room of the EDU; `None` if it concerns a user independently of rooms.
    #[must_use]
    pub fn room_id(&self) -> Option<&RoomId> {
        match self {
            Self::Typing { room_id, .. } => Some(room_id),
            Self::Receipt(receipt) => Some(&receipt.room_id),
            Self::Awareness(edu) => Some(&edu.room_id),
            Self::Presence(_) => None,
        }
    }

    fn has_short_ids(&self) -> bool {
        let event = match self {
            Self::Receipt(receipt) => Some(receipt.event_id.as_str()),
            Self::Awareness(edu) => Some(edu.device_id.as_str()),
            Self::Typing { .. } | Self::Presence(_) => None,
        };
        let room = self.room_id().map(RoomId::as_str);
        [Some(self.user_id().as_str()), room, event]
            .into_iter()
            .flatten()
            .all(is_short)
    }

    /// The user of the EDU.
    #[must_use]
    pub fn user_id(&self) -> &OwnedUserId {
        match self {
            Self::Typing { user_id, .. } => user_id,
            Self::Receipt(receipt) => &receipt.user_id,
            Self::Awareness(edu) => &edu.user_id,
            Self::Presence(presence) => &presence.user_id,
        }
    }
}

#[derive(Deserialize)]
struct Envelope<'a> {
    edu_type: String,
    #[serde(borrow)]
    content: &'a RawValue,
}

#[derive(Deserialize)]
struct Typing {
    room_id: OwnedRoomId,
    user_id: OwnedUserId,
    typing: bool,
}

type Receipts = BTreeMap<OwnedRoomId, BTreeMap<String, BTreeMap<OwnedUserId, ReceiptContent>>>;

#[derive(Deserialize)]
struct ReceiptContent {
    event_ids: Vec<OwnedEventId>,
    #[serde(default)]
    data: ReceiptData,
}

#[derive(Default, Deserialize)]
struct ReceiptData {
    ts: Option<MilliSecondsSinceUnixEpoch>,
    thread_id: Option<String>,
}

/// Returns the acceptable parts of an EDU; most errors make it empty.
pub(crate) fn parse(origin: &ServerName, raw: &RawValue, refused: &mut Tally) -> Vec<InboundEdu> {
    if raw.get().len() > limits::MAX_EDU_BYTES {
        refused.note(&format_args!("{} bytes are over the limit", raw.get().len()));
        return Vec::new();
    }
    let Ok(envelope) = serde_json::from_str::<Envelope<'_>>(raw.get()) else {
        refused.note("no type or content");
        return Vec::new();
    };
    let mut edus = match envelope.edu_type.as_str() {
        "m.typing" => content(&envelope).map(typing).into_iter().collect(),
        "m.receipt" => content(&envelope).map(receipts).unwrap_or_default(),
        event_types::AWARENESS_EDU => {
            let edu: Option<AwarenessEdu> = content(&envelope);
            edu.filter(|edu| edu.check().is_ok())
                .map(InboundEdu::Awareness)
                .into_iter()
                .collect()
        }
        "m.presence" => content(&envelope).map(presences).unwrap_or_default(),
        // Device and key EDUs are not supported: nothing here uses them yet.
        _ => Vec::new(),
    };
    let all = edus.len();
    edus.retain(InboundEdu::has_short_ids);
    if edus.len() < all {
        refused.note(&format_args!("{} with ids that are too long", envelope.edu_type));
    }
    let all = edus.len();
    edus.retain(|edu| edu.user_id().server_name() == origin);
    if edus.len() < all {
        refused.note(&format_args!("{} for a user of another server", envelope.edu_type));
    }
    edus
}

fn content<T: DeserializeOwned>(envelope: &Envelope<'_>) -> Option<T> {
    serde_json::from_str(envelope.content.get()).ok()
}

fn typing(content: Typing) -> InboundEdu {
    InboundEdu::Typing {
        room_id: content.room_id,
        user_id: content.user_id,
        typing: content.typing,
    }
}

fn presences(content: PresenceEdu) -> Vec<InboundEdu> {
    content.push.into_iter().map(InboundEdu::Presence).collect()
}

/// Private receipts are never federated: only `m.read` is accepted.
fn receipts(content: Receipts) -> Vec<InboundEdu> {
    let mut all = Vec::new();
    for (room_id, mut kinds) in content {
        for (user_id, receipt) in kinds.remove("m.read").unwrap_or_default() {
            let ReceiptData { ts, thread_id } = receipt.data;
            if thread_id.as_deref().is_some_and(|thread| !is_thread(thread))
                || all.len() >= limits::MAX_RECEIPTS_PER_EDU
            {
                continue;
            }
            if let Some(event_id) = receipt.event_ids.into_iter().next_back() {
                all.push(InboundEdu::Receipt(Receipt {
                    room_id: room_id.clone(),
                    user_id,
                    event_id,
                    thread_id,
                    ts,
                }));
            }
        }
    }
    all
}

/// A thread is the main timeline or named by its root event (Matrix specification, "Threaded read receipts").
fn is_thread(thread: &str) -> bool {
    thread == "main" || (is_short(thread) && <&ruma::EventId>::try_from(thread).is_ok())
}

/// Whether an id is at most as long as an event id may be: a longer one belongs to no room member, and would be
/// stored.
fn is_short(id: &str) -> bool {
    id.len() <= limits::MAX_EVENT_FIELD_BYTES
}

#[cfg(test)]
mod vectors;

#[cfg(test)]
mod tests {
    use ruma::server_name;
    use serde_json::{json, value::to_raw_value};

    use super::{InboundEdu, Tally, parse};

    fn edus(edu: &serde_json::Value) -> Vec<InboundEdu> {
        parse(
            server_name!("beta.test"),
            &to_raw_value(edu).unwrap(),
            &mut Tally::default(),
        )
    }

    #[test]
    fn edus_about_users_of_other_servers_are_ignored() {
        let typing = |user: &str| {
            let content = json!({ "room_id": "!r:beta.test", "user_id": user, "typing": true });
            edus(&json!({ "edu_type": "m.typing", "content": content })).len()
        };
        assert_eq!(
            (typing("@bob:beta.test"), typing("@alice:alpha.test"), typing("nobody")),
            (1, 0, 0)
        );

        let there = |user: &str| json!({ "user_id": user, "presence": "online", "last_active_ago": 5, "more": [] });
        let push = json!([there("@alice:alpha.test"), 5, there("@bob:beta.test")]);
        let taken = edus(&json!({ "edu_type": "m.presence", "content": { "push": push } }));
        let [InboundEdu::Presence(presence)] = &*taken else {
            panic!("{taken:?}");
        };
        assert_eq!(
            (presence.user_id.as_str(), presence.last_active_ago),
            ("@bob:beta.test", Some(5))
        );

        let read = json!({ "event_ids": ["$e:x"], "data": { "ts": 5 } });
        let users = json!({ "@bob:beta.test": read, "@alice:alpha.test": read, "@carl:beta.test": read });
        let receipts = json!({ "!r:beta.test": { "m.read": users, "m.read.private": users } });
        let taken = edus(&json!({ "edu_type": "m.receipt", "content": receipts }));
        let users: Vec<_> = taken.iter().map(|edu| edu.user_id().as_str()).collect();
        assert_eq!(users, ["@bob:beta.test", "@carl:beta.test"]);

        let cursor = |user: &str, state: serde_json::Value| {
            let content = json!({ "room_id": "!r:beta.test", "user_id": user, "device_id": "D", "client_id": 7, "clock": 1, "state": state });
            edus(&json!({ "edu_type": "dev.weft.awareness", "content": content })).len()
        };
        assert_eq!(cursor("@bob:beta.test", json!({ "user": {} })), 1);
        assert_eq!(cursor("@bob:beta.test", json!(null)), 1);
        assert_eq!(cursor("@bob:beta.test", json!("text")), 0);
        assert_eq!(cursor("@bob:beta.test", json!({ "x": "y".repeat(3_000) })), 0);
        assert_eq!(cursor("@alice:alpha.test", json!({})), 0);
    }

    #[test]
    fn unknown_and_oversized_edus_are_ignored() {
        for edu in [
            json!({ "edu_type": "m.presence", "content": { "push": [{ "user_id": "@bob:beta.test" }] } }),
            json!({ "edu_type": "m.presence", "content": { "push": [{ "user_id": "@bob:beta.test", "presence": "odd" }] } }),
            json!({ "edu_type": "m.presence", "content": { "push": {} } }),
            json!({ "edu_type": "m.direct_to_device", "content": {} }),
            json!({ "edu_type": "org.example", "content": "x".repeat(1_000_000) }),
            json!({ "edu_type": "m.typing", "content": [] }),
            json!({ "edu_type": "m.typing" }),
            json!("m.typing"),
        ] {
            assert!(edus(&edu).is_empty());
        }
    }
}
