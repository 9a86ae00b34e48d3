//! Rows that never change once they are readable, kept in memory: the rows of rooms and of state groups.
//!
//! Bounded by an estimate of bytes. Must not hold anything that a later commit may change: it is never invalidated.

use std::{collections::HashMap, hash::Hash, mem, sync::Arc};

use parking_lot::Mutex;
use ruma::{OwnedRoomId, RoomId};
use weft_dag::groups::GroupRow;
use weft_store::tables::rooms::RoomRow;

/// Bytes of rows of rooms.
const ROOM_BYTES: usize = 4 * 1024 * 1024;
/// Bytes of rows of state groups. A row is small, except one in a hundred, which is a complete state.
const GROUP_BYTES: usize = 64 * 1024 * 1024;
/// What an entry costs besides its texts: the map, the allocations.
const ENTRY_BYTES: usize = 128;

/// See the module.
#[derive(Debug)]
pub(super) struct RowCache {
    rooms: Mutex<Recent<OwnedRoomId, RoomRow>>,
    groups: Mutex<Recent<(OwnedRoomId, u64), Arc<GroupRow>>>,
}

impl Default for RowCache {
    fn default() -> Self {
        Self {
            rooms: Mutex::new(Recent::new(ROOM_BYTES)),
            groups: Mutex::new(Recent::new(GROUP_BYTES)),
        }
    }
}

impl RowCache {
    pub(super) fn room(&self, room: &RoomId) -> Option<RoomRow> {
        self.rooms.lock().get(&room.to_owned())
    }

    pub(super) fn keep_room(&self, room: &RoomId, row: &RoomRow) {
        let bytes = ENTRY_BYTES + room.as_str().len() + row.kind.as_ref().map_or(0, String::len);
        self.rooms.lock().keep(room.to_owned(), row.clone(), bytes);
    }

    pub(super) fn group(&self, room: &RoomId, group: u64) -> Option<Arc<GroupRow>> {
        self.groups.lock().get(&(room.to_owned(), group))
    }

    pub(super) fn keep_group(&self, room: &RoomId, group: u64, row: &Arc<GroupRow>) {
        let entry = |((kind, key), event): &((String, String), ruma::OwnedEventId)| {
            ENTRY_BYTES + kind.len() + key.len() + event.as_str().len()
        };
        let bytes = ENTRY_BYTES + room.as_str().len() + row.changes.iter().map(entry).sum::<usize>();
        self.groups
            .lock()
            .keep((room.to_owned(), group), Arc::clone(row), bytes);
    }
}

/// Keeps what was used recently: entries that were not used while others filled half of the space are dropped.
#[derive(Debug)]
struct Recent<K, V> {
    young: HashMap<K, (V, usize)>,
    old: HashMap<K, (V, usize)>,
    young_bytes: usize,
    most: usize,
}

impl<K: Hash + Eq, V: Clone> Recent<K, V> {
    fn new(most: usize) -> Self {
        Self {
            young: HashMap::new(),
            old: HashMap::new(),
            young_bytes: 0,
            most,
        }
    }

    fn get(&mut self, key: &K) -> Option<V> {
        if let Some((value, _)) = self.young.get(key) {
            return Some(value.clone());
        }
        let (key, (value, bytes)) = self.old.remove_entry(key)?;
        self.keep(key, value.clone(), bytes);
        Some(value)
    }

    fn keep(&mut self, key: K, value: V, bytes: usize) {
        if bytes > self.most / 2 {
            return;
        }
        if self.young_bytes.saturating_add(bytes) > self.most / 2 {
            self.old = mem::take(&mut self.young);
            self.young_bytes = 0;
        }
        self.young_bytes += bytes;
        if let Some((_, replaced)) = self.young.insert(key, (value, bytes)) {
            self.young_bytes = self.young_bytes.saturating_sub(replaced);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn used_entries_stay_and_the_size_is_bounded() {
        let mut recent = Recent::new(100);
        recent.keep(0, "used", 10);
        for number in 1..50 {
            recent.keep(number, "once", 10);
            assert_eq!(recent.get(&0), Some("used"), "after {number}");
            let held: usize = recent
                .young
                .values()
                .chain(recent.old.values())
                .map(|(_, bytes)| bytes)
                .sum();
            assert!(held <= 100, "{held} bytes");
        }
        assert_eq!(recent.get(&1), None);
        recent.keep(99, "too large", 51);
        assert_eq!(recent.get(&99), None);
        assert_eq!(recent.get(&0), Some("used"));
    }
}
