//! The compacted document on disk: the snapshot, the tail of updates after it, and checkpoints, which are snapshots
//! that are kept.
//!
//! A long tail is compacted into a new snapshot by a task, from a copy of the text, and installed if the text was not
//! replaced meanwhile. What was edited or merged meanwhile is in the tail and the journal. Must not compact a long
//! document in the worker's turn.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::try_join;
use ruma::{OwnedEventId, OwnedRoomId, RoomId};
use weft_crdt::{Document, StateVector, Update};
use weft_room_api::Unavailable;
use weft_room_read::{Reader, damaged};
use weft_store::{
    Batch,
    tables::documents::{
        CHECKPOINTS, CheckpointRow, SNAPSHOT, SNAPSHOT_PARTS, SNAPSHOT_TAIL, SnapshotRow, UNFINISHED_SNAPSHOTS,
    },
};

use super::{OpenText, held::HeldText};

/// The tail is merged into the snapshot when it has more rows than configured, or one row for each of these bytes of
/// the snapshot, or half the length of the snapshot: so opening a document is quick and the cost of an edit does not
/// grow. It is roughly what reading one row costs when a document is opened, in bytes of a snapshot.
const BYTES_PER_ROW: usize = 4 * 1024;
/// A tail shorter than this many bytes is not merged because of its length.
const MIN_TAIL_BYTES: usize = 64 * 1024;
/// Bytes of one part of a stored snapshot. No row and no batch may hold a whole document.
const PART_BYTES: usize = 1024 * 1024;
/// Bytes of updates between two checkpoints that are kept, at most, unless a snapshot alone has more after the one
/// before it. As with the number of updates, the text at any event costs the nearest checkpoint and what is between.
const CHECKPOINT_BYTES: u64 = 256 * 1024;
/// Edits and merged updates, and their bytes, that may arrive while a text is compacted. If there are more, only the
/// disk gets the compacted text, and memory keeps the longer one.
const MAX_SINCE: usize = 1_024;
/// See [`MAX_SINCE`].
const MAX_SINCE_BYTES: usize = 1024 * 1024;

/// Identifies a task of which the worker expects a result.
#[derive(Debug, Clone, Default)]
pub struct RunId(Arc<()>);

impl PartialEq for RunId {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

/// The generations of snapshot parts on disk.
#[derive(Debug, Default)]
pub(super) struct Stored {
    /// The number of the next snapshot.
    pub(super) next: u64,
    /// The parts of the current snapshot: generation and number.
    parts: Option<(u64, u32)>,
    /// Generations that remain if a run was obsolete, or if the server stopped, between writing the parts and the batch
    /// that refers to them.
    pub(super) left_over: Vec<u64>,
    /// The generation that the newest run which works the text out writes.
    pub(super) reserved: Option<u64>,
    /// The newest checkpoint, if it is the snapshot.
    newest: Option<Checkpoint>,
    /// The updates up to the newest checkpoint that is kept for good.
    kept: Merged,
    pub(super) folding: Option<Folding>,
}

/// A checkpoint that may be superseded.
#[derive(Debug, Clone, Copy)]
struct Checkpoint {
    seq: u64,
    generation: u64,
    merged: Merged,
}

/// Updates that were merged since the room began, and their bytes.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Merged {
    pub(super) updates: u64,
    pub(super) bytes: u64,
}

#[derive(Debug, Default)]
pub(super) struct Tail {
    next: u64,
    rows: u64,
    bytes: usize,
    pub(super) snapshot_bytes: usize,
    merged: Merged,
}

/// The snapshot of which a task writes the parts.
#[derive(Debug)]
pub(super) struct Folding {
    run: RunId,
    generation: u64,
    /// What was edited and merged since; `None` if that was too much.
    since: Option<Vec<Update>>,
    bytes: usize,
}

/// The place of a text in the graph.
#[derive(Debug, Clone, Default)]
pub struct PointOfText {
    /// The forward extremities.
    pub heads: Vec<OwnedEventId>,
    /// The stream position of the newest accepted event.
    pub position: u64,
}

