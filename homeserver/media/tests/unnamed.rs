//! Files that nothing names are hidden and then removed; files that something names never are, whatever names them and whenever
//! the name arrives.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

use std::{sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use ruma::{EventId, OwnedEventId, RoomId, RoomVersionId, UserId, room_id, server_name, user_id};
use serde_json::{Map, json};
use weft_clock::testing::ManualClock;
use weft_media::{
    ContentId, Declared, Media, MediaError, MediaPorts, MediaSettings, Wait,
    testing::{NoRemote, NoThumbnails, TemporaryBlobs},
};
use weft_store::{
    Batch, Store,
    memory::MemoryEngine,
    tables::{
        accounts::{PROFILES, ProfileRow, USERS, UserRow},
        documents::{JOURNAL, JournalRow},
        rooms::{EVENTS, EventRow, ROOMS, RoomRow},
    },
};

const DAY: u64 = 24 * 60 * 60 * 1_000;

struct World {
    media: Media,
    store: Store,
    clock: Arc<ManualClock>,
    events: u64,
}

impl World {
    async fn new() -> Self {
        let store = Store::open(MemoryEngine::new()).await.unwrap();
        let clock = ManualClock::at(1_700_000_000_000);
        let blobs = TemporaryBlobs::new().unwrap();
        let media = Media::open(MediaPorts {
            server_name: server_name!("here.test").to_owned(),
            store: store.clone(),
            incoming: blobs.folder().join("incoming"),
            blobs: Arc::new(blobs),
            clock: clock.clone(),
            thumbnails: Arc::new(NoThumbnails),
            remote: Arc::new(NoRemote),
            settings: MediaSettings {
                unnamed_days: 30,
                ..MediaSettings::default()
            },
        });
        let mut batch = Batch::new();
        for user in [alice(), bob()] {
            let row = UserRow {
                password: None,
                admin: false,
                deactivated: user == bob(),
                created_at: 0,
                guest_until: None,
            };
            batch.put(&USERS, &(user,), &row);
        }
        let row = RoomRow {
            version: RoomVersionId::V12,
            kind: None,
        };
        batch.put(&ROOMS, &(room(),), &row);
        store.commit(batch).await.unwrap();
        Self {
            media: media.unwrap(),
            store,
            clock,
            events: 0,
        }
    }

    async fn upload(&self, user: &UserId, bytes: &[u8], id: Option<String>) -> ContentId {
        let declared = Declared::new(None, None);
        let mut upload = self.media.begin_upload(user, declared, id, None).await.unwrap();
        upload.write(bytes).await.unwrap();
        upload.finish().await.unwrap()
    }

    async fn event(&mut self, content: serde_json::Value) {
        self.events += 1;
        let id: OwnedEventId = EventId::parse(format!("${}", self.events)).unwrap();
        let row = EventRow {
            flags: 0,
            position: self.events,
            json: json!({ "content": content }).to_string().into(),
        };
        let mut batch = Batch::new();
        batch.put(&EVENTS, &(room(), &*id), &row);
        self.store.commit(batch).await.unwrap();
    }

    async fn is_found(&self, id: &str) -> bool {
        let wait = Wait {
            at_most: Duration::ZERO,
            fetch: false,
        };
        match self.media.find_own(id, wait).await {
            Ok(_) => true,
            Err(MediaError::NotFound) => false,
            Err(error) => panic!("{error}"),
        }
    }

    async fn files_of(&self, user: &UserId) -> u64 {
        self.media.own(user, None, 500).await.unwrap().used_files
    }

    async fn days_pass(&self, days: u64) {
        self.clock.advance(DAY * days);
        self.media.remove_unnamed().await.unwrap();
    }
}

fn alice() -> &'static UserId {
    user_id!("@alice:here.test")
}

fn bob() -> &'static UserId {
    user_id!("@bob:here.test")
}

fn room() -> &'static RoomId {
    room_id!("!room:here.test")
}

