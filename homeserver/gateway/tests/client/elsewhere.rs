//! Events of remote users, signed by their servers.

use ruma::{EventId, OwnedEventId, RoomId, UserId};
use serde_json::{Value, json};
use weft_dag::{Draft, Placement, RoomVersion, Unchecked, Verified, testing};
use weft_room_api::{Clock as _, SystemClock};

use super::world::World;

/// An event to sign, except its position in the event graph.
pub(crate) struct EventDraft<'a> {
    pub(crate) sender: &'a UserId,
    pub(crate) kind: &'a str,
    pub(crate) key: Option<&'a str>,
    pub(crate) content: Value,
    pub(crate) redacts: Option<OwnedEventId>,
}

/// The event after `prev_events`, signed by its sender's server. Auth events are taken from the current state.
pub(crate) async fn signed(
    world: &World,
    room: &RoomId,
    prev_events: Vec<OwnedEventId>,
    draft: EventDraft<'_>,
) -> Verified {
    let state = world.server.rooms.reader().state(room).await.unwrap().unwrap();
    let content = testing::object(draft.content);
    let placement = Placement {
        prev_events,
        auth_events: state
            .auth_events(draft.kind, draft.sender, draft.key, &content)
            .unwrap(),
        depth: 100,
        origin_server_ts: SystemClock.now(),
    };
    let draft = Draft {
        sender: draft.sender.to_owned(),
        kind: draft.kind.to_owned(),
        state_key: draft.key.map(ToOwned::to_owned),
        content,
        redacts: draft.redacts,
        room_id: Some(room.to_owned()),
    };
    let signer = testing::signer(draft.sender.server_name());
    let signed = draft.sign(state.version(), placement, &signer).unwrap();
    verified(signed.pdu.json(), state.version())
}

fn verified(json: &str, version: &RoomVersion) -> Verified {
    let unchecked = Unchecked::parse(json, version).unwrap();
    let keys = testing::verify_keys(unchecked.needed_keys().into_keys());
    unchecked.verify(&keys).unwrap()
}

/// Receives the event in a transaction; returns when it is in the timeline.
pub(crate) async fn receive(world: &World, event: Verified) -> OwnedEventId {
    let (room, id) = (event.pdu().room_id().to_owned(), event.pdu().event_id().to_owned());
    let origin = event.pdu().sender().server_name().to_owned();
    world.server.rooms.receive(&origin, vec![event]).await.unwrap();
    until_in_place(world, &room, &id).await;
    id
}

pub(crate) async fn until_in_place(world: &World, room: &RoomId, event: &EventId) {
    while world.server.rooms.reader().order(room, event).await.unwrap().is_none() {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

/// Sends an event after this server's forward extremities.
pub(crate) async fn send(world: &World, room: &RoomId, draft: EventDraft<'_>) -> OwnedEventId {
    let ends = world.server.rooms.reader().extremities(room).await.unwrap();
    let event = signed(world, room, ends, draft).await;
    receive(world, event).await
}

/// A remote user joins a public room.
pub(crate) async fn join(world: &World, room: &RoomId, user: &UserId) -> OwnedEventId {
    let draft = EventDraft {
        sender: user,
        kind: "m.room.member",
        key: Some(user.as_str()),
        content: json!({"membership": "join"}),
        redacts: None,
    };
    send(world, room, draft).await
}
