//! Presence: who receives it, who may send it, and how it expires.

use std::sync::Arc;

use ruma::{DeviceId, UserId, device_id, presence::PresenceState, server_name, user_id};
use serde_json::Value;
use weft_clock::testing::ManualClock;
use weft_fanout::{Presence, presence::ForeignUser};
use weft_wire::presence::PresenceEntry;

use crate::fakes::{FakeMembershipView, Net, alice, bob};

pub struct World {
    pub presence: Presence,
    pub net: Arc<Net>,
    pub clock: Arc<ManualClock>,
}

pub fn world() -> World {
    let (net, clock) = (Arc::new(Net::default()), ManualClock::at(10_000_000));
    let us = server_name!("alpha.example").to_owned();
    let presence = Presence::new(us, Arc::new(FakeMembershipView::default()), net.clone(), clock.clone());
    World { presence, net, clock }
}

impl World {
    /// The EDUs since the last call.
    fn sent(&self) -> Vec<Value> {
        let sent = std::mem::take(&mut *self.net.0.lock().unwrap());
        assert!(sent.iter().all(|(kind, _, _)| *kind == "m.presence"));
        sent.into_iter()
            .map(|(_, content, _)| content["push"][0].clone())
            .collect()
    }
}

fn desk() -> &'static DeviceId {
    device_id!("DESK")
}

fn online(user: &UserId) -> PresenceEntry {
    PresenceEntry {
        user_id: user.to_owned(),
        presence: PresenceState::Online,
        status_msg: None,
        last_active_ago: Some(1),
    }
}

#[tokio::test]
async fn presence_is_sent_only_to_servers_and_users_that_share_a_room() {
    let world = world();
    let carol = user_id!("@carol:alpha.example");
    let (nothing, start) = world.presence.changes_since(carol, None).await;
    assert!(nothing.is_empty());
    world
        .presence
        .set(alice(), PresenceState::Online, Some("writing".to_owned()))
        .await;
    world
        .presence
        .set(alice(), PresenceState::Online, Some("writing".to_owned()))
        .await;
    let sent = world.sent();
    assert_eq!(sent.len(), 1, "an equal presence is not sent again: {sent:?}");
    assert_eq!(sent[0]["user_id"], alice().as_str());
    assert_eq!(
        (&sent[0]["presence"], &sent[0]["status_msg"]),
        (&"online".into(), &"writing".into())
    );

    let (changes, serial) = world.presence.changes_since(carol, Some(start)).await;
    assert_eq!(changes.len(), 1);
    assert_eq!(changes[0].1.status.as_deref(), Some("writing"));
    assert!(world.presence.changes_since(carol, Some(serial)).await.0.is_empty());
    assert_eq!(
        world.presence.get(carol, alice()).await.unwrap().presence,
        PresenceState::Online
    );
    let stranger = user_id!("@stranger:alpha.example");
    assert!(world.presence.changes_since(stranger, Some(start)).await.0.is_empty());
    assert_eq!(world.presence.get(stranger, alice()).await, None);
    assert_eq!(
        world.presence.get(alice(), alice()).await.unwrap().presence,
        PresenceState::Online
    );

    world
        .presence
        .set(alice(), PresenceState::Online, Some("x".repeat(1_025)))
        .await;
    assert_eq!(world.presence.get(carol, alice()).await.unwrap().status, None);
}

#[tokio::test]
async fn a_user_without_requests_becomes_offline() {
    let world = world();
    world
        .presence
        .record_activity(alice(), desk(), PresenceState::Offline, 0)
        .await;
    assert!(world.sent().is_empty(), "a sync with `offline` keeps the user offline");
    world
        .presence
        .record_activity(alice(), desk(), PresenceState::Online, 60_000)
        .await;
    assert_eq!(world.sent()[0]["presence"], "online");
    world.presence.set(alice(), PresenceState::Unavailable, None).await;
    world.clock.advance(89_999);
    world
        .presence
        .record_activity(alice(), desk(), PresenceState::Online, 0)
        .await;
    world.presence.expire().await;
    let sent = world.sent();
    assert_eq!(sent.len(), 1);
    assert_eq!(
        sent[0]["presence"], "unavailable",
        "a sync does not change a presence that the user set"
    );
    world.clock.advance(30_000);
    world.presence.expire().await;
    assert_eq!(world.sent()[0]["presence"], "offline");
    world.presence.expire().await;
    assert!(world.sent().is_empty());
}

