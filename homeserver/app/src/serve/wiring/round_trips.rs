//! How many round trips to the store each operation needs: the whole program in one process, over an engine that delays
//! each call like a database across a network. Time is paused, so the counts are exact.
//!
//! The numbers are the bounds that the code reached: of opening a room, a live edit, `/sync` and a transaction those that
//! were set (3, 1, 4 and 6), of the others what was measured. A change that needs more fails here; lower a bound with the change
//! that reaches it. Must not assert a time.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)] // a panic fails the test

mod world;

use std::time::{Duration, Instant};

use bytes::Bytes;
use ruma::{OwnedRoomId, RoomId};
use serde_json::{Value, json};
use weft_fanout::Joined;
use weft_room_api::{ConnectionId, Edit, EditOutcome, Incarnation};
use weft_store::latency::Counts;
use weft_wire::live::awareness::Entry;

use self::world::{BETA, World};

/// A Yjs update: one letter of one client.
fn letter(client: u8, clock: u8) -> Bytes {
    let mut update = vec![1, 1, client, clock];
    match clock.checked_sub(1) {
        None => update.extend([4, 1, 4, b't', b'e', b'x', b't']),
        Some(before) => update.extend([0x84, client, before]),
    }
    update.extend([1, b'a', 0]);
    Bytes::from(update)
}

fn edit(world: &World, clock: u8) -> Edit {
    Edit {
        user: world.alice.clone(),
        session: ConnectionId::new(Incarnation(1), 1),
        update: letter(7, clock),
    }
}

async fn write(world: &World, room: &RoomId, letters: u8) {
    for clock in 0..letters {
        let outcome = world.rooms().edit(room, edit(world, clock)).await.unwrap();
        assert_eq!(outcome, EditOutcome::Journaled);
        if clock % 10 == 9 {
            world.rooms().seal(room).await.unwrap();
        }
    }
}

/// Prints a row of the table, and fails with the calls if there were more round trips than `most`.
fn row(name: &str, most: u32, (counts, trace): (Counts, Vec<String>)) {
    println!(
        "| {name} | {} | {} | {} |",
        counts.round_trips,
        counts.calls(),
        counts.rows
    );
    if std::env::var_os("WEFT_TRACE_STORE").is_some() {
        println!("{}", trace.join("\n"));
    }
    assert!(
        counts.round_trips <= most,
        "{name}: {} round trips instead of at most {most}:\n{}",
        counts.round_trips,
        trace.join("\n")
    );
}

#[tokio::test(start_paused = true)]
async fn a_document_is_opened_edited_and_read() {
    let mut world = World::new().await;
    let room = world.document("Plan").await;
    write(&world, &room, 40).await;
    world.restart().await;

    world.meter.start();
    world.rooms().open(&room).await.unwrap();
    row("open a cold document", 3, world.meter.stop());

    world.meter.start();
    world.rooms().content(&room, None).await.unwrap();
    row("the text of a cold document", 2, world.meter.stop());

    // The first edit loads the room.
    world.meter.start();
    world.rooms().edit(&room, edit(&world, 40)).await.unwrap();
    row("the first edit of a cold document", 3, world.meter.stop());

    world.meter.start();
    let outcome = world.rooms().edit(&room, edit(&world, 41)).await.unwrap();
    row("a live edit", 1, world.meter.stop());
    assert_eq!(outcome, EditOutcome::Journaled);

    let path = format!("/_weft/client/v1/documents/{room}/content");
    world.meter.start();
    let (status, _) = world.send("GET", &path, Value::Null).await;
    row("GET content", 3, world.meter.stop());
    assert_eq!(status, 200);
}

#[tokio::test(start_paused = true)]
async fn sync_with_50_rooms() {
    let mut world = World::new().await;
    let mut rooms: Vec<OwnedRoomId> = Vec::new();
    for number in 0..50 {
        rooms.push(world.chat(&format!("Room {number}")).await);
    }
    let path = "/_matrix/client/v3/sync?timeout=0";
    world.meter.start();
    let first = world.ok("GET", path, Value::Null).await;
    row("initial sync of 50 rooms", 14, world.meter.stop());
    assert_eq!(first["rooms"]["join"].as_object().unwrap().len(), 50);

    let since = first["next_batch"].as_str().unwrap();
    world.send_text(&rooms[20], "hello").await;
    world.meter.start();
    let next = world.ok("GET", &format!("{path}&since={since}"), Value::Null).await;
    row("sync with one new message in 50 rooms", 4, world.meter.stop());
    let joined = next["rooms"]["join"].as_object().unwrap();
    assert_eq!(joined.keys().collect::<Vec<_>>(), [rooms[20].as_str()]);

    let since = next["next_batch"].as_str().unwrap();
    world.meter.start();
    let nothing = world.ok("GET", &format!("{path}&since={since}"), Value::Null).await;
    row("sync without news in 50 rooms", 3, world.meter.stop());
    assert!(nothing.get("rooms").is_none());

    world.restart().await;
    world.send_text(&rooms[30], "hello").await;
    world.meter.start();
    world.ok("GET", &format!("{path}&since={since}"), Value::Null).await;
    row("sync with one new message, after a start", 7, world.meter.stop());
}

#[tokio::test(start_paused = true)]
async fn a_list_of_50_documents() {
    let world = World::new().await;
    for number in 0..50 {
        world.document(&format!("Document {number}")).await;
    }
    world.meter.start();
    let list = world.ok("GET", "/_weft/client/v1/documents", Value::Null).await;
    row("GET documents, 50 of them", 3, world.meter.stop());
    assert_eq!(list["documents"].as_array().unwrap().len(), 50);
}

