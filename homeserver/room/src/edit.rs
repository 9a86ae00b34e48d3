//! Live editing of a document: edits, state vectors and differences.

mod large;
mod requested;

use std::sync::Arc;

use bytes::Bytes;
use ruma::{OwnedEventId, OwnedUserId, RoomId, UserId, events::room::member::MembershipState};
use weft_crdt::{DeleteSet, Refused, StateVector, Update};
use weft_document::{AdmittedUpdate, CopiedPast, EditUpdate, Examined, OpenText};
use weft_room_api::{
    ConnectionId, CurrentText, Edit, EditOutcome, EditRefusal, LiveEdit, Partly, RefusedContent, RoomCommand,
    RoomError, RoomHint, Unavailable,
};

use crate::{Rooms, mailbox::Reply, pending_commit::PendingCommit, router::parse_vector, worker::Worker};

pub(crate) use self::large::{LARGE_EDIT_BYTES, LargeEdits, apply};

/// How much of an edit must be admissible.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Extent {
    /// What is admissible is applied.
    Any,
    /// All of it; otherwise nothing is applied.
    Whole,
}

/// An open document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenDocument {
    /// State vector of everything acknowledged, encoded.
    pub state_vector: Bytes,
}

impl Rooms {
    /// Applies an edit; returns when it is on disk.
    ///
    /// # Errors
    /// When the user may not edit, or the update is not admissible.
    pub async fn edit(&self, room: &RoomId, edit: Edit) -> Result<EditOutcome, RoomError> {
        self.call(room, RoomCommand::Edit(edit)).await
    }

    /// Opens a document for a live connection. The caller must check the rights ([`Rooms::access`]).
    ///
    /// # Errors
    /// When the room is not a document here.
    pub async fn open(&self, room: &RoomId) -> Result<OpenDocument, RoomError> {
        let state_vector = self.call(room, RoomCommand::Vector).await?;
        Ok(OpenDocument { state_vector })
    }

    /// The update with what is missing from this state vector, of everything acknowledged.
    ///
    /// # Errors
    /// When the vector can't be parsed or the room is not a document here.
    pub async fn diff(&self, room: &RoomId, vector: &[u8]) -> Result<Bytes, RoomError> {
        let vector = Bytes::copy_from_slice(vector);
        self.call(room, RoomCommand::Diff(vector)).await
    }

    /// The merged update: at the given events (inclusive), or of everything acknowledged.
    ///
    /// # Errors
    /// When an event is unknown or the room is not a document here.
    pub async fn content(&self, room: &RoomId, at: Option<&[OwnedEventId]>) -> Result<Bytes, RoomError> {
        match at {
            Some(at) => self.reader().content_at(room, at).await,
            None => {
                let nothing = StateVector::new().encode().into();
                self.call(room, RoomCommand::Diff(nothing)).await
            }
        }
    }

    /// Everything acknowledged, with its state hash.
    ///
    /// # Errors
    /// When the room is not a document here.
    pub async fn current_text(&self, room: &RoomId) -> Result<CurrentText, RoomError> {
        self.call(room, RoomCommand::Text).await
    }

    /// Seals the pending edits now, without waiting for a pause.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn seal(&self, room: &RoomId) -> Result<(), RoomError> {
        self.call(room, RoomCommand::Seal).await
    }

    /// Notes that a user of another server is live in the document: for a minute, seals follow edits within
    /// `seal_remote`. Cheap; may be called for each EDU.
    pub fn remote_presence(&self, room: &RoomId) {
        self.router.hint(room, RoomHint::RemotePresence);
    }
}

/// The update that deletes the refused content in the editor.
fn correction(refused: &[Refused]) -> Option<Bytes> {
    let mut deletes = DeleteSet::new();
    for block in refused {
        let from = block.at.clock;
        deletes.insert(block.at.client, from, from.saturating_add(block.len));
    }
    (!deletes.is_empty()).then(|| Update::from_deletes(deletes).encode().into())
}

impl Worker {
    pub(crate) async fn edit(&mut self, edit: Edit, commit: &mut PendingCommit, reply: Reply<EditOutcome>) {
        let Edit { user, session, update } = edit;
        let update = EditUpdate::Received(update);
        match self.take_edit((user, session), update, Extent::Any, commit).await {
            Ok(outcome) => commit.answer(reply, outcome),
            Err(error) => reply.send(Err(error)),
        }
    }

    /// A copy of what the admission of a large edit depends on; `None` if the user may not edit at all.
    pub(crate) async fn copy_past(&mut self, user: &UserId) -> Result<Option<Box<CopiedPast>>, Unavailable> {
        let reader = self.shared.reader.clone();
        let Some(active) = self.open().await? else {
            return Ok(None);
        };
        if active.document.is_none() || active.access(user).membership != MembershipState::Join {
            return Ok(None);
        }
        active.load_text(&reader).await?;
        let document = active.document.as_ref();
        document.map(|document| Ok(Box::new(document.copy_past()?))).transpose()
    }

    /// Applies a large edit. The answer is `None` if it is to be admitted again.
    pub(crate) async fn edit_admitted(
        &mut self,
        by: (OwnedUserId, ConnectionId),
        update: AdmittedUpdate,
        commit: &mut PendingCommit,
        reply: Reply<Option<EditOutcome>>,
    ) {
        let is_to_be_repeated = match self.copied_document().await {
            Ok(Some(document)) => document
                .past_of_text()
                .is_ok_and(|past| update.is_to_be_repeated(&past)),
            Ok(None) => false,
            Err(error) => return reply.send(Err(error.into())),
        };
        if is_to_be_repeated {
            return reply.send(Ok(None));
        }
        match self
            .take_edit(by, EditUpdate::Admitted(update), Extent::Any, commit)
            .await
        {
            Ok(outcome) => commit.answer(reply, Some(outcome)),
            Err(error) => reply.send(Err(error)),
        }
    }

