//! `.ci/fuzz federation-transaction`: see `federation/fuzz/checks.rs`, whose own test replays the corpus.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| weft_federation::fuzz_checks::transaction(data));
