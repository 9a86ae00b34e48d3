//! y-websocket framing.

use std::collections::BTreeMap;

use weft_crdt::{StateVector, Update};
use weft_wire::{
    limits::{MAX_EVENT_BYTES_PER_USER_AND_DAY, MAX_LIVE_FRAME_BYTES},
    live::{
        awareness::{Entry, encode, parse},
        plain::Frame,
        sync::SyncMessage,
    },
};

use crate::world::{Received, Socket, TIMEOUT, World, letter};

fn step1(vector: &[u8]) -> Vec<u8> {
    Frame::Sync(SyncMessage::Step1(vector)).encode()
}

fn update(bytes: &[u8]) -> Vec<u8> {
    Frame::Sync(SyncMessage::Update(bytes)).encode()
}

/// The next step 2 or update.
async fn next_update(socket: &mut Socket) -> Update {
    socket
        .until(|frame| match Frame::parse(frame).unwrap() {
            Frame::Sync(SyncMessage::Step2(bytes) | SyncMessage::Update(bytes)) => {
                Some(Update::parse(bytes.to_vec().into()).unwrap())
            }
            _ => None,
        })
        .await
}

#[tokio::test]
async fn the_server_answers_the_first_frame_with_both_sync_steps() {
    let world = World::new().await;
    let alice = world.person("alice").await;
    let room = world.document(&alice).await;
    let mut socket = world.socket_of(&room, &alice).await;
    let silence = tokio::time::timeout(std::time::Duration::from_millis(200), socket.receive()).await;
    assert!(silence.is_err(), "{silence:?}");
    socket.send_frame(step1(&[0])).await;
    assert!(next_update(&mut socket).await.is_empty());
    let vector = socket
        .until(|frame| match Frame::parse(frame).unwrap() {
            Frame::Sync(SyncMessage::Step1(vector)) => Some(vector.to_vec()),
            _ => None,
        })
        .await;
    assert_eq!(vector, [0]);
}

/// An edit is sent to others when it is on disk, not before.
#[tokio::test]
async fn an_edit_is_shown_only_when_it_is_on_disk() {
    let world = World::new().await;
    let alice = world.person("alice").await;
    let room = world.document(&alice).await;
    let (mut writer, mut reader) = (
        world.socket_of(&room, &alice).await,
        world.socket_of(&room, &alice).await,
    );
    for socket in [&mut writer, &mut reader] {
        socket.send_frame(step1(&[0])).await;
        next_update(socket).await;
    }
    reader
        .until(|frame| matches!(Frame::parse(frame).unwrap(), Frame::Sync(SyncMessage::Step1(_))).then_some(()))
        .await;
    world.server.disk.pause_syncs();
    writer.send_frame(update(&letter(1, 0))).await;
    let early = tokio::time::timeout(std::time::Duration::from_millis(300), reader.receive()).await;
    assert!(early.is_err(), "shown before it was on disk: {early:?}");
    world.server.disk.resume_syncs();
    let seen = next_update(&mut reader).await;
    assert_eq!(seen.ranges().into_values().collect::<Vec<_>>(), [(0, 1)]);
}

/// No answer is sent, but a user who types and closes the window expects the text to be saved.
#[tokio::test]
async fn edits_read_before_a_disconnect_are_committed() {
    let world = World::new().await;
    let alice = world.person("alice").await;
    let room = world.document(&alice).await;
    let mut leaving = world.socket_of(&room, &alice).await;
    world.server.disk.pause_syncs();
    // The first is being committed while the others are read.
    for number in 0..20 {
        leaving.send_frame(update(&letter(1, number))).await;
    }
    leaving.close().await;
    world.server.disk.resume_syncs();
    let mut staying = world.socket_of(&room, &alice).await;
    let all_there = async {
        let mut known = StateVector::default();
        while known.get(1.into()) < 20 {
            staying.send_frame(step1(&[0])).await;
            known.merge_max(&next_update(&mut staying).await.state_vector());
        }
    };
    tokio::time::timeout(TIMEOUT, all_there).await.unwrap();
}

#[tokio::test]
async fn missing_updates_are_requested_and_the_gap_is_filled() {
    let world = World::new().await;
    let alice = world.person("alice").await;
    let room = world.document(&alice).await;
    let mut socket = world.socket_of(&room, &alice).await;
    socket.send_frame(update(&letter(1, 1))).await;
    let asked = socket
        .until(|frame| match Frame::parse(frame).unwrap() {
            Frame::Sync(SyncMessage::Step1(vector)) => Some(vector.to_vec()),
            _ => None,
        })
        .await;
    assert_eq!(asked, [0]);
    let all = weft_crdt::merge(&[
        Update::parse(letter(1, 0).into()).unwrap(),
        Update::parse(letter(1, 1).into()).unwrap(),
    ])
    .unwrap();
    socket
        .send_frame(Frame::Sync(SyncMessage::Step2(&all.encode())).encode())
        .await;
    socket.send_frame(step1(&[0])).await;
    let mut known = StateVector::default();
    while known.get(1.into()) < 2 {
        socket.send_frame(step1(&[0])).await;
        known.merge_max(&next_update(&mut socket).await.state_vector());
    }
}

