//! Lanes of a store: placement, positions of each lane, the chain of commits, take-over and doubt.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)] // a panic fails the test

use std::collections::BTreeMap;

use bytes::Bytes;
use ruma::{OwnedRoomId, RoomId, RoomVersionId, user_id};
use weft_store::engine::{Engine as _, Op, WriteBatch};
use weft_store::memory::{Fault, LaneMove, MemoryDisk};
use weft_store::tables::documents::SNAPSHOT_TAIL;
use weft_store::tables::meta::{LANE, LANES, SCHEMA};
use weft_store::tables::rooms::{ROOMS, RoomRow, STREAM, StreamRow};
use weft_store::{Batch, CommitError, Lane, Lanes, OpenError, OpenOptions, SCHEMA_VERSION, Scope, Store, Table};

fn room(number: usize) -> OwnedRoomId {
    RoomId::parse(format!("!{number:03}:alpha.example")).unwrap()
}

fn row() -> RoomRow {
    RoomRow {
        version: RoomVersionId::V12,
        kind: None,
    }
}

fn sixteen() -> OpenOptions {
    OpenOptions {
        lanes: Lanes::new(16),
        ..OpenOptions::default()
    }
}

async fn open(disk: &MemoryDisk) -> Store {
    Store::open_with(disk.open(), sixteen()).await.unwrap()
}

/// Takes all lanes while the earlier owner is running.
async fn take_over(disk: &MemoryDisk) -> Store {
    Store::open_with(disk.attach(), sixteen()).await.unwrap()
}

async fn put_room(store: &Store, number: usize) -> Result<u64, CommitError> {
    let room = room(number);
    let mut batch = Batch::new();
    let position = batch.reserve(store.positions_of(&*room), 1);
    batch.put(&ROOMS, &(&room,), &row());
    let event = StreamRow {
        room: room.clone(),
        event: ruma::event_id!("$e").to_owned(),
    };
    batch.put(&STREAM, &(store.lane_of(&*room), position), &event);
    batch.put(&SNAPSHOT_TAIL, &(&room, position), &Bytes::from_static(b"x"));
    store.commit(batch).await.map(|()| position)
}

/// The commits of each lane form one chain over all its owners, and the visible position never falls.
fn check_chain(moves: &[LaneMove]) {
    let mut last: BTreeMap<Lane, LaneMove> = BTreeMap::new();
    for next in moves {
        if let Some(before) = last.insert(next.lane, *next) {
            assert_eq!(next.seq, before.seq + 1, "{before:?} {next:?}");
            assert!(next.epoch >= before.epoch, "{before:?} {next:?}");
            assert!(
                next.era > before.era || next.visible >= before.visible,
                "{before:?} {next:?}"
            );
        }
    }
}

#[tokio::test]
async fn lists_are_read_by_lane_or_as_a_whole() {
    let disk = MemoryDisk::new();
    let store = open(&disk).await;
    for number in 0..60 {
        put_room(&store, number).await.unwrap();
    }
    let all: Vec<OwnedRoomId> = (0..60).map(room).collect();
    let ids = |rows: Vec<((OwnedRoomId,), RoomRow)>| -> Vec<OwnedRoomId> {
        rows.into_iter().map(|((room,), _)| room).collect()
    };
    assert_eq!(ids(store.scan(ROOMS.under(&()).limit(100)).await.unwrap()), all);
    let first = store.scan(ROOMS.under(&()).after(&(room(7),)).limit(5)).await.unwrap();
    assert_eq!(ids(first), all[8..13]);
    let last = store.scan(ROOMS.under(&()).reversed().limit(3)).await.unwrap();
    assert_eq!(ids(last), [room(59), room(58), room(57)]);
    assert_eq!(store.scan_all(ROOMS.under(&())).await.unwrap().len(), 60);
    let mut found = 0;
    for lane in store.lanes().all() {
        let of_lane = ids(store.scan(ROOMS.under(&()).in_lane(lane).limit(100)).await.unwrap());
        found += of_lane.len();
        assert!(of_lane.iter().all(|room| store.lane_of(&**room) == lane));
        let events = store.scan_all(STREAM.under(&(lane,))).await.unwrap();
        assert_eq!(events.len(), of_lane.len());
        assert!(events.iter().all(|((of, _), _)| *of == lane));
    }
    assert_eq!(found, 60);
    let mut batch = Batch::new();
    batch.delete_range(&SNAPSHOT_TAIL, &(room(3),));
    store.commit(batch).await.unwrap();
    for number in 0..60 {
        let left = store.scan_all(SNAPSHOT_TAIL.under(&(room(number),))).await.unwrap();
        assert_eq!(left.len(), usize::from(number != 3), "{number}");
    }
    let mut batch = Batch::new();
    batch.delete_range(&ROOMS, &());
    assert!(
        matches!(store.commit(batch).await, Err(CommitError::Invalid { .. })),
        "a range over several lanes"
    );
}

