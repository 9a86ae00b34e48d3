//! The media store in a folder does what every media store must do.
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use weft_media::{FolderBlobs, contract};

#[tokio::test]
async fn a_folder_is_a_media_store() {
    let folder = tempfile::tempdir().unwrap();
    let blobs = FolderBlobs::open(&folder.path().join("media")).unwrap();
    contract::check(&blobs, folder.path()).await;
}
