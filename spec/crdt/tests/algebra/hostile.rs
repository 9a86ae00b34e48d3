//! Arbitrary bytes: the corpora of the fuzz targets, and many mutations of valid updates, through the checks of the
//! targets.

use crate::fuzz_checks as checks;
use crate::peers::{self, Dice};
use std::path::Path;

fn corpus(target: &str) -> Vec<Vec<u8>> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let inputs: Vec<Vec<u8>> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| std::fs::read(entry.unwrap().path()).unwrap())
        .collect();
    assert!(!inputs.is_empty(), "the corpus of {target} is empty");
    inputs
}

#[test]
fn every_corpus_entry_passes_its_check() {
    corpus("parse").iter().for_each(|input| checks::parse(input));
    corpus("merge").iter().for_each(|input| checks::merge(input));
    corpus("admit").iter().for_each(|input| checks::admit(input));
    corpus("vectors").iter().for_each(|input| checks::vectors(input));
    corpus("document").iter().for_each(|input| checks::document(input));
}

fn mutate(bytes: &mut Vec<u8>, dice: &mut Dice) {
    const ODD: [u8; 8] = [0, 1, 0x7f, 0x80, 0xff, 0x75, 0x76, 10];
    for _ in 0..1 + dice.below(4) {
        let at = dice.below(bytes.len() + 1);
        match dice.below(6) {
            0 if at < bytes.len() => bytes[at] ^= 1 << dice.below(8),
            1 if at < bytes.len() => bytes[at] = ODD[dice.below(ODD.len())],
            2 if at < bytes.len() => {
                bytes.remove(at);
            }
            3 => bytes.insert(at, ODD[dice.below(ODD.len())]),
            4 => bytes.truncate(at),
            _ => {
                let from = dice.below(bytes.len() + 1);
                let piece = bytes[from..(from + dice.below(12)).min(bytes.len())].to_vec();
                bytes.splice(at..at, piece);
            }
        }
    }
}

#[test]
fn mutated_updates_pass_the_checks() {
    let mut dice = Dice::new(90);
    let mut seeds = corpus("admit");
    for seed in 0..40 {
        let history = peers::history(seed, 3, 12);
        let updates: Vec<weft_crdt::Update> = history
            .iter()
            .map(|s| weft_crdt::Update::parse(s.update.clone().into()).unwrap())
            .collect();
        seeds.push(weft_crdt::merge(&updates).unwrap().encode());
        seeds.extend(history.into_iter().map(|s| s.update));
    }
    for _ in 0..150_000 {
        let mut bytes = seeds[dice.below(seeds.len())].clone();
        mutate(&mut bytes, &mut dice);
        checks::parse(&bytes);
        checks::admit(&bytes);
        let mut two = vec![bytes.len().min(255) as u8];
        two.extend_from_slice(&bytes);
        two.extend_from_slice(&seeds[dice.below(seeds.len())]);
        checks::merge(&two);
    }
}
