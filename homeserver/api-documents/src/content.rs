//! `GET /documents/{id}/content`: the merged update with all acknowledged edits, and its ETag.
//!
//! The whole text is built for each request before its bytes can be charged to the caller. Must not run without limit: few
//! texts are built at a time (T130).

use std::sync::Arc;

use axum::{
    extract::State,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use ruma::{OwnedUserId, UserId};
use weft_budget::{Budget, KeyedBudget, KeyedShare};
use weft_http::{
    authentication::Authenticated,
    conditional::is_known,
    errors::ApiResult,
    openapi::{Operation, Routes},
    text_reads::{ReadPermit, TextReads},
};
use weft_room_api::CurrentText;
use weft_wire::limits::{MAX_CONTENT_READS_PER_USER, MAX_CONTENT_READS_WAITING};

use super::{
    DocumentPorts, Read,
    caller::{Named, joined},
};

pub(super) fn routes() -> Routes<DocumentPorts> {
    Routes::new("Content").get(
        "/_weft/client/v1/documents/{id}/content",
        content,
        Operation::new("getContent", "Everything that was acknowledged, as a Yjs v1 update")
            .answers(200, "The merged Yjs v1 update.")
            .media("application/octet-stream")
            .sends(
                "ETag",
                "The weak tag of the text; missing while clocks are claimed twice.",
            )
            .answers(304, "The client has the content.")
            .takes("If-None-Match", None, "Tags of the content that the client has."),
    )
}

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
    /// The permit for one request of a user, to hold until the answer is charged.
    ///
    /// # Errors
    /// When the user has too many such requests, or they take too long.
    pub(super) async fn permit(&self, user: &UserId) -> ApiResult<(KeyedShare<OwnedUserId>, ReadPermit)> {
        let share = self.of_users.try_take(&user.to_owned(), 1)?;
        Ok((share, self.permits.permit(user).await?))
    }

    /// The budget of these requests, for metrics.
    #[must_use]
    pub fn budget(&self) -> &Arc<Budget> {
        self.of_users.total()
    }
}

/// Answers with a Yjs v1 update as bytes, or with 304 if the caller has that text.
///
/// The ETag is weak: two servers, or one server before and after a restart, may encode the same text differently.
async fn content(
    State(ports): State<DocumentPorts>,
    Authenticated(session): Authenticated,
    named: Named,
    asked: HeaderMap,
) -> ApiResult<Response> {
    let _permit = ports.content_reads.permit(&session.user_id).await?;
    let room = joined(&ports, &named, &session.user_id).await?;
    let text = ports.rooms.current_text(&room).await?;
    let tag = etag(&text);
    let mut answer = if tag.as_ref().is_some_and(|tag| is_known(&asked, tag)) {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        let headers = [
            (header::CONTENT_TYPE, "application/octet-stream"),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        ];
        ports.access.note(&session.user_id, &room, Read::Content);
        (headers, text.update()).into_response()
    };
    let headers = answer.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("private, no-store"));
    if let Some(tag) = tag.and_then(|tag| HeaderValue::try_from(tag).ok()) {
        headers.insert(header::ETAG, tag);
    }
    Ok(answer)
}

/// The weak ETag of a text; `None` while clocks are claimed twice.
pub(super) fn etag(text: &CurrentText) -> Option<String> {
    state_hash(text).map(|hash| format!("W/\"{hash}\""))
}

/// The state hash of a text in unpadded URL-safe base64; `None` while clocks are claimed twice.
pub(super) fn state_hash(text: &CurrentText) -> Option<String> {
    text.state_hash().map(|hash| URL_SAFE_NO_PAD.encode(hash.as_bytes()))
}
