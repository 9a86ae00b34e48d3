//! Rights when a socket is opened, and in open sockets.

use std::{num::NonZeroU32, sync::Arc};

use serde_json::json;
use weft_accounts::NewDevice;
use weft_clock::testing::ManualClock;
use weft_gateway::ratelimit::UserLimiter;
use weft_wire::live::{
    hocuspocus::{Body, Frame},
    plain,
    sync::SyncMessage,
};

use crate::world::{World, letter};

fn frame(name: &str, body: Body<'_>) -> Vec<u8> {
    Frame::Document { name, body }.encode()
}

fn statuses_and_scopes(name: &str) -> impl Fn(&[u8]) -> Option<String> + use<> {
    let document = name.to_owned();
    move |frame| match Frame::parse(frame).unwrap() {
        Frame::Document {
            name,
            body: Body::SyncStatus(applied),
        } if name == document => Some(format!("status {applied}")),
        Frame::Document {
            name,
            body: Body::Authenticated { read_only },
        } if name == document => Some(format!("read-only {read_only}")),
        _ => None,
    }
}

#[tokio::test]
async fn a_viewer_can_read_and_edits_are_refused_with_a_reason() {
    let world = World::new().await;
    let (alice, viewer) = (world.person("alice").await, world.person("viewer").await);
    let room = world.document(&alice).await;
    world.admit(&room, &alice, &viewer, 0).await;
    let received = statuses_and_scopes(room.as_str());
    let mut hers = world.socket_of(&room, &alice).await;
    hers.send_frame(plain::Frame::Sync(SyncMessage::Update(&letter(1, 0))).encode())
        .await;
    let mut socket = world.socket("anything", None).await.unwrap();
    socket
        .send_frame(frame(
            room.as_str(),
            Body::Token {
                token: &viewer.token,
                provider: None,
            },
        ))
        .await;
    assert_eq!(socket.until(&received).await, "read-only true");
    socket
        .send_frame(frame(room.as_str(), Body::Sync(SyncMessage::Step2(&[0, 0]))))
        .await;
    assert_eq!(
        socket.until(&received).await,
        "status true",
        "an update without changes is no edit"
    );
    socket
        .send_frame(frame(room.as_str(), Body::Sync(SyncMessage::Update(&letter(2, 0)))))
        .await;
    assert_eq!(socket.until(&received).await, "status false");

    let mut plain_socket = world.socket_of(&room, &viewer).await;
    plain_socket
        .send_frame(plain::Frame::Sync(SyncMessage::Update(&letter(3, 0))).encode())
        .await;
    let reason = plain_socket
        .until(|frame| match plain::Frame::parse(frame).unwrap() {
            plain::Frame::PermissionDenied(reason) => Some(reason.to_owned()),
            _ => None,
        })
        .await;
    assert!(reason.contains("read"), "{reason}");
    let vector = world.server.rooms.open(&room).await.unwrap().state_vector;
    let vector = weft_crdt::StateVector::parse(&vector).unwrap();
    assert_eq!((vector.get(2.into()), vector.get(3.into())), (0, 0));
}

/// Every step 2 contains the whole delete set, so a reader of a document with deletions always sends one.
#[tokio::test]
async fn a_viewer_that_repeats_known_deletions_is_acknowledged() {
    let world = World::new().await;
    let (alice, viewer) = (world.person("alice").await, world.person("viewer").await);
    let room = world.document(&alice).await;
    world.admit(&room, &alice, &viewer, 0).await;
    let received = statuses_and_scopes(room.as_str());
    let deletion = [0, 1, 1, 1, 0, 1];
    let mut hers = world.socket("anything", None).await.unwrap();
    hers.send_frame(frame(
        room.as_str(),
        Body::Token {
            token: &alice.token,
            provider: None,
        },
    ))
    .await;
    hers.send_frame(frame(room.as_str(), Body::Sync(SyncMessage::Update(&letter(1, 0)))))
        .await;
    hers.send_frame(frame(room.as_str(), Body::Sync(SyncMessage::Update(&deletion))))
        .await;
    assert_eq!(hers.until(&received).await, "read-only false");
    assert_eq!(hers.until(&received).await, "status true");
    assert_eq!(hers.until(&received).await, "status true");
    let mut socket = world.socket("anything", None).await.unwrap();
    socket
        .send_frame(frame(
            room.as_str(),
            Body::Token {
                token: &viewer.token,
                provider: None,
            },
        ))
        .await;
    assert_eq!(socket.until(&received).await, "read-only true");
    socket
        .send_frame(frame(room.as_str(), Body::Sync(SyncMessage::Step2(&deletion))))
        .await;
    assert_eq!(socket.until(&received).await, "status true");
}

