//! Search over HTTPS, on two servers with real render workers: scripts, places, rights at the time of the search, redactions, and
//! an index that is built again.
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
    client::{Client, segment},
    world::World,
};

async fn search(client: &Client, query: &str) -> Result<Vec<Value>> {
    let answer = client.get(&format!("/_weft/client/v1/search?{query}")).await?;
    Ok(answer["results"].as_array().context("no results")?.clone())
}

/// Waits until a query has this number of results.
async fn until_found(client: &Client, query: &str, count: usize) -> Result<Vec<Value>> {
    let found = || async {
        let results = search(client, query).await?;
        Ok((results.len() == count).then_some(results))
    };
    client.until(&format!("{count} results of {query}"), found).await
}

async fn write(client: &Client, room: &str, text: &str) -> Result<()> {
    let path = "/import?format=text";
    let sent = client
        .of_document(Method::POST, room, path, &[], text.as_bytes().to_vec())
        .await?;
    ensure!(sent.status() == StatusCode::OK, "{}", sent.text().await?);
    Ok(())
}

#[tokio::test]
async fn members_on_both_servers_find_what_they_may_read() -> Result<()> {
    let world = World::new(2).await?;
    let (alice, bob, room) = world.shared_document().await?;
    write(
        &alice,
        &room,
        "Protokoll über Äpfel\nПротокол заседания\n東京都の議事録\n회의록입니다",
    )
    .await?;
    let message = alice.say(&room, "Remember the agenda").await?;
    for client in [&alice, &bob] {
        for query in ["äpfel", "ПРОТОКОЛ", "東京", "議事録", "회의록", "protokoll 都"] {
            let results = until_found(client, &format!("q={}", segment(query)), 1).await?;
            assert_eq!(
                (&results[0]["docId"], &results[0]["in"], &results[0]["title"]),
                (&json!(room), &json!("text"), &json!("Shared plans")),
                "{query}"
            );
            assert!(!results[0]["matches"].as_array().unwrap().is_empty(), "{query}");
        }
        let results = until_found(client, "q=agenda", 1).await?;
        assert_eq!(
            (&results[0]["eventId"], &results[0]["in"], &results[0]["sender"]),
            (&json!(message), &json!("chat"), &json!(alice.user))
        );
        assert_eq!(results[0]["snippet"], "Remember the agenda");
        assert_eq!(until_found(client, "q=plans", 1).await?[0]["in"], "title");
        assert!(search(client, "q=plans&in=text,chat").await?.is_empty());
        assert!(search(client, "q=agenda%20missing").await?.is_empty());
    }
    // Who is in no document finds nothing, and who leaves one finds nothing more.
    let carol = world.user(1, "carol").await?;
    assert!(search(&carol, "q=agenda").await?.is_empty());
    alice
        .request(
            Method::DELETE,
            &format!(
                "/_weft/client/v1/documents/{}/members/{}",
                segment(&room),
                segment(&bob.user)
            ),
            None,
        )
        .await?
        .ok()?;
    until_found(&bob, "q=agenda", 0).await?;
    assert_eq!(search(&alice, "q=agenda").await?.len(), 1);

    let path = format!(
        "/_matrix/client/v3/rooms/{}/redact/{}/1",
        segment(&room),
        segment(&message)
    );
    alice.put(&path, json!({})).await?;
    assert!(
        search(&alice, "q=agenda").await?.is_empty(),
        "a redacted message is not shown"
    );
    Ok(())
}