/// A text to compact: a copy as of the last commit.
pub struct FoldJob {
    /// The run that made it.
    pub run: RunId,
    text: Document,
    generation: u64,
    point: PointOfText,
    seq: u64,
    /// The rows of the tail that are part of it.
    tail_end: u64,
    rows: u64,
    bytes: usize,
    merged: Merged,
}

/// The result.
pub struct Folded {
    job: FoldJob,
    parts: u32,
    snapshot_bytes: usize,
    /// It may be used as a checkpoint: nothing is missing, and no clock is claimed twice.
    is_checkpoint: bool,
}

impl FoldJob {
    /// Compacts, and returns the parts to write ahead. Takes long for a long document.
    pub fn compact(mut self, room: &RoomId) -> (Folded, Vec<Batch>) {
        self.text.compact();
        let encoded = Bytes::from(self.text.encode());
        let parts = parts_of(room, self.generation, &encoded);
        let folded = Folded {
            parts: u32::try_from(parts.len()).unwrap_or(u32::MAX),
            snapshot_bytes: encoded.len(),
            is_checkpoint: false,
            job: self,
        };
        (folded, parts)
    }
}

impl Folded {
    /// Identifies this run.
    #[must_use]
    pub fn run(&self) -> &RunId {
        &self.job.run
    }

    /// Keeps the snapshot as a checkpoint too.
    pub fn keep(&mut self) {
        self.is_checkpoint = true;
    }
}

/// The parts of a whole text, each in a batch of its own.
pub(super) fn parts_of(room: &RoomId, generation: u64, text: &Bytes) -> Vec<Batch> {
    let starts = (0..text.len()).step_by(PART_BYTES);
    let parts = starts.map(|start| text.slice(start..text.len().min(start + PART_BYTES)));
    parts
        .zip(0_u32..)
        .map(|(part, number)| {
            let mut batch = Batch::new();
            batch.put(&UNFINISHED_SNAPSHOTS, &(room, generation), &());
            batch.put(&SNAPSHOT_PARTS, &(room, generation, number), &part);
            batch
        })
        .collect()
}

/// The stored snapshot, with the generation and the number of its parts, if it has parts.
pub(super) async fn read_snapshot(
    reader: &Reader,
    room: &RoomId,
) -> Result<Option<(Option<(u64, u32)>, Bytes)>, Unavailable> {
    let store = reader.store();
    let (generation, count) = match store.get(&SNAPSHOT, &(room,)).await? {
        None => return Ok(None),
        Some(SnapshotRow::Whole(text)) => return Ok(Some((None, text))),
        Some(SnapshotRow::Parts { generation, parts }) => (generation, parts),
    };
    let parts = store.get_many(&SNAPSHOT_PARTS, (0..count).map(|part| (room, generation, part)));
    let mut found: Vec<Bytes> = parts.await?.into_iter().flatten().collect();
    if found.len() < usize::try_from(count).unwrap_or(usize::MAX) {
        let found = found.len();
        return Err(damaged(
            room,
            &format_args!("{found} of {count} parts of the snapshot exist"),
        ));
    }
    let text = match found.len() {
        1 => found.remove(0),
        _ => found.concat().into(),
    };
    Ok(Some((Some((generation, count)), text)))
}

/// The updates after the stored snapshot, in order.
pub(super) async fn read_tail(reader: &Reader, room: &RoomId) -> Result<Vec<Bytes>, Unavailable> {
    let rows = reader.store().scan_all(SNAPSHOT_TAIL.under(&(room,))).await?;
    Ok(rows.into_iter().map(|(_, update)| update).collect())
}

/// What is written as the snapshot.
#[derive(Clone)]
pub(super) struct NewSnapshot {
    pub(super) generation: u64,
    pub(super) parts: u32,
    pub(super) bytes: usize,
    /// The checkpoint before it is kept if this many updates are between the last one that is kept and this one.
    pub(super) checkpoint_after: u64,
    /// The row, if it is a checkpoint, and its number.
    pub(super) checkpoint: Option<(u64, CheckpointRow)>,
}

/// The rows of the snapshot, as they are on disk.
pub(super) struct StoredSnapshot {
    text: Option<(Option<(u64, u32)>, Bytes)>,
    /// Generations that were begun and not named.
    unfinished: Vec<u64>,
    /// The highest generation that has parts.
    highest: Option<u64>,
    /// The newest two checkpoints, the newest first.
    checkpoints: Vec<(u64, CheckpointRow)>,
}

