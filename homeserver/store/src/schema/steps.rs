//! The migration steps from the format of an older program to the current one, one for each version, each with a commit
//! of its own.
//!
//! A step never changes. Must not use the type of a table whose format has changed after the step: it reads and writes
//! the format of its version.

use ruma::{OwnedRoomId, OwnedUserId, RoomId};

use super::{commit, corrupt};
use crate::batch::Batch;
use crate::engine::Engine;
use crate::errors::{OpenError, ReadError};
use crate::key::Key;
use crate::lane::{Lane, Lanes};
use crate::query::Query;
use crate::table::{Scope, Table};
use crate::tables::accounts::{
    ACCOUNT_DATA, ACCOUNT_DATA_STREAM, ACCOUNT_DATA_USAGE, AccountDataPlace, AccountDataRow, AccountDataUsage, USERS,
};
use crate::tables::documents::DOC_SEQ;
use crate::tables::jobs::{DUE_JOBS, JOBS, JobRow};
use crate::tables::meta::{IndexBuild, LANE, LANES, LaneRow, SCHEMA, UNBUILT_INDEXES};
use crate::tables::rooms::{INCOMPLETE_ROOMS, ROOMS, RoomRow, STAGED_ROOMS, STAGING, StagedMark, TIMELINE};
use crate::value::Value;

/// Runs the steps from the version that was found to the current one, each with its own commit.
pub(super) async fn take(engine: &dyn Engine, found: u64) -> Result<(), OpenError> {
    for version in found..super::SCHEMA_VERSION {
        let mut batch = match version {
            1 => from_1(engine).await?,
            2 => from_2(engine).await?,
            4 => from_4(engine).await?,
            5 => from_5(engine).await?,
            6 => from_6(engine).await?,
            7 => from_7(engine).await?,
            8 => from_8(),
            // 3: snapshots and journals have a second format, and the first is still read. A program that supports
            // only the first must not open the store.
            _ => Batch::new(),
        };
        batch.put(&SCHEMA, &(), &version.saturating_add(1));
        commit(engine, Lanes::ONE, batch).await?;
    }
    Ok(())
}

/// Where rooms with staged rows were recorded before `STAGED_ROOMS` had a value.
static OLD_STAGED_ROOMS: Table<(OwnedRoomId,), ()> = Table::new("STAGED_ROOMS", Scope::Global, 0x010C);

/// The mark of a room's staged rows was empty at first, then a counter of transactions, and is now the range of their
/// numbers. The range is computed from the rows, whichever of the three was found.
async fn from_1(engine: &dyn Engine) -> Result<Batch, OpenError> {
    let mut batch = Batch::new();
    for room in keys(engine, OLD_STAGED_ROOMS.under(&())).await? {
        batch.delete(&OLD_STAGED_ROOMS, &room);
        mark_staged(engine, &mut batch, &room).await?;
    }
    for room in keys(engine, STAGED_ROOMS.under(&())).await? {
        mark_staged(engine, &mut batch, &room).await?;
    }
    Ok(batch)
}

async fn mark_staged(engine: &dyn Engine, batch: &mut Batch, room: &(OwnedRoomId,)) -> Result<(), OpenError> {
    let first = first_key(engine, STAGING.under(room)).await?;
    let last = first_key(engine, STAGING.under(room).reversed()).await?;
    if let (Some((_, from)), Some((_, last))) = (first, last) {
        let next = last.saturating_add(1);
        batch.put(&STAGED_ROOMS, room, &StagedMark { from, next });
    } else {
        batch.delete(&STAGED_ROOMS, room);
    }
    Ok(())
}

/// Account data had no index by position and no usage count.
async fn from_2(engine: &dyn Engine) -> Result<Batch, OpenError> {
    let mut batch = Batch::new();
    for (user,) in keys(engine, USERS.under(&())).await? {
        let mut usage = AccountDataUsage::default();
        let (_, range, _) = ACCOUNT_DATA.under(&(&user,)).into_parts()?;
        for (key, value) in engine.scan(range).await? {
            let read = |error: &dyn std::fmt::Display| corrupt(&ACCOUNT_DATA, error);
            let (_, room, kind) =
                <(OwnedUserId, String, String)>::decode(ACCOUNT_DATA.layout(), &key).map_err(|error| read(&error))?;
            let row = AccountDataRow::decode(value).map_err(|error| read(&error))?;
            let one = AccountDataUsage::of(&room, &kind, &row.content);
            usage.rows = usage.rows.saturating_add(one.rows);
            usage.bytes = usage.bytes.saturating_add(one.bytes);
            batch.put(
                &ACCOUNT_DATA_STREAM,
                &(&user, row.position),
                &AccountDataPlace { room, kind },
            );
        }
        if usage.rows > 0 {
            batch.put(&ACCOUNT_DATA_USAGE, &(&user,), &usage);
        }
    }
    Ok(batch)
}

/// The version of a document was the stream position of its newest event. The number that replaces it begins there, so
/// that no client sees a version fall.
async fn from_4(engine: &dyn Engine) -> Result<Batch, OpenError> {
    let mut batch = Batch::new();
    let (_, range, _) = ROOMS.under(&()).into_parts()?;
    for (key, value) in engine.scan(range).await? {
        let room = <(OwnedRoomId,)>::decode(ROOMS.layout(), &key).map_err(|error| corrupt(&ROOMS, &error))?;
        let row = RoomRow::decode(value).map_err(|error| corrupt(&ROOMS, &error))?;
        if row.kind.as_deref() != Some("dev.weft.document") {
            continue;
        }
        let newest = first_key(engine, TIMELINE.under(&room).reversed()).await?;
        // Backfilled events have negative positions.
        let version = newest.map_or(0, |(_, order)| u64::try_from(order).unwrap_or(0));
        batch.put(&DOC_SEQ, &room, &version);
    }
    Ok(batch)
}

