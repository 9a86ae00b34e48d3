//! `GET /documents/{id}/content`: the merged update, all that was acknowledged.

use axum::{
    extract::State,
    http::header,
    response::{IntoResponse, Response},
};

use super::{
    DocumentPorts,
    caller::{Named, open},
};
use crate::{authentication::Authenticated, errors::ApiResult};

/// A Yjs v1 update as bytes.
pub(super) async fn content(
    State(ports): State<DocumentPorts>,
    Authenticated(session): Authenticated,
    named: Named,
) -> ApiResult<Response> {
    let open = open(&ports, &named, &session.user_id).await?;
    let update = ports.rooms.content(&open.room, None).await?;
    let headers = [
        (header::CONTENT_TYPE, "application/octet-stream"),
        (header::CACHE_CONTROL, "private, no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    Ok((headers, update).into_response())
}
