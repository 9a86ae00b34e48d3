//! Backfill. A room that was joined through another server has remote (unverified) state and text. This module fetches
//! all events since the room's creation, has them checked against the authorisation rules and persisted, and then the
//! text is worked out from them alone. Until then the remote text is used.
//!
//! Runs separately from the room's worker, which accepts the events in portions, so that editing users need not wait.

mod merge;

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    time::Duration,
};

use ruma::{OwnedEventId, OwnedServerName, RoomId, ServerName};
use tokio::{sync::watch, time::timeout};
use weft_convergence::rebuild::missing;
use weft_dag::{
    RoomVersion, Verified,
    order::{Links, order},
};
use weft_ingest::{peer_selection::select_peers, stored::StoredRows};
use weft_jobs::Outcome;
use weft_room_api::Unavailable;
use weft_store::tables::rooms::INCOMPLETE_ROOMS;
use weft_wire::limits::{MAX_BACKFILL_EVENTS, MAX_EVENT_IDS_PER_REQUEST};

use crate::{Rooms, background::Outward, jobs::RoomJob, mailbox::LocalCommand, pruned};

/// Events of a portion for the worker.
const PORTION: usize = 100;
/// Events that are fetched and held at a time. A room with more keeps the remote text; they are about 100 MB.
const MAX_HISTORY_EVENTS: usize = 50_000;
/// Other servers that are tried after the resident server.
const MAX_OTHER_SERVERS: usize = 3;
/// The delay before a server that could not be reached is tried again.
pub(crate) const TRY_AGAIN_AFTER: Duration = Duration::from_secs(60);
/// The delay before the next attempt if a new gap was left.
const NEXT_GAP_AFTER: Duration = Duration::from_secs(1);
/// Failed attempts before a long pause.
const MAX_ATTEMPTS: usize = 20;
/// That pause.
const REST_AFTER_FAILURES: Duration = Duration::from_secs(6 * 60 * 60);
/// The longest time of one attempt: 500 requests at some seconds each.
pub(crate) const RUN_TIMEOUT: Duration = Duration::from_secs(30 * 60);

/// One run of the job of a room.
pub(crate) async fn run(out: &Outward, room: &RoomId, failures: u32) -> Outcome {
    let (histories, failures) = (&out.tasks.histories, usize::try_from(failures).unwrap_or(usize::MAX));
    histories.begin(room);
    histories.look(room);
    let progress = timeout(RUN_TIMEOUT, Box::pin(complete(out, room, failures))).await;
    let reason = match progress {
        Ok(Ok(Progress::All)) if histories.finish(room) => return Outcome::Done,
        // It was requested again.
        Ok(Ok(Progress::All) | Err(Unavailable::Stopping)) => return Outcome::Again { after: Duration::ZERO },
        Ok(Ok(Progress::More)) => return Outcome::Again { after: NEXT_GAP_AFTER },
        Ok(Ok(Progress::NotNow)) => "no server returned the events".to_owned(),
        Ok(Err(error)) => error.to_string(),
        Err(_) => "the events did not arrive in time".to_owned(),
    };
    if failures < MAX_ATTEMPTS {
        return Outcome::Failed { reason };
    }
    // Clients no longer wait for it.
    histories.abandon(room);
    Outcome::Again {
        after: REST_AFTER_FAILURES,
    }
}

/// A backfill that is in progress.
#[derive(Debug)]
pub struct ComingHistory(watch::Receiver<()>);

impl ComingHistory {
    /// Waits until it is complete or abandoned for now.
    pub async fn over(mut self) {
        // No value is ever sent: an error means that the sender was dropped.
        while self.0.changed().await.is_ok() {}
    }
}

impl Rooms {
    /// The backfill of the room, if one is in progress. Until it is over, the persisted events may have gaps.
    #[must_use]
    pub fn coming_history(&self, room: &RoomId) -> Option<ComingHistory> {
        self.tasks.histories.ended(room).map(ComingHistory)
    }

    /// At start: records which backfills are in progress; their jobs continue by themselves.
    pub(crate) async fn note_coming_histories(&self) -> Result<(), Unavailable> {
        for room in RoomJob::History.rooms(&self.shared).await? {
            self.tasks.histories.begin(&room);
        }
        Ok(())
    }
}

