//! `POST /documents/{id}/sync` and `POST /documents/{id}/updates`: the two steps of the Yjs sync protocol as requests, for
//! scripts and for clients without WebSockets. An answer to an update means that it is on disk.
//!
//! Must not apply an update itself: the room's worker does, by the same rules as for live sockets.

use axum::{
    Json,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::json;
use weft_http::{
    authentication::Authenticated,
    errors::{ApiError, ApiResult},
    openapi::{Operation, Routes},
};
use weft_room_api::{ConnectionId, Edit, EditOutcome, Partly};
use weft_wire::{
    errcode,
    limits::MAX_CLIENT_REQUEST_BYTES,
    rest::{RefusedBlocks, UpdateAccepted},
};

use super::{
    DocumentPorts, Read,
    caller::{Named, joined},
    request::BinaryBody,
};

pub(super) fn routes() -> Routes<DocumentPorts> {
    Routes::new("Content")
        .post(
            "/_weft/client/v1/documents/{id}/sync",
            sync,
            Operation::new("syncContent", "What a client with this state vector lacks")
                .note("The body is a Yjs v1 state vector; without one the answer has everything.")
                .answers(200, "The Yjs v1 update with everything that the state vector lacks.")
                .media("application/octet-stream"),
        )
        .post(
            "/_weft/client/v1/documents/{id}/updates",
            update,
            Operation::new(
                "sendUpdate",
                "Adds a Yjs v1 update; the answer means that it is on disk",
            )
            .note("The body is a Yjs v1 update.")
            .refuses(403, "Below editor, or the document is locked.")
            .refuses(409, "The update depends on updates that this server does not have."),
        )
}

/// The encoding of a state vector without clients.
const EMPTY_STATE_VECTOR: &[u8] = &[0];

/// Answers with the Yjs v1 update of everything that is missing from the state vector in the body. No body: everything.
async fn sync(
    State(ports): State<DocumentPorts>,
    Authenticated(session): Authenticated,
    named: Named,
    BinaryBody(vector): BinaryBody<MAX_CLIENT_REQUEST_BYTES>,
) -> ApiResult<Response> {
    let _permit = ports.content_reads.permit(&session.user_id).await?;
    let room = joined(&ports, &named, &session.user_id).await?;
    let vector = if vector.is_empty() { EMPTY_STATE_VECTOR } else { &vector };
    let missing = ports.rooms.diff(&room, vector).await?;
    ports.access.note(&session.user_id, &room, Read::Content);
    let headers = [
        (header::CONTENT_TYPE, "application/octet-stream"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CACHE_CONTROL, "private, no-store"),
    ];
    Ok((headers, missing).into_response())
}

/// Applies the Yjs v1 update in the body as an edit of the caller.
pub(super) async fn update(
    State(ports): State<DocumentPorts>,
    Authenticated(session): Authenticated,
    named: Named,
    BinaryBody(update): BinaryBody<{ weft_crdt::limits::LIVE_BYTES }>,
) -> ApiResult<Json<UpdateAccepted>> {
    let room = joined(&ports, &named, &session.user_id).await?;
    let edit = Edit {
        user: session.user_id.clone(),
        session: ConnectionId::REQUEST,
        update,
    };
    let partly = match ports.rooms.edit(&room, edit).await? {
        EditOutcome::Journaled | EditOutcome::NearlyFull(_) | EditOutcome::NothingNew => None,
        EditOutcome::Missing { server_vector } => return Err(missing(&server_vector)),
        EditOutcome::Partly(partly) => Some(partly),
    };
    let version = ports.rooms.reader().document_version(&room).await?;
    Ok(Json(accepted(version, partly)))
}

/// The update depends on blocks that this server does not have. The client sends them first, or together.
fn missing(server_vector: &[u8]) -> ApiError {
    let message =
        "The update depends on updates that this server does not have. Send what is missing from stateVector.";
    ApiError::new(StatusCode::CONFLICT, errcode::UPDATES_MISSING, message)
        .with("stateVector", json!(STANDARD.encode(server_vector)))
}

fn accepted(version: u64, partly: Option<Partly>) -> UpdateAccepted {
    let mut accepted = UpdateAccepted {
        version,
        ..UpdateAccepted::default()
    };
    let Some(partly) = partly else { return accepted };
    accepted.state_vector = partly.missing.map(|vector| STANDARD.encode(vector));
    accepted.correction = partly.correction.map(|update| STANDARD.encode(update));
    accepted.foreign = partly.foreign;
    let refused = partly.refused.into_iter().map(|content| RefusedBlocks {
        rule: content.rule.to_string(),
        client: content.client,
        clock: content.clock,
        length: content.length,
    });
    accepted.refused = refused.collect();
    accepted
}
