//! The store over the memory engine: typed rows, group commit, positions over restarts, schema version, cancellation.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)] // a panic fails the test

use bytes::Bytes;
use ruma::{OwnedEventId, OwnedRoomId, RoomId, event_id, room_id, server_name, user_id};
use weft_store::engine::{Engine, Op, WriteBatch};
use weft_store::memory::{Fault, MemoryDisk, Tail};
use weft_store::tables::accounts::{
    ACCOUNT_DATA, ACCOUNT_DATA_STREAM, ACCOUNT_DATA_USAGE, AccountDataPlace, AccountDataUsage, USERS,
};
use weft_store::tables::documents::{DOC_SEQ, JOURNAL, JournalRow, SNAPSHOT_TAIL};
use weft_store::tables::federation::{OUTBOX_STATE, OutboxState};
use weft_store::tables::jobs::{DUE_JOBS, JOBS};
use weft_store::tables::meta::SCHEMA;
use weft_store::tables::rooms::{
    CURRENT_STATE, EVENT_ROOM, EVENTS, EventRow, INCOMPLETE_ROOMS, ROOMS, RoomRow, STAGED_ROOMS, STAGING, STREAM,
    StagedMark, StreamRow, TIMELINE,
};
use weft_store::{Batch, CommitError, Lane, OpenError, ReadError, SCHEMA_VERSION, Scope, Store, Table};

/// A table of the tests, so that they do not depend on the product's tables.
static ORDER: Table<(OwnedRoomId, u64), OwnedEventId> = Table::new("ORDER", Scope::Room, 0x7F10);

const ROOM: &str = "!a:alpha.example";

fn room() -> &'static RoomId {
    room_id!("!a:alpha.example")
}

async fn open(disk: &MemoryDisk) -> Store {
    Store::open(disk.open()).await.unwrap()
}

fn event(number: u64) -> OwnedEventId {
    OwnedEventId::try_from(format!("$event{number}")).unwrap()
}

#[tokio::test]
async fn rows_are_read_back_unchanged() {
    let store = open(&MemoryDisk::new()).await;
    let mut batch = Batch::new();
    let id = event_id!("$e:alpha.example");
    let row = EventRow {
        flags: 2,
        position: 7,
        json: Bytes::from_static(b"{}"),
    };
    let edit = JournalRow {
        author: user_id!("@alice:alpha.example").to_owned(),
        at: Some(1_700_000_000_000),
        update: Bytes::from_static(&[0, 1, 255]),
    };
    let info = RoomRow {
        version: ruma::RoomVersionId::V12,
        kind: Some("dev.weft.document".to_owned()),
    };
    batch.put(&EVENTS, &(room(), id), &row);
    batch.put(&JOURNAL, &(room(), 5), &edit);
    batch.put(&ROOMS, &(room(),), &info);
    batch.put(&EVENT_ROOM, &(id,), &room().to_owned());
    store.commit(batch).await.unwrap();
    assert_eq!(store.get(&EVENTS, &(room(), id)).await.unwrap(), Some(row));
    assert_eq!(store.get(&EVENT_ROOM, &(id,)).await.unwrap().as_deref(), Some(room()));
    let owned: OwnedRoomId = room().to_owned();
    assert_eq!(
        store.scan_all(JOURNAL.under(&(&owned,))).await.unwrap(),
        [((owned.clone(), 5), edit)]
    );
    assert_eq!(store.scan_all(ROOMS.under(&())).await.unwrap(), [((owned,), info)]);
}

