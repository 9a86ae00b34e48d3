//! Properties of audit files for any bytes: the fuzz target `verify-file` of `conformance-tests/fuzz` and the replay of its
//! corpus (`corpus/`, next to this file) call the same check. Must only be part of the crate in tests and fuzzing.

#![allow(clippy::unwrap_used, reason = "a panic fails the check")]

use crate::{Options, lines, verify};

/// Any file ends with a report or an error, and a line that is read is one of the format.
pub fn file(data: &[u8]) {
    for line in data.split(|byte| *byte == b'\n') {
        drop(lines::parse(line));
    }
    if let Ok(report) = verify(data, Options::default(), |_| {}) {
        assert!(report.witnesses.values().all(|witness| witness.events <= report.events));
        assert!(report.heads.is_sorted());
    }
}

#[cfg(test)]
#[test]
fn every_corpus_entry_passes_its_check() {
    let folder = format!("{}/fuzz/corpus/file", env!("CARGO_MANIFEST_DIR"));
    let inputs: Vec<_> = std::fs::read_dir(&folder).unwrap().map(Result::unwrap).collect();
    assert!(!inputs.is_empty(), "{folder} is empty");
    inputs
        .iter()
        .for_each(|input| file(&std::fs::read(input.path()).unwrap()));
}
