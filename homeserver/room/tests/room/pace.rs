//! How often a document may be edited, and how many participants it may have.

use serde_json::json;
use weft_room::{EditRates, RoomConfig};
use weft_room_api::{EventRefusal, RoomError};
use weft_store::memory::MemoryDisk;
use weft_testkit::Editor;

use crate::harness::{Server, alice, bob, event, user};

async fn server(config: RoomConfig) -> Server {
    Server::boot(&MemoryDisk::new(), config).await
}

fn rates(per_user: u64, per_document: u64) -> RoomConfig {
    RoomConfig {
        edit_rates: Some(EditRates { per_user, per_document }),
        ..RoomConfig::default()
    }
}

/// Edits of a user up to the first that is refused.
async fn edits(server: &Server, room: &ruma::RoomId, by: &ruma::UserId, editor: &mut Editor) -> (usize, RoomError) {
    let mut accepted = 0;
    loop {
        match server.edit(room, by, editor.append("x")).await {
            Ok(_) => accepted += 1,
            Err(error) => return (accepted, error),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_edits_of_a_user_are_limited_and_those_of_others_are_not_affected() {
    let server = server(rates(2, 100)).await;
    let room = server.document_with(&[(&bob(), 25)]).await;
    let (mut editor, mut of_bob) = (Editor::new(1), Editor::new(2));
    let (accepted, refused) = edits(&server, &room, &alice(), &mut editor).await;
    assert!((20..25).contains(&accepted), "{accepted}");
    let RoomError::LimitExceeded(exceeded) = refused else {
        panic!("{refused:?}");
    };
    assert!(exceeded.is_of_rate());
    // Another document is not affected, and no other user.
    let other = server.document().await;
    server.edit(&other, &alice(), Editor::new(3).append("x")).await.unwrap();
    server.edit(&room, &bob(), of_bob.append("x")).await.unwrap();
    // The same edit is accepted after the time that was stated.
    tokio::time::advance(exceeded.retry_after).await;
    server.edit(&room, &alice(), editor.append("y")).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_edits_of_all_users_of_a_document_are_limited() {
    let server = server(rates(2, 3)).await;
    let room = server.document_with(&[(&bob(), 25)]).await;
    let (first, _) = edits(&server, &room, &alice(), &mut Editor::new(1)).await;
    let (second, refused) = edits(&server, &room, &bob(), &mut Editor::new(2)).await;
    assert!(first >= 20 && first + second < 35, "{first}, {second}");
    assert!(second < 15, "{second}");
    assert!(matches!(refused, RoomError::LimitExceeded(exceeded) if exceeded.is_of_rate()));
}

#[tokio::test(start_paused = true)]
async fn above_the_limit_of_participants_nobody_is_invited_and_nobody_joins() {
    let config = RoomConfig {
        participants_per_document: 3,
        ..RoomConfig::default()
    };
    let server = server(config).await;
    let room = server.document().await;
    let member = async |by: &ruma::UserId, of: &ruma::UserId, membership: &str| {
        let mut event = event(by, "m.room.member", json!({ "membership": membership }));
        event.state_key = Some(of.to_string());
        server.rooms.send(&room, event).await
    };
    let rules = json!({ "join_rule": "public" });
    server
        .state(&room, &alice(), "m.room.join_rules", "", rules)
        .await
        .unwrap();
    member(&alice(), &bob(), "invite").await.unwrap();
    member(&bob(), &bob(), "join").await.unwrap();
    let (carol, dave) = (user("carol"), user("dave"));
    member(&alice(), &carol, "invite").await.unwrap();
    for (by, membership) in [(&alice(), "invite"), (&dave, "join")] {
        let refused = member(by, &dave, membership).await.unwrap_err();
        assert_eq!(
            refused,
            RoomError::Event(EventRefusal::TooManyParticipants { limit: 3 }),
            "{membership}"
        );
    }
    // The participants themselves change their memberships, and a place that becomes free is used.
    member(&carol, &carol, "join").await.unwrap();
    member(&bob(), &bob(), "leave").await.unwrap();
    member(&dave, &dave, "join").await.unwrap();
    let refused = member(&bob(), &bob(), "join").await.unwrap_err();
    assert!(matches!(
        refused,
        RoomError::Event(EventRefusal::TooManyParticipants { .. })
    ));
}
