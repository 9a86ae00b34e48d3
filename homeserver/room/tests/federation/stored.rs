//! The stored data of a room in which users of other servers write: limits on rows, on bytes of a batch, and on reads.

use std::{collections::BTreeSet, sync::Arc};

use ruma::{OwnedEventId, RoomId, RoomVersionId, ServerName};
use serde_json::json;
use weft_dag::{Pdu, RoomVersion, Verified, event_flags};
use weft_room_api::RoomError;
use weft_room_read::{Direction, Types};
use weft_store::{
    Batch,
    memory::Tail,
    tables::{
        documents::{SNAPSHOT_PARTS, SNAPSHOT_TAIL, VECTORS},
        rooms::{EVENTS, INCOMPLETE_ROOMS, MISSING_EVENTS, NOTHING_MISSING, STAGING},
    },
};
use weft_testkit::{check, user};

use super::{
    ALICE, BOB,
    net::{Net, STAGED_BYTES},
};

/// Rows of a tail above which it is compacted, and some that are appended in the same turn.
const LONGEST_TAIL: usize = 256 + 50;

#[tokio::test]
async fn updates_of_other_servers_are_compacted_into_the_snapshot() {
    let net = Net::new(&["a.example", "b.example"]).await;
    let room = net.document(ALICE, &RoomVersionId::V12).await;
    net.invite_and_join(ALICE, BOB, &room, 0).await;
    for number in 0..LONGEST_TAIL + 50 {
        net.edit(ALICE, &room, 0, &format!("{number} ")).await;
        net.seal(ALICE, &room).await;
    }
    net.quiet(&room).await;
    for server in ["a.example", "b.example"] {
        let tail = net
            .store(server)
            .scan_all(SNAPSHOT_TAIL.under(&(&room,)))
            .await
            .unwrap();
        assert!(tail.len() <= LONGEST_TAIL, "{server}: {} rows", tail.len());
    }
    net.assert_same(&room).await;
    let text = net.text("b.example", &room).await;
    net.power_loss("b.example", Tail::Lost).await;
    assert_eq!(net.text("b.example", &room).await, text);
    net.assert_same(&room).await;
}

/// A text as large as the largest batch could not be stored if one batch had to contain it.
#[tokio::test]
async fn no_batch_holds_a_whole_document() {
    let net = Net::new(&["a.example", "b.example"]).await;
    let room = net.document(ALICE, &RoomVersionId::V12).await;
    let paste = "a line of text. ".repeat(200_000);
    for _ in 0..4 {
        net.edit(ALICE, &room, 0, &paste).await;
        net.seal(ALICE, &room).await;
    }
    let whole = paste.len() * 4;
    // First from the other server's snapshot, then from the events.
    net.invite_and_join(ALICE, BOB, &room, 0).await;
    if let Some(history) = net.rooms("b.example").coming_history(&room) {
        history.over().await;
    }
    net.quiet(&room).await;
    net.assert_same(&room).await;
    assert_eq!(net.text("b.example", &room).await.len(), whole);
    let largest = net.gate("b.example").largest_batch();
    assert!(
        largest < whole * 3 / 4,
        "a batch has {largest} bytes, the text has {whole}"
    );
    net.power_loss("b.example", Tail::Lost).await;
    assert_eq!(net.text("b.example", &room).await.len(), whole);
    net.assert_same(&room).await;
    let parts = net
        .store("b.example")
        .scan_all(SNAPSHOT_PARTS.under(&(&room,)))
        .await
        .unwrap();
    let generations: BTreeSet<u64> = parts.iter().map(|((_, generation, _), _)| *generation).collect();
    assert_eq!(generations.len(), 1, "older snapshots are deleted");
}

/// Each time the text is rebuilt from its events, all vectors are written again.
#[tokio::test]
async fn unreferenced_vectors_are_deleted() {
    let net = Net::new(&["a.example", "b.example"]).await;
    let room = net.document(ALICE, &RoomVersionId::V12).await;
    for word in ["one ", "two ", "three "] {
        net.edit(ALICE, &room, 0, word).await;
        net.seal(ALICE, &room).await;
    }
    net.invite_and_join(ALICE, BOB, &room, 25).await;
    net.quiet(&room).await;
    net.assert_same(&room).await;
    let b = net.rooms("b.example");
    if let Some(history) = b.coming_history(&room) {
        history.over().await;
    }
    let count = async || {
        net.store("b.example")
            .scan_all(VECTORS.under(&(&room,)))
            .await
            .unwrap()
            .len()
    };
    let events = async || {
        net.store("b.example")
            .scan_all(EVENTS.under(&(&room,)))
            .await
            .unwrap()
            .len()
    };
    assert!(count().await <= events().await, "{} vectors", count().await);
}

