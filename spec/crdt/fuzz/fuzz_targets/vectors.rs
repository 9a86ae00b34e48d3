//! `cargo +nightly fuzz run vectors`: see `../src/checks.rs`, which the crate's own tests run over the corpus as well.
#![no_main]

#[path = "../src/checks.rs"]
#[allow(dead_code)]
mod checks;

libfuzzer_sys::fuzz_target!(|data: &[u8]| checks::vectors(data));
