//! Locks and approvals: who may, what is refused meanwhile, and which text they are about.

use serde_json::{Value, json};

use crate::world::{Person, World};

async fn edit(world: &World, person: &Person, doc: &str, version: u64) -> (u16, Value) {
    let change = json!({"type": "insert", "at": 0, "text": "a"});
    let body = json!({"changes": [change], "clientVersion": version});
    let path = format!("/documents/{doc}/edit");
    world.request(person, "PATCH", &path, Some(body)).await
}

/// A document of alice with one letter, a manager, an editor, a commenter and a viewer.
async fn shared(world: &World) -> (String, Person, [Person; 4]) {
    let alice = world.person("alice").await;
    let doc = world.create(&alice, "Shared").await;
    let roles = ["manager", "editor", "commenter", "viewer"];
    let mut people = Vec::new();
    for role in roles {
        let person = world.person(role).await;
        assert_eq!(world.give(&alice, &doc, &person.user, role).await.0, 200);
        world.join(&doc, &person).await;
        people.push(person);
    }
    assert_eq!(edit(world, &alice, &doc, 0).await.0, 200);
    (doc, alice, people.try_into().unwrap_or_else(|_| panic!("four people")))
}

async fn put(world: &World, person: &Person, doc: &str, body: Value) -> (u16, Value) {
    let path = format!("/documents/{doc}/lock");
    world.request(person, "PUT", &path, Some(body)).await
}

async fn approve(world: &World, person: &Person, doc: &str, body: Value) -> (u16, Value) {
    let path = format!("/documents/{doc}/approvals");
    world.request(person, "POST", &path, Some(body)).await
}

/// No request changes the text, which has version 1.
async fn assert_no_edit(world: &World, person: &Person, doc: &str) {
    let update = weft_testkit::Editor::new(99).insert(0, "b");
    let restore = Some(json!({"at": 0}));
    for (status, answer) in [
        edit(world, person, doc, 1).await,
        world
            .send_bytes(person, &format!("/documents/{doc}/updates"), &update)
            .await,
        world
            .request(person, "POST", &format!("/documents/{doc}/restore"), restore)
            .await,
    ] {
        assert_eq!(
            (status, &answer["errcode"]),
            (403, &json!("DEV_WEFT_LOCKED")),
            "{}",
            person.user
        );
    }
}

/// The users of a list of approvals, and whether each approved the present text.
fn present(list: &Value) -> Vec<(Value, Value)> {
    let approvals = list["approvals"].as_array().unwrap().iter();
    let mut found: Vec<_> = approvals
        .map(|one| (one["userId"].clone(), one["isPresentText"].clone()))
        .collect();
    found.sort_by_key(|one| one.0.to_string());
    found
}

