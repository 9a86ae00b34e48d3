//! What every media store must do, as tests that each engine runs. Must only be called by tests; it panics at the first
//! difference.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

use std::path::{Path, PathBuf};

use futures_util::TryStreamExt as _;
use weft_wire::limits::{MEDIA_PART_BYTES, MEDIA_READ_BYTES};

use crate::{Area, BlobError, BlobKey, Blobs};

fn bytes(length: u64, seed: u8) -> Vec<u8> {
    (0..length).map(|n| (n / 251) as u8 ^ (n % 251) as u8 ^ seed).collect()
}

fn incoming(folder: &Path, bytes: &[u8]) -> PathBuf {
    let path = folder.join("incoming");
    std::fs::write(&path, bytes).unwrap();
    path
}

async fn read(blobs: &dyn Blobs, key: &BlobKey, range: std::ops::Range<u64>) -> Vec<u8> {
    let parts: Vec<bytes::Bytes> = blobs.read(key, range).await.unwrap().try_collect().await.unwrap();
    assert!(parts.iter().all(|part| part.len() as u64 <= MEDIA_READ_BYTES));
    parts.concat()
}

/// Runs all tests. `folder` is an empty folder for files that are to be stored.
pub async fn check(blobs: &dyn Blobs, folder: &Path) {
    files_are_read_as_they_were_written(blobs, folder).await;
    ranges_are_read(blobs, folder).await;
    a_missing_file_is_an_error(blobs).await;
    a_file_is_removed_once(blobs, folder).await;
}

async fn files_are_read_as_they_were_written(blobs: &dyn Blobs, folder: &Path) {
    let sizes = [
        0,
        1,
        1000,
        MEDIA_PART_BYTES - 1,
        MEDIA_PART_BYTES,
        2 * MEDIA_PART_BYTES + 7,
    ];
    for (area, size) in Area::ALL.into_iter().cycle().zip(sizes) {
        let key = BlobKey::new(area, &format!("whole-{size}"));
        let content = bytes(size, 1);
        blobs.put(&key, &incoming(folder, &content)).await.unwrap();
        assert_eq!(blobs.size(&key).await.unwrap(), Some(size));
        assert!(read(blobs, &key, 0..size).await == content, "{size}");
    }
    // The same name in another area is another file.
    let (one, other) = (BlobKey::new(Area::Content, "same"), BlobKey::new(Area::Cache, "same"));
    blobs.put(&one, &incoming(folder, b"one")).await.unwrap();
    assert_eq!(blobs.size(&other).await.unwrap(), None);
    // A repetition replaces the file.
    blobs.put(&one, &incoming(folder, b"three")).await.unwrap();
    assert_eq!(read(blobs, &one, 0..5).await, b"three");
}

async fn ranges_are_read(blobs: &dyn Blobs, folder: &Path) {
    let key = BlobKey::new(Area::Content, "ranges");
    let size = MEDIA_PART_BYTES + 100;
    let content = bytes(size, 2);
    blobs.put(&key, &incoming(folder, &content)).await.unwrap();
    for range in [
        0..1,
        0..size,
        5..5,
        size - 1..size,
        MEDIA_PART_BYTES - 1..MEDIA_PART_BYTES + 1,
        size..size,
    ] {
        let wanted = usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap();
        assert!(
            read(blobs, &key, range.clone()).await == content.get(wanted).unwrap(),
            "{range:?}"
        );
    }
    for range in [0..size + 1, size + 1..size + 1] {
        assert!(matches!(blobs.read(&key, range).await, Err(BlobError::Range)));
    }
}

async fn a_missing_file_is_an_error(blobs: &dyn Blobs) {
    let key = BlobKey::new(Area::Content, "missing");
    assert!(matches!(blobs.read(&key, 0..0).await, Err(BlobError::Missing { .. })));
    assert_eq!(blobs.size(&key).await.unwrap(), None);
}

async fn a_file_is_removed_once(blobs: &dyn Blobs, folder: &Path) {
    let key = BlobKey::new(Area::Thumbnail, "removed");
    blobs.put(&key, &incoming(folder, b"x")).await.unwrap();
    blobs.delete(&key).await.unwrap();
    blobs.delete(&key).await.unwrap();
    assert_eq!(blobs.size(&key).await.unwrap(), None);
}
