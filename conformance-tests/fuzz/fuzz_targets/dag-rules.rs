//! `.ci/fuzz dag-rules`: see `homeserver/dag/fuzz/checks.rs`, whose own test replays the corpus.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| weft_dag::fuzz_checks::rules(data));
