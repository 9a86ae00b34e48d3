//! The end of the time in the bin: a user who is alone in a document leaves and forgets it, a while after they moved it to the
//! bin. That it is due follows from the state of the document, so there is nothing to record.
//!
//! Must not take a document from anybody else: one with another member or an invited user stays in the bin.

use ruma::{RoomId, UserId, events::room::member::MembershipState};
use serde_json::{Map, json};
use weft_dag::StateView;
use weft_http::errors::ApiResult;
use weft_room_api::{NewEvent, RoomError, StateCondition};
use weft_wire::{document::BinContent, event_types, limits::OPERATOR_PAGE_DOCUMENTS};

use crate::{DocumentPorts, caller::open_room};

/// Leaves and forgets the documents that were moved to the bin before this time (milliseconds since 1970) by their only member.
/// Returns their number.
///
/// # Errors
/// When the store fails. A document that can't be left stays, and is tried again by the next call.
pub async fn remove_expired(ports: &DocumentPorts, before: u64) -> ApiResult<usize> {
    let reader = ports.rooms.reader();
    let (mut removed, mut after) = (0, None);
    loop {
        let rooms = reader.rooms_after(after.as_deref(), OPERATOR_PAGE_DOCUMENTS).await?;
        for room in &rooms {
            let [user] = &reader.local_members(room).await?[..] else {
                continue;
            };
            let document = reader.document_of(user, room).await?;
            let since = document.and_then(|document| document.in_bin_since);
            if since.is_none_or(|since| since >= before) || reader.joined_count(room).await? > 1 {
                continue;
            }
            match leave_and_forget(ports, room, user, before).await {
                Ok(left) => removed += usize::from(left),
                Err(error) => {
                    let error = error.message();
                    tracing::debug!(%room, %user, error, "a document in the bin was not left");
                }
            }
        }
        match rooms.into_iter().last() {
            Some(last) => after = Some(last),
            None => return Ok(removed),
        }
    }
}

async fn leave_and_forget(ports: &DocumentPorts, room: &RoomId, user: &UserId, before: u64) -> ApiResult<bool> {
    let _lock = ports.membership.lock(user, user, room).await?;
    let state = open_room(ports, room, user).await?.state;
    let Some(conditions) = expired(&state, user, before) else {
        return Ok(false);
    };
    let leave = NewEvent {
        sender: user.to_owned(),
        kind: "m.room.member".to_owned(),
        state_key: Some(user.to_string()),
        content: Map::from_iter([("membership".to_owned(), json!("leave"))]),
        redacts: None,
        txn: None,
        timestamp: None,
    };
    match ports.rooms.send_if(room, leave, conditions).await {
        Ok(_) => {}
        // It was taken out of the bin at this moment.
        Err(RoomError::StateChanged { .. }) => return Ok(false),
        Err(error) => return Err(error.into()),
    }
    ports.rooms.forget(room, user).await?;
    Ok(true)
}

/// The condition under which the document is left; `None` if it is not due.
fn expired(state: &StateView, user: &UserId, before: u64) -> Option<Vec<StateCondition>> {
    // A time that another user wrote proves nothing.
    let bin = state.get(event_types::BIN, "").filter(|bin| bin.sender() == user)?;
    let is_due =
        bin.content_as::<BinContent>().is_ok_and(|bin| bin.in_bin) && u64::from(bin.origin_server_ts().get()) < before;
    let others = state
        .of_type("m.room.member")
        .filter_map(|pdu| pdu.state_key())
        .any(|other| {
            other != user.as_str()
                && UserId::parse(other).is_ok_and(|other| {
                    matches!(
                        state.membership(&other),
                        MembershipState::Join | MembershipState::Invite
                    )
                })
        });
    (is_due && !others).then(|| {
        vec![StateCondition {
            kind: event_types::BIN.to_owned(),
            state_key: String::new(),
            event: Some(bin.event_id().to_owned()),
        }]
    })
}
