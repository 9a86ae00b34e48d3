//! `GET /documents/{id}/diff`: the difference of two points, with who wrote and who deleted what. Must not show a point that
//! the caller may not see.

use axum::{
    Json,
    extract::{Query, State, rejection::QueryRejection},
};
use bytes::Bytes;
use ruma::{RoomId, UserId};
use schemars::JsonSchema;
use serde::Deserialize;
use weft_crdt::{StateVector, Update};
use weft_http::{
    authentication::Authenticated,
    errors::{ApiError, ApiResult},
    openapi::{Operation, Routes},
};
use weft_render::{DiffRequest, RunKind};
use weft_room_read::{Direction, Types, versions::EventSteps};
use weft_wire::{
    limits::{MAX_HISTORY_EVENTS, MAX_PAGE_EVENTS},
    rest::{DocumentDiff, DocumentDiffRun},
    schema,
};

use super::{
    DocumentPorts, Read,
    attribution::Authorship,
    caller::{Named, joined},
    point::{self, PastContent, Point},
    show::described,
};

pub(super) fn routes() -> Routes<DocumentPorts> {
    Routes::new("History").get(
        "/_weft/client/v1/documents/{id}/diff",
        diff,
        Operation::new("getDifference", "What changed between two points")
            .refuses(409, "This server does not know the text at that version.")
            .refuses(422, "The document can't be rendered on this server."),
    )
}

/// The query of `GET /documents/{id}/diff`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
pub(super) struct DiffQuery {
    /// A version, an event id or a time; without it the beginning.
    #[schemars(with = "Option<schema::Point>")]
    from: Option<String>,
    /// A later version, event id or time; without it the present text.
    #[schemars(with = "Option<schema::Point>")]
    to: Option<String>,
}

/// The difference from one point to a later one, or to the present text.
async fn diff(
    State(ports): State<DocumentPorts>,
    Authenticated(session): Authenticated,
    named: Named,
    query: Result<Query<DiffQuery>, QueryRejection>,
) -> ApiResult<Json<DocumentDiff>> {
    let Query(query) = query.map_err(|error| ApiError::invalid_param(error.body_text()))?;
    let from = query.from.as_deref().map(Point::parse).transpose()?;
    let from = from.ok_or_else(|| ApiError::missing_param("The parameter from is missing."))?;
    let to = query.to.as_deref().map(Point::parse).transpose()?;
    let _permit = ports.content_reads.permit(&session.user_id).await?;
    let room = joined(&ports, &named, &session.user_id).await?;
    let user = &*session.user_id;
    let kind = described(&ports, user, &room).await?.kind;
    let before = point::content(&ports, &room, user, &from).await?;
    let after = match &to {
        Some(to) => point::content(&ports, &room, user, to).await?,
        None => PastContent {
            state: ports.rooms.current_text(&room).await?.update(),
            version: None,
        },
    };
    if !vector_of(&after.state)?.covers(&vector_of(&before.state)?) {
        return Err(ApiError::invalid_param("to must have everything that from has."));
    }
    let steps = steps_since(&ports, &room, &from, &before, after.version).await?;
    let request = DiffRequest {
        kind,
        from: before.state,
        to: after.state,
    };
    let difference = ports.renderer.diff(room.as_str(), request).await?;
    let mut answer = attributed(&ports, &room, user, difference.runs, steps).await?;
    // Only changes of suggestions are chosen from.
    answer.runs.iter_mut().for_each(|run| run.change = None);
    ports.access.note(user, &room, Read::Rendered);
    Ok(Json(answer))
}

/// The runs with who wrote, and who deleted them.
pub(super) async fn attributed(
    ports: &DocumentPorts,
    room: &RoomId,
    user: &UserId,
    found: Vec<weft_render::DiffRun>,
    steps: Vec<EventSteps>,
) -> ApiResult<DocumentDiff> {
    let authorship = Authorship::of(ports, room, user, &found, steps).await?;
    let mut runs = Vec::with_capacity(found.len());
    for run in found {
        let kind = name_of(run.kind);
        if !matches!(run.kind, RunKind::Insert | RunKind::Delete) {
            runs.push(DocumentDiffRun {
                kind: kind.to_owned(),
                path: run.path,
                text: run.text,
                by: Default::default(),
                deleted_by: None,
                deleted_at: None,
                attributes: run.attributes,
                change: run.change,
            });
            continue;
        }
        for piece in authorship.pieces(&run) {
            let deleted = piece.deleted.filter(|_| run.kind == RunKind::Delete);
            runs.push(DocumentDiffRun {
                kind: kind.to_owned(),
                path: run.path.clone(),
                text: piece.text,
                by: piece.by,
                deleted_by: deleted.as_ref().map(|(by, _)| by.clone()),
                deleted_at: deleted.map(|(_, at)| at),
                attributes: run.attributes.clone(),
                change: run.change,
            });
        }
    }
    Ok(DocumentDiff { runs })
}

const fn name_of(kind: RunKind) -> &'static str {
    match kind {
        RunKind::Equal => "equal",
        RunKind::Insert => "insert",
        RunKind::Delete => "delete",
        RunKind::Format => "format",
    }
}

fn vector_of(state: &Bytes) -> ApiResult<StateVector> {
    let update = Update::parse(state.clone());
    let update = update.map_err(|error| ApiError::internal("content of a document", &error))?;
    Ok(update.state_vector())
}

/// What was done since a point, and up to a version if one is given, to find who deleted something: from the index, or from
/// the events after the point, which may be too many. What is not found is not known.
async fn steps_since(
    ports: &DocumentPorts,
    room: &RoomId,
    point: &Point,
    content: &PastContent,
    until: Option<u64>,
) -> ApiResult<Vec<EventSteps>> {
    let reader = ports.rooms.reader();
    let until = until.unwrap_or(u64::MAX);
    let event = match (content.version, point) {
        (Some(version), _) => return Ok(reader.steps_between(room, version, until).await?),
        (None, Point::Event(event)) => event,
        (None, _) => return Ok(Vec::new()),
    };
    let versions = reader.versions_of(room, std::slice::from_ref(event)).await?;
    if let Some(first) = versions.into_iter().flatten().next() {
        return Ok(reader.steps_between(room, first, until).await?);
    }
    let mut steps = reader.edits_in_journal(room).await?;
    let (mut after, mut read) = (reader.order(room, event).await?, 0);
    while after.is_some() && read < MAX_HISTORY_EVENTS {
        let page = reader
            .timeline(room, after, Direction::Forward, Types::All, MAX_PAGE_EVENTS)
            .await?;
        read += page.events.len();
        steps.extend(page.events.iter().filter_map(|event| EventSteps::of_event(&event.pdu)));
        after = page.next;
    }
    Ok(steps)
}
