//! Import and export over HTTPS, with real render workers, on two servers: round trips, what is lost, repeated imports.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests fail by panicking"
)]

use std::io::Read as _;

use anyhow::{Context as _, Result, ensure};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use weft_conformance_tests::{
    client::{Client, segment},
    world::World,
};

const MARKDOWN: &str = "# Minutes\n\nA *b* **c** [d](<https://x.example/>)\n\n- [x] done\n- [ ] open\n\n| a | b |\n| --- | --- |\n| 1 | 2 |\n";

/// Creates a document from a file.
async fn imported(client: &Client, query: &str, key: Option<&str>, file: &[u8]) -> Result<(StatusCode, Value)> {
    let headers: Vec<_> = key.map(|key| ("idempotency-key", key)).into_iter().collect();
    let path = format!("?{query}");
    let answer = client
        .of_document(Method::POST, "import", &path, &headers, file.to_vec())
        .await?;
    let status = answer.status();
    Ok((status, answer.json().await?))
}

async fn appended(client: &Client, room: &str, format: &str, key: Option<&str>, file: &str) -> Result<Value> {
    let headers: Vec<_> = key.map(|key| ("idempotency-key", key)).into_iter().collect();
    let path = format!("/import?format={format}");
    let answer = client
        .of_document(Method::POST, room, &path, &headers, file.as_bytes().to_vec())
        .await?;
    let status = answer.status();
    let body: Value = answer.json().await?;
    ensure!(status == StatusCode::OK, "{status} {body}");
    Ok(body)
}

async fn exported(client: &Client, room: &str, query: &str) -> Result<(StatusCode, Vec<u8>)> {
    let answer = client
        .of_document(Method::GET, room, &format!("/export?format={query}"), &[], Vec::new())
        .await?;
    if answer.status() == StatusCode::OK {
        let name = answer.headers().get("content-disposition").context("no name")?;
        ensure!(name.to_str()?.starts_with("attachment; "), "{name:?}");
    }
    Ok((answer.status(), answer.bytes().await?.to_vec()))
}

async fn text_of(client: &Client, room: &str, query: &str) -> Result<String> {
    let (status, file) = exported(client, room, query).await?;
    ensure!(
        status == StatusCode::OK,
        "{query}: {status} {}",
        String::from_utf8_lossy(&file)
    );
    Ok(String::from_utf8(file)?)
}

fn id_of(answer: &Value) -> Result<String> {
    Ok(answer["docId"].as_str().with_context(|| answer.to_string())?.to_owned())
}

#[tokio::test]
async fn a_document_goes_from_one_server_to_another_by_each_format() -> Result<()> {
    let world = World::new(2).await?;
    let (alice, bob) = (world.user(0, "alice").await?, world.user(1, "bob").await?);
    let (status, first) = imported(&alice, "format=markdown&title=Minutes", None, MARKDOWN.as_bytes()).await?;
    assert_eq!(
        (status, &first["version"], &first["lost"]),
        (StatusCode::CREATED, &json!(1), &json!([])),
        "{first}"
    );
    let room = id_of(&first)?;
    let json = text_of(&alice, &room, "json").await?;
    assert_eq!(text_of(&alice, &room, "markdown").await?, MARKDOWN);
    for format in ["markdown", "html", "yjs"] {
        let (_, file) = exported(&alice, &room, format).await?;
        let kind = if format == "yjs" { "&kind=rich_text" } else { "" };
        let (status, copy) = imported(&bob, &format!("format={format}{kind}"), None, &file).await?;
        assert_eq!(status, StatusCode::CREATED, "{format}: {copy}");
        assert_eq!(text_of(&bob, &id_of(&copy)?, "json").await?, json, "{format}");
    }
    let text = text_of(&alice, &room, "text").await?;
    let (_, copy) = imported(&bob, "format=text", None, text.as_bytes()).await?;
    assert_eq!(text_of(&bob, &id_of(&copy)?, "text").await?, text);

    let (status, refused) = imported(&bob, "format=yjs&kind=text", None, b"nonsense").await?;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{refused}");
    let (status, refused) = imported(&bob, "format=yjs", None, &[0, 0]).await?;
    assert_eq!(
        (status, &refused["errcode"]),
        (StatusCode::BAD_REQUEST, &json!("M_MISSING_PARAM"))
    );
    let (status, refused) = imported(&bob, "format=text&kind=canvas", None, b"a").await?;
    assert_eq!(
        (status, &refused["errcode"]),
        (StatusCode::BAD_REQUEST, &json!("M_INVALID_PARAM"))
    );
    Ok(())
}

