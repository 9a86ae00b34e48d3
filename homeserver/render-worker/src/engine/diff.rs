//! The difference of two versions as runs of text. Values of a board are compared as values.

use std::collections::{BTreeSet, HashMap, HashSet};

use bytes::Bytes;
use serde_json::Value;
use weft_render::protocol::Answer;
use weft_render::{DiffRun, Difference, NotRendered, Path, RunKind};
use weft_wire::document::DocumentKind;
use weft_wire::limits::MAX_RENDER_DEPTH;
use yrs::branch::BranchID;
use yrs::{Map as _, MapRef, Out, SharedRef as _, Transact as _, XmlFragmentRef, XmlOut};

use super::canonical::canonical;
use super::compare::{ChangeKey, Child, Part, Presence, Versions, as_parent, children, grouped, text_hook};
use super::load::Root;
use super::node::Node;
use super::normal::{self, OBJECT};
use super::{EngineError, Parts, plain};

/// Compares two versions.
pub(crate) fn diff(kind: DocumentKind, from: &[u8], to: &[u8]) -> Result<(Answer, Parts), EngineError> {
    let difference = difference(&Versions::load(kind, from, to)?)?;
    Ok((Answer::Compared, [json(&difference), Bytes::new(), Bytes::new()]))
}

/// The difference as a part of an answer.
pub(crate) fn json(difference: &Difference) -> Bytes {
    serde_json::to_vec(difference).unwrap_or_default().into()
}

/// The difference of two versions.
pub(crate) fn difference(versions: &Versions) -> Result<Difference, NotRendered> {
    changes(versions).map(|(difference, _)| difference)
}

/// The same, with the changes by their numbers.
pub(crate) fn changes(versions: &Versions) -> Result<(Difference, Vec<ChangeKey>), NotRendered> {
    let mut found = Found {
        versions,
        runs: Vec::new(),
        changes: Vec::new(),
        numbers: HashMap::new(),
        within: None,
    };
    match (&versions.older.root, &versions.newer.root) {
        (_, Root::Text(text)) => found.text(&text.hook(), &[])?,
        (Root::RichText(older), Root::RichText(newer)) => found.children(older, newer, &[], MAX_RENDER_DEPTH)?,
        (Root::Canvas(older), Root::Canvas(newer)) => found.elements(older, newer)?,
        // Both versions were loaded with the same kind.
        _ => {}
    }
    Ok((Difference { runs: found.runs }, found.changes))
}

struct Found<'a> {
    versions: &'a Versions,
    runs: Vec<DiffRun>,
    changes: Vec<ChangeKey>,
    numbers: HashMap<ChangeKey, u32>,
    /// The change that everything is a part of: a node that is in one version.
    within: Option<ChangeKey>,
}