#[tokio::test]
async fn malformed_frames_and_inadmissible_updates_close_the_socket_permanently() {
    let world = World::new().await;
    let alice = world.person("alice").await;
    let room = world.document(&alice).await;
    for (frame, code) in [
        (vec![0, 7, 0], 4400),
        (vec![0], 4400),
        (update(&[0xff; 9]), 4422),
        // T90: a v2 update.
        (update(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]), 4422),
    ] {
        let mut socket = world.socket_of(&room, &alice).await;
        socket.send_frame(step1(&[0])).await;
        socket.send_frame(frame.clone()).await;
        assert_eq!(socket.until_closed().await, code, "{frame:?}");
    }
    let mut socket = world.socket_of(&room, &alice).await;
    socket.send_frame(step1(&[0])).await;
    socket.send_frame(vec![0; MAX_LIVE_FRAME_BYTES + 1]).await;
    // Not 1009: y-websocket would then reconnect and send the same message again.
    assert_eq!(socket.until_closed().await, 4413);
}

/// A forged block of another user's client id is refused, and the victim can continue.
#[tokio::test]
async fn a_client_id_belongs_to_the_user_who_used_it_first() {
    let world = World::new().await;
    let (alice, mallory) = (world.person("alice").await, world.person("mallory").await);
    let room = world.document(&alice).await;
    world.admit(&room, &alice, &mallory, 25).await;
    let mut victim = world.socket_of(&room, &alice).await;
    let mut forger = world.socket_of(&room, &mallory).await;
    victim.send_frame(step1(&[0])).await;
    forger.send_frame(step1(&[0])).await;
    victim.send_frame(update(&letter(5, 0))).await;
    next_update(&mut forger).await;
    while next_update(&mut forger).await.is_empty() {}
    forger.send_frame(update(&letter(5, 1))).await;
    let received_notice = forger
        .until(|frame| match Frame::parse(frame).unwrap() {
            Frame::Notice(json) => Some(serde_json::from_str::<serde_json::Value>(json).unwrap()),
            _ => None,
        })
        .await;
    assert_eq!(
        (&received_notice["code"], &received_notice["users"][0]),
        (&"foreign_client".into(), &alice.user.as_str().into())
    );
    let vector = StateVector::parse(&world.server.rooms.open(&room).await.unwrap().state_vector).unwrap();
    assert_eq!(vector.get(5.into()), 1);
    victim.send_frame(update(&letter(5, 1))).await;
    let mut known = 0;
    while known < 2 {
        victim.send_frame(step1(&[0])).await;
        known = next_update(&mut victim).await.state_vector().get(5.into());
    }
}

/// y-sweet loses edits here (its queue drops them); a slow reader of this server gets a difference instead.
#[tokio::test]
async fn a_slow_reader_receives_a_difference() {
    let world = World::new().await;
    let alice = world.person("alice").await;
    let room = world.document(&alice).await;
    let mut reader = world.socket_of(&room, &alice).await;
    reader.send_frame(step1(&[0])).await;
    next_update(&mut reader).await;
    let writers: u8 = 40;
    for client in 1..=writers {
        let mut writer = world.socket_of(&room, &alice).await;
        for clock in 0..100 {
            writer.send_frame(update(&letter(client, clock))).await;
        }
        let mut done = 0;
        while done < 100 {
            writer.send_frame(step1(&[0])).await;
            done = next_update(&mut writer)
                .await
                .state_vector()
                .get(u32::from(client).into());
        }
    }
    let mut known = BTreeMap::new();
    while known.len() < usize::from(writers) || known.values().any(|end| *end < 100) {
        for (client, (from, to)) in next_update(&mut reader).await.ranges() {
            let end = known.entry(client).or_insert(0);
            assert!(from <= *end, "client {client:?}: {from} comes after {end}");
            *end = to.max(*end);
        }
    }
}