    async fn copied_document(&mut self) -> Result<Option<&OpenText>, Unavailable> {
        let active = self.open_with_text().await?;
        Ok(active.and_then(|active| active.document.as_ref()))
    }

    async fn take_edit(
        &mut self,
        (user, session): (OwnedUserId, ConnectionId),
        update: EditUpdate,
        extent: Extent,
        commit: &mut PendingCommit,
    ) -> Result<EditOutcome, RoomError> {
        commit.weigh(update.byte_len());
        let (room, shared) = (self.room.clone(), Arc::clone(&self.shared));
        let active = self.open().await?.ok_or_else(|| RoomError::UnknownRoom(room.clone()))?;
        let access = active.access(&user);
        let document = active
            .document
            .as_mut()
            .ok_or_else(|| RoomError::NotADocument(room.clone()))?;
        if access.membership != MembershipState::Join {
            return Err(EditRefusal::NotJoined.into());
        }
        // Before the edit is examined, so that one that has to wait costs little.
        shared.pace(&room, &user)?;
        document.load_text(&shared.reader, &room).await?;
        let unwanted = (!access.can_edit).then(|| document.changes(&update)).transpose()?;
        let examined = document.examine(&user, update);
        // A reader's sync step 2 always repeats all deletions: an update without anything new is no edit and needs no
        // right.
        if let Some(refused) = unwanted
            && !matches!(&examined, Ok(examined) if examined.is_nothing())
        {
            return Err(access.edit_refusal(refused).into());
        }
        let Examined {
            update,
            refused,
            foreign,
            waits,
        } = examined?;
        let is_whole = !waits && refused.is_empty() && foreign.is_empty();
        let outcome = |document: &OpenText, whole: EditOutcome| {
            let missing = waits.then(|| document.vector());
            match missing {
                Some(server_vector) if whole == EditOutcome::NothingNew && foreign.is_empty() => {
                    EditOutcome::Missing { server_vector }
                }
                None if refused.is_empty() && foreign.is_empty() => whole,
                missing => EditOutcome::Partly(Partly {
                    missing,
                    correction: correction(&refused),
                    refused: refused.iter().map(RefusedContent::from).collect(),
                    foreign,
                }),
            }
        };
        if update.is_empty() || (extent == Extent::Whole && !is_whole) {
            return Ok(outcome(document, EditOutcome::NothingNew));
        }
        shared.charge(&user, update.wire_len())?;
        document.take(&user, &update)?;
        let now = commit.now.get().into();
        let update = document.journal(&mut commit.batch, &room, &user, update, now);
        #[cfg(debug_assertions)]
        fail::fail_point!("room::edit_journaled");
        let (is_full, version) = (document.is_full(), document.version());
        let fill = document.fill()?;
        let journaled = match fill.is_nearly_full() {
            true => EditOutcome::NearlyFull(fill),
            false => EditOutcome::Journaled,
        };
        let outcome = outcome(document, journaled);
        commit.edits.push(LiveEdit {
            update,
            author: user,
            session: Some(session),
            version,
        });
        if is_full {
            self.seal(commit);
        }
        Ok(outcome)
    }

    /// Answered with the turn's commit: what the vector covers must be on disk first.
    pub(crate) async fn vector(&mut self, commit: &mut PendingCommit, reply: Reply<Bytes>) {
        match self.opened_document().await.map(|document| document.vector()) {
            Ok(vector) => commit.answer(reply, vector),
            Err(error) => reply.send(Err(error)),
        }
    }

    pub(crate) async fn diff(&mut self, vector: &[u8], commit: &mut PendingCommit, reply: Reply<Bytes>) {
        let diff = match parse_vector(vector) {
            Ok(vector) => self
                .wanted_text()
                .await
                .and_then(|document| Ok(document.diff(&vector)?)),
            Err(error) => Err(error),
        };
        match diff {
            Ok(diff) => {
                commit.weigh(diff.len());
                commit.answer(reply, diff);
            }
            Err(error) => reply.send(Err(error)),
        }
    }

    pub(crate) async fn text(&mut self, commit: &mut PendingCommit, reply: Reply<CurrentText>) {
        // A dispute that began in this turn must be on disk, because that is where it is read from.
        self.fresh(commit).await;
        match self.current_text().await {
            Ok(text) => {
                commit.weigh(text.text.byte_len());
                commit.answer(reply, text);
            }
            Err(error) => reply.send(Err(error)),
        }
    }

    pub(crate) async fn current_text(&mut self) -> Result<CurrentText, RoomError> {
        let is_disputed = self.shared.reader.is_disputed(&self.room).await?;
        let text = Arc::new(self.wanted_text().await?.copy()?);
        Ok(CurrentText { text, is_disputed })
    }

    /// The document, whose text need not be in memory.
    async fn opened_document(&mut self) -> Result<&mut OpenText, RoomError> {
        let room = self.room.clone();
        let active = self.open().await?.ok_or_else(|| RoomError::UnknownRoom(room.clone()))?;
        active.document.as_mut().ok_or(RoomError::NotADocument(room))
    }

    /// The document with its text, which is published: a client that reads once usually reads again.
    async fn wanted_text(&mut self) -> Result<&mut OpenText, RoomError> {
        let room = self.room.clone();
        let active = self.open_with_text().await?;
        let active = active.ok_or_else(|| RoomError::UnknownRoom(room.clone()))?;
        let document = active.document.as_mut().ok_or(RoomError::NotADocument(room))?;
        document.note_wanted();
        Ok(document)
    }
}
