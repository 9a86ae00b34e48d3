//! Uploads, quotas, removal and the cache of other servers' files, over the memory engine and a folder.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use ruma::{OwnedServerName, ServerName, UserId, server_name, user_id};
use tempfile::TempDir;
use tokio::sync::Notify;
use weft_clock::testing::ManualClock;
use weft_jobs::Scheduler;
use weft_media::{
    ContentId, Declared, FolderBlobs, Found, Media, MediaError, MediaPorts, MediaSettings, RemoteError, RemoteFile,
    RemoteMedia, Thumbnail, ThumbnailError, ThumbnailMethod, ThumbnailSize, Thumbnailer, Wait,
};
use weft_store::{Store, memory::MemoryEngine};

const DAY: u64 = 24 * 60 * 60 * 1_000;
const PNG: &[u8] = b"\x89PNG\r\n\x1a\nnot really";

/// A server whose files are 1,000 bytes of the first character of their id; ids that begin with `x` do not exist.
/// Those that begin with `s` wait until they are released.
#[derive(Default)]
struct Others(AtomicUsize, Notify, Notify);

#[async_trait]
impl RemoteMedia for Others {
    async fn open(&self, _: &UserId, _: &ServerName, id: &str) -> Result<RemoteFile, RemoteError> {
        self.0.fetch_add(1, Ordering::SeqCst);
        let first = *id.as_bytes().first().unwrap();
        if first == b's' {
            self.1.notify_one();
            self.2.notified().await;
        }
        if first == b'x' {
            return Err(RemoteError::NotFound);
        }
        let parts = [vec![first; 400], vec![first; 600]].map(|part| Ok(Bytes::from(part)));
        let broken = id
            .starts_with("broken")
            .then(|| Err(std::io::ErrorKind::ConnectionReset.into()));
        Ok(RemoteFile {
            content_type: Some("text/plain".to_owned()),
            name: Some("../a.txt".to_owned()),
            body: stream::iter(parts.into_iter().chain(broken)).boxed(),
        })
    }
}

/// The thumbnail of an image is its length.
struct Lengths(AtomicUsize);

#[async_trait]
impl Thumbnailer for Lengths {
    async fn thumbnail(&self, _: &str, image: Bytes, _: ThumbnailSize) -> Result<Thumbnail, ThumbnailError> {
        self.0.fetch_add(1, Ordering::SeqCst);
        Ok(Thumbnail {
            bytes: image.len().to_string().into(),
            content_type: "image/png",
        })
    }
}

struct World {
    media: Media,
    clock: Arc<ManualClock>,
    others: Arc<Others>,
    thumbnails: Arc<Lengths>,
    folder: TempDir,
    jobs: Scheduler,
}

impl World {
    async fn new(settings: MediaSettings) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = ManualClock::at(1_700_000_000_000);
        let (others, thumbnails) = (Arc::new(Others::default()), Arc::new(Lengths(AtomicUsize::new(0))));
        let media = Media::open(MediaPorts {
            server_name: server_name!("here.test").to_owned(),
            store: Store::open(MemoryEngine::new()).await.unwrap(),
            blobs: Arc::new(FolderBlobs::open(&folder.path().join("blobs")).unwrap()),
            incoming: folder.path().join("incoming"),
            clock: clock.clone(),
            thumbnails: thumbnails.clone(),
            remote: others.clone(),
            settings,
        })
        .unwrap();
        let jobs = media.start_jobs(|| 7).await.unwrap();
        Self {
            media,
            clock,
            others,
            thumbnails,
            folder,
            jobs,
        }
    }

    async fn upload(&self, user: &UserId, bytes: &[u8]) -> Result<ContentId, MediaError> {
        self.upload_as(user, bytes, None).await
    }

    async fn upload_as(&self, user: &UserId, bytes: &[u8], id: Option<String>) -> Result<ContentId, MediaError> {
        let declared = Declared::new(Some("text/plain"), Some("a.txt"));
        let mut upload = self.media.begin_upload(user, declared, id, None).await?;
        for part in bytes.chunks(7) {
            upload.write(part).await?;
        }
        upload.finish().await
    }

    async fn find(&self, server: &ServerName, id: &str) -> Result<Found, MediaError> {
        let wait = Wait {
            at_most: Duration::ZERO,
            fetch: true,
        };
        self.media.find(alice(), server, id, wait).await
    }

    async fn content(&self, found: &Found) -> Vec<u8> {
        let parts: Vec<Bytes> = self
            .media
            .read(found, 0..found.size)
            .await
            .unwrap()
            .try_collect()
            .await
            .unwrap();
        parts.concat()
    }

    /// Files below a folder.
    fn files(&self, folder: &str) -> Vec<PathBuf> {
        fn walk(folder: &Path, into: &mut Vec<PathBuf>) {
            for entry in std::fs::read_dir(folder).into_iter().flatten() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    walk(&path, into)
                } else {
                    into.push(path)
                }
            }
        }
        let mut found = Vec::new();
        walk(&self.folder.path().join(folder), &mut found);
        found
    }

    /// Waits until so many files are stored; jobs remove some.
    async fn until_stored(&self, count: usize) {
        for _ in 0..500 {
            if self.files("blobs").len() == count {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{:?}", self.files("blobs"));
    }
}

fn alice() -> &'static UserId {
    user_id!("@alice:here.test")
}

