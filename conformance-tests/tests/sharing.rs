//! Locks, approvals, access, folders and share links over HTTPS, with two real servers: what one server is told holds on the other.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests fail by panicking"
)]

use anyhow::{Context as _, Result};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use weft_conformance_tests::{
    client::{Answer, Client, segment},
    editors::Provider,
    world::World,
};

/// A request to a document.
async fn ask(client: &Client, method: Method, room: &str, rest: &str, body: Value) -> Result<Answer> {
    let path = format!("/_weft/client/v1/documents/{}{rest}", segment(room));
    client.request(method, &path, Some(body)).await
}

async fn read(client: &Client, room: &str, rest: &str) -> Result<Value> {
    client
        .get(&format!("/_weft/client/v1/documents/{}{rest}", segment(room)))
        .await
}

async fn version(client: &Client, room: &str) -> Result<u64> {
    read(client, room, "").await?["version"].as_u64().context("no version")
}

async fn insert(client: &Client, room: &str, text: &str) -> Result<Answer> {
    let change = json!({"type": "insert", "at": 0, "text": text});
    let body = json!({"changes": [change], "clientVersion": version(client, room).await?});
    ask(client, Method::PATCH, room, "/edit", body).await
}

/// The text; `at` is empty or `&at=` and a point.
async fn text_at(client: &Client, room: &str, at: &str) -> Result<String> {
    let query = format!("?format=text{at}");
    let answer = client.of_document(Method::GET, room, &query, &[], Vec::new()).await?;
    Ok(answer.text().await?)
}

async fn until_locked(client: &Client, room: &str, locked: bool) -> Result<Value> {
    let is_so = || async {
        let lock = read(client, room, "/lock").await?;
        Ok((lock["locked"] == locked).then_some(lock))
    };
    client.until(&format!("locked: {locked}"), is_so).await
}

#[tokio::test]
async fn a_lock_stops_editors_of_both_servers_and_keeps_their_sockets() -> Result<()> {
    let world = World::new(2).await?;
    let (alice, bob, room) = world.shared_document().await?;
    let hers = world.editors.open("hers", Provider::Hocuspocus, &alice, &room).await?;
    let his = world.editors.open("his", Provider::Hocuspocus, &bob, &room).await?;
    hers.type_end("text").await?;
    his.until_text("text").await?;
    for editor in [&hers, &his] {
        assert_eq!(editor.until_event("authenticated").await?, json!("read-write"));
        editor.forget_events().await?;
    }
    let lock = ask(&alice, Method::PUT, &room, "/lock", json!({"reason": "Signed"}))
        .await?
        .ok()?;
    let there = until_locked(&bob, &room, true).await?;
    assert_eq!(
        (&there["eventId"], &there["stateHash"]),
        (&lock["eventId"], &lock["stateHash"])
    );
    assert_eq!(there["isPresentText"], json!(true));
    for editor in [&hers, &his] {
        assert_eq!(editor.until_event("authenticated").await?, json!("readonly"));
        editor.forget_events().await?;
    }
    // Neither the creator nor an editor of the other server edits, by whatever way.
    for client in [&alice, &bob] {
        let refused = insert(client, &room, "x").await?;
        assert_eq!(
            (refused.status, refused.errcode()),
            (StatusCode::FORBIDDEN, "DEV_WEFT_LOCKED")
        );
        let update = world.editors.update_event(71, "x").await?;
        let refused = client.try_send(&room, "dev.weft.update", update).await?;
        assert_eq!(
            (refused.status, refused.errcode()),
            (StatusCode::FORBIDDEN, "M_FORBIDDEN")
        );
        client.say(&room, "Why is it locked?").await?;
    }
    ask(&alice, Method::DELETE, &room, "/lock", json!({})).await?.ok()?;
    until_locked(&bob, &room, false).await?;
    for editor in [&hers, &his] {
        assert_eq!(editor.until_event("authenticated").await?, json!("read-write"));
        assert!(!editor.has_seen("close").await?);
    }
    his.type_end("!").await?;
    his.saved().await?;
    hers.until_text("text!").await
}

