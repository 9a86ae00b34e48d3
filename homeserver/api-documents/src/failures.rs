//! Errors of the document API that have a code of their own. All others are in `weft_http::errors`.

use axum::http::StatusCode;
use ruma::UserId;
use serde_json::{Value, json};
use weft_http::errors::ApiError;
use weft_room_api::RefusedContent;
use weft_wire::errcode;

/// The caller's role is too low for the operation.
pub(super) fn may_not(what: &str) -> ApiError {
    ApiError::forbidden(format!("Your role in this document does not allow you to {what}."))
}

/// The path contains no valid user id.
pub(super) fn no_user() -> ApiError {
    ApiError::invalid_param("The member must be a Matrix user id such as @name:server.")
}

/// The operation would leave the document without a user who can give roles.
pub(super) fn last_owner(user: &UserId) -> ApiError {
    ApiError::forbidden(format!("{user} is the last owner. Make another user an owner first."))
}

/// The document has not the version that the client named, or none that is known.
pub(super) fn unknown_version(version: u64, etag: Option<String>) -> ApiError {
    let message = "This server does not know the text at that version. Read the document and try again.";
    let error = ApiError::new(StatusCode::CONFLICT, errcode::UNKNOWN_VERSION, message);
    error.with("version", json!(version)).with("etag", json!(etag))
}

/// The document is not the one that `If-Match` names.
pub(super) fn document_changed(version: u64, etag: Option<String>) -> ApiError {
    let message = "The document is not the one that If-Match names.";
    let error = ApiError::new(StatusCode::CONFLICT, errcode::DOCUMENT_CHANGED, message);
    error.with("version", json!(version)).with("etag", json!(etag))
}

/// The suggestion was decided about already.
pub(super) fn suggestion_closed(state: Value) -> ApiError {
    let message = "This suggestion is not open any more.";
    ApiError::new(StatusCode::CONFLICT, errcode::SUGGESTION_CLOSED, message).with("state", state)
}

/// Nothing is left of what the suggestion refers to.
pub(super) fn suggestion_outdated() -> ApiError {
    let message = "This suggestion no longer applies to the document.";
    ApiError::new(StatusCode::CONFLICT, errcode::SUGGESTION_OUTDATED, message)
}

/// The changes of the suggestion are not those that the caller saw.
pub(super) fn suggestion_changed(version: Value) -> ApiError {
    let message = "The suggestion has other changes in the present text than in the version that they were shown for.";
    ApiError::new(StatusCode::CONFLICT, errcode::DOCUMENT_CHANGED, message).with("version", version)
}

/// The update of a suggestion can't be applied to the document.
pub(super) fn inadmissible_suggestion(reason: &dyn std::fmt::Display) -> ApiError {
    let message = format!("The suggestion can't be applied to the document: {reason}.");
    ApiError::new(StatusCode::BAD_REQUEST, errcode::UPDATE_REFUSED, message)
}

/// The server, the link or the document lets no guests in.
pub(super) fn no_guests(what: &str) -> ApiError {
    let message = format!("{what} does not let guests in. Log in.");
    ApiError::new(StatusCode::FORBIDDEN, "M_GUEST_ACCESS_FORBIDDEN", message)
}

/// The link has a password, and the caller gave none or a wrong one.
pub(super) fn link_password() -> ApiError {
    let message = "This link needs its password, which is missing or wrong.";
    ApiError::new(StatusCode::FORBIDDEN, errcode::LINK_PASSWORD, message)
}

/// The key was used for another request.
pub(super) fn key_reused() -> ApiError {
    let message = "This Idempotency-Key was used for another request.";
    ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, errcode::KEY_REUSED, message)
}

/// A change has content that no event can carry.
pub(super) fn refused_content(refused: &[RefusedContent]) -> ApiError {
    let rule = refused.first().map_or("unknown", |content| &*content.rule);
    let message = format!("The edit has content that a document can't have: {rule}");
    ApiError::new(StatusCode::BAD_REQUEST, errcode::UPDATE_REFUSED, message)
}
