//! Witness events: which servers send them, when, and which interfaces leave them out.

use std::{sync::Arc, time::Duration};

use ruma::{RoomId, RoomVersionId};
use serde_json::json;
use weft_dag::{Pdu, RoomVersion};
use weft_room_api::{NewEvent, RoomError};
use weft_room_read::{Direction, Types};
use weft_store::memory::Tail;
use weft_testkit::{check, update_content, user};
use weft_wire::{event_types, limits::WITNESS_INTERVAL_MS};

use super::{ALICE, BOB, CAROL, net::Net};

/// Longer than the interval of witness events plus the turns of all servers.
const LONG: Duration = Duration::from_millis(WITNESS_INTERVAL_MS + 2 * 60 * 1_000);

/// The witness events of one server's users that a server has, oldest first.
async fn witnesses(net: &Net, server: &str, room: &RoomId, of: &str) -> Vec<Arc<Pdu>> {
    let reader = net.rooms(server).reader().clone();
    let page = reader
        .timeline(room, None, Direction::Forward, Types::All, 500)
        .await
        .unwrap();
    let events = page.events.into_iter().map(|event| event.pdu);
    let of_type = events.filter(|pdu| pdu.kind() == event_types::WITNESS);
    of_type.filter(|pdu| pdu.sender().server_name() == of).collect()
}

async fn counts(net: &Net, room: &RoomId) -> (usize, usize) {
    (
        witnesses(net, "a.example", room, "a.example").await.len(),
        witnesses(net, "a.example", room, "b.example").await.len(),
    )
}

/// Advances the time, and waits until all events are delivered.
async fn advance(net: &Net, room: &RoomId) {
    tokio::time::sleep(LONG).await;
    net.quiet(room).await;
}

