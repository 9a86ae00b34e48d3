//! The rooms with the join rule `public`, cached between searches.
//!
//! A search reads only the rooms in which something was committed since the last one. Must not be older than the
//! store at the time of the search, and must not reveal whether users of this server are in a room.

use std::collections::BTreeSet;

use ruma::OwnedRoomId;
use tokio::sync::Mutex;
use weft_http::errors::ApiResult;
use weft_room_read::Reader;
use weft_store::VisiblePositions;
use weft_wire::limits::MAX_ROOMS_SEARCHED_FOR_USERS;

/// Maximum events since the last search that are searched for changed rooms; above it all rooms are read again.
const MAX_EVENTS_SINCE: usize = 1_000;

#[derive(Default)]
struct Open {
    /// The positions at which it was current.
    at: VisiblePositions,
    rooms: BTreeSet<OwnedRoomId>,
}

/// See the module. One search at a time updates it.
#[derive(Default)]
pub(crate) struct OpenRooms {
    open: Mutex<Open>,
}

impl OpenRooms {
    /// The rooms with the join rule `public`, at most [`MAX_ROOMS_SEARCHED_FOR_USERS`].
    pub(super) async fn list(&self, reader: &Reader) -> ApiResult<Vec<OwnedRoomId>> {
        let mut open = self.open.lock().await;
        // Anything committed from here on is read by the next search.
        let now = reader.visible_positions();
        let changed = match reader.moved(now.since(&open.at), MAX_EVENTS_SINCE).await? {
            Some(moved) => moved.into_keys().collect::<BTreeSet<_>>(),
            None => {
                open.rooms.clear();
                reader.rooms(MAX_ROOMS_SEARCHED_FOR_USERS).await?.into_iter().collect()
            }
        };
        for room in changed {
            let rules = reader.state_event(&room, "m.room.join_rules", "").await?;
            let is_open = rules.is_some_and(|rules| rules.content_text("join_rule").as_deref() == Some("public"));
            if !is_open {
                open.rooms.remove(&room);
            } else if open.rooms.len() < MAX_ROOMS_SEARCHED_FOR_USERS {
                open.rooms.insert(room);
            }
        }
        open.at = now;
        Ok(open.rooms.iter().cloned().collect())
    }
}
