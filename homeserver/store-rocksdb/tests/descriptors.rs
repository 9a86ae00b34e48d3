//! The store when the process has no file descriptor left: it opens files later that it can't open now, and
//! acknowledged commits are there (T120).
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)] // a panic fails the test

use std::fs::File;
use std::path::Path;

use bytes::Bytes;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use weft_store::engine::{EngineCommitError, Fence, Op};
use weft_store::{Engine, WriteBatch};
use weft_store_rocksdb::{RocksEngine, RocksOptions};

/// So small that RocksDB starts a new log after a few commits.
fn open(path: &Path) -> RocksEngine {
    let options = RocksOptions {
        block_cache_bytes: 1 << 20,
        write_buffer_bytes: 256 << 10,
        ..RocksOptions::default()
    };
    RocksEngine::open(path, &options).unwrap().0
}

fn put(key: u64) -> WriteBatch {
    WriteBatch {
        ops: vec![Op::Put {
            key: Bytes::copy_from_slice(&key.to_be_bytes()),
            value: Bytes::from(vec![7; 64 << 10]),
        }],
        fences: Vec::new(),
    }
}

fn never() -> WriteBatch {
    let fence = Fence {
        key: Bytes::from_static(b"absent"),
        expected: Some(Bytes::from_static(b"value")),
    };
    WriteBatch {
        ops: Vec::new(),
        fences: vec![fence],
    }
}

/// Every descriptor that this process may have. Each test runs in a process of its own.
fn all_descriptors() -> Vec<File> {
    let limit = getrlimit(Resource::Nofile);
    let few = Rlimit {
        current: Some(256),
        maximum: limit.maximum,
    };
    setrlimit(Resource::Nofile, few).unwrap();
    std::iter::from_fn(|| File::open("/dev/null").ok()).collect()
}

async fn holds(engine: &RocksEngine, commits: u64) {
    for key in 0..commits {
        assert!(engine.get(&key.to_be_bytes()).await.unwrap().is_some(), "commit {key}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commits_succeed_without_a_free_descriptor() {
    const COMMITS: u64 = 60;
    let directory = tempfile::tempdir().unwrap();
    let engine = open(directory.path());
    engine.commit(vec![put(0)]).await[0].clone().unwrap();
    let taken = all_descriptors();
    assert!(
        File::open("/dev/null").is_err(),
        "descriptors are left, so the test proves nothing"
    );
    for key in 1..COMMITS {
        let outcomes = engine.commit(vec![never(), put(key)]).await;
        assert_eq!(
            outcomes,
            [Err(EngineCommitError::Fence { index: 0 }), Ok(())],
            "commit {key}"
        );
    }
    drop(taken);
    engine.commit(vec![put(COMMITS)]).await[0].clone().unwrap();
    holds(&engine, COMMITS + 1).await;
    engine.close().await;
    assert_eq!(engine.commit(vec![put(0)]).await, [Err(EngineCommitError::Closed)]);
    let engine = open(directory.path());
    holds(&engine, COMMITS + 1).await;
}

/// The spare descriptors are taken as well: the commit waits until others are released.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_waits_for_free_descriptors() {
    const COMMITS: u64 = 30;
    let directory = tempfile::tempdir().unwrap();
    let engine = std::sync::Arc::new(open(directory.path()));
    engine.commit(vec![put(0)]).await[0].clone().unwrap();
    let mut taken = all_descriptors();
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let thief = std::thread::spawn({
        let stop = std::sync::Arc::clone(&stop);
        move || {
            // For a while, every descriptor that the store releases is taken at once.
            let began = std::time::Instant::now();
            while began.elapsed() < std::time::Duration::from_secs(3)
                && !stop.load(std::sync::atomic::Ordering::Relaxed)
            {
                taken.extend(File::open("/dev/null"));
            }
        }
    });
    for key in 1..COMMITS {
        engine.commit(vec![put(key)]).await[0].clone().unwrap();
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    thief.join().unwrap();
    holds(&engine, COMMITS).await;
}
