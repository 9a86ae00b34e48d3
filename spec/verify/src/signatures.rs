//! Checks each event by itself: its form, its id, its room, its signatures and its content hash. Events don't depend on one
//! another here, so this runs in several threads. Must not use any other event.

use std::{num::NonZero, thread};

use ruma::{OwnedEventId, OwnedRoomId, OwnedServerName};
use serde_json::value::RawValue;
use weft_dag::{DropReason, RoomVersion, Unchecked, Verified, VerifyKeys};

use crate::{Rule, Wrong};

/// The line of an event.
#[derive(Debug)]
pub(crate) struct Received {
    pub(crate) line: u64,
    pub(crate) event_id: OwnedEventId,
    pub(crate) pdu: Box<RawValue>,
    pub(crate) before: bool,
}

/// An event that is good by itself.
#[derive(Debug)]
pub(crate) struct Checked {
    pub(crate) line: u64,
    pub(crate) before: bool,
    pub(crate) event: Verified,
    /// The content was removed.
    pub(crate) is_stripped: bool,
    /// Servers of whose signing keys none is known: their signatures were not checked.
    pub(crate) without_key: Vec<OwnedServerName>,
}

/// The room that all events must be of.
#[derive(Debug, Clone)]
pub(crate) struct Room {
    pub(crate) id: OwnedRoomId,
    pub(crate) version: RoomVersion,
}

/// Checks events in several threads, while `meanwhile` runs in this one. The results are in the order of the events.
pub(crate) fn check_all<T>(
    batch: &[Received],
    room: &Room,
    keys: &VerifyKeys,
    meanwhile: impl FnOnce() -> T,
) -> (Vec<Result<Checked, Wrong>>, T) {
    let threads = thread::available_parallelism().map_or(1, NonZero::get);
    let size = batch.len().div_ceil(threads).max(1);
    thread::scope(|scope| {
        let parts: Vec<_> = batch
            .chunks(size)
            .map(|part| scope.spawn(move || part.iter().map(|received| check(received, room, keys)).collect()))
            .collect();
        let done = meanwhile();
        let results = parts.into_iter().flat_map(|part| {
            let results: Vec<Result<Checked, Wrong>> = match part.join() {
                Ok(results) => results,
                Err(panic) => std::panic::resume_unwind(panic),
            };
            results
        });
        (results.collect(), done)
    })
}

/// Checks one event.
pub(crate) fn check(received: &Received, room: &Room, keys: &VerifyKeys) -> Result<Checked, Wrong> {
    let wrong = |rule: Rule, why: String| Wrong {
        line: received.line,
        event: Some(received.event_id.clone()),
        rule,
        why,
    };
    let dropped = |error: DropReason| {
        let rule = match error {
            DropReason::Signatures(_) => Rule::Signature,
            _ => Rule::Event,
        };
        wrong(rule, error.to_string())
    };
    let parse = || Unchecked::parse(received.pdu.get(), &room.version).map_err(dropped);
    let event = parse()?;
    if event.event_id() != received.event_id {
        return Err(wrong(Rule::EventId, format!("the event is {}", event.event_id())));
    }
    if event.room_id() != room.id {
        return Err(wrong(
            Rule::Room,
            format!("the event is of the room {}", event.room_id()),
        ));
    }
    let needed = event.needed_keys();
    if let Some((server, _)) = needed.iter().find(|(_, ids)| ids.is_empty()) {
        return Err(wrong(Rule::Signature, format!("{server} did not sign it")));
    }
    let is_known = |server: &OwnedServerName| {
        let ids = needed.get(server);
        ids.is_some_and(|ids| ids.iter().any(|id| keys.get(server, id).is_some()))
    };
    let without_key: Vec<OwnedServerName> = needed.keys().filter(|server| !is_known(server)).cloned().collect();
    if !without_key.is_empty() {
        let id = received.event_id.clone();
        let event = Verified::from_trusted_json(event.json(), id, &room.version, false);
        return Ok(Checked {
            line: received.line,
            before: received.before,
            event: event.map_err(|error| wrong(Rule::Event, error.to_string()))?,
            is_stripped: false,
            without_key,
        });
    }
    let event = event.verify(&keys.only(needed.keys())).map_err(dropped)?;
    let is_stripped = event.redacted_on_receipt();
    // A redacted event has lost its content and nothing else; anything else in it was not signed.
    if is_stripped && event.pdu().json() != parse()?.json() {
        return Err(wrong(
            Rule::ContentHash,
            "the content is not the one that was signed".to_owned(),
        ));
    }
    Ok(Checked {
        line: received.line,
        before: received.before,
        event,
        is_stripped,
        without_key,
    })
}
