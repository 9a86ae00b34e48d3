//! Events of users of another server, as that server signs them.

use ruma::{EventId, OwnedEventId, RoomId, UserId};
use serde_json::{Value, json};
use weft_dag::{Draft, Placement, RoomVersion, Unchecked, Verified, testing};
use weft_room::{Clock as _, SystemClock};

use super::world::World;

/// What one event is besides its place in the graph.
pub(crate) struct Wish<'a> {
    pub(crate) sender: &'a UserId,
    pub(crate) kind: &'a str,
    pub(crate) key: Option<&'a str>,
    pub(crate) content: Value,
    pub(crate) redacts: Option<OwnedEventId>,
}

/// The event after the given ones, signed by its sender's server. The state it is checked against is the newest.
pub(crate) async fn signed(world: &World, room: &RoomId, prev_events: Vec<OwnedEventId>, wish: Wish<'_>) -> Verified {
    let state = world.rooms.reader().state(room).await.unwrap().unwrap();
    let content = testing::object(wish.content);
    let placement = Placement {
        prev_events,
        auth_events: state.auth_events(wish.kind, wish.sender, wish.key, &content).unwrap(),
        depth: 100,
        origin_server_ts: SystemClock.now(),
    };
    let draft = Draft {
        sender: wish.sender.to_owned(),
        kind: wish.kind.to_owned(),
        state_key: wish.key.map(ToOwned::to_owned),
        content,
        redacts: wish.redacts,
        room_id: Some(room.to_owned()),
    };
    let signer = testing::signer(wish.sender.server_name());
    let signed = draft.sign(state.version(), placement, &signer).unwrap();
    verified(signed.pdu.json(), state.version())
}

fn verified(json: &str, version: &RoomVersion) -> Verified {
    let unchecked = Unchecked::parse(json, version).unwrap();
    let keys = testing::verify_keys(unchecked.needed_keys().into_keys());
    unchecked.verify(&keys).unwrap()
}

/// The event comes in a transaction; returns when it has its place in the timeline.
pub(crate) async fn receive(world: &World, event: Verified) -> OwnedEventId {
    let (room, id) = (event.pdu().room_id().to_owned(), event.pdu().event_id().to_owned());
    let origin = event.pdu().sender().server_name().to_owned();
    world.rooms.receive(&origin, vec![event]).await.unwrap();
    until_in_place(world, &room, &id).await;
    id
}

pub(crate) async fn until_in_place(world: &World, room: &RoomId, event: &EventId) {
    while world.rooms.reader().order(room, event).await.unwrap().is_none() {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

/// An event after the ends that this server knows.
pub(crate) async fn send(world: &World, room: &RoomId, wish: Wish<'_>) -> OwnedEventId {
    let ends = world.rooms.reader().extremities(room).await.unwrap();
    let event = signed(world, room, ends, wish).await;
    receive(world, event).await
}

/// A user of another server joins a public room.
pub(crate) async fn join(world: &World, room: &RoomId, user: &UserId) -> OwnedEventId {
    let wish = Wish {
        sender: user,
        kind: "m.room.member",
        key: Some(user.as_str()),
        content: json!({"membership": "join"}),
        redacts: None,
    };
    send(world, room, wish).await
}
