//! The contract about lanes: commits of a lane form one chain. Must only be used in tests, because it asserts.

use bytes::Bytes;

use super::{Harness, batch, bytes, fenced, get, put};
use crate::engine::{CommitGroup, Engine, EngineCommitError, LaneBatch, LaneFence, Op, WriteBatch};
use crate::lane::Lane;
use crate::tables::meta::LaneRow;
use crate::value::Value as _;

type Outcome = Result<(), EngineCommitError>;

const LOST: Outcome = Err(EngineCommitError::LaneLost);

pub(super) async fn run<H: Harness>(new: &impl Fn() -> H) {
    a_group_moves_its_lanes(&new().open().await).await;
    the_earlier_owner_of_a_lane_writes_nothing(&new().open().await).await;
    a_lane_moves_even_if_all_its_batches_are_left_out(&new().open().await).await;
    the_chain_continues_after_reopening(&new()).await;
}

fn lane(number: u16) -> Lane {
    Lane::new(number).expect("a small number")
}

fn row_key(number: u16) -> Bytes {
    bytes(&format!("lane/{number}"))
}

/// The row of a lane in an epoch.
async fn take<E: Engine>(engine: &E, number: u16, epoch: u64) -> LaneRow {
    let before = row(engine, number).await;
    let after = LaneRow {
        epoch,
        ..before.unwrap_or_default()
    };
    let op = Op::Put {
        key: row_key(number),
        value: after.encode().expect("a row is encoded"),
    };
    assert_eq!(engine.commit(vec![batch(vec![op])]).await, [Ok(())]);
    after
}

async fn row<E: Engine>(engine: &E, number: u16) -> Option<LaneRow> {
    let bytes = engine.get(&row_key(number)).await.expect("the engine reads")?;
    Some(LaneRow::decode(bytes).expect("the row is a lane's"))
}

fn fence(number: u16, row: &LaneRow) -> LaneFence {
    LaneFence {
        lane: lane(number),
        key: row_key(number),
        epoch: row.epoch,
        seq: row.seq,
        next: LaneRow {
            seq: row.seq + 1,
            left_out: Vec::new(),
            ..row.clone()
        },
    }
}

fn of(number: u16, write: WriteBatch) -> LaneBatch {
    LaneBatch {
        lane: Some(lane(number)),
        write,
    }
}

async fn commit<E: Engine>(engine: &E, lanes: Vec<LaneFence>, batches: Vec<LaneBatch>) -> Vec<Outcome> {
    engine.commit_group(CommitGroup { lanes, batches }).await
}

async fn a_group_moves_its_lanes<E: Engine>(engine: &E) {
    let (one, two) = (take(engine, 1, 1).await, take(engine, 2, 5).await);
    let batches = vec![
        of(1, batch(vec![put("a", "1")])),
        of(2, fenced("a", Some("1"), vec![put("b", "1")])),
        of(1, fenced("a", None, vec![put("c", "1")])),
        LaneBatch {
            lane: None,
            write: batch(vec![put("d", "1")]),
        },
    ];
    let results = commit(engine, vec![fence(1, &one), fence(2, &two)], batches).await;
    let broken = Err(EngineCommitError::Fence { index: 0 });
    assert_eq!(results, [Ok(()), Ok(()), broken, Ok(())]);
    assert_eq!(get(engine, "c").await, None);
    assert_eq!(get(engine, "d").await, Some(bytes("1")));
    let (one, two) = (
        row(engine, 1).await.expect("a row"),
        row(engine, 2).await.expect("a row"),
    );
    assert_eq!((one.epoch, one.seq, two.epoch, two.seq), (1, 1, 5, 1));
    assert_eq!((one.left_out, two.left_out), (vec![2], vec![]));
}

async fn the_earlier_owner_of_a_lane_writes_nothing<E: Engine>(engine: &E) {
    let (first, other) = (take(engine, 1, 1).await, take(engine, 2, 1).await);
    let second = take(engine, 1, 2).await;
    let group = |one: &LaneRow, other: &LaneRow, value: &str| {
        (
            vec![fence(1, one), fence(2, other)],
            vec![
                of(1, batch(vec![put("one", value)])),
                of(2, batch(vec![put("two", value)])),
            ],
        )
    };
    let (lanes, batches) = group(&first, &other, "old");
    assert_eq!(commit(engine, lanes, batches).await, [LOST, Ok(())]);
    assert_eq!(get(engine, "one").await, None);
    assert_eq!(
        get(engine, "two").await,
        Some(bytes("old")),
        "other lanes of the group are unaffected"
    );
    assert_eq!(row(engine, 1).await, Some(second.clone()));
    let other = row(engine, 2).await.expect("a row");
    let (lanes, batches) = group(&second, &other, "new");
    assert_eq!(commit(engine, lanes.clone(), batches.clone()).await, [Ok(()), Ok(())]);
    assert_eq!(
        commit(engine, lanes, batches).await,
        [LOST, LOST],
        "a number is used once"
    );
    let absent = vec![fence(9, &LaneRow::default())];
    let batches = vec![of(9, batch(vec![put("nine", "x")]))];
    assert_eq!(
        commit(engine, absent, batches).await,
        [LOST],
        "a lane without a row has no owner"
    );
}

async fn a_lane_moves_even_if_all_its_batches_are_left_out<E: Engine>(engine: &E) {
    let owned = take(engine, 1, 1).await;
    let batches = vec![of(1, fenced("absent", Some("x"), vec![put("a", "1")]))];
    let results = commit(engine, vec![fence(1, &owned)], batches).await;
    assert_eq!(results, [Err(EngineCommitError::Fence { index: 0 })]);
    assert_eq!(
        row(engine, 1).await.map(|row| (row.seq, row.left_out)),
        Some((1, vec![0]))
    );
}

async fn the_chain_continues_after_reopening<H: Harness>(harness: &H) {
    let engine = harness.open().await;
    let owned = take(&engine, 1, 1).await;
    for number in 0..3 {
        let current = LaneRow {
            seq: number,
            ..owned.clone()
        };
        let batches = vec![of(1, batch(vec![put("n", &number.to_string())]))];
        assert_eq!(commit(&engine, vec![fence(1, &current)], batches).await, [Ok(())]);
    }
    engine.close().await;
    let engine = harness.open().await;
    assert_eq!(row(&engine, 1).await.map(|row| row.seq), Some(3));
    assert_eq!(get(&engine, "n").await, Some(bytes("2")));
}