#[tokio::test]
async fn each_lane_counts_its_own_positions() {
    let disk = MemoryDisk::new();
    let store = open(&disk).await;
    let lane = |store: &Store, number| store.lane_of(&*room(number));
    let other = (1..).find(|number| lane(&store, *number) != lane(&store, 0)).unwrap();
    let same = (1..).find(|number| lane(&store, *number) == lane(&store, 0)).unwrap();
    assert_eq!(put_room(&store, 0).await.unwrap(), 1);
    assert_eq!(put_room(&store, other).await.unwrap(), 1);
    assert_eq!(put_room(&store, same).await.unwrap(), 2);
    let mut batch = Batch::new();
    batch.reserve(store.positions_of(&*room(0)), 1);
    batch.belongs_to(&*room(other));
    batch.put(&ROOMS, &(room(0),), &row());
    assert!(
        matches!(store.commit(batch).await, Err(CommitError::Invalid { .. })),
        "positions of another lane"
    );
    store.close().await;
    let again = open(&disk).await;
    assert!(put_room(&again, 0).await.unwrap() > 2);
    check_chain(&disk.moves());
}

#[tokio::test]
async fn the_number_of_lanes_never_changes() {
    let disk = MemoryDisk::new();
    open(&disk).await.close().await;
    let refused = Store::open_with(
        disk.open(),
        OpenOptions {
            lanes: Lanes::new(8),
            ..OpenOptions::default()
        },
    );
    assert!(matches!(
        refused.await,
        Err(OpenError::OtherLanes { found: 16, wanted: 8 })
    ));
    assert_eq!(Store::open(disk.open()).await.unwrap().lanes(), Lanes::new(16).unwrap());
}

#[tokio::test]
async fn a_store_without_lanes_gets_one_and_continues_its_positions() {
    static POSITION_CEILING: Table<(), u64> = Table::new("POSITION_CEILING", Scope::Global, 0x0002);
    static OLD_STREAM: Table<(u64,), StreamRow> = Table::new("STREAM", Scope::Global, 0x0105);
    let disk = MemoryDisk::new();
    let put = |key, value: &[u8]| Op::Put {
        key,
        value: Bytes::copy_from_slice(value),
    };
    let event = br#"{"room":"!000:alpha.example","event":"$e"}"#;
    let ops = vec![
        put(SCHEMA.physical(&()), &5_u64.to_be_bytes()),
        put(POSITION_CEILING.physical(&()), &5000_u64.to_be_bytes()),
        put(OLD_STREAM.physical(&(17,)), event),
    ];
    let fences = Vec::new();
    assert_eq!(disk.open().commit(vec![WriteBatch { ops, fences }]).await, [Ok(())]);
    for opened in 1..3 {
        let store = Store::open(disk.open()).await.unwrap();
        assert_eq!(store.get(&SCHEMA, &()).await.unwrap(), Some(SCHEMA_VERSION));
        assert_eq!(store.get(&LANES, &()).await.unwrap(), Some(1));
        let lane = store.get(&LANE, &(Lane::FIRST,)).await.unwrap().unwrap();
        assert_eq!((lane.epoch, lane.era), (opened, 1));
        assert!(store.positions_of(user_id!("@a:x")).visible() >= 5000);
        assert!(put_room(&store, 0).await.unwrap() > 5000);
        let found = store.scan(STREAM.under(&(Lane::FIRST,)).limit(1)).await.unwrap();
        assert_eq!(found[0].0, (Lane::FIRST, 17));
        store.close().await;
    }
    check_chain(&disk.moves());
}

#[tokio::test]
async fn the_owner_before_a_take_over_commits_nothing_more() {
    let disk = MemoryDisk::new();
    let before = open(&disk).await;
    let shown = put_room(&before, 0).await.unwrap();
    let after = take_over(&disk).await;
    for number in [0, 1, 0] {
        let lost = put_room(&before, number).await.unwrap_err();
        assert!(matches!(lost, CommitError::LaneLost { lane } if lane == before.lane_of(&*room(number))));
    }
    assert!(before.positions_of(&*room(0)).is_lost());
    assert_eq!(
        before.positions_of(&*room(0)).visible(),
        shown,
        "nothing becomes visible at the earlier owner"
    );
    assert_eq!(before.positions_of(&*room(0)).settled().await, None);
    assert!(put_room(&after, 0).await.unwrap() > shown);
    assert_eq!(after.scan_all(ROOMS.under(&())).await.unwrap().len(), 1);
    check_chain(&disk.moves());
}

