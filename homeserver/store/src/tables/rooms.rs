//! Tables of rooms: events, their order and graph, state, staged events, memberships. Tags 0x01xx. Must not use tags of
//! other groups.

use bytes::Bytes;
use ruma::serde::Raw;
use ruma::{
    OwnedDeviceId, OwnedEventId, OwnedRoomAliasId, OwnedRoomId, OwnedServerName, OwnedTransactionId, OwnedUserId,
    RoomVersionId,
};
use serde::{Deserialize, Serialize};

use crate::binary::{RowReader, RowWriter};
use crate::lane::Lane;
use crate::value::{Value, ValueError};

crate::tables! {
    ROOMS: (OwnedRoomId,) => RoomRow, Lane(Room), Ground, 0x0101,
        "Every room that this server is or was in: its version and type.";
    EVENTS: (OwnedRoomId, OwnedEventId) => EventRow, Room, Ground, 0x0102,
        "Every event as signed, with the decision about it.";
    EVENT_ROOM: (OwnedEventId,) => OwnedRoomId, Lane(Event), Derived, 0x0103,
        "The room of an event, for requests with only an event id.";
    TIMELINE: (OwnedRoomId, i64) => OwnedEventId, Room, Derived, 0x0104,
        "Room, stream ordering: the visible events in their order for clients. Backfilled events have a negative stream ordering, which counts up from -2^40.";
    TIMELINE_WITHOUT_UPDATES: (OwnedRoomId, i64) => OwnedEventId, Room, Derived, 0x0112,
        "TIMELINE without document updates: between two chat messages of a document there may be thousands.";
    RELATIONS: (OwnedRoomId, OwnedEventId, i64) => RelationRow, Room, Derived, 0x0130,
        "Room, event, stream ordering: events that relate to it by an edit, a thread or a reference, in the order of TIMELINE.";
    CURRENT_GROUP: (OwnedRoomId, u64) => u64, Room, Derived, 0x0113,
        "Room, position: the state group of the room's resolved state from there on; a row for each change.";
    MEMBERS: (OwnedRoomId, OwnedUserId) => String, Room, Derived, 0x0114,
        "Room, user: the membership in the resolved state, so that listing the members needs no member events.";
    ROOM_SERVERS: (OwnedRoomId, OwnedServerName) => u64, Room, Derived, 0x0150,
        "Room, server with joined users: their number. Every cursor, receipt and transaction needs the servers, and a room may have 100,000 members.";
    LOCAL_MEMBERS: (OwnedRoomId, OwnedUserId) => (), Room, Derived, 0x0151,
        "Room, joined user of this server: whose syncs a change wakes.";
    STREAM: (Lane, u64) => StreamRow, Lane(Lane), Ground, 0x0105,
        "Lane, position: the event committed there, over all rooms of the lane. Readers of the whole stream resume from it.";
    EXTREMITIES: (OwnedRoomId,) => EventIds, Room, Derived, 0x0106,
        "The forward extremities of a room, which the next event references.";
    STATE_GROUPS: (OwnedRoomId, u64) => StateGroupRow, Room, Derived, 0x0107,
        "Room, state group: the state of the room as the difference from a parent group, in chains of bounded length.";
    EVENT_GROUP: (OwnedRoomId, OwnedEventId) => EventGroupRow, Room, Derived, 0x0108,
        "The state groups before and after an event.";
    CURRENT_STATE: (OwnedRoomId, String, String) => OwnedEventId, Room, Derived, 0x0109,
        "Room, event type, state key: the current resolved state.";
    CHAIN: (OwnedRoomId, OwnedEventId) => ChainRow, Room, Derived, 0x010A,
        "The position of an event in the chain cover.";
    STAGING: (OwnedRoomId, u64) => StagedRow, Room, Ground, 0x010B,
        "Room, number: events received over federation, verified and acknowledged, that wait for the room's worker.";
    STAGED_ROOMS: (OwnedRoomId,) => StagedMark, Lane(Room), Ground, 0x0118,
        "Rooms whose staging may have rows, which must be ingested after a start. The value changes with every transaction, so that a compare-and-delete with a stale value fails.";
    INCOMPLETE_ROOMS: (OwnedRoomId,) => String, Lane(Room), Ground, 0x0115,
        "Rooms with missing events (joined through another server, or with a gap that could not be filled), and the server that has them.";
    MEMBERSHIP: (OwnedUserId, OwnedRoomId) => MembershipRow, User, Derived, 0x010D,
        "A local user's membership of each room, including rooms that this server is not in (invites, with stripped state).";
    OUT_OF_BAND: (OwnedUserId, OwnedRoomId) => OutOfBandRow, User, Ground, 0x0140,
        "User, room that this server is not in: the resident server of the user's open invitation or knock, and the size of its stripped state. Counted against the user's quota.";
    OUT_OF_BAND_STATE: (OwnedUserId, OwnedRoomId) => OutOfBandState, User, Ground, 0x0141,
        "User, room: the stripped state of an OUT_OF_BAND row. Kept separately, because it is large and only shown once.";
    OUT_OF_BAND_SERVERS: (OwnedServerName, OwnedUserId, OwnedRoomId) => (), Server, Derived, 0x0142,
        "Server, user, room: the OUT_OF_BAND rows of a server's invitations. A row may outlive its invitation and is removed when they are counted.";
    ALIASES: (OwnedRoomAliasId,) => AliasRow, Lane(Alias), Ground, 0x010E,
        "The rooms of this server's aliases.";
    ROOM_ALIASES: (OwnedRoomId, OwnedRoomAliasId) => (), Room, Derived, 0x010F,
        "The aliases of a room on this server.";
    PUBLIC_ROOMS: (OwnedRoomId,) => (), Lane(Room), Ground, 0x0110,
        "Rooms in this server's public directory.";
    TRANSACTIONS: (OwnedUserId, OwnedDeviceId, OwnedTransactionId) => OwnedEventId, User, Ground, 0x0111,
        "User, device, transaction id with the room and type of its endpoint: the event of a client's request, so that a retry makes no second one.";
    EVENT_TXN: (OwnedUserId, OwnedDeviceId, OwnedEventId) => String, User, Ground, 0x0116,
        "User, device, event: the transaction id with which the device sent it. Only that device gets it, to recognise its own event.";
    REDACTED_BY: (OwnedRoomId, OwnedEventId) => OwnedEventId, Room, Derived, 0x0117,
        "Room, redacted event: the redaction that applies to it.";
    BACKFILL_POSITIONS: (OwnedRoomId, OwnedEventId) => u64, Room, Derived, 0x0119,
        "Room, backfilled event: its negative stream ordering in TIMELINE, without the sign.";
    EARLY_REDACTIONS: (OwnedRoomId, OwnedEventId, OwnedEventId) => (), Room, Derived, 0x011A,
        "Room, target, redaction: accepted redactions whose target was not received yet.";
    PRUNED_UPDATES: (OwnedRoomId, OwnedEventId) => (), Room, Derived, 0x011B,
        "Room, event: pruned updates, which are requested from other servers.";
    SENT_REQUESTS: (Lane, u64, OwnedEventId) => SentRequest, Lane(Lane), Derived, 0x0120,
        "Lane of the room, time in milliseconds since 1970, event: the client's request that made it, so that its rows of TRANSACTIONS and EVENT_TXN are deleted later.";
    MISSING_EVENTS: (OwnedRoomId, OwnedEventId) => (), Room, Derived, 0x011E,
        "Room, event: events that accepted events or their ancestors reference and that are missing or outliers. Rows exist only if a room is incomplete.";
    NOTHING_MISSING: (OwnedRoomId,) => (), Room, Derived, 0x0121,
        "Incomplete rooms whose last row of MISSING_EVENTS was deleted: all events are here, and the text is not worked out from them yet.";
    FETCHED_HISTORY: (OwnedRoomId,) => FetchedHistoryRow, Room, Derived, 0x0160,
        "Rooms whose history is being fetched: the totals of FETCHED_EVENTS. Every change of the four tables below requires the row as it was. What is lost is fetched again.";
    FETCHED_EVENTS: (OwnedRoomId, OwnedEventId) => FetchedRow, Room, Derived, 0x0161,
        "Room, event: fetched events, verified, that are not decided yet because their ancestors are not. They are no part of the room.";
    FETCHED_FOLLOWERS: (OwnedRoomId, OwnedEventId, OwnedEventId) => (), Room, Derived, 0x0162,
        "Room, event, fetched event: the fetched one waits for the other, which it references and which is not decided.";
    FETCHED_READY: (OwnedRoomId, OwnedEventId) => (), Room, Derived, 0x0163,
        "Room, fetched event: all its prev_events are decided, so that it can be.";
    WANTED_EVENTS: (OwnedRoomId, OwnedEventId) => (), Room, Derived, 0x0164,
        "Room, event: events to request from other servers, referenced by missing or fetched events.";
}

