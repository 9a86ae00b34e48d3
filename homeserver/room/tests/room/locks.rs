//! Locks and events about the present text: which text they name, also while others edit, and after a power loss.

use std::{ops::Range, sync::Arc};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use ruma::{OwnedEventId, RoomId};
use serde_json::json;
use tokio::task::{JoinHandle, yield_now};
use weft_crdt::Update;
use weft_room_api::{EditOutcome, EditRefusal, EventOfText, RoomError, StateCondition};
use weft_testkit::{Editor, new_event, text_of};
use weft_wire::lock::LockContent;

use crate::harness::{Server, alice, bob};

fn lock() -> EventOfText {
    EventOfText {
        event: new_event(&alice(), "dev.weft.lock", Some(""), json!({ "reason": "Final" })),
        conditions: Vec::new(),
        version: None,
        state_hash: None,
    }
}

async fn hash_at(server: &Server, room: &RoomId, heads: Option<&[OwnedEventId]>) -> String {
    let text = server.rooms.content(room, heads).await.unwrap();
    URL_SAFE_NO_PAD.encode(Update::parse(text).unwrap().state_hash().as_bytes())
}

#[tokio::test]
async fn an_event_of_the_text_is_sent_only_if_the_text_is_the_expected_one() {
    let server = Server::new().await;
    let room = server.document().await;
    let mut editor = Editor::new(1);
    server.edit(&room, &alice(), editor.append("a")).await.unwrap();
    let present = hash_at(&server, &room, None).await;
    let wrong = [
        EventOfText {
            version: Some(2),
            ..lock()
        },
        EventOfText {
            state_hash: Some("AAAA".to_owned()),
            ..lock()
        },
    ];
    for wrong in wrong {
        let refused = server.rooms.send_of_text(&room, wrong).await;
        assert!(matches!(refused, Err(RoomError::TextChanged)), "{refused:?}");
    }
    let condition = StateCondition {
        kind: "dev.weft.lock".to_owned(),
        state_key: String::new(),
        event: Some("$another".try_into().unwrap()),
    };
    let refused = server
        .rooms
        .send_of_text(
            &room,
            EventOfText {
                conditions: vec![condition],
                ..lock()
            },
        )
        .await;
    assert!(matches!(refused, Err(RoomError::StateChanged { .. })), "{refused:?}");
    let right = EventOfText {
        version: Some(1),
        state_hash: Some(present.clone()),
        ..lock()
    };
    let id = server.rooms.send_of_text(&room, right).await.unwrap();
    let event = server.rooms.reader().event(Some(&room), &id).await.unwrap().unwrap();
    let content: LockContent = event.content_as().unwrap();
    assert_eq!(
        (content.state_hash, content.reason),
        (Some(present.clone()), Some("Final".to_owned()))
    );
    assert_eq!(hash_at(&server, &room, Some(&content.heads)).await, present);
    let late = server.edit(&room, &alice(), editor.append("b")).await;
    assert!(
        matches!(late, Err(RoomError::Edit(EditRefusal::Locked { .. }))),
        "{late:?}"
    );
    // It is locked after a power loss, and can be unlocked.
    let server = server.reboot().await;
    let late = server.edit(&room, &alice(), editor.append("c")).await;
    assert!(
        matches!(late, Err(RoomError::Edit(EditRefusal::Locked { .. }))),
        "{late:?}"
    );
    let unlock = new_event(&alice(), "dev.weft.unlock", Some(id.as_str()), json!({}));
    server.rooms.send(&room, unlock).await.unwrap();
    assert_eq!(hash_at(&server, &room, None).await, present);
    let mut other = Editor::new(2);
    let outcome = server.edit(&room, &alice(), other.append("d")).await.unwrap();
    assert_eq!(outcome, EditOutcome::Journaled);
}

type Outcome = (String, Result<EditOutcome, RoomError>);

/// An edit by another editor for each client id, at the same time.
fn edits(server: &Arc<Server>, room: &RoomId, clients: Range<u64>) -> Vec<JoinHandle<Outcome>> {
    let edit = |client| {
        let (server, room) = (Arc::clone(server), room.to_owned());
        tokio::spawn(async move {
            let letter = format!("<{client}>");
            let outcome = server.edit(&room, &bob(), Editor::new(client).append(&letter)).await;
            (letter, outcome)
        })
    };
    clients.map(edit).collect()
}

/// Each edit is acknowledged and part of the locked text, or refused.
#[tokio::test]
async fn a_lock_in_the_middle_of_edits_names_every_acknowledged_edit() {
    let server = Arc::new(Server::new().await);
    let room = server.document_with(&[(&bob(), 25)]).await;
    let mut made = edits(&server, &room, 1..20);
    // Some of them are in the room's mailbox when the lock arrives, and others arrive later.
    for _ in 0..3 {
        yield_now().await;
    }
    let locking = {
        let (server, room) = (Arc::clone(&server), room.clone());
        tokio::spawn(async move { server.rooms.send_of_text(&room, lock()).await })
    };
    made.extend(edits(&server, &room, 20..40));
    let id = locking.await.unwrap().unwrap();
    let event = server.rooms.reader().event(Some(&room), &id).await.unwrap().unwrap();
    let content: LockContent = event.content_as().unwrap();
    let locked = text_of(&server.rooms.content(&room, Some(&content.heads)).await.unwrap());
    let (mut taken, mut refused) = (0, 0);
    for edit in made {
        let (letter, outcome) = edit.await.unwrap();
        let is_in = locked.contains(&letter);
        match outcome {
            Ok(EditOutcome::Journaled) if is_in => taken += 1,
            Err(RoomError::Edit(EditRefusal::Locked { .. })) if !is_in => refused += 1,
            other => panic!("{letter}: {other:?}, and the locked text is {locked}"),
        }
    }
    assert!(taken > 0 && refused > 0, "{taken} edits were taken, {refused} refused");
    assert_eq!(Some(hash_at(&server, &room, None).await), content.state_hash);
}
