//! Memory of open documents, and the processor time of openings and of the content at versions: `make memory` prints them. Each measurement needs a
//! process of its own, as nextest gives it: memory that was freed is used again. No test asserts a size or a time.

use std::{fs, time::Duration};

use bytes::Bytes;
use ruma::OwnedRoomId;
use weft_room::RoomConfig;
use weft_room_read::WantedBlocks;
use weft_store::memory::{MemoryDisk, Tail};
use weft_testkit::{Editor, text_of};

use crate::harness::{Server, alice};

/// Documents that are open.
const DOCUMENTS: usize = 200;
/// Bytes of each, as Yjs encodes it.
const DOCUMENT_BYTES: usize = 105_000;
/// The state vector of an editor without text, and its answer to sync step 1.
const NOTHING: &[u8] = &[0];
/// See [`NOTHING`].
const EMPTY_UPDATE: &[u8] = &[0, 0];

/// Resident memory of this process, in bytes.
fn resident() -> usize {
    let rollup = fs::read_to_string("/proc/self/smaps_rollup").unwrap();
    let line = rollup.lines().find_map(|line| line.strip_prefix("Rss:")).unwrap();
    let kilobytes: usize = line.trim().trim_end_matches(" kB").parse().unwrap();
    kilobytes * 1024
}

/// Processor time of this thread.
fn processor_time() -> Duration {
    let figures = fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(figures.split(' ').next().unwrap().parse().unwrap())
}

/// Words that were typed at many places, by an editor that also deletes.
fn document(client: u64) -> Editor {
    let mut editor = Editor::new(client);
    let mut place = 1_usize;
    while editor.whole().len() < DOCUMENT_BYTES {
        for _ in 0..100 {
            place = place * 48_271 % 0x7fff_ffff;
            let at = place % (editor.text().len() + 1);
            editor.insert(at, "a few words, and then more ");
        }
        editor.remove(10, 30);
    }
    editor
}

/// A disk with documents. They are written one after the other, each after the memory of the one before was freed, so that
/// little of it is left to be used again.
async fn filled() -> (MemoryDisk, Vec<OwnedRoomId>, Editor) {
    let disk = MemoryDisk::new();
    let config = RoomConfig {
        idle_eviction: Duration::from_secs(1),
        ..RoomConfig::default()
    };
    let server = Server::boot(&disk, config).await;
    let editor = document(7);
    let mut rooms = Vec::new();
    for _ in 0..DOCUMENTS {
        let room = server.document().await;
        server.edit(&room, &alice(), editor.whole()).await.unwrap();
        server.rooms.seal(&room).await.unwrap();
        rooms.push(room);
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert_eq!(server.rooms.active(), 0);
        server.sink.clear();
    }
    drop(server);
    disk.power_loss(Tail::Lost);
    (disk, rooms, editor)
}

/// Opens a document as a client without text does.
async fn open(server: &Server, room: &ruma::RoomId) -> Bytes {
    server.rooms.open(room).await.unwrap();
    let text = server.rooms.diff(room, NOTHING).await.unwrap();
    server.edit(room, &alice(), EMPTY_UPDATE).await.unwrap();
    text
}

fn print(what: &str, grown: usize) {
    println!("{what}: {} KB a document", grown / DOCUMENTS / 1_000);
}

/// Documents that are opened after a start, and not edited.
#[tokio::test(start_paused = true)]
#[ignore = "a measurement, by `make memory`"]
async fn memory_of_documents_that_were_only_opened() {
    let (disk, rooms, _) = filled().await;
    let server = Server::boot(&disk, RoomConfig::default()).await;
    open(&server, &rooms[0]).await;
    let before = resident();
    for room in &rooms {
        open(&server, room).await;
    }
    print("opened and not edited", resident().saturating_sub(before));
    assert_eq!(server.rooms.texts_in_memory(), 0);
}

/// Documents with a running worker and an evicted text: each was edited more than a minute ago.
#[tokio::test(start_paused = true)]
#[ignore = "a measurement, by `make memory`"]
async fn memory_of_idle_documents() {
    let (disk, rooms, mut editor) = filled().await;
    let config = RoomConfig {
        idle_eviction: Duration::from_secs(100_000),
        ..RoomConfig::default()
    };
    let server = Server::boot(&disk, config).await;
    open(&server, &rooms[0]).await;
    let letter = editor.append("x");
    let before = resident();
    for room in &rooms {
        open(&server, room).await;
        server.edit(room, &alice(), letter.clone()).await.unwrap();
        tokio::time::sleep(Duration::from_secs(70)).await;
    }
    assert_eq!((server.rooms.texts_in_memory(), server.rooms.active()), (0, DOCUMENTS));
    print("idle for a minute after an edit", resident().saturating_sub(before));
}

