//! What a stock client shows besides messages, over two servers: state, redactions, typing, receipts, presence, names,
//! history. Must not depend on one server's timing.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests fail by panicking"
)]

use anyhow::{Context as _, Result};
use reqwest::Method;
use serde_json::{Value, json};
use weft_conformance_tests::{
    client::{Client, segment},
    world::World,
};

/// alice on the first server and bob on the second, in a room of alice's.
async fn shared_room(world: &World, options: Value) -> Result<(Client, Client, String)> {
    let (alice, bob) = (world.user(0, "alice").await?, world.user(1, "bob").await?);
    let room = alice.create_room(options).await?;
    alice
        .post(&Client::in_room(&room, "invite"), json!({"user_id": bob.user}))
        .await?;
    bob.accept_invitation(&room).await?;
    Ok((alice, bob, room))
}

fn timeline<'a>(sync: &'a Value, room: &str) -> &'a [Value] {
    sync["rooms"]["join"][room]["timeline"]["events"]
        .as_array()
        .map_or(&[], Vec::as_slice)
}

#[tokio::test]
async fn state_and_redactions_are_the_same_on_both_servers() -> Result<()> {
    let world = World::new(2).await?;
    let (alice, bob) = (world.user(0, "alice").await?, world.user(1, "bob").await?);
    for version in ["10", "12"] {
        let options = json!({"room_version": version, "topic": "old", "invite": [bob.user]});
        let room = alice.create_room(options).await?;
        bob.accept_invitation(&room).await?;
        let mut since = None;
        bob.sync_until("the room", &mut since, |sync| {
            sync["rooms"]["join"].get(&room).map(|_| ())
        })
        .await?;
        let topic = Client::in_room(&room, "state/m.room.topic");
        alice.put(&topic, json!({"topic": "new"})).await?;
        let event = bob
            .sync_until("the topic", &mut since, |sync| {
                let events = timeline(sync, &room).iter();
                events.clone().find(|event| event["type"] == "m.room.topic").cloned()
            })
            .await?;
        assert_eq!(event["content"]["topic"], "new");
        assert_eq!(event["unsigned"]["prev_content"]["topic"], "old", "{event}");
        assert_eq!(bob.get(&topic).await?["topic"], "new");
        let refused = bob.request(Method::PUT, &topic, Some(json!({"topic": "mine"}))).await?;
        assert_eq!((refused.status.as_u16(), refused.errcode()), (403, "M_FORBIDDEN"));

        let hers = alice.say(&room, "a slip").await?;
        let his = bob.say(&room, "another slip").await?;
        for id in [&hers, &his] {
            let path = Client::in_room(&room, &format!("event/{}", segment(id)));
            for who in [&alice, &bob] {
                who.until("a message", || async {
                    let answer = who.request(Method::GET, &path, None).await?;
                    Ok(answer.status.is_success().then_some(()))
                })
                .await?;
            }
        }
        let redact = |id: &str, n: u8| Client::in_room(&room, &format!("redact/{}/r{n}", segment(id)));
        let refused = bob.request(Method::PUT, &redact(&hers, 1), Some(json!({}))).await?;
        assert_eq!(refused.status, 403, "{}", refused.body);
        alice.put(&redact(&hers, 2), json!({"reason": "typo"})).await?;
        alice.put(&redact(&his, 3), json!({"reason": "also"})).await?;
        for (id, reason) in [(&hers, "typo"), (&his, "also")] {
            let path = Client::in_room(&room, &format!("event/{}", segment(id)));
            for who in [&alice, &bob] {
                let event = who
                    .until("a redaction", || async {
                        let event = who.get(&path).await?;
                        Ok((event["content"] == json!({})).then_some(event))
                    })
                    .await?;
                let because = &event["unsigned"]["redacted_because"];
                assert_eq!(because["content"]["reason"], reason, "{event}");
                assert_eq!(because["sender"], alice.user.as_str());
            }
        }
    }
    Ok(())
}

