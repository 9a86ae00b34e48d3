//! New documents: the room, once for each `Idempotency-Key`, and its first content in one edit. The key is in a state event
//! of the document itself, so it is on disk exactly if the document is, and there is nothing to delete later.
//!
//! Must not decide what the first content is.

use axum::http::HeaderMap;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use ruma::{OwnedRoomId, RoomId, UserId};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::sync::OwnedMutexGuard;
use weft_crdt::{ClientId, limits::CLIENT_ID_END};
use weft_dag::StateView;
use weft_http::errors::{ApiError, ApiResult};
use weft_room_api::{ConnectionId, CreateRoom, Edit, EditOutcome, InitialState};
use weft_wire::{
    archive::ImportedContent,
    document::{DocumentKind, RequestContent},
    event_types,
};

use super::{DocumentPorts, create::check_title, failures::key_reused, request::idempotency_key};

/// What is created.
pub(super) struct NewDocument {
    /// May be empty.
    pub(super) title: String,
    pub(super) kind: DocumentKind,
    /// The document that an operator imports.
    pub(super) source: Option<ImportedContent>,
}

/// A document that is created, or was by an earlier request with the same key.
pub(super) struct Begun {
    pub(super) room: OwnedRoomId,
    /// `origin_server_ts` of its create event.
    pub(super) created_at: u64,
    /// Requests with a key of one user wait here for one another, until the document has its content.
    _turn: Option<OwnedMutexGuard<()>>,
}

/// The name of a request with the header `Idempotency-Key`; `None` without it. `parts` are what is requested.
///
/// # Errors
/// When the key is invalid.
pub(super) fn request_of(headers: &HeaderMap, user: &UserId, parts: &[&[u8]]) -> ApiResult<Option<RequestContent>> {
    let Some(key) = idempotency_key(headers)? else {
        return Ok(None);
    };
    let key = digest(&[user.as_bytes(), key.as_bytes()]);
    Ok(Some(request_name(&key, &digest(parts))))
}

/// The name of a request in the state of the document that it creates.
pub(super) fn request_name(key: &[u8; 32], body: &[u8; 32]) -> RequestContent {
    RequestContent {
        key: URL_SAFE_NO_PAD.encode(key),
        body: URL_SAFE_NO_PAD.encode(body),
    }
}

/// The SHA-256 of a list of byte strings; two different lists have different ones.
pub(super) fn digest(parts: &[&[u8]]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}

/// A client id that follows from a digest.
pub(super) fn client_of(digest: &[u8; 32]) -> Option<ClientId> {
    let number = digest.first_chunk::<8>().map(|bytes| u64::from_be_bytes(*bytes));
    ClientId::new(number? % CLIENT_ID_END)
}

/// Creates the document, or finds the one that the same request has created.
///
/// # Errors
/// When the title is invalid, or the key was used for another request.
pub(super) async fn begin(
    ports: &DocumentPorts,
    user: &UserId,
    new: NewDocument,
    request: Option<RequestContent>,
) -> ApiResult<Begun> {
    check_title(&new.title)?;
    let turn = match &request {
        Some(_) => Some(ports.writers.creating(user).await?),
        None => None,
    };
    let found = match &request {
        Some(request) => found(ports, user, request).await?,
        None => None,
    };
    let room = match found {
        Some(room) => room,
        None => created(ports, user, new, request).await?,
    };
    let state = ports
        .rooms
        .reader()
        .state_entries(&room, &[("m.room.create", "")])
        .await?;
    let created_at = state
        .as_ref()
        .and_then(StateView::create)
        .map_or(0, |pdu| pdu.origin_server_ts().get().into());
    Ok(Begun {
        room,
        created_at,
        _turn: turn,
    })
}

async fn found(ports: &DocumentPorts, user: &UserId, request: &RequestContent) -> ApiResult<Option<OwnedRoomId>> {
    match ports.rooms.reader().created_by(user, &request.key).await? {
        Some((_, body)) if body != request.body => Err(key_reused()),
        found => Ok(found.map(|(room, _)| room)),
    }
}

async fn created(
    ports: &DocumentPorts,
    user: &UserId,
    new: NewDocument,
    request: Option<RequestContent>,
) -> ApiResult<OwnedRoomId> {
    let profile = ports.accounts.profile(user).await?;
    let entry = |kind: &str, content: Value| InitialState {
        kind: kind.to_owned(),
        state_key: String::new(),
        content,
    };
    let request = request.map(|request| entry(event_types::REQUEST, json!(request)));
    let source = new.source.map(|source| entry(event_types::IMPORTED, json!(source)));
    let create = CreateRoom {
        name: Some(new.title).filter(|title| !title.is_empty()),
        document: Some(new.kind),
        profile: profile.map(|profile| profile.for_member_event()).unwrap_or_default(),
        initial_state: request.into_iter().chain(source).collect(),
        ..CreateRoom::default()
    };
    Ok(ports.rooms.create(user, create).await?)
}

/// Applies the first content, an update under `client` only, unless the document has it. Returns the version.
///
/// # Errors
/// When the content is not admissible.
pub(super) async fn fill(
    ports: &DocumentPorts,
    room: &RoomId,
    user: &UserId,
    client: ClientId,
    update: Bytes,
) -> ApiResult<u64> {
    let text = ports.rooms.current_text(room).await?.text;
    if text.state_vector().get(client) == 0 {
        apply(ports, room, user, update).await?;
    }
    Ok(ports.rooms.reader().document_version(room).await?)
}

/// Applies an update under a client id of its own as an edit of the user. False if it changes nothing.
///
/// # Errors
/// When the content is not admissible.
pub(super) async fn apply(ports: &DocumentPorts, room: &RoomId, user: &UserId, update: Bytes) -> ApiResult<bool> {
    let edit = Edit {
        user: user.to_owned(),
        session: ConnectionId::REQUEST,
        update,
    };
    match ports.rooms.edit(room, edit).await? {
        EditOutcome::Journaled | EditOutcome::NearlyFull(_) => Ok(true),
        EditOutcome::NothingNew => Ok(false),
        EditOutcome::Partly(partly) if !partly.refused.is_empty() => {
            Err(super::failures::refused_content(&partly.refused))
        }
        // It was made from the text of a moment ago, which the text still contains, under a client id of its own.
        EditOutcome::Missing { .. } | EditOutcome::Partly(_) => {
            Err(ApiError::unavailable("The document has changed. Try again."))
        }
    }
}

/// The empty document as an update.
pub(super) const EMPTY_UPDATE: Bytes = Bytes::from_static(&[0, 0]);

/// A body as the part of a request's digest: the same for all ways to write it in JSON.
pub(super) fn canonical<T: serde::Serialize>(body: &T) -> Vec<u8> {
    // Maps of `serde_json::Value` are sorted by key.
    let value: Value = serde_json::to_value(body).unwrap_or_default();
    serde_json::to_vec(&value).unwrap_or_default()
}
