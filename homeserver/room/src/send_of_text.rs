//! Events about the present text: its heads and its state hash are added where no edit can come in between.
//!
//! Must not send the event if the text is not the one that the caller read.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use ruma::{OwnedEventId, RoomId};
use serde_json::json;
use weft_document::OpenText;
use weft_room_api::{EventOfText, EventRefusal, NewEvent, RoomCommand, RoomError, Unavailable};
use weft_wire::limits::MAX_TEXT_HEADS;

use crate::{Rooms, mailbox::Reply, pending_commit::PendingCommit, worker::Worker};

impl Rooms {
    /// Sends an event about the present text; returns when it is on disk.
    ///
    /// # Errors
    /// As [`Rooms::send_if`], and [`RoomError::TextChanged`].
    pub async fn send_of_text(&self, room: &RoomId, event: EventOfText) -> Result<OwnedEventId, RoomError> {
        self.call(room, RoomCommand::SendOfText(Box::new(event))).await
    }
}

impl Worker {
    pub(crate) async fn send_of_text(
        &mut self,
        event: EventOfText,
        commit: &mut PendingCommit,
        reply: Reply<OwnedEventId>,
    ) {
        // A dispute that began in this turn must be on disk, because that is where it is read from.
        self.fresh(commit).await;
        match self.with_text(event, commit).await {
            Ok(event) => self.send(event, commit, reply).await,
            Err(error) => reply.send(Err(error)),
        }
    }

    async fn with_text(&mut self, event: EventOfText, commit: &mut PendingCommit) -> Result<NewEvent, RoomError> {
        let EventOfText {
            mut event,
            conditions,
            version,
            state_hash,
        } = event;
        self.check_conditions(&conditions).await?;
        let text = self.current_text().await?;
        let hash = text.state_hash().map(|hash| URL_SAFE_NO_PAD.encode(hash.as_bytes()));
        // The heads must have every acknowledged edit.
        self.seal(commit);
        let active = self.active.as_ref();
        let active = active.ok_or_else(|| RoomError::UnknownRoom(self.room.clone()))?;
        let document = active.document.as_ref();
        if !document.is_some_and(|document| document.pending().is_empty()) {
            return Err(Unavailable::Interrupted.into());
        }
        let is_other_version = version.is_some_and(|version| document.map(OpenText::version) != Some(version));
        if is_other_version || (state_hash.is_some() && state_hash != hash) {
            return Err(RoomError::TextChanged);
        }
        let heads: Vec<OwnedEventId> = active.extremities.ids().cloned().collect();
        if heads.len() > MAX_TEXT_HEADS {
            let reason = format!("the text has more than {MAX_TEXT_HEADS} heads");
            return Err(EventRefusal::TooLarge { reason }.into());
        }
        event.content.insert("heads".to_owned(), json!(heads));
        if let Some(hash) = hash {
            event.content.insert("state_hash".to_owned(), json!(hash));
        }
        Ok(event)
    }
}
