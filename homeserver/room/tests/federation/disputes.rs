//! The text of a document in which clocks are claimed twice is worked out in a task separate from the room's worker:
//! users edit and read meanwhile, and the events that arrive meanwhile are part of the result.

use std::time::Duration;

use bytes::Bytes;
use ruma::{OwnedEventId, RoomId, RoomVersionId};
use serde_json::json;
use weft_dag::Verified;
use weft_store::tables::rooms::EVENTS;
use weft_testkit::{check, update_content, user};

use super::{
    ALICE, BOB, CAROL,
    net::Net,
    pruned::{copy, with_an_update_that_was_lost},
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
    gate.hold_next_read(all_events(&room));
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

/// Updates of Bob's server that all claim the first clocks of one client id, each with other content and at another
/// place of the graph.
pub(super) async fn overlapping_claims(net: &Net, room: &RoomId, count: usize) -> Vec<Verified> {
    let mut heads = net.rooms("a.example").reader().extremities(room).await.unwrap();
    let mut claims = Vec::with_capacity(count);
    for n in 0..count {
        let content = update_content(900_000, &format!("claim {n} "));
        let claim = net
            .forge(BOB, room, heads.clone(), "dev.weft.update", None, content)
            .await;
        if n % 10 == 9 {
            heads = vec![claim.pdu().event_id().to_owned()];
        }
        claims.push(claim);
    }
    claims
}

/// The key before those of all events of a room: the first page of a scan of all events covers it.
fn all_events(room: &RoomId) -> Bytes {
    let nowhere: OwnedEventId = ruma::EventId::new_v2_or_v3(&"-".repeat(43)).unwrap();
    EVENTS.physical(&(room, &nowhere))
}

/// However many claims arrive, all events of the room are read once in a window of ten seconds.
#[tokio::test(start_paused = true)]
async fn many_overlapping_claims_cost_one_run_in_a_window() {
    let net = Net::new(&["a.example", "b.example", "c.example"]).await;
    let room = net.document(ALICE, &RoomVersionId::V12).await;
    net.invite_and_join(ALICE, BOB, &room, 50).await;
    net.invite_and_join(ALICE, CAROL, &room, 50).await;
    net.quiet(&room).await;
    net.assert_same(&room).await;
    let claims = overlapping_claims(&net, &room, 400).await;
    let (a, gate) = (net.rooms("a.example"), net.gate("a.example"));
    let (before, began) = (gate.scans_over(&all_events(&room)), tokio::time::Instant::now());
    for some in claims.chunks(50) {
        a.receive(user(BOB).server_name(), some.to_vec()).await.unwrap();
        net.edit(ALICE, &room, 0, "x").await;
    }
    let last = claims.last().unwrap().pdu().event_id();
    net.until(async || a.reader().order(&room, last).await.unwrap().is_some())
        .await;
    tokio::time::sleep(Duration::from_secs(25)).await;
    let windows = usize::try_from(began.elapsed().as_secs() / 10).unwrap() + 1;
    let runs = gate.scans_over(&all_events(&room)) - before;
    assert!((1..=windows).contains(&runs), "{runs} runs in {windows} windows");
    assert!(net.text("a.example", &room).await.contains("xxxxxxxx"));
}

/// Another server chooses how many branches its events make. What a later event costs does not grow with them.
#[tokio::test(start_paused = true)]
async fn an_event_costs_as_many_reads_beside_a_thousand_branches_as_beside_few() {
    let net = Net::new(&["a.example", "b.example", "c.example"]).await;
    let room = net.document(ALICE, &RoomVersionId::V12).await;
    net.invite_and_join(ALICE, BOB, &room, 50).await;
    net.invite_and_join(ALICE, CAROL, &room, 50).await;
    net.quiet(&room).await;
    let (a, gate) = (net.rooms("a.example"), net.gate("a.example"));
    let heads = a.reader().extremities(&room).await.unwrap();
    let mut reads = Vec::new();
    for portion in 0..24 {
        let mut events = Vec::new();
        for n in 0..50 {
            let content = json!({ "msgtype": "m.text", "body": format!("{portion} {n}") });
            let message = net.forge(BOB, &room, heads.clone(), "m.room.message", None, content);
            events.push(message.await);
        }
        let last = events.last().unwrap().pdu().event_id().to_owned();
        let before = gate.keys_read();
        a.receive(user(BOB).server_name(), events).await.unwrap();
        net.until(async || a.reader().order(&room, &last).await.unwrap().is_some())
            .await;
        reads.push(gate.keys_read() - before);
    }
    let branches = a.reader().extremities(&room).await.unwrap().len();
    assert!(branches > 1_000, "{branches} branches");
    // Up to the hundred branches that are examined, the number grows.
    let (few, many) = (reads[3].max(reads[4]), reads[22].max(reads[23]));
    assert!(many <= few + few / 5, "{reads:?}");
}

/// The text of a document whose history arrives is worked out in a task of its own.
#[tokio::test]
async fn edits_and_reads_continue_while_a_history_is_worked_out() {
    let net = Net::new(&["a.example", "b.example"]).await;
    let room = net.document(ALICE, &RoomVersionId::V12).await;
    net.edit(ALICE, &room, 0, "first ").await;
    net.seal(ALICE, &room).await;
    let (b, gate) = (net.rooms("b.example"), net.gate("b.example"));
    // Only the run reads all events.
    gate.hold_next_read(all_events(&room));
    net.invite_and_join(ALICE, BOB, &room, 50).await;
    gate.reached().await;

    let opened = b.open(&room).await.unwrap();
    net.edit(BOB, &room, 0, "bob ").await;
    assert_ne!(b.open(&room).await.unwrap(), opened);
    net.seal(BOB, &room).await;
    net.edit(ALICE, &room, 0, "alice ").await;
    net.seal(ALICE, &room).await;
    net.until(async || net.text("b.example", &room).await.contains("alice "))
        .await;
    net.edit(BOB, &room, 0, "pending ").await;
    assert!(
        b.coming_history(&room).is_some(),
        "the history must not be complete yet"
    );

    gate.open();
    net.until(async || b.coming_history(&room).is_none()).await;
    let version = b.reader().document_version(&room).await.unwrap();
    assert!(version > 0);
    net.message(ALICE, &room, "good evening").await;
    net.quiet(&room).await;
    net.assert_same(&room).await;
    let text = net.text("b.example", &room).await;
    for word in ["first ", "alice ", "bob ", "pending "] {
        assert_eq!(text.matches(word).count(), 1, "{text}");
    }
}

/// So is the text of a document in which an update that was received redacted is restored.
#[tokio::test]
async fn edits_and_reads_continue_while_a_restored_update_is_worked_in() {
    let net = Net::new(&["a.example", "b.example"]).await;
    let (room, pdu) = with_an_update_that_was_lost(&net).await;
    let (b, gate, origin) = (
        net.rooms("b.example"),
        net.gate("b.example"),
        pdu.sender().server_name(),
    );
    net.network().cut();
    b.receive(origin, vec![copy(&pdu)]).await.unwrap();
    net.until(async || b.reader().stored_event(&room, pdu.event_id()).await.unwrap().is_some())
        .await;
    gate.hold_next_read(all_events(&room));
    let version = weft_dag::RoomVersion::new(&RoomVersionId::V12).unwrap();
    b.receive(origin, vec![check(&pdu, &version)]).await.unwrap();
    gate.reached().await;
    net.edit(BOB, &room, 0, "bob ").await;
    net.seal(BOB, &room).await;
    assert!(net.text("b.example", &room).await.starts_with("bob "));
    gate.open();
    net.heal(1).await;
    net.edit(ALICE, &room, 0, "after ").await;
    net.quiet(&room).await;
    net.until(async || net.text("b.example", &room).await.contains("hidden "))
        .await;
    net.assert_same(&room).await;
}