/// The rooms with updates that were received redacted, before they had jobs.
static OLD_PRUNED_ROOMS: Table<(OwnedRoomId,), ()> = Table::new("PRUNED_ROOMS", Scope::Global, 0x011C);

/// Rooms whose events or updates must be fetched had markers, which were read after a start. They have jobs now; that
/// events of a room are missing is still recorded.
async fn from_6(engine: &dyn Engine) -> Result<Batch, OpenError> {
    let mut batch = Batch::new();
    for room in keys(engine, INCOMPLETE_ROOMS.under(&())).await? {
        put_job(&mut batch, "history", &room.0, String::new());
    }
    for room in keys(engine, OLD_PRUNED_ROOMS.under(&())).await? {
        put_job(&mut batch, "redacted_updates", &room.0, String::new());
        batch.delete(&OLD_PRUNED_ROOMS, &room);
    }
    Ok(batch)
}

/// The rooms with extremities that other servers may not have, before they had jobs.
static OLD_UNRECONCILED_ROOMS: Table<(OwnedRoomId,), ()> = Table::new("UNRECONCILED_ROOMS", Scope::Global, 0x011D);
/// When the witness event of a room is due, in milliseconds since 1970, before it was a job.
static OLD_UNWITNESSED: Table<(OwnedRoomId,), u64> = Table::new("UNWITNESSED", Scope::Global, 0x011F);

/// Reconciling extremities and sending witness events are jobs. The job of a witness event has its time as payload.
async fn from_7(engine: &dyn Engine) -> Result<Batch, OpenError> {
    let mut batch = Batch::new();
    for room in keys(engine, OLD_UNRECONCILED_ROOMS.under(&())).await? {
        put_job(&mut batch, "reconcile", &room.0, String::new());
        batch.delete(&OLD_UNRECONCILED_ROOMS, &room);
    }
    let (_, range, _) = OLD_UNWITNESSED.under(&()).into_parts()?;
    for (key, value) in engine.scan(range).await? {
        let read = |error: &dyn std::fmt::Display| corrupt(&OLD_UNWITNESSED, error);
        let room = <(OwnedRoomId,)>::decode(OLD_UNWITNESSED.layout(), &key).map_err(|error| read(&error))?;
        let due = u64::decode(value).map_err(|error| read(&error))?;
        put_job(&mut batch, "witness", &room.0, due.to_string());
        batch.delete(&OLD_UNWITNESSED, &room);
    }
    Ok(batch)
}

/// There were no indexes of members and documents. They follow from the states of the rooms, so `weft-room` builds them
/// before it starts, in many commits.
fn from_8() -> Batch {
    let mut batch = Batch::new();
    batch.put(&UNBUILT_INDEXES, &(), &IndexBuild::default());
    batch
}

/// A job that is due at once.
fn put_job(batch: &mut Batch, kind: &str, room: &RoomId, payload: String) {
    let row = JobRow {
        due: 0,
        generation: 0,
        attempts: 0,
        payload,
    };
    batch.put(&JOBS, &(Lane::FIRST, kind, room.as_str()), &row);
    batch.put(&DUE_JOBS, &(Lane::FIRST, kind, row.due, room.as_str()), &());
}

/// The first key of a range, whatever the format of the values.
async fn first_key<K: Key, V: Value>(engine: &dyn Engine, query: Query<K, V>) -> Result<Option<K>, ReadError> {
    let table = query.table();
    let (_, range, _) = query.limit(1).into_parts()?;
    let rows = engine.scan(range).await?;
    let key = rows.first().map(|(key, _)| K::decode(table.layout(), key));
    key.transpose().map_err(|error| corrupt(table, &error))
}

/// The highest position that may have been assigned, before the row of the lane had it.
static POSITION_CEILING: Table<(), u64> = Table::new("POSITION_CEILING", Scope::Global, 0x0002);
/// The events by position, before positions were those of a lane. The bytes are the same.
static OLD_STREAM: Table<(u64,), ()> = Table::new("STREAM", Scope::Global, 0x0105);

/// There were no lanes. The store gets one, in which every key has the same bytes as before.
async fn from_5(engine: &dyn Engine) -> Result<Batch, OpenError> {
    let ceiling = super::read(engine, &POSITION_CEILING).await?.unwrap_or(0);
    let newest = first_key(engine, OLD_STREAM.under(&()).reversed()).await?;
    // The ceiling is always the higher one; if it were lost, the stream still has its highest position.
    let ceiling = newest.map_or(ceiling, |(position,)| ceiling.max(position));
    let row = LaneRow {
        visible: ceiling,
        ceiling,
        ..LaneRow::new()
    };
    let mut batch = Batch::new();
    batch.put(&LANES, &(), &1);
    batch.put(&LANE, &(Lane::FIRST,), &row);
    batch.delete(&POSITION_CEILING, &());
    Ok(batch)
}

/// The keys of a range, whatever the format of the values.
async fn keys<K: Key, V: Value>(engine: &dyn Engine, query: Query<K, V>) -> Result<Vec<K>, ReadError> {
    let table = query.table();
    let (_, range, _) = query.into_parts()?;
    let rows = engine.scan(range).await?;
    let decoded = rows.iter().map(|(key, _)| K::decode(table.layout(), key));
    decoded.map(|key| key.map_err(|error| corrupt(table, &error))).collect()
}
