//! One flipped bit anywhere in a log, a table or the manifest is detected when the store is opened or the row is read,
//! or makes no difference. No read returns another result than before.
//!
//! `make flips FLIPS=2000` runs longer and prints the table; `WEFT_FLIPS_SEED` repeats a run.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a panic fails the test, and a long run prints its progress"
)]

use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use rand::{Rng as _, RngExt as _, SeedableRng as _, rngs::StdRng};
use tempfile::TempDir;
use weft_store::{Engine, KeyRange, WriteBatch, engine::Op};
use weft_store_rocksdb::{OpenReport, RocksEngine, RocksOpenError, RocksOptions};

type Rows = BTreeMap<Bytes, Bytes>;

fn open(path: &Path) -> Result<(RocksEngine, OpenReport), RocksOpenError> {
    let options = RocksOptions {
        block_cache_bytes: 1 << 20,
        write_buffer_bytes: 1 << 20,
        ..RocksOptions::default()
    };
    RocksEngine::open(path, &options)
}

/// In memory if possible: opening flushes a dozen times.
fn folder() -> TempDir {
    tempfile::tempdir_in("/dev/shm")
        .or_else(|_| tempfile::tempdir())
        .unwrap()
}

/// A store as a crash leaves it: tables of two openings, a log of many blocks, with new, changed and deleted rows in
/// each.
struct Original {
    folder: TempDir,
    rows: Rows,
}

impl Original {
    async fn new() -> Self {
        let mut dice = StdRng::seed_from_u64(1);
        let (folder, mut rows) = (folder(), Rows::new());
        for _ in 0..3 {
            let (engine, _) = open(folder.path()).unwrap();
            for _ in 0..120 {
                let batch = batch(&mut dice);
                for op in &batch.ops {
                    match op {
                        Op::Put { key, value } => rows.insert(key.clone(), value.clone()),
                        Op::Delete { key } => rows.remove(key),
                        Op::DeleteRange { .. } => None,
                    };
                }
                assert_eq!(engine.commit(vec![batch]).await, [Ok(())]);
            }
        }
        Self { folder, rows }
    }

    fn files(&self, kind: &str) -> Vec<PathBuf> {
        let files = fs::read_dir(self.folder.path().join("rocksdb")).unwrap();
        let mut files: Vec<PathBuf> = files.map(|file| file.unwrap().path()).collect();
        files.retain(|file| file.to_str().unwrap().contains(kind) && fs::metadata(file).unwrap().len() > 0);
        files.sort();
        files
    }
}

fn batch(dice: &mut StdRng) -> WriteBatch {
    let mut ops = Vec::new();
    for _ in 0..dice.random_range(1..4) {
        let key = Bytes::from(format!("row {:03}", dice.random_range(0..300)));
        let mut value = vec![0; dice.random_range(0..900)];
        dice.fill_bytes(&mut value);
        ops.push(if dice.random_range(0..6) == 0 {
            Op::Delete { key }
        } else {
            Op::Put {
                key,
                value: value.into(),
            }
        });
    }
    WriteBatch {
        ops,
        fences: Vec::new(),
    }
}

#[derive(Debug, Default)]
struct Outcomes {
    at_opening: u64,
    at_reading: u64,
    harmless: u64,
    wrong: Vec<String>,
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Reads every row in all three ways. `None`: some could not be read. An error names a result that differs.
async fn read(engine: &RocksEngine, rows: &Rows) -> Result<Option<()>, String> {
    let mut all = Some(());
    for number in 0..300 {
        let key = Bytes::from(format!("row {number:03}"));
        match engine.get(&key).await {
            Err(_) => all = None,
            Ok(value) if value.as_ref() == rows.get(&key) => {}
            Ok(_) => return Err(format!("wrong value of {key:?}")),
        }
    }
    let keys: Vec<Bytes> = (0..300).map(|number| Bytes::from(format!("row {number:03}"))).collect();
    for keys in keys.chunks(25) {
        match engine.get_many(keys).await {
            Err(_) => all = None,
            Ok(values)
                if values
                    .iter()
                    .map(Option::as_ref)
                    .eq(keys.iter().map(|key| rows.get(key))) => {}
            Ok(_) => return Err(format!("wrong values from {:?} on", keys[0])),
        }
    }
    match engine.scan(KeyRange::prefix("row ", usize::MAX)).await {
        Err(_) => all = None,
        Ok(found) if found.iter().map(|(key, value)| (key, value)).eq(rows.iter()) => {}
        Ok(found) => return Err(format!("a scan returns {} rows of {}", found.len(), rows.len())),
    }
    Ok(all)
}

async fn flip(original: &Original, file: &Path, bit: u64, outcomes: &mut Outcomes) {
    let copied = folder();
    copy(original.folder.path(), copied.path());
    let flipped = copied.path().join("rocksdb").join(file.file_name().unwrap());
    let mut bytes = fs::read(file).unwrap();
    bytes[usize::try_from(bit / 8).unwrap()] ^= 1 << (bit % 8);
    fs::write(flipped, bytes).unwrap();
    let Ok((engine, report)) = open(copied.path()) else {
        outcomes.at_opening += 1;
        return;
    };
    match read(&engine, &original.rows).await {
        Ok(Some(())) => outcomes.harmless += 1,
        Ok(None) => outcomes.at_reading += 1,
        Err(why) => outcomes.wrong.push(format!("{file:?} bit {bit}: {why}, {report:?}")),
    }
    engine.close().await;
}

fn number(name: &str, default: u64) -> u64 {
    env::var(name).map_or(default, |text| text.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flipped_bit_is_detected_or_harmless_and_never_served() {
    let (flips, seed) = (number("WEFT_FLIPS", 250), number("WEFT_FLIPS_SEED", rand::random()));
    eprintln!("seed {seed}: WEFT_FLIPS_SEED={seed} repeats it");
    let original = Original::new().await;
    let mut dice = StdRng::seed_from_u64(seed);
    let mut table = format!(
        "{:<10}{:>8}{:>22}{:>22}{:>10}{:>14}\n",
        "file", "flips", "detected at opening", "detected at reading", "harmless", "SERVED WRONG"
    );
    let mut wrong = Vec::new();
    for (name, kind) in [("log", ".log"), ("table", ".sst"), ("MANIFEST", "MANIFEST-")] {
        let files = original.files(kind);
        let lengths: Vec<u64> = files.iter().map(|file| fs::metadata(file).unwrap().len()).collect();
        let mut outcomes = Outcomes::default();
        for done in 0..flips {
            let mut bit = dice.random_range(0..lengths.iter().sum::<u64>() * 8);
            let mut file = 0;
            while bit >= lengths[file] * 8 {
                bit -= lengths[file] * 8;
                file += 1;
            }
            flip(&original, &files[file], bit, &mut outcomes).await;
            if done % 500 == 499 {
                eprintln!("{} of {flips} flips in a {name}", done + 1);
            }
        }
        table += &format!(
            "{name:<10}{flips:>8}{:>22}{:>22}{:>10}{:>14}\n",
            outcomes.at_opening,
            outcomes.at_reading,
            outcomes.harmless,
            outcomes.wrong.len()
        );
        wrong.extend(outcomes.wrong);
    }
    println!("{table}");
    assert!(wrong.is_empty(), "{wrong:#?}");
}
