//! Read access to all rooms, from the store alone; reads do not start a room's worker.
//!
//! Reads return committed data; two calls may return data of two different moments. Must not decide who may see what is
//! read, except in `visibility`, and must not write.

mod access;
mod audit;
mod authors;
mod cache;
mod content;
mod documents;
mod events;
mod graph;
mod kind;
mod links;
mod members;
pub mod membership_chain;
mod membership_history;
mod nearest;
mod out_of_band;
mod positions;
mod read_ahead;
mod relations;
mod rows;
mod shown;
mod timeline;
mod unsigned;
pub mod versions;
mod visibility;

use std::sync::Arc;

use futures_util::try_join;
use ruma::{OwnedEventId, RoomId};
use weft_dag::{Pdu, RoomVersion, StateMap, StateView};
use weft_store::{
    Store,
    tables::rooms::{CURRENT_STATE, ROOMS, RoomRow},
};
use weft_wire::event_types;

use self::cache::RowCache;
use weft_room_api::Unavailable;

pub use access::Access;
pub use audit::{AuditItem, AuditLog};
pub use authors::{AuthoredBlocks, Authors, WantedBlocks, author_of};
pub use events::{Place, StoredEvent};
pub use kind::kind_of;
pub use members::RoomMembership;
pub use relations::Relations;
pub use rows::{damaged, vector_row};
pub use shown::{EDIT, EVENT_NAMES, ShownEvent};
pub use timeline::order_of;
pub use timeline::{Direction, Page, Since, TimelineEvent, Types};
pub use unsigned::UnsignedData;
pub use weft_store::tables::documents::LinkRow;
pub use weft_store::tables::rooms::{Relation, RelationRow};

/// What a room's worker begins with.
pub struct CurrentEvents {
    /// The current resolved state.
    pub state: Vec<Arc<Pdu>>,
    /// The forward extremities.
    pub extremities: Vec<Arc<Pdu>>,
}

/// Related events that are read to bundle them with one event.
pub const MAX_BUNDLED_RELATIONS: usize = 500;

/// Read access to all rooms. Cheap to clone; clones share what they keep in memory.
#[derive(Clone, Debug)]
pub struct Reader {
    store: Store,
    cache: Arc<RowCache>,
    /// The store is for one request.
    is_for_request: bool,
}

impl Reader {
    /// A reader of this store.
    #[must_use]
    pub fn new(store: Store) -> Self {
        Self {
            store,
            cache: Arc::default(),
            is_for_request: false,
        }
    }

    /// A reader for one request, which reads each row once and joins concurrent reads ([`Store::for_request`]).
    #[must_use]
    pub fn for_request(&self) -> Self {
        if self.is_for_request {
            return self.clone();
        }
        Self {
            store: self.store.for_request(),
            cache: Arc::clone(&self.cache),
            is_for_request: true,
        }
    }

    /// The store that it reads.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// A room's row; `None` if this server was never in the room.
    pub async fn room(&self, room: &RoomId) -> Result<Option<RoomRow>, Unavailable> {
        // A room's row is written once.
        if let Some(row) = self.cache.room(room) {
            return Ok(Some(row));
        }
        let row = self.store.get(&ROOMS, &(room,)).await?;
        if let Some(row) = &row {
            self.cache.keep_room(room, row);
        }
        Ok(row)
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

    /// Whether a row in memory shows that the room is not a document.
    pub fn is_known_chat(&self, room: &RoomId) -> bool {
        let row = self.cache.room(room);
        row.is_some_and(|row| row.kind.as_deref() != Some(event_types::DOCUMENT_ROOM))
    }

    /// The events of the current resolved state and the forward extremities, the oldest first; `None` if this server was
    /// never in the room. Only the room's worker may use it: long states are not read at one point in time.
    pub async fn current_events(&self, room: &RoomId) -> Result<Option<CurrentEvents>, Unavailable> {
        let state = async { Ok::<_, Unavailable>(self.store.scan_all(CURRENT_STATE.under(&(room,))).await?) };
        let (version, state, extremities) = try_join!(self.version(room), state, self.extremities(room))?;
        let Some(version) = version else {
            return Ok(None);
        };
        let state: Vec<OwnedEventId> = state.into_iter().map(|(_, id)| id).collect();
        let (state, extremities) = try_join!(
            self.events_of(room, &version, &state),
            self.events_of(room, &version, &extremities),
        )?;
        Ok(Some(CurrentEvents { state, extremities }))
    }

    /// The current resolved state, complete.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn state(&self, room: &RoomId) -> Result<Option<StateView>, Unavailable> {
        let mut rows = self.store.stream(CURRENT_STATE.under(&(room,)))?;
        let first = async { Ok::<_, Unavailable>(rows.page().await?) };
        let newest = || self.group_at(room, u64::MAX);
        let (version, page, before) = try_join!(self.version(room), first, newest())?;
        let Some(version) = version else {
            return Ok(None);
        };
        let mut ids: Vec<OwnedEventId> = page.into_iter().flatten().map(|(_, id)| id).collect();
        if rows.is_at_end() {
            let events = self.events_of(room, &version, &ids).await?;
            return Ok(Some(StateView::from_events(version, events)));
        }
        // Several pages are of one point in time if the state did not change in between.
        while let Some(page) = rows.page().await? {
            ids.extend(page.into_iter().map(|(_, id)| id));
        }
        let (mut events, after) = try_join!(self.events_of(room, &version, &ids), newest())?;
        if self.is_for_request || after != before {
            // A state group never changes.
            let (map, _) = self.group(room, after.unwrap_or_default()).await?;
            let ids: Vec<OwnedEventId> = map.0.values().cloned().collect();
            events = self.events_of(room, &version, &ids).await?;
        }
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
    pub async fn view(&self, room: &RoomId, version: &RoomVersion, map: &StateMap) -> Result<StateView, Unavailable> {
        let ids: Vec<OwnedEventId> = map.0.values().cloned().collect();
        let events = self.events_of(room, version, &ids).await?;
        Ok(StateView::from_events(version.clone(), events))
    }
}
