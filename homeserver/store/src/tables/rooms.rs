//! Tables of rooms: events, their order and graph, state, what is staged, who is a member. Tags 0x01xx.

use bytes::Bytes;
use ruma::serde::Raw;
use ruma::{
    OwnedDeviceId, OwnedEventId, OwnedRoomAliasId, OwnedRoomId, OwnedServerName, OwnedTransactionId, OwnedUserId,
    RoomVersionId,
};
use serde::{Deserialize, Serialize};

use crate::binary::{RowReader, RowWriter};
use crate::value::{Value, ValueError};

crate::tables! {
    ROOMS: (OwnedRoomId,) => RoomRow, Global, Ground, 0x0101,
        "Every room that we are or were in: its version and type.";
    EVENTS: (OwnedRoomId, OwnedEventId) => EventRow, Room, Ground, 0x0102,
        "Every event as it was signed, with what we decided about it.";
    EVENT_ROOM: (OwnedEventId,) => OwnedRoomId, Global, Derived, 0x0103,
        "The room of an event, for requests that name only the event.";
    TIMELINE: (OwnedRoomId, i64) => OwnedEventId, Room, Derived, 0x0104,
        "Room, order: the visible events as people saw them. The order is the stream position; events from before our time there (backfill) have negative ones, which count up from -2^40.";
    TIMELINE_WITHOUT_UPDATES: (OwnedRoomId, i64) => OwnedEventId, Room, Derived, 0x0112,
        "TIMELINE without updates of the text: between two chat messages of a document there may be thousands.";
    RELATIONS: (OwnedRoomId, OwnedEventId, i64) => RelationRow, Room, Derived, 0x0130,
        "Room, event, order: events that relate to it by an edit, a thread or a reference, in the order of TIMELINE.";
    CURRENT_GROUP: (OwnedRoomId, u64) => u64, Room, Derived, 0x0113,
        "Room, position: the state group of the room's resolved state from there on; a row where it changed.";
    MEMBERS: (OwnedRoomId, OwnedUserId) => String, Room, Derived, 0x0114,
        "Room, user: the membership in the resolved state, so that nobody has to read member events to know who is in.";
    STREAM: (u64,) => StreamRow, Global, Ground, 0x0105,
        "Position: what was committed there, over all rooms. Readers that follow everything resume from it.";
    EXTREMITIES: (OwnedRoomId,) => EventIds, Room, Derived, 0x0106,
        "Accepted events that nothing cites yet: what the next event cites.";
    STATE_GROUPS: (OwnedRoomId, u64) => StateGroupRow, Room, Derived, 0x0107,
        "Room, state group: the state of the room as what differs from a parent group, in chains of bounded length.";
    EVENT_GROUP: (OwnedRoomId, OwnedEventId) => EventGroupRow, Room, Derived, 0x0108,
        "The state groups before and after an event.";
    CURRENT_STATE: (OwnedRoomId, String, String) => OwnedEventId, Room, Derived, 0x0109,
        "Room, event type, state key: the resolved state of now.";
    CHAIN: (OwnedRoomId, OwnedEventId) => ChainRow, Room, Derived, 0x010A,
        "Where an event stands in the chain cover of the auth graph.";
    STAGING: (OwnedRoomId, u64) => StagedRow, Room, Ground, 0x010B,
        "Room, number: events that came by federation, were verified and answered, and wait for the room's worker.";
    STAGED_ROOMS: (OwnedRoomId,) => StagedMark, Global, Ground, 0x0118,
        "Rooms whose staging may have rows: what must be drained after a start. The value changes with each transaction, so that the row isn't deleted by who has not seen the newest.";
    INCOMPLETE_ROOMS: (OwnedRoomId,) => String, Global, Ground, 0x0115,
        "Rooms of which we don't have all events yet (joined through another server, or a gap that couldn't be filled), and the server that has them.";
    MEMBERSHIP: (OwnedUserId, OwnedRoomId) => MembershipRow, User, Derived, 0x010D,
        "Our user's membership of each room, also of rooms that we aren't in (invites, with stripped state).";
    OUT_OF_BAND: (OwnedUserId, OwnedRoomId) => OutOfBandRow, User, Ground, 0x0140,
        "User, room that this server is not in: where our user's open invitation or knock came from, and how much came with it. Counted against the user's quota.";
    OUT_OF_BAND_STATE: (OwnedUserId, OwnedRoomId) => OutOfBandState, User, Ground, 0x0141,
        "User, room: the stripped state of an OUTSIDE row. Apart from it, because it is large and only shown once.";
    OUT_OF_BAND_SERVERS: (OwnedServerName, OwnedUserId, OwnedRoomId) => (), Server, Derived, 0x0142,
        "Server, user, room: the OUTSIDE rows that a server's invitations made. A row may stand after its invitation has ended, and is removed when they are counted.";
    ALIASES: (OwnedRoomAliasId,) => AliasRow, Global, Ground, 0x010E,
        "What our server's aliases stand for.";
    ROOM_ALIASES: (OwnedRoomId, OwnedRoomAliasId) => (), Room, Derived, 0x010F,
        "The aliases of a room on our server.";
    PUBLIC_ROOMS: (OwnedRoomId,) => (), Global, Ground, 0x0110,
        "Rooms in our public directory.";
    TRANSACTIONS: (OwnedUserId, OwnedDeviceId, OwnedTransactionId) => OwnedEventId, User, Ground, 0x0111,
        "User, device, transaction id with the room and type of its endpoint: the event that a client's request made, so that its retry makes no second one.";
    EVENT_TXN: (OwnedUserId, OwnedDeviceId, OwnedEventId) => String, User, Ground, 0x0116,
        "User, device, event: the transaction id by which the device sent it, which only that device is told, to know its own echo.";
    REDACTED_BY: (OwnedRoomId, OwnedEventId) => OwnedEventId, Room, Derived, 0x0117,
        "Room, redacted event: the redaction that took effect on it.";
    BACKFILL_POSITIONS: (OwnedRoomId, OwnedEventId) => u64, Room, Derived, 0x0119,
        "Room, event from before our time there: its order in TIMELINE, which is negative, without the sign.";
    EARLY_REDACTIONS: (OwnedRoomId, OwnedEventId, OwnedEventId) => (), Room, Derived, 0x011A,
        "Room, target, redaction: accepted redactions of events that weren't here when they came.";
    PRUNED_UPDATES: (OwnedRoomId, OwnedEventId) => (), Room, Derived, 0x011B,
        "Room, event: updates of the text that came redacted, and that other servers are asked for.";
    PRUNED_ROOMS: (OwnedRoomId,) => (), Global, Derived, 0x011C,
        "Rooms that may have hollow updates: where the asking goes on after a start.";
    UNRECONCILED_ROOMS: (OwnedRoomId,) => (), Global, Derived, 0x011D,
        "Rooms with ends of the graph that other servers may not have, and that are looked at again: also after a start.";
    SENT_REQUESTS: (u64, OwnedEventId) => SentRequest, Global, Derived, 0x0120,
        "Time in milliseconds since 1970, event: the request of a client that made it, so that its rows of TRANSACTIONS and EVENT_TXN are deleted after a while.";
    MISSING_EVENTS: (OwnedRoomId, OwnedEventId) => (), Room, Derived, 0x011E,
        "Room, event: what accepted events and their ancestors follow and that is not here in its place. Rows only where a room is incomplete.";
    UNWITNESSED: (OwnedRoomId,) => u64, Global, Derived, 0x011F,
        "Documents with updates of others after which this server has sent nothing, and when its witness event is due, in milliseconds since 1970.";
}