#[tokio::test]
async fn rights_changes_apply_to_open_sockets() {
    let world = World::new().await;
    let (alice, dave) = (world.person("alice").await, world.person("dave").await);
    let room = world.document(&alice).await;
    world.admit(&room, &alice, &dave, 25).await;
    let received = statuses_and_scopes(room.as_str());
    let mut socket = world.socket("anything", None).await.unwrap();
    socket
        .send_frame(frame(
            room.as_str(),
            Body::Token {
                token: &dave.token,
                provider: None,
            },
        ))
        .await;
    assert_eq!(socket.until(&received).await, "read-only false");
    socket
        .send_frame(frame(room.as_str(), Body::Sync(SyncMessage::Update(&letter(1, 0)))))
        .await;
    assert_eq!(socket.until(&received).await, "status true");
    world.set_power(&room, &alice, &dave, 0).await;
    assert_eq!(socket.until(&received).await, "read-only true");
    socket
        .send_frame(frame(room.as_str(), Body::Sync(SyncMessage::Update(&letter(1, 1)))))
        .await;
    assert_eq!(socket.until(&received).await, "status false");
    world.set_power(&room, &alice, &dave, 25).await;
    assert_eq!(socket.until(&received).await, "read-only false");
    socket
        .send_frame(frame(room.as_str(), Body::Sync(SyncMessage::Update(&letter(1, 1)))))
        .await;
    assert_eq!(socket.until(&received).await, "status true");
}

#[tokio::test]
async fn a_lock_makes_open_sockets_read_only_and_closes_none() {
    let world = World::new().await;
    let (alice, dave) = (world.person("alice").await, world.person("dave").await);
    let room = world.document(&alice).await;
    world.admit(&room, &alice, &dave, 25).await;
    let received = statuses_and_scopes(room.as_str());
    let mut sockets = Vec::new();
    // The creator is above all power levels, and reads only as well.
    for (client, person) in [(1, &alice), (2, &dave)] {
        let mut socket = world.socket("anything", None).await.unwrap();
        let token = Body::Token {
            token: &person.token,
            provider: None,
        };
        socket.send_frame(frame(room.as_str(), token)).await;
        assert_eq!(socket.until(&received).await, "read-only false");
        sockets.push((client, socket));
    }
    let mut plain_socket = world.socket_of(&room, &dave).await;
    world.state(&room, &alice, "dev.weft.lock", "", json!({})).await;
    for (client, socket) in &mut sockets {
        assert_eq!(socket.until(&received).await, "read-only true");
        let update = letter(*client, 0);
        socket
            .send_frame(frame(room.as_str(), Body::Sync(SyncMessage::Update(&update))))
            .await;
        assert_eq!(socket.until(&received).await, "status false");
    }
    plain_socket
        .send_frame(plain::Frame::Sync(SyncMessage::Update(&letter(3, 0))).encode())
        .await;
    let reason = plain_socket
        .until(|frame| match plain::Frame::parse(frame).unwrap() {
            plain::Frame::PermissionDenied(reason) => Some(reason.to_owned()),
            _ => None,
        })
        .await;
    assert!(reason.contains("locked"), "{reason}");
    let lock = world.server.rooms.reader().state(&room).await.unwrap().unwrap();
    let lock = lock.lock().unwrap().event_id().to_string();
    world.state(&room, &alice, "dev.weft.unlock", &lock, json!({})).await;
    for (client, socket) in &mut sockets {
        assert_eq!(socket.until(&received).await, "read-only false");
        let update = letter(*client, 0);
        socket
            .send_frame(frame(room.as_str(), Body::Sync(SyncMessage::Update(&update))))
            .await;
        assert_eq!(socket.until(&received).await, "status true");
    }
}