#[tokio::test(start_paused = true)]
async fn messages_of_a_room() {
    let world = World::new().await;
    let room = world.chat("Long").await;
    for number in 0..60 {
        world.send_text(&room, &format!("message {number}")).await;
    }
    world.meter.start();
    let path = format!("/_matrix/client/v3/rooms/{room}/messages?dir=b&limit=50");
    let page = world.ok("GET", &path, Value::Null).await;
    row("GET messages, 50 of them", 9, world.meter.stop());
    assert_eq!(page["chunk"].as_array().unwrap().len(), 50);
}

#[tokio::test(start_paused = true)]
async fn a_room_of_1000_members() {
    let world = World::new().await;
    let room = world.chat("Crowd").await;
    world.add_members(&room, 1_000).await;
    let base = format!("/_matrix/client/v3/rooms/{room}");

    world.meter.start();
    let members = world.ok("GET", &format!("{base}/members"), Value::Null).await;
    row("GET members, 1,000 of them", 6, world.meter.stop());
    assert_eq!(members["chunk"].as_array().unwrap().len(), 1_001);

    let typing = format!("{base}/typing/{}", world.alice);
    world.meter.start();
    world.ok("PUT", &typing, json!({"typing": true, "timeout": 9000})).await;
    row("typing in a room of 1,000", 4, world.meter.stop());

    let message = world.send_text(&room, "hello").await;
    world.meter.start();
    world
        .ok("POST", &format!("{base}/receipt/m.read/{message}"), json!({}))
        .await;
    row("a receipt in a room of 1,000", 7, world.meter.stop());

    let joined = Joined {
        room: room.clone(),
        session: ConnectionId::new(Incarnation(1), 1),
        user: world.alice.clone(),
        device: "D".into(),
        display_name: None,
    };
    let cursor = Entry {
        client: 7,
        clock: 1,
        state: "{}".to_owned(),
    };
    let awareness = world.awareness();
    world.meter.start();
    awareness.local(&joined, vec![cursor], true).await;
    row("a cursor in a room of 1,000", 1, world.meter.stop());
}

#[tokio::test(start_paused = true)]
async fn a_federation_transaction_of_50_events() {
    let mut world = World::new().await;
    let room = world.chat("Shared").await;
    world.join_from_beta(&room).await;
    // The first transaction of a server also reads its keys, and starts the room's worker.
    world.transaction(&room, "warm", 1).await;
    let pdus = world.messages_of_beta(&room, 50).await;
    let edu = json!({"edu_type": "m.typing", "content": {"room_id": room, "user_id": format!("@bob:{BETA}"), "typing": true}});

    world.meter.start();
    let visible = world.visible();
    world.deliver("first", &pdus, &[]).await;
    world.until_visible(visible + 50).await;
    row(
        "a transaction of 50 events, until they are merged",
        6,
        world.meter.stop(),
    );

    let pdus = world.messages_of_beta(&room, 50).await;
    world.meter.start();
    let visible = world.visible();
    world.deliver("edu", &pdus, &[edu]).await;
    world.until_visible(visible + 50).await;
    row("the same with a typing EDU", 8, world.meter.stop());

    world.restart().await;
    let pdus = world.messages_of_beta(&room, 50).await;
    world.meter.start();
    let visible = world.visible();
    world.deliver("second", &pdus, &[]).await;
    world.until_visible(visible + 50).await;
    row("the same for a cold room, after a start", 11, world.meter.stop());

    let newest = world.messages_of_beta(&room, 1).await;
    let before = newest[0]["prev_events"][0].as_str().unwrap();
    world.meter.start();
    let events = world.backfill(&room, before, 50).await;
    row("a backfill of 50 events", 8, world.meter.stop());
    assert_eq!(events, 50);
}

/// Prints how long operations take on RocksDB, to compare two versions of the code: run it with each of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "prints times; run it by hand"]
async fn times_on_rocksdb() {
    let mut world = World::on_rocksdb().await;
    let document = world.document("Plan").await;
    write(&world, &document, 60).await;
    let mut rooms: Vec<OwnedRoomId> = Vec::new();
    for number in 0..50 {
        let room = world.chat(&format!("Room {number}")).await;
        for message in 0..5 {
            world.send_text(&room, &format!("message {message}")).await;
        }
        rooms.push(room);
    }
    let (mut opening, mut first, mut later) = (Duration::ZERO, Duration::ZERO, Duration::ZERO);
    let path = "/_matrix/client/v3/sync?timeout=0";
    for room in rooms.iter().take(20) {
        world.restart().await;
        let began = Instant::now();
        world.rooms().open(&document).await.unwrap();
        opening += began.elapsed();
        let began = Instant::now();
        let answer = world.ok("GET", path, Value::Null).await;
        first += began.elapsed();
        for _ in 0..5 {
            world.send_text(room, "hello").await;
            let since = answer["next_batch"].as_str().unwrap();
            let began = Instant::now();
            world.ok("GET", &format!("{path}&since={since}"), Value::Null).await;
            later += began.elapsed();
        }
    }
    println!("open a cold document: {:?}", opening / 20);
    println!("initial sync of 50 rooms: {:?}", first / 20);
    println!("sync with a few new messages: {:?}", later / 100);
}
