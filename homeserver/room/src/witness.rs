//! Witness events: this server confirms the updates that it has from others, where none of its own events does so.
//!
//! What a server sends follows all that it has accepted. So it shows what the server knew, and with what it did not know it
//! decides between claims to the same clocks (`spec/docs/admission.md`). A server that only reads would show nothing; it
//! sends a `dev.weft.witness` at most every [`WITNESS_INTERVAL_MS`], and only after updates of others. That one is due is on
//! disk, so that a restart doesn't lose it.
//!
//! Membership events show nothing of what their senders knew: another server may have chosen what they follow. Must not
//! decide which updates stand ([`crate::ingest::rebuild`]).

use std::{sync::Arc, time::Duration};

use ruma::{MilliSecondsSinceUnixEpoch, OwnedEventId, OwnedRoomId, OwnedUserId, RoomId};
use serde_json::Map;
use weft_dag::Pdu;
use weft_store::{Batch, tables::rooms::UNWITNESSED};
use weft_wire::{
    event_types,
    limits::{MAX_SEALED_UPDATE_BYTES, WITNESS_INTERVAL_MS},
};

use crate::{
    NewEvent, Rooms, SendError, Unavailable,
    active_room::ActiveRoom,
    mailbox::{Command, Reply},
    pending_commit::PendingCommit,
    reconcile::delay_of,
    registry::Shared,
    worker::Worker,
};

/// Users who are looked at for one who may send a witness event. In the documents that we make everybody may.
const MAX_CANDIDATES: usize = 200;
/// An update of this size leaves room in its event for the names of others.
const MAX_NAMING_UPDATE_BYTES: usize = MAX_SEALED_UPDATE_BYTES - 4_000;

impl ActiveRoom {
    /// Notes an update that is part of the room from now on: where it is another server's, a witness event becomes due.
    pub(crate) fn note_unwitnessed(&mut self, commit: &mut PendingCommit, pdu: &Pdu, ours: &ruma::ServerName) {
        let is_update = pdu.kind() == event_types::UPDATE && pdu.state_key().is_none();
        if !is_update || self.document.is_none() || pdu.sender().server_name() == ours || self.unwitnessed.is_some() {
            return;
        }
        self.owe_witness(&mut commit.batch, commit.now);
        commit.unwitnessed = true;
    }

    fn owe_witness(&mut self, batch: &mut Batch, now: MilliSecondsSinceUnixEpoch) {
        let due = u64::from(now.get()).saturating_add(WITNESS_INTERVAL_MS);
        self.unwitnessed = Some(due);
        batch.put(&UNWITNESSED, &(&self.id,), &due);
    }

    /// Notes that an event of ours is in its place: it confirms what it follows.
    pub(crate) fn note_spoken(&mut self, commit: &mut PendingCommit, pdu: &Pdu) {
        if self.unwitnessed.is_none() || pdu.kind() == "m.room.member" {
            return;
        }
        if self.extremities.len() > 1 {
            // It could not cite them all; the next one confirms the rest.
            self.owe_witness(&mut commit.batch, commit.now);
            commit.unwitnessed = true;
        } else {
            self.settle_witness(&mut commit.batch);
        }
    }

    fn settle_witness(&mut self, batch: &mut Batch) {
        self.unwitnessed = None;
        batch.delete(&UNWITNESSED, &(&self.id,));
    }

    /// Where this server is to name what stands, and all that others wrote is confirmed, a witness event becomes due all the
    /// same: to be called before a turn is committed.
    pub(crate) fn owe_names(&mut self, commit: &mut PendingCommit) {
        if !self.stands_to_name().is_empty() && self.unwitnessed.is_none() && self.is_joined() {
            self.owe_witness(&mut commit.batch, commit.now);
            commit.unwitnessed = true;
        }
    }

    /// What an update of ours names as standing, beside its own content of so many bytes.
    pub(crate) fn names_beside(&self, update_bytes: usize) -> Vec<OwnedEventId> {
        if update_bytes > MAX_NAMING_UPDATE_BYTES {
            return Vec::new();
        }
        self.stands_to_name().to_vec()
    }

    /// A user of ours who may send a witness event. Rooms that were made before there were any have no level for them, so
    /// that their general one counts, which viewers don't reach.
    fn witness_sender(&self) -> Option<OwnedUserId> {
        let mut candidates = self.locals().iter().take(MAX_CANDIDATES);
        candidates
            .find(|user| self.state.can_send(user, event_types::WITNESS))
            .cloned()
    }
}