/// A commit of the earlier owner that is on its way when the lane is taken.
#[tokio::test]
async fn a_commit_under_way_at_a_take_over_is_before_it_in_the_chain_or_lost() {
    let disk = MemoryDisk::new();
    let before = open(&disk).await;
    disk.pause_syncs();
    let waiting = tokio::spawn({
        let before = before.clone();
        async move { put_room(&before, 0).await }
    });
    while disk.unsynced() == 0 {
        tokio::task::yield_now().await;
    }
    let (after, ()) = tokio::join!(take_over(&disk), async { disk.resume_syncs() });
    waiting.await.unwrap().unwrap();
    assert_eq!(after.scan_all(ROOMS.under(&())).await.unwrap().len(), 1);
    assert!(put_room(&before, 0).await.is_err());
    put_room(&after, 0).await.unwrap();
    check_chain(&disk.moves());
}

#[tokio::test(start_paused = true)]
async fn a_commit_in_doubt_is_settled_and_never_written_twice() {
    for fault in [Fault::DoubtAfterSync, Fault::DoubtBeforeWrite] {
        let disk = MemoryDisk::new();
        let store = open(&disk).await;
        put_room(&store, 0).await.unwrap();
        let groups = disk.moves().len();
        disk.plan(0, fault);
        let position = put_room(&store, 0).await.unwrap();
        assert_eq!(disk.moves().len(), groups + 1, "{fault:?}: in the store once");
        assert_eq!(store.positions_of(&*room(0)).visible(), position);
        put_room(&store, 0).await.unwrap();
        let lane = store.lane_of(&*room(0));
        assert_eq!(store.scan_all(STREAM.under(&(lane,))).await.unwrap().len(), 3);
        check_chain(&disk.moves());
    }
}

#[tokio::test(start_paused = true)]
async fn after_a_doubt_the_batches_that_a_fence_left_out_are_known() {
    let disk = MemoryDisk::new();
    let store = open(&disk).await;
    disk.plan(0, Fault::DoubtAfterSync);
    let commit = |expected: Option<RoomRow>| {
        let mut batch = Batch::new();
        batch.require(&ROOMS, &(room(0),), expected.as_ref());
        batch.put(&ROOMS, &(room(0),), &row());
        store.commit(batch)
    };
    // One group: the first makes the row that the second requires not to exist.
    let (first, second) = tokio::join!(commit(None), commit(None));
    assert!(first.is_ok(), "{first:?}");
    assert!(matches!(second, Err(CommitError::Fence { .. })), "{second:?}");
}

#[tokio::test(start_paused = true)]
async fn a_doubt_that_another_owner_ends_is_reported() {
    let disk = MemoryDisk::new();
    let before = open(&disk).await;
    put_room(&before, 0).await.unwrap();
    // The answer is lost, and the lane is taken before this process can take it again.
    for (fault, is_in) in [(Fault::DoubtAfterSync, true), (Fault::DoubtBeforeWrite, false)] {
        let disk = disk.copy();
        let before = open(&disk).await;
        disk.plan(0, fault);
        disk.fail_reads(true);
        let waiting = tokio::spawn({
            let before = before.clone();
            async move { put_room(&before, 1).await }
        });
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        disk.fail_reads(false);
        let _after = take_over(&disk).await;
        let error = waiting.await.unwrap().unwrap_err();
        assert_eq!(matches!(error, CommitError::InDoubt { .. }), is_in, "{error:?}");
        assert_eq!(matches!(error, CommitError::LaneLost { .. }), !is_in, "{error:?}");
        let lost = put_room(&before, 1).await.unwrap_err();
        assert!(matches!(lost, CommitError::LaneLost { .. }));
        check_chain(&disk.moves());
    }
}

#[tokio::test]
async fn an_accepted_loss_begins_a_new_era() {
    let disk = MemoryDisk::new();
    let store = open(&disk).await;
    put_room(&store, 0).await.unwrap();
    store.close().await;
    let options = OpenOptions {
        new_era: true,
        ..OpenOptions::default()
    };
    let store = Store::open_with(disk.open(), options).await.unwrap();
    assert!(store.positions().iter().all(|positions| positions.era() == 2));
    put_room(&store, 0).await.unwrap();
    store.close().await;
    let store = open(&disk).await;
    assert!(store.positions().iter().all(|positions| positions.era() == 2));
}
