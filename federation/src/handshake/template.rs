//! Reads another server's event template and builds our own event from it.
//!
//! Must not copy any field that isn't named here.

use std::collections::BTreeSet;

use ruma::{MilliSecondsSinceUnixEpoch, OwnedEventId, OwnedUserId, RoomVersionId, ServerName};
use serde::Deserialize;
use serde_json::value::RawValue;
use weft_dag::{Draft, Placement, RoomVersion, Signed, Signer};
use weft_wire::limits;

use super::{HandshakeError, Wanted, bad_answer};

/// The fields of a template that are used.
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

/// Reads the used fields of a template.
pub(crate) fn hints(server: &ServerName, template: &RawValue) -> Result<Hints, HandshakeError> {
    let hints: Hints = serde_json::from_str(template.get())
        .map_err(|error| bad_answer(server, format!("the template has the wrong form: {error}")))?;
    if hints.prev_events.is_empty()
        || hints.prev_events.len() > limits::MAX_PREV_EVENTS
        || hints.auth_events.len() > limits::MAX_AUTH_EVENTS
    {
        return Err(bad_answer(
            server,
            "the template has too few or too many prev_events or auth_events",
        ));
    }
    if repeats(&hints.prev_events) || repeats(&hints.auth_events) {
        return Err(bad_answer(server, "the template lists an event twice"));
    }
    Ok(hints)
}

/// Whether an id is repeated. Other servers may drop an event that cites an event twice.
fn repeats(ids: &[OwnedEventId]) -> bool {
    let mut seen = BTreeSet::new();
    !ids.iter().all(|id| seen.insert(id))
}

/// The version that the other server states, if it is supported.
pub(super) fn version(named: Option<RoomVersionId>) -> Result<RoomVersion, HandshakeError> {
    // A missing version means version 1 (Matrix specification), which is not supported.
    let named = named.unwrap_or(RoomVersionId::V1);
    RoomVersion::new(&named).map_err(|_| HandshakeError::Version(named.to_string()))
}

/// Signs our member event: type, sender, state key, room and membership are set here, whatever the template states.
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
    // A user of this server can't authorise a join to a room that this server is not in: with such a name we would
    // sign on that user's behalf.
    let authoriser = hints.content.join_authorised_via_users_server;
    let authoriser = authoriser.filter(|user| membership == "join" && user.server_name() != signer.server_name());
    if let Some(user) = authoriser {
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
        // The other server knows when the previous membership ended, and our clock may be behind its clock.
        origin_server_ts: Placement::time_after(now, hints.origin_server_ts),
    };
    Ok(draft.sign(version, placement, signer)?)
}

#[cfg(test)]
mod vectors;
