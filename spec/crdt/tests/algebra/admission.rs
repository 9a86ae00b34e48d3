//! Admission and splitting at their limits: every server admits the events made from an accepted live update.

use crate::equivalence::KnownClients;
use bytes::Bytes;
use weft_crdt::lib0::Writer;
use weft_crdt::{
    Admission, Bounds, ClientId, DeleteSet, Known, Refusal, SplitError, Update, admit, admit_within, compact, merge,
    split,
};

const ALICE: &str = "@alice:alpha.example";

/// One block in the root `t`, of one client.
fn root(client: u64, kind: u8, content: impl FnOnce(&mut Writer)) -> Update {
    let mut w = Writer::new();
    for number in [1, 1, client, 0] {
        w.var_uint(number);
    }
    w.u8(kind);
    w.u8(1);
    w.var_str("t");
    content(&mut w);
    w.u8(0);
    Update::parse(w.into_vec().into()).unwrap()
}

fn text(client: u64, text: &str) -> Update {
    root(client, 4, |w| w.var_str(text))
}

/// Splits for events and checks that each part is admitted as one.
fn seal(update: &Update) -> Vec<Update> {
    let mut known_clients = KnownClients::default();
    let parts = split(update, Bounds::EVENT.bytes).unwrap();
    for part in &parts {
        let bytes: Bytes = part.encode().into();
        let Ok(Admission::Admitted { ranges, .. }) = weft_crdt::admit_bytes(bytes, ALICE, &known_clients) else {
            panic!("a part of {} bytes is not admitted", part.wire_len());
        };
        known_clients.note(&ranges, ALICE);
    }
    parts
}

fn live(update: &Update) -> Result<Admission, Refusal> {
    admit_within(update, ALICE, &KnownClients::default(), &Bounds::LIVE)
}

#[test]
fn a_long_paste_becomes_events() {
    for pasted in ["word ".repeat(100_000), "😀ñ日".repeat(30_000), "x".repeat(45_000)] {
        let update = text(7, &pasted);
        assert!(matches!(live(&update), Ok(Admission::Admitted { .. })));
        assert!(matches!(
            admit(&update, ALICE, &KnownClients::default()),
            Err(Refusal::TooLarge { .. })
        ));
        let parts = seal(&update);
        assert!(parts.len() <= update.wire_len() / 40_000 + 1, "{} parts", parts.len());
        assert_eq!(compact(&merge(&parts).unwrap()), update);
    }
}

#[test]
fn a_long_list_becomes_events() {
    let update = root(7, 8, |w| {
        w.var_uint(30_000);
        for i in 0..30_000 {
            w.u8(119);
            w.var_str(&format!("element {i}"));
        }
    });
    assert!(matches!(live(&update), Ok(Admission::Admitted { .. })));
    assert_eq!(compact(&merge(&seal(&update)).unwrap()), update);
}

#[test]
fn indivisible_content_that_is_too_long_is_refused_on_receipt() {
    for bytes in [44_000usize, 44_850, 44_900, 44_936, 45_000, 60_000] {
        let embed = root(7, 5, |w| w.var_str(&format!("\"{}\"", "x".repeat(bytes))));
        let element = root(7, 8, |w| {
            w.var_uint(2);
            w.u8(120);
            w.u8(119);
            w.var_str(&"x".repeat(bytes));
        });
        let key = root(7, 7, |w| {
            w.u8(3);
            w.var_str(&"x".repeat(bytes));
        });
        for update in [embed, element, key] {
            match live(&update) {
                Ok(Admission::Admitted { .. }) => {
                    seal(&update);
                }
                Err(Refusal::PieceTooLarge { .. }) => assert!(bytes > 44_800),
                other => panic!("{other:?}"),
            }
        }
    }
}

