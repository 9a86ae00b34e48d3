//! Acknowledged data survives a power loss at any commit, and recovery is idempotent.

use weft_room::RoomConfig;
use weft_room_api::RoomError;
use weft_store::{
    memory::{Fault, MemoryDisk, Tail},
    tables::documents::{JOURNAL, JOURNALED_ROOMS},
};
use weft_testkit::{Editor, text_of};

use crate::harness::{Server, alice, bob};

/// Two users edit and send messages until the power loss at one commit. Returns the acknowledged letters.
async fn edit_until_power_loss(server: &Server, room: &ruma::RoomId) -> Vec<String> {
    let (mut a, mut b) = (Editor::new(1), Editor::new(2));
    let mut acknowledged = Vec::new();
    for n in 0..12 {
        let (who, editor) = if n % 3 == 2 { (bob(), &mut b) } else { (alice(), &mut a) };
        let Ok(diff) = server.rooms.diff(room, &editor.vector()).await else {
            break;
        };
        editor.apply(&diff);
        let word = format!("<{n}>");
        match server.edit(room, &who, editor.append(&word)).await {
            Ok(_) => acknowledged.push(word),
            Err(RoomError::Unavailable(_)) => break,
            Err(error) => panic!("{error}"),
        }
        let more = match n % 4 {
            1 => server.rooms.seal(room).await.is_ok(),
            3 => server.send_message(room, &bob(), "without_updates").await.is_ok(),
            _ => true,
        };
        if !more {
            break;
        }
    }
    acknowledged
}

#[tokio::test]
async fn acknowledged_edits_survive_a_power_loss_at_any_commit() {
    let faults = [
        Fault::PowerBeforeWrite,
        Fault::PowerBeforeSync(Tail::Lost),
        Fault::PowerBeforeSync(Tail::Torn(1)),
        Fault::PowerAfterSync,
        Fault::FailSync,
        Fault::FailWrite,
    ];
    for fault in faults {
        for at in 0..20 {
            let server = Server::new().await;
            let room = server.document_with(&[(&bob(), 25)]).await;
            server.disk.plan(at, fault);
            let acknowledged = edit_until_power_loss(&server, &room).await;
            // If the fault was not reached, it must not hit the restart.
            server.disk.plan(u64::MAX, fault);
            let server = server.reboot().await;
            let text = text_of(&server.rooms.content(&room, None).await.unwrap());
            for word in &acknowledged {
                assert!(
                    text.contains(word),
                    "{fault:?} at {at}: {word} is lost, {text:?} is left"
                );
            }
            // All edits are in signed events now, with the same text.
            assert!(
                server
                    .store
                    .scan_all(JOURNAL.under(&(&room,)))
                    .await
                    .unwrap()
                    .is_empty()
            );
            assert!(!server.store.contains(&JOURNALED_ROOMS, &(&room,)).await.unwrap());
            let extremities = server.rooms.reader().extremities(&room).await.unwrap();
            assert_eq!(
                text_of(&server.rooms.content(&room, Some(&extremities)).await.unwrap()),
                text
            );
            // Editing continues.
            let mut next = Editor::new(3);
            next.pull(&server.rooms, &room).await;
            server.edit(&room, &alice(), next.append("on")).await.unwrap();
        }
    }
}

#[tokio::test]
async fn acknowledged_edits_survive_a_power_loss_during_recovery() {
    for fault in [
        Fault::PowerBeforeWrite,
        Fault::PowerBeforeSync(Tail::Lost),
        Fault::PowerBeforeSync(Tail::Torn(1)),
        Fault::PowerAfterSync,
    ] {
        for at in 0..4 {
            let server = Server::new().await;
            let room = server.document_with(&[(&bob(), 25)]).await;
            let (mut a, mut b) = (Editor::new(1), Editor::new(2));
            server.edit(&room, &alice(), a.append("one ")).await.unwrap();
            b.pull(&server.rooms, &room).await;
            server.edit(&room, &bob(), b.append("two")).await.unwrap();
            let disk = server.disk.clone();
            drop(server);
            disk.power_loss(Tail::Lost);
            let broken = Server::boot(&disk, RoomConfig::default()).await;
            disk.plan(at, fault);
            // Success does not matter here; the data afterwards does.
            let _ = broken.rooms.recover().await;
            disk.plan(u64::MAX, fault);
            let server = broken.reboot().await;
            assert_eq!(text_of(&server.rooms.content(&room, None).await.unwrap()), "one two");
            let updates = server
                .log(&room)
                .await
                .iter()
                .filter(|(kind, _)| kind == "dev.weft.update")
                .count();
            assert_eq!(updates, 2, "{fault:?} at {at}");
        }
    }
}

#[tokio::test]
async fn recovery_is_idempotent() {
    let server = Server::new().await;
    let room = server.document().await;
    server
        .edit(&room, &alice(), Editor::new(1).append("text"))
        .await
        .unwrap();
    let server = server.reboot().await;
    let log = server.log(&room).await;
    server.rooms.recover().await.unwrap();
    let server = server.reboot().await;
    assert_eq!(server.log(&room).await, log);
    assert_eq!(log.iter().filter(|(kind, _)| kind == "dev.weft.update").count(), 1);
}

#[tokio::test]
async fn a_failing_store_returns_an_error_and_the_room_matches_the_disk() {
    let server = Server::new().await;
    let room = server.document().await;
    server.disk.fail_next_sync();
    assert!(
        server
            .edit(&room, &alice(), Editor::new(1).append("lost"))
            .await
            .is_err()
    );
    assert!(
        server.send_message(&room, &alice(), "neither").await.is_err(),
        "a poisoned store accepts no more writes"
    );
    assert!(
        server.sink.all().iter().all(|change| change.edits.is_empty()),
        "nothing is published that is not on disk"
    );
}

#[tokio::test]
async fn stopping_seals_edits_and_refuses_later_ones() {
    let disk = MemoryDisk::new();
    let server = Server::boot(&disk, RoomConfig::default()).await;
    let room = server.document().await;
    server
        .edit(&room, &alice(), Editor::new(1).append("last words"))
        .await
        .unwrap();
    server.rooms.stop().await;
    assert!(server.send_message(&room, &alice(), "late").await.is_err());
    assert!(
        server
            .store
            .scan_all(JOURNAL.under(&(&room,)))
            .await
            .unwrap()
            .is_empty()
    );
    let server = Server::boot(&disk, RoomConfig::default()).await;
    assert_eq!(text_of(&server.rooms.content(&room, None).await.unwrap()), "last words");
}

#[tokio::test]
async fn a_panic_ends_one_turn_and_the_room_continues() {
    let server = Server::new().await;
    let room = server.document().await;
    let mut editor = Editor::new(1);
    server.edit(&room, &alice(), editor.append("before ")).await.unwrap();
    server.sink.panic_once();
    let during = server.edit(&room, &alice(), editor.append("during ")).await;
    assert!(
        matches!(
            during,
            Err(RoomError::Unavailable(weft_room_api::Unavailable::Interrupted))
        ),
        "{during:?}"
    );
    server.edit(&room, &alice(), editor.append("after")).await.unwrap();
    // It was on disk before the panic, but not acknowledged.
    assert_eq!(
        text_of(&server.rooms.content(&room, None).await.unwrap()),
        "before during after"
    );
}
