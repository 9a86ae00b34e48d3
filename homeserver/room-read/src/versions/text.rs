//! The text at a version. Must not write.

use std::collections::BTreeSet;

use bytes::Bytes;
use ruma::{OwnedEventId, RoomId, UserId};
use weft_convergence::rebuild::claim_of;
use weft_crdt::{DeleteSet, StateVector, Update, compact, cut, merge};
use weft_room_api::{ContentRefusal, RoomError, Unavailable};
use weft_store::tables::documents::CheckpointRow;

use super::EventSteps;
use crate::Reader;

/// Events that are loaded at a time.
const EVENTS_AT_ONCE: usize = 256;
/// Attempts to read the rows as of one moment. Each other one was disturbed by a snapshot or by another text.
const ATTEMPTS: usize = 4;

/// What a version is made of.
struct Parts {
    updates: Vec<Update>,
    vector: StateVector,
    deletes: DeleteSet,
}

/// Edits of one user that a text is to be without.
#[derive(Debug, Clone, Copy)]
pub struct Undone<'a> {
    /// The user.
    pub user: &'a UserId,
    /// After this version.
    pub after: u64,
    /// Up to this version.
    pub to: u64,
}

/// A text with what a user deleted, and what they inserted.
#[derive(Debug, Clone)]
pub struct UndoneText {
    /// The whole text with what they deleted, except what they had inserted themselves.
    pub text: Bytes,
    /// What they inserted: it is part of the text.
    pub inserted: DeleteSet,
}

/// The result of an attempt.
enum Attempt {
    Done(Option<UndoneText>),
    /// Rows were replaced while they were read.
    Disturbed,
}

impl Reader {
    /// The whole text at a version of the document, as an update; `None` if this server does not have that version, or
    /// can't work it out: the text was replaced since, or the index begins after it.
    ///
    /// Content that was inserted and deleted by the same author before it was sealed is no longer known once it is.
    ///
    /// # Errors
    /// When the room is not a document here, or the store can't be read.
    pub async fn text_at_version(&self, room: &RoomId, version: u64) -> Result<Option<Bytes>, RoomError> {
        let found = self.text_of(room, version, None).await?;
        Ok(found.map(|found| found.text))
    }

    /// What is needed to undo edits of a user in the text at a version. `None` as for [`Reader::text_at_version`]. The cost
    /// follows the versions since the first of these edits.
    ///
    /// # Errors
    /// As [`Reader::text_at_version`].
    pub async fn text_without(
        &self,
        room: &RoomId,
        version: u64,
        undone: Undone<'_>,
    ) -> Result<Option<UndoneText>, RoomError> {
        self.text_of(room, version, Some(undone)).await
    }

    async fn text_of(
        &self,
        room: &RoomId,
        version: u64,
        undone: Option<Undone<'_>>,
    ) -> Result<Option<UndoneText>, RoomError> {
        if self.version(room).await?.is_none() {
            return Err(RoomError::UnknownRoom(room.to_owned()));
        }
        if !self.is_document(room).await? {
            return Err(ContentRefusal::NotADocument(room.to_owned()).into());
        }
        for _ in 0..ATTEMPTS {
            if let Attempt::Done(text) = self.attempt(room, version, undone).await? {
                return Ok(text);
            }
        }
        Err(Unavailable::Interrupted.into())
    }

    async fn attempt(&self, room: &RoomId, version: u64, undone: Option<Undone<'_>>) -> Result<Attempt, RoomError> {
        let now = self.document_version(room).await?;
        // What was deleted since is in the text of a checkpoint before.
        let oldest = undone.map_or(version, |undone| undone.after.min(version));
        if version > now {
            return Ok(Attempt::Done(None));
        }
        let from = self.versions_from(room).await?;
        let Some(known) = from.filter(|from| *from <= oldest) else {
            return self.newest(room, version, undone).await;
        };
        let checkpoint = self.checkpoint_below(room, oldest.saturating_add(1)).await?;
        let (start, base) = match checkpoint.filter(|(at, _)| *at >= known) {
            Some((at, row)) => match self.base(room, &row).await? {
                Some(base) => (at, base),
                None => return Ok(Attempt::Disturbed),
            },
            None if known == 0 => (0, Parts::empty()),
            None => return self.newest(room, version, undone).await,
        };
        let journal = self.journal(room).await?;
        let steps = self.steps_between(room, start, version).await?;
        let mut parts = base;
        for (number, row) in journal {
            if number.max(known) <= version {
                parts.updates.push(Update::parse(row.update).map_err(unmergeable)?);
            }
        }
        let is_complete = are_complete(&steps, start, version);
        parts.take(self, room, &steps).await?;
        let inserted = undone.map(|undone| parts.undo(&steps, undone)).unwrap_or_default();
        if self.versions_from(room).await? != from {
            return Ok(Attempt::Disturbed);
        }
        let text = if is_complete { parts.text()? } else { None };
        Ok(Attempt::Done(text.map(|text| UndoneText { text, inserted })))
    }

