//! Edits that requests make: all or nothing, at a version, and once for each key, also over a power loss.

use bytes::Bytes;
use ruma::{RoomId, UserId};
use weft_room_api::{EditRefusal, RequestKey, RequestOutcome, RequestedEdit, RoomError};
use weft_store::{
    Lane,
    memory::{Fault, Tail},
    tables::documents::{EDIT_REQUEST_TIMES, EDIT_REQUESTS},
};
use weft_testkit::{Editor, text_of};
use yrs::{Any, Text as _};

use crate::harness::{Server, alice, bob};

fn named(name: &str) -> Option<RequestKey> {
    Some(RequestKey {
        name: name.to_owned(),
        body: [1; 32],
        answer: Bytes::from_static(b"[]"),
    })
}

fn edit(user: &UserId, update: impl Into<Bytes>, key: Option<RequestKey>) -> RequestedEdit {
    RequestedEdit {
        user: user.to_owned(),
        update: update.into(),
        if_version: None,
        key,
    }
}

async fn text(server: &Server, room: &RoomId) -> String {
    text_of(&server.rooms.content(room, None).await.unwrap())
}

#[tokio::test]
async fn a_request_with_a_key_is_applied_once() {
    let server = Server::new().await;
    let room = server.document_with(&[(&bob(), 25)]).await;
    let (mut first, mut second) = (Editor::new(1), Editor::new(2));
    let (one, two) = (first.append("a"), second.append("b"));
    let (one, two) = (edit(&alice(), one, named("k")), edit(&alice(), two, named("k")));
    let again = |version| RequestOutcome::Repeated {
        version,
        answer: Bytes::from_static(b"[]"),
    };
    // Both are commands of one turn; the second one has other blocks, as another process would make them.
    let (applied, repeated) = tokio::join!(
        server.rooms.request_edit(&room, one),
        server.rooms.request_edit(&room, two.clone())
    );
    assert_eq!(applied.unwrap(), RequestOutcome::Applied { version: 1 });
    assert_eq!(repeated.unwrap(), again(1));
    assert_eq!(server.rooms.request_edit(&room, two.clone()).await.unwrap(), again(1));
    assert_eq!(text(&server, &room).await, "a");

    let mut other = two;
    other.key.as_mut().unwrap().body = [2; 32];
    assert_eq!(
        server.rooms.request_edit(&room, other).await.unwrap(),
        RequestOutcome::KeyReused
    );
    assert_eq!(text(&server, &room).await, "a");
    assert_eq!(server.rooms.reader().document_version(&room).await.unwrap(), 1);
}

#[tokio::test]
async fn an_edit_is_applied_as_a_whole_or_not_at_all() {
    let server = Server::new().await;
    let room = server.document_with(&[(&bob(), 25)]).await;
    let mut theirs = Editor::new(1);
    server.edit(&room, &alice(), theirs.append("text")).await.unwrap();
    let before = server.rooms.reader().document_version(&room).await.unwrap();

    let mut mine = Editor::new(2);
    mine.append("x");
    let large = mine.change(|text, txn| {
        text.insert(txn, 0, "y");
        text.insert_embed(txn, 1, Any::from("z".repeat(50_000)));
    });
    let missing = server
        .rooms
        .request_edit(&room, edit(&bob(), large, named("missing")))
        .await;
    assert_eq!(
        missing.unwrap(),
        RequestOutcome::Missing,
        "the update lacks the block before it"
    );

    let whole = Editor::new(3).change(|text, txn| {
        text.insert(txn, 0, "y");
        text.insert_embed(txn, 1, Any::from("z".repeat(50_000)));
    });
    let refused = server
        .rooms
        .request_edit(&room, edit(&bob(), whole, named("refused")))
        .await;
    let RequestOutcome::Refused(refused) = refused.unwrap() else {
        panic!("it is accepted");
    };
    assert_eq!(refused[0].rule, "piece_too_large");

    let foreign = server
        .rooms
        .request_edit(&room, edit(&bob(), theirs.append("!"), named("foreign")))
        .await;
    assert_eq!(foreign.unwrap(), RequestOutcome::Foreign);

    let mut at_another = edit(&bob(), Editor::new(4).append("w"), named("version"));
    at_another.if_version = Some(before + 1);
    let changed = server.rooms.request_edit(&room, at_another.clone()).await;
    assert_eq!(changed.unwrap(), RequestOutcome::VersionChanged);
    assert_eq!(text(&server, &room).await, "text");
    assert_eq!(server.rooms.reader().document_version(&room).await.unwrap(), before);
    let kept = server.store.scan_all(EDIT_REQUESTS.under(&(&room,))).await.unwrap();
    assert!(kept.is_empty(), "nothing is kept of what was not applied: {kept:?}");

    at_another.if_version = Some(before);
    let applied = server.rooms.request_edit(&room, at_another).await;
    assert_eq!(applied.unwrap(), RequestOutcome::Applied { version: before + 1 });
}

