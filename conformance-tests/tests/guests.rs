//! Guests of share links over HTTPS, with two real servers: what they may do, what other servers see of them, and how they end.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests fail by panicking"
)]

use std::time::Duration;

use anyhow::{Context as _, Result};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use weft_conformance_tests::{
    client::{Answer, Client, segment},
    editors::Provider,
    server::SHARED_SECRET,
    world::World,
};

fn with_guests() -> String {
    format!("[registration]\nmode = \"open\"\nshared_secret = \"{SHARED_SECRET}\"\nguests = true\n")
}

/// The first server lets guests in, the second one does not.
async fn world() -> Result<World> {
    let mut world = World::with_config(1, &with_guests()).await?;
    world.add_server("").await?;
    Ok(world)
}

async fn ask(client: &Client, method: Method, room: &str, rest: &str, body: Value) -> Result<Answer> {
    let path = format!("/_weft/client/v1/documents/{}{rest}", segment(room));
    client.request(method, &path, Some(body)).await
}

async fn read(client: &Client, room: &str, rest: &str) -> Result<Value> {
    client
        .get(&format!("/_weft/client/v1/documents/{}{rest}", segment(room)))
        .await
}

fn text<'a>(value: &'a Value, field: &str) -> Result<&'a str> {
    value[field].as_str().with_context(|| format!("no {field}: {value}"))
}

/// A request without a token.
async fn come(world: &World, link: &Value, body: Value) -> Result<Answer> {
    let url = format!(
        "{}/_weft/client/v1/links/{}/guest",
        world.servers[0].url,
        segment(text(link, "secret")?)
    );
    let answer = world.authority.http()?.post(url).json(&body).send().await?;
    let status = answer.status();
    Ok(Answer {
        status,
        body: answer.json().await.unwrap_or(Value::Null),
    })
}

async fn guest(world: &World, link: &Value, name: &str) -> Result<Client> {
    let joined = come(world, link, json!({"displayName": name})).await?.ok()?;
    let client = Client::with_token(
        &world.authority.http()?,
        &world.servers[0].url,
        text(&joined, "accessToken")?,
    )
    .await?;
    assert_eq!(json!(client.user), joined["userId"]);
    Ok(client)
}

async fn link(client: &Client, room: &str, mut body: Value) -> Result<Value> {
    body["guests"] = json!(true);
    ask(client, Method::POST, room, "/links", body).await?.ok()
}

async fn member(client: &Client, room: &str, user: &str) -> Result<Option<Value>> {
    let members = read(client, room, "/members").await?;
    let list = members["members"].as_array().context("no list")?;
    Ok(list.iter().find(|member| member["userId"] == user).cloned())
}

async fn until_gone(client: &Client, room: &str, user: &str) -> Result<()> {
    let is_gone = || async { Ok(member(client, room, user).await?.is_none().then_some(())) };
    client.until(&format!("{user} gone"), is_gone).await
}

async fn until_signed_out(guest: &Client) -> Result<()> {
    let is_out = || async {
        let answer = guest
            .request(Method::GET, "/_matrix/client/v3/account/whoami", None)
            .await?;
        Ok((answer.errcode() == "M_UNKNOWN_TOKEN").then_some(()))
    };
    guest.until("the end of the session", is_out).await
}

