//! `/documents/{id}/suggestions`: changes that are not part of the text until an editor accepts them (`spec/docs/suggestions.md`).
//!
//! Must not apply the update of a suggestion to the text: what is accepted is an edit of the editor with the same effect, made by a
//! render worker from a copy.

mod deciding;
mod proposal;
mod reading;

use std::sync::Arc;

use axum::{
    Json,
    extract::{Query, State, rejection::QueryRejection},
    http::{HeaderMap, StatusCode},
};
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, STANDARD_NO_PAD},
};
use bytes::Bytes;
use ruma::{EventId, OwnedEventId, RoomId, UserId};
use schemars::JsonSchema;
use serde::Deserialize;
use weft_crdt::Document;
use weft_dag::Pdu;
use weft_http::{
    authentication::Authenticated,
    errors::{ApiError, ApiResult},
    openapi::{Operation, Routes},
    path::InPath,
};
use weft_render::{Change, EditRequest, Edited, Unit};
use weft_room_api::NewEvent;
use weft_wire::{
    event_types,
    limits::{MAX_CHANGES_PER_EDIT, MAX_COMMENTS_PER_PAGE, MAX_SEALED_UPDATE_BYTES, MAX_SUMMARY_BYTES},
    rest::{Suggestion, SuggestionList, SuggestionShown, SuggestionState},
    schema,
    suggestion::SuggestionContent,
};

use self::{proposal::Proposal, reading::Reading};
use super::{
    DocumentPorts, Read,
    caller::{Named, joined},
    chat::transaction,
    failures::{inadmissible_suggestion, may_not},
    pages::{self, Extent, Sought},
    point::{self, Point},
    request::{JsonBody, idempotency_key, with_idempotency_key},
    show::described,
};

/// Suggestions of a page if the request does not say.
const ENTRIES: usize = 50;
const BASE: &str = "/_weft/client/v1/documents/{id}/suggestions";

pub(super) fn routes() -> Routes<DocumentPorts> {
    Routes::new("Suggestions")
        .post(
            BASE,
            create,
            with_idempotency_key(
                Operation::new(
                    "createSuggestion",
                    "Suggests changes that are not part of the text until they are accepted",
                )
                .refuses(403, "Below commenter.")
                .refuses(409, "This server does not know the text at that version.")
                .refuses(422, "The document can't be rendered on this server."),
            ),
        )
        .get(
            BASE,
            list,
            Operation::new("listSuggestions", "Suggestions, the newest first"),
        )
        .get(
            &format!("{BASE}/{{event}}"),
            show,
            Operation::new("getSuggestion", "A suggestion and the difference that it makes")
                .path::<schema::EventId>("event", "The suggestion."),
        )
        .post(
            &format!("{BASE}/{{event}}/accept"),
            deciding::accept,
            Operation::new("acceptSuggestion", "Makes the edit that was suggested")
                .path::<schema::EventId>("event", "The suggestion.")
                .refuses(403, "Below editor, or the document is locked.")
                .refuses(409, "It is not open, or it no longer applies."),
        )
        .post(
            &format!("{BASE}/{{event}}/reject"),
            deciding::reject,
            Operation::new("rejectSuggestion", "Rejects a suggestion")
                .path::<schema::EventId>("event", "The suggestion.")
                .refuses(403, "Below editor.")
                .refuses(409, "It is not open."),
        )
        .post(
            &format!("{BASE}/{{event}}/withdraw"),
            deciding::withdraw,
            Operation::new("withdrawSuggestion", "Withdraws the caller's suggestion")
                .path::<schema::EventId>("event", "The suggestion.")
                .refuses(403, "The caller is not its author.")
                .refuses(409, "It is not open."),
        )
}

/// The event in the path, after the document.
type InDocument = InPath<(String, String)>;

fn event_id(InPath((_, event)): InDocument) -> ApiResult<OwnedEventId> {
    EventId::parse(event).map_err(|_| ApiError::invalid_param("The path needs an event id such as $…."))
}

