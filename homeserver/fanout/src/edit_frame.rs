//! An edit for many sockets: encoded once for each framing and shared by all of them.

use std::sync::OnceLock;

use bytes::Bytes;
use ruma::OwnedUserId;
use weft_room_api::{ConnectionId, LiveEdit};
use weft_wire::live::{plain, sync::SyncMessage};

/// An edit that is on disk.
#[derive(Debug)]
pub struct EditFrame {
    /// The Yjs v1 update.
    pub update: Bytes,
    /// The socket that sent the edit and therefore must not get it.
    pub session: Option<ConnectionId>,
    /// The author.
    pub author: OwnedUserId,
    /// The version of the document after the edit.
    pub version: u64,
    plain: OnceLock<Bytes>,
}

impl EditFrame {
    /// A frame for an edit.
    #[must_use]
    pub fn new(edit: &LiveEdit) -> Self {
        Self {
            update: edit.update.clone(),
            session: edit.session,
            author: edit.author.clone(),
            version: edit.version,
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