#[tokio::test]
async fn nobody_edits_a_locked_document_until_a_manager_unlocks_it() {
    let world = World::new().await;
    let (doc, alice, [manager, editor, commenter, viewer]) = shared(&world).await;
    let path = format!("/documents/{doc}/lock");
    assert_eq!(world.get(&viewer, &path).await, json!({"locked": false}));
    for person in [&editor, &commenter, &viewer] {
        assert_eq!(put(&world, person, &doc, json!({})).await.0, 403);
    }
    let (status, answer) = put(&world, &manager, &doc, json!({"version": 7})).await;
    assert_eq!((status, &answer["errcode"]), (409, &json!("DEV_WEFT_DOCUMENT_CHANGED")));
    assert_eq!(answer["version"], 1);
    let reason = "a".repeat(8_193);
    assert_eq!(put(&world, &manager, &doc, json!({"reason": reason})).await.0, 413);
    let (status, lock) = put(&world, &manager, &doc, json!({"reason": "Signed", "version": 1})).await;
    assert_eq!(status, 200, "{lock}");
    assert_eq!(
        (
            &lock["locked"],
            &lock["lockedBy"],
            &lock["reason"],
            &lock["isPresentText"]
        ),
        (&json!(true), &json!(manager.user), &json!("Signed"), &json!(true))
    );
    assert_eq!(world.get(&viewer, &path).await, lock);
    assert_eq!(world.get(&viewer, "/documents").await["documents"][0]["locked"], true);
    // A second lock changes nothing.
    assert_eq!(
        put(&world, &alice, &doc, json!({"reason": "Again"})).await,
        (200, lock.clone())
    );
    for person in [&alice, &manager, &editor] {
        assert_no_edit(&world, person, &doc).await;
    }
    assert_eq!(edit(&world, &viewer, &doc, 1).await.1["errcode"], "DEV_WEFT_LOCKED");
    let chat = Some(json!({"message": "Why is it locked?"}));
    assert_eq!(
        world
            .request(&commenter, "POST", &format!("/documents/{doc}/chat"), chat)
            .await
            .0,
        201
    );
    assert_eq!(world.request(&editor, "DELETE", &path, None).await.0, 403);
    // It is locked after a restart as well.
    let world = world.restarted().await;
    assert_eq!(edit(&world, &alice, &doc, 1).await.1["errcode"], "DEV_WEFT_LOCKED");
    assert_eq!(world.request(&manager, "DELETE", &path, None).await, (200, json!({})));
    assert_eq!(world.request(&manager, "DELETE", &path, None).await, (200, json!({})));
    assert_eq!(world.get(&viewer, &path).await, json!({"locked": false}));
    assert_eq!(
        world.get(&viewer, "/documents").await["documents"][0].get("locked"),
        None
    );
    assert_eq!(edit(&world, &editor, &doc, 1).await.0, 200);
    assert_eq!(edit(&world, &viewer, &doc, 2).await.1["errcode"], "M_FORBIDDEN");
    let (status, again) = world.request(&manager, "PUT", &path, Some(json!({}))).await;
    assert_eq!(status, 200, "{again}");
    assert_ne!(
        (&again["eventId"], &again["stateHash"]),
        (&lock["eventId"], &lock["stateHash"])
    );
    assert_eq!(edit(&world, &editor, &doc, 2).await.1["errcode"], "DEV_WEFT_LOCKED");
}

#[tokio::test]
async fn an_approval_is_of_the_text_that_was_approved() {
    let world = World::new().await;
    let (doc, alice, [manager, editor, commenter, viewer]) = shared(&world).await;
    let path = format!("/documents/{doc}/approvals");
    assert_eq!(world.get(&viewer, &path).await, json!({"approvals": []}));
    assert_eq!(approve(&world, &viewer, &doc, json!({})).await.0, 403);
    assert_eq!(
        approve(&world, &commenter, &doc, json!({"statement": "a".repeat(8_193)}))
            .await
            .0,
        413
    );
    let (status, answer) = approve(&world, &commenter, &doc, json!({"version": 3})).await;
    assert_eq!((status, &answer["errcode"]), (409, &json!("DEV_WEFT_DOCUMENT_CHANGED")));
    let (status, first) = approve(&world, &commenter, &doc, json!({"version": 1, "statement": "Agreed"})).await;
    assert_eq!(status, 201, "{first}");
    assert_eq!(
        (&first["userId"], &first["isPresentText"]),
        (&json!(commenter.user), &json!(true))
    );
    assert_eq!(
        (&first["statement"], &first["textHash"]),
        (&json!("Agreed"), &json!("0".repeat(64)))
    );
    let content = world
        .ask(Some(&viewer.token), "GET", &format!("/documents/{doc}/content"), None)
        .await;
    let tag = format!("W/\"{}\"", first["stateHash"].as_str().unwrap());
    assert_eq!(content.etag, Some(tag));
    assert_eq!(world.get(&viewer, &path).await, json!({"approvals": [first]}));
    assert_eq!(edit(&world, &editor, &doc, 1).await.0, 200);
    let (status, second) = approve(&world, &alice, &doc, json!({})).await;
    assert_eq!(status, 201, "{second}");
    let list = world.get(&viewer, &path).await;
    let expected = [(json!(alice.user), json!(true)), (json!(commenter.user), json!(false))];
    assert_eq!(present(&list), expected);
    // The commenter approves the new text; the earlier approval is replaced.
    let (_, third) = approve(&world, &commenter, &doc, json!({})).await;
    assert_ne!(
        (&third["eventId"], &third["stateHash"]),
        (&first["eventId"], &first["stateHash"])
    );
    let list = world.get(&viewer, &path).await;
    assert_eq!(
        present(&list),
        [(json!(alice.user), json!(true)), (json!(commenter.user), json!(true))]
    );
    let of = |approval: &Value| format!("{path}/{}", approval["eventId"].as_str().unwrap());
    assert_eq!(world.request(&editor, "DELETE", &of(&third), None).await.0, 403);
    assert_eq!(
        world.request(&commenter, "DELETE", &of(&third), None).await,
        (200, json!({}))
    );
    assert_eq!(
        world.request(&manager, "DELETE", &of(&second), None).await,
        (200, json!({}))
    );
    assert_eq!(world.get(&viewer, &path).await, json!({"approvals": []}));
    assert_eq!(
        world
            .request(&manager, "DELETE", &format!("{path}/$none"), None)
            .await
            .0,
        404
    );
}

