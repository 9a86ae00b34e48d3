//! Limits of a document over HTTPS: how often it is edited, by requests and on live sockets, and how many participants it has, on a
//! server and on another one without the limit.
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
    client::{Answer, Client, segment},
    editors::Provider,
    world::World,
};

/// Small numbers, which a test reaches.
const LOW: [(&str, &str); 4] = [
    ("WEFT_LIMITS_RATE_LIMIT", "true"),
    ("WEFT_LIMITS_EDITS_PER_SECOND_PER_USER", "1"),
    ("WEFT_LIMITS_EDITS_PER_SECOND_PER_DOCUMENT", "2"),
    ("WEFT_LIMITS_PARTICIPANTS_PER_DOCUMENT", "2"),
];

async fn limited(world: &mut World, server: usize) -> Result<()> {
    world.servers[server].terminate().await?;
    world.servers[server].boot_with(&LOW).await
}

async fn edit(client: &Client, room: &str) -> Result<reqwest::Response> {
    let change = json!({"changes": [{"type": "append", "text": "x"}], "clientVersion": 0});
    let body = change.to_string().into_bytes();
    client.of_document(Method::PATCH, room, "/edit", &[], body).await
}

#[tokio::test]
async fn edits_over_the_rate_are_refused_to_requests_and_wait_on_live_sockets() -> Result<()> {
    let mut world = World::new(1).await?;
    let alice = world.user(0, "alice").await?;
    let room = alice.create_document("Busy").await?;
    limited(&mut world, 0).await?;
    let mut accepted = 0;
    let refused = loop {
        let answer = edit(&alice, &room).await?;
        if answer.status() != 200 {
            break answer;
        }
        accepted += 1;
    };
    assert!(accepted >= 10, "{accepted}");
    assert_eq!(refused.status(), 429);
    let wait: u64 = refused.headers()["retry-after"].to_str()?.parse()?;
    assert!((1..=10).contains(&wait), "{wait}");
    let body: Value = refused.json().await?;
    assert_eq!(body["errcode"], json!("M_LIMIT_EXCEEDED"), "{body}");
    // A live socket waits instead: everything is saved in the end.
    let hers = world.editors.open("hers", Provider::Hocuspocus, &alice, &room).await?;
    hers.until_length(accepted).await?;
    for number in 0..8 {
        hers.type_end(&format!(" {number}")).await?;
        hers.saved().await?;
    }
    let expected = format!("{} 0 1 2 3 4 5 6 7", "x".repeat(accepted));
    assert_eq!(hers.text().await?, expected);
    world.servers[0].kill();
    world.servers[0].boot().await?;
    let shown = alice
        .of_document(Method::GET, &room, "?format=text", &[], Vec::new())
        .await?;
    assert!(shown.text().await?.contains(&expected));
    Ok(())
}

async fn role(client: &Client, room: &str, user: &str) -> Result<Answer> {
    let path = format!("/_weft/client/v1/documents/{}/members/{}", segment(room), segment(user));
    client
        .request(Method::PUT, &path, Some(json!({"role": "viewer"})))
        .await
}

async fn members(client: &Client, room: &str) -> Result<usize> {
    let path = format!("/_weft/client/v1/documents/{}/members", segment(room));
    Ok(client.get(&path).await?["members"].as_array().unwrap().len())
}

#[tokio::test]
async fn participants_are_limited_for_the_users_of_the_server_only() -> Result<()> {
    let mut world = World::new(2).await?;
    let (alice, bob, room) = world.shared_document().await?;
    alice.give_role(&room, &bob.user, "manager").await?;
    let (carol, dave, erin) = (
        world.user(0, "carol").await?,
        world.user(1, "dave").await?,
        world.user(1, "erin").await?,
    );
    limited(&mut world, 0).await?;
    // Users of this server and of the other one can't be invited here.
    for user in [&carol.user, &dave.user] {
        let refused = role(&alice, &room, user).await?;
        assert_eq!(refused.status, 403, "{}", refused.body);
        assert_eq!(refused.errcode(), "DEV_WEFT_TOO_MANY_PARTICIPANTS");
    }
    let link = format!("/_weft/client/v1/documents/{}/links", segment(&room));
    let link = alice.post(&link, json!({"role": "viewer"})).await?;
    let follow = format!("/_weft/client/v1/links/{}", link["secret"].as_str().unwrap());
    let refused = carol.request(Method::POST, &follow, Some(json!({}))).await?;
    assert_eq!(refused.errcode(), "DEV_WEFT_TOO_MANY_PARTICIPANTS", "{}", refused.body);
    // The other server has its own limit, and this one accepts what it does.
    for user in [&dave, &erin] {
        role(&bob, &room, &user.user).await?.ok()?;
        user.accept_invitation(&room).await?;
    }
    let all = || async { Ok((members(&alice, &room).await? == 4).then_some(())) };
    alice.until("the members of the other server", all).await?;
    assert_eq!(members(&bob, &room).await?, 4);
    Ok(())
}
