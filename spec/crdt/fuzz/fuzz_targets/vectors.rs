//! `cargo +nightly fuzz run vectors`: see `../src/checks.rs`. The tests of the crate run the same check over the corpus.
#![no_main]

#[path = "../src/checks.rs"]
#[allow(dead_code)]
mod checks;

libfuzzer_sys::fuzz_target!(|data: &[u8]| checks::vectors(data));
