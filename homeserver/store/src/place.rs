//! Placement: the lane of every key, and the bytes under which the engine stores it.
//!
//! A deployment with one lane stores the bytes that [`crate::Table::physical`] returns, without the lane of tables that
//! name it. With more lanes, every key of a lane begins with the lane's number (two bytes, below 0x1000, which is below
//! every scope tag). Rows of the whole deployment have no lane. Must not read or write a store.

use bytes::Bytes;

use crate::catalogue;
use crate::engine::{KeyRange, Op, WriteBatch, prefix_end};
use crate::key::{Layout, read_bytes};
use crate::lane::{Lane, Lanes};
use crate::table::{ListedBy, Scope};

/// The first byte of keys that name their lane.
const NAMED: u8 = Scope::Lane(ListedBy::Lane).tag();
/// The first byte of keys of tables without a scope id in front.
const LIST: u8 = Scope::Global.tag();
/// Bytes of a lane in a key.
const LANE_BYTES: usize = 2;

/// Where a row is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// Belongs to the deployment, not to a lane.
    Deployment,
    Lane(Lane),
}

impl Lanes {
    /// The place of a key, or of all keys that begin with these bytes; `None` if these are in several lanes.
    pub(crate) fn place(self, key: &[u8]) -> Option<Place> {
        let (scope, rest) = key.split_first()?;
        match *scope {
            NAMED => {
                let number = u16::from_be_bytes(*rest.first_chunk::<LANE_BYTES>()?);
                let lane = Lane::new(number).filter(|lane| self.has(*lane))?;
                Some(Place::Lane(lane))
            }
            LIST => {
                let (tag, id) = rest.split_first_chunk::<2>()?;
                match catalogue::scope_of(u16::from_be_bytes(*tag))? {
                    Scope::Lane(by) => self.of_part(by.placed_as()?, id),
                    _ => Some(Place::Deployment),
                }
            }
            tag => self.of_part(tag, rest),
        }
    }

    fn of_part(self, tag: u8, part: &[u8]) -> Option<Place> {
        if self == Self::ONE {
            return Some(Place::Lane(Lane::FIRST));
        }
        let mut rest = part;
        let id = read_bytes(&mut rest).ok()?;
        Some(Place::Lane(self.of_id(tag, &id)))
    }

    /// The bytes under which a key is stored; `None` if it has no place.
    pub(crate) fn physical(self, key: &Bytes) -> Option<Bytes> {
        if self == Self::ONE && key.first() != Some(&NAMED) {
            return Some(key.clone());
        }
        let place = self.place(key)?;
        Some(self.stored(place, key))
    }

    /// A range of keys with this prefix as the engine stores them. `lane` chooses one of several.
    pub(crate) fn physical_range(self, prefix: &Bytes, range: KeyRange, lane: Option<Lane>) -> Option<KeyRange> {
        if self == Self::ONE && prefix.first() != Some(&NAMED) {
            return Some(range);
        }
        let place = self.place(prefix).or(lane.map(Place::Lane))?;
        let end = match &range.end {
            Some(end) => Some(self.stored(place, end)),
            None => prefix_end(&self.stored(place, prefix)),
        };
        Some(KeyRange {
            start: self.stored(place, &range.start),
            end,
            ..range
        })
    }

    /// Rewrites the keys of a batch to those under which they are stored; `None` if one has no place.
    pub(crate) fn physical_batch(self, batch: WriteBatch) -> Option<WriteBatch> {
        let WriteBatch { mut ops, mut fences } = batch;
        for op in &mut ops {
            match op {
                Op::Put { key, .. } | Op::Delete { key } => *key = self.physical(key)?,
                Op::DeleteRange { start, end } => {
                    let place = self.place(start)?;
                    (*start, *end) = (self.stored(place, start), self.stored(place, end));
                }
            }
        }
        for fence in &mut fences {
            fence.key = self.physical(&fence.key)?;
        }
        Some(WriteBatch { ops, fences })
    }

    fn stored(self, place: Place, key: &Bytes) -> Bytes {
        let prefix = match place {
            Place::Lane(lane) if self != Self::ONE => Some(lane),
            _ => None,
        };
        let named = key.first() == Some(&NAMED);
        if prefix.is_none() && !named {
            return key.clone();
        }
        let mut bytes = Vec::with_capacity(key.len().saturating_add(LANE_BYTES));
        bytes.extend(prefix.map(|lane| lane.number().to_be_bytes()).into_iter().flatten());
        if named {
            bytes.push(LIST);
            bytes.extend_from_slice(key.get(1 + LANE_BYTES..).unwrap_or_default());
        } else {
            bytes.extend_from_slice(key);
        }
        Bytes::from(bytes)
    }

