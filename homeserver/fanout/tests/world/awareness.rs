//! Which sockets and servers receive whose awareness.

use std::sync::Arc;

use ruma::{device_id, server_name};
use serde_json::{Value, json};
use weft_clock::testing::ManualClock;
use weft_fanout::{Awareness, Change, Fanout, Joined, RoomSubscription, awareness::EduRefused};
use weft_room_api::{ConnectionId, Incarnation};
use weft_wire::{awareness::AwarenessEdu, limits::AWARENESS_EXPIRY_MS, live::awareness::Entry};

use crate::fakes::{FakeMembershipView, Net, alice, bob, room};

pub struct World {
    pub fanout: Fanout,
    pub awareness: Awareness,
    membership_view: Arc<FakeMembershipView>,
    pub net: Arc<Net>,
    clock: Arc<ManualClock>,
}

pub fn world() -> World {
    let fanout = Fanout::new();
    let (membership_view, net, clock) = (
        Arc::new(FakeMembershipView::default()),
        Arc::new(Net::default()),
        ManualClock::at(1_000),
    );
    let awareness = Awareness::new(fanout.clone(), membership_view.clone(), net.clone(), clock.clone());
    World {
        fanout,
        awareness,
        membership_view,
        net,
        clock,
    }
}

impl World {
    /// Advances the clock.
    pub fn pass(&self, milliseconds: u64) {
        self.clock.advance(milliseconds);
    }
}

pub fn subscribe(fanout: &Fanout, session: u64) -> RoomSubscription {
    fanout.subscribe(
        room(),
        ConnectionId::new(Incarnation(1), session),
        alice(),
        device_id!("PHONE"),
    )
}

fn socket(session: u64) -> Joined {
    Joined {
        room: room().to_owned(),
        session: ConnectionId::new(Incarnation(1), session),
        user: alice().to_owned(),
        device: device_id!("PHONE").to_owned(),
        display_name: Some("Alice".to_owned()),
    }
}

fn entry(client: u64, clock: u64, state: &Value) -> Entry {
    Entry {
        client,
        clock,
        state: state.to_string(),
    }
}

fn edu(client_id: u64, clock: u32, state: Option<Value>) -> AwarenessEdu {
    AwarenessEdu {
        room_id: room().to_owned(),
        user_id: bob().to_owned(),
        device_id: device_id!("DESK").to_owned(),
        client_id,
        clock,
        state,
    }
}

fn entries(subscription: &mut RoomSubscription) -> Vec<Entry> {
    match subscription.try_next() {
        Some(Change::Awareness(entries)) => entries,
        None => Vec::new(),
        other => panic!("{other:?}"),
    }
}

fn received(subscription: &mut RoomSubscription) -> Vec<(u64, Value)> {
    let entries = entries(subscription).into_iter();
    entries
        .map(|entry| (entry.client, serde_json::from_str(&entry.state).unwrap()))
        .collect()
}

/// The same in the form of the vectors.
pub fn shown(subscription: &mut RoomSubscription) -> Value {
    let entries = entries(subscription).into_iter();
    entries
        .map(|entry| {
            let state: Value = serde_json::from_str(&entry.state).unwrap();
            json!({"client_id": entry.client, "clock": entry.clock, "state": state})
        })
        .collect()
}

#[tokio::test]
async fn a_cursor_is_sent_to_local_sockets_and_the_other_server() {
    let world = world();
    let mut reader = subscribe(&world.fanout, 2);
    world
        .awareness
        .local(&socket(1), vec![entry(7, 1, &json!({"cursor": 3}))], true)
        .await;
    let state = json!({"cursor": 3, "user": {"id": alice(), "name": "Alice"}});
    assert_eq!(received(&mut reader), [(7, state.clone())]);
    let sent = world.net.0.lock().unwrap();
    assert_eq!(sent.len(), 1);
    assert_eq!(sent[0].0, "dev.weft.awareness");
    let content: AwarenessEdu = serde_json::from_value(sent[0].1.clone()).unwrap();
    assert_eq!((content.client_id, content.clock, content.state), (7, 1, Some(state)));
}

#[tokio::test]
async fn an_invalid_state_is_left_out_and_does_not_affect_others() {
    let world = world();
    let mut reader = subscribe(&world.fanout, 2);
    let too_large = json!({"x": "y".repeat(3_000)});
    let entries = vec![
        entry(1 << 53, 1, &json!({})),
        entry(5, 1, &json!([1])),
        entry(6, 1, &too_large),
        Entry {
            client: 8,
            clock: 1,
            state: "{not json".to_owned(),
        },
        entry(9, 1, &json!({})),
    ];
    world.awareness.local(&socket(1), entries, true).await;
    assert_eq!(
        received(&mut reader)
            .iter()
            .map(|(client, _)| *client)
            .collect::<Vec<_>>(),
        [9]
    );
}