#[tokio::test]
async fn the_same_import_is_made_once_and_reaches_the_other_server() -> Result<()> {
    let world = World::new(2).await?;
    let (alice, bob, room) = world.shared_document().await?;
    let html = "<p>one</p><script>x</script><p style='color: red'>two</p>";
    let first = appended(&bob, &room, "html", None, html).await?;
    let lost = json!([{"kind": "script", "count": 1}, {"kind": "style", "count": 1, "example": "color: red"}]);
    assert_eq!((&first["changed"], &first["lost"]), (&json!(true), &lost));
    let again = appended(&bob, &room, "html", None, html).await?;
    assert_eq!((&again["changed"], &again["lost"]), (&json!(false), &lost));
    assert_eq!(text_of(&bob, &room, "text").await?, "one\n\ntwo\n");
    let is_there = || async { Ok((text_of(&alice, &room, "text").await? == "one\n\ntwo\n").then_some(())) };
    alice.until("the import on the other server", is_there).await?;
    // After it was signed it is still the same import; that of another user is another one, and so is one with a key.
    assert_eq!(appended(&bob, &room, "html", None, html).await?["changed"], false);
    assert_eq!(appended(&alice, &room, "html", None, html).await?["changed"], true);
    assert_eq!(
        appended(&alice, &room, "html", Some("again"), html).await?["changed"],
        true
    );
    assert_eq!(
        appended(&alice, &room, "html", Some("again"), html).await?["changed"],
        false
    );
    assert_eq!(text_of(&alice, &room, "text").await?.matches("two").count(), 3);

    let query = "format=text&title=Once";
    let (_, first) = imported(&alice, query, Some("key"), b"a").await?;
    assert_eq!(imported(&alice, query, Some("key"), b"a").await?.1, first);
    let (status, reused) = imported(&alice, query, Some("key"), b"b").await?;
    assert_eq!(
        (status, &reused["errcode"]),
        (StatusCode::UNPROCESSABLE_ENTITY, &json!("DEV_WEFT_KEY_REUSED"))
    );

    alice.give_role(&room, &bob.user, "viewer").await?;
    let is_refused = || async {
        let path = "/import?format=text";
        let answer = bob
            .of_document(Method::POST, &room, path, &[], b"late".to_vec())
            .await?;
        Ok((answer.status() == StatusCode::FORBIDDEN).then_some(()))
    };
    bob.until("a refused import", is_refused).await
}

/// Names and contents of the files in an archive.
fn files(archive: &[u8]) -> Result<Vec<(String, String)>> {
    let archive = rawzip::ZipArchive::from_slice(archive)?;
    let (mut entries, mut found) = (archive.entries(), Vec::new());
    while let Some(entry) = entries.next_entry()? {
        let name = entry.file_path().try_normalize()?.as_ref().to_owned();
        let file = archive.get_entry(entry.wayfinder())?;
        let mut content = Vec::new();
        let inflated = flate2::bufread::DeflateDecoder::new(file.data());
        file.verifying_reader(inflated).read_to_end(&mut content)?;
        found.push((name, String::from_utf8_lossy(&content).into_owned()));
    }
    Ok(found)
}

