//! Hocuspocus framing: authentication by frame, many documents on one socket, acknowledgements.

use std::time::Duration;

use weft_wire::{
    limits::MAX_LIVE_FRAME_BYTES,
    live::{
        hocuspocus::{Body, Frame},
        sync::SyncMessage,
    },
};

use crate::world::{Received, Socket, World, letter};

fn frame(name: &str, body: Body<'_>) -> Vec<u8> {
    Frame::Document { name, body }.encode()
}

fn token<'a>(token: &'a str) -> Body<'a> {
    Body::Token {
        token,
        provider: Some("4.8.0"),
    }
}

fn update(bytes: &[u8]) -> Body<'_> {
    Body::Sync(SyncMessage::Update(bytes))
}

/// The next frame of a document that `wanted` accepts.
async fn next<T>(socket: &mut Socket, document: &str, wanted: impl Fn(Body<'_>) -> Option<T>) -> T {
    socket
        .until(|frame| match Frame::parse(frame).unwrap() {
            Frame::Document { name, body } if name == document => wanted(body),
            _ => None,
        })
        .await
}

async fn status(socket: &mut Socket, document: &str) -> bool {
    next(socket, document, |body| {
        if let Body::SyncStatus(applied) = body {
            Some(applied)
        } else {
            None
        }
    })
    .await
}

async fn scope(socket: &mut Socket, document: &str) -> bool {
    next(socket, document, |body| {
        if let Body::Authenticated { read_only } = body {
            Some(read_only)
        } else {
            None
        }
    })
    .await
}

#[tokio::test]
async fn an_edit_is_acknowledged_only_when_it_is_on_disk() {
    let world = World::new().await;
    let alice = world.person("alice").await;
    let room = world.document(&alice).await;
    let mut socket = world.socket("anything", None).await.unwrap();
    socket.send_frame(frame(room.as_str(), token(&alice.token))).await;
    assert!(!scope(&mut socket, room.as_str()).await);
    world.server.disk.pause_syncs();
    socket.send_frame(frame(room.as_str(), update(&letter(1, 0)))).await;
    let early = tokio::time::timeout(Duration::from_millis(300), socket.receive()).await;
    assert!(early.is_err(), "acknowledged before it was on disk: {early:?}");
    world.server.disk.resume_syncs();
    assert!(status(&mut socket, room.as_str()).await);
}

#[tokio::test]
async fn each_of_many_edits_is_acknowledged() {
    let world = World::new().await;
    let alice = world.person("alice").await;
    let room = world.document(&alice).await;
    let mut socket = world.socket("anything", None).await.unwrap();
    socket.send_frame(frame(room.as_str(), token(&alice.token))).await;
    for clock in 0..120 {
        socket.send_frame(frame(room.as_str(), update(&letter(1, clock)))).await;
    }
    for _ in 0..120 {
        assert!(status(&mut socket, room.as_str()).await);
    }
}

#[tokio::test]
async fn edits_after_a_gap_are_acknowledged_with_the_missing_edit() {
    let world = World::new().await;
    let alice = world.person("alice").await;
    let room = world.document(&alice).await;
    let mut socket = world.socket("anything", None).await.unwrap();
    socket.send_frame(frame(room.as_str(), token(&alice.token))).await;
    socket.send_frame(frame(room.as_str(), update(&letter(1, 1)))).await;
    next(&mut socket, room.as_str(), |body| {
        matches!(body, Body::Sync(SyncMessage::Step1(_))).then_some(())
    })
    .await;
    let all = weft_crdt::merge(&[
        weft_crdt::Update::parse(letter(1, 0).into()).unwrap(),
        weft_crdt::Update::parse(letter(1, 1).into()).unwrap(),
    ])
    .unwrap()
    .encode();
    socket
        .send_frame(frame(room.as_str(), Body::Sync(SyncMessage::Step2(&all))))
        .await;
    assert!(status(&mut socket, room.as_str()).await, "the step 2");
    assert!(status(&mut socket, room.as_str()).await, "the edit before it");
}

#[tokio::test]
async fn frames_before_the_token_are_kept_and_answered_after_it() {
    let world = World::new().await;
    let alice = world.person("alice").await;
    let room = world.document(&alice).await;
    let mut socket = world.socket("anything", None).await.unwrap();
    socket
        .send_frame(frame(room.as_str(), Body::Sync(SyncMessage::Step1(&[0]))))
        .await;
    socket.send_frame(frame(room.as_str(), update(&letter(1, 0)))).await;
    socket.send_frame(frame(room.as_str(), token(&alice.token))).await;
    let first = socket.until(|frame| Some(frame.to_vec())).await;
    let Frame::Document { body, .. } = Frame::parse(&first).unwrap() else {
        panic!("{first:?}")
    };
    assert!(matches!(body, Body::Authenticated { read_only: false }), "{body:?}");
    assert!(status(&mut socket, room.as_str()).await);
}

/// GHSA-xwhh-v746-pj9m: a client that never authenticates can't make the server store unlimited data.
#[tokio::test]
async fn frames_before_the_token_are_bounded() {
    let world = World::new().await;
    let mut socket = world.socket("anything", None).await.unwrap();
    for document in 0..101 {
        socket
            .send_frame(frame(&format!("!d{document}:alpha.example"), Body::QueryAwareness))
            .await;
    }
    assert_eq!(socket.until_closed().await, 4529);
    let mut socket = world.socket("anything", None).await.unwrap();
    for _ in 0..7 {
        socket
            .send_frame(frame("!d:alpha.example", update(&vec![0; 1_000_000])))
            .await;
    }
    assert_eq!(socket.until_closed().await, 4529);
}

#[tokio::test]
async fn a_wrong_token_is_denied_for_that_document_alone() {
    let world = World::new().await;
    let (alice, mallory) = (world.person("alice").await, world.person("mallory").await);
    let (hers, other) = (world.document(&alice).await, world.document(&mallory).await);
    let mut socket = world.socket("anything", None).await.unwrap();
    let denied = |body: Body<'_>| {
        if let Body::PermissionDenied(reason) = body {
            Some(reason.to_owned())
        } else {
            None
        }
    };
    socket.send_frame(frame(other.as_str(), token(&alice.token))).await;
    assert_eq!(next(&mut socket, other.as_str(), denied).await, "forbidden");
    socket.send_frame(frame(hers.as_str(), token("wft_wrong"))).await;
    assert_eq!(next(&mut socket, hers.as_str(), denied).await, "unauthorized");
    socket.send_frame(frame(hers.as_str(), token(&alice.token))).await;
    assert!(!scope(&mut socket, hers.as_str()).await);
}

