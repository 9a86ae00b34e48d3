//! The text of a document in which clocks are claimed twice is worked out in a task separate from the room's worker:
//! users edit and read meanwhile, and the events that arrive meanwhile are part of the result.

use ruma::{OwnedEventId, RoomVersionId};
use weft_store::tables::rooms::EVENTS;

use super::{
    ALICE, BOB, CAROL,
    net::{Net, update_content, user},
};

#[tokio::test]
async fn edits_and_reads_continue_while_a_dispute_is_worked_out() {
    let servers = ["a.example", "b.example", "c.example"];
    let net = Net::new(&servers).await;
    let room = net.document(ALICE, &RoomVersionId::V12).await;
    net.invite_and_join(ALICE, BOB, &room, 50).await;
    net.invite_and_join(ALICE, CAROL, &room, 50).await;
    net.edit(ALICE, &room, 0, "first ").await;
    net.quiet(&room).await;
    net.assert_same(&room).await;
    let (a, gate) = (net.rooms("a.example"), net.gate("a.example"));

    // Reads of all events of the room are blocked.
    let nowhere: OwnedEventId = ruma::EventId::new_v2_or_v3(&"x".repeat(43)).unwrap();
    gate.hold_next_read(EVENTS.physical(&(&room, &nowhere)));
    let heads = a.reader().extremities(&room).await.unwrap();
    let mut rivals = Vec::new();
    for word in ["uno", "dos"] {
        let content = update_content(700_000, word);
        rivals.push(
            net.forge(BOB, &room, heads.clone(), "dev.weft.update", None, content)
                .await,
        );
    }
    for server in servers {
        net.rooms(server)
            .receive(user(BOB).server_name(), rivals.clone())
            .await
            .unwrap();
    }
    gate.reached().await;

    let opened = a.open(&room).await.unwrap();
    net.edit(ALICE, &room, 0, "alone ").await;
    assert_ne!(a.open(&room).await.unwrap(), opened);
    net.seal(ALICE, &room).await;
    net.topic(ALICE, &room, "written meanwhile").await;
    net.edit(CAROL, &room, 0, "carol ").await;
    net.seal(CAROL, &room).await;
    net.until(async || net.text("a.example", &room).await.contains("carol "))
        .await;
    net.edit(ALICE, &room, 0, "pending ").await;

    gate.open();
    net.message(ALICE, &room, "good evening").await;
    net.quiet(&room).await;
    net.assert_same(&room).await;
    let text = net.text("a.example", &room).await;
    for word in ["first ", "alone ", "carol ", "pending "] {
        assert!(text.contains(word), "{text}");
    }
    assert_ne!(text.contains("uno"), text.contains("dos"), "{text}");
}
