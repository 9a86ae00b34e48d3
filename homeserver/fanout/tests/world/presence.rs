//! Presence: who hears of it, who may say it, and how it ends.

use std::sync::Arc;

use ruma::{DeviceId, UserId, device_id, presence::PresenceState, server_name, user_id};
use serde_json::Value;
use weft_fanout::{Presence, presence::ForeignUser};
use weft_wire::presence::PresenceEntry;

use crate::fakes::{FakeMembershipView, Net, StoppedClock, alice, bob};

pub struct World {
    pub presence: Presence,
    pub net: Arc<Net>,
    pub clock: Arc<StoppedClock>,
}

pub fn world() -> World {
    let (net, clock) = (Arc::new(Net::default()), StoppedClock::at(10_000_000));
    let us = server_name!("alpha.example").to_owned();
    let presence = Presence::new(us, Arc::new(FakeMembershipView::default()), net.clone(), clock.clone());
    World { presence, net, clock }
}

impl World {
    /// What went out since the last call.
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
async fn what_a_user_says_is_told_to_servers_and_to_companions_alone() {
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
    assert_eq!(sent.len(), 1, "said again is no news: {sent:?}");
    assert_eq!(sent[0]["user_id"], alice().as_str());
    assert_eq!(
        (&sent[0]["presence"], &sent[0]["status_msg"]),
        (&"online".into(), &"writing".into())
    );

    let (news, told) = world.presence.changes_since(carol, Some(start)).await;
    assert_eq!(news.len(), 1);
    assert_eq!(news[0].1.status.as_deref(), Some("writing"));
    assert!(world.presence.changes_since(carol, Some(told)).await.0.is_empty());
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
async fn who_asks_for_nothing_any_more_has_gone() {
    let world = world();
    world
        .presence
        .record_activity(alice(), desk(), PresenceState::Offline, 0)
        .await;
    assert!(world.sent().is_empty(), "who wants to be taken for away is");
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
        "a question does not change what was said"
    );
    world.clock.advance(30_000);
    world.presence.expire().await;
    assert_eq!(world.sent()[0]["presence"], "offline");
    world.presence.expire().await;
    assert!(world.sent().is_empty());
}

#[tokio::test]
async fn other_servers_are_told_again_before_they_take_somebody_for_gone() {
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
    // What others said counts for half an hour.
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
        "each server speaks for its own users"
    );
}

/// T52: presence for somebody else's user.
#[tokio::test]
async fn t52_a_server_says_how_its_own_users_are() {
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
    assert_eq!(
        world.presence.get(alice(), stranger).await,
        None,
        "he shares no room with her"
    );
}

#[tokio::test]
async fn more_than_fits_into_an_answer_comes_with_the_next() {
    let world = world();
    let beta = server_name!("beta.example");
    let start = world.presence.changes_since(alice(), None).await.1;
    for number in 0..150 {
        let user = UserId::parse(format!("@u{number}:beta.example")).unwrap();
        world.presence.edu(beta, online(&user)).unwrap();
    }
    world.presence.edu(beta, online(bob())).unwrap();
    let (first, told) = world.presence.changes_since(alice(), Some(start)).await;
    assert!(first.is_empty(), "none of the first hundred shares a room with her");
    let (second, _) = world.presence.changes_since(alice(), Some(told)).await;
    assert_eq!(second.len(), 1);
}

/// W12: `set_presence=unavailable` on a sync, with one device and with two.
#[tokio::test]
async fn a_user_is_online_while_any_device_syncs_so() {
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
    assert_eq!(presence().await, PresenceState::Online, "the other device is");
    syncs("DESK", PresenceState::Unavailable).await;
    assert_eq!(presence().await, PresenceState::Unavailable);
    world.presence.set(alice(), PresenceState::Online, None).await;
    syncs("PHONE", PresenceState::Unavailable).await;
    assert_eq!(presence().await, PresenceState::Unavailable);
    // What the user set stands against a sync that merely asks.
    world.presence.set(alice(), PresenceState::Unavailable, None).await;
    syncs("PHONE", PresenceState::Online).await;
    assert_eq!(presence().await, PresenceState::Unavailable);
}
