//! Prints the number of durable commits per second with 1, 8 and 64 concurrent callers. `cargo run --release -p
//! weft-store-rocksdb --example commits [DIRECTORY]` (on the disk to be measured). Must not be used on a directory with
//! a store in use.
#![allow(clippy::print_stdout)] // the example prints its results

use std::time::Instant;

use bytes::Bytes;
use ruma::room_id;
use weft_store::tables::documents::SNAPSHOT_TAIL;
use weft_store::{Batch, Store};
use weft_store_rocksdb::{RocksEngine, RocksOptions};

const EACH: u64 = 500;
const BYTES: usize = 1000;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let parent = std::env::args().nth(1).unwrap_or_else(|| ".".to_owned());
    let directory = tempfile::tempdir_in(parent)?;
    let (engine, _) = RocksEngine::open(directory.path(), &RocksOptions::default())?;
    let store = Store::open(engine).await?;
    for callers in [1_u64, 8, 64] {
        let began = Instant::now();
        let tasks: Vec<_> = (0..callers)
            .map(|caller| tokio::spawn(write(store.clone(), caller)))
            .collect();
        for task in tasks {
            task.await??;
        }
        let seconds = began.elapsed().as_secs_f64();
        let count = callers * EACH;
        println!(
            "{callers:>3} callers: {:>8.0} commits/s of {BYTES} bytes",
            count as f64 / seconds
        );
    }
    store.close().await;
    Ok(())
}

async fn write(store: Store, caller: u64) -> Result<(), weft_store::CommitError> {
    let value = Bytes::from(vec![b'v'; BYTES]);
    for number in 0..EACH {
        let mut batch = Batch::new();
        batch.reserve(store.positions_of(room_id!("!bench:alpha.example")), 1);
        batch.put(
            &SNAPSHOT_TAIL,
            &(room_id!("!bench:alpha.example"), caller * EACH + number),
            &value,
        );
        store.commit(batch).await?;
    }
    Ok(())
}