fn bob() -> &'static UserId {
    user_id!("@bob:here.test")
}

fn here() -> OwnedServerName {
    server_name!("here.test").to_owned()
}

#[tokio::test]
async fn the_same_bytes_are_stored_once_and_counted_for_each_owner() {
    let world = World::new(MediaSettings::default()).await;
    let id = world.upload(alice(), b"hello").await.unwrap();
    assert_eq!(world.upload(alice(), b"hello").await.unwrap(), id);
    assert_eq!(world.upload(bob(), b"hello").await.unwrap(), id);
    // The SHA-256 of "hello".
    assert_eq!(id.as_str(), "LPJNul-wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ");
    for user in [alice(), bob()] {
        let own = world.media.own(user, None, 10).await.unwrap();
        assert_eq!((own.used_bytes, own.used_files, own.files.len()), (5, 1, 1));
    }
    assert_eq!(world.files("blobs").len(), 1);
    let found = world.find(&here(), id.as_str()).await.unwrap();
    assert_eq!(world.content(&found).await, b"hello");
    assert_eq!(
        (found.content_type.as_str(), found.name.as_deref()),
        ("text/plain", Some("a.txt"))
    );

    world.media.remove(alice(), &id).await.unwrap();
    assert!(matches!(
        world.media.remove(alice(), &id).await,
        Err(MediaError::NotFound)
    ));
    world.find(&here(), id.as_str()).await.unwrap();
    world.media.remove(bob(), &id).await.unwrap();
    assert!(matches!(
        world.find(&here(), id.as_str()).await,
        Err(MediaError::NotFound)
    ));
    world.until_stored(0).await;
    // It can be uploaded again.
    assert_eq!(world.upload(alice(), b"hello").await.unwrap(), id);
    let found = world.find(&here(), id.as_str()).await.unwrap();
    assert_eq!(world.content(&found).await, b"hello");
    world.jobs.stop(Duration::ZERO).await;
}

#[tokio::test]
async fn an_interrupted_upload_leaves_nothing() {
    let world = World::new(MediaSettings::default()).await;
    let declared = Declared::new(None, None);
    let mut upload = world
        .media
        .begin_upload(alice(), declared, None, Some(10))
        .await
        .unwrap();
    upload.write(b"hel").await.unwrap();
    assert_eq!(world.files("incoming").len(), 1);
    drop(upload);
    assert_eq!(world.files("incoming").len(), 0);
    assert_eq!(world.files("blobs").len(), 0);
    let own = world.media.own(alice(), None, 10).await.unwrap();
    assert_eq!((own.used_bytes, own.used_files), (0, 0));
}