/// Documents that are edited and read.
#[tokio::test(start_paused = true)]
#[ignore = "a measurement, by `make memory`"]
async fn memory_of_documents_that_are_edited() {
    let (disk, rooms, mut editor) = filled().await;
    let config = RoomConfig {
        text_eviction: Duration::from_secs(100_000),
        idle_eviction: Duration::from_secs(100_000),
        ..RoomConfig::default()
    };
    let server = Server::boot(&disk, config).await;
    open(&server, &rooms[0]).await;
    let letter = editor.append("x");
    let (before, mut read) = (resident(), 0);
    for room in &rooms {
        server.edit(room, &alice(), letter.clone()).await.unwrap();
        tokio::time::sleep(Duration::from_secs(3)).await;
        read += open(&server, room).await.len();
    }
    assert_eq!(server.rooms.texts_in_memory(), DOCUMENTS);
    print("edited and read", resident().saturating_sub(before));
    println!("as one update: {} KB", read / DOCUMENTS / 1_000);
}

/// The first opening of each document after a start, by a client without text; then one more.
#[tokio::test(start_paused = true)]
#[ignore = "a measurement, by `make memory`"]
async fn processor_time_of_openings() {
    let (disk, rooms, mut editor) = filled().await;
    let mut written = 0;
    for tail in [0, 1, 20] {
        let server = Server::boot(&disk, RoomConfig::default()).await;
        for _ in written..tail {
            let letter = editor.insert(tail, "x");
            for room in &rooms {
                server.edit(room, &alice(), letter.clone()).await.unwrap();
                server.rooms.seal(room).await.unwrap();
            }
        }
        written = tail;
        server.rooms.stop().await;
        drop(server);
        disk.power_loss(Tail::Lost);
        let server = Server::boot(&disk, RoomConfig::default()).await;
        for when in ["after a restart", "again"] {
            let (began, mut bytes) = (processor_time(), 0);
            for room in &rooms {
                bytes += open(&server, room).await.len();
            }
            let used = (processor_time() - began) / u32::try_from(DOCUMENTS).unwrap();
            println!(
                "opening {when}, {tail} updates after the snapshot: {used:?}, {} bytes",
                bytes / DOCUMENTS
            );
        }
        assert_eq!(server.rooms.active(), 0);
        let text = open(&server, &rooms[0]).await;
        assert!(text_of(&text).contains("a few words"));
        let began = processor_time();
        for room in &rooms {
            server.rooms.diff(room, &editor.vector()).await.unwrap();
        }
        let used = (processor_time() - began) / u32::try_from(DOCUMENTS).unwrap();
        println!("a client with a part of the text, which loads it: {used:?}");
    }
}

/// Edits of the document whose history is read.
const EDITS: u64 = 60_000;
/// Edits that are sealed into one event.
const EDITS_PER_EVENT: u64 = 200;

/// The content at the start, in the middle and at the end of a long history, and who wrote the text. Mostly typed, some
/// deleted, at a place that jumps from time to time.
#[tokio::test(start_paused = true)]
#[ignore = "a measurement, by `make memory`"]
async fn processor_time_of_contents_at_versions() {
    let server = Server::new().await;
    let room = server.document().await;
    let mut editor = Editor::new(7);
    let (mut place, mut dice, mut length) = (0_usize, 1_usize, 0_usize);
    for edit in 1..=EDITS {
        dice = dice * 48_271 % 0x7fff_ffff;
        if dice % 300 == 0 {
            place = dice % (length + 1);
        }
        let update = if dice % 8 == 0 && place > 0 {
            (place, length) = (place - 1, length - 1);
            editor.remove(u32::try_from(place).unwrap(), 1)
        } else {
            (place, length) = (place + 1, length + 1);
            editor.insert(place - 1, "x")
        };
        server.edit(&room, &alice(), update).await.unwrap();
        if edit % EDITS_PER_EVENT == 0 {
            server.rooms.seal(&room).await.unwrap();
            tokio::task::yield_now().await;
            server.sink.clear();
        }
    }
    let reader = server.rooms.reader();
    for version in [1, EDITS / 4, EDITS / 2, EDITS - 1, EDITS] {
        let (began, rows) = (processor_time(), server.rows_read());
        let text = reader.text_at_version(&room, version).await.unwrap().unwrap();
        let (used, rows) = (processor_time() - began, server.rows_read() - rows);
        println!(
            "content at version {version} of {EDITS}: {used:?}, {rows} rows, {} bytes",
            text.len()
        );
    }
    let began = processor_time();
    let authors = reader
        .authors(&room, &WantedBlocks::new([(7, 0, u32::MAX)]))
        .await
        .unwrap();
    println!(
        "who wrote the text: {:?}, {} events",
        processor_time() - began,
        authors[&7].len()
    );
}
