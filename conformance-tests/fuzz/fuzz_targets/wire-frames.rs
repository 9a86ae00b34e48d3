//! `.ci/fuzz wire-frames`: see `spec/wire/fuzz/checks.rs`, whose own test replays the corpus.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| weft_wire::fuzz_checks::frames(data));