#[tokio::test]
async fn a_guest_edits_here_is_seen_there_and_ends_with_the_link() -> Result<()> {
    let world = world().await?;
    let (alice, bob, room) = world.shared_document().await?;
    let made = link(&alice, &room, json!({"role": "editor"})).await?;
    let gina = guest(&world, &made, "Gina").await?;
    assert_eq!(gina.get("/_matrix/client/v3/account/whoami").await?["is_guest"], true);
    assert_eq!(alice.get("/_matrix/client/v3/account/whoami").await?["is_guest"], false);
    bob.until_membership(&room, &gina.user, "join").await?;
    let seen = member(&bob, &room, &gina.user).await?.context("no guest")?;
    assert_eq!(
        (&seen["displayName"], &seen["role"], &seen["guest"]),
        (&json!("Gina (guest)"), &json!("editor"), &json!(true))
    );
    let plain = world.editors.open("plain", Provider::Plain, &gina, &room).await?;
    let hocuspocus = world
        .editors
        .open("hocuspocus", Provider::Hocuspocus, &gina, &room)
        .await?;
    let his = world.editors.open("his", Provider::Hocuspocus, &bob, &room).await?;
    hocuspocus.type_end("by a guest").await?;
    hocuspocus.saved().await?;
    his.until_text("by a guest").await?;
    plain.until_text("by a guest").await?;
    gina.say(&room, "Hello").await?;
    let mut stream = gina.of_document(Method::GET, &room, "/events", &[], Vec::new()).await?;
    assert!(stream.status().is_success());

    let of_link = format!("/links/{}", segment(text(&made, "linkId")?));
    ask(&alice, Method::DELETE, &room, &of_link, json!({})).await?.ok()?;
    assert_eq!(plain.until_event("close").await?["code"], json!(4401));
    hocuspocus.until_event("close").await?;
    // The deadline fails the test, and does not pass it.
    let end = async {
        while stream.chunk().await?.is_some() {}
        anyhow::Ok(())
    };
    tokio::time::timeout(Duration::from_secs(90), end).await??;
    until_signed_out(&gina).await?;
    until_gone(&bob, &room, &gina.user).await?;
    // What the guest wrote stays, and their role does not.
    his.until_text("by a guest").await?;
    let levels = Client::in_room(&room, "state/m.room.power_levels/");
    let has_no_role = || async { Ok(bob.get(&levels).await?["users"][&gina.user].is_null().then_some(())) };
    bob.until("no role of the guest", has_no_role).await?;
    assert_eq!(
        come(&world, &made, json!({"displayName": "Hans"})).await?.status,
        StatusCode::NOT_FOUND
    );
    Ok(())
}

/// Requests of a guest that have nothing to do with their document, or are not for guests.
async fn check_refused(gina: &Client, room: &str, other: &str, of_other: &Value) -> Result<()> {
    let (doc, user) = (
        format!("/_weft/client/v1/documents/{}", segment(room)),
        segment(&gina.user),
    );
    let in_room = |rest: &str| Client::in_room(room, rest);
    let requests = [
        (Method::POST, "/_weft/client/v1/documents".to_owned()),
        (Method::POST, "/_matrix/client/v3/createRoom".to_owned()),
        (Method::POST, format!("/_matrix/client/v3/join/{}", segment(other))),
        (Method::POST, format!("/_matrix/client/v3/knock/{}", segment(other))),
        (Method::POST, in_room("invite")),
        (Method::PUT, in_room("state/m.room.topic/")),
        (
            Method::POST,
            format!("/_weft/client/v1/links/{}", segment(text(of_other, "secret")?)),
        ),
        (Method::PUT, format!("{doc}/members/{user}")),
        (Method::POST, format!("{doc}/links")),
        (Method::POST, format!("{doc}/duplicate")),
        (Method::POST, format!("{doc}/approvals")),
        (Method::POST, format!("{doc}/versions")),
        (Method::PUT, format!("{doc}/access")),
        (Method::GET, "/_weft/client/v1/media".to_owned()),
        (Method::POST, "/_matrix/media/v3/upload".to_owned()),
        (Method::POST, "/_matrix/client/v3/user_directory/search".to_owned()),
        (Method::PUT, format!("/_matrix/client/v3/profile/{user}/displayname")),
        (
            Method::PUT,
            format!("/_matrix/client/v3/user/{user}/account_data/dev.example"),
        ),
        (Method::POST, "/_matrix/client/v3/account/password".to_owned()),
        (Method::GET, "/_matrix/client/v3/devices".to_owned()),
    ];
    for (method, path) in requests {
        let refused = gina.request(method.clone(), &path, Some(json!({}))).await?;
        assert_eq!(
            (refused.status, refused.errcode()),
            (StatusCode::FORBIDDEN, "M_GUEST_ACCESS_FORBIDDEN"),
            "{method} {path}"
        );
    }
    Ok(())
}

/// No guest comes by a link that is for users only, on a server that lets none in, or without a link.
async fn check_no_guests(world: &World, alice: &Client, bob: &Client, room: &str) -> Result<()> {
    let plain = ask(alice, Method::POST, room, "/links", json!({"role": "viewer"}))
        .await?
        .ok()?;
    let refused = come(world, &plain, json!({"displayName": "Hans"})).await?;
    assert_eq!(
        (refused.status, refused.errcode()),
        (StatusCode::FORBIDDEN, "M_GUEST_ACCESS_FORBIDDEN")
    );
    let his = bob.create_document("His").await?;
    let refused = ask(
        bob,
        Method::POST,
        &his,
        "/links",
        json!({"role": "viewer", "guests": true}),
    )
    .await?;
    assert_eq!(refused.errcode(), "M_GUEST_ACCESS_FORBIDDEN");
    let refused = alice
        .request(Method::POST, "/_matrix/client/v3/register?kind=guest", Some(json!({})))
        .await?;
    assert_eq!(refused.status, StatusCode::FORBIDDEN);
    Ok(())
}

