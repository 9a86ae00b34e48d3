//! Tables of federation: outboxes and the keys of other servers. Tags 0x03xx. Must not use tags of other groups.

use bytes::Bytes;
use ruma::{OwnedEventId, OwnedRoomId, OwnedServerName};
use serde::{Deserialize, Serialize};

use crate::lane::Lane;

crate::tables! {
    OUTBOX: (OwnedServerName, u64) => OutboxRow, Server, Ground, 0x0301,
        "Destination, number ([`outbox_number`]): events to be sent to this server. Written with the event, deleted when acknowledged.";
    OUTBOX_STATE: (OwnedServerName,) => OutboxState, Lane(Server), Ground, 0x0302,
        "The retry state of a failing destination; no row if it does not fail.";
    REMOTE_KEYS: (OwnedServerName,) => Bytes, Server, Derived, 0x0303,
        "Signing keys of another server and the response in which it published them, as `weft_federation` encodes it (JSON).";
    OUTBOX_SERVERS: (OwnedServerName,) => (), Lane(Server), Ground, 0x0306,
        "Every destination that ever had an outbox row, so that the outboxes can be found after a restart.";
}

/// The bits of a position in the number of an outbox row. Above them is the lane: positions of two lanes may be equal. The
/// positions of one lane at a million events a second reach this limit after 140 years.
const POSITION_BITS: u32 = 52;

/// The number of an outbox row: the position of its event, and the lane that the position counts in. In the first lane it
/// is the position.
#[must_use]
pub fn outbox_number(lane: Lane, position: u64) -> u64 {
    (u64::from(lane.number()) << POSITION_BITS) | (position & ((1 << POSITION_BITS) - 1))
}

/// The lane and the position of the number of an outbox row.
#[must_use]
pub fn outbox_place(number: u64) -> (Lane, u64) {
    let lane = u16::try_from(number >> POSITION_BITS).ok().and_then(Lane::new);
    (lane.unwrap_or(Lane::FIRST), number & ((1 << POSITION_BITS) - 1))
}

/// An event to be sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutboxRow {
    /// Its room.
    pub room: OwnedRoomId,
    /// The event.
    pub event: OwnedEventId,
}

/// The retry state of a destination.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutboxState {
    /// When sending started to fail, in milliseconds since 1970. Older rows have 0: long ago.
    #[serde(default)]
    pub failing_since: u64,
    /// When to retry, in milliseconds since 1970.
    pub retry_at: u64,
}

crate::json_value!(OutboxRow, OutboxState);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outbox_numbers_have_lane_and_position() {
        for lane in [0, 1, 0xFFF].map(|number| Lane::new(number).unwrap()) {
            for position in [0, 7, (1 << POSITION_BITS) - 1] {
                assert_eq!(outbox_place(outbox_number(lane, position)), (lane, position));
            }
        }
        assert_eq!(outbox_number(Lane::FIRST, 7), 7);
    }
}