#[tokio::test]
async fn scans_stay_within_their_room_table_and_bounds() {
    let store = open(&MemoryDisk::new()).await;
    let mut batch = Batch::new();
    for room in ["!a:alpha.example", "!a:alpha.example2", "!b:alpha.example"] {
        let room = RoomId::parse(room).unwrap();
        for number in 1..=2500 {
            batch.put(&ORDER, &(&room, number), &event(number));
        }
        batch.put(&SNAPSHOT_TAIL, &(&room, 1), &Bytes::new());
        batch.put(&CURRENT_STATE, &(&room, "m.room.member", "@a"), &event(1));
        batch.put(&CURRENT_STATE, &(&room, "m.room.member\0x", "@a"), &event(1));
    }
    store.commit(batch).await.unwrap();
    let numbers = |rows: Vec<((OwnedRoomId, u64), OwnedEventId)>| -> Vec<u64> {
        assert!(
            rows.iter()
                .all(|((room, number), id)| room == ROOM && *id == event(*number))
        );
        rows.into_iter().map(|((_, number), _)| number).collect()
    };
    let all = store.scan_all(ORDER.under(&(room(),))).await.unwrap();
    assert_eq!(numbers(all), (1..=2500).collect::<Vec<_>>());
    let backward = store.scan_all(ORDER.under(&(room(),)).reversed()).await.unwrap();
    assert_eq!(numbers(backward), (1..=2500).rev().collect::<Vec<_>>());
    let mut stream = store.stream(ORDER.under(&(room(),)).after(&(room(), 1500))).unwrap();
    assert_eq!(
        numbers(stream.page().await.unwrap().unwrap()),
        (1501..=2500).collect::<Vec<_>>()
    );
    assert!(stream.page().await.unwrap().is_none(), "a page is never empty");
    assert!(stream.page().await.unwrap().is_none(), "the end stays the end");
    let under = || ORDER.under(&(room(),));
    let between = store
        .scan(under().after(&(room(), 10)).through(&(room(), 12)).limit(9))
        .await
        .unwrap();
    assert_eq!(numbers(between), [11, 12]);
    let between = store
        .scan(under().from(&(room(), 10)).before(&(room(), 12)).reversed().limit(9))
        .await
        .unwrap();
    assert_eq!(numbers(between), [11, 10]);
    let newest = store
        .scan(under().before(&(room(), 100)).reversed().limit(2))
        .await
        .unwrap();
    assert_eq!(numbers(newest), [99, 98]);
    assert_eq!(
        store
            .scan(CURRENT_STATE.under(&(room(), "m.room.member")).limit(9))
            .await
            .unwrap()
            .len(),
        1
    );
    let unscoped = store.scan(ORDER.under(&()).limit(9)).await;
    assert!(matches!(unscoped, Err(ReadError::NoScope { table: "ORDER" })));
}

#[tokio::test]
async fn range_deletes_stay_within_their_room() {
    let store = open(&MemoryDisk::new()).await;
    let other = room_id!("!b:alpha.example");
    let mut batch = Batch::new();
    for room in [room(), other] {
        batch.put(&ORDER, &(room, 1), &event(1));
        batch.put(&SNAPSHOT_TAIL, &(room, 1), &Bytes::new());
    }
    store.commit(batch).await.unwrap();
    let mut batch = Batch::new();
    batch.delete_range(&ORDER, &(room(),));
    store.commit(batch).await.unwrap();
    assert!(!store.contains(&ORDER, &(room(), 1)).await.unwrap());
    assert!(store.contains(&ORDER, &(other, 1)).await.unwrap());
    assert!(store.contains(&SNAPSHOT_TAIL, &(room(), 1)).await.unwrap());
    let mut batch = Batch::new();
    batch.delete_range(&ORDER, &());
    assert!(matches!(store.commit(batch).await, Err(CommitError::Invalid { .. })));
}

#[tokio::test]
async fn a_failed_fence_names_its_table_and_stops_the_whole_batch() {
    let store = open(&MemoryDisk::new()).await;
    let mut batch = Batch::new();
    batch.put(&ORDER, &(room(), 1), &event(1));
    batch.require(&SNAPSHOT_TAIL, &(room(), 1), None);
    batch.require(&ORDER, &(room(), 1), Some(&event(2)));
    assert!(matches!(
        store.commit(batch).await,
        Err(CommitError::Fence { table: "ORDER" })
    ));
    assert!(!store.contains(&ORDER, &(room(), 1)).await.unwrap());
}

