//! The accepted part of a live update that is not admissible as a whole.

use crate::engines::{Engine, Yrs};
use crate::equivalence::KnownClients;
use crate::peers::{self, Dice};
use proptest::prelude::*;
use weft_crdt::lib0::Writer;
use weft_crdt::{
    Admission, Bounds, ClientId, Document, Id, Known, LiveUpdate, Refusal, Taken, Update, admit, admit_within, merge,
    split, take_live,
};

const ALICE: &str = "@alice:alpha.example";
const BOB: &str = "@bob:alpha.example";

/// Blocks of one client in the root `t`, each after the previous one.
#[derive(Default)]
struct Typing {
    blocks: Vec<u8>,
    count: u64,
    end: u64,
}

impl Typing {
    fn head(&mut self, client: u64, kind: u8) {
        let mut w = Writer::new();
        if self.end == 0 {
            w.u8(kind);
            w.u8(1);
            w.var_str("t");
        } else {
            w.u8(kind | 0x80);
            w.var_uint(client);
            w.var_uint(self.end - 1);
        }
        self.blocks.extend(w.as_slice());
        self.count += 1;
    }

    fn put(mut self, client: u64, kind: u8, units: u64, content: impl FnOnce(&mut Writer)) -> Self {
        self.head(client, kind);
        let mut w = Writer::new();
        content(&mut w);
        self.blocks.extend(w.as_slice());
        self.end += units;
        self
    }

    fn text(self, client: u64, text: &str) -> Self {
        let units = text.len() as u64;
        self.put(client, 4, units, |w| w.var_str(text))
    }

    fn bytes(&self, client: u64) -> Vec<u8> {
        let mut w = Writer::new();
        for number in [1, self.count, client, 0] {
            w.var_uint(number);
        }
        w.raw(&self.blocks);
        w.u8(0);
        w.into_vec()
    }
}

fn take(bytes: Vec<u8>, known_clients: &KnownClients) -> Taken {
    take_as(bytes, ALICE, known_clients).unwrap()
}

fn take_as(bytes: Vec<u8>, sender: &str, known_clients: &KnownClients) -> Result<Taken, Refusal> {
    take_live(&LiveUpdate::parse(bytes.into())?, sender, known_clients)
}

/// Every server admits the accepted parts one by one; returns the end of the client's blocks.
fn sealed(taken: &Taken, sender: &str, known_clients: &mut KnownClients, client: u64) -> u32 {
    for part in split(&taken.update, Bounds::EVENT.bytes).unwrap() {
        let part = Update::parse(part.encode().into()).unwrap();
        let Admission::Admitted { ranges, .. } = admit(&part, sender, known_clients).unwrap() else {
            panic!("a part is not admitted")
        };
        known_clients.note(&ranges, sender);
    }
    known_clients.end(ClientId::from(client as u32))
}

fn clocks(taken: &Taken) -> Vec<(u32, u32)> {
    taken.refused.iter().map(|block| (block.at.clock, block.len)).collect()
}

fn codes(taken: &Taken) -> Vec<&'static str> {
    taken.refused.iter().map(|block| block.reason.code()).collect()
}

fn deep(levels: usize) -> impl Fn(&mut Writer) {
    move |w| {
        for _ in 0..levels {
            w.raw(&[117, 1]);
        }
        w.u8(126);
    }
}

/// F13: content that no event can carry is accepted as deleted, and the text before and after it is accepted unchanged.
#[test]
fn one_inadmissible_change_does_not_block_an_editor() {
    let picture = format!("\"data:image/png;base64,{}\"", "A".repeat(200_000));
    let typing = |typing: Typing| typing.text(7, "after").bytes(7);
    let before = || Typing::default().text(7, "before");
    let cases: [(&str, Vec<u8>); 6] = [
        (
            "piece_too_large",
            typing(before().put(7, 5, 1, |w| w.var_str(&picture))),
        ),
        (
            "piece_too_large",
            typing(before().put(7, 3, 1, |w| w.var_bytes(&[7; 50_000]))),
        ),
        (
            "malformed",
            typing(before().put(7, 6, 1, |w| {
                w.var_str("note");
                w.var_str("\"half a pair: \\ud83d\"");
            })),
        ),
        (
            "malformed",
            typing(before().put(7, 5, 1, |w| w.var_str(&"[".repeat(40)[..]))),
        ),
        (
            "malformed",
            typing(before().put(7, 8, 1, |w| {
                w.var_uint(1);
                deep(40)(w);
            })),
        ),
        (
            "sub_document",
            typing(before().put(7, 9, 1, |w| {
                w.var_str("guid");
                w.raw(&[118, 0]);
            })),
        ),
    ];
    for (code, bytes) in cases {
        let taken = take(bytes, &KnownClients::default());
        assert_eq!((codes(&taken), clocks(&taken)), (vec![code], vec![(6, 1)]));
        assert!(!taken.waits && taken.foreign.is_empty());
        let at = Id {
            client: ClientId::from(7),
            clock: 6,
        };
        assert!(
            taken.update.delete_set().contains(at),
            "the editor's own copy is deleted"
        );
        let mut known_clients = KnownClients::default();
        assert_eq!(sealed(&taken, ALICE, &mut known_clients, 7), 12, "{code}");
        let shown = Yrs.load(&[taken.update.encode()]);
        assert!(format!("{shown:?}").contains("beforeafter"), "{shown:?}");
    }
}

