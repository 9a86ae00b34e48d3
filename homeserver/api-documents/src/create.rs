//! `POST /documents`: a new document, owned by the caller.

use axum::{Json, extract::State, http::StatusCode};
use weft_http::{
    authentication::Authenticated,
    errors::{ApiError, ApiResult},
};
use weft_room_api::CreateRoom;
use weft_wire::{
    limits::MAX_TITLE_BYTES,
    rest::{CreateDocument, Created},
};

use super::{DocumentPorts, request::JsonBody};

/// 201 with the id; 403 if `ownerId` is another user.
pub(super) async fn create(
    State(ports): State<DocumentPorts>,
    Authenticated(session): Authenticated,
    JsonBody(request): JsonBody<CreateDocument>,
) -> ApiResult<(StatusCode, Json<Created>)> {
    check_title(&request.title)?;
    if request.owner_id.as_ref().is_some_and(|owner| *owner != session.user_id) {
        return Err(ApiError::forbidden(
            "You can only create documents that you own. Omit ownerId.",
        ));
    }
    let title = Some(request.title).filter(|title| !title.is_empty());
    let profile = ports.accounts.profile(&session.user_id).await?;
    let create = CreateRoom {
        name: title,
        document: Some(request.kind),
        profile: profile.map(|profile| profile.for_member_event()).unwrap_or_default(),
        ..CreateRoom::default()
    };
    let doc_id = ports.rooms.create(&session.user_id, create).await?;
    let state = ports
        .rooms
        .reader()
        .state_entries(&doc_id, &[("m.room.create", "")])
        .await?;
    let created_at = state
        .as_ref()
        .and_then(weft_dag::StateView::create)
        .map_or(0, |pdu| pdu.origin_server_ts().get().into());
    Ok((StatusCode::CREATED, Json(Created { doc_id, created_at })))
}

/// Checks that a title is short and on one line.
pub(super) fn check_title(title: &str) -> ApiResult<()> {
    if title.len() > MAX_TITLE_BYTES {
        return Err(ApiError::too_large(format!(
            "A title can have at most {MAX_TITLE_BYTES} bytes."
        )));
    }
    if title.chars().any(char::is_control) {
        return Err(ApiError::invalid_param("A title must be a single line of text."));
    }
    Ok(())
}