#[tokio::test(start_paused = true)]
async fn a_server_with_readers_only_confirms_received_updates_once() {
    for version in [RoomVersionId::V12, RoomVersionId::V11, RoomVersionId::V6] {
        let net = Net::new(&["a.example", "b.example"]).await;
        let room = net.document(ALICE, &version).await;
        net.invite_and_join(ALICE, BOB, &room, 0).await;
        advance(&net, &room).await;
        assert_eq!(counts(&net, &room).await, (0, 0), "{version}: there is no update yet");
        for number in 1..3 {
            net.edit(ALICE, &room, 0, "one ").await;
            net.seal(ALICE, &room).await;
            net.edit(ALICE, &room, 0, "two ").await;
            net.quiet(&room).await;
            let extremities = net.rooms("b.example").reader().extremities(&room).await.unwrap();
            assert_eq!(
                counts(&net, &room).await,
                (0, number - 1),
                "{version}: it is not due yet"
            );
            advance(&net, &room).await;
            assert_eq!(counts(&net, &room).await, (0, number), "{version}");
            let witness = witnesses(&net, "a.example", &room, "b.example").await.pop().unwrap();
            assert_eq!(
                witness.prev_events(),
                extremities,
                "{version}: it references all extremities"
            );
            assert_eq!(witness.sender(), user(BOB));
            advance(&net, &room).await;
            assert_eq!(counts(&net, &room).await, (0, number), "{version}: once");
        }
        net.assert_same(&room).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_sent_an_update_needs_no_witness_event() {
    let net = Net::new(&["a.example", "b.example"]).await;
    let room = net.document(ALICE, &RoomVersionId::V12).await;
    net.invite_and_join(ALICE, BOB, &room, 25).await;
    net.edit(ALICE, &room, 0, "from a ").await;
    net.quiet(&room).await;
    net.message(BOB, &room, "a message confirms it as well").await;
    net.quiet(&room).await;
    advance(&net, &room).await;
    assert_eq!(
        counts(&net, &room).await,
        (0, 0),
        "a message is no update, so a sends no witness event"
    );
    net.edit(ALICE, &room, 0, "again ").await;
    net.quiet(&room).await;
    net.edit(BOB, &room, 0, "from b ").await;
    net.quiet(&room).await;
    advance(&net, &room).await;
    assert_eq!(counts(&net, &room).await, (1, 0), "b sent the last update");
}

/// Updates from before a join are received by backfill and confirmed too.
#[tokio::test(start_paused = true)]
async fn a_joining_server_confirms_the_existing_text() {
    let net = Net::new(&["a.example", "b.example"]).await;
    let room = net.document(ALICE, &RoomVersionId::V12).await;
    net.edit(ALICE, &room, 0, "before ").await;
    net.invite_and_join(ALICE, BOB, &room, 0).await;
    net.quiet(&room).await;
    advance(&net, &room).await;
    assert_eq!(counts(&net, &room).await, (0, 1));
}

#[tokio::test(start_paused = true)]
async fn a_witness_event_is_no_activity_for_users() {
    let net = Net::new(&["a.example", "b.example"]).await;
    let room = net.document(ALICE, &RoomVersionId::V12).await;
    net.invite_and_join(ALICE, BOB, &room, 0).await;
    net.message(ALICE, &room, "hello").await;
    net.edit(ALICE, &room, 0, "text ").await;
    net.quiet(&room).await;
    let newest = |server: &str| net.rooms(server).reader().clone();
    let before = newest("a.example").newest_change(&room).await.unwrap().unwrap();
    assert_eq!(before.pdu.kind(), event_types::UPDATE);
    advance(&net, &room).await;
    assert_eq!(counts(&net, &room).await, (0, 1));
    for server in ["a.example", "b.example"] {
        let reader = net.rooms(server).reader().clone();
        let newest = reader.newest_change(&room).await.unwrap().unwrap();
        assert_eq!(newest.pdu.event_id(), before.pdu.event_id(), "{server}");
        let page = reader.timeline(&room, None, Direction::Backward, Types::WithoutUpdates, 100);
        let kinds: Vec<String> = page
            .await
            .unwrap()
            .events
            .iter()
            .map(|event| event.pdu.kind().to_owned())
            .collect();
        assert_eq!(kinds[0], "m.room.message", "{server}");
        assert!(
            !kinds.iter().any(|kind| kind == event_types::WITNESS),
            "{server}: {kinds:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_due_witness_event_is_sent_after_a_power_loss() {
    let net = Net::new(&["a.example", "b.example"]).await;
    let room = net.document(ALICE, &RoomVersionId::V12).await;
    net.invite_and_join(ALICE, BOB, &room, 0).await;
    net.edit(ALICE, &room, 0, "text ").await;
    net.quiet(&room).await;
    net.power_loss("b.example", Tail::Lost).await;
    net.rooms("b.example").recover().await.unwrap();
    advance(&net, &room).await;
    assert_eq!(counts(&net, &room).await, (0, 1));
}

/// The server was offline when its witness event became due. Events received afterwards are not confirmed by it.
#[tokio::test(start_paused = true)]
async fn a_due_witness_event_precedes_newly_received_events() {
    let net = Net::new(&["a.example", "b.example"]).await;
    let room = net.document(ALICE, &RoomVersionId::V12).await;
    net.invite_and_join(ALICE, BOB, &room, 0).await;
    net.edit(ALICE, &room, 0, "long here ").await;
    net.quiet(&room).await;
    let known = net.rooms("b.example").reader().extremities(&room).await.unwrap();
    net.power_loss("b.example", Tail::Lost).await;
    tokio::time::sleep(LONG).await;
    net.rooms("b.example").recover().await.unwrap();
    net.edit(ALICE, &room, 0, "late ").await;
    net.quiet(&room).await;
    let sent = witnesses(&net, "a.example", &room, "b.example").await;
    assert_eq!(sent.len(), 1);
    assert_eq!(
        sent[0].prev_events(),
        known,
        "it references the events from before, not the new ones"
    );
    advance(&net, &room).await;
    assert_eq!(
        counts(&net, &room).await,
        (0, 2),
        "the new events are confirmed when due"
    );
    net.assert_same(&room).await;
}

#[tokio::test(start_paused = true)]
async fn without_a_power_level_for_witness_events_commenters_send_them() {
    let net = Net::new(&["a.example", "b.example"]).await;
    let room = net.document(ALICE, &RoomVersionId::V12).await;
    net.invite_and_join(ALICE, BOB, &room, 0).await;
    let reader = net.rooms("a.example").reader().clone();
    let levels = reader
        .state_event(&room, "m.room.power_levels", "")
        .await
        .unwrap()
        .unwrap();
    let mut levels: serde_json::Value = levels.content_as().unwrap();
    levels["events"]
        .as_object_mut()
        .unwrap()
        .remove(event_types::WITNESS)
        .unwrap();
    net.state_event(ALICE, &room, "m.room.power_levels", levels)
        .await
        .unwrap();
    for (power, expected) in [(0, 0), (10, 1)] {
        net.power(ALICE, &room, BOB, power).await;
        net.quiet(&room).await;
        net.edit(ALICE, &room, 0, "text ").await;
        net.quiet(&room).await;
        advance(&net, &room).await;
        assert_eq!(counts(&net, &room).await, (0, expected), "power {power}");
    }
}

#[tokio::test]
async fn users_cannot_send_witness_events_or_name_updates() {
    let net = Net::new(&["a.example"]).await;
    let room = net.document(ALICE, &RoomVersionId::V12).await;
    let event = |kind: &str, content: serde_json::Value| NewEvent {
        sender: user(ALICE),
        kind: kind.to_owned(),
        state_key: None,
        content: content.as_object().unwrap().clone(),
        redacts: None,
        txn: None,
        timestamp: None,
    };
    let rooms = net.rooms("a.example");
    let refused = rooms.send(&room, event(event_types::WITNESS, json!({}))).await;
    assert!(matches!(refused, Err(RoomError::Forbidden { .. })), "{refused:?}");
    let mut content = update_content(7, "text");
    content[event_types::STANDS] = json!(["$some:event"]);
    let sent = rooms.send(&room, event(event_types::UPDATE, content)).await.unwrap();
    let stored = rooms.reader().stored_event(&room, &sent).await.unwrap().unwrap();
    let content: serde_json::Value = stored.pdu.content_as().unwrap();
    assert!(content.get(event_types::STANDS).is_none());
    assert_eq!(net.text("a.example", &room).await, "text");
}

/// A server that receives two claims to the same clocks, and references neither alone, names the one that stands.
#[tokio::test(start_paused = true)]
async fn a_server_that_references_two_rivals_names_the_one_that_stands() {
    let net = Net::new(&["a.example", "b.example", "c.example"]).await;
    let room = net.document(ALICE, &RoomVersionId::V12).await;
    net.invite_and_join(ALICE, BOB, &room, 25).await;
    net.invite_and_join(ALICE, CAROL, &room, 0).await;
    advance(&net, &room).await;
    let before = net.rooms("b.example").reader().extremities(&room).await.unwrap();
    let event = NewEvent {
        sender: user(ALICE),
        kind: event_types::UPDATE.to_owned(),
        state_key: None,
        content: update_content(7, "from a").as_object().unwrap().clone(),
        redacts: None,
        txn: None,
        timestamp: None,
    };
    let one = net.rooms("a.example").send(&room, event).await.unwrap();
    net.lose();
    let stored = net
        .rooms("a.example")
        .reader()
        .stored_event(&room, &one)
        .await
        .unwrap()
        .unwrap();
    let version = RoomVersion::new(&RoomVersionId::V12).unwrap();
    let claim = update_content(7, "from b");
    let other = net.forge(BOB, &room, before, event_types::UPDATE, None, claim).await;
    let other_id = other.pdu().event_id().to_owned();
    let c = net.rooms("c.example");
    c.receive(user(ALICE).server_name(), vec![check(&stored.pdu, &version)])
        .await
        .unwrap();
    c.receive(user(BOB).server_name(), vec![other]).await.unwrap();
    advance(&net, &room).await;
    let witness = witnesses(&net, "a.example", &room, "c.example").await.pop().unwrap();
    let content: serde_json::Value = witness.content_as().unwrap();
    let standing = match net.text("c.example", &room).await.as_str() {
        "from a" => one,
        "from b" => other_id,
        text => panic!("{text}"),
    };
    assert_eq!(content[event_types::STANDS], json!([standing]));
    net.assert_same(&room).await;
}
