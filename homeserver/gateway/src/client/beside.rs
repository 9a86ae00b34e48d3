//! Events of a timeline with what a device is told beside them: its own transaction id, the redaction, the state that
//! was replaced. State that is told as such goes without: a client asks for it by the hundreds.

use std::sync::Arc;

use ruma::RoomId;
use serde_json::value::RawValue;
use weft_accounts::Session;
use weft_dag::Pdu;
use weft_room::{Reader, TimelineEvent};

use super::events::{Shown, client_event_with};
use crate::errors::ApiResult;

/// Events that this session's user may see, in the client's format.
pub(super) async fn shown_events(
    reader: &Reader,
    room: &RoomId,
    session: &Session,
    shown: Shown,
    events: &[Arc<Pdu>],
) -> ApiResult<Vec<Box<RawValue>>> {
    let asking = (&*session.user_id, &*session.device_id);
    let beside = reader.beside(room, asking, events).await?;
    Ok(events
        .iter()
        .zip(&beside)
        .filter_map(|(pdu, beside)| client_event_with(pdu, shown, beside))
        .collect())
}

/// The same for events in their places.
pub(super) async fn shown_timeline(
    reader: &Reader,
    room: &RoomId,
    session: &Session,
    shown: Shown,
    events: &[TimelineEvent],
) -> ApiResult<Vec<Box<RawValue>>> {
    let events: Vec<Arc<Pdu>> = events.iter().map(|event| Arc::clone(&event.pdu)).collect();
    shown_events(reader, room, session, shown, &events).await
}
