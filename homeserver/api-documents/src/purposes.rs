//! What updates are for, as their content says: which suggestion they accept, and whose that was (blame and history name both people);
//! which point they restore; whose edits they undo. Must not show suggestions and names of versions that the caller may not see.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use ruma::{OwnedEventId, OwnedUserId, RoomId, UserId};
use serde_json::{Value, json};
use weft_dag::Pdu;
use weft_http::errors::{ApiError, ApiResult};
use weft_room_api::EditToSend;
use weft_wire::{
    event_types,
    purpose::{Purpose, Restores},
    rest::{RestoredPoint, RolledBackEdits},
};

use super::{DocumentPorts, history::version_of};

/// What an update is for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) accepted: Option<Accepted>,
    pub(super) restores: Option<RestoredPoint>,
    pub(super) rolls_back: Option<RolledBackEdits>,
}

/// A suggestion that was accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Accepted {
    pub(super) suggestion: OwnedEventId,
    /// The author of the suggestion.
    pub(super) by: OwnedUserId,
}

/// What the content of an update says. `None` of other events.
pub(super) fn purpose_of(update: &Pdu) -> Option<Purpose> {
    if update.kind() != event_types::UPDATE || update.state_key().is_some() {
        return None;
    }
    update.content_as::<Purpose>().ok()
}

/// An edit that says what it is for.
///
/// # Errors
/// Never: the fields are plain JSON.
pub(super) fn edit(user: &UserId, update: Bytes, purpose: &Purpose) -> ApiResult<EditToSend> {
    let fields =
        serde_json::to_value(purpose).map_err(|error| ApiError::internal("the purpose of an update", &error))?;
    let mut fields = fields.as_object().cloned().unwrap_or_default();
    fields.extend(purpose.accepted().map(reference));
    Ok(EditToSend {
        user: user.to_owned(),
        update,
        fields,
    })
}

/// The field of the content by which an event is found among the relations of another one.
pub(super) fn reference(to: &OwnedEventId) -> (String, Value) {
    let relation = json!({"rel_type": "m.reference", "event_id": to});
    ("m.relates_to".to_owned(), relation)
}

/// For each of these updates that is for something, what it is for.
pub(super) async fn of_updates<'a>(
    ports: &DocumentPorts,
    room: &RoomId,
    user: &UserId,
    updates: impl Iterator<Item = &'a Pdu>,
) -> ApiResult<BTreeMap<OwnedEventId, Told>> {
    let stated: Vec<(OwnedEventId, Purpose)> = updates
        .filter_map(|update| Some((update.event_id().to_owned(), purpose_of(update)?)))
        .filter(|(_, purpose)| !purpose.is_empty())
        .collect();
    if stated.is_empty() {
        return Ok(BTreeMap::new());
    }
    let named = visible(
        ports,
        room,
        user,
        stated.iter().filter_map(|(_, purpose)| named(purpose)),
    )
    .await?;
    let told = stated.into_iter().map(|(update, purpose)| {
        let told = Told {
            accepted: purpose.accepted().and_then(|id| accepted(id, named.get(id)?)),
            restores: purpose.restores.map(|point| restored(point, &named)),
            rolls_back: purpose.rolls_back.map(|undone| RolledBackEdits {
                user: undone.user,
                after: undone.after,
                heads: undone.heads,
            }),
        };
        (update, told)
    });
    Ok(told.collect())
}

/// The event that has to be read to show a purpose.
fn named(purpose: &Purpose) -> Option<&OwnedEventId> {
    let version = purpose.restores.as_ref().and_then(single_head);
    purpose.accepted().or(version)
}

/// A named version is the only head of its text.
fn single_head(point: &Restores) -> Option<&OwnedEventId> {
    point.heads.first().filter(|_| point.heads.len() == 1)
}

fn accepted(id: &OwnedEventId, suggestion: &Pdu) -> Option<Accepted> {
    let is_suggestion = suggestion.kind() == event_types::SUGGESTION;
    is_suggestion.then(|| Accepted {
        suggestion: id.clone(),
        by: suggestion.sender().to_owned(),
    })
}

fn restored(point: Restores, named: &BTreeMap<OwnedEventId, Arc<Pdu>>) -> RestoredPoint {
    let version = single_head(&point).and_then(|head| version_of(named.get(head)?));
    RestoredPoint {
        heads: point.heads,
        state_hash: point.state_hash,
        name: version.map(|version| version.name),
    }
}

/// Those of the events that the caller may see.
async fn visible(
    ports: &DocumentPorts,
    room: &RoomId,
    user: &UserId,
    ids: impl Iterator<Item = &OwnedEventId>,
) -> ApiResult<BTreeMap<OwnedEventId, Arc<Pdu>>> {
    let mut wanted: Vec<OwnedEventId> = ids.cloned().collect();
    wanted.sort();
    wanted.dedup();
    let reader = ports.rooms.reader();
    let stored = reader.events(room, &wanted).await?.into_iter();
    let events: Vec<_> = stored
        .filter(|stored| stored.is_visible())
        .map(|stored| stored.pdu)
        .collect();
    let events = reader.visible_to_user(room, user, events).await?;
    Ok(events.into_iter().map(|pdu| (pdu.event_id().to_owned(), pdu)).collect())
}
