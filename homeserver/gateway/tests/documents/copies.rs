//! Copies of documents, templates, the bin, and numbers of unread events in lists.

use serde_json::{Value, json};

use crate::world::{Person, Sent, World};

async fn write(world: &World, person: &Person, doc: &str, text: &str) -> (u16, Value) {
    let version = world.get(person, &format!("/documents/{doc}")).await["version"].clone();
    let body = json!({"changes": [{"type": "append", "text": text}], "clientVersion": version});
    world
        .request(person, "PATCH", &format!("/documents/{doc}/edit"), Some(body))
        .await
}

async fn text(world: &World, person: &Person, doc: &str) -> String {
    let path = format!("/documents/{doc}?format=text");
    let answer = world.ask(Some(&person.token), "GET", &path, None).await;
    String::from_utf8(answer.body).unwrap()
}

/// A POST with a key.
async fn keyed(world: &World, person: &Person, path: &str, key: &str, body: Value) -> (u16, Value) {
    let sent = Sent {
        token: Some(&person.token),
        headers: &[("idempotency-key", key)],
        body: Some(body.to_string().into_bytes()),
    };
    let answer = world.call("POST", path, sent).await;
    (answer.status, serde_json::from_slice(&answer.body).unwrap())
}

async fn listed(world: &World, person: &Person, query: &str) -> Vec<String> {
    let list = world.get(person, &format!("/documents?sort=title&{query}")).await;
    let documents = list["documents"].as_array().unwrap().iter();
    documents
        .map(|document| document["title"].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn a_copy_has_the_content_and_not_the_members_or_messages() {
    let world = World::new().await;
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let doc = world.create(&alice, "Plan").await;
    write(&world, &alice, &doc, "one two").await;
    world.give(&alice, &doc, &bob.user, "viewer").await;
    world.join(&doc, &bob).await;
    let path = format!("/documents/{doc}/duplicate");
    let (status, copy) = world.request(&bob, "POST", &path, Some(json!({}))).await;
    assert_eq!((status, &copy["version"]), (201, &json!(1)), "{copy}");
    let copy = copy["docId"].as_str().unwrap();
    assert_ne!(copy, doc);
    assert_eq!(text(&world, &bob, copy).await, "one two");
    let shown = world.get(&bob, &format!("/documents/{copy}")).await;
    assert_eq!((&shown["title"], &shown["role"]), (&json!("Plan"), &json!("owner")));
    let members = world.get(&bob, &format!("/documents/{copy}/members")).await;
    assert_eq!(members["members"].as_array().unwrap().len(), 1);
    // They are two documents from then on.
    assert_eq!(write(&world, &bob, copy, " three").await.0, 200);
    assert_eq!(text(&world, &alice, &doc).await, "one two");

    let mallory = world.person("mallory").await;
    let (status, answer) = world.request(&mallory, "POST", &path, Some(json!({}))).await;
    assert_eq!((status, answer["errcode"].as_str()), (404, Some("M_NOT_FOUND")));
}

#[tokio::test]
async fn a_repeated_request_with_a_key_creates_no_second_document() {
    let world = World::new().await;
    let alice = world.person("alice").await;
    let new = json!({"title": "Once", "kind": "text"});
    let (first, again) = futures_util::future::join(
        keyed(&world, &alice, "/documents", "a", new.clone()),
        keyed(&world, &alice, "/documents", "a", new.clone()),
    )
    .await;
    assert_eq!((first.0, &first.1), (201, &again.1));
    let doc = first.1["docId"].as_str().unwrap();
    write(&world, &alice, doc, "text").await;
    let path = format!("/documents/{doc}/duplicate");
    let copy = keyed(&world, &alice, &path, "b", json!({"title": "Copy"})).await;
    write(&world, &alice, doc, " and more").await;
    let same = keyed(&world, &alice, &path, "b", json!({"title": "Copy"})).await;
    assert_eq!(copy, same);
    assert_eq!(text(&world, &alice, copy.1["docId"].as_str().unwrap()).await, "text");
    assert_eq!(listed(&world, &alice, "").await, ["Copy", "Once"]);

    let (status, answer) = keyed(&world, &alice, &path, "a", json!({})).await;
    assert_eq!((status, answer["errcode"].as_str()), (422, Some("DEV_WEFT_KEY_REUSED")));
    // Keys are of one user.
    let bob = world.person("bob").await;
    let of_bob = keyed(&world, &bob, "/documents", "a", new.clone()).await;
    assert_ne!(of_bob.1["docId"], first.1["docId"]);
    let restarted = world.restarted().await;
    assert_eq!(keyed(&restarted, &alice, "/documents", "a", new).await, first);
}

#[tokio::test]
async fn the_bin_hides_a_document_until_its_owner_restores_it() {
    let world = World::new().await;
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let doc = world.create(&alice, "Old").await;
    world.create(&alice, "New").await;
    world.give(&alice, &doc, &bob.user, "editor").await;
    world.join(&doc, &bob).await;
    let path = format!("/documents/{doc}");
    let (status, deleted) = world.request(&alice, "DELETE", &path, None).await;
    let since = deleted["inBinSince"].clone();
    assert!(status == 200 && since.is_u64(), "{deleted}");
    // The time does not change when it is done again.
    assert_eq!(world.request(&alice, "DELETE", &path, None).await.1, deleted);
    assert_eq!(listed(&world, &alice, "").await, ["New"]);
    assert_eq!(listed(&world, &alice, "bin=true").await, ["Old"]);
    assert_eq!(listed(&world, &bob, "").await, [""; 0]);
    let (status, answer) = write(&world, &bob, &doc, "late").await;
    assert_eq!(
        (status, &answer["errcode"], &answer["inBinSince"]),
        (409, &json!("DEV_WEFT_IN_BIN"), &since)
    );
    let undelete = format!("/documents/{doc}/undelete");
    assert_eq!(world.request(&bob, "POST", &undelete, None).await.0, 403);
    let (status, shown) = world.request(&alice, "POST", &undelete, None).await;
    assert_eq!((status, shown.get("inBinSince")), (200, None));
    assert_eq!(listed(&world, &bob, "").await, ["Old"]);
    assert_eq!(write(&world, &bob, &doc, "again").await.0, 200);

    // Who is no owner leaves.
    assert_eq!(world.request(&bob, "DELETE", &path, None).await, (200, json!({})));
    assert_eq!(world.request(&bob, "GET", &path, None).await.0, 404);
    assert_eq!(text(&world, &alice, &doc).await, "again");
}

#[tokio::test]
async fn only_a_document_that_nobody_else_has_leaves_the_bin_with_time() {
    let world = World::new().await;
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let [alone, shared, invited, kept] = ["Alone", "Shared", "Invited", "Kept"];
    let mut documents = std::collections::BTreeMap::new();
    for title in [alone, shared, invited, kept] {
        documents.insert(title, world.create(&alice, title).await);
    }
    for title in [shared, invited] {
        world.give(&alice, &documents[title], &bob.user, "editor").await;
    }
    world.join(&documents[shared], &bob).await;
    let mut since = 0;
    for title in [alone, shared, invited] {
        let path = format!("/documents/{}", documents[title]);
        since = world.request(&alice, "DELETE", &path, None).await.1["inBinSince"]
            .as_u64()
            .unwrap();
    }
    let remove = |before| weft_gateway::documents::remove_expired(&world.ports, before);
    assert_eq!(remove(since - 60_000).await.unwrap(), 0);
    assert_eq!(remove(since + 1).await.unwrap(), 1);
    assert_eq!(remove(since + 1).await.unwrap(), 0);
    let mut left = listed(&world, &alice, "bin=true").await;
    left.sort();
    assert_eq!(left, ["Invited", "Shared"]);
    assert_eq!(listed(&world, &alice, "").await, ["Kept"]);
    let path = format!("/documents/{}", documents[alone]);
    assert_eq!(world.request(&alice, "GET", &path, None).await.0, 404);
    assert_eq!(listed(&world, &bob, "bin=true").await, ["Shared"]);

    // The other member leaves, and the invitation is withdrawn: then nobody else has them.
    let path = format!("/documents/{}", documents[shared]);
    assert_eq!(world.request(&bob, "DELETE", &path, None).await.0, 200);
    let path = format!("/documents/{}/members/{}", documents[invited], bob.user);
    assert_eq!(world.request(&alice, "DELETE", &path, None).await.0, 200);
    assert_eq!(remove(since + 1).await.unwrap(), 2);
}

#[tokio::test]
async fn templates_are_marked_by_managers_and_listed_apart() {
    let world = World::new().await;
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let doc = world.create(&alice, "Letter").await;
    world.create(&alice, "Note").await;
    world.give(&alice, &doc, &bob.user, "editor").await;
    world.join(&doc, &bob).await;
    let path = format!("/documents/{doc}/template");
    let (status, answer) = world.request(&bob, "PUT", &path, None).await;
    assert_eq!((status, answer["errcode"].as_str()), (403, Some("M_FORBIDDEN")));
    let (status, shown) = world.request(&alice, "PUT", &path, None).await;
    assert_eq!((status, &shown["template"]), (200, &json!(true)));
    assert_eq!(listed(&world, &bob, "template=true").await, ["Letter"]);
    assert_eq!(listed(&world, &alice, "template=false").await, ["Note"]);
    assert_eq!(listed(&world, &alice, "").await, ["Letter", "Note"]);
    let (_, shown) = world.request(&alice, "DELETE", &path, None).await;
    assert_eq!(shown.get("template"), None);
    assert_eq!(listed(&world, &bob, "template=true").await, [""; 0]);
}

#[tokio::test]
async fn a_list_has_numbers_of_unread_events_on_request() {
    let world = World::new().await;
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let doc = world.create(&alice, "Talk").await;
    world.give(&alice, &doc, &bob.user, "commenter").await;
    world.join(&doc, &bob).await;
    let chat = format!("/documents/{doc}/chat");
    for message in ["one", "two"] {
        let (status, _) = world
            .request(&alice, "POST", &chat, Some(json!({"message": message})))
            .await;
        assert_eq!(status, 201);
    }
    let unread = |list: Value| list["documents"][0].get("unread").cloned();
    assert_eq!(unread(world.get(&bob, "/documents").await), None);
    let counted = unread(world.get(&bob, "/documents?unread=true").await);
    assert_eq!(counted, Some(json!({"notifications": 2, "highlights": 0})));
    // The own message is read, and so is everything before it.
    world
        .request(&bob, "POST", &chat, Some(json!({"message": "three"})))
        .await;
    let counted = unread(world.get(&bob, "/documents?unread=true").await);
    assert_eq!(counted, Some(json!({"notifications": 0, "highlights": 0})));
}