#[tokio::test]
async fn missing_events_are_loaded_after_a_restart_without_reading_the_room() {
    let net = Net::new(&["a.example", "b.example"]).await;
    let room = net.document(ALICE, &RoomVersionId::V12).await;
    net.edit(ALICE, &room, 0, "before ").await;
    net.seal(ALICE, &room).await;
    net.network().refuse_history(true);
    net.invite_and_join(ALICE, BOB, &room, 25).await;
    net.quiet(&room).await;
    net.power_loss("b.example", Tail::Lost).await;
    let b = net.rooms("b.example");
    let hello = net.message(ALICE, &room, "hello").await;
    net.until(|| async { b.reader().order(&room, &hello).await.unwrap().is_some() })
        .await;
    let key = EVENTS.physical(&(&room, &hello));
    assert_eq!(
        net.gate("b.example").scans_over(&key),
        0,
        "the events of the room are not read"
    );
    let store = net.store("b.example");
    let version = RoomVersion::new(&RoomVersionId::V12).unwrap();
    let (mut here, mut cited) = (BTreeSet::new(), BTreeSet::new());
    for ((_, id), row) in store.scan_all(EVENTS.under(&(&room,))).await.unwrap() {
        if !row.has(event_flags::OUTLIER) {
            let pdu = Pdu::from_trusted_json(row.text().unwrap(), id.clone(), &version, false).unwrap();
            cited.extend(pdu.prev_events().iter().cloned());
            here.insert(id);
        }
    }
    let missing: BTreeSet<OwnedEventId> = cited.difference(&here).cloned().collect();
    assert!(!missing.is_empty());
    let rows = store.scan_all(MISSING_EVENTS.under(&(&room,))).await.unwrap();
    assert_eq!(
        rows.into_iter().map(|((_, id), ())| id).collect::<BTreeSet<_>>(),
        missing
    );
    // No row is left when all events were received.
    net.network().refuse_history(false);
    b.recover().await.unwrap();
    net.until(|| async {
        store
            .scan_all(MISSING_EVENTS.under(&(&room,)))
            .await
            .unwrap()
            .is_empty()
    })
    .await;
    net.quiet(&room).await;
    net.assert_same(&room).await;
}

/// After the last missing event has arrived, and before the text is worked out, a restart does not make the worker read
/// all events.
#[tokio::test]
async fn a_room_whose_missing_events_have_arrived_is_loaded_without_reading_it() {
    let net = Net::new(&["a.example", "b.example"]).await;
    let room = net.document(ALICE, &RoomVersionId::V12).await;
    net.edit(ALICE, &room, 0, "before ").await;
    net.seal(ALICE, &room).await;
    net.network().refuse_history(true);
    net.invite_and_join(ALICE, BOB, &room, 25).await;
    net.quiet(&room).await;
    let (gate, store, b) = (net.gate("b.example"), net.store("b.example"), net.rooms("b.example"));
    let extremities = b.reader().extremities(&room).await.unwrap();
    let key = EVENTS.physical(&(&room, &extremities[0]));
    let is_marked = async |store: &weft_store::Store| store.contains(&NOTHING_MISSING, &(&room,)).await.unwrap();

    // The first read is that of the job, which looks for missing events; the second is that of the task which works the
    // text out.
    net.network().refuse_history(false);
    gate.hold_next_scan(MISSING_EVENTS.physical(&(&room, &extremities[0])));
    b.recover().await.unwrap();
    gate.reached().await;
    assert!(!is_marked(&store).await);
    gate.hold_next_scan(key.clone());
    gate.open();
    gate.reached().await;
    assert!(is_marked(&store).await);
    assert!(store.contains(&INCOMPLETE_ROOMS, &(&room,)).await.unwrap());
    gate.open();
    net.until(|| async { !is_marked(&store).await }).await;
    assert!(!store.contains(&INCOMPLETE_ROOMS, &(&room,)).await.unwrap());
    net.quiet(&room).await;
    net.assert_same(&room).await;

    // The rows of that moment, without the job, which reads the events too.
    let mut batch = Batch::new();
    batch.put(&INCOMPLETE_ROOMS, &(&room,), &"a.example".to_owned());
    batch.put(&NOTHING_MISSING, &(&room,), &());
    store.commit(batch).await.unwrap();
    net.power_loss("b.example", Tail::Lost).await;
    let b = net.rooms("b.example");
    let hello = net.message(ALICE, &room, "hello").await;
    net.until(|| async { b.reader().order(&room, &hello).await.unwrap().is_some() })
        .await;
    assert_eq!(net.gate("b.example").scans_over(&key), 0);
}