#[tokio::test]
async fn edits_beside_a_lock_are_merged_and_the_lock_shows_that_the_text_is_another() -> Result<()> {
    let world = World::with_links(2, "").await?;
    let (alice, bob, room) = world.shared_document().await?;
    insert(&alice, &room, "text").await?.ok()?;
    // The version says nothing: the join raises it too.
    let has_text = || async { Ok((text_at(&bob, &room, "").await? == "text").then_some(())) };
    bob.until("the text", has_text).await?;
    world.cut();
    let lock = ask(&alice, Method::PUT, &room, "/lock", json!({})).await?.ok()?;
    insert(&bob, &room, "late ").await?.ok()?;
    world.heal();
    let both = || async {
        let (one, other) = (
            until_locked(&alice, &room, true).await?,
            until_locked(&bob, &room, true).await?,
        );
        let differs = |lock: &Value| lock["isPresentText"] == json!(false);
        Ok((differs(&one) && differs(&other)).then_some([one, other]))
    };
    for seen in alice.until("the concurrent edit on both servers", both).await? {
        assert_eq!((&seen["eventId"], &seen["heads"]), (&lock["eventId"], &lock["heads"]));
    }
    for client in [&alice, &bob] {
        assert_eq!(text_at(client, &room, "").await?, "late text");
        let head = lock["heads"][0].as_str().context("no head")?;
        let at = format!("&at={}", segment(head));
        assert_eq!(text_at(client, &room, &at).await?, "text");
        assert_eq!(insert(client, &room, "x").await?.errcode(), "DEV_WEFT_LOCKED");
    }
    Ok(())
}

#[tokio::test]
async fn approvals_of_both_servers_are_of_one_text() -> Result<()> {
    let world = World::new(2).await?;
    let (alice, bob, room) = world.shared_document().await?;
    insert(&alice, &room, "text").await?.ok()?;
    ask(&alice, Method::PUT, &room, "/lock", json!({})).await?.ok()?;
    until_locked(&bob, &room, true).await?;
    let hers = ask(&alice, Method::POST, &room, "/approvals", json!({})).await?.ok()?;
    let his = ask(&bob, Method::POST, &room, "/approvals", json!({"statement": "Agreed"}))
        .await?
        .ok()?;
    assert_eq!(
        (&hers["stateHash"], &hers["textHash"]),
        (&his["stateHash"], &his["textHash"])
    );
    assert!(his["textHash"].is_string(), "{his}");
    let rendered = bob
        .of_document(Method::GET, &room, "?format=json", &[], Vec::new())
        .await?;
    assert_eq!(
        rendered.headers()["weft-text-hash"],
        *his["textHash"].as_str().context("no hash")?
    );
    let listed = async |client: &Client, present: bool, count: usize| -> Result<()> {
        let is_so = || async {
            let list = read(client, &room, "/approvals").await?;
            let all = list["approvals"].as_array().context("no list")?;
            let as_wanted = all.len() == count && all.iter().all(|one| one["isPresentText"] == json!(present));
            Ok(as_wanted.then_some(()))
        };
        client
            .until(&format!("{count} approvals, present text: {present}"), is_so)
            .await
    };
    for client in [&alice, &bob] {
        listed(client, true, 2).await?;
    }
    ask(&alice, Method::DELETE, &room, "/lock", json!({})).await?.ok()?;
    insert(&alice, &room, "another ").await?.ok()?;
    for client in [&alice, &bob] {
        listed(client, false, 2).await?;
    }
    let of_his = format!("/approvals/{}", segment(his["eventId"].as_str().context("no id")?));
    ask(&bob, Method::DELETE, &room, &of_his, json!({})).await?.ok()?;
    for client in [&alice, &bob] {
        listed(client, false, 1).await?;
    }
    Ok(())
}

async fn role_of(client: &Client, room: &str) -> Result<String> {
    let document = read(client, room, "").await?;
    Ok(document["role"].as_str().context("no role")?.to_owned())
}

async fn until_role(client: &Client, room: &str, role: &str) -> Result<()> {
    let has_role = || async { Ok((role_of(client, room).await? == role).then_some(())) };
    client.until(&format!("the role {role}"), has_role).await
}

