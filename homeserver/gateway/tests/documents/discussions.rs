//! Comments with thousands of decisions: pages end early and go on, and each comment is on one of them.

use futures_util::future::join_all;
use ruma::RoomId;
use serde_json::{Value, json};
use weft_room_api::NewEvent;
use weft_wire::limits::{MAX_THREAD_EVENTS, MAX_THREAD_EVENTS_PER_PAGE};

use crate::world::World;

/// Events that are sent at a time.
const AT_ONCE: usize = 50;

#[tokio::test]
async fn pages_of_comments_with_thousands_of_decisions_end_early_and_lose_none() {
    let world = World::new().await;
    let alice = world.person("alice").await;
    let doc = world.create(&alice, "Text").await;
    let room = RoomId::parse(&doc).unwrap();
    let send = |kind: &str, content: Value| {
        let event = NewEvent {
            sender: alice.user.clone(),
            kind: kind.to_owned(),
            state_key: None,
            content: content.as_object().cloned().unwrap(),
            redacts: None,
            txn: None,
            timestamp: None,
        };
        world.rooms.send(&room, event)
    };
    let count = MAX_THREAD_EVENTS_PER_PAGE / MAX_THREAD_EVENTS + 2;
    let mut expected = Vec::new();
    for number in 0..count {
        let content = json!({"msgtype": "m.text", "body": number.to_string(), "dev.weft.anchor": {}});
        let comment = send("m.room.message", content).await.unwrap();
        let decision = json!({
            "outcome": "resolved", "m.relates_to": {"rel_type": "m.reference", "event_id": comment}
        });
        for _ in 0..MAX_THREAD_EVENTS / AT_ONCE {
            let sent = join_all((0..AT_ONCE).map(|_| send("dev.weft.resolution", decision.clone()))).await;
            assert!(sent.iter().all(Result::is_ok));
        }
        expected.insert(0, json!(comment));
    }
    let (mut found, mut pages, mut from) = (Vec::new(), 0, String::new());
    loop {
        let path = format!("/documents/{doc}/comments?resolved=true{from}");
        let answer = world.get(&alice, &path).await;
        let comments = answer["comments"].as_array().unwrap();
        assert!(comments.len() * MAX_THREAD_EVENTS <= MAX_THREAD_EVENTS_PER_PAGE);
        found.extend(comments.iter().map(|comment| comment["eventId"].clone()));
        pages += 1;
        match answer["nextPage"].as_str() {
            Some(next) => from = format!("&from={next}"),
            None => break,
        }
    }
    assert_eq!(found, expected);
    assert!(pages > 1);
}
