//! Opening a document of which nothing is in memory: state vector and text come from the store, without the worker.
//!
//! The common case is a client without any text, and a stored snapshot without updates after it: the snapshot is sent
//! as it is stored. Everything else that needs the text is left to the worker, which loads it. What is returned
//! contains everything that was acknowledged before the call. Must not write.

use bytes::Bytes;
use ruma::RoomId;
use weft_room_api::Unavailable;
use weft_room_read::Reader;
use weft_store::{
    Store,
    tables::{
        documents::{CURRENT_VECTOR, DOC_SEQ, JOURNALED_ROOMS, SNAPSHOT, SNAPSHOT_PARTS, SNAPSHOT_TAIL, SnapshotRow},
        rooms::INCOMPLETE_ROOMS,
    },
};

use crate::open_text::text_of;

/// Updates after the snapshot that are merged into it for a reader. The worker loads a text with more of them, so that
/// only the first of several readers waits for it.
const MAX_TAIL: usize = 64;
/// Bytes of a snapshot that is merged with updates for a reader.
const MAX_MERGED_BYTES: usize = 128 * 1024;

/// The rows that lead to the text, as of one moment.
#[derive(PartialEq)]
struct Rows {
    /// The version of the document; `None` before the first edit.
    seq: Option<u64>,
    /// There are edits that are not sealed.
    is_journaled: bool,
    snapshot: Option<SnapshotRow>,
    tail: Vec<Bytes>,
}

impl Rows {
    async fn read(store: &Store, room: &RoomId) -> Result<Self, Unavailable> {
        let (key, tail) = ((room,), SNAPSHOT_TAIL.under(&(room,)).limit(MAX_TAIL + 1));
        let (seq, is_journaled, snapshot, tail) = tokio::try_join!(
            store.get(&DOC_SEQ, &key),
            store.contains(&JOURNALED_ROOMS, &key),
            store.get(&SNAPSHOT, &key),
            store.scan(tail),
        )?;
        Ok(Self {
            seq,
            is_journaled,
            snapshot,
            tail: tail.into_iter().map(|(_, update)| update).collect(),
        })
    }
}

/// The whole text as one update; `None` if the worker must be called for it.
pub async fn stored_text(reader: &Reader, room: &RoomId) -> Result<Option<Bytes>, Unavailable> {
    let store = reader.store();
    let rows = Rows::read(store, room).await?;
    if rows.seq.is_none() || rows.is_journaled || rows.tail.len() > MAX_TAIL {
        return Ok(None);
    }
    let snapshot = match &rows.snapshot {
        None => None,
        Some(SnapshotRow::Whole(text)) => Some(text.clone()),
        Some(SnapshotRow::Parts { generation, parts }) => {
            let keys = (0..*parts).map(|part| (room, *generation, part));
            let parts = store.get_many(&SNAPSHOT_PARTS, keys).await?;
            // Parts are deleted when another snapshot is named.
            let Some(mut parts) = parts.into_iter().collect::<Option<Vec<Bytes>>>() else {
                return Ok(None);
            };
            Some(match parts.len() {
                1 => parts.remove(0),
                _ => parts.concat().into(),
            })
        }
    };
    // Each change of the text raises the version; sealing and compaction only move it from row to row. If all of these
    // rows are unchanged, they were read as of one moment.
    if Rows::read(store, room).await? != rows {
        return Ok(None);
    }
    match snapshot {
        Some(text) if rows.tail.is_empty() => Ok(Some(text)),
        Some(text) if text.len() > MAX_MERGED_BYTES => Ok(None),
        snapshot => {
            // If a row is damaged, the worker reports it.
            let text = text_of(snapshot, rows.tail).ok();
            Ok(text.map(|text| text.encode().into()))
        }
    }
}

/// The state vector of the text, encoded; `None` if the worker must be called for it.
pub async fn stored_vector(reader: &Reader, room: &RoomId) -> Result<Option<Bytes>, Unavailable> {
    let (store, key) = (reader.store(), (room,));
    // Before the vector: an edit that is sealed in between is part of the vector then. While history is missing, the
    // vector of the signed events is not that of the text.
    let (is_journaled, is_incomplete) = tokio::try_join!(
        store.contains(&JOURNALED_ROOMS, &key),
        store.contains(&INCOMPLETE_ROOMS, &key)
    )?;
    let Some(group) = store
        .get(&CURRENT_VECTOR, &key)
        .await?
        .filter(|_| !is_journaled && !is_incomplete)
    else {
        return Ok(None);
    };
    match reader.vector(room, group).await {
        Ok((vector, _)) => Ok(Some(vector.encode().into())),
        // The text was replaced meanwhile, or a row is damaged.
        Err(Unavailable::Damaged(_)) => Ok(None),
        Err(error) => Err(error),
    }
}
