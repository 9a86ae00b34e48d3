//! The bin and templates: `DELETE /documents/{id}`, `POST /documents/{id}/undelete`, `PUT` and `DELETE
//! /documents/{id}/template`. Both are marks in the state of the document, so all its servers show the same.
//!
//! Must not delete anything; `expired` does after a long time.

use axum::{Json, extract::State, http::StatusCode};
use ruma::{RoomId, UserId};
use serde_json::{Map, json};
use weft_http::{
    authentication::Authenticated,
    errors::{ApiError, ApiResult},
    openapi::{Operation, Routes},
};
use weft_room_api::NewEvent;
use weft_wire::{
    Role, errcode, event_types,
    rest::{Deleted, Document},
};

use super::{
    DocumentPorts,
    caller::{Named, open},
    failures::may_not,
    members,
    show::described,
};

pub(super) fn routes() -> Routes<DocumentPorts> {
    Routes::new("Documents")
        .delete(
            "/_weft/client/v1/documents/{id}",
            remove,
            Operation::new(
                "deleteDocument",
                "An owner moves the document to the bin; any other member leaves it",
            )
            .refuses(403, "The caller's role does not allow it."),
        )
        .post(
            "/_weft/client/v1/documents/{id}/undelete",
            restore,
            Operation::new("undeleteDocument", "Takes the document out of the bin").refuses(403, "Below owner."),
        )
        .put(
            "/_weft/client/v1/documents/{id}/template",
            mark,
            Operation::new("markTemplate", "Makes the document a template").refuses(403, "Below manager."),
        )
        .delete(
            "/_weft/client/v1/documents/{id}/template",
            unmark,
            Operation::new("unmarkTemplate", "Makes the template an ordinary document").refuses(403, "Below manager."),
        )
}

/// Refuses an edit by request of a document in the bin.
///
/// # Errors
/// 409 if it is in the bin.
pub(super) fn check_not_in_bin(document: &Document) -> ApiResult<()> {
    match document.in_bin_since {
        None => Ok(()),
        Some(since) => {
            let message = "This document is in the bin. Its owner can restore it.";
            let error = ApiError::new(StatusCode::CONFLICT, errcode::IN_BIN, message);
            Err(error.with("inBinSince", json!(since)))
        }
    }
}

/// An owner moves the document to the bin; any other member leaves it.
async fn remove(
    State(ports): State<DocumentPorts>,
    Authenticated(session): Authenticated,
    named: Named,
) -> ApiResult<Json<Deleted>> {
    let user = session.user_id;
    let open = open(&ports, &named, &user).await?;
    if Role::from_power(open.state.user_power(&user)) < Role::Owner {
        members::leave(&ports, &open.room, &user).await?;
        return Ok(Json(Deleted { in_bin_since: None }));
    }
    let document = described(&ports, &user, &open.room).await?;
    if document.in_bin_since.is_none() {
        set(&ports, &open.room, &user, event_types::BIN, ("in_bin", true)).await?;
    }
    let in_bin_since = described(&ports, &user, &open.room).await?.in_bin_since;
    Ok(Json(Deleted { in_bin_since }))
}

/// Takes the document out of the bin; 403 below owner.
async fn restore(
    State(ports): State<DocumentPorts>,
    Authenticated(session): Authenticated,
    named: Named,
) -> ApiResult<Json<Document>> {
    let user = session.user_id;
    let open = open(&ports, &named, &user).await?;
    if Role::from_power(open.state.user_power(&user)) < Role::Owner {
        return Err(may_not("take it out of the bin"));
    }
    if described(&ports, &user, &open.room).await?.in_bin_since.is_some() {
        set(&ports, &open.room, &user, event_types::BIN, ("in_bin", false)).await?;
    }
    Ok(Json(described(&ports, &user, &open.room).await?))
}

/// Makes the document a template; 403 below manager.
async fn mark(
    State(ports): State<DocumentPorts>,
    Authenticated(session): Authenticated,
    named: Named,
) -> ApiResult<Json<Document>> {
    set_template(&ports, &session.user_id, &named, true).await
}

/// Makes the template an ordinary document; 403 below manager.
async fn unmark(
    State(ports): State<DocumentPorts>,
    Authenticated(session): Authenticated,
    named: Named,
) -> ApiResult<Json<Document>> {
    set_template(&ports, &session.user_id, &named, false).await
}

async fn set_template(
    ports: &DocumentPorts,
    user: &UserId,
    named: &Named,
    template: bool,
) -> ApiResult<Json<Document>> {
    let open = open(ports, named, user).await?;
    if !open.state.can_send_state(user, event_types::TEMPLATE) {
        return Err(may_not("make it a template or an ordinary document"));
    }
    if described(ports, user, &open.room).await?.template != template {
        set(ports, &open.room, user, event_types::TEMPLATE, ("template", template)).await?;
    }
    Ok(Json(described(ports, user, &open.room).await?))
}

async fn set(ports: &DocumentPorts, room: &RoomId, user: &UserId, kind: &str, mark: (&str, bool)) -> ApiResult<()> {
    let (field, value) = mark;
    let event = NewEvent {
        sender: user.to_owned(),
        kind: kind.to_owned(),
        state_key: Some(String::new()),
        content: Map::from_iter([(field.to_owned(), json!(value))]),
        redacts: None,
        txn: None,
        timestamp: None,
    };
    ports.rooms.send(room, event).await?;
    Ok(())
}
