//! Adopts a room that this server has just joined through another server.

use std::{collections::HashSet, sync::Arc};

use ruma::{EventId, OwnedRoomId, RoomId};
use weft_dag::{
    Pdu, RoomVersion, StateMap, StateView, Verdict, Verified,
    order::{Links, order},
};
use weft_ingest::{
    decide::{Undecided, decide, decide_outlier, is_settled},
    graph::{Graph as _, Incoming},
    tally::Tally,
};
use weft_room_api::{AdoptRefusal, JoinedRoom, RoomCommand, RoomError, Unavailable};
use weft_wire::event_types;

use crate::{
    Rooms,
    active_room::{ActiveRoom, room_type},
    forward_extremities::Extremity,
    mailbox::Reply,
    merge::merge_session::MergeSession,
    pending_commit::PendingCommit,
    registry::Shared,
    worker::Worker,
};

impl Rooms {
    /// Adopts a room that was joined through another server: every event of its state and of the auth chain is checked
    /// against the authorisation rules, and so is the join.
    ///
    /// # Errors
    /// When its state is not acceptable, or the end of the user's last membership overtook the join.
    pub async fn adopt(&self, room: JoinedRoom) -> Result<(), RoomError> {
        let id = room.event.pdu().room_id().to_owned();
        self.call::<()>(&id, RoomCommand::Adopt(Box::new(room))).await?;
        #[cfg(debug_assertions)]
        fail::fail_point!("room::adopted");
        Ok(())
    }
}

fn bad_state(reason: impl Into<String>) -> RoomError {
    AdoptRefusal::BadState { reason: reason.into() }.into()
}

fn undecided(undecided: Undecided) -> RoomError {
    match undecided {
        Undecided::Unavailable(error) => error.into(),
        other => bad_state(other.to_string()),
    }
}

impl Worker {
    pub(crate) async fn adopt(&mut self, joined: JoinedRoom, commit: &mut PendingCommit, reply: Reply<()>) {
        self.fresh(commit).await;
        match Box::pin(self.adopt_room(joined, commit)).await {
            Ok(()) => commit.answer(reply, ()),
            Err(error) => {
                commit.abandon();
                reply.send(Err(error));
            }
        }
    }

    async fn adopt_room(&mut self, joined: JoinedRoom, commit: &mut PendingCommit) -> Result<(), RoomError> {
        let resident = joined.resident.to_string();
        let version = RoomVersion::new(&joined.version);
        let version = version.map_err(|error| RoomError::UnsupportedVersion(error.0.to_string()))?;
        let room: OwnedRoomId = joined.event.pdu().room_id().to_owned();
        let create = self.created(&joined, &room)?;
        let is_document = room_type(create.pdu()).as_deref() == Some(event_types::DOCUMENT_ROOM);
        if self.open_with_text().await?.is_none() {
            self.active = Some(ActiveRoom::new(&room, version, is_document));
        }
        let shared = Arc::clone(&self.shared);
        let Some(active) = self.active.as_mut() else {
            return Err(Unavailable::Interrupted.into());
        };
        let has_unconfirmed = !active.is_joined() && keep_unconfirmed(active, &shared, &joined).await?;
        if let (Some(document), Some(snapshot)) = (active.document.as_mut(), joined.snapshot)
            && let Err(error) = document.adopt_snapshot(&mut commit.batch, &room, snapshot)
        {
            tracing::warn!(
                event = "room.snapshot_unusable", %room, %error,
                "the snapshot of the other server can't be used; the text follows from the events"
            );
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
            // It was received another way meanwhile, for example from a server that references it. It must not be
            // persisted twice.
            return match self
                .active
                .as_ref()
                .is_some_and(|active| active.locals().iter().any(|local| *local == user))
            {
                true => Ok(()),
                false => Err(AdoptRefusal::Overtaken.into()),
            };
        }
        let (authorized, before) = decide(&session, joined.event, Some(state), None)
            .await
            .map_err(undecided)?;
        if let Verdict::Rejected { reason } | Verdict::SoftFailed { reason } = authorized.verdict() {
            return Err(bad_state(format!("the join is not allowed: {reason}")));
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
                return Err(AdoptRefusal::Overtaken.into());
            }
            active.put_room(&mut commit.batch);
        }
        commit.note_gap(&resident);
        if has_unconfirmed {
            self.resend_member_event(&join, commit).await?;
        }
        Ok(())
    }

    /// The room's only create event.
    fn created<'a>(&self, joined: &'a JoinedRoom, room: &RoomId) -> Result<&'a Verified, RoomError> {
        let events = joined.state.iter().chain(&joined.auth_chain);
        let mut creates = events.filter(|event| event.pdu().kind() == "m.room.create");
        let first = creates.next().ok_or_else(|| bad_state("no create event"))?;
        if creates.any(|other| other.pdu().event_id() != first.pdu().event_id()) {
            return Err(bad_state("two create events"));
        }
        if first.pdu().room_id() != room || *room != *self.room {
            return Err(bad_state("the create event belongs to another room"));
        }
        Ok(first)
    }
}