#[tokio::test]
async fn a_removed_or_logged_out_user_is_disconnected() {
    let world = World::new().await;
    let (alice, dave) = (world.person("alice").await, world.person("dave").await);
    let room = world.document(&alice).await;
    world.admit(&room, &alice, &dave, 25).await;
    let mut hers = world.socket_of(&room, &alice).await;
    let mut his = world.socket_of(&room, &dave).await;
    for socket in [&mut hers, &mut his] {
        socket
            .send_frame(plain::Frame::Sync(SyncMessage::Step1(&[0])).encode())
            .await;
        socket.until(|_| Some(())).await;
    }
    world
        .state(
            &room,
            &alice,
            "m.room.member",
            dave.user.as_str(),
            json!({"membership": "leave"}),
        )
        .await;
    assert_eq!(his.until_closed().await, 4403);
    let session = world.server.accounts.authenticate(&alice.token).await.unwrap();
    world
        .server
        .accounts
        .logout(&session.user_id, &session.device_id)
        .await
        .unwrap();
    world
        .server
        .fanout
        .sessions_changed(&session.user_id, Some(&session.device_id));
    assert_eq!(hers.until_closed().await, 4401);
}

#[tokio::test]
async fn a_socket_is_closed_when_its_token_expires() {
    let clock = ManualClock::at(1_000_000);
    let world = World::with_clock(Arc::clone(&clock) as _).await;
    let alice = world.person("alice").await;
    let room = world.document(&alice).await;
    let device = NewDevice {
        refreshable: true,
        ..NewDevice::default()
    };
    let session = world.server.accounts.begin_session(&alice.user, device).await.unwrap();
    let expires = clock.millis() + u64::try_from(session.expires_in.unwrap().as_millis()).unwrap();
    clock.set(expires - 20);
    let mut socket = world.socket(room.as_str(), Some(&session.access_token)).await.unwrap();
    socket
        .send_frame(plain::Frame::Sync(SyncMessage::Step1(&[0])).encode())
        .await;
    socket.until(|_| Some(())).await;
    clock.set(expires);
    assert_eq!(socket.until_closed().await, 4401);
}

#[tokio::test]
async fn a_socket_stays_open_after_a_refresh_and_another_users_logout() {
    let world = World::new().await;
    let (alice, dave) = (world.person("alice").await, world.person("dave").await);
    let room = world.document(&alice).await;
    let device = NewDevice {
        refreshable: true,
        ..NewDevice::default()
    };
    let session = world.server.accounts.begin_session(&alice.user, device).await.unwrap();
    let mut socket = world.socket(room.as_str(), Some(&session.access_token)).await.unwrap();
    let received = |_: &[u8]| Some(());
    socket
        .send_frame(plain::Frame::Sync(SyncMessage::Step1(&[0])).encode())
        .await;
    socket.until(received).await;
    let newer = world
        .server
        .accounts
        .refresh(&session.refresh_token.unwrap())
        .await
        .unwrap();
    world.server.accounts.authenticate(&newer.access_token).await.unwrap();
    // The first token has expired now, and each of these makes the socket check its session.
    world.server.fanout.sessions_changed(&alice.user, None);
    world.admit(&room, &alice, &dave, 25).await;
    world.server.fanout.sessions_changed(&dave.user, None);
    socket
        .send_frame(plain::Frame::Sync(SyncMessage::Step1(&[0])).encode())
        .await;
    socket.until(received).await;
    world
        .server
        .accounts
        .logout(&alice.user, &session.device_id)
        .await
        .unwrap();
    world
        .server
        .fanout
        .sessions_changed(&alice.user, Some(&session.device_id));
    assert_eq!(socket.until_closed().await, 4401);
}

#[tokio::test]
async fn each_document_that_is_opened_is_a_request() {
    let world = World::limited(UserLimiter::per_minute(NonZeroU32::new(3).unwrap())).await;
    let alice = world.person("alice").await;
    let room = world.document(&alice).await;
    let denied = |frame: &[u8]| match Frame::parse(frame).unwrap() {
        Frame::Document {
            body: Body::PermissionDenied(reason),
            ..
        } => Some(reason.to_owned()),
        Frame::Document {
            body: Body::Authenticated { .. },
            ..
        } => Some(String::new()),
        _ => None,
    };
    let mut open = world.socket("anything", None).await.unwrap();
    let mut answers = Vec::new();
    for number in 0..4 {
        let name = format!("{room}\0{number}");
        let token = Body::Token {
            token: &alice.token,
            provider: None,
        };
        open.send_frame(frame(&name, token)).await;
        answers.push(open.until(denied).await);
    }
    assert_eq!(answers[..3], ["", "", ""]);
    assert!(!answers[3].is_empty());
    let refused = world.socket(room.as_str(), Some(&alice.token)).await;
    assert_eq!(refused.err(), Some(429));
}
