//! Events from before our time: a room that was joined through another server has the state and the text as they were
//! told; here all events since the room's beginning are fetched, held against the rules in their places, and the text is
//! worked out from them alone. Until then the told text stands.
//!
//! Runs beside the room's worker, which takes the events in portions, so that nobody who writes has to wait.

mod merge;

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    time::Duration,
};

use ruma::{OwnedEventId, OwnedRoomId, OwnedServerName, RoomId, ServerName};
use tokio::sync::{oneshot, watch};
use weft_dag::{RoomVersion, Verified};
use weft_store::tables::rooms::INCOMPLETE_ROOMS;
use weft_wire::limits::{MAX_BACKFILL_EVENTS, MAX_EVENT_IDS_PER_REQUEST};

use crate::{
    Rooms, Unavailable,
    background::Outward,
    ingest::{
        order::{Links, order},
        rebuild::missing,
        stored::StoredRows,
    },
    mailbox::Command,
    peer_selection::select_peers,
    pruned,
};

/// Events of a portion for the worker.
const PORTION: usize = 100;
/// Events that are fetched and held at a time. A room with more keeps the told text; they are about 100 MB.
const MAX_HISTORY_EVENTS: usize = 50_000;
/// Servers that are asked beside the one that was named.
const MAX_OTHER_SERVERS: usize = 3;
/// When a server that could not be reached is asked again.
const TRY_AGAIN_AFTER: Duration = Duration::from_secs(60);
/// When one asks again because there was a new gap at the end.
const GO_ON_AFTER: Duration = Duration::from_secs(1);
/// How often, before it is left to the next start.
const MAX_ATTEMPTS: usize = 20;

/// Begins to fetch a room's history. Where that is under way, the running task looks again before it ends.
pub(crate) fn begin(out: &Outward, room: OwnedRoomId) {
    if !out.tasks.histories.begin(&room) {
        return;
    }
    let out = out.clone();
    tokio::spawn(async move {
        while !out.shared.is_stopping() {
            attempts(&out, &room).await;
            if out.tasks.histories.finish(&room) {
                return;
            }
        }
        out.tasks.histories.abandon(&room);
    });
}

/// Tries until all is here, or it is given up for this time.
async fn attempts(out: &Outward, room: &RoomId) {
    for attempt in 0..MAX_ATTEMPTS {
        out.tasks.histories.look(room);
        match Box::pin(complete(out, room, attempt)).await {
            Ok(Come::All) | Err(Unavailable::Stopping) => return,
            Ok(Come::More) => tokio::time::sleep(GO_ON_AFTER).await,
            Ok(Come::NotNow) => tokio::time::sleep(TRY_AGAIN_AFTER).await,
            Err(error) => {
                tracing::error!(%room, %error, "a room's history can't be taken in");
                return;
            }
        }
    }
}

/// A room's history that is being fetched.
#[derive(Debug)]
pub struct ComingHistory(watch::Receiver<()>);

impl ComingHistory {
    /// Until it is here, or is given up for this time.
    pub async fn over(mut self) {
        // Nothing is ever sent: an error means that the sender is gone.
        while self.0.changed().await.is_ok() {}
    }
}

impl Rooms {
    /// Whether events from before our time in the room are being fetched. Until that is over those that are here may
    /// have gaps among them.
    #[must_use]
    pub fn coming_history(&self, room: &RoomId) -> Option<ComingHistory> {
        self.tasks.histories.ended(room).map(ComingHistory)
    }

    /// At boot: goes on fetching what was not complete.
    pub(crate) async fn fetch_histories(&self) -> Result<(), Unavailable> {
        for ((room,), _) in self.shared.store.scan_all(INCOMPLETE_ROOMS.under(&())).await? {
            begin(&self.outward(), room);
        }
        Ok(())
    }
}

/// How far one has come with a room's history.
enum Come {
    /// All is here, or it is given up.
    All,
    /// What was fetched is here, and something else is missing: it came meanwhile.
    More,
    /// It isn't to be had at present.
    NotNow,
}

