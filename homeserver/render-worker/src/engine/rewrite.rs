//! Turns a document into another version of it by one new update: restores an earlier version, or accepts a suggestion. Only
//! what differs is written. Must not change the other version.

mod addresses;

use std::collections::{BTreeSet, HashSet};

use bytes::Bytes;
use serde_json::{Map as Object, Value};
use weft_crdt::limits::TYPE_NESTING;
use weft_render::protocol::Answer;
use weft_render::{Attributes, NotRendered, PlaceError, RunKind};
use weft_wire::document::DocumentKind;
use yrs::branch::BranchID;
use yrs::{
    Any, Hook, Map as _, MapPrelim, MapRef, Out, ReadTxn as _, SharedRef as _, StateVector, Text as _, TextPrelim,
    TextRef, Transact as _, TransactionMut, Xml as _, XmlElementRef, XmlFragment as _, XmlFragmentRef, XmlOut,
    XmlTextPrelim,
};

use self::addresses::Addresses;
use super::compare::{ChangeKey, Child, Presence, Versions, as_parent, children, grouped, text_hook};
use super::edit::{self, blocks, values};
use super::load::{Loaded, Root};
use super::{EngineError, Parts, diff, normal};

/// The edit that restores `target`, an earlier version.
pub(crate) fn restore(
    kind: DocumentKind,
    client: u64,
    state: &[u8],
    target: &[u8],
) -> Result<(Answer, Parts), EngineError> {
    let versions = Versions::load(kind, target, state)?;
    let none = Addresses::default();
    let update = rewritten(kind, client, state, &versions, (Presence::Older, None, &none))?;
    let conflicts = Vec::new();
    Ok((
        Answer::Edited { conflicts },
        [update.into(), Bytes::new(), Bytes::new()],
    ))
}

/// The edit that has the effect of a suggestion, or some of its changes, and the whole effect. The third part has other addresses for
/// `mxc` URIs.
pub(crate) fn apply(
    kind: DocumentKind,
    client: u64,
    only: Option<&BTreeSet<u32>>,
    [state, suggestion, addresses]: [&[u8]; 3],
) -> Result<(Answer, Parts), EngineError> {
    let addresses = Addresses::read(addresses).map_err(refused)?;
    let suggested = {
        let copy = Loaded::read(kind, state)?;
        copy.apply(suggestion)?;
        copy.doc.transact().encode_state_as_update_v1(&StateVector::default())
    };
    let versions = Versions::load(kind, state, &suggested)?;
    let (difference, changes) = diff::changes(&versions)?;
    let only = only.map(|only| {
        let numbered = (0_u32..).zip(changes);
        numbered
            .filter(|(number, _)| only.contains(number))
            .map(|(_, change)| change)
            .collect()
    });
    let applies = difference.runs.iter().any(|run| run.kind != RunKind::Equal);
    let wanted = (Presence::Newer, only.as_ref(), &addresses);
    let update = rewritten(kind, client, state, &versions, wanted)?;
    let parts = [update.into(), diff::json(&difference), Bytes::new()];
    Ok((Answer::Applied { applies }, parts))
}

/// The update that turns `state`, one of the versions, into the other one: that of `wanted`. With `only`, as far as these changes.
fn rewritten(
    kind: DocumentKind,
    client: u64,
    state: &[u8],
    versions: &Versions,
    (wanted, only, addresses): (Presence, Option<&HashSet<ChangeKey>>, &Addresses),
) -> Result<Vec<u8>, EngineError> {
    edit::check_client(client)?;
    let written = Loaded::with_client(kind, state, client, false)?;
    edit::unused(&written, client)?;
    let target = if wanted == Presence::Older {
        &versions.older
    } else {
        &versions.newer
    };
    let rewrite = Rewrite {
        versions,
        target,
        wanted,
        only,
        addresses,
    };
    let mut txn = written.doc.transact_mut();
    match (&written.root, &target.root) {
        (Root::Text(text), _) => rewrite.text(text, &mut txn)?,
        (Root::RichText(written), Root::RichText(wanted)) => {
            rewrite.children(written, wanted, &mut txn, TYPE_NESTING)?
        }
        (Root::Canvas(written), Root::Canvas(wanted)) => {
            rewrite.map(written, wanted, &mut txn, (TYPE_NESTING, None))?
        }
        // Both were loaded with the same kind.
        _ => {}
    }
    Ok(txn.encode_update_v1())
}

#[derive(Clone, Copy)]
struct Rewrite<'a> {
    versions: &'a Versions,
    target: &'a Loaded,
    wanted: Presence,
    /// The changes to make; `None`: all.
    only: Option<&'a HashSet<ChangeKey>>,
    addresses: &'a Addresses,
}

