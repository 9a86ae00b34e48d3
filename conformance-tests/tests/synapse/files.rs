//! Files across servers: each downloads what a user of the other one uploaded, and makes a thumbnail of it. Must not depend on
//! which server has the file.

use anyhow::{Context as _, Result, ensure};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use reqwest::{Method, StatusCode};
use serde_json::json;

use crate::pair::Pair;

/// An image of one pixel, in base64.
const PNG: &str = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGNgYGgAAACEAIHJde6SAAAAAElFTkSuQmCC";

#[tokio::test]
async fn files_are_downloaded_from_the_other_server() -> Result<()> {
    let pair = Pair::new().await?;
    let png = BASE64_STANDARD.decode(PNG)?;
    let large: Vec<u8> = (0..2_000_000_u32).map(|n| (n / 7) as u8).collect();
    for (host, guest) in pair.directions() {
        let what = || format!("uploaded by {}", host.one.user);
        for (name, kind, bytes) in [
            ("a b.png", "image/png", &png),
            ("größe.bin", "application/octet-stream", &large),
        ] {
            let file = host.one.upload(name, kind, bytes.clone()).await.with_context(what)?;
            let answer = guest.one.file("download", &file, &[]).await?;
            ensure!(answer.status() == StatusCode::OK, "{} {}", what(), answer.text().await?);
            ensure!(answer.headers()["content-type"] == kind, "{:?}", answer.headers());
            let disposition = answer.headers()["content-disposition"].to_str()?.to_owned();
            ensure!(disposition.contains("filename"), "{disposition}");
            ensure!(answer.bytes().await? == *bytes, "{} other bytes", what());
        }
        let file = host.one.upload("a.png", "image/png", png.clone()).await?;
        let small = guest
            .one
            .file("thumbnail", &format!("{file}?width=32&height=32&method=crop"), &[])
            .await?;
        ensure!(small.status() == StatusCode::OK, "{} {}", what(), small.text().await?);
        let missing = format!("{}/{}", host.server, "A".repeat(43));
        let answer = guest.one.file("download", &missing, &[]).await?;
        ensure!(
            answer.status() == StatusCode::NOT_FOUND,
            "{} {}",
            what(),
            answer.text().await?
        );
        // An id that is created before its upload.
        let created = host.one.post("/_matrix/media/v1/create", json!({})).await?;
        let uri = created["content_uri"].as_str().context("no content_uri")?;
        let file = uri.strip_prefix("mxc://").context("no mxc")?.to_owned();
        let early = guest.one.file("download", &format!("{file}?timeout_ms=0"), &[]).await?;
        ensure!(!early.status().is_success(), "{}", what());
        let path = format!("/_matrix/media/v3/upload/{file}");
        let upload = host
            .one
            .send(Method::PUT, &path, &[("content-type", "image/png")], png.clone())
            .await?;
        ensure!(upload.status().is_success(), "{} {}", what(), upload.text().await?);
        let bytes = guest
            .one
            .until("the uploaded file", || async {
                let answer = guest.one.file("download", &file, &[]).await?;
                Ok(if answer.status().is_success() {
                    Some(answer.bytes().await?)
                } else {
                    None
                })
            })
            .await?;
        ensure!(bytes == png, "{}", what());
    }
    Ok(())
}
