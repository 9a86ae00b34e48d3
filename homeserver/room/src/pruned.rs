//! Asking other servers for updates that came redacted (see [`crate::ingest`]): one task a room, beside the worker, for
//! as long as there are some. Who has such an update whole gives it whole, so that all servers end with the same text
//! as soon as one that has it can be reached.
//!
//! Everything is bounded: one request a server and attempt, attempts ever rarer. Must not decide about events.

mod merge;

use std::{collections::BTreeMap, time::Duration};

use ruma::{OwnedEventId, OwnedRoomId, OwnedServerName, RoomId};
use tokio::sync::oneshot;
use weft_dag::{RoomVersion, Verified};
use weft_store::tables::rooms::{PRUNED_ROOMS, PRUNED_UPDATES};
use weft_wire::{limits::MAX_EVENT_IDS_PER_REQUEST, witness};

use crate::{Rooms, Unavailable, background::Outward, mailbox::Command, peer_selection::select_peers};

/// Servers that are asked in one attempt. The next attempt begins with the next ones.
const MAX_SERVERS: usize = 8;
/// From an attempt in vain to the next one; doubled each time.
const FIRST_WAIT: Duration = Duration::from_secs(30);
/// At most so long.
const LONGEST_WAIT: Duration = Duration::from_secs(60 * 60);

/// What is left after an attempt.
enum Left {
    Nothing,
    /// Nobody had any of it.
    All,
    Some,
}

/// Begins to ask for what came redacted in a room. Where that is under way, the running task looks again before it ends.
pub(crate) fn begin(out: &Outward, room: OwnedRoomId) {
    if !out.tasks.pruned.begin(&room) {
        return;
    }
    let out = out.clone();
    tokio::spawn(async move {
        let (mut wait, mut attempt) = (FIRST_WAIT, 0);
        while !out.shared.is_stopping() {
            out.tasks.pruned.look(&room);
            match Box::pin(attempt_once(&out, &room, attempt)).await {
                Ok(Left::Nothing) if out.tasks.pruned.finish(&room) => return,
                Ok(Left::Nothing | Left::Some) => wait = FIRST_WAIT,
                Err(Unavailable::Stopping) => break,
                Ok(Left::All) => {
                    tokio::time::sleep(wait).await;
                    wait = (wait * 2).min(LONGEST_WAIT);
                }
                Err(error) => {
                    tracing::error!(%room, %error, "updates that came redacted can't be looked for");
                    tokio::time::sleep(wait).await;
                    wait = (wait * 2).min(LONGEST_WAIT);
                }
            }
            attempt += 1;
        }
        out.tasks.pruned.abandon(&room);
    });
}

async fn attempt_once(out: &Outward, room: &RoomId, attempt: usize) -> Result<Left, Unavailable> {
    let shared = &out.shared;
    let query = PRUNED_UPDATES.under(&(room,));
    let rows = shared.store.scan_all(query).await?;
    let mut wanted: Vec<OwnedEventId> = rows.into_iter().map(|((_, id), ())| id).collect();
    let Some(version) = shared.reader.version(room).await?.filter(|_| !wanted.is_empty()) else {
        // The worker deletes the marker, as it writes it: a commit from here could delete one that was written after
        // the rows were read.
        restore_updates(out, room, Vec::new()).await?;
        return Ok(Left::Nothing);
    };
    let before = wanted.len();
    for server in servers(out, room, attempt).await? {
        // Not always the first ones: nobody may have those.
        let commit = attempt.checked_rem(wanted.len()).unwrap_or(0);
        wanted.rotate_left(commit);
        let ids: Vec<OwnedEventId> = wanted.iter().take(MAX_EVENT_IDS_PER_REQUEST).cloned().collect();
        let answer = out.tasks.peers.events(&version, &server, &ids).await;
        let whole: Vec<Verified> = answer
            .unwrap_or_default()
            .into_iter()
            .filter(|event| !event.redacted_on_receipt() && ids.iter().any(|id| id == event.pdu().event_id()))
            .collect();
        wanted.retain(|id| !whole.iter().any(|event| event.pdu().event_id() == id));
        if !whole.is_empty() {
            restore_updates(out, room, whole).await?;
        }
        if wanted.is_empty() {
            break;
        }
    }
    Ok(if wanted.len() < before { Left::Some } else { Left::All })
}

async fn restore_updates(out: &Outward, room: &RoomId, whole: Vec<Verified>) -> Result<(), Unavailable> {
    let (reply, answer) = oneshot::channel();
    out.shared.send(room, Command::RestoreUpdates(whole, reply)).await?;
    answer.await.unwrap_or(Err(Unavailable::Interrupted))
}

/// The other servers in the room, some of them.
async fn servers(out: &Outward, room: &RoomId, attempt: usize) -> Result<Vec<OwnedServerName>, Unavailable> {
    let ours = out.shared.identity.server_name();
    let servers = out.shared.reader.servers_in(room).await?;
    Ok(select_peers(servers, &[ours], attempt, MAX_SERVERS))
}

/// Asks for those of these events that came redacted, so that the text need not be worked out without them first.
/// What nobody has at present is asked for again when the room has it.
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

impl Rooms {
    /// At boot: goes on asking.
    pub(crate) async fn ask_for_pruned_updates(&self) -> Result<(), Unavailable> {
        for ((room,), ()) in self.shared.store.scan_all(PRUNED_ROOMS.under(&())).await? {
            begin(&self.outward(), room);
        }
        Ok(())
    }
}