fn refused(error: PlaceError) -> EngineError {
    edit::refused(0, error)
}

fn too_deep() -> EngineError {
    NotRendered::TooDeep { limit: TYPE_NESTING }.into()
}

impl Rewrite<'_> {
    /// The same with all changes, for what is within a change.
    const fn whole(self) -> Self {
        Self { only: None, ..self }
    }

    fn makes(&self, change: &ChangeKey) -> bool {
        self.only.is_none_or(|only| only.contains(change))
    }

    /// Rewrites a text that is in both versions. Text between parts that stay is rewritten as far as it differs.
    fn text(&self, text: &TextRef, txn: &mut TransactionMut<'_>) -> Result<(), EngineError> {
        let parts = self.versions.align(&text.hook())?;
        let parts = grouped(self.addresses.of_parts(parts, self.wanted));
        let mut at = 0;
        let mut gap = Gap::default();
        for (group, part) in &parts {
            let is_made = self.makes(&ChangeKey::Text(text.hook().id().clone(), *group));
            let (present, target) = match self.wanted {
                Presence::Older => (&part.newer, &part.older),
                _ => (&part.older, &part.newer),
            };
            if part.presence == Presence::Both {
                at = std::mem::take(&mut gap).close(text, txn, at)?;
                let changes = changed(present, target);
                if is_made && !changes.is_empty() {
                    let attributes = values::attributes(&changes, false).map_err(refused)?;
                    text.format(txn, at, part.length(), attributes);
                }
                at += part.length();
            } else if !is_made {
                // Parts of one group are all made or none is, so nothing is in the gap.
                at += if part.presence == self.wanted { 0 } else { part.length() };
            } else if part.presence == self.wanted {
                gap.target.extend(cells(&part.insert, target));
            } else {
                gap.present.extend(cells(&part.insert, present));
            }
        }
        gap.close(text, txn, at).map(drop)
    }

    /// Rewrites the children of a node that is in both versions. The nodes of both versions have the same order.
    fn children(
        &self,
        parent: &XmlFragmentRef,
        target: &XmlFragmentRef,
        txn: &mut TransactionMut<'_>,
        levels: u32,
    ) -> Result<(), EngineError> {
        let levels = levels.checked_sub(1).ok_or_else(too_deep)?;
        // Copies that an earlier restoration made have other ids and the same content.
        if normal::content(parent, txn)? == normal::content(target, &self.target.doc.transact())? {
            return Ok(());
        }
        let wanted = children(target, &self.target.doc.transact());
        let ids: HashSet<&BranchID> = wanted.iter().map(|child| &child.id).collect();
        let present = children(parent, txn);
        let mut index = parent.len(txn);
        for child in present.iter().rev() {
            index = index.saturating_sub(1);
            if !ids.contains(&child.id) && self.makes(&ChangeKey::Node(child.id.clone())) {
                parent.remove_range(txn, index, 1);
            }
        }
        let mut index = 0;
        for child in &wanted {
            let mut node = parent.get(txn, index);
            // Nodes that the target does not have stay where they are.
            while self.only.is_some()
                && let Some(other) = node.as_ref().and_then(|node| id(node, txn))
                && !ids.contains(&other)
            {
                index += 1;
                node = parent.get(txn, index);
            }
            match node {
                Some(node) if id(&node, txn) == Some(child.id.clone()) => self.kept(&node, child, txn, levels)?,
                _ if self.makes(&ChangeKey::Node(child.id.clone())) => {
                    self.copied(parent, child, txn, index, levels)?;
                }
                _ => continue,
            }
            index += 1;
        }
        Ok(())
    }

    fn kept(
        &self,
        node: &XmlOut,
        target: &Child,
        txn: &mut TransactionMut<'_>,
        levels: u32,
    ) -> Result<(), EngineError> {
        match (node, &target.node) {
            (XmlOut::Element(written), XmlOut::Element(wanted)) => {
                let now = normal::attributes(written, txn)?;
                let then = normal::attributes(wanted, &self.target.doc.transact())?;
                if self.makes(&ChangeKey::Attributes(target.id.clone())) {
                    self.attributes(written, &now, &then, txn)?;
                }
                self.children(&as_parent(node), &as_parent(&target.node), txn, levels)
            }
            (XmlOut::Text(_), _) => match text_hook(node).get(txn) {
                Some(text) => self.text(&text, txn),
                None => Ok(()),
            },
            _ => Ok(()),
        }
    }

    fn attributes(
        &self,
        element: &XmlElementRef,
        now: &Value,
        then: &Value,
        txn: &mut TransactionMut<'_>,
    ) -> Result<(), EngineError> {
        let empty = Object::new();
        let (now, then) = (now.as_object().unwrap_or(&empty), then.as_object().unwrap_or(&empty));
        for key in now.keys().filter(|key| !then.contains_key(*key)) {
            element.remove_attribute(txn, key);
        }
        for (key, value) in then.iter().filter(|(key, value)| now.get(*key) != Some(*value)) {
            let value = self.addresses.of(value.clone());
            element.insert_attribute(txn, key.as_str(), values::any(&value).map_err(refused)?);
        }
        Ok(())
    }

    /// Inserts a copy of a node that only the other version has.
    fn copied(
        &self,
        parent: &XmlFragmentRef,
        child: &Child,
        txn: &mut TransactionMut<'_>,
        index: u32,
        levels: u32,
    ) -> Result<(), EngineError> {
        match &child.node {
            XmlOut::Element(element) => {
                let node = self
                    .addresses
                    .of(normal::element(element, &self.target.doc.transact())?);
                blocks::insert_node(parent, txn, index, &node, levels).map_err(refused)?;
            }
            XmlOut::Text(_) => {
                let runs = {
                    let target = self.target.doc.transact();
                    let text = text_hook(&child.node).get(&target);
                    text.map_or(Ok(Vec::new()), |text| normal::runs(&text, &target))?
                };
                let text = parent.insert(txn, index, XmlTextPrelim::new(""));
                let text = edit::place::plain(&text);
                for run in runs {
                    let run = self.addresses.of(run);
                    let end = text.len(txn);
                    let attributes = run.get("attributes").unwrap_or(&Value::Null);
                    insert(&text, txn, end, run.get("insert").unwrap_or(&Value::Null), attributes)?;
                }
            }
            XmlOut::Fragment(_) => {}
        }
        Ok(())
    }

    /// Rewrites a map: the board, or an element of this name.
    fn map(
        &self,
        written: &MapRef,
        target: &MapRef,
        txn: &mut TransactionMut<'_>,
        (levels, element): (u32, Option<&str>),
    ) -> Result<(), EngineError> {
        let levels = levels.checked_sub(1).ok_or_else(too_deep)?;
        let wanted: Vec<(String, Out)> = {
            let target_txn = self.target.doc.transact();
            target
                .iter(&target_txn)
                .map(|(key, out)| (key.to_owned(), out))
                .collect()
        };
        let keys: BTreeSet<&str> = wanted.iter().map(|(key, _)| key.as_str()).collect();
        let present: Vec<String> = written.keys(txn).map(str::to_owned).collect();
        for key in present.iter().filter(|key| !keys.contains(key.as_str())) {
            if self.makes(&value_of(element, key)) {
                written.remove(txn, key);
            }
        }
        for (key, out) in wanted {
            self.entry(written, (element, &key), out, txn, levels)?;
        }
        Ok(())
    }

    fn entry(
        &self,
        written: &MapRef,
        (element, key): (Option<&str>, &str),
        wanted: Out,
        txn: &mut TransactionMut<'_>,
        levels: u32,
    ) -> Result<(), EngineError> {
        let present = written.get(txn, key);
        match (present, &wanted) {
            (Some(Out::YText(present)), Out::YText(wanted)) if present.hook() == wanted.hook() => {
                return self.text(&present, txn);
            }
            (Some(Out::YMap(present)), Out::YMap(wanted)) if element.is_none() => {
                return self.map(&present, wanted, txn, (levels, Some(key)));
            }
            _ if !self.makes(&value_of(element, key)) => return Ok(()),
            (Some(Out::YMap(present)), Out::YMap(wanted)) => {
                return self.whole().map(&present, wanted, txn, (levels, Some(key)));
            }
            (None, Out::YMap(wanted)) => {
                let present = written.insert(txn, key, MapPrelim::default());
                return self.whole().map(&present, wanted, txn, (levels, Some(key)));
            }
            (Some(present), _) => {
                let value = normal::out(wanted.clone(), &self.target.doc.transact())?;
                if normal::out(present, txn)? == value {
                    return Ok(());
                }
            }
            (None, _) => {}
        }
        let value = self
            .addresses
            .of(normal::out(wanted.clone(), &self.target.doc.transact())?);
        match (wanted, value) {
            (Out::YText(_), Value::String(text)) => drop(written.insert(txn, key, TextPrelim::new(text))),
            (_, value) => drop(written.insert(txn, key, values::any(&value).map_err(refused)?)),
        }
        Ok(())
    }
}