/// The valid elements of a list are accepted, also if the first ones were known.
#[test]
fn only_the_invalid_elements_of_a_list_are_refused() {
    let list = Typing::default().put(7, 8, 5, |w| {
        w.var_uint(5);
        w.raw(&[119, 1, b'a']);
        deep(40)(w);
        w.raw(&[119, 1, b'b']);
        w.u8(119);
        w.var_str(&"x".repeat(60_000));
        w.raw(&[119, 1, b'c']);
    });
    let bytes = list.text(7, "z").bytes(7);
    let taken = take(bytes.clone(), &KnownClients::default());
    assert_eq!(
        (codes(&taken), clocks(&taken)),
        (vec!["malformed", "piece_too_large"], vec![(1, 1), (3, 1)])
    );
    let mut known_clients = KnownClients::default();
    assert_eq!(sealed(&taken, ALICE, &mut known_clients, 7), 6);
    for known in 1..6 {
        let mut known_clients = KnownClients::default();
        known_clients.clients.insert(7.into(), (known, ALICE.to_owned()));
        let rest = take(bytes.clone(), &known_clients);
        let bad = [(1, 1), (3, 1)].into_iter().filter(|(at, _)| *at >= known);
        assert_eq!(clocks(&rest), bad.collect::<Vec<_>>(), "{known}");
        assert_eq!(sealed(&rest, ALICE, &mut known_clients, 7), 6);
    }
}

/// F12: one browser has another user's edits that were never sent. The sender may not send them.
#[test]
fn blocks_of_another_user_are_cut_off_and_the_senders_own_are_accepted() {
    let mut known_clients = KnownClients::default();
    known_clients.clients.insert(1.into(), (2, BOB.to_owned()));
    let theirs = Update::parse(Typing::default().text(1, "abcd").bytes(1).into()).unwrap();
    let own = Update::parse(Typing::default().text(7, "own words").bytes(7).into()).unwrap();
    let both = merge(&[theirs.clone(), own.clone()]).unwrap();
    let taken = take(both.encode(), &known_clients);
    assert_eq!(taken.update, own);
    assert_eq!(taken.foreign.values().collect::<Vec<_>>(), [BOB]);
    assert!(!taken.waits && taken.refused.is_empty());

    // Sent again and again, as stock Yjs does, they have no effect.
    known_clients.note(&own.ranges(), ALICE);
    let again = take(both.encode(), &known_clients);
    assert!(again.update.is_empty() && !again.waits && !again.foreign.is_empty());

    // The owner may send them.
    let brought = take_as(both.encode(), BOB, &known_clients).unwrap();
    assert_eq!(brought.update.ranges().into_values().collect::<Vec<_>>(), [(2, 4)]);
}

/// A sender's text that refers to another user's, which only that user can send, is left out until then; the text
/// before it is not.
#[test]
fn blocks_that_refer_to_omitted_blocks_are_left_out() {
    let mut known_clients = KnownClients::default();
    known_clients.clients.insert(1.into(), (2, BOB.to_owned()));
    let theirs = Update::parse(Typing::default().text(1, "abcd").bytes(1).into()).unwrap();
    // "ok" in the root, then "!" after the other user's unsent "d", then "?" after that.
    let mut w = Writer::new();
    w.raw(&[1, 3, 7, 0, 4, 1, 1, b't', 2, b'o', b'k']);
    w.raw(&[0x84, 1, 3, 1, b'!', 0x84, 7, 2, 1, b'?']);
    w.raw(&[1, 1, 1, 1, 3]);
    let own = Update::parse(w.into_vec().into()).unwrap();
    let both = merge(&[theirs.clone(), own]).unwrap();
    let taken = take(both.encode(), &known_clients);
    assert_eq!(
        taken.update.ranges().into_iter().collect::<Vec<_>>(),
        [(7.into(), (0, 2))]
    );
    assert!(taken.waits);
    let deleted: Vec<_> = taken.update.delete_set().iter().collect();
    assert_eq!(deleted, [(1.into(), 1, 2)], "the known part of the deletion");

    known_clients.note(&theirs.ranges(), BOB);
    known_clients.note(&taken.update.ranges(), ALICE);
    let rest = take(both.encode(), &known_clients);
    assert_eq!(
        rest.update.ranges().into_iter().collect::<Vec<_>>(),
        [(7.into(), (2, 4))]
    );
    assert!(!rest.waits && rest.foreign.is_empty());
}

