//! Rows that form chains (state groups, vector groups), flattened. Must not write.

use std::{collections::HashMap, sync::Arc};

use ruma::{OwnedEventId, RoomId};
use weft_crdt::{ClientId, StateVector};
use weft_dag::{
    StateMap,
    groups::{self, GroupId, GroupRow},
};
use weft_room_api::Unavailable;
use weft_store::tables::{
    documents::{EVENT_VECTOR, VECTORS, VectorRow},
    rooms::{CURRENT_GROUP, EVENT_GROUP, EventGroupRow, STATE_GROUPS, StateGroupRow},
};

use crate::Reader;

/// Rows that are read at once for a chain. A chain has at most 100 rows, mostly with consecutive numbers.
const CHAIN_PAGE: usize = 64;

/// Data in the store that no version of this program writes.
pub fn damaged(room: &RoomId, what: &dyn std::fmt::Display) -> Unavailable {
    Unavailable::Damaged(format!("{room}: {what}"))
}

fn read_group(row: StateGroupRow) -> GroupRow {
    let changes = row.changes.into_iter().map(|(kind, key, event)| ((kind, key), event));
    GroupRow {
        parent: row.parent.map(GroupId),
        hops: row.hops,
        changes: changes.collect(),
    }
}

/// The stored form of a state vector: the difference from a parent, or the whole vector.
pub fn vector_row(parent: Option<(u64, u8)>, clients: Vec<(u64, u32)>) -> VectorRow {
    VectorRow {
        parent: parent.map(|(id, _)| id),
        hops: parent.map_or(0, |(_, hops)| hops.saturating_add(1)),
        clients,
    }
}

impl Reader {
    /// The state groups before and after an event; `None` for events whose state is not known here.
    pub async fn groups_of(&self, room: &RoomId, event: &OwnedEventId) -> Result<Option<EventGroupRow>, Unavailable> {
        Ok(self.store.get(&EVENT_GROUP, &(room, event)).await?)
    }

    /// The state of a group, and the length of its chain.
    ///
    /// # Errors
    /// When the store can't be read or the group is not there.
    pub async fn group(&self, room: &RoomId, group: u64) -> Result<(StateMap, u8), Unavailable> {
        let rows = self.group_chain(room, group, |_| false).await?;
        let hops = rows.first().map_or(0, |row| row.hops);
        Ok((groups::flatten(rows.iter().map(Arc::as_ref)), hops))
    }

    /// One entry of a group's state. Reads the chain only as far as needed.
    pub(super) async fn entry_of_group(
        &self,
        room: &RoomId,
        group: u64,
        kind: &str,
        key: &str,
    ) -> Result<Option<OwnedEventId>, Unavailable> {
        let entry_in = |row: &GroupRow| {
            let mut changes = row.changes.iter();
            let entry = changes.find(|((k, s), _)| k == kind && s == key);
            entry.map(|(_, event)| event.clone())
        };
        let rows = self.group_chain(room, group, |row| entry_in(row).is_some()).await?;
        Ok(rows.last().and_then(|row| entry_in(row)))
    }

    /// The rows of a group and of those it is based on, its own first, up to one that is enough.
    async fn group_chain(
        &self,
        room: &RoomId,
        group: u64,
        is_enough: impl Fn(&GroupRow) -> bool,
    ) -> Result<Vec<Arc<GroupRow>>, Unavailable> {
        let mut read: HashMap<u64, Arc<GroupRow>> = HashMap::new();
        let mut chain = Vec::new();
        // Groups count from 1: 0 is the state before a create event, which is empty.
        let mut next = (group > 0).then_some(group);
        while let Some(id) = next {
            let known = read.get(&id).cloned().or_else(|| self.cache.group(room, id));
            let row = match known {
                Some(row) => row,
                None => {
                    read.extend(self.groups_up_to(room, id).await?);
                    let row = read.get(&id).cloned();
                    row.ok_or_else(|| damaged(room, &format_args!("state group {id} is missing")))?
                }
            };
            // A chain only leads to older groups; anything else would be a cycle.
            next = row.parent.map(|parent| parent.0).filter(|parent| *parent < id);
            let is_last = is_enough(&row);
            chain.push(row);
            if is_last {
                break;
            }
        }
        Ok(chain)
    }

    /// A group and those with the numbers before it, which are mostly its chain: one read in place of one for each row.
    async fn groups_up_to(&self, room: &RoomId, group: u64) -> Result<Vec<(u64, Arc<GroupRow>)>, Unavailable> {
        let query = STATE_GROUPS.under(&(room,)).through(&(room, group)).reversed();
        let rows = self.store.scan(query.limit(CHAIN_PAGE)).await?;
        let rows = rows.into_iter().map(|((_, id), row)| (id, Arc::new(read_group(row))));
        let rows: Vec<_> = rows.collect();
        for (id, row) in &rows {
            self.cache.keep_group(room, *id, row);
        }
        Ok(rows)
    }

    /// The group of the resolved state as it was at a stream position. Equal groups are equal states.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn group_at(&self, room: &RoomId, position: u64) -> Result<Option<u64>, Unavailable> {
        let query = CURRENT_GROUP
            .under(&(room,))
            .through(&(room, position))
            .reversed()
            .limit(1);
        Ok(self.store.scan(query).await?.into_iter().next().map(|(_, group)| group))
    }

    /// The vector group after an event.
    pub async fn vector_group_of(&self, room: &RoomId, event: &OwnedEventId) -> Result<Option<u64>, Unavailable> {
        Ok(self.store.get(&EVENT_VECTOR, &(room, event)).await?)
    }

    /// The state vector of a vector group, and the length of its chain.
    pub async fn vector(&self, room: &RoomId, group: u64) -> Result<(StateVector, u8), Unavailable> {
        let mut vector = StateVector::new();
        let mut hops = None;
        let mut read: HashMap<u64, VectorRow> = HashMap::new();
        let mut next = Some(group);
        while let Some(id) = next {
            if !read.contains_key(&id) {
                // With the groups before it, which are mostly its chain.
                let query = VECTORS.under(&(room,)).through(&(room, id)).reversed();
                let rows = self.store.scan(query.limit(CHAIN_PAGE)).await?;
                read.extend(rows.into_iter().map(|((_, id), row)| (id, row)));
            }
            let row = read.remove(&id);
            let row = row.ok_or_else(|| damaged(room, &format_args!("vector group {id} is missing")))?;
            hops.get_or_insert(row.hops);
            next = row.parent.filter(|parent| *parent < id);
            for (client, end) in row.clients {
                let client = ClientId::new(client)
                    .ok_or_else(|| damaged(room, &format_args!("vector group {id} has an invalid client id")))?;
                vector.raise(client, end);
            }
        }
        Ok((vector, hops.unwrap_or(0)))
    }
}