#[tokio::test]
async fn ownership_passes_to_a_user_of_another_server() -> Result<()> {
    let world = World::new(2).await?;
    let (alice, bob, room) = world.shared_document().await?;
    let refused = ask(&alice, Method::POST, &room, "/owner", json!({"user": bob.user})).await?;
    assert_eq!(
        (refused.status, refused.errcode()),
        (StatusCode::FORBIDDEN, "DEV_WEFT_CREATOR_STAYS")
    );
    let refused = ask(&bob, Method::POST, &room, "/owner", json!({"user": alice.user})).await?;
    assert_eq!(
        (refused.status, refused.errcode()),
        (StatusCode::FORBIDDEN, "M_FORBIDDEN")
    );
    assert_eq!(role_of(&bob, &room).await?, "editor");
    let carol = world.user(0, "carol").await?;
    alice.give_role(&room, &carol.user, "viewer").await?;
    carol.accept_invitation(&room).await?;
    let body = json!({"user": bob.user, "leave": true});
    ask(&alice, Method::POST, &room, "/owner", body).await?.ok()?;
    until_role(&bob, &room, "owner").await?;
    alice.until_membership(&room, &alice.user, "leave").await.ok();
    // An owner who is not the creator steps down.
    bob.until("carol there", || async {
        let members = read(&bob, &room, "/members").await?;
        let list = members["members"].as_array().context("no list")?;
        let gone = list.iter().all(|member| member["userId"] != json!(alice.user));
        Ok((gone && list.len() == 2).then_some(()))
    })
    .await?;
    ask(&bob, Method::POST, &room, "/owner", json!({"user": carol.user}))
        .await?
        .ok()?;
    until_role(&carol, &room, "owner").await?;
    assert_eq!(role_of(&bob, &room).await?, "manager");
    Ok(())
}

#[tokio::test]
async fn a_user_of_another_server_asks_for_access_and_gets_a_role() -> Result<()> {
    let world = World::new(2).await?;
    let (alice, bob, room) = world.shared_document().await?;
    let (dora, eve) = (world.user(1, "dora").await?, world.user(0, "eve").await?);
    let knock = |client: &Client| {
        let (client, path) = (client.clone(), format!("/_matrix/client/v3/knock/{}", segment(&room)));
        async move {
            client
                .request(Method::POST, &path, Some(json!({"reason": "I write the summary."})))
                .await
        }
    };
    assert_eq!(knock(&eve).await?.status, StatusCode::FORBIDDEN);
    let access = json!({"access": "request"});
    assert_eq!(
        ask(&bob, Method::PUT, &room, "/access", access.clone()).await?.status,
        StatusCode::FORBIDDEN
    );
    ask(&alice, Method::PUT, &room, "/access", access).await?.ok()?;
    bob.until("the access", || async {
        Ok((read(&bob, &room, "/access").await? == json!({"access": "request", "role": "viewer"})).then_some(()))
    })
    .await?;
    for client in [&dora, &eve] {
        knock(client).await?.ok()?;
        // Asking gives nothing yet.
        let path = format!("/_weft/client/v1/documents/{}", segment(&room));
        assert_eq!(
            client.request(Method::GET, &path, None).await?.status,
            StatusCode::NOT_FOUND
        );
    }
    let both = || async {
        let list = read(&alice, &room, "/access-requests").await?;
        let list = list["requests"].as_array().context("no list")?.clone();
        Ok((list.len() == 2).then_some(list))
    };
    let requests = alice.until("two requests", both).await?;
    assert!(
        requests
            .iter()
            .all(|request| request["reason"] == "I write the summary."),
        "{requests:?}"
    );
    let refused = ask(&bob, Method::GET, &room, "/access-requests", json!({})).await?;
    assert_eq!(refused.status, StatusCode::FORBIDDEN);
    alice.give_role(&room, &dora.user, "editor").await?;
    dora.accept_invitation(&room).await?;
    until_role(&dora, &room, "editor").await?;
    let of_eve = format!("/members/{}", segment(&eve.user));
    ask(&alice, Method::DELETE, &room, &of_eve, json!({})).await?.ok()?;
    assert_eq!(read(&alice, &room, "/access-requests").await?, json!({"requests": []}));
    Ok(())
}

