//! Updates that come redacted: who has them whole gives them, and the text ends alike everywhere.

use std::sync::Arc;

use ruma::{OwnedEventId, OwnedRoomId, RoomId, RoomVersionId};
use weft_dag::{Pdu, RoomVersion, Verified, redact};

use super::{
    ALICE, BOB,
    net::{Net, check},
};

/// A document of Alice's that Bob of the other server writes in, with her latest update on its way to nobody.
pub(super) async fn with_an_update_that_was_lost(net: &Net) -> (OwnedRoomId, Arc<Pdu>) {
    let room = net.document(ALICE, &RoomVersionId::V12).await;
    net.invite_and_join(ALICE, BOB, &room, 25).await;
    net.edit(ALICE, &room, 0, "before ").await;
    net.quiet(&room).await;
    let pdu = lost_update(net, &room, "hidden ").await;
    (room, pdu)
}

/// An update of Alice's that nobody else is sent.
pub(super) async fn lost_update(net: &Net, room: &RoomId, text: &str) -> Arc<Pdu> {
    net.edit(ALICE, room, 0, text).await;
    net.seal(ALICE, room).await;
    net.lose();
    let reader = net.rooms("a.example").reader().clone();
    let newest: OwnedEventId = reader.extremities(room).await.unwrap().remove(0);
    reader.stored_event(room, &newest).await.unwrap().unwrap().pdu
}

pub(super) fn copy(pdu: &Pdu) -> Verified {
    let version = RoomVersion::new(&RoomVersionId::V12).unwrap();
    let copy = check(&redact::redact(pdu, &version).unwrap(), &version);
    assert!(copy.redacted_on_receipt());
    copy
}

#[tokio::test]
async fn a_server_that_shows_an_update_redacted_takes_its_text_from_nobody() {
    let net = Net::new(&["a.example", "b.example"]).await;
    let (room, pdu) = with_an_update_that_was_lost(&net).await;
    net.rooms("b.example")
        .receive(pdu.sender().server_name(), vec![copy(&pdu)])
        .await
        .unwrap();
    // What builds on it comes in the ordinary way.
    net.edit(ALICE, &room, 0, "after ").await;
    net.quiet(&room).await;
    net.until(|| async { net.text("b.example", &room).await == "after hidden before " })
        .await;
    net.edit(BOB, &room, 0, "and ").await;
    net.quiet(&room).await;
    net.assert_same(&room).await;
}

#[tokio::test]
async fn a_whole_update_takes_the_place_of_its_redacted_copy_once() {
    let net = Net::new(&["a.example", "b.example"]).await;
    let (room, pdu) = with_an_update_that_was_lost(&net).await;
    let (b, origin) = (net.rooms("b.example"), pdu.sender().server_name());
    net.cut(0);
    b.receive(origin, vec![copy(&pdu)]).await.unwrap();
    let id = pdu.event_id();
    net.until(|| async { b.reader().stored_event(&room, id).await.unwrap().is_some() })
        .await;
    assert_eq!(net.text("b.example", &room).await, "before ");
    let place = b.reader().stored_event(&room, id).await.unwrap().unwrap().place;
    let version = RoomVersion::new(&RoomVersionId::V12).unwrap();
    let whole = || vec![check(&pdu, &version)];
    b.receive(origin, whole()).await.unwrap();
    net.until(|| async { net.text("b.example", &room).await == "hidden before " })
        .await;
    b.receive(origin, whole()).await.unwrap();
    b.receive(origin, vec![copy(&pdu)]).await.unwrap();
    net.heal(1).await;
    net.quiet(&room).await;
    net.assert_same(&room).await;
    let stored = b.reader().stored_event(&room, id).await.unwrap().unwrap();
    assert_eq!((stored.pdu.json(), stored.place), (pdu.json(), place));
}

#[tokio::test]
async fn a_history_that_comes_redacted_gives_the_whole_text() {
    let net = Net::new(&["a.example", "b.example"]).await;
    let room = net.document(ALICE, &RoomVersionId::V12).await;
    for word in ["three ", "two ", "one "] {
        net.edit(ALICE, &room, 0, word).await;
        net.seal(ALICE, &room).await;
    }
    net.redact_history();
    net.invite_and_join(ALICE, BOB, &room, 25).await;
    if let Some(history) = net.rooms("b.example").coming_history(&room) {
        history.over().await;
    }
    net.until(|| async { net.text("b.example", &room).await == "one two three " })
        .await;
    net.edit(BOB, &room, 0, "zero ").await;
    net.quiet(&room).await;
    net.assert_same(&room).await;
}
