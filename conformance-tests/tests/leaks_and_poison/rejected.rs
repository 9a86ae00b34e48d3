//! T63: rejected events neither fill a page nor end pagination. Must not rely on the number of pages.

use anyhow::Result;
use serde_json::json;
use weft_conformance_tests::{client::Client, malicious::Room};

use crate::stage::Stage;

/// Sends state events without the required power level, each referencing the one before; all of them are rejected.
async fn flood(stage: &Stage, room: &mut Room, mallory: &str, count: usize) -> Result<()> {
    let mut events = Vec::new();
    for number in 0..count {
        let event = room.event(
            &stage.malicious,
            mallory,
            "m.room.name",
            Some(""),
            json!({ "name": number }),
        )?;
        let id = room.know(&event)?;
        room.heads = vec![id];
        room.depth += 1;
        events.push(event);
    }
    for part in events.chunks(50) {
        stage.malicious.transaction(stage.server(), part, &[]).await?.ok()?;
    }
    Ok(())
}

/// Pages through a room's whole history, ten events at a time; returns the bodies of the messages, oldest first.
async fn pages(client: &Client, room: &str) -> Result<(Vec<String>, usize)> {
    let (mut bodies, mut from, mut pages) = (Vec::new(), String::new(), 0);
    loop {
        let path = Client::in_room(room, &format!("messages?dir=b&limit=10{from}"));
        let page = client.get(&path).await?;
        for event in page["chunk"].as_array().unwrap() {
            bodies.extend(event["content"]["body"].as_str().map(str::to_owned));
            assert_ne!(event["type"], "m.room.name", "a rejected event is shown");
        }
        pages += 1;
        match page["end"].as_str() {
            Some(end) => from = format!("&from={end}"),
            None => break,
        }
        assert!(pages < 200, "pages without end");
    }
    bodies.reverse();
    Ok((bodies, pages))
}

#[tokio::test]
async fn t63_five_hundred_rejected_events_in_a_row_do_not_end_pagination() -> Result<()> {
    let mut stage = Stage::new().await?;
    stage.world.add_server("").await?;
    let (id, mut room, mallory) = stage.room_of_alice("12").await?;
    for number in 0..5 {
        stage.alice.say(&id, &format!("before {number}")).await?;
    }
    room.catch_up(&stage.malicious, stage.server(), &mallory).await?;
    flood(&stage, &mut room, &mallory, 500).await?;
    let content = json!({ "msgtype": "m.text", "body": "after" });
    let last = room.event(&stage.malicious, &mallory, "m.room.message", None, content)?;
    stage.malicious.transaction(stage.server(), &[last], &[]).await?.ok()?;
    stage.until_said(&id, "after").await?;
    let expected = ["before 0", "before 1", "before 2", "before 3", "before 4", "after"];
    let (bodies, count) = pages(&stage.alice, &id).await?;
    assert_eq!(bodies, expected, "in {count} pages");

    // A server that joins now must backfill beyond them; the malicious server does not serve its own events.
    let bob = stage.world.user(1, "bob").await?;
    bob.join(&id, Some(&stage.world.servers[0].name)).await?;
    let bodies = bob
        .until("the history beyond the rejected events", || async {
            let (bodies, _) = pages(&bob, &id).await?;
            Ok(bodies.contains(&"before 0".to_owned()).then_some(bodies))
        })
        .await?;
    assert_eq!(bodies, expected);
    let path = Client::in_room(&id, "state/m.room.name/");
    let name = bob.request(reqwest::Method::GET, &path, None).await?;
    assert_eq!(name.status, 404, "the rejected name is state");
    Ok(())
}
