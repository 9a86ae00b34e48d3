//! Suggestions over HTTPS, on two servers: proposed by a commenter on one, accepted by an editor on the other, with stale bases,
//! overlaps, decisions that do not count, and updates that are hostile.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests fail by panicking"
)]

use anyhow::{Context as _, Result, ensure};
use base64::{Engine as _, prelude::BASE64_STANDARD_NO_PAD as STANDARD_NO_PAD};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use weft_conformance_tests::{
    client::{Answer, Client, segment},
    live::{LiveEditor, trust},
    world::World,
};

async fn ask(client: &Client, method: Method, room: &str, rest: &str, body: Option<Value>) -> Result<Answer> {
    let path = format!("/_weft/client/v1/documents/{}{rest}", segment(room));
    client.request(method, &path, body).await
}

async fn text(client: &Client, room: &str) -> Result<String> {
    let answer = client
        .of_document(Method::GET, room, "?format=text", &[], Vec::new())
        .await?;
    Ok(answer.text().await?)
}

async fn until_text(client: &Client, room: &str, wanted: &str) -> Result<()> {
    let last = parking_lot::Mutex::new(String::new());
    let seen = client.until(wanted, || async {
        let found = text(client, room).await?;
        let is_there = found == wanted;
        *last.lock() = found;
        Ok(is_there.then_some(()))
    });
    seen.await.with_context(|| format!("the text is {:?}", last.lock()))
}

async fn version(client: &Client, room: &str) -> Result<u64> {
    let document = ask(client, Method::GET, room, "", None).await?.ok()?;
    document["version"].as_u64().context("no version")
}

async fn edit(client: &Client, room: &str, changes: Value) -> Result<()> {
    let body = json!({"changes": changes, "clientVersion": version(client, room).await?});
    ask(client, Method::PATCH, room, "/edit", Some(body)).await?.ok()?;
    Ok(())
}

async fn suggest(client: &Client, room: &str, changes: Value, summary: &str) -> Result<String> {
    let body = json!({"changes": changes, "clientVersion": version(client, room).await?, "summary": summary});
    let made = ask(client, Method::POST, room, "/suggestions", Some(body))
        .await?
        .ok()?;
    ensure!(made["state"] == "open" && made["summary"] == summary, "{made}");
    Ok(made["eventId"].as_str().context("no event id")?.to_owned())
}

async fn decide(client: &Client, room: &str, suggestion: &str, what: &str) -> Result<Answer> {
    let path = format!("/suggestions/{}/{what}", segment(suggestion));
    ask(client, Method::POST, room, &path, None).await
}

async fn shown(client: &Client, room: &str, suggestion: &str) -> Result<Answer> {
    let path = format!("/suggestions/{}", segment(suggestion));
    ask(client, Method::GET, room, &path, None).await
}

async fn accept(client: &Client, room: &str, suggestion: &str, body: Value) -> Result<Answer> {
    let path = format!("/suggestions/{}/accept", segment(suggestion));
    ask(client, Method::POST, room, &path, Some(body)).await
}

/// The number of the change that inserts or deletes this text.
fn change_of(shown: &Value, text: &str) -> u64 {
    let runs = shown["runs"].as_array().unwrap();
    let run = runs.iter().find(|run| run["text"] == text && run["kind"] != "equal");
    let change = run.and_then(|run| run["change"].as_u64());
    change.unwrap_or_else(|| panic!("no change has {text:?}: {shown}"))
}

/// Choices of changes that no suggestion has, or that do not say what they are for.
async fn check_refused_choices(alice: &Client, room: &str, id: &str, (last, version): (u64, u64)) -> Result<()> {
    for (body, status) in [
        (json!({"changes": [last]}), StatusCode::BAD_REQUEST),
        (json!({"changes": [], "version": version}), StatusCode::BAD_REQUEST),
        (json!({"changes": [99], "version": version}), StatusCode::BAD_REQUEST),
        (json!({"changes": [last], "version": 100_000}), StatusCode::CONFLICT),
    ] {
        let refused = accept(alice, room, id, body.clone()).await?;
        assert_eq!(refused.status, status, "{body}: {refused:?}");
    }
    Ok(())
}

