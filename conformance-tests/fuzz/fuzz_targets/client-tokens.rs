//! `.ci/fuzz client-tokens`: see `homeserver/api-client/fuzz/checks.rs`, whose own test replays the corpus.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| weft_api_client::fuzz_checks::tokens(data));
