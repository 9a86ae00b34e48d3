//! POST /_matrix/client/v3/createRoom

use std::sync::Arc;

use axum::{Json, Router, extract::State};
use ruma::{
    OwnedRoomAliasId, OwnedUserId, RoomAliasId, RoomId, UserId,
    api::client::room::{
        Visibility,
        create_room::v3::{self, RoomPreset},
    },
    serde::Raw,
};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use weft_accounts::Accounts;
use weft_http::{
    authentication::Authenticated,
    errors::{ApiError, ApiResult},
    ruma_json::{Ruma, RumaRoutes},
};
use weft_room::Rooms;
use weft_room_api::{CreateRoom, InitialState, Preset};
use weft_wire::{document::DocumentContent, event_types, limits::MAX_INVITES_PER_REQUEST};

use super::{Ports, aliases::check_named_initially, remote::Remote};

pub(super) fn routes() -> Router<Ports> {
    Router::new().endpoint::<v3::Request, _, _>(create)
}

async fn create(
    State(rooms): State<Rooms>,
    State(accounts): State<Accounts>,
    State(remote): State<Arc<dyn Remote>>,
    caller: Authenticated,
    Ruma(request): Ruma<v3::Request>,
) -> ApiResult<Json<Value>> {
    if request.invite.len() > MAX_INVITES_PER_REQUEST {
        return Err(ApiError::invalid_param(format!(
            "At most {MAX_INVITES_PER_REQUEST} users can be invited at once."
        )));
    }
    if !request.invite_3pid.is_empty() {
        return Err(ApiError::invalid_param(
            "Invitations by third-party id are not supported; use the Matrix user id.",
        ));
    }
    let (ours, theirs): (Vec<OwnedUserId>, Vec<OwnedUserId>) =
        request.invite.iter().cloned().partition(|user| accounts.is_local(user));
    let is_direct = request.is_direct;
    let profile = accounts
        .profile(&caller.user_id)
        .await?
        .unwrap_or_default()
        .for_member_event();
    let room = rooms
        .create(&caller.user_id, described(&accounts, request, ours, profile)?)
        .await?;
    invite_others(&remote, &caller.user_id, &room, &theirs, is_direct).await;
    Ok(Json(json!({"room_id": room})))
}

/// The request as `room` describes it.
fn described(
    accounts: &Accounts,
    request: v3::Request,
    invite: Vec<OwnedUserId>,
    profile: Map<String, Value>,
) -> ApiResult<CreateRoom> {
    let alias = request.room_alias_name.map(|name| alias(accounts, &name)).transpose()?;
    let creation_content = request
        .creation_content
        .as_ref()
        .map(object)
        .transpose()?
        .unwrap_or_default();
    let mut initial_state = Vec::with_capacity(request.initial_state.len());
    for event in &request.initial_state {
        let event = initial(event)?;
        if event.kind == "m.room.canonical_alias" && event.state_key.is_empty() {
            check_named_initially(alias.as_ref(), &event.content)?;
        }
        initial_state.push(event);
    }
    // A document created through this endpoint also gets the roles of a document.
    let is_document = creation_content.get("type").and_then(Value::as_str) == Some(event_types::DOCUMENT_ROOM);
    let document = is_document.then(|| document_kind(&initial_state)).transpose()?;
    Ok(CreateRoom {
        version: request.room_version,
        room_id: None,
        preset: request.preset.map(preset).transpose()?,
        public: request.visibility == Visibility::Public,
        creation_content,
        initial_state,
        name: request.name,
        topic: request.topic,
        invite,
        is_direct: request.is_direct,
        power_level_content_override: request.power_level_content_override.as_ref().map(object).transpose()?,
        alias,
        document,
        profile,
    })
}

fn document_kind(initial_state: &[InitialState]) -> ApiResult<weft_wire::document::DocumentKind> {
    let given = initial_state
        .iter()
        .find(|event| event.kind == event_types::DOCUMENT && event.state_key.is_empty());
    let given = given.ok_or_else(|| {
        ApiError::missing_param(format!(
            "A document must specify its kind by {} in initial_state.",
            event_types::DOCUMENT
        ))
    })?;
    let content: DocumentContent = serde_json::from_value(given.content.clone())?;
    Ok(content.kind)
}

fn alias(accounts: &Accounts, name: &str) -> ApiResult<OwnedRoomAliasId> {
    let bad = || ApiError::invalid_param("room_alias_name must be the part of an alias between # and the colon.");
    if name.is_empty() || name.contains([':', '#']) || name.chars().any(char::is_whitespace) {
        return Err(bad());
    }
    RoomAliasId::parse(format!("#{name}:{}", accounts.server_name())).map_err(|_| bad())
}

fn object<T>(raw: &Raw<T>) -> ApiResult<Map<String, Value>> {
    Ok(serde_json::from_str(raw.json().get())?)
}

fn initial<T>(raw: &Raw<T>) -> ApiResult<InitialState> {
    #[derive(Deserialize)]
    struct Given {
        #[serde(rename = "type")]
        kind: String,
        #[serde(default)]
        state_key: String,
        content: Value,
    }
    let given: Given = serde_json::from_str(raw.json().get())?;
    Ok(InitialState {
        kind: given.kind,
        state_key: given.state_key,
        content: given.content,
    })
}

fn preset(preset: RoomPreset) -> ApiResult<Preset> {
    match preset {
        RoomPreset::PrivateChat => Ok(Preset::PrivateChat),
        RoomPreset::TrustedPrivateChat => Ok(Preset::TrustedPrivateChat),
        RoomPreset::PublicChat => Ok(Preset::PublicChat),
        _ => Err(ApiError::invalid_param("Unknown preset.")),
    }
}

/// Invites users of other servers. The room already exists, so a failed invitation does not undo it: the creator sees who
/// is missing and can invite again.
async fn invite_others(
    remote: &Arc<dyn Remote>,
    inviter: &UserId,
    room: &RoomId,
    invitees: &[OwnedUserId],
    is_direct: bool,
) {
    for invitee in invitees {
        let content = if is_direct {
            Map::from_iter([("is_direct".to_owned(), true.into())])
        } else {
            Map::new()
        };
        if let Err(error) = remote.invite(inviter, invitee, room, content).await {
            tracing::warn!(
                event = "membership.invite_not_sent", %room, %invitee, %error,
                "cannot invite a remote user to a new room"
            );
        }
    }
}