/// The body of `POST /documents/{id}/suggestions`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct NewSuggestion {
    /// Changes by position, as in an edit.
    #[schemars(length(min = 1, max = MAX_CHANGES_PER_EDIT))]
    changes: Option<Vec<Change>>,
    /// The version to which the positions refer; without it the present one.
    client_version: Option<u64>,
    /// The unit of the positions.
    #[serde(default)]
    unit: Unit,
    /// Instead of changes: a Yjs v1 update in standard base64.
    #[schemars(with = "Option<schema::Base64>")]
    update: Option<String>,
    /// What it is for.
    #[schemars(length(max = MAX_SUMMARY_BYTES))]
    summary: Option<String>,
}

/// 201 with the suggestion.
async fn create(
    State(ports): State<DocumentPorts>,
    Authenticated(session): Authenticated,
    named: Named,
    headers: HeaderMap,
    JsonBody(request): JsonBody<NewSuggestion>,
) -> ApiResult<(StatusCode, Json<Suggestion>)> {
    let user = &*session.user_id;
    let key = idempotency_key(&headers)?.map(transaction);
    if request.summary.as_ref().map_or(0, String::len) > MAX_SUMMARY_BYTES {
        return Err(ApiError::too_large(format!(
            "A summary can have at most {MAX_SUMMARY_BYTES} bytes."
        )));
    }
    let _permit = ports.content_reads.permit(user).await?;
    let room = joined(&ports, &named, user).await?;
    if !ports.rooms.access(&room, user).await?.role.can_comment() {
        return Err(may_not("suggest"));
    }
    let text = ports.rooms.current_text(&room).await?.text;
    let update = match (&request.changes, &request.update) {
        (Some(changes), None) => changed(&ports, &room, user, &text, &request, changes).await?,
        (None, Some(update)) => decoded(update)?,
        _ => return Err(ApiError::invalid_param("A suggestion needs either changes or update.")),
    };
    if update.len() > MAX_SEALED_UPDATE_BYTES {
        return Err(ApiError::too_large(format!(
            "A suggestion can have at most {MAX_SEALED_UPDATE_BYTES} bytes."
        )));
    }
    let proposal = Proposal::of_bytes(update, user, &text).map_err(|error| inadmissible_suggestion(&error))?;
    let content = SuggestionContent {
        update: STANDARD_NO_PAD.encode(proposal.bytes()),
        summary: request.summary,
        heads: Vec::new(),
    };
    let content = serde_json::to_value(content).map_err(|error| ApiError::internal("a suggestion", &error))?;
    let event = NewEvent {
        sender: user.to_owned(),
        kind: event_types::SUGGESTION.to_owned(),
        state_key: None,
        content: content.as_object().cloned().unwrap_or_default(),
        redacts: None,
        txn: key.map(|key| (session.device_id.clone(), key)),
        timestamp: None,
    };
    let id = ports.rooms.send(&room, event).await?;
    let reading = Reading::of(&ports, &room, user).await?;
    Ok((StatusCode::CREATED, Json(reading.found(&id).await?.shown)))
}

fn decoded(update: &str) -> ApiResult<Bytes> {
    let bytes = STANDARD
        .decode(update)
        .or_else(|_| STANDARD_NO_PAD.decode(update))
        .map_err(|_| ApiError::invalid_param("update is not standard base64."))?;
    Ok(bytes.into())
}

