//! Finds the process that serves a room. Everything outside of a room's own tasks reaches the room through it. Must not
//! decide about commands.

use async_trait::async_trait;
use ruma::RoomId;

use crate::{RoomError, RoomHint, RoomReply, RoutedCommand};

/// The way to the rooms of this server, wherever they are served.
#[async_trait]
pub trait RoomRouter: Send + Sync + 'static {
    /// Gives a command to a room and waits for its answer. `Moved` if the process that was called doesn't serve the
    /// room (any more): it has then done nothing.
    async fn call(&self, room: &RoomId, command: RoutedCommand) -> Result<RoomReply, RoomError>;

    /// Gives a room a hint that may be lost. Returns at once; may be called for each EDU.
    fn hint(&self, room: &RoomId, hint: RoomHint);
}