    /// The key of a row of a table from the bytes under which it is stored.
    pub(crate) fn logical(self, layout: Layout, stored: Bytes) -> Bytes {
        let mut rest = stored;
        let mut lane = Lane::FIRST;
        if self != Self::ONE && layout.scope != Scope::Global && rest.len() >= LANE_BYTES {
            let number = rest.split_to(LANE_BYTES);
            let number = number.first_chunk::<LANE_BYTES>().copied().unwrap_or_default();
            lane = Lane::new(u16::from_be_bytes(number)).unwrap_or_default();
        }
        if layout.scope != Scope::Lane(ListedBy::Lane) || rest.is_empty() {
            return rest;
        }
        let mut key = Vec::with_capacity(rest.len().saturating_add(LANE_BYTES));
        key.push(NAMED);
        key.extend_from_slice(&lane.number().to_be_bytes());
        key.extend_from_slice(rest.get(1..).unwrap_or_default());
        Bytes::from(key)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use ruma::{RoomId, room_id, user_id};

    use super::*;
    use crate::catalogue::all;
    use crate::tables::accounts::USERS;
    use crate::tables::meta::SCHEMA;
    use crate::tables::rooms::{EVENTS, ROOMS, STREAM};

    fn sixteen() -> Lanes {
        Lanes::new(16).unwrap()
    }

    /// A key of a table that begins with this first part, without the parts after it.
    fn begin(scope: Scope, tag: u16, first: &[u8]) -> Vec<u8> {
        let mut key = vec![scope.tag()];
        if scope.is_list() {
            key.extend(tag.to_be_bytes());
            key.extend(first);
        } else {
            key.extend(first);
            key.extend(tag.to_be_bytes());
        }
        key
    }

    /// Every table has a place for each of its rows, and the rows that begin with one scope id, or that are in the list of
    /// one lane, are in one lane.
    #[test]
    fn every_table_has_a_place_and_a_range_of_it_stays_in_one_lane() {
        let mut used = BTreeSet::new();
        for table in all() {
            for number in 0..50_u16 {
                let first = match table.scope {
                    Scope::Lane(ListedBy::Lane) => (number % 16).to_be_bytes().to_vec(),
                    Scope::Global => Vec::new(),
                    _ => [format!("!{number}").as_bytes(), &[0, 1]].concat(),
                };
                let range = begin(table.scope, table.tag, &first);
                let place = sixteen().place(&range).expect(table.name);
                assert_eq!(
                    place == Place::Deployment,
                    table.scope == Scope::Global,
                    "{}",
                    table.name
                );
                for later in [&b"\0"[..], b"x", &[0xFF; 9]] {
                    let key = [range.as_slice(), later].concat();
                    assert_eq!(sixteen().place(&key), Some(place), "{}", table.name);
                }
                if let Place::Lane(lane) = place {
                    used.insert(lane);
                }
            }
        }
        assert_eq!(used.len(), 16);
    }

    #[test]
    fn one_lane_keeps_the_bytes_of_earlier_versions() {
        let room = room_id!("!a:x");
        for key in [
            EVENTS.physical(&(room, ruma::event_id!("$e"))),
            ROOMS.physical(&(room,)),
            USERS.physical(&(user_id!("@a:x"),)),
            SCHEMA.physical(&()),
        ] {
            assert_eq!(Lanes::ONE.physical(&key), Some(key));
        }
        let stored = Lanes::ONE.physical(&STREAM.physical(&(Lane::FIRST, 7)));
        let before = [&b"g\x01\x05"[..], &7_u64.to_be_bytes()].concat();
        assert_eq!(stored.as_deref(), Some(before.as_slice()));
    }

    #[test]
    fn keys_are_read_back_from_the_bytes_under_which_they_are_stored() {
        let room = RoomId::parse("!a:x").unwrap();
        for lanes in [Lanes::ONE, sixteen()] {
            let lane = lanes.all().last().unwrap();
            for (layout, key) in [
                (STREAM.layout(), STREAM.physical(&(lane, 7))),
                (ROOMS.layout(), ROOMS.physical(&(&room,))),
                (EVENTS.layout(), EVENTS.physical(&(&room, ruma::event_id!("$e")))),
                (SCHEMA.layout(), SCHEMA.physical(&())),
            ] {
                let stored = lanes.physical(&key).unwrap();
                assert_eq!(lanes.logical(layout, stored), key);
            }
        }
    }

    #[test]
    fn a_lane_that_the_deployment_does_not_have_is_no_place() {
        let key = STREAM.physical(&(Lane::new(16).unwrap(), 7));
        assert_eq!(sixteen().physical(&key), None);
        assert_eq!(Lanes::ONE.physical(&key), None);
        assert_eq!(Lanes::ONE.logical(STREAM.layout(), Bytes::new()), Bytes::new());
    }
}