#[tokio::test]
async fn an_edit_does_not_wait_for_all_staged_events() {
    let net = Arc::new(Net::new(&["a.example", "b.example"]).await);
    let room = net.document(ALICE, &RoomVersionId::V12).await;
    net.invite_and_join(ALICE, BOB, &room, 25).await;
    net.quiet(&room).await;
    net.network().cut();
    let mut last = None;
    for number in 0..400 {
        last = Some(net.message(ALICE, &room, &format!("message {number}")).await);
    }
    net.lose();
    net.heal(0).await;
    let a = net.rooms("a.example");
    let page = a.reader().timeline(&room, None, Direction::Backward, Types::All, 400);
    let mut events = page.await.unwrap().events;
    events.reverse();
    let version = RoomVersion::new(&RoomVersionId::V12).unwrap();
    let events = events.iter().map(|event| check(&event.pdu, &version)).collect();
    let b = net.rooms("b.example");
    b.receive(user(ALICE).server_name(), events).await.unwrap();
    let store = net.store("b.example");
    // In a separate task: the runtime polls the test itself less often.
    let edit = tokio::spawn({
        let (net, room) = (Arc::clone(&net), room.clone());
        async move {
            net.edit(BOB, &room, 0, "written meanwhile ").await;
            store.scan_all(STAGING.under(&(&room,))).await.unwrap().len()
        }
    });
    let staged = edit.await.unwrap();
    assert!(staged >= 200, "the edit waited, {staged} events are left");
    net.until(|| async { b.reader().order(&room, last.as_ref().unwrap()).await.unwrap().is_some() })
        .await;
    net.quiet(&room).await;
    net.assert_same(&room).await;
    assert_eq!(net.text("a.example", &room).await, "written meanwhile ");
}

/// Events of almost the largest size.
async fn large_events(net: &Net, room: &RoomId, prev: &[OwnedEventId], count: usize) -> Vec<Verified> {
    let mut events = Vec::new();
    for number in 0..count {
        let content = json!({ "body": format!("{number} {}", "x".repeat(60_000)) });
        let event = net.forge(BOB, room, prev.to_vec(), "m.room.message", None, content);
        events.push(event.await);
    }
    events
}

#[tokio::test]
async fn the_bytes_of_staged_events_are_limited_for_each_server_and_in_all() {
    let net = Net::new(&["a.example", "b.example"]).await;
    let room = net.document(ALICE, &RoomVersionId::V12).await;
    net.invite_and_join(ALICE, BOB, &room, 25).await;
    net.quiet(&room).await;
    let (rooms, store) = (net.rooms("a.example"), net.store("a.example"));
    let staged = async || store.scan_all(STAGING.under(&(&room,))).await.unwrap().len();
    // They wait for an event that nobody has.
    let nowhere = [ruma::EventId::new_v2_or_v3(&"x".repeat(43)).unwrap()];
    let each = usize::try_from(STAGED_BYTES / 4 / 61_000).unwrap();
    let events = large_events(&net, &room, &nowhere, each + 1).await;
    let mut expected = 0;
    for server in ["b.example", "c.example", "d.example", "e.example"] {
        let server = ServerName::parse(server).unwrap();
        let left_out = rooms.receive(&server, events[..each].to_vec()).await.unwrap();
        assert_eq!(left_out, Vec::<OwnedEventId>::new());
        expected += each;
        let refused = rooms.receive(&server, events[each..].to_vec()).await;
        assert!(matches!(refused, Err(RoomError::LimitExceeded(_))), "{refused:?}");
        assert_eq!(staged().await, expected, "nothing of the refused transaction is staged");
    }
    // The room is full: another server is not refused as a whole.
    let other = ServerName::parse("f.example").unwrap();
    let left_out = rooms.receive(&other, events[..8].to_vec()).await.unwrap();
    assert_eq!(staged().await, expected + 8 - left_out.len());
    let newest = events[7].pdu().event_id().to_owned();
    assert_eq!(left_out.last(), Some(&newest), "the newest events are refused");
    // What is acknowledged stays, and another room is not affected.
    net.power_loss("a.example", Tail::Lost).await;
    assert_eq!(
        net.store("a.example")
            .scan_all(STAGING.under(&(&room,)))
            .await
            .unwrap()
            .len(),
        expected + 8 - left_out.len()
    );
    let refused = net
        .rooms("a.example")
        .receive(user(BOB).server_name(), events[each..].to_vec())
        .await;
    assert!(
        matches!(refused, Err(RoomError::LimitExceeded(_))),
        "also after a restart"
    );
}

#[tokio::test]
async fn merged_events_do_not_count_as_staged() {
    let net = Net::new(&["a.example", "b.example"]).await;
    let room = net.document(ALICE, &RoomVersionId::V12).await;
    net.invite_and_join(ALICE, BOB, &room, 25).await;
    net.quiet(&room).await;
    let rooms = net.rooms("a.example");
    let heads = rooms.reader().extremities(&room).await.unwrap();
    let count = usize::try_from(STAGED_BYTES / 60_000).unwrap() * 2;
    for (number, event) in large_events(&net, &room, &heads, count).await.into_iter().enumerate() {
        let id = event.pdu().event_id().to_owned();
        let received = rooms.receive(user(BOB).server_name(), vec![event]).await;
        assert_eq!(received.unwrap(), Vec::<OwnedEventId>::new(), "event {number}");
        net.until(|| async { rooms.reader().order(&room, &id).await.unwrap().is_some() })
            .await;
    }
}
