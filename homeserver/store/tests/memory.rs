//! The memory engine: the contract of all engines, and what remains after a power loss at any point of a commit.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)] // a panic fails the test

use async_trait::async_trait;
use bytes::Bytes;
use weft_store::contract::{self, Harness};
use weft_store::engine::{Engine, EngineCommitError, Op, WriteBatch};
use weft_store::memory::{Fault, MemoryDisk, MemoryEngine, Tail};

struct Memory(MemoryDisk);

#[async_trait]
impl Harness for Memory {
    type Engine = MemoryEngine;

    async fn open(&self) -> MemoryEngine {
        self.0.open()
    }

    fn fail_next_sync(&self, _engine: &MemoryEngine) -> bool {
        self.0.fail_next_sync();
        true
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_memory_engine_meets_the_contract() {
    contract::run(|| Memory(MemoryDisk::new())).await;
}

fn put(key: &'static str) -> WriteBatch {
    let op = Op::Put {
        key: Bytes::from_static(key.as_bytes()),
        value: Bytes::new(),
    };
    WriteBatch {
        ops: vec![op],
        fences: Vec::new(),
    }
}

#[tokio::test]
async fn a_power_loss_keeps_the_synced_rows_and_at_most_the_tail() {
    let cases = [
        (Fault::PowerBeforeWrite, [false, false]),
        (Fault::PowerBeforeSync(Tail::Lost), [false, false]),
        (Fault::PowerBeforeSync(Tail::Torn(1)), [true, false]),
        (Fault::PowerBeforeSync(Tail::Torn(9)), [true, true]),
        (Fault::PowerAfterSync, [true, true]),
    ];
    for (fault, left) in cases {
        let disk = MemoryDisk::new();
        let engine = disk.open();
        disk.plan(1, fault);
        assert_eq!(engine.commit(vec![put("acknowledged")]).await, [Ok(())]);
        let results = engine.commit(vec![put("first"), put("second")]).await;
        assert_eq!(
            results,
            [Err(EngineCommitError::Closed), Err(EngineCommitError::Closed)],
            "{fault:?}"
        );
        assert!(
            engine.get(b"acknowledged").await.is_err(),
            "the engine was opened before the power loss"
        );
        let engine = disk.open();
        assert!(engine.get(b"acknowledged").await.unwrap().is_some());
        let found = [
            engine.get(b"first").await.unwrap().is_some(),
            engine.get(b"second").await.unwrap().is_some(),
        ];
        assert_eq!(found, left, "{fault:?}");
    }
}

#[tokio::test]
async fn a_commit_that_waits_for_its_sync_is_lost_in_a_power_loss() {
    let disk = MemoryDisk::new();
    let engine = std::sync::Arc::new(disk.open());
    disk.pause_syncs();
    let waiting = tokio::spawn({
        let engine = engine.clone();
        async move { engine.commit(vec![put("k")]).await }
    });
    while disk.unsynced() == 0 {
        tokio::task::yield_now().await;
    }
    assert!(
        engine.get(b"k").await.unwrap().is_none(),
        "written and not durable, so not visible"
    );
    disk.power_loss(Tail::Lost);
    disk.resume_syncs();
    assert_eq!(waiting.await.unwrap(), [Err(EngineCommitError::Closed)]);
    assert_eq!(disk.open().get(b"k").await.unwrap(), None);
}
