//! Two versions of a document, of which the newer contains all updates of the older. Texts are aligned by the ids of their
//! characters, so no search for similar text is needed and moved or repeated text can't confuse it.

use std::rc::Rc;

use serde_json::Value;
use weft_render::NotRendered;
use weft_wire::document::DocumentKind;
use yrs::branch::{Branch, BranchID, BranchPtr};
use yrs::types::text::{ChangeKind, YChange};
use yrs::{
    Any, Hook, Out, ReadTxn, SharedRef as _, Snapshot, Text as _, TextRef, Transact as _, TransactionMut,
    XmlFragment as _, XmlFragmentRef, XmlOut,
};

use super::load::{self, Loaded, Root};
use super::normal;

/// The versions, and both of them in one document. The older and the newer version of a document of kind `text` are
/// that document too if the text has only strings.
pub(crate) struct Versions {
    pub(crate) older: Rc<Loaded>,
    pub(crate) newer: Rc<Loaded>,
    both: Rc<Loaded>,
    before: Snapshot,
    now: Snapshot,
    /// The runs of the text in the older and in the newer version, unless these are documents of their own.
    runs: Option<[Vec<Value>; 2]>,
}

/// Where a part of a text is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Presence {
    Both,
    Newer,
    Older,
}

/// A part of a text: characters that follow each other in both versions, with the same attributes.
#[derive(Debug, Clone)]
pub(crate) struct Part {
    pub(crate) presence: Presence,
    /// A string, or an object.
    pub(crate) insert: Value,
    /// Of a part that is in one version: the client and first clock of its blocks.
    pub(crate) id: Option<(u64, u32)>,
    /// Its attributes in the older and in the newer version; null if it has none.
    pub(crate) older: Value,
    pub(crate) newer: Value,
}

impl Part {
    /// The length in code units.
    pub(crate) fn length(&self) -> u32 {
        u32::try_from(length(&self.insert)).unwrap_or(u32::MAX)
    }
}

/// What a change is, in both versions and whatever the order in which their nodes are visited.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum ChangeKey {
    /// Of a text: one of its groups of parts.
    Text(BranchID, u32),
    /// A node that is in one version, with all that is in it.
    Node(BranchID),
    /// The attributes of a node.
    Attributes(BranchID),
    /// Of a board: an element, or an element and a key.
    Value(Vec<String>),
}

/// The parts of a text in groups, numbered from 0 on: neighbours of which each is in one version only, or of which each is in both with
/// other attributes, or of which none differs.
pub(crate) fn grouped(parts: Vec<Part>) -> Vec<(u32, Part)> {
    let kind = |part: &Part| match part.presence {
        Presence::Both => 1 + u8::from(part.older == part.newer),
        Presence::Newer | Presence::Older => 0,
    };
    let mut group = 0;
    let mut before = None;
    let mut numbered = Vec::with_capacity(parts.len());
    for part in parts {
        let now = kind(&part);
        if before.is_some_and(|before| before != now) {
            group += 1;
        }
        before = Some(now);
        numbered.push((group, part));
    }
    numbered
}

fn length(insert: &Value) -> usize {
    insert.as_str().map_or(1, |text| text.encode_utf16().count())
}

impl Versions {
    pub(crate) fn load(kind: DocumentKind, older: &[u8], newer: &[u8]) -> Result<Self, NotRendered> {
        // What the newer version has deleted must stay readable.
        let both = Loaded::with_client(kind, older, 0, true)?;
        let before = both.doc.transact().snapshot();
        let now = {
            let mut txn = both.doc.transact_mut();
            let vector = load::apply(&mut txn, newer)?;
            let now = txn.snapshot();
            if vector != now.state_map {
                // The newer version does not contain the older one.
                return Err(NotRendered::Incomplete);
            }
            now
        };
        let both = Rc::new(both);
        let runs = runs_of_both(&both, &before, &now)?;
        let version = |state: &[u8]| match runs {
            Some(_) => Ok(Rc::clone(&both)),
            None => Loaded::read(kind, state).map(Rc::new),
        };
        Ok(Self {
            older: version(older)?,
            newer: version(newer)?,
            both,
            before,
            now,
            runs,
        })
    }

    /// The parts of a text, in order. The text may be in one of the versions only.
    pub(crate) fn align(&self, text: &Hook<TextRef>) -> Result<Vec<Part>, NotRendered> {
        let runs = |loaded: &Loaded| {
            let txn = loaded.doc.transact();
            let text = text.get(&txn);
            text.map_or(Ok(Vec::new()), |text| normal::runs(&text, &txn))
        };
        let [older, newer] = match &self.runs {
            Some(runs) => runs.clone(),
            None => [runs(&self.older)?, runs(&self.newer)?],
        };
        let mut cursors = (Cursor::new(older), Cursor::new(newer));
        let mut txn = self.both.doc.transact_mut();
        let mut parts = Vec::new();
        if let Some(text) = any_text(text, &txn) {
            for run in text.diff_range(&mut txn, Some(&self.now), Some(&self.before), YChange::identity) {
                let change = run
                    .ychange
                    .map(|change| (change.kind, (change.id.client.get(), change.id.clock)));
                match run.insert {
                    Out::Any(Any::String(text)) => add_text(&text, change, &mut cursors, &mut parts),
                    object => add_object(&normal::out(object, &txn)?, &mut cursors, &mut parts),
                }
            }
        }
        Ok(parts)
    }
}