#[tokio::test]
async fn awareness_is_shared_with_the_verified_user() {
    let world = World::new().await;
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let room = world.document(&alice).await;
    world.admit(&room, &alice, &bob, 0).await;
    let (mut hers, mut his) = (world.socket_of(&room, &alice).await, world.socket_of(&room, &bob).await);
    hers.send_frame(step1(&[0])).await;
    his.send_frame(step1(&[0])).await;
    next_update(&mut his).await;
    let entry = Entry {
        client: 9,
        clock: 1,
        state: r#"{"user":{"name":"Bob","color":"red"}}"#.to_owned(),
    };
    hers.send_frame(Frame::Awareness(&encode(&[entry])).encode()).await;
    let state = his
        .until(|frame| states(frame).into_iter().find(|entry| entry.client == 9))
        .await
        .state;
    let state: serde_json::Value = serde_json::from_str(&state).unwrap();
    assert_eq!(state["user"]["id"], alice.user.as_str());
    assert_eq!(state["user"]["name"], "alice");
    assert_eq!(state["user"]["color"], "red");
    drop(hers);
    let gone = his
        .until(|frame| states(frame).into_iter().find(|entry| entry.client == 9))
        .await;
    assert!(gone.is_gone());
}

fn cursor(client: u64, clock: u64, state: &str) -> Entry {
    Entry {
        client,
        clock,
        state: state.to_owned(),
    }
}

/// F2: stock y-websocket repeats states of others. They must not replace the user's own state.
#[tokio::test]
async fn a_cursor_move_is_not_replaced_by_repeated_states_of_others() {
    let world = World::new().await;
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let room = world.document(&alice).await;
    world.admit(&room, &alice, &bob, 0).await;
    let (mut hers, mut his) = (world.socket_of(&room, &alice).await, world.socket_of(&room, &bob).await);
    for socket in [&mut hers, &mut his] {
        socket.send_frame(step1(&[0])).await;
        next_update(socket).await;
    }
    let others: Vec<Entry> = (20..28).map(|client| cursor(client, 1, "{}")).collect();
    his.send_frame(Frame::Awareness(&encode(&others)).encode()).await;
    hers.until(|frame| states(frame).into_iter().find(|entry| entry.client == 27))
        .await;
    // Each move is queued after the previous one, and the others' states are sent in between.
    for clock in 1..=30 {
        let own = cursor(9, clock, &format!("{{\"at\":{clock}}}"));
        hers.send_frame(Frame::Awareness(&encode(&[own])).encode()).await;
        hers.send_frame(Frame::Awareness(&encode(&others)).encode()).await;
    }
    let wanted = format!("\"at\":{}", 30);
    his.until(|frame| states(frame).into_iter().find(|entry| entry.state.contains(&wanted)))
        .await;
}

/// F3: a reconnected client has its old clock; it receives its removal and a query, so that it raises the clock.
#[tokio::test]
async fn a_reconnected_client_receives_the_clock_that_it_must_exceed() {
    let world = World::new().await;
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let room = world.document(&alice).await;
    world.admit(&room, &alice, &bob, 0).await;
    let mut his = world.socket_of(&room, &bob).await;
    his.send_frame(step1(&[0])).await;
    let mut hers = asked_to_raise(&world, &room, &alice).await;
    hers.close().await;
    let removed = |entry: &Entry| entry.client == 9 && entry.is_gone();
    let gone = his.until(|frame| states(frame).into_iter().find(removed)).await;
    assert_eq!(gone.clock, 7, "the clock is the client's own");
    hers = asked_to_raise(&world, &room, &alice).await;
    hers.send_frame(Frame::Awareness(&encode(&[cursor(9, 8, "{}")])).encode())
        .await;
    his.until(|frame| states(frame).into_iter().find(|entry| entry.clock == 8))
        .await;
}

/// A socket whose client has clock 7, receives its removal, and is queried for its state.
async fn asked_to_raise(world: &World, room: &ruma::RoomId, person: &crate::world::Person) -> Socket {
    let mut socket = world.socket_of(room, person).await;
    socket.send_frame(step1(&[0])).await;
    socket
        .send_frame(Frame::Awareness(&encode(&[cursor(9, 7, "{}")])).encode())
        .await;
    socket
        .until(|frame| states(frame).into_iter().find(|entry| *entry == cursor(9, 7, "null")))
        .await;
    socket
        .until(|frame| (Frame::parse(frame).unwrap() == Frame::QueryAwareness).then_some(()))
        .await;
    socket
}

