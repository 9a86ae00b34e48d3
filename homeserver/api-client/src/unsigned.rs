//! Timeline events with their `unsigned` data for a device: its own transaction id, the redaction, the replaced state, the
//! user's membership, and aggregations. Must not be used for state sections: a client requests state events by the hundreds,
//! and they get no such data.

use std::sync::Arc;

use futures_util::future::try_join;
use ruma::RoomId;
use serde_json::value::RawValue;
use weft_accounts::Session;
use weft_dag::Pdu;
use weft_http::errors::ApiResult;
use weft_room_read::{Reader, TimelineEvent};

use super::{
    aggregations::bundled,
    events::{Shown, client_event_with},
    ignored::Ignored,
};

/// The recipient of formatted events.
#[derive(Clone, Copy)]
pub(super) struct Viewer<'a> {
    /// The user and the device.
    pub(super) session: &'a Session,
    /// The users that this user ignores.
    pub(super) ignored: &'a Ignored,
}

/// The events that this session's user may see, in the client format.
pub(super) async fn shown_events(
    reader: &Reader,
    room: &RoomId,
    viewer: Viewer<'_>,
    shown: Shown,
    events: &[Arc<Pdu>],
) -> ApiResult<Vec<Box<RawValue>>> {
    let reader = &reader.for_request();
    let asking = (&*viewer.session.user_id, &*viewer.session.device_id);
    let (beside, ()) = try_join(
        reader.beside(room, asking, events),
        reader.read_relations_ahead(room, events),
    )
    .await?;
    let pairs: Vec<_> = events.iter().zip(&beside).collect();
    let relations = bundled(reader, room, viewer, shown, &pairs).await?;
    Ok(pairs
        .into_iter()
        .zip(relations)
        .filter_map(|((pdu, beside), relations)| client_event_with(pdu, shown, beside, relations))
        .collect())
}

/// The same for timeline events.
pub(super) async fn shown_timeline(
    reader: &Reader,
    room: &RoomId,
    viewer: Viewer<'_>,
    shown: Shown,
    events: &[TimelineEvent],
) -> ApiResult<Vec<Box<RawValue>>> {
    let events: Vec<Arc<Pdu>> = events.iter().map(|event| Arc::clone(&event.pdu)).collect();
    shown_events(reader, room, viewer, shown, &events).await
}