#[tokio::test]
async fn concurrent_commits_share_syncs() {
    let disk = MemoryDisk::new();
    let store = open(&disk).await;
    let before = disk.commits();
    disk.pause_syncs();
    let commits: Vec<_> = (0..200)
        .map(|number| {
            let store = store.clone();
            tokio::spawn(async move {
                let mut batch = Batch::new();
                batch.put(&ORDER, &(room(), number), &event(number));
                store.commit(batch).await
            })
        })
        .collect();
    while disk.unsynced() == 0 {
        tokio::task::yield_now().await;
    }
    disk.resume_syncs();
    for commit in commits {
        commit.await.unwrap().unwrap();
    }
    assert!(disk.commits() - before <= 3, "{} groups", disk.commits() - before);
    assert_eq!(store.scan_all(ORDER.under(&(room(),))).await.unwrap().len(), 200);
}

#[tokio::test]
async fn a_cancelled_caller_neither_undoes_its_commit_nor_makes_its_position_visible_early() {
    let disk = MemoryDisk::new();
    let store = open(&disk).await;
    disk.pause_syncs();
    let mut batch = Batch::new();
    let position = batch.reserve(store.positions_of(room()), 1);
    batch.put(&ORDER, &(room(), position), &event(1));
    let mut watch = store.positions_of(room()).watch();
    let commit = tokio::spawn({
        let store = store.clone();
        async move { store.commit(batch).await }
    });
    while disk.unsynced() == 0 {
        tokio::task::yield_now().await;
    }
    commit.abort();
    assert!(commit.await.unwrap_err().is_cancelled());
    assert!(store.positions_of(room()).visible() < position);
    disk.resume_syncs();
    watch.wait_for(|visible| *visible >= position).await.unwrap();
    assert!(store.contains(&ORDER, &(room(), position)).await.unwrap());
}

#[tokio::test]
async fn a_failed_commit_does_not_block_later_positions() {
    let store = open(&MemoryDisk::new()).await;
    let mut batch = Batch::new();
    let position = batch.reserve(store.positions_of(room()), 3);
    batch.require(&ORDER, &(room(), 1), Some(&event(1)));
    assert!(store.commit(batch).await.is_err());
    assert_eq!(store.positions_of(room()).visible(), position + 2);
}

#[tokio::test]
async fn no_position_is_assigned_twice_after_any_power_loss() {
    let faults = [
        Fault::PowerBeforeWrite,
        Fault::PowerBeforeSync(Tail::Lost),
        Fault::PowerBeforeSync(Tail::Torn(1)),
        Fault::PowerBeforeSync(Tail::Torn(2)),
        Fault::PowerAfterSync,
        Fault::FailSync,
    ];
    let disk = MemoryDisk::new();
    let mut shown = 0;
    let mut kept = 0;
    for fault in faults.into_iter().cycle().take(30) {
        let store = open(&disk).await;
        assert!(store.positions_of(room()).visible() >= shown);
        // Not only commits use up positions: so do abandoned reservations, here more than one allotment.
        drop(store.positions_of(room()).reserve(5000));
        shown = shown.max(store.positions_of(room()).visible());
        for lost in [false, true] {
            if lost {
                disk.plan(0, fault);
            }
            let mut batch = Batch::new();
            let position = batch.reserve(store.positions_of(room()), 1);
            assert!(position > shown, "{position} was visible before");
            batch.put(
                &STREAM,
                &(Lane::FIRST, position),
                &StreamRow {
                    room: room().to_owned(),
                    event: event(position),
                },
            );
            let done = store.commit(batch).await;
            assert_eq!(done.is_err(), lost);
            kept += usize::from(!lost);
            shown = shown.max(store.positions_of(room()).visible());
        }
    }
    let store = open(&disk).await;
    assert!(store.scan_all(STREAM.under(&(Lane::FIRST,))).await.unwrap().len() >= kept);
}

#[tokio::test]
async fn a_poisoned_store_can_be_read_and_not_written() {
    let disk = MemoryDisk::new();
    let store = open(&disk).await;
    disk.fail_next_sync();
    for _ in 0..2 {
        let mut batch = Batch::new();
        batch.put(&ORDER, &(room(), 1), &event(1));
        assert!(matches!(store.commit(batch).await, Err(CommitError::Poisoned { .. })));
    }
    assert!(store.get(&SCHEMA, &()).await.is_ok());
}

