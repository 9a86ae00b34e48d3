//! A real editing history as updates: the paper of the automerge-perf benchmark (B4) if its file is found, otherwise a
//! synthetic one of the same shape. Must not download it.
//!
//! `WEFT_TRACES` names the folder of the file `automerge-paper.json.gz`; otherwise `shared/data/editing-traces` is
//! searched for in the parent directory of the checkout and in those above it.

use std::{
    fs::File,
    io::Read as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use flate2::read::GzDecoder;
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use serde::Deserialize;
use yrs::{
    Doc, GetString as _, OffsetKind, Options, ReadTxn as _, StateVector, Text as _, TextRef, Transact as _, Update,
    block::ClientID, updates::decoder::Decode as _,
};

/// One change: position, number of deleted characters, inserted text. Positions count characters.
#[derive(Clone, Debug, Deserialize)]
pub struct Patch(pub u32, pub u32, pub String);

#[derive(Deserialize)]
struct Trace {
    txns: Vec<Step>,
}

#[derive(Deserialize)]
struct Step {
    patches: Vec<Patch>,
}

fn file() -> Option<PathBuf> {
    let name = "automerge-paper.json.gz";
    if let Some(folder) = std::env::var_os("WEFT_TRACES") {
        return Some(Path::new(&folder).join(name));
    }
    let above = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors();
    let mut found = above.map(|folder| folder.join("shared/data/editing-traces").join(name));
    found.find(|path| path.exists())
}

/// The first `count` changes, and whether they are from the real history.
///
/// # Errors
/// When the file can't be read.
pub fn patches(count: usize) -> Result<(Vec<Patch>, bool)> {
    let Some(path) = file() else {
        return Ok((synthetic(count), false));
    };
    let mut text = String::new();
    GzDecoder::new(File::open(&path).with_context(|| path.display().to_string())?).read_to_string(&mut text)?;
    let trace: Trace = serde_json::from_str(&text)?;
    let patches = trace.txns.into_iter().flat_map(|step| step.patches);
    Ok((patches.take(count).collect(), true))
}

/// Runs of letters, deletions and moves of the cursor: as in the paper, four in ten letters are deleted.
fn synthetic(count: usize) -> Vec<Patch> {
    let mut random = StdRng::seed_from_u64(4);
    let mut patches = Vec::with_capacity(count);
    let (mut length, mut at) = (0_u32, 0_u32);
    while patches.len() < count {
        if random.random_range(0..40) == 0 {
            at = random.random_range(0..=length);
        }
        let deletes = length > 100 && at > 0 && random.random_range(0..10) < 3;
        if deletes {
            at -= 1;
            length -= 1;
            patches.push(Patch(at, 1, String::new()));
        } else {
            let letter = char::from(random.random_range(b'a'..=b'z'));
            patches.push(Patch(at, 0, letter.to_string()));
            at += 1;
            length += 1;
        }
    }
    patches
}

/// A Yjs document that applies a history.
pub struct Author {
    doc: Doc,
    body: TextRef,
}

impl Author {
    /// A new document with a random client id.
    #[must_use]
    pub fn new() -> Self {
        let doc = Doc::with_options(Options {
            client_id: ClientID::new(u64::from(rand::random::<u32>().max(1))),
            offset_kind: OffsetKind::Utf16,
            ..Options::default()
        });
        let body = doc.get_or_insert_text("body");
        Self { doc, body }
    }

    /// Applies a change; returns its update.
    pub fn make(&self, patch: &Patch) -> Vec<u8> {
        let mut transaction = self.doc.transact_mut();
        if patch.1 > 0 {
            self.body.remove_range(&mut transaction, patch.0, patch.1);
        }
        if !patch.2.is_empty() {
            self.body.insert(&mut transaction, patch.0, &patch.2);
        }
        transaction.encode_update_v1()
    }

    /// Applies a change of another author.
    ///
    /// # Errors
    /// When the update can't be applied.
    pub fn take(&self, update: &[u8]) -> Result<()> {
        let update = Update::decode_v1(update)?;
        Ok(self.doc.transact_mut().apply_update(update)?)
    }

    /// The document as one update.
    #[must_use]
    pub fn whole(&self) -> Vec<u8> {
        self.doc.transact().encode_state_as_update_v1(&StateVector::default())
    }

    /// The current text.
    #[must_use]
    pub fn text(&self) -> String {
        self.body.get_string(&self.doc.transact())
    }
}

impl Default for Author {
    fn default() -> Self {
        Self::new()
    }
}

/// A document after `changes` changes, as one update.
///
/// # Errors
/// When the history can't be read.
pub fn document(changes: usize) -> Result<Vec<u8>> {
    let author = Author::new();
    for patch in &patches(changes)?.0 {
        author.make(patch);
    }
    Ok(author.whole())
}