/// A room.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoomRow {
    /// The room version.
    pub version: RoomVersionId,
    /// `type` of its create event.
    #[serde(default)]
    pub kind: Option<String>,
}

/// An event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventRow {
    /// The decision about it: bits of `weft_dag::event_flags`.
    pub flags: u8,
    /// Its position; 0 if it has none (an outlier).
    pub position: u64,
    /// The event in the federation format, canonical and signed.
    pub json: Bytes,
}

impl EventRow {
    /// The event's JSON as text.
    ///
    /// # Errors
    /// It is not UTF-8: the row is damaged.
    pub fn text(&self) -> Result<&str, ValueError> {
        std::str::from_utf8(&self.json).map_err(|_| ValueError("the event is not UTF-8".to_owned()))
    }

    /// Whether a bit of `flags` is set.
    #[must_use]
    pub fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

impl Value for EventRow {
    fn encode(&self) -> Result<Bytes, ValueError> {
        Ok(RowWriter::new(1).u8(self.flags).u64(self.position).finish(&self.json))
    }

    fn decode(bytes: Bytes) -> Result<Self, ValueError> {
        let mut row = RowReader::new(bytes, 1)?;
        Ok(Self {
            flags: row.u8()?,
            position: row.u64()?,
            json: row.rest(),
        })
    }
}

/// An event that relates to another one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RelationRow {
    /// The relating event.
    pub event: OwnedEventId,
    /// The kind of relation.
    pub relation: Relation,
    /// Its type.
    pub kind: String,
    /// Its sender.
    pub sender: OwnedUserId,
    /// Its `origin_server_ts`, in milliseconds since 1970.
    pub at: u64,
}