/// T53, T58: a server may send EDUs only about its own joined users.
#[tokio::test]
async fn an_edu_must_be_sent_by_the_users_own_server() {
    let world = world();
    let forged = world
        .awareness
        .remote(server_name!("evil.example"), edu(7, 1, Some(json!({}))))
        .await;
    assert!(matches!(forged, Err(EduRefused::ForeignUser { .. })), "{forged:?}");
    let mut stranger = edu(7, 1, Some(json!({})));
    stranger.user_id = ruma::user_id!("@mallory:beta.example").to_owned();
    let stranger = world.awareness.remote(server_name!("beta.example"), stranger).await;
    assert!(matches!(stranger, Err(EduRefused::NotJoined(_))), "{stranger:?}");
    let large = world
        .awareness
        .remote(
            server_name!("beta.example"),
            edu(7, 1, Some(json!({"x": "y".repeat(3_000)}))),
        )
        .await;
    assert!(matches!(large, Err(EduRefused::Malformed(_))), "{large:?}");
    assert!(world.awareness.states(room()).is_empty());
    assert_eq!(*world.membership_view.seen_remote.lock().unwrap(), 0);
}

#[tokio::test]
async fn a_remote_client_is_shown_and_reported_as_remote_presence() {
    let world = world();
    let mut reader = subscribe(&world.fanout, 2);
    world
        .awareness
        .remote(
            server_name!("beta.example"),
            edu(7, 1, Some(json!({"user": {"name": "Root"}}))),
        )
        .await
        .unwrap();
    assert_eq!(
        received(&mut reader),
        [(7, json!({"user": {"id": bob(), "name": "bob"}}))]
    );
    assert_eq!(*world.membership_view.seen_remote.lock().unwrap(), 1);
    assert!(
        world.net.0.lock().unwrap().is_empty(),
        "EDUs received by federation are not sent again"
    );
    world
        .awareness
        .remote(server_name!("beta.example"), edu(7, 2, None))
        .await
        .unwrap();
    assert_eq!(received(&mut reader), [(7, Value::Null)]);
    assert_eq!(*world.membership_view.seen_remote.lock().unwrap(), 1);
}

#[tokio::test]
async fn a_local_client_cannot_be_taken_over_by_an_edu() {
    let world = world();
    world
        .awareness
        .local(&socket(1), vec![entry(7, 1, &json!({}))], true)
        .await;
    let taken = world
        .awareness
        .remote(server_name!("beta.example"), edu(7, 99, None))
        .await;
    assert_eq!(taken, Err(EduRefused::Ignored(7)));
    assert_eq!(world.awareness.states(room()).len(), 1);
}

#[tokio::test]
async fn a_client_that_leaves_or_expires_is_removed_for_all() {
    let world = world();
    world
        .awareness
        .local(&socket(1), vec![entry(7, 1, &json!({}))], true)
        .await;
    world
        .awareness
        .remote(server_name!("beta.example"), edu(8, 1, Some(json!({}))))
        .await
        .unwrap();
    let mut reader = subscribe(&world.fanout, 2);
    world.awareness.leave(&socket(1)).await;
    assert_eq!(received(&mut reader), [(7, Value::Null)]);
    world.clock.advance(AWARENESS_EXPIRY_MS + 1);
    world.awareness.expire();
    assert_eq!(received(&mut reader), [(8, Value::Null)]);
    assert!(world.awareness.states(room()).is_empty());
    let last = world.net.0.lock().unwrap().last().cloned().unwrap();
    assert_eq!(last.1["state"], Value::Null, "the other server receives the removal");
}

/// T57: a flood of changes leaves one queued entry for each client, however slow the reader is.
#[tokio::test]
async fn a_flood_of_changes_does_not_grow_a_queue() {
    let world = world();
    let mut reader = subscribe(&world.fanout, 2);
    for clock in 1..10_000 {
        world
            .awareness
            .remote(server_name!("beta.example"), edu(7, clock, Some(json!({"at": clock}))))
            .await
            .unwrap();
    }
    let received = received(&mut reader);
    assert_eq!(received.len(), 1);
    assert_eq!(received[0].1["at"], 9_999);
}
