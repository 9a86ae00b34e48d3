//! `.ci/fuzz wire-bodies`: see `spec/wire/fuzz/checks.rs`, whose own test replays the corpus.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| weft_wire::fuzz_checks::bodies(data));
