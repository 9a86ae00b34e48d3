//! The bytes that a user may send in a day.

use std::time::Duration;

use serde_json::json;
use weft_room::RoomConfig;
use weft_room_api::{CreateRoom, EditOutcome, InitialState, RoomError};
use weft_store::memory::MemoryDisk;
use weft_testkit::Editor;

use crate::harness::{Server, alice, bob, event};

async fn server(bytes: u64) -> Server {
    let config = RoomConfig {
        event_bytes_per_user_and_day: bytes,
        ..RoomConfig::default()
    };
    Server::boot(&MemoryDisk::new(), config).await
}

#[tokio::test(start_paused = true)]
async fn the_events_and_edits_of_a_user_share_a_budget_of_bytes() {
    let server = server(200_000).await;
    let room = server.document_with(&[(&bob(), 50)]).await;
    let text = "x".repeat(50_000);
    let mut sent = 0;
    let refused = loop {
        match server.send_message(&room, &alice(), &text).await {
            Ok(_) => sent += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(sent, 3);
    let RoomError::LimitExceeded(overspent) = refused else {
        panic!("{refused:?}");
    };
    let topic = json!({ "topic": text });
    let state = server.state(&room, &alice(), "m.room.topic", "", topic).await;
    assert!(matches!(state, Err(RoomError::LimitExceeded(_))), "{state:?}");
    let mut editor = Editor::new(1);
    let large = server.edit(&room, &alice(), editor.append(&text)).await;
    assert!(matches!(large, Err(RoomError::LimitExceeded(_))), "{large:?}");
    // Other users are not affected, and the bytes become available again.
    server.send_message(&room, &bob(), &text).await.unwrap();
    tokio::time::advance(overspent.retry_after).await;
    server.send_message(&room, &alice(), &text).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn acknowledged_edits_are_sealed_after_the_budget_is_used_up() {
    let server = server(100_000).await;
    let room = server.document().await;
    let mut editor = Editor::new(1);
    let (mut written, mut text) = (0, String::new());
    loop {
        let piece = format!("{written} {}", "y".repeat(9_000));
        match server.edit(&room, &alice(), editor.append(&piece)).await {
            Ok(outcome) => assert_eq!(outcome, EditOutcome::Journaled),
            Err(RoomError::LimitExceeded(_)) => break,
            Err(error) => panic!("{error}"),
        }
        text.push_str(&piece);
        written += 1;
    }
    assert!(written > 5);
    server.rooms.seal(&room).await.unwrap();
    let server = server.reboot().await;
    let content = server.rooms.content(&room, None).await.unwrap();
    assert_eq!(weft_testkit::text_of(&content), text);
    let updates = server.log(&room).await;
    assert!(updates.iter().any(|(kind, _)| kind == "dev.weft.update"));
}

#[tokio::test(start_paused = true)]
async fn a_repeated_request_is_not_charged_again() {
    let server = server(100_000).await;
    let room = server.document().await;
    let mut message = event(&alice(), "m.room.message", json!({ "body": "z".repeat(60_000) }));
    message.txn = Some((ruma::owned_device_id!("PHONE"), "t1".into()));
    let first = server.rooms.send(&room, message.clone()).await.unwrap();
    for _ in 0..3 {
        assert_eq!(server.rooms.send(&room, message.clone()).await.unwrap(), first);
    }
}

#[tokio::test(start_paused = true)]
async fn the_first_events_of_a_room_are_charged_to_its_creator() {
    let server = server(100_000).await;
    let large = |number: usize| InitialState {
        kind: "x".to_owned(),
        state_key: number.to_string(),
        content: json!({ "body": "z".repeat(40_000) }),
    };
    let request = |events: usize| CreateRoom {
        initial_state: (0..events).map(large).collect(),
        ..CreateRoom::default()
    };
    let refused = server.rooms.create(&alice(), request(3)).await;
    assert!(matches!(refused, Err(RoomError::LimitExceeded(_))), "{refused:?}");
    server.rooms.create(&alice(), request(1)).await.unwrap();
    tokio::time::advance(Duration::from_secs(24 * 60 * 60)).await;
    server.rooms.create(&alice(), request(2)).await.unwrap();
}
