//! `.ci/fuzz verify-file`: see `spec/verify/fuzz/checks.rs`, whose own test replays the corpus.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| weft_verify::fuzz_checks::file(data));