#[tokio::test]
async fn answers_have_the_document_name_as_the_client_sent_it() {
    let world = World::new().await;
    let alice = world.person("alice").await;
    let (first, second) = (world.document(&alice).await, world.document(&alice).await);
    let mut socket = world.socket("anything", None).await.unwrap();
    let names = [format!("{first}\0one"), format!("{first}\0two"), second.to_string()];
    for name in &names {
        socket.send_frame(frame(name, token(&alice.token))).await;
        assert!(!scope(&mut socket, name).await);
    }
    socket.send_frame(frame(&names[0], update(&letter(1, 0)))).await;
    // The acknowledgement and the edit, in either order.
    let (mut acknowledged, mut shown) = (false, false);
    while !(acknowledged && shown) {
        let (name, what) = socket
            .until(|frame| match Frame::parse(frame).unwrap() {
                Frame::Document {
                    name,
                    body: Body::SyncStatus(true),
                } => Some((name.to_owned(), None)),
                Frame::Document {
                    name,
                    body: Body::Sync(SyncMessage::Update(bytes)),
                } => Some((name.to_owned(), Some(bytes.to_vec()))),
                _ => None,
            })
            .await;
        match what {
            None => acknowledged |= name == names[0],
            Some(update) => {
                assert_eq!((name, update), (names[1].clone(), letter(1, 0)));
                shown = true;
            }
        }
    }
}

#[tokio::test]
async fn a_ping_is_answered_and_a_server_frame_is_ignored() {
    let world = World::new().await;
    let alice = world.person("alice").await;
    let room = world.document(&alice).await;
    let mut socket = world.socket("anything", None).await.unwrap();
    socket.send_frame(frame(room.as_str(), token(&alice.token))).await;
    socket.send_frame(vec![9]).await;
    socket.until(|frame| (frame == [10]).then_some(())).await;
    let mut reply = frame(room.as_str(), Body::QueryAwareness);
    *reply.last_mut().unwrap() = 4;
    socket.send_frame(reply).await;
    assert_eq!(socket.until_closed().await, 4400);
}

