//! Servers that do not answer, or answer gaps with more gaps: people on other servers write and open documents meanwhile,
//! events of other servers come in, and what was missing is there in the end.

use std::time::Duration;

use ruma::{OwnedEventId, OwnedRoomId, RoomId, RoomVersionId};
use serde_json::json;
use weft_dag::Verified;

use super::{
    ALICE, BOB, CAROL,
    net::{Net, check, user},
};

const DAVE: &str = "@dave:d.example";
const SERVERS: [&str; 4] = ["a.example", "b.example", "c.example", "d.example"];

/// A document of Alice's in which Bob and Carol of two other servers write.
async fn three(net: &Net) -> OwnedRoomId {
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

/// An event of `who` that follows an update which is sent to nobody.
async fn behind_a_gap(net: &Net, who: &str, room: &RoomId, lost: &str) -> OwnedEventId {
    net.cut(1);
    net.edit(who, room, 0, lost).await;
    net.seal(who, room).await;
    net.lose();
    let event = net.message(who, room, "after a gap").await;
    net.heal(1).await;
    event
}

/// Whether a server has the event in its place.
async fn has(net: &Net, server: &str, room: &RoomId, event: &OwnedEventId) -> bool {
    net.rooms(server).reader().order(room, event).await.unwrap().is_some()
}

/// Alice opens the document, reads and writes it, and a member's state is changed: all of it is answered.
async fn works_on(net: &Net, room: &RoomId, word: &str) {
    let a = net.rooms("a.example");
    let opened = a.open(room).await.unwrap();
    net.edit(ALICE, room, 0, word).await;
    assert_ne!(a.open(room).await.unwrap(), opened);
    assert!(net.text("a.example", room).await.starts_with(word));
    net.seal(ALICE, room).await;
    net.topic(ALICE, room, word).await;
}

/// Events of Bob's server, each of which follows the one before, and the first one nothing that exists. Newest last.
async fn chain(net: &Net, room: &RoomId, length: usize) -> Vec<Verified> {
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
async fn a_server_that_never_answers_delays_no_edit_and_no_opening() {
    let net = Net::new(&SERVERS).await;
    let room = three(&net).await;
    net.silence("b.example");
    let event = behind_a_gap(&net, BOB, &room, "missed ").await;
    net.until(async || net.unanswered() > 0).await;
    works_on(&net, &room, "alone ").await;
    assert!(net.unanswered() > 0, "and all the time there was no answer");
    assert!(!has(&net, "a.example", &room, &event).await);
    net.speak();
    net.until(async || has(&net, "a.example", &room, &event).await).await;
    net.message(ALICE, &room, "good evening").await;
    net.quiet(&room).await;
    net.assert_same(&room).await;
    assert!(net.text("a.example", &room).await.contains("missed "));
}

#[tokio::test]
async fn a_server_that_never_answers_delays_no_gap_of_another() {
    let net = Net::new(&SERVERS).await;
    let room = three(&net).await;
    net.silence("b.example");
    behind_a_gap(&net, BOB, &room, "missed ").await;
    net.until(async || net.unanswered() > 0).await;
    let event = behind_a_gap(&net, CAROL, &room, "also missed ").await;
    net.until(async || has(&net, "a.example", &room, &event).await).await;
    assert!(net.unanswered() > 0, "the first question has no answer yet");
    assert!(net.text("a.example", &room).await.contains("also missed "));
    net.speak();
    net.message(ALICE, &room, "good evening").await;
    net.quiet(&room).await;
    net.assert_same(&room).await;
}

#[tokio::test]
async fn a_join_over_a_gap_that_nobody_fills_delays_only_its_own_answer() {
    let net = Net::new(&SERVERS).await;
    let room = three(&net).await;
    net.cut(1);
    net.edit(BOB, &room, 0, "missed ").await;
    net.seal(BOB, &room).await;
    net.lose();
    let heads = net.rooms("b.example").reader().extremities(&room).await.unwrap();
    net.heal(1).await;
    for server in ["b.example", "c.example", "d.example"] {
        net.silence(server);
    }
    let join = json!({ "membership": "join" });
    let event = net.forge(DAVE, &room, heads, "m.room.member", Some(DAVE), join).await;
    let (a, origin) = (net.rooms("a.example"), user(DAVE).server_name().to_owned());
    let joining = tokio::spawn(async move { a.accept_membership(&origin, event).await });
    net.until(async || net.unanswered() > 0).await;
    works_on(&net, &room, "alone ").await;
    assert!(!joining.is_finished() && net.unanswered() > 0);
    net.speak();
    joining.await.unwrap().unwrap();
    // At one place at the same time: either may come first.
    let is_there = |text: &str| text.contains("alone ") && text.contains("missed ");
    net.until(async || is_there(&net.text("a.example", &room).await)).await;
}

#[tokio::test]
async fn a_server_that_answers_gaps_with_more_gaps_delays_nobody_and_is_asked_a_bounded_number_of_times() {
    let net = Net::new(&SERVERS).await;
    let room = three(&net).await;
    let chain = chain(&net, &room, 100).await;
    net.give_gaps(&chain);
    let asked = net.fetcher();
    let newest = chain.last().unwrap().clone();
    let id = newest.pdu().event_id().to_owned();
    let (a, origin) = (net.rooms("a.example"), user(BOB).server_name().to_owned());
    a.receive(&origin, vec![newest]).await.unwrap();
    works_on(&net, &room, "alone ").await;
    let event = behind_a_gap(&net, CAROL, &room, "missed ").await;
    net.until(async || has(&net, "a.example", &room, &event).await).await;
    assert!(!has(&net, "a.example", &room, &id).await);
    net.message(ALICE, &room, "good evening").await;
    net.quiet(&room).await;
    net.assert_same(&room).await;
    let asked = net.fetcher() - asked;
    assert!(asked <= 120, "{asked} questions");
}

/// What waits behind a gap comes in with it, also where it is more than a portion and came before.
#[tokio::test]
async fn many_events_that_wait_for_one_are_merged_when_it_is_here() {
    let net = Net::new(&SERVERS).await;
    let room = three(&net).await;
    net.silence("b.example");
    net.cut(1);
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
    net.until(async || net.unanswered() > 0).await;
    works_on(&net, &room, "alone ").await;
    net.speak();
    let newest = sent.last().unwrap();
    net.until(async || has(&net, "a.example", &room, newest).await).await;
    for event in &sent {
        assert!(has(&net, "a.example", &room, event).await);
    }
    net.message(ALICE, &room, "good evening").await;
    net.quiet(&room).await;
    net.assert_same(&room).await;
}

/// The P99 of edits and openings beside a server that never answers, one that makes gaps, and 10,000 staged events:
/// `make latency`.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement, by `make latency`"]
#[allow(clippy::print_stdout, reason = "the figures are what it is for")]
async fn latency_beside_hostile_servers() {
    let net = Net::new(&SERVERS).await;
    let room = three(&net).await;
    let quiet = measure(&net, &room).await;
    let chain = chain(&net, &room, 10_000).await;
    net.give_gaps(&chain);
    net.silence("c.example");
    behind_a_gap(&net, CAROL, &room, "missed ").await;
    let a = net.rooms("a.example");
    for some in chain.chunks(50) {
        a.receive(user(BOB).server_name(), some.to_vec()).await.unwrap();
    }
    let beside = measure(&net, &room).await;
    for (what, [edit, open, content]) in [
        ("alone", quiet),
        ("beside 10,000 staged events, gaps and silence", beside),
    ] {
        println!("{what}: P99 of an edit {edit:?}, of an opening {open:?}, of the content {content:?}");
    }
}

/// The P99 of 500 edits, openings and readings, one after the other.
async fn measure(net: &Net, room: &RoomId) -> [Duration; 3] {
    let a = net.rooms("a.example");
    let mut times: [Vec<Duration>; 3] = Default::default();
    for _ in 0..500 {
        let began = std::time::Instant::now();
        a.open(room).await.unwrap();
        times[1].push(began.elapsed());
        let began = std::time::Instant::now();
        a.content(room, None).await.unwrap();
        times[2].push(began.elapsed());
        times[0].push(net.timed_edit(ALICE, room).await);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    times.map(|mut times| {
        times.sort();
        times[times.len() * 99 / 100]
    })
}