/// Relations that are bundled with their target event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Relation {
    /// `m.replace` with new content.
    Replace,
    /// `m.thread`.
    Thread,
    /// `m.reference`.
    Reference,
}

/// The event committed at a position.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamRow {
    /// The room.
    pub room: OwnedRoomId,
    /// The event.
    pub event: OwnedEventId,
}

/// A client's request that made an event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SentRequest {
    /// The user.
    pub user: OwnedUserId,
    /// The device.
    pub device: OwnedDeviceId,
    /// The transaction id, as in [`TRANSACTIONS`].
    pub transaction: OwnedTransactionId,
}

/// A list of events.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EventIds(pub Vec<OwnedEventId>);

/// A state, as the difference from a parent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateGroupRow {
    /// The group that this one is based on; `None`: it is complete.
    pub parent: Option<u64>,
    /// The number of parents up to a complete one.
    pub hops: u8,
    /// Event type, state key, event.
    pub changes: Vec<(String, String, OwnedEventId)>,
}

/// The state groups before and after an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventGroupRow {
    /// The group of the state before it.
    pub before: u64,
    /// The group of the state after it (the same, unless it is an accepted state event).
    pub after: u64,
}

/// An event in the chain cover.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChainRow {
    /// Its chain.
    pub chain: u64,
    /// Its position in the chain.
    pub sequence: u64,
    /// Links to other chains: chain, and highest position there.
    #[serde(default)]
    pub links: Vec<(u64, u64)>,
}