/// A value of a board, or of an element.
fn value_of(element: Option<&str>, key: &str) -> ChangeKey {
    ChangeKey::Value(element.into_iter().chain([key]).map(str::to_owned).collect())
}

/// What follows a part that stays: the cells that are there, and those that shall be.
#[derive(Default)]
struct Gap<'a> {
    present: Vec<Cell<'a>>,
    target: Vec<Cell<'a>>,
}

/// A code unit or an object, with its attributes.
#[derive(Clone, Copy, PartialEq)]
struct Cell<'a> {
    content: Content<'a>,
    attributes: &'a Value,
}

#[derive(Clone, Copy, PartialEq)]
enum Content<'a> {
    Unit(u16),
    Object(&'a Value),
}

impl Cell<'_> {
    fn is_half(&self, range: std::ops::Range<u16>) -> bool {
        matches!(self.content, Content::Unit(unit) if range.contains(&unit))
    }
}

fn cells<'a>(insert: &'a Value, attributes: &'a Value) -> Vec<Cell<'a>> {
    let cell = |content| Cell { content, attributes };
    match insert {
        Value::String(text) => text.encode_utf16().map(|unit| cell(Content::Unit(unit))).collect(),
        object => vec![cell(Content::Object(object))],
    }
}

impl Gap<'_> {
    /// Makes the cells those of the target. Returns the position after them.
    fn close(self, text: &TextRef, txn: &mut TransactionMut<'_>, at: u32) -> Result<u32, EngineError> {
        let Self { present, target } = self;
        let number = |length: usize| u32::try_from(length).unwrap_or(u32::MAX);
        let end = at + number(target.len());
        let mut before = present.iter().zip(&target).take_while(|(a, b)| a == b).count();
        while before
            .checked_sub(1)
            .and_then(|last| present.get(last))
            .is_some_and(|cell| cell.is_half(0xd800..0xdc00))
        {
            before -= 1;
        }
        let (mut old, mut new) = (
            present.get(before..).unwrap_or_default(),
            target.get(before..).unwrap_or_default(),
        );
        while let (Some((a, old_rest)), Some((b, new_rest))) = (old.split_last(), new.split_last()) {
            if a != b {
                break;
            }
            (old, new) = (old_rest, new_rest);
        }
        // The same low half may follow different high halves.
        let cut = old
            .last()
            .or(new.last())
            .is_some_and(|cell| cell.is_half(0xd800..0xdc00));
        if cut {
            old = present.get(before..).unwrap_or_default();
            new = target.get(before..).unwrap_or_default();
        }
        let at = at + number(before);
        if !old.is_empty() {
            text.remove_range(txn, at, number(old.len()));
        }
        let mut place = at;
        let is_text = |cell: &Cell<'_>| matches!(cell.content, Content::Unit(_));
        for run in new.chunk_by(|a, b| is_text(a) && is_text(b) && a.attributes == b.attributes) {
            let units: Vec<u16> = run
                .iter()
                .filter_map(|cell| match cell.content {
                    Content::Unit(unit) => Some(unit),
                    Content::Object(_) => None,
                })
                .collect();
            let Some(first) = run.first() else { continue };
            let inserted = match first.content {
                Content::Object(object) => object.clone(),
                Content::Unit(_) => Value::String(String::from_utf16_lossy(&units)),
            };
            insert(text, txn, place, &inserted, first.attributes)?;
            place += number(run.len());
        }
        Ok(end)
    }
}

