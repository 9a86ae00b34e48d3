//! Resolves the document in a path, for a caller who has joined it.

use axum::{extract::FromRequestParts, http::request::Parts};
use futures_util::future::try_join;
use ruma::{OwnedRoomId, RoomAliasId, RoomId, UserId, events::room::member::MembershipState};
use weft_dag::StateView;
use weft_http::{
    errors::{ApiError, ApiResult},
    openapi::{Operation, Takes},
    path::InPath,
};
use weft_wire::{errcode, schema};

use super::DocumentPorts;

/// The room id or alias in the path.
pub(super) struct Named(pub(super) String);

impl<S: Send + Sync> FromRequestParts<S> for Named {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> ApiResult<Self> {
        let InPath(names) = InPath::<Vec<(String, String)>>::from_request_parts(parts, state).await?;
        let named = names.into_iter().find(|(name, _)| name == "id");
        named
            .map(|(_, id)| Self(id))
            .ok_or_else(|| ApiError::missing_param("The document is missing from the path."))
    }
}

impl Takes for Named {
    fn describe(operation: &mut Operation) {
        operation.set_path::<schema::DocumentName>("id", "The document.");
        operation.add_refusal(404, "The document does not exist, or the caller has not joined it.");
    }
}

/// A document that the caller has joined.
pub(super) struct Open {
    pub(super) room: OwnedRoomId,
    pub(super) state: StateView,
}

/// Finds the document and checks that the caller has joined it. Must not reveal its existence to other users.
pub(super) async fn joined(ports: &DocumentPorts, named: &Named, user: &UserId) -> ApiResult<OwnedRoomId> {
    let room = room_of(ports, &named.0).await?;
    check_joined(ports, &room, user).await?;
    Ok(room)
}

async fn check_joined(ports: &DocumentPorts, room: &RoomId, user: &UserId) -> ApiResult<()> {
    let reader = ports.rooms.reader();
    // Invitations and rooms that are not here have a membership too, and no version.
    let (membership, version) = try_join(reader.membership(room, user), reader.version(room)).await?;
    if membership != MembershipState::Join || version.is_none() {
        return Err(hidden());
    }
    if !reader.is_document(room).await? {
        return Err(ApiError::new(
            axum::http::StatusCode::NOT_FOUND,
            errcode::NOT_A_DOCUMENT,
            "This room is not a document.",
        ));
    }
    Ok(())
}

fn hidden() -> ApiError {
    ApiError::not_found("Document not found, or you are not a member of it.")
}

/// As [`joined`], with the state of the room.
pub(super) async fn open(ports: &DocumentPorts, named: &Named, user: &UserId) -> ApiResult<Open> {
    let room = room_of(ports, &named.0).await?;
    open_room(ports, &room, user).await
}

/// The same for a room id. The caller is joined in the state that is returned.
pub(super) async fn open_room(ports: &DocumentPorts, room: &RoomId, user: &UserId) -> ApiResult<Open> {
    check_joined(ports, room, user).await?;
    let state = ports.rooms.reader().state(room).await?.ok_or_else(hidden)?;
    if state.membership(user) != MembershipState::Join {
        return Err(hidden());
    }
    Ok(Open {
        room: room.to_owned(),
        state,
    })
}

/// The room of an id, or of an alias of this server.
pub(super) async fn room_of(ports: &DocumentPorts, id: &str) -> ApiResult<OwnedRoomId> {
    if let Ok(room) = RoomId::parse(id) {
        return Ok(room);
    }
    let alias = RoomAliasId::parse(id)
        .map_err(|_| ApiError::invalid_param("The document must be a room id or a room alias."))?;
    let room = ports.rooms.reader().alias(&alias).await?.map(|row| row.room);
    room.ok_or_else(|| ApiError::not_found("No document with this alias exists on this server."))
}