/// Keeps unconfirmed extremities when this server was in the room before. The state of the resident server counts, but
/// together with the events that it does not have. These are events of our users that no event references: they were
/// acknowledged, and other servers may soft-fail them. They are also such events of other users: a server that received
/// the sender's removal first soft-fails them, while our text contains them. The join does not reference what is kept,
/// because another server chose its `prev_events`; so our next event does, at once ([`crate::reconcile`]). Last, the
/// end of the user's last membership, if it crossed the join: all other servers treat the two as concurrent, and this
/// server must do the same, or it would be in a room in which no other server sees it. True if anything is kept.
async fn keep_unconfirmed(active: &mut ActiveRoom, shared: &Shared, joined: &JoinedRoom) -> Result<bool, Unavailable> {
    let ours = shared.identity.server_name();
    let ids: Vec<_> = active.extremities.ids().cloned().collect();
    let extremities = shared.reader.events_of(&active.id, &active.version, &ids).await?;
    let is_in_answer = |id: &EventId| {
        let mut answer = joined.state.iter().chain(&joined.auth_chain);
        answer.any(|event| event.pdu().event_id() == id)
    };
    let state = joined.state.iter().map(|event| Arc::clone(event.pdu()));
    let state = StateView::from_events(active.version.clone(), state);
    let is_unconfirmed = |pdu: &&Arc<Pdu>| match pdu.state_key() {
        // Our users' memberships reference each other, except those that crossed a membership set by another server.
        Some(_) if pdu.sender().server_name() == ours => pdu.kind() != "m.room.member" || !is_in_answer(pdu.event_id()),
        // Other servers' state is in the answer, unless the resident server soft-failed it.
        Some(_) => !is_in_answer(pdu.event_id()) && !state.allows(pdu),
        None => true,
    };
    let kept: HashSet<_> = extremities
        .iter()
        .filter(is_unconfirmed)
        .map(|pdu| pdu.event_id())
        .collect();
    active.extremities.retain(|id| kept.contains(id));
    let any_kept = !active.extremities.is_empty();

    // A later membership references the one before it, so the answer contains it unless the two crossed.
    let user = joined.event.pdu().state_key().unwrap_or_default();
    let Some(last) = active.state.get("m.room.member", user) else {
        return Ok(any_kept);
    };
    if !is_in_answer(last.event_id())
        && !active.extremities.contains(last.event_id())
        && shared
            .reader
            .groups_of(&active.id, &last.event_id().to_owned())
            .await?
            .is_some()
    {
        let last = Extremity::of(last);
        active.extremities.push(last);
    }
    Ok(any_kept)
}

/// Decides about all events of a state and its auth chain, each by its auth events.
async fn persist_outliers(
    session: &mut MergeSession<'_>,
    room: &RoomId,
    events: impl Iterator<Item = &Verified>,
) -> Result<(), RoomError> {
    let mut events: Vec<Verified> = events.filter(|event| event.pdu().room_id() == room).cloned().collect();
    // In version 12 all events depend on the create event without citing it.
    events.sort_by_key(|event| event.pdu().kind() != "m.room.create");
    let announced: Vec<_> = events.iter().map(|event| Arc::clone(event.pdu())).collect();
    session.read_ahead(&announced).await?;
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

/// The remote state, without rejected events.
async fn state_of(session: &MergeSession<'_>, remote: &[Verified]) -> Result<StateMap, RoomError> {
    let mut state = StateMap::default();
    for event in remote {
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
            return Err(bad_state("two events for one entry of the state"));
        }
    }
    if state.get("m.room.create", "").is_none() {
        return Err(bad_state("the create event is rejected"));
    }
    Ok(state)
}