#[tokio::test]
async fn an_archive_has_the_content_the_versions_and_the_log() -> Result<()> {
    let world = World::new(2).await?;
    let (alice, bob, room) = world.shared_document().await?;
    appended(&alice, &room, "text", None, "one").await?;
    let named = alice
        .post(
            &format!("/_weft/client/v1/documents/{}/versions", segment(&room)),
            json!({"name": "first"}),
        )
        .await?;
    appended(&alice, &room, "text", None, "two").await?;
    let found = files(&exported(&alice, &room, "zip").await?.1)?;
    let content = |name: &str| {
        found
            .iter()
            .find(|(found, _)| found == name)
            .map(|(_, content)| content.clone())
    };
    assert_eq!(content("content.txt").as_deref(), Some("one\ntwo"));
    assert!(
        content("versions.json")
            .context("no versions")?
            .contains(named["eventId"].as_str().unwrap())
    );
    assert!(
        content("audit.jsonl")
            .context("no log")?
            .starts_with("{\"weft_audit\":1")
    );

    // At the version, and for an editor, without the log.
    let event = segment(named["eventId"].as_str().unwrap());
    let found = exported(&alice, &room, &format!("text&at={event}")).await?.1;
    assert_eq!(String::from_utf8(found)?, "one");
    let (status, archive) = exported(&bob, &room, "zip").await?;
    assert_eq!(status, StatusCode::OK);
    let found = files(&archive)?;
    assert!(!found.iter().any(|(name, _)| name == "audit.jsonl"));
    let manifest = found
        .iter()
        .find(|(name, _)| name == "manifest.json")
        .context("no manifest")?;
    let manifest: Value = serde_json::from_str(&manifest.1)?;
    assert_eq!(manifest["skipped"][0]["file"], "audit.jsonl");
    Ok(())
}

/// An image of one pixel, in base64.
const PNG: &str = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGNgYGgAAACEAIHJde6SAAAAAElFTkSuQmCC";

/// The `mxc` URI of the first image of a rich text.
async fn image_of(client: &Client, room: &str) -> Result<String> {
    let json = text_of(client, room, "json").await?;
    let start = json.find("mxc://").with_context(|| json.clone())?;
    Ok(json[start..].split('"').next().unwrap_or_default().to_owned())
}

async fn bytes_of(client: &Client, uri: &str) -> Result<Vec<u8>> {
    let file = uri.strip_prefix("mxc://").context("no mxc URI")?;
    let answer = client.file("download", file, &[]).await?;
    ensure!(answer.status() == StatusCode::OK, "{uri}: {}", answer.text().await?);
    Ok(answer.bytes().await?.to_vec())
}

/// Images that are in a file become files of the user; in an archive they are files, and on another server files of its user.
#[tokio::test]
async fn images_go_with_a_document() -> Result<()> {
    let world = World::new(2).await?;
    let (alice, bob) = (world.user(0, "alice").await?, world.user(1, "bob").await?);
    let png = BASE64_STANDARD.decode(PNG)?;
    let elsewhere = "https://127.0.0.1:1/x.png";
    let html = format!(
        "<p>a</p><img src=\"data:image/png;base64,{PNG}\" alt=\"dot\"><img src=\"data:image/svg+xml;base64,{PNG}\">\
         <img src=\"{elsewhere}\">"
    );
    let (status, document) = imported(&alice, "format=html&title=Pictures", None, html.as_bytes()).await?;
    let lost = document["lost"].as_array().with_context(|| document.to_string())?;
    assert_eq!(
        (status, lost.len(), &lost[0]["kind"]),
        (StatusCode::CREATED, 1, &json!("image")),
        "{document}"
    );
    let room = id_of(&document)?;
    let here = image_of(&alice, &room).await?;
    ensure!(here.starts_with(&format!("mxc://{}/", world.servers[0].name)), "{here}");
    assert_eq!(bytes_of(&alice, &here).await?, png);
    let sent = alice.upload("notes.txt", "text/plain", b"hello".to_vec()).await?;
    let file = json!({"msgtype": "m.file", "body": "notes.txt", "url": format!("mxc://{sent}")});
    alice.try_send(&room, "m.room.message", file).await?.ok()?;

    let (status, archive) = exported(&alice, &room, "zip").await?;
    assert_eq!(status, StatusCode::OK);
    let found = files(&archive)?;
    let content = |name: &str| {
        found
            .iter()
            .find(|(found, _)| found == name)
            .map(|(_, content)| content.as_str())
    };
    let manifest: Value = serde_json::from_str(content("manifest.json").context("no manifest")?)?;
    let attachments = manifest["attachments"].as_array().context("no attachments")?;
    assert_eq!(
        (attachments.len(), &attachments[0]["uri"]),
        (2, &json!(here)),
        "{manifest}"
    );
    assert_eq!(content(attachments[1]["file"].as_str().unwrap()), Some("hello"));
    let image = attachments[0]["file"].as_str().unwrap();
    ensure!(
        content("content.html")
            .unwrap_or_default()
            .contains(&format!("<img src=\"{image}\""))
    );
    ensure!(
        content("content.md")
            .unwrap_or_default()
            .contains(&format!("(<{image}>)"))
    );
    ensure!(content("content.md").unwrap_or_default().contains(elsewhere));

    let there = imported_elsewhere(&bob, &archive).await?;
    ensure!(
        there.starts_with(&format!("mxc://{}/", world.servers[1].name)),
        "{there}"
    );
    assert_eq!(bytes_of(&bob, &there).await?, png);
    // An office file has the image too, if pandoc is installed.
    let (status, office) = exported(&alice, &room, "docx").await?;
    if status == StatusCode::OK {
        let (_, back) = imported(&bob, "format=docx", None, &office).await?;
        let back = image_of(&bob, &id_of(&back)?).await?;
        assert_eq!(bytes_of(&bob, &back).await?, png);
    }
    Ok(())
}

