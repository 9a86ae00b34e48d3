//! `.ci/fuzz dag-json`: see `homeserver/dag/fuzz/checks.rs`, whose own test replays the corpus.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| weft_dag::fuzz_checks::json(data));
