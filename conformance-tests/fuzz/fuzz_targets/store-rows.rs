//! `.ci/fuzz store-rows`: see `homeserver/store/fuzz/checks.rs`, whose own test replays the corpus.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| weft_store::fuzz_checks::rows(data));
