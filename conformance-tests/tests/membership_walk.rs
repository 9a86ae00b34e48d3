//! Membership changes over two servers: kick, ban, unban, knock, decline, forget. Must not use privileged interfaces.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests fail by panicking"
)]

use std::time::Duration;

use anyhow::Result;
use reqwest::Method;
use serde_json::json;
use weft_conformance_tests::{
    client::{Client, segment},
    external::needs_own_servers,
    world::World,
};

/// Waits until the user's own sync has the room in this section.
async fn until_in(client: &Client, section: &str, room: &str, since: &mut Option<String>) -> Result<()> {
    client
        .sync_until(&format!("{section} of {room}"), since, |sync| {
            sync["rooms"][section].get(room).map(|_| ())
        })
        .await
}

#[tokio::test]
async fn kicked_and_banned_users_are_out_until_they_may_rejoin() -> Result<()> {
    let world = World::new(2).await?;
    let (alice, bob) = (world.user(0, "alice").await?, world.user(1, "bob").await?);
    for version in ["10", "12"] {
        let room = alice
            .create_room(json!({"preset": "public_chat", "room_version": version}))
            .await?;
        let via = world.servers[0].name.clone();
        bob.join(&room, Some(&via)).await?;
        let mut since = None;
        until_in(&bob, "join", &room, &mut since).await?;

        let kick = json!({"user_id": bob.user, "reason": "be kind"});
        alice.post(&Client::in_room(&room, "kick"), kick.clone()).await?;
        until_in(&bob, "leave", &room, &mut since).await?;
        let again = alice
            .request(Method::POST, &Client::in_room(&room, "kick"), Some(kick))
            .await?;
        assert_eq!(again.status, 403, "a user is not kicked twice: {}", again.body);
        bob.join(&room, Some(&via)).await?;
        until_in(&bob, "join", &room, &mut since).await?;
        bob.say(&room, "back").await?;
        alice
            .until("the message of the user who rejoined", || async {
                Ok(alice.messages(&room).await?.contains(&"back".to_owned()).then_some(()))
            })
            .await?;

        let about = json!({"user_id": bob.user});
        alice.post(&Client::in_room(&room, "ban"), about.clone()).await?;
        until_in(&bob, "leave", &room, &mut since).await?;
        let refused = bob
            .request(
                Method::POST,
                &format!("/_matrix/client/v3/join/{}?via={}", segment(&room), segment(&via)),
                Some(json!({})),
            )
            .await?;
        assert_eq!((refused.status.as_u16(), refused.errcode()), (403, "M_FORBIDDEN"));
        assert!(bob.say(&room, "let me in").await.is_err());
        let refused = bob
            .request(Method::POST, &Client::in_room(&room, "unban"), Some(about.clone()))
            .await?;
        assert_eq!(refused.status, 403);

        alice.post(&Client::in_room(&room, "unban"), about).await?;
        bob.join(&room, Some(&via)).await?;
        until_in(&bob, "join", &room, &mut since).await?;
        alice.until_membership(&room, &bob.user, "join").await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_knock_arrives_and_is_answered() -> Result<()> {
    let world = World::new(2).await?;
    let alice = world.user(0, "alice").await?;
    let (bob, carol) = (world.user(1, "bob").await?, world.user(1, "carol").await?);
    let room = alice
        .create_room(json!({
            "preset": "private_chat",
            "name": "Behind a door",
            "initial_state": [{"type": "m.room.join_rules", "content": {"join_rule": "knock"}}],
        }))
        .await?;
    let knock = format!(
        "/_matrix/client/v3/knock/{}?via={via}&server_name={via}",
        segment(&room),
        via = segment(&world.servers[0].name)
    );
    let mut bobs = None;
    bob.post(&knock, json!({"reason": "tea?"})).await?;
    until_in(&bob, "knock", &room, &mut bobs).await?;
    alice.until_membership(&room, &bob.user, "knock").await?;
    alice
        .post(&Client::in_room(&room, "invite"), json!({"user_id": bob.user}))
        .await?;
    until_in(&bob, "invite", &room, &mut bobs).await?;
    bob.join(&room, None).await?;
    alice.until_membership(&room, &bob.user, "join").await?;

    let mut carols = None;
    carol.post(&knock, json!({})).await?;
    until_in(&carol, "knock", &room, &mut carols).await?;
    alice.until_membership(&room, &carol.user, "knock").await?;
    alice
        .post(&Client::in_room(&room, "kick"), json!({"user_id": carol.user}))
        .await?;
    until_in(&carol, "leave", &room, &mut carols).await?;
    let refused = carol
        .request(
            Method::POST,
            &format!("/_matrix/client/v3/join/{}", segment(&room)),
            Some(json!({})),
        )
        .await?;
    assert_eq!(refused.status, 403, "{}", refused.body);
    Ok(())
}

#[tokio::test]
async fn a_knock_from_a_server_outside_the_room_can_be_retracted() -> Result<()> {
    let world = World::new(2).await?;
    let (alice, bob) = (world.user(0, "alice").await?, world.user(1, "bob").await?);
    let room = alice
        .create_room(json!({
            "initial_state": [{"type": "m.room.join_rules", "content": {"join_rule": "knock"}}],
        }))
        .await?;
    let via = segment(&world.servers[0].name);
    let knock = format!(
        "/_matrix/client/v3/knock/{}?via={via}&server_name={via}",
        segment(&room)
    );
    bob.post(&knock, json!({})).await?;
    alice.until_membership(&room, &bob.user, "knock").await?;
    bob.post(&Client::in_room(&room, "leave"), json!({})).await?;
    alice.until_membership(&room, &bob.user, "leave").await?;
    Ok(())
}

#[tokio::test]
async fn an_invitation_is_declined_and_a_room_is_forgotten() -> Result<()> {
    let world = World::new(2).await?;
    let (alice, bob) = (world.user(0, "alice").await?, world.user(1, "bob").await?);
    let room = alice
        .create_room(json!({"name": "No thanks", "invite": [bob.user]}))
        .await?;
    let mut since = None;
    until_in(&bob, "invite", &room, &mut since).await?;
    bob.post(&Client::in_room(&room, "leave"), json!({})).await?;
    alice.until_membership(&room, &bob.user, "leave").await?;
    until_in(&bob, "leave", &room, &mut since).await?;

    let invite = json!({"user_id": bob.user});
    alice.post(&Client::in_room(&room, "invite"), invite).await?;
    until_in(&bob, "invite", &room, &mut since).await?;
    bob.join(&room, None).await?;
    alice.say(&room, "welcome").await?;
    let refused = bob
        .request(Method::POST, &Client::in_room(&room, "forget"), Some(json!({})))
        .await?;
    assert_eq!(
        refused.status, 400,
        "a joined room can't be forgotten: {}",
        refused.body
    );
    bob.post(&Client::in_room(&room, "leave"), json!({})).await?;
    let left = "/_matrix/client/v3/sync?timeout=0&filter=%7B%22room%22%3A%7B%22include_leave%22%3Atrue%7D%7D";
    assert!(bob.get(left).await?["rooms"]["leave"].get(&room).is_some());
    bob.post(&Client::in_room(&room, "forget"), json!({})).await?;
    let sync = bob.get(left).await?;
    assert!(sync["rooms"]["leave"].get(&room).is_none(), "{sync}");
    let messages = Client::in_room(&room, "messages?dir=b");
    assert_eq!(bob.request(Method::GET, &messages, None).await?.status, 403);
    Ok(())
}

/// The members see the join before the joining server has the room. A receipt and typing of that time are not events;
/// they are sent as soon as the room is there.
#[tokio::test]
async fn receipts_and_typing_during_a_join_arrive_after_it() -> Result<()> {
    if needs_own_servers("receipts_and_typing_during_a_join_arrive_after_it") {
        return Ok(());
    }
    let mut world = World::new(2).await?;
    let (alice, bob) = (world.user(0, "alice").await?, world.user(1, "bob").await?);
    let other = alice.create_room(json!({"invite": [bob.user]})).await?;
    bob.accept_invitation(&other).await?;
    let folder = tempfile::tempdir()?;
    let (hold, held) = (folder.path().join("hold"), folder.path().join("hold.held"));
    world.servers[1].kill();
    let setting = format!("room::adopt_begun:{}", hold.display());
    world.servers[1].boot_with(&[("WEFT_HOLD_AT", &setting)]).await?;

    std::fs::write(&hold, "")?;
    let room = alice.create_room(json!({"invite": [bob.user]})).await?;
    let joining = tokio::spawn({
        let (bob, room) = (bob.clone(), room.clone());
        async move { bob.accept_invitation(&room).await }
    });
    let is_held = async || Ok(held.exists().then_some(()));
    alice.until("a join that is held", is_held).await?;
    alice.until_membership(&room, &bob.user, "join").await?;
    let newest = alice.get(&Client::in_room(&room, "messages?dir=b&limit=1")).await?;
    let event = newest["chunk"][0]["event_id"].as_str().unwrap().to_owned();
    let receipt = Client::in_room(&room, &format!("receipt/m.read/{}", segment(&event)));
    alice.post(&receipt, json!({})).await?;
    let typing = Client::in_room(&room, &format!("typing/{}", segment(&alice.user)));
    alice.put(&typing, json!({"typing": true, "timeout": 60_000})).await?;
    // This message is sent after them: it arrives after them, unless it is queued with them; then nothing can be
    // observed.
    alice.say(&other, "meanwhile").await?;
    let come = bob.until("the message in the other room", || async {
        Ok(bob
            .messages(&other)
            .await?
            .contains(&"meanwhile".to_owned())
            .then_some(()))
    });
    let _ = tokio::time::timeout(Duration::from_secs(2), come).await;

    std::fs::remove_file(&hold)?;
    joining.await??;
    let (mut read, mut typed) = (false, false);
    bob.sync_until("the receipt and typing", &mut None, |sync| {
        let events = sync["rooms"]["join"][&room]["ephemeral"]["events"].as_array();
        for event in events.into_iter().flatten() {
            read |= event["content"].to_string().contains(&format!("{:?}", alice.user)) && event["type"] == "m.receipt";
            typed |= event["content"]["user_ids"] == json!([alice.user]);
        }
        (read && typed).then_some(())
    })
    .await
}

/// Another user of the server makes it fetch the later history: the departed user can't read it.
#[tokio::test]
async fn a_departed_user_does_not_read_on_when_another_user_of_the_server_joins() -> Result<()> {
    let world = World::new(2).await?;
    let alice = world.user(0, "alice").await?;
    let via = world.servers[0].name.clone();
    let document = json!({"preset": "public_chat", "creation_content": {"type": "dev.weft.document"},
        "initial_state": [{"type": "dev.weft.document", "content": {"kind": "text", "schema_version": 1, "format": "yjs-13/v1"}}]});
    for end in ["leave", "ban"] {
        for (what, options) in [
            ("chat", json!({"preset": "public_chat"})),
            ("document", document.clone()),
        ] {
            let bob = world.user(1, &format!("bob-{end}-{what}")).await?;
            let dora = world.user(1, &format!("dora-{end}-{what}")).await?;
            let room = alice.create_room(options).await?;
            let before = alice.say(&room, "before").await?;
            bob.join(&room, Some(&via)).await?;
            // A server that is removed before it has fetched the history gets it redacted.
            bob.until("the history", || async {
                let bodies = bob.messages(&room).await?;
                Ok(bodies.contains(&"before".to_owned()).then_some(()))
            })
            .await?;
            if end == "leave" {
                bob.post(&Client::in_room(&room, "leave"), json!({})).await?;
            } else {
                let about = json!({"user_id": bob.user});
                alice.post(&Client::in_room(&room, "ban"), about).await?;
            }
            bob.until_membership(&room, &bob.user, end).await?;
            alice.until_membership(&room, &bob.user, end).await?;
            let after = alice.say(&room, "after").await?;
            dora.join(&room, Some(&via)).await?;
            dora.until("the history", || async {
                let bodies = dora.messages(&room).await?;
                Ok((bodies.contains(&"before".to_owned()) && bodies.contains(&"after".to_owned())).then_some(()))
            })
            .await?;
            let visible = async |what: &str, event: &str| -> Result<u16> {
                let path = Client::in_room(&room, &format!("{what}/{}", segment(event)));
                Ok(bob.request(Method::GET, &path, None).await?.status.as_u16())
            };
            for what in ["event", "context"] {
                assert_eq!(visible(what, &after).await?, 404, "{what} {end}");
                assert_eq!(visible(what, &before).await?, 200, "{what} {end}");
            }
            for query in ["messages?dir=b&limit=100", "messages?dir=f&limit=100"] {
                let read = bob.get(&Client::in_room(&room, query)).await?.to_string();
                assert!(
                    read.contains(&before) && !read.contains(&after),
                    "{query} {end}: {read}"
                );
            }
        }
    }
    Ok(())
}

/// W4: a member revokes an invitation, or rejects a knock, of a user whose server is not in the room.
#[tokio::test]
async fn a_revoked_invitation_and_a_rejected_knock_end_on_the_other_server() -> Result<()> {
    let world = World::new(2).await?;
    let alice = world.user(0, "alice").await?;
    let via = segment(&world.servers[0].name);
    for (round, (version, what)) in [("12", "kick"), ("10", "kick"), ("12", "ban")].into_iter().enumerate() {
        let bob = world.user(1, &format!("bob{round}")).await?;
        let carol = world.user(1, &format!("carol{round}")).await?;
        let (mut bobs, mut carols) = (None, None);
        let room = alice
            .create_room(
                json!({"room_version": version, "name": "Closed", "invite": [bob.user], "initial_state": [
                    {"type": "m.room.join_rules", "content": {"join_rule": "knock"}},
                ]}),
            )
            .await?;
        until_in(&bob, "invite", &room, &mut bobs).await?;
        let knock = format!(
            "/_matrix/client/v3/knock/{}?via={via}&server_name={via}",
            segment(&room)
        );
        carol.post(&knock, json!({})).await?;
        until_in(&carol, "knock", &room, &mut carols).await?;
        alice.until_membership(&room, &carol.user, "knock").await?;
        for user in [&bob.user, &carol.user] {
            alice
                .post(&Client::in_room(&room, what), json!({"user_id": user}))
                .await?;
        }
        until_in(&bob, "leave", &room, &mut bobs).await?;
        until_in(&carol, "leave", &room, &mut carols).await?;
        let sync = bob.get("/_matrix/client/v3/sync?timeout=0").await?;
        assert!(sync["rooms"]["invite"].get(&room).is_none(), "{sync}");
    }
    // The same for a document.
    let bob = world.user(1, "bert").await?;
    let document = alice.create_document("Draft").await?;
    let mut bobs = None;
    alice
        .post(&Client::in_room(&document, "invite"), json!({"user_id": bob.user}))
        .await?;
    until_in(&bob, "invite", &document, &mut bobs).await?;
    alice
        .post(&Client::in_room(&document, "kick"), json!({"user_id": bob.user}))
        .await?;
    until_in(&bob, "leave", &document, &mut bobs).await?;
    // And once more: an ended invitation does not prevent a new one.
    alice
        .post(&Client::in_room(&document, "invite"), json!({"user_id": bob.user}))
        .await?;
    until_in(&bob, "invite", &document, &mut bobs).await?;
    bob.join(&document, None).await
}

/// F9: the server that handles the join receives the leave event first.
#[tokio::test]
async fn leaving_and_rejoining_at_once_works_every_time() -> Result<()> {
    let world = World::new(2).await?;
    let (alice, bob) = (world.user(0, "alice").await?, world.user(1, "bob").await?);
    let via = world.servers[0].name.clone();
    for version in ["10", "12"] {
        let room = alice
            .create_room(json!({"preset": "public_chat", "room_version": version}))
            .await?;
        bob.join(&room, Some(&via)).await?;
        for _ in 0..10 {
            bob.post(&Client::in_room(&room, "leave"), json!({})).await?;
            bob.join(&room, Some(&via)).await?;
        }
        alice.until_membership(&room, &bob.user, "join").await?;
        bob.say(&room, "still here").await?;
        alice
            .until("the message of the user who rejoined", || async {
                let seen = alice.messages(&room).await?;
                Ok(seen.contains(&"still here".to_owned()).then_some(()))
            })
            .await?;
    }
    Ok(())
}

/// F8: eight concurrent requests to join a room of another server make one join event, which both sides show once.
#[tokio::test]
async fn concurrent_joins_through_another_server_are_one() -> Result<()> {
    let world = World::new(2).await?;
    let (alice, bob) = (world.user(0, "alice").await?, world.user(1, "bob").await?);
    let via = world.servers[0].name.clone();
    for version in ["10", "12"] {
        let room = alice
            .create_room(json!({"preset": "public_chat", "room_version": version}))
            .await?;
        let joins = (0..8).map(|_| bob.join(&room, Some(&via)));
        for joined in futures_util::future::join_all(joins).await {
            joined?;
        }
        alice.until_membership(&room, &bob.user, "join").await?;
        for client in [&alice, &bob] {
            let page = client.get(&Client::in_room(&room, "messages?dir=b&limit=100")).await?;
            let joins = page["chunk"]
                .as_array()
                .unwrap()
                .iter()
                .filter(|event| event["type"] == "m.room.member" && event["state_key"] == json!(bob.user));
            assert_eq!(joins.count(), 1, "{} sees {page}", client.user);
        }
    }
    Ok(())
}
