//! Real histories processed by the algebra, checked with yrs and with Yjs.

use crate::engines::{Engine, Yrs};
use crate::equivalence::check;
use crate::oracle::Yjs;
use crate::peers::{Dice, Step};
use crate::trace::{self, History};
use weft_crdt::{Document, Update, compact, merge};

fn steps(history: History) -> Vec<Step> {
    history
        .updates
        .into_iter()
        .filter(|(_, update)| update != &[0, 0])
        .map(|(author, update)| Step { author, update })
        .collect()
}

#[test]
fn a_paper_is_unchanged_by_the_algebra() {
    let history = steps(trace::sequential("automerge-paper", 6_000));
    check(&mut Yrs, &history, &mut Dice::new(1));
    check(&mut Yjs::start(), &history, &mut Dice::new(2));
}

#[test]
fn a_blog_post_is_unchanged_by_the_algebra() {
    let history = steps(trace::sequential("seph-blog1", 4_000));
    check(&mut Yjs::start(), &history, &mut Dice::new(3));
}

#[test]
fn two_concurrent_authors_converge() {
    let Some(history) = trace::concurrent("friendsforever", 1_500) else {
        return;
    };
    let history = steps(history);
    check(&mut Yrs, &history, &mut Dice::new(4));
    check(&mut Yjs::start(), &history, &mut Dice::new(5));
}

/// The longest history as a whole, kept open as on a server: in at most as many bytes as an engine needs.
#[test]
fn a_long_history_is_no_larger_than_in_an_engine() {
    let history = trace::sequential("automerge-paper", 60_000);
    let updates: Vec<Update> = history
        .updates
        .iter()
        .map(|(_, u)| Update::parse(u.clone().into()).unwrap())
        .collect();
    let small = compact(&merge(&updates).unwrap());
    let mut document = Document::new();
    for update in &updates {
        document.apply(update).unwrap();
    }
    document.compact();
    assert_eq!(document.encode(), small.encode());
    assert!(
        document.byte_len() < small.encode().len() * 3,
        "{} of {}",
        document.byte_len(),
        small.encode().len()
    );
    let raw: Vec<Vec<u8>> = history.updates.into_iter().map(|(_, u)| u).collect();
    assert_eq!(Yrs.load(&[small.encode()]), Yrs.load(&raw));
    let engine = yrs_bytes(&raw);
    assert!(
        small.encode().len() <= engine,
        "{} bytes, yrs has {engine}",
        small.encode().len()
    );
}

fn yrs_bytes(raw: &[Vec<u8>]) -> usize {
    use yrs::updates::decoder::Decode;
    use yrs::{ReadTxn, Transact};
    let doc = crate::engines::yrs_doc(u64::from(u32::MAX));
    for update in raw {
        doc.transact_mut()
            .apply_update(yrs::Update::decode_v1(update).unwrap())
            .unwrap();
    }
    doc.transact()
        .encode_state_as_update_v1(&yrs::StateVector::default())
        .len()
}
