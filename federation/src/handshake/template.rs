//! What is taken from another server's event template, and our own event made of it.
//!
//! Must not copy any field that isn't named here.

use std::collections::BTreeSet;

use ruma::{MilliSecondsSinceUnixEpoch, OwnedEventId, OwnedUserId, RoomVersionId, ServerName};
use serde::Deserialize;
use serde_json::value::RawValue;
use weft_dag::{Draft, Placement, RoomVersion, Signed, Signer};
use weft_wire::limits;

use super::{HandshakeError, Wanted, bad_answer};

/// The fields of a template that count.
#[derive(Debug, Deserialize)]
pub(crate) struct Hints {
    prev_events: Vec<OwnedEventId>,
    pub(super) auth_events: Vec<OwnedEventId>,
    depth: u64,
    #[serde(default)]
    origin_server_ts: Option<MilliSecondsSinceUnixEpoch>,
    #[serde(default)]
    content: Content,
}

#[derive(Debug, Default, Deserialize)]
struct Content {
    #[serde(default)]
    join_authorised_via_users_server: Option<OwnedUserId>,
}

/// Reads the hints of a template.
pub(crate) fn hints(server: &ServerName, template: &RawValue) -> Result<Hints, HandshakeError> {
    let hints: Hints = serde_json::from_str(template.get())
        .map_err(|error| bad_answer(server, format!("the template has the wrong form: {error}")))?;
    if hints.prev_events.is_empty()
        || hints.prev_events.len() > limits::MAX_PREV_EVENTS
        || hints.auth_events.len() > limits::MAX_AUTH_EVENTS
    {
        return Err(bad_answer(
            server,
            "the template follows or cites a number of events that is not allowed",
        ));
    }
    if repeats(&hints.prev_events) || repeats(&hints.auth_events) {
        return Err(bad_answer(server, "the template names an event twice"));
    }
    Ok(hints)
}

/// Whether an id is named twice. Other servers may drop an event that cites one twice.
fn repeats(ids: &[OwnedEventId]) -> bool {
    let mut seen = BTreeSet::new();
    !ids.iter().all(|id| seen.insert(id))
}

/// The version that the other server names, if we speak it.
pub(super) fn version(named: Option<RoomVersionId>) -> Result<RoomVersion, HandshakeError> {
    // Without a name it is version 1 (Matrix specification), which nobody should speak any more.
    let named = named.unwrap_or(RoomVersionId::V1);
    RoomVersion::new(&named).map_err(|_| HandshakeError::Version(named.to_string()))
}

/// Our member event: kind, sender, state key, room and membership are ours, whatever the template said.
pub(crate) fn sign(
    wanted: &Wanted,
    membership: &str,
    hints: Hints,
    version: &RoomVersion,
    now: MilliSecondsSinceUnixEpoch,
    signer: &Signer,
) -> Result<Signed, HandshakeError> {
    let mut content = wanted.content.clone();
    content.insert("membership".to_owned(), membership.into());
    content.remove("join_authorised_via_users_server");
    // One of our own users can't vouch for a join to a room that we are not in: naming one would make us sign
    // in their name.
    let voucher = hints.content.join_authorised_via_users_server;
    let voucher = voucher.filter(|user| membership == "join" && user.server_name() != signer.server_name());
    if let Some(user) = voucher {
        content.insert("join_authorised_via_users_server".to_owned(), user.as_str().into());
    }
    let draft = Draft {
        sender: wanted.user.clone(),
        kind: "m.room.member".to_owned(),
        state_key: Some(wanted.user.to_string()),
        content,
        redacts: None,
        room_id: Some(wanted.room_id.clone()),
    };
    let placement = Placement {
        prev_events: hints.prev_events,
        auth_events: hints.auth_events,
        depth: hints.depth.min(limits::MAX_DEPTH),
        // Its clock knows when the user's last stay ended, and ours may be behind it.
        origin_server_ts: Placement::time_after(now, hints.origin_server_ts),
    };
    Ok(draft.sign(version, placement, signer)?)
}

#[cfg(test)]
mod vectors;