/// F13: a text of 6 MB is one message, and so is a large step 2.
#[tokio::test]
async fn a_text_of_six_megabytes_is_accepted() {
    let world = World::new().await;
    let alice = world.person("alice").await;
    let room = world.document(&alice).await;
    let mut socket = world.socket_of(&room, &alice).await;
    let mut bytes = vec![1, 1, 1, 0, 4, 1, 4];
    bytes.extend(b"body");
    bytes.extend([0x80, 0x9b, 0xee, 0x02]);
    bytes.extend(std::iter::repeat_n(b'a', 6_000_000));
    bytes.push(0);
    socket
        .send_frame(Frame::Sync(SyncMessage::Step2(&bytes)).encode())
        .await;
    socket.send_frame(update(&letter(2, 0))).await;
    let mut known = StateVector::default();
    while known.get(2.into()) < 1 {
        socket.send_frame(step1(&known.encode())).await;
        known.merge_max(&next_update(&mut socket).await.state_vector());
    }
    assert_eq!(known.get(1.into()), 6_000_000);
    world.server.rooms.seal(&room).await.unwrap();
    let ends = world.server.rooms.reader().extremities(&room).await.unwrap();
    let sealed = world.server.rooms.content(&room, Some(&ends)).await.unwrap();
    assert_eq!(Update::parse(sealed).unwrap().state_vector().get(1.into()), 6_000_000);
}

fn states(frame: &[u8]) -> Vec<Entry> {
    match Frame::parse(frame).unwrap() {
        Frame::Awareness(body) => parse(body).unwrap(),
        _ => Vec::new(),
    }
}

#[tokio::test]
async fn tokens_are_accepted_in_three_forms_and_invalid_ones_are_refused_before_the_upgrade() {
    let world = World::new().await;
    let (alice, mallory) = (world.person("alice").await, world.person("mallory").await);
    let room = world.document(&alice).await;
    let encoded = room.as_str().replace('!', "%21").replace(':', "%3A");
    for path in [
        format!("{room}?access_token={}", alice.token),
        format!("{encoded}?access_token={}", alice.token),
    ] {
        let mut socket = world.socket(&path, None).await.unwrap();
        socket.send_frame(step1(&[0])).await;
        next_update(&mut socket).await;
    }
    assert_eq!(world.socket(room.as_str(), Some("wft_wrong")).await.err(), Some(401));
    assert_eq!(world.socket(room.as_str(), Some(&mallory.token)).await.err(), Some(403));
    assert_eq!(
        world.socket("!nowhere:alpha.example", Some(&alice.token)).await.err(),
        Some(404)
    );
    let mut unsigned = world.socket(room.as_str(), None).await.unwrap();
    unsigned.send_frame(step1(&[0])).await;
    assert_eq!(unsigned.receive().await, Received::Closed(4401));
}

/// Yjs client `client` inserts this many letters.
fn inserted(client: u8, letters: usize) -> Vec<u8> {
    let mut bytes = vec![1, 1, client, 0, 4, 1, 4];
    bytes.extend(b"body");
    let mut length = letters;
    while length >= 0x80 {
        bytes.push(u8::try_from(length & 0x7f).unwrap() | 0x80);
        length >>= 7;
    }
    bytes.push(u8::try_from(length).unwrap());
    bytes.extend(std::iter::repeat_n(b'a', letters));
    bytes.push(0);
    bytes
}

/// What was acknowledged stays, and the client may try again.
#[tokio::test]
async fn an_edit_over_the_daily_bytes_of_its_user_is_refused_with_a_notice() {
    let world = World::new().await;
    let alice = world.person("alice").await;
    let room = world.document(&alice).await;
    let mut socket = world.socket_of(&room, &alice).await;
    socket.send_frame(step1(&[0])).await;
    socket.send_frame(update(&letter(1, 0))).await;
    let mut other = world.socket_of(&room, &alice).await;
    other.send_frame(step1(&[0])).await;
    while next_update(&mut other).await.is_empty() {}
    let now = std::time::Instant::now();
    let spent = world.server.rooms.event_bytes().spent_by(&alice.user, now);
    world
        .server
        .rooms
        .event_bytes()
        .spend(&alice.user, MAX_EVENT_BYTES_PER_USER_AND_DAY - spent, now)
        .unwrap();
    // The bytes of a few edits become available again while the test runs.
    socket.send_frame(update(&inserted(2, 1_000_000))).await;
    let code = socket
        .until(|frame| match Frame::parse(frame).unwrap() {
            Frame::Notice(text) => {
                let notice: serde_json::Value = serde_json::from_str(text).unwrap();
                Some(notice["code"].as_str().unwrap().to_owned())
            }
            _ => None,
        })
        .await;
    assert_eq!((&*code, socket.until_closed().await), ("limit_exceeded", 4529));
    let text = world.server.rooms.content(&room, None).await.unwrap();
    let ranges = Update::parse(text).unwrap().ranges();
    assert_eq!(
        ranges
            .into_iter()
            .map(|(client, range)| (client.get(), range))
            .collect::<Vec<_>>(),
        [(1, (0, 1))]
    );
}
