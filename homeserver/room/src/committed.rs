//! What one commit changed, for those who pass it on: sockets, /sync, federation.

use std::sync::Arc;

use bytes::Bytes;
use ruma::{OwnedRoomId, OwnedServerName, OwnedUserId};
use weft_dag::Pdu;

/// One live connection to a document. Given out by whoever accepts connections; unique while the process runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

/// An event of a commit.
#[derive(Debug, Clone)]
pub struct CommittedEvent {
    /// The event.
    pub pdu: Arc<Pdu>,
    /// Its place in the server's stream.
    pub position: u64,
    /// Accepted and not soft-failed: clients see it.
    pub visible: bool,
}

/// A change of the text for the sockets of the room.
#[derive(Debug, Clone)]
pub struct LiveEdit {
    /// A Yjs v1 update.
    pub update: Bytes,
    /// Who wrote it.
    pub author: OwnedUserId,
    /// The connection it came by, which already has it. None for what came from another server.
    pub session: Option<ConnectionId>,
}

/// One commit of a room. It is on disk when anybody sees this.
#[derive(Debug, Clone)]
pub struct Committed {
    /// The room.
    pub room_id: OwnedRoomId,
    /// The last stream position of the commit; 0 where it brought no events (edits that were journaled only).
    pub position: u64,
    /// Events in the order of the log.
    pub events: Vec<CommittedEvent>,
    /// Changes of the text: journaled here, or merged from events of other servers.
    pub edits: Vec<LiveEdit>,
    /// The document was rebuilt because a forged update lost against its rival: live clients must load it anew.
    pub reload: bool,
    /// Members, roles or visibility changed: every socket's rights must be looked at again.
    pub access_changed: bool,
    /// Servers for which the commit wrote outbox rows.
    pub destinations: Vec<OwnedServerName>,
    /// Users of this server to wake: those joined, and those whose membership changed.
    pub users: Vec<OwnedUserId>,
}