/// A row as bytes, in any format.
fn raw<K: weft_store::key::Key, V: weft_store::value::Value>(
    table: &Table<K, V>,
    key: &impl weft_store::key::AsKey<K>,
    value: &[u8],
) -> Op {
    Op::Put {
        key: table.physical(key),
        value: Bytes::copy_from_slice(value),
    }
}

/// Writes to a disk without a store.
async fn write(disk: &MemoryDisk, ops: Vec<Op>) {
    let fences = Vec::new();
    let written = disk.open().commit(vec![WriteBatch { ops, fences }]).await;
    written.into_iter().next().unwrap().unwrap();
}

/// A disk as another program left it.
async fn disk_with(ops: Vec<Op>) -> MemoryDisk {
    let disk = MemoryDisk::new();
    write(&disk, ops).await;
    disk
}

/// Kind, key, due time and payload of the jobs, each of which is due.
async fn jobs_of(store: &Store) -> Vec<(String, String, u64, String)> {
    let jobs = store.scan_all(JOBS.under(&(Lane::FIRST,))).await.unwrap();
    let due = store.scan_all(DUE_JOBS.under(&(Lane::FIRST,))).await.unwrap();
    assert_eq!(jobs.len(), due.len());
    let jobs = jobs.into_iter();
    jobs.map(|((_, kind, key), row)| (kind, key, row.due, row.payload))
        .collect()
}

fn job(kind: &str, room: &RoomId, payload: &str) -> (String, String, u64, String) {
    (kind.to_owned(), room.to_string(), 0, payload.to_owned())
}

