//! The signed log of a document, exported by two servers over HTTPS and verified by the program: whatever happened in the
//! document, both files are good, and each altered file is found to be wrong, with the rule.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests fail by panicking"
)]

use std::{
    io::Write as _,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use weft_conformance_tests::{
    client::{Client, segment},
    server::binary,
    world::World,
};

/// A letter in the text `body`, the first of this client.
fn letter(client: u8, letter: u8) -> Vec<u8> {
    vec![1, 1, client, 0, 4, 1, 4, b'b', b'o', b'd', b'y', 1, letter, 0]
}

async fn write(client: &Client, room: &str, update: Vec<u8>) -> Result<()> {
    let answer = client.of_document(Method::POST, room, "/updates", &[], update).await?;
    ensure!(answer.status() == StatusCode::OK, "{}", answer.text().await?);
    Ok(())
}

async fn export(client: &Client, room: &str, query: &str) -> Result<String> {
    let answer = client
        .of_document(Method::GET, room, &format!("/audit{query}"), &[], Vec::new())
        .await?;
    ensure!(answer.status() == StatusCode::OK, "{}", answer.text().await?);
    ensure!(answer.headers()["content-type"] == "application/jsonl");
    Ok(answer.text().await?)
}

/// The exit code and the output of `weft verify -`.
fn verified(file: &str, arguments: &[&str]) -> Result<(i32, String)> {
    let mut process = Command::new(binary()?)
        .arg("verify")
        .args(arguments)
        .arg("-")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut input = process.stdin.take().context("no input")?;
    let file = file.to_owned();
    // The program stops reading at the first thing that is wrong.
    let writer = std::thread::spawn(move || input.write_all(file.as_bytes()));
    let output = process.wait_with_output()?;
    drop(writer.join());
    let code = output.status.code().context("ended by a signal")?;
    Ok((code, String::from_utf8(output.stdout)?))
}

/// Both have seen everything that the other one has sent: each says something and waits for it on the other server.
async fn level(one: &Client, other: &Client, room: &str, text: &str) -> Result<()> {
    for (from, to) in [(one, other), (other, one)] {
        let said = format!("{text} of {}", from.user);
        from.say(room, &said).await?;
        to.until(&said, || async {
            Ok(to.messages(room).await?.contains(&said).then_some(()))
        })
        .await?;
    }
    Ok(())
}

async fn set_topic(client: &Client, room: &str, topic: &str) -> Result<()> {
    let path = Client::in_room(room, "state/m.room.topic/");
    client.put(&path, json!({ "topic": topic })).await.map(drop)
}

/// A document of alice and bob on two servers, with edits of both, a redaction, two states that were in conflict, and a ban.
async fn eventful(world: &World) -> Result<(Client, Client, Client, String)> {
    let (alice, bob, room) = world.shared_document().await?;
    alice.give_role(&room, &bob.user, "manager").await?;
    let carol = world.user(1, "carol").await?;
    alice.give_role(&room, &carol.user, "editor").await?;
    carol.accept_invitation(&room).await?;
    write(&alice, &room, letter(1, b'a')).await?;
    level(&alice, &bob, &room, "begun").await?;
    write(&bob, &room, letter(2, b'b')).await?;
    write(&carol, &room, letter(3, b'c')).await?;
    let said = bob.say(&room, "to be redacted").await?;
    level(&alice, &bob, &room, "said").await?;
    let redact = Client::in_room(&room, &format!("redact/{}/r", segment(&said)));
    alice.put(&redact, json!({})).await?;

    world.cut();
    set_topic(&alice, &room, "hers").await?;
    set_topic(&bob, &room, "his").await?;
    write(&alice, &room, letter(4, b'd')).await?;
    write(&bob, &room, letter(5, b'e')).await?;
    alice.say(&room, "cut off").await?;
    bob.say(&room, "cut off too").await?;
    world.heal();
    level(&alice, &bob, &room, "together again").await?;

    let ban = json!({ "user_id": carol.user });
    alice.post(&Client::in_room(&room, "ban"), ban).await?;
    bob.until_membership(&room, &carol.user, "ban").await?;
    write(&bob, &room, letter(6, b'f')).await?;
    level(&alice, &bob, &room, "the end").await?;
    Ok((alice, bob, carol, room))
}

#[tokio::test]
async fn both_servers_export_the_same_log_and_it_is_good() -> Result<()> {
    let world = World::with_links(2, "").await?;
    let (alice, bob, carol, room) = eventful(&world).await?;
    let mut ends = Vec::new();
    for (client, server) in [(&alice, &world.servers[0]), (&bob, &world.servers[1])] {
        let file = export(client, &room, "").await?;
        let (code, output) = verified(&file, &[])?;
        assert_eq!(code, 0, "{output}");
        assert!(
            output.ends_with("GOOD\n") && output.contains(", 1 redacted"),
            "{output}"
        );
        assert!(output.contains(&format!("exported by {}", server.name)), "{output}");
        assert!(
            output.contains("6 updates in the text") && output.contains("as the file says"),
            "{output}"
        );
        assert!(output.contains("2 of the room's 2 servers have confirmed"), "{output}");
        let end: Value = serde_json::from_str(file.lines().last().context("no last line")?)?;
        ends.push((end["heads"].clone(), end["events"].clone(), end["state_hash"].clone()));
    }
    assert_eq!(ends[0], ends[1]);

    // Only managers and owners, and nobody who is not in the document.
    for (client, status) in [
        (&carol, StatusCode::NOT_FOUND),
        (&world.user(0, "dave").await?, StatusCode::NOT_FOUND),
    ] {
        let answer = client
            .of_document(Method::GET, &room, "/audit", &[], Vec::new())
            .await?;
        assert_eq!(answer.status(), status);
    }
    alice.give_role(&room, &bob.user, "editor").await?;
    let refused = bob
        .until("the new role on the other server", || async {
            let answer = bob.of_document(Method::GET, &room, "/audit", &[], Vec::new()).await?;
            Ok((!answer.status().is_success()).then_some(answer))
        })
        .await?;
    assert_eq!(refused.status(), StatusCode::FORBIDDEN);
    for query in ["?from=yesterday", "?from=$nothing"] {
        let answer = alice
            .of_document(Method::GET, &room, &format!("/audit{query}"), &[], Vec::new())
            .await?;
        assert!(answer.status().is_client_error(), "{query}");
    }
    Ok(())
}

#[tokio::test]
async fn the_rendered_text_is_compared_with_the_one_that_the_file_says() -> Result<()> {
    let world = World::new(1).await?;
    let alice = world.user(0, "alice").await?;
    let made = alice
        .post(
            "/_weft/client/v1/documents",
            json!({"title": "Terms", "kind": "rich_text"}),
        )
        .await?;
    let room = made["docId"].as_str().context("no id")?.to_owned();
    let path = format!("/_weft/client/v1/documents/{}/edit", segment(&room));
    let changes = json!([{"type": "append", "text": "agreed"}, {"type": "append", "text": "and signed"}]);
    let edit = json!({"changes": changes, "clientVersion": 0});
    alice.request(Method::PATCH, &path, Some(edit)).await?.ok()?;
    alice.say(&room, "sealed").await?;
    let file = export(&alice, &room, "").await?;
    let last: Value = serde_json::from_str(file.lines().last().context("no last line")?)?;
    let hash = last["text_hash"].as_str().context("no hash")?.to_owned();
    let answer = alice
        .of_document(Method::GET, &room, "?format=text", &[], Vec::new())
        .await?;
    ensure!(answer.headers()["weft-text-hash"] == *hash, "{hash}");
    let (code, printed) = verified(&file, &["--text"])?;
    ensure!(
        code == 0 && printed.contains(&format!("rendered text {hash}, as the file says")),
        "{printed}"
    );
    let (code, printed) = verified(&file, &[])?;
    ensure!(code == 0 && !printed.contains("rendered"), "{printed}");

    // An export that lies about what people saw, one that does not say it, and one whose text is not known.
    let with = |text_hash: Option<&str>| {
        let mut end = last.clone();
        end["text_hash"] = json!(text_hash);
        let lines = file.trim_end().rsplit_once('\n').map_or("", |(lines, _)| lines);
        format!("{lines}\n{end}\n")
    };
    let (code, printed) = verified(&with(Some(&"0".repeat(64))), &["--text"])?;
    ensure!(
        code == 1 && printed.contains("WRONG") && printed.contains("text_hash"),
        "{printed}"
    );
    let (code, printed) = verified(&with(None), &["--text"])?;
    ensure!(code == 0 && printed.contains("does not say which"), "{printed}");
    let second: Value = serde_json::from_str(file.lines().nth(3).context("no line")?)?;
    let from = second["event_id"].as_str().context("no event")?;
    let part = export(&alice, &room, &format!("?from={}", segment(from))).await?;
    let (code, printed) = verified(&part, &["--text"])?;
    ensure!(code == 2 && printed.contains("can't be rendered"), "{printed}");
    Ok(())
}

#[tokio::test]
async fn a_part_of_the_log_is_good_and_not_judged_before_its_beginning() -> Result<()> {
    let world = World::with_links(2, "").await?;
    let (alice, bob, _, room) = eventful(&world).await?;
    let whole = export(&alice, &room, "").await?;
    let lines: Vec<&str> = whole.lines().collect();
    let ids = lines.iter().filter_map(|line| {
        let line: Value = serde_json::from_str(line).ok()?;
        Some(line.get("event_id")?.as_str()?.to_owned())
    });
    let ids: Vec<String> = ids.collect();
    // From every fifth event on, on both servers.
    for from in ids.iter().skip(1).step_by(5) {
        for client in [&alice, &bob] {
            let file = export(client, &room, &format!("?from={}", segment(from))).await?;
            let (code, output) = verified(&file, &[])?;
            assert_eq!(code, 2, "from {from}: {output}\n{file}");
            assert!(output.contains("NOT JUDGED: the history before"), "{output}");
            assert!(!output.contains("WRONG"), "{output}");
        }
    }
    Ok(())
}

/// What is changed in the lines of a good file, and the rule that must be named.
type Alteration = (&'static str, fn(&mut Vec<Value>), &'static str);

/// The first update of a file.
fn update(lines: &mut [Value]) -> usize {
    lines
        .iter()
        .position(|line| line["pdu"]["type"] == "dev.weft.update")
        .unwrap()
}

fn flip(value: &mut Value, at: usize) {
    let mut text: Vec<char> = value.as_str().unwrap().chars().collect();
    text[at] = if text[at] == 'A' { 'B' } else { 'A' };
    *value = Value::String(text.into_iter().collect());
}

fn first_of(value: &mut Value) -> &mut Value {
    value.as_object_mut().unwrap().values_mut().next().unwrap()
}

fn end(lines: &mut [Value]) -> &mut Value {
    lines.last_mut().unwrap()
}

const ALTERATIONS: &[Alteration] = &[
    (
        "content",
        |lines| {
            let at = update(lines);
            flip(&mut lines[at]["pdu"]["content"]["update"], 15);
        },
        "content_hash",
    ),
    (
        "signature",
        |lines| {
            let at = update(lines);
            flip(first_of(first_of(&mut lines[at]["pdu"]["signatures"])), 9);
        },
        "signature",
    ),
    (
        "hash",
        |lines| {
            let at = update(lines);
            flip(&mut lines[at]["pdu"]["hashes"]["sha256"], 9);
        },
        "event_id",
    ),
    (
        "prev_events",
        |lines| {
            let at = update(lines);
            let create = lines.iter().find(|line| line["pdu"]["type"] == "m.room.create");
            let create = create.unwrap()["event_id"].clone();
            lines[at]["pdu"]["prev_events"] = json!([create]);
        },
        "event_id",
    ),
    (
        "sender",
        |lines| {
            let at = update(lines);
            lines[at]["pdu"]["sender"] = json!("@mallory:localhost");
        },
        "event_id",
    ),
    (
        "order",
        |lines| {
            // The line after it may be of an event that does not follow it, or of keys.
            let at = update(lines);
            let prev = lines[at]["pdu"]["prev_events"][0].clone();
            let before = lines.iter().position(|line| line["event_id"] == prev).unwrap();
            lines.swap(at, before);
        },
        "order",
    ),
    (
        "missing event",
        |lines| {
            let at = update(lines);
            lines.remove(at);
        },
        "order",
    ),
    (
        "event twice",
        |lines| {
            let at = update(lines);
            lines.insert(at + 1, lines[at].clone());
        },
        "duplicate",
    ),
    (
        "last event missing",
        |lines| {
            let at = lines.len() - 2;
            lines.remove(at);
        },
        "count",
    ),
    (
        "last event not counted",
        |lines| {
            let at = lines.len() - 2;
            lines.remove(at);
            let events = lines.iter().filter(|line| line.get("pdu").is_some()).count();
            end(lines)["events"] = json!(events);
        },
        "heads",
    ),
    (
        "forged key",
        |lines| {
            let at = lines
                .iter()
                .position(|line| line.get("keys").is_some_and(|keys| keys != &json!({})))
                .unwrap();
            // A valid key of somebody else.
            first_of(first_of(&mut lines[at]["keys"]))["key"] = json!("11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo");
        },
        "signature",
    ),
    (
        "state_hash",
        |lines| flip(&mut end(lines)["state_hash"], 9),
        "state_hash",
    ),
    ("count", |lines| end(lines)["events"] = json!(1), "count"),
    ("truncated", |lines| drop(lines.pop()), "truncated"),
    ("room", |lines| flip(&mut lines[0]["room_id"], 9), "room"),
];

#[tokio::test]
async fn each_alteration_of_an_exported_file_is_named() -> Result<()> {
    let world = World::with_links(2, "").await?;
    let (alice, ..) = eventful(&world).await?;
    let room = alice.get("/_weft/client/v1/documents").await?["documents"][0]["docId"].clone();
    let room = room.as_str().context("no document")?;
    let file = export(&alice, room, "").await?;
    let lines: Vec<Value> = file.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    for (what, alter, rule) in ALTERATIONS {
        let mut altered = lines.clone();
        alter(&mut altered);
        let altered: String = altered.iter().map(|line| format!("{line}\n")).collect();
        let (code, output) = verified(&altered, &[])?;
        assert_eq!(code, 1, "{what}: {output}");
        assert!(
            output.starts_with("WRONG: line ") && output.contains(&format!(": {rule}: ")),
            "{what}: {output}"
        );
    }

    // Keys of one's own: those of the file are not trusted.
    let keys = lines.iter().filter_map(|line| line["keys"].as_object());
    let keys: serde_json::Map<String, Value> = keys.flatten().map(|(k, v)| (k.clone(), v.clone())).collect();
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("keys.json");
    let path = path.to_str().context("not UTF-8")?;
    std::fs::write(path, Value::Object(keys.clone()).to_string())?;
    assert_eq!(verified(&file, &["--keys", path])?.0, 0);
    let mut fewer = keys.clone();
    fewer.remove(&world.servers[1].name);
    std::fs::write(path, Value::Object(fewer).to_string())?;
    let (code, output) = verified(&file, &["--keys", path])?;
    assert!(
        code == 2 && output.contains(&format!("no key of {}", world.servers[1].name)),
        "{output}"
    );
    let mut others = keys;
    first_of(&mut others[&world.servers[1].name])["key"] = json!("11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo");
    std::fs::write(path, Value::Object(others).to_string())?;
    let (code, output) = verified(&file, &["--keys", path])?;
    assert!(code == 1 && output.contains(": key: "), "{output}");
    Ok(())
}

#[tokio::test]
async fn who_read_a_document_is_recorded() -> Result<()> {
    let mut world = World::new(1).await?;
    let (alice, bob) = (world.user(0, "alice").await?, world.user(0, "bob").await?);
    let room = alice.create_document("Read").await?;
    alice.give_role(&room, &bob.user, "viewer").await?;
    bob.accept_invitation(&room).await?;
    write(&alice, &room, letter(1, b'a')).await?;
    let read = async |client: &Client, query: &str| {
        let answer = client.of_document(Method::GET, &room, query, &[], Vec::new()).await?;
        Ok::<_, anyhow::Error>(answer.status())
    };
    let before = alice.get("/_matrix/client/v3/account/whoami").await?;
    assert!(before.is_object());
    assert_eq!(read(&bob, "/content").await?, StatusCode::OK);
    assert_eq!(read(&bob, "?format=text").await?, StatusCode::OK);
    assert_eq!(read(&alice, "/audit").await?, StatusCode::OK);
    // What was refused was not read, and neither was a description without content.
    assert_eq!(read(&bob, "/audit").await?, StatusCode::FORBIDDEN);
    assert_eq!(read(&alice, "").await?, StatusCode::OK);

    let server = &world.servers[0];
    let lines = |arguments: &[&str]| -> Result<Vec<(String, String)>> {
        let output = server.command(&[&["access-log"], arguments].concat())?;
        let lines = output
            .lines()
            .map(serde_json::from_str)
            .collect::<Result<Vec<Value>, _>>()?;
        let text = |line: &Value, field: &str| line[field].as_str().map(str::to_owned).unwrap_or_default();
        assert!(
            lines
                .iter()
                .all(|line| text(line, "document") == room && line["at"].is_u64())
        );
        Ok(lines
            .iter()
            .map(|line| (text(line, "user"), text(line, "what")))
            .collect())
    };
    let entry = |client: &Client, what: &str| (client.user.clone(), what.to_owned());
    let all = [entry(&bob, "content"), entry(&bob, "rendered"), entry(&alice, "audit")];
    // A thread writes it.
    let written = alice
        .until("three lines", async || {
            Ok(Some(lines(&[])?).filter(|lines| lines.len() >= 3))
        })
        .await?;
    assert_eq!(written, all);
    assert_eq!(lines(&["--user", &bob.user])?, all[..2]);
    assert_eq!(lines(&["--document", "!another"])?, []);
    // It stays after a restart.
    let server = world.servers.first_mut().context("no server")?;
    server.kill();
    server.boot().await?;
    assert_eq!(server.command(&["access-log"])?.lines().count(), 3);
    Ok(())
}