#[tokio::test]
async fn limits_of_a_file_a_user_and_the_server_are_kept() {
    let settings = MediaSettings {
        max_upload_bytes: 8,
        bytes_per_user: 10,
        bytes: 15,
        allowed_types: vec!["text/*".to_owned()],
        ..MediaSettings::default()
    };
    let world = World::new(settings).await;
    assert!(matches!(
        world.upload(alice(), b"123456789").await,
        Err(MediaError::TooLarge { limit: 8 })
    ));
    let declared = || Declared::new(Some("text/plain"), None);
    let stated = world.media.begin_upload(alice(), declared(), None, Some(9)).await;
    assert!(matches!(stated, Err(MediaError::TooLarge { limit: 8 })));
    world.upload(alice(), b"1234567").await.unwrap();
    assert!(matches!(
        world.upload(alice(), b"4444").await,
        Err(MediaError::QuotaExceeded { limit: 10, .. })
    ));
    // The same file again uses nothing.
    world.upload(alice(), b"1234567").await.unwrap();
    world.upload(bob(), b"7654321").await.unwrap();
    assert!(matches!(
        world.upload(bob(), b"22").await,
        Err(MediaError::QuotaExceeded { limit: 15, .. })
    ));
    let other = world
        .media
        .begin_upload(alice(), Declared::new(Some("image/png"), None), None, None)
        .await;
    assert!(matches!(other, Err(MediaError::TypeNotAllowed { .. })));
    assert_eq!(world.files("incoming").len(), 0);
    // What was refused after its bytes were stored is removed.
    world.until_stored(2).await;
}

/// A user who uploads a file again whose bytes are lost gets them back.
#[tokio::test]
async fn lost_bytes_are_stored_again() {
    let world = World::new(MediaSettings::default()).await;
    let id = world.upload(alice(), b"hello").await.unwrap();
    for file in world.files("blobs") {
        std::fs::remove_file(file).unwrap();
    }
    world.upload(bob(), b"hello").await.unwrap();
    let found = world.find(&here(), id.as_str()).await.unwrap();
    assert_eq!(world.content(&found).await, b"hello");
}

#[tokio::test]
async fn an_id_is_created_before_its_upload_and_used_once() {
    let world = World::new(MediaSettings::default()).await;
    let (id, expires_at) = world.media.create_id(alice()).await.unwrap();
    assert_eq!(expires_at, world.clock.millis() + DAY);
    assert!(matches!(
        world.find(&here(), &id).await,
        Err(MediaError::NotYetUploaded)
    ));
    assert!(matches!(
        world.upload_as(bob(), b"hello", Some(id.clone())).await,
        Err(MediaError::OtherUser)
    ));
    assert!(matches!(
        world.upload_as(bob(), b"hello", Some("unknown".to_owned())).await,
        Err(MediaError::NotFound)
    ));
    // A download that waits is answered by the upload.
    let media = world.media.clone();
    let (server, waiting) = (here(), id.clone());
    let download = tokio::spawn(async move { media.find(alice(), &server, &waiting, Wait::default()).await });
    tokio::task::yield_now().await;
    let content = world.upload_as(alice(), b"hello", Some(id.clone())).await.unwrap();
    assert_eq!(download.await.unwrap().unwrap().tag, content.as_str());
    assert!(matches!(
        world.upload_as(alice(), b"other", Some(id.clone())).await,
        Err(MediaError::Overwrites)
    ));
    world.clock.set(world.clock.millis() + 2 * DAY);
    world.find(&here(), &id).await.unwrap();
}

#[tokio::test]
async fn created_ids_are_limited_and_expire() {
    let world = World::new(MediaSettings::default()).await;
    let mut ids = Vec::new();
    let refused = loop {
        match world.media.create_id(alice()).await {
            Ok((id, _)) => ids.push(id),
            Err(error) => break error,
        }
    };
    assert_eq!(ids.len(), 32);
    assert!(matches!(refused, MediaError::TooManyWaiting { retry_after_ms: DAY }));
    world.clock.set(world.clock.millis() + DAY);
    let first = ids.first().unwrap();
    assert!(matches!(world.find(&here(), first).await, Err(MediaError::NotFound)));
    assert!(world.upload_as(alice(), b"late", Some(first.clone())).await.is_err());
    world.media.create_id(alice()).await.unwrap();
}

