//! What is taken of a live editor's update where not all of it can be.

use crate::engines::{Engine, Yrs};
use crate::judged::Book;
use crate::peers::{self, Dice};
use proptest::prelude::*;
use weft_crdt::lib0::Writer;
use weft_crdt::{
    Admission, Bounds, ClientId, Document, Id, Known, LiveUpdate, Refusal, Taken, Update, admit, admit_within, merge,
    split, take_live,
};

const ALICE: &str = "@alice:alpha.example";
const BOB: &str = "@bob:alpha.example";

/// Blocks of one client in the root `t`, each after the one before it.
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

fn take(bytes: Vec<u8>, book: &Book) -> Taken {
    take_as(bytes, ALICE, book).unwrap()
}

fn take_as(bytes: Vec<u8>, sender: &str, book: &Book) -> Result<Taken, Refusal> {
    take_live(&LiveUpdate::parse(bytes.into())?, sender, book)
}

/// Every server admits what was taken, part by part; gives where the client ends then.
fn sealed(taken: &Taken, sender: &str, book: &mut Book, client: u64) -> u32 {
    for part in split(&taken.update, Bounds::EVENT.bytes).unwrap() {
        let part = Update::parse(part.encode().into()).unwrap();
        let Admission::Admitted { ranges, .. } = admit(&part, sender, book).unwrap() else {
            panic!("a part is not admitted")
        };
        book.note(&ranges, sender);
    }
    book.end(ClientId::from(client as u32))
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

/// F13: what no event can carry is taken as deleted, and what was typed before and after it is taken as it is.
#[test]
fn one_bad_change_does_not_stop_an_editor() {
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
        let taken = take(bytes, &Book::default());
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
        let mut book = Book::default();
        assert_eq!(sealed(&taken, ALICE, &mut book, 7), 12, "{code}");
        let shown = Yrs.load(&[taken.update.encode()]);
        assert!(format!("{shown:?}").contains("beforeafter"), "{shown:?}");
    }
}

/// Of a list, the elements that can be carried are; also where the first of them were known.
#[test]
fn of_a_list_only_the_bad_elements_are_refused() {
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
    let taken = take(bytes.clone(), &Book::default());
    assert_eq!(
        (codes(&taken), clocks(&taken)),
        (vec!["malformed", "piece_too_large"], vec![(1, 1), (3, 1)])
    );
    let mut book = Book::default();
    assert_eq!(sealed(&taken, ALICE, &mut book, 7), 6);
    for known in 1..6 {
        let mut book = Book::default();
        book.clients.insert(7.into(), (known, ALICE.to_owned()));
        let rest = take(bytes.clone(), &book);
        let bad = [(1, 1), (3, 1)].into_iter().filter(|(at, _)| *at >= known);
        assert_eq!(clocks(&rest), bad.collect::<Vec<_>>(), "{known}");
        assert_eq!(sealed(&rest, ALICE, &mut book, 7), 6);
    }
}

/// F12: one browser has another user's edits that were never sent. They are not the sender's to bring.
#[test]
fn blocks_of_another_user_are_cut_off_and_the_senders_own_are_taken() {
    let mut book = Book::default();
    book.clients.insert(1.into(), (2, BOB.to_owned()));
    let theirs = Update::parse(Typing::default().text(1, "abcd").bytes(1).into()).unwrap();
    let own = Update::parse(Typing::default().text(7, "own words").bytes(7).into()).unwrap();
    let both = merge(&[theirs.clone(), own.clone()]).unwrap();
    let taken = take(both.encode(), &book);
    assert_eq!(taken.update, own);
    assert_eq!(taken.foreign.values().collect::<Vec<_>>(), [BOB]);
    assert!(!taken.waits && taken.refused.is_empty());

    // Sent again and again, as stock Yjs does it, it is nothing.
    book.note(&own.ranges(), ALICE);
    let again = take(both.encode(), &book);
    assert!(again.update.is_empty() && !again.waits && !again.foreign.is_empty());

    // The owner may bring them.
    let brought = take_as(both.encode(), BOB, &book).unwrap();
    assert_eq!(brought.update.ranges().into_values().collect::<Vec<_>>(), [(2, 4)]);
}

/// Own words that build on another user's, which only that user can bring, wait for them; what was before them does not.
#[test]
fn what_builds_on_blocks_that_were_left_out_waits() {
    let mut book = Book::default();
    book.clients.insert(1.into(), (2, BOB.to_owned()));
    let theirs = Update::parse(Typing::default().text(1, "abcd").bytes(1).into()).unwrap();
    // "ok" in the root, then "!" after their unsent "d", then "?" after that.
    let mut w = Writer::new();
    w.raw(&[1, 3, 7, 0, 4, 1, 1, b't', 2, b'o', b'k']);
    w.raw(&[0x84, 1, 3, 1, b'!', 0x84, 7, 2, 1, b'?']);
    w.raw(&[1, 1, 1, 1, 3]);
    let own = Update::parse(w.into_vec().into()).unwrap();
    let both = merge(&[theirs.clone(), own]).unwrap();
    let taken = take(both.encode(), &book);
    assert_eq!(
        taken.update.ranges().into_iter().collect::<Vec<_>>(),
        [(7.into(), (0, 2))]
    );
    assert!(taken.waits);
    let deleted: Vec<_> = taken.update.delete_set().iter().collect();
    assert_eq!(deleted, [(1.into(), 1, 2)], "of the deletion, what is known");

    book.note(&theirs.ranges(), BOB);
    book.note(&taken.update.ranges(), ALICE);
    let rest = take(both.encode(), &book);
    assert_eq!(
        rest.update.ranges().into_iter().collect::<Vec<_>>(),
        [(7.into(), (2, 4))]
    );
    assert!(!rest.waits && rest.foreign.is_empty());
}

