//! The schema version: the format of all rows. A store of an older program is migrated step by step before anything
//! else reads it. Must not open a store of a newer program.

mod steps;

use crate::batch::Batch;
use crate::engine::{Engine, EngineCommitError, KeyRange};
use crate::errors::{CommitError, OpenError, ReadError};
use crate::key::Key;
use crate::positions::{ALLOTMENT, Positions};
use crate::table::Table;
use crate::tables::meta::{POSITION_CEILING, SCHEMA};
use crate::tables::rooms::STREAM;
use crate::value::Value;

/// The version that this program writes, and the highest that it opens. It increases by one, with a migration step,
/// when rows on existing disks would be misread.
pub const SCHEMA_VERSION: u64 = 5;

async fn read<V: Value>(engine: &dyn Engine, table: &Table<(), V>) -> Result<Option<V>, ReadError> {
    let Some(bytes) = engine.get(&table.physical(&())).await? else {
        return Ok(None);
    };
    V::decode(bytes).map(Some).map_err(|error| corrupt(table, &error))
}

fn corrupt<K: Key, V: Value>(table: &Table<K, V>, error: &dyn std::error::Error) -> ReadError {
    ReadError::Corrupt {
        table: table.name(),
        reason: error.to_string(),
    }
}

async fn write<V: Value>(engine: &dyn Engine, table: &Table<(), V>, value: &V) -> Result<(), CommitError> {
    let mut batch = Batch::new();
    batch.put(table, &(), value);
    commit(engine, batch).await
}

async fn commit(engine: &dyn Engine, batch: Batch) -> Result<(), CommitError> {
    let results = engine.commit(vec![batch.into_parts()?.write]).await;
    match results.into_iter().next() {
        Some(Ok(())) => Ok(()),
        Some(Err(EngineCommitError::Poisoned { reason })) => Err(CommitError::Poisoned { reason }),
        Some(Err(EngineCommitError::Fence { .. } | EngineCommitError::Closed)) | None => Err(CommitError::Closed),
    }
}

/// Checks the version of a store, migrates an older one, and writes the version to an empty one.
pub(crate) async fn check(engine: &dyn Engine) -> Result<(), OpenError> {
    match read(engine, &SCHEMA).await? {
        Some(found) if found > SCHEMA_VERSION => Err(OpenError::Newer {
            found,
            supported: SCHEMA_VERSION,
        }),
        Some(found) => steps::take(engine, found).await,
        None => {
            if !engine.scan(KeyRange::prefix(Vec::new(), 1)).await?.is_empty() {
                return Err(OpenError::Foreign);
            }
            Ok(write(engine, &SCHEMA, &SCHEMA_VERSION).await?)
        }
    }
}

/// The positions of a store: they continue after every position that an earlier run may have assigned.
pub(crate) async fn restore_positions(engine: &dyn Engine) -> Result<Positions, OpenError> {
    let ceiling = read(engine, &POSITION_CEILING).await?.unwrap_or(0);
    let newest = STREAM.under(&()).reversed().limit(1).into_range()?;
    let last = match engine.scan(newest).await?.first() {
        // The ceiling is always the higher one; if it were lost, the stream still has its highest position.
        Some((key, _)) => <(u64,)>::decode(STREAM.layout(), key)
            .map_err(|error| corrupt(&STREAM, &error))?
            .0
            .max(ceiling),
        None => ceiling,
    };
    let allotted = last.saturating_add(ALLOTMENT);
    write(engine, &POSITION_CEILING, &allotted).await?;
    Ok(Positions::new(last, allotted))
}
