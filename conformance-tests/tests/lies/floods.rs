//! Requests that are too many, too large or pointless: the work is bounded, and valid events are accepted. Must not
//! assert a duration.

use anyhow::Result;
use reqwest::Method;
use ruma::RoomVersionId;
use serde_json::{Value, json};
use weft_conformance_tests::{client::segment, malicious::Room};

use crate::stage::Stage;

fn messages(
    stage: &Stage,
    room: &Room,
    sender: &str,
    numbers: std::ops::Range<usize>,
    bytes: usize,
) -> Result<Vec<Value>> {
    let content = |number| json!({ "msgtype": "m.text", "body": format!("{number}{}", "x".repeat(bytes)) });
    numbers
        .map(|number| room.event(&stage.malicious, sender, "m.room.message", None, content(number)))
        .collect()
}

/// T11: the number of events in a transaction, its size, and a repeated transaction.
#[tokio::test]
async fn t11_a_transaction_is_limited_and_processed_once() -> Result<()> {
    let stage = Stage::new().await?;
    let (_, mut room, mallory) = stage.room_of_alice("12").await?;
    let many = messages(&stage, &room, &mallory, 0..51, 0)?;
    assert_eq!(
        stage.malicious.transaction(stage.server(), &many, &[]).await?.status,
        400
    );
    let edus = vec![json!({ "edu_type": "m.typing", "content": {} }); 101];
    assert_eq!(
        stage.malicious.transaction(stage.server(), &[], &edus).await?.status,
        400
    );
    for event in &many {
        assert!(!stage.has(&room.id, &room.id_of(event)?).await?);
    }
    // Fifty events of nearly the maximum size each.
    let large = messages(&stage, &room, &mallory, 100..150, 64_000)?;
    let first = stage
        .malicious
        .transaction_with_id(stage.server(), "same", &large, &[])
        .await?
        .ok()?;
    assert_eq!(first["pdus"].as_object().unwrap().len(), 50);
    assert!(
        first["pdus"]
            .as_object()
            .unwrap()
            .values()
            .all(|result| result == &json!({})),
        "{first}"
    );
    let again = stage
        .malicious
        .transaction_with_id(stage.server(), "same", &large, &[])
        .await?
        .ok()?;
    assert_eq!(first, again);
    // The same transaction id with different content is a different transaction.
    let other = messages(&stage, &room, &mallory, 200..201, 0)?;
    let answer = stage
        .malicious
        .transaction_with_id(stage.server(), "same", &other, &[])
        .await?
        .ok()?;
    assert!(answer["pdus"][room.id_of(&other[0])?].is_object(), "{answer}");
    stage.until_said(&room.id, "200").await?;
    stage.goes_on(&mut room, &mallory).await
}

/// T12: requests for many events return a bounded number.
#[tokio::test]
async fn t12_the_number_of_returned_events_is_limited() -> Result<()> {
    let stage = Stage::new().await?;
    let (id, mut room, mallory) = stage.room_of_alice("12").await?;
    for number in 0..120 {
        stage.alice.say(&id, &format!("{number}")).await?;
    }
    room.catch_up(&stage.malicious, stage.server(), &mallory).await?;
    let head = room.heads[0].clone();
    let path = format!(
        "/_matrix/federation/v1/backfill/{}?v={}&limit=1000000000",
        segment(&id),
        segment(&head)
    );
    let answer = stage.malicious.get(stage.server(), &path).await?;
    assert!((1..=100).contains(&answer["pdus"].as_array().unwrap().len()));
    let path = format!("/_matrix/federation/v1/get_missing_events/{}", segment(&id));
    let made_up: Vec<String> = (0..100_000).map(|number| format!("${number:x>43}")).collect();
    for (latest, limit, depth) in [
        (vec![head.clone()], json!(1_000_000_000), json!(0)),
        (vec![head.clone()], json!(10), json!(-1)),
        (made_up, json!(1_000_000_000), json!(0)),
    ] {
        let body = json!({ "earliest_events": [], "latest_events": latest, "limit": limit, "min_depth": depth });
        let answer = stage
            .malicious
            .ask(stage.server(), Method::POST, &path, Some(&body))
            .await?;
        let given = answer.body["events"].as_array().map_or(0, Vec::len);
        assert!(
            given <= 100 && !answer.status.is_server_error(),
            "{} {given}",
            answer.status
        );
    }
    stage.goes_on(&mut room, &mallory).await
}