/// The text has both parts once, and blame names the author of the suggestion.
async fn check_accepted(alice: &Client, bob: &Client, room: &str, id: &str) -> Result<()> {
    for client in [alice, bob] {
        until_state(client, room, id, "accepted").await?;
        let text = text(client, room).await?;
        assert!(text.starts_with("Look: The slow") && text.contains(" old"), "{text}");
        assert_eq!(text.matches(" jumps").count(), 1, "{text}");
        let blame = ask(client, Method::GET, room, "/blame", None).await?.ok()?;
        let run = blame["runs"]
            .as_array()
            .unwrap()
            .iter()
            .find(|run| run["text"] == " jumps");
        let run = run.context("no run")?;
        assert_eq!(
            (&run["author"], &run["proposedBy"]),
            (&json!(alice.user), &json!(bob.user)),
            "{blame}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn a_part_of_a_suggestion_is_accepted_and_the_rest_stays_open() -> Result<()> {
    let world = World::new(2).await?;
    let (alice, bob, _, room) = suggested(&world, "The quick brown fox").await?;
    let id = suggest(
        &bob,
        &room,
        json!([
            {"type": "replace", "at": 4, "length": 5, "text": "slow"},
            {"type": "insert", "at": 8, "text": " old"},
            {"type": "append", "text": " jumps"},
        ]),
        "Three changes",
    )
    .await?;
    until_state(&alice, &room, &id, "open").await?;
    let seen = shown(&alice, &room, &id).await?.ok()?;
    let (first, last) = (change_of(&seen, "slow"), change_of(&seen, " jumps"));
    let version = seen["version"].as_u64().context("no version")?;
    check_refused_choices(&alice, &room, &id, (last, version)).await?;
    // An edit elsewhere does not matter.
    edit(&alice, &room, json!([{"type": "insert", "at": 0, "text": "Look: "}])).await?;
    let part = accept(&alice, &room, &id, json!({"changes": [last], "version": version}))
        .await?
        .ok()?;
    assert_eq!((&part["state"], part.get("eventId")), (&json!("open"), None), "{part}");
    for client in [&alice, &bob] {
        until_text(client, &room, "Look: The quick brown fox jumps").await?;
        let left = client
            .until("the part", || async {
                let found = shown(client, &room, &id).await?.ok()?;
                Ok(Some(found).filter(|found| found["parts"][0]["by"] == alice.user))
            })
            .await?;
        assert_eq!(
            (&left["state"], &left["applies"]),
            (&json!("open"), &json!(true)),
            "{left}"
        );
        let left = runs(&left);
        assert!(left.iter().all(|run| run.1 != " jumps"), "{left:?}");
        let deleted: String = left
            .iter()
            .filter(|run| run.0 == "delete")
            .map(|run| run.1.as_str())
            .collect();
        assert_eq!(deleted, "quick", "{left:?}");
    }
    // The numbers that were shown before the part was accepted mean something else now.
    let stale = accept(&alice, &room, &id, json!({"changes": [first], "version": version})).await?;
    assert_eq!(
        (stale.status, stale.errcode()),
        (StatusCode::CONFLICT, "DEV_WEFT_DOCUMENT_CHANGED")
    );
    // What is left is accepted as a whole.
    let rest = decide(&alice, &room, &id, "accept").await?.ok()?;
    assert_eq!(rest["state"], "accepted");
    check_accepted(&alice, &bob, &room, &id).await?;
    check_rejected_rest(&alice, &bob, &room).await
}

/// The rest of a suggestion may be rejected with the part that is accepted; a change of its place makes it outdated.
async fn check_rejected_rest(alice: &Client, bob: &Client, room: &str) -> Result<()> {
    let changes = json!([{"type": "insert", "at": 0, "text": "<"}, {"type": "append", "text": ">"}]);
    let id = suggest(bob, room, changes, "Brackets").await?;
    until_state(alice, room, &id, "open").await?;
    let seen = shown(alice, room, &id).await?.ok()?;
    let body = json!({"changes": [change_of(&seen, "<")], "version": seen["version"], "rest": "rejected"});
    let decided = accept(alice, room, &id, body).await?.ok()?;
    assert_eq!(decided["state"], "rejected");
    for client in [alice, bob] {
        let seen = until_state(client, room, &id, "rejected").await?;
        assert_eq!(seen["parts"].as_array().map(Vec::len), Some(1), "{seen}");
        let text = text(client, room).await?;
        assert!(text.starts_with('<') && !text.ends_with('>'), "{text}");
    }
    let changes = json!([{"type": "replace", "at": 1, "length": 4, "text": "See"}, {"type": "append", "text": "!"}]);
    let id = suggest(bob, room, changes, "More").await?;
    until_state(alice, room, &id, "open").await?;
    let seen = shown(alice, room, &id).await?.ok()?;
    edit(alice, room, json!([{"type": "delete", "at": 2, "length": 1}])).await?;
    let body = json!({"changes": [change_of(&seen, "!")], "version": seen["version"]});
    let stale = accept(alice, room, &id, body).await?;
    assert_eq!(
        (stale.status, stale.errcode()),
        (StatusCode::CONFLICT, "DEV_WEFT_DOCUMENT_CHANGED")
    );
    Ok(())
}

/// Waits until a server shows a suggestion in this state.
async fn until_state(client: &Client, room: &str, suggestion: &str, state: &str) -> Result<Value> {
    client
        .until(&format!("{suggestion} to be {state}"), || async {
            let found = shown(client, room, suggestion).await?;
            Ok(Some(found.body).filter(|found| found["state"] == state))
        })
        .await
}

fn runs(answer: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let runs = answer["runs"].as_array().into_iter().flatten();
    runs.map(|run| (text(&run["kind"]), text(&run["text"]))).collect()
}

/// A document of alice on the first server; bob comments and carol reads on the second.
async fn suggested(world: &World, content: &str) -> Result<(Client, Client, Client, String)> {
    let alice = world.user(0, "alice").await?;
    let (bob, carol) = (world.user(1, "bob").await?, world.user(1, "carol").await?);
    let room = alice.create_document("Plan").await?;
    for (user, role) in [(&bob, "commenter"), (&carol, "viewer")] {
        alice.give_role(&room, &user.user, role).await?;
        user.accept_invitation(&room).await?;
    }
    edit(&alice, &room, json!([{"type": "insert", "at": 0, "text": content}])).await?;
    until_text(&bob, &room, content).await?;
    Ok((alice, bob, carol, room))
}

/// Who may not decide about a suggestion of bob.
async fn check_roles(alice: &Client, bob: &Client, carol: &Client, room: &str, id: &str) -> Result<()> {
    for (client, what) in [
        (bob, "accept"),
        (bob, "reject"),
        (carol, "withdraw"),
        (alice, "withdraw"),
    ] {
        let refused = decide(client, room, id, what).await?;
        assert_eq!(refused.status, StatusCode::FORBIDDEN, "{what}: {refused:?}");
    }
    Ok(())
}

async fn check_lists(client: &Client, room: &str, [first, second, within, deleted]: [&str; 4]) -> Result<()> {
    for (query, expected) in [
        ("?state=open", vec![]),
        ("?state=accepted", vec![second, first]),
        ("?state=rejected", vec![within]),
        ("?state=withdrawn&limit=1", vec![deleted]),
    ] {
        let list = ask(client, Method::GET, room, &format!("/suggestions{query}"), None)
            .await?
            .ok()?;
        let found = list["suggestions"].as_array().context("no list")?;
        let ids: Vec<&str> = found.iter().map(|one| one["eventId"].as_str().unwrap()).collect();
        assert_eq!(ids, expected, "{query}");
    }
    let page = ask(client, Method::GET, room, "/suggestions?limit=3", None)
        .await?
        .ok()?;
    let next = page["nextPage"].as_str().context("no page")?;
    let rest = ask(
        client,
        Method::GET,
        room,
        &format!("/suggestions?limit=3&from={next}"),
        None,
    )
    .await?;
    assert_eq!(rest.ok()?["suggestions"][0]["eventId"], json!(first));
    Ok(())
}

/// A suggestion that no longer applies is shown as it was proposed.
async fn check_gone(client: &Client, room: &str, gone: &str, inserted: &str) -> Result<()> {
    let seen = shown(client, room, gone).await?.ok()?;
    assert_eq!(
        (&seen["state"], &seen["applies"]),
        (&json!("open"), &json!(false)),
        "{seen}"
    );
    // As it was proposed.
    let proposed: String = runs(&seen)
        .into_iter()
        .filter(|run| run.0 == "insert")
        .map(|run| run.1)
        .collect();
    assert_eq!(proposed, inserted, "{seen}");
    let refused = decide(client, room, gone, "accept").await?;
    assert_eq!(
        (refused.status, refused.errcode()),
        (StatusCode::CONFLICT, "DEV_WEFT_SUGGESTION_OUTDATED")
    );
    Ok(())
}

/// Sends updates that can't be applied; returns their number.
async fn send_hostile(alice: &Client, bob: &Client, room: &str) -> Result<usize> {
    let hex = |bytes: &[u8]| STANDARD_NO_PAD.encode(bytes);
    // The client id under which the text was written.
    let content = alice.content(room).await?;
    let client = encoded_client_id(&content)?;
    let mut foreign = vec![1, 1];
    foreign.extend_from_slice(&client);
    foreign.extend_from_slice(&[3, 4, 1, 4, b'b', b'o', b'd', b'y', 1, b'x', 0]);
    let hostile = [
        ("nonsense", "not base64!".to_owned()),
        ("truncated", hex(&[1, 1, 5])),
        ("an unknown parent", hex(&[1, 1, 1, 0, 0, 0x15, 0, 0, 1, 0, 0])),
        ("nothing", hex(&[0, 0])),
        ("blocks of a client that exists", hex(&foreign)),
        ("unknown blocks", hex(&[1, 1, 5, 0, 0x84, 9, 1, 1, b'x', 0])),
        ("too large", "A".repeat(60_010)),
    ];
    for (what, update) in &hostile {
        let refused = ask(bob, Method::POST, room, "/suggestions", Some(json!({"update": update}))).await?;
        ensure!(refused.status.is_client_error(), "{what}: {refused:?}");
        // As a stock client sends it.
        let sent = bob
            .try_send(room, "dev.weft.suggestion", json!({"update": update}))
            .await?;
        let id = sent.body["event_id"]
            .as_str()
            .context(format!("{what}: {sent:?}"))?
            .to_owned();
        let seen = until_state(alice, room, &id, "open").await?;
        assert_eq!(seen["applies"], false, "{what}: {seen}");
        let refused = decide(alice, room, &id, "accept").await?;
        ensure!(refused.status.is_client_error(), "{what}: {refused:?}");
    }
    Ok(hostile.len())
}

#[tokio::test]
async fn a_commenter_suggests_and_an_editor_of_another_server_accepts_once() -> Result<()> {
    let world = World::new(2).await?;
    let (alice, bob, carol, room) = suggested(&world, "The quick fox").await?;
    let editor = LiveEditor::open(&trust(&world.authority)?, &alice, &room, 11)?;
    editor.synced().await?;
    let changes = json!([{"type": "replace", "search": "quick", "text": "slow"}]);
    let id = suggest(&bob, &room, changes.clone(), "slower").await?;
    let refused = ask(
        &carol,
        Method::POST,
        &room,
        "/suggestions",
        Some(json!({"changes": changes})),
    )
    .await?;
    assert_eq!(refused.status, StatusCode::FORBIDDEN, "{refused:?}");
    let seen = until_state(&alice, &room, &id, "open").await?;
    assert_eq!(
        (&seen["applies"], &seen["author"]),
        (&json!(true), &json!(bob.user)),
        "{seen}"
    );
    let inserted = runs(&seen).into_iter().filter(|(kind, _)| kind == "insert");
    assert_eq!(inserted.map(|(_, text)| text).collect::<String>(), "slow", "{seen}");
    for client in [&alice, &bob] {
        assert_eq!(
            text(client, &room).await?,
            "The quick fox",
            "it is not part of the text"
        );
    }
    check_roles(&alice, &bob, &carol, &room, &id).await?;
    // Others write meanwhile.
    edit(&alice, &room, json!([{"type": "insert", "at": 0, "text": "Look! "}])).await?;
    let (first, second) = tokio::join!(
        decide(&alice, &room, &id, "accept"),
        decide(&alice, &room, &id, "accept")
    );
    let (mut accepted, mut again) = (first?, second?);
    if !accepted.status.is_success() {
        std::mem::swap(&mut accepted, &mut again);
    }
    let accepted = accepted.ok()?;
    assert_eq!(
        (again.status, again.errcode(), &again.body["state"]),
        (StatusCode::CONFLICT, "DEV_WEFT_SUGGESTION_CLOSED", &json!("accepted"))
    );
    for client in [&alice, &bob] {
        until_text(client, &room, "Look! The slow fox").await?;
        let seen = until_state(client, &room, &id, "accepted").await?;
        assert_eq!(
            (&seen["decidedBy"], &seen["update"]),
            (&json!(alice.user), &accepted["update"]),
            "{seen}"
        );
        check_names(client, &alice.user, &bob.user, &room, &id).await?;
    }
    alice
        .until("the edit in a live editor", || async {
            Ok((editor.text() == "Look! The slow fox").then_some(()))
        })
        .await?;
    for what in ["accept", "reject"] {
        let refused = decide(&alice, &room, &id, what).await?;
        assert_eq!(refused.status, StatusCode::CONFLICT, "{refused:?}");
    }
    Ok(())
}

/// Blame and history name who proposed the accepted text, and who accepted it.
async fn check_names(client: &Client, editor: &str, author: &str, room: &str, id: &str) -> Result<()> {
    let blame = ask(client, Method::GET, room, "/blame", None).await?.ok()?;
    let run = blame["runs"].as_array().context("no runs")?;
    let run = run
        .iter()
        .find(|run| run["text"] == "slow")
        .context(blame.to_string())?;
    assert_eq!(
        (&run["author"], &run["proposedBy"], &run["suggestion"]),
        (&json!(editor), &json!(author), &json!(id)),
        "{run}"
    );
    let history = ask(client, Method::GET, room, "/history?detail=edits", None)
        .await?
        .ok()?;
    let sessions = history["entries"].as_array().context("no entries")?;
    let of_editor = |session: &&Value| session["author"] == editor && session["proposedBy"] == json!([author]);
    let session = sessions.iter().find(of_editor).context(history.to_string())?;
    let edits = session["edits"].as_array().context("no edits")?;
    ensure!(
        edits
            .iter()
            .any(|edit| edit["suggestion"] == id && edit["proposedBy"] == author),
        "{history}"
    );
    Ok(())
}

#[tokio::test]
async fn overlapping_suggestions_are_carried_forward_until_nothing_is_left_of_their_place() -> Result<()> {
    let world = World::new(2).await?;
    let (alice, bob, _, room) = suggested(&world, "one two three").await?;
    let replace = |search: &str, text: &str| json!([{"type": "replace", "search": search, "text": text}]);
    let first = suggest(&bob, &room, replace("two", "2"), "a number").await?;
    let second = suggest(&bob, &room, replace("two three", "many"), "shorter").await?;
    let within = suggest(
        &bob,
        &room,
        json!([{"type": "insert", "at": 6, "text": "X"}]),
        "a letter",
    )
    .await?;
    let deleted = suggest(&bob, &room, json!([{"type": "delete", "at": 4, "length": 3}]), "fewer").await?;
    until_state(&alice, &room, &deleted, "open").await?;
    decide(&alice, &room, &first, "accept").await?.ok()?;
    until_text(&alice, &room, "one 2 three").await?;
    // What another one deletes as well is gone; the rest is done.
    decide(&alice, &room, &second, "accept").await?.ok()?;
    let now = text(&alice, &room).await?;
    ensure!(now == "one 2many" || now == "one many2", "{now}");
    for (gone, inserted) in [(&within, "X"), (&deleted, "")] {
        check_gone(&alice, &room, gone, inserted).await?;
    }
    decide(&alice, &room, &within, "reject").await?.ok()?;
    decide(&bob, &room, &deleted, "withdraw").await?.ok()?;
    for client in [&alice, &bob] {
        until_state(client, &room, &within, "rejected").await?;
        until_state(client, &room, &deleted, "withdrawn").await?;
    }
    check_lists(&bob, &room, [&first, &second, &within, &deleted]).await?;
    // The discussion is a thread.
    let path = format!("/comments/{}/replies", segment(&first));
    ask(&alice, Method::POST, &room, &path, Some(json!({"body": "Why?"})))
        .await?
        .ok()?;
    let thread = ask(
        &alice,
        Method::GET,
        &room,
        &format!("/comments/{}", segment(&first)),
        None,
    )
    .await?
    .ok()?;
    assert_eq!(thread["replies"][0]["body"], "Why?");
    assert_eq!(shown(&alice, &room, &first).await?.ok()?["replies"], 1);
    Ok(())
}

#[tokio::test]
async fn a_stale_suggestion_and_a_board_and_a_rich_text_are_accepted() -> Result<()> {
    let world = World::new(1).await?;
    let alice = world.user(0, "alice").await?;
    for (kind, before, change, format, expected) in [
        (
            "rich_text",
            json!([{"type": "append", "text": "one"}, {"type": "append", "text": "two"}]),
            json!([{"type": "insert", "in": {"path": [1]}, "at": 3, "text": "!"}, {"type": "append", "text": "three"}]),
            "text",
            "zero\none\ntwo!\nthree",
        ),
        (
            "canvas",
            json!([{"type": "set", "in": {"element": "e1"}, "key": "colour", "value": "red"}]),
            json!([{"type": "set", "in": {"element": "e1"}, "key": "colour", "value": "blue"}]),
            "json",
            r#"{"elements":{"e1":{"colour":"blue"},"e2":{"x":1}},"kind":"canvas"}"#,
        ),
    ] {
        let made = alice
            .post("/_weft/client/v1/documents", json!({"title": kind, "kind": kind}))
            .await?;
        let room = made["docId"].as_str().context("no id")?.to_owned();
        edit(&alice, &room, before).await?;
        let id = suggest(&alice, &room, change, "better").await?;
        let more = match kind {
            "canvas" => json!([{"type": "set", "in": {"element": "e2"}, "key": "x", "value": 1}]),
            _ => {
                json!([{"type": "insertBlock", "path": [0], "node": {"type": "paragraph", "content": [{"type": "text", "text": "zero"}]}}])
            }
        };
        edit(&alice, &room, more).await?;
        let seen = shown(&alice, &room, &id).await?.ok()?;
        assert_eq!(seen["applies"], true, "{seen}");
        decide(&alice, &room, &id, "accept").await?.ok()?;
        let answer = alice
            .of_document(Method::GET, &room, &format!("?format={format}"), &[], Vec::new())
            .await?;
        assert_eq!(answer.text().await?, expected);
    }
    Ok(())
}

#[tokio::test]
async fn hostile_suggestions_and_decisions_change_nothing() -> Result<()> {
    let world = World::new(2).await?;
    let (alice, bob, _, room) = suggested(&world, "abc").await?;
    let hostile = send_hostile(&alice, &bob, &room).await?;
    bob.try_send(&room, "dev.weft.suggestion", json!({"update": 7}))
        .await?
        .ok()?;
    let list = ask(&alice, Method::GET, &room, "/suggestions", None).await?.ok()?;
    assert_eq!(list["suggestions"].as_array().map(Vec::len), Some(hostile));
    let good = suggest(&bob, &room, json!([{"type": "append", "text": "d"}]), "more").await?;
    until_state(&alice, &room, &good, "open").await?;
    let relation = json!({"rel_type": "m.reference", "event_id": good});
    // A commenter can't accept or reject by sending the events.
    let update = json!({"update": "AAA", "clients": {}, "accepts": good, "m.relates_to": relation});
    let refused = bob.try_send(&room, "dev.weft.update", update).await?;
    assert_eq!(refused.status, StatusCode::FORBIDDEN, "{refused:?}");
    for outcome in ["accepted", "rejected", "resolved"] {
        let content = json!({"outcome": outcome, "m.relates_to": relation});
        bob.try_send(&room, "dev.weft.resolution", content).await?.ok()?;
    }
    bob.say(&room, "all sent").await?;
    alice
        .until("the last message", || async {
            Ok(alice
                .messages(&room)
                .await?
                .contains(&"all sent".to_owned())
                .then_some(()))
        })
        .await?;
    for client in [&alice, &bob] {
        assert_eq!(shown(client, &room, &good).await?.ok()?["state"], "open");
        assert_eq!(text(client, &room).await?, "abc");
    }
    // A rejection counts, and an invalid decision that names it does not replace it.
    let rejected = decide(&alice, &room, &good, "reject").await?.ok()?;
    until_state(&bob, &room, &good, "rejected").await?;
    let content = json!({"outcome": "rejected", "after": [rejected["eventId"]], "m.relates_to": relation});
    bob.try_send(&room, "dev.weft.resolution", content).await?.ok()?;
    let seen = shown(&bob, &room, &good).await?.ok()?;
    assert_eq!(
        (&seen["state"], &seen["decidedBy"]),
        (&json!("rejected"), &json!(alice.user))
    );
    Ok(())
}

/// The client id of the first blocks of an update, as it is encoded.
fn encoded_client_id(update: &[u8]) -> Result<Vec<u8>> {
    let rest = update.get(2..).context("no clients")?;
    let end = rest.iter().position(|byte| byte & 0x80 == 0).context("no client id")?;
    Ok(rest[..=end].to_vec())
}

#[tokio::test]
async fn two_servers_that_accept_apart_agree_on_text_and_acceptance() -> Result<()> {
    let world = World::with_links(2, "").await?;
    let (alice, bob, room) = world.shared_document().await?;
    edit(&alice, &room, json!([{"type": "insert", "at": 0, "text": "abc"}])).await?;
    until_text(&bob, &room, "abc").await?;
    let id = suggest(&alice, &room, json!([{"type": "append", "text": "<d>"}]), "more").await?;
    until_state(&bob, &room, &id, "open").await?;
    world.cut();
    let first = decide(&alice, &room, &id, "accept").await?.ok()?;
    let second = decide(&bob, &room, &id, "accept").await?.ok()?;
    ensure!(first["update"] != second["update"], "{first} {second}");
    world.heal();
    // As if two editors had written it.
    for client in [&alice, &bob] {
        until_text(client, &room, "abc<d><d>").await?;
    }
    let (here, there) = alice
        .until("one acceptance on both servers", || async {
            let here = shown(&alice, &room, &id).await?.ok()?;
            let there = shown(&bob, &room, &id).await?.ok()?;
            Ok((here["update"] == there["update"]).then_some((here, there)))
        })
        .await?;
    for field in ["state", "decidedBy", "decidedAt"] {
        assert_eq!(here[field], there[field], "{field}");
    }
    assert_eq!(here["state"], "accepted");
    Ok(())
}
