//! `GET /documents/{id}/blame`: who wrote each part of the text, and with which event. Must not replay the history.

use axum::{
    Json,
    extract::{Query, State, rejection::QueryRejection},
};
use bytes::Bytes;
use schemars::JsonSchema;
use serde::Deserialize;
use weft_http::{
    authentication::Authenticated,
    errors::{ApiError, ApiResult},
    openapi::{Operation, Routes},
};
use weft_render::{DiffRequest, RunKind};
use weft_wire::{
    rest::{Blame, BlamedRun},
    schema,
};

use super::{
    DocumentPorts, Read,
    attribution::Authorship,
    caller::{Named, joined},
    point::{self, Point},
    show::described,
};

pub(super) fn routes() -> Routes<DocumentPorts> {
    Routes::new("History").get(
        "/_weft/client/v1/documents/{id}/blame",
        blame,
        Operation::new("getBlame", "Who wrote each part of the text")
            .refuses(409, "This server does not know the text at that version.")
            .refuses(422, "The document can't be rendered on this server."),
    )
}

/// The update that brings nothing.
const NOTHING: &[u8] = &[0, 0];

/// The query of `GET /documents/{id}/blame`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
pub(super) struct BlameQuery {
    /// A version, an event id or a time; without it the present text.
    #[schemars(with = "Option<schema::Point>")]
    at: Option<String>,
}

/// The runs of the present text, or of that at a point.
async fn blame(
    State(ports): State<DocumentPorts>,
    Authenticated(session): Authenticated,
    named: Named,
    query: Result<Query<BlameQuery>, QueryRejection>,
) -> ApiResult<Json<Blame>> {
    let Query(query) = query.map_err(|error| ApiError::invalid_param(error.body_text()))?;
    let at = query.at.as_deref().map(Point::parse).transpose()?;
    let _permit = ports.content_reads.permit(&session.user_id).await?;
    let room = joined(&ports, &named, &session.user_id).await?;
    let document = described(&ports, &session.user_id, &room).await?;
    let to = match &at {
        Some(at) => point::content(&ports, &room, &session.user_id, at).await?.state,
        None => ports.rooms.current_text(&room).await?.update(),
    };
    // Everything is new for someone who has nothing, so each run has its blocks.
    let request = DiffRequest {
        kind: document.kind,
        from: Bytes::from_static(NOTHING),
        to,
    };
    let difference = ports.renderer.diff(room.as_str(), request).await?;
    let authorship = Authorship::of(&ports, &room, &session.user_id, &difference.runs, Vec::new()).await?;
    let mut runs = Vec::with_capacity(difference.runs.len());
    for run in difference.runs.iter().filter(|run| run.kind == RunKind::Insert) {
        for piece in authorship.pieces(run) {
            runs.push(BlamedRun {
                path: run.path.clone(),
                text: piece.text,
                by: piece.by,
            });
        }
    }
    ports.access.note(&session.user_id, &room, Read::Rendered);
    Ok(Json(Blame { runs }))
}