#[tokio::test]
async fn detaching_a_document_does_not_affect_others() {
    let world = World::new().await;
    let alice = world.person("alice").await;
    let (first, second) = (world.document(&alice).await, world.document(&alice).await);
    let mut socket = world.socket("anything", None).await.unwrap();
    for room in [&first, &second] {
        socket.send_frame(frame(room.as_str(), token(&alice.token))).await;
        scope(&mut socket, room.as_str()).await;
    }
    socket.send_frame(frame(first.as_str(), Body::Close(None))).await;
    socket.send_frame(frame(second.as_str(), update(&letter(1, 0)))).await;
    assert!(status(&mut socket, second.as_str()).await);
    socket.send_frame(frame(first.as_str(), token(&alice.token))).await;
    assert!(!scope(&mut socket, first.as_str()).await);
}

#[tokio::test]
async fn a_stopping_server_closes_sockets_with_a_temporary_code() {
    let world = World::new().await;
    let alice = world.person("alice").await;
    let room = world.document(&alice).await;
    let mut socket = world.socket("anything", None).await.unwrap();
    socket.send_frame(frame(room.as_str(), token(&alice.token))).await;
    scope(&mut socket, room.as_str()).await;
    world.server.fanout.stop();
    loop {
        if let Received::Closed(code) = socket.receive().await {
            assert_eq!(code, 4500);
            break;
        }
    }
}

/// A client that reads nothing is disconnected after a while. Its later frames must not be read as if the connection worked:
/// a stock provider would consider its edits sent, and never reconnect.
#[tokio::test]
async fn a_client_that_sends_but_reads_nothing_is_disconnected() {
    let world = World::new().await;
    let alice = world.person("alice").await;
    let room = world.document(&alice).await;
    let (mut stalled, mut writer) = (
        world.socket("anything", None).await.unwrap(),
        world.socket("anything", None).await.unwrap(),
    );
    for socket in [&mut stalled, &mut writer] {
        socket.send_frame(frame(room.as_str(), token(&alice.token))).await;
        scope(socket, room.as_str()).await;
    }
    // More than the system buffers for an unread connection.
    for client in 2..34 {
        writer
            .send_frame(frame(room.as_str(), update(&long_word(client))))
            .await;
        assert!(status(&mut writer, room.as_str()).await);
    }
    // The minutes of the timeout pass immediately.
    tokio::time::pause();
    for clock in 0..20 {
        stalled.try_send(frame(room.as_str(), update(&letter(1, clock)))).await;
        tokio::time::sleep(Duration::from_secs(15)).await;
    }
    tokio::time::resume();
    // The buffered data comes before the close frame.
    stalled.until_closed().await;
}

/// Two blocks that depend on each other: no editor creates them.
const CIRCLE: [u8; 17] = [2, 1, 2, 0, 0x84, 1, 0, 1, b'a', 1, 1, 0, 0x84, 2, 0, 1, b'b'];

fn circle() -> Vec<u8> {
    let mut bytes = CIRCLE.to_vec();
    bytes.push(0);
    bytes
}

async fn closed(socket: &mut Socket, document: &str) -> String {
    next(socket, document, |body| match body {
        Body::Close(reason) => Some(reason.unwrap_or_default().to_owned()),
        _ => None,
    })
    .await
}

async fn notice(socket: &mut Socket, document: &str) -> serde_json::Value {
    next(socket, document, |body| match body {
        Body::Stateless(json) => Some(serde_json::from_str(json).unwrap()),
        _ => None,
    })
    .await
}

/// F10: a stock provider continues to send for a document that the server has closed or refused.
#[tokio::test]
async fn a_closed_document_does_not_close_the_socket() {
    let world = World::new().await;
    let (alice, mallory) = (world.person("alice").await, world.person("mallory").await);
    let (refused, good) = (world.document(&alice).await, world.document(&alice).await);
    let denied = world.document(&mallory).await;
    let mut socket = world.socket("anything", None).await.unwrap();
    for room in [&refused, &good] {
        socket.send_frame(frame(room.as_str(), token(&alice.token))).await;
        scope(&mut socket, room.as_str()).await;
    }
    socket.send_frame(frame(denied.as_str(), token(&alice.token))).await;
    socket.send_frame(frame(refused.as_str(), update(&circle()))).await;
    assert!(!status(&mut socket, refused.as_str()).await);
    assert_eq!(notice(&mut socket, refused.as_str()).await["code"], "circle");
    assert_eq!(closed(&mut socket, refused.as_str()).await, "update refused");
    // More than is kept for a document that is not open, in frames and in bytes.
    for room in [&refused, &denied] {
        for _ in 0..600 {
            socket.send_frame(frame(room.as_str(), Body::QueryAwareness)).await;
        }
        for _ in 0..4 {
            socket
                .send_frame(frame(room.as_str(), update(&vec![0; 1_000_000])))
                .await;
        }
    }
    socket.send_frame(frame(good.as_str(), update(&letter(1, 0)))).await;
    assert!(status(&mut socket, good.as_str()).await);
    // It may be opened again.
    socket.send_frame(frame(refused.as_str(), token(&alice.token))).await;
    assert!(!scope(&mut socket, refused.as_str()).await);
    socket.send_frame(frame(refused.as_str(), update(&letter(2, 0)))).await;
    assert!(status(&mut socket, refused.as_str()).await);
}

