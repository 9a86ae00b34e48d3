//! The client event format, and filters on events.
//!
//! Pure. Must not decide whether a user may see an event: the visibility rules of `room` are applied before.

use ruma::{
    EventId, MilliSecondsSinceUnixEpoch, RoomId, UserId,
    api::client::filter::{RoomEventFilter, UrlFilter},
};
use serde::Serialize;
use serde_json::{
    Map, Value,
    value::{RawValue, to_raw_value},
};
use weft_dag::Pdu;
use weft_room_read::{Types, UnsignedData};
use weft_wire::event_types;

#[derive(Serialize)]
struct ClientEvent<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    content: &'a RawValue,
    sender: &'a UserId,
    event_id: &'a EventId,
    origin_server_ts: MilliSecondsSinceUnixEpoch,
    #[serde(skip_serializing_if = "Option::is_none")]
    room_id: Option<&'a RoomId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    state_key: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    redacts: Option<&'a EventId>,
    #[serde(skip_serializing_if = "Map::is_empty")]
    unsigned: Map<String, Value>,
}

/// How an event is formatted.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shown {
    /// Include `room_id`: everywhere except in `/sync`.
    pub(super) room_id: bool,
    /// The current time, for `unsigned.age`.
    pub(super) now_ms: u64,
    /// Use the federation format (`event_format` of a filter).
    pub(super) federation: bool,
}

impl Shown {
    /// With `room_id`.
    pub(super) fn in_full(now_ms: u64) -> Self {
        Self {
            room_id: true,
            now_ms,
            federation: false,
        }
    }
}

/// An event in the client's format (Matrix specification, "Room event format").
pub(super) fn client_event(pdu: &Pdu, shown: Shown) -> Option<Box<RawValue>> {
    client_event_with(pdu, shown, &UnsignedData::default(), Map::new())
}

/// The same, with `unsigned` data, which includes the aggregations of related events.
pub(super) fn client_event_with(
    pdu: &Pdu,
    shown: Shown,
    beside: &UnsignedData,
    relations: Map<String, Value>,
) -> Option<Box<RawValue>> {
    if shown.federation {
        return RawValue::from_string(pdu.json().to_owned()).ok();
    }
    let sent: u64 = pdu.origin_server_ts().get().into();
    let age = shown.now_ms.saturating_sub(sent);
    let event = ClientEvent {
        kind: pdu.kind(),
        content: pdu.content(),
        sender: pdu.sender(),
        event_id: pdu.event_id(),
        origin_server_ts: pdu.origin_server_ts(),
        room_id: shown.room_id.then(|| pdu.room_id()),
        state_key: pdu.state_key(),
        redacts: pdu.redacts(),
        unsigned: unsigned(age, shown, beside, relations),
    };
    to_raw_value(&event).ok()
}

fn unsigned(age: u64, shown: Shown, beside: &UnsignedData, relations: Map<String, Value>) -> Map<String, Value> {
    let mut unsigned = Map::from_iter([("age".to_owned(), age.into())]);
    if let Some(transaction) = &beside.transaction {
        unsigned.insert("transaction_id".to_owned(), transaction.as_str().into());
    }
    let redaction = beside.redaction.as_ref().and_then(|pdu| client_event(pdu, shown));
    if let Some(redaction) = redaction.and_then(|event| serde_json::from_str(event.get()).ok()) {
        unsigned.insert("redacted_because".to_owned(), redaction);
    }
    if let Some(content) = beside.replaced.as_ref().and_then(|pdu| pdu.content_as().ok()) {
        unsigned.insert("prev_content".to_owned(), content);
    }
    if let Some(membership) = &beside.membership {
        unsigned.insert("membership".to_owned(), membership.as_str().into());
    }
    if !relations.is_empty() {
        unsigned.insert("m.relations".to_owned(), relations.into());
    }
    unsigned
}

