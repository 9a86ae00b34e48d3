//! The contract of engines, as a suite that runs with any of them. Must only be used in tests, because it asserts.
//!
//! The tests of an engine implement [`Harness`] and call [`run`].

mod lanes;

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use crate::engine::{Engine, EngineCommitError, Fence, KeyRange, Op, WriteBatch};

/// Opens the engine for the suite. Each harness has a storage of its own.
#[async_trait]
pub trait Harness: Send + Sync {
    /// The engine under test.
    type Engine: Engine;

    /// Opens the storage: empty at first, later with the committed rows. The previous engine is closed.
    async fn open(&self) -> Self::Engine;

    /// Makes the next sync fail; returns false if this engine can't be made to fail.
    fn fail_next_sync(&self, engine: &Self::Engine) -> bool;
}

/// Runs the whole suite, each check with a storage of its own.
pub async fn run<H: Harness>(new: impl Fn() -> H) {
    written_rows_are_read(&new().open().await).await;
    ranges_are_scanned(&new().open().await).await;
    scans_return_all_rows_of_any_range(&new().open().await).await;
    many_keys_are_read_in_their_order(&new().open().await).await;
    batches_apply_in_order(&new().open().await).await;
    a_failed_fence_stops_only_its_batch(&new().open().await).await;
    fences_see_earlier_batches_of_the_group(&new().open().await).await;
    fences_see_range_deletes_of_the_group(&new().open().await).await;
    large_and_empty_values_are_stored(&new().open().await).await;
    concurrent_fences_have_one_winner(new().open().await).await;
    committed_rows_survive_reopening(&new()).await;
    closed_engines_refuse_calls(&new()).await;
    a_failed_sync_poisons_the_engine(&new()).await;
    lanes::run(&new).await;
}

fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn put(key: &str, value: &str) -> Op {
    Op::Put {
        key: bytes(key),
        value: bytes(value),
    }
}

fn delete(key: &str) -> Op {
    Op::Delete { key: bytes(key) }
}

fn delete_range(start: &str, end: &str) -> Op {
    Op::DeleteRange {
        start: bytes(start),
        end: bytes(end),
    }
}

fn batch(ops: Vec<Op>) -> WriteBatch {
    WriteBatch {
        ops,
        fences: Vec::new(),
    }
}

fn fenced(key: &str, expected: Option<&str>, ops: Vec<Op>) -> WriteBatch {
    WriteBatch {
        ops,
        fences: vec![Fence {
            key: bytes(key),
            expected: expected.map(bytes),
        }],
    }
}

async fn write<E: Engine>(engine: &E, ops: Vec<Op>) {
    assert_eq!(engine.commit(vec![batch(ops)]).await, [Ok(())]);
}

async fn get<E: Engine>(engine: &E, key: &str) -> Option<Bytes> {
    engine.get(key.as_bytes()).await.expect("the engine reads")
}

async fn keys<E: Engine>(engine: &E, start: &str, end: Option<&str>, reverse: bool, limit: usize) -> Vec<String> {
    let range = KeyRange {
        start: bytes(start),
        end: end.map(bytes),
        reverse,
        limit,
    };
    let rows = engine.scan(range).await.expect("the engine scans");
    rows.into_iter()
        .map(|(key, _)| String::from_utf8_lossy(&key).into_owned())
        .collect()
}

async fn written_rows_are_read<E: Engine>(engine: &E) {
    assert_eq!(get(engine, "a").await, None);
    write(engine, vec![put("a", "1"), put("b", "2")]).await;
    write(engine, vec![put("a", "3"), delete("absent")]).await;
    assert_eq!(get(engine, "a").await, Some(bytes("3")));
    let many = engine
        .get_many(&[bytes("b"), bytes("none"), bytes("a")])
        .await
        .expect("the engine reads");
    assert_eq!(many, [Some(bytes("2")), None, Some(bytes("3"))]);
    assert_eq!(engine.get_many(&[]).await.expect("the engine reads"), []);
    write(engine, vec![delete("a")]).await;
    assert_eq!(get(engine, "a").await, None);
    assert!(engine.commit(Vec::new()).await.is_empty());
    assert_eq!(engine.commit(vec![WriteBatch::default()]).await, [Ok(())]);
}

async fn ranges_are_scanned<E: Engine>(engine: &E) {
    write(
        engine,
        ["a", "b", "ba", "bb", "c", "d"].map(|key| put(key, key)).to_vec(),
    )
    .await;
    assert_eq!(
        keys(engine, "", None, false, 99).await,
        ["a", "b", "ba", "bb", "c", "d"]
    );
    assert_eq!(keys(engine, "", None, true, 2).await, ["d", "c"]);
    assert_eq!(keys(engine, "b", Some("c"), false, 99).await, ["b", "ba", "bb"]);
    assert_eq!(keys(engine, "b", Some("c"), true, 99).await, ["bb", "ba", "b"]);
    assert_eq!(keys(engine, "b", Some("c"), true, 1).await, ["bb"]);
    assert_eq!(keys(engine, "b", Some("c"), false, 2).await, ["b", "ba"]);
    assert_eq!(keys(engine, "aa", Some("b"), false, 9).await, [""; 0]);
    assert_eq!(keys(engine, "c", Some("b"), false, 9).await, [""; 0]);
    assert_eq!(keys(engine, "c", Some("b"), true, 9).await, [""; 0]);
    assert_eq!(keys(engine, "a", None, false, 0).await, [""; 0]);
    assert_eq!(keys(engine, "e", None, true, 9).await, [""; 0]);
    // In the order of bytes, not of text.
    let high = vec![Op::Put {
        key: Bytes::from_static(&[0xFF, 0xFF]),
        value: Bytes::new(),
    }];
    write(engine, high).await;
    let rows = engine
        .scan(KeyRange::prefix(vec![0xFF], 9))
        .await
        .expect("the engine scans");
    assert_eq!(rows.len(), 1);
}