#[test]
fn many_sessions_and_many_deletions_become_events() {
    let sessions: Vec<Update> = (1..=1_000).map(|client| text(client, "a")).collect();
    let mut many = merge(&sessions).unwrap();
    let mut deletes = DeleteSet::new();
    for client in 1..=1_000u32 {
        deletes.insert(ClientId::from(client), 0, 1);
    }
    many = merge(&[many, Update::from_deletes(deletes)]).unwrap();
    assert!(matches!(live(&many), Ok(Admission::Admitted { .. })));
    let parts = seal(&many);
    assert!((16..=18).contains(&parts.len()), "{}", parts.len());
    assert_eq!(merge(&parts).unwrap(), many);

    let long = text(5, &"x".repeat(40_000));
    let mut deletes = DeleteSet::new();
    for i in 0..19_000u32 {
        deletes.insert(ClientId::from(5u32), 2 * i, 2 * i + 1);
    }
    let update = merge(&[long, Update::from_deletes(deletes)]).unwrap();
    let parts = seal(&update);
    assert_eq!(merge(&parts).unwrap().delete_set(), update.delete_set());
}

/// Types that were nested edit by edit are sealed together: no part may exceed the nesting limit.
#[test]
fn deep_nesting_by_small_edits_becomes_events() {
    let edits: Vec<Update> = (0..150u64)
        .map(|clock| {
            let mut w = Writer::new();
            for number in [1, 1, 5, clock] {
                w.var_uint(number);
            }
            w.u8(7);
            if clock == 0 {
                w.u8(1);
                w.var_str("t");
            } else {
                w.u8(0);
                w.var_uint(5);
                w.var_uint(clock - 1);
            }
            w.u8(0);
            w.u8(0);
            Update::parse(w.into_vec().into()).unwrap()
        })
        .collect();
    let all = compact(&merge(&edits).unwrap());
    assert!(matches!(
        admit(&all, ALICE, &KnownClients::default()),
        Err(Refusal::TooDeep { .. })
    ));
    let parts = seal(&all);
    assert_eq!(parts.len(), 3);
    assert_eq!(merge(&parts).unwrap(), all);
}

#[test]
fn an_update_below_the_limit_is_one_part() {
    let update = text(5, "hello");
    assert_eq!(split(&update, 100).unwrap(), vec![update.clone()]);
    assert_eq!(split(&update, 10), Err(SplitError::PartTooSmall { max_bytes: 10 }));
    assert_eq!(split(&Update::new(), 100).unwrap(), vec![Update::new()]);
}

/// A returning editor sends all deletions that it has ever received; only the new ones go into an event.
#[test]
fn known_deletions_are_removed() {
    let mut deletes = DeleteSet::new();
    deletes.insert(ClientId::from(5u32), 0, 3);
    let update = Update::from_deletes(deletes.clone());
    assert!(update.without_deletes(&deletes).is_empty());
    let mut more = deletes.clone();
    more.insert(ClientId::from(5u32), 2, 5);
    let news = Update::from_deletes(more).without_deletes(&deletes);
    assert_eq!(
        news.delete_set().iter().collect::<Vec<_>>(),
        [(ClientId::from(5u32), 3, 5)]
    );
}

/// An editor ahead of the server is asked for the missing blocks and not refused permanently.
#[test]
fn an_update_that_may_be_early_is_marked_as_such() {
    let known = KnownClients::default();
    let first = text(5, "ab");
    let mut w = Writer::new();
    for number in [1, 1, 6, 0] {
        w.var_uint(number);
    }
    w.u8(0x84);
    w.var_uint(5);
    w.var_uint(1);
    w.var_str("c");
    w.u8(0);
    let second = Update::parse(w.into_vec().into()).unwrap();
    let refusal = admit(&second, ALICE, &known).unwrap_err();
    assert!(refusal.may_be_early(), "{refusal}");
    assert_eq!(second.needs().get(ClientId::from(5u32)), 2);
    let both = merge(&[second, first]).unwrap();
    assert!(matches!(admit(&both, ALICE, &known), Ok(Admission::Admitted { .. })));
    assert!(both.needs().is_empty() && known.end(ClientId::from(5u32)) == 0);
}
