//! RocksDB as an engine: the contract of all engines, recovery and its report, clear errors, and a real failed write.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)] // a panic fails the test

use std::fs::{self, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use async_trait::async_trait;
use bytes::Bytes;
use tempfile::TempDir;
use weft_store::contract::{self, Harness};
use weft_store::engine::{EngineCommitError, Op};
use weft_store::{Engine, Store, WriteBatch};
use weft_store_rocksdb::{OpenReport, RocksEngine, RocksOpenError, RocksOptions};

fn open(path: &Path) -> (RocksEngine, OpenReport) {
    let options = RocksOptions {
        block_cache_bytes: 8 << 20,
        write_buffer_bytes: 8 << 20,
        ..RocksOptions::default()
    };
    RocksEngine::open(path, &options).unwrap()
}

fn put(key: u64, size: usize) -> WriteBatch {
    let key = Bytes::copy_from_slice(&key.to_be_bytes());
    WriteBatch {
        ops: vec![Op::Put {
            key,
            value: Bytes::from(vec![b'v'; size]),
        }],
        fences: Vec::new(),
    }
}

async fn has(engine: &RocksEngine, key: u64) -> bool {
    engine.get(&key.to_be_bytes()).await.unwrap().is_some()
}

struct Directory(TempDir);

#[async_trait]
impl Harness for Directory {
    type Engine = RocksEngine;

    async fn open(&self) -> RocksEngine {
        open(self.0.path()).0
    }

    // `a_failed_write_poisons_the_engine_and_loses_no_acknowledged_commit` causes a real failure.
    fn fail_next_sync(&self, _engine: &RocksEngine) -> bool {
        false
    }
}

/// Blocks enter and leave the cache while many rows are read at once: rows that are not in memory are read from disk
/// and are not empty.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_read_together_are_complete_when_their_blocks_are_not_in_memory() {
    const ROWS: u64 = 20_000;
    let directory = tempfile::tempdir().unwrap();
    let options = RocksOptions {
        block_cache_bytes: 512 << 10,
        write_buffer_bytes: 256 << 10,
        ..RocksOptions::default()
    };
    let engine = RocksEngine::open(directory.path(), &options).unwrap().0;
    // Every second key exists. Adjacent keys are in different tables, so that most tables of a lookup don't have the
    // key.
    for part in 0..20 {
        let batches = (part..ROWS).step_by(20).map(|number| put(2 * number, 200));
        for written in engine.commit(batches.collect()).await {
            written.unwrap();
        }
    }
    let engine = std::sync::Arc::new(engine);
    let readers: Vec<_> = (0..4_u64)
        .map(|reader| {
            let engine = std::sync::Arc::clone(&engine);
            tokio::spawn(async move {
                for round in 0..500_u64 {
                    let numbers = (0..16).map(|at| (reader * 7_919 + round * 104_729 + at * 2_503) % (2 * ROWS));
                    let numbers: Vec<u64> = numbers.collect();
                    let keys: Vec<Bytes> = numbers
                        .iter()
                        .map(|number| Bytes::copy_from_slice(&number.to_be_bytes()))
                        .collect();
                    for (number, value) in numbers.iter().zip(engine.get_many(&keys).await.unwrap()) {
                        let length = value.map(|value| value.len());
                        assert_eq!(length, (number % 2 == 0).then_some(200), "row {number}");
                    }
                }
            })
        })
        .collect();
    for reader in readers {
        reader.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rocksdb_meets_the_contract() {
    contract::run(|| Directory(tempfile::tempdir().unwrap())).await;
}

#[tokio::test]
async fn a_store_opens_on_rocksdb_and_reopens() {
    let directory = tempfile::tempdir().unwrap();
    for _ in 0..2 {
        let store = Store::open(open(directory.path()).0).await.unwrap();
        store.close().await;
    }
    assert!(open(directory.path()).1.clean);
}

#[tokio::test]
async fn a_clean_close_and_a_crash_without_loss_are_reported() {
    let directory = tempfile::tempdir().unwrap();
    let (engine, report) = open(directory.path());
    assert_eq!((report.clean, report.recovered, report.lost()), (true, 0, 0));
    engine.commit(vec![put(1, 10), put(2, 10)]).await.remove(0).unwrap();
    engine.close().await;
    let (engine, report) = open(directory.path());
    assert_eq!((report.clean, report.recovered, report.acknowledged), (true, 1, 1));
    engine.commit(vec![put(3, 10)]).await.remove(0).unwrap();
    drop(engine);
    let (engine, report) = open(directory.path());
    assert_eq!((report.clean, report.recovered, report.lost()), (false, 2, 0));
    assert!(has(&engine, 3).await);
}

/// The log that RocksDB recovers from: the newest one that is not empty.
fn wal(directory: &Path) -> PathBuf {
    let files = fs::read_dir(directory.join("rocksdb"))
        .unwrap()
        .map(|file| file.unwrap().path());
    let logs = files.filter(|path| path.extension().is_some_and(|extension| extension == "log"));
    logs.filter(|path| fs::metadata(path).unwrap().len() > 0).max().unwrap()
}

async fn crashed_after(directory: &Path, commits: u64) {
    let (engine, _) = open(directory);
    for number in 1..=commits {
        engine.commit(vec![put(number, 1000)]).await.remove(0).unwrap();
    }
}

fn refused(directory: &Path) -> String {
    let options = RocksOptions::default();
    match RocksEngine::open(directory, &options) {
        Err(error @ RocksOpenError::Lost { .. }) => error.to_string(),
        other => panic!("{other:?}"),
    }
}

fn accept_loss(directory: &Path) -> (RocksEngine, OpenReport) {
    fs::write(directory.join("ACCEPT-LOSS"), "").unwrap();
    let opened = open(directory);
    assert!(!directory.join("ACCEPT-LOSS").exists(), "it works once");
    opened
}

#[tokio::test]
async fn a_log_that_ends_before_the_last_acknowledged_commit_is_not_opened() {
    let directory = tempfile::tempdir().unwrap();
    crashed_after(directory.path(), 10).await;
    let wal = OpenOptions::new().write(true).open(wal(directory.path())).unwrap();
    let length = wal.metadata().unwrap().len();
    wal.set_len(length - 1500).unwrap();
    let words = refused(directory.path());
    assert!(
        words.contains("commit 8") && words.contains("commit 10") && words.contains("ACCEPT-LOSS"),
        "{words}"
    );
    assert_eq!(refused(directory.path()), words, "a refused opening changes nothing");
    let (engine, report) = accept_loss(directory.path());
    assert_eq!(
        (report.recovered, report.acknowledged, report.lost(), report.clean),
        (8, 10, 2, false)
    );
    assert!(report.accepted.is_some() && directory.path().join("given-up").exists());
    assert!(has(&engine, 8).await && !has(&engine, 9).await && !has(&engine, 10).await);
    engine.commit(vec![put(11, 10)]).await.remove(0).unwrap();
    drop(engine);
    let (_, report) = open(directory.path());
    assert_eq!((report.lost(), report.accepted), (0, None), "reported once");
}

#[tokio::test]
async fn a_store_with_a_missing_log_is_not_opened() {
    let directory = tempfile::tempdir().unwrap();
    crashed_after(directory.path(), 10).await;
    fs::remove_file(wal(directory.path())).unwrap();
    assert!(refused(directory.path()).contains("it ends with commit 0"));
    assert!(refused(directory.path()).contains("commit 10 was acknowledged"));
    let (engine, report) = accept_loss(directory.path());
    assert_eq!(report.lost(), 10);
    assert!(!has(&engine, 10).await);
}

#[tokio::test]
async fn damage_within_the_log_is_refused_and_once_accepted_recovers_to_the_commit_before_it() {
    let directory = tempfile::tempdir().unwrap();
    crashed_after(directory.path(), 10).await;
    let mut wal = OpenOptions::new()
        .read(true)
        .write(true)
        .open(wal(directory.path()))
        .unwrap();
    let middle = wal.metadata().unwrap().len() / 2;
    let mut byte = [0];
    wal.seek(SeekFrom::Start(middle)).unwrap();
    wal.read_exact(&mut byte).unwrap();
    wal.seek(SeekFrom::Start(middle)).unwrap();
    wal.write_all(&[!byte[0]]).unwrap();
    drop(wal);
    assert!(refused(directory.path()).contains("and commits follow there"));
    let (engine, report) = accept_loss(directory.path());
    assert!((1..10).contains(&report.recovered), "{report:?}");
    assert_eq!(report.lost(), 10 - report.recovered);
    assert!(!report.complaints.is_empty(), "RocksDB's messages are in the report");
    for number in 1..=10 {
        assert_eq!(has(&engine, number).await, number <= report.recovered);
    }
    engine.commit(vec![put(20, 10)]).await.remove(0).unwrap();
    drop(engine);
    let (engine, report) = open(directory.path());
    assert_eq!(report.lost(), 0);
    assert!(has(&engine, 20).await);
}

#[tokio::test]
async fn the_remains_of_a_crash_are_cut_off_before_rocksdb_reads_them() {
    let noise = [
        vec![0; 9],
        vec![0; 70_000],
        // A record type of recycled logs: RocksDB's reader would never finish reading it.
        vec![0xA5, 0xA5, 0xA5, 0xA5, 3, 0, 5, 1, 2, 3, 4, 5, 6, 7, 8, 9],
    ];
    for rest in noise {
        let directory = tempfile::tempdir().unwrap();
        crashed_after(directory.path(), 5).await;
        let mut wal = OpenOptions::new().append(true).open(wal(directory.path())).unwrap();
        wal.write_all(&rest).unwrap();
        drop(wal);
        let (engine, report) = open(directory.path());
        assert_eq!((report.recovered, report.lost()), (5, 0));
        assert!(has(&engine, 5).await);
    }
}

#[tokio::test]
async fn an_unfinished_record_at_the_end_loses_no_acknowledged_commit() {
    let directory = tempfile::tempdir().unwrap();
    crashed_after(directory.path(), 5).await;
    let mut wal = OpenOptions::new().append(true).open(wal(directory.path())).unwrap();
    wal.write_all(&[0x5A; 40]).unwrap();
    drop(wal);
    let (engine, report) = open(directory.path());
    assert_eq!((report.recovered, report.lost()), (5, 0));
    assert!(has(&engine, 5).await);
}

#[tokio::test]
async fn a_store_in_use_and_an_unusable_path_are_different_errors() {
    let directory = tempfile::tempdir().unwrap();
    let (engine, _) = open(directory.path());
    let second = RocksEngine::open(directory.path(), &RocksOptions::default());
    assert!(matches!(second, Err(RocksOpenError::Locked { .. })), "{second:?}");
    engine.close().await;
    assert!(RocksEngine::open(directory.path(), &RocksOptions::default()).is_ok());
    let file = directory.path().join("file");
    fs::write(&file, "x").unwrap();
    assert!(matches!(
        RocksEngine::open(file, &RocksOptions::default()),
        Err(RocksOpenError::Io { .. })
    ));
    let current = directory.path().join("rocksdb/CURRENT");
    fs::write(current, "MANIFEST-999999\n").unwrap();
    let damaged = RocksEngine::open(directory.path(), &RocksOptions::default());
    assert!(
        matches!(damaged, Err(RocksOpenError::Damaged { .. } | RocksOpenError::Io { .. })),
        "{damaged:?}"
    );
}

const CHILD: &str = "WEFT_TEST_FAILING_STORE";

/// Run by the test below in a process of its own whose files can't grow beyond a limit.
#[tokio::test]
async fn child_whose_writes_fail() {
    let Ok(path) = std::env::var(CHILD) else { return };
    let (engine, _) = open(Path::new(&path));
    let mut acknowledged = 0;
    let reason = loop {
        match engine.commit(vec![put(acknowledged + 1, 10_000)]).await.remove(0) {
            Ok(()) => acknowledged += 1,
            Err(EngineCommitError::Poisoned { reason }) => break reason,
            Err(other) => panic!("{other}"),
        }
        assert!(acknowledged < 1000, "the limit has no effect");
    };
    assert!(!reason.is_empty());
    let again = engine.commit(vec![put(9999, 1)]).await.remove(0);
    assert_eq!(again, Err(EngineCommitError::Poisoned { reason }));
    assert!(has(&engine, acknowledged).await, "reads still work");
    assert!(!has(&engine, 9999).await);
    assert!(!has(&engine, acknowledged + 1).await, "the failed batch is not visible");
    fs::write(Path::new(&path).join("count"), acknowledged.to_string()).unwrap();
    engine.close().await;
}

#[tokio::test]
async fn a_failed_write_poisons_the_engine_and_loses_no_acknowledged_commit() {
    let directory = tempfile::tempdir().unwrap();
    let test = std::env::current_exe().unwrap();
    // 512 kB a file; the signal is ignored, so that the write fails as on a full disk.
    let script = "trap '' XFSZ; ulimit -f 1024; exec \"$0\" --exact child_whose_writes_fail";
    let output = Command::new("sh")
        .args(["-c", script])
        .arg(test)
        .env(CHILD, directory.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    let count: u64 = fs::read_to_string(directory.path().join("count"))
        .unwrap()
        .parse()
        .unwrap();
    assert!(count > 0);
    let (engine, report) = open(directory.path());
    assert_eq!(report.lost(), 0, "{report:?}");
    assert!(!report.clean);
    for number in 1..=count {
        assert!(has(&engine, number).await, "{number} of {count}");
    }
    assert_eq!(engine.commit(vec![put(9999, 1)]).await, [Ok(())]);
}
