//! The changes of one commit, for WebSocket connections, `/sync` and federation. Must not refer to the store.

use std::sync::Arc;

use bytes::Bytes;
use ruma::{OwnedRoomId, OwnedServerName, OwnedUserId};
use weft_dag::Pdu;

/// One live connection to a document, assigned when the connection is accepted; unique while the process runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

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
#[derive(Debug, Clone)]
pub struct LiveEdit {
    /// A Yjs v1 update.
    pub update: Bytes,
    /// Who wrote it.
    pub author: OwnedUserId,
    /// The connection that sent it, which already has it. `None` for an edit from another server.
    pub session: Option<ConnectionId>,
}

/// One commit of a room. It is on disk when this is published.
#[derive(Debug, Clone)]
pub struct Committed {
    /// The room.
    pub room_id: OwnedRoomId,
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