/// A row of the tail.
pub(super) type TailRow = ((OwnedRoomId, u64), Bytes);

impl StoredSnapshot {
    /// Reads the rows, all at the same time.
    pub(super) async fn read(reader: &Reader, room: &RoomId) -> Result<Self, Unavailable> {
        let store = reader.store();
        let rows = async {
            Ok::<_, Unavailable>(try_join!(
                store.scan_all(UNFINISHED_SNAPSHOTS.under(&(room,))),
                store.scan(SNAPSHOT_PARTS.under(&(room,)).reversed().limit(1)),
                store.scan(CHECKPOINTS.under(&(room,)).reversed().limit(2)),
            )?)
        };
        let (text, (unfinished, highest, checkpoints)) = try_join!(read_snapshot(reader, room), rows)?;
        Ok(Self {
            text,
            unfinished: unfinished.into_iter().map(|((_, generation), ())| generation).collect(),
            highest: highest.first().map(|((_, generation, _), _)| *generation),
            checkpoints: checkpoints.into_iter().map(|((_, seq), row)| (seq, row)).collect(),
        })
    }
}

impl OpenText {
    pub(super) fn set_snapshot(&mut self, room: &RoomId, stored: StoredSnapshot) -> Result<(), Unavailable> {
        self.snapshot.left_over = stored.unfinished;
        self.snapshot.next = stored.highest.map_or(0, |generation| generation.saturating_add(1));
        let Some((parts, text)) = stored.text else {
            return Ok(());
        };
        self.snapshot.parts = parts;
        if let Some((generation, _)) = parts {
            self.set_checkpoints(stored.checkpoints, generation);
        }
        self.tail.snapshot_bytes = text.len();
        self.text = HeldText::new(Document::from_update(text).map_err(|error| damaged(room, &error))?);
        Ok(())
    }

    /// The newest two checkpoints: only the newest one can still be superseded.
    fn set_checkpoints(&mut self, newest: Vec<(u64, CheckpointRow)>, current: u64) {
        for (seq, row) in newest {
            let merged = Merged {
                updates: row.updates,
                bytes: row.bytes,
            };
            if row.generation == current {
                self.tail.merged = merged;
                self.snapshot.newest = Some(Checkpoint {
                    seq,
                    generation: current,
                    merged,
                });
            } else {
                self.snapshot.kept = merged;
                self.tail.merged.updates = self.tail.merged.updates.max(merged.updates);
                self.tail.merged.bytes = self.tail.merged.bytes.max(merged.bytes);
                break;
            }
        }
    }

    pub(super) fn set_tail(&mut self, room: &RoomId, tail: Vec<TailRow>) -> Result<(), Unavailable> {
        for ((_, row), update) in tail {
            self.tail.next = row.saturating_add(1);
            self.tail.count(update.len());
            self.apply_stored(room, update)?;
        }
        Ok(())
    }

    pub(super) fn append_tail(&mut self, batch: &mut Batch, room: &RoomId, update: &Bytes) {
        batch.put(&SNAPSHOT_TAIL, &(room, self.tail.next), update);
        self.tail.next += 1;
        self.tail.count(update.len());
    }

    /// The tail after the text was replaced.
    pub(super) fn clear_tail(&mut self) {
        self.tail = Tail {
            next: self.tail.next,
            merged: self.tail.merged,
            ..Tail::default()
        };
        // A snapshot of the text before must not be installed.
        if let Some(folding) = self.snapshot.folding.take() {
            self.snapshot.left_over.push(folding.generation);
        }
    }

    pub(super) fn merged(&self) -> Merged {
        self.tail.merged
    }

