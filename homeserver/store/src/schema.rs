//! The schema version: the format of all rows. A store of an older program is migrated step by step before anything
//! else reads it. Must not open a store of a newer program.

mod steps;

use crate::batch::Batch;
use crate::engine::{Engine, EngineCommitError, KeyRange};
use crate::errors::{CommitError, OpenError, ReadError};
use crate::key::Key;
use crate::lane::Lanes;
use crate::table::Table;
use crate::tables::meta::{LANE, LANES, LaneRow, SCHEMA};
use crate::value::Value;

/// The version that this program writes, and the highest that it opens. It increases by one, with a migration step,
/// when rows on existing disks would be misread.
pub const SCHEMA_VERSION: u64 = 9;

async fn read<V: Value>(engine: &dyn Engine, table: &Table<(), V>) -> Result<Option<V>, ReadError> {
    let Some(bytes) = engine.get(&table.physical(&())).await? else {
        return Ok(None);
    };
    V::decode(bytes).map(Some).map_err(|error| corrupt(table, &error))
}

fn corrupt<K: Key, V: Value>(table: &Table<K, V>, error: &dyn std::fmt::Display) -> ReadError {
    ReadError::Corrupt {
        table: table.name(),
        reason: error.to_string(),
    }
}

/// Commits a batch to a store with one lane, as all older ones are, or to one whose lanes are not taken yet.
async fn commit(engine: &dyn Engine, lanes: Lanes, batch: Batch) -> Result<(), CommitError> {
    let write = lanes.physical_batch(batch.into_parts()?.write);
    let write = write.ok_or_else(|| CommitError::Invalid {
        reason: "a row is in no lane".to_owned(),
    })?;
    match engine.commit(vec![write]).await.into_iter().next() {
        Some(Ok(())) => Ok(()),
        Some(Err(EngineCommitError::Poisoned { reason })) => Err(CommitError::Poisoned { reason }),
        Some(Err(EngineCommitError::InDoubt { reason })) => Err(CommitError::InDoubt { reason }),
        Some(Err(EngineCommitError::LaneLost | EngineCommitError::Fence { .. } | EngineCommitError::Closed)) | None => {
            Err(CommitError::Closed)
        }
    }
}

/// Checks the version of a store, migrates an older one, and writes version and lanes to an empty one. Returns the lanes.
pub(crate) async fn check(engine: &dyn Engine, wanted: Option<Lanes>) -> Result<Lanes, OpenError> {
    match read(engine, &SCHEMA).await? {
        Some(found) if found > SCHEMA_VERSION => Err(OpenError::Newer {
            found,
            supported: SCHEMA_VERSION,
        }),
        Some(found) => {
            steps::take(engine, found).await?;
            let count = read(engine, &LANES).await?.ok_or(OpenError::Foreign)?;
            let lanes = u16::try_from(count).ok().and_then(Lanes::new);
            let lanes = lanes.ok_or_else(|| corrupt(&LANES, &"the number of lanes is out of range"))?;
            match wanted {
                Some(wanted) if wanted != lanes => Err(OpenError::OtherLanes {
                    found: count,
                    wanted: wanted.count(),
                }),
                _ => Ok(lanes),
            }
        }
        None => {
            if !engine.scan(KeyRange::prefix(Vec::new(), 1)).await?.is_empty() {
                return Err(OpenError::Foreign);
            }
            let lanes = wanted.unwrap_or(Lanes::ONE);
            let mut batch = Batch::new();
            batch.put(&SCHEMA, &(), &SCHEMA_VERSION);
            batch.put(&LANES, &(), &u64::from(lanes.count()));
            // Every lane has a row from the start: a reader never meets a lane without one.
            for lane in lanes.all() {
                batch.put(&LANE, &(lane,), &LaneRow::new());
            }
            commit(engine, lanes, batch).await?;
            Ok(lanes)
        }
    }
}
