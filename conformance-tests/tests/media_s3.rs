//! Files in a bucket of an S3 service, a stock SeaweedFS: the engine does what every media store must do, and a server stores
//! its files there.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

use std::path::Path;

use anyhow::{Result, ensure};
use reqwest::StatusCode;
use weft_conformance_tests::{
    seaweed::{ACCESS_KEY, BUCKET, SECRET_KEY, Seaweed},
    world::World,
};
use weft_media::{S3Blobs, S3Settings, contract};

/// One service for both: two that start at the same time can take each other's ports.
#[tokio::test]
async fn a_bucket_is_a_media_store_and_a_server_stores_its_files_there() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let seaweed = Seaweed::start(folder.path()).await?;
    engine(&seaweed, folder.path()).await?;
    server(&seaweed).await
}

async fn engine(seaweed: &Seaweed, folder: &Path) -> Result<()> {
    let blobs = S3Blobs::new(&S3Settings {
        endpoint: seaweed.url.clone(),
        bucket: BUCKET.to_owned(),
        region: "us-east-1".to_owned(),
        access_key_id: ACCESS_KEY.to_owned(),
        secret_access_key: SECRET_KEY.to_owned(),
        prefix: "tests".to_owned(),
    })?;
    contract::check(&blobs, folder).await;
    Ok(())
}

async fn server(seaweed: &Seaweed) -> Result<()> {
    let mut world = World::with_config(1, &seaweed.configuration()).await?;
    let alice = world.user(0, "alice").await?;
    // More than one part.
    let large: Vec<u8> = (0..20_000_000_u32).map(|n| (n / 7) as u8).collect();
    let file = alice.upload("large", "application/octet-stream", large.clone()).await?;
    let server = world.servers.first_mut().unwrap();
    ensure!(
        std::fs::read_dir(server.data().join("media"))?.count() == 1,
        "files outside of the bucket"
    );
    server.kill();
    server.boot().await?;
    let answer = alice.file("download", &file, &[]).await?;
    ensure!(answer.status() == StatusCode::OK, "{}", answer.text().await?);
    ensure!(answer.bytes().await? == large);
    let part = alice
        .file("download", &file, &[("range", "bytes=8388600-8388615")])
        .await?;
    ensure!(part.status() == StatusCode::PARTIAL_CONTENT);
    ensure!(part.bytes().await? == large.get(8_388_600..8_388_616).unwrap());
    Ok(())
}