    /// The newest text, which needs no index.
    async fn newest(&self, room: &RoomId, version: u64, undone: Option<Undone<'_>>) -> Result<Attempt, RoomError> {
        if undone.is_some() || self.document_version(room).await? != version {
            return Ok(Attempt::Done(None));
        }
        let mut updates = Vec::new();
        for (_, row) in self.journal(room).await? {
            updates.push(Update::parse(row.update).map_err(unmergeable)?);
        }
        let Some(sealed) = self.sealed_updates(room).await? else {
            return Ok(Attempt::Disturbed);
        };
        updates.extend(sealed);
        if self.document_version(room).await? != version {
            return Ok(Attempt::Disturbed);
        }
        let text = merge(&updates).map_err(unmergeable)?;
        Ok(Attempt::Done(Some(UndoneText {
            text: compact(&text).encode().into(),
            inserted: DeleteSet::new(),
        })))
    }

    /// A checkpoint as the base; `None` if it was superseded meanwhile.
    async fn base(&self, room: &RoomId, row: &CheckpointRow) -> Result<Option<Parts>, RoomError> {
        let Some(bytes) = self.checkpoint_bytes(room, row).await? else {
            return Ok(None);
        };
        let text = Update::parse(bytes).map_err(unmergeable)?;
        Ok(Some(Parts {
            vector: text.state_vector(),
            deletes: text.delete_set().clone(),
            updates: vec![text],
        }))
    }
}

/// Whether the steps have every version after the first one.
fn are_complete(steps: &[EventSteps], start: u64, version: u64) -> bool {
    let versions = steps.iter().flat_map(|one| &one.steps).map(|step| step.version);
    let versions: BTreeSet<u64> = versions.filter(|version| *version > start).collect();
    u64::try_from(versions.len()).is_ok_and(|count| count == version.saturating_sub(start))
}

impl Parts {
    fn empty() -> Self {
        Self {
            updates: Vec::new(),
            vector: StateVector::new(),
            deletes: DeleteSet::new(),
        }
    }

    /// Takes steps, and the updates of their events.
    async fn take(&mut self, reader: &Reader, room: &RoomId, steps: &[EventSteps]) -> Result<(), RoomError> {
        for step in steps.iter().flat_map(|one| &one.steps) {
            step.add_to(&mut self.vector, &mut self.deletes);
        }
        // What an event only deleted is in its steps.
        let with_blocks = steps
            .iter()
            .filter(|one| one.steps.iter().any(|step| !step.blocks.is_empty()));
        let events: Vec<OwnedEventId> = with_blocks.filter_map(|one| one.event.clone()).collect();
        for ids in events.chunks(EVENTS_AT_ONCE) {
            for event in reader.events(room, ids).await? {
                self.updates
                    .extend(claim_of(&event.pdu, event.flags).map(|claim| claim.update));
            }
        }
        Ok(())
    }

    /// Undoes the deletions of a user, and returns what they inserted. What they inserted and deleted stays deleted.
    fn undo(&mut self, steps: &[EventSteps], undone: Undone<'_>) -> DeleteSet {
        let of_user = steps.iter().filter(|one| one.author == undone.user);
        let steps = of_user.flat_map(|one| &one.steps);
        let steps = steps.filter(|step| undone.after < step.version && step.version <= undone.to);
        let mut inserted = DeleteSet::new();
        for (client, from, to) in steps.clone().flat_map(|step| &step.blocks) {
            inserted.insert(*client, *from, *to);
        }
        for step in steps {
            let deleted = step.deletes.difference(&inserted);
            self.deletes = self.deletes.difference(&deleted);
        }
        inserted
    }

    /// The text; `None` if something is missing: an event was redacted.
    fn text(self) -> Result<Option<Bytes>, RoomError> {
        let all = merge(&self.updates).map_err(unmergeable)?;
        if !all.state_vector().covers(&self.vector) {
            return Ok(None);
        }
        let text = cut(&all, &self.vector, self.deletes);
        Ok(Some(compact(&text).encode().into()))
    }
}

fn unmergeable(error: impl std::fmt::Display) -> RoomError {
    ContentRefusal::Unmergeable(error.to_string()).into()
}