/// The runs of both versions of a document of kind `text`, if these are only strings: two documents less to load.
fn runs_of_both(both: &Loaded, before: &Snapshot, now: &Snapshot) -> Result<Option<[Vec<Value>; 2]>, NotRendered> {
    let Root::Text(text) = &both.root else {
        return Ok(None);
    };
    let mut txn = both.doc.transact_mut();
    let older = normal::runs_at(text, &mut txn, before)?;
    let newer = normal::runs_at(text, &mut txn, now)?;
    Ok(older.zip(newer).map(|(older, newer)| [older, newer]))
}

/// A text of the combined document, also if the newer version has deleted it: its characters are then readable.
fn any_text(hook: &Hook<TextRef>, txn: &TransactionMut<'_>) -> Option<TextRef> {
    hook.id().get_branch(txn).map(TextRef::from)
}

type Cursors = (Cursor, Cursor);

fn add_text(text: &str, change: Option<(ChangeKind, (u64, u32))>, (older, newer): &mut Cursors, parts: &mut Vec<Part>) {
    let units: Vec<u16> = text.encode_utf16().collect();
    let mut at = 0;
    while at < units.len() {
        let left = units.len() - at;
        let (presence, taken) = match change {
            None => (Presence::Both, left.min(older.left()).min(newer.left())),
            Some((ChangeKind::Added, _)) => (Presence::Newer, left.min(newer.left())),
            Some((ChangeKind::Removed, _)) => (Presence::Older, left.min(older.left())),
        };
        let insert = String::from_utf16_lossy(units.get(at..at + taken).unwrap_or_default());
        let clock = |first: u32| first.saturating_add(u32::try_from(at).unwrap_or(u32::MAX));
        parts.push(Part {
            presence,
            insert: Value::String(insert),
            id: change.map(|(_, (client, first))| (client, clock(first))),
            older: older.attributes_if(presence != Presence::Newer),
            newer: newer.attributes_if(presence != Presence::Older),
        });
        if presence != Presence::Newer {
            older.take(taken);
        }
        if presence != Presence::Older {
            newer.take(taken);
        }
        at += taken;
    }
}

/// The engine does not tell in which version an object is, so it is looked up there.
fn add_object(object: &Value, (older, newer): &mut Cursors, parts: &mut Vec<Part>) {
    let presence = match (older.object() == Some(object), newer.object() == Some(object)) {
        (true, true) => Presence::Both,
        (true, false) => Presence::Older,
        (false, true) => Presence::Newer,
        // One that is equal to its neighbour, which stands for both of them.
        (false, false) => return,
    };
    parts.push(Part {
        presence,
        insert: object.clone(),
        id: None,
        older: older.attributes_if(presence != Presence::Newer),
        newer: newer.attributes_if(presence != Presence::Older),
    });
    if presence != Presence::Newer {
        older.take(1);
    }
    if presence != Presence::Older {
        newer.take(1);
    }
}

/// A position in the runs of one version's text.
struct Cursor {
    runs: std::vec::IntoIter<Value>,
    run: Option<Value>,
    left: usize,
}

impl Cursor {
    fn new(runs: Vec<Value>) -> Self {
        let mut cursor = Self {
            runs: runs.into_iter(),
            run: None,
            left: 0,
        };
        cursor.next_run();
        cursor
    }

    fn next_run(&mut self) {
        self.run = self.runs.next();
        self.left = self.run.as_ref().and_then(|run| run.get("insert")).map_or(0, length);
    }

    /// Code units until the attributes may change; everything after the end.
    fn left(&self) -> usize {
        if self.left == 0 { usize::MAX } else { self.left }
    }

    fn take(&mut self, units: usize) {
        self.left = self.left.saturating_sub(units);
        if self.left == 0 {
            self.next_run();
        }
    }

    fn object(&self) -> Option<&Value> {
        self.run.as_ref()?.get("insert").filter(|insert| !insert.is_string())
    }

    fn attributes_if(&self, there: bool) -> Value {
        let attributes = self
            .run
            .as_ref()
            .filter(|_| there)
            .and_then(|run| run.get("attributes"));
        attributes.cloned().unwrap_or_default()
    }
}

/// A child of a rich text's node, with the id that it has in every version.
#[derive(Clone)]
pub(crate) struct Child {
    pub(crate) id: BranchID,
    pub(crate) node: XmlOut,
}

/// The children of a node.
pub(crate) fn children<T: ReadTxn>(parent: &XmlFragmentRef, txn: &T) -> Vec<Child> {
    parent
        .children(txn)
        .map(|node| Child {
            id: branch(&node).id(),
            node,
        })
        .collect()
}

/// The id of a type, which it has in every version.
pub(crate) fn branch_id(branch: &Branch) -> BranchID {
    branch.id()
}

fn branch(node: &XmlOut) -> &Branch {
    match node {
        XmlOut::Element(element) => element.as_ref(),
        XmlOut::Fragment(fragment) => fragment.as_ref(),
        XmlOut::Text(text) => text.as_ref(),
    }
}

/// A node's children, as those of the root.
pub(crate) fn as_parent(node: &XmlOut) -> XmlFragmentRef {
    XmlFragmentRef::from(BranchPtr::from(branch(node)))
}

/// The text of a text node.
pub(crate) fn text_hook(node: &XmlOut) -> Hook<TextRef> {
    TextRef::from(BranchPtr::from(branch(node))).hook()
}