#[tokio::test]
async fn a_viewer_may_not_edit_by_request() {
    let server = Server::new().await;
    let room = server.document_with(&[(&bob(), 0)]).await;
    let refused = server
        .rooms
        .request_edit(&room, edit(&bob(), Editor::new(1).append("a"), None))
        .await;
    assert!(
        matches!(refused, Err(RoomError::Edit(EditRefusal::Role { .. }))),
        "{refused:?}"
    );
}

/// The client got no answer and repeats its request after the restart, with blocks that are made anew.
#[tokio::test]
async fn after_a_power_loss_a_repetition_is_applied_once() {
    for fault in [
        Fault::PowerBeforeWrite,
        Fault::PowerBeforeSync(Tail::Lost),
        Fault::PowerBeforeSync(Tail::Torn(1)),
        Fault::PowerAfterSync,
        Fault::FailSync,
        Fault::FailWrite,
    ] {
        for at in 0..3 {
            let server = Server::new().await;
            let room = server.document().await;
            server.disk.plan(at, fault);
            let first = edit(&alice(), Editor::new(1).append("a"), named("k"));
            let answered = server.rooms.request_edit(&room, first).await;
            server.disk.plan(u64::MAX, fault);
            let server = server.reboot().await;
            let again = edit(&alice(), Editor::new(2).append("a"), named("k"));
            let repeated = server.rooms.request_edit(&room, again).await.unwrap();
            assert_eq!(
                text(&server, &room).await,
                "a",
                "{fault:?} at {at}: {answered:?}, {repeated:?}"
            );
            if answered.is_ok() {
                assert!(
                    matches!(repeated, RequestOutcome::Repeated { version: 1, .. }),
                    "{fault:?} at {at}"
                );
            }
        }
    }
}

#[tokio::test]
async fn old_answers_are_deleted_also_those_of_other_documents() {
    const DAY: u64 = 24 * 60 * 60 * 1_000;
    let server = Server::new().await;
    let (quiet, busy) = (server.document().await, server.document().await);
    let mut number = 0;
    let mut make = async |room: &RoomId, name: &str| {
        number += 1;
        let made = edit(&alice(), Editor::new(number).append("a"), named(name));
        server.rooms.request_edit(room, made).await.unwrap()
    };
    for name in ["a", "b", "c"] {
        make(&quiet, name).await;
    }
    server.clock.advance(DAY / 2);
    assert!(matches!(make(&quiet, "a").await, RequestOutcome::Repeated { .. }));
    make(&busy, "d").await;
    server.clock.advance(DAY / 2 + 1_000);
    make(&busy, "e").await;
    let rows = async || {
        let quiet = server
            .store
            .scan_all(EDIT_REQUESTS.under(&(&quiet,)))
            .await
            .unwrap()
            .len();
        let busy = server
            .store
            .scan_all(EDIT_REQUESTS.under(&(&busy,)))
            .await
            .unwrap()
            .len();
        let times = EDIT_REQUEST_TIMES.under(&(Lane::FIRST,));
        (quiet, busy, server.store.scan_all(times).await.unwrap().len())
    };
    assert_eq!(rows().await, (0, 2, 2));
    assert!(matches!(make(&quiet, "a").await, RequestOutcome::Applied { .. }));
}
