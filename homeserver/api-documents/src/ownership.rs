//! `POST /documents/{id}/owner`: another member becomes an owner, and the caller steps down, in one event.
//!
//! Must not leave the document without an owner, and must not claim that somebody stepped down who can't.

use axum::{Json, extract::State};
use ruma::{RoomId, UserId, events::room::member::MembershipState};
use serde_json::{Map, json};
use weft_dag::StateView;
use weft_http::{
    authentication::Authenticated,
    errors::{ApiError, ApiResult},
    openapi::{Operation, Routes},
};
use weft_room_api::{RoomError, StateCondition};
use weft_wire::{
    Role, errcode,
    rest::{Done, TransferDocument},
};

use super::{
    DocumentPorts,
    caller::{Named, joined, open_room},
    failures::may_not,
    lock::{MAX_ATTEMPTS, condition, state_event},
    request::JsonBody,
    roles,
};

pub(super) fn routes() -> Routes<DocumentPorts> {
    Routes::new("Sharing").post(
        "/_weft/client/v1/documents/{id}/owner",
        transfer,
        Operation::new(
            "transferDocument",
            "Makes another member an owner, and the caller a manager",
        )
        .refuses(403, "Below owner, or the creator would stay in the document."),
    )
}

/// 403 below owner, for a user who is not a member, and for a creator who would stay in the document.
async fn transfer(
    State(ports): State<DocumentPorts>,
    Authenticated(session): Authenticated,
    named: Named,
    JsonBody(request): JsonBody<TransferDocument>,
) -> ApiResult<Json<Done>> {
    let caller = session.user_id;
    if request.user == caller {
        return Err(ApiError::invalid_param("Name another user as the new owner."));
    }
    let room = joined(&ports, &named, &caller).await?;
    let lock = ports.membership.lock(&caller, &caller, &room).await?;
    lock.run(async move {
        pass_on(&ports, &room, &caller, &request).await?;
        if request.leave {
            let content = Map::from_iter([("membership".to_owned(), json!("leave"))]);
            let leave = state_event(&caller, "m.room.member", caller.as_str(), content);
            ports.rooms.send(&room, leave).await?;
        }
        Ok(Json(Done {}))
    })
    .await
}

async fn pass_on(ports: &DocumentPorts, room: &RoomId, caller: &UserId, request: &TransferDocument) -> ApiResult<()> {
    for _ in 0..MAX_ATTEMPTS {
        let state = open_room(ports, room, caller).await?.state;
        let levels = roles::with_new_owner(&state, caller, &request.user, request.leave)?;
        let levels = state_event(caller, "m.room.power_levels", "", levels);
        match ports
            .rooms
            .send_if(room, levels, conditions(&state, &request.user))
            .await
        {
            Ok(_) => return Ok(()),
            Err(RoomError::StateChanged { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(ApiError::unavailable(
        "The roles of this document are being changed. Try again.",
    ))
}

/// The roles, and that the new owner is in the document.
fn conditions(state: &StateView, user: &UserId) -> Vec<StateCondition> {
    let entries = [("m.room.power_levels", ""), ("m.room.member", user.as_str())];
    let of =
        |(kind, key): (&str, &str)| condition(kind, key, state.get(kind, key).map(|pdu| pdu.event_id().to_owned()));
    entries.map(of).to_vec()
}

/// Checks a transfer before the room does, for better errors.
pub(super) fn check(state: &StateView, caller: &UserId, user: &UserId, leaves: bool) -> ApiResult<()> {
    if Role::from_power(state.user_power(caller)) < Role::Owner || !state.can_send_state(caller, "m.room.power_levels")
    {
        return Err(may_not("pass on its ownership"));
    }
    if state.membership(user) != MembershipState::Join {
        return Err(ApiError::forbidden(format!("{user} is not a member of this document.")));
    }
    if roles::is_above_all(state, caller) && !leaves {
        let message = "The creator of a document has an owner's rights as long as they are a member. Leave it with \
                       \"leave\": true, or make another member an owner beside you.";
        return Err(ApiError::new(
            axum::http::StatusCode::FORBIDDEN,
            errcode::CREATOR_STAYS,
            message,
        ));
    }
    Ok(())
}
