//! `GET /documents/{id}/content`: the merged update, all that was acknowledged.
//!
//! The whole text is made for each request before anybody can say whether the caller may hold it, so that few are made at
//! one time (T130).

use std::sync::Arc;

use axum::{
    Extension,
    extract::State,
    http::header,
    response::{IntoResponse, Response},
};
use ruma::OwnedUserId;
use tokio::sync::Semaphore;
use weft_budget::KeyedBudget;
use weft_wire::limits::{MAX_CONTENT_READS, MAX_CONTENT_READS_PER_USER, MAX_CONTENT_READS_WAITING};

use super::{
    DocumentPorts,
    caller::{Named, open},
};
use crate::{
    authentication::Authenticated,
    errors::{ApiError, ApiResult},
};

/// Who reads whole texts now. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Reads {
    under_way: Arc<Semaphore>,
    of_users: Arc<KeyedBudget<OwnedUserId>>,
}

impl Reads {
    pub(super) fn new() -> Self {
        Self {
            under_way: Arc::new(Semaphore::new(MAX_CONTENT_READS)),
            of_users: KeyedBudget::new("content_reads", MAX_CONTENT_READS_PER_USER, MAX_CONTENT_READS_WAITING),
        }
    }
}

/// A Yjs v1 update as bytes.
pub(super) async fn content(
    State(ports): State<DocumentPorts>,
    Extension(reads): Extension<Reads>,
    Authenticated(session): Authenticated,
    named: Named,
) -> ApiResult<Response> {
    let _share = reads.of_users.try_take(&session.user_id, 1)?;
    // It is never closed.
    let _turn = reads
        .under_way
        .acquire()
        .await
        .map_err(|error| ApiError::internal("waiting for a turn", &error))?;
    let open = open(&ports, &named, &session.user_id).await?;
    let update = ports.rooms.content(&open.room, None).await?;
    let headers = [
        (header::CONTENT_TYPE, "application/octet-stream"),
        (header::CACHE_CONTROL, "private, no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    Ok((headers, update).into_response())
}
