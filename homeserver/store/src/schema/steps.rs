//! The steps that bring a store of an older program to the form of this one, one a version, each a commit of its own.
//!
//! A step stays as it is for ever. It must not use the type of a table whose form has changed after it: what it reads
//! and writes is the form of its version.

use ruma::{OwnedRoomId, OwnedUserId};

use super::{commit, corrupt};
use crate::batch::Batch;
use crate::engine::Engine;
use crate::errors::{OpenError, ReadError};
use crate::key::Key;
use crate::query::Query;
use crate::table::{Scope, Table};
use crate::tables::accounts::{
    ACCOUNT_DATA, ACCOUNT_DATA_STREAM, ACCOUNT_DATA_USAGE, AccountDataPlace, AccountDataRow, AccountDataUsage, USERS,
};
use crate::tables::meta::SCHEMA;
use crate::tables::rooms::{STAGED_ROOMS, STAGING, StagedMark};
use crate::value::Value;

/// Does what lies between the version that was found and the one that this program writes.
pub(super) async fn take(engine: &dyn Engine, found: u64) -> Result<(), OpenError> {
    for version in found..super::SCHEMA_VERSION {
        let mut batch = match version {
            1 => from_1(engine).await?,
            2 => from_2(engine).await?,
            // Snapshots and journals have a second form beside the first, which is still read; a program that knows only
            // the first must not open the store.
            _ => Batch::new(),
        };
        batch.put(&SCHEMA, &(), &version.saturating_add(1));
        commit(engine, batch).await?;
    }
    Ok(())
}

/// Where rooms with staged rows were noted before `STAGED_ROOMS` had a value.
static NOTED_BEFORE: Table<(OwnedRoomId,), ()> = Table::new("STAGED_ROOMS", Scope::Global, 0x010C);

/// The mark of a room's staged rows was nothing, then a counter of transactions, and says now between which numbers
/// the rows lie. It is worked out from them, whichever of the three it is.
async fn from_1(engine: &dyn Engine) -> Result<Batch, OpenError> {
    let mut batch = Batch::new();
    for room in keys(engine, NOTED_BEFORE.under(&())).await? {
        batch.delete(&NOTED_BEFORE, &room);
        mark_staged(engine, &mut batch, &room).await?;
    }
    for room in keys(engine, STAGED_ROOMS.under(&())).await? {
        mark_staged(engine, &mut batch, &room).await?;
    }
    Ok(batch)
}

async fn mark_staged(engine: &dyn Engine, batch: &mut Batch, room: &(OwnedRoomId,)) -> Result<(), OpenError> {
    let first = keys(engine, STAGING.under(room).limit(1)).await?;
    let last = keys(engine, STAGING.under(room).reversed().limit(1)).await?;
    if let (Some((_, from)), Some((_, last))) = (first.first(), last.first()) {
        let next = last.saturating_add(1);
        batch.put(&STAGED_ROOMS, room, &StagedMark { from: *from, next });
    } else {
        batch.delete(&STAGED_ROOMS, room);
    }
    Ok(())
}

/// Account data had no index by position, and nobody counted it.
async fn from_2(engine: &dyn Engine) -> Result<Batch, OpenError> {
    let mut batch = Batch::new();
    for (user,) in keys(engine, USERS.under(&())).await? {
        let mut usage = AccountDataUsage::default();
        for (key, value) in engine.scan(ACCOUNT_DATA.under(&(&user,)).into_range()?).await? {
            let read = |error: &dyn std::error::Error| corrupt(&ACCOUNT_DATA, error);
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

/// The keys of a range, whatever form the values have.
async fn keys<K: Key, V: Value>(engine: &dyn Engine, query: Query<K, V>) -> Result<Vec<K>, ReadError> {
    let table = query.table();
    let rows = engine.scan(query.into_range()?).await?;
    let decoded = rows.iter().map(|(key, _)| K::decode(table.layout(), key));
    decoded.map(|key| key.map_err(|error| corrupt(table, &error))).collect()
}
