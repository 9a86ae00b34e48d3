//! The version of a document grows with the events of other servers, and the state hash of equal texts is equal.

use ruma::{RoomId, RoomVersionId};
use weft_room_read::versions::VersionPlace;
use weft_testkit::text_of;

use super::{ALICE, BOB, net::Net};

async fn version(net: &Net, server: &str, room: &RoomId) -> u64 {
    net.rooms(server).reader().document_version(room).await.unwrap()
}

#[tokio::test]
async fn merged_events_raise_the_version_by_one_and_chat_does_not() {
    let net = Net::new(&["a.example", "b.example"]).await;
    let room = net.document(ALICE, &RoomVersionId::V12).await;
    net.edit(ALICE, &room, 0, "before ").await;
    net.seal(ALICE, &room).await;
    net.invite_and_join(ALICE, BOB, &room, 50).await;
    net.quiet(&room).await;
    // The snapshot of the other server, and the text that was worked out from its events.
    let joined = version(&net, "b.example", &room).await;
    assert!(joined > 0);
    assert_eq!(version(&net, "a.example", &room).await, 1);

    // Two edits are sealed into one event.
    net.edit(ALICE, &room, 0, "one ").await;
    net.edit(ALICE, &room, 0, "two ").await;
    net.seal(ALICE, &room).await;
    net.quiet(&room).await;
    assert_eq!(version(&net, "a.example", &room).await, 3);
    assert_eq!(version(&net, "b.example", &room).await, joined + 1);
    net.message(BOB, &room, "hello").await;
    net.quiet(&room).await;
    net.edit(BOB, &room, 0, "three ").await;
    net.seal(BOB, &room).await;
    net.quiet(&room).await;
    assert_eq!(version(&net, "a.example", &room).await, 4);
    assert_eq!(version(&net, "b.example", &room).await, joined + 2);

    let hash = async |server: &str| net.rooms(server).current_text(&room).await.unwrap().state_hash();
    assert!(hash("a.example").await.is_some());
    assert_eq!(hash("a.example").await, hash("b.example").await);
}

async fn text_at(net: &Net, server: &str, room: &RoomId, version: u64) -> Option<String> {
    let text = net.rooms(server).reader().text_at_version(room, version).await;
    text.unwrap().map(|text| text_of(&text))
}

#[tokio::test]
async fn a_server_that_joined_has_the_versions_since_its_text_was_worked_out() {
    let net = Net::new(&["a.example", "b.example"]).await;
    let room = net.document(ALICE, &RoomVersionId::V12).await;
    for word in ["two ", "one "] {
        net.edit(ALICE, &room, 0, word).await;
        net.seal(ALICE, &room).await;
    }
    net.invite_and_join(ALICE, BOB, &room, 50).await;
    if let Some(history) = net.rooms("b.example").coming_history(&room) {
        history.over().await;
    }
    net.quiet(&room).await;
    let reader = net.rooms("b.example").reader().clone();
    let from = reader.versions_from(&room).await.unwrap().unwrap();
    assert_eq!(from, version(&net, "b.example", &room).await);
    assert!(from > 1, "the snapshot, and the text of all events");
    assert_eq!(text_at(&net, "b.example", &room, from).await.unwrap(), "one two ");
    assert_eq!(text_at(&net, "b.example", &room, from - 1).await, None);
    let place = reader.place_of_version(&room, from).await.unwrap();
    assert!(matches!(place, Some(VersionPlace::Heads(_))), "{place:?}");

    net.edit(ALICE, &room, 0, "zero ").await;
    net.seal(ALICE, &room).await;
    net.quiet(&room).await;
    net.edit(BOB, &room, 0, "less ").await;
    net.edit(BOB, &room, 0, "much ").await;
    assert_eq!(
        text_at(&net, "b.example", &room, from + 1).await.unwrap(),
        "zero one two "
    );
    assert_eq!(
        text_at(&net, "b.example", &room, from + 2).await.unwrap(),
        "less zero one two "
    );
    net.seal(BOB, &room).await;
    net.quiet(&room).await;
    for server in ["a.example", "b.example"] {
        let now = version(&net, server, &room).await;
        assert_eq!(
            text_at(&net, server, &room, now).await.unwrap(),
            "much less zero one two "
        );
        assert_eq!(text_at(&net, server, &room, now + 1).await, None);
    }
    assert_eq!(text_at(&net, "a.example", &room, 1).await.unwrap(), "two ");
    assert_eq!(
        text_at(&net, "b.example", &room, from + 2).await.unwrap(),
        "less zero one two "
    );
}
