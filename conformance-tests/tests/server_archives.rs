//! `weft export` and `weft import`: all documents of one server become documents of another one, once, however often the
//! commands are repeated or killed.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests fail by panicking"
)]

use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use weft_conformance_tests::{
    client::{Client, segment},
    server::{Server, binary},
    world::World,
};

const PNG: &str = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGNgYGgAAACEAIHJde6SAAAAAElFTkSuQmCC";

async fn document(client: &Client, query: &str, file: &[u8]) -> Result<String> {
    let answer = client
        .of_document(Method::POST, "import", &format!("?{query}"), &[], file.to_vec())
        .await?;
    let status = answer.status();
    let body: Value = answer.json().await?;
    ensure!(status == StatusCode::CREATED, "{status} {body}");
    Ok(body["docId"].as_str().context("no docId")?.to_owned())
}

async fn rendered(client: &Client, room: &str) -> Result<String> {
    let answer = client
        .of_document(Method::GET, room, "?format=json", &[], Vec::new())
        .await?;
    ensure!(answer.status() == StatusCode::OK, "{}", answer.text().await?);
    Ok(answer.text().await?)
}

/// A text, a rich text with an image and a comment, a board and an empty document.
async fn documents(alice: &Client) -> Result<BTreeMap<&'static str, String>> {
    let text = document(alice, "format=text&title=text", b"one\ntwo").await?;
    let markdown = format!("# Head\n\n![dot](data:image/png;base64,{PNG})\n");
    let rich = document(alice, "format=markdown&title=rich", markdown.as_bytes()).await?;
    let path = format!("/_weft/client/v1/documents/{}/comments", segment(&rich));
    alice.post(&path, json!({"body": "a comment"})).await?;
    alice.say(&rich, "a message").await?;
    let create = json!({"title": "board", "kind": "canvas"});
    let board = alice.post("/_weft/client/v1/documents", create).await?;
    let board = board["docId"].as_str().context("no docId")?.to_owned();
    let version = alice
        .get(&format!("/_weft/client/v1/documents/{}", segment(&board)))
        .await?;
    let edit = json!({
        "clientVersion": version["version"],
        "changes": [{"type": "set", "in": {"element": "box"}, "key": "text", "value": "in a box"}],
    });
    let edited = alice
        .of_document(Method::PATCH, &board, "/edit", &[], edit.to_string().into_bytes())
        .await?;
    ensure!(edited.status() == StatusCode::OK, "{}", edited.text().await?);
    let empty = alice.create_document("empty").await?;
    Ok(BTreeMap::from([
        ("text", text),
        ("rich", rich),
        ("board", board),
        ("empty", empty),
    ]))
}

/// The documents of a user by title; no title is there twice.
async fn by_title(client: &Client) -> Result<BTreeMap<String, String>> {
    let list = client.get("/_weft/client/v1/documents").await?;
    let mut found = BTreeMap::new();
    for document in list["documents"].as_array().context("no documents")? {
        let text = |field: &str| document[field].as_str().unwrap_or_default().to_owned();
        let before = found.insert(text("title"), text("docId"));
        ensure!(before.is_none(), "two documents with the title {}", text("title"));
    }
    Ok(found)
}

/// The content without the names of the servers in the addresses of files.
async fn compared(client: &Client, room: &str, server: &Server) -> Result<String> {
    let json = rendered(client, room).await?;
    Ok(json.replace(&format!("mxc://{}/", server.name), "mxc://here/"))
}

fn import(server: &Server, folder: &Path) -> Result<String> {
    server.command(&["import", folder.to_str().context("not UTF-8")?, "--user", "carol"])
}

/// Begins an import, and kills it when it has imported a document.
fn killed_import(server: &Server, folder: &Path) -> Result<()> {
    let folder = folder.to_str().context("not UTF-8")?;
    let mut command = server.command_line(&["import", folder, "--user", "carol"])?;
    let mut process = command.stdout(Stdio::piped()).spawn()?;
    let mut first = String::new();
    BufReader::new(process.stdout.take().context("no output")?).read_line(&mut first)?;
    process.kill()?;
    process.wait()?;
    ensure!(first.contains("imported as"), "{first}");
    Ok(())
}

