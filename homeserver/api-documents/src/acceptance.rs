//! Which updates accept a suggestion, and whose suggestion that was: blame and history name both people. Must not show suggestions
//! that the caller may not see.

use std::collections::BTreeMap;

use ruma::{OwnedEventId, OwnedUserId, RoomId, UserId};
use weft_dag::Pdu;
use weft_http::errors::ApiResult;
use weft_wire::{event_types, suggestion::Accepts};

use super::DocumentPorts;

/// A suggestion that was accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Accepted {
    pub(super) suggestion: OwnedEventId,
    /// The author of the suggestion.
    pub(super) by: OwnedUserId,
}

/// The suggestion that an update names.
pub(super) fn named(update: &Pdu) -> Option<OwnedEventId> {
    if update.kind() != event_types::UPDATE || update.state_key().is_some() {
        return None;
    }
    Some(update.content_as::<Accepts>().ok()?.accepts)
}

/// For each of these updates that accepts a suggestion, which one.
pub(super) async fn of_updates<'a>(
    ports: &DocumentPorts,
    room: &RoomId,
    user: &UserId,
    updates: impl Iterator<Item = &'a Pdu>,
) -> ApiResult<BTreeMap<OwnedEventId, Accepted>> {
    let named: BTreeMap<OwnedEventId, OwnedEventId> = updates
        .filter_map(|update| Some((update.event_id().to_owned(), named(update)?)))
        .collect();
    if named.is_empty() {
        return Ok(BTreeMap::new());
    }
    let mut wanted: Vec<OwnedEventId> = named.values().cloned().collect();
    wanted.sort();
    wanted.dedup();
    let reader = ports.rooms.reader();
    let stored = reader.events(room, &wanted).await?.into_iter();
    let suggestions: Vec<_> = stored
        .filter(|stored| stored.is_visible() && stored.pdu.kind() == event_types::SUGGESTION)
        .map(|stored| stored.pdu)
        .collect();
    let suggestions = reader.visible_to_user(room, user, suggestions).await?;
    let authors: BTreeMap<OwnedEventId, OwnedUserId> = suggestions
        .iter()
        .map(|pdu| (pdu.event_id().to_owned(), pdu.sender().to_owned()))
        .collect();
    let accepted = named.into_iter().filter_map(|(update, suggestion)| {
        let by = authors.get(&suggestion)?.clone();
        Some((update, Accepted { suggestion, by }))
    });
    Ok(accepted.collect())
}