#[tokio::test]
async fn everybody_reads_a_public_document_and_nobody_else_edits_it() -> Result<()> {
    let world = World::new(2).await?;
    let (alice, bob) = (world.user(0, "alice").await?, world.user(1, "bob").await?);
    let room = alice.create_document("Public").await?;
    insert(&alice, &room, "text").await?.ok()?;
    let via = alice.user.split_once(':').context("no server")?.1;
    assert!(bob.join(&room, Some(via)).await.is_err());
    for wrong in [
        json!({"access": "public", "role": "editor"}),
        json!({"access": "space"}),
        json!({"access": "private", "space": room}),
    ] {
        assert_eq!(
            ask(&alice, Method::PUT, &room, "/access", wrong).await?.status,
            StatusCode::BAD_REQUEST
        );
    }
    ask(&alice, Method::PUT, &room, "/access", json!({"access": "public"}))
        .await?
        .ok()?;
    bob.join(&room, Some(via)).await?;
    assert_eq!(role_of(&bob, &room).await?, "viewer");
    let refused = insert(&bob, &room, "x").await?;
    assert_eq!(
        (refused.status, refused.errcode()),
        (StatusCode::FORBIDDEN, "M_FORBIDDEN")
    );
    let refused = ask(&bob, Method::PUT, &room, "/access", json!({"access": "private"})).await?;
    assert_eq!(refused.status, StatusCode::FORBIDDEN);
    // Who comes later may comment; who is there stays a viewer.
    ask(
        &alice,
        Method::PUT,
        &room,
        "/access",
        json!({"access": "public", "role": "commenter"}),
    )
    .await?
    .ok()?;
    let eve = world.user(0, "eve").await?;
    eve.join(&room, None).await?;
    assert_eq!(
        (role_of(&eve, &room).await?, role_of(&bob, &room).await?),
        ("commenter".into(), "viewer".into())
    );
    ask(&alice, Method::PUT, &room, "/access", json!({"access": "private"}))
        .await?
        .ok()?;
    let visibility = alice
        .get(&Client::in_room(&room, "state/m.room.history_visibility/"))
        .await?;
    assert_eq!(visibility["history_visibility"], "shared");
    let late = world.user(1, "late").await?;
    bob.until("no more joins", || async {
        Ok(late.join(&room, Some(via)).await.is_err().then_some(()))
    })
    .await
}

#[tokio::test]
async fn members_of_a_space_join_its_documents_with_the_role_of_the_space() -> Result<()> {
    let world = World::new(2).await?;
    let (alice, bob) = (world.user(0, "alice").await?, world.user(1, "bob").await?);
    let via = alice.user.split_once(':').context("no server")?.1;
    let space = alice
        .create_room(json!({"creation_content": {"type": "m.space"}, "preset": "public_chat"}))
        .await?;
    let room = alice.create_document("Of the team").await?;
    let of_space = json!({"access": "space", "space": space, "role": "editor"});
    let set = ask(&alice, Method::PUT, &room, "/access", of_space.clone())
        .await?
        .ok()?;
    assert_eq!(set, of_space);
    assert!(bob.join(&room, Some(via)).await.is_err());
    bob.join(&space, Some(via)).await?;
    bob.join(&room, Some(via)).await?;
    assert_eq!(role_of(&bob, &room).await?, "editor");
    insert(&bob, &room, "text").await?.ok()?;
    // Another room is no space, and nor is one that the caller is not in.
    let others = [room.clone(), "!nowhere:a.example".to_owned()];
    for space in others {
        let body = json!({"access": "space", "space": space});
        assert_eq!(
            ask(&alice, Method::PUT, &room, "/access", body).await?.status,
            StatusCode::NOT_FOUND
        );
    }
    // Those who joined by the space stay editors when it does not open the document any more.
    ask(&alice, Method::PUT, &room, "/access", json!({"access": "private"}))
        .await?
        .ok()?;
    let members = read(&alice, &room, "/members").await?;
    assert_eq!(members["members"][1]["role"], "editor", "{members}");
    Ok(())
}

