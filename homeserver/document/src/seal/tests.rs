//! Random edits of several users, planned and then replayed by the admission rules.

use std::collections::BTreeSet;

use proptest::prelude::*;
use ruma::{OwnedUserId, UserId};
use weft_convergence::admission::{Owners, Past};
use weft_crdt::{Admission, DeleteSet, StateVector, Update, admit};
use weft_wire::limits::MAX_SEALED_UPDATE_BYTES;
use yrs::{
    Doc, GetString as _, OffsetKind, Options, ReadTxn as _, Text as _, TextRef, Transact as _,
    updates::decoder::Decode as _,
};

use super::{PendingEdit, plan};

struct Author {
    user: OwnedUserId,
    doc: Doc,
    text: TextRef,
    seen: usize,
}

fn doc(client: u64) -> Doc {
    let mut options = Options::with_client_id(yrs::block::ClientID::new(client));
    options.offset_kind = OffsetKind::Utf16;
    Doc::with_options(options)
}

fn apply(doc: &Doc, update: &[u8]) {
    doc.transact_mut()
        .apply_update(yrs::Update::decode_v1(update).unwrap())
        .unwrap();
}

fn text_of<'a>(updates: impl IntoIterator<Item = &'a [u8]>) -> String {
    let doc = doc(999);
    let text = doc.get_or_insert_text("body");
    updates.into_iter().for_each(|update| apply(&doc, update));
    // No update waits for a missing one.
    assert!(!doc.transact().has_missing_updates());
    text.get_string(&doc.transact())
}

/// One edit: which document, whether it applies the others' edits first, position, kind and length.
type Act = (usize, bool, u32, u8);

fn write(acts: &[Act]) -> Vec<PendingEdit> {
    let mut authors: Vec<Author> = (0..4_u64)
        .map(|n| {
            let doc = doc(n + 1);
            let text = doc.get_or_insert_text("body");
            // Two users with two documents each: an author has several client ids.
            let user = UserId::parse(format!("@user{}:alpha.test", n / 2)).unwrap();
            Author {
                user,
                doc,
                text,
                seen: 0,
            }
        })
        .collect();
    let mut log: Vec<PendingEdit> = Vec::new();
    for (who, looks, at, what) in acts {
        let author = &mut authors[*who % 4];
        if *looks {
            log[author.seen..]
                .iter()
                .for_each(|edit| apply(&author.doc, &edit.update.encode()));
            author.seen = log.len();
        }
        let mut txn = author.doc.transact_mut();
        let len = author.text.len(&txn);
        if *what % 4 == 0 && len > 0 {
            let from = at % len;
            author
                .text
                .remove_range(&mut txn, from, (1 + u32::from(*what) / 32).min(len - from));
        } else {
            author.text.insert(&mut txn, (*at).min(len), "x");
        }
        let update = txn.encode_update_v1();
        drop(txn);
        let update = Update::parse(update.into()).unwrap();
        if !update.is_empty() {
            log.push(PendingEdit {
                seq: log.len() as u64 + 1,
                version: log.len() as u64 + 1,
                at: 1,
                author: author.user.clone(),
                update,
            });
        }
    }
    log
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn planned_updates_are_admissible_in_order_and_give_the_same_text(
        acts in prop::collection::vec((0..4_usize, any::<bool>(), 0..64_u32, any::<u8>()), 1..80),
        sealed_before in 0..20_usize,
    ) {
        let log = write(&acts);
        let (mut vector, mut owners) = (StateVector::new(), Owners::default());
        let mut events: Vec<Vec<u8>> = Vec::new();
        let mut rows = BTreeSet::new();
        let (mut stepped, mut stepped_deletes) = (StateVector::new(), DeleteSet::new());
        let mut versions = BTreeSet::new();
        // Two seals: edits that are pending at the second build on edits that the first one sealed.
        let (early, late) = log.split_at(sealed_before.min(log.len()));
        for pending in [early, late] {
            for part in plan(pending).unwrap() {
                let bytes = part.update.encode();
                prop_assert!(bytes.len() <= MAX_SEALED_UPDATE_BYTES);
                let past = Past { vector: &vector, owners: &owners };
                match admit(&part.update, part.author.as_str(), &past) {
                    Ok(Admission::Admitted { ranges, .. }) => {
                        for (client, (_, to)) in ranges {
                            owners.claim(client, &part.author);
                            vector.raise(client, to);
                        }
                    }
                    Ok(Admission::Known) => {}
                    other => prop_assert!(false, "{other:?}"),
                }
                for step in part.steps {
                    prop_assert!(!step.is_empty());
                    step.add_to(&mut stepped, &mut stepped_deletes);
                    versions.insert(step.version);
                }
                events.push(bytes);
                rows.extend(part.rows);
            }
        }
        prop_assert_eq!(rows.len(), log.len(), "every row is sealed");
        prop_assert_eq!(versions.len(), log.len(), "every version has a step");
        prop_assert_eq!(stepped, vector);
        let deleted = log.iter().flat_map(|edit| edit.update.delete_set().iter());
        let mut all = DeleteSet::new();
        deleted.for_each(|(client, from, to)| all.insert(client, from, to));
        prop_assert_eq!(stepped_deletes, all);
        let untouched: Vec<Vec<u8>> = log.iter().map(|edit| edit.update.encode()).collect();
        prop_assert_eq!(
            text_of(events.iter().map(Vec::as_slice)),
            text_of(untouched.iter().map(Vec::as_slice))
        );
    }
}

#[test]
fn a_run_of_typing_of_one_user_is_one_event() {
    let acts: Vec<Act> = (0..500).map(|_| (0, false, u32::MAX, 1)).collect();
    assert_eq!(plan(&write(&acts)).unwrap().len(), 1);
}

#[test]
fn authors_that_build_on_one_another_get_alternating_events() {
    let acts: Vec<Act> = (0..6)
        .map(|n| (if n % 2 == 0 { 0 } else { 2 }, true, u32::MAX, 1))
        .collect();
    let authors: Vec<String> = plan(&write(&acts))
        .unwrap()
        .iter()
        .map(|part| part.author.to_string())
        .collect();
    let (a, b) = ("@user0:alpha.test", "@user1:alpha.test");
    assert_eq!(authors, [a, b, a, b, a, b]);
}