#[tokio::test]
async fn typing_and_receipts_are_seen_on_the_other_server() -> Result<()> {
    let world = World::new(2).await?;
    let (alice, bob, room) = shared_room(&world, json!({"preset": "private_chat"})).await?;
    let ephemeral = |sync: &Value, kind: &str| -> Option<Value> {
        let events = sync["rooms"]["join"][&room]["ephemeral"]["events"].as_array()?;
        events.iter().find(|event| event["type"] == kind).cloned()
    };
    let mut bobs = None;
    bob.sync_until("the room", &mut bobs, |sync| {
        sync["rooms"]["join"].get(&room).map(|_| ())
    })
    .await?;
    let typing = Client::in_room(&room, &format!("typing/{}", segment(&alice.user)));
    alice.put(&typing, json!({"typing": true, "timeout": 30_000})).await?;
    bob.sync_until("typing", &mut bobs, |sync| {
        (ephemeral(sync, "m.typing")?["content"]["user_ids"] == json!([alice.user])).then_some(())
    })
    .await?;
    alice.put(&typing, json!({"typing": false})).await?;
    bob.sync_until("the end of typing", &mut bobs, |sync| {
        (ephemeral(sync, "m.typing")?["content"]["user_ids"] == json!([])).then_some(())
    })
    .await?;

    let sent = alice.say(&room, "read this").await?;
    let mut alices = None;
    alice
        .sync_until("her message", &mut alices, |sync| {
            timeline(sync, &room)
                .iter()
                .any(|event| event["event_id"] == sent.as_str() && event["unsigned"]["transaction_id"].is_string())
                .then_some(())
        })
        .await?;
    bob.sync_until("the message", &mut bobs, |sync| {
        let event = timeline(sync, &room)
            .iter()
            .find(|event| event["event_id"] == sent.as_str())?;
        assert!(event["unsigned"].get("transaction_id").is_none(), "{event}");
        Some(())
    })
    .await?;
    bob.post(
        &Client::in_room(&room, &format!("receipt/m.read/{}", segment(&sent))),
        json!({}),
    )
    .await?;
    alice
        .sync_until("the receipt", &mut alices, |sync| {
            let receipt = ephemeral(sync, "m.receipt")?;
            receipt["content"][&sent]["m.read"].get(&bob.user).map(|_| ())
        })
        .await
}

/// A user's presence in a response of `/sync`.
fn presence<'a>(sync: &'a Value, user: &str) -> Option<&'a Value> {
    let events = sync["presence"]["events"].as_array()?;
    let theirs = events.iter().rfind(|event| event["sender"] == user)?;
    Some(&theirs["content"])
}

#[tokio::test]
async fn presence_is_sent_to_users_of_another_server_who_share_a_room() -> Result<()> {
    let world = World::new(2).await?;
    let (alice, bob, _) = shared_room(&world, json!({"preset": "private_chat"})).await?;
    let carol = world.user(1, "carol").await?;
    let status = format!("/_matrix/client/v3/presence/{}/status", segment(&alice.user));
    let mut bobs = None;
    alice
        .put(&status, json!({"presence": "online", "status_msg": "writing"}))
        .await?;
    bob.sync_until("her status", &mut bobs, |sync| {
        let found = presence(sync, &alice.user)?;
        (found["presence"] == "online" && found["status_msg"] == "writing").then_some(())
    })
    .await?;
    assert_eq!(bob.get(&status).await?["status_msg"], "writing");
    let refused = carol.request(Method::GET, &status, None).await?;
    assert_eq!(refused.errcode(), "M_FORBIDDEN", "{}", refused.body);

    alice.put(&status, json!({"presence": "offline"})).await?;
    bob.sync_until("that alice is offline", &mut bobs, |sync| {
        (presence(sync, &alice.user)?["presence"] == "offline").then_some(())
    })
    .await?;
    let strangers = carol.get("/_matrix/client/v3/sync?timeout=0").await?;
    assert_eq!(presence(&strangers, &alice.user), None, "{strangers}");
    assert_eq!(presence(&strangers, &bob.user), None, "{strangers}");

    // One sync makes alice online again.
    alice.get("/_matrix/client/v3/sync?timeout=0").await?;
    bob.sync_until("that alice is online", &mut bobs, |sync| {
        (presence(sync, &alice.user)?["presence"] == "online").then_some(())
    })
    .await
}

#[tokio::test]
async fn a_late_joiner_pages_back_to_the_first_event() -> Result<()> {
    let world = World::new(2).await?;
    let (alice, bob) = (world.user(0, "alice").await?, world.user(1, "bob").await?);
    for document in [false, true] {
        let room = if document {
            alice.create_document("Late").await?
        } else {
            alice.create_room(json!({"preset": "private_chat"})).await?
        };
        let expected: Vec<String> = (0..260).rev().map(|n| format!("m{n}")).collect();
        for text in expected.iter().rev() {
            alice.say(&room, text).await?;
        }
        alice
            .post(&Client::in_room(&room, "invite"), json!({"user_id": bob.user}))
            .await?;
        bob.accept_invitation(&room).await?;
        // As a client does: from the first sync's token to the end. Events that are not here yet are waited for.
        let sync = bob.get("/_matrix/client/v3/sync?timeout=0").await?;
        let found = &sync["rooms"]["join"][&room]["timeline"];
        let mut from = found["prev_batch"].as_str().map(str::to_owned);
        let mut seen: Vec<Value> = timeline(&sync, &room).iter().rev().cloned().collect();
        for _ in 0..60 {
            let Some(token) = from.take() else { break };
            let path = Client::in_room(&room, &format!("messages?dir=b&limit=25&from={}", segment(&token)));
            let page = bob.get(&path).await?;
            seen.extend(page["chunk"].as_array().context("chunk")?.iter().cloned());
            from = page["end"].as_str().map(str::to_owned);
        }
        assert!(
            seen.iter().any(|event| event["type"] == "m.room.create"),
            "the history ended early"
        );
        let bodies: Vec<&str> = seen
            .iter()
            .filter_map(|event| event["content"]["body"].as_str())
            .collect();
        assert_eq!(bodies, expected, "a document: {document}");
    }
    Ok(())
}

