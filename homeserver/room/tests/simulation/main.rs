//! Complete servers in one thread, in virtual time: the real rooms, state resolution, text and outbox over a network
//! that delays, reorders, repeats, loses and is partitioned, with servers that lose power. One seed determines every
//! step of a run.
//!
//! ```text
//! cargo nextest run --workspace --test simulation            # the seeds of `make test`
//! make simulate SEEDS=1000000 FROM=0                         # many, with progress
//! WEFT_SIM_CLAIMS=1 make simulate SEEDS=10000 FROM=0         # false claims to clocks, checks final updates
//! WEFT_SIM_LANES=1 make simulate SEEDS=10000 FROM=0          # several lanes, owners that lose them
//! WEFT_SIM_LOCKS=1 make simulate SEEDS=10000 FROM=0          # locks and unlocks
//! WEFT_SIM_PLAN=claims:7 cargo nextest run --workspace --test simulation a_plan_from_a_file
//! WEFT_SIM_PLAN=plan.json cargo nextest run --workspace --test simulation a_plan_from_a_file
//! ```
//! A seed that fails prints its minimised plan; a plan saved under `plans/` becomes a test.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    unreachable_pub,
    reason = "a panic reports a failure, and a long run prints its progress"
)]

mod editor;
mod finality;
mod malicious;
mod network;
mod oracle;
#[path = "../../../app/src/adapters/outbox.rs"]
mod outbox;
mod outbox_order;
mod plan;
mod server;
mod shrink;
mod world;