#[tokio::test]
async fn the_servers_with_a_copy_are_shown_before_and_after_an_invitation() -> Result<()> {
    let world = World::new(2).await?;
    let (alice, bob) = (world.user(0, "alice").await?, world.user(1, "bob").await?);
    let name = |client: &Client| client.user.split_once(':').unwrap().1.to_owned();
    let room = alice.create_document("Servers").await?;
    let here = json!([{"serverName": name(&alice), "users": 1}]);
    let asked = format!("/servers?invite={}", segment(&bob.user));
    let mut all = [name(&alice), name(&bob)];
    all.sort();
    let before = json!({"servers": here, "invited": [], "former": [], "after": all});
    assert_eq!(read(&alice, &room, &asked).await?, before);
    alice.give_role(&room, &bob.user, "viewer").await?;
    let invited = json!({"servers": here, "invited": [name(&bob)], "former": []});
    assert_eq!(read(&alice, &room, "/servers").await?, invited);
    bob.accept_invitation(&room).await?;
    let list = read(&bob, &room, "/servers").await?;
    assert_eq!(list["servers"].as_array().context("no list")?.len(), 2);
    let of_bob = format!("/members/{}", segment(&bob.user));
    ask(&alice, Method::DELETE, &room, &of_bob, json!({})).await?.ok()?;
    let former = json!({"servers": here, "invited": [], "former": [name(&bob)]});
    assert_eq!(read(&alice, &room, "/servers").await?, former);
    Ok(())
}

#[tokio::test]
async fn a_removed_users_sockets_and_streams_end_on_their_own_server() -> Result<()> {
    let world = World::new(2).await?;
    let (alice, bob, room) = world.shared_document().await?;
    let plain = world.editors.open("plain", Provider::Plain, &bob, &room).await?;
    let hocuspocus = world
        .editors
        .open("hocuspocus", Provider::Hocuspocus, &bob, &room)
        .await?;
    plain.synced().await?;
    hocuspocus.synced().await?;
    let mut stream = bob.of_document(Method::GET, &room, "/events", &[], Vec::new()).await?;
    assert!(stream.status().is_success());
    let of_bob = format!("/members/{}", segment(&bob.user));
    ask(&alice, Method::DELETE, &room, &of_bob, json!({})).await?.ok()?;
    assert_eq!(plain.until_event("close").await?["code"], json!(4403));
    // The stock provider closes the socket itself when the server ends its document.
    hocuspocus.until_event("close").await?;
    // The deadline fails the test, and does not pass it.
    let end = async {
        while stream.chunk().await?.is_some() {}
        anyhow::Ok(())
    };
    tokio::time::timeout(std::time::Duration::from_secs(90), end).await??;
    let again = bob.of_document(Method::GET, &room, "/events", &[], Vec::new()).await?;
    assert_eq!(again.status(), StatusCode::NOT_FOUND);
    Ok(())
}

async fn follow(client: &Client, secret: &Value) -> Result<Answer> {
    let secret = secret.as_str().context("no secret")?;
    let path = format!("/_weft/client/v1/links/{}", segment(secret));
    client.request(Method::POST, &path, None).await
}

