//! Rows that form chains (state groups, vector groups), flattened. Must not write.

use ruma::{OwnedEventId, RoomId};
use weft_crdt::{ClientId, StateVector};
use weft_dag::{
    StateMap,
    groups::{self, GroupId, GroupRow},
};
use weft_store::tables::{
    documents::{EVENT_VECTOR, VECTORS, VectorRow},
    rooms::{CURRENT_GROUP, EVENT_GROUP, EventGroupRow, STATE_GROUPS, StateGroupRow},
};

use super::Reader;
use crate::Unavailable;

/// Data in the store that no version of this program writes.
pub(crate) fn damaged(room: &RoomId, what: &dyn std::fmt::Display) -> Unavailable {
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
pub(crate) fn vector_row(parent: Option<(u64, u8)>, clients: Vec<(u64, u32)>) -> VectorRow {
    VectorRow {
        parent: parent.map(|(id, _)| id),
        hops: parent.map_or(0, |(_, hops)| hops.saturating_add(1)),
        clients,
    }
}

impl Reader {
    /// The state groups before and after an event; `None` for events whose state is not known here.
    pub(crate) async fn groups_of(
        &self,
        room: &RoomId,
        event: &OwnedEventId,
    ) -> Result<Option<EventGroupRow>, Unavailable> {
        Ok(self.store.get(&EVENT_GROUP, &(room, event)).await?)
    }

    /// The state of a group, and the length of its chain.
    ///
    /// # Errors
    /// When the store can't be read or the group is not there.
    pub async fn group(&self, room: &RoomId, group: u64) -> Result<(StateMap, u8), Unavailable> {
        let mut rows = Vec::new();
        // Groups count from 1: 0 is the state before a create event, which is empty.
        let mut next = (group > 0).then_some(group);
        while let Some(id) = next {
            let row = self.store.get(&STATE_GROUPS, &(room, id)).await?;
            let row = row.ok_or_else(|| damaged(room, &format_args!("state group {id} is missing")))?;
            // A chain only leads to older groups; anything else would be a cycle.
            next = row.parent.filter(|parent| *parent < id);
            rows.push(read_group(row));
        }
        let hops = rows.first().map_or(0, |row| row.hops);
        Ok((groups::flatten(&rows), hops))
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
    pub(crate) async fn vector_group_of(
        &self,
        room: &RoomId,
        event: &OwnedEventId,
    ) -> Result<Option<u64>, Unavailable> {
        Ok(self.store.get(&EVENT_VECTOR, &(room, event)).await?)
    }

    /// The state vector of a vector group, and the length of its chain.
    pub(crate) async fn vector(&self, room: &RoomId, group: u64) -> Result<(StateVector, u8), Unavailable> {
        let mut vector = StateVector::new();
        let mut hops = None;
        let mut next = Some(group);
        while let Some(id) = next {
            let row = self.store.get(&VECTORS, &(room, id)).await?;
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
