//! Comments over HTTPS, on two servers: anchors that move with the text, threads, decisions of both servers, mentions, and what
//! stock Matrix clients do to them.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests fail by panicking"
)]

use anyhow::{Context as _, Result, ensure};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use weft_conformance_tests::{
    client::{Answer, Client, segment},
    editors::{Editors, Provider},
    world::World,
};

async fn ask(client: &Client, method: Method, room: &str, rest: &str, body: Option<Value>) -> Result<Answer> {
    let path = format!("/_weft/client/v1/documents/{}{rest}", segment(room));
    client.request(method, &path, body).await
}

async fn comments(client: &Client, room: &str) -> Result<Vec<Value>> {
    let list = ask(client, Method::GET, room, "/comments", None).await?.ok()?;
    Ok(list["comments"].as_array().context("no comments")?.clone())
}

async fn comment(client: &Client, room: &str, body: Value) -> Result<Value> {
    ask(client, Method::POST, room, "/comments", Some(body)).await?.ok()
}

async fn on_comment(client: &Client, room: &str, comment: &str, rest: &str, body: Option<Value>) -> Result<Answer> {
    let method = if rest.is_empty() { Method::GET } else { Method::POST };
    ask(
        client,
        method,
        room,
        &format!("/comments/{}{rest}", segment(comment)),
        body,
    )
    .await
}

async fn edit(client: &Client, room: &str, changes: Value) -> Result<u64> {
    let document = ask(client, Method::GET, room, "", None).await?.ok()?;
    let body = json!({"changes": changes, "clientVersion": document["version"]});
    let answer = ask(client, Method::PATCH, room, "/edit", Some(body)).await?.ok()?;
    answer["newVersion"].as_u64().context("no version")
}

/// Waits until the only comment on a server is as expected.
async fn until_comment(client: &Client, room: &str, what: &str, is: impl Fn(&Value) -> bool) -> Result<Value> {
    let last = parking_lot::Mutex::new(Value::Null);
    let seen = client.until(what, || async {
        let found = comments(client, room).await?;
        *last.lock() = json!(found);
        Ok(found.into_iter().find(|comment| is(comment)))
    });
    seen.await.with_context(|| format!("the comments are {}", last.lock()))
}

/// A document of alice on the first server; bob comments and carol reads on the second.
async fn commented(world: &World) -> Result<(Client, Client, Client, String)> {
    let alice = world.user(0, "alice").await?;
    let (bob, carol) = (world.user(1, "bob").await?, world.user(1, "carol").await?);
    let room = alice.create_document("Plan").await?;
    for (user, role) in [(&bob, "commenter"), (&carol, "viewer")] {
        alice.give_role(&room, &user.user, role).await?;
        user.accept_invitation(&room).await?;
    }
    Ok((alice, bob, carol, room))
}

/// Bob may not edit, and carol may not comment.
async fn check_roles(bob: &Client, carol: &Client, room: &str, id: &str) -> Result<()> {
    let changes = json!({"changes": [{"type": "append", "text": "x"}], "clientVersion": 0});
    let refused = ask(bob, Method::PATCH, room, "/edit", Some(changes)).await?;
    assert_eq!(refused.status, StatusCode::FORBIDDEN, "{refused:?}");
    for (path, body) in [
        ("/comments".to_owned(), json!({"body": "no", "from": 0, "to": 1})),
        (format!("/comments/{}/replies", segment(id)), json!({"body": "no"})),
        (format!("/comments/{}/resolve", segment(id)), json!({})),
    ] {
        let refused = ask(carol, Method::POST, room, &path, Some(body)).await?;
        assert_eq!(refused.status, StatusCode::FORBIDDEN, "{path}: {refused:?}");
    }
    Ok(())
}

/// The texts of a thread, read in pages of four.
async fn all_replies(client: &Client, room: &str, id: &str) -> Result<Vec<String>> {
    let (mut bodies, mut from) = (Vec::new(), String::new());
    loop {
        let path = format!("/comments/{}?limit=4{from}", segment(id));
        let page = ask(client, Method::GET, room, &path, None).await?.ok()?;
        assert_eq!(page["comment"]["eventId"], json!(id));
        let replies = page["replies"].as_array().context("no replies")?;
        ensure!(replies.len() <= 4, "{page}");
        bodies.extend(replies.iter().map(|reply| reply["body"].as_str().unwrap().to_owned()));
        match page["nextPage"].as_str() {
            Some(next) => from = format!("&from={next}"),
            None => return Ok(bodies),
        }
    }
}

