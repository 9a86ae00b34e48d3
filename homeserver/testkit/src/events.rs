//! Events that tests send, sign and check. Must not build a room: see [`weft_dag::testing::World`].

use std::sync::Arc;

use ruma::{CanonicalJsonObject, OwnedUserId, RoomId, UserId};
use serde_json::Value;
use weft_dag::{Draft, Pdu, Placement, RoomVersion, Unchecked, Verified, testing};
use weft_room_api::{JoinAnswer, JoinedRoom, NewEvent};

/// A user.
///
/// # Panics
/// If it is not a user id.
#[must_use]
pub fn user(id: &str) -> OwnedUserId {
    UserId::parse(id).unwrap()
}

/// An event of a local user: a state event if it has a state key.
///
/// # Panics
/// If the content is not an object.
#[must_use]
pub fn new_event(sender: &UserId, kind: &str, state_key: Option<&str>, content: Value) -> NewEvent {
    NewEvent {
        sender: sender.to_owned(),
        kind: kind.to_owned(),
        state_key: state_key.map(ToOwned::to_owned),
        content: serde_json::from_value(content).unwrap(),
        redacts: None,
        txn: None,
        timestamp: None,
    }
}

/// The checks of a server on a received event: format, signatures, hash.
#[must_use]
pub fn check_json(json: &str, version: &RoomVersion) -> Option<Verified> {
    verify(Unchecked::parse(json, version).ok()?)
}

/// An event of an honest server, checked as [`check_json`] does.
///
/// # Panics
/// If it is invalid.
#[must_use]
pub fn check(pdu: &Pdu, version: &RoomVersion) -> Verified {
    check_json(pdu.json(), version).unwrap()
}

/// Checks the signatures with the keys of the test servers.
#[must_use]
pub fn verify(unchecked: Unchecked) -> Option<Verified> {
    let keys = testing::verify_keys(unchecked.needed_keys().into_keys());
    unchecked.verify(&keys).ok()
}

/// The event of a membership template, built from the known fields as federation does, and signed by the user's server.
///
/// # Panics
/// If the template is invalid.
#[must_use]
pub fn sign_template(user: &UserId, room: &RoomId, template: &CanonicalJsonObject, version: &RoomVersion) -> Arc<Pdu> {
    let value = serde_json::to_value(template).unwrap();
    let draft = Draft {
        sender: user.to_owned(),
        kind: "m.room.member".to_owned(),
        state_key: Some(user.to_string()),
        content: testing::object(value["content"].clone()),
        redacts: None,
        room_id: Some(room.to_owned()),
    };
    let placement = Placement {
        prev_events: serde_json::from_value(value["prev_events"].clone()).unwrap(),
        auth_events: serde_json::from_value(value["auth_events"].clone()).unwrap(),
        depth: value["depth"].as_u64().unwrap(),
        origin_server_ts: serde_json::from_value(value["origin_server_ts"].clone()).unwrap(),
    };
    let signer = testing::signer(user.server_name());
    draft.sign(version, placement, &signer).unwrap().pdu
}

/// What a joining server makes of the answer to `send_join`, with the snapshot of the text that it requested.
///
/// # Panics
/// If the room's version is unknown or the join itself is invalid.
#[must_use]
pub fn joined_room(answer: &JoinAnswer, resident: &ruma::ServerName, snapshot: Option<bytes::Bytes>) -> JoinedRoom {
    let version = RoomVersion::new(&answer.version).unwrap();
    let all = |events: &[Arc<Pdu>]| {
        let checked = events.iter().filter_map(|pdu| check_json(pdu.json(), &version));
        checked.collect()
    };
    JoinedRoom {
        version: answer.version.clone(),
        state: all(&answer.state),
        auth_chain: all(&answer.auth_chain),
        event: check(&answer.event, &version),
        resident: resident.to_owned(),
        snapshot,
    }
}
