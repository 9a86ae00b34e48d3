//! The version of a document grows with the events of other servers, and the state hash of equal texts is equal.

use ruma::{RoomId, RoomVersionId};

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
