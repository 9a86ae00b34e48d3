//! The version of an open document, and the rows of the index that say what each version added. An edit in the journal has
//! no row of its own: its row in the journal says it. Must not read.

use ruma::{EventId, RoomId, UserId};
use weft_crdt::Update;
use weft_room_read::versions::steps::{Step, encode};
use weft_store::{
    Batch,
    tables::documents::{DOC_SEQ, VERSION_OF, VERSIONS, VERSIONS_FROM, VersionRow},
};

use super::OpenText;

/// The version of a document.
#[derive(Debug, Default)]
pub(super) struct Version {
    /// `doc_seq`.
    pub(super) seq: u64,
    /// The version from which on the index has all of them; `None` in a store that has no index for this document yet.
    pub(super) known_from: Option<u64>,
}

/// Where an update comes from that is merged as a signed event.
pub enum Origin<'a> {
    /// The journal: its versions exist.
    Sealed(&'a [Step]),
    /// Elsewhere: it makes a version if it brings something new.
    Event,
}

impl OpenText {
    /// Raises the version of the document: an edit was journaled, an event brought something new, or the text was
    /// replaced. Sealing changes no text.
    pub(super) fn next_version(&mut self, batch: &mut Batch, room: &RoomId) -> u64 {
        let version = &mut self.version;
        if version.known_from.is_none() {
            version.known_from = Some(version.seq);
            batch.put(&VERSIONS_FROM, &(room,), &version.seq);
        }
        version.seq = version.seq.saturating_add(1);
        batch.put(&DOC_SEQ, &(room,), &version.seq);
        version.seq
    }

    /// Raises the version because the text was replaced: the versions before it are no longer known. What is pending is
    /// part of the new one.
    pub(super) fn next_version_is_first(&mut self, batch: &mut Batch, room: &RoomId) {
        let first = self.next_version(batch, room);
        batch.delete_range(&VERSIONS, &(room,));
        batch.delete_range(&VERSION_OF, &(room,));
        batch.put(&VERSIONS_FROM, &(room,), &first);
        self.version.known_from = Some(first);
        for edit in &mut self.pending {
            edit.version = first;
        }
    }

    /// The version of an edit in a row of the journal.
    pub(super) fn version_of_row(&self, row: u64) -> u64 {
        row.max(self.version.known_from.unwrap_or(self.version.seq))
    }

    /// Writes what an event added. `new`: what of it was not in the text.
    pub(super) fn put_versions(
        &mut self,
        (batch, now): (&mut Batch, u64),
        room: &RoomId,
        (event, sender): (&EventId, &UserId),
        (origin, new): (&Origin<'_>, &Update),
    ) {
        let mut steps = match origin {
            Origin::Sealed(steps) => steps.to_vec(),
            Origin::Event => Vec::new(),
        };
        for step in steps.iter_mut().filter(|step| step.at == 0) {
            step.at = now;
        }
        // A sealed edit has raised the version when it was journaled.
        if !new.is_empty() {
            let version = self.next_version(batch, room);
            steps.push(Step::of(version, now, new));
        }
        let Some((first, at)) = steps.first().map(|step| (step.version, step.at)) else {
            return;
        };
        let row = VersionRow {
            author: sender.to_owned(),
            at,
            steps: encode(first, at, &steps),
        };
        batch.put(&VERSIONS, &(room, first, event), &row);
        batch.put(&VERSION_OF, &(room, event), &first);
    }
}