    /// Writes the snapshot in this turn, if the text was adopted from another server.
    pub fn write_adopted(&mut self, batch: &mut Batch, room: &RoomId) {
        let Some(text) = self.unwritten.take() else { return };
        let generation = self.snapshot.next;
        self.snapshot.next = generation.saturating_add(1);
        batch.put_ahead(&UNFINISHED_SNAPSHOTS, &(room, generation), &());
        let mut parts = 0_u32;
        for start in (0..text.len()).step_by(PART_BYTES) {
            let part = text.slice(start..text.len().min(start + PART_BYTES));
            batch.put_ahead(&SNAPSHOT_PARTS, &(room, generation, parts), &part);
            parts = parts.saturating_add(1);
        }
        let snapshot = NewSnapshot {
            generation,
            parts,
            bytes: text.len(),
            checkpoint_after: u64::MAX,
            checkpoint: None,
        };
        self.put_snapshot(batch, room, snapshot);
    }

    /// Deletes all checkpoints: the text was replaced by that of this generation, and the texts before it may be
    /// different ones. No snapshot is begun while a text is worked out, so only an adopted one has a higher generation;
    /// it is deleted when the new one is named.
    pub(super) fn clear_checkpoints(&mut self, batch: &mut Batch, room: &RoomId, generation: u64) {
        batch.delete_range(&CHECKPOINTS, &(room,));
        batch.delete_before(&SNAPSHOT_PARTS, &(room,), &(room, generation, 0_u32));
        self.snapshot.newest = None;
        self.snapshot.kept = self.tail.merged;
    }

    /// Names the parts of the snapshot, which are on disk before this batch, and deletes the one before, unless it is a
    /// checkpoint that is to be kept.
    pub(super) fn put_snapshot(&mut self, batch: &mut Batch, room: &RoomId, new: NewSnapshot) {
        let NewSnapshot {
            generation,
            parts,
            bytes,
            checkpoint_after,
            checkpoint,
        } = new;
        let merged = checkpoint.as_ref().map_or(self.tail.merged, |(_, row)| Merged {
            updates: row.updates,
            bytes: row.bytes,
        });
        let is_kept = self.supersede(batch, room, merged, checkpoint_after);
        if let Some((old, count)) = self.snapshot.parts.replace((generation, parts)).filter(|_| !is_kept) {
            for part in 0..count {
                batch.delete(&SNAPSHOT_PARTS, &(room, old, part));
            }
        }
        batch.delete(&UNFINISHED_SNAPSHOTS, &(room, generation));
        for old in self.snapshot.left_over.drain(..) {
            batch.delete_range(&SNAPSHOT_PARTS, &(room, old));
            batch.delete(&UNFINISHED_SNAPSHOTS, &(room, old));
        }
        batch.put(&SNAPSHOT, &(room,), &SnapshotRow::Parts { generation, parts });
        if let Some((seq, row)) = checkpoint {
            batch.put(&CHECKPOINTS, &(room, seq), &row);
            self.snapshot.newest = Some(Checkpoint {
                seq,
                generation,
                merged,
            });
        }
        self.tail.snapshot_bytes = bytes;
    }

    /// Deletes the newest checkpoint if the one before it is near enough to `next`. True if it is kept.
    fn supersede(&mut self, batch: &mut Batch, room: &RoomId, next: Merged, checkpoint_after: u64) -> bool {
        let Some(newest) = self.snapshot.newest.take() else {
            return false;
        };
        let kept = self.snapshot.kept;
        let is_kept = next.updates.saturating_sub(kept.updates) > checkpoint_after
            || next.bytes.saturating_sub(kept.bytes) > CHECKPOINT_BYTES;
        if is_kept {
            self.snapshot.kept = newest.merged;
        } else {
            batch.delete(&CHECKPOINTS, &(room, newest.seq));
        }
        is_kept
            && self
                .snapshot
                .parts
                .is_some_and(|(current, _)| current == newest.generation)
    }

    // --- Compaction in a separate task ----------------------------------------------------------------------------

    /// A copy of the text to compact, if the tail has more than `rows` rows or is long, and nothing is pending. What the
    /// copy contains must be on disk.
    pub fn begin_fold(&mut self, rows: u64, point: impl FnOnce() -> PointOfText) -> Option<FoldJob> {
        if self.snapshot.folding.is_some() || !self.pending.is_empty() || !self.tail.is_long(rows) {
            return None;
        }
        let text = self.text.get().ok()?.clone();
        let (run, generation) = (RunId::default(), self.snapshot.next);
        self.snapshot.next = generation.saturating_add(1);
        self.snapshot.folding = Some(Folding {
            run: run.clone(),
            generation,
            since: Some(Vec::new()),
            bytes: 0,
        });
        Some(FoldJob {
            run,
            text,
            generation,
            point: point(),
            seq: self.version.seq,
            tail_end: self.tail.next,
            rows: self.tail.rows,
            bytes: self.tail.bytes,
            merged: self.tail.merged,
        })
    }

