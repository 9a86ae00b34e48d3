//! Live edits: journal, sealing, order, rights.

use std::time::Duration;

use bytes::Bytes;
use serde_json::json;
use weft_room::RoomConfig;
use weft_room_api::{EditOutcome, EditRefusal, EditToSend, RoomError};
use weft_store::{
    memory::MemoryDisk,
    tables::documents::{JOURNAL, JOURNALED_ROOMS},
};
use weft_testkit::{Editor, text_of};
use weft_wire::{
    Role,
    limits::{MAX_CLIENTS_PER_DOCUMENT, NEARLY_FULL_PERCENT},
    purpose::Purpose,
};

use crate::harness::{Server, alice, bob, user};

async fn pending(server: &Server, room: &ruma::RoomId) -> usize {
    server.store.scan_all(JOURNAL.under(&(room,))).await.unwrap().len()
}

async fn updates(server: &Server, room: &ruma::RoomId) -> usize {
    server
        .log(room)
        .await
        .iter()
        .filter(|(kind, _)| kind == "dev.weft.update")
        .count()
}

/// The text from signed events alone, from the snapshot and from a replay, which must agree.
async fn sealed_text(server: &Server, room: &ruma::RoomId) -> String {
    let extremities = server.rooms.reader().extremities(room).await.unwrap();
    let quick = text_of(&server.rooms.content(room, Some(&extremities)).await.unwrap());
    let after = server
        .send_message(room, &alice(), "references the extremities")
        .await
        .unwrap();
    let replayed = text_of(&server.rooms.content(room, Some(&extremities)).await.unwrap());
    assert_eq!(quick, replayed);
    assert_eq!(server.rooms.reader().extremities(room).await.unwrap(), [after]);
    quick
}

#[tokio::test(start_paused = true)]
async fn a_pause_seals_the_edits_before_it_into_one_event() {
    let server = Server::new().await;
    let room = server.document().await;
    let mut editor = Editor::new(11);
    for letter in "hello".chars() {
        let outcome = server
            .edit(&room, &alice(), editor.append(&letter.to_string()))
            .await
            .unwrap();
        assert_eq!(outcome, EditOutcome::Journaled);
    }
    assert_eq!((pending(&server, &room).await, updates(&server, &room).await), (5, 0));
    tokio::time::sleep(Duration::from_millis(2_100)).await;
    assert_eq!((pending(&server, &room).await, updates(&server, &room).await), (0, 1));
    assert!(!server.store.contains(&JOURNALED_ROOMS, &(&room,)).await.unwrap());
    assert_eq!(sealed_text(&server, &room).await, "hello");
}

