//! Builds the indexes of a store that was written without them, from the current states of its rooms: a step of the store
//! leaves a row that requests it. Each room is one commit. After an interruption it continues after the last page of rooms.
//!
//! Must end before a worker of a room starts: a worker takes it that the rows of its room are on disk, and writes only
//! differences.

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use ruma::{OwnedRoomId, RoomId, ServerName};
use weft_room_api::Unavailable;
use weft_room_read::Reader;
use weft_store::{
    Batch, Store,
    tables::{
        documents::{DOCUMENT_CHANGES, DOCUMENTS, DOCUMENTS_OF, DocumentChange},
        meta::{IndexBuild, UNBUILT_INDEXES},
        rooms::{EXTREMITIES, LOCAL_MEMBERS, ROOM_SERVERS, ROOMS},
    },
};
use weft_wire::event_types;

use super::Indexes;

/// Rooms that are built at a time: enough to share the flushes of the disk, few enough to limit memory, since each holds
/// the state of a room.
const AT_ONCE: usize = 8;

/// Builds the indexes of members and documents, if the store has none yet. Must be called before [`crate::Rooms::start`].
///
/// # Errors
/// When the store fails.
pub async fn build_indexes(store: &Store, ours: &ServerName) -> Result<(), Unavailable> {
    let Some(build) = store.get(&UNBUILT_INDEXES, &()).await? else {
        return Ok(());
    };
    tracing::info!("building the indexes of members and documents");
    let reader = Reader::new(store.clone());
    // Rooms are read lane by lane, and in the order of their ids in each lane.
    let place = |room: &RoomId| (store.lane_of(room), room.to_owned());
    let built = build.through.map(|room| place(&room));
    let mut rooms = store.stream(ROOMS.under(&()))?;
    let mut count = 0_usize;
    while let Some(page) = rooms.page().await? {
        let last = page.last().map(|((room,), _)| room.clone());
        let is_left = |room: &RoomId| built.as_ref().is_none_or(|built| place(room) > *built);
        let left = page.into_iter().filter(|((room,), _)| is_left(room));
        let builds = left.map(|((room,), row)| {
            let is_document = row.kind.as_deref() == Some(event_types::DOCUMENT_ROOM);
            build_room(&reader, ours, room, is_document)
        });
        let builds: Vec<_> = builds.collect();
        count += builds.len();
        stream::iter(builds)
            .buffer_unordered(AT_ONCE)
            .try_collect::<()>()
            .await?;
        let mut batch = Batch::new();
        batch.put(&UNBUILT_INDEXES, &(), &IndexBuild { through: last });
        store.commit(batch).await?;
    }
    let mut batch = Batch::new();
    batch.delete(&UNBUILT_INDEXES, &());
    store.commit(batch).await?;
    tracing::info!(rooms = count, "the indexes of members and documents are built");
    Ok(())
}

async fn build_room(
    reader: &Reader,
    ours: &ServerName,
    room: OwnedRoomId,
    is_document: bool,
) -> Result<(), Unavailable> {
    let extremities = reader.store().get(&EXTREMITIES, &(&room,)).await?;
    let Some(state) = reader.state(&room).await? else {
        return Ok(());
    };
    let mut batch = Batch::new();
    // Each event that changes the state changes the extremities.
    batch.require(&EXTREMITIES, &(&room,), extremities.as_ref());
    // Those of an interrupted build are replaced. DOCUMENTS_OF begins with the user: a build wrote its rows in the batch with the
    // members.
    let members = reader.store().scan_all(LOCAL_MEMBERS.under(&(&room,))).await?;
    for ((_, user), ()) in members {
        batch.delete(&DOCUMENTS_OF, &(&user, &room));
    }
    batch.delete_range(&ROOM_SERVERS, &(&room,));
    batch.delete_range(&LOCAL_MEMBERS, &(&room,));
    batch.delete(&DOCUMENTS, &(&room,));
    Indexes::of(&state, is_document, ours).put_changes(&mut batch, &room, &Indexes::default());
    if is_document {
        put_change(reader, &mut batch, &room).await?;
    }
    Ok(reader.store().commit(batch).await?)
}

async fn put_change(reader: &Reader, batch: &mut Batch, room: &RoomId) -> Result<(), Unavailable> {
    if let Some(newest) = reader.newest_change(room).await? {
        let change = DocumentChange {
            at: newest.pdu.origin_server_ts().get().into(),
        };
        batch.put(&DOCUMENT_CHANGES, &(room,), &change);
    }
    Ok(())
}
