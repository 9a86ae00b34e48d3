//! Creating, listing, showing and renaming documents.

use serde_json::{Value, json};

use crate::world::World;

#[tokio::test]
async fn a_document_is_created_shown_listed_and_renamed() {
    let world = World::new().await;
    let alice = world.person("alice").await;
    let (status, created) = world
        .request(
            &alice,
            "POST",
            "/documents",
            Some(json!({"title": "Plans", "kind": "rich_text"})),
        )
        .await;
    assert_eq!(status, 201);
    let doc = created["docId"].as_str().unwrap();
    assert!(created["createdAt"].as_u64().unwrap() > 1_600_000_000_000);
    let shown = world.get(&alice, &format!("/documents/{doc}")).await;
    assert_eq!(shown["title"], "Plans");
    assert_eq!(shown["kind"], "rich_text");
    assert_eq!(shown["ownerId"], alice.user.as_str());
    assert_eq!(shown["role"], "owner");
    assert_eq!(shown["createdAt"], created["createdAt"]);
    let (status, renamed) = world
        .request(
            &alice,
            "PATCH",
            &format!("/documents/{doc}"),
            Some(json!({"title": "New plans"})),
        )
        .await;
    assert_eq!((status, &renamed["title"]), (200, &json!("New plans")));
    assert_eq!(renamed["version"], shown["version"], "a title is not part of the text");
    let list = world.get(&alice, "/documents").await;
    assert_eq!(list, json!({"documents": [renamed], "invites": []}));
}

#[tokio::test]
async fn the_owner_is_the_caller_and_invalid_requests_have_errors() {
    let world = World::new().await;
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    for (body, status, errcode) in [
        (json!({"kind": "text", "ownerId": bob.user}), 403, "M_FORBIDDEN"),
        (json!({"title": "no kind"}), 400, "M_MISSING_PARAM"),
        (json!({"kind": "spreadsheet"}), 400, "M_BAD_JSON"),
        (json!({"kind": "text", "title": "x".repeat(1_025)}), 413, "M_TOO_LARGE"),
        (json!({"kind": "text", "title": "two\nlines"}), 400, "M_INVALID_PARAM"),
        (json!([]), 400, "M_BAD_JSON"),
    ] {
        let (got, answer) = world.request(&alice, "POST", "/documents", Some(body.clone())).await;
        assert_eq!(
            (got, answer["errcode"].as_str()),
            (status, Some(errcode)),
            "{body}: {answer}"
        );
    }
    let own = json!({"kind": "canvas", "ownerId": alice.user});
    assert_eq!(world.request(&alice, "POST", "/documents", Some(own)).await.0, 201);
    let (status, answer) = world.request(&alice, "DELETE", "/documents", None).await;
    assert_eq!((status, answer["errcode"].as_str()), (405, Some("M_UNRECOGNIZED")));
}

#[tokio::test]
async fn a_document_is_hidden_from_non_members() {
    let world = World::new().await;
    let (alice, mallory) = (world.person("alice").await, world.person("mallory").await);
    let doc = world.create(&alice, "Private").await;
    for (method, path, body) in [
        ("GET", format!("/documents/{doc}"), None),
        ("GET", format!("/documents/{doc}/content"), None),
        ("GET", format!("/documents/{doc}/members"), None),
        ("PATCH", format!("/documents/{doc}"), Some(json!({"title": "Mine"}))),
        (
            "PUT",
            format!("/documents/{doc}/members/{}", mallory.user),
            Some(json!({"role": "owner"})),
        ),
        ("DELETE", format!("/documents/{doc}/members/{}", alice.user), None),
        ("GET", "/documents/!nowhere:alpha.example".to_owned(), None),
        ("GET", "/documents/%23nothing:alpha.example".to_owned(), None),
    ] {
        let (status, answer) = world.request(&mallory, method, &path, body).await;
        assert_eq!(
            (status, answer["errcode"].as_str()),
            (404, Some("M_NOT_FOUND")),
            "{method} {path}"
        );
    }
    assert_eq!(
        world.get(&mallory, "/documents").await,
        json!({"documents": [], "invites": []})
    );
    let (status, _) = world.request(&mallory, "GET", "/documents/nonsense", None).await;
    assert_eq!(status, 400);
}

#[tokio::test]
async fn content_has_all_acknowledged_edits() {
    let world = World::new().await;
    let alice = world.person("alice").await;
    let doc = world.create(&alice, "Text").await;
    let empty = world.get(&alice, &format!("/documents/{doc}/content")).await;
    assert_eq!(empty, json!([0, 0]));
    let update: &[u8] = &[1, 1, 1, 0, 4, 1, 4, b'b', b'o', b'd', b'y', 1, b'a', 0];
    let edit = weft_room_api::Edit {
        user: alice.user.clone(),
        session: weft_room_api::ConnectionId::new(weft_room_api::Incarnation(1), 1),
        update: update.to_vec().into(),
    };
    world
        .rooms
        .edit(&ruma::RoomId::parse(&doc).unwrap(), edit)
        .await
        .unwrap();
    let content: Value = world.get(&alice, &format!("/documents/{doc}/content")).await;
    assert_eq!(content, json!(update));
}

#[tokio::test]
async fn a_list_has_pages_filters_and_an_order() {
    let world = World::new().await;
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    for title in ["Beta", "alpha", "Gamma"] {
        world.create(&alice, title).await;
    }
    let of_bob = world.create(&bob, "Delta").await;
    world.give(&bob, &of_bob, &alice.user, "viewer").await;
    let titles = |list: &Value| -> Vec<String> {
        let documents = list["documents"].as_array().unwrap();
        documents
            .iter()
            .map(|document| document["title"].as_str().unwrap().to_owned())
            .collect()
    };
    let first = world.get(&alice, "/documents?sort=title&limit=2").await;
    assert_eq!(
        (titles(&first), first["invites"].as_array().unwrap().len()),
        (vec!["alpha".to_owned(), "Beta".to_owned()], 1)
    );
    let next = first["nextPage"].as_str().unwrap();
    let second = world
        .get(&alice, &format!("/documents?sort=title&limit=2&from={next}"))
        .await;
    assert_eq!(
        (titles(&second), &second["invites"], second.get("nextPage")),
        (vec!["Gamma".to_owned()], &json!([]), None)
    );

    world.join(&of_bob, &alice).await;
    assert_eq!(titles(&world.get(&alice, "/documents?filter=shared").await), ["Delta"]);
    assert_eq!(
        titles(&world.get(&alice, "/documents?filter=mine&search=ALPH").await),
        ["alpha"]
    );
    for query in ["?limit=0", "?limit=x", "?sort=size", "?from=!", "?kind=spreadsheet"] {
        let (status, answer) = world.request(&alice, "GET", &format!("/documents{query}"), None).await;
        assert_eq!(
            (status, answer["errcode"].as_str()),
            (400, Some("M_INVALID_PARAM")),
            "{query}"
        );
    }
}
