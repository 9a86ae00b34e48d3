//! Properties for arbitrary bytes. Shared by the fuzz targets and by the tests that replay their corpora. Must not
//! assume valid input.

use bytes::Bytes;
use weft_crdt::{
    Admission, Bounds, ClientId, DeleteSet, Document, Known, LiveUpdate, StateVector, Update, admit_bytes,
    admit_within, compact, diff, split, take_live,
};

/// Any bytes parse or are refused; a parsed update is encoded and parsed unchanged, and every operation on it succeeds.
pub(crate) fn parse(data: &[u8]) {
    let _ = StateVector::parse(data);
    let _ = DeleteSet::parse(data);
    let Ok(update) = Update::parse(Bytes::copy_from_slice(data)) else {
        return;
    };
    let again = update.encode();
    assert_eq!(
        again.len(),
        Update::parse(again.clone().into())
            .expect("our own encoding")
            .wire_len()
    );
    assert!(again.len() <= data.len(), "the encoding is never longer than the input");
    let shown: usize = update.blocks().map(|b| b.len as usize).sum();
    assert!(shown > 0 || update.ranges().is_empty());
    let _ = update.needs();
    let small = compact(&update);
    let small_again = Update::parse(small.encode().into()).expect("a compacted update");
    assert_eq!(small_again.ranges(), update.ranges());
    assert_eq!(
        compact(&small_again).encode(),
        small.encode(),
        "compacting twice changes nothing"
    );
    for (client, (from, to)) in update.ranges() {
        let mut sv = StateVector::new();
        sv.set(client, from + (to - from) / 2);
        let rest = Update::parse(diff(&update, &sv).encode().into()).expect("a cut update");
        assert_eq!(rest.delete_set(), update.delete_set());
    }
}

/// The input is divided into two updates at its first byte.
fn two_of(data: &[u8]) -> Option<(Update, Update)> {
    let (at, rest) = data.split_first()?;
    let (a, b) = rest.split_at_checked(usize::from(*at))?;
    Some((
        Update::parse(Bytes::copy_from_slice(a)).ok()?,
        Update::parse(Bytes::copy_from_slice(b)).ok()?,
    ))
}

/// Merging does not depend on the order, loses no range, and its result parses.
pub(crate) fn merge(data: &[u8]) {
    let Some((a, b)) = two_of(data) else { return };
    let ab = weft_crdt::merge(&[a.clone(), b.clone()]).expect("short updates");
    let ba = weft_crdt::merge(&[b.clone(), a.clone(), b.clone()]).expect("short updates");
    assert_eq!(ab.encode(), ba.encode());
    let parsed = Update::parse(ab.encode().into()).expect("a merged update");
    assert_eq!(parsed.wire_len(), ab.wire_len());
    for (client, (from, to)) in a.ranges().into_iter().chain(b.ranges()) {
        let (all_from, all_to) = ab.ranges().get(&client).copied().expect("all clients");
        assert!(all_from <= from && to <= all_to);
    }
    if let Ok(parts) = split(&ab, 160) {
        assert!(parts.iter().all(|part| part.encode().len() <= 160));
        let whole = together(&parts);
        assert_eq!(whole.ranges(), ab.ranges());
        assert_eq!(whole.delete_set(), ab.delete_set());
    }
}

fn together(parts: &[Update]) -> Update {
    weft_crdt::merge(parts).expect("short updates")
}

/// The knowledge of a document of two users, for admission.
struct Two;

impl Known for Two {
    fn end(&self, client: ClientId) -> u32 {
        if client.get() < 8 { 4 } else { 0 }
    }

    fn owner(&self, client: ClientId) -> Option<&str> {
        (client.get() < 8).then_some(if client.get().is_multiple_of(2) {
            "@even:a"
        } else {
            "@odd:a"
        })
    }
}

/// An admitted update has every promised property: contiguous, owned by the sender, and with references to known units
/// only.
pub(crate) fn admit(data: &[u8]) {
    take(data);
    let Ok(Admission::Admitted { ranges, update }) = admit_bytes(Bytes::copy_from_slice(data), "@odd:a", &Two) else {
        return;
    };
    assert_eq!(update.ranges(), ranges);
    for (client, (from, _)) in &ranges {
        assert_eq!(*from, Two.end(*client));
        assert_ne!(Two.owner(*client), Some("@even:a"));
    }
    for (client, end) in update.needs().iter() {
        assert!(end <= Two.end(client), "needs {client} up to {end}");
    }
    let once_more = weft_crdt::admit(&update, "@odd:a", &Two);
    assert_eq!(
        once_more.expect("an admitted update").clone(),
        Admission::Admitted {
            ranges,
            update: update.clone()
        }
    );
    assert!(
        admit_within(&compact(&update), "@odd:a", &Two, &Bounds::LIVE).is_ok(),
        "compacting keeps an update admissible"
    );
    let mut document = Document::new();
    if document.apply(&update).is_ok() {
        let stored = Document::from_update(document.encode().into()).expect("a document");
        assert_eq!(stored.state_vector(), document.state_vector());
        assert_eq!(stored.encode(), document.diff(&StateVector::new()));
    }
}