impl Found<'_> {
    /// The number of a change, or of the one around it.
    fn number(&mut self, change: ChangeKey) -> u32 {
        let change = self.within.clone().unwrap_or(change);
        if let Some(number) = self.numbers.get(&change) {
            return *number;
        }
        let number = u32::try_from(self.changes.len()).unwrap_or(u32::MAX);
        self.numbers.insert(change.clone(), number);
        self.changes.push(change);
        number
    }

    fn push(&mut self, run: DiffRun) {
        if let Some(last) = self.runs.last_mut()
            && last.kind == run.kind
            && last.path == run.path
            && last.client == run.client
            && last.attributes == run.attributes
            && last.change == run.change
            && last.clocks.map(|clocks| clocks.1) == run.clocks.map(|clocks| clocks.0)
            && !last.text.is_empty()
        {
            last.text.push_str(&run.text);
            last.clocks = last.clocks.zip(run.clocks).map(|(before, after)| (before.0, after.1));
            return;
        }
        self.runs.push(run);
    }

    fn text(&mut self, text: &yrs::Hook<yrs::TextRef>, path: &[Value]) -> Result<(), NotRendered> {
        for (group, part) in grouped(self.versions.align(text)?) {
            let kind = match part.presence {
                Presence::Newer => RunKind::Insert,
                Presence::Older => RunKind::Delete,
                Presence::Both if part.older == part.newer => RunKind::Equal,
                Presence::Both => RunKind::Format,
            };
            let length = part.length();
            let change = (kind != RunKind::Equal).then(|| self.number(ChangeKey::Text(text.id().clone(), group)));
            let Part {
                insert,
                id,
                older,
                newer,
                ..
            } = part;
            self.push(DiffRun {
                kind,
                path: path.to_vec(),
                text: insert.as_str().map_or_else(|| OBJECT.to_string(), str::to_owned),
                client: id.map(|(client, _)| client),
                clocks: id.map(|(_, clock)| (clock, clock.saturating_add(length))),
                attributes: (kind == RunKind::Format).then_some((older, newer)),
                change,
            });
        }
        Ok(())
    }

    /// Compares the children of a node. Those of both versions are in the same order: nodes are never moved.
    fn children(
        &mut self,
        older: &XmlFragmentRef,
        newer: &XmlFragmentRef,
        path: &[Value],
        levels: u32,
    ) -> Result<(), NotRendered> {
        let levels = levels.checked_sub(1).ok_or(NotRendered::TooDeep {
            limit: MAX_RENDER_DEPTH,
        })?;
        let before = children(older, &self.versions.older.doc.transact());
        let now = children(newer, &self.versions.newer.doc.transact());
        let ids: HashSet<&BranchID> = now.iter().map(|child| &child.id).collect();
        let mut before_left = (0_u32..).zip(&before).peekable();
        for (index, child) in (0_u32..).zip(&now) {
            while let Some((place, gone)) = before_left.next_if(|(_, child)| !ids.contains(&child.id)) {
                self.deleted(gone, path, place)?;
            }
            match before_left.next_if(|(_, before)| before.id == child.id) {
                Some((_, before)) => self.kept(before, child, path, index, levels)?,
                None => self.inserted(child, path, index, levels)?,
            }
        }
        before_left.try_for_each(|(place, gone)| match ids.contains(&gone.id) {
            true => Ok(()),
            false => self.deleted(gone, path, place),
        })
    }

    fn kept(
        &mut self,
        before: &Child,
        child: &Child,
        path: &[Value],
        index: u32,
        levels: u32,
    ) -> Result<(), NotRendered> {
        let (XmlOut::Element(older), XmlOut::Element(newer)) = (&before.node, &child.node) else {
            return self.text(&text_hook(&child.node), path);
        };
        let path = deeper(path, index.into());
        let attributes = (
            normal::attributes(older, &self.versions.older.doc.transact())?,
            normal::attributes(newer, &self.versions.newer.doc.transact())?,
        );
        if attributes.0 != attributes.1 {
            let change = self.number(ChangeKey::Attributes(child.id.clone()));
            let run = run(RunKind::Format, &path, String::new(), None);
            self.push(DiffRun {
                attributes: Some(attributes),
                change: Some(change),
                ..run
            });
        }
        self.children(&as_parent(&before.node), &as_parent(&child.node), &path, levels)
    }

    /// Whether this is the outermost node that is in one version.
    fn begin(&mut self, node: &Child) -> bool {
        let is_outermost = self.within.is_none();
        if is_outermost {
            self.within = Some(ChangeKey::Node(node.id.clone()));
        }
        is_outermost
    }

    fn inserted(&mut self, child: &Child, path: &[Value], index: u32, levels: u32) -> Result<(), NotRendered> {
        let is_outermost = self.begin(child);
        let pushed = self.inserted_within(child, path, index, levels);
        if is_outermost {
            self.within = None;
        }
        pushed
    }

    fn inserted_within(&mut self, child: &Child, path: &[Value], index: u32, levels: u32) -> Result<(), NotRendered> {
        let levels = levels.checked_sub(1).ok_or(NotRendered::TooDeep {
            limit: MAX_RENDER_DEPTH,
        })?;
        if matches!(child.node, XmlOut::Text(_)) {
            return self.text(&text_hook(&child.node), path);
        }
        let path = deeper(path, index.into());
        let change = self.number(ChangeKey::Node(child.id.clone()));
        self.push(DiffRun {
            change: Some(change),
            ..run(RunKind::Insert, &path, String::new(), Some(&child.id))
        });
        let inner = children(&as_parent(&child.node), &self.versions.newer.doc.transact());
        (0_u32..)
            .zip(&inner)
            .try_for_each(|(index, child)| self.inserted(child, &path, index, levels))
    }

    fn deleted(&mut self, child: &Child, path: &[Value], index: u32) -> Result<(), NotRendered> {
        match &child.node {
            XmlOut::Element(element) => {
                let node = normal::element(element, &self.versions.older.doc.transact())?;
                let text = plain::block_text(Node(&node));
                let change = self.number(ChangeKey::Node(child.id.clone()));
                self.push(DiffRun {
                    change: Some(change),
                    ..run(RunKind::Delete, &deeper(path, index.into()), text, Some(&child.id))
                });
                Ok(())
            }
            XmlOut::Text(_) | XmlOut::Fragment(_) => {
                self.begin(child);
                let pushed = self.text(&text_hook(&child.node), path);
                self.within = None;
                pushed
            }
        }
    }

    fn elements(&mut self, older: &MapRef, newer: &MapRef) -> Result<(), NotRendered> {
        let (before, now) = (self.versions.older.doc.transact(), self.versions.newer.doc.transact());
        let names: BTreeSet<&str> = older.keys(&before).chain(newer.keys(&now)).collect();
        for name in names {
            let path = vec![Value::from(name)];
            match (older.get(&before, name), newer.get(&now, name)) {
                (Some(Out::YMap(older)), Some(Out::YMap(newer))) => {
                    let keys: BTreeSet<&str> = older.keys(&before).chain(newer.keys(&now)).collect();
                    for key in keys {
                        let path = deeper(&path, key.into());
                        self.values(older.get(&before, key), newer.get(&now, key), &path)?;
                    }
                }
                (older, newer) => self.values(older, newer, &path)?,
            }
        }
        Ok(())
    }

    fn values(&mut self, older: Option<Out>, newer: Option<Out>, path: &[Value]) -> Result<(), NotRendered> {
        if let (Some(Out::YText(older)), Some(Out::YText(newer))) = (&older, &newer)
            && older.hook() == newer.hook()
        {
            return self.text(&newer.hook(), path);
        }
        let (before, now) = (self.versions.older.doc.transact(), self.versions.newer.doc.transact());
        let older = older.map(|out| normal::out(out, &before)).transpose()?;
        let newer = newer.map(|out| normal::out(out, &now)).transpose()?;
        if older == newer {
            return Ok(());
        }
        let names = path.iter().filter_map(Value::as_str).map(str::to_owned).collect();
        let change = Some(self.number(ChangeKey::Value(names)));
        for (kind, value) in [(RunKind::Delete, older), (RunKind::Insert, newer)] {
            if let Some(value) = value {
                self.push(DiffRun {
                    change,
                    ..run(kind, path, canonical(&value), None)
                });
            }
        }
        Ok(())
    }
}

fn deeper(path: &[Value], step: Value) -> Path {
    path.iter().cloned().chain([step]).collect()
}

/// A run; `node` is the node that was inserted or deleted.
fn run(kind: RunKind, path: &[Value], text: String, node: Option<&BranchID>) -> DiffRun {
    let id = node.and_then(|id| match id {
        BranchID::Nested(id) => Some(id),
        BranchID::Root(_) => None,
    });
    DiffRun {
        kind,
        path: path.to_vec(),
        text,
        client: id.map(|id| id.client.get()),
        clocks: id.map(|id| (id.clock, id.clock.saturating_add(1))),
        attributes: None,
        change: None,
    }
}