/// Fetches what is missing and hands it to the worker.
async fn complete(out: &Outward, room: &RoomId, attempt: usize) -> Result<Come, Unavailable> {
    let shared = &out.shared;
    let Some(from) = shared.store.get(&INCOMPLETE_ROOMS, &(room,)).await? else {
        return Ok(Come::All);
    };
    let Some(version) = shared.reader.version(room).await? else {
        return Ok(Come::All);
    };
    let from = ServerName::parse(from).map_err(|error| Unavailable::Damaged(error.to_string()))?;
    let mut events = match fetch_from_any(out, room, &version, from, attempt).await? {
        Fetched::All(events) => events,
        Fetched::NotNow => return Ok(Come::NotNow),
        // Asking again would cost the other server as much, and end here again.
        Fetched::TooMany => return Ok(Come::All),
    };
    pruned::fill(out, room, &version, &mut events).await?;
    tracing::info!(%room, events = events.len(), "a room's history is here");
    for portion in events.chunks(PORTION) {
        tell(out, room, portion.to_vec()).await?;
    }
    tell(out, room, Vec::new()).await?;
    let left = shared.store.get(&INCOMPLETE_ROOMS, &(room,)).await?;
    Ok(if left.is_some() { Come::More } else { Come::All })
}

async fn tell(out: &Outward, room: &RoomId, events: Vec<Verified>) -> Result<(), Unavailable> {
    let (reply, answer) = oneshot::channel();
    out.shared.send(room, Command::History(events, reply)).await?;
    answer.await.unwrap_or(Err(Unavailable::Interrupted))
}

/// What came of asking for a room's history.
enum Fetched {
    /// Oldest first.
    All(Vec<Verified>),
    /// The other server doesn't give it at present.
    NotNow,
    /// More than is held at a time: the told text stands.
    TooMany,
}

/// From the server that was named, or others in the room where that one doesn't give it.
async fn fetch_from_any(
    out: &Outward,
    room: &RoomId,
    version: &RoomVersion,
    named: OwnedServerName,
    attempt: usize,
) -> Result<Fetched, Unavailable> {
    let ours = out.shared.identity.server_name();
    let others = out.shared.reader.servers_in(room).await?;
    let others = select_peers(others, &[&named, ours], attempt, MAX_OTHER_SERVERS);
    for server in std::iter::once(named).chain(others) {
        match fetch(out, room, version, &server).await? {
            Fetched::NotNow => {}
            fetched => return Ok(fetched),
        }
    }
    Ok(Fetched::NotNow)
}

/// All events that those here follow, directly or not, and that are not here.
async fn fetch(out: &Outward, room: &RoomId, version: &RoomVersion, from: &ServerName) -> Result<Fetched, Unavailable> {
    let (here, mut edge) = edge(out, room, version).await?;
    let mut pool: BTreeMap<OwnedEventId, Verified> = BTreeMap::new();
    while !edge.is_empty() {
        let before = pool.len();
        let ids: Vec<OwnedEventId> = edge.iter().take(MAX_EVENT_IDS_PER_REQUEST).cloned().collect();
        let peers = &out.tasks.peers;
        let answer = peers.backfill(room, version, from, &ids, MAX_BACKFILL_EVENTS).await;
        let mut got = answer.unwrap_or_default();
        // What was rejected isn't given with a walk, and is followed all the same.
        let left: Vec<OwnedEventId> = ids
            .iter()
            .filter(|id| !got.iter().any(|event| event.pdu().event_id() == *id))
            .cloned()
            .collect();
        if !left.is_empty() {
            got.extend(peers.events(version, from, &left).await.unwrap_or_default());
        }
        for event in got.into_iter().filter(|event| event.pdu().room_id() == room) {
            if !here.contains(event.pdu().event_id()) {
                pool.insert(event.pdu().event_id().to_owned(), event);
            }
        }
        if pool.len() > MAX_HISTORY_EVENTS {
            tracing::warn!(%room, %from, events = pool.len(), "a room's history is too long to be fetched");
            return Ok(Fetched::TooMany);
        }
        if pool.len() == before {
            tracing::info!(%room, %from, events = pool.len(), "a room's history is not to be had");
            return Ok(Fetched::NotNow);
        }
        edge.extend(pool.values().flat_map(|event| event.pdu().prev_events()).cloned());
        edge.retain(|id| !here.contains(id) && !pool.contains_key(id));
    }
    let mut events: Vec<Verified> = pool.into_values().collect();
    events.sort_by_key(|event| event.pdu().kind() != "m.room.create");
    Ok(Fetched::All(order(events, Links::All, |event| event.pdu())))
}

/// The events that are here in their place, and those that they follow and that aren't.
async fn edge(
    out: &Outward,
    room: &RoomId,
    version: &RoomVersion,
) -> Result<(HashSet<OwnedEventId>, BTreeSet<OwnedEventId>), Unavailable> {
    let here = StoredRows::load(&out.shared.reader, room).await?.read(version)?;
    let edge = missing(&here);
    Ok((here.into_keys().collect(), edge))
}
