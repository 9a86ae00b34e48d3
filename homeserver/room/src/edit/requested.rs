//! Edits that requests make. The answer to a request with a key is a row in the batch of its edit: after a crash both are
//! there or neither is, and of two equal requests at one time the second finds the row of the first.
//!
//! Must not apply a part of an edit.

use ruma::RoomId;
use weft_document::{EditUpdate, OpenText};
use weft_room_api::{
    ConnectionId, EditOutcome, RequestKey, RequestOutcome, RequestedEdit, RoomCommand, RoomError, Unavailable,
};
use weft_store::tables::documents::{EDIT_REQUEST_TIMES, EDIT_REQUESTS, EditRequestRow};
use weft_wire::limits::KEEP_EDIT_REQUESTS_MS;

use super::Extent;
use crate::{Rooms, mailbox::Reply, pending_commit::PendingCommit, worker::Worker};

/// Expired rows that are deleted with each new one: more than are written, so that no separate task is needed.
const DELETED_PER_REQUEST: usize = 4;

impl Rooms {
    /// Applies the edit of a request; returns when it is on disk.
    ///
    /// # Errors
    /// When the user may not edit, or the update is not admissible.
    pub async fn request_edit(&self, room: &RoomId, edit: RequestedEdit) -> Result<RequestOutcome, RoomError> {
        self.call(room, RoomCommand::RequestEdit(Box::new(edit))).await
    }
}

/// The answer to a request whose name is known.
fn answer_again(row: EditRequestRow, key: &RequestKey) -> RequestOutcome {
    if row.body == key.body {
        RequestOutcome::Repeated {
            version: row.version,
            answer: row.answer,
        }
    } else {
        RequestOutcome::KeyReused
    }
}

impl Worker {
    pub(crate) async fn request_edit(
        &mut self,
        edit: RequestedEdit,
        commit: &mut PendingCommit,
        reply: Reply<RequestOutcome>,
    ) {
        match self.take_requested(edit, commit).await {
            Ok(outcome) => commit.answer(reply, outcome),
            Err(error) => reply.send(Err(error)),
        }
    }

    async fn take_requested(
        &mut self,
        edit: RequestedEdit,
        commit: &mut PendingCommit,
    ) -> Result<RequestOutcome, RoomError> {
        let RequestedEdit {
            user,
            update,
            if_version,
            key,
        } = edit;
        if let Some(key) = &key
            && let Some(row) = self.answered_before(key, commit).await?
        {
            return Ok(answer_again(row, key));
        }
        let version = self.version_now().await?;
        if if_version.is_some_and(|wanted| wanted != version) {
            return Ok(RequestOutcome::VersionChanged);
        }
        let by = (user, ConnectionId::REQUEST);
        let outcome = self
            .take_edit(by, EditUpdate::Received(update), Extent::Whole, commit)
            .await?;
        Ok(match outcome {
            EditOutcome::Journaled | EditOutcome::NearlyFull(_) | EditOutcome::NothingNew => {
                let version = self.version_now().await?;
                if let Some(key) = key {
                    self.keep_answer(key, version, commit).await?;
                }
                RequestOutcome::Applied { version }
            }
            EditOutcome::Missing { .. } => RequestOutcome::Missing,
            EditOutcome::Partly(partly) if !partly.refused.is_empty() => RequestOutcome::Refused(partly.refused),
            EditOutcome::Partly(partly) if !partly.foreign.is_empty() => RequestOutcome::Foreign,
            EditOutcome::Partly(_) => RequestOutcome::Missing,
        })
    }

    async fn version_now(&mut self) -> Result<u64, RoomError> {
        let room = self.room.clone();
        let active = self.open().await?.ok_or_else(|| RoomError::UnknownRoom(room.clone()))?;
        let document = active.document.as_ref().map(OpenText::version);
        document.ok_or(RoomError::NotADocument(room))
    }

    /// The answer under this name, also of a request of this turn.
    async fn answered_before(
        &self,
        key: &RequestKey,
        commit: &PendingCommit,
    ) -> Result<Option<EditRequestRow>, Unavailable> {
        if let Some(row) = commit.edit_requests.get(&key.name) {
            return Ok(Some(row.clone()));
        }
        Ok(self.shared.store.get(&EDIT_REQUESTS, &(&*self.room, &key.name)).await?)
    }

    async fn keep_answer(&self, key: RequestKey, version: u64, commit: &mut PendingCommit) -> Result<(), Unavailable> {
        let RequestKey { name, body, answer } = key;
        let row = EditRequestRow { body, version, answer };
        let lane = self.shared.store.lane_of(&*self.room);
        let now = u64::from(commit.now.get());
        commit.batch.put(&EDIT_REQUESTS, &(&*self.room, &name), &row);
        commit
            .batch
            .put(&EDIT_REQUEST_TIMES, &(lane, now, &*self.room, &name), &());
        commit.edit_requests.insert(name, row);
        self.forget_edit_requests(commit).await
    }

    /// Deletes some expired rows of the lane. A row that exists counts, however old it is: so no row is deleted that
    /// another room writes at this moment.
    async fn forget_edit_requests(&self, commit: &mut PendingCommit) -> Result<(), Unavailable> {
        let Some(last) = u64::from(commit.now.get()).checked_sub(KEEP_EDIT_REQUESTS_MS) else {
            return Ok(());
        };
        let lane = self.shared.store.lane_of(&*self.room);
        // Skip the range that is already deleted: an engine may keep tombstones for a long time.
        let first = self.shared.forgotten_edit_requests(lane);
        let query = EDIT_REQUEST_TIMES.under(&(lane,));
        let query = query.from(&(lane, first)).through(&(lane, last));
        for ((_, time, room, name), ()) in self.shared.store.scan(query.limit(DELETED_PER_REQUEST)).await? {
            commit.batch.delete(&EDIT_REQUESTS, &(&room, &name));
            commit.batch.delete(&EDIT_REQUEST_TIMES, &(lane, time, &room, &name));
            self.shared.note_forgotten_edit_request(lane, time);
        }
        Ok(())
    }
}
