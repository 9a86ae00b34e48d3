//! Callers and a room that moves between processes.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use async_trait::async_trait;
use ruma::RoomId;
use weft_room_api::{RoomError, RoomHint, RoomReply, RoomRouter, RoutedCommand, Unavailable};

use crate::harness::{Server, alice, event};

/// Answers the first calls with an error.
struct Failing {
    inner: Arc<dyn RoomRouter>,
    with: Unavailable,
    first: u32,
    calls: Arc<AtomicU32>,
}

#[async_trait]
impl RoomRouter for Failing {
    async fn call(&self, room: &RoomId, command: RoutedCommand) -> Result<RoomReply, RoomError> {
        if self.calls.fetch_add(1, Ordering::Relaxed) < self.first {
            return Err(self.with.clone().into());
        }
        self.inner.call(room, command).await
    }

    fn hint(&self, room: &RoomId, hint: RoomHint) {
        self.inner.hint(room, hint);
    }
}

/// Sends a message in a room whose first calls fail. The result, the number of calls, the messages in the room.
async fn send_with(with: Unavailable, first: u32) -> (Result<(), RoomError>, u32, usize) {
    let mut server = Server::new().await;
    let room = server.document().await;
    let calls = Arc::new(AtomicU32::new(0));
    server.rooms = server.rooms.clone().routed(|inner| {
        Arc::new(Failing {
            inner,
            with,
            first,
            calls: Arc::clone(&calls),
        })
    });
    let message = event(&alice(), "m.room.message", serde_json::json!({ "body": "hello" }));
    let sent = server.rooms.send(&room, message).await.map(drop);
    let log = server.log(&room).await;
    let messages = log.iter().filter(|(kind, _)| kind == "m.room.message").count();
    (sent, calls.load(Ordering::Relaxed), messages)
}

#[tokio::test(start_paused = true)]
async fn a_command_follows_a_room_that_has_moved() {
    assert_eq!(send_with(Unavailable::Moved, 1).await, (Ok(()), 2, 1));
    assert_eq!(send_with(Unavailable::Moved, 3).await, (Ok(()), 4, 1));
}

#[tokio::test(start_paused = true)]
async fn a_room_that_moves_all_the_time_is_called_a_limited_number_of_times() {
    let moved = Err(Unavailable::Moved.into());
    assert_eq!(send_with(Unavailable::Moved, u32::MAX).await, (moved, 8, 0));
}

#[tokio::test(start_paused = true)]
async fn a_command_whose_outcome_is_unknown_is_not_repeated() {
    for error in [Unavailable::Interrupted, Unavailable::Stopping] {
        assert_eq!(send_with(error.clone(), 1).await, (Err(error.into()), 1, 0));
    }
}
