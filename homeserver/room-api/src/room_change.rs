//! The changes of one commit, for WebSocket connections, `/sync` and federation. They are data: a change may cross to
//! another process. Must not refer to anything that belongs to one process.

use std::sync::Arc;

use bytes::Bytes;
use ruma::{OwnedRoomId, OwnedServerName, OwnedUserId, RoomId, RoomVersionId};
use serde::{Deserialize, Serialize};
use weft_dag::Pdu;
use weft_store::Lane;

use crate::event_forms::RoomChangeForm;

/// One run of a server process: a number that is drawn when it starts.
///
/// Two processes number their connections alike, and a restarted one begins again at 0. Without this part the edit of
/// one connection would be withheld from the connection of the same number in another process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Incarnation(pub u64);

/// One live connection to a document, assigned when the connection is accepted; unique in all processes of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ConnectionId {
    /// The process that accepted the connection.
    pub incarnation: Incarnation,
    /// The number of the connection in that process.
    pub number: u64,
}

impl ConnectionId {
    /// The origin of an edit that came in a request: no connection has it, because no process draws the incarnation 0.
    pub const REQUEST: Self = Self::new(Incarnation(0), 0);

    /// A connection of a process.
    #[must_use]
    pub const fn new(incarnation: Incarnation, number: u64) -> Self {
        Self { incarnation, number }
    }
}

/// An event of a commit.
#[derive(Debug, Clone)]
pub struct CommittedEvent {
    /// The event.
    pub pdu: Arc<Pdu>,
    /// Its stream position.
    pub position: u64,
    /// Accepted and not soft-failed: clients receive it.
    pub visible: bool,
}

/// A change of the text for the live connections of the room.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LiveEdit {
    /// A Yjs v1 update.
    pub update: Bytes,
    /// Its author.
    pub author: OwnedUserId,
    /// The connection that sent it, which already has it. `None` for an edit from another server.
    pub session: Option<ConnectionId>,
    /// The version of the document after it.
    pub version: u64,
}

/// One commit of a room. It is on disk when this is published.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(into = "RoomChangeForm", try_from = "RoomChangeForm")]
pub struct RoomChange {
    /// The room.
    pub room_id: OwnedRoomId,
    /// The room's version, if there are events.
    pub version: Option<RoomVersionId>,
    /// The lane of the positions.
    pub lane: Lane,
    /// The last stream position of the commit; 0 if it has no events (edits that were only journaled).
    pub position: u64,
    /// Events in stream ordering.
    pub events: Vec<CommittedEvent>,
    /// Changes of the text: journaled here, or merged from events of other servers.
    pub edits: Vec<LiveEdit>,
    /// The document was rebuilt because a conflicting update lost: live clients must reload it.
    pub reload: bool,
    /// Members, roles or visibility changed: the rights of every live connection must be checked again.
    pub access_changed: bool,
    /// Servers for which the commit wrote outbox rows.
    pub destinations: Vec<OwnedServerName>,
    /// Users of this server to wake: joined users, and users whose membership changed.
    pub users: Vec<OwnedUserId>,
}

impl RoomChange {
    /// A commit in which nothing has changed yet.
    #[must_use]
    pub fn new(room: &RoomId, lane: Lane) -> Self {
        Self {
            room_id: room.to_owned(),
            version: None,
            lane,
            position: 0,
            events: Vec::new(),
            edits: Vec::new(),
            reload: false,
            access_changed: false,
            destinations: Vec::new(),
            users: Vec::new(),
        }
    }

    /// The bytes of its edits and events.
    #[must_use]
    pub fn size(&self) -> usize {
        let edits = self.edits.iter().map(|edit| edit.update.len());
        let events = self.events.iter().map(|event| event.pdu.json().len());
        edits.chain(events).fold(0, usize::saturating_add)
    }
}
