//! `POST /documents/{id}/duplicate`: a new document with the present content of another one, in one edit, without its history,
//! members, comments and messages. A document is created from a template in this way.
//!
//! A render worker writes the content anew, so that deleted text is not in the copy. Must not copy updates.

use std::collections::BTreeMap;

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, StatusCode},
};
use weft_crdt::{Document as CrdtDocument, limits::LIVE_BYTES};
use weft_http::{
    authentication::Authenticated,
    errors::{ApiError, ApiResult},
    openapi::{Operation, Routes},
};
use weft_render::ApplyRequest;
use weft_wire::rest::{DuplicateDocument, Duplicated};

use super::{
    DocumentPorts, Read,
    caller::{Named, joined},
    create::check_title,
    creation::{EMPTY_UPDATE, NewDocument, begin, canonical, client_of, digest, fill, request_of},
    request::{JsonBody, with_idempotency_key},
    show::described,
};

pub(super) fn routes() -> Routes<DocumentPorts> {
    Routes::new("Documents").post(
        "/_weft/client/v1/documents/{id}/duplicate",
        duplicate,
        with_idempotency_key(
            Operation::new(
                "duplicateDocument",
                "Creates a document with the present content of this one",
            )
            .refuses(422, "The document can't be rendered on this server.")
            .refuses(422, "The `Idempotency-Key` was used for another request."),
        ),
    )
}

/// 201 with the id of the copy, once its content is on disk.
async fn duplicate(
    State(ports): State<DocumentPorts>,
    Authenticated(session): Authenticated,
    named: Named,
    headers: HeaderMap,
    JsonBody(request): JsonBody<DuplicateDocument>,
) -> ApiResult<(StatusCode, Json<Duplicated>)> {
    let user = &*session.user_id;
    check_title(request.title.as_deref().unwrap_or_default())?;
    let _permit = ports.content_reads.permit(user).await?;
    let room = joined(&ports, &named, user).await?;
    let document = described(&ports, user, &room).await?;
    let key = request_of(&headers, user, &[b"duplicate", room.as_bytes(), &canonical(&request)])?;
    let client = match &key {
        Some(key) => client_of(&digest(&[key.key.as_bytes(), b"content"])),
        None => None,
    };
    let text = ports.rooms.current_text(&room).await?;
    let client = match client {
        Some(client) => client,
        None => {
            let blocks = ports.writers.unused(ports.rooms.reader(), &room, &text.text).await?;
            blocks.client
        }
    };
    let is_empty = text.text.state_hash() == CrdtDocument::new().state_hash();
    let copy = ApplyRequest {
        kind: document.kind,
        state: EMPTY_UPDATE,
        suggestion: text.update(),
        client: client.get(),
        only: None,
        addresses: BTreeMap::new(),
    };
    let copy = match is_empty {
        true => None,
        false => Some(ports.renderer.apply(room.as_str(), copy).await?.update),
    };
    if copy.as_ref().is_some_and(|copy| copy.len() > LIVE_BYTES) {
        return Err(ApiError::too_large(
            "The content of this document is too large for one edit.",
        ));
    }
    ports.access.note(user, &room, Read::Content);
    let new = NewDocument {
        title: request.title.unwrap_or(document.title),
        kind: document.kind,
        source: None,
    };
    let begun = begin(&ports, user, new, key).await?;
    let version = match copy {
        Some(copy) => fill(&ports, &begun.room, user, client, copy).await?,
        None => 0,
    };
    let answer = Duplicated {
        doc_id: begun.room.clone(),
        created_at: begun.created_at,
        version,
    };
    Ok((StatusCode::CREATED, Json(answer)))
}
