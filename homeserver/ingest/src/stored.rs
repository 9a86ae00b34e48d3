//! All persisted events of a room, as in the store. Loading the rows and parsing the events are two steps: the second
//! takes a while for a long room, and needs no store. Must not decide about events.

use std::{collections::HashMap, sync::Arc};

use ruma::{OwnedEventId, OwnedRoomId, RoomId};
use weft_convergence::{rebuild::PersistedEvent, skeleton::Skeleton};
use weft_dag::{Pdu, RoomVersion, event_flags};
use weft_room_api::Unavailable;
use weft_room_read::{Reader, damaged};
use weft_store::tables::rooms::{EVENTS, EventRow};

/// Rows of events.
pub struct StoredRows {
    room: OwnedRoomId,
    rows: Vec<(OwnedEventId, EventRow)>,
}

impl StoredRows {
    /// Reads the rows of all events of a room that have a position in the graph.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn load(reader: &Reader, room: &RoomId) -> Result<Self, Unavailable> {
        let mut stored = reader.store().stream(EVENTS.under(&(room,)))?;
        let mut rows = Vec::new();
        while let Some(page) = stored.page().await? {
            let page = page.into_iter().map(|((_, id), row)| (id, row));
            rows.extend(page.filter(|(_, row)| !row.has(event_flags::OUTLIER)));
        }
        Ok(Self {
            room: room.to_owned(),
            rows,
        })
    }

    /// The events of these rows.
    pub fn read(self, version: &RoomVersion) -> Result<HashMap<OwnedEventId, PersistedEvent>, Unavailable> {
        let room = &self.room;
        let read = |(id, row): (OwnedEventId, EventRow)| Ok((id.clone(), read_event(room, id, &row, version)?));
        self.rows.into_iter().map(read).collect()
    }
}

/// The graph of a room's events, without their content.
///
/// # Errors
/// When the store can't be read.
pub async fn skeleton(reader: &Reader, room: &RoomId, version: &RoomVersion) -> Result<Skeleton, Unavailable> {
    let mut stored = reader.store().stream(EVENTS.under(&(room,)))?;
    let mut skeleton = Skeleton::default();
    while let Some(page) = stored.page().await? {
        for ((_, id), row) in page {
            if !row.has(event_flags::OUTLIER) {
                let flags = row.flags;
                let event = read_event(room, id.clone(), &row, version)?;
                skeleton.add(id, flags, event.pdu.prev_events());
            }
        }
    }
    Ok(skeleton)
}

/// These events of a room, in this order.
///
/// # Errors
/// When the store can't be read, or one of them is not in it.
pub async fn read_events(
    reader: &Reader,
    room: &RoomId,
    version: &RoomVersion,
    ids: &[OwnedEventId],
) -> Result<Vec<PersistedEvent>, Unavailable> {
    let rows = reader
        .store()
        .get_many(&EVENTS, ids.iter().map(|id| (room, id)))
        .await?;
    let mut events = Vec::with_capacity(ids.len());
    for (id, row) in ids.iter().zip(rows) {
        let row = row.ok_or_else(|| damaged(room, &format_args!("event {id} is missing")))?;
        events.push(read_event(room, id.clone(), &row, version)?);
    }
    Ok(events)
}

fn read_event(
    room: &RoomId,
    id: OwnedEventId,
    row: &EventRow,
    version: &RoomVersion,
) -> Result<PersistedEvent, Unavailable> {
    let flags = row.flags;
    let text = row.text().map_err(|error| damaged(room, &error))?;
    let pdu = Pdu::from_trusted_json(text, id, version, flags & event_flags::REJECTED != 0);
    let pdu = Arc::new(pdu.map_err(|error| damaged(room, &error))?);
    Ok(PersistedEvent { pdu, flags })
}
