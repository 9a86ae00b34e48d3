//! The door: where commands come in, and where the workers are found.

use std::{sync::Arc, time::Duration};

use weft_store::Store;

use crate::{Identity, Ports, Reader};

/// Times and bounds of the write path.
#[derive(Debug, Clone)]
pub struct RoomConfig {
    /// A seal follows the last edit after this time.
    pub seal_idle: Duration,
    /// A seal follows the first unsealed edit after this time at most.
    pub seal_max: Duration,
    /// A seal follows the first unsealed edit after this time while somebody on another server is live.
    pub seal_remote: Duration,
    /// How long `remote_presence` counts.
    pub remote_presence: Duration,
    /// A worker without work ends after this time; the room is loaded again when needed.
    pub idle_eviction: Duration,
    /// Commands that wait for one room.
    pub mailbox: usize,
}

impl Default for RoomConfig {
    fn default() -> Self {
        Self {
            seal_idle: Duration::from_secs(2),
            seal_max: Duration::from_secs(5),
            seal_remote: Duration::from_millis(50),
            remote_presence: Duration::from_secs(60),
            idle_eviction: Duration::from_secs(300),
            mailbox: 256,
        }
    }
}

/// Why nothing could be done at the moment.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Unavailable {
    /// The server is stopping.
    #[error("the server is stopping")]
    Stopping,
    /// The room's worker was interrupted; whether the command was done is not known.
    #[error("the room's worker was interrupted")]
    Interrupted,
    /// Stored data that can't be understood.
    #[error("stored data of room can't be read: {0}")]
    Damaged(String),
    /// The store can't be read.
    #[error(transparent)]
    Read(#[from] weft_store::ReadError),
    /// The store didn't commit.
    #[error(transparent)]
    Commit(#[from] weft_store::CommitError),
}

/// All rooms of this server. Cheap to clone.
#[derive(Clone)]
pub struct Rooms {
    inner: Arc<Inner>,
}

struct Inner {
    reader: Reader,
}

#[expect(clippy::unimplemented, reason = "signatures first")]
impl Rooms {
    /// Makes the door. No worker runs before it is needed; call [`Rooms::recover`] before serving.
    #[must_use]
    pub fn start(_config: RoomConfig, _store: Store, _identity: Arc<dyn Identity>, _ports: Ports) -> Self {
        unimplemented!()
    }

    /// At boot: seals what was acknowledged but not sealed, and drains what was staged. Doing it twice does no harm.
    ///
    /// # Errors
    /// When the store can't be read. A single room that fails is logged and doesn't stop the rest.
    pub async fn recover(&self) -> Result<(), Unavailable> {
        unimplemented!()
    }

    /// Seals all that is pending and ends the workers. Commands are refused from now on.
    pub async fn stop(&self) {}

    /// Reads of all rooms.
    #[must_use]
    pub fn reader(&self) -> &Reader {
        &self.inner.reader
    }
}
