//! An edit for many sockets: encoded once for each framing and shared by all of them.

use std::sync::OnceLock;

use bytes::Bytes;
use weft_room_api::ConnectionId;
use weft_wire::live::{plain, sync::SyncMessage};

/// An edit that is on disk.
#[derive(Debug)]
pub struct EditFrame {
    /// The Yjs v1 update.
    pub update: Bytes,
    /// The socket that sent the edit and therefore must not get it.
    pub session: Option<ConnectionId>,
    plain: OnceLock<Bytes>,
}

impl EditFrame {
    /// A frame for an update.
    #[must_use]
    pub const fn new(update: Bytes, session: Option<ConnectionId>) -> Self {
        Self {
            update,
            session,
            plain: OnceLock::new(),
        }
    }

    /// The complete WebSocket message for plain framing; encoded at the first call.
    #[must_use]
    pub fn plain(&self) -> Bytes {
        self.plain
            .get_or_init(|| Bytes::from(plain::Frame::Sync(SyncMessage::Update(&self.update)).encode()))
            .clone()
    }
}
