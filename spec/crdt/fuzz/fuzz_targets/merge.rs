//! `cargo +nightly fuzz run merge`: see `../src/checks.rs`. The tests of the crate run the same check over the corpus.
#![no_main]

#[path = "../src/checks.rs"]
#[allow(dead_code)]
mod checks;

libfuzzer_sys::fuzz_target!(|data: &[u8]| checks::merge(data));
