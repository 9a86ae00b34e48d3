//! An open document: the acknowledged text, what of it is sealed, what is pending.
//!
//! Uses about the document's own size in memory, and little while the text is evicted ([`held`]). Must not decide about rights, and must not run a CRDT engine.

mod admitted;
mod held;
mod replacement;
mod snapshot;
mod versions;

use std::collections::BTreeSet;

use bytes::Bytes;
use futures_util::try_join;
use ruma::{EventId, OwnedUserId, RoomId, UserId};
use tokio::time::Instant;
use weft_convergence::admission::{Owners, Past};
use weft_crdt::{
    Admission, Bounds, ClientId, Document, Refusal, Refused, StateVector, Update, admit_within, take_live,
};
use weft_room_api::{EditRefusal, Fill, RefusedEdit, RoomError, Unavailable};
use weft_room_read::{Reader, damaged, vector_row};
use weft_store::{
    Batch,
    tables::documents::{
        CLIENT_OWNERS, CURRENT_VECTOR, DOC_SEQ, EVENT_VECTOR, JOURNAL, JOURNALED_ROOMS, JournalRow, SNAPSHOT_TAIL,
        VECTORS, VERSIONS_FROM,
    },
};
use weft_wire::limits::{MAX_CLIENTS_PER_DOCUMENT, MAX_DOCUMENT_BYTES, MAX_JOURNAL_ENTRIES, MIN_BLOCK_BYTES};

use crate::{published::TextChange, seal::PendingEdit};

pub(crate) use self::held::text_of;
use self::{
    admitted::parse,
    held::HeldText,
    replacement::put_authors,
    snapshot::{Stored, StoredSnapshot, Tail},
    versions::Version,
};
pub use self::{
    admitted::{AdmittedUpdate, CopiedPast, EditUpdate},
    replacement::{GrowingText, Replacement, ReservedNumbers, VectorsAfter},
    snapshot::{FoldJob, Folded, PointOfText, RunId},
    versions::Origin,
};

/// Chains of vector groups are at most this long, as with state groups.
const MAX_VECTOR_HOPS: u8 = 100;
/// A text up to this many bytes is compacted where it grows, which takes about a millisecond.
const MAX_INLINE_COMPACTION_BYTES: usize = 128 * 1024;
/// Bytes of pending edits above which sealing is forced: once sealed, they must fit one atomic batch with room to
/// spare.
const MAX_PENDING_BYTES: usize = 8 * 1024 * 1024;
/// Limits of a snapshot from another server: those of an event, but as large as a document may be.
const SNAPSHOT_BOUNDS: Bounds = Bounds {
    bytes: MAX_DOCUMENT_BYTES,
    clients: MAX_CLIENTS_PER_DOCUMENT,
    blocks: MAX_DOCUMENT_BYTES / MIN_BLOCK_BYTES,
    deletes: MAX_DOCUMENT_BYTES,
    // Typed text is merged to long blocks, which can be split again.
    piece: MAX_DOCUMENT_BYTES,
    // Types may be nested deeply over many events, each of which contains a part.
    types: u32::MAX,
};

/// A document whose room has a worker. What needs the text fails while it is evicted ([`OpenText::load_text`]).
pub struct OpenText {
    /// Sealed and pending edits together: what users see.
    text: HeldText,
    /// What signed events contain.
    sealed: StateVector,
    owners: Owners,
    pending: Vec<PendingEdit>,
    pending_bytes: usize,
    /// When the first and the last pending edit arrived.
    waiting: Option<(Instant, Instant)>,
    version: Version,
    group: VectorGroup,
    next_group: u64,
    tail: Tail,
    snapshot: Stored,
    /// The text as worked out in this turn, without what was appended to the tail since: to be written as the snapshot
    /// with the turn.
    unwritten: Option<Bytes>,
    /// What this turn did to the text.
    change: TextChange,
}

/// The vector group of everything sealed.
#[derive(Debug, Clone, Copy, Default)]
struct VectorGroup {
    id: Option<u64>,
    hops: u8,
}

