//! The history of a document over HTTPS, on two servers: content at versions, events and times, sessions, blame,
//! differences, restored content, edits that are undone.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests fail by panicking"
)]

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use weft_conformance_tests::{
    client::{Client, segment},
    editors::{self, Provider},
    event_stream::EventStream,
    world::World,
};
use yrs::{Doc, Text as _, Transact as _, block::ClientID, updates::decoder::Decode as _};

/// An editor with a client id of its own.
struct Editor(Doc);

impl Editor {
    fn new(client: u64) -> Self {
        let mut options = yrs::Options::with_client_id(ClientID::new(client));
        options.offset_kind = yrs::OffsetKind::Utf16;
        Self(Doc::with_options(options))
    }

    async fn pull(&self, client: &Client, room: &str) -> Result<()> {
        let update = yrs::Update::decode_v1(&client.content(room).await?)?;
        self.0.transact_mut().apply_update(update)?;
        Ok(())
    }

    /// Changes the text, and returns the version.
    async fn write(
        &self,
        client: &Client,
        room: &str,
        change: impl FnOnce(&yrs::TextRef, &mut yrs::TransactionMut<'_>),
    ) -> Result<u64> {
        let body = self.0.get_or_insert_text("body");
        let update = {
            let mut transaction = self.0.transact_mut();
            change(&body, &mut transaction);
            transaction.encode_update_v1()
        };
        let sent = client.of_document(Method::POST, room, "/updates", &[], update).await?;
        anyhow::ensure!(sent.status() == StatusCode::OK, "{}", sent.text().await?);
        let answer: Value = serde_json::from_str(&sent.text().await?)?;
        answer["version"].as_u64().context("no version")
    }
}

async fn ask(client: &Client, room: &str, query: &str) -> Result<(StatusCode, String)> {
    let answer = client.of_document(Method::GET, room, query, &[], Vec::new()).await?;
    Ok((answer.status(), answer.text().await?))
}

async fn ask_json(client: &Client, room: &str, query: &str) -> Result<Value> {
    let (status, body) = ask(client, room, query).await?;
    anyhow::ensure!(status == StatusCode::OK, "{query}: {status} {body}");
    Ok(serde_json::from_str(&body)?)
}

async fn text_at(client: &Client, room: &str, at: &str) -> Result<String> {
    let (status, text) = ask(client, room, &format!("?format=text&at={}", segment(at))).await?;
    anyhow::ensure!(status == StatusCode::OK, "{at}: {status} {text}");
    Ok(text)
}

/// Waits until a user sees this text.
async fn until_text(client: &Client, room: &str, text: &str) -> Result<()> {
    let last = parking_lot::Mutex::new(String::new());
    let seen = client.until(text, || async {
        let (_, found) = ask(client, room, "?format=text").await?;
        let is_there = found == text;
        *last.lock() = found;
        Ok(is_there.then_some(()))
    });
    seen.await.with_context(|| format!("the text is {:?}", last.lock()))
}

async fn name_version(client: &Client, room: &str, name: &str) -> Result<Value> {
    let path = format!("/_weft/client/v1/documents/{}/versions", segment(room));
    client
        .post(&path, json!({"name": name, "description": "as agreed"}))
        .await
}

fn runs(answer: &Value, fields: &[&str]) -> Vec<Vec<String>> {
    let shown = |run: &Value| {
        fields
            .iter()
            .map(|field| run[*field].as_str().unwrap_or("-").to_owned())
            .collect()
    };
    answer["runs"].as_array().unwrap().iter().map(shown).collect()
}

#[tokio::test]
async fn the_history_of_a_document_is_read_on_two_servers() -> Result<()> {
    let world = World::new(2).await?;
    let (alice, bob, room) = world.shared_document().await?;
    let (ann, ben) = (Editor::new(11), Editor::new(12));
    let first = ann.write(&alice, &room, |body, t| body.insert(t, 0, "one two")).await?;
    let second = ann.write(&alice, &room, |body, t| body.insert(t, 7, " three")).await?;
    assert_eq!(second, first + 1);
    let named = name_version(&alice, &room, "first draft").await?;
    let draft = named["eventId"].as_str().context("no event id")?.to_owned();
    until_text(&bob, &room, "one two three").await?;

    ben.pull(&bob, &room).await?;
    ben.write(&bob, &room, |body, t| body.remove_range(t, 4, 4)).await?;
    ben.write(&bob, &room, |body, t| body.insert(t, 0, "zero ")).await?;
    until_text(&alice, &room, "zero one three").await?;

    // Versions are of one server, events of all.
    for (at, text) in [(first, "one two"), (second, "one two three")] {
        assert_eq!(text_at(&alice, &room, &at.to_string()).await?, text, "version {at}");
    }
    assert_eq!(text_at(&alice, &room, "0").await?, "");
    for client in [&alice, &bob] {
        assert_eq!(text_at(client, &room, &draft).await?, "one two three");
    }
    let (status, body) = ask(&alice, &room, "?format=text&at=5000").await?;
    let body: Value = serde_json::from_str(&body)?;
    assert_eq!(
        (status, &body["errcode"]),
        (StatusCode::CONFLICT, &json!("DEV_WEFT_UNKNOWN_VERSION"))
    );
    assert!(
        body["version"].as_u64().is_some() && body["from"].as_u64().is_some(),
        "{body}"
    );

    // A time leads to the version of that time.
    let time = named["at"].as_u64().context("no time")?;
    let answer = alice
        .of_document(Method::GET, &room, &format!("?format=text&at={time}"), &[], Vec::new())
        .await?;
    assert_eq!(answer.headers()["weft-version"], second.to_string().as_str());
    assert_eq!(answer.text().await?, "one two three");

    check_history(&alice, &bob, &room, &draft).await?;
    check_blame(&alice, &bob, &room, &draft).await?;
    check_restore(&alice, &bob, &room, first, &ann).await
}

async fn check_history(alice: &Client, bob: &Client, room: &str, draft: &str) -> Result<()> {
    for client in [alice, bob] {
        // The last edits are sealed within seconds.
        let entries = client
            .until("both sessions", || async {
                let history = ask_json(client, room, "/history").await?;
                let entries = history["entries"].as_array().context("no entries")?.clone();
                let inserted: Option<u64> = entries
                    .iter()
                    .map(|entry| entry["inserted"].as_u64())
                    .find(|n| *n == Some(5))
                    .flatten();
                Ok((entries.len() == 3 && inserted.is_some()).then_some(entries))
            })
            .await?;
        let kinds: Vec<(&str, &str)> = entries
            .iter()
            .map(|entry| (entry["kind"].as_str().unwrap(), entry["author"].as_str().unwrap()))
            .collect();
        assert_eq!(
            kinds,
            [
                ("session", &*bob.user),
                ("version", &*alice.user),
                ("session", &*alice.user)
            ]
        );
        assert_eq!(
            (&entries[0]["deleted"], &entries[2]["inserted"]),
            (&json!(4), &json!(13))
        );
        assert_eq!(
            (&entries[1]["name"], &entries[1]["eventId"]),
            (&json!("first draft"), &json!(draft))
        );
    }
    let only = ask_json(
        alice,
        room,
        &format!("/history?detail=edits&author={}", segment(&alice.user)),
    )
    .await?;
    let entries = only["entries"].as_array().context("no entries")?;
    let session = entries
        .iter()
        .find(|entry| entry["kind"] == "session")
        .context("no session")?;
    assert_eq!(session["versions"], json!([1, 2]));
    let edits = session["edits"].as_array().context("no edits")?;
    let edits: Vec<_> = edits
        .iter()
        .map(|edit| (edit["version"].as_u64(), edit["inserted"].as_u64()))
        .collect();
    assert_eq!(edits, [(Some(2), Some(6)), (Some(1), Some(7))]);
    let empty = ask_json(alice, room, "/history?to=1000").await?;
    assert_eq!(empty["entries"], json!([]));
    for bad in [
        "/history?limit=0",
        "/history?limit=201",
        "/history?detail=all",
        "/history?page=x",
        "/history?from=$x",
    ] {
        assert_eq!(ask(alice, room, bad).await?.0, StatusCode::BAD_REQUEST, "{bad}");
    }
    Ok(())
}

async fn check_blame(alice: &Client, bob: &Client, room: &str, draft: &str) -> Result<()> {
    let (a, b) = (&*alice.user, &*bob.user);
    for client in [alice, bob] {
        let blame = ask_json(client, room, "/blame").await?;
        assert_eq!(
            runs(&blame, &["text", "author"]),
            [["zero ", b], ["one ", a], ["three", a]]
        );
        assert!(blame["runs"][0]["at"].as_u64().is_some(), "{blame}");
        let then = ask_json(client, room, &format!("/blame?at={}", segment(draft))).await?;
        assert_eq!(runs(&then, &["text", "author"]), [["one two three", a]]);
        let diff = ask_json(client, room, &format!("/diff?from={}", segment(draft))).await?;
        let shown = runs(&diff, &["kind", "text", "author", "deletedBy"]);
        let expected = [
            ["insert", "zero ", b, "-"],
            ["equal", "one ", "-", "-"],
            ["delete", "two ", a, b],
            ["equal", "three", "-", "-"],
        ];
        assert_eq!(shown, expected, "{}", client.user);
    }
    let (status, _) = ask(alice, room, &format!("/diff?from=2&to={}", segment("1"))).await?;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    Ok(())
}

async fn check_restore(alice: &Client, bob: &Client, room: &str, first: u64, ann: &Editor) -> Result<()> {
    let path = format!("/_weft/client/v1/documents/{}/restore", segment(room));
    let restored = alice.post(&path, json!({"at": first})).await?;
    assert_eq!(restored["changed"], json!(true));
    for client in [alice, bob] {
        until_text(client, room, "one two").await?;
    }
    let again = alice.post(&path, json!({"at": first.to_string()})).await?;
    assert_eq!(again["changed"], json!(false));
    // A live editor goes on from there.
    ann.pull(alice, room).await?;
    let before = ann.write(alice, room, |body, t| body.insert(t, 7, "!")).await?;
    until_text(bob, room, "one two!").await?;

    // Bob's edits are undone, and Alice's stay.
    let bens = Editor::new(13);
    bens.pull(bob, room).await?;
    bens.write(bob, room, |body, t| body.remove_range(t, 0, 4)).await?;
    bens.write(bob, room, |body, t| body.push(t, " three")).await?;
    until_text(alice, room, "two! three").await?;
    ann.pull(alice, room).await?;
    ann.write(alice, room, |body, t| body.push(t, " four")).await?;
    let path = format!("/_weft/client/v1/documents/{}/rollback", segment(room));
    let rolled_back = alice.post(&path, json!({"user": bob.user, "from": before})).await?;
    assert_eq!(rolled_back["changed"], json!(true));
    for client in [alice, bob] {
        until_text(client, room, "one two! four").await?;
    }
    let refused = alice
        .request(Method::POST, &path, Some(json!({"user": bob.user, "from": 100_000})))
        .await?;
    assert_eq!(
        (refused.status, refused.errcode()),
        (StatusCode::CONFLICT, "DEV_WEFT_UNKNOWN_VERSION")
    );

    let activity = ask_json(alice, room, "/history/activity").await?;
    let authors: BTreeSet<&str> = activity["days"]
        .as_array()
        .unwrap()
        .iter()
        .map(|day| day["author"].as_str().unwrap())
        .collect();
    assert_eq!(authors, [&*alice.user, &*bob.user].into());
    Ok(())
}

/// The entries of the history of an author who restored or undid something.
async fn purposes(client: &Client, room: &str, author: &str, field: &str) -> Result<Value> {
    let what = format!("{field} in the history of {room}");
    client
        .until(&what, || async {
            let history = ask_json(
                client,
                room,
                &format!("/history?detail=edits&author={}", segment(author)),
            )
            .await?;
            let entries = history["entries"].as_array().context("no entries")?;
            let found = entries.iter().find(|entry| entry.get(field).is_some());
            Ok(found.cloned())
        })
        .await
}

#[tokio::test]
async fn every_server_tells_what_was_restored_and_undone() -> Result<()> {
    let world = World::new(2).await?;
    let (alice, bob, room) = world.shared_document().await?;
    let ann = Editor::new(11);
    let long = "a long text ".repeat(6_000);
    ann.write(&alice, &room, |body, t| body.insert(t, 0, &long)).await?;
    let named = name_version(&alice, &room, "the long one").await?;
    let draft = named["eventId"].as_str().context("no event id")?.to_owned();
    let present = ann
        .write(&alice, &room, |body, t| body.remove_range(t, 0, 71_999))
        .await?;
    until_text(&bob, &room, " ").await?;
    let mut stream = EventStream::open(&bob, &room, None).await?;

    // More than one event has room for.
    let path = |what: &str| format!("/_weft/client/v1/documents/{}/{what}", segment(&room));
    alice.post(&path("restore"), json!({"at": draft})).await?;
    until_text(&bob, &room, &long).await?;
    for client in [&alice, &bob] {
        let session = purposes(client, &room, &alice.user, "restores").await?;
        let restores = session["restores"].as_array().context("no list")?;
        assert_eq!(restores.len(), 1, "{session}");
        assert_eq!(
            (&restores[0]["heads"], &restores[0]["name"]),
            (&json!([draft]), &json!("the long one"))
        );
        assert!(
            restores[0]["stateHash"].as_str().is_some_and(|hash| hash.len() == 43),
            "{session}"
        );
        let edits = session["edits"].as_array().context("no edits")?;
        let marked = edits.iter().filter(|edit| edit["restores"] == restores[0]).count();
        assert!(marked >= 2, "a large edit has several events: {marked}");
    }
    let restore = until_sent(&mut stream, "restore").await?;
    assert_eq!(
        (&restore["sender"], &restore["content"]["restores"]["heads"]),
        (&json!(alice.user), &json!([draft]))
    );

    // A version of one server is told to the others by its heads.
    alice.post(&path("restore"), json!({"at": present})).await?;
    until_text(&bob, &room, " ").await?;
    let session = purposes(&bob, &room, &alice.user, "restores").await?;
    let heads = &session["restores"][0]["heads"];
    let head = heads[0].as_str().context("no head")?;
    assert_eq!(
        (heads.as_array().unwrap().len(), text_at(&bob, &room, head).await?),
        (1, " ".to_owned())
    );

    let ben = Editor::new(12);
    ben.pull(&bob, &room).await?;
    ben.write(&bob, &room, |body, t| body.insert(t, 0, "unwanted")).await?;
    until_text(&alice, &room, "unwanted ").await?;
    alice
        .post(&path("rollback"), json!({"user": bob.user, "from": present}))
        .await?;
    until_text(&bob, &room, " ").await?;
    for client in [&alice, &bob] {
        let session = purposes(client, &room, &alice.user, "rollsBack").await?;
        let undone = &session["rollsBack"][0];
        assert_eq!(undone["user"], json!(bob.user));
        assert_eq!(undone["after"], *heads, "{session}");
        let last = undone["heads"][0].as_str().context("no head")?;
        assert_eq!(text_at(client, &room, last).await?, "unwanted ");
    }
    let rollback = until_sent(&mut stream, "rollback").await?;
    assert_eq!(rollback["content"]["rolls_back"]["user"], json!(bob.user));
    Ok(())
}

#[tokio::test]
async fn a_server_that_joins_later_knows_who_wrote_and_deleted_what() -> Result<()> {
    let world = World::new(2).await?;
    let (alice, bob) = (world.user(0, "alice").await?, world.user(1, "bob").await?);
    let room = alice.create_document("Older").await?;
    let carol = world.user(0, "carol").await?;
    alice.give_role(&room, &carol.user, "editor").await?;
    carol.accept_invitation(&room).await?;
    let (ann, cat) = (Editor::new(11), Editor::new(12));
    ann.write(&alice, &room, |body, t| body.insert(t, 0, "one two")).await?;
    let named = name_version(&alice, &room, "draft").await?;
    let draft = named["eventId"].as_str().context("no event id")?.to_owned();
    cat.pull(&carol, &room).await?;
    cat.write(&carol, &room, |body, t| body.insert(t, 7, " three")).await?;
    cat.write(&carol, &room, |body, t| body.remove_range(t, 0, 4)).await?;
    alice.say(&room, "sealed").await?;

    alice.give_role(&room, &bob.user, "viewer").await?;
    bob.accept_invitation(&room).await?;
    let expected = [["two", &*alice.user], [" three", &*carol.user]];
    for client in [&alice, &bob] {
        let blame = client
            .until("who wrote the text", || async {
                let blame = ask_json(client, &room, "/blame").await?;
                Ok(Some(blame.clone()).filter(|blame| runs(blame, &["text", "author"]) == expected))
            })
            .await?;
        let events = blame["runs"].as_array().context("no runs")?;
        assert!(events.iter().all(|run| run["eventId"].is_string()), "{blame}");
        let diff = ask_json(client, &room, &format!("/diff?from={}", segment(&draft))).await?;
        let shown = runs(&diff, &["kind", "text", "author", "deletedBy"]);
        let expected = [
            ["delete", "one ", &*alice.user, &*carol.user],
            ["equal", "two", "-", "-"],
            ["insert", " three", &*carol.user, "-"],
        ];
        assert_eq!(shown, expected, "{}", client.user);
    }
    Ok(())
}

/// A board of alice on the first server, which bob edits on the second.
async fn shared_board(world: &World) -> Result<(Client, Client, String)> {
    let (alice, bob) = (world.user(0, "alice").await?, world.user(1, "bob").await?);
    let made = alice
        .post(
            "/_weft/client/v1/documents",
            json!({"title": "Board", "kind": "canvas"}),
        )
        .await?;
    let room = made["docId"].as_str().context("no id")?.to_owned();
    alice.give_role(&room, &bob.user, "editor").await?;
    bob.accept_invitation(&room).await?;
    Ok((alice, bob, room))
}

/// Bob sets, removes, replaces and adds.
async fn change_as_bob(his: &editors::Editor) -> Result<()> {
    let changes = json!([
        ["box", "x", 2],
        ["box", "x", 3],
        ["box", "y"],
        ["line"],
        ["note", "text", "bye"],
        ["mine", "x", 1],
        ["later", "x", 2],
    ]);
    his.does("draw", json!({ "changes": changes })).await?;
    his.does(
        "replace_element",
        json!({"element": "shape", "values": {"kind": "square", "size": 2}}),
    )
    .await?;
    his.does(
        "splice",
        json!({"element": "box", "key": "label", "at": 0, "delete": 4, "insert": "lost"}),
    )
    .await?;
    his.does(
        "splice",
        json!({"element": "box", "key": "list", "at": 1, "delete": 1, "insert": [7, 8]}),
    )
    .await?;
    Ok(())
}

#[tokio::test]
async fn edits_of_a_board_are_undone() -> Result<()> {
    let world = World::new(2).await?;
    let (alice, bob, room) = shared_board(&world).await?;
    let hers = world.editors.open("hers", Provider::Plain, &alice, &room).await?;
    let his = world.editors.open("his", Provider::Plain, &bob, &room).await?;
    for editor in [&hers, &his] {
        editor.synced().await?;
    }
    let until = async |board: &Value| -> Result<()> {
        hers.does("until_board", json!({ "board": board })).await?;
        his.does("until_board", json!({ "board": board })).await
    };
    let before = json!({
        "box": {"x": 1, "y": 1, "label": "kept words", "list": [1, 2, 3]},
        "line": {"from": "box"},
        "note": {"text": "hello"},
        "shape": {"kind": "circle"},
        "later": {"x": 1},
    });
    let changes = json!([
        ["box", "x", 1], ["box", "y", 1], ["box", "label", {"text": "kept words"}], ["box", "list", {"list": [1, 2, 3]}],
        ["line", "from", "box"], ["note", "text", "hello"], ["shape", "kind", "circle"], ["later", "x", 1],
    ]);
    hers.does("draw", json!({ "changes": changes })).await?;
    until(&before).await?;
    let document = ask_json(&alice, &room, "").await?;
    let version = document["version"].as_u64().context("no version")?;

    change_as_bob(&his).await?;
    let meanwhile = json!({
        "box": {"x": 3, "label": "lost words", "list": [1, 7, 8, 3]},
        "note": {"text": "bye"},
        "shape": {"kind": "square", "size": 2},
        "mine": {"x": 1},
        "later": {"x": 2},
    });
    until(&meanwhile).await?;
    let changes = json!([["later", "x", 9], ["new", "x", 5]]);
    hers.does("draw", json!({ "changes": changes })).await?;
    his.does("draw", json!({"changes": [["note", "text", "gone"]]})).await?;
    let mut meanwhile = meanwhile;
    (meanwhile["later"]["x"], meanwhile["new"], meanwhile["note"]["text"]) = (json!(9), json!({"x": 5}), json!("gone"));
    until(&meanwhile).await?;

    let path = format!("/_weft/client/v1/documents/{}/rollback", segment(&room));
    let undone = alice.post(&path, json!({"user": bob.user, "from": version})).await?;
    assert_eq!(undone["changed"], json!(true));
    let mut after = before.clone();
    (after["later"]["x"], after["new"]) = (json!(9), json!({"x": 5}));
    until(&after).await
}

async fn until_sent(stream: &mut EventStream, name: &str) -> Result<Value> {
    loop {
        let sent = stream.next().await?.context("the stream ended")?;
        if sent.name == name {
            return Ok(sent.data);
        }
    }
}

#[tokio::test]
async fn versions_survive_a_killed_server() -> Result<()> {
    let mut world = World::new(1).await?;
    let alice = world.user(0, "alice").await?;
    let room = alice.create_document("Kept").await?;
    let editor = Editor::new(21);
    let mut texts = vec![String::new()];
    for letter in ["a", "b", "c", "d"] {
        let version = editor.write(&alice, &room, |body, t| body.push(t, letter)).await?;
        texts.push(format!("{}{letter}", texts.last().unwrap()));
        assert_eq!(version as usize, texts.len() - 1);
    }
    // Killed while the edits are in the journal.
    world.servers[0].kill();
    world.servers[0].boot().await?;
    for (version, text) in texts.iter().enumerate() {
        assert_eq!(
            &text_at(&alice, &room, &version.to_string()).await?,
            text,
            "version {version}"
        );
    }
    // A message seals what is pending.
    alice.say(&room, "sealed").await?;
    for (version, text) in texts.iter().enumerate() {
        assert_eq!(
            &text_at(&alice, &room, &version.to_string()).await?,
            text,
            "version {version}"
        );
    }
    let version = editor.write(&alice, &room, |body, t| body.push(t, "e")).await?;
    assert_eq!(version, 5, "no version is used twice");
    Ok(())
}