/// The id of a node, if it is one of the document and not a new copy.
fn id(node: &XmlOut, txn: &TransactionMut<'_>) -> Option<BranchID> {
    let hook: Hook<TextRef> = text_hook(node);
    hook.get(txn).map(|_| hook.id().clone())
}

/// Inserts text or an object with exactly these attributes.
fn insert(
    text: &TextRef,
    txn: &mut TransactionMut<'_>,
    at: u32,
    insert: &Value,
    attributes: &Value,
) -> Result<(), EngineError> {
    let attributes = attributes.as_object().cloned().unwrap_or_default();
    let attributes = values::attributes(&attributes, false).map_err(refused)?;
    match insert {
        Value::String(inserted) => text.insert_with_attributes(txn, at, inserted, attributes),
        object => {
            let object: Any = values::any(object).map_err(refused)?;
            text.insert_embed_with_attributes(txn, at, object, attributes);
        }
    }
    Ok(())
}

/// The attributes to set so that `now` becomes `then`; null removes one.
fn changed(now: &Value, then: &Value) -> Attributes {
    let empty = Object::new();
    let (now, then) = (now.as_object().unwrap_or(&empty), then.as_object().unwrap_or(&empty));
    let removed = now
        .keys()
        .filter(|key| !then.contains_key(*key))
        .map(|key| (key.clone(), Value::Null));
    let set = then.iter().filter(|(key, value)| now.get(*key) != Some(*value));
    removed
        .chain(set.map(|(key, value)| (key.clone(), value.clone())))
        .collect()
}
