//! `.ci/fuzz documents-images`: see `homeserver/api-documents/fuzz/checks.rs`, whose own test replays the corpus.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| weft_api_documents::fuzz_checks::images(data));
