//! Witness events: this server confirms updates of other servers, if none of its own events does so.
//!
//! An event of this server has all accepted events as ancestors. So it shows which events the server had, and with
//! those that it did not have it decides between claims to the same clocks (`spec/docs/admission.md`). A server whose
//! users only read would show nothing; it sends a `dev.weft.witness` at most every [`WITNESS_INTERVAL_MS`], and only
//! after updates of other servers. That one is due is a durable job, so that a restart doesn't lose it.
//!
//! Membership events do not show what their sender's server had: another server may have chosen their `prev_events`.
//! Must not decide which updates stand ([`weft_convergence::rebuild`]).

use std::{sync::Arc, time::Duration};

use ruma::{OwnedEventId, OwnedUserId, RoomId};
use serde_json::Map;
use weft_clock::millis;
use weft_dag::Pdu;
use weft_jobs::{Job, Outcome};
use weft_room_api::{NewEvent, RoomError, Unavailable};
use weft_store::Store;
use weft_wire::{
    event_types,
    limits::{MAX_SEALED_UPDATE_BYTES, WITNESS_INTERVAL_MS},
};

use crate::{
    active_room::ActiveRoom,
    jobs::{JobChange, RoomJob},
    mailbox::{LocalCommand, LocalReply},
    pending_commit::PendingCommit,
    reconcile::delay_of,
    registry::Shared,
    send::Cause,
    worker::Worker,
};

/// Users who are checked for the right to send a witness event. In documents created by this software every user has
/// it.
const MAX_CANDIDATES: usize = 200;
/// An update of at most this size leaves space in its event for the ids of other events.
const MAX_NAMING_UPDATE_BYTES: usize = MAX_SEALED_UPDATE_BYTES - 4_000;

impl ActiveRoom {
    /// Records a persisted update: if another server sent it, a witness event becomes due.
    pub(crate) fn note_unwitnessed(&mut self, commit: &mut PendingCommit, pdu: &Pdu, ours: &ruma::ServerName) {
        let is_update = pdu.kind() == event_types::UPDATE && pdu.state_key().is_none();
        if !is_update || self.document.is_none() || pdu.sender().server_name() == ours || self.unwitnessed.is_some() {
            return;
        }
        self.schedule_witness(commit);
    }

    fn schedule_witness(&mut self, commit: &mut PendingCommit) {
        let due = millis(commit.now).saturating_add(WITNESS_INTERVAL_MS);
        self.unwitnessed = Some(due);
        commit.jobs.push(JobChange::Request {
            kind: RoomJob::Witness,
            due,
            payload: due.to_string(),
        });
    }

    /// Records that an event of this server is persisted: it confirms its ancestors.
    pub(crate) fn note_own_event(&mut self, commit: &mut PendingCommit, pdu: &Pdu) {
        if self.unwitnessed.is_none() || pdu.kind() == "m.room.member" {
            return;
        }
        if self.extremities.len() > 1 {
            // It could not cite all extremities; the next one confirms the rest.
            self.schedule_witness(commit);
        } else {
            self.clear_witness(commit);
        }
    }

    fn clear_witness(&mut self, commit: &mut PendingCommit) {
        self.unwitnessed = None;
        commit.jobs.push(JobChange::Withdraw(RoomJob::Witness));
    }

    /// Makes a witness event due if this server must name what stands, even if all updates of others are confirmed.
    /// Must be called before a turn is committed.
    pub(crate) fn schedule_naming(&mut self, commit: &mut PendingCommit) {
        if !self.stands_to_name().is_empty() && self.unwitnessed.is_none() && self.is_joined() {
            self.schedule_witness(commit);
        }
    }

    /// The events that an update of this server names as standing, given the size of its own content.
    pub(crate) fn names_for_update(&self, update_bytes: usize) -> Vec<OwnedEventId> {
        if update_bytes > MAX_NAMING_UPDATE_BYTES {
            return Vec::new();
        }
        self.stands_to_name().to_vec()
    }

    /// A user of this server who may send a witness event. Rooms from before witness events have no power level for
    /// them, so the general one for events applies, which viewers don't have.
    fn witness_sender(&self) -> Option<OwnedUserId> {
        let mut candidates = self.locals().iter().take(MAX_CANDIDATES);
        candidates
            .find(|user| self.state.can_send(user, event_types::WITNESS))
            .cloned()
    }
}

