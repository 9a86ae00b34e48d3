//! One page of what the timeline of a document has between everything else: comments, or suggestions. Must not read updates.

use std::sync::Arc;

use ruma::{RoomId, UserId};
use weft_dag::Pdu;
use weft_http::errors::ApiResult;
use weft_room_read::{Direction, TimelineEvent, Types};
use weft_wire::limits::MAX_HISTORY_EVENTS;

use super::DocumentPorts;

/// Events that are read at a time.
const EVENTS_AT_ONCE: usize = 200;

/// What is looked for.
pub(super) trait Sought {
    /// What an entry of the page is made of.
    type Found;

    /// Whether an event may be one, which is cheap to tell.
    fn may_be(pdu: &Pdu) -> bool;

    /// What an event is; `None`: it is none, or not one that the caller asks for.
    async fn read(&self, pdu: Arc<Pdu>) -> ApiResult<Option<Self::Found>>;

    /// Whether so much was read that the page must end.
    fn is_exhausted(&self) -> bool;
}

/// Where a page begins and how long it may be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Extent {
    /// Events before this place in the timeline; `None`: the newest ones.
    pub(super) before: Option<i64>,
    /// Entries.
    pub(super) limit: usize,
}

/// The page, newest first, and where the next one begins.
pub(super) async fn page<S: Sought>(
    ports: &DocumentPorts,
    room: &RoomId,
    user: &UserId,
    sought: &S,
    Extent { mut before, limit }: Extent,
) -> ApiResult<(Vec<S::Found>, Option<String>)> {
    let reader = ports.rooms.reader();
    let (mut found, mut read) = (Vec::new(), 0);
    let next = 'pages: loop {
        let types = Types::WithoutUpdates;
        let page = reader.timeline(room, before, Direction::Backward, types, EVENTS_AT_ONCE);
        let page = page.await?;
        read += page.events.len();
        before = page.next;
        let events: Vec<TimelineEvent> = page.events.into_iter().filter(|event| S::may_be(&event.pdu)).collect();
        for event in reader.visible_to_user(room, user, events).await? {
            let here = Some(event.order.saturating_add(1));
            if sought.is_exhausted() {
                break 'pages here;
            }
            let Some(one) = sought.read(event.pdu).await? else {
                continue;
            };
            if found.len() == limit {
                break 'pages here;
            }
            found.push(one);
        }
        if before.is_none() || read >= MAX_HISTORY_EVENTS {
            break before;
        }
    };
    Ok((found, next.map(|next: i64| next.to_string())))
}