impl Worker {
    /// To be called before events of other servers come in: a witness event that is due is sent without them. One of them
    /// may claim the clocks of an update that is here for long, and this server would else have said nothing of that update
    /// alone.
    pub(crate) async fn witness_if_due(&mut self, commit: &mut PendingCommit) {
        let now = u64::from(commit.now.get());
        let due = self.active.as_ref().and_then(|active| active.unwitnessed);
        if due.is_some_and(|due| due <= now)
            && let Err(error) = self.send_witness(commit).await
        {
            tracing::warn!(room = %self.room, %error, "a witness event can't be sent now");
        }
    }

    /// The time has come for the witness event that was due at `due`, unless another event of ours came before.
    pub(crate) async fn witness(&mut self, due: u64, commit: &mut PendingCommit, reply: Reply<(), Unavailable>) {
        let sent = match self.open().await {
            Ok(Some(active)) if active.unwitnessed == Some(due) => self.send_witness(commit).await,
            Ok(_) => Ok(()),
            Err(error) => Err(error),
        };
        match sent {
            Ok(()) => commit.answer(reply, ()),
            Err(error) => drop(reply.send(Err(error))),
        }
    }

    async fn send_witness(&mut self, commit: &mut PendingCommit) -> Result<(), Unavailable> {
        // What is pending is signed first, and may confirm all.
        self.seal(commit);
        let Some(active) = self.active.as_mut().filter(|active| active.unwitnessed.is_some()) else {
            return Ok(());
        };
        let Some(sender) = active.witness_sender() else {
            tracing::debug!(room = %active.id, "nobody here may send a witness event");
            active.settle_witness(&mut commit.batch);
            return Ok(());
        };
        match self.send_event(witness_event(sender), commit).await {
            Ok(event) => {
                tracing::debug!(room = %self.room, %event, "a witness event");
                Ok(())
            }
            Err(SendError::Unavailable(error)) => Err(error),
            Err(error) => {
                tracing::warn!(room = %self.room, %error, "a witness event is refused");
                if let Some(active) = self.active.as_mut() {
                    active.settle_witness(&mut commit.batch);
                }
                Ok(())
            }
        }
    }
}

/// A witness event. What it names is written where it is composed.
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

/// Waits for the witness event of a room, where none is waited for yet. To be called when it is on disk that one is due.
pub(crate) fn begin(shared: &Arc<Shared>, room: OwnedRoomId) {
    if !shared.witnesses.begin(&room) {
        return;
    }
    let shared = Arc::clone(shared);
    tokio::spawn(async move {
        while !shared.is_stopping() {
            shared.witnesses.look(&room);
            match wait_and_send(&shared, &room).await {
                Ok(false) if shared.witnesses.finish(&room) => return,
                Ok(_) => {}
                Err(Unavailable::Stopping) => break,
                Err(error) => {
                    tracing::error!(%room, %error, "no witness event before the next start");
                    break;
                }
            }
        }
        shared.witnesses.abandon(&room);
    });
}

/// False where none is due, and nothing was to be waited for.
async fn wait_and_send(shared: &Arc<Shared>, room: &RoomId) -> Result<bool, Unavailable> {
    let Some(due) = shared.store.get(&UNWITNESSED, &(room,)).await? else {
        return Ok(false);
    };
    let left = due.saturating_sub(shared.clock.now().get().into());
    // A clock that was set back doesn't make it later.
    let left = Duration::from_millis(left.min(WITNESS_INTERVAL_MS));
    // Not all servers of a room at the same moment: events beside one another make work for everybody.
    let servers = shared.reader.servers_in(room).await?;
    tokio::time::sleep(left + delay_of(&servers, shared.identity.server_name())).await;
    let (reply, answer) = tokio::sync::oneshot::channel();
    shared.send(room, Command::Witness(due, reply)).await?;
    answer.await.unwrap_or(Err(Unavailable::Interrupted))?;
    Ok(true)
}

impl Rooms {
    /// At boot: what was due still is.
    pub(crate) async fn witness_again(&self) -> Result<(), Unavailable> {
        for ((room,), _) in self.shared.store.scan_all(UNWITNESSED.under(&())).await? {
            begin(&self.shared, room);
        }
        Ok(())
    }
}
