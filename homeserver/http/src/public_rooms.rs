//! The public rooms of this server as the directory lists them, cached between requests.
//!
//! A request reads only the rooms that were listed, or in which something was committed, since the last one. Must
//! not be older than the store at the time of the request.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use ruma::{OwnedEventId, OwnedRoomId, RoomId, directory::Filter, events::room::history_visibility::HistoryVisibility};
use serde_json::{Map, Value, json};
use tokio::sync::Mutex;
use weft_room_read::Reader;
use weft_store::VisiblePositions;

use crate::errors::{ApiError, ApiResult};

/// Entries of one page.
const PAGE: usize = 100;
/// Maximum events since the last request that are searched for changed rooms; above it all rooms are read again.
const MAX_EVENTS_SINCE: usize = 2_000;

/// A query on a public room directory.
#[derive(Debug, Clone, Default)]
pub struct PublicRoomsQuery {
    /// Maximum number of entries.
    pub limit: Option<u64>,
    /// The token of the previous page.
    pub since: Option<String>,
    /// A search term for name, topic and alias.
    pub search: Option<String>,
    /// Room types, `None` for rooms without one; an empty list selects all.
    pub room_types: Vec<Option<String>>,
}

impl PublicRoomsQuery {
    /// The query for a filter.
    #[must_use]
    pub fn filtered(filter: Filter) -> Self {
        let types = filter.room_types.iter();
        Self {
            search: filter.generic_search_term.filter(|term| !term.trim().is_empty()),
            room_types: types.map(|kind| kind.as_str().map(str::to_owned)).collect(),
            ..Self::default()
        }
    }
}

/// A listed room.
struct Entry {
    members: usize,
    room_type: Option<String>,
    /// Name, topic and alias in lower case.
    words: Vec<String>,
    shown: Value,
}

#[derive(Default)]
struct Listing {
    /// The positions at which it was current.
    at: VisiblePositions,
    /// `None`: a listed room that is unknown or empty.
    rooms: BTreeMap<OwnedRoomId, Option<Arc<Entry>>>,
    /// Rooms in descending order of their number of members.
    sorted: Arc<Vec<Arc<Entry>>>,
}

/// See the module. One request at a time updates it.
#[derive(Default)]
pub struct PublicRooms {
    listing: Mutex<Listing>,
}

impl PublicRooms {
    /// A page of this server's directory, in descending order of the number of members. Also served to other servers.
    ///
    /// # Errors
    /// If `since` is not a token of this server, or the store fails.
    pub async fn page(&self, reader: &Reader, query: &PublicRoomsQuery) -> ApiResult<Value> {
        let offset: usize = match &query.since {
            Some(since) => since.parse().map_err(|_| ApiError::invalid_param("Unknown token."))?,
            None => 0,
        };
        let all = self.entries(reader).await?;
        let term = query.search.as_ref().map(|term| term.to_lowercase());
        let found = |entry: &&Arc<Entry>| {
            let has = |term: &String| entry.words.iter().any(|words| words.contains(term));
            term.as_ref().is_none_or(has)
                && (query.room_types.is_empty() || query.room_types.contains(&entry.room_type))
        };
        let entries: Vec<&Arc<Entry>> = all.iter().filter(found).collect();
        let limit = usize::try_from(query.limit.unwrap_or(u64::MAX))
            .unwrap_or(PAGE)
            .clamp(1, PAGE);
        let chunk: Vec<Value> = entries
            .iter()
            .skip(offset)
            .take(limit)
            .map(|entry| entry.shown.clone())
            .collect();
        let end = offset.saturating_add(chunk.len());
        let mut body = Map::from_iter([
            ("chunk".to_owned(), Value::from(chunk)),
            ("total_room_count_estimate".to_owned(), entries.len().into()),
        ]);
        body.extend((end < entries.len()).then(|| ("next_batch".to_owned(), end.to_string().into())));
        body.extend((offset > 0).then(|| ("prev_batch".to_owned(), offset.saturating_sub(limit).to_string().into())));
        Ok(Value::Object(body))
    }

    async fn entries(&self, reader: &Reader) -> ApiResult<Arc<Vec<Arc<Entry>>>> {
        let mut listing = self.listing.lock().await;
        // Anything committed from here on is read by the next request.
        let now = reader.visible_positions();
        let moved = reader.moved(now.since(&listing.at), MAX_EVENTS_SINCE).await?;
        let listed: BTreeSet<OwnedRoomId> = reader.public_rooms().await?.into_iter().collect();
        let before = listing.rooms.len();
        listing.rooms.retain(|room, _| listed.contains(room));
        let mut changed = listing.rooms.len() < before;
        for room in listed {
            let is_new = |moved: &BTreeMap<OwnedRoomId, Vec<OwnedEventId>>| moved.contains_key(&room);
            if !listing.rooms.contains_key(&room) || moved.as_ref().is_none_or(is_new) {
                let entry = entry(reader, &room).await?.map(Arc::new);
                listing.rooms.insert(room, entry);
                changed = true;
            }
        }
        listing.at = now;
        if changed {
            let mut sorted: Vec<Arc<Entry>> = listing.rooms.values().flatten().cloned().collect();
            sorted.sort_by_key(|entry| Reverse(entry.members));
            listing.sorted = Arc::new(sorted);
        }
        Ok(Arc::clone(&listing.sorted))
    }
}

/// The directory entry of a room; `None` if it is unknown or empty.
async fn entry(reader: &Reader, room: &RoomId) -> ApiResult<Option<Entry>> {
    const SHOWN: [(&str, &str, &str); 6] = [
        ("m.room.name", "name", "name"),
        ("m.room.topic", "topic", "topic"),
        ("m.room.canonical_alias", "alias", "canonical_alias"),
        ("m.room.avatar", "url", "avatar_url"),
        ("m.room.join_rules", "join_rule", "join_rule"),
        ("m.room.create", "type", "room_type"),
    ];
    let keys: Vec<(&str, &str)> = SHOWN
        .iter()
        .map(|(kind, ..)| (*kind, ""))
        .chain([("m.room.history_visibility", ""), ("m.room.guest_access", "")])
        .collect();
    let members = usize::try_from(reader.joined_count(room).await?).unwrap_or(usize::MAX);
    let Some(state) = reader.state_entries(room, &keys).await? else {
        return Ok(None);
    };
    if members == 0 {
        return Ok(None);
    }
    let field = |kind: &str, name: &str| state.get(kind, "")?.content_text(name);
    let guests = field("m.room.guest_access", "guest_access");
    let mut shown = Map::from_iter([
        ("room_id".to_owned(), json!(room)),
        ("num_joined_members".to_owned(), json!(members)),
        (
            "world_readable".to_owned(),
            json!(state.history_visibility() == HistoryVisibility::WorldReadable),
        ),
        (
            "guest_can_join".to_owned(),
            json!(guests.as_deref() == Some("can_join")),
        ),
    ]);
    let mut words = Vec::new();
    for (kind, name, shown_as) in SHOWN {
        let Some(text) = field(kind, name) else { continue };
        if matches!(shown_as, "name" | "topic" | "canonical_alias") {
            words.push(text.to_lowercase());
        }
        shown.insert(shown_as.to_owned(), text.into());
    }
    Ok(Some(Entry {
        members,
        room_type: field("m.room.create", "type"),
        words,
        shown: shown.into(),
    }))
}