/// A store as a program of version 1 left it: rooms with staged rows recorded in three ways, and rooms whose mark has
/// no rows.
async fn store_of_version_1() -> (MemoryDisk, [OwnedRoomId; 5]) {
    static OLD_STAGED_ROOMS: Table<(OwnedRoomId,), ()> = Table::new("OLD_STAGED_ROOMS", Scope::Global, 0x010C);
    let rooms = ["!a:x", "!b:x", "!c:x", "!d:x", "!e:x"].map(|id| RoomId::parse(id).unwrap());
    let [counted, noted, marked, drained, empty] = &rooms;
    let mut ops = vec![
        raw(&SCHEMA, &(), &1_u64.to_be_bytes()),
        raw(&STAGED_ROOMS, &(counted,), &3_u64.to_be_bytes()),
        raw(&OLD_STAGED_ROOMS, &(noted,), b""),
        raw(&STAGED_ROOMS, &(marked,), br#"{"from":1,"next":8}"#),
        raw(&STAGED_ROOMS, &(drained,), &7_u64.to_be_bytes()),
        raw(&OLD_STAGED_ROOMS, &(empty,), b""),
    ];
    for (room, numbers) in [(counted, 12..15), (noted, 1..2), (marked, 6..8)] {
        ops.extend(numbers.map(|number| raw(&STAGING, &(room, number), b"a row")));
    }
    let disk = disk_with(ops).await;
    (disk, rooms)
}

#[tokio::test]
async fn the_migration_of_version_1_records_the_range_of_staged_rows() {
    let (disk, [counted, noted, marked, _, _]) = store_of_version_1().await;
    let mark = |from, next| StagedMark { from, next };
    let expected = [
        ((counted,), mark(12, 15)),
        ((noted,), mark(1, 2)),
        ((marked,), mark(6, 8)),
    ];
    for _ in 0..2 {
        let store = open(&disk).await;
        assert_eq!(store.scan_all(STAGED_ROOMS.under(&())).await.unwrap(), expected);
        assert_eq!(store.get(&SCHEMA, &()).await.unwrap(), Some(SCHEMA_VERSION));
        store.close().await;
    }
}

/// A store of version 2, in which account data had no index and no usage count.
#[tokio::test]
async fn the_migration_of_version_2_indexes_and_counts_account_data() {
    let (alice, bob) = (user_id!("@alice:x"), user_id!("@bob:x"));
    let user = br#"{"created_at":1}"#;
    let ops = vec![
        raw(&SCHEMA, &(), &2_u64.to_be_bytes()),
        raw(&USERS, &(alice,), user),
        raw(&USERS, &(bob,), user),
        raw(
            &ACCOUNT_DATA,
            &(alice, "", "m.direct"),
            br#"{"content":{"a":1},"position":7}"#,
        ),
        raw(
            &ACCOUNT_DATA,
            &(alice, "!r:x", "m.tag"),
            br#"{"content":{},"position":5}"#,
        ),
    ];
    let disk = disk_with(ops).await;
    let place = |room: &str, kind: &str| AccountDataPlace {
        room: room.to_owned(),
        kind: kind.to_owned(),
    };
    for _ in 0..2 {
        let store = open(&disk).await;
        assert_eq!(
            store.scan_all(ACCOUNT_DATA_STREAM.under(&(alice,))).await.unwrap(),
            [
                ((alice.to_owned(), 5), place("!r:x", "m.tag")),
                ((alice.to_owned(), 7), place("", "m.direct")),
            ]
        );
        let usage = store.get(&ACCOUNT_DATA_USAGE, &(alice,)).await.unwrap();
        let bytes = u64::try_from(r#"{"a":1}m.direct{}!r:xm.tag"#.len()).unwrap();
        assert_eq!(usage, Some(AccountDataUsage { rows: 2, bytes }));
        assert_eq!(store.get(&ACCOUNT_DATA_USAGE, &(bob,)).await.unwrap(), None);
        assert_eq!(store.get(&SCHEMA, &()).await.unwrap(), Some(SCHEMA_VERSION));
        store.close().await;
    }
}

/// A store of version 4, in which the version of a document was the position of its newest event.
#[tokio::test]
async fn the_migration_of_version_4_continues_the_versions_of_documents() {
    let (document, joined) = (room_id!("!doc:x"), room_id!("!joined:x"));
    let (empty, chat) = (room_id!("!empty:x"), room_id!("!chat:x"));
    let as_document = br#"{"version":"12","kind":"dev.weft.document"}"#;
    let event = br#""$event""#;
    let mut ops = vec![raw(&SCHEMA, &(), &4_u64.to_be_bytes())];
    ops.extend([document, joined, empty].map(|room| raw(&ROOMS, &(room,), as_document)));
    ops.push(raw(&ROOMS, &(chat,), br#"{"version":"12","kind":null}"#));
    let timeline = [(document, 5_i64), (document, 17), (joined, -3), (chat, 20)];
    ops.extend(timeline.map(|(room, order)| raw(&TIMELINE, &(room, order), event)));
    let disk = disk_with(ops).await;
    for _ in 0..2 {
        let store = open(&disk).await;
        let version = async |room: &RoomId| store.get(&DOC_SEQ, &(room,)).await.unwrap();
        assert_eq!(version(document).await, Some(17));
        assert_eq!(version(joined).await, Some(0), "only backfilled events");
        assert_eq!(version(empty).await, Some(0));
        assert_eq!(version(chat).await, None);
        store.close().await;
    }
}

/// A store of version 5, in which markers named the rooms whose events or updates must be fetched.
#[tokio::test]
async fn the_migration_of_version_6_makes_jobs_of_markers() {
    static OLD_PRUNED_ROOMS: Table<(OwnedRoomId,), ()> = Table::new("OLD_PRUNED_ROOMS", Scope::Global, 0x011C);
    let (incomplete, pruned) = (room_id!("!incomplete:x"), room_id!("!pruned:x"));
    let ops = vec![
        raw(&SCHEMA, &(), &5_u64.to_be_bytes()),
        raw(&INCOMPLETE_ROOMS, &(incomplete,), b"b.example"),
        raw(&OLD_PRUNED_ROOMS, &(pruned,), b""),
    ];
    let disk = disk_with(ops).await;
    for _ in 0..2 {
        let store = open(&disk).await;
        let expected = [job("history", incomplete, ""), job("redacted_updates", pruned, "")];
        assert_eq!(jobs_of(&store).await, expected);
        assert_eq!(
            store.get(&INCOMPLETE_ROOMS, &(incomplete,)).await.unwrap().as_deref(),
            Some("b.example")
        );
        assert!(store.scan_all(OLD_PRUNED_ROOMS.under(&())).await.unwrap().is_empty());
        store.close().await;
    }
}

/// A store of version 7, in which markers named the rooms with a pending check of extremities or a pending witness event.
#[tokio::test]
async fn the_migration_of_version_7_makes_jobs_of_pending_events() {
    static OLD_UNRECONCILED_ROOMS: Table<(OwnedRoomId,), ()> =
        Table::new("OLD_UNRECONCILED_ROOMS", Scope::Global, 0x011D);
    static OLD_UNWITNESSED: Table<(OwnedRoomId,), u64> = Table::new("OLD_UNWITNESSED", Scope::Global, 0x011F);
    let (unreconciled, unwitnessed) = (room_id!("!unreconciled:x"), room_id!("!unwitnessed:x"));
    let ops = vec![
        // The steps before it find nothing to do.
        raw(&SCHEMA, &(), &5_u64.to_be_bytes()),
        raw(&OLD_UNRECONCILED_ROOMS, &(unreconciled,), b""),
        raw(&OLD_UNWITNESSED, &(unwitnessed,), &1_700_u64.to_be_bytes()),
    ];
    let disk = disk_with(ops).await;
    for _ in 0..2 {
        let store = open(&disk).await;
        let expected = [job("reconcile", unreconciled, ""), job("witness", unwitnessed, "1700")];
        assert_eq!(jobs_of(&store).await, expected);
        assert!(store.scan_all(OLD_UNWITNESSED.under(&())).await.unwrap().is_empty());
        store.close().await;
    }
}

#[tokio::test]
async fn a_destination_with_an_old_failure_row_has_failed_for_long() {
    let (disk, server) = (MemoryDisk::new(), server_name!("beta.example"));
    open(&disk).await.close().await;
    let row = raw(&OUTBOX_STATE, &(server,), br#"{"failures":3,"retry_at":5}"#);
    write(&disk, vec![row]).await;
    let state = OutboxState {
        failing_since: 0,
        retry_at: 5,
    };
    assert_eq!(
        open(&disk).await.get(&OUTBOX_STATE, &(server,)).await.unwrap(),
        Some(state)
    );
}

#[tokio::test]
async fn a_migration_continues_after_a_power_loss_at_any_point() {
    for fault in [
        Fault::PowerBeforeWrite,
        Fault::PowerBeforeSync(Tail::Lost),
        Fault::PowerBeforeSync(Tail::Torn(1)),
        Fault::PowerAfterSync,
        Fault::FailSync,
    ] {
        let (disk, [counted, ..]) = store_of_version_1().await;
        disk.plan(0, fault);
        assert!(Store::open(disk.open()).await.is_err(), "{fault:?}");
        let store = open(&disk).await;
        let mark = store.get(&STAGED_ROOMS, &(&counted,)).await.unwrap();
        assert_eq!(mark, Some(StagedMark { from: 12, next: 15 }), "{fault:?}");
        assert_eq!(
            store.scan_all(STAGED_ROOMS.under(&())).await.unwrap().len(),
            3,
            "{fault:?}"
        );
    }
}

#[tokio::test]
async fn newer_and_foreign_stores_are_refused() {
    let disk = MemoryDisk::new();
    let store = open(&disk).await;
    let mut batch = Batch::new();
    batch.put(&SCHEMA, &(), &(SCHEMA_VERSION + 1));
    store.commit(batch).await.unwrap();
    store.close().await;
    let refused = Store::open(disk.open()).await.unwrap_err();
    assert!(matches!(refused, OpenError::Newer { found, supported } if found == supported + 1));
    let disk = MemoryDisk::new();
    let row = Op::Put {
        key: Bytes::from_static(b"x"),
        value: Bytes::new(),
    };
    disk.open()
        .commit(vec![WriteBatch {
            ops: vec![row],
            fences: Vec::new(),
        }])
        .await
        .remove(0)
        .unwrap();
    assert!(matches!(Store::open(disk.open()).await, Err(OpenError::Foreign)));
}

#[tokio::test]
async fn a_closed_store_has_committed_the_accepted_batches_and_refuses_others() {
    let disk = MemoryDisk::new();
    let store = open(&disk).await;
    let mut batch = Batch::new();
    batch.put(&ORDER, &(room(), 1), &event(1));
    store.commit(batch).await.unwrap();
    store.close().await;
    store.close().await;
    assert!(matches!(store.commit(Batch::new()).await, Err(CommitError::Closed)));
    assert!(matches!(store.get(&ORDER, &(room(), 1)).await, Err(ReadError::Closed)));
    assert!(open(&disk).await.contains(&ORDER, &(room(), 1)).await.unwrap());
}

#[tokio::test]
async fn errors_about_damaged_rows_do_not_contain_their_content() {
    let disk = MemoryDisk::new();
    let store = open(&disk).await;
    let key = ROOMS.physical(&(room(),));
    let row = Op::Put {
        key,
        value: Bytes::from_static(b"{\"version\":\"secret words\""),
    };
    store.close().await;
    disk.open()
        .commit(vec![WriteBatch {
            ops: vec![row],
            fences: Vec::new(),
        }])
        .await
        .remove(0)
        .unwrap();
    let error = open(&disk).await.get(&ROOMS, &(room(),)).await.unwrap_err();
    assert!(matches!(error, ReadError::Corrupt { table: "ROOMS", .. }));
    assert!(!error.to_string().contains("secret"));
}

#[tokio::test]
async fn rows_written_ahead_may_exceed_the_limit_of_a_batch() {
    let store = open(&MemoryDisk::new()).await;
    let part = Bytes::from(vec![b'x'; 4 * 1024 * 1024]);
    let batch = |fence: Option<&OwnedEventId>, first: u64| {
        let mut batch = Batch::new();
        for number in first..first + 20 {
            batch.put_ahead(&SNAPSHOT_TAIL, &(room(), number), &part);
        }
        batch.require(&ORDER, &(room(), 1), fence);
        batch.put(&ORDER, &(room(), 1), &event(first));
        batch
    };
    store.commit(batch(None, 1)).await.unwrap();
    assert_eq!(store.get(&ORDER, &(room(), 1)).await.unwrap(), Some(event(1)));
    let rows = store.scan_all(SNAPSHOT_TAIL.under(&(room(),))).await.unwrap();
    assert_eq!(rows.len(), 20);
    // The rest is as atomic and as fenced as any batch; a failure leaves the rows ahead of it unused.
    let refused = store.commit(batch(None, 101)).await;
    assert!(matches!(refused, Err(CommitError::Fence { table: "ORDER" })));
    assert_eq!(store.get(&ORDER, &(room(), 1)).await.unwrap(), Some(event(1)));
}

#[tokio::test]
async fn delete_before_removes_only_rows_before_the_key() {
    let store = open(&MemoryDisk::new()).await;
    let other = room_id!("!b:alpha.example");
    let mut batch = Batch::new();
    for room in [room(), other] {
        for number in 1..=3 {
            batch.put(&ORDER, &(room, number), &event(number));
        }
        batch.put(&SNAPSHOT_TAIL, &(room, 1), &Bytes::new());
    }
    store.commit(batch).await.unwrap();
    let mut batch = Batch::new();
    batch.delete_before(&ORDER, &(room(),), &(room(), 3_u64));
    store.commit(batch).await.unwrap();
    let left = |rows: Vec<((OwnedRoomId, u64), OwnedEventId)>| -> Vec<u64> {
        rows.into_iter().map(|((_, number), _)| number).collect()
    };
    assert_eq!(left(store.scan_all(ORDER.under(&(room(),))).await.unwrap()), [3]);
    assert_eq!(left(store.scan_all(ORDER.under(&(other,))).await.unwrap()), [1, 2, 3]);
    assert!(store.contains(&SNAPSHOT_TAIL, &(room(), 1)).await.unwrap());
}
