//! Large edits are admitted in a task, with the same result as in the worker, whatever is edited meanwhile.

use std::sync::Arc;

use bytes::Bytes;
use weft_room_api::{EditOutcome, EditRefusal, RoomError};
use weft_testkit::{Editor, text_of};

use crate::harness::{Server, alice, bob, user};

/// More than what the worker admits itself.
const LARGE: usize = 300_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_rules_of_large_edits_are_those_of_all_edits() {
    let server = Server::new().await;
    let room = server.document_with(&[(&bob(), 25), (&user("reader"), 0)]).await;
    let mut a = Editor::new(1);
    let large = server
        .edit(&room, &alice(), a.append(&"a".repeat(LARGE)))
        .await
        .unwrap();
    assert_eq!(large, EditOutcome::Journaled);
    assert_eq!(
        server.edit(&room, &alice(), a.append("z")).await.unwrap(),
        EditOutcome::Journaled
    );
    // All of it is known, so that the reader needs no right.
    let again = server.edit(&room, &user("reader"), a.whole()).await.unwrap();
    assert_eq!(again, EditOutcome::NothingNew);
    let by_reader = server
        .edit(&room, &user("reader"), Editor::new(3).append(&"r".repeat(LARGE)))
        .await;
    assert!(
        matches!(by_reader, Err(RoomError::Edit(EditRefusal::Role { .. }))),
        "{by_reader:?}"
    );
    // Blocks under another user's client id are cut off.
    let forged = Editor::new(1).append(&"f".repeat(LARGE * 2));
    match server.edit(&room, &bob(), forged).await.unwrap() {
        EditOutcome::Partly(partly) => assert_eq!(partly.foreign, [alice()]),
        other => panic!("{other:?}"),
    }
    // A part that the server does not have is missing.
    let mut ahead = Editor::new(4);
    ahead.append("not sent");
    let missing = server
        .edit(&room, &bob(), ahead.append(&"m".repeat(LARGE)))
        .await
        .unwrap();
    assert!(matches!(missing, EditOutcome::Missing { .. }), "{missing:?}");
    let carol = server
        .edit(&room, &user("carol"), Editor::new(5).append(&"c".repeat(LARGE)))
        .await;
    assert!(
        matches!(carol, Err(RoomError::Edit(EditRefusal::NotJoined))),
        "{carol:?}"
    );
    let malformed = server.edit(&room, &bob(), Bytes::from(vec![0xff; LARGE])).await;
    assert!(
        matches!(malformed, Err(RoomError::Edit(EditRefusal::Update { .. }))),
        "{malformed:?}"
    );
    let limit = weft_crdt::limits::LIVE_BYTES;
    let too_large = server.edit(&room, &bob(), Bytes::from(vec![0; limit + 1])).await;
    assert!(
        matches!(too_large, Err(RoomError::Edit(EditRefusal::TooLarge { .. }))),
        "{too_large:?}"
    );
    let text = text_of(&server.rooms.content(&room, None).await.unwrap());
    assert_eq!(text, "a".repeat(LARGE) + "z");
}

/// Each large edit repeats what a small one of the same client adds meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn edits_of_the_same_client_meanwhile_are_taken_once() {
    let server = Arc::new(Server::new().await);
    let room = server.document_with(&[(&bob(), 25)]).await;
    let mut editor = Editor::new(1);
    for n in 0..12 {
        let small = editor.append(&format!("<{n}>"));
        if n % 4 == 0 {
            editor.append(&format!("{n}").repeat(LARGE / 2));
        }
        let (large, alice, bob) = (editor.whole(), alice(), bob());
        let others = Editor::new(100 + n).append(&format!("[{n}]"));
        let (large, small, others) = tokio::join!(
            server.edit(&room, &alice, large),
            server.edit(&room, &alice, small),
            server.edit(&room, &bob, others)
        );
        large.unwrap();
        small.unwrap();
        others.unwrap();
    }
    server.rooms.seal(&room).await.unwrap();
    editor.pull(&server.rooms, &room).await;
    let text = text_of(&server.rooms.content(&room, None).await.unwrap());
    assert_eq!(text, editor.text());
    for n in 0..12 {
        assert_eq!(text.matches(&format!("<{n}>")).count(), 1);
        assert_eq!(text.matches(&format!("[{n}]")).count(), 1);
    }
    let extremities = server.rooms.reader().extremities(&room).await.unwrap();
    let sealed = text_of(&server.rooms.content(&room, Some(&extremities)).await.unwrap());
    assert_eq!(sealed, text);
}
