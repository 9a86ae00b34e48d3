//! Accepts, rejects and withdraws suggestions. What accepts a suggestion is the update that names it; the decision that follows it
//! tells clients that do not read updates. Must not accept a suggestion twice.

mod accepting;

use axum::{Json, extract::State};
use ruma::{OwnedEventId, OwnedRoomId, UserId};
use serde_json::Value;
use weft_http::{
    authentication::Authenticated,
    errors::{ApiError, ApiResult},
};
use weft_room_api::{RefusedEdit, RoomError};
use weft_wire::{
    resolution::{Outcome, ResolutionContent},
    rest::{AcceptSuggestion, RestOfSuggestion, SuggestionDecided, SuggestionState},
};

use self::accepting::{Accepted, Accepting, Chosen};
use super::{
    InDocument, event_id,
    reading::{Found, Reading},
};
use crate::{
    DocumentPorts,
    bin::check_not_in_bin,
    caller::{Named, joined},
    failures::{may_not, suggestion_closed},
    request::OptionalJsonBody,
    resolutions::{self, named},
    show::described,
};

/// Accepts a suggestion, or some of its changes: an edit of the caller has their effect.
pub(super) async fn accept(
    State(ports): State<DocumentPorts>,
    Authenticated(session): Authenticated,
    document: Named,
    path: InDocument,
    OptionalJsonBody(request): OptionalJsonBody<AcceptSuggestion>,
) -> ApiResult<Json<SuggestionDecided>> {
    let (user, id) = (&*session.user_id, event_id(path)?);
    let chosen = Chosen::of(&request)?;
    let _permit = ports.content_reads.permit(user).await?;
    let room = joined(&ports, &document, user).await?;
    // Held until the update is on disk, where the next request finds it.
    let _turn = ports.writers.decision(&room, &id).await?;
    let reading = Reading::of(&ports, &room, user).await?;
    let found = open(&reading, &id).await?;
    check_may_edit(&ports, &room, user, "accept suggestions").await?;
    check_not_in_bin(&described(&ports, user, &room).await?)?;
    let accepting = Accepting {
        ports: &ports,
        room: &room,
        user,
        reading: &reading,
        found: &found,
    };
    let Accepted { update, is_whole } = accepting.accept(chosen).await?;
    let outcome = match (is_whole, request.rest) {
        (true, _) => Some((Outcome::Accepted, SuggestionState::Accepted)),
        (false, RestOfSuggestion::Rejected) => Some((Outcome::Rejected, SuggestionState::Rejected)),
        (false, RestOfSuggestion::Open) => None,
    };
    let mut event_id = None;
    if let Some((outcome, _)) = outcome {
        let content = ResolutionContent {
            outcome,
            after: named(&found.standing),
            update: Some(update.clone()).filter(|_| is_whole),
        };
        event_id = Some(resolutions::decide(&ports, &room, user, &id, content).await?);
    }
    Ok(Json(SuggestionDecided {
        state: outcome.map_or(SuggestionState::Open, |(_, state)| state),
        event_id,
        update: Some(update),
        version: Some(ports.rooms.reader().document_version(&room).await?),
    }))
}

/// Rejects a suggestion; 403 below editor.
pub(super) async fn reject(
    State(ports): State<DocumentPorts>,
    Authenticated(session): Authenticated,
    document: Named,
    path: InDocument,
) -> ApiResult<Json<SuggestionDecided>> {
    let (user, id) = (&*session.user_id, event_id(path)?);
    let room = joined(&ports, &document, user).await?;
    let _turn = ports.writers.decision(&room, &id).await?;
    let reading = Reading::of(&ports, &room, user).await?;
    let found = open(&reading, &id).await?;
    check_may_edit(&ports, &room, user, "reject suggestions").await?;
    closed(&ports, &room, user, &found, Outcome::Rejected).await
}

/// Withdraws a suggestion of the caller.
pub(super) async fn withdraw(
    State(ports): State<DocumentPorts>,
    Authenticated(session): Authenticated,
    document: Named,
    path: InDocument,
) -> ApiResult<Json<SuggestionDecided>> {
    let (user, id) = (&*session.user_id, event_id(path)?);
    let room = joined(&ports, &document, user).await?;
    let _turn = ports.writers.decision(&room, &id).await?;
    let reading = Reading::of(&ports, &room, user).await?;
    let found = open(&reading, &id).await?;
    if found.pdu.sender() != user {
        return Err(ApiError::forbidden("Only its author can withdraw a suggestion."));
    }
    closed(&ports, &room, user, &found, Outcome::Withdrawn).await
}

async fn open(reading: &Reading<'_>, id: &OwnedEventId) -> ApiResult<Found> {
    let found = reading.found(id).await?;
    if found.is_open() {
        return Ok(found);
    }
    let state = serde_json::to_value(found.shown.state).unwrap_or(Value::Null);
    Err(suggestion_closed(state))
}

async fn check_may_edit(ports: &DocumentPorts, room: &OwnedRoomId, user: &UserId, what: &str) -> ApiResult<()> {
    let access = ports.rooms.access(room, user).await?;
    if access.is_locked {
        return Err(RoomError::from(access.edit_refusal(RefusedEdit::default())).into());
    }
    if !access.can_edit {
        return Err(may_not(what));
    }
    Ok(())
}

async fn closed(
    ports: &DocumentPorts,
    room: &OwnedRoomId,
    user: &UserId,
    found: &Found,
    outcome: Outcome,
) -> ApiResult<Json<SuggestionDecided>> {
    let content = ResolutionContent {
        outcome,
        after: named(&found.standing),
        update: None,
    };
    let event_id = resolutions::decide(ports, room, user, &found.shown.event_id, content).await?;
    let state = match outcome {
        Outcome::Withdrawn => SuggestionState::Withdrawn,
        _ => SuggestionState::Rejected,
    };
    Ok(Json(SuggestionDecided {
        state,
        event_id: Some(event_id),
        update: None,
        version: None,
    }))
}