/// Rule 11 is checked for the parts.
#[test]
fn deeply_nested_types_of_an_editor_are_split() {
    let mut w = Writer::new();
    w.raw(&[1, 70, 7, 0]);
    w.raw(&[7, 1, 1, b't', 1]);
    for clock in 0..69_u8 {
        w.raw(&[7, 0, 7, clock, 1]);
    }
    w.u8(0);
    let bytes = w.into_vec();
    let update = Update::parse(bytes.clone().into()).unwrap();
    assert!(matches!(
        admit(&update, ALICE, &KnownClients::default()),
        Err(Refusal::TooDeep { .. })
    ));
    let taken = take(bytes, &KnownClients::default());
    assert_eq!(taken.update, update);
    assert_eq!(split(&taken.update, Bounds::EVENT.bytes).unwrap().len(), 2);
    assert_eq!(sealed(&taken, ALICE, &mut KnownClients::default(), 7), 70);
}

#[test]
fn updates_that_no_editor_makes_are_refused_as_a_whole() {
    let known_clients = KnownClients::default();
    // Two blocks that refer to each other; a unit that is left and right origin; a v2 update; a name that fits no
    // event.
    let circle = vec![2, 1, 2, 0, 0x84, 1, 0, 1, b'a', 1, 1, 0, 0x84, 2, 0, 1, b'b', 0];
    let mut both_sides = vec![1, 2, 1, 0, 4, 1, 1, b't', 1, b'a', 0xc4, 1, 0, 1, 0, 1, b'b', 0];
    assert_eq!(take_as(circle, ALICE, &known_clients).unwrap_err().code(), "circle");
    assert_eq!(
        take_as(both_sides.clone(), ALICE, &known_clients).unwrap_err().code(),
        "origin_is_right_origin"
    );
    both_sides.truncate(9);
    assert_eq!(
        take_as(both_sides, ALICE, &known_clients).unwrap_err().code(),
        "malformed"
    );
    let mut w = Writer::new();
    w.raw(&[1, 1, 7, 0, 4, 1]);
    w.var_str(&"n".repeat(60_000));
    w.var_str("text");
    w.u8(0);
    assert_eq!(
        take_as(w.into_vec(), ALICE, &known_clients).unwrap_err().code(),
        "piece_too_large"
    );
    // T94: counts without elements; T102: blocks without end.
    let mut many = vec![1, 0x81, 0x80, 0x40, 7, 0];
    many.extend([0, 1].repeat(1 << 20));
    assert_eq!(take_as(many, ALICE, &known_clients).unwrap_err().code(), "too_many");
}

/// T96: nesting is followed to its end without recursion, and within limits.
#[test]
fn t96_an_endlessly_nested_value_is_one_refused_value() {
    let bytes = |levels: usize| {
        let list = Typing::default().put(7, 8, 1, |w| {
            w.var_uint(1);
            deep(levels)(w);
        });
        list.text(7, "after").bytes(7)
    };
    assert_eq!(clocks(&take(bytes(90_000), &KnownClients::default())), [(0, 1)]);
    let endless = take_as(bytes(200_000), ALICE, &KnownClients::default()).unwrap_err();
    assert_eq!(endless.code(), "malformed");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    /// In any order and any pieces: the accepted part is admissible, and when all updates are received the text is
    /// complete.
    #[test]
    fn omitted_blocks_are_accepted_when_they_are_sent_again(seed in any::<u64>(), people in 2usize..5, edits in 1usize..40) {
        let history = peers::history(seed, people, edits);
        prop_assume!(!history.is_empty());
        let mut dice = Dice::new(seed ^ 0x11fe);
        let raw: Vec<Vec<u8>> = history.iter().map(|step| step.update.clone()).collect();
        let updates: Vec<Update> = raw.iter().map(|bytes| Update::parse(bytes.clone().into()).unwrap()).collect();
        let whole = merge(&updates).unwrap();
        let (mut known_clients, mut document) = (KnownClients::default(), Document::new());
        for turn in 0..12 {
            let some: Vec<Update> = updates.iter().filter(|_| dice.below(3) == 0).cloned().collect();
            let piece = if turn == 11 { whole.clone() } else { merge(&some).unwrap() };
            let taken = take(piece.encode(), &known_clients);
            prop_assert!(taken.refused.is_empty() && taken.foreign.is_empty());
            match admit_within(&taken.update, ALICE, &known_clients, &Bounds::LIVE).unwrap() {
                Admission::Admitted { ranges, .. } => known_clients.note(&ranges, ALICE),
                Admission::Known => {}
                Admission::Gap { .. } => prop_assert!(false, "a gap was accepted"),
            }
            document.apply(&taken.update).unwrap();
            prop_assert!(turn < 11 || !taken.waits);
        }
        prop_assert_eq!(Yrs.load(&[document.encode()]), Yrs.load(&raw));
    }
}
