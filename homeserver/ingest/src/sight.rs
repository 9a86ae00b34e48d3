//! The committed data of a room, for a fetcher. The room's worker may be ahead of it; fetched events are decided about
//! with the worker's current data.

use std::{collections::BTreeSet, sync::Arc};

use ruma::{EventId, OwnedEventId, OwnedRoomId, OwnedServerName, RoomId};
use weft_dag::RoomVersion;
use weft_room_api::Unavailable;
use weft_room_read::Reader;

use crate::graph::Known;

/// See the module. Extremities and servers are those of the time of loading; events are read each time.
pub struct Sight {
    reader: Reader,
    /// The room.
    pub room: OwnedRoomId,
    /// Its version.
    pub version: RoomVersion,
    /// Its forward extremities.
    pub extremities: Vec<OwnedEventId>,
    /// The servers with a joined user.
    pub servers: BTreeSet<OwnedServerName>,
}

impl Sight {
    /// `None` if the room is not known here.
    pub async fn load(reader: &Reader, room: &RoomId) -> Result<Option<Self>, Unavailable> {
        let Some(version) = reader.version(room).await? else {
            return Ok(None);
        };
        Ok(Some(Self {
            reader: reader.clone(),
            room: room.to_owned(),
            version,
            extremities: reader.extremities(room).await?,
            servers: reader.servers_in(room).await?,
        }))
    }

    /// An event.
    pub async fn event(&self, id: &EventId) -> Result<Option<Known>, Unavailable> {
        let ids = [id.to_owned()];
        let stored = self.reader.stored_events(&self.room, &self.version, &ids).await?;
        let known = stored.into_iter().next();
        Ok(known.map(|stored| Known::new(Arc::clone(&stored.pdu), stored.flags)))
    }

    /// Whether the state after an event is known: the event is persisted.
    pub async fn has_state_after(&self, id: &EventId) -> Result<bool, Unavailable> {
        Ok(self.reader.groups_of(&self.room, &id.to_owned()).await?.is_some())
    }
}