/// `weft verify` of a log.
fn verified(log: &[u8]) -> Result<String> {
    let mut process = Command::new(binary()?)
        .args(["verify", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    process.stdin.take().context("no input")?.write_all(log)?;
    Ok(String::from_utf8(process.wait_with_output()?.stdout)?)
}

#[tokio::test]
async fn the_documents_of_a_server_become_documents_of_another_one_once() -> Result<()> {
    let mut world = World::new(2).await?;
    let alice = world.user(0, "alice").await?;
    let carol = world.user(1, "carol").await?;
    let of_alice = documents(&alice).await?;
    // Signing an edit changes the document once more.
    for title in ["text", "rich", "board"] {
        let room = &of_alice[title];
        let is_signed = || async { Ok((!alice.sealed_updates(room).await?.is_empty()).then_some(())) };
        alice.until("a signed edit", is_signed).await?;
    }
    let folder = tempfile::tempdir()?;
    let path = folder.path().to_str().context("not UTF-8")?;
    let exported = world.servers[0].command(&["export", path])?;
    ensure!(exported.contains("4 documents: 4 exported"), "{exported}");
    let again = world.servers[0].command(&["export", path])?;
    ensure!(
        again.contains("4 documents: 0 exported (0 bytes), 4 unchanged"),
        "{again}"
    );
    alice.say(&of_alice["text"], "late").await?;
    let changed = world.servers[0].command(&["export", path])?;
    ensure!(changed.contains("1 exported"), "{changed}");
    ensure!(std::fs::read_dir(path)?.count() == 4);

    // On the server that has the documents, nothing is created.
    let restored = world.servers[0].command(&["import", path, "--user", "alice"])?;
    ensure!(restored.matches("is still on this server").count() == 4, "{restored}");

    killed_import(&world.servers[1], folder.path())?;
    world.servers[1].kill();
    world.servers[1].boot().await?;
    let output = import(&world.servers[1], folder.path())?;
    ensure!(output.contains("was imported before as"), "{output}");
    let of_carol = by_title(&carol).await?;
    assert_eq!(of_carol.len(), 4);
    for (title, room) in &of_alice {
        let copy = of_carol.get(*title).with_context(|| format!("no {title}"))?;
        assert_eq!(
            compared(&carol, copy, &world.servers[1]).await?,
            compared(&alice, room, &world.servers[0]).await?,
            "{title}"
        );
        let source = carol.get(&Client::in_room(copy, "state/dev.weft.imported/")).await?;
        assert_eq!(
            (&source["room_id"], &source["server"]),
            (&json!(room), &json!(world.servers[0].name))
        );
        let log = source["log"]
            .as_str()
            .and_then(|log| log.strip_prefix("mxc://"))
            .context("no log")?;
        let log = carol.file("download", log, &[]).await?.bytes().await?;
        let report = verified(&log)?;
        ensure!(report.contains("GOOD") && report.contains(room.as_str()), "{report}");
    }
    let image = rendered(&carol, &of_carol["rich"]).await?;
    let start = image.find("mxc://").context("no image")? + "mxc://".len();
    let image = image[start..].split('"').next().context("no image")?.to_owned();
    ensure!(image.starts_with(&world.servers[1].name), "{image}");
    let image = carol.file("download", &image, &[]).await?.bytes().await?;
    assert_eq!(image, BASE64_STANDARD.decode(PNG)?);

    let output = import(&world.servers[1], folder.path())?;
    ensure!(output.matches("was imported before as").count() == 4, "{output}");
    assert_eq!(by_title(&carol).await?, of_carol);

    refused(&mut world.servers[1], folder.path()).await
}

/// A damaged archive is reported, and the others are imported; a server that does not run is reported too.
async fn refused(server: &mut Server, folder: &Path) -> Result<()> {
    std::fs::write(folder.join("a.zip"), b"no archive")?;
    let error = import(server, folder).unwrap_err().to_string();
    ensure!(error.contains("1 of 5 documents failed"), "{error}");
    server.terminate().await?;
    let error = import(server, folder).unwrap_err().to_string();
    ensure!(error.contains("no server runs"), "{error}");
    Ok(())
}