async fn check_refusals(client: &Client, room: &str) -> Result<()> {
    for (body, errcode) in [
        (json!({"body": "", "from": 0, "to": 1}), "M_INVALID_PARAM"),
        (json!({"body": "x", "from": 0}), "M_INVALID_PARAM"),
        (
            json!({"body": "x", "in": {"path": [1]}, "from": 2, "to": 2}),
            "M_INVALID_PARAM",
        ),
        (
            json!({"body": "x", "in": {"path": [9]}, "from": 0, "to": 1}),
            "M_INVALID_PARAM",
        ),
        (
            json!({"body": "x", "in": {"path": [1]}, "from": 0, "to": 1, "clientVersion": 99}),
            "DEV_WEFT_UNKNOWN_VERSION",
        ),
        (json!({"from": 0, "to": 1}), "M_MISSING_PARAM"),
    ] {
        let refused = ask(client, Method::POST, room, "/comments", Some(body.clone())).await?;
        assert_eq!(refused.errcode(), errcode, "{body}: {refused:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_comment_of_a_commenter_moves_with_the_text_on_both_servers_and_keeps_its_quote() -> Result<()> {
    let world = World::new(2).await?;
    let (alice, bob, carol, room) = commented(&world).await?;
    edit(
        &alice,
        &room,
        json!([{"type": "insert", "at": 0, "text": "The quick fox"}]),
    )
    .await?;
    bob.until("the text", || async {
        let text = bob
            .of_document(Method::GET, &room, "?format=text", &[], Vec::new())
            .await?;
        Ok((text.text().await? == "The quick fox").then_some(()))
    })
    .await?;
    let version = ask(&bob, Method::GET, &room, "", None).await?.ok()?["version"].clone();
    // Others write meanwhile: the positions are those of the version.
    edit(&alice, &room, json!([{"type": "insert", "at": 0, "text": "Look! "}])).await?;
    bob.until("the newer text", || async {
        let document = ask(&bob, Method::GET, &room, "", None).await?.ok()?;
        Ok((document["version"] != version).then_some(()))
    })
    .await?;
    let made = comment(
        &bob,
        &room,
        json!({"body": "Is it <quick>?", "from": 4, "to": 9, "clientVersion": version}),
    )
    .await?;
    let id = made["eventId"].as_str().context("no id")?.to_owned();
    assert_eq!(
        (&made["quote"], &made["range"], &made["orphaned"], &made["resolved"]),
        (
            &json!("quick"),
            &json!({"from": 10, "to": 15}),
            &json!(false),
            &json!(false)
        ),
        "{made}"
    );
    let seen = until_comment(&alice, &room, "the comment", |_| true).await?;
    assert_eq!(
        (&seen["range"], &seen["author"]),
        (&made["range"], &json!(bob.user)),
        "{seen}"
    );
    // A stock client shows the text with the quotation.
    let event = alice
        .get(&Client::in_room(&room, &format!("event/{}", segment(&id))))
        .await?;
    assert_eq!(event["content"]["body"], "Is it <quick>?");
    assert_eq!(
        event["content"]["formatted_body"],
        "<blockquote>quick</blockquote>Is it &lt;quick&gt;?"
    );
    check_roles(&bob, &carol, &room, &id).await?;
    assert_eq!(comments(&carol, &room).await?.len(), 1);
    edit(&alice, &room, json!([{"type": "delete", "at": 9, "length": 7}])).await?;
    for client in [&alice, &bob] {
        let gone = until_comment(client, &room, "the orphan", |one| one["orphaned"] == true).await?;
        assert_eq!(gone["quote"], "quick");
        ensure!(gone.get("range").is_none(), "{gone}");
    }
    Ok(())
}

#[tokio::test]
async fn replies_mentions_edits_and_redactions_are_seen_on_both_servers() -> Result<()> {
    let world = World::new(2).await?;
    let (alice, bob, _, room) = commented(&world).await?;
    edit(&alice, &room, json!([{"type": "insert", "at": 0, "text": "abc"}])).await?;
    let made = comment(&alice, &room, json!({"body": "First", "from": 0, "to": 3})).await?;
    let id = made["eventId"].as_str().context("no id")?.to_owned();
    let chat = alice.say(&room, "just chat").await?;
    let relation = json!({"rel_type": "m.thread", "event_id": chat});
    let content = json!({"msgtype": "m.text", "body": "a thread of chat", "m.relates_to": relation});
    alice.try_send(&room, "m.room.message", content).await?.ok()?;
    until_comment(&bob, &room, "the comment", |_| true).await?;
    let key = json!({"body": "Second", "mentions": [alice.user]});
    let sent = on_comment(&bob, &room, &id, "/replies", Some(key)).await?.ok()?;
    let reply = sent["messageId"].as_str().context("no id")?.to_owned();
    let seen = until_comment(&alice, &room, "the reply", |one| one["replies"] == 1).await?;
    assert_eq!(seen["lastReply"]["body"], "Second", "{seen}");
    assert_eq!(seen["unread"], json!({"notifications": 1, "highlights": 1}), "{seen}");
    // As in a stock client: the mention is counted in the thread.
    let filter = segment(r#"{"room":{"timeline":{"unread_thread_notifications":true}}}"#);
    let sync = alice
        .get(&format!("/_matrix/client/v3/sync?timeout=0&filter={filter}"))
        .await?;
    let counts = &sync["rooms"]["join"][&room]["unread_thread_notifications"][&id];
    assert_eq!(counts["highlight_count"], 1, "{counts}");
    // Edits, as stock clients make them.
    for (client, event, text) in [(&alice, &id, "First, better"), (&bob, &reply, "Second, better")] {
        let content = json!({
            "msgtype": "m.text", "body": format!("* {text}"),
            "m.new_content": {"msgtype": "m.text", "body": text},
            "m.relates_to": {"rel_type": "m.replace", "event_id": event},
        });
        client.try_send(&room, "m.room.message", content).await?.ok()?;
    }
    for client in [&alice, &bob] {
        let seen = until_comment(client, &room, "the edits", |one| {
            one["body"] == "First, better" && one["lastReply"]["body"] == "Second, better"
        })
        .await?;
        ensure!(
            seen["editedAt"].is_u64() && seen["lastReply"]["editedAt"].is_u64(),
            "{seen}"
        );
    }
    for number in 0..5 {
        let body = json!({"body": format!("more {number}")});
        on_comment(&alice, &room, &id, "/replies", Some(body)).await?.ok()?;
    }
    let bodies = all_replies(&alice, &room, &id).await?;
    assert_eq!(
        bodies,
        ["more 4", "more 3", "more 2", "more 1", "more 0", "Second, better"]
    );
    let path = Client::in_room(&room, &format!("redact/{}/r1", segment(&id)));
    alice.put(&path, json!({})).await?;
    for client in [&alice, &bob] {
        let seen = until_comment(client, &room, "the redaction", |one| one["redacted"] == true).await?;
        assert_eq!(
            (&seen["eventId"], &seen["orphaned"]),
            (&json!(id), &json!(true)),
            "{seen}"
        );
        ensure!(seen.get("body").is_none(), "{seen}");
        assert_eq!(comments(client, &room).await?.len(), 1, "the thread of chat is none");
    }
    Ok(())
}

#[tokio::test]
async fn decisions_of_two_servers_give_one_state_on_both() -> Result<()> {
    let world = World::with_links(2, "").await?;
    let (alice, bob, _, room) = commented(&world).await?;
    edit(&alice, &room, json!([{"type": "insert", "at": 0, "text": "abc"}])).await?;
    let made = comment(&alice, &room, json!({"body": "Check", "from": 0, "to": 3})).await?;
    let id = made["eventId"].as_str().context("no id")?.to_owned();
    until_comment(&bob, &room, "the comment", |_| true).await?;
    let resolved = on_comment(&bob, &room, &id, "/resolve", None).await?.ok()?;
    assert_eq!(resolved["resolved"], true);
    let again = on_comment(&bob, &room, &id, "/resolve", None).await?.ok()?;
    assert_eq!(again, resolved, "one event is enough");
    let seen = until_comment(&alice, &room, "the decision", |one| one["resolved"] == true).await?;
    assert_eq!(seen["resolvedBy"], json!(bob.user));
    for (query, count) in [("?resolved=true", 1), ("?resolved=false", 0), ("?limit=1", 1)] {
        let list = ask(&alice, Method::GET, &room, &format!("/comments{query}"), None)
            .await?
            .ok()?;
        assert_eq!(list["comments"].as_array().unwrap().len(), count, "{query}");
    }
    // Both decide while the servers do not reach each other; each replaces what it had.
    world.cut();
    on_comment(&alice, &room, &id, "/reopen", None).await?.ok()?;
    on_comment(&bob, &room, &id, "/reopen", None).await?.ok()?;
    on_comment(&bob, &room, &id, "/resolve", None).await?.ok()?;
    world.heal();
    // A message of each shows that everything arrived.
    for (from, to) in [(&alice, &bob), (&bob, &alice)] {
        let word = format!("done {}", from.user);
        from.say(&room, &word).await?;
        to.until(&word, || async {
            Ok(to.messages(&room).await?.contains(&word).then_some(()))
        })
        .await?;
    }
    let states = |one: &Value| {
        (
            one["resolved"].clone(),
            one["resolvedBy"].clone(),
            one["resolvedAt"].clone(),
        )
    };
    let here = until_comment(&alice, &room, "the comment", |_| true).await?;
    let there = until_comment(&bob, &room, "the comment", |_| true).await?;
    assert_eq!(states(&here), states(&there));
    // The next decision replaces both.
    on_comment(&alice, &room, &id, "/resolve", None).await?.ok()?;
    on_comment(&alice, &room, &id, "/reopen", None).await?.ok()?;
    until_comment(&bob, &room, "the last decision", |one| {
        one["resolved"] == false && one["resolvedBy"] == json!(alice.user)
    })
    .await?;
    Ok(())
}

#[tokio::test]
async fn comments_are_on_blocks_ranges_of_blocks_and_the_whole_document() -> Result<()> {
    let world = World::new(1).await?;
    let alice = world.user(0, "alice").await?;
    let create = json!({"title": "Rich", "kind": "rich_text"});
    let made = alice.post("/_weft/client/v1/documents", create).await?;
    let room = made["docId"].as_str().context("no id")?.to_owned();
    edit(
        &alice,
        &room,
        json!([{"type": "append", "text": "one"}, {"type": "append", "text": "two three"}]),
    )
    .await?;
    let place = json!({"path": [1]});
    comment(&alice, &room, json!({"body": "range", "in": place, "from": 4, "to": 9})).await?;
    comment(&alice, &room, json!({"body": "block", "in": {"path": [0]}})).await?;
    let whole = comment(&alice, &room, json!({"body": "all of it"})).await?;
    assert_eq!(
        (&whole["orphaned"], whole.get("range")),
        (&json!(false), None),
        "{whole}"
    );
    edit(
        &alice,
        &room,
        json!([{"type": "insertBlock", "path": [0], "node": {"type": "paragraph"}}]),
    )
    .await?;
    let found: Vec<(Value, Value, Value)> = comments(&alice, &room)
        .await?
        .into_iter()
        .map(|one| (one["body"].clone(), one["range"].clone(), one["quote"].clone()))
        .collect();
    assert_eq!(
        found,
        [
            (json!("all of it"), Value::Null, json!("")),
            (json!("block"), json!({"in": {"path": [1]}}), json!("one")),
            (
                json!("range"),
                json!({"in": {"path": [2]}, "from": 4, "to": 9}),
                json!("three")
            ),
        ]
    );
    check_refusals(&alice, &room).await?;
    // A chat message is no comment; a malformed anchor makes none.
    let chat = alice.say(&room, "chat").await?;
    let missing = on_comment(&alice, &room, &chat, "", None).await?;
    assert_eq!(missing.status, StatusCode::NOT_FOUND);
    let content = json!({"msgtype": "m.text", "body": "x", "dev.weft.anchor": {"from": {}, "to": {}}});
    alice.try_send(&room, "m.room.message", content).await?.ok()?;
    assert_eq!(comments(&alice, &room).await?.len(), 3);
    // Pages.
    let first = ask(&alice, Method::GET, &room, "/comments?limit=2", None).await?.ok()?;
    let next = first["nextPage"].as_str().context("no page")?;
    let second = ask(
        &alice,
        Method::GET,
        &room,
        &format!("/comments?limit=2&from={next}"),
        None,
    )
    .await?
    .ok()?;
    let count = |page: &Value| page["comments"].as_array().map(Vec::len);
    assert_eq!((count(&first), count(&second)), (Some(2), Some(1)));
    assert_eq!(second["comments"][0]["body"], "range");
    Ok(())
}

#[tokio::test]
async fn anchors_of_stock_yjs_and_of_the_server_mean_the_same() -> Result<()> {
    let world = World::new(1).await?;
    let alice = world.user(0, "alice").await?;
    let room = alice.create_document("Plan").await?;
    edit(
        &alice,
        &room,
        json!([{"type": "insert", "at": 0, "text": "The quick \u{1f600} fox"}]),
    )
    .await?;
    let editors = Editors::start(&world.authority).await?;
    let editor = editors.open("alice", Provider::Plain, &alice, &room).await?;
    editor.until_text("The quick \u{1f600} fox").await?;
    // The end of the text has no block.
    for (from, to, assoc) in [(4, 9, -1), (4, 9, 0), (10, 12, -1), (0, 16, 0)] {
        let anchor = json!({
            "from": editor.relative(from, 0).await?, "to": editor.relative(to, assoc).await?, "quote": "of the client"
        });
        let content = json!({"msgtype": "m.text", "body": "by a client", "dev.weft.anchor": anchor});
        alice.try_send(&room, "m.room.message", content).await?.ok()?;
        let newest = comments(&alice, &room).await?.remove(0);
        assert_eq!(newest["range"], json!({"from": from, "to": to}), "{anchor}");
    }
    let made = comment(&alice, &room, json!({"body": "by the server", "from": 10, "to": 12})).await?;
    let id = made["eventId"].as_str().context("no id")?;
    let event = alice
        .get(&Client::in_room(&room, &format!("event/{}", segment(id))))
        .await?;
    let anchor = &event["content"]["dev.weft.anchor"];
    for shift in [0, 3] {
        assert_eq!(editor.absolute(&anchor["from"]).await?, 10 + shift, "{anchor}");
        assert_eq!(editor.absolute(&anchor["to"]).await?, 12 + shift, "{anchor}");
        edit(&alice, &room, json!([{"type": "insert", "at": 0, "text": "abc"}])).await?;
        editor.until_length(usize::try_from(16 + shift + 3)?).await?;
    }
    Ok(())
}

/// What a user has not read of a document, as lists of documents show it.
async fn unread(client: &Client, room: &str) -> Result<Value> {
    let list = client.get("/_weft/client/v1/documents?unread=true").await?;
    let documents = list["documents"].as_array().context("no documents")?;
    let document = documents.iter().find(|document| document["docId"] == room);
    Ok(document.context("the document is not listed")?["unread"].clone())
}

#[tokio::test]
async fn mentions_in_chat_and_comments_notify_on_the_other_server_until_they_are_read() -> Result<()> {
    let world = World::new(2).await?;
    let (alice, bob, carol, room) = commented(&world).await?;
    let until_unread = async |client: &Client, expected: Value| {
        let is_so = || async { Ok((unread(client, &room).await? == expected).then_some(())) };
        client.until(&format!("{expected}"), is_so).await
    };
    let chat = async |body: Value| ask(&alice, Method::POST, &room, "/chat", Some(body)).await;
    chat(json!({"message": "To all"})).await?.ok()?;
    let said = chat(json!({"message": "To you", "mentions": [bob.user]})).await?.ok()?;
    let many: Vec<String> = (0..101).map(|number| format!("@user-{number}:a.example")).collect();
    let refused = chat(json!({"message": "To many", "mentions": many})).await?;
    assert_eq!(refused.status, StatusCode::PAYLOAD_TOO_LARGE);
    let mentioned = comment(&alice, &room, json!({"body": "A remark", "mentions": [bob.user]})).await?;
    let event = said["messageId"].as_str().context("no id")?;
    let relation = json!({"rel_type": "m.annotation", "event_id": event, "key": "+"});
    alice
        .try_send(&room, "m.reaction", json!({"m.relates_to": relation}))
        .await?
        .ok()?;
    until_unread(&bob, json!({"notifications": 3, "highlights": 2})).await?;
    until_unread(&carol, json!({"notifications": 3, "highlights": 0})).await?;
    let highlights = bob.get("/_matrix/client/v3/notifications?only=highlight").await?;
    let highlights = highlights["notifications"].as_array().context("no notifications")?;
    let mut ids: Vec<&Value> = highlights.iter().map(|one| &one["event"]["event_id"]).collect();
    ids.sort_by_key(ToString::to_string);
    let mut expected = [&said["messageId"], &mentioned["eventId"]];
    expected.sort_by_key(ToString::to_string);
    assert_eq!(ids, expected);
    assert!(
        highlights
            .iter()
            .all(|one| one["room_id"] == room && one["read"] == false)
    );
    // The newest event that bob has: everything before it is read.
    let newest = bob.get(&Client::in_room(&room, "messages?dir=b&limit=1")).await?;
    let newest = newest["chunk"][0]["event_id"].as_str().context("no events")?;
    let receipt = Client::in_room(&room, &format!("receipt/m.read/{}", segment(newest)));
    bob.post(&receipt, json!({})).await?;
    until_unread(&bob, json!({"notifications": 0, "highlights": 0})).await?;
    let left = bob.get("/_matrix/client/v3/notifications").await?;
    assert_eq!(left["notifications"], json!([]));
    until_unread(&carol, json!({"notifications": 3, "highlights": 0})).await
}