impl Worker {
    /// Sends a witness event that is due. Must be called before events of other servers are merged: one of them may
    /// claim the clocks of an update that has been here for long, and this server would then have referenced neither
    /// claim alone.
    pub(crate) async fn witness_if_due(&mut self, commit: &mut PendingCommit) {
        let now = u64::from(commit.now.get());
        let due = self.active.as_ref().and_then(|active| active.unwitnessed);
        if due.is_some_and(|due| due <= now)
            && let Err(error) = self.send_witness(commit).await
        {
            tracing::warn!(
                event = "room.witness_failed", room = %self.room, %error,
                "a witness event can't be sent now"
            );
        }
    }

    /// Sends the witness event that was due at `due`, unless another event of this server made it unnecessary.
    pub(crate) async fn witness(&mut self, due: u64, commit: &mut PendingCommit, reply: LocalReply<()>) {
        let sent = match self.open().await {
            Ok(Some(active)) if active.unwitnessed == Some(due) => self.send_witness(commit).await,
            Ok(_) => Ok(()),
            Err(error) => Err(error),
        };
        match sent {
            Ok(()) => commit.answer(reply, ()),
            Err(error) => reply.send(Err(error)),
        }
    }

    async fn send_witness(&mut self, commit: &mut PendingCommit) -> Result<(), Unavailable> {
        // Pending edits are sealed first; that event may confirm everything.
        self.seal(commit);
        let Some(active) = self.active.as_mut().filter(|active| active.unwitnessed.is_some()) else {
            return Ok(());
        };
        let Some(sender) = active.witness_sender() else {
            tracing::debug!(room = %active.id, "no user of this server may send a witness event");
            active.clear_witness(commit);
            return Ok(());
        };
        match self.send_event(witness_event(sender), Cause::Server, commit).await {
            Ok(event) => {
                tracing::debug!(room = %self.room, %event, "a witness event is sent");
                Ok(())
            }
            Err(RoomError::Unavailable(error)) => Err(error),
            Err(error) => {
                tracing::warn!(
                    event = "room.witness_forbidden", room = %self.room, %error,
                    "a witness event is not allowed"
                );
                if let Some(active) = self.active.as_mut() {
                    active.clear_witness(commit);
                }
                Ok(())
            }
        }
    }
}

/// A witness event. The code that composes it adds the named events.
fn witness_event(sender: OwnedUserId) -> NewEvent {
    NewEvent {
        sender,
        kind: event_types::WITNESS.to_owned(),
        state_key: None,
        content: Map::new(),
        redacts: None,
        txn: None,
        timestamp: None,
    }
}

/// One run of the job of a room. The servers of a room send their witness events in turn: concurrent events cost work on
/// every server.
pub(crate) async fn run(shared: &Arc<Shared>, room: &RoomId, job: &Job) -> Result<Outcome, Unavailable> {
    let Some(due) = due_of(job.payload()) else {
        return Ok(Outcome::Done);
    };
    let servers = shared.reader.servers_in(room).await?;
    let turn = delay_of(&servers, shared.identity.server_name());
    let turn = due.saturating_add(u64::try_from(turn.as_millis()).unwrap_or(u64::MAX));
    let left = turn.saturating_sub(millis(shared.clock.now()));
    if left > 0 {
        // A clock that was set back doesn't delay it.
        let after = Duration::from_millis(left.min(WITNESS_INTERVAL_MS));
        return Ok(Outcome::Again { after });
    }
    shared.ask(room, |reply| LocalCommand::Witness(due, reply)).await?;
    Ok(Outcome::Done)
}

/// When a witness event of the room is or becomes due, in milliseconds since 1970; `None` if none is needed.
pub(crate) async fn due(store: &Store, room: &RoomId) -> Result<Option<u64>, Unavailable> {
    let payload = RoomJob::Witness.payload(store, room).await?;
    Ok(payload.as_deref().and_then(due_of))
}

fn due_of(payload: &str) -> Option<u64> {
    payload.parse().ok()
}
