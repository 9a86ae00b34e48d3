//! Joins, leaves, knocks and invites across servers.
//!
//! The other server's template is only a hint and never what is signed: its `prev_events`, `auth_events`, depth and
//! `join_authorised_via_users_server` are used, and everything else is written here (T33).

pub(crate) mod invite;
mod join;
mod knock;
mod leave;
pub(crate) mod template;

pub use invite::{IncomingInvite, InviteError, Invited};

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use ruma::{CanonicalJsonObject, OwnedEventId, OwnedRoomId, OwnedServerName, OwnedUserId, RoomVersionId, ServerName};
use serde_json::value::RawValue;
use weft_dag::{BuildError, DropReason, Verified};

use crate::{CallError, RemoteEvents};

/// Pauses before further attempts with a server that is still processing what it was sent: an acknowledged event is
/// on disk there, and part of its room some milliseconds later.
const RETRY_PAUSES: [Duration; 4] = [
    Duration::from_millis(50),
    Duration::from_millis(150),
    Duration::from_millis(400),
    Duration::from_millis(1_000),
];

/// The handshakes. Cheap to clone.
#[derive(Clone)]
pub struct Handshake {
    events: RemoteEvents,
}

/// A membership that one of our users requests in a room that this server is not in.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// The room.
    pub room_id: OwnedRoomId,
    /// Servers to try, in order, at most `MAX_VIA_SERVERS`.
    pub via: Vec<OwnedServerName>,
    /// A user of this server.
    pub user: OwnedUserId,
    /// Further content of the member event: `displayname`, `avatar_url`, `reason`. `membership` is set here.
    pub content: CanonicalJsonObject,
}

/// What this server knows of rooms that its users have left.
#[async_trait]
pub trait PastMemberships: Send + Sync {
    /// Whether a template that cites these events is based on a membership of the user that has since ended, as far
    /// as this server knows: the server that sent the template has not received that end yet.
    async fn has_ended(&self, wanted: &Wanted, cited: &[OwnedEventId]) -> bool;
    /// Delivers the events that are queued for a server, including the end of the previous membership, before any
    /// request that depends on them. Returns true if events were queued: the server may still be processing them.
    async fn deliver(&self, server: &ServerName) -> bool;
}

/// A room that was joined.
#[derive(Debug, Clone)]
pub struct Joined {
    /// Its version.
    pub version: RoomVersionId,
    /// The state before the join, each event checked on its own. The room decides whether it is consistent.
    pub state: Vec<Verified>,
    /// The auth chain of the state.
    pub auth_chain: Vec<Verified>,
    /// The join event, with the other server's signature if the join was restricted.
    pub event: Verified,
    /// The resident server that answered.
    pub resident: OwnedServerName,
    /// The document, if the room is one and the other server can serve it: a Yjs v1 update, unchecked.
    pub snapshot: Option<Bytes>,
}

/// A knock that was accepted.
#[derive(Debug, Clone)]
pub struct Knocked {
    /// The room's version.
    pub version: RoomVersionId,
    /// The knock.
    pub event: Verified,
    /// The stripped state of the room; unchecked, bounded.
    pub stripped: Vec<Box<RawValue>>,
    /// The resident server that answered.
    pub resident: OwnedServerName,
}

/// Why a handshake failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum HandshakeError {
    /// There is no server to send the request to.
    #[error("no resident server of the room is known")]
    NoServer,
    /// The last server that was tried was unreachable, or refused.
    #[error(transparent)]
    Call(#[from] CallError),
    /// The room has an unsupported version, or the other server named another version than the room has.
    #[error("room version {0} is not supported")]
    Version(String),
    /// The template or the response is unusable.
    #[error("{server} sent an unusable response: {reason}")]
    Answer {
        /// The server.
        server: OwnedServerName,
        /// What is wrong with the response.
        reason: String,
    },
    /// The other server has not yet received the event by which the user left or was removed. A join through it would
    /// be concurrent with that event instead of after it, and servers could disagree on whether the user is in the
    /// room.
    #[error("{server} has not received the end of the user's previous membership")]
    Behind {
        /// The server.
        server: OwnedServerName,
    },
    /// Our event can't be built.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// An event in the response is not acceptable.
    #[error("the event is refused: {0}")]
    Dropped(#[from] DropReason),
}

impl HandshakeError {
    /// Whether the same server may answer differently in a moment: it has not received the end of the user's previous
    /// membership, or it was sent events and decided by the state before them.
    fn is_transient(&self, sent_more: bool) -> bool {
        match self {
            Self::Behind { .. } => true,
            Self::Call(error) => sent_more && error.refusal().is_some_and(|refusal| refusal.status == 403),
            _ => false,
        }
    }

    /// Whether another server may answer differently. A refusal by the authorisation rules is the same everywhere.
    fn may_differ_elsewhere(&self) -> bool {
        match self {
            Self::Call(error) => error.refusal().is_none_or(|refusal| refusal.status != 403),
            Self::Answer { .. } | Self::Dropped(_) | Self::Behind { .. } => true,
            Self::NoServer | Self::Version(_) | Self::Build(_) => false,
        }
    }
}

impl Handshake {
    /// Handshakes that send their requests with `events`.
    #[must_use]
    pub fn new(events: RemoteEvents) -> Self {
        Self { events }
    }

    /// The client that handshakes send their requests with.
    #[must_use]
    pub fn events(&self) -> &RemoteEvents {
        &self.events
    }

    /// The servers to try: without this server, without duplicates, at most `MAX_VIA_SERVERS`.
    fn servers(&self, via: &[OwnedServerName]) -> Vec<OwnedServerName> {
        let mut servers: Vec<OwnedServerName> = Vec::new();
        for server in via {
            if server != self.events.client().key_ring().server_name() && !servers.contains(server) {
                servers.push(server.clone());
            }
        }
        servers.truncate(weft_wire::limits::MAX_VIA_SERVERS);
        servers
    }

    /// Tries `attempt` with each server until one succeeds or the error is final. A server that is still processing
    /// what it was sent is tried again after a pause: its refusal doesn't show what is allowed.
    async fn first<T, F>(
        &self,
        via: &[OwnedServerName],
        memberships: &dyn PastMemberships,
        attempt: impl Fn(OwnedServerName) -> F,
    ) -> Result<T, HandshakeError>
    where
        F: Future<Output = Result<T, HandshakeError>>,
    {
        let mut last = HandshakeError::NoServer;
        for server in self.servers(via) {
            let sent_more = memberships.deliver(&server).await;
            let mut result = attempt(server.clone()).await;
            for pause in RETRY_PAUSES {
                match &result {
                    Err(error) if error.is_transient(sent_more) => {
                        tokio::time::sleep(pause).await;
                        result = attempt(server.clone()).await;
                    }
                    _ => break,
                }
            }
            match result {
                Ok(done) => return Ok(done),
                Err(error) => {
                    tracing::info!(%server, %error, "handshake failed");
                    let try_next = error.may_differ_elsewhere();
                    last = error;
                    if !try_next {
                        break;
                    }
                }
            }
        }
        Err(last)
    }
}

pub(crate) fn bad_answer(server: &ruma::ServerName, reason: impl Into<String>) -> HandshakeError {
    HandshakeError::Answer {
        server: server.to_owned(),
        reason: reason.into(),
    }
}