#[tokio::test]
async fn a_share_link_lets_users_in_until_it_is_used_up_or_revoked() -> Result<()> {
    let world = World::new(2).await?;
    let (alice, bob, room) = world.shared_document().await?;
    let mut people = Vec::new();
    for name in ["carol", "dave", "erin", "frank"] {
        people.push(world.user(0, name).await?);
    }
    let [carol, dave, erin, frank] = people.as_slice() else {
        unreachable!()
    };
    let make = async |client: &Client, body: Value| ask(client, Method::POST, &room, "/links", body).await;
    assert_eq!(
        make(&bob, json!({"role": "viewer"})).await?.status,
        StatusCode::FORBIDDEN
    );
    for wrong in [
        json!({"role": "viewer", "expiresIn": 0}),
        json!({"role": "viewer", "maxUses": 0}),
    ] {
        assert_eq!(make(&alice, wrong).await?.status, StatusCode::BAD_REQUEST);
    }
    let link = make(&alice, json!({"role": "editor", "maxUses": 1})).await?.ok()?;
    let hidden = json!("0000.nowhere:a.example");
    assert_eq!(follow(carol, &hidden).await?.status, StatusCode::NOT_FOUND);
    assert_eq!(follow(carol, &link["secret"]).await?.ok()?, json!({"docId": room}));
    assert_eq!(role_of(carol, &room).await?, "editor");
    insert(carol, &room, "text").await?.ok()?;
    // Again changes nothing, and the link is used up for others.
    assert_eq!(follow(carol, &link["secret"]).await?.status, StatusCode::NOT_FOUND);
    assert_eq!(follow(dave, &link["secret"]).await?.status, StatusCode::NOT_FOUND);
    assert_eq!(read(&alice, &room, "/links").await?, json!({"links": []}));
    let link = make(&alice, json!({"role": "commenter"})).await?.ok()?;
    follow(dave, &link["secret"]).await?.ok()?;
    // A higher role stays.
    follow(carol, &link["secret"]).await?.ok()?;
    assert_eq!(
        (role_of(dave, &room).await?, role_of(carol, &room).await?),
        ("commenter".into(), "editor".into())
    );
    let links = read(&alice, &room, "/links").await?;
    assert_eq!(
        (&links["links"][0]["uses"], &links["links"][0]["secret"]),
        (&json!(1), &Value::Null)
    );
    let of_link = format!("/links/{}", segment(link["linkId"].as_str().context("no id")?));
    assert_eq!(
        ask(carol, Method::DELETE, &room, &of_link, json!({})).await?.status,
        StatusCode::FORBIDDEN
    );
    ask(&alice, Method::DELETE, &room, &of_link, json!({})).await?.ok()?;
    assert_eq!(follow(erin, &link["secret"]).await?.status, StatusCode::NOT_FOUND);
    // The other server shows the members, and who let them in.
    until_member(&bob, &room, &dave.user).await?;
    // A link is worth what its maker may do.
    alice.give_role(&room, &carol.user, "owner").await?;
    let of_carol = ask(carol, Method::POST, &room, "/links", json!({"role": "editor"}))
        .await?
        .ok()?;
    follow(erin, &of_carol["secret"]).await?.ok()?;
    // Carol steps down, and her link gives nothing any more.
    ask(
        carol,
        Method::PUT,
        &room,
        &format!("/members/{}", segment(&carol.user)),
        json!({"role": "editor"}),
    )
    .await?
    .ok()?;
    assert_eq!(follow(frank, &of_carol["secret"]).await?.status, StatusCode::NOT_FOUND);
    // Nor does a link let somebody in who was banned.
    let ban = json!({"user_id": frank.user});
    alice.post(&Client::in_room(&room, "ban"), ban).await?;
    let link = make(&alice, json!({"role": "viewer"})).await?.ok()?;
    assert_eq!(follow(frank, &link["secret"]).await?.status, StatusCode::FORBIDDEN);
    Ok(())
}

