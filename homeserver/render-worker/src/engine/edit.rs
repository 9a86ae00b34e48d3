//! Turns changes into one update. Positions are those of a base version: the changes are made to a copy of it, and the engine
//! merges the result into the present document like any edit that was made at that version. What has no position (`append`,
//! `set`, `unset`) is done afterwards, in the present document.
//!
//! The update has new blocks of one client only, and the deletions of this edit.

pub(super) mod blocks;
mod conflicts;
pub(super) mod place;
pub(super) mod text;
pub(super) mod values;

use bytes::Bytes;
use weft_render::protocol::Answer;
use weft_render::{Change, PlaceError, Unit};
use weft_wire::document::DocumentKind;
use weft_wire::limits::MAX_CHANGES_PER_EDIT;
use yrs::{ClientID, ReadTxn as _, Transact as _, TransactionMut};

use super::load::{Loaded, Root};
use super::{EngineError, Parts};
use conflicts::{Conflicts, Touched};
use place::Later;

/// The changes of a request.
pub(crate) struct Edit {
    pub(crate) kind: DocumentKind,
    pub(crate) changes: Vec<Change>,
    pub(crate) unit: Unit,
    pub(crate) client: u64,
    pub(crate) clock: u32,
}

/// Makes the edit.
pub(crate) fn edit(edit: Edit, state: &[u8], base: &[u8]) -> Result<(Answer, Parts), EngineError> {
    let Edit {
        kind,
        changes,
        unit,
        client,
        clock,
    } = edit;
    check(&changes, client)?;
    let has_base = !base.is_empty() && base != state;
    let first = Loaded::with_client(kind, if has_base { base } else { state }, client, false)?;
    begins_at(&first, client, clock)?;
    let mut txn = first.doc.transact_mut();
    let mut editing = Editing::new(unit);
    for (index, change) in changes.into_iter().enumerate() {
        editing.index = index;
        editing
            .perform(&first.root, &mut txn, change)
            .map_err(|error| refused(index, error))?;
    }
    if !has_base {
        editing.finish(&first.root, &mut txn)?;
        return Ok(answer(txn.encode_update_v1(), Vec::new()));
    }
    let positional = txn.encode_update_v1();
    drop(txn);
    let conflicts = Conflicts::find(kind, base, state, &editing.touched, unit)?;
    let present = Loaded::with_client(kind, state, client, false)?;
    begins_at(&present, client, clock)?;
    let mut txn = present.doc.transact_mut();
    super::load::apply(&mut txn, &positional)?;
    let gone = editing.finish(&present.root, &mut txn)?;
    Ok(answer(txn.encode_update_v1(), conflicts.with_gone(gone)))
}

fn answer(update: Vec<u8>, conflicts: Vec<weft_render::Conflict>) -> (Answer, Parts) {
    let parts = [Bytes::from(update), Bytes::new(), Bytes::new()];
    (Answer::Edited { conflicts }, parts)
}

pub(super) fn refused(change: usize, error: PlaceError) -> EngineError {
    EngineError::Refused { change, error }
}

pub(super) fn invalid(message: impl Into<String>) -> PlaceError {
    PlaceError::Invalid {
        message: message.into(),
    }
}

fn check(changes: &[Change], client: u64) -> Result<(), EngineError> {
    if changes.len() > MAX_CHANGES_PER_EDIT {
        let what = "the number of changes".to_owned();
        let limit = MAX_CHANGES_PER_EDIT;
        return Err(refused(MAX_CHANGES_PER_EDIT, PlaceError::TooLarge { what, limit }));
    }
    check_client(client)
}

pub(super) fn check_client(client: u64) -> Result<(), EngineError> {
    if client >= weft_crdt::limits::CLIENT_ID_END {
        return Err(refused(0, invalid("the client id is not below 2^53")));
    }
    Ok(())
}

/// The blocks of a client id that exists must not be used.
pub(super) fn unused(loaded: &Loaded, client: u64) -> Result<(), EngineError> {
    begins_at(loaded, client, 0)
}

/// Blocks that do not continue those of their client id would have clocks that others do not expect.
fn begins_at(loaded: &Loaded, client: u64, clock: u32) -> Result<(), EngineError> {
    let present = loaded.doc.transact().state_vector().get(&ClientID::new(client));
    if present != clock {
        let message = format!("the document has {present} clocks of the client id, and the edit begins at {clock}");
        return Err(refused(0, invalid(message)));
    }
    Ok(())
}

/// The state of an edit between its changes.
struct Editing {
    unit: Unit,
    /// The change that is being made.
    index: usize,
    later: Vec<(usize, Later)>,
    touched: Touched,
}

impl Editing {
    fn new(unit: Unit) -> Self {
        Self {
            unit,
            index: 0,
            later: Vec::new(),
            touched: Touched::default(),
        }
    }

    /// Makes one change, or notes it for [`Editing::finish`].
    fn perform(&mut self, root: &Root, txn: &mut TransactionMut<'_>, change: Change) -> Result<(), PlaceError> {
        match change {
            Change::Insert {
                place,
                at,
                text,
                attributes,
            } => {
                let block = place::text(root, txn, &place)?;
                self.insert(&block, txn, at, &text, attributes.as_ref())
            }
            Change::Delete { place, at, length } => {
                let block = place::text(root, txn, &place)?;
                self.delete(&block, txn, at, length)
            }
            Change::Replace {
                place,
                at: Some(at),
                length: Some(length),
                search: None,
                count: None,
                text,
            } => {
                let block = place::text(root, txn, &place)?;
                self.replace_range(&block, txn, (at, length), &text)
            }
            Change::Replace {
                place,
                at: None,
                length: None,
                search: Some(search),
                count,
                text,
            } => {
                let blocks = place::searched(root, txn, &place)?;
                self.replace_found(&blocks, txn, &search, count, &text)
            }
            Change::Replace { .. } => Err(invalid("replace needs either at and length, or search")),
            Change::Format {
                place,
                at,
                length,
                attributes,
            } => {
                let block = place::text(root, txn, &place)?;
                self.format(
                    &block,
                    txn,
                    (at, length),
                    &attributes,
                    matches!(root, Root::RichText(_)),
                )
            }
            Change::Append { place, text } => self.note(Later::append(root, txn, &place, text)?),
            Change::Set { place, key, value } => self.note(Later::set(root, txn, &place, key, &value)?),
            Change::Unset { place, key } => self.note(Later::unset(root, txn, &place, key)?),
            Change::InsertBlock { path, node } => blocks::insert(root, txn, &path, &node),
            Change::DeleteBlock { place } => blocks::delete(root, txn, &place),
            Change::MoveBlock { place, to } => blocks::relocate(root, txn, &place, &to),
        }
    }

    fn note(&mut self, later: Later) -> Result<(), PlaceError> {
        self.later.push((self.index, later));
        Ok(())
    }

    /// Makes the changes without a position. Returns those whose block or element no longer exists.
    fn finish(&mut self, root: &Root, txn: &mut TransactionMut<'_>) -> Result<Vec<usize>, EngineError> {
        let mut gone = Vec::new();
        for (index, later) in std::mem::take(&mut self.later) {
            if !later.perform(root, txn).map_err(|error| refused(index, error))? {
                gone.push(index);
            }
        }
        Ok(gone)
    }
}