#[tokio::test(start_paused = true)]
async fn edits_without_a_pause_are_sealed_after_the_longest_interval() {
    let server = Server::new().await;
    let room = server.document().await;
    let mut editor = Editor::new(11);
    for _ in 0..60 {
        server.edit(&room, &alice(), editor.append("x")).await.unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(updates(&server, &room).await, 1);
}

#[tokio::test(start_paused = true)]
async fn a_remote_user_in_the_document_shortens_the_seal_interval() {
    let server = Server::new().await;
    let room = server.document().await;
    let mut editor = Editor::new(11);
    server.edit(&room, &alice(), editor.append("a")).await.unwrap();
    server.rooms.remote_presence(&room);
    tokio::time::sleep(Duration::from_millis(60)).await;
    assert_eq!(
        updates(&server, &room).await,
        1,
        "including edits that were pending before"
    );
    server.edit(&room, &alice(), editor.append("b")).await.unwrap();
    tokio::time::sleep(Duration::from_millis(60)).await;
    assert_eq!(updates(&server, &room).await, 2);
    tokio::time::sleep(Duration::from_secs(61)).await;
    server.edit(&room, &alice(), editor.append("c")).await.unwrap();
    tokio::time::sleep(Duration::from_millis(60)).await;
    assert_eq!(
        updates(&server, &room).await,
        2,
        "the remote presence expires after a minute"
    );
}

#[tokio::test]
async fn the_timeline_has_the_order_of_the_edits() {
    let server = Server::new().await;
    let room = server.document_with(&[(&bob(), 25)]).await;
    let (mut a, mut b) = (Editor::new(1), Editor::new(2));
    let start = server.log(&room).await.len();
    server.edit(&room, &alice(), a.append("A")).await.unwrap();
    b.pull(&server.rooms, &room).await;
    server.edit(&room, &bob(), b.append("B")).await.unwrap();
    a.pull(&server.rooms, &room).await;
    server.edit(&room, &alice(), a.append("C")).await.unwrap();
    server.send_message(&room, &bob(), "look").await.unwrap();
    let log: Vec<_> = server.log(&room).await.split_off(start);
    let update = "dev.weft.update".to_owned();
    assert_eq!(
        log,
        [
            (update.clone(), alice()),
            (update.clone(), bob()),
            (update, alice()),
            ("m.room.message".to_owned(), bob())
        ],
        "dependent edits alternate, and all precede the message"
    );
    assert_eq!(sealed_text(&server, &room).await, "ABC");
}

#[tokio::test]
async fn concurrent_authors_get_one_event_each() {
    let server = Server::new().await;
    let room = server.document_with(&[(&bob(), 25)]).await;
    let (mut a, mut b) = (Editor::new(1), Editor::new(2));
    for _ in 0..20 {
        server.edit(&room, &alice(), a.append("a")).await.unwrap();
        server.edit(&room, &bob(), b.append("b")).await.unwrap();
    }
    server.rooms.seal(&room).await.unwrap();
    assert_eq!(updates(&server, &room).await, 2);
    a.pull(&server.rooms, &room).await;
    assert_eq!(sealed_text(&server, &room).await, a.text());
}

#[tokio::test]
async fn each_edit_is_authorised_and_earlier_edits_are_kept() {
    let server = Server::new().await;
    let room = server.document_with(&[(&bob(), 25), (&user("vera"), 0)]).await;
    let mut b = Editor::new(2);
    let forbidden = server.edit(&room, &user("vera"), Editor::new(3).append("v")).await;
    assert!(
        matches!(
            forbidden,
            Err(RoomError::Edit(EditRefusal::Role { role: Role::Viewer, .. }))
        ),
        "{forbidden:?}"
    );
    let stranger = server.edit(&room, &user("stranger"), Editor::new(3).append("s")).await;
    assert!(
        matches!(stranger, Err(RoomError::Edit(EditRefusal::NotJoined))),
        "{stranger:?}"
    );
    server.edit(&room, &bob(), b.append("in time")).await.unwrap();
    // The refused edit of a viewer is in no text; an update with nothing new needs no right.
    assert_eq!(text_of(&server.rooms.content(&room, None).await.unwrap()), "in time");
    assert_eq!(
        server.edit(&room, &user("vera"), b.whole()).await.unwrap(),
        EditOutcome::NothingNew
    );
    let mut levels = weft_wire::document::power_levels();
    levels["users"] = json!({ "@bob:alpha.test": 0 });
    server
        .state(&room, &alice(), "m.room.power_levels", "", levels)
        .await
        .unwrap();
    let late = server.edit(&room, &bob(), b.append("too late")).await;
    assert!(
        matches!(late, Err(RoomError::Edit(EditRefusal::Role { .. }))),
        "{late:?}"
    );
    let log = server.log(&room).await;
    assert_eq!(
        log[log.len() - 2],
        ("dev.weft.update".to_owned(), bob()),
        "sealed before the demotion"
    );
    assert_eq!(sealed_text(&server, &room).await, "in time");
}

#[tokio::test]
async fn refused_edits_have_distinct_errors() {
    let server = Server::new().await;
    let room = server.document_with(&[(&bob(), 25)]).await;
    let mut a = Editor::new(1);
    let first = a.append("one");
    let second = a.append("two");
    let early = server.edit(&room, &alice(), second.clone()).await.unwrap();
    assert!(matches!(early, EditOutcome::Missing { .. }), "{early:?}");
    assert_eq!(
        server.edit(&room, &alice(), first.clone()).await.unwrap(),
        EditOutcome::Journaled
    );
    assert_eq!(
        server.edit(&room, &alice(), second).await.unwrap(),
        EditOutcome::Journaled
    );
    assert_eq!(
        server.edit(&room, &alice(), first).await.unwrap(),
        EditOutcome::NothingNew
    );
    assert_eq!(
        server.edit(&room, &bob(), a.whole()).await.unwrap(),
        EditOutcome::NothingNew
    );
    let removed = a.remove(0, 2);
    assert_eq!(
        server.edit(&room, &bob(), removed).await.unwrap(),
        EditOutcome::Journaled
    );
    assert_eq!(
        server.edit(&room, &alice(), a.whole()).await.unwrap(),
        EditOutcome::NothingNew
    );
    // Another user's client id.
    let mut thief = Editor::new(1);
    thief.apply(&a.whole());
    let stolen = server.edit(&room, &bob(), thief.append("!")).await.unwrap();
    let EditOutcome::Partly(not_taken) = stolen else {
        panic!("{stolen:?}")
    };
    assert_eq!((not_taken.foreign, not_taken.missing), (vec![alice()], None));
    assert!(!text_of(&server.rooms.content(&room, None).await.unwrap()).contains('!'));
    let garbage = server.edit(&room, &alice(), Bytes::from_static(b"\xff\xff\xff")).await;
    assert!(
        matches!(garbage, Err(RoomError::Edit(EditRefusal::Update { .. }))),
        "{garbage:?}"
    );
    let without_updates = server
        .rooms
        .create(&alice(), weft_room_api::CreateRoom::default())
        .await
        .unwrap();
    let not = server
        .edit(&without_updates, &alice(), Editor::new(9).append("x"))
        .await;
    assert!(matches!(not, Err(RoomError::NotADocument(_))), "{not:?}");
}

#[tokio::test]
async fn a_large_paste_is_split_and_complete() {
    let server = Server::new().await;
    let room = server.document().await;
    let mut editor = Editor::new(5);
    let book = "Es war einmal \u{1F4D6} ein Text. ".repeat(10_000);
    server.edit(&room, &alice(), editor.append(&book)).await.unwrap();
    server.rooms.seal(&room).await.unwrap();
    assert!(updates(&server, &room).await > 5);
    assert_eq!(sealed_text(&server, &room).await, book);
    assert_eq!(pending(&server, &room).await, 0);
}

#[tokio::test]
async fn the_snapshot_and_the_events_give_the_same_text() {
    let server = Server::new().await;
    let room = server.document_with(&[(&bob(), 25)]).await;
    let (mut a, mut b) = (Editor::new(1), Editor::new(2));
    // Enough seals to compact the tail more than once.
    for n in 0..300 {
        server.edit(&room, &alice(), a.insert(n % 7, "ä")).await.unwrap();
        server.rooms.seal(&room).await.unwrap();
        if n % 3 == 0 {
            b.pull(&server.rooms, &room).await;
            server.edit(&room, &bob(), b.remove(0, 1)).await.unwrap();
            server.edit(&room, &bob(), b.append("\u{1F600}")).await.unwrap();
            a.pull(&server.rooms, &room).await;
        }
    }
    server.rooms.seal(&room).await.unwrap();
    let live = text_of(&server.rooms.content(&room, None).await.unwrap());
    assert_eq!(live, sealed_text(&server, &room).await);
    let server = server.reboot().await;
    assert_eq!(text_of(&server.rooms.content(&room, None).await.unwrap()), live);
    b.pull(&server.rooms, &room).await;
    assert_eq!(b.text(), live);
}

#[tokio::test(start_paused = true)]
async fn an_idle_room_is_unloaded_and_loaded_again() {
    let config = RoomConfig {
        idle_eviction: Duration::from_secs(30),
        ..RoomConfig::default()
    };
    let server = Server::boot(&MemoryDisk::new(), config).await;
    let room = server.document().await;
    let mut editor = Editor::new(5);
    server.edit(&room, &alice(), editor.append("kept")).await.unwrap();
    assert_eq!(server.rooms.active(), 1);
    tokio::time::sleep(Duration::from_secs(40)).await;
    assert_eq!(server.rooms.active(), 0);
    server.edit(&room, &alice(), editor.append(" and more")).await.unwrap();
    assert_eq!(
        text_of(&server.rooms.content(&room, None).await.unwrap()),
        "kept and more"
    );
    // An unknown room leaves nothing in memory.
    assert!(server.rooms.open(ruma::room_id!("!none:alpha.test")).await.is_err());
    tokio::time::sleep(Duration::from_millis(10)).await;
    assert_eq!(server.rooms.active(), 1);
}

/// An update in which each of these clients writes one letter.
fn letters_of(clients: std::ops::Range<u64>) -> Vec<u8> {
    let number = |out: &mut Vec<u8>, mut value: u64| {
        while value > 127 {
            out.push(0x80 | u8::try_from(value & 127).unwrap());
            value >>= 7;
        }
        out.push(u8::try_from(value).unwrap());
    };
    let mut update = Vec::new();
    number(&mut update, clients.end - clients.start);
    for client in clients {
        number(&mut update, 1);
        number(&mut update, client);
        update.extend([0, 4, 1, 1, b't', 1, b'a']);
    }
    update.push(0);
    update
}

#[tokio::test(start_paused = true)]
async fn editors_are_told_that_a_document_is_nearly_full_before_it_is() {
    let server = Server::new().await;
    let room = server.document().await;
    let limit = MAX_CLIENTS_PER_DOCUMENT as u64;
    let nearly = limit / 100 * NEARLY_FULL_PERCENT as u64;
    let mut first = 1;
    let mut warned = None;
    while first <= limit {
        let end = (first + 4_096).min(limit + 1);
        let outcome = server.edit(&room, &alice(), letters_of(first..end)).await.unwrap();
        let clients = end - 1;
        match outcome {
            EditOutcome::Journaled => assert!(clients <= nearly, "{clients}"),
            EditOutcome::NearlyFull(fill) => {
                assert!(
                    clients > nearly && fill.clients as u64 == clients,
                    "{clients}: {fill:?}"
                );
                warned = Some(clients);
            }
            other => panic!("{other:?}"),
        }
        first = end;
    }
    assert!(warned.is_some());
    let above = server.edit(&room, &alice(), letters_of(limit + 1..limit + 2)).await;
    assert!(
        matches!(above, Err(RoomError::Edit(EditRefusal::TooManyClients(_)))),
        "{above:?}"
    );
}

#[tokio::test]
async fn an_edit_that_says_what_it_is_for_is_all_of_its_events_at_once() {
    let server = Server::new().await;
    let room = server.document_with(&[(&bob(), 0)]).await;
    let mut editor = Editor::new(1);
    server.edit(&room, &alice(), editor.append("a")).await.unwrap();
    let content = server.rooms.content(&room, None).await.unwrap();
    let edit = |user: ruma::OwnedUserId, update: Bytes| EditToSend {
        user,
        update,
        fields: json!({"restores": {"heads": []}}).as_object().cloned().unwrap(),
    };
    let long = "b".repeat(100_000);
    let update = Editor::open(2, &content).append(&long);
    let refused = server.rooms.send_edit(&room, edit(bob(), update.clone())).await;
    assert!(
        matches!(refused, Err(RoomError::Edit(EditRefusal::Role { .. }))),
        "{refused:?}"
    );
    let version = server.rooms.reader().document_version(&room).await.unwrap();
    let sent = server
        .rooms
        .send_edit(&room, edit(alice(), update.clone()))
        .await
        .unwrap();
    assert_eq!(sent.len(), 3);
    assert_eq!(
        pending(&server, &room).await,
        0,
        "what was pending is in an event before it"
    );
    for id in &sent {
        let event = server.rooms.reader().event(Some(&room), id).await.unwrap().unwrap();
        let purpose: Purpose = event.content_as().unwrap();
        assert_eq!(purpose.restores.map(|restores| restores.heads), Some(Vec::new()));
    }
    let again = server.rooms.send_edit(&room, edit(alice(), update)).await.unwrap();
    assert_eq!(again, Vec::<ruma::OwnedEventId>::new());
    assert_eq!(sealed_text(&server, &room).await, format!("a{long}"));
    // Also after a power loss, and the versions are known.
    let server = server.reboot().await;
    assert_eq!(sealed_text(&server, &room).await, format!("a{long}"));
    let reader = server.rooms.reader();
    assert_eq!(reader.document_version(&room).await.unwrap(), version + 3);
    let heads = reader.heads_of_version(&room, version + 3, 20).await.unwrap();
    assert_eq!(heads, Some(vec![sent[2].clone()]));
    assert_eq!(reader.heads_of_version(&room, 0, 20).await.unwrap(), Some(Vec::new()));
}