    /// Whether a task of this id writes the parts of a snapshot.
    pub fn is_folding(&self, run: &RunId) -> bool {
        self.snapshot
            .folding
            .as_ref()
            .is_some_and(|folding| folding.run == *run)
    }

    /// Whether a task compacts a copy.
    pub fn is_being_folded(&self) -> bool {
        self.snapshot.folding.is_some()
    }

    /// Records what is edited or merged while a copy is compacted.
    pub(super) fn note_since_fold(&mut self, update: &Update) {
        let Some(folding) = self.snapshot.folding.as_mut() else {
            return;
        };
        folding.bytes = folding.bytes.saturating_add(update.wire_len());
        if let Some(since) = folding.since.as_mut() {
            since.push(update.clone());
            if since.len() > MAX_SINCE || folding.bytes > MAX_SINCE_BYTES {
                folding.since = None;
            }
        }
    }

    /// The task failed: the parts that it has written are deleted with the next snapshot.
    pub fn abandon_fold(&mut self) {
        if let Some(folding) = self.snapshot.folding.take() {
            self.snapshot.left_over.push(folding.generation);
        }
    }

    /// Writes the snapshot, unless the text was replaced since the copy was made. True if it was written.
    pub fn install_fold(&mut self, batch: &mut Batch, room: &RoomId, folded: Folded, checkpoint_after: u64) -> bool {
        if !self.is_folding(folded.run()) {
            return false;
        }
        let Folded {
            job,
            parts,
            snapshot_bytes,
            is_checkpoint,
        } = folded;
        let since = self.snapshot.folding.take().and_then(|folding| folding.since);
        for row in job.tail_end.saturating_sub(job.rows)..job.tail_end {
            batch.delete(&SNAPSHOT_TAIL, &(room, row));
        }
        self.tail.rows = self.tail.rows.saturating_sub(job.rows);
        self.tail.bytes = self.tail.bytes.saturating_sub(job.bytes);
        let snapshot = NewSnapshot {
            generation: job.generation,
            parts,
            bytes: snapshot_bytes,
            checkpoint_after,
            checkpoint: is_checkpoint.then(|| {
                (
                    job.seq,
                    checkpoint_row(job.generation, parts, job.point, job.merged, job.text.state_vector()),
                )
            }),
        };
        self.put_snapshot(batch, room, snapshot);
        // The copy is the smaller text.
        let mut text = job.text;
        let is_up_to_date = since.is_some_and(|since| since.iter().all(|update| text.append(update).is_ok()));
        if let HeldText::Loaded { text: longer, .. } = &mut self.text
            && is_up_to_date
            && text.state_vector() == longer.state_vector()
        {
            *longer = text;
        }
        true
    }
}

/// The row of a checkpoint.
pub(super) fn checkpoint_row(
    generation: u64,
    parts: u32,
    point: PointOfText,
    merged: Merged,
    vector: &StateVector,
) -> CheckpointRow {
    CheckpointRow {
        heads: point.heads,
        position: point.position,
        generation,
        parts,
        updates: merged.updates,
        bytes: merged.bytes,
        state_vector: vector.encode().into(),
    }
}

impl Tail {
    fn count(&mut self, bytes: usize) {
        self.rows += 1;
        self.bytes += bytes;
        self.merged.updates = self.merged.updates.saturating_add(1);
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        self.merged.bytes = self.merged.bytes.saturating_add(bytes);
    }

    fn is_long(&self, rows: u64) -> bool {
        let by_size = u64::try_from(self.snapshot_bytes / BYTES_PER_ROW).unwrap_or(u64::MAX);
        self.rows > rows.max(by_size) || self.bytes > MIN_TAIL_BYTES.max(self.snapshot_bytes / 2)
    }
}
