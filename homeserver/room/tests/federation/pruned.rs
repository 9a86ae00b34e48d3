//! Pruned updates: another server supplies the whole update, and the text is the same on all servers.

use std::sync::Arc;

use ruma::{OwnedEventId, OwnedRoomId, RoomId, RoomVersionId};
use weft_dag::{Pdu, RoomVersion, Verified, redact};
use weft_testkit::check;

use super::{ALICE, BOB, net::Net};

/// A document of Alice's with Bob of the other server as an editor. Alice's latest update was not sent to Bob's server.
pub(super) async fn with_an_update_that_was_lost(net: &Net) -> (OwnedRoomId, Arc<Pdu>) {
    let room = net.document(ALICE, &RoomVersionId::V12).await;
    net.invite_and_join(ALICE, BOB, &room, 25).await;
    net.edit(ALICE, &room, 0, "before ").await;
    net.quiet(&room).await;
    let pdu = lost_update(net, &room, "hidden ").await;
    (room, pdu)
}

/// An update by Alice that is sent to no other server.
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
async fn an_update_received_redacted_is_fetched_whole() {
    let net = Net::new(&["a.example", "b.example"]).await;
    let (room, pdu) = with_an_update_that_was_lost(&net).await;
    net.rooms("b.example")
        .receive(pdu.sender().server_name(), vec![copy(&pdu)])
        .await
        .unwrap();
    // An update that depends on it is sent as usual.
    net.edit(ALICE, &room, 0, "after ").await;
    net.quiet(&room).await;
    net.until(|| async { net.text("b.example", &room).await == "after hidden before " })
        .await;
    net.edit(BOB, &room, 0, "and ").await;
    net.quiet(&room).await;
    net.assert_same(&room).await;
}

#[tokio::test]
async fn a_whole_update_replaces_its_redacted_copy_once() {
    let net = Net::new(&["a.example", "b.example"]).await;
    let (room, pdu) = with_an_update_that_was_lost(&net).await;
    let (b, origin) = (net.rooms("b.example"), pdu.sender().server_name());
    net.network().cut();
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
async fn a_redacted_backfill_gives_the_whole_text() {
    let net = Net::new(&["a.example", "b.example"]).await;
    let room = net.document(ALICE, &RoomVersionId::V12).await;
    for word in ["three ", "two ", "one "] {
        net.edit(ALICE, &room, 0, word).await;
        net.seal(ALICE, &room).await;
    }
    net.network().redact_history();
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