/// The range of numbers of a room's staged rows, so that the first and the last row are found without a scan: a scan
/// would pass over all deleted rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct StagedMark {
    /// No row has a lower number.
    pub from: u64,
    /// The number of the next row.
    pub next: u64,
}

impl Default for StagedMark {
    fn default() -> Self {
        Self { from: 1, next: 1 }
    }
}

/// An event that waits for its room's worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StagedRow {
    /// The server that sent it.
    pub origin: OwnedServerName,
    /// The time of receipt, in milliseconds since 1970.
    pub received_at: u64,
    /// Whether its content was removed on receipt because its hash was wrong.
    pub redacted: bool,
    /// The event in the federation format. Its signatures were checked before it was staged.
    pub json: Bytes,
}

impl Value for StagedRow {
    fn encode(&self) -> Result<Bytes, ValueError> {
        let row = RowWriter::new(1).u64(self.received_at).u8(u8::from(self.redacted));
        Ok(row.bytes(self.origin.as_bytes())?.finish(&self.json))
    }

    fn decode(bytes: Bytes) -> Result<Self, ValueError> {
        let mut row = RowReader::new(bytes, 1)?;
        let received_at = row.u64()?;
        let redacted = row.u8()? != 0;
        let origin = row.text()?;
        let origin = OwnedServerName::try_from(origin).map_err(|error| ValueError(error.to_string()))?;
        Ok(Self {
            origin,
            received_at,
            redacted,
            json: row.rest(),
        })
    }
}

/// The history of a room that is being fetched.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FetchedHistoryRow {
    /// Events in [`FETCHED_EVENTS`].
    pub events: u64,
    /// Their bytes, with those of the rows that belong to them.
    pub bytes: u64,
    /// The limit of bytes that the history exceeds; it was deleted then.
    #[serde(default)]
    pub exceeds: Option<u64>,
}

/// A fetched event that is not decided yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchedRow {
    /// Whether its content was removed on receipt because its hash was wrong.
    pub redacted: bool,
    /// The event in the federation format. Its signatures were checked before it was written.
    pub json: Bytes,
}

impl Value for FetchedRow {
    fn encode(&self) -> Result<Bytes, ValueError> {
        Ok(RowWriter::new(1).u8(u8::from(self.redacted)).finish(&self.json))
    }

    fn decode(bytes: Bytes) -> Result<Self, ValueError> {
        let mut row = RowReader::new(bytes, 1)?;
        Ok(Self {
            redacted: row.u8()? != 0,
            json: row.rest(),
        })
    }
}

/// A user's membership of a room.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct MembershipRow {
    /// join, invite, knock, leave or ban.
    pub membership: String,
    /// The membership event.
    pub event: OwnedEventId,
    /// Its position.
    pub position: u64,
    /// After the end of an invitation or a knock of a room that this server is not in: the leave event in the client
    /// format. Older stores also have the stripped state of open ones here, which is in [`OUT_OF_BAND_STATE`] now.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stripped: Vec<Raw<serde_json::Value>>,
    /// Whether the user has forgotten the room.
    #[serde(default)]
    pub forgotten: bool,
}

/// An open invitation or knock of a room that this server is not in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutOfBandRow {
    /// The membership event.
    pub event: OwnedEventId,
    /// The room version, as the resident server stated it.
    pub version: RoomVersionId,
    /// The resident server that sent the invitation or accepted the knock.
    pub resident: OwnedServerName,
    /// Size of the stripped state, in bytes.
    pub bytes: u64,
}

/// The stripped state of a room for a user who is invited or has knocked.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct OutOfBandState(pub Vec<Raw<serde_json::Value>>);

/// The target of an alias.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AliasRow {
    /// The room.
    pub room: OwnedRoomId,
    /// The user who created it.
    pub creator: OwnedUserId,
}

crate::json_value!(
    RoomRow,
    RelationRow,
    StreamRow,
    SentRequest,
    EventIds,
    StateGroupRow,
    EventGroupRow,
    ChainRow,
    StagedMark,
    FetchedHistoryRow,
    MembershipRow,
    OutOfBandRow,
    OutOfBandState,
    AliasRow
);
