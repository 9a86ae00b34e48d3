//! A server whose users only read has checkpoints too, and a rebuild leaves one.

use ruma::{OwnedEventId, RoomId, RoomVersionId};
use weft_dag::Verified;
use weft_store::tables::documents::{CHECKPOINTS, CheckpointRow};
use weft_testkit::user;
use weft_wire::update::UpdateContent;
use yrs::{Doc, ReadTxn as _, Text as _, Transact as _};

use super::{ALICE, BOB, net::Net};

/// Updates of Bob's server, one letter each, in a chain.
async fn letters(net: &Net, room: &RoomId, count: u32) -> Vec<Verified> {
    let doc = Doc::with_client_id(700_000);
    let body = doc.get_or_insert_text("body");
    let mut prev = net.rooms("a.example").reader().extremities(room).await.unwrap();
    let mut events = Vec::new();
    for at in 0..count {
        let before = doc.transact().state_vector();
        body.insert(&mut doc.transact_mut(), at, "x");
        let update = doc.transact().encode_diff_v1(&before);
        let content = UpdateContent::new(&update, [(700_000, (at, at + 1))]);
        let content = serde_json::to_value(content).unwrap();
        let event = net.forge(BOB, room, prev, "dev.weft.update", None, content).await;
        prev = vec![event.pdu().event_id().to_owned()];
        events.push(event);
    }
    events
}

async fn checkpoints(net: &Net, server: &str, room: &RoomId) -> Vec<CheckpointRow> {
    let rows = net.store(server).scan_all(CHECKPOINTS.under(&(room,))).await.unwrap();
    rows.into_iter().map(|(_, row)| row).collect()
}

#[tokio::test]
async fn a_server_whose_users_only_read_has_checkpoints() {
    let net = Net::new(&["a.example", "b.example"]).await;
    let room = net.document(ALICE, &RoomVersionId::V12).await;
    net.invite_and_join(ALICE, BOB, &room, 50).await;
    net.quiet(&room).await;
    net.assert_same(&room).await;
    let events = letters(&net, &room, 300).await;
    let a = net.rooms("a.example");
    for some in events.chunks(50) {
        a.receive(user(BOB).server_name(), some.to_vec()).await.unwrap();
    }
    net.until(async || !checkpoints(&net, "a.example", &room).await.is_empty())
        .await;
    let last = events[299].pdu().event_id();
    net.until(async || a.reader().order(&room, last).await.unwrap().is_some())
        .await;
    for at in [0_usize, 200, 270, 299] {
        let id: OwnedEventId = events[at].pdu().event_id().to_owned();
        let content = a.content(&room, Some(&[id])).await.unwrap();
        assert_eq!(weft_testkit::text_of(&content), "x".repeat(at + 1));
    }
}

#[tokio::test]
async fn a_text_that_was_worked_out_is_a_checkpoint() {
    let net = Net::new(&["a.example", "b.example"]).await;
    let room = net.document(ALICE, &RoomVersionId::V12).await;
    for word in ["three ", "two ", "one "] {
        net.edit(ALICE, &room, 0, word).await;
        net.seal(ALICE, &room).await;
    }
    net.invite_and_join(ALICE, BOB, &room, 25).await;
    if let Some(history) = net.rooms("b.example").coming_history(&room) {
        history.over().await;
    }
    net.quiet(&room).await;
    let made = checkpoints(&net, "b.example", &room).await;
    assert_eq!(made.len(), 1, "{made:?}");
    net.edit(ALICE, &room, 0, "zero ").await;
    net.quiet(&room).await;
    net.assert_same(&room).await;
    let b = net.rooms("b.example");
    let content = b.content(&room, Some(&made[0].heads)).await.unwrap();
    assert_eq!(weft_testkit::text_of(&content), "one two three ");
}