/// A room.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoomRow {
    /// Its version.
    pub version: RoomVersionId,
    /// `type` of its create event.
    #[serde(default)]
    pub kind: Option<String>,
}

/// An event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventRow {
    /// What we decided about it: bits of [`event_flags`].
    pub flags: u8,
    /// Its position; 0 where it has none (known only as part of state or of an auth chain).
    pub position: u64,
    /// The event in federation form, canonical and signed.
    pub json: Bytes,
}

/// Bits of [`EventRow::flags`].
pub mod event_flags {
    /// Refused by the auth rules: never merged, never shown.
    pub const REJECTED: u8 = 1;
    /// Allowed where it stands, refused by the state of now: held back.
    pub const SOFT_FAILED: u8 = 2;
    /// We don't have all that it cites, so we don't know the state before it.
    pub const OUTLIER: u8 = 4;
    /// Its content is stripped because of a redaction.
    pub const REDACTED: u8 = 8;
    /// Held back or rejected, and an accepted event has it among its ancestors. What is held back counts from then on:
    /// its server had accepted it, and so did whoever follows it.
    pub const REACHABLE: u8 = 16;
    /// An update of the text that came redacted: in the graph, and what it says is asked of other servers.
    pub const PRUNED: u8 = 32;

    /// Whether an event with these flags stands, is shown, and counts for what is now.
    #[must_use]
    pub const fn is_accepted(flags: u8) -> bool {
        flags & (REJECTED | SOFT_FAILED | OUTLIER) == 0
    }

