//! `POST /documents`: a new document, owned by the caller.

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, StatusCode},
};
use weft_http::{
    authentication::Authenticated,
    errors::{ApiError, ApiResult},
    openapi::{Operation, Routes},
};
use weft_wire::{
    limits::MAX_TITLE_BYTES,
    rest::{CreateDocument, Created},
};

use super::{
    DocumentPorts,
    creation::{NewDocument, begin, canonical, request_of},
    request::{JsonBody, with_idempotency_key},
};

pub(super) fn routes() -> Routes<DocumentPorts> {
    Routes::new("Documents").post(
        "/_weft/client/v1/documents",
        create,
        with_idempotency_key(
            Operation::new("createDocument", "Creates a document")
                .refuses(403, "`ownerId` is not the caller.")
                .refuses(422, "The `Idempotency-Key` was used for another request."),
        ),
    )
}

/// 201 with the id; 403 if `ownerId` is another user.
async fn create(
    State(ports): State<DocumentPorts>,
    Authenticated(session): Authenticated,
    headers: HeaderMap,
    JsonBody(request): JsonBody<CreateDocument>,
) -> ApiResult<(StatusCode, Json<Created>)> {
    if request.owner_id.as_ref().is_some_and(|owner| *owner != session.user_id) {
        return Err(ApiError::forbidden(
            "You can only create documents that you own. Omit ownerId.",
        ));
    }
    let key = request_of(&headers, &session.user_id, &[b"create", &canonical(&request)])?;
    let new = NewDocument {
        title: request.title,
        kind: request.kind,
        source: None,
    };
    let begun = begin(&ports, &session.user_id, new, key).await?;
    let (doc_id, created_at) = (begun.room, begun.created_at);
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