#[tokio::test]
async fn the_last_closed_document_closes_the_socket_with_its_code() {
    let world = World::new().await;
    let alice = world.person("alice").await;
    let rooms = [world.document(&alice).await, world.document(&alice).await];
    let mut socket = world.socket("anything", None).await.unwrap();
    for room in &rooms {
        socket.send_frame(frame(room.as_str(), token(&alice.token))).await;
        scope(&mut socket, room.as_str()).await;
    }
    for room in &rooms {
        socket.send_frame(frame(room.as_str(), update(&circle()))).await;
        closed(&mut socket, room.as_str()).await;
    }
    assert_eq!(socket.until_closed().await, 4422);
}

/// F13: after a close code a stock provider reconnects and sends the same message again.
#[tokio::test]
async fn a_too_large_message_is_refused_once_and_closes_only_its_document() {
    let world = World::new().await;
    let alice = world.person("alice").await;
    let (large, other) = (world.document(&alice).await, world.document(&alice).await);
    let mut socket = world.socket("anything", None).await.unwrap();
    for room in [&large, &other] {
        socket.send_frame(frame(room.as_str(), token(&alice.token))).await;
        scope(&mut socket, room.as_str()).await;
    }
    socket.send_frame(frame(large.as_str(), update(&letter(1, 0)))).await;
    socket
        .send_frame(frame(large.as_str(), update(&vec![0; MAX_LIVE_FRAME_BYTES])))
        .await;
    assert_eq!(notice(&mut socket, large.as_str()).await["code"], "too_large");
    assert_eq!(closed(&mut socket, large.as_str()).await, "message too large");
    socket.send_frame(frame(other.as_str(), update(&letter(1, 0)))).await;
    assert!(status(&mut socket, other.as_str()).await);
    socket.send_frame(frame(other.as_str(), Body::Close(None))).await;
    socket.send_frame(vec![9]).await;
    socket.until(|frame| (frame == [10]).then_some(())).await;
}

/// F13: content that no event can carry is replaced by a deletion, and everything else works.
#[tokio::test]
async fn a_refused_change_gets_a_notice_and_later_edits_are_acknowledged() {
    let world = World::new().await;
    let alice = world.person("alice").await;
    let room = world.document(&alice).await;
    let mut socket = world.socket("anything", None).await.unwrap();
    socket.send_frame(frame(room.as_str(), token(&alice.token))).await;
    socket.send_frame(frame(room.as_str(), update(&letter(1, 0)))).await;
    // An embed of 200 KB after the letter.
    let mut picture = vec![1, 1, 1, 1, 0x85, 1, 0, 0xc2, 0x9a, 0x0c, b'"'];
    picture.extend([b'x'; 200_000]);
    picture.extend(*b"\"\0");
    socket.send_frame(frame(room.as_str(), update(&picture))).await;
    let received_notice = notice(&mut socket, room.as_str()).await;
    assert_eq!(
        (&received_notice["type"], &received_notice["code"]),
        (&"dev.weft.refused".into(), &"piece_too_large".into())
    );
    assert_eq!(
        received_notice["blocks"],
        serde_json::json!([{"client": 1, "clock": 1, "length": 1}])
    );
    socket.send_frame(frame(room.as_str(), update(&letter(1, 2)))).await;
    assert!(status(&mut socket, room.as_str()).await);
    assert!(status(&mut socket, room.as_str()).await);
    let content = world.server.rooms.content(&room, None).await.unwrap();
    let content = weft_crdt::Update::parse(content).unwrap();
    assert_eq!(content.ranges().into_values().collect::<Vec<_>>(), [(0, 3)]);
    assert_eq!(content.delete_set().iter().collect::<Vec<_>>(), [(1.into(), 1, 2)]);
}