/// An engine may read short scans in another way than long ones.
async fn scans_return_all_rows_of_any_range<E: Engine>(engine: &E) {
    let mut written = Vec::new();
    for count in [1, 63, 64, 65, 66, 300] {
        for number in written.len()..count {
            written.push(format!("long/{number:04}"));
        }
        let puts = written.iter().map(|key| put(key, "v"));
        write(engine, puts.collect()).await;
        for limit in [1, 63, 64, 65, usize::MAX] {
            let found = keys(engine, "long/", Some("long0"), false, limit).await;
            assert!(found.iter().eq(written.iter().take(limit)), "{limit} of {count}");
            let found = keys(engine, "long/", Some("long0"), true, limit).await;
            let expected = written.iter().rev().take(limit);
            assert!(found.iter().eq(expected), "{limit} of {count} from the end");
        }
    }
}

/// An engine may read few keys in another way than many.
async fn many_keys_are_read_in_their_order<E: Engine>(engine: &E) {
    let written = |number: usize| format!("many/{number:04}");
    let puts = (0..400)
        .filter(|number| number % 3 > 0)
        .map(|number| put(&written(number), "v"));
    write(engine, puts.collect()).await;
    for count in [1, 63, 64, 65, 400] {
        // From the last to the first, each twice, with one in three missing.
        let numbers: Vec<usize> = (0..count).rev().flat_map(|number| [number, number]).collect();
        let keys: Vec<Bytes> = numbers.iter().map(|number| bytes(&written(*number))).collect();
        let values = engine.get_many(&keys).await.expect("the engine reads");
        let expected = numbers.iter().map(|number| (number % 3 > 0).then(|| bytes("v")));
        assert!(values.into_iter().eq(expected), "{count} keys");
    }
}

async fn batches_apply_in_order<E: Engine>(engine: &E) {
    write(engine, vec![put("k", "1"), put("k", "2"), delete("k"), put("k", "3")]).await;
    assert_eq!(get(engine, "k").await, Some(bytes("3")));
    write(
        engine,
        vec![put("r1", "x"), put("r2", "x"), delete_range("r", "s"), put("r2", "y")],
    )
    .await;
    assert_eq!(keys(engine, "r", Some("s"), false, 9).await, ["r2"]);
    write(engine, vec![delete_range("z", "a"), delete_range("k", "k")]).await;
    assert_eq!(keys(engine, "", None, false, 9).await, ["k", "r2"]);
    let group = vec![batch(vec![put("g", "1")]), batch(vec![put("g", "2")])];
    assert_eq!(engine.commit(group).await, [Ok(()), Ok(())]);
    assert_eq!(get(engine, "g").await, Some(bytes("2")));
}

async fn a_failed_fence_stops_only_its_batch<E: Engine>(engine: &E) {
    write(engine, vec![put("lease", "1")]).await;
    let group = vec![
        batch(vec![put("first", "x")]),
        fenced("lease", Some("2"), vec![put("second", "x"), delete("first")]),
        fenced("lease", None, vec![put("second", "x")]),
        fenced("lease", Some("1"), vec![put("third", "x")]),
        fenced("absent", None, vec![put("fourth", "x")]),
    ];
    let stopped = || Err(EngineCommitError::Fence { index: 0 });
    assert_eq!(
        engine.commit(group).await,
        [Ok(()), stopped(), stopped(), Ok(()), Ok(())]
    );
    assert_eq!(
        keys(engine, "", None, false, 9).await,
        ["first", "fourth", "lease", "third"]
    );
    let two = WriteBatch {
        ops: vec![put("fifth", "x")],
        fences: vec![
            Fence {
                key: bytes("lease"),
                expected: Some(bytes("1")),
            },
            Fence {
                key: bytes("first"),
                expected: None,
            },
        ],
    };
    assert_eq!(
        engine.commit(vec![two]).await,
        [Err(EngineCommitError::Fence { index: 1 })]
    );
    assert_eq!(get(engine, "fifth").await, None);
}