#[tokio::test]
async fn a_file_of_another_server_is_requested_once_and_removed_when_unread() {
    let world = World::new(MediaSettings::default()).await;
    let there = server_name!("there.test");
    for _ in 0..2 {
        let found = world.find(there, "abc").await.unwrap();
        assert_eq!((found.size, found.name.as_deref()), (1_000, Some("a.txt")));
        assert_eq!(world.content(&found).await, vec![b'a'; 1_000]);
    }
    assert_eq!(world.others.0.load(Ordering::SeqCst), 1);
    assert!(matches!(
        world.find(there, "x").await,
        Err(MediaError::Remote(RemoteError::NotFound))
    ));
    assert!(matches!(
        world.find(there, "broken").await,
        Err(MediaError::Remote(RemoteError::Unusable))
    ));
    assert!(matches!(world.find(there, "../x").await, Err(MediaError::NotFound)));
    let here_only = Wait {
        fetch: false,
        ..Wait::default()
    };
    let other = world.media.find(alice(), there, "other", here_only).await;
    assert!(matches!(other, Err(MediaError::NotFound)));
    assert_eq!((world.files("blobs").len(), world.files("incoming").len()), (1, 0));
    world.clock.set(world.clock.millis() + 31 * DAY);
    // Anything that wakes the jobs.
    let id = world.upload(alice(), b"x").await.unwrap();
    world.media.remove(alice(), &id).await.unwrap();
    world.until_stored(0).await;
}

/// T76.
#[tokio::test]
async fn a_file_of_another_server_ends_at_the_limit() {
    let settings = MediaSettings {
        max_upload_bytes: 999,
        ..MediaSettings::default()
    };
    let world = World::new(settings).await;
    let large = world.find(server_name!("there.test"), "large").await;
    assert!(matches!(large, Err(MediaError::TooLarge { limit: 999 })));
    assert_eq!((world.files("blobs").len(), world.files("incoming").len()), (0, 0));
}

#[tokio::test]
async fn a_file_is_received_also_if_nobody_waits_for_it() {
    let world = World::new(MediaSettings::default()).await;
    let media = world.media.clone();
    let there = server_name!("there.test");
    let request = tokio::spawn(async move { media.find(alice(), there, "slow", Wait::default()).await });
    world.others.1.notified().await;
    request.abort();
    assert!(request.await.unwrap_err().is_cancelled());
    world.others.2.notify_one();
    world.until_stored(1).await;
    world.find(there, "slow").await.unwrap();
    assert_eq!(world.others.0.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_full_cache_loses_the_files_that_were_not_read_for_longest() {
    let settings = MediaSettings {
        cache_bytes: 3_500,
        ..MediaSettings::default()
    };
    let world = World::new(settings).await;
    let there = server_name!("there.test");
    for id in ["a", "b", "c"] {
        world.find(there, id).await.unwrap();
        world.clock.set(world.clock.millis() + DAY);
    }
    world.find(there, "a").await.unwrap();
    world.find(there, "d").await.unwrap();
    world.until_stored(3).await;
    let before = world.others.0.load(Ordering::SeqCst);
    for id in ["a", "c", "d"] {
        world.find(there, id).await.unwrap();
    }
    assert_eq!(world.others.0.load(Ordering::SeqCst), before);
    world.find(there, "b").await.unwrap();
    assert_eq!(world.others.0.load(Ordering::SeqCst), before + 1);
}

#[tokio::test]
async fn a_thumbnail_is_made_once_for_each_size_and_removed_with_its_file() {
    let world = World::new(MediaSettings::default()).await;
    let id = world.upload(alice(), PNG).await.unwrap();
    let found = world.find(&here(), id.as_str()).await.unwrap();
    assert_eq!(found.content_type, "image/png");
    let size = |width, height| ThumbnailSize {
        width,
        height,
        method: ThumbnailMethod::Scale,
    };
    for (width, height) in [(1, 1), (320, 240), (321, 1), (9_000, 9_000), (800, 600)] {
        let thumbnail = world.media.thumbnail(&found, size(width, height)).await.unwrap();
        assert_eq!(world.content(&thumbnail).await, PNG.len().to_string().into_bytes());
    }
    assert_eq!(world.thumbnails.0.load(Ordering::SeqCst), 3);
    assert_eq!(world.files("blobs").len(), 4);
    let text = world.upload(alice(), b"<svg/>").await.unwrap();
    let text = world.find(&here(), text.as_str()).await.unwrap();
    assert!(matches!(
        world.media.thumbnail(&text, size(1, 1)).await,
        Err(MediaError::Thumbnail(ThumbnailError::NotAnImage))
    ));
    world.media.remove(alice(), &id).await.unwrap();
    world.until_stored(1).await;
}
