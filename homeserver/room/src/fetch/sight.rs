//! A room as a fetcher sees it: what is committed. The room's worker may be further already; what is handed over is held
//! against the room as it is then.

use std::{collections::BTreeSet, sync::Arc};

use ruma::{EventId, OwnedEventId, OwnedRoomId, OwnedServerName, RoomId};
use weft_dag::RoomVersion;

use crate::{Reader, Unavailable, ingest::graph::Known};

/// See the module. The ends and the servers are those at the time it was loaded; events are looked up each time.
pub(super) struct Sight {
    reader: Reader,
    pub(super) room: OwnedRoomId,
    pub(super) version: RoomVersion,
    pub(super) extremities: Vec<OwnedEventId>,
    pub(super) servers: BTreeSet<OwnedServerName>,
}

impl Sight {
    /// None where the room is not known here.
    pub(super) async fn load(reader: &Reader, room: &RoomId) -> Result<Option<Self>, Unavailable> {
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
    pub(super) async fn event(&self, id: &EventId) -> Result<Option<Known>, Unavailable> {
        let ids = [id.to_owned()];
        let stored = self.reader.stored_events(&self.room, &self.version, &ids).await?;
        let known = stored.into_iter().next();
        Ok(known.map(|stored| Known::new(Arc::clone(&stored.pdu), stored.flags)))
    }

    /// Whether the state after an event is known: it is here in its place.
    pub(super) async fn has_state_after(&self, id: &EventId) -> Result<bool, Unavailable> {
        Ok(self.reader.groups_of(&self.room, &id.to_owned()).await?.is_some())
    }
}