/// The progress of a backfill.
enum Progress {
    /// All events are here, or the backfill is abandoned.
    All,
    /// The fetched events are here, and others are missing: they were referenced meanwhile.
    More,
    /// Not available at present.
    NotNow,
}

/// Fetches the missing events and sends them to the worker.
async fn complete(out: &Outward, room: &RoomId, attempt: usize) -> Result<Progress, Unavailable> {
    let shared = &out.shared;
    let Some(from) = shared.store.get(&INCOMPLETE_ROOMS, &(room,)).await? else {
        return Ok(Progress::All);
    };
    let Some(version) = shared.reader.version(room).await? else {
        return Ok(Progress::All);
    };
    let from = ServerName::parse(from).map_err(|error| Unavailable::Damaged(error.to_string()))?;
    let mut events = match fetch_from_any(out, room, &version, from, attempt).await? {
        Fetched::All(events) => events,
        Fetched::NotNow => return Ok(Progress::NotNow),
        // Another attempt would cost the other server as much, with the same result.
        Fetched::TooMany => return Ok(Progress::All),
    };
    pruned::fill(out, room, &version, &mut events).await?;
    tracing::info!(%room, events = events.len(), "a room's history is fetched");
    for portion in events.chunks(PORTION) {
        send_portion(out, room, portion.to_vec()).await?;
    }
    match send_portion(out, room, Vec::new()).await {
        // The worker lost the room from memory meanwhile, or too many events arrived: the next attempt fetches nothing.
        Err(Unavailable::Interrupted) => return Ok(Progress::More),
        worked_out => worked_out?,
    }
    let left = shared.store.get(&INCOMPLETE_ROOMS, &(room,)).await?;
    Ok(if left.is_some() { Progress::More } else { Progress::All })
}

async fn send_portion(out: &Outward, room: &RoomId, events: Vec<Verified>) -> Result<(), Unavailable> {
    out.shared.ask(room, |reply| LocalCommand::History(events, reply)).await
}

/// The result of a fetch.
enum Fetched {
    /// Oldest first.
    All(Vec<Verified>),
    /// The other server does not return them at present.
    NotNow,
    /// More than is held at a time: the remote text stays.
    TooMany,
}

/// From the named server, or from others in the room if that one does not return the events.
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

/// All ancestors of the persisted events that are not here.
async fn fetch(out: &Outward, room: &RoomId, version: &RoomVersion, from: &ServerName) -> Result<Fetched, Unavailable> {
    let (here, mut edge) = edge(out, room, version).await?;
    let mut pool: BTreeMap<OwnedEventId, Verified> = BTreeMap::new();
    while !edge.is_empty() {
        let before = pool.len();
        let ids: Vec<OwnedEventId> = edge.iter().take(MAX_EVENT_IDS_PER_REQUEST).cloned().collect();
        let peers = &out.tasks.peers;
        let answer = peers.backfill(room, version, from, &ids, MAX_BACKFILL_EVENTS).await;
        let mut got = answer.unwrap_or_default();
        // Rejected events are not part of a backfill answer, and are still referenced.
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
            tracing::warn!(
                event = "room.history_too_long", %room, %from, events = pool.len(),
                "a room's history is too long to be fetched"
            );
            return Ok(Fetched::TooMany);
        }
        if pool.len() == before {
            tracing::info!(%room, %from, events = pool.len(), "a room's history is not available");
            return Ok(Fetched::NotNow);
        }
        edge.extend(pool.values().flat_map(|event| event.pdu().prev_events()).cloned());
        edge.retain(|id| !here.contains(id) && !pool.contains_key(id));
    }
    let mut events: Vec<Verified> = pool.into_values().collect();
    events.sort_by_key(|event| event.pdu().kind() != "m.room.create");
    Ok(Fetched::All(order(events, Links::All, |event| event.pdu())))
}

/// The persisted events, and those that they reference and that are missing.
async fn edge(
    out: &Outward,
    room: &RoomId,
    version: &RoomVersion,
) -> Result<(HashSet<OwnedEventId>, BTreeSet<OwnedEventId>), Unavailable> {
    let here = StoredRows::load(&out.shared.reader, room).await?.read(version)?;
    let edge = missing(&here);
    Ok((here.into_keys().collect(), edge))
}
