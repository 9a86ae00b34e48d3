//! Single events, lists of events, and the states before and after them. Must not decide who may see an event.

use std::{collections::HashMap, num::NonZeroU64, sync::Arc};

use ruma::{EventId, OwnedEventId, OwnedRoomId, RoomId};
use weft_dag::{Pdu, RoomVersion, StateView, event_flags};
use weft_room_api::{StateIds, Unavailable};
use weft_store::tables::rooms::{EVENT_ROOM, EVENTS, EventRow};

use crate::{Reader, damaged};

/// The stream ordering of an event on this server. Not comparable on purpose: an event without a stream ordering is
/// neither early nor late, and only the graph or [`Reader::order`] gives its position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Received live or sent here, with this stream ordering.
    Stream(NonZeroU64),
    /// Backfilled, or an outlier.
    Unordered,
}

impl Place {
    /// From the stored form, in which 0 means no stream ordering.
    fn of_row(position: u64) -> Self {
        NonZeroU64::new(position).map_or(Self::Unordered, Self::Stream)
    }

    /// The stored form.
    pub const fn to_row(self) -> u64 {
        match self {
            Self::Stream(position) => position.get(),
            Self::Unordered => 0,
        }
    }
}

/// An event with the decision about it.
#[derive(Debug, Clone)]
pub struct StoredEvent {
    /// The event; it includes whether it was rejected.
    pub pdu: Arc<Pdu>,
    /// Bits of [`event_flags`].
    pub flags: u8,
    /// Its stream ordering.
    pub place: Place,
}

impl StoredEvent {
    /// Whether users may see it at all: not rejected, not soft-failed, and not an outlier.
    #[must_use]
    pub fn is_visible(&self) -> bool {
        self.flags & (event_flags::REJECTED | event_flags::SOFT_FAILED | event_flags::OUTLIER) == 0
    }
}

pub(super) fn read(version: &RoomVersion, id: OwnedEventId, row: &EventRow) -> Result<StoredEvent, String> {
    let json = row.text().map_err(|error| error.to_string())?;
    let pdu =
        Pdu::from_trusted_json(json, id, version, row.has(event_flags::REJECTED)).map_err(|error| error.to_string())?;
    Ok(StoredEvent {
        pdu: Arc::new(pdu),
        flags: row.flags,
        place: Place::of_row(row.position),
    })
}

