//! Reading: first from memory alone, on the caller's thread; reads that need the disk go to a thread that may block.
//! Must not touch the disk with [`Reach::Memory`].

use bytes::Bytes;
use rocksdb::{DB, ErrorKind, ReadOptions, ReadTier};
use weft_store::{KeyRange, ReadError};

use crate::engine::INLINE_ROWS;

type Rows = Vec<(Bytes, Bytes)>;

/// Whether a read may touch the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reach {
    /// Memory alone, and few rows: returns [`Miss::NotInMemory`] or [`Miss::TooMany`] if that is not enough.
    Memory,
    /// Memory and disk; blocks.
    Disk,
}

/// Why a read has no result.
#[derive(Debug)]
pub(crate) enum Miss {
    /// The row is on disk.
    NotInMemory,
    /// More rows than are read on the caller's thread.
    TooMany,
    /// The read failed.
    Failed(ReadError),
}

impl From<rocksdb::Error> for Miss {
    fn from(error: rocksdb::Error) -> Self {
        if error.kind() == ErrorKind::Incomplete {
            return Self::NotInMemory;
        }
        Self::Failed(ReadError::Engine {
            reason: error.into_string(),
        })
    }
}

impl Miss {
    /// The error of a read that was allowed to use the disk.
    pub(crate) fn into_error(self) -> ReadError {
        match self {
            Self::NotInMemory | Self::TooMany => ReadError::Engine {
                reason: "incomplete read".to_owned(),
            },
            Self::Failed(error) => error,
        }
    }
}

fn options(reach: Reach) -> ReadOptions {
    let mut options = ReadOptions::default();
    options.set_verify_checksums(true);
    if reach == Reach::Memory {
        options.set_read_tier(ReadTier::BlockCache);
    }
    options
}

pub(crate) fn get(db: &DB, key: &[u8], reach: Reach) -> Result<Option<Bytes>, Miss> {
    let value = db.get_pinned_opt(key, &options(reach))?;
    Ok(value.map(|value| Bytes::copy_from_slice(&value)))
}

pub(crate) fn get_many(db: &DB, keys: &[Bytes], reach: Reach) -> Result<Vec<Option<Bytes>>, Miss> {
    if reach == Reach::Memory {
        // One by one: for several keys at once, RocksDB returns an empty value and no error for a key in a block that
        // is not in memory (MultiGet with kBlockCacheTier), whether the key exists or not.
        return keys.iter().map(|key| get(db, key, reach)).collect();
    }
    let values = db.multi_get_opt(keys, &options(reach));
    values.into_iter().map(|value| Ok(value?.map(Bytes::from))).collect()
}

pub(crate) fn scan(db: &DB, range: &KeyRange, reach: Reach) -> Result<Rows, Miss> {
    if range.is_empty() {
        return Ok(Vec::new());
    }
    let mut options = options(reach);
    options.set_iterate_lower_bound(range.start.to_vec());
    if let Some(end) = &range.end {
        options.set_iterate_upper_bound(end.to_vec());
    }
    // An iterator reads from a snapshot of the time at which it was created.
    let mut rows = db.raw_iterator_opt(options);
    if range.reverse {
        rows.seek_to_last()
    } else {
        rows.seek_to_first()
    }
    let most = match reach {
        Reach::Memory => range.limit.min(INLINE_ROWS),
        Reach::Disk => range.limit,
    };
    let mut found = Vec::new();
    while found.len() < most
        && let Some((key, value)) = rows.item()
    {
        found.push((Bytes::copy_from_slice(key), Bytes::copy_from_slice(value)));
        if range.reverse { rows.prev() } else { rows.next() }
    }
    // Only the status distinguishes the end of the range from a failed read.
    rows.status()?;
    if found.len() < range.limit && rows.valid() {
        return Err(Miss::TooMany);
    }
    Ok(found)
}
