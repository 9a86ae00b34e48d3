//! The text of a document that nobody edits leaves memory, and nothing that was acknowledged is lost or late.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use ruma::RoomId;
use weft_room::RoomConfig;
use weft_room_api::EditOutcome;
use weft_store::{
    memory::{Fault, MemoryDisk, Tail},
    tables::documents::{JOURNAL, SNAPSHOT},
};
use weft_testkit::{Editor, text_of};

use crate::harness::{Server, alice, bob, user};

/// The state vector of an editor without text.
const NOTHING: &[u8] = &[0];

fn evicts_after(text_eviction: Duration) -> RoomConfig {
    RoomConfig {
        text_eviction,
        ..RoomConfig::default()
    }
}

/// The text as a client without text gets it.
async fn opened(server: &Server, room: &RoomId) -> String {
    server.rooms.open(room).await.unwrap();
    text_of(&server.rooms.diff(room, NOTHING).await.unwrap())
}

#[tokio::test(start_paused = true)]
async fn a_text_that_nobody_edits_leaves_memory_and_its_worker_stays() {
    let server = Server::new().await;
    let room = server.document_with(&[(&bob(), 25)]).await;
    let (mut a, mut b) = (Editor::new(1), Editor::new(2));
    server.edit(&room, &alice(), a.append("kept")).await.unwrap();
    tokio::time::sleep(Duration::from_secs(50)).await;
    assert_eq!(server.rooms.texts_in_memory(), 1);
    server.edit(&room, &alice(), a.append(" and more")).await.unwrap();
    tokio::time::sleep(Duration::from_secs(50)).await;
    assert_eq!(
        server.rooms.texts_in_memory(),
        1,
        "it was edited less than a minute ago"
    );
    let vector = server.rooms.open(&room).await.unwrap();
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert_eq!((server.rooms.texts_in_memory(), server.rooms.active()), (0, 1));

    // Neither openings, nor chat, nor editors without content load it.
    assert_eq!(server.rooms.open(&room).await.unwrap(), vector);
    assert_eq!(opened(&server, &room).await, "kept and more");
    server.send_message(&room, &bob(), "hello").await.unwrap();
    let nothing = Bytes::from_static(&[0, 0]);
    let outcome = server.edit(&room, &bob(), nothing.clone()).await.unwrap();
    assert_eq!(outcome, EditOutcome::NothingNew);
    server.edit(&room, &user("carol"), nothing).await.unwrap_err();
    let loaded_by_carol = server.rooms.texts_in_memory();
    tokio::time::sleep(Duration::from_secs(70)).await;
    assert_eq!((server.rooms.texts_in_memory(), loaded_by_carol), (0, 0));

    // A client that has a part of the text loads it, and so does an edit.
    b.pull(&server.rooms, &room).await;
    server.edit(&room, &bob(), b.append("!")).await.unwrap();
    assert_eq!(server.rooms.texts_in_memory(), 1);
    a.pull(&server.rooms, &room).await;
    assert_eq!(a.text(), "kept and more!");
    tokio::time::sleep(Duration::from_secs(70)).await;
    let outcome = server.edit(&room, &alice(), a.remove(0, 5)).await.unwrap();
    assert_eq!(outcome, EditOutcome::Journaled);
    assert_eq!(opened(&server, &room).await, "and more!");
}

#[tokio::test(start_paused = true)]
async fn a_text_with_unsealed_edits_stays_in_memory() {
    let config = RoomConfig {
        seal_idle: Duration::from_secs(600),
        seal_max: Duration::from_secs(600),
        ..evicts_after(Duration::from_secs(1))
    };
    let server = Server::boot(&MemoryDisk::new(), config).await;
    let room = server.document().await;
    server
        .edit(&room, &alice(), Editor::new(1).append("unsealed"))
        .await
        .unwrap();
    tokio::time::sleep(Duration::from_secs(100)).await;
    assert_eq!(server.rooms.texts_in_memory(), 1);
    server.rooms.seal(&room).await.unwrap();
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(server.rooms.texts_in_memory(), 0);
    assert_eq!(opened(&server, &room).await, "unsealed");
}