    /// Whether an event with these flags is an accepted one or an ancestor of one: a part of what the text follows from.
    #[must_use]
    pub const fn is_reachable(flags: u8) -> bool {
        is_accepted(flags) || flags & REACHABLE != 0
    }
}

impl EventRow {
    /// The event's JSON as text.
    ///
    /// # Errors
    /// When it isn't UTF-8, which means that the row is damaged.
    pub fn text(&self) -> Result<&str, ValueError> {
        std::str::from_utf8(&self.json).map_err(|_| ValueError("event is not UTF-8".to_owned()))
    }

    /// Whether a bit of [`event_flags`] is set.
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
    /// How it relates.
    pub relation: Relation,
    /// Its type.
    pub kind: String,
    /// Its sender.
    pub sender: OwnedUserId,
    /// Its time, milliseconds since 1970.
    pub at: u64,
}

/// Relations that are told beside the event that they point at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Relation {
    /// `m.replace` with new content.
    Replace,
    /// `m.thread`.
    Thread,
    /// `m.reference`.
    Reference,
}

/// What was committed at a position.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamRow {
    /// In this room.
    pub room: OwnedRoomId,
    /// This event.
    pub event: OwnedEventId,
}

/// A client's request that made an event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SentRequest {
    /// Who made it.
    pub user: OwnedUserId,
    /// From which device.
    pub device: OwnedDeviceId,
    /// Its transaction id, as in [`TRANSACTIONS`].
    pub transaction: OwnedTransactionId,
}

/// A list of events.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EventIds(pub Vec<OwnedEventId>);

/// A state, as what differs from a parent's.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateGroupRow {
    /// The group that this one changes; None: it is whole.
    pub parent: Option<u64>,
    /// How many parents there are up to a whole one.
    pub hops: u8,
    /// Event type, state key, event.
    pub changes: Vec<(String, String, OwnedEventId)>,
}

/// The states around an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventGroupRow {
    /// Group of the state before it.
    pub before: u64,
    /// Group of the state after it (the same, unless it is an accepted state event).
    pub after: u64,
}

/// An event in the chain cover.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChainRow {
    /// Its chain.
    pub chain: u64,
    /// Its place there.
    pub sequence: u64,
    /// Other chains that it reaches: chain, and highest place there.
    #[serde(default)]
    pub links: Vec<(u64, u64)>,
}

/// Between which numbers the staged rows of a room lie, so that nobody has to look for the first and the last: each look
/// would pass over all that were taken away.
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
    /// When it came, in milliseconds since 1970.
    pub received_at: u64,
    /// Whether its content was stripped on receipt because its hash was wrong.
    pub redacted: bool,
    /// The event in federation form. Its signatures were checked before it was staged.
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

/// A user's membership of a room.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct MembershipRow {
    /// join, invite, knock, leave or ban.
    pub membership: String,
    /// The membership event.
    pub event: OwnedEventId,
    /// Its position.
    pub position: u64,
    /// After the end of an invitation or a knock of a room that this server is not in: the leave as clients get it. Older
    /// stores also have the stripped state of open ones here, which is in [`OUT_OF_BAND_STATE`] now.
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
    /// The room's version, as that server said.
    pub version: RoomVersionId,
    /// The server that invited, or that took the knock: it is in the room.
    pub resident: OwnedServerName,
    /// Bytes of the stripped state.
    pub bytes: u64,
}

/// What may be shown of a room to a user who is invited or has knocked.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct OutOfBandState(pub Vec<Raw<serde_json::Value>>);

/// What an alias stands for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AliasRow {
    /// The room.
    pub room: OwnedRoomId,
    /// Who made it.
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
    MembershipRow,
    OutOfBandRow,
    OutOfBandState,
    AliasRow
);
