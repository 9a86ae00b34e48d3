//! Stripped state: what a user outside of a room is shown of it with an invite or a knock, for example its name,
//! avatar, type, and the sender of the invite.
//!
//! Must not show anything that is not in the list of the specification ("Stripped state").

use std::sync::Arc;

use ruma::UserId;
use serde_json::value::{RawValue, to_raw_value};

use crate::{Pdu, StateView};

/// The entries of the state that may be shown, and the member event of the user `about`.
#[must_use]
pub fn entries(state: &StateView, about: &UserId) -> Vec<Arc<Pdu>> {
    const SHOWN: [&str; 9] = [
        "m.room.create",
        "m.room.name",
        "m.room.avatar",
        "m.room.topic",
        "m.room.join_rules",
        "m.room.canonical_alias",
        "m.room.encryption",
        weft_wire::event_types::DOCUMENT,
        "m.room.tombstone",
    ];
    let shown = SHOWN.iter().filter_map(|kind| state.get(kind, ""));
    shown
        .chain(state.get("m.room.member", about.as_str()))
        .cloned()
        .collect()
}

/// For other servers: complete events, so that the create event can be checked against the room id (MSC4311).
#[must_use]
pub fn for_servers(state: &StateView, about: &UserId) -> Vec<Box<RawValue>> {
    entries(state, about)
        .iter()
        .filter_map(|pdu| RawValue::from_string(pdu.json().to_owned()).ok())
        .collect()
}

/// For clients: type, state key, sender and content.
#[must_use]
pub fn for_clients(events: &[Arc<Pdu>]) -> Vec<Box<RawValue>> {
    #[derive(serde::Serialize)]
    struct Stripped<'a> {
        #[serde(rename = "type")]
        kind: &'a str,
        state_key: Option<&'a str>,
        sender: &'a UserId,
        content: &'a RawValue,
    }
    let strip = |pdu: &Arc<Pdu>| {
        to_raw_value(&Stripped {
            kind: pdu.kind(),
            state_key: pdu.state_key(),
            sender: pdu.sender(),
            content: pdu.content(),
        })
        .ok()
    };
    events.iter().filter_map(strip).collect()
}
