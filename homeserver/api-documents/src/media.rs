//! `GET /media` and `DELETE /media/{id}`: the caller's own uploaded files and what they use. Must not show or remove files of
//! others.

use axum::{
    Json,
    extract::{Query, State, rejection::QueryRejection},
    http::StatusCode,
};
use schemars::JsonSchema;
use serde::Deserialize;
use weft_http::{
    authentication::Authenticated,
    errors::{ApiError, ApiResult},
    openapi::{Operation, Routes},
    path::InPath,
};
use weft_media::{ContentId, OwnMedia};
use weft_wire::{
    limits::MAX_MEDIA_PER_PAGE,
    rest::{MediaFile, MediaList, MediaUsage},
};

use super::DocumentPorts;

pub(super) fn routes() -> Routes<DocumentPorts> {
    Routes::new("Files")
        .get(
            "/_weft/client/v1/media",
            list,
            Operation::new("listFiles", "The caller's uploaded files"),
        )
        .delete(
            "/_weft/client/v1/media/{id}",
            remove,
            Operation::new("removeFile", "Removes a file from the caller's files")
                .path::<String>("id", "The media id.")
                .refuses(404, "None of the caller's files has this id."),
        )
}

/// The query of the list.
#[derive(Debug, Deserialize, JsonSchema)]
struct Asked {
    /// `nextPage` of the page before.
    page: Option<String>,
    /// Files in the page.
    #[schemars(range(min = 1, max = MAX_MEDIA_PER_PAGE))]
    limit: Option<usize>,
}

/// One page of the caller's files, in the order of their ids.
async fn list(
    State(ports): State<DocumentPorts>,
    Authenticated(session): Authenticated,
    asked: Result<Query<Asked>, QueryRejection>,
) -> ApiResult<Json<MediaList>> {
    let Query(asked) = asked.map_err(|error| ApiError::invalid_param(error.body_text()))?;
    let limit = asked.limit.unwrap_or(MAX_MEDIA_PER_PAGE);
    if !(1..=MAX_MEDIA_PER_PAGE).contains(&limit) {
        return Err(ApiError::invalid_param(format!("limit is 1 to {MAX_MEDIA_PER_PAGE}.")));
    }
    let after = match asked.page {
        Some(page) => {
            let id = ContentId::parse(&page);
            Some(id.ok_or_else(|| ApiError::invalid_param("page is the nextPage of another answer."))?)
        }
        None => None,
    };
    let page = ports.media.own(&session.user_id, after.as_ref(), limit).await?;
    let server = ports.media.server_name();
    let file = |file: OwnMedia| MediaFile {
        uri: format!("mxc://{server}/{}", file.id),
        id: file.id,
        size: file.size,
        content_type: file.content_type,
        name: file.name,
        uploaded_at: file.uploaded_at,
    };
    Ok(Json(MediaList {
        files: page.files.into_iter().map(file).collect(),
        usage: MediaUsage {
            bytes: page.used_bytes,
            files: page.used_files,
            max_bytes: page.quota_bytes,
        },
        next_page: page.next,
    }))
}

/// Removes a file from the caller's.
async fn remove(
    State(ports): State<DocumentPorts>,
    Authenticated(session): Authenticated,
    InPath(id): InPath<String>,
) -> ApiResult<StatusCode> {
    let id = ContentId::parse(&id).ok_or_else(|| ApiError::not_found("You have no such file."))?;
    ports.media.remove(&session.user_id, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}
