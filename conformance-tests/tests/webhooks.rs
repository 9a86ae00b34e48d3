//! Webhooks over HTTPS with two servers: an edit on the other server, receivers that are down, slow, wrong or endless, kill -9,
//! addresses that are not allowed, and users who are removed on the other server.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests fail by panicking"
)]

use anyhow::Result;
use reqwest::Method;
use serde_json::{Value, json};
use weft_conformance_tests::{
    client::{Client, segment},
    receiver::{Behaviour, Receiver},
    world::World,
};

/// Receivers of the tests are on this machine.
const ALLOWED: &str = "[webhooks]\nallow_addresses = [\"127.0.0.0/8\"]\n";

fn of_document(room: &str) -> String {
    format!("/_weft/client/v1/documents/{}/webhooks", segment(room))
}

const OWN: &str = "/_weft/client/v1/webhooks";

async fn create(client: &Client, path: &str, url: &str) -> Result<Value> {
    client.post(path, json!({ "url": url })).await
}

fn at(path: &str, made: &Value) -> String {
    format!("{path}/{}", made["webhookId"].as_str().unwrap())
}

async fn until_failing(client: &Client, path: &str) -> Result<Value> {
    let failed = || async {
        let shown = client.get(path).await?;
        Ok((!shown["failing"].is_null()).then_some(shown))
    };
    client.until("a failed delivery", failed).await
}

#[tokio::test]
async fn an_edit_on_the_other_server_is_delivered_signed_and_without_its_text() -> Result<()> {
    let world = World::with_config(2, ALLOWED).await?;
    let (alice, bob, room) = world.shared_document().await?;
    let receiver = Receiver::start(&world.authority, "receiver").await?;
    let made = create(&alice, &of_document(&room), &receiver.url).await?;
    let secret = made["secret"].as_str().unwrap();
    let edit = format!("/_weft/client/v1/documents/{}/edit", segment(&room));
    let change = json!({"changes": [{"type": "insert", "at": 0, "text": "confidential"}], "clientVersion": 0});
    bob.request(Method::PATCH, &edit, Some(change)).await?.ok()?;
    let delivery = receiver.until(|delivery| delivery.event["type"] == "edit").await?;
    assert!(delivery.is_signed_with(secret), "{delivery:?}");
    assert_eq!(delivery.event["data"]["docId"], json!(room));
    assert_eq!(delivery.event["data"]["authors"], json!([bob.user]));
    assert!(delivery.event["data"]["version"].is_u64(), "{}", delivery.event);
    assert!(!delivery.event.to_string().contains("confidential"));
    bob.say(&room, "Look at this").await?;
    let said = receiver.until_text("Look at this").await?;
    assert_eq!(said.event["data"]["sender"], json!(bob.user));
    // After a rotation, deliveries are signed with both secrets.
    let path = at(&of_document(&room), &made);
    let rotated = alice.post(&format!("{path}/secret"), json!({})).await?;
    bob.say(&room, "Rotated").await?;
    let said = receiver.until_text("Rotated").await?;
    assert!(said.is_signed_with(secret) && said.is_signed_with(rotated["secret"].as_str().unwrap()));
    assert!(!said.is_signed_with("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"));
    Ok(())
}