#[tokio::test]
async fn a_share_link_with_a_password_needs_it_and_limits_guesses() -> Result<()> {
    let world = World::new(2).await?;
    let (alice, bob, room) = world.shared_document().await?;
    let (carol, dave) = (world.user(0, "carol").await?, world.user(0, "dave").await?);
    let body = json!({"role": "commenter", "password": "open sesame"});
    let link = ask(&alice, Method::POST, &room, "/links", body).await?.ok()?;
    assert_eq!(link["hasPassword"], true);
    let path = format!(
        "/_weft/client/v1/links/{}",
        segment(link["secret"].as_str().context("no secret")?)
    );
    let with = async |client: &Client, password: &str| {
        let body = json!({ "password": password });
        client.request(Method::POST, &path, Some(body)).await
    };
    assert_eq!(
        follow(&carol, &link["secret"]).await?.errcode(),
        "DEV_WEFT_LINK_PASSWORD"
    );
    let mut wrong = with(&carol, "open sesami").await?;
    while wrong.errcode() == "DEV_WEFT_LINK_PASSWORD" {
        wrong = with(&carol, "open sesami").await?;
    }
    assert_eq!(wrong.status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(with(&dave, "open sesame").await?.ok()?, json!({"docId": room}));
    until_member(&bob, &room, &dave.user).await?;
    // The hash is nowhere in the document, and the password of a user of another server opens nothing.
    assert_eq!(with(&bob, "open sesame").await?.status, StatusCode::NOT_FOUND);
    Ok(())
}

#[tokio::test]
async fn a_request_for_access_is_made_withdrawn_and_granted_through_the_document_api() -> Result<()> {
    let world = World::new(2).await?;
    let (alice, dora) = (world.user(0, "alice").await?, world.user(1, "dora").await?);
    let via = alice.user.split_once(':').context("no server")?.1;
    let room = alice.create_document("Summary").await?;
    let asked = async |body: Value| ask(&dora, Method::POST, &room, "/access-requests", body).await;
    let body = json!({"reason": "I write it.", "via": [via]});
    // The document takes no requests, or no server that has it is known.
    assert_eq!(asked(body.clone()).await?.status, StatusCode::FORBIDDEN);
    ask(&alice, Method::PUT, &room, "/access", json!({"access": "request"}))
        .await?
        .ok()?;
    assert_eq!(asked(json!({})).await?.status, StatusCode::NOT_FOUND);
    let long = json!({"reason": "x".repeat(1_025), "via": [via]});
    assert_eq!(asked(long).await?.status, StatusCode::PAYLOAD_TOO_LARGE);
    let path = "/_weft/client/v1/access-requests";
    let pending = async |count: usize| -> Result<()> {
        let list = read(&alice, &room, "/access-requests").await?;
        anyhow::ensure!(list["requests"].as_array().map(Vec::len) == Some(count), "{list}");
        let own = dora.get(path).await?;
        anyhow::ensure!(own["requests"].as_array().map(Vec::len) == Some(count), "{own}");
        Ok(())
    };
    for _ in 0..2 {
        let answer = asked(body.clone()).await?;
        assert_eq!(
            (answer.status, &answer.body),
            (StatusCode::CREATED, &json!({"docId": room}))
        );
        pending(1).await?;
        let own = dora.get(path).await?;
        let expected = json!({"requests": [{"docId": room, "title": "Summary", "reason": "I write it."}]});
        assert_eq!(own, expected);
        ask(&dora, Method::DELETE, &room, "/access-requests", json!({}))
            .await?
            .ok()?;
        pending(0).await?;
        let again = ask(&dora, Method::DELETE, &room, "/access-requests", json!({})).await?;
        assert_eq!(again.status, StatusCode::NOT_FOUND);
    }
    asked(body).await?.ok()?;
    alice.give_role(&room, &dora.user, "editor").await?;
    dora.accept_invitation(&room).await?;
    until_role(&dora, &room, "editor").await?;
    pending(0).await?;
    // The same on one server.
    let eve = world.user(0, "eve").await?;
    ask(&eve, Method::POST, &room, "/access-requests", json!({}))
        .await?
        .ok()?;
    assert_eq!(eve.get(path).await?["requests"][0]["docId"], json!(room));
    let of_eve = format!("/members/{}", segment(&eve.user));
    ask(&alice, Method::DELETE, &room, &of_eve, json!({})).await?.ok()?;
    assert_eq!(eve.get(path).await?, json!({"requests": []}));
    Ok(())
}

#[tokio::test]
async fn members_of_a_space_join_and_others_ask() -> Result<()> {
    let world = World::new(2).await?;
    let (alice, bob) = (world.user(0, "alice").await?, world.user(1, "bob").await?);
    let dora = world.user(1, "dora").await?;
    let via = alice.user.split_once(':').context("no server")?.1;
    let space = alice
        .create_room(json!({"creation_content": {"type": "m.space"}, "preset": "public_chat"}))
        .await?;
    let room = alice.create_document("Of the team").await?;
    let access = json!({"access": "space_or_request", "space": space, "role": "editor"});
    let set = ask(&alice, Method::PUT, &room, "/access", access.clone()).await?.ok()?;
    assert_eq!(set, access);
    bob.join(&space, Some(via)).await?;
    bob.join(&room, Some(via)).await?;
    assert_eq!(role_of(&bob, &room).await?, "editor");
    assert_eq!(read(&bob, &room, "/access").await?, access);
    assert!(dora.join(&room, Some(via)).await.is_err());
    let body = json!({"via": [via]});
    ask(&dora, Method::POST, &room, "/access-requests", body).await?.ok()?;
    let asks = || async {
        let list = read(&alice, &room, "/access-requests").await?;
        Ok((list["requests"][0]["userId"] == dora.user.as_str()).then_some(()))
    };
    alice.until("the request", asks).await?;
    alice.give_role(&room, &dora.user, "commenter").await?;
    dora.accept_invitation(&room).await?;
    until_role(&dora, &room, "commenter").await
}

#[tokio::test]
async fn a_folder_lists_its_documents_on_both_servers_and_is_one_grant() -> Result<()> {
    let world = World::new(2).await?;
    let (alice, bob) = (world.user(0, "alice").await?, world.user(1, "bob").await?);
    let via = alice.user.split_once(':').context("no server")?.1;
    let made = alice.post("/_weft/client/v1/folders", json!({"title": "Team"})).await?;
    let folder = made["folderId"].as_str().context("no folder")?;
    let (plan, loose) = (
        alice.create_document("Plan").await?,
        alice.create_document("Loose").await?,
    );
    let moved = format!("/folders/{}", segment(folder));
    ask(&alice, Method::PUT, &plan, &moved, json!({})).await?.ok()?;
    let of_team = json!({"access": "space", "space": folder, "role": "editor"});
    ask(&alice, Method::PUT, &plan, "/access", of_team).await?.ok()?;
    let listed = async |client: &Client| -> Result<Vec<String>> {
        let list = client
            .get(&format!("/_weft/client/v1/documents?folder={}", segment(folder)))
            .await?;
        let documents = list["documents"].as_array().context("no list")?;
        Ok(documents
            .iter()
            .filter_map(|document| document["docId"].as_str().map(str::to_owned))
            .collect())
    };
    assert_eq!(listed(&alice).await?, std::slice::from_ref(&plan));
    let folders = alice.get("/_weft/client/v1/folders").await?;
    assert_eq!(folders, json!({"folders": [{"folderId": folder, "title": "Team"}]}));
    // One grant: an invitation to the folder.
    let path = format!("/_weft/client/v1/documents?folder={}", segment(folder));
    assert_eq!(
        bob.request(Method::GET, &path, None).await?.status,
        StatusCode::NOT_FOUND
    );
    alice
        .post(&Client::in_room(folder, "invite"), json!({"user_id": bob.user}))
        .await?;
    bob.accept_invitation(folder).await?;
    assert!(listed(&bob).await?.is_empty());
    bob.join(&plan, Some(via)).await?;
    assert_eq!(role_of(&bob, &plan).await?, "editor");
    assert_eq!(listed(&bob).await?, std::slice::from_ref(&plan));
    // Who may not change the folder moves nothing into it or out of it.
    let refused = ask(&bob, Method::DELETE, &plan, &moved, json!({})).await?;
    assert_eq!(refused.status, StatusCode::FORBIDDEN);
    ask(&alice, Method::PUT, &loose, &moved, json!({})).await?.ok()?;
    ask(&alice, Method::DELETE, &plan, &moved, json!({})).await?.ok()?;
    assert_eq!(listed(&alice).await?, [loose]);
    let is_empty = || async { Ok(listed(&bob).await?.is_empty().then_some(())) };
    bob.until("an empty folder", is_empty).await
}

async fn until_member(client: &Client, room: &str, user: &str) -> Result<()> {
    client
        .until(&format!("{user} in the document"), || async {
            let members = read(client, room, "/members").await?;
            let list = members["members"].as_array().context("no list")?;
            let is_in = |member: &Value| member["userId"] == user && member["membership"] == "join";
            Ok(list.iter().any(is_in).then_some(()))
        })
        .await
}

#[tokio::test]
async fn many_users_at_once_do_not_use_a_link_more_often_than_it_allows() -> Result<()> {
    let world = World::new(1).await?;
    let alice = world.user(0, "alice").await?;
    let room = alice.create_document("Shared").await?;
    let body = json!({"role": "editor", "maxUses": 3});
    let link = ask(&alice, Method::POST, &room, "/links", body).await?.ok()?;
    let mut following = Vec::new();
    for number in 0..8 {
        let (user, secret) = (world.user(0, &format!("user-{number}")).await?, link["secret"].clone());
        following.push(tokio::spawn(async move { follow(&user, &secret).await }));
    }
    let mut admitted = 0;
    for one in following {
        admitted += usize::from(one.await??.status.is_success());
    }
    let members = read(&alice, &room, "/members").await?;
    assert_eq!(
        (admitted, members["members"].as_array().context("no list")?.len()),
        (3, 4)
    );
    Ok(())
}
