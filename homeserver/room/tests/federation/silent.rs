//! Servers that do not answer, or answer gaps with more gaps: users of other servers edit and open documents meanwhile,
//! events of other servers are merged, and the missing events arrive in the end.

use ruma::{OwnedEventId, OwnedRoomId, RoomId, RoomVersionId};
use serde_json::json;
use weft_dag::Verified;
use weft_testkit::{check, user};

use super::{ALICE, BOB, CAROL, net::Net};

const DAVE: &str = "@dave:d.example";
pub(super) const SERVERS: [&str; 4] = ["a.example", "b.example", "c.example", "d.example"];

/// A document of Alice in which Bob and Carol of two other servers edit.
pub(super) async fn three(net: &Net) -> OwnedRoomId {
    let room = net.document(ALICE, &RoomVersionId::V12).await;
    net.invite_and_join(ALICE, BOB, &room, 50).await;
    net.invite_and_join(ALICE, CAROL, &room, 50).await;
    let public = json!({ "join_rule": "public" });
    net.state_event(ALICE, &room, "m.room.join_rules", public)
        .await
        .unwrap();
    net.quiet(&room).await;
    net.assert_same(&room).await;
    room
}

/// An event of `who` after an update that no other server receives.
pub(super) async fn message_after_gap(net: &Net, who: &str, room: &RoomId, lost: &str) -> OwnedEventId {
    net.network().cut();
    net.edit(who, room, 0, lost).await;
    net.seal(who, room).await;
    net.lose();
    let event = net.message(who, room, "after a gap").await;
    net.heal(1).await;
    event
}

/// Whether a server has persisted the event.
async fn has(net: &Net, server: &str, room: &RoomId, event: &OwnedEventId) -> bool {
    net.rooms(server).reader().order(room, event).await.unwrap().is_some()
}

/// Alice opens the document, reads and edits it, and a member's state changes: all of it is answered.
async fn edits_are_answered(net: &Net, room: &RoomId, word: &str) {
    let a = net.rooms("a.example");
    let opened = a.open(room).await.unwrap();
    net.edit(ALICE, room, 0, word).await;
    assert_ne!(a.open(room).await.unwrap(), opened);
    assert!(net.text("a.example", room).await.starts_with(word));
    net.seal(ALICE, room).await;
    net.topic(ALICE, room, word).await;
}

/// Events of Bob's server, each of which references the previous one; the first references an event that does not
/// exist. Newest last.
pub(super) async fn chain(net: &Net, room: &RoomId, length: usize) -> Vec<Verified> {
    let nowhere: OwnedEventId = ruma::EventId::new_v2_or_v3(&"x".repeat(43)).unwrap();
    let mut prev = nowhere;
    let mut events: Vec<Verified> = Vec::new();
    for n in 0..length {
        let event = net
            .forge(BOB, room, vec![prev], "m.room.message", None, json!({ "n": n }))
            .await;
        prev = event.pdu().event_id().to_owned();
        events.push(event);
    }
    events
}

#[tokio::test]
async fn an_unresponsive_server_delays_no_edit_and_no_opening() {
    let net = Net::new(&SERVERS).await;
    let room = three(&net).await;
    net.network().silence("b.example");
    let event = message_after_gap(&net, BOB, &room, "missed ").await;
    net.until(async || net.network().unanswered() > 0).await;
    edits_are_answered(&net, &room, "alone ").await;
    assert!(net.network().unanswered() > 0, "the server must not have answered");
    assert!(!has(&net, "a.example", &room, &event).await);
    net.network().answer_again();
    net.until(async || has(&net, "a.example", &room, &event).await).await;
    net.message(ALICE, &room, "good evening").await;
    net.quiet(&room).await;
    net.assert_same(&room).await;
    assert!(net.text("a.example", &room).await.contains("missed "));
}

#[tokio::test]
async fn an_unresponsive_server_delays_no_gap_of_another_server() {
    let net = Net::new(&SERVERS).await;
    let room = three(&net).await;
    net.network().silence("b.example");
    message_after_gap(&net, BOB, &room, "missed ").await;
    net.until(async || net.network().unanswered() > 0).await;
    let event = message_after_gap(&net, CAROL, &room, "also missed ").await;
    net.until(async || has(&net, "a.example", &room, &event).await).await;
    assert!(
        net.network().unanswered() > 0,
        "the first request must not be answered yet"
    );
    assert!(net.text("a.example", &room).await.contains("also missed "));
    net.network().answer_again();
    net.message(ALICE, &room, "good evening").await;
    net.quiet(&room).await;
    net.assert_same(&room).await;
}

