//! Hocuspocus' framing: sign-in by frame, many documents on one socket, acknowledgements.

use std::time::Duration;

use weft_wire::{
    limits::MAX_LIVE_FRAME_BYTES,
    live::{
        hocuspocus::{Body, Frame},
        sync::SyncMessage,
    },
};

use crate::world::{Heard, Socket, World, letter};

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

/// The next frame about a document that `wanted` takes.
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
    socket.say(frame(room.as_str(), token(&alice.token))).await;
    assert!(!scope(&mut socket, room.as_str()).await);
    world.disk.pause_syncs();
    socket.say(frame(room.as_str(), update(&letter(1, 0)))).await;
    let early = tokio::time::timeout(Duration::from_millis(300), socket.hear()).await;
    assert!(early.is_err(), "acknowledged before it was on disk: {early:?}");
    world.disk.resume_syncs();
    assert!(status(&mut socket, room.as_str()).await);
}

#[tokio::test]
async fn each_of_many_edits_is_acknowledged() {
    let world = World::new().await;
    let alice = world.person("alice").await;
    let room = world.document(&alice).await;
    let mut socket = world.socket("anything", None).await.unwrap();
    socket.say(frame(room.as_str(), token(&alice.token))).await;
    for clock in 0..120 {
        socket.say(frame(room.as_str(), update(&letter(1, clock)))).await;
    }
    for _ in 0..120 {
        assert!(status(&mut socket, room.as_str()).await);
    }
}

#[tokio::test]
async fn edits_that_came_after_a_gap_are_acknowledged_with_what_fills_it() {
    let world = World::new().await;
    let alice = world.person("alice").await;
    let room = world.document(&alice).await;
    let mut socket = world.socket("anything", None).await.unwrap();
    socket.say(frame(room.as_str(), token(&alice.token))).await;
    socket.say(frame(room.as_str(), update(&letter(1, 1)))).await;
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
        .say(frame(room.as_str(), Body::Sync(SyncMessage::Step2(&all))))
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
        .say(frame(room.as_str(), Body::Sync(SyncMessage::Step1(&[0]))))
        .await;
    socket.say(frame(room.as_str(), update(&letter(1, 0)))).await;
    socket.say(frame(room.as_str(), token(&alice.token))).await;
    let first = socket.until(|frame| Some(frame.to_vec())).await;
    let Frame::Document { body, .. } = Frame::parse(&first).unwrap() else {
        panic!("{first:?}")
    };
    assert!(matches!(body, Body::Authenticated { read_only: false }), "{body:?}");
    assert!(status(&mut socket, room.as_str()).await);
}

