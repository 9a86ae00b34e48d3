//! Calls the rooms that this process serves. Everything outside of a room's own tasks reaches the room through it.
//!
//! Today one process serves all rooms. A router to other processes implements the same trait; the callers repeat a
//! command that it answers with [`Unavailable::Moved`]. Must not decide about commands.

use std::sync::Arc;

use async_trait::async_trait;
use ruma::{RoomId, events::room::member::MembershipState};
use tokio::sync::oneshot;
use weft_crdt::StateVector;
use weft_document::{Readable, stored_text, stored_vector};
use weft_room_api::{
    CurrentText, Edit, EditOutcome, RoomCommand, RoomError, RoomHint, RoomReply, RoomRouter, RoutedCommand, Unavailable,
};

use crate::{
    edit::{self, LARGE_EDIT_BYTES},
    mailbox::{Command, LocalCommand},
    registry::Shared,
};

/// The rooms that this process serves: all of them.
pub(crate) struct LocalRouter(pub(crate) Arc<Shared>);

#[async_trait]
impl RoomRouter for LocalRouter {
    async fn call(&self, room: &RoomId, command: RoutedCommand) -> Result<RoomReply, RoomError> {
        if let Some(answer) = self.answer_without_worker(room, &command.command).await? {
            return Ok(answer);
        }
        let has_joined = matches!(command.command, RoomCommand::Adopt(_));
        let (answer, answered) = oneshot::channel();
        self.0.send(room, Command::Room(command, answer)).await?;
        let answer = answered
            .await
            .unwrap_or_else(|_| Err(Unavailable::Interrupted.into()))?;
        if has_joined {
            // Events that servers sent before the join may be staged.
            self.0.try_send(room, LocalCommand::Ingest);
        }
        Ok(answer)
    }

    fn hint(&self, room: &RoomId, hint: RoomHint) {
        match hint {
            RoomHint::RemotePresence => {
                if self.0.note_presence(room) {
                    self.0.try_send(room, LocalCommand::Nudge);
                }
            }
        }
    }
}

impl LocalRouter {
    /// Reads of a document don't wait for the room's worker if it has published the text, and don't start it if
    /// everything is in the store. An edit without content does not either, and a large one is admitted in the task of
    /// the caller first.
    async fn answer_without_worker(
        &self,
        room: &RoomId,
        command: &RoomCommand,
    ) -> Result<Option<RoomReply>, RoomError> {
        let is_disputed = match command {
            // The worker reads this itself.
            RoomCommand::Text if !matches!(self.0.readable_text(room), Readable::Published(_)) => return Ok(None),
            // A dispute that begins after this was read is of the next text.
            RoomCommand::Text => self.0.reader.is_disputed(room).await?,
            RoomCommand::Vector | RoomCommand::Diff(_) => false,
            RoomCommand::Edit(edit) if *edit.update == *EMPTY_UPDATE => return self.edit_nothing(room, edit).await,
            RoomCommand::Edit(edit) if edit.update.len() > LARGE_EDIT_BYTES => {
                let outcome = edit::apply(&self.0, room, edit).await?;
                return Ok(outcome.map(RoomReply::Edited));
            }
            _ => return Ok(None),
        };
        let text = match self.0.readable_text(room) {
            Readable::Published(text) => text,
            Readable::InMemory => return Ok(None),
            Readable::OnDisk => return self.read_stored(room, command).await,
        };
        Ok(match command {
            RoomCommand::Text => Some(CurrentText { text, is_disputed }.into()),
            RoomCommand::Vector => Some(RoomReply::Bytes(text.state_vector().encode().into())),
            RoomCommand::Diff(vector) => Some(RoomReply::Bytes(text.diff(&parse_vector(vector)?).into())),
            _ => None,
        })
    }

    /// Reads a document of which nothing is in memory; `None` if the worker must load it.
    async fn read_stored(&self, room: &RoomId, command: &RoomCommand) -> Result<Option<RoomReply>, RoomError> {
        let reader = &self.0.reader;
        let bytes = match command {
            RoomCommand::Vector => stored_vector(reader, room).await?,
            RoomCommand::Diff(vector) if parse_vector(vector)?.is_empty() => stored_text(reader, room).await?,
            _ => None,
        };
        Ok(bytes.map(RoomReply::Bytes))
    }

    /// An edit without content; `None` if the worker must refuse it.
    async fn edit_nothing(&self, room: &RoomId, edit: &Edit) -> Result<Option<RoomReply>, RoomError> {
        if !matches!(self.0.readable_text(room), Readable::OnDisk) {
            return Ok(None);
        }
        let reader = &self.0.reader;
        let is_joined = reader.membership(room, &edit.user).await? == MembershipState::Join;
        let is_document = is_joined && reader.is_document(room).await?;
        Ok(is_document.then_some(RoomReply::Edited(EditOutcome::NothingNew)))
    }
}

/// The update without any content, which an editor without text sends in sync step 2.
const EMPTY_UPDATE: &[u8] = &[0, 0];

/// A state vector that a client sent.
pub(crate) fn parse_vector(bytes: &[u8]) -> Result<StateVector, RoomError> {
    StateVector::parse(bytes).map_err(|error| RoomError::BadVector(error.to_string()))
}