/// The accepted part of a live update is admissible, and so is each part of it as an event.
fn take(data: &[u8]) {
    let Ok(live) = LiveUpdate::parse(Bytes::copy_from_slice(data)) else {
        return;
    };
    let Ok(taken) = take_live(&live, "@odd:a", &Two) else {
        return;
    };
    match admit_within(&taken.update, "@odd:a", &Two, &Bounds::LIVE) {
        Ok(Admission::Admitted { update, .. }) => {
            assert_eq!(update.encode(), taken.update.encode(), "it has no known blocks");
            let parts = split(&update, Bounds::EVENT.bytes).expect("an accepted update can be split");
            assert!(parts.iter().all(|part| part.wire_len() <= Bounds::EVENT.bytes));
        }
        Ok(Admission::Known) => assert!(taken.refused.is_empty()),
        other => panic!("an accepted update is not admissible: {other:?}"),
    }
    let again = LiveUpdate::parse(taken.update.encode().into()).expect("an update");
    let again = take_live(&again, "@odd:a", &Two).expect("an accepted update");
    assert_eq!(again.update.encode(), taken.update.encode());
    assert!(again.refused.is_empty() && !again.waits);
}

/// State vectors and delete sets: a parsed one is encoded unchanged, and their algebra holds.
pub(crate) fn vectors(data: &[u8]) {
    if let Ok(sv) = StateVector::parse(data) {
        assert_eq!(StateVector::parse(&sv.encode()).as_ref(), Ok(&sv));
        let mut more = sv.clone();
        more.merge_max(&sv);
        assert_eq!(more, sv);
        assert!(sv.covers(&sv) && sv.covers(&StateVector::new()));
    }
    if let Ok(deletes) = DeleteSet::parse(data) {
        assert_eq!(DeleteSet::parse(&deletes.encode()).as_ref(), Ok(&deletes));
        assert!(deletes.difference(&deletes).is_empty());
        let mut twice = deletes.clone();
        twice.merge(&deletes);
        assert_eq!(twice, deletes);
        for (client, from, to) in deletes.iter() {
            assert!(from < to, "{client}: {from} to {to}");
        }
    }
}

/// Updates, each with a length prefix of two bytes.
fn series(mut data: &[u8]) -> Vec<Update> {
    let mut updates = Vec::new();
    while let Some((length, rest)) = data.split_first_chunk::<2>() {
        let length = usize::from(u16::from_le_bytes(*length)).min(rest.len());
        let (piece, rest) = rest.split_at(length);
        updates.extend(Update::parse(Bytes::copy_from_slice(piece)));
        data = rest;
    }
    updates
}

/// A document applies updates or refuses them as a whole; its content is read back from its bytes, and a peer that
/// applies its diff has the same content.
pub(crate) fn document(data: &[u8]) {
    let mut document = Document::new();
    for update in series(data) {
        let before = document.encode();
        let half = document.state_vector().clone();
        if document.apply(&update).is_err() {
            assert_eq!(document.encode(), before, "a refused update changes nothing");
            continue;
        }
        assert!(document.state_vector().covers(&half));
        assert!(document.only_new(&update).is_empty(), "an applied update is known");
        let mut peer = Document::from_update(before.into()).expect("our own bytes");
        let lacking = Update::parse(document.diff(&half).into()).expect("our own diff");
        peer.apply(&lacking).expect("a diff can be applied");
        assert_eq!(peer.state_vector(), document.state_vector());
        assert_eq!(peer.delete_set(), document.delete_set());
    }
    let bytes = document.encode();
    let mut again = Document::from_update(bytes.clone().into()).expect("our own bytes");
    assert_eq!(again.encode(), bytes);
    again.compact();
    assert_eq!(again.state_vector(), document.state_vector());
    assert_eq!(again.delete_set(), document.delete_set());
    let compacted = again.encode();
    again.compact();
    assert_eq!(again.encode(), compacted, "compacting twice changes nothing");
}
