//! A document's room in a stock chat client: it shows the chat and not the keystrokes.

use ruma::{RoomId, UserId};
use serde_json::json;
use weft_room_api::{ConnectionId, Edit, Incarnation};

use super::world::{Person, World, encoded, kinds};

/// Yjs: client 1234 inserts "h" into the text "t".
const H: &[u8] = &[0x01, 0x01, 0xd2, 0x09, 0x00, 0x04, 0x01, 0x01, 0x74, 0x01, 0x68, 0x00];

#[tokio::test]
async fn updates_of_a_document_are_shown_only_if_the_filter_names_them() {
    let world = World::new().await;
    let alice = world.person("alice").await;
    let options = json!({
        "creation_content": {"type": "dev.weft.document"},
        "initial_state": [{"type": "dev.weft.document", "content": {"kind": "text", "format": "yjs-13/v1", "schema_version": 1}}],
    });
    let room = world.room(&alice, options).await;
    let begun = world.sync(&alice, None, "").await;
    let edit = Edit {
        user: UserId::parse(&alice.user).unwrap(),
        session: ConnectionId::new(Incarnation(1), 1),
        update: H.into(),
    };
    world
        .server
        .rooms
        .edit(&RoomId::parse(&room).unwrap(), edit)
        .await
        .unwrap();
    let chat = world.send_text(&room, &alice, "I wrote an h").await;

    let since = begun["next_batch"].as_str();
    let seen = world.sync(&alice, since, "").await;
    let timeline = &seen["rooms"]["join"][&room]["timeline"]["events"];
    assert_eq!(kinds(timeline), ["m.room.message"], "{seen}");
    let named = json!({"room": {"timeline": {"types": ["dev.weft.update", "m.room.message"]}}});
    let seen = world.sync(&alice, since, &format!("filter={}", encoded(&named))).await;
    let timeline = &seen["rooms"]["join"][&room]["timeline"]["events"];
    assert_eq!(kinds(timeline), ["dev.weft.update", "m.room.message"]);

    let messages = format!("/_matrix/client/v3/rooms/{room}/messages?dir=b&limit=100");
    let read = world.get(&messages, &alice).await;
    assert!(!kinds(&read["chunk"]).contains(&"dev.weft.update"));
    let filter = encoded(&json!({"types": ["dev.weft.update"]}));
    let read = world.get(&format!("{messages}&filter={filter}"), &alice).await;
    assert_eq!(kinds(&read["chunk"]), ["dev.weft.update"]);
    let around = world
        .get(
            &format!("/_matrix/client/v3/rooms/{room}/context/{chat}?limit=10"),
            &alice,
        )
        .await;
    assert!(!kinds(&around["events_before"]).contains(&"dev.weft.update"));
}

/// The number of invitations of a user in a room.
async fn invitations(world: &World, room: &str, host: &Person, guest: &Person) -> usize {
    let path = format!("/_matrix/client/v3/rooms/{room}/messages?dir=b&limit=100");
    let read = world.get(&path, host).await;
    let events = read["chunk"].as_array().unwrap().iter();
    let theirs = events.filter(|event| event["state_key"] == guest.user.as_str());
    theirs
        .filter(|event| event["content"]["membership"] == "invite")
        .count()
}

/// The document API and the client-server API invite the same user at the same time: one event is sent.
#[tokio::test]
async fn the_same_invitation_through_both_apis_is_one_event() {
    let world = World::new().await;
    let alice = world.person("alice").await;
    let body = json!({"title": "Shared", "kind": "text"});
    let (status, created) = world
        .ask("POST", "/_weft/client/v1/documents", Some(&alice.token), body)
        .await;
    assert_eq!(status, 201, "{created}");
    let room = created["docId"].as_str().unwrap().to_owned();
    for number in 0..20 {
        let bob = world.person(&format!("bob{number}")).await;
        let name = format!("/_matrix/client/v3/profile/{}/displayname", bob.user);
        world.ok("PUT", &name, &bob, json!({"displayname": "Bob"})).await;
        let member = format!("/_weft/client/v1/documents/{room}/members/{}", bob.user);
        let by_role = world.ok("PUT", &member, &alice, json!({"role": "editor"}));
        let invite = format!("/_matrix/client/v3/rooms/{room}/invite");
        let by_invitation = world.ok("POST", &invite, &alice, json!({"user_id": bob.user}));
        if number % 2 == 0 {
            tokio::join!(by_role, by_invitation);
        } else {
            tokio::join!(by_invitation, by_role);
        }
        assert_eq!(invitations(&world, &room, &alice, &bob).await, 1);
        let path = format!("/_matrix/client/v3/rooms/{room}/state/m.room.member/{}", bob.user);
        assert_eq!(world.get(&path, &alice).await["displayname"], "Bob");
    }
}