#[tokio::test]
async fn opening_after_a_restart_starts_no_worker() {
    let server = Server::new().await;
    let room = server.document().await;
    let mut editor = Editor::new(1);
    for n in 0..300 {
        server
            .edit(&room, &alice(), editor.append(&format!("{n} ")))
            .await
            .unwrap();
        server.rooms.seal(&room).await.unwrap();
    }
    let vector = server.rooms.open(&room).await.unwrap();
    assert!(server.store.contains(&SNAPSHOT, &(&room,)).await.unwrap());
    let server = server.reboot().await;
    let before = server.rows_read();
    assert_eq!(server.rooms.open(&room).await.unwrap(), vector);
    assert_eq!(opened(&server, &room).await, editor.text());
    assert!(server.rows_read() - before < 500, "{}", server.rows_read() - before);
    assert_eq!((server.rooms.active(), server.rooms.texts_in_memory()), (0, 0));
    // Edits that are not sealed yet are a part of it.
    server.edit(&room, &alice(), editor.append("last")).await.unwrap();
    let disk = server.disk.clone();
    disk.power_loss(Tail::Lost);
    let server = Server::boot(&disk, RoomConfig::default()).await;
    assert_eq!(server.store.scan_all(JOURNAL.under(&(&room,))).await.unwrap().len(), 1);
    assert_eq!(opened(&server, &room).await, editor.text());
}

#[tokio::test]
async fn a_document_without_text_can_be_opened() {
    let server = Server::boot(&MemoryDisk::new(), evicts_after(Duration::ZERO)).await;
    let room = server.document().await;
    assert_eq!(opened(&server, &room).await, "");
    let server = server.reboot().await;
    assert_eq!(opened(&server, &room).await, "");
    let outcome = server.edit(&room, &alice(), Editor::new(1).append("a")).await.unwrap();
    assert_eq!(outcome, EditOutcome::Journaled);
    assert_eq!(opened(&server, &room).await, "a");
}

/// A text that is evicted after each seal: each edit loads it again, at whatever commit the power fails.
#[tokio::test(start_paused = true)]
async fn acknowledged_edits_survive_a_power_loss_after_an_eviction() {
    for fault in [
        Fault::PowerBeforeWrite,
        Fault::PowerBeforeSync(Tail::Lost),
        Fault::PowerAfterSync,
        Fault::FailSync,
    ] {
        for at in 0..16 {
            let disk = MemoryDisk::new();
            let server = Server::boot(&disk, evicts_after(Duration::ZERO)).await;
            let room = server.document_with(&[(&bob(), 25)]).await;
            disk.plan(at, fault);
            let mut acknowledged = Vec::new();
            for n in 0..8 {
                let (who, mut editor) = (if n % 2 == 0 { alice() } else { bob() }, Editor::new(10 + n));
                let Ok(text) = server.rooms.diff(&room, NOTHING).await else {
                    break;
                };
                editor.apply(&text);
                let word = format!("<{n}>");
                if server.edit(&room, &who, editor.append(&word)).await.is_err() {
                    break;
                }
                acknowledged.push(word);
                // The pause after which edits are sealed.
                tokio::time::sleep(Duration::from_secs(3)).await;
            }
            disk.plan(u64::MAX, fault);
            let server = server.reboot().await;
            let text = opened(&server, &room).await;
            for word in &acknowledged {
                assert!(
                    text.contains(word),
                    "{fault:?} at {at}: {word} is lost, {text:?} is left"
                );
            }
        }
    }
}

/// Readers use the store while edits are journaled, sealed and compacted.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_was_acknowledged_is_readable_at_once_from_the_store() {
    let config = RoomConfig {
        snapshot_after: 2,
        checkpoint_after: 6,
        ..evicts_after(Duration::ZERO)
    };
    let server = Arc::new(Server::boot(&MemoryDisk::new(), config).await);
    let room = server.document().await;
    let (acknowledged, at) = tokio::sync::watch::channel(0_usize);
    let readers = (0..3).map(|_| {
        let (server, room, at) = (Arc::clone(&server), room.clone(), at.clone());
        tokio::spawn(async move {
            loop {
                let so_far = *at.borrow();
                let before = server.rooms.open(&room).await.unwrap().state_vector;
                let text = opened(&server, &room).await;
                assert!(text.len() >= so_far, "{} of {so_far} letters", text.len());
                let vector = weft_crdt::StateVector::parse(&before).unwrap();
                let known: u32 = vector.iter().map(|(_, end)| end).sum();
                assert!(usize::try_from(known).unwrap() >= so_far, "{known} of {so_far} letters");
                if so_far == 200 {
                    return;
                }
                tokio::task::yield_now().await;
            }
        })
    });
    let readers: Vec<_> = readers.collect();
    let mut editor = Editor::new(1);
    for n in 1..=200 {
        server.edit(&room, &alice(), editor.append("x")).await.unwrap();
        acknowledged.send_replace(n);
        if n % 3 == 0 {
            server.rooms.seal(&room).await.unwrap();
            tokio::task::yield_now().await;
        }
    }
    server.rooms.seal(&room).await.unwrap();
    for reader in readers {
        reader.await.unwrap();
    }
    assert_eq!(opened(&server, &room).await, editor.text());
}