/// GHSA-xwhh-v746-pj9m: who never signs in can't make the server keep what it likes.
#[tokio::test]
async fn what_is_kept_before_the_token_is_bounded() {
    let world = World::new().await;
    let mut socket = world.socket("anything", None).await.unwrap();
    for document in 0..101 {
        socket
            .say(frame(&format!("!d{document}:alpha.example"), Body::QueryAwareness))
            .await;
    }
    assert_eq!(socket.until_closed().await, 4529);
    let mut socket = world.socket("anything", None).await.unwrap();
    for _ in 0..7 {
        socket.say(frame("!d:alpha.example", update(&vec![0; 1_000_000]))).await;
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
    socket.say(frame(other.as_str(), token(&alice.token))).await;
    assert_eq!(next(&mut socket, other.as_str(), denied).await, "forbidden");
    socket.say(frame(hers.as_str(), token("wft_wrong"))).await;
    assert_eq!(next(&mut socket, hers.as_str(), denied).await, "unauthorized");
    socket.say(frame(hers.as_str(), token(&alice.token))).await;
    assert!(!scope(&mut socket, hers.as_str()).await);
}

#[tokio::test]
async fn answers_carry_the_name_as_it_was_said_session_and_all() {
    let world = World::new().await;
    let alice = world.person("alice").await;
    let (first, second) = (world.document(&alice).await, world.document(&alice).await);
    let mut socket = world.socket("anything", None).await.unwrap();
    let names = [format!("{first}\0one"), format!("{first}\0two"), second.to_string()];
    for name in &names {
        socket.say(frame(name, token(&alice.token))).await;
        assert!(!scope(&mut socket, name).await);
    }
    socket.say(frame(&names[0], update(&letter(1, 0)))).await;
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
async fn a_ping_is_answered_and_a_server_frame_is_not_taken() {
    let world = World::new().await;
    let alice = world.person("alice").await;
    let room = world.document(&alice).await;
    let mut socket = world.socket("anything", None).await.unwrap();
    socket.say(frame(room.as_str(), token(&alice.token))).await;
    socket.say(vec![9]).await;
    socket.until(|frame| (frame == [10]).then_some(())).await;
    let mut reply = frame(room.as_str(), Body::QueryAwareness);
    *reply.last_mut().unwrap() = 4;
    socket.say(reply).await;
    assert_eq!(socket.until_closed().await, 4400);
}

#[tokio::test]
async fn a_document_that_is_detached_leaves_the_others_alone() {
    let world = World::new().await;
    let alice = world.person("alice").await;
    let (first, second) = (world.document(&alice).await, world.document(&alice).await);
    let mut socket = world.socket("anything", None).await.unwrap();
    for room in [&first, &second] {
        socket.say(frame(room.as_str(), token(&alice.token))).await;
        scope(&mut socket, room.as_str()).await;
    }
    socket.say(frame(first.as_str(), Body::Close(None))).await;
    socket.say(frame(second.as_str(), update(&letter(1, 0)))).await;
    assert!(status(&mut socket, second.as_str()).await);
    socket.say(frame(first.as_str(), token(&alice.token))).await;
    assert!(!scope(&mut socket, first.as_str()).await);
}

#[tokio::test]
async fn a_stopping_server_says_that_it_comes_back() {
    let world = World::new().await;
    let alice = world.person("alice").await;
    let room = world.document(&alice).await;
    let mut socket = world.socket("anything", None).await.unwrap();
    socket.say(frame(room.as_str(), token(&alice.token))).await;
    scope(&mut socket, room.as_str()).await;
    world.fanout.stop();
    loop {
        if let Heard::Closed(code) = socket.hear().await {
            assert_eq!(code, 4500);
            break;
        }
    }
}

/// A client that takes nothing is given up after a while. What it goes on to say must not be read as if somebody still
/// listened: a stock provider would take its edits for sent, and never connect anew.
#[tokio::test]
async fn a_client_that_takes_nothing_but_goes_on_typing_is_disconnected() {
    let world = World::new().await;
    let alice = world.person("alice").await;
    let room = world.document(&alice).await;
    let (mut deaf, mut writer) = (
        world.socket("anything", None).await.unwrap(),
        world.socket("anything", None).await.unwrap(),
    );
    for socket in [&mut deaf, &mut writer] {
        socket.say(frame(room.as_str(), token(&alice.token))).await;
        scope(socket, room.as_str()).await;
    }
    // More than the system keeps for a connection that nobody reads from.
    for client in 2..34 {
        writer.say(frame(room.as_str(), update(&long_word(client)))).await;
        assert!(status(&mut writer, room.as_str()).await);
    }
    // The minutes in which it is waited for take no time.
    tokio::time::pause();
    for clock in 0..20 {
        deaf.can_say(frame(room.as_str(), update(&letter(1, clock)))).await;
        tokio::time::sleep(Duration::from_secs(15)).await;
    }
    tokio::time::resume();
    // What the system has kept comes before the end.
    deaf.until_closed().await;
}

/// Two blocks that wait for one another: no editor makes them.
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

/// F10: a stock provider goes on sending for a document that the server has ended or refused.
#[tokio::test]
async fn a_document_that_has_ended_does_not_take_the_socket_along() {
    let world = World::new().await;
    let (alice, mallory) = (world.person("alice").await, world.person("mallory").await);
    let (refused, good) = (world.document(&alice).await, world.document(&alice).await);
    let denied = world.document(&mallory).await;
    let mut socket = world.socket("anything", None).await.unwrap();
    for room in [&refused, &good] {
        socket.say(frame(room.as_str(), token(&alice.token))).await;
        scope(&mut socket, room.as_str()).await;
    }
    socket.say(frame(denied.as_str(), token(&alice.token))).await;
    socket.say(frame(refused.as_str(), update(&circle()))).await;
    assert!(!status(&mut socket, refused.as_str()).await);
    assert_eq!(notice(&mut socket, refused.as_str()).await["code"], "circle");
    assert_eq!(closed(&mut socket, refused.as_str()).await, "update refused");
    // More than is kept for a document that has not begun, in frames and in bytes.
    for room in [&refused, &denied] {
        for _ in 0..600 {
            socket.say(frame(room.as_str(), Body::QueryAwareness)).await;
        }
        for _ in 0..4 {
            socket.say(frame(room.as_str(), update(&vec![0; 1_000_000]))).await;
        }
    }
    socket.say(frame(good.as_str(), update(&letter(1, 0)))).await;
    assert!(status(&mut socket, good.as_str()).await);
    // It may be opened again.
    socket.say(frame(refused.as_str(), token(&alice.token))).await;
    assert!(!scope(&mut socket, refused.as_str()).await);
    socket.say(frame(refused.as_str(), update(&letter(2, 0)))).await;
    assert!(status(&mut socket, refused.as_str()).await);
}

#[tokio::test]
async fn the_last_document_that_ends_closes_the_socket_with_its_code() {
    let world = World::new().await;
    let alice = world.person("alice").await;
    let rooms = [world.document(&alice).await, world.document(&alice).await];
    let mut socket = world.socket("anything", None).await.unwrap();
    for room in &rooms {
        socket.say(frame(room.as_str(), token(&alice.token))).await;
        scope(&mut socket, room.as_str()).await;
    }
    for room in &rooms {
        socket.say(frame(room.as_str(), update(&circle()))).await;
        closed(&mut socket, room.as_str()).await;
    }
    assert_eq!(socket.until_closed().await, 4422);
}

/// F13: after a close code a stock provider connects again and sends the same once more.
#[tokio::test]
async fn a_message_that_is_too_large_is_refused_once_and_ends_its_document_alone() {
    let world = World::new().await;
    let alice = world.person("alice").await;
    let (large, other) = (world.document(&alice).await, world.document(&alice).await);
    let mut socket = world.socket("anything", None).await.unwrap();
    for room in [&large, &other] {
        socket.say(frame(room.as_str(), token(&alice.token))).await;
        scope(&mut socket, room.as_str()).await;
    }
    socket.say(frame(large.as_str(), update(&letter(1, 0)))).await;
    socket
        .say(frame(large.as_str(), update(&vec![0; MAX_LIVE_FRAME_BYTES])))
        .await;
    assert_eq!(notice(&mut socket, large.as_str()).await["code"], "too_large");
    assert_eq!(closed(&mut socket, large.as_str()).await, "message too large");
    socket.say(frame(other.as_str(), update(&letter(1, 0)))).await;
    assert!(status(&mut socket, other.as_str()).await);
    socket.say(frame(other.as_str(), Body::Close(None))).await;
    socket.say(vec![9]).await;
    socket.until(|frame| (frame == [10]).then_some(())).await;
}

/// F13: content that no event can carry is taken as deleted, and all else goes on.
#[tokio::test]
async fn one_bad_change_is_told_and_what_follows_is_acknowledged() {
    let world = World::new().await;
    let alice = world.person("alice").await;
    let room = world.document(&alice).await;
    let mut socket = world.socket("anything", None).await.unwrap();
    socket.say(frame(room.as_str(), token(&alice.token))).await;
    socket.say(frame(room.as_str(), update(&letter(1, 0)))).await;
    // An embed of 200 KB after the letter.
    let mut picture = vec![1, 1, 1, 1, 0x85, 1, 0, 0xc2, 0x9a, 0x0c, b'"'];
    picture.extend([b'x'; 200_000]);
    picture.extend(*b"\"\0");
    socket.say(frame(room.as_str(), update(&picture))).await;
    let told = notice(&mut socket, room.as_str()).await;
    assert_eq!(
        (&told["type"], &told["code"]),
        (&"dev.weft.refused".into(), &"piece_too_large".into())
    );
    assert_eq!(
        told["blocks"],
        serde_json::json!([{"client": 1, "clock": 1, "length": 1}])
    );
    socket.say(frame(room.as_str(), update(&letter(1, 2)))).await;
    assert!(status(&mut socket, room.as_str()).await);
    assert!(status(&mut socket, room.as_str()).await);
    let content = world.rooms.content(&room, None).await.unwrap();
    let content = weft_crdt::Update::parse(content).unwrap();
    assert_eq!(content.ranges().into_values().collect::<Vec<_>>(), [(0, 3)]);
    assert_eq!(content.delete_set().iter().collect::<Vec<_>>(), [(1.into(), 1, 2)]);
}

/// F12, and any client that keeps what it can't apply: what can't be brought is asked for some times, and not without end.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_cannot_bring_what_is_missing_is_not_asked_without_end() {
    let world = World::new().await;
    let alice = world.person("alice").await;
    let room = world.document(&alice).await;
    let mut socket = world.socket("anything", None).await.unwrap();
    socket.say(frame(room.as_str(), token(&alice.token))).await;
    scope(&mut socket, room.as_str()).await;
    let (mut asked, mut acknowledged) = (0, 0);
    // Clock 0 never comes; each question is answered at once, as stock Yjs does.
    for client in 10..60 {
        socket.say(frame(room.as_str(), update(&letter(1, 1)))).await;
        socket.say(frame(room.as_str(), update(&letter(client, 0)))).await;
        socket.say(vec![9]).await;
        loop {
            let Heard::Frame(heard) = socket.hear().await else {
                panic!("closed")
            };
            match Frame::parse(&heard).unwrap() {
                Frame::Pong => break,
                Frame::Document {
                    body: Body::Sync(SyncMessage::Step1(_)),
                    ..
                } => {
                    asked += 1;
                    let step2 = letter(1, 1);
                    let answer = Body::Sync(SyncMessage::Step2(&step2));
                    socket.say(frame(room.as_str(), answer)).await;
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

/// F11: what a stock provider sends after its token has changed counts from then on.
#[tokio::test]
async fn a_newer_token_takes_the_place_of_the_first() {
    let world = World::new().await;
    let (alice, dave) = (world.person("alice").await, world.person("dave").await);
    let room = world.document(&alice).await;
    let device = || weft_accounts::NewDevice {
        refreshable: true,
        ..Default::default()
    };
    let first = world.accounts.begin_session(&alice.user, device()).await.unwrap();
    let mut socket = world.socket("anything", None).await.unwrap();
    socket.say(frame(room.as_str(), token(&first.access_token))).await;
    scope(&mut socket, room.as_str()).await;
    let newer = world.accounts.refresh(&first.refresh_token.unwrap()).await.unwrap();
    socket.say(frame(room.as_str(), token(&newer.access_token))).await;
    assert!(!scope(&mut socket, room.as_str()).await);
    // To check it was no use of it: the first one still works.
    world.accounts.peek(&first.access_token).await.unwrap();
    // Now it is used elsewhere, which ends the first; then rights change.
    world.accounts.authenticate(&newer.access_token).await.unwrap();
    world.admit(&room, &alice, &dave, 25).await;
    socket.say(frame(room.as_str(), update(&letter(1, 0)))).await;
    assert!(status(&mut socket, room.as_str()).await);

    // A wrong one is denied, and changes nothing; one of another user opens the document anew.
    socket.say(frame(room.as_str(), token("wft_wrong"))).await;
    socket.say(frame(room.as_str(), update(&letter(1, 1)))).await;
    assert!(status(&mut socket, room.as_str()).await);
    socket.say(frame(room.as_str(), token(&dave.token))).await;
    assert!(!scope(&mut socket, room.as_str()).await);
    socket.say(frame(room.as_str(), update(&letter(1, 2)))).await;
    assert_eq!(
        notice(&mut socket, room.as_str()).await["users"],
        serde_json::json!([alice.user])
    );
}

/// Half a megabyte by a Yjs client of its own.
fn long_word(client: u8) -> Vec<u8> {
    let mut bytes = vec![1, 1, client, 0, 4, 1, 4];
    bytes.extend(b"body");
    // The length, 7 bits a byte.
    bytes.extend([0x80, 0x80, 0x20]);
    bytes.extend(std::iter::repeat_n(b'a', 0x80000));
    bytes.push(0);
    bytes
}
