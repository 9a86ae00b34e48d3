//! Real editing histories as lists of keystroke updates (made by yrs), for tests and benchmarks.
//!
//! The files come from github.com/josephg/editing-traces. They are searched in `WEFT_TRACES`, then in
//! `../shared/data/editing-traces` next to the repository; without them a generated history of the same shape is used.

use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::{Path, PathBuf};
use yrs::updates::decoder::Decode;
use yrs::{Doc, OffsetKind, Options, ReadTxn, StateVector, Text, TextRef, Transact};

/// Position, deleted characters, inserted text.
type Patch = (usize, usize, String);

#[derive(Deserialize)]
struct Txn {
    #[serde(default)]
    agent: usize,
    #[serde(default)]
    parents: Vec<usize>,
    patches: Vec<Patch>,
}

#[derive(Deserialize)]
struct Trace {
    #[serde(rename = "endContent", default)]
    end: String,
    txns: Vec<Txn>,
}

/// The updates of a history in causal order, with their authors, and whether the history is a real one.
pub(crate) struct History {
    pub(crate) updates: Vec<(usize, Vec<u8>)>,
    #[allow(dead_code, reason = "only the benchmark prints it")]
    pub(crate) real: bool,
    /// For each update, what its author had received when writing it.
    #[allow(dead_code, reason = "for tests that replay it over a network")]
    pub(crate) heard: Vec<StateVector>,
    /// The final text of a complete real history.
    #[allow(dead_code, reason = "for tests that replay it over a network")]
    pub(crate) end: Option<String>,
}

fn read(name: &str) -> Option<Trace> {
    let above = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors();
    let mut beside = above.map(|folder| folder.join("shared/data/editing-traces"));
    let dir = std::env::var_os("WEFT_TRACES").map(PathBuf::from);
    let dir = dir.or_else(|| beside.find(|folder| folder.exists()))?;
    let file = std::fs::File::open(dir.join(format!("{name}.json.gz"))).ok()?;
    let mut json = String::new();
    flate2::read::GzDecoder::new(file)
        .read_to_string(&mut json)
        .expect("a gzip file");
    Some(serde_json::from_str(&json).expect("a trace"))
}

/// One of the traces with one author, up to `limit` edits.
pub(crate) fn sequential(name: &str, limit: usize) -> History {
    let (patches, real, end): (Vec<Patch>, bool, Option<String>) = match read(name) {
        Some(trace) => {
            let all: Vec<Patch> = trace.txns.into_iter().flat_map(|t| t.patches).collect();
            let end = (all.len() <= limit).then_some(trace.end);
            (all.into_iter().take(limit).collect(), true, end)
        }
        None => (made(limit), false, None),
    };
    let mut writer = Writer::new(1);
    History {
        updates: patches
            .iter()
            .map(|p| (0, writer.write(std::slice::from_ref(p))))
            .collect(),
        real,
        heard: Vec::new(),
        end,
    }
}

/// One of the traces with several concurrent authors.
pub(crate) fn concurrent(name: &str, limit: usize) -> Option<History> {
    Some(replayed(&read(name)?, limit, true))
}

/// The same; if the trace is missing, a generated one with two authors who type concurrently and never receive each
/// other's edits.
#[allow(dead_code, reason = "for tests that replay it over a network")]
pub(crate) fn concurrent_or_made(name: &str, limit: usize) -> History {
    if let Some(history) = concurrent(name, limit) {
        return history;
    }
    let txns = made(limit.min(26_000)).into_iter().enumerate().flat_map(|(i, patch)| {
        (0..2).map(move |agent| Txn {
            agent,
            parents: (2 * i + agent).checked_sub(2).into_iter().collect(),
            patches: vec![patch.clone()],
        })
    });
    let txns = txns.take(limit).collect();
    replayed(
        &Trace {
            end: String::new(),
            txns,
        },
        limit,
        false,
    )
}

fn replayed(trace: &Trace, limit: usize, real: bool) -> History {
    let txns = &trace.txns[..limit.min(trace.txns.len())];
    let mut writers: BTreeMap<usize, (Writer, BTreeSet<usize>)> = BTreeMap::new();
    let mut updates: Vec<(usize, Vec<u8>)> = Vec::new();
    let mut heard = Vec::new();
    for (i, txn) in txns.iter().enumerate() {
        let (writer, seen) = writers
            .entry(txn.agent)
            .or_insert_with(|| (Writer::new(1 + txn.agent as u64), BTreeSet::new()));
        let mut missing = BTreeSet::new();
        let mut open = txn.parents.clone();
        while let Some(p) = open.pop() {
            if !seen.contains(&p) && missing.insert(p) {
                open.extend(&txns[p].parents);
            }
        }
        for p in missing {
            writer.receive(&updates[p].1);
            seen.insert(p);
        }
        heard.push(writer.doc.transact().state_vector());
        updates.push((txn.agent, writer.write(&txn.patches)));
        seen.insert(i);
    }
    let end = (real && txns.len() == trace.txns.len()).then(|| trace.end.clone());
    History {
        updates,
        real,
        heard,
        end,
    }
}

/// An author who types, corrects mistakes, and sometimes moves to another position.
fn made(edits: usize) -> Vec<Patch> {
    let mut state = 42u64;
    let mut dice = |n: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 33) as usize % n.max(1)
    };
    let (mut at, mut len) = (0, 0);
    let mut out = Vec::with_capacity(edits);
    for _ in 0..edits {
        match dice(100) {
            0..28 if at > 0 => {
                at -= 1;
                len -= 1;
                out.push((at, 1, String::new()));
            }
            28..31 => {
                at = dice(len + 1);
                out.push((at, 0, " ".into()));
                at += 1;
                len += 1;
            }
            _ => {
                out.push((at, 0, char::from(b'a' + dice(26) as u8).to_string()));
                at += 1;
                len += 1;
            }
        }
    }
    out
}

struct Writer {
    doc: Doc,
    text: TextRef,
    /// The text's characters by their UTF-16 width, once one of them has a width above one.
    wide: bool,
}

impl Writer {
    fn new(client: u64) -> Self {
        let mut options = Options::with_client_id(yrs::block::ClientID::new(client));
        options.offset_kind = OffsetKind::Utf16;
        let doc = Doc::with_options(options);
        let text = doc.get_or_insert_text("body");
        Writer { doc, text, wide: false }
    }

    fn receive(&mut self, update: &[u8]) {
        let update = yrs::Update::decode_v1(update).expect("yrs' own update");
        self.doc.transact_mut().apply_update(update).expect("yrs' own update");
        self.wide = true;
    }

    fn units(&self, txn: &yrs::TransactionMut<'_>, at: usize, del: usize) -> (u32, u32) {
        if !self.wide {
            return (at as u32, del as u32);
        }
        let text = yrs::GetString::get_string(&self.text, txn);
        let width = |n: usize, skip: usize| text.chars().skip(skip).take(n).map(|c| c.len_utf16() as u32).sum();
        (width(at, 0), width(del, at))
    }

    fn write(&mut self, patches: &[Patch]) -> Vec<u8> {
        let mut txn = self.doc.transact_mut();
        for (at, del, insert) in patches {
            let (at, del) = self.units(&txn, *at, *del);
            if del > 0 {
                self.text.remove_range(&mut txn, at, del);
            }
            if !insert.is_empty() {
                self.text.insert(&mut txn, at, insert);
            }
            self.wide |= !insert.is_ascii();
        }
        txn.encode_update_v1()
    }
}
