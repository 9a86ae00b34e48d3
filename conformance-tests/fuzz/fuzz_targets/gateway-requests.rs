//! `.ci/fuzz gateway-requests`: see `homeserver/gateway/fuzz/checks.rs`, whose own test replays the corpus.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| weft_gateway::fuzz_checks::requests(data));