#[tokio::test]
async fn presence_is_sent_again_before_other_servers_expire_it() {
    let world = world();
    world
        .presence
        .record_activity(alice(), desk(), PresenceState::Online, 0)
        .await;
    world.sent();
    for _ in 0..25 {
        world.clock.advance(60_000);
        world
            .presence
            .record_activity(alice(), desk(), PresenceState::Online, 60_000)
            .await;
        world.presence.expire().await;
    }
    assert!(world.sent().is_empty());
    world.clock.advance(1_000);
    world.presence.expire().await;
    assert_eq!(world.sent()[0]["presence"], "online");
    // Presence from other servers is valid for half an hour.
    let beta = server_name!("beta.example");
    world.presence.edu(beta, online(bob())).unwrap();
    world.clock.advance(29 * 60_000);
    world.presence.expire().await;
    assert_eq!(
        world.presence.get(alice(), bob()).await.unwrap().presence,
        PresenceState::Online
    );
    world.clock.advance(60_000);
    world.presence.expire().await;
    assert_eq!(
        world.presence.get(alice(), bob()).await.unwrap().presence,
        PresenceState::Offline
    );
    assert!(
        world.sent().iter().all(|sent| sent["user_id"] == alice().as_str()),
        "each server sends the presence of its own users"
    );
}

/// T52: presence of a user of another server.
#[tokio::test]
async fn t52_presence_about_users_of_other_servers_is_refused() {
    let world = world();
    let beta = server_name!("beta.example");
    for user in [alice(), user_id!("@bob:gamma.example")] {
        let forged = world.presence.edu(beta, online(user));
        let expected = ForeignUser {
            user: user.to_owned(),
            origin: beta.to_owned(),
        };
        assert_eq!(forged, Err(expected));
    }
    let ours = server_name!("alpha.example");
    assert!(world.presence.edu(ours, online(alice())).is_err());
    assert_eq!(
        world.presence.get(alice(), alice()).await.unwrap().presence,
        PresenceState::Offline
    );
    world.presence.edu(beta, online(bob())).unwrap();
    assert_eq!(
        world.presence.get(alice(), bob()).await.unwrap().presence,
        PresenceState::Online
    );
    let stranger = user_id!("@stranger:beta.example");
    world.presence.edu(beta, online(stranger)).unwrap();
    assert_eq!(world.presence.get(alice(), stranger).await, None, "they share no room");
}

#[tokio::test]
async fn changes_over_the_limit_of_a_response_are_in_the_next() {
    let world = world();
    let beta = server_name!("beta.example");
    let start = world.presence.changes_since(alice(), None).await.1;
    for number in 0..150 {
        let user = UserId::parse(format!("@u{number}:beta.example")).unwrap();
        world.presence.edu(beta, online(&user)).unwrap();
    }
    world.presence.edu(beta, online(bob())).unwrap();
    let (first, serial) = world.presence.changes_since(alice(), Some(start)).await;
    assert!(first.is_empty(), "none of the first hundred shares a room with alice");
    let (second, _) = world.presence.changes_since(alice(), Some(serial)).await;
    assert_eq!(second.len(), 1);
}

/// W12: `set_presence=unavailable` on a sync, with one device and with two.
#[tokio::test]
async fn a_user_is_online_while_any_device_syncs_as_online() {
    let world = world();
    let presence = async || world.presence.get(alice(), alice()).await.unwrap().presence;
    let syncs = async |device: &'static str, presence: PresenceState| {
        world
            .presence
            .record_activity(alice(), device.into(), presence, 30_000)
            .await;
    };
    syncs("DESK", PresenceState::Unavailable).await;
    assert_eq!(presence().await, PresenceState::Unavailable);
    syncs("DESK", PresenceState::Online).await;
    assert_eq!(presence().await, PresenceState::Online);
    syncs("PHONE", PresenceState::Unavailable).await;
    assert_eq!(presence().await, PresenceState::Online, "the other device is online");
    syncs("DESK", PresenceState::Unavailable).await;
    assert_eq!(presence().await, PresenceState::Unavailable);
    world.presence.set(alice(), PresenceState::Online, None).await;
    syncs("PHONE", PresenceState::Unavailable).await;
    assert_eq!(presence().await, PresenceState::Unavailable);
    // A presence that the user set has priority over one from a sync.
    world.presence.set(alice(), PresenceState::Unavailable, None).await;
    syncs("PHONE", PresenceState::Online).await;
    assert_eq!(presence().await, PresenceState::Unavailable);
}
