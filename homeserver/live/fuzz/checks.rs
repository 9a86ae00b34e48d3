//! Properties that hold for any bytes from clients: the fuzz targets of `conformance-tests/fuzz` and the replay
//! of their corpora (`corpus/`, next to this file) call the same checks. Must only be compiled in tests and fuzzing.

#![allow(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "a check fails by panicking"
)]

use crate::target::percent_decoded;

/// Names of documents in the path of a socket or in a message.
pub fn names(data: &[u8]) {
    let Ok(name) = std::str::from_utf8(data) else { return };
    let decoded = percent_decoded(name);
    assert!(name.contains('%') || decoded == name);
}

#[cfg(test)]
#[test]
fn the_corpora_pass() {
    let folder = format!("{}/fuzz/corpus/names", env!("CARGO_MANIFEST_DIR"));
    let inputs: Vec<_> = std::fs::read_dir(&folder).unwrap().map(Result::unwrap).collect();
    assert!(!inputs.is_empty(), "{folder} is in the repository");
    inputs
        .iter()
        .for_each(|input| names(&std::fs::read(input.path()).unwrap()));
}
