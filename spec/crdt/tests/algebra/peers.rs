//! Random concurrent editing by several users, made with yrs: the histories with which the algebra is checked.

use crate::engines::yrs_doc;
use yrs::types::Attrs;
use yrs::updates::decoder::Decode;
use yrs::{
    Any, Array, ArrayPrelim, Doc, GetString, Map, MapPrelim, Out, ReadTxn, Text, TextPrelim, Transact, TransactionMut,
    Xml, XmlElementPrelim, XmlFragment, XmlOut, XmlTextPrelim,
};

/// One update of a history: its author and its bytes. A history is in causal order.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    pub(crate) author: usize,
    pub(crate) update: Vec<u8>,
}

/// A small random number generator, with the same sequence on every platform.
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        ((self.0 >> 33) as usize) % n.max(1)
    }

    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.below(i + 1));
        }
    }
}

struct Peer {
    doc: Doc,
    seen: usize,
}

const WORDS: [&str; 6] = ["a", "hello ", "x😀y", "日本", "the quick brown fox ", "\n"];

/// `edits` edits by `people` users, each of whom receives the others' with a delay.
pub(crate) fn history(seed: u64, people: usize, edits: usize) -> Vec<Step> {
    let mut dice = Dice::new(seed);
    let mut peers: Vec<Peer> = (0..people)
        .map(|i| Peer {
            doc: yrs_doc((1 + dice.below(200) * 8 + i) as u64),
            seen: 0,
        })
        .collect();
    let focus = dice.below(10);
    let mut log: Vec<Step> = Vec::new();
    for _ in 0..edits {
        let author = dice.below(people);
        let peer = &mut peers[author];
        if dice.below(if focus > 7 { 2 } else { 3 }) == 0 {
            let until = peer.seen + dice.below(log.len() - peer.seen + 1);
            catch_up(peer, &log, until);
        }
        let update = edit(&peer.doc, &mut dice, focus);
        if update != [0, 0] {
            log.push(Step { author, update });
        }
    }
    log
}

fn catch_up(peer: &mut Peer, log: &[Step], until: usize) {
    for step in &log[peer.seen..until] {
        let update = yrs::Update::decode_v1(&step.update).unwrap();
        peer.doc.transact_mut().apply_update(update).unwrap();
    }
    peer.seen = until;
}

fn edit(doc: &Doc, dice: &mut Dice, focus: usize) -> Vec<u8> {
    let (text, map, array, xml) = (
        doc.get_or_insert_text("t"),
        doc.get_or_insert_map("m"),
        doc.get_or_insert_array("a"),
        doc.get_or_insert_xml_fragment("x"),
    );
    let mut txn = doc.transact_mut();
    let what = if (4..=7).contains(&focus) { dice.below(4) } else { focus };
    match what {
        8.. => duel(&text, &mut txn, dice),
        0 => edit_text(&text, &mut txn, dice),
        1 => edit_map(&map, &mut txn, dice),
        2 => edit_array(&array, &mut txn, dice),
        _ => edit_xml(xml, &mut txn, dice),
    }
    txn.encode_update_v1()
}

/// Positions between characters, in UTF-16 units.
fn places<T: Text + GetString, R: ReadTxn>(text: &T, txn: &R) -> Vec<u32> {
    let mut places = vec![0];
    let mut at = 0;
    for piece in text.diff(txn, yrs::types::text::YChange::identity) {
        match piece.insert {
            Out::Any(Any::String(s)) => s.chars().for_each(|c| {
                at += c.len_utf16() as u32;
                places.push(at);
            }),
            _ => {
                at += 1;
                places.push(at);
            }
        }
    }
    places
}

fn edit_text<T: Text + GetString>(text: &T, txn: &mut TransactionMut<'_>, dice: &mut Dice) {
    let places = places(text, txn);
    let from = dice.below(places.len());
    let to = (from + dice.below(8)).min(places.len() - 1);
    let (at, len) = (places[from], places[to] - places[from]);
    match dice.below(8) {
        0 | 1 if len > 0 => text.remove_range(txn, at, len),
        2 if len > 0 => {
            let value = if dice.below(2) == 0 { Any::Null } else { Any::Bool(true) };
            text.format(txn, at, len, Attrs::from([("bold".into(), value)]));
        }
        3 => {
            text.insert_embed(txn, at, Any::from_json("{\"image\":1}").unwrap());
        }
        4 => text.insert_with_attributes(txn, at, "bold", Attrs::from([("bold".into(), Any::Bool(true))])),
        5 => (0..5).for_each(|i| text.insert(txn, at + i, "t")),
        _ => text.insert(txn, at, WORDS[dice.below(WORDS.len())]),
    }
}

/// Single characters at one small position: users continue directly after their own text, after others have written
/// there too.
fn duel<T: Text + GetString>(text: &T, txn: &mut TransactionMut<'_>, dice: &mut Dice) {
    let at = dice.below(text.len(txn).min(3) as usize + 1) as u32;
    if at < text.len(txn) && dice.below(8) == 0 {
        text.remove_range(txn, at, 1);
    } else {
        text.insert(txn, at, ["a", "b", "c", "d"][dice.below(4)]);
    }
}

fn edit_map<M: Map>(map: &M, txn: &mut TransactionMut<'_>, dice: &mut Dice) {
    let key = format!("k{}", dice.below(3));
    if let (Some(Out::YMap(inner)), true) = (map.get(txn, &key), dice.below(2) == 0) {
        inner.insert(txn, format!("i{}", dice.below(2)), dice.below(100) as f64);
        return;
    }
    match dice.below(5) {
        0 => {
            map.remove(txn, &key);
        }
        1 => {
            map.insert(txn, key, MapPrelim::from([("n".to_owned(), dice.below(9) as f64)]));
        }
        2 => {
            map.insert(txn, key, TextPrelim::new("in a map"));
        }
        _ => {
            map.insert(txn, key, dice.below(100) as f64);
        }
    }
}

fn edit_array<A: Array>(array: &A, txn: &mut TransactionMut<'_>, dice: &mut Dice) {
    let len = array.len(txn);
    let at = dice.below(len as usize + 1) as u32;
    match dice.below(4) {
        0 if at < len => array.remove_range(txn, at, (len - at).min(1 + dice.below(3) as u32)),
        1 => {
            array.insert(txn, at, ArrayPrelim::from([1.0, 2.0]));
        }
        2 => {
            array.insert_range(txn, at, [dice.below(9) as f64, 7.5, 8.0]);
        }
        _ => {
            array.insert(txn, at, WORDS[dice.below(WORDS.len())]);
        }
    }
}

fn edit_xml<X: XmlFragment>(root: X, txn: &mut TransactionMut<'_>, dice: &mut Dice) {
    let len = root.len(txn);
    let at = dice.below(len as usize + 1) as u32;
    if dice.below(3) > 0 {
        match root.get(txn, at) {
            Some(XmlOut::Text(text)) => return edit_text(&text, txn, dice),
            Some(XmlOut::Element(element)) => {
                if dice.below(4) == 0 {
                    element.insert_attribute(txn, format!("c{}", dice.below(2)), format!("v{}", dice.below(9)));
                    return;
                }
                return edit_xml(element, txn, dice);
            }
            _ => {}
        }
    }
    match dice.below(5) {
        0 if at < len => root.remove_range(txn, at, 1),
        1 => {
            root.insert(txn, at, XmlTextPrelim::new("text"));
        }
        _ => {
            root.insert(txn, at, XmlElementPrelim::empty(["p", "h1", "ul"][dice.below(3)]));
        }
    }
}