#[tokio::test]
async fn bad_receivers_delay_no_other_and_lose_nothing_when_they_recover() -> Result<()> {
    let world = World::with_config(1, ALLOWED).await?;
    let alice = world.user(0, "alice").await?;
    let room = alice.create_document("Watched").await?;
    let path = of_document(&room);
    let good = Receiver::start(&world.authority, "good").await?;
    let elsewhere = Receiver::start(&world.authority, "elsewhere").await?;
    let down = Receiver::start(&world.authority, "down").await?;
    let (down_at, down_url) = (down.address(), down.url.clone());
    drop(down);
    let mut bad = Vec::new();
    for behaviour in [
        Behaviour::Status(500),
        Behaviour::Status(404),
        Behaviour::Redirect(elsewhere.url.clone()),
        Behaviour::Silent,
        Behaviour::Endless,
    ] {
        let receiver = Receiver::start(&world.authority, "bad").await?;
        receiver.behave(behaviour.clone());
        let made = create(&alice, &path, &receiver.url).await?;
        bad.push((behaviour, receiver, at(&path, &made)));
    }
    let made = create(&alice, &path, &down_url).await?;
    let down_path = at(&path, &made);
    create(&alice, &path, &good.url).await?;
    alice.say(&room, "one").await?;
    alice.say(&room, "two").await?;
    good.until_text("two").await?;
    for (behaviour, receiver, path) in &bad {
        receiver.until_text("one").await?;
        if *behaviour == Behaviour::Endless {
            // The status counts.
            receiver.until_text("two").await?;
            continue;
        }
        let shown = until_failing(&alice, path).await?;
        assert!(shown["paused"].is_null(), "{behaviour:?}: {shown}");
        let newest = &alice.get(&format!("{path}/deliveries")).await?["deliveries"][0];
        let status = match behaviour {
            Behaviour::Status(status) => json!(status),
            Behaviour::Redirect(_) => json!(307),
            _ => Value::Null,
        };
        assert_eq!(
            (&newest["delivered"], &newest["status"]),
            (&json!(false), &status),
            "{newest}"
        );
        assert!(newest["error"].is_string(), "{newest}");
    }
    until_failing(&alice, &down_path).await?;
    let down = Receiver::start_again(&world.authority, "down", down_at).await?;
    for (_, receiver, _) in &bad {
        receiver.behave(Behaviour::Status(200));
    }
    for receiver in bad.iter().map(|(_, receiver, _)| receiver).chain([&down]) {
        receiver.until_text("two").await?;
        let deliveries = receiver.deliveries();
        let first = deliveries.iter().filter(|one| one.text() == Some("one"));
        let ids: std::collections::BTreeSet<&str> = first.map(|one| &*one.id).collect();
        assert_eq!(ids.len(), 1, "repetitions have one id");
        assert_eq!(deliveries.last().and_then(|one| one.text()), Some("two"));
    }
    assert!(elsewhere.deliveries().is_empty(), "a redirect was followed");
    Ok(())
}

#[tokio::test]
async fn nothing_is_lost_or_reordered_by_kill_9() -> Result<()> {
    let mut world = World::with_config(2, ALLOWED).await?;
    let (alice, bob, room) = world.shared_document().await?;
    let (receiver, own) = (
        Receiver::start(&world.authority, "receiver").await?,
        Receiver::start(&world.authority, "own").await?,
    );
    create(&alice, &of_document(&room), &receiver.url).await?;
    create(&alice, OWN, &own.url).await?;
    let mut expected = Vec::new();
    for round in 0..4 {
        for number in 0..12 {
            let text = format!("{round}-{number}");
            bob.say(&room, &text).await?;
            expected.push(text);
        }
        // In the middle of the deliveries of this round.
        receiver
            .until(|one| one.text().is_some_and(|text| text.starts_with(&format!("{round}-"))))
            .await?;
        world.servers[0].kill();
        world.servers[0].boot().await?;
    }
    for receiver in [&receiver, &own] {
        receiver.until_text("3-11").await?;
        let mut seen = std::collections::BTreeSet::new();
        let once = receiver
            .deliveries()
            .into_iter()
            .filter(|one| seen.insert(one.id.clone()));
        let texts: Vec<String> = once.filter_map(|one| one.text().map(str::to_owned)).collect();
        assert_eq!(texts, expected);
    }
    Ok(())
}