/// Selects the index of the room's timeline for a filter: updates of the text are left out unless the filter names them, so
/// that a chat client finds its messages among thousands of keystrokes.
pub(super) fn types_of(filter: &RoomEventFilter) -> Types {
    let names_updates = |pattern: &String| {
        let mut left_out = event_types::LEFT_OUT_OF_TIMELINES.iter();
        pattern != "*" && left_out.any(|kind| matches_type(pattern, kind))
    };
    match &filter.types {
        Some(types) if types.iter().any(names_updates) => Types::All,
        _ => Types::WithoutUpdates,
    }
}

/// Whether an event passes a filter, ignoring the room.
pub(super) fn passes(filter: &RoomEventFilter, pdu: &Pdu) -> bool {
    passes_names(filter, pdu.kind(), Some(pdu.sender()))
        && match filter.url_filter {
            None => true,
            Some(UrlFilter::EventsWithUrl) => has_url(pdu),
            Some(UrlFilter::EventsWithoutUrl) => !has_url(pdu),
        }
}

/// Whether an event of this type, and by this sender if there is one, passes a filter.
pub(super) fn passes_names(filter: &RoomEventFilter, kind: &str, sender: Option<&UserId>) -> bool {
    let named = |types: &[String]| types.iter().any(|pattern| matches_type(pattern, kind));
    let by = |senders: &[ruma::OwnedUserId]| sender.is_some_and(|sender| senders.iter().any(|id| id == sender));
    filter.types.as_deref().is_none_or(named)
        && !named(&filter.not_types)
        && filter.senders.as_deref().is_none_or(by)
        && !by(&filter.not_senders)
}

/// Whether a room passes a filter.
pub(super) fn passes_room(filter: &RoomEventFilter, room: &RoomId) -> bool {
    filter
        .rooms
        .as_ref()
        .is_none_or(|rooms| rooms.iter().any(|id| id == room))
        && !filter.not_rooms.iter().any(|id| id == room)
}

fn has_url(pdu: &Pdu) -> bool {
    pdu.content_as::<Map<String, Value>>()
        .is_ok_and(|content| content.get("url").is_some_and(Value::is_string))
}

/// Type patterns: `*` matches any sequence of characters. One pass, no backtracking beyond the last star.
pub(super) fn matches_type(pattern: &str, kind: &str) -> bool {
    let mut pieces = pattern.split('*');
    let first = pieces.next().unwrap_or_default();
    let Some(mut rest) = kind.strip_prefix(first) else {
        return false;
    };
    let pieces: Vec<&str> = pieces.collect();
    let Some((last, middle)) = pieces.split_last() else {
        return rest.is_empty();
    };
    for piece in middle {
        match rest.find(piece) {
            Some(at) => rest = rest.get(at + piece.len()..).unwrap_or_default(),
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_in_the_specification() {
        for (pattern, kind, expected) in [
            ("m.room.message", "m.room.message", true),
            ("m.room.message", "m.room.messages", false),
            ("m.*", "m.room.message", true),
            ("*", "anything", true),
            ("*", "", true),
            ("m.*.key", "m.room.x.key", true),
            ("m.*.key", "m.room.key.x", false),
            ("*room*", "m.room.x", true),
            ("a*a", "a", false),
            ("a**b", "ab", true),
        ] {
            assert_eq!(matches_type(pattern, kind), expected, "{pattern} {kind}");
        }
    }

    #[test]
    fn updates_are_shown_if_the_filter_names_them() {
        let filter = |types: Option<&[&str]>| {
            let mut filter = RoomEventFilter::default();
            filter.types = types.map(|types| types.iter().map(|kind| (*kind).to_owned()).collect());
            types_of(&filter)
        };
        assert_eq!(filter(None), Types::WithoutUpdates);
        assert_eq!(filter(Some(&["*"])), Types::WithoutUpdates);
        assert_eq!(filter(Some(&["m.room.*"])), Types::WithoutUpdates);
        assert_eq!(filter(Some(&["dev.weft.update"])), Types::All);
        assert_eq!(filter(Some(&["dev.weft.witness"])), Types::All);
        assert_eq!(filter(Some(&["m.room.message", "dev.weft.*"])), Types::All);
    }
}
