//! The bytes of staged events, by room and by the server that sent them. A server that has staged too much in a room is
//! refused, and must send the transaction again. If all servers together have, the newest events are refused one by
//! one: refusing transactions would let a few malicious servers of one room stop the events of all others, in all
//! rooms.
//!
//! The counts are estimates that only grow: merged rows are subtracted by counting the rows on disk again, when a limit
//! seems to be exceeded. Must not be the record of what is staged.

use std::{collections::HashMap, sync::Arc, time::Duration};

use parking_lot::{Mutex, MutexGuard};
use ruma::{OwnedRoomId, OwnedServerName, RoomId, ServerName};
use tokio::time::Instant;
use weft_budget::StoredBudget;
use weft_room_api::Unavailable;
use weft_store::{
    Store,
    tables::rooms::{STAGED_ROOMS, STAGING},
};
use weft_wire::limits::STAGED_BYTES_PARTS;

/// Rooms that are counted at a time; above it all are counted anew.
const MAX_ROOMS: usize = 4_096;
/// Rows that are read at a time.
const ROWS: usize = 250;
/// Rows are not counted again before this time, unless much was staged since.
const COUNT_AGAIN_AFTER: Duration = Duration::from_secs(10);
/// As much as this part of the limit: reading all rows costs at most this many times what was received.
const MUCH: u64 = 8;

/// See the module.
#[derive(Debug)]
pub(crate) struct StagedBytes {
    budget: Arc<StoredBudget>,
    rooms: Mutex<HashMap<OwnedRoomId, RoomBytes>>,
}

#[derive(Debug, Clone)]
struct RoomBytes {
    counted: Instant,
    /// Staged since then.
    added: u64,
    total: u64,
    servers: HashMap<OwnedServerName, u64>,
}

/// How much more may be staged in a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Left {
    /// By the server.
    pub(crate) server: u64,
    /// By all servers.
    pub(crate) all: u64,
}

impl Left {
    fn is_enough(self, bytes: u64) -> bool {
        self.server.min(self.all) >= bytes
    }
}

impl StagedBytes {
    pub(crate) fn new(limit: u64) -> Self {
        Self {
            budget: StoredBudget::new("staged_event_bytes_per_room", limit),
            rooms: Mutex::default(),
        }
    }

    pub(crate) fn budget(&self) -> &Arc<StoredBudget> {
        &self.budget
    }

    /// The bytes that one server may stage in a room.
    pub(crate) fn limit_of_server(&self) -> u64 {
        self.budget.limit() / STAGED_BYTES_PARTS
    }

    /// What is left for a server that wants to stage this much.
    pub(crate) async fn left(
        &self,
        store: &Store,
        room: &RoomId,
        server: &ServerName,
        bytes: u64,
    ) -> Result<Left, Unavailable> {
        let known = self
            .rooms()
            .get(room)
            .map(|counted| (self.left_in(counted, server), counted.is_old(&self.budget)));
        match known {
            Some((left, is_old)) if left.is_enough(bytes) || !is_old => Ok(left),
            _ => {
                let counted = count(store, room).await?;
                let left = self.left_in(&counted, server);
                let mut rooms = self.rooms();
                if rooms.len() >= MAX_ROOMS {
                    rooms.clear();
                }
                rooms.insert(room.to_owned(), counted);
                Ok(left)
            }
        }
    }

    /// Records what was staged.
    pub(crate) fn note(&self, room: &RoomId, server: &ServerName, bytes: u64) {
        if let Some(counted) = self.rooms().get_mut(room) {
            counted.added = counted.added.saturating_add(bytes);
            counted.add(server.to_owned(), bytes);
            self.budget.note(counted.total);
        }
    }

    fn left_in(&self, counted: &RoomBytes, server: &ServerName) -> Left {
        let used = counted.servers.get(server).copied().unwrap_or_default();
        Left {
            server: self.limit_of_server().saturating_sub(used),
            all: self.budget.limit().saturating_sub(counted.total),
        }
    }

    fn rooms(&self) -> MutexGuard<'_, HashMap<OwnedRoomId, RoomBytes>> {
        self.rooms.lock()
    }
}

impl RoomBytes {
    fn is_old(&self, budget: &StoredBudget) -> bool {
        self.counted.elapsed() >= COUNT_AGAIN_AFTER || self.added >= budget.limit() / MUCH
    }

    fn add(&mut self, server: OwnedServerName, bytes: u64) {
        self.total = self.total.saturating_add(bytes);
        let of_server = self.servers.entry(server).or_default();
        *of_server = of_server.saturating_add(bytes);
    }
}

/// Counts the rows on disk.
async fn count(store: &Store, room: &RoomId) -> Result<RoomBytes, Unavailable> {
    let mut counted = RoomBytes {
        counted: Instant::now(),
        added: 0,
        total: 0,
        servers: HashMap::new(),
    };
    let Some(mark) = store.get(&STAGED_ROOMS, &(room,)).await? else {
        return Ok(counted);
    };
    let mut after = mark.from.saturating_sub(1);
    loop {
        let rows = store
            .scan(STAGING.under(&(room,)).after(&(room, after)).limit(ROWS))
            .await?;
        let is_last = rows.len() < ROWS;
        for ((_, number), row) in rows {
            after = number;
            counted.add(row.origin, u64::try_from(row.json.len()).unwrap_or(u64::MAX));
        }
        if is_last {
            return Ok(counted);
        }
    }
}
