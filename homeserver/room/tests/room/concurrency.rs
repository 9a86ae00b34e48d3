//! Many concurrent editors in one room.

use std::sync::Arc;

use weft_room_api::EditOutcome;
use weft_testkit::{Editor, text_of};

use crate::harness::{Server, alice, user};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn fifty_concurrent_editors_have_one_text() {
    let server = Arc::new(Server::new().await);
    let names: Vec<_> = (0..50).map(|n| user(&format!("editor{n}"))).collect();
    let others: Vec<(&ruma::UserId, i64)> = names.iter().map(|name| (&**name, 25)).collect();
    let room = server.document_with(&others).await;
    let mut tasks = Vec::new();
    for (n, name) in names.iter().cloned().enumerate() {
        let (server, room) = (Arc::clone(&server), room.clone());
        tasks.push(tokio::spawn(async move {
            let mut editor = Editor::new(100 + n as u64);
            for _ in 0..10 {
                let outcome = server
                    .edit(&room, &name, editor.insert(n, &format!("{n},")))
                    .await
                    .unwrap();
                assert_eq!(outcome, EditOutcome::Journaled);
                editor.pull(&server.rooms, &room).await;
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    server.send_message(&room, &alice(), "done").await.unwrap();
    let extremities = server.rooms.reader().extremities(&room).await.unwrap();
    assert_eq!(extremities.len(), 1, "local bursts never fork the graph");
    let sealed = text_of(&server.rooms.content(&room, Some(&extremities)).await.unwrap());
    let live = text_of(&server.rooms.content(&room, None).await.unwrap());
    assert_eq!(sealed, live);
    assert_eq!(live.matches(',').count(), 500);
    // A client that only received the live changes has the same text.
    let listener = Editor::new(1);
    for change in server.sink.all() {
        for edit in &change.edits {
            listener.apply(&edit.update);
        }
    }
    assert_eq!(listener.text(), live);
}