#[tokio::test]
async fn names_change_everywhere() -> Result<()> {
    let world = World::new(2).await?;
    let (alice, bob, room) = shared_room(&world, json!({"preset": "private_chat"})).await?;
    let name = format!("/_matrix/client/v3/profile/{}/displayname", segment(&bob.user));
    bob.put(&name, json!({"displayname": "Robert"})).await?;
    let member = Client::in_room(&room, &format!("state/m.room.member/{}", segment(&bob.user)));
    alice
        .until("the new name", || async {
            Ok((alice.get(&member).await?["displayname"] == "Robert").then_some(()))
        })
        .await?;
    assert_eq!(alice.get(&name).await?["displayname"], "Robert", "at bob's server");
    Ok(())
}

#[tokio::test]
async fn account_data_and_filters() -> Result<()> {
    let world = World::new(1).await?;
    let alice = world.user(0, "alice").await?;
    let room = alice.create_room(json!({"preset": "public_chat"})).await?;
    let user = format!("/_matrix/client/v3/user/{}", segment(&alice.user));
    let mut since = None;
    alice
        .sync_until("the room", &mut since, |sync| {
            sync["rooms"]["join"].get(&room).map(|_| ())
        })
        .await?;
    alice
        .put(&format!("{user}/account_data/org.example.theme"), json!({"dark": true}))
        .await?;
    let tags = format!("{user}/rooms/{}/tags/m.favourite", segment(&room));
    alice.put(&tags, json!({"order": 0.5})).await?;
    let (mut global, mut of_room) = (None, None);
    alice
        .sync_until("account data", &mut since, |sync| {
            let find = |events: &Value, kind: &str| -> Option<Value> {
                let events = events["events"].as_array()?;
                events.iter().find(|event| event["type"] == kind).cloned()
            };
            global = global
                .take()
                .or_else(|| find(&sync["account_data"], "org.example.theme"));
            let data = &sync["rooms"]["join"][&room]["account_data"];
            of_room = of_room.take().or_else(|| find(data, "m.tag"));
            (global.is_some() && of_room.is_some()).then_some(())
        })
        .await?;
    assert_eq!(global.context("theme")?["content"]["dark"], true);
    assert_eq!(of_room.context("tag")?["content"]["tags"]["m.favourite"]["order"], 0.5);

    let filter = json!({"room": {"timeline": {"types": ["m.room.topic"], "limit": 5}}});
    let stored = alice.post(&format!("{user}/filter"), filter).await?;
    let id = stored["filter_id"].as_str().context("filter_id")?.to_owned();
    alice.say(&room, "not asked for").await?;
    alice
        .put(
            &Client::in_room(&room, "state/m.room.topic/"),
            json!({"topic": "asked for"}),
        )
        .await?;
    let sync = alice
        .get(&format!("/_matrix/client/v3/sync?timeout=0&filter={}", segment(&id)))
        .await?;
    let kinds: Vec<&str> = timeline(&sync, &room)
        .iter()
        .filter_map(|event| event["type"].as_str())
        .collect();
    assert_eq!(kinds, ["m.room.topic"]);

    Ok(())
}

#[tokio::test]
async fn an_alias_resolves_on_another_server_and_belongs_to_its_creator() -> Result<()> {
    let world = World::new(2).await?;
    let (alice, bob) = (world.user(0, "alice").await?, world.user(1, "bob").await?);
    let room = alice.create_room(json!({"preset": "public_chat"})).await?;
    let plans = world.fresh_name("plans");
    let alias = format!("#{plans}:{}", world.servers[0].name);
    let path = format!("/_matrix/client/v3/directory/room/{}", segment(&alias));
    alice.put(&path, json!({"room_id": room})).await?;
    let taken = alice
        .request(Method::PUT, &path, Some(json!({"room_id": room})))
        .await?;
    assert_eq!(taken.status, 409, "{}", taken.body);
    let found = bob.get(&path).await?;
    assert_eq!(found["room_id"], room.as_str());
    assert_eq!(found["servers"][0], world.servers[0].name.as_str());
    let aliases = alice.get(&Client::in_room(&room, "aliases")).await?;
    assert_eq!(aliases["aliases"], json!([alias]));
    let joined = bob
        .post(&format!("/_matrix/client/v3/join/{}", segment(&alias)), json!({}))
        .await?;
    assert_eq!(joined["room_id"], room.as_str());
    let refused = bob.request(Method::DELETE, &path, None).await?;
    assert!(refused.status.is_client_error(), "{}", refused.body);
    alice.request(Method::DELETE, &path, None).await?.ok()?;
    let gone = bob.request(Method::GET, &path, None).await?;
    assert_eq!((gone.status.as_u16(), gone.errcode()), (404, "M_NOT_FOUND"));
    Ok(())
}
