//! The end of an invitation or a knock of one of our users, as a server of the room sends it: this server is not in the room
//! and can't hold the event against the room's rules.
//!
//! It counts where it is signed, ends the very event that is open, and its sender is of the server that invited or took the
//! knock: that server can sign in the inviter's name anyway. Must not let anybody else take an invitation away, a member of
//! the room on a third server included, whose power can't be seen from here.

use ruma::{OwnedUserId, RoomId, UserId};
use serde::Deserialize;
use serde_json::value::RawValue;
use weft_dag::{Unchecked, Verified};

use super::{InboundError, InboundHandler};
use crate::{RemoteKeys, events::keys_for};

/// What an event of a room that this server is not in may be.
pub(super) enum Withdrawal {
    /// The end of an invitation or a knock; it counts.
    Valid(Verified),
    /// It would end one, and doesn't count.
    Refused(String),
    /// Something else.
    None,
}

/// Looks whether an event ends an invitation or a knock, and whether it may.
pub(super) async fn check(
    raw: &RawValue,
    room: &RoomId,
    keys: &RemoteKeys,
    intake: &dyn InboundHandler,
) -> Result<Withdrawal, InboundError> {
    let Some(user) = ended_user(raw) else {
        return Ok(Withdrawal::None);
    };
    let Some(open) = intake.outside(room, &user).await? else {
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
        return refused("it does not cite the invitation that is open");
    }
    let keys = keys_for(keys, std::slice::from_ref(&event)).await;
    match event.verify(&keys) {
        Ok(event) => Ok(Withdrawal::Valid(event)),
        Err(reason) => refused(&reason.to_string()),
    }
}

/// The user whose membership somebody else ends.
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
