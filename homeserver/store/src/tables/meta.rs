//! Tables about the store itself. Tags 0x00xx (0x0002 was POSITION_CEILING). Must not hold data of rooms or users.

use bytes::Bytes;
use ruma::OwnedRoomId;
use serde::{Deserialize, Serialize};

use crate::binary::{RowReader, RowWriter};
use crate::lane::Lane;
use crate::value::{Value, ValueError};

crate::tables! {
    SCHEMA: () => u64, Global, Ground, 0x0001, "The format version of all rows. A program refuses a higher version than it supports.";
    SERVER_NAME: () => String, Global, Ground, 0x0003,
        "The server name of the store: a store opened under another name would have users of two servers.";
    LANES: () => u64, Global, Ground, 0x0004,
        "The number of lanes, fixed when the store was created: the place of every row depends on it.";
    LANE: (Lane,) => LaneRow, Lane(Lane), Ground, 0x0005,
        "The state of a lane: its owner's epoch, the number of its last group of commits, and its positions. Every group moves it.";
    UNBUILT_INDEXES: () => IndexBuild, Global, Derived, 0x0008,
        "Present while the indexes of members and documents must be built, after a step from a version without them: how far that is.";
}

/// How far the indexes of members and documents are built.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndexBuild {
    /// The rooms up to this one have theirs, in the order in which all rooms are read. `None`: no room has.
    pub through: Option<OwnedRoomId>,
}

crate::json_value!(IndexBuild);

/// The state of a lane. Each group of commits to the lane compares `epoch` and `seq` and replaces the row, in the same
/// atomic write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LaneRow {
    /// Increases by one when a process takes the lane: the commits of the earlier owner fail from then on.
    pub epoch: u64,
    /// The process that owns the lane: a random number of each start.
    pub owner: u64,
    /// Increases by one with each group of commits, over all epochs.
    pub seq: u64,
    /// Increases when acknowledged commits of the lane may be lost: positions of an earlier era mean nothing.
    pub era: u64,
    /// Every position up to this one was decided when the row was written.
    pub visible: u64,
    /// No position above this one was ever visible, so that none is assigned twice after a crash.
    pub ceiling: u64,
    /// The batches of the last group that were left out, because a fence of theirs failed: by their index in the group.
    /// They tell an owner that lost the answer what became of the group.
    pub left_out: Vec<u32>,
}

impl LaneRow {
    /// The row of a lane that has never been taken.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            epoch: 0,
            owner: 0,
            seq: 0,
            era: 1,
            visible: 0,
            ceiling: 0,
            left_out: Vec::new(),
        }
    }
}

impl Default for LaneRow {
    fn default() -> Self {
        Self::new()
    }
}

impl Value for LaneRow {
    fn encode(&self) -> Result<Bytes, ValueError> {
        let row = RowWriter::new(1).u64(self.epoch).u64(self.owner).u64(self.seq);
        let row = row.u64(self.era).u64(self.visible).u64(self.ceiling);
        let left_out: Vec<u8> = self.left_out.iter().flat_map(|index| index.to_be_bytes()).collect();
        Ok(row.finish(&left_out))
    }

    fn decode(bytes: Bytes) -> Result<Self, ValueError> {
        let mut row = RowReader::new(bytes, 1)?;
        let mut decoded = Self {
            epoch: row.u64()?,
            owner: row.u64()?,
            seq: row.u64()?,
            era: row.u64()?,
            visible: row.u64()?,
            ceiling: row.u64()?,
            left_out: Vec::new(),
        };
        let rest = row.rest();
        let (indexes, cut) = rest.as_chunks::<4>();
        if !cut.is_empty() {
            return Err(ValueError("cut off".to_owned()));
        }
        decoded.left_out = indexes.iter().map(|index| u32::from_be_bytes(*index)).collect();
        Ok(decoded)
    }
}
