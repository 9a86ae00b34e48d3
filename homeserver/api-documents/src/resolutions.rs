//! Decisions about comments and suggestions: `dev.weft.resolution` events, read and sent. Must not decide by the order of arrival: servers
//! would differ.

use ruma::{OwnedEventId, OwnedUserId, RoomId, UserId};
use serde_json::{Map, Value};
use weft_dag::Pdu;
use weft_http::errors::{ApiError, ApiResult};
use weft_room_api::NewEvent;
use weft_room_read::{Relation, RelationRow};
use weft_wire::{
    event_types,
    limits::MAX_RESOLUTIONS_NAMED,
    resolution::{Outcome, Resolution, ResolutionContent},
};

use super::{DocumentPorts, purposes};

/// What was decided, and by whom.
#[derive(Debug, Clone)]
pub(super) struct Decision {
    pub(super) outcome: Outcome,
    pub(super) by: OwnedUserId,
}

/// The decisions among the events that relate to a comment or a suggestion. All of them are by users who might send them.
pub(super) async fn decisions(
    ports: &DocumentPorts,
    room: &RoomId,
    relations: &[RelationRow],
) -> ApiResult<Vec<Resolution<Decision>>> {
    let is_decision = |row: &&RelationRow| row.relation == Relation::Reference && row.kind == event_types::RESOLUTION;
    let ids: Vec<_> = relations
        .iter()
        .filter(is_decision)
        .map(|row| row.event.clone())
        .collect();
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let stored = ports.rooms.reader().events(room, &ids).await?;
    let stored = stored.iter().filter(|stored| stored.is_visible());
    Ok(stored.filter_map(|stored| decision(&stored.pdu)).collect())
}

fn decision(pdu: &Pdu) -> Option<Resolution<Decision>> {
    let content: ResolutionContent = pdu.content_as().ok()?;
    Some(Resolution {
        event: pdu.event_id().to_owned(),
        at: pdu.origin_server_ts().get().into(),
        after: content.after,
        value: Decision {
            outcome: content.outcome,
            by: pdu.sender().to_owned(),
        },
    })
}

/// Sends a decision that replaces those that stand now.
pub(super) async fn decide(
    ports: &DocumentPorts,
    room: &RoomId,
    user: &UserId,
    about: &OwnedEventId,
    content: ResolutionContent,
) -> ApiResult<OwnedEventId> {
    let content = serde_json::to_value(content).map_err(|error| ApiError::internal("a resolution", &error))?;
    let mut content: Map<String, Value> = content.as_object().cloned().unwrap_or_default();
    content.extend([purposes::reference(about)]);
    let event = NewEvent {
        sender: user.to_owned(),
        kind: event_types::RESOLUTION.to_owned(),
        state_key: None,
        content,
        redacts: None,
        txn: None,
        timestamp: None,
    };
    Ok(ports.rooms.send(room, event).await?)
}

/// The ids of decisions, as a new one names them.
pub(super) fn named<T>(standing: &[Resolution<T>]) -> Vec<OwnedEventId> {
    let newest = standing.iter().rev().take(MAX_RESOLUTIONS_NAMED);
    newest.map(|one| one.event.clone()).collect()
}
