//! `/documents/{id}/lock`: no edits until a manager lifts the lock.
//!
//! Must not decide whether an edit is allowed: the rooms of all servers do, by the state (`spec/docs/lock.md`).

use axum::{Json, extract::State};
use ruma::{OwnedEventId, RoomId, UserId};
use serde_json::{Map, Value, json};
use weft_dag::StateView;
use weft_http::{
    authentication::Authenticated,
    errors::{ApiError, ApiResult},
    openapi::{Operation, Routes},
};
use weft_room_api::{EventOfText, NewEvent, RoomError, StateCondition};
use weft_wire::{
    event_types,
    limits::MAX_STATEMENT_BYTES,
    lock::LockContent,
    rest::{DocumentLock, Done, Lock, LockDocument},
};

use super::{
    DocumentPorts,
    caller::{Named, Open, open, open_room},
    content::{etag, state_hash},
    failures::{document_changed, may_not},
    request::JsonBody,
};

/// Attempts while others change the lock or the text.
pub(super) const MAX_ATTEMPTS: usize = 16;

pub(super) fn routes() -> Routes<DocumentPorts> {
    Routes::new("Lock and approvals")
        .get(
            "/_weft/client/v1/documents/{id}/lock",
            show,
            Operation::new("getLock", "Whether the document is locked"),
        )
        .put(
            "/_weft/client/v1/documents/{id}/lock",
            put,
            Operation::new("lockDocument", "Locks the present text: nobody can edit it")
                .refuses(403, "Below manager.")
                .refuses(409, "The document has another version."),
        )
        .delete(
            "/_weft/client/v1/documents/{id}/lock",
            lift,
            Operation::new("unlockDocument", "The document can be edited again").refuses(403, "Below manager."),
        )
}

/// The lock that stands, for every member.
async fn show(
    State(ports): State<DocumentPorts>,
    Authenticated(session): Authenticated,
    named: Named,
) -> ApiResult<Json<DocumentLock>> {
    let Open { room, state } = open(&ports, &named, &session.user_id).await?;
    shown(&ports, &room, &state, &session.user_id).await.map(Json)
}

async fn shown(ports: &DocumentPorts, room: &RoomId, state: &StateView, user: &UserId) -> ApiResult<DocumentLock> {
    let Some(lock) = state.lock() else {
        return Ok(DocumentLock::default());
    };
    let LockContent {
        heads,
        state_hash: hash,
        reason,
    } = lock.content_as().unwrap_or_default();
    let present = present_hash(ports, room, user).await?;
    Ok(DocumentLock {
        locked: true,
        lock: Some(Lock {
            event_id: lock.event_id().to_owned(),
            locked_by: lock.sender().to_owned(),
            locked_at: lock.origin_server_ts().get().into(),
            reason,
            is_present_text: hash.as_ref().zip(present).map(|(hash, present)| *hash == present),
            heads,
            state_hash: hash,
        }),
    })
}

/// The state hash of the present text; `None` while clocks are claimed twice.
pub(super) async fn present_hash(ports: &DocumentPorts, room: &RoomId, user: &UserId) -> ApiResult<Option<String>> {
    let _permit = ports.content_reads.permit(user).await?;
    Ok(state_hash(&ports.rooms.current_text(room).await?))
}

/// Locks the present text; 403 below manager. A document that is locked stays as it is.
async fn put(
    State(ports): State<DocumentPorts>,
    Authenticated(session): Authenticated,
    named: Named,
    JsonBody(request): JsonBody<LockDocument>,
) -> ApiResult<Json<DocumentLock>> {
    check_statement("reason", request.reason.as_deref())?;
    let (Open { room, mut state }, user) = (open(&ports, &named, &session.user_id).await?, &session.user_id);
    for _ in 0..MAX_ATTEMPTS {
        if !state.can_send_state(user, event_types::LOCK) {
            return Err(may_not("lock it"));
        }
        if state.lock().is_some() {
            return shown(&ports, &room, &state, user).await.map(Json);
        }
        let mut content = Map::new();
        if let Some(reason) = &request.reason {
            content.insert("reason".to_owned(), json!(reason));
        }
        let earlier = state.get(event_types::LOCK, "").map(|lock| lock.event_id().to_owned());
        let lock = EventOfText {
            event: state_event(user, event_types::LOCK, "", content),
            conditions: vec![condition(event_types::LOCK, "", earlier)],
            version: request.version,
            state_hash: None,
        };
        match ports.rooms.send_of_text(&room, lock).await {
            Ok(_) | Err(RoomError::StateChanged { .. }) => {}
            Err(RoomError::TextChanged) => return Err(other_text(&ports, &room).await?),
            Err(error) => return Err(error.into()),
        }
        state = open_room(&ports, &room, user).await?.state;
    }
    Err(ApiError::unavailable(
        "The document is being locked and unlocked. Try again.",
    ))
}

/// Lifts the lock; 403 below manager. Without a lock nothing happens.
async fn lift(
    State(ports): State<DocumentPorts>,
    Authenticated(session): Authenticated,
    named: Named,
) -> ApiResult<Json<Done>> {
    let (Open { room, state }, user) = (open(&ports, &named, &session.user_id).await?, &session.user_id);
    if !state.can_send_state(user, event_types::UNLOCK) {
        return Err(may_not("unlock it"));
    }
    if let Some(lock) = state.lock() {
        let unlock = state_event(user, event_types::UNLOCK, lock.event_id().as_str(), Map::new());
        ports.rooms.send(&room, unlock).await?;
    }
    Ok(Json(Done {}))
}

/// The error for a version that is not the present one.
pub(super) async fn other_text(ports: &DocumentPorts, room: &RoomId) -> ApiResult<ApiError> {
    let version = ports.rooms.reader().document_version(room).await?;
    Ok(document_changed(version, etag(&ports.rooms.current_text(room).await?)))
}

pub(super) fn check_statement(what: &str, text: Option<&str>) -> ApiResult<()> {
    let bytes = text.map_or(0, str::len);
    if bytes > MAX_STATEMENT_BYTES {
        return Err(ApiError::too_large(format!(
            "The {what} has {bytes} bytes; at most {MAX_STATEMENT_BYTES} are allowed."
        )));
    }
    Ok(())
}

pub(super) fn condition(kind: &str, state_key: &str, event: Option<OwnedEventId>) -> StateCondition {
    StateCondition {
        kind: kind.to_owned(),
        state_key: state_key.to_owned(),
        event,
    }
}

pub(super) fn state_event(sender: &UserId, kind: &str, state_key: &str, content: Map<String, Value>) -> NewEvent {
    NewEvent {
        sender: sender.to_owned(),
        kind: kind.to_owned(),
        state_key: Some(state_key.to_owned()),
        content,
        redacts: None,
        txn: None,
        timestamp: None,
    }
}
