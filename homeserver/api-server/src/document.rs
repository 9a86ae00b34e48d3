//! GET /_weft/federation/v1/document/{roomId}?at=... (`spec/docs/federation.md`): the compacted document, for a server
//! that is in the room.

use axum::{Json, extract::State};
use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD};
use ruma::{OwnedEventId, OwnedRoomId};
use weft_http::errors::{ApiError, ApiResult};
use weft_wire::{limits, snapshot::DocumentSnapshot};

use super::{ServerPorts, acl, signed::SignedPath};

pub(super) async fn document(
    State(ports): State<ServerPorts>,
    signed: SignedPath,
) -> ApiResult<Json<DocumentSnapshot>> {
    let room = signed
        .arguments
        .first()
        .and_then(|room| OwnedRoomId::try_from(room.as_str()).ok());
    let room = room.ok_or_else(|| ApiError::invalid_param("The room id in the path is not valid."))?;
    acl::member(&ports, &signed.origin, &room).await?;
    let mut at = at(&signed.query)?;
    for id in &at {
        let event = ports.reader().event(Some(&room), id).await?;
        let event = event.ok_or_else(|| ApiError::not_found("An event is unknown."))?;
        if !ports.reader().visible_to_server(&room, &signed.origin, &event).await? {
            return Err(ApiError::forbidden(
                "Your server may not see the document at that event.",
            ));
        }
    }
    if at.is_empty() {
        at = ports.reader().extremities(&room).await?;
        for id in &at {
            let event = ports.reader().event(Some(&room), id).await?;
            let Some(event) = event else { continue };
            if !ports.reader().visible_to_server(&room, &signed.origin, &event).await? {
                return Err(ApiError::forbidden("Your server may not see the current document."));
            }
        }
    }
    let update = ports.rooms.content(&room, Some(&at)).await?;
    Ok(Json(DocumentSnapshot {
        room_id: room,
        at,
        update: STANDARD_NO_PAD.encode(update),
    }))
}

fn at(query: &str) -> ApiResult<Vec<OwnedEventId>> {
    let pairs: Vec<(String, String)> = serde_html_form(query)?;
    let ids: Result<Vec<OwnedEventId>, _> = pairs
        .into_iter()
        .filter(|(name, _)| name == "at")
        .map(|(_, id)| OwnedEventId::try_from(id))
        .collect();
    let ids = ids.map_err(|_| ApiError::invalid_param("`at` must be a list of event ids."))?;
    if ids.len() > limits::MAX_EVENT_IDS_PER_REQUEST {
        return Err(ApiError::invalid_param("Too many events in `at`."));
    }
    Ok(ids)
}

fn serde_html_form(query: &str) -> ApiResult<Vec<(String, String)>> {
    let uri = http::Uri::builder().path_and_query(format!("/?{query}")).build();
    let uri = uri.map_err(|_| ApiError::invalid_param("The query is not valid."))?;
    let pairs = axum::extract::Query::<Vec<(String, String)>>::try_from_uri(&uri);
    pairs
        .map(|axum::extract::Query(pairs)| pairs)
        .map_err(|_| ApiError::invalid_param("The query is not valid."))
}