#[tokio::test]
async fn a_join_over_an_unfillable_gap_delays_only_its_own_answer() {
    let net = Net::new(&SERVERS).await;
    let room = three(&net).await;
    net.network().cut();
    net.edit(BOB, &room, 0, "missed ").await;
    net.seal(BOB, &room).await;
    net.lose();
    let heads = net.rooms("b.example").reader().extremities(&room).await.unwrap();
    net.heal(1).await;
    for server in ["b.example", "c.example", "d.example"] {
        net.network().silence(server);
    }
    let join = json!({ "membership": "join" });
    let event = net.forge(DAVE, &room, heads, "m.room.member", Some(DAVE), join).await;
    let (a, origin) = (net.rooms("a.example"), user(DAVE).server_name().to_owned());
    let joining = tokio::spawn(async move { a.accept_membership(&origin, event).await });
    net.until(async || net.network().unanswered() > 0).await;
    edits_are_answered(&net, &room, "alone ").await;
    assert!(!joining.is_finished() && net.network().unanswered() > 0);
    net.network().answer_again();
    joining.await.unwrap().unwrap();
    // Both are at the same position: either may be first.
    let is_there = |text: &str| text.contains("alone ") && text.contains("missed ");
    net.until(async || is_there(&net.text("a.example", &room).await)).await;
}

#[tokio::test]
async fn endless_gaps_delay_no_other_server_and_cost_a_limited_number_of_requests() {
    let net = Net::new(&SERVERS).await;
    let room = three(&net).await;
    let chain = chain(&net, &room, 100).await;
    net.network().answer_with_gaps(&chain);
    let requests = net.network().requests();
    let newest = chain.last().unwrap().clone();
    let id = newest.pdu().event_id().to_owned();
    let (a, origin) = (net.rooms("a.example"), user(BOB).server_name().to_owned());
    a.receive(&origin, vec![newest]).await.unwrap();
    edits_are_answered(&net, &room, "alone ").await;
    let event = message_after_gap(&net, CAROL, &room, "missed ").await;
    net.until(async || has(&net, "a.example", &room, &event).await).await;
    assert!(!has(&net, "a.example", &room, &id).await);
    net.message(ALICE, &room, "good evening").await;
    net.quiet(&room).await;
    net.assert_same(&room).await;
    let requests = net.network().requests() - requests;
    assert!(requests <= 120, "{requests} requests");
}

/// Events behind a gap are merged with it, even if they are more than a portion and arrived before.
#[tokio::test]
async fn many_events_that_wait_for_one_are_merged_when_it_arrives() {
    let net = Net::new(&SERVERS).await;
    let room = three(&net).await;
    net.network().silence("b.example");
    net.network().cut();
    net.edit(BOB, &room, 0, "missed ").await;
    net.seal(BOB, &room).await;
    net.lose();
    let mut sent = Vec::new();
    for n in 0..130 {
        sent.push(net.message(BOB, &room, &n.to_string()).await);
    }
    net.lose();
    let reader = net.rooms("b.example").reader().clone();
    let version = reader.version(&room).await.unwrap().unwrap();
    let mut waiting = Vec::new();
    for id in &sent {
        let event = reader.event(None, id).await.unwrap().unwrap();
        waiting.push(check(&event, &version));
    }
    net.heal(1).await;
    let a = net.rooms("a.example");
    for some in waiting.chunks(50) {
        a.receive(user(BOB).server_name(), some.to_vec()).await.unwrap();
    }
    net.until(async || net.network().unanswered() > 0).await;
    edits_are_answered(&net, &room, "alone ").await;
    net.network().answer_again();
    let newest = sent.last().unwrap();
    net.until(async || has(&net, "a.example", &room, newest).await).await;
    for event in &sent {
        assert!(has(&net, "a.example", &room, event).await);
    }
    net.message(ALICE, &room, "good evening").await;
    net.quiet(&room).await;
    net.assert_same(&room).await;
}