/// F12, and any client that keeps updates it can't apply: missing updates are requested a limited number of times.
#[tokio::test(flavor = "multi_thread")]
async fn requests_for_missing_updates_are_limited() {
    let world = World::new().await;
    let alice = world.person("alice").await;
    let room = world.document(&alice).await;
    let mut socket = world.socket("anything", None).await.unwrap();
    socket.send_frame(frame(room.as_str(), token(&alice.token))).await;
    scope(&mut socket, room.as_str()).await;
    let (mut asked, mut acknowledged) = (0, 0);
    // Clock 0 never arrives; each request is answered immediately, as stock Yjs does.
    for client in 10..60 {
        socket.send_frame(frame(room.as_str(), update(&letter(1, 1)))).await;
        socket
            .send_frame(frame(room.as_str(), update(&letter(client, 0))))
            .await;
        socket.send_frame(vec![9]).await;
        loop {
            let Received::Frame(received) = socket.receive().await else {
                panic!("closed")
            };
            match Frame::parse(&received).unwrap() {
                Frame::Pong => break,
                Frame::Document {
                    body: Body::Sync(SyncMessage::Step1(_)),
                    ..
                } => {
                    asked += 1;
                    let step2 = letter(1, 1);
                    let answer = Body::Sync(SyncMessage::Step2(&step2));
                    socket.send_frame(frame(room.as_str(), answer)).await;
                }
                Frame::Document {
                    body: Body::SyncStatus(true),
                    ..
                } => acknowledged += 1,
                _ => {}
            }
        }
    }
    while acknowledged < 50 {
        assert!(status(&mut socket, room.as_str()).await);
        acknowledged += 1;
    }
    assert!((1..20).contains(&asked), "asked {asked} times");
}

/// F11: the token that a stock provider sends after a change applies from then on.
#[tokio::test]
async fn a_newer_token_replaces_the_first() {
    let world = World::new().await;
    let (alice, dave) = (world.person("alice").await, world.person("dave").await);
    let room = world.document(&alice).await;
    let device = || weft_accounts::NewDevice {
        refreshable: true,
        ..Default::default()
    };
    let first = world
        .server
        .accounts
        .begin_session(&alice.user, device())
        .await
        .unwrap();
    let mut socket = world.socket("anything", None).await.unwrap();
    socket
        .send_frame(frame(room.as_str(), token(&first.access_token)))
        .await;
    scope(&mut socket, room.as_str()).await;
    let newer = world
        .server
        .accounts
        .refresh(&first.refresh_token.unwrap())
        .await
        .unwrap();
    socket
        .send_frame(frame(room.as_str(), token(&newer.access_token)))
        .await;
    assert!(!scope(&mut socket, room.as_str()).await);
    // Checking it did not use it: the first one still works.
    world.server.accounts.peek(&first.access_token).await.unwrap();
    // Now it is used on another connection, which ends the first; then rights change.
    world.server.accounts.authenticate(&newer.access_token).await.unwrap();
    world.admit(&room, &alice, &dave, 25).await;
    socket.send_frame(frame(room.as_str(), update(&letter(1, 0)))).await;
    assert!(status(&mut socket, room.as_str()).await);

    // A wrong one is denied and changes nothing; one of another user opens the document again.
    socket.send_frame(frame(room.as_str(), token("wft_wrong"))).await;
    socket.send_frame(frame(room.as_str(), update(&letter(1, 1)))).await;
    assert!(status(&mut socket, room.as_str()).await);
    socket.send_frame(frame(room.as_str(), token(&dave.token))).await;
    assert!(!scope(&mut socket, room.as_str()).await);
    socket.send_frame(frame(room.as_str(), update(&letter(1, 2)))).await;
    assert_eq!(
        notice(&mut socket, room.as_str()).await["users"],
        serde_json::json!([alice.user])
    );
}

/// Half a megabyte from a separate Yjs client.
fn long_word(client: u8) -> Vec<u8> {
    let mut bytes = vec![1, 1, client, 0, 4, 1, 4];
    bytes.extend(b"body");
    // The length, 7 bits a byte.
    bytes.extend([0x80, 0x80, 0x20]);
    bytes.extend(std::iter::repeat_n(b'a', 0x80000));
    bytes.push(0);
    bytes
}
