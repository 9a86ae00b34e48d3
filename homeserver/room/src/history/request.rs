//! Requests the history of a room from other servers, newest first, and keeps each response on disk before the next
//! request. Must not hold more than one response, and must not decide about events.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use ruma::{OwnedEventId, OwnedServerName, RoomId, ServerName};
use tokio::time::sleep;
use weft_dag::{RoomVersion, Verified};
use weft_ingest::peer_selection::select_peers;
use weft_room_api::{PeerError, Unavailable};
use weft_wire::limits::{MAX_BACKFILL_EVENTS, MAX_EVENT_IDS_PER_REQUEST};

use super::fetched::{FetchedEvents, Limits, Taken};
use crate::background::Outward;

/// Other servers that are tried after the named one.
const MAX_OTHER_SERVERS: usize = 3;
/// Requests in a row without a new event, after which the next server is tried.
const MAX_FRUITLESS: usize = 10;
/// Requests of one run without a pause between them: most histories are fetched with fewer.
const UNPAUSED_REQUESTS: usize = 50;
/// The pause before each further request, so that a long history leaves the other server time for its users: at most
/// 2,000 events in a second.
const PAUSE: Duration = Duration::from_millis(50);

/// The result of the requests of one run.
pub(super) enum Fetched {
    /// Nothing is left to request.
    All,
    /// No server returns the rest at present.
    NotNow,
    /// More than is kept on disk: the remote text stays.
    TooMany,
    /// More than is kept on disk for all rooms together.
    Full,
}

/// What one server returned.
enum FromServer {
    All,
    NotNow,
    TooMany,
    Full,
}

/// The requests of one run.
pub(super) struct Request<'a> {
    pub(super) out: &'a Outward,
    pub(super) room: &'a RoomId,
    pub(super) version: &'a RoomVersion,
    pub(super) attempt: usize,
    /// Set once the run has made progress.
    pub(super) moved: &'a AtomicBool,
}

impl Request<'_> {
    /// From the named server, and from others in the room what that one does not return.
    pub(super) async fn all(
        &self,
        fetched: &mut FetchedEvents<'_>,
        named: OwnedServerName,
    ) -> Result<Fetched, Unavailable> {
        let ours = self.out.shared.identity.server_name();
        let others = self.out.shared.reader.servers_in(self.room).await?;
        let others = select_peers(others, &[&named, ours], self.attempt, MAX_OTHER_SERVERS);
        let mut requests = 0;
        for server in std::iter::once(named).chain(others) {
            match self.all_from(fetched, &server, &mut requests).await? {
                FromServer::All => return Ok(Fetched::All),
                FromServer::TooMany => {
                    tracing::warn!(
                        event = "room.history_too_long", room = %self.room, from = %server, events = fetched.count(),
                        "a room's history is too long to be fetched"
                    );
                    return Ok(Fetched::TooMany);
                }
                FromServer::Full => {
                    tracing::warn!(
                        event = "room.histories_full", room = %self.room, events = fetched.count(),
                        "the fetched histories of all rooms take as many bytes as are kept on disk"
                    );
                    return Ok(Fetched::Full);
                }
                FromServer::NotNow => {}
            }
        }
        Ok(Fetched::NotNow)
    }

    /// From one server, while it returns anything new.
    async fn all_from(
        &self,
        fetched: &mut FetchedEvents<'_>,
        from: &ServerName,
        requests: &mut usize,
    ) -> Result<FromServer, Unavailable> {
        let config = &self.out.shared.config;
        let limits = Limits {
            of_room: config.fetched_history_bytes_per_room,
            of_all: config.fetched_history_bytes,
        };
        let (mut after, mut fruitless, mut any_new): (Option<OwnedEventId>, _, _) = (None, 0, false);
        while fruitless < MAX_FRUITLESS {
            let ids = fetched.wanted(after.as_ref(), MAX_EVENT_IDS_PER_REQUEST).await?;
            let Some(last) = ids.last().cloned() else {
                match after.take() {
                    None => return Ok(FromServer::All),
                    // The server has been asked for all of them.
                    Some(_) if !any_new => return Ok(FromServer::NotNow),
                    Some(_) => any_new = false,
                }
                continue;
            };
            *requests += 1;
            if *requests > UNPAUSED_REQUESTS {
                sleep(PAUSE).await;
            }
            let Some(response) = self.ask(from, &ids).await else {
                return Ok(FromServer::NotNow);
            };
            match fetched.take(response, limits).await? {
                Taken::TooMany => return Ok(FromServer::TooMany),
                Taken::Full => return Ok(FromServer::Full),
                Taken::New(0) => {
                    fruitless += 1;
                    after = Some(last);
                }
                Taken::New(_) => {
                    self.moved.store(true, Ordering::Relaxed);
                    (fruitless, any_new) = (0, true);
                }
            }
        }
        Ok(FromServer::NotNow)
    }

    /// These events and events before them. `None`: the server can't be reached.
    async fn ask(&self, from: &ServerName, ids: &[OwnedEventId]) -> Option<Vec<Verified>> {
        let peers = &self.out.tasks.peers;
        let response = peers
            .backfill(self.room, self.version, from, ids, MAX_BACKFILL_EVENTS)
            .await;
        let mut response = match response {
            Ok(response) => response,
            Err(PeerError::Unreachable { .. }) => return None,
            Err(_) => Vec::new(),
        };
        // Rejected events are not part of a backfill response, and are still referenced.
        let is_left = |id: &&OwnedEventId| !response.iter().any(|event| event.pdu().event_id() == *id);
        let left: Vec<OwnedEventId> = ids.iter().filter(is_left).cloned().collect();
        if !left.is_empty() {
            response.extend(peers.events(self.version, from, &left).await.unwrap_or_default());
        }
        Some(response)
    }
}