/// Rule 11 is asked of the parts.
#[test]
fn types_nested_deeply_by_an_editor_are_divided() {
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
        admit(&update, ALICE, &Book::default()),
        Err(Refusal::TooDeep { .. })
    ));
    let taken = take(bytes, &Book::default());
    assert_eq!(taken.update, update);
    assert_eq!(split(&taken.update, Bounds::EVENT.bytes).unwrap().len(), 2);
    assert_eq!(sealed(&taken, ALICE, &mut Book::default(), 7), 70);
}

#[test]
fn what_no_editor_makes_is_refused_as_a_whole() {
    let book = Book::default();
    // Two blocks that wait for one another; a unit that is left and right; a v2 update; a name that fits no event.
    let circle = vec![2, 1, 2, 0, 0x84, 1, 0, 1, b'a', 1, 1, 0, 0x84, 2, 0, 1, b'b', 0];
    let mut both_sides = vec![1, 2, 1, 0, 4, 1, 1, b't', 1, b'a', 0xc4, 1, 0, 1, 0, 1, b'b', 0];
    assert_eq!(take_as(circle, ALICE, &book).unwrap_err().code(), "circle");
    assert_eq!(
        take_as(both_sides.clone(), ALICE, &book).unwrap_err().code(),
        "origin_is_right_origin"
    );
    both_sides.truncate(9);
    assert_eq!(take_as(both_sides, ALICE, &book).unwrap_err().code(), "malformed");
    let mut w = Writer::new();
    w.raw(&[1, 1, 7, 0, 4, 1]);
    w.var_str(&"n".repeat(60_000));
    w.var_str("text");
    w.u8(0);
    assert_eq!(
        take_as(w.into_vec(), ALICE, &book).unwrap_err().code(),
        "piece_too_large"
    );
    // T94: counts that nothing follows, T102: blocks without end.
    let mut many = vec![1, 0x81, 0x80, 0x40, 7, 0];
    many.extend([0, 1].repeat(1 << 20));
    assert_eq!(take_as(many, ALICE, &book).unwrap_err().code(), "too_many");
}

/// T96: nesting is followed to its end without recursion, and within limits.
#[test]
fn t96_a_value_nested_without_end_is_one_refused_value() {
    let bytes = |levels: usize| {
        let list = Typing::default().put(7, 8, 1, |w| {
            w.var_uint(1);
            deep(levels)(w);
        });
        list.text(7, "after").bytes(7)
    };
    assert_eq!(clocks(&take(bytes(90_000), &Book::default())), [(0, 1)]);
    let endless = take_as(bytes(200_000), ALICE, &Book::default()).unwrap_err();
    assert_eq!(endless.code(), "malformed");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever comes first, in whatever pieces: what is taken is admissible, and when all has come the text is whole.
    #[test]
    fn what_was_left_out_is_taken_when_it_comes_again(seed in any::<u64>(), people in 2usize..5, edits in 1usize..40) {
        let history = peers::history(seed, people, edits);
        prop_assume!(!history.is_empty());
        let mut dice = Dice::new(seed ^ 0x11fe);
        let raw: Vec<Vec<u8>> = history.iter().map(|step| step.update.clone()).collect();
        let updates: Vec<Update> = raw.iter().map(|bytes| Update::parse(bytes.clone().into()).unwrap()).collect();
        let whole = merge(&updates).unwrap();
        let (mut book, mut document) = (Book::default(), Document::new());
        for turn in 0..12 {
            let some: Vec<Update> = updates.iter().filter(|_| dice.below(3) == 0).cloned().collect();
            let piece = if turn == 11 { whole.clone() } else { merge(&some).unwrap() };
            let taken = take(piece.encode(), &book);
            prop_assert!(taken.refused.is_empty() && taken.foreign.is_empty());
            match admit_within(&taken.update, ALICE, &book, &Bounds::LIVE).unwrap() {
                Admission::Admitted { ranges, .. } => book.note(&ranges, ALICE),
                Admission::Known => {}
                Admission::Gap { .. } => prop_assert!(false, "a gap was taken"),
            }
            document.apply(&taken.update).unwrap();
            prop_assert!(turn < 11 || !taken.waits);
        }
        prop_assert_eq!(Yrs.load(&[document.encode()]), Yrs.load(&raw));
    }
}