#[tokio::test]
async fn guests_may_do_nothing_beyond_their_document_and_role() -> Result<()> {
    let world = world().await?;
    let (alice, bob, room) = world.shared_document().await?;
    let other = alice.create_document("Another").await?;
    let made = link(&alice, &room, json!({"role": "commenter"})).await?;
    let of_other = link(&alice, &other, json!({"role": "editor"})).await?;
    let gina = guest(&world, &made, "Gina").await?;
    check_refused(&gina, &room, &other, &of_other).await?;
    assert_eq!(
        ask(&gina, Method::GET, &other, "", json!({})).await?.status,
        StatusCode::NOT_FOUND
    );
    // A commenter comments, on both servers, and does not edit.
    let change = json!({"changes": [{"type": "insert", "at": 0, "text": "x"}], "clientVersion": 0});
    let refused = ask(&gina, Method::PATCH, &room, "/edit", change).await?;
    assert_eq!(
        (refused.status, refused.errcode()),
        (StatusCode::FORBIDDEN, "M_FORBIDDEN")
    );
    let body = json!({"body": "A remark", "mentions": [bob.user]});
    ask(&gina, Method::POST, &room, "/comments", body).await?.ok()?;
    let commented = || async {
        let comments = read(&bob, &room, "/comments").await?;
        Ok((comments["comments"][0]["author"] == gina.user.as_str()).then_some(()))
    };
    bob.until("the comment of the guest", commented).await?;
    check_no_guests(&world, &alice, &bob, &room).await
}

#[tokio::test]
async fn guests_end_with_the_time_of_their_link_also_after_a_crash() -> Result<()> {
    let mut world = world().await?;
    let (alice, bob, room) = world.shared_document().await?;
    let made = link(
        &alice,
        &room,
        json!({"role": "viewer", "expiresIn": 20_000, "maxUses": 1}),
    )
    .await?;
    let gina = guest(&world, &made, "Gina").await?;
    bob.until_membership(&room, &gina.user, "join").await?;
    // A link that is used up has guests, who stay.
    let listed = read(&alice, &room, "/links").await?;
    assert_eq!(listed["links"][0]["uses"], 1, "{listed}");
    world.servers[0].kill();
    world.servers[0].boot().await?;
    until_gone(&bob, &room, &gina.user).await?;
    until_signed_out(&gina).await?;
    until_gone(&alice, &room, &gina.user).await
}

#[tokio::test]
async fn guests_end_when_the_document_lets_none_in_any_more() -> Result<()> {
    let world = world().await?;
    let (alice, bob, room) = world.shared_document().await?;
    let made = link(&alice, &room, json!({"role": "viewer"})).await?;
    let gina = guest(&world, &made, "Gina").await?;
    bob.until_membership(&room, &gina.user, "join").await?;
    let access = Client::in_room(&room, "state/m.room.guest_access/");
    alice.put(&access, json!({"guest_access": "forbidden"})).await?;
    until_gone(&bob, &room, &gina.user).await?;
    until_signed_out(&gina).await?;
    let refused = come(&world, &made, json!({"displayName": "Hans"})).await?;
    assert_eq!(refused.errcode(), "M_GUEST_ACCESS_FORBIDDEN");
    alice.put(&access, json!({"guest_access": "can_join"})).await?;
    guest(&world, &made, "Hans").await.map(drop)
}

#[tokio::test]
async fn guests_of_one_address_are_limited() -> Result<()> {
    let world = world().await?;
    let alice = world.user(0, "alice").await?;
    let room = alice.create_document("Shared").await?;
    let made = link(&alice, &room, json!({"role": "viewer"})).await?;
    let mut came = 0;
    loop {
        let answer = come(&world, &made, json!({"displayName": format!("Guest {came}")})).await?;
        if !answer.status.is_success() {
            assert_eq!(
                (answer.status, answer.errcode()),
                (StatusCode::TOO_MANY_REQUESTS, "M_LIMIT_EXCEEDED")
            );
            break;
        }
        came += 1;
        assert!(came < 50, "{came} guests came");
    }
    assert!(came >= 30, "{came} guests came");
    let of_link = format!("/links/{}", segment(text(&made, "linkId")?));
    ask(&alice, Method::DELETE, &room, &of_link, json!({})).await?.ok()?;
    let members = read(&alice, &room, "/members").await?;
    assert_eq!(members["members"].as_array().context("no list")?.len(), 1, "{members}");
    Ok(())
}