/// The result of examining a live edit.
pub struct Examined {
    /// What is new; empty if there is nothing.
    pub update: Update,
    /// Content that no event can carry, treated as deleted.
    pub refused: Vec<Refused>,
    /// Other users whose blocks were cut off.
    pub foreign: Vec<OwnedUserId>,
    /// A part depends on blocks that are not here.
    pub waits: bool,
}

impl Examined {
    /// Whether the edit has no effect: all of it is known, or belongs to other users.
    pub fn is_nothing(&self) -> bool {
        self.update.is_empty() && self.refused.is_empty() && !self.waits
    }
}

impl OpenText {
    /// The document of a new room.
    pub fn empty() -> Self {
        Self {
            text: HeldText::new(Document::new()),
            sealed: StateVector::new(),
            owners: Owners::default(),
            pending: Vec::new(),
            pending_bytes: 0,
            waiting: None,
            version: Version::default(),
            group: VectorGroup::default(),
            next_group: 1,
            tail: Tail::default(),
            snapshot: Stored::default(),
            unwritten: None,
            change: TextChange {
                is_replaced: true,
                ..TextChange::default()
            },
        }
    }

    /// Loads snapshot, tail and journal from the store, all at the same time: only the room's worker writes them.
    pub async fn load(reader: &Reader, room: &RoomId) -> Result<Self, Unavailable> {
        let (store, key) = (reader.store(), (room,));
        let sealed = async {
            match store.get(&CURRENT_VECTOR, &(room,)).await? {
                Some(group) => Ok(Some((group, reader.vector(room, group).await?))),
                None => Ok::<_, Unavailable>(None),
            }
        };
        let stored = async {
            Ok::<_, Unavailable>(try_join!(
                store.scan_all(SNAPSHOT_TAIL.under(&(room,))),
                store.scan_all(JOURNAL.under(&(room,))),
                store.scan(VECTORS.under(&(room,)).reversed().limit(1)),
                store.scan_all(CLIENT_OWNERS.under(&(room,))),
                store.get(&DOC_SEQ, &key),
                store.get(&VERSIONS_FROM, &key),
            )?)
        };
        let (sealed, snapshot, (tail, journal, last_vector, owners, seq, known_from)) =
            try_join!(sealed, StoredSnapshot::read(reader, room), stored)?;
        let mut open = Self::empty();
        open.version = Version {
            // The number of an edit's row is its version, and must not be used twice. In an old store it may be higher.
            seq: journal.last().map_or(0, |((_, row), _)| *row).max(seq.unwrap_or(0)),
            known_from,
        };
        open.set_snapshot(room, snapshot)?;
        open.set_tail(room, tail)?;
        if let Some((group, (vector, hops))) = sealed {
            open.sealed = vector;
            open.group = VectorGroup { id: Some(group), hops };
        }
        open.next_group = last_vector.first().map_or(1, |((_, group), _)| group.saturating_add(1));
        for ((_, client), owner) in owners {
            if let Some(client) = ClientId::new(client) {
                open.owners.claim(client, &owner.user);
            }
        }
        for ((_, seq), row) in journal {
            let update = open.apply_stored(room, row.update)?;
            for client in update.ranges().into_keys() {
                open.owners.claim(client, &row.author);
            }
            open.pending_bytes = open.pending_bytes.saturating_add(update.wire_len());
            open.pending.push(PendingEdit {
                seq,
                version: open.version_of_row(seq),
                at: row.at.unwrap_or(0),
                author: row.author,
                update,
            });
        }
        if !open.pending.is_empty() {
            let now = Instant::now();
            open.waiting = Some((now, now));
        }
        Ok(open)
    }

    fn apply_stored(&mut self, room: &RoomId, update: Bytes) -> Result<Update, Unavailable> {
        let update = Update::parse(update).map_err(|error| damaged(room, &error))?;
        self.text
            .get_mut()?
            .apply(&update)
            .map_err(|error| damaged(room, &error))?;
        Ok(update)
    }

    // --- Live ----------------------------------------------------------------------------------------------------

