//! Reads of a document do not wait for the worker of its room: they use the last commit.

use ruma::RoomVersionId;
use serde_json::json;
use weft_store::tables::rooms::EVENT_GROUP;
use weft_testkit::user;

use super::{ALICE, BOB, net::Net};

#[tokio::test]
async fn a_document_is_opened_and_read_while_its_worker_waits_for_the_disk() {
    let net = Net::new(&["a.example", "b.example"]).await;
    let room = net.document(ALICE, &RoomVersionId::V12).await;
    net.invite_and_join(ALICE, BOB, &room, 50).await;
    net.edit(ALICE, &room, 0, "first ").await;
    net.quiet(&room).await;
    net.assert_same(&room).await;
    let (a, gate) = (net.rooms("a.example"), net.gate("a.example"));
    net.edit(ALICE, &room, 0, "last ").await;
    net.seal(ALICE, &room).await;
    let text = net.text("a.example", &room).await;
    let heads = a.reader().extremities(&room).await.unwrap();

    // The worker reads the state after the event's `prev_events`, and the read is blocked.
    gate.hold_next_read(EVENT_GROUP.physical(&(&room, &heads[0])));
    let content = json!({ "msgtype": "m.text", "body": "hello" });
    let event = net.forge(BOB, &room, heads, "m.room.message", None, content).await;
    let id = event.pdu().event_id().to_owned();
    a.receive(user(BOB).server_name(), vec![event]).await.unwrap();
    gate.reached().await;
    let vector = a.open(&room).await.unwrap().state_vector;
    assert_eq!(net.text("a.example", &room).await, text);
    let diff = a.diff(&room, &vector).await.unwrap();
    assert!(diff.len() < a.content(&room, None).await.unwrap().len());
    assert!(
        a.reader().order(&room, &id).await.unwrap().is_none(),
        "the event must still wait"
    );

    gate.open();
    net.until(async || a.reader().order(&room, &id).await.unwrap().is_some())
        .await;
    net.edit(ALICE, &room, 0, "then ").await;
    assert_eq!(net.text("a.example", &room).await, format!("then {text}"));
}

/// An acknowledged edit is readable at once, also after the worker lost its memory and was started again.
#[tokio::test]
async fn an_acknowledged_edit_is_readable_at_once() {
    let net = Net::new(&["a.example", "b.example"]).await;
    let room = net.document(ALICE, &RoomVersionId::V12).await;
    net.invite_and_join(ALICE, BOB, &room, 50).await;
    let mut expected = String::new();
    for n in 0..40 {
        let before = net.rooms("a.example").open(&room).await.unwrap();
        net.edit(ALICE, &room, 0, &format!("{n} ")).await;
        expected.insert_str(0, &format!("{n} "));
        assert_ne!(net.rooms("a.example").open(&room).await.unwrap(), before);
        assert_eq!(net.text("a.example", &room).await, expected);
        if n % 10 == 9 {
            net.seal(ALICE, &room).await;
            net.rooms("a.example").stop().await;
            net.power_loss("a.example", weft_store::memory::Tail::Lost).await;
            net.rooms("a.example").recover().await.unwrap();
        }
    }
}
