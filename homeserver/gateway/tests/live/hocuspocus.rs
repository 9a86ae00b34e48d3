//! Hocuspocus' framing: sign-in by frame, many documents on one socket, acknowledgements.

use std::time::Duration;

use weft_wire::live::{
    hocuspocus::{Body, Frame},
    sync::SyncMessage,
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
