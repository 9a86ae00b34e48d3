//! Uploaded files over HTTPS: uploads, downloads on the same and on another server, ranges, thumbnails, limits, removal.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests fail by panicking"
)]

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};
use weft_conformance_tests::{
    client::{Client, segment},
    malicious::{MaliciousServer, RecordedRequest, reply},
    world::World,
};

/// An image of one pixel.
const PNG: &str = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGNgYGgAAACEAIHJde6SAAAAAElFTkSuQmCC";

fn png() -> Vec<u8> {
    BASE64_STANDARD.decode(PNG).unwrap()
}

fn header<'a>(answer: &'a Response, name: &str) -> &'a str {
    answer.headers().get(name).map_or("", |value| value.to_str().unwrap())
}

async fn refused(answer: Response, status: StatusCode, errcode: &str) -> Result<()> {
    let found = answer.status();
    let body: Value = answer.json().await.unwrap_or_default();
    ensure!(found == status && body["errcode"] == errcode, "{found} {body}");
    Ok(())
}

async fn content(client: &Client, file: &str) -> Result<Bytes> {
    let answer = client.file("download", file, &[]).await?;
    ensure!(answer.status() == StatusCode::OK, "{}", answer.text().await?);
    Ok(answer.bytes().await?)
}

#[tokio::test]
async fn a_file_is_downloaded_on_both_servers_and_harmless_in_a_browser() -> Result<()> {
    let world = World::new(2).await?;
    let (alice, bob) = (world.user(0, "alice").await?, world.user(1, "bob").await?);
    let file = alice.upload("häuser.png", "text/html", png()).await?;
    ensure!(
        file == alice.upload("other", "image/png", png()).await?,
        "the same bytes, another id"
    );
    for client in [&alice, &bob, &bob] {
        let answer = client.file("download", &file, &[]).await?;
        ensure!(answer.status() == StatusCode::OK, "{}", answer.text().await?);
        // The type is that of the bytes, whatever was stated.
        assert_eq!(header(&answer, "content-type"), "image/png");
        assert_eq!(
            header(&answer, "content-disposition"),
            "inline; filename*=utf-8''h%C3%A4user.png"
        );
        assert_eq!(header(&answer, "content-length"), png().len().to_string());
        assert_eq!(header(&answer, "cache-control"), "private, max-age=31536000, immutable");
        assert_eq!(header(&answer, "x-content-type-options"), "nosniff");
        assert_eq!(header(&answer, "cross-origin-resource-policy"), "cross-origin");
        ensure!(header(&answer, "content-security-policy").starts_with("sandbox; default-src 'none'"));
        let tag = header(&answer, "etag").to_owned();
        assert_eq!(answer.bytes().await?, png());
        let known = client.file("download", &file, &[("if-none-match", &tag)]).await?;
        assert_eq!(
            (known.status(), known.bytes().await?.len()),
            (StatusCode::NOT_MODIFIED, 0)
        );
        let part = client.file("download", &file, &[("range", "bytes=1-3")]).await?;
        assert_eq!(part.status(), StatusCode::PARTIAL_CONTENT);
        assert_eq!(header(&part, "content-range"), format!("bytes 1-3/{}", png().len()));
        assert_eq!(part.bytes().await?, png()[1..4]);
        let beyond = client.file("download", &file, &[("range", "bytes=9999-")]).await?;
        assert_eq!(header(&beyond, "content-range"), format!("bytes */{}", png().len()));
        refused(beyond, StatusCode::RANGE_NOT_SATISFIABLE, "M_INVALID_PARAM").await?;
        let named = client.file("download", &format!("{file}/x.svg"), &[]).await?;
        assert_eq!(header(&named, "content-disposition"), "inline; filename=x.svg");
        let small = client
            .file("thumbnail", &format!("{file}?width=32&height=32&method=crop"), &[])
            .await?;
        ensure!(small.status() == StatusCode::OK, "{}", small.text().await?);
        assert_eq!(header(&small, "content-type"), "image/jpeg");
        ensure!(small.bytes().await?.starts_with(&[0xFF, 0xD8, 0xFF]));
    }
    let page = alice
        .upload("a.html", "text/html", b"<script>alert(1)</script>".to_vec())
        .await?;
    for client in [&alice, &bob] {
        let answer = client.file("download", &page, &[]).await?;
        assert_eq!(header(&answer, "content-disposition"), "attachment; filename=a.html");
        let small = client
            .file("thumbnail", &format!("{page}?width=32&height=32"), &[])
            .await?;
        refused(small, StatusCode::BAD_REQUEST, "M_UNKNOWN").await?;
    }
    let missing = format!("{}/{}", world.servers[0].name, "A".repeat(43));
    for client in [&alice, &bob] {
        for file in [missing.as_str(), &format!("{}/%2e%2e%2fx", world.servers[0].name)] {
            let answer = client.file("download", file, &[]).await?;
            refused(answer, StatusCode::NOT_FOUND, "M_NOT_FOUND").await?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn files_need_a_token_and_the_old_paths_have_none() -> Result<()> {
    let world = World::new(1).await?;
    let alice = world.user(0, "alice").await?;
    let file = alice.upload("a.txt", "text/plain", b"hello".to_vec()).await?;
    let http = world.authority.http()?;
    for path in [
        format!("/_matrix/client/v1/media/download/{file}"),
        format!("/_matrix/client/v1/media/thumbnail/{file}?width=1&height=1"),
        "/_matrix/client/v1/media/config".to_owned(),
        "/_weft/client/v1/media".to_owned(),
    ] {
        let answer = http.get(format!("{}{path}", alice.url)).send().await?;
        refused(answer, StatusCode::UNAUTHORIZED, "M_MISSING_TOKEN").await?;
    }
    let upload = http.post(format!("{}/_matrix/media/v3/upload", alice.url)).body("x");
    refused(upload.send().await?, StatusCode::UNAUTHORIZED, "M_MISSING_TOKEN").await?;
    for version in ["v3", "r0", "v1"] {
        for what in ["download", "thumbnail"] {
            let path = format!("/_matrix/media/{version}/{what}/{file}");
            let answer = alice.send(Method::GET, &path, &[], Vec::new()).await?;
            refused(answer, StatusCode::NOT_FOUND, "M_NOT_FOUND").await?;
        }
    }
    // Another server must sign its request.
    let id = file.split_once('/').context("no id")?.1;
    let unsigned = format!("{}/_matrix/federation/v1/media/download/{id}", alice.url);
    refused(
        http.get(unsigned).send().await?,
        StatusCode::UNAUTHORIZED,
        "M_UNAUTHORIZED",
    )
    .await?;
    let preview = "/_matrix/client/v1/media/preview_url?url=http://127.0.0.1/";
    let preview = alice.send(Method::GET, preview, &[], Vec::new()).await?;
    refused(preview, StatusCode::NOT_FOUND, "M_UNRECOGNIZED").await
}

#[tokio::test]
async fn a_message_with_a_file_that_is_uploaded_later_reaches_a_user_of_another_server() -> Result<()> {
    let world = World::new(2).await?;
    let (alice, bob, room) = world.shared_document().await?;
    let created = alice.post("/_matrix/media/v1/create", json!({})).await?;
    let uri = created["content_uri"].as_str().context("no content_uri")?.to_owned();
    ensure!(created["unused_expires_at"].is_u64());
    let file = uri.strip_prefix("mxc://").context("no mxc")?.to_owned();
    for client in [&alice, &bob] {
        let early = client.file("download", &format!("{file}?timeout_ms=0"), &[]).await?;
        refused(early, StatusCode::GATEWAY_TIMEOUT, "M_NOT_YET_UPLOADED").await?;
    }
    let image = json!({"msgtype": "m.image", "body": "a.png", "url": uri});
    let sent = alice.try_send(&room, "m.room.message", image).await?.ok()?;
    let event = sent["event_id"].as_str().context("no event_id")?;
    let url = bob
        .until("the image", || async {
            let path = Client::in_room(&room, &format!("event/{}", segment(event)));
            let answer = bob.request(Method::GET, &path, None).await?;
            Ok(answer.body["content"]["url"].as_str().map(str::to_owned))
        })
        .await?;
    assert_eq!(url, uri);
    let waiting = tokio::spawn({
        let (bob, file) = (bob.clone(), file.clone());
        async move { content(&bob, &file).await }
    });
    let path = format!("/_matrix/media/v3/upload/{file}");
    let other = bob.send(Method::PUT, &path, &[], png()).await?;
    refused(other, StatusCode::FORBIDDEN, "M_FORBIDDEN").await?;
    let upload = alice
        .send(Method::PUT, &path, &[("content-type", "image/png")], png())
        .await?;
    ensure!(upload.status() == StatusCode::OK, "{}", upload.text().await?);
    let again = alice.send(Method::PUT, &path, &[], b"other".to_vec()).await?;
    refused(again, StatusCode::CONFLICT, "M_CANNOT_OVERWRITE_MEDIA").await?;
    // The request of bob's server waits for the upload, or bob repeats it.
    match waiting.await? {
        Ok(bytes) => assert_eq!(bytes, png()),
        Err(_) => assert_eq!(content(&bob, &file).await?, png()),
    }
    Ok(())
}

#[tokio::test]
async fn a_file_stays_after_a_crash_and_in_the_cache_of_others_until_it_is_removed() -> Result<()> {
    let mut world = World::new(2).await?;
    let (alice, bob) = (world.user(0, "alice").await?, world.user(1, "bob").await?);
    let large: Vec<u8> = (0..3_000_000_u32).map(|n| (n / 7) as u8).collect();
    let file = alice.upload("large", "application/octet-stream", large.clone()).await?;
    // An upload whose connection breaks.
    let parts = [Ok(Bytes::from(vec![1; 100_000])), Err(std::io::Error::other("broken"))];
    let broken = reqwest::Body::wrap_stream(stream::iter(parts));
    ensure!(
        alice
            .send(Method::POST, "/_matrix/media/v3/upload", &[], broken)
            .await
            .is_err()
    );
    world.servers[0].kill();
    world.servers[0].boot().await?;
    assert_eq!(content(&alice, &file).await?, large);
    let incoming = world.servers[0].data().join("media/incoming");
    assert_eq!(std::fs::read_dir(incoming)?.count(), 0);
    let own = alice.get("/_weft/client/v1/media").await?;
    let id = file.split_once('/').context("no id")?.1;
    assert_eq!(
        own["usage"],
        json!({"bytes": large.len(), "files": 1, "maxBytes": 10_737_418_240_u64})
    );
    assert_eq!(own["files"][0]["id"], id);
    assert_eq!(own["files"][0]["uri"], format!("mxc://{file}"));

    assert_eq!(content(&bob, &file).await?, large);
    let path = format!("/_weft/client/v1/media/{id}");
    refused(
        bob.send(Method::DELETE, &path, &[], Vec::new()).await?,
        StatusCode::NOT_FOUND,
        "M_NOT_FOUND",
    )
    .await?;
    let removed = alice.send(Method::DELETE, &path, &[], Vec::new()).await?;
    assert_eq!(removed.status(), StatusCode::NO_CONTENT);
    let gone = alice.file("download", &file, &[]).await?;
    refused(gone, StatusCode::NOT_FOUND, "M_NOT_FOUND").await?;
    let own = alice.get("/_weft/client/v1/media").await?;
    assert_eq!((&own["usage"]["bytes"], &own["files"]), (&json!(0), &json!([])));
    // Another server keeps what it has.
    world.servers[0].kill();
    assert_eq!(content(&bob, &file).await?, large);
    let other = format!("{}/{}", world.servers[0].name, "B".repeat(43));
    let unreachable = bob.file("download", &other, &[]).await?;
    refused(unreachable, StatusCode::BAD_GATEWAY, "DEV_WEFT_SERVER_UNREACHABLE").await
}

#[tokio::test]
async fn the_operator_limits_files_and_their_types() -> Result<()> {
    let limits = "[media]\nmax_upload_bytes = 1000\nbytes_per_user = 1500\nallowed_types = [\"text/*\"]\n";
    let world = World::with_config(1, limits).await?;
    let alice = world.user(0, "alice").await?;
    let config = alice.get("/_matrix/client/v1/media/config").await?;
    assert_eq!(config, json!({"m.upload.size": 1000}));
    let upload = async |bytes: reqwest::Body, kind: &str| {
        let path = "/_matrix/media/v3/upload";
        alice.send(Method::POST, path, &[("content-type", kind)], bytes).await
    };
    let large = upload(vec![b'x'; 1001].into(), "text/plain").await?;
    refused(large, StatusCode::PAYLOAD_TOO_LARGE, "M_TOO_LARGE").await?;
    // Without a length.
    let parts = stream::iter((0..11).map(|_| Ok::<_, std::io::Error>(Bytes::from(vec![b'x'; 100]))));
    let large = upload(reqwest::Body::wrap_stream(parts), "text/plain").await?;
    refused(large, StatusCode::PAYLOAD_TOO_LARGE, "M_TOO_LARGE").await?;
    let image = upload(png().into(), "image/png").await?;
    refused(image, StatusCode::FORBIDDEN, "M_FORBIDDEN").await?;
    alice.upload("a", "text/plain", vec![b'x'; 1000]).await?;
    let full = upload(vec![b'y'; 501].into(), "text/plain").await?;
    refused(full, StatusCode::PAYLOAD_TOO_LARGE, "M_TOO_LARGE").await?;
    alice.upload("a", "text/plain", vec![b'y'; 500]).await?;
    Ok(())
}

/// T77: what a decoder fails at ends with a refusal, and the server answers others.
#[tokio::test]
async fn hostile_images_have_no_thumbnail() -> Result<()> {
    let world = World::new(1).await?;
    let alice = world.user(0, "alice").await?;
    let mut enormous = png();
    enormous.splice(16..24, [0, 0, 0xC3, 0x50, 0, 0, 0xC3, 0x50]);
    let cut = png()[..40].to_vec();
    let svg = b"<svg xmlns='http://www.w3.org/2000/svg' onload='x()'/>".to_vec();
    let gif = [b"GIF89a\xFF\xFF\xFF\xFF\xF7\0\0".to_vec(), vec![0x2C; 5_000]].concat();
    let webp = [b"RIFF\xFF\xFF\xFF\x7FWEBPVP8L".to_vec(), vec![0xFF; 5_000]].concat();
    for (name, bytes) in [
        ("enormous", enormous),
        ("cut", cut),
        ("svg", svg),
        ("gif", gif),
        ("webp", webp),
    ] {
        let file = alice.upload(name, "image/png", bytes).await?;
        let answer = alice
            .file("thumbnail", &format!("{file}?width=96&height=96"), &[])
            .await?;
        let status = answer.status();
        ensure!(
            [StatusCode::BAD_REQUEST, StatusCode::PAYLOAD_TOO_LARGE].contains(&status),
            "{name}: {status} {}",
            answer.text().await?
        );
        let file = alice.upload("good", "image/png", png()).await?;
        let answer = alice
            .file("thumbnail", &format!("{file}?width=96&height=96"), &[])
            .await?;
        assert_eq!(answer.status(), StatusCode::OK);
    }
    tokio::time::timeout(Duration::from_secs(60), alice.get("/_matrix/client/v3/account/whoami")).await??;
    Ok(())
}

/// What a malicious server answers to a request for a file, by its id. `own` is its name.
fn malicious_file(own: &str, asked: &RecordedRequest) -> axum::response::Response {
    let endless = |first: &'static str| {
        let more = stream::repeat_with(|| Ok::<_, std::io::Error>(Bytes::from(vec![b'x'; 10_000])));
        axum::body::Body::from_stream(stream::once(async move { Ok(Bytes::from(first)) }).chain(more))
    };
    const BEGIN: &str = "--b\r\nContent-Type: application/json\r\n\r\n{}\r\n--b\r\n";
    let whole = |part: &str| axum::body::Body::from(format!("{BEGIN}{part}\r\n--b--"));
    let at = |url: &str| whole(&format!("Location: {url}\r\n\r\n"));
    let mut kind = "multipart/mixed; boundary=b";
    let body = match asked.segment_from_end(0).as_str() {
        "good" => whole("Content-Disposition: attachment; filename=\"../../a\"\r\n\r\nhello"),
        "located" => at(&format!("https://{own}/elsewhere/file")),
        "redirected" => at(&format!("https://{own}/elsewhere/redirect")),
        "private" => at("https://10.1.2.3/file"),
        "plain" => at(&format!("http://{own}/elsewhere/file")),
        "file" => at("file:///etc/passwd"),
        "endless" => endless("--b\r\nA: b\r\n\r\n{}\r\n--b\r\nA: b\r\n\r\n"),
        "headless" => endless(""),
        "json" => endless("--b\r\nA: b\r\n\r\n"),
        "cut" => axum::body::Body::from(format!("{BEGIN}A: b\r\n\r\nhello")),
        "form" => {
            kind = "multipart/form-data; boundary=b";
            whole("A: b\r\n\r\nhello")
        }
        "missing" => return reply(StatusCode::NOT_FOUND, &json!({"errcode": "M_NOT_FOUND"})),
        _ => return reply(StatusCode::INTERNAL_SERVER_ERROR, &json!({"errcode": "M_UNKNOWN"})),
    };
    axum::response::Response::builder()
        .header("content-type", kind)
        .body(body)
        .unwrap()
}

/// T74, T76: redirects into the network, files and answers without an end.
#[tokio::test]
async fn files_of_a_malicious_server_are_limited() -> Result<()> {
    let world = World::with_config(1, "[media]\nmax_upload_bytes = 1000000\n").await?;
    let alice = world.user(0, "alice").await?;
    let malicious = MaliciousServer::start(&world.authority, "malicious").await?;
    let own = malicious.name().to_string();
    let name = own.clone();
    malicious.answers("/_matrix/federation/v1/media/download/", move |asked| {
        malicious_file(&name, asked)
    });
    malicious.answers("/elsewhere/file", |_| axum::response::Response::new("hello".into()));
    let name = own.clone();
    malicious.answers("/elsewhere/redirect", move |_| {
        let answer = axum::response::Response::builder().status(302);
        let answer = answer.header("location", format!("https://{name}/elsewhere/file"));
        answer.body(axum::body::Body::empty()).unwrap()
    });
    for id in ["good", "located"] {
        let answer = alice.file("download", &format!("{own}/{id}"), &[]).await?;
        ensure!(answer.status() == StatusCode::OK, "{id}: {}", answer.text().await?);
        ensure!(!header(&answer, "content-disposition").contains(".."));
        ensure!(answer.bytes().await? == "hello", "{id}");
    }
    let located = malicious.asked("/elsewhere/file");
    // The signature of this server is for the server that it asks, not for the location.
    ensure!(located.len() == 1 && located[0].authorization.is_none(), "{located:?}");
    for id in [
        "redirected",
        "private",
        "plain",
        "file",
        "headless",
        "json",
        "cut",
        "form",
        "broken",
    ] {
        let answer = alice.file("download", &format!("{own}/{id}"), &[]).await?;
        refused(answer, StatusCode::BAD_GATEWAY, "M_UNKNOWN")
            .await
            .context(id)?;
    }
    let endless = alice.file("download", &format!("{own}/endless"), &[]).await?;
    refused(endless, StatusCode::PAYLOAD_TOO_LARGE, "M_TOO_LARGE").await?;
    let missing = alice.file("download", &format!("{own}/missing"), &[]).await?;
    refused(missing, StatusCode::NOT_FOUND, "M_NOT_FOUND").await?;
    let data = world.servers[0].data().join("media");
    assert_eq!(std::fs::read_dir(data.join("incoming"))?.count(), 0);
    assert_eq!(std::fs::read_dir(data.join("cache"))?.count(), 2);
    Ok(())
}