/// T14, with the malformed events of T01 to T10 and T13: forty-nine valid events are accepted.
#[tokio::test]
async fn t14_one_malformed_event_affects_no_other() -> Result<()> {
    let stage = Stage::new().await?;
    let (id, mut room, mallory) = stage.room_of_alice("12").await?;
    let nowhere = format!("${}", "y".repeat(43));
    let malformed: Vec<(&str, Value)> = vec![
        ("T01 too large", json!({ "content": { "body": "x".repeat(66_000) } })),
        ("T02 a long type", json!({ "type": "é".repeat(128) })),
        ("T04 a negative depth", json!({ "depth": -1 })),
        ("T04 a depth in words", json!({ "depth": "5" })),
        (
            "T05 many previous events",
            json!({ "prev_events": vec![nowhere.clone(); 21] }),
        ),
        (
            "T05 many auth events",
            json!({ "auth_events": vec![nowhere.clone(); 11] }),
        ),
        ("T05 no previous events", json!({ "prev_events": [] })),
        ("T08 previous events in words", json!({ "prev_events": "x" })),
        ("T08 no content", json!({ "content": null })),
        ("T08 a time in words", json!({ "origin_server_ts": "now" })),
        ("T13 an auth event that nobody has", json!({ "auth_events": [nowhere] })),
    ];
    for (round, (what, change)) in malformed.into_iter().enumerate() {
        let mut bad = room.draft(&mallory, "m.room.message", None, json!({ "body": "bad" }))?;
        for (field, value) in change.as_object().unwrap() {
            bad[field] = value.clone();
        }
        // Signed if it can be signed at all.
        let bad = stage.malicious.sign(&bad, &room.version).unwrap_or(bad);
        let mut events = messages(&stage, &room, &mallory, round * 100..round * 100 + 49, 0)?;
        events.insert(round * 4, bad);
        let answer = stage.malicious.transaction(stage.server(), &events, &[]).await?.ok()?;
        let good = answer["pdus"]
            .as_object()
            .unwrap()
            .values()
            .filter(|result| *result == &json!({}))
            .count();
        assert!(good >= 49, "{what}: {answer}");
        let expected = format!("{}", round * 100 + 48);
        stage.until_said(&id, &expected).await?;
    }
    // Bytes that no library would send (numbers, nesting, duplicate keys: T03, T06, T07) are not tested here.
    stage.goes_on(&mut room, &mallory).await
}

/// T18: events of rooms that the server isn't in, that don't exist, or that have an unknown version cause no requests.
#[tokio::test]
async fn t18_events_of_unknown_rooms_cause_no_requests() -> Result<()> {
    let stage = Stage::new().await?;
    let (_, known, mallory) = stage.room_of_alice("12").await?;
    let mut events = Vec::new();
    for version in [RoomVersionId::V12, RoomVersionId::V11, RoomVersionId::V6] {
        let room = Room::create(&stage.malicious, &version, &mallory)?;
        events.extend(messages(&stage, &room, &mallory, 0..10, 0)?);
    }
    let mut unknown = events[0].clone();
    unknown["room_id"] = json!("!nowhere:127.0.0.1:1");
    events.push(unknown);
    stage.malicious.forget();
    let answer = stage.malicious.transaction(stage.server(), &events, &[]).await?;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let mut known = known;
    stage.goes_on(&mut known, &mallory).await?;
    for path in [
        "event",
        "state",
        "get_missing_events",
        "backfill",
        "make_join",
        "event_auth",
    ] {
        let asked = stage.malicious.asked(&format!("/_matrix/federation/v1/{path}"));
        assert!(asked.is_empty(), "asked for {path}: {asked:?}");
    }
    Ok(())
}

/// T19: a thousand events with unknown predecessors cause a bounded number of requests.
#[tokio::test]
async fn t19_events_with_unknown_predecessors_cause_few_requests() -> Result<()> {
    let stage = Stage::new().await?;
    let (_, room, mallory) = stage.room_of_alice("12").await?;
    stage.malicious.forget();
    for transaction in 0..20 {
        let mut events = Vec::new();
        for number in 0..50 {
            let content = json!({ "body": "lost" });
            let mut event = room.draft(&mallory, "m.room.message", None, content)?;
            event["prev_events"] = json!([format!("${:x>43}", transaction * 50 + number)]);
            events.push(stage.malicious.sign(&event, &room.version)?);
        }
        stage.malicious.transaction(stage.server(), &events, &[]).await?.ok()?;
    }
    let mut room = room;
    stage.goes_on(&mut room, &mallory).await?;
    let questions = [
        "get_missing_events",
        "event",
        "state_ids",
        "state",
        "backfill",
        "event_auth",
    ];
    let asked: usize = questions
        .iter()
        .map(|path| stage.malicious.asked(&format!("/_matrix/federation/v1/{path}/")).len())
        .sum();
    // Sixty per half minute; the test may take slightly longer than one half minute.
    assert!((1..=240).contains(&asked), "{asked} questions");
    Ok(())
}

/// T39: many joins and leaves don't make a room unusable.
#[tokio::test]
async fn t39_many_joins_and_leaves_leave_the_room_usable() -> Result<()> {
    let stage = Stage::new().await?;
    let (id, mut room, mallory) = stage.room_of_alice("12").await?;
    let eve = stage.malicious.user("eve");
    for _ in 0..10 {
        let mut events = Vec::new();
        for number in 0..50 {
            let membership = if number % 2 == 0 { "join" } else { "leave" };
            let content = json!({ "membership": membership });
            let event = room.send(&stage.malicious, &eve, "m.room.member", Some(&eve), content)?;
            events.push(room.events[&event].clone());
        }
        stage.malicious.transaction(stage.server(), &events, &[]).await?.ok()?;
    }
    stage.goes_on(&mut room, &mallory).await?;
    assert_eq!(stage.alice.membership_of(&id, &eve).await?.as_deref(), Some("leave"));
    assert_eq!(stage.alice.membership_of(&id, &mallory).await?.as_deref(), Some("join"));
    Ok(())
}
