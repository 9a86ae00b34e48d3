//! Lanes: the units in which rows are placed, positions are counted, and commits are fenced. A room, a user or a server
//! belongs to the lane that its id hashes to, for the life of a deployment. Must not depend on who owns a lane.

use ruma::{EventId, RoomAliasId, RoomId, ServerName, UserId};
use sha2::{Digest, Sha256};

use crate::key::{AsPart, KeyError, Part};

/// The numbers of lanes: the first 12 bits of a hash choose one.
const LANE_NUMBERS: u16 = 4096;
/// The maximum number of lanes of a deployment. A sync token has a position for each lane with a room of the user, and
/// with more lanes it would not fit into a URL.
pub const MAX_LANES: u16 = 256;

/// A lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Lane(u16);

impl Lane {
    /// The only lane of a deployment that has one.
    pub const FIRST: Self = Self(0);

    /// The lane with a number of 12 bits.
    #[must_use]
    pub fn new(number: u16) -> Option<Self> {
        (number < LANE_NUMBERS).then_some(Self(number))
    }

    /// Its number.
    #[must_use]
    pub const fn number(self) -> u16 {
        self.0
    }
}

impl std::fmt::Display for Lane {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl AsPart<Self> for Lane {
    fn write(&self, out: &mut Vec<u8>) {
        AsPart::<u16>::write(&self.0, out);
    }
}

impl Part for Lane {
    fn read(input: &mut &[u8]) -> Result<Self, KeyError> {
        Self::new(u16::read(input)?).ok_or(KeyError("no such lane"))
    }
}

/// What is placed in a lane by its id.
pub trait Placed {
    /// Distinguishes equal ids of different kinds.
    const TAG: u8;

    /// The id.
    fn id(&self) -> &[u8];
}

macro_rules! placed {
    ($($id:ty, $tag:literal;)+) => {$(
        impl Placed for $id {
            const TAG: u8 = $tag;
            fn id(&self) -> &[u8] {
                self.as_bytes()
            }
        }
    )+};
}
placed! {
    RoomId, b'r';
    UserId, b'u';
    ServerName, b's';
    EventId, b'e';
    RoomAliasId, b'a';
}

/// The number of lanes of a deployment: from 1 to [`MAX_LANES`], fixed when its store is created.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lanes(u16);

impl Lanes {
    /// One lane: the default.
    pub const ONE: Self = Self(1);

    /// A number of lanes; `None` if it is 0 or above [`MAX_LANES`].
    #[must_use]
    pub fn new(count: u16) -> Option<Self> {
        (1..=MAX_LANES).contains(&count).then_some(Self(count))
    }

    /// The number.
    #[must_use]
    pub const fn count(self) -> u16 {
        self.0
    }

    /// All lanes, in order.
    pub fn all(self) -> impl ExactSizeIterator<Item = Lane> + use<> {
        (0..self.0).map(Lane)
    }

    /// Whether the deployment has this lane.
    #[must_use]
    pub const fn has(self, lane: Lane) -> bool {
        lane.0 < self.0
    }

    /// The lane of a room, a user, a server, an event or an alias.
    #[must_use]
    pub fn of<T: Placed + ?Sized>(self, placed: &T) -> Lane {
        self.of_id(T::TAG, placed.id())
    }

    /// The lane is the first 12 bits of the SHA-256 of tag and id, modulo the number of lanes.
    pub(crate) fn of_id(self, tag: u8, id: &[u8]) -> Lane {
        if self == Self::ONE {
            return Lane::FIRST;
        }
        let mut hash = Sha256::new();
        hash.update([tag]);
        hash.update(id);
        let hash = hash.finalize();
        let first = hash
            .first_chunk::<2>()
            .map_or(0, |bytes| u16::from_be_bytes(*bytes) >> 4);
        Lane(first.checked_rem(self.0).unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use ruma::{room_id, user_id};

    use super::*;

    #[test]
    fn every_id_has_one_lane_and_all_lanes_are_used() {
        let lanes = Lanes::new(16).unwrap();
        let lane = |number: u32| lanes.of(&*RoomId::parse(format!("!{number}:x")).unwrap());
        assert_eq!(lane(7), lane(7));
        let used: BTreeSet<Lane> = (0..500).map(lane).collect();
        assert_eq!(used, lanes.all().collect());
        assert!((0..500).all(|number| Lanes::ONE.of(&*RoomId::parse(format!("!{number}:x")).unwrap()) == Lane::FIRST));
    }

    #[test]
    fn the_lanes_of_a_deployment_never_change() {
        // Stored rows are placed by these values.
        let lanes = Lanes(LANE_NUMBERS);
        assert_eq!(lanes.of(room_id!("!a:alpha.example")).number(), 970);
        assert_eq!(lanes.of(user_id!("@alice:alpha.example")).number(), 2941);
    }

    #[test]
    fn the_number_of_lanes_is_bounded() {
        assert_eq!(Lanes::new(0), None);
        assert_eq!(Lanes::new(MAX_LANES + 1), None);
        assert!(Lanes::new(MAX_LANES).is_some());
        assert_eq!(Lane::new(LANE_NUMBERS), None);
    }
}