#[tokio::test]
async fn a_file_that_nothing_names_is_removed_from_all_its_owners_after_the_time() {
    let world = World::new().await;
    let id = world.upload(alice(), b"lonely", None).await;
    world.upload(bob(), b"lonely", None).await;
    world.days_pass(29).await;
    assert!(world.is_found(id.as_str()).await);
    // That was a read: the time begins anew.
    world.days_pass(30).await;
    assert!(!world.is_found(id.as_str()).await);
    assert_eq!(world.files_of(alice()).await, 1);
    // It is not removed by a second search within the day.
    world.media.remove_unnamed().await.unwrap();
    assert_eq!(world.files_of(alice()).await, 1);
    world.days_pass(1).await;
    assert_eq!((world.files_of(alice()).await, world.files_of(bob()).await), (0, 0));
    let id = world.upload(alice(), b"lonely", None).await;
    assert!(world.is_found(id.as_str()).await);
}

#[tokio::test]
async fn a_file_that_something_names_stays() {
    let mut world = World::new().await;
    let mut kept = Vec::new();
    for name in ["message", "update", "first half", "second half", "profile", "journal"] {
        kept.push(world.upload(alice(), name.as_bytes(), None).await);
    }
    let [message, update, first, second, profile, journal] = &kept[..] else {
        panic!("six files")
    };
    let (waiting, _) = world.media.create_id(alice()).await.unwrap();
    let by_other_id = world.upload(alice(), b"other id", Some(waiting.clone())).await;
    world
        .event(json!({"info": {"thumbnail_url": format!("mxc://here.test/{message}")}}))
        .await;
    let in_update = |text: &str| json!({"update": STANDARD.encode([b"\x01\x05w", text.as_bytes()].concat())});
    world.event(in_update(&format!("mxc://here.test/{update}"))).await;
    world
        .event(in_update(&format!("mxc://here.test/{}", &first.as_str()[..30])))
        .await;
    world.event(in_update(&second.as_str()[10..])).await;
    world.event(json!({"url": format!("mxc://here.test/{waiting}")})).await;
    let mut batch = Batch::new();
    let avatar = json!(format!("mxc://here.test/{profile}"));
    batch.put(
        &PROFILES,
        &(bob(),),
        &ProfileRow(Map::from_iter([("avatar_url".to_owned(), avatar)])),
    );
    let edit = JournalRow {
        author: alice().to_owned(),
        at: None,
        update: Bytes::from(format!("mxc://here.test/{journal}")),
    };
    batch.put(&JOURNAL, &(room(), 7), &edit);
    world.store.commit(batch).await.unwrap();
    let lonely = world.upload(alice(), b"lonely", None).await;
    world.days_pass(31).await;
    world.days_pass(1).await;
    world.days_pass(1).await;
    for file in kept.iter().chain([&by_other_id]) {
        assert!(world.is_found(file.as_str()).await, "{file}");
    }
    assert!(!world.is_found(lonely.as_str()).await);
    assert_eq!(world.files_of(alice()).await, 7);
}

#[tokio::test]
async fn a_name_that_arrives_between_the_two_searches_shows_the_file_again() {
    let mut world = World::new().await;
    let (named, uploaded) = (
        world.upload(alice(), b"named", None).await,
        world.upload(alice(), b"again", None).await,
    );
    world.days_pass(31).await;
    assert!(!world.is_found(named.as_str()).await && !world.is_found(uploaded.as_str()).await);
    world.event(json!({"url": format!("mxc://here.test/{named}")})).await;
    assert_eq!(world.upload(bob(), b"again", None).await, uploaded);
    assert!(world.is_found(uploaded.as_str()).await);
    world.days_pass(1).await;
    assert!(world.is_found(named.as_str()).await && world.is_found(uploaded.as_str()).await);
    world.days_pass(1).await;
    assert_eq!(world.files_of(alice()).await, 2);
}

#[tokio::test]
async fn without_the_setting_nothing_is_removed() {
    let world = World::new().await;
    let other =
        weft_media::testing::media(server_name!("here.test"), world.store.clone(), world.clock.clone()).unwrap();
    let id = world.upload(alice(), b"lonely", None).await;
    for _ in 0..3 {
        world.clock.advance(DAY * 100);
        other.remove_unnamed().await.unwrap();
    }
    assert!(world.is_found(id.as_str()).await);
}