/// Imports an archive once, and broken ones not at all. Returns the address of the image.
async fn imported_elsewhere(bob: &Client, archive: &[u8]) -> Result<String> {
    let (status, copy) = imported(bob, "format=zip", Some("key"), archive).await?;
    assert_eq!(status, StatusCode::CREATED, "{copy}");
    let lost = copy["lost"].as_array().context("no list")?.iter();
    let kinds: Vec<&str> = lost.filter_map(|lost| lost["kind"].as_str()).collect();
    assert_eq!(kinds, ["attachment", "message", "history"], "{copy}");
    assert_eq!(imported(bob, "format=zip", Some("key"), archive).await?.1, copy);
    for broken in [b"no archive".as_slice(), &archive[..archive.len() / 2]] {
        let (status, refused) = imported(bob, "format=zip", None, broken).await?;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{refused}");
    }
    let room = id_of(&copy)?;
    let there = image_of(bob, &room).await?;
    assert_eq!(text_of(bob, &room, "text").await?.matches('a').count(), 1);
    Ok(there)
}

/// Without pandoc on this machine both directions are refused as such.
#[tokio::test]
async fn office_files_are_converted_if_pandoc_is_installed() -> Result<()> {
    let world = World::new(1).await?;
    let alice = world.user(0, "alice").await?;
    let markdown = "# Title\n\none **two** ![pic](<https://127.0.0.1:1/x.png>)\n\n- item\n";
    let (_, first) = imported(&alice, "format=markdown", None, markdown.as_bytes()).await?;
    let room = id_of(&first)?;
    let (status, file) = exported(&alice, &room, "docx").await?;
    let is_installed = std::process::Command::new("pandoc").arg("--version").output().is_ok();
    if !is_installed {
        let refused: Value = serde_json::from_slice(&file)?;
        assert_eq!(
            (status, &refused["errcode"]),
            (StatusCode::NOT_IMPLEMENTED, &json!("DEV_WEFT_NO_CONVERTER"))
        );
        return Ok(());
    }
    assert_eq!(status, StatusCode::OK, "{}", String::from_utf8_lossy(&file));
    let (status, copy) = imported(&alice, "format=docx&title=Back", None, &file).await?;
    assert_eq!(status, StatusCode::CREATED, "{copy}");
    let back = text_of(&alice, &id_of(&copy)?, "markdown").await?;
    assert_eq!(back, "# Title\n\none **two**\n\npic\n\n- item\n");
    let (status, refused) = imported(&alice, "format=docx", None, b"no office file").await?;
    assert_eq!(
        (status, &refused["errcode"]),
        (StatusCode::UNPROCESSABLE_ENTITY, &json!("DEV_WEFT_NOT_RENDERED"))
    );
    Ok(())
}