/// The update of changes by position, under a client id that nobody has.
async fn changed(
    ports: &DocumentPorts,
    room: &RoomId,
    user: &UserId,
    text: &Document,
    request: &NewSuggestion,
    changes: &[Change],
) -> ApiResult<Bytes> {
    if changes.len() > MAX_CHANGES_PER_EDIT {
        return Err(ApiError::too_large(format!(
            "A suggestion can have at most {MAX_CHANGES_PER_EDIT} changes."
        )));
    }
    if changes.is_empty() {
        return Err(ApiError::invalid_param("A suggestion needs at least one change."));
    }
    let base = match request.client_version {
        None => None,
        Some(version) => Some(point::content(ports, room, user, &Point::Version(version)).await?.state),
    };
    let blocks = ports.writers.unused(ports.rooms.reader(), room, text).await?;
    let edit = EditRequest {
        kind: described(ports, user, room).await?.kind,
        state: text.encode().into(),
        base,
        changes: changes.to_vec(),
        unit: request.unit,
        client: blocks.client.get(),
        clock: blocks.clock,
    };
    let Edited { update, .. } = ports.renderer.edit(room.as_str(), edit).await?;
    Ok(update)
}

/// The query of the list.
#[derive(Debug, Default, Deserialize, JsonSchema)]
struct ListQuery {
    /// Only suggestions of which this became.
    state: Option<SuggestionState>,
    /// `nextPage` of the page before.
    from: Option<String>,
    /// The length of a page, by default 50.
    #[schemars(range(min = 1, max = MAX_COMMENTS_PER_PAGE))]
    limit: Option<usize>,
}

/// One page of suggestions, the newest first.
async fn list(
    State(ports): State<DocumentPorts>,
    Authenticated(session): Authenticated,
    named: Named,
    query: Result<Query<ListQuery>, QueryRejection>,
) -> ApiResult<Json<SuggestionList>> {
    let Query(query) = query.map_err(|error| ApiError::invalid_param(error.body_text()))?;
    let limit = query.limit.unwrap_or(ENTRIES);
    if !(1..=MAX_COMMENTS_PER_PAGE).contains(&limit) {
        return Err(ApiError::invalid_param(format!(
            "limit is 1 to {MAX_COMMENTS_PER_PAGE}."
        )));
    }
    let before = query.from.as_deref().map(str::parse).transpose();
    let before = before.map_err(|_| ApiError::invalid_param("from is the nextPage of a page."))?;
    let _permit = ports.content_reads.permit(&session.user_id).await?;
    let room = joined(&ports, &named, &session.user_id).await?;
    let reading = Reading::of(&ports, &room, &session.user_id).await?;
    let made = Made {
        reading: &reading,
        state: query.state,
    };
    let extent = Extent { before, limit };
    let (suggestions, next_page) = pages::page(&ports, &room, &session.user_id, &made, extent).await?;
    ports.access.note(&session.user_id, &room, Read::Rendered);
    Ok(Json(SuggestionList { suggestions, next_page }))
}

/// Suggestions, of which only those of one state may be asked for.
struct Made<'a> {
    reading: &'a Reading<'a>,
    state: Option<SuggestionState>,
}

impl Sought for Made<'_> {
    type Found = Suggestion;

    fn may_be(pdu: &Pdu) -> bool {
        reading::is_suggestion(pdu)
    }

    async fn read(&self, pdu: Arc<Pdu>) -> ApiResult<Option<Suggestion>> {
        let found = self.reading.suggestion(pdu).await?.map(|found| found.shown);
        Ok(found.filter(|shown| self.state.is_none_or(|wanted| wanted == shown.state)))
    }

    fn is_exhausted(&self) -> bool {
        self.reading.is_exhausted()
    }
}

/// A suggestion with the difference that it makes.
async fn show(
    State(ports): State<DocumentPorts>,
    Authenticated(session): Authenticated,
    named: Named,
    path: InDocument,
) -> ApiResult<Json<SuggestionShown>> {
    let id = event_id(path)?;
    let _permit = ports.content_reads.permit(&session.user_id).await?;
    let room = joined(&ports, &named, &session.user_id).await?;
    let reading = Reading::of(&ports, &room, &session.user_id).await?;
    let found = reading.found(&id).await?;
    let shown = reading.difference(found).await?;
    ports.access.note(&session.user_id, &room, Read::Rendered);
    Ok(Json(shown))
}
