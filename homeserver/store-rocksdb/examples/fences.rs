//! Prints what the fence of a lane costs: groups of commits per second of both engines, with and without it, in turns of
//! one run. `cargo run -p weft-store-rocksdb --example fences [DIRECTORY]`. Must not be used on a directory with a store
//! in use.
#![allow(clippy::print_stdout)] // the example prints its results

use std::time::{Duration, Instant};

use bytes::Bytes;
use weft_store::engine::{CommitGroup, LaneBatch, LaneFence, Op, WriteBatch};
use weft_store::memory::MemoryEngine;
use weft_store::tables::meta::LaneRow;
use weft_store::value::Value as _;
use weft_store::{Engine, Lane};
use weft_store_rocksdb::{RocksEngine, RocksOptions};

/// Turns of each kind: the other work of the machine hits both.
const TURNS: usize = 10;
const GROUPS_PER_TURN: u64 = 50;
/// Rows of a batch, and bytes of each.
const ROWS: u64 = 8;
const BYTES: usize = 300;
const LANE_KEY: &[u8] = b"lane";

type Failure = Box<dyn std::error::Error>;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let directory = std::env::args().nth(1).unwrap_or_else(|| "fences-example".to_owned());
    let (rocks, _) = RocksEngine::open(&directory, &RocksOptions::default())?;
    measure("rocksdb", &rocks).await?;
    rocks.close().await;
    std::fs::remove_dir_all(&directory)?;
    measure("memory", &MemoryEngine::new()).await
}

async fn measure(name: &str, engine: &dyn Engine) -> Result<(), Failure> {
    let mut row = LaneRow::new();
    let put = Op::Put {
        key: Bytes::from_static(LANE_KEY),
        value: row.encode()?,
    };
    let first = WriteBatch {
        ops: vec![put],
        ..WriteBatch::default()
    };
    engine.commit(vec![first]).await;
    for batches in [1, 64] {
        let (mut plain, mut fenced) = (Duration::ZERO, Duration::ZERO);
        for _ in 0..TURNS {
            plain += turn(engine, None, batches).await?;
            fenced += turn(engine, Some(&mut row), batches).await?;
        }
        let groups = GROUPS_PER_TURN as f64 * TURNS as f64;
        let (plain, fenced) = (plain.as_secs_f64() / groups, fenced.as_secs_f64() / groups);
        println!(
            "{name}: {batches:>2} batches a group: {:>7.0} groups/s without the fence, {:>7.0} with it, ratio {:.2}",
            1.0 / plain,
            1.0 / fenced,
            plain / fenced
        );
    }
    Ok(())
}

/// The time of some groups.
async fn turn(engine: &dyn Engine, mut row: Option<&mut LaneRow>, batches: u64) -> Result<Duration, Failure> {
    let value = Bytes::from(vec![b'v'; BYTES]);
    let began = Instant::now();
    for group in 0..GROUPS_PER_TURN {
        let lane = row.is_some().then_some(Lane::FIRST);
        let batch = |number: u64| {
            let key = |of: u64| Bytes::from(format!("row/{}", (group * batches + number) * ROWS + of));
            let ops = (0..ROWS).map(|of| Op::Put {
                key: key(of),
                value: value.clone(),
            });
            let write = WriteBatch {
                ops: ops.collect(),
                ..WriteBatch::default()
            };
            LaneBatch { lane, write }
        };
        let fence = row.as_ref().map(|row| LaneFence {
            lane: Lane::FIRST,
            key: Bytes::from_static(LANE_KEY),
            epoch: row.epoch,
            seq: row.seq,
            next: LaneRow {
                seq: row.seq + 1,
                ..LaneRow::clone(row)
            },
        });
        let group = CommitGroup {
            lanes: fence.into_iter().collect(),
            batches: (0..batches).map(batch).collect(),
        };
        for result in engine.commit_group(group).await {
            result?;
        }
        if let Some(row) = row.as_deref_mut() {
            row.seq += 1;
        }
    }
    Ok(began.elapsed())
}
