//! Joining, leaving, knocking and inviting across servers.
//!
//! The other server's template is a hint and never what is signed: only the events to follow, the events that
//! authorise, the depth and the user who vouches are taken from it, and all else is written here (T33).

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

/// Pauses after which a server is asked again that is taking in what it was sent: an acknowledged event is on disk there, and
/// in its room some milliseconds later.
const CATCHING_UP: [Duration; 4] = [
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

/// A membership that one of our users wants in a room that this server is not in.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// The room.
    pub room_id: OwnedRoomId,
    /// Servers to ask, in order, at most `MAX_VIA_SERVERS`.
    pub via: Vec<OwnedServerName>,
    /// The user, of this server.
    pub user: OwnedUserId,
    /// More content of the member event: `displayname`, `avatar_url`, `reason`. `membership` is ours to write.
    pub content: CanonicalJsonObject,
}

/// What this server remembers of rooms that its users have left.
#[async_trait]
pub trait LastStays: Send + Sync {
    /// Whether a template that cites these events rests on a membership of the user that has ended since, as far as
    /// is known here: then the server that gave it has not heard of the end yet.
    async fn has_ended(&self, wanted: &Wanted, cited: &[OwnedEventId]) -> bool;
    /// Delivers what is queued for a server, the end of the last stay among it, before that server is asked for anything
    /// that follows. True where something was queued: the server may still be taking it in.
    async fn deliver(&self, server: &ServerName) -> bool;
}

/// A room that was joined.
#[derive(Debug, Clone)]
pub struct Joined {
    /// Its version.
    pub version: RoomVersionId,
    /// The state before the join, checked event by event. Whether it holds together is the room's to find out.
    pub state: Vec<Verified>,
    /// Its auth chain.
    pub auth_chain: Vec<Verified>,
    /// The join, with the other server's signature where the join was restricted.
    pub event: Verified,
    /// Who answered.
    pub resident: OwnedServerName,
    /// The document, where it is one and the other server could give it: a Yjs v1 update, unchecked.
    pub snapshot: Option<Bytes>,
}

/// A knock that was taken.
#[derive(Debug, Clone)]
pub struct Knocked {
    /// The room's version.
    pub version: RoomVersionId,
    /// The knock.
    pub event: Verified,
    /// What may be shown of the room; unchecked, bounded.
    pub stripped: Vec<Box<RawValue>>,
    /// Who answered.
    pub resident: OwnedServerName,
}

/// Why a handshake failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum HandshakeError {
    /// There is nobody to ask.
    #[error("no server is known that is in the room")]
    NoServer,
    /// The last server that was asked couldn't be called, or refused.
    #[error(transparent)]
    Call(#[from] CallError),
    /// The room has a version that this server doesn't speak, or the other server named another than it has.
    #[error("room version {0} is not supported")]
    Version(String),
    /// The template or the answer can't be used.
    #[error("{server} gave an answer that can't be used: {reason}")]
    Answer {
        /// Who.
        server: OwnedServerName,
        /// What is wrong.
        reason: String,
    },
    /// The other server has not heard yet that the user had left, or was put out. A join through it would stand beside
    /// that end instead of after it, and servers could be of two minds about who is in the room.
    #[error("{server} has not heard of the end of the user's last stay")]
    Behind {
        /// Who.
        server: OwnedServerName,
    },
    /// Our event can't be built.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// An event in the answer isn't acceptable.
    #[error("the event is refused: {0}")]
    Dropped(#[from] DropReason),
}

impl HandshakeError {
    /// Whether the same server may say something else in a moment: it has not heard of the end of the user's last stay, or it
    /// was sent something and judges by what was before.
    fn may_pass(&self, sent_more: bool) -> bool {
        match self {
            Self::Behind { .. } => true,
            Self::Call(error) => sent_more && error.refusal().is_some_and(|refusal| refusal.status == 403),
            _ => false,
        }
    }

    /// Whether another server may say something else. A refusal by the room's rules is the same everywhere.
    fn ask_another(&self) -> bool {
        match self {
            Self::Call(error) => error.refusal().is_none_or(|refusal| refusal.status != 403),
            Self::Answer { .. } | Self::Dropped(_) | Self::Behind { .. } => true,
            Self::NoServer | Self::Version(_) | Self::Build(_) => false,
        }
    }
}

impl Handshake {
    /// Handshakes by way of `events`.
    #[must_use]
    pub fn new(events: RemoteEvents) -> Self {
        Self { events }
    }

    /// The questions by way of which handshakes are made.
    #[must_use]
    pub fn events(&self) -> &RemoteEvents {
        &self.events
    }

    /// The servers to ask: without ourselves, without repetition, not too many.
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

    /// Tries `attempt` with each server until one succeeds or the answer is final. A server that has not taken in yet what it
    /// was sent is given a moment: its refusal says nothing of what is allowed.
    async fn first<T, F>(
        &self,
        via: &[OwnedServerName],
        stays: &dyn LastStays,
        attempt: impl Fn(OwnedServerName) -> F,
    ) -> Result<T, HandshakeError>
    where
        F: Future<Output = Result<T, HandshakeError>>,
    {
        let mut last = HandshakeError::NoServer;
        for server in self.servers(via) {
            let sent_more = stays.deliver(&server).await;
            let mut result = attempt(server.clone()).await;
            for pause in CATCHING_UP {
                match &result {
                    Err(error) if error.may_pass(sent_more) => {
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
                    let go_on = error.ask_another();
                    last = error;
                    if !go_on {
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