#[tokio::test]
async fn a_pause_survives_a_restart_and_loses_nothing() -> Result<()> {
    let mut world = World::with_config(1, ALLOWED).await?;
    let alice = world.user(0, "alice").await?;
    let room = alice.create_document("Watched").await?;
    let receiver = Receiver::start(&world.authority, "receiver").await?;
    let path = of_document(&room);
    let path = at(&path, &create(&alice, &path, &receiver.url).await?);
    let set = async |paused: bool| {
        alice
            .request(Method::PATCH, &path, Some(json!({ "paused": paused })))
            .await?
            .ok()
    };
    set(true).await?;
    alice.say(&room, "while paused").await?;
    world.servers[0].kill();
    world.servers[0].boot().await?;
    alice.say(&room, "after the restart").await?;
    assert!(alice.get(&path).await?["paused"]["since"].is_u64());
    assert!(receiver.deliveries().is_empty());
    set(false).await?;
    receiver.until_text("after the restart").await?;
    let texts: Vec<String> = receiver
        .deliveries()
        .iter()
        .filter_map(|one| one.text().map(str::to_owned))
        .collect();
    assert_eq!(texts, ["while paused", "after the restart"]);
    Ok(())
}

#[tokio::test]
async fn private_addresses_are_refused_also_behind_a_name() -> Result<()> {
    let world = World::new(1).await?;
    let alice = world.user(0, "alice").await?;
    let room = alice.create_document("Watched").await?;
    let receiver = Receiver::start(&world.authority, "receiver").await?;
    let port = receiver.address().port();
    for url in [
        receiver.url.clone(),
        format!("https://[::1]:{port}/"),
        format!("https://[::ffff:127.0.0.1]:{port}/"),
        format!("https://2130706433:{port}/"),
        "https://169.254.169.254/".to_owned(),
        "http://example.org/".to_owned(),
    ] {
        let refused = alice.request(Method::POST, OWN, Some(json!({ "url": url }))).await?;
        assert_eq!(refused.status.as_u16(), 400, "{url}: {}", refused.body);
    }
    let path = at(OWN, &create(&alice, OWN, &format!("https://localhost:{port}/")).await?);
    let tested = alice.post(&format!("{path}/test"), json!({})).await?;
    assert_eq!(tested["delivered"], json!(false), "{tested}");
    assert!(tested["error"].as_str().unwrap().contains("not allowed"), "{tested}");
    alice.say(&room, "for nobody").await?;
    let shown = until_failing(&alice, &path).await?;
    assert!(receiver.deliveries().is_empty(), "{shown}");
    Ok(())
}

#[tokio::test]
async fn a_user_who_is_removed_on_the_other_server_gets_nothing_more() -> Result<()> {
    let world = World::with_config(2, ALLOWED).await?;
    let (alice, bob, room) = world.shared_document().await?;
    let (receiver, other) = (
        Receiver::start(&world.authority, "receiver").await?,
        Receiver::start(&world.authority, "other").await?,
    );
    create(&bob, OWN, &receiver.url).await?;
    let carol = world.user(1, "carol").await?;
    alice.give_role(&room, &carol.user, "viewer").await?;
    carol.accept_invitation(&room).await?;
    create(&carol, OWN, &other.url).await?;
    alice.say(&room, "with bob").await?;
    receiver.until_text("with bob").await?;
    let member = format!(
        "/_weft/client/v1/documents/{}/members/{}",
        segment(&room),
        segment(&bob.user)
    );
    alice.request(Method::DELETE, &member, None).await?.ok()?;
    alice.say(&room, "without bob").await?;
    other.until_text("without bob").await?;
    // What is delivered later shows that the earlier events were dealt with.
    let own = bob.create_document("Bob's own").await?;
    bob.say(&own, "only bob").await?;
    receiver.until_text("only bob").await?;
    assert!(
        receiver
            .deliveries()
            .iter()
            .all(|one| one.text() != Some("without bob"))
    );
    assert!(other.deliveries().iter().all(|one| one.text() != Some("only bob")));
    Ok(())
}