/// In a document that is older than approvals, their level is that of state. An owner's next change of a role repairs that, also one that
/// gives a role again; what the power levels name is kept.
#[tokio::test]
async fn commenters_approve_an_old_document_after_an_owner_gave_a_role() {
    let world = World::new().await;
    let (doc, alice, [manager, _, commenter, _]) = shared(&world).await;
    let room = ruma::RoomId::parse(&doc).unwrap();
    let state = world
        .rooms
        .reader()
        .state_entries(&room, &[("m.room.power_levels", "")])
        .await
        .unwrap();
    let levels = state.unwrap().get("m.room.power_levels", "").cloned().unwrap();
    let mut content: serde_json::Map<String, Value> = levels.content_as().unwrap();
    let events = content["events"].as_object_mut().unwrap();
    for newer in [
        "dev.weft.approval",
        "dev.weft.suggestion",
        "dev.weft.witness",
        "dev.weft.lock",
    ] {
        events.remove(newer).unwrap();
    }
    events.insert("dev.weft.version".to_owned(), json!(50));
    let old = weft_testkit::new_event(&alice.user, "m.room.power_levels", Some(""), json!(content));
    world.rooms.send(&room, old).await.unwrap();
    assert_eq!(approve(&world, &commenter, &doc, json!({})).await.0, 403);
    // A manager can't change the levels.
    world.give(&manager, &doc, &commenter.user, "commenter").await;
    assert_eq!(approve(&world, &commenter, &doc, json!({})).await.0, 403);
    assert_eq!(world.give(&alice, &doc, &commenter.user, "commenter").await.0, 200);
    assert_eq!(approve(&world, &commenter, &doc, json!({})).await.0, 201);
    let state = world
        .rooms
        .reader()
        .state_entries(&room, &[("m.room.power_levels", "")])
        .await
        .unwrap();
    let levels = state.unwrap().get("m.room.power_levels", "").cloned().unwrap();
    let content: Value = levels.content_as().unwrap();
    let level = |kind: &str| content["events"].get(kind).cloned();
    assert_eq!(level("dev.weft.approval"), Some(json!(10)));
    assert_eq!(level("dev.weft.witness"), Some(json!(0)));
    assert_eq!(level("dev.weft.version"), Some(json!(50)), "it was named");
    assert_eq!(level("dev.weft.suggestion"), None, "its default is no higher");
    assert_eq!(level("dev.weft.lock"), None, "its default is a manager's");
    // Nothing is left to repair.
    assert_eq!(world.give(&alice, &doc, &commenter.user, "commenter").await.0, 200);
    let state = world
        .rooms
        .reader()
        .state_entries(&room, &[("m.room.power_levels", "")])
        .await
        .unwrap();
    let again = state.unwrap().get("m.room.power_levels", "").cloned().unwrap();
    assert_eq!(again.event_id(), levels.event_id());
}
