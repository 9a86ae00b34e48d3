//! Edits that become events at once, without the journal: their events say what they are for (`spec/docs/events.md`, "Purpose of an
//! update"), which a journaled edit that is merged with others could not.
//!
//! Must not apply a part of an edit: all of its events are in one batch.

use bytes::Bytes;
use ruma::{OwnedEventId, RoomId, UserId};
use serde_json::{Map, Value};
use weft_crdt::{Update, compact, split};
use weft_document::{EditUpdate, OpenText};
use weft_room_api::{EditToSend, EventRefusal, NewEvent, RefusedEdit, RoomCommand, RoomError, Unavailable};
use weft_wire::{event_types, limits::MAX_SEALED_UPDATE_BYTES, update::UpdateContent};

use crate::{Rooms, mailbox::Reply, pending_commit::PendingCommit, send::Cause, worker::Worker};

impl Rooms {
    /// Sends an edit as events; returns when they are on disk. The edit has as many events as its size needs, and none if it changes
    /// nothing.
    ///
    /// # Errors
    /// When the user may not edit, or the update is not admissible as a whole.
    pub async fn send_edit(&self, room: &RoomId, edit: EditToSend) -> Result<Vec<OwnedEventId>, RoomError> {
        self.call(room, RoomCommand::SendEdit(Box::new(edit))).await
    }
}

impl Worker {
    pub(crate) async fn send_edit(
        &mut self,
        edit: EditToSend,
        commit: &mut PendingCommit,
        reply: Reply<Vec<OwnedEventId>>,
    ) {
        match self.sent_edit(edit, commit).await {
            Ok(events) => commit.answer(reply, events),
            Err(error) => reply.send(Err(error)),
        }
    }

    async fn sent_edit(
        &mut self,
        edit: EditToSend,
        commit: &mut PendingCommit,
    ) -> Result<Vec<OwnedEventId>, RoomError> {
        let EditToSend { user, update, fields } = edit;
        let parts = self.parts_to_send(&user, update).await?;
        // The parts have the rights and the state of the first one, so that all of them are sent or none is.
        let bytes = parts.iter().map(Update::wire_len).sum();
        self.shared.charge(&user, bytes)?;
        let mut events = Vec::with_capacity(parts.len());
        for part in parts {
            let event = event_of(&user, &part, &fields)?;
            events.push(self.send_event(event, Cause::Server, commit).await?);
        }
        Ok(events)
    }

    /// What of an edit is new, in parts of which each fits an event.
    async fn parts_to_send(&mut self, user: &UserId, update: Bytes) -> Result<Vec<Update>, RoomError> {
        let room = self.room.clone();
        let active = self.open_with_text().await?;
        let active = active.ok_or_else(|| RoomError::UnknownRoom(room.clone()))?;
        let access = active.access(user);
        let document: &OpenText = active.document.as_ref().ok_or(RoomError::NotADocument(room))?;
        if !access.can_edit {
            return Err(access.edit_refusal(RefusedEdit::default()).into());
        }
        let examined = document.examine(user, EditUpdate::Received(update))?;
        if let Some(refused) = examined.refused.first() {
            let reason = refused.reason.code().to_owned();
            return Err(EventRefusal::Inadmissible { reason }.into());
        }
        if examined.waits || !examined.foreign.is_empty() {
            // It was made from a text that was replaced since.
            return Err(Unavailable::Interrupted.into());
        }
        if examined.update.is_empty() {
            return Ok(Vec::new());
        }
        document.check_room_for(&examined.update)?;
        split(&compact(&examined.update), MAX_SEALED_UPDATE_BYTES).map_err(|error| {
            let reason = error.to_string();
            EventRefusal::Inadmissible { reason }.into()
        })
    }
}

fn event_of(user: &UserId, update: &Update, fields: &Map<String, Value>) -> Result<NewEvent, RoomError> {
    let ranges = update.ranges().into_iter().map(|(client, range)| (client.get(), range));
    let content = serde_json::to_value(UpdateContent::new(&update.encode(), ranges));
    let content = content.map_err(|error| Unavailable::Internal(error.to_string()))?;
    let mut content = content.as_object().cloned().unwrap_or_default();
    content.extend(fields.clone());
    Ok(NewEvent {
        sender: user.to_owned(),
        kind: event_types::UPDATE.to_owned(),
        state_key: None,
        content,
        redacts: None,
        txn: None,
        timestamp: None,
    })
}
