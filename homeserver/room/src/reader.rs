//! Read access to all rooms, from the store alone; reads do not start a room's worker.
//!
//! Reads return committed data; two calls may return data of two different moments. Must not decide who may see what is
//! read, except in `visibility`, and must not write.

mod content;
mod documents;
mod events;
mod graph;
mod members;
mod membership_history;
mod nearest;
mod relations;
mod rows;
mod timeline;
mod unsigned;
mod visibility;

use std::sync::Arc;

use ruma::{OwnedEventId, RoomId};
use weft_dag::{Pdu, RoomVersion, StateMap, StateView};
use weft_store::{
    Store,
    tables::rooms::{CURRENT_STATE, ROOMS, RoomRow},
};
use weft_wire::event_types;

use crate::Unavailable;

pub use events::{Place, StoredEvent};
pub use members::RoomMembership;
pub(crate) use rows::{damaged, vector_row};
pub(crate) use timeline::order_of;
pub use timeline::{Direction, Page, Since, TimelineEvent, Types};
pub use unsigned::UnsignedData;

/// Read access to all rooms. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Reader {
    store: Store,
}

impl Reader {
    /// A reader of this store.
    #[must_use]
    pub fn new(store: Store) -> Self {
        Self { store }
    }

    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    /// A room's row; `None` if this server was never in the room.
    pub(crate) async fn room(&self, room: &RoomId) -> Result<Option<RoomRow>, Unavailable> {
        Ok(self.store.get(&ROOMS, &(room,)).await?)
    }

    /// The version of a room that this server is or was in.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn version(&self, room: &RoomId) -> Result<Option<RoomVersion>, Unavailable> {
        let Some(row) = self.room(room).await? else {
            return Ok(None);
        };
        RoomVersion::new(&row.version)
            .map(Some)
            .map_err(|error| damaged(room, &error))
    }

    /// Whether the room is a document that this server is or was in.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn is_document(&self, room: &RoomId) -> Result<bool, Unavailable> {
        let row = self.room(room).await?;
        Ok(row.and_then(|row| row.kind).as_deref() == Some(event_types::DOCUMENT_ROOM))
    }

    /// The current resolved state, complete.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn state(&self, room: &RoomId) -> Result<Option<StateView>, Unavailable> {
        let Some(version) = self.version(room).await? else {
            return Ok(None);
        };
        let rows = self.store.scan_all(CURRENT_STATE.under(&(room,))).await?;
        let ids: Vec<OwnedEventId> = rows.into_iter().map(|(_, id)| id).collect();
        let events = self.events_of(room, &version, &ids).await?;
        Ok(Some(StateView::from_events(version, events)))
    }

    /// Entries of the current resolved state: those of `keys` that exist.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn state_entries(&self, room: &RoomId, keys: &[(&str, &str)]) -> Result<Option<StateView>, Unavailable> {
        let Some(version) = self.version(room).await? else {
            return Ok(None);
        };
        let wanted = keys.iter().map(|(kind, key)| (room, *kind, *key));
        let ids: Vec<OwnedEventId> = self
            .store
            .get_many(&CURRENT_STATE, wanted)
            .await?
            .into_iter()
            .flatten()
            .collect();
        let events = self.events_of(room, &version, &ids).await?;
        Ok(Some(StateView::from_events(version, events)))
    }

    /// One entry of the current resolved state.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn state_event(&self, room: &RoomId, kind: &str, key: &str) -> Result<Option<Arc<Pdu>>, Unavailable> {
        let state = self.state_entries(room, &[(kind, key)]).await?;
        Ok(state.and_then(|state| state.get(kind, key).cloned()))
    }

    /// Loads a complete state from its event ids.
    pub(crate) async fn view(
        &self,
        room: &RoomId,
        version: &RoomVersion,
        map: &StateMap,
    ) -> Result<StateView, Unavailable> {
        let ids: Vec<OwnedEventId> = map.0.values().cloned().collect();
        let events = self.events_of(room, version, &ids).await?;
        Ok(StateView::from_events(version.clone(), events))
    }
}
