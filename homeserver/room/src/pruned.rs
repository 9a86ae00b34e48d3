//! Requests updates that were received redacted (see [`weft_ingest`]) from other servers: a durable job for each
//! room, separate from the worker, while there are any. A server that has the complete update returns it complete, so that all servers
//! converge as soon as one that has it can be reached.
//!
//! Everything is limited: one request per server and attempt, with increasing delays. Must not decide about events.

mod merge;

use std::{collections::BTreeMap, time::Duration};

use ruma::{OwnedEventId, OwnedServerName, RoomId};
use weft_dag::{RoomVersion, Verified};
use weft_ingest::peer_selection::select_peers;
use weft_jobs::Outcome;
use weft_room_api::Unavailable;
use weft_store::tables::rooms::PRUNED_UPDATES;
use weft_wire::{limits::MAX_EVENT_IDS_PER_REQUEST, witness};

use crate::{background::Outward, mailbox::LocalCommand};

/// Servers that are tried in one attempt. The next attempt begins with the next ones.
const MAX_SERVERS: usize = 8;
/// What is left after an attempt.
enum Left {
    Nothing,
    /// No server had any of it.
    All,
    Some,
}

/// One run of the job of a room.
pub(crate) async fn run(out: &Outward, room: &RoomId, failures: u32) -> Outcome {
    let attempt = usize::try_from(failures).unwrap_or(usize::MAX);
    let at_once = Outcome::Again { after: Duration::ZERO };
    match Box::pin(attempt_once(out, room, attempt)).await {
        Ok(Left::Nothing) => Outcome::Done,
        Ok(Left::Some) | Err(Unavailable::Stopping) => at_once,
        Ok(Left::All) => Outcome::Failed {
            reason: "no server returned the updates".to_owned(),
        },
        Err(error) => Outcome::Failed {
            reason: error.to_string(),
        },
    }
}

async fn attempt_once(out: &Outward, room: &RoomId, attempt: usize) -> Result<Left, Unavailable> {
    let shared = &out.shared;
    let query = PRUNED_UPDATES.under(&(room,));
    let rows = shared.store.scan_all(query).await?;
    let mut wanted: Vec<OwnedEventId> = rows.into_iter().map(|((_, id), ())| id).collect();
    let Some(version) = shared.reader.version(room).await?.filter(|_| !wanted.is_empty()) else {
        return Ok(Left::Nothing);
    };
    let before = wanted.len();
    for server in servers(out, room, attempt).await? {
        // Start at a different update each time: the first ones may be unavailable.
        let rotation = attempt.checked_rem(wanted.len()).unwrap_or(0);
        wanted.rotate_left(rotation);
        let ids: Vec<OwnedEventId> = wanted.iter().take(MAX_EVENT_IDS_PER_REQUEST).cloned().collect();
        let answer = out.tasks.peers.events(&version, &server, &ids).await;
        let complete: Vec<Verified> = answer
            .unwrap_or_default()
            .into_iter()
            .filter(|event| !event.redacted_on_receipt() && ids.iter().any(|id| id == event.pdu().event_id()))
            .collect();
        wanted.retain(|id| !complete.iter().any(|event| event.pdu().event_id() == id));
        if !complete.is_empty() {
            restore_updates(out, room, complete).await?;
        }
        if wanted.is_empty() {
            break;
        }
    }
    Ok(if wanted.len() < before { Left::Some } else { Left::All })
}

async fn restore_updates(out: &Outward, room: &RoomId, complete: Vec<Verified>) -> Result<(), Unavailable> {
    out.shared
        .ask(room, |reply| LocalCommand::RestoreUpdates(complete, reply))
        .await
}

/// Some of the other servers in the room.
async fn servers(out: &Outward, room: &RoomId, attempt: usize) -> Result<Vec<OwnedServerName>, Unavailable> {
    let ours = out.shared.identity.server_name();
    let servers = out.shared.reader.servers_in(room).await?;
    Ok(select_peers(servers, &[ours], attempt, MAX_SERVERS))
}

/// Requests the complete copies of the pruned updates among these events, so that the text need not be worked out
/// without them first. Those that are unavailable are requested again when they are persisted.
pub(crate) async fn fill(
    out: &Outward,
    room: &RoomId,
    version: &RoomVersion,
    events: &mut [Verified],
) -> Result<(), Unavailable> {
    let is_pruned = |event: &&mut Verified| event.redacted_on_receipt() && witness::is_kept_whole(event.pdu().kind());
    let mut pruned: BTreeMap<OwnedEventId, &mut Verified> = events
        .iter_mut()
        .filter(is_pruned)
        .map(|event| (event.pdu().event_id().to_owned(), event))
        .collect();
    if pruned.is_empty() {
        return Ok(());
    }
    for server in servers(out, room, 0).await? {
        let wanted: Vec<OwnedEventId> = pruned.keys().cloned().collect();
        for ids in wanted.chunks(MAX_EVENT_IDS_PER_REQUEST) {
            let Ok(answer) = out.tasks.peers.events(version, &server, ids).await else {
                break;
            };
            for event in answer.into_iter().filter(|event| !event.redacted_on_receipt()) {
                if let Some(copy) = pruned.remove(event.pdu().event_id()) {
                    *copy = event;
                }
            }
        }
    }
    Ok(())
}
