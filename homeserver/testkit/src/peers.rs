//! Requests to other servers of the same process: they are answered from the rooms of those servers, and a link decides what
//! arrives. Must not decide about faults.

use std::sync::Arc;

use async_trait::async_trait;
use ruma::{EventId, OwnedEventId, RoomId, ServerName};
use weft_dag::{Pdu, RoomVersion, Verified, redact::redact};
use weft_room::Rooms;
use weft_room_api::{PeerError, Peers, StateIds};

use crate::events::check_json;

/// Events in an answer about missing events, unless a link says otherwise.
const MISSING_EVENTS: usize = 10;

/// What is requested of another server.
#[derive(Debug, Clone, Copy)]
pub enum Request<'a> {
    /// The ancestors of these events.
    MissingEvents(&'a [OwnedEventId]),
    /// One event.
    Event(&'a EventId),
    /// Several events.
    Events(&'a [OwnedEventId]),
    /// The state before an event.
    StateIds(&'a EventId),
    /// The history before these events.
    Backfill(&'a [OwnedEventId]),
}

/// How a server answers.
#[derive(Debug, Clone)]
pub enum Conduct {
    /// With its events.
    Honest,
    /// With an error.
    Refuses,
    /// With these events and its own.
    Adds(Vec<Arc<Pdu>>),
    /// With these events only.
    Substitutes(Vec<Arc<Pdu>>),
    /// With redacted copies of its events.
    Redacts,
}

/// The way from one server to the others: its faults, and those of the answers.
#[async_trait]
pub trait Link: Send + Sync + 'static {
    /// The rooms of the server that receives the request, or why it receives none.
    async fn reach(&self, server: &ServerName) -> Result<Rooms, PeerError>;

    /// How the server answers. Called once for each request that arrived.
    fn conduct(&self, _server: &ServerName, _request: Request<'_>) -> Conduct {
        Conduct::Honest
    }

    /// Of the events that a request is about, those that the server may answer about.
    async fn allowed(
        &self,
        _rooms: &Rooms,
        _room: &RoomId,
        _server: &ServerName,
        at: &[OwnedEventId],
        _extremities: &[OwnedEventId],
    ) -> Result<Vec<OwnedEventId>, PeerError> {
        Ok(at.to_vec())
    }

    /// The answer arrives, or it is lost.
    async fn answered(&self, _server: &ServerName) -> Result<(), PeerError> {
        Ok(())
    }

    /// The most events in an answer about missing events, and in one with history.
    fn page_sizes(&self) -> (usize, usize) {
        (MISSING_EVENTS, usize::MAX)
    }
}

/// Requests over a link.
pub struct LinkedPeers<L>(pub L);

/// The server can't be reached.
#[must_use]
pub fn unreachable(server: &ServerName, reason: &str) -> PeerError {
    PeerError::Unreachable {
        server: server.to_string(),
        reason: reason.to_owned(),
    }
}

/// The server answers with an error.
#[must_use]
pub fn refused(server: &ServerName) -> PeerError {
    PeerError::Refused {
        server: server.to_string(),
        reason: "not found".to_owned(),
    }
}

type Answer = Result<Vec<Verified>, PeerError>;

fn unreadable(server: &ServerName) -> PeerError {
    unreachable(server, "its store can't be read")
}

/// The valid ones of the events.
fn valid<'a>(events: impl IntoIterator<Item = &'a Arc<Pdu>>, version: &RoomVersion) -> Vec<Verified> {
    let events = events.into_iter();
    events.filter_map(|pdu| check_json(pdu.json(), version)).collect()
}

impl Conduct {
    /// The events that arrive whatever the server has.
    fn answer_without_reading(&self, server: &ServerName, version: &RoomVersion) -> Option<Answer> {
        match self {
            Self::Refuses => Some(Err(refused(server))),
            Self::Substitutes(others) => Some(Ok(valid(others, version))),
            Self::Honest | Self::Adds(_) | Self::Redacts => None,
        }
    }

    /// The events that arrive where an honest server would return these.
    fn answer(&self, own: &[Arc<Pdu>], version: &RoomVersion) -> Vec<Verified> {
        match self {
            Self::Honest | Self::Refuses | Self::Substitutes(_) => valid(own, version),
            Self::Adds(others) => valid(others.iter().chain(own), version),
            Self::Redacts => {
                let copies = own.iter().filter_map(|pdu| redact(pdu, version).ok());
                copies.filter_map(|copy| check_json(copy.json(), version)).collect()
            }
        }
    }
}

impl<L: Link> LinkedPeers<L> {
    async fn fetch(
        &self,
        version: &RoomVersion,
        from: &ServerName,
        ids: &[OwnedEventId],
        request: Request<'_>,
    ) -> Result<Vec<Verified>, PeerError> {
        let rooms = self.0.reach(from).await?;
        let conduct = self.0.conduct(from, request);
        if let Some(answer) = conduct.answer_without_reading(from, version) {
            return answer;
        }
        let mut own = Vec::new();
        for id in ids {
            own.extend(rooms.reader().event(None, id).await.map_err(|_| unreadable(from))?);
        }
        let answer = conduct.answer(&own, version);
        self.0.answered(from).await?;
        Ok(answer)
    }
}

#[async_trait]
impl<L: Link> Peers for LinkedPeers<L> {
    async fn missing_events(
        &self,
        room: &RoomId,
        version: &RoomVersion,
        from: &ServerName,
        earliest: &[OwnedEventId],
        latest: &[OwnedEventId],
        limit: usize,
    ) -> Result<Vec<Verified>, PeerError> {
        let rooms = self.0.reach(from).await?;
        let conduct = self.0.conduct(from, Request::MissingEvents(latest));
        if let Some(answer) = conduct.answer_without_reading(from, version) {
            return answer;
        }
        let latest = self.0.allowed(&rooms, room, from, latest, earliest).await?;
        let limit = limit.min(self.0.page_sizes().0);
        let found = rooms.reader().missing_events(room, earliest, &latest, limit).await;
        self.0.answered(from).await?;
        Ok(conduct.answer(&found.map_err(|_| refused(from))?, version))
    }

    async fn event(&self, version: &RoomVersion, from: &ServerName, id: &EventId) -> Result<Verified, PeerError> {
        let ids = [id.to_owned()];
        let mut events = self.fetch(version, from, &ids, Request::Event(id)).await?;
        events.pop().ok_or_else(|| refused(from))
    }

    async fn events(
        &self,
        version: &RoomVersion,
        from: &ServerName,
        ids: &[OwnedEventId],
    ) -> Result<Vec<Verified>, PeerError> {
        self.fetch(version, from, ids, Request::Events(ids)).await
    }

    async fn state_ids(&self, room: &RoomId, from: &ServerName, at: &EventId) -> Result<StateIds, PeerError> {
        let rooms = self.0.reach(from).await?;
        let conduct = self.0.conduct(from, Request::StateIds(at));
        self.0.allowed(&rooms, room, from, &[at.to_owned()], &[]).await?;
        let ids = rooms.reader().state_ids(room, at).await;
        self.0.answered(from).await?;
        let ids = ids.map_err(|_| unreadable(from))?;
        ids.filter(|_| !matches!(conduct, Conduct::Refuses))
            .ok_or_else(|| refused(from))
    }

    async fn backfill(
        &self,
        room: &RoomId,
        version: &RoomVersion,
        from: &ServerName,
        before: &[OwnedEventId],
        limit: usize,
    ) -> Result<Vec<Verified>, PeerError> {
        let rooms = self.0.reach(from).await?;
        let conduct = self.0.conduct(from, Request::Backfill(before));
        if let Some(answer) = conduct.answer_without_reading(from, version) {
            return answer;
        }
        let before = self.0.allowed(&rooms, room, from, before, &[]).await?;
        let limit = limit.min(self.0.page_sizes().1);
        let found = rooms.reader().backfill(room, &before, limit).await;
        self.0.answered(from).await?;
        Ok(conduct.answer(&found.map_err(|_| unreadable(from))?, version))
    }
}
