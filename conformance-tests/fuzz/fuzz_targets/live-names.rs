//! `.ci/fuzz live-names`: see `homeserver/live/fuzz/checks.rs`, whose own test replays the corpus.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| weft_live::fuzz_checks::names(data));