async fn fences_see_earlier_batches_of_the_group<E: Engine>(engine: &E) {
    let group = vec![
        fenced("n", None, vec![put("n", "1")]),
        fenced("n", None, vec![put("n", "lost")]),
        fenced("n", Some("1"), vec![put("n", "2"), delete("n")]),
        fenced("n", None, vec![put("n", "3")]),
    ];
    let results = engine.commit(group).await;
    assert_eq!(
        results,
        [Ok(()), Err(EngineCommitError::Fence { index: 0 }), Ok(()), Ok(())]
    );
    assert_eq!(get(engine, "n").await, Some(bytes("3")));
}

async fn fences_see_range_deletes_of_the_group<E: Engine>(engine: &E) {
    write(engine, vec![put("p1", "x"), put("q", "x")]).await;
    let group = vec![
        batch(vec![delete_range("p", "q")]),
        fenced("p1", None, vec![put("saw", "x")]),
        fenced("q", Some("x"), vec![put("kept", "x")]),
        batch(vec![put("p1", "y"), delete_range("p2", "p3")]),
        fenced("p1", Some("y"), vec![put("again", "x")]),
    ];
    assert!(engine.commit(group).await.iter().all(Result::is_ok));
    assert_eq!(
        keys(engine, "", None, false, 9).await,
        ["again", "kept", "p1", "q", "saw"]
    );
}

async fn large_and_empty_values_are_stored<E: Engine>(engine: &E) {
    let large: Vec<u8> = (0..5_000_000_u32).map(|number| number.to_le_bytes()[0]).collect();
    let ops = vec![
        Op::Put {
            key: bytes("large"),
            value: Bytes::from(large.clone()),
        },
        put("empty", ""),
        Op::Put {
            key: Bytes::from(vec![7; 3000]),
            value: bytes("long key"),
        },
        Op::Put {
            key: Bytes::new(),
            value: bytes("empty key"),
        },
    ];
    write(engine, ops).await;
    assert_eq!(get(engine, "large").await, Some(Bytes::from(large)));
    assert_eq!(get(engine, "empty").await, Some(Bytes::new()));
    assert_eq!(
        engine.get(&[7; 3000]).await.expect("the engine reads"),
        Some(bytes("long key"))
    );
    assert_eq!(get(engine, "").await, Some(bytes("empty key")));
    assert_eq!(keys(engine, "", None, false, 1).await, [""]);
}

async fn concurrent_fences_have_one_winner<E: Engine>(engine: E) {
    let engine = Arc::new(engine);
    let racers = (0..32).map(|racer: u32| {
        let engine = Arc::clone(&engine);
        tokio::spawn(async move {
            let own = racer.to_string();
            let ops = vec![put("seat", &own), put(&format!("won{own}"), "x")];
            engine.commit(vec![fenced("seat", None, ops)]).await == [Ok(())]
        })
    });
    let mut winners = 0;
    for racer in racers.collect::<Vec<_>>() {
        winners += usize::from(racer.await.expect("no task panics"));
    }
    assert_eq!(winners, 1);
    assert_eq!(keys(engine.as_ref(), "won", None, false, 9).await.len(), 1);
}

async fn committed_rows_survive_reopening<H: Harness>(harness: &H) {
    for round in 0..3 {
        let engine = harness.open().await;
        assert_eq!(keys(&engine, "", None, false, 9).await.len(), round);
        write(&engine, vec![put(&format!("row{round}"), "x"), put("gone", "x")]).await;
        write(&engine, vec![delete_range("gone", "gonf")]).await;
        engine.close().await;
    }
}

async fn closed_engines_refuse_calls<H: Harness>(harness: &H) {
    let engine = harness.open().await;
    write(&engine, vec![put("k", "v")]).await;
    engine.close().await;
    engine.close().await;
    assert!(engine.get(b"k").await.is_err());
    assert!(engine.get_many(&[bytes("k")]).await.is_err());
    assert!(engine.scan(KeyRange::prefix(Vec::new(), 1)).await.is_err());
    assert_eq!(
        engine.commit(vec![batch(vec![put("k", "w")])]).await,
        [Err(EngineCommitError::Closed)]
    );
}

async fn a_failed_sync_poisons_the_engine<H: Harness>(harness: &H) {
    let engine = harness.open().await;
    write(&engine, vec![put("before", "x")]).await;
    if !harness.fail_next_sync(&engine) {
        return;
    }
    let poisoned = |results: &[Result<(), EngineCommitError>]| {
        !results.is_empty()
            && results
                .iter()
                .all(|result| matches!(result, Err(EngineCommitError::Poisoned { .. })))
    };
    let group = vec![batch(vec![put("during", "x")]), batch(vec![put("during2", "x")])];
    assert!(poisoned(&engine.commit(group).await));
    assert!(poisoned(&engine.commit(vec![batch(vec![put("after", "x")])]).await));
    assert_eq!(get(&engine, "before").await, Some(bytes("x")), "reads still work");
    assert_eq!(
        get(&engine, "during").await,
        None,
        "rows that may be lost after a restart are not visible"
    );
    engine.close().await;
    let engine = harness.open().await;
    assert_eq!(get(&engine, "before").await, Some(bytes("x")));
    assert_eq!(
        get(&engine, "after").await,
        None,
        "nothing was written after the failure"
    );
    write(&engine, vec![put("anew", "x")]).await;
}