#[tokio::test]
async fn malformed_searches_are_refused() -> Result<()> {
    let world = World::new(1).await?;
    let alice = world.user(0, "alice").await?;
    for query in [
        "q=",
        "q=%2B%2A",
        "q=a&limit=0",
        "q=a&limit=51",
        "q=a&from=1001",
        "q=a&in=everything",
    ] {
        let refused = alice
            .request(Method::GET, &format!("/_weft/client/v1/search?{query}"), None)
            .await?;
        assert_eq!(
            (refused.status, refused.errcode()),
            (StatusCode::BAD_REQUEST, "M_INVALID_PARAM"),
            "{query}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn edited_and_deleted_text_is_not_found_by_its_old_words() -> Result<()> {
    let world = World::new(1).await?;
    let alice = world.user(0, "alice").await?;
    let room = alice.create_document("Draft").await?;
    write(&alice, &room, "zebra crossing").await?;
    until_found(&alice, "q=zebra", 1).await?;
    let change = json!({"changes": [{"type": "replace", "search": "zebra", "text": "giraffe"}], "clientVersion": 1});
    let edited = alice
        .of_document(Method::PATCH, &room, "/edit", &[], change.to_string().into_bytes())
        .await?;
    assert_eq!(edited.status(), StatusCode::OK);
    until_found(&alice, "q=giraffe", 1).await?;
    assert!(search(&alice, "q=zebra").await?.is_empty());

    let message = alice.say(&room, "first wording").await?;
    until_found(&alice, "q=wording", 1).await?;
    let edit = json!({
        "msgtype": "m.text", "body": "* second phrase", "m.new_content": {"msgtype": "m.text", "body": "second phrase"},
        "m.relates_to": {"rel_type": "m.replace", "event_id": message},
    });
    ensure!(alice.try_send(&room, "m.room.message", edit).await?.status == StatusCode::OK);
    assert_eq!(until_found(&alice, "q=phrase", 1).await?[0]["eventId"], json!(message));
    assert!(search(&alice, "q=wording").await?.is_empty());

    let pages = alice.get("/_weft/client/v1/search?q=draft&limit=1").await?;
    assert_eq!(pages["results"].as_array().unwrap().len(), 1);
    Ok(())
}

#[tokio::test]
async fn the_index_continues_after_a_crash_and_is_built_again_on_request() -> Result<()> {
    let mut world = World::new(1).await?;
    let alice = world.user(0, "alice").await?;
    let room = alice.create_document("Ledger").await?;
    write(&alice, &room, "first entry").await?;
    alice.say(&room, "before the crash").await?;
    let server = world.servers.first_mut().context("no server")?;
    server.kill();
    server.boot().await?;
    for query in ["q=entry", "q=crash", "q=ledger"] {
        until_found(&alice, query, 1).await?;
    }
    let server = world.servers.first().context("no server")?;
    let built = || server.log().matches("the search index is built").count();
    let before = built();
    server.command(&["search-rebuild"])?;
    let is_built = || async { Ok((built() > before).then_some(())) };
    alice.until("a new index", is_built).await?;
    assert!(!server.data().join("search").join("rebuild").exists());
    for query in ["q=entry", "q=crash", "q=ledger"] {
        until_found(&alice, query, 1).await?;
    }
    Ok(())
}

/// `POST /_matrix/client/v3/search` for one page.
async fn matrix_search(client: &Client, criteria: Value, next_batch: Option<&str>) -> Result<Value> {
    let query = next_batch
        .map(|token| format!("?next_batch={token}"))
        .unwrap_or_default();
    let body = json!({"search_categories": {"room_events": criteria}});
    let answer = client.post(&format!("/_matrix/client/v3/search{query}"), body).await?;
    Ok(answer["search_categories"]["room_events"].clone())
}

/// The texts of the results of a page.
fn bodies(page: &Value) -> Vec<&str> {
    let results = page["results"].as_array().unwrap().iter();
    results
        .filter_map(|result| result["result"]["content"]["body"].as_str())
        .collect()
}

#[tokio::test]
async fn a_matrix_client_searches_messages_with_pages_filters_and_groups() -> Result<()> {
    let world = World::new(2).await?;
    let (alice, bob, room) = world.shared_document().await?;
    let other = alice.create_document("Other").await?;
    for number in 1..=5 {
        alice.say(&room, &format!("agenda item {number}")).await?;
    }
    let of_bob = bob.say(&room, "agenda agenda").await?;
    alice.say(&other, "a secret agenda").await?;
    let all = || async {
        let page = matrix_search(&alice, recent(50), None).await?;
        Ok((page["count"] == 7).then_some(page))
    };
    let all = alice.until("all messages", all).await?;
    let newest = [
        "a secret agenda",
        "agenda agenda",
        "agenda item 5",
        "agenda item 4",
        "agenda item 3",
        "agenda item 2",
        "agenda item 1",
    ];
    assert_eq!(
        (bodies(&all), &all["highlights"]),
        (newest.to_vec(), &json!(["agenda"]))
    );
    assert_eq!(all.get("next_batch"), None);

    in_pages(&alice, &newest).await?;
    with_filters(&alice, &bob, &room, &of_bob).await?;
    only_what_is_visible(&alice, &bob, &room, &of_bob).await
}

fn recent(limit: u64) -> Value {
    json!({"search_term": "Agenda", "order_by": "recent", "filter": {"limit": limit}})
}

async fn in_pages(alice: &Client, newest: &[&str]) -> Result<()> {
    let (mut found, mut token) = (Vec::new(), None);
    loop {
        let page = matrix_search(alice, recent(3), token.as_deref()).await?;
        found.extend(bodies(&page).into_iter().map(str::to_owned));
        token = page["next_batch"].as_str().map(str::to_owned);
        if token.is_none() {
            break;
        }
    }
    assert_eq!(found, newest);
    Ok(())
}

/// Filters, groups, context and state.
async fn with_filters(alice: &Client, bob: &Client, room: &str, of_bob: &str) -> Result<()> {
    let criteria = json!({
        "search_term": "agenda", "include_state": true, "filter": {"rooms": [room], "senders": [bob.user]},
        "event_context": {"before_limit": 2, "after_limit": 0, "include_profile": true},
        "groupings": {"group_by": [{"key": "room_id"}, {"key": "sender"}]},
    });
    let page = matrix_search(alice, criteria, None).await?;
    assert_eq!(bodies(&page), ["agenda agenda"]);
    let context = &page["results"][0]["context"];
    let before = context["events_before"].as_array().unwrap();
    assert_eq!(
        (before.len(), &before[0]["content"]["body"]),
        (2, &json!("agenda item 5"))
    );
    assert_eq!(context["events_after"], json!([]));
    ensure!(
        context["profile_info"][&alice.user]["displayname"].is_string(),
        "{context}"
    );
    for (key, value) in [("room_id", room), ("sender", &bob.user)] {
        assert_eq!(page["groups"][key][value], json!({"order": 1, "results": [of_bob]}));
    }
    let state = page["state"][room].as_array().context("no state")?;
    ensure!(state.iter().any(|event| event["type"] == "m.room.name"));

    Ok(())
}

/// Rights at the moment of the search, redactions, ignored users, and searches that are refused.
async fn only_what_is_visible(alice: &Client, bob: &Client, room: &str, of_bob: &str) -> Result<()> {
    let found = matrix_search(bob, recent(50), None).await?;
    ensure!(!bodies(&found).contains(&"a secret agenda"), "{found}");
    let path = format!(
        "/_matrix/client/v3/rooms/{}/redact/{}/1",
        segment(room),
        segment(of_bob)
    );
    bob.put(&path, json!({})).await?;
    let path = format!(
        "/_matrix/client/v3/user/{}/account_data/m.ignored_user_list",
        segment(&bob.user)
    );
    bob.put(&path, json!({"ignored_users": {&alice.user: {}}})).await?;
    assert_eq!(bodies(&matrix_search(bob, recent(50), None).await?), [""; 0]);
    for criteria in [
        json!({"search_term": ""}),
        json!({"search_term": "agenda", "keys": ["content.topic"]}),
    ] {
        assert_eq!(bodies(&matrix_search(alice, criteria, None).await?), [""; 0]);
    }
    let wrong = json!({"search_categories": {"room_events": {"search_term": "a"}}});
    let wrong = alice
        .request(Method::POST, "/_matrix/client/v3/search?next_batch=x", Some(wrong))
        .await?;
    assert_eq!(
        (wrong.status, wrong.errcode()),
        (StatusCode::BAD_REQUEST, "M_INVALID_PARAM")
    );
    let long = json!({"search_categories": {"room_events": {"search_term": "a".repeat(501)}}});
    let long = alice
        .request(Method::POST, "/_matrix/client/v3/search", Some(long))
        .await?;
    assert_eq!(long.status, StatusCode::BAD_REQUEST);
    Ok(())
}
