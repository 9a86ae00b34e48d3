//! `GET /documents/{id}/content`: the merged update with all acknowledged edits.
//!
//! The whole text is built for each request before its bytes can be charged to the caller. Must not run without limit: few
//! texts are built at a time (T130).

use std::sync::Arc;

use axum::{
    extract::State,
    http::header,
    response::{IntoResponse, Response},
};
use ruma::OwnedUserId;
use weft_budget::{Budget, KeyedBudget};
use weft_http::{authentication::Authenticated, errors::ApiResult, text_reads::TextReads};
use weft_wire::limits::{MAX_CONTENT_READS_PER_USER, MAX_CONTENT_READS_WAITING};

use super::{
    DocumentPorts,
    caller::{Named, open},
};

/// The requests for whole texts in progress. Cheap to clone.
#[derive(Debug, Clone)]
pub struct ContentReads {
    permits: TextReads,
    of_users: Arc<KeyedBudget<OwnedUserId>>,
}

impl Default for ContentReads {
    fn default() -> Self {
        Self {
            permits: TextReads::default(),
            of_users: KeyedBudget::new("content_reads", MAX_CONTENT_READS_PER_USER, MAX_CONTENT_READS_WAITING),
        }
    }
}

impl ContentReads {
    /// The budget of these requests, for metrics.
    #[must_use]
    pub fn budget(&self) -> &Arc<Budget> {
        self.of_users.total()
    }
}

/// Answers with a Yjs v1 update as bytes.
pub(super) async fn content(
    State(ports): State<DocumentPorts>,
    Authenticated(session): Authenticated,
    named: Named,
) -> ApiResult<Response> {
    let reads = &ports.content_reads;
    let _share = reads.of_users.try_take(&session.user_id, 1)?;
    let _permit = reads.permits.permit(&session.user_id).await;
    let open = open(&ports, &named, &session.user_id).await?;
    let update = ports.rooms.content(&open.room, None).await?;
    let headers = [
        (header::CONTENT_TYPE, "application/octet-stream"),
        (header::CACHE_CONTROL, "private, no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    Ok((headers, update).into_response())
}
