//! A room that this server has just joined through another one.

use std::sync::Arc;

use bytes::Bytes;
use ruma::{EventId, OwnedRoomId, OwnedServerName, RoomId, RoomVersionId};
use weft_dag::{Pdu, RoomVersion, StateMap, StateView, Verdict, Verified};
use weft_store::tables::rooms::INCOMPLETE_ROOMS;
use weft_wire::event_types;

use crate::{
    Rooms, Unavailable,
    active_room::{ActiveRoom, Extremity, room_type},
    history,
    ingest::{
        decide::{Undecided, decide, decide_outlier, is_settled},
        graph::{Graph as _, Incoming},
        merge_session::MergeSession,
        order::{Links, order},
    },
    mailbox::{Command, Reply},
    pending_commit::PendingCommit,
    registry::Shared,
    tally::Tally,
    worker::Worker,
};

/// The answer to a join, with every event's signatures checked.
pub struct JoinedRoom {
    /// The room's version.
    pub version: RoomVersionId,
    /// The state before the join.
    pub state: Vec<Verified>,
    /// The auth chain of that state.
    pub auth_chain: Vec<Verified>,
    /// The join.
    pub event: Verified,
    /// The server that answered.
    pub resident: OwnedServerName,
    /// The document as that server gave it: shown at once, checked against the events afterwards.
    pub snapshot: Option<Bytes>,
}

/// Why a room was not adopted.
#[derive(Debug, thiserror::Error)]
pub enum AdoptError {
    /// The version is not supported.
    #[error("room version {0} is not supported")]
    UnsupportedVersion(String),
    /// The state doesn't hold together.
    #[error("the room's state is not acceptable: {reason}")]
    BadState {
        /// What is wrong.
        reason: String,
    },
    /// The user's last stay ended while the join was under way, and the server that answered had not heard of it.
    #[error("the join crossed the end of the user's last stay and does not stand")]
    Overtaken,
    /// The store or the worker.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

impl Rooms {
    /// Takes over a room that was joined through another server: every event of its state and of the auth chain is
    /// held against the rules, and so is the join.
    ///
    /// # Errors
    /// When its state is not acceptable, or the join was overtaken by the end of the user's last stay.
    pub async fn adopt(&self, room: JoinedRoom) -> Result<(), AdoptError> {
        let id = room.event.pdu().room_id().to_owned();
        self.call(&id, |reply| Command::Adopt(Box::new(room), reply)).await?;
        #[cfg(debug_assertions)]
        fail::fail_point!("room::adopted");
        history::begin(&self.outward(), id.clone());
        // What that server sent while we were not in the room yet may be waiting.
        self.shared.try_send(&id, Command::Ingest);
        Ok(())
    }
}

fn bad_state(reason: impl Into<String>) -> AdoptError {
    AdoptError::BadState { reason: reason.into() }
}

impl From<Undecided> for AdoptError {
    fn from(undecided: Undecided) -> Self {
        match undecided {
            Undecided::Unavailable(error) => Self::Unavailable(error),
            other => bad_state(other.to_string()),
        }
    }
}

impl Worker {
    pub(crate) async fn adopt(&mut self, joined: JoinedRoom, commit: &mut PendingCommit, reply: Reply<(), AdoptError>) {
        self.fresh(commit).await;
        match Box::pin(self.adopt_room(joined, commit)).await {
            Ok(()) => commit.answer(reply, ()),
            Err(error) => {
                commit.abandon();
                let _ = reply.send(Err(error));
            }
        }
    }

    async fn adopt_room(&mut self, joined: JoinedRoom, commit: &mut PendingCommit) -> Result<(), AdoptError> {
        let resident = joined.resident.to_string();
        let version = RoomVersion::new(&joined.version);
        let version = version.map_err(|error| AdoptError::UnsupportedVersion(error.0.to_string()))?;
        let room: OwnedRoomId = joined.event.pdu().room_id().to_owned();
        let create = self.created(&joined, &room)?;
        let is_document = room_type(create.pdu()).as_deref() == Some(event_types::DOCUMENT_ROOM);
        if self.open().await?.is_none() {
            self.active = Some(ActiveRoom::new(&room, version, is_document));
        }
        let shared = Arc::clone(&self.shared);
        let Some(active) = self.active.as_mut() else {
            return Err(Unavailable::Interrupted.into());
        };
        let unheard = !active.is_joined() && keep_unconfirmed(active, &shared, &joined).await?;
        if let (Some(document), Some(snapshot)) = (active.document.as_mut(), joined.snapshot)
            && let Err(error) = document.adopt_snapshot(&mut commit.batch, &room, snapshot)
        {
            tracing::warn!(%room, %error, "the document as given can't be used; it comes with its events");
        }
        let ours = shared.identity.server_name();
        let mut session = MergeSession::new(active, commit, &shared.reader, ours).await?;
        persist_outliers(&mut session, &room, joined.auth_chain.iter().chain(&joined.state)).await?;
        let state = state_of(&session, &joined.state).await?;
        #[cfg(debug_assertions)]
        fail::fail_point!("room::adopt_begun");
        let join = Arc::clone(joined.event.pdu());
        let user = join.state_key().unwrap_or_default();
        if is_settled(&session, &joined.event).await? {
            // It came another way while it was under way: from a server that follows it, say. One event has one place.
            return match self
                .active
                .as_ref()
                .is_some_and(|active| active.locals().iter().any(|local| *local == user))
            {
                true => Ok(()),
                false => Err(AdoptError::Overtaken),
            };
        }
        let (authorized, before) = decide(&session, joined.event, Some(state), None).await?;
        if let Verdict::Rejected { reason } | Verdict::SoftFailed { reason } = authorized.verdict() {
            return Err(bad_state(format!("the join does not stand: {reason}")));
        }
        session
            .append(Incoming {
                authorized,
                before,
                outlier: false,
                relay: false,
                staged: Vec::new(),
            })
            .await?;
        if let Some(active) = &self.active {
            if !active.locals().iter().any(|local| *local == user) {
                return Err(AdoptError::Overtaken);
            }
            active.put_room(&mut commit.batch);
        }
        commit.batch.put(&INCOMPLETE_ROOMS, &(&room,), &resident);
        if unheard {
            self.resend_member_event(&join, commit).await?;
        }
        Ok(())
    }