use std::{
    env, fs,
    path::Path,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use self::{plan::Plan, world::run};

/// Runs a seed; on failure, returns the minimised plan.
fn one(seed: u64) -> Result<(), String> {
    one_plan(seed, Plan::of(seed))
}

/// As [`one`], with a given plan.
fn one_plan(seed: u64, plan: Plan) -> Result<(), String> {
    run(&plan).result.map_err(|failure| {
        let (small, failure) = shrink::shrink(plan, failure);
        let small = serde_json::to_string(&small).unwrap();
        format!("seed {seed}: {failure}\nthe minimised plan:\n{small}")
    })
}

/// Runs a range of seeds, up to the first that fails.
fn seeds(mut range: std::ops::Range<u64>) {
    if let Err(failure) = range.try_for_each(one) {
        panic!("{failure}");
    }
}

/// The 2,000 seeds of `make test`, in portions that run in parallel.
macro_rules! portions {
    ($($name:ident: $first:expr;)*) => { $(
        #[test]
        fn $name() {
            seeds($first..$first + 100);
        }
    )* };
}

portions! {
    seeds_0000_to_0099: 0;
    seeds_0100_to_0199: 100;
    seeds_0200_to_0299: 200;
    seeds_0300_to_0399: 300;
    seeds_0400_to_0499: 400;
    seeds_0500_to_0599: 500;
    seeds_0600_to_0699: 600;
    seeds_0700_to_0799: 700;
    seeds_0800_to_0899: 800;
    seeds_0900_to_0999: 900;
    seeds_1000_to_1099: 1000;
    seeds_1100_to_1199: 1100;
    seeds_1200_to_1299: 1200;
    seeds_1300_to_1399: 1300;
    seeds_1400_to_1499: 1400;
    seeds_1500_to_1599: 1500;
    seeds_1600_to_1699: 1600;
    seeds_1700_to_1799: 1700;
    seeds_1800_to_1899: 1800;
    seeds_1900_to_1999: 1900;
}

/// Seeds in which the only malicious events are claims to clocks, so that final updates are known.
macro_rules! claims {
    ($($name:ident: $first:expr;)*) => { $(
        #[test]
        fn $name() {
            let mut range = $first..$first + 10_u64;
            if let Err(failure) = range.try_for_each(|seed| one_plan(seed, Plan::of_claims(seed))) {
                panic!("claims {failure}");
            }
        }
    )* };
}

claims! {
    claims_000_to_009: 0;
    claims_010_to_019: 10;
    claims_020_to_029: 20;
    claims_030_to_039: 30;
    claims_040_to_049: 40;
    claims_050_to_059: 50;
    claims_060_to_069: 60;
    claims_070_to_079: 70;
    claims_080_to_089: 80;
    claims_090_to_099: 90;
    claims_100_to_109: 100;
    claims_110_to_119: 110;
    claims_120_to_129: 120;
    claims_130_to_139: 130;
    claims_140_to_149: 140;
    claims_150_to_159: 150;
    claims_160_to_169: 160;
    claims_170_to_179: 170;
    claims_180_to_189: 180;
    claims_190_to_199: 190;
}

/// Seeds in which stores have several lanes, owners of lanes are replaced while they run, and commits are in doubt.
macro_rules! lanes {
    ($($name:ident: $first:expr;)*) => { $(
        #[test]
        fn $name() {
            let mut range = $first..$first + 50_u64;
            if let Err(failure) = range.try_for_each(|seed| one_plan(seed, Plan::of_lanes(seed))) {
                panic!("lanes {failure}");
            }
        }
    )* };
}

lanes! {
    lanes_000_to_049: 0;
    lanes_050_to_099: 50;
    lanes_100_to_149: 100;
    lanes_150_to_199: 150;
    lanes_200_to_249: 200;
    lanes_250_to_299: 250;
    lanes_300_to_349: 300;
    lanes_350_to_399: 350;
}

/// Seeds in which the document is locked and unlocked on several servers, also at the same time.
macro_rules! locks {
    ($($name:ident: $first:expr;)*) => { $(
        #[test]
        fn $name() {
            let mut range = $first..$first + 50_u64;
            if let Err(failure) = range.try_for_each(|seed| one_plan(seed, Plan::of_locks(seed))) {
                panic!("locks {failure}");
            }
        }
    )* };
}

locks! {
    locks_000_to_049: 0;
    locks_050_to_099: 50;
    locks_100_to_149: 100;
    locks_150_to_199: 150;
}

/// A failure can be analysed only if the same seed gives the same run again.
#[test]
fn one_seed_is_one_run() {
    let plans = (0..2_000).step_by(125).map(|seed| (seed, Plan::of(seed)));
    let of_lanes = (0..400).step_by(50).map(|seed| (seed, Plan::of_lanes(seed)));
    for (seed, plan) in plans.chain(of_lanes) {
        let (one, other) = (run(&plan), run(&plan));
        let first = one.trace.iter().zip(&other.trace).position(|(a, b)| a != b);
        if let Some(at) = first {
            panic!(
                "seed {seed} differs at step {at}:\n{}\n{}",
                one.trace[at], other.trace[at]
            );
        }
        assert_eq!(one.trace.len(), other.trace.len(), "seed {seed}");
        assert!(one.trace.len() > 20, "seed {seed} does nothing");
    }
}

/// Plans that failed once.
#[test]
fn saved_plans_hold() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/simulation/plans");
    let mut files: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    let mut failed = Vec::new();
    for file in files {
        let plan: Plan = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
        if let Err(failure) = run(&plan).result {
            failed.push(format!("{}: {failure}", file.display()));
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

#[test]
fn a_plan_from_a_file() {
    let Some(path) = env::var_os("WEFT_SIM_PLAN") else {
        return;
    };
    // Log lines of the rooms: RUST_LOG=weft_room=debug.
    let filter = tracing_subscriber::EnvFilter::from_default_env();
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_test_writer()
        .try_init();
    // Or a seed: `seed:7`, `claims:7`.
    let named = path.to_str().and_then(|path| path.split_once(':'));
    let plan: Plan = match named {
        Some(("seed", seed)) => Plan::of(seed.parse().unwrap()),
        Some(("claims", seed)) => Plan::of_claims(seed.parse().unwrap()),
        Some(("locks", seed)) => Plan::of_locks(seed.parse().unwrap()),
        Some(("lanes", seed)) => Plan::of_lanes(seed.parse().unwrap()),
        _ => serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap(),
    };
    let outcome = run(&plan);
    for line in &outcome.trace {
        println!("{line}");
    }
    outcome.result.unwrap();
}

/// Any number of seeds: `WEFT_SIM_SEEDS` from `WEFT_SIM_FROM`, on all cores. Continues after a failure, so that a long
/// run reports all failures.
#[test]
#[ignore = "a long run, by `make simulate`"]
fn many() {
    let number = |name: &str, default: u64| env::var(name).map_or(default, |text| text.parse().unwrap());
    let (from, count) = (number("WEFT_SIM_FROM", 0), number("WEFT_SIM_SEEDS", 10_000));
    // `WEFT_SIM_CLAIMS=1`: the plans with malicious claims to clocks. `WEFT_SIM_LANES=1`: those with several lanes.
    // `WEFT_SIM_LOCKS=1`: those with locks.
    let plan_of = if number("WEFT_SIM_CLAIMS", 0) == 1 {
        Plan::of_claims
    } else if number("WEFT_SIM_LANES", 0) == 1 {
        Plan::of_lanes
    } else if number("WEFT_SIM_LOCKS", 0) == 1 {
        Plan::of_locks
    } else {
        Plan::of
    };
    let began = std::time::Instant::now();
    let (next, done, failed) = (AtomicU64::new(from), AtomicU64::new(0), Mutex::new(Vec::new()));
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= from + count {
                return;
            }
            if let Err(failure) = one_plan(seed, plan_of(seed)) {
                println!("{failure}");
                failed.lock().unwrap().push(seed);
            }
            let done = done.fetch_add(1, Ordering::Relaxed) + 1;
            if done.is_multiple_of(count.clamp(10, 10_000) / 10) || done == count {
                let failures = failed.lock().unwrap().len();
                println!(
                    "{done} of {count} seeds, {failures} failed, {} s",
                    began.elapsed().as_secs()
                );
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(work);
        }
    });
    let failed = failed.into_inner().unwrap();
    assert!(failed.is_empty(), "seeds that failed: {failed:?}");
}
