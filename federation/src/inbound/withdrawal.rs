//! The end of an invite or a knock of one of our users, sent by a resident server of the room. This server is not in
//! the room and can't check the event against the authorisation rules.
//!
//! The event is valid if its signatures are, if it cites the pending invite or knock, and if its sender belongs to
//! the server that sent the invite or accepted the knock: that server could sign in the inviter's name anyway. Must
//! not let any other server end an invite, including a room member on a third server, whose power level can't be
//! checked here.

use ruma::{OwnedUserId, RoomId, UserId};
use serde::Deserialize;
use serde_json::value::RawValue;
use weft_dag::{Unchecked, Verified};

use super::{InboundError, InboundHandler};
use crate::{RemoteKeys, events::keys_for};

/// What an event of a room that this server is not in can be.
pub(super) enum Withdrawal {
    /// A valid end of an invite or a knock.
    Valid(Verified),
    /// It would end one, and is not valid.
    Refused(String),
    /// Something else.
    None,
}

/// Checks whether an event ends an invite or a knock, and whether its sender may do so.
pub(super) async fn check(
    raw: &RawValue,
    room: &RoomId,
    keys: &RemoteKeys,
    handler: &dyn InboundHandler,
) -> Result<Withdrawal, InboundError> {
    let Some(user) = ended_user(raw) else {
        return Ok(Withdrawal::None);
    };
    let Some(open) = handler.out_of_band_membership(room, &user).await? else {
        return Ok(Withdrawal::None);
    };
    let refused = |reason: &str| Ok(Withdrawal::Refused(reason.to_owned()));
    let event = match Unchecked::parse(raw.get(), &open.version) {
        Ok(event) => event,
        Err(reason) => return refused(&reason.to_string()),
    };
    if event.sender().server_name() != open.resident {
        return refused("only the server that invited can withdraw an invitation");
    }
    if !event.auth_events().contains(&open.event) {
        return refused("it does not cite the pending invitation");
    }
    let keys = keys_for(keys, std::slice::from_ref(&event)).await;
    match event.verify(&keys) {
        Ok(event) => Ok(Withdrawal::Valid(event)),
        Err(reason) => refused(&reason.to_string()),
    }
}

/// The user whose membership is ended by another user.
fn ended_user(raw: &RawValue) -> Option<OwnedUserId> {
    #[derive(Deserialize)]
    struct Event {
        #[serde(rename = "type")]
        kind: String,
        sender: OwnedUserId,
        state_key: OwnedUserId,
        content: Content,
    }
    #[derive(Deserialize)]
    struct Content {
        membership: String,
    }
    let event: Event = serde_json::from_str(raw.get()).ok()?;
    let ends = event.kind == "m.room.member"
        && matches!(event.content.membership.as_str(), "leave" | "ban")
        && *AsRef::<UserId>::as_ref(&event.sender) != *event.state_key;
    ends.then_some(event.state_key)
}