    /// The room's one create event.
    fn created<'a>(&self, joined: &'a JoinedRoom, room: &RoomId) -> Result<&'a Verified, AdoptError> {
        let events = joined.state.iter().chain(&joined.auth_chain);
        let mut creates = events.filter(|event| event.pdu().kind() == "m.room.create");
        let first = creates.next().ok_or_else(|| bad_state("no create event"))?;
        if creates.any(|other| other.pdu().event_id() != first.pdu().event_id()) {
            return Err(bad_state("two create events"));
        }
        if first.pdu().room_id() != room || *room != *self.room {
            return Err(bad_state("the create event is of another room"));
        }
        Ok(first)
    }
}

/// This server was in the room before: what the other server tells counts, but not without what it has not heard of.
/// That is what our users wrote before they left and nobody followed: it was acknowledged, and others may hold it back.
/// It is what others wrote and nobody followed: who had heard before us that they may not, holds it back, while our text
/// has it. The join doesn't follow what is kept, for another server placed it; so we do, at once ([`crate::reconcile`]).
/// And it is the end of the user's last stay, where that crossed the join: all others will hold the two beside each
/// other, and so must we, or we would be in a room that no one else sees us in.
/// True where anything is kept.
async fn keep_unconfirmed(active: &mut ActiveRoom, shared: &Shared, joined: &JoinedRoom) -> Result<bool, Unavailable> {
    let ours = shared.identity.server_name();
    let ids: Vec<_> = active.extremities.iter().map(|end| end.id.clone()).collect();
    let extremities = shared.reader.events_of(&active.id, &active.version, &ids).await?;
    let is_told = |id: &EventId| {
        let mut told = joined.state.iter().chain(&joined.auth_chain);
        told.any(|event| event.pdu().event_id() == id)
    };
    let state = joined.state.iter().map(|event| Arc::clone(event.pdu()));
    let state = StateView::from_events(active.version.clone(), state);
    let unheard = |pdu: &&Arc<Pdu>| match pdu.state_key() {
        // Our users' memberships rest on one another, but for those that crossed what others made of them.
        Some(_) if pdu.sender().server_name() == ours => pdu.kind() != "m.room.member" || !is_told(pdu.event_id()),
        // Others' state comes with what the other server tells, unless it holds that back.
        Some(_) => !is_told(pdu.event_id()) && !state.allows(pdu),
        None => true,
    };
    let kept: Vec<_> = extremities.iter().filter(unheard).map(|pdu| pdu.event_id()).collect();
    active.extremities.retain(|end| kept.contains(&&*end.id));
    let any_kept = !active.extremities.is_empty();

    // A later membership rests on the one before it, so the answer has it unless the two crossed.
    let user = joined.event.pdu().state_key().unwrap_or_default();
    let Some(last) = active.state.get("m.room.member", user) else {
        return Ok(any_kept);
    };
    if !is_told(last.event_id())
        && !active.extremities.iter().any(|end| end.id == last.event_id())
        && shared
            .reader
            .groups_of(&active.id, &last.event_id().to_owned())
            .await?
            .is_some()
    {
        active.extremities.push(Extremity {
            id: last.event_id().to_owned(),
            depth: last.depth(),
        });
    }
    Ok(any_kept)
}

/// Decides about all events of a state and its auth chain, each by what it cites.
async fn persist_outliers(
    session: &mut MergeSession<'_>,
    room: &RoomId,
    events: impl Iterator<Item = &Verified>,
) -> Result<(), AdoptError> {
    let mut events: Vec<Verified> = events.filter(|event| event.pdu().room_id() == room).cloned().collect();
    // In version 12 all rest on the create event without citing it.
    events.sort_by_key(|event| event.pdu().kind() != "m.room.create");
    let mut tally = Tally::new(room);
    for event in order(events, Links::Auth, |event| event.pdu()) {
        if session.event(event.pdu().event_id()).await?.is_some() {
            continue;
        }
        let id = event.pdu().event_id().to_owned();
        match decide_outlier(session, event).await {
            Ok((authorized, before)) => {
                let incoming = Incoming {
                    authorized,
                    before,
                    outlier: true,
                    relay: false,
                    staged: Vec::new(),
                };
                session.append(incoming).await?;
            }
            Err(Undecided::Unavailable(error)) => return Err(error.into()),
            Err(problem) => tally.note(
                "events of the room's state are left out",
                &format_args!("{id}: {problem}"),
            ),
        }
    }
    Ok(())
}

/// The told state, less what doesn't stand.
async fn state_of(session: &MergeSession<'_>, told: &[Verified]) -> Result<StateMap, AdoptError> {
    let mut state = StateMap::default();
    for event in told {
        let Some(known) = session.event(event.pdu().event_id()).await? else {
            continue;
        };
        let Some(key) = known.pdu.state_entry().filter(|_| !known.pdu.rejected()) else {
            continue;
        };
        if state
            .insert(key, known.pdu.event_id().to_owned())
            .is_some_and(|other| other != *known.pdu.event_id())
        {
            return Err(bad_state("two events stand for one entry of the state"));
        }
    }
    if state.get("m.room.create", "").is_none() {
        return Err(bad_state("the create event does not stand"));
    }
    Ok(state)
}