impl Reader {
    /// The room of an event.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn room_of(&self, id: &EventId) -> Result<Option<OwnedRoomId>, Unavailable> {
        Ok(self.store.get(&EVENT_ROOM, &(id,)).await?)
    }

    /// An event of a room with the decision about it.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn stored_event(&self, room: &RoomId, id: &EventId) -> Result<Option<StoredEvent>, Unavailable> {
        let Some(version) = self.version(room).await? else {
            return Ok(None);
        };
        let Some(row) = self.store.get(&EVENTS, &(room, id)).await? else {
            return Ok(None);
        };
        read(&version, id.to_owned(), &row)
            .map(Some)
            .map_err(|problem| damaged(room, &problem))
    }

    /// An event, of any room if `room` is `None`.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn event(&self, room: Option<&RoomId>, id: &EventId) -> Result<Option<Arc<Pdu>>, Unavailable> {
        let room = match room {
            Some(room) => room.to_owned(),
            None => match self.room_of(id).await? {
                Some(room) => room,
                None => return Ok(None),
            },
        };
        Ok(self.stored_event(&room, id).await?.map(|stored| stored.pdu))
    }

    /// Events by id, in the requested order; unknown events are left out.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn events(&self, room: &RoomId, ids: &[OwnedEventId]) -> Result<Vec<StoredEvent>, Unavailable> {
        let Some(version) = self.version(room).await? else {
            return Ok(Vec::new());
        };
        self.stored_events(room, &version, ids).await
    }

    /// Stored events with their flags, in the order of the ids; those that are not stored are left out.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn stored_events(
        &self,
        room: &RoomId,
        version: &RoomVersion,
        ids: &[OwnedEventId],
    ) -> Result<Vec<StoredEvent>, Unavailable> {
        let rows = self.store.get_many(&EVENTS, ids.iter().map(|id| (room, id))).await?;
        let mut events = Vec::with_capacity(rows.len());
        for (id, row) in ids.iter().zip(rows) {
            if let Some(row) = row {
                events.push(read(version, id.clone(), &row).map_err(|problem| damaged(room, &problem))?);
            }
        }
        Ok(events)
    }

    /// Stored events, in the order of the ids; those that are not stored are left out.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn events_of(
        &self,
        room: &RoomId,
        version: &RoomVersion,
        ids: &[OwnedEventId],
    ) -> Result<Vec<Arc<Pdu>>, Unavailable> {
        let events = self.stored_events(room, version, ids).await?;
        Ok(events.into_iter().map(|event| event.pdu).collect())
    }

    /// The state before an event; `None` if the room, the event or its state is not known on this server.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn state_at(&self, room: &RoomId, event: &EventId) -> Result<Option<StateView>, Unavailable> {
        let groups = self.groups_of(room, &event.to_owned()).await?;
        self.state_of_group(room, groups.map(|groups| groups.before)).await
    }

    /// The state after an event.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn state_after(&self, room: &RoomId, event: &EventId) -> Result<Option<StateView>, Unavailable> {
        let groups = self.groups_of(room, &event.to_owned()).await?;
        self.state_of_group(room, groups.map(|groups| groups.after)).await
    }

    /// The resolved state as it was at a stream position: what a client that synced then received.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn state_at_position(&self, room: &RoomId, position: u64) -> Result<Option<StateView>, Unavailable> {
        let group = self.group_at(room, position).await?;
        self.state_of_group(room, group).await
    }

    /// Entries of that state: those of `keys` that exist.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn state_entries_at(
        &self,
        room: &RoomId,
        position: u64,
        keys: &[(&str, &str)],
    ) -> Result<Option<StateView>, Unavailable> {
        let (Some(version), Some(group)) = (self.version(room).await?, self.group_at(room, position).await?) else {
            return Ok(None);
        };
        let mut ids = Vec::new();
        for (kind, key) in keys {
            ids.extend(self.entry_of_group(room, group, kind, key).await?);
        }
        let events = self.events_of(room, &version, &ids).await?;
        Ok(Some(StateView::from_events(version, events)))
    }

    async fn state_of_group(&self, room: &RoomId, group: Option<u64>) -> Result<Option<StateView>, Unavailable> {
        let (Some(version), Some(group)) = (self.version(room).await?, group) else {
            return Ok(None);
        };
        let (map, _) = self.group(room, group).await?;
        Ok(Some(self.view(room, &version, &map).await?))
    }

    /// Ids of the state before an event and of its auth chain.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn state_ids(&self, room: &RoomId, at: &EventId) -> Result<Option<StateIds>, Unavailable> {
        let Some(groups) = self.groups_of(room, &at.to_owned()).await? else {
            return Ok(None);
        };
        let (map, _) = self.group(room, groups.before).await?;
        let state: Vec<OwnedEventId> = map.0.values().cloned().collect();
        let chain = self.auth_chain(room, &state).await?;
        let auth_chain = chain.iter().map(|pdu| pdu.event_id().to_owned()).collect();
        Ok(Some(StateIds { state, auth_chain }))
    }

    /// The auth chain of the given events, without the events themselves unless another one of them cites them. Auth
    /// chains are finite: each round loads all events that are one step further.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn auth_chain(&self, room: &RoomId, of: &[OwnedEventId]) -> Result<Vec<Arc<Pdu>>, Unavailable> {
        let Some(version) = self.version(room).await? else {
            return Ok(Vec::new());
        };
        let create = version
            .room_id_is_create_hash()
            .then(|| EventId::parse(format!("${}", room.strip_sigil())).ok())
            .flatten();
        let mut chain: HashMap<OwnedEventId, Arc<Pdu>> = HashMap::new();
        let mut round = self.events_of(room, &version, of).await?;
        while !round.is_empty() {
            // In room version 12 every event depends on the create event without citing it.
            let named = create
                .iter()
                .filter(|_| round.iter().any(|pdu| pdu.kind() != "m.room.create"));
            let mut next: Vec<OwnedEventId> = round
                .iter()
                .flat_map(|pdu| pdu.auth_events())
                .chain(named)
                .filter(|id| !chain.contains_key(*id))
                .cloned()
                .collect();
            next.sort_unstable();
            next.dedup();
            round = self.events_of(room, &version, &next).await?;
            chain.extend(round.iter().map(|pdu| (pdu.event_id().to_owned(), Arc::clone(pdu))));
        }
        let mut events: Vec<Arc<Pdu>> = chain.into_values().collect();
        events.sort_by(|a, b| (a.depth(), a.event_id()).cmp(&(b.depth(), b.event_id())));
        Ok(events)
    }
}