    /// What of a live edit is new. Changes nothing: the caller checks the author's rights between this and
    /// [`OpenText::take`].
    pub fn examine(&self, author: &UserId, update: EditUpdate) -> Result<Examined, RoomError> {
        let (text, past) = (self.text.get()?, self.past_of_text()?);
        let taken = match update {
            EditUpdate::Received(update) => take_live(&parse(update)?, author.as_str(), &past)?,
            EditUpdate::Admitted(update) => update.taken(author, &past)?,
        };
        let foreign = taken.foreign.into_values();
        let foreign: BTreeSet<OwnedUserId> = foreign.filter_map(|user| user.try_into().ok()).collect();
        Ok(Examined {
            // It has no known blocks.
            update: taken.update.without_deletes(text.delete_set()),
            refused: taken.refused,
            foreign: foreign.into_iter().collect(),
            waits: taken.waits,
        })
    }

    /// What an edit would change, without regard to the rights of its author.
    pub fn changes(&self, update: &EditUpdate) -> Result<RefusedEdit, Unavailable> {
        Ok(update.changes(self.text.get()?))
    }

    /// What the admission of a live edit depends on: everything acknowledged.
    pub fn past_of_text(&self) -> Result<Past<'_>, Unavailable> {
        Ok(Past {
            vector: self.text.get()?.state_vector(),
            owners: &self.owners,
        })
    }

    /// A copy of it.
    pub fn copy_past(&self) -> Result<CopiedPast, Unavailable> {
        let Past { vector, owners } = self.past_of_text()?;
        Ok(CopiedPast {
            vector: vector.clone(),
            owners: owners.clone(),
        })
    }

    /// Whether the document has room for an examined edit.
    pub fn check_room_for(&self, update: &Update) -> Result<(), RoomError> {
        let text = self.text.get()?;
        let size = size_of(
            text.byte_len().saturating_add(update.wire_len()),
            text.block_count().saturating_add(update.block_count()),
        );
        too_large(size, MAX_DOCUMENT_BYTES)?;
        let clients = update.ranges().into_keys();
        let fresh = clients.filter(|client| self.owners.get(*client).is_none()).count();
        if fresh > 0 && self.owners.count().saturating_add(fresh) > MAX_CLIENTS_PER_DOCUMENT {
            return Err(EditRefusal::TooManyClients(self.owners.count()).into());
        }
        Ok(())
    }

    /// Applies an examined edit to the text.
    pub fn take(&mut self, author: &UserId, update: &Update) -> Result<(), RoomError> {
        self.check_room_for(update)?;
        self.apply(update)?;
        for client in update.ranges().into_keys() {
            self.owners.claim(client, author);
        }
        self.note_added(update);
        Ok(())
    }

    /// Applies an update to the text. A separate task compacts a long text: see [`snapshot`].
    fn apply(&mut self, update: &Update) -> Result<(), Unavailable> {
        let text = self.text.get_mut()?;
        let applied = if text.byte_len().saturating_add(update.wire_len()) > MAX_INLINE_COMPACTION_BYTES {
            text.append(update)
        } else {
            text.apply(update)
        };
        applied.map_err(|error| Unavailable::Damaged(error.to_string()))
    }

    /// Records for readers what is new in the text.
    fn note_added(&mut self, update: &Update) {
        self.note_since_fold(update);
        if !self.change.is_replaced && !update.is_empty() {
            self.change.updates.push(update.clone());
        }
    }

    /// Records for readers that the text was replaced.
    fn note_replaced(&mut self) {
        self.change.is_replaced = true;
        self.change.updates.clear();
    }

    /// Records that readers want the text.
    pub fn note_wanted(&mut self) {
        self.change.is_wanted = true;
        self.text.note_used();
    }

    /// A copy of the text.
    pub fn copy(&self) -> Result<Document, Unavailable> {
        self.text.get().cloned()
    }

    /// Writes an applied edit to the journal. `at`: the time in milliseconds since 1970.
    pub fn journal(&mut self, batch: &mut Batch, room: &RoomId, author: &UserId, update: Update, at: u64) -> Bytes {
        let bytes = Bytes::from(update.encode());
        let row = JournalRow {
            author: author.to_owned(),
            at: Some(at),
            update: bytes.clone(),
        };
        let version = self.next_version(batch, room);
        batch.put(&JOURNAL, &(room, version), &row);
        if self.pending.is_empty() {
            batch.put(&JOURNALED_ROOMS, &(room,), &());
        }
        let now = Instant::now();
        self.waiting = Some((self.waiting.map_or(now, |(first, _)| first), now));
        self.pending_bytes = self.pending_bytes.saturating_add(bytes.len());
        self.pending.push(PendingEdit {
            seq: version,
            version,
            at,
            author: author.to_owned(),
            update,
        });
        bytes
    }

    /// The version of the document.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version.seq
    }

    /// How full the document is.
    pub fn fill(&self) -> Result<Fill, Unavailable> {
        Ok(Fill {
            bytes: self.size()?,
            clients: self.owners.count(),
        })
    }

    /// What counts against the limit of a document, bytes.
    fn size(&self) -> Result<usize, Unavailable> {
        let text = self.text.get()?;
        Ok(size_of(text.byte_len(), text.block_count()))
    }

    /// Whether so much is pending that a seal can't wait for a pause.
    pub fn is_full(&self) -> bool {
        self.pending.len() >= MAX_JOURNAL_ENTRIES || self.pending_bytes >= MAX_PENDING_BYTES
    }

    /// The update with what is missing from this vector.
    pub fn diff(&self, vector: &StateVector) -> Result<Bytes, Unavailable> {
        Ok(self.text.get()?.diff(vector).into())
    }

    // --- Sealing -------------------------------------------------------------------------------------------------

    /// Edits that are acknowledged and not sealed, in order.
    #[must_use]
    pub fn pending(&self) -> &[PendingEdit] {
        &self.pending
    }

    /// When the first and the last pending edit arrived.
    pub fn waiting(&self) -> Option<(Instant, Instant)> {
        self.waiting
    }

    /// What is sealed at the forward extremities.
    pub fn past(&self) -> Past<'_> {
        Past {
            vector: &self.sealed,
            owners: &self.owners,
        }
    }

    /// Deletes sealed rows from the journal.
    pub fn unjournal(&mut self, batch: &mut Batch, room: &RoomId, rows: &[u64]) {
        for seq in rows {
            batch.delete(&JOURNAL, &(room, *seq));
        }
        self.pending.retain(|edit| !rows.contains(&edit.seq));
        if self.pending.is_empty() {
            self.waiting = None;
            self.pending_bytes = 0;
            batch.delete(&JOURNALED_ROOMS, &(room,));
        }
    }

    /// Delays the next seal after a failed one, so that it isn't retried at once.
    pub fn put_off(&mut self) {
        let now = Instant::now();
        self.waiting = self.waiting.map(|_| (now, now));
    }

    // --- Merged events -------------------------------------------------------------------------------------------

    /// Merges the admitted update of an event into what is sealed: claims, owners, vector, tail, versions. Also into the
    /// text, unless it is there already. Returns what was new to the text. `now`: the time in milliseconds since 1970.
    pub fn merge(
        &mut self,
        (batch, now): (&mut Batch, u64),
        room: &RoomId,
        (event, sender): (&EventId, &UserId),
        update: &Update,
        origin: &Origin<'_>,
    ) -> Result<Update, Unavailable> {
        let new = self.text.get()?.only_new(update);
        self.apply(update)?;
        self.note_added(&new);
        self.put_versions((&mut *batch, now), room, (event, sender), (origin, &new));
        let ranges = update.ranges();
        put_authors(batch, room, event, sender, &ranges);
        for client in ranges.keys() {
            self.owners.claim(*client, sender);
        }
        self.advance(batch, room, ranges.iter().map(|(client, (_, to))| (*client, *to)));
        self.append_tail(batch, room, &Bytes::from(update.encode()));
        Ok(new)
    }

    /// Advances the vector of what is sealed, and writes its new group.
    pub fn advance(&mut self, batch: &mut Batch, room: &RoomId, clocks: impl IntoIterator<Item = (ClientId, u32)>) {
        let mut changed = Vec::new();
        for (client, end) in clocks {
            if end > self.sealed.get(client) {
                self.sealed.set(client, end);
                changed.push((client.get(), end));
            }
        }
        if changed.is_empty() && self.group.id.is_some() {
            return;
        }
        let parent = self
            .group
            .id
            .filter(|_| self.group.hops < MAX_VECTOR_HOPS)
            .map(|id| (id, self.group.hops));
        if parent.is_none() {
            changed = self.sealed.iter().map(|(client, end)| (client.get(), end)).collect();
        }
        let id = self.write_group(batch, room, parent, changed);
        self.group = VectorGroup {
            id: Some(id),
            hops: parent.map_or(0, |(_, hops)| hops.saturating_add(1)),
        };
        batch.put(&CURRENT_VECTOR, &(room,), &id);
    }

    /// Writes a vector group: the clients that differ from a parent, or all.
    pub fn write_group(
        &mut self,
        batch: &mut Batch,
        room: &RoomId,
        parent: Option<(u64, u8)>,
        clients: Vec<(u64, u32)>,
    ) -> u64 {
        let id = self.next_group;
        self.next_group += 1;
        batch.put(&VECTORS, &(room, id), &vector_row(parent, clients));
        id
    }

    /// Records that the vector after an event is the current one of everything sealed. Returns its group.
    pub fn place(&mut self, batch: &mut Batch, room: &RoomId, event: &EventId) -> Option<u64> {
        if self.group.id.is_none() {
            self.advance(batch, room, []);
        }
        if let Some(group) = self.group.id {
            batch.put(&EVENT_VECTOR, &(room, event), &group);
        }
        self.group.id
    }

    /// Adopts a document from another server's snapshot, before any event of it is here.
    pub fn adopt_snapshot(&mut self, batch: &mut Batch, room: &RoomId, bytes: Bytes) -> Result<(), RoomError> {
        too_large(bytes.len(), MAX_DOCUMENT_BYTES)?;
        let update = Update::parse_at_most(bytes, SNAPSHOT_BOUNDS.blocks).map_err(Refusal::from)?;
        // No owner of a client id is known yet, so only the admission rules about the bytes apply.
        let nothing = Past {
            vector: &StateVector::new(),
            owners: &Owners::default(),
        };
        match admit_within(&update, "", &nothing, &SNAPSHOT_BOUNDS)? {
            Admission::Admitted { .. } => {}
            Admission::Known => return Ok(()),
            Admission::Gap { client, .. } => {
                return Err(Unavailable::Damaged(format!("the snapshot has a gap in client {client}")).into());
            }
        }
        self.note_replaced();
        self.next_version_is_first(batch, room);
        // If this server was in the room before, its text is kept: other servers may not have all of it.
        let text = self.text.get_mut()?;
        if let Err(error) = text.apply(&update) {
            tracing::info!(%room, %error, "the snapshot of the other server can't be merged with the text");
            *text = Document::from_parsed(&update).map_err(|error| Unavailable::Damaged(error.to_string()))?;
        }
        let encoded = Bytes::from(text.encode());
        let clocks: Vec<(ClientId, u32)> = text.state_vector().iter().collect();
        self.advance(batch, room, clocks);
        batch.delete_range(&SNAPSHOT_TAIL, &(room,));
        self.clear_tail();
        self.unwritten = Some(encoded);
        Ok(())
    }
}

/// What this many bytes with this many blocks count.
fn size_of(bytes: usize, blocks: usize) -> usize {
    bytes.max(blocks.saturating_mul(MIN_BLOCK_BYTES))
}

fn too_large(bytes: usize, limit: usize) -> Result<(), RoomError> {
    if bytes > limit {
        Err(EditRefusal::TooLarge { bytes, limit }.into())
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A parsed block takes 72 bytes; the limits must not let a document need more than 700 MB.
    #[test]
    fn many_short_blocks_are_as_large_as_a_long_text() {
        assert_eq!(size_of(1_000, 2), 1_000);
        assert_eq!(size_of(1_000, 100), 1_200);
        let blocks = MAX_DOCUMENT_BYTES / MIN_BLOCK_BYTES;
        assert!(too_large(size_of(5 * blocks, blocks), MAX_DOCUMENT_BYTES).is_ok());
        assert!(too_large(size_of(5 * blocks, blocks + 1), MAX_DOCUMENT_BYTES).is_err());
        assert!(blocks * 72 <= 700_000_000);
    }
}
