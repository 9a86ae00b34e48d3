//! Insertion, deletion and relocation of blocks of a rich text. Must stay within what admission accepts.

use serde_json::Value;
use weft_crdt::limits::TYPE_NESTING;
use weft_render::{Attributes, Place, PlaceError};
use yrs::{
    SharedRef as _, Text as _, TransactionMut, Xml as _, XmlElementPrelim, XmlElementRef, XmlFragment as _,
    XmlFragmentRef, XmlOut, XmlTextPrelim,
};

use super::super::load::Root;
use super::super::normal;
use super::{invalid, place, values};

fn fragment(root: &Root) -> Result<&XmlFragmentRef, PlaceError> {
    match root {
        Root::RichText(fragment) => Ok(fragment),
        Root::Text(_) | Root::Canvas(_) => Err(invalid("only a rich text has blocks")),
    }
}

/// Inserts a block, given in ProseMirror's JSON.
pub(super) fn insert(root: &Root, txn: &mut TransactionMut<'_>, path: &[u32], node: &Value) -> Result<(), PlaceError> {
    let (parent, index) = place::parent(fragment(root)?, txn, path)?;
    let depth = u32::try_from(path.len()).unwrap_or(u32::MAX);
    let levels = TYPE_NESTING.saturating_sub(depth);
    insert_node(&parent, txn, index, node, levels).map(drop)
}

pub(in crate::engine) fn insert_node<F: yrs::XmlFragment>(
    parent: &F,
    txn: &mut TransactionMut<'_>,
    index: u32,
    node: &Value,
    levels: u32,
) -> Result<XmlElementRef, PlaceError> {
    let levels = levels
        .checked_sub(1)
        .ok_or_else(|| invalid(format!("blocks are nested more than {TYPE_NESTING} deep")))?;
    let name = match node.get("type").and_then(Value::as_str) {
        Some(name) if !name.is_empty() && name != "text" => name,
        _ => return Err(invalid("a block needs a type, which is not text")),
    };
    let element = parent.insert(txn, index, XmlElementPrelim::empty(name));
    if let Some(attributes) = node.get("attrs") {
        let attributes = attributes
            .as_object()
            .ok_or_else(|| invalid("attrs is not an object"))?;
        for (key, value) in attributes {
            element.insert_attribute(txn, key.as_str(), values::any(value)?);
        }
    }
    let content = node
        .get("content")
        .map(|content| content.as_array().ok_or_else(|| invalid("content is not a list")));
    let mut texts = None;
    for child in content.transpose()?.into_iter().flatten() {
        if child.get("type").and_then(Value::as_str) == Some("text") {
            // Texts that follow each other are one text, as in an editor.
            let text = texts.get_or_insert_with(|| element.push_back(txn, XmlTextPrelim::new("")));
            let written = child
                .get("text")
                .and_then(Value::as_str)
                .ok_or_else(|| invalid("a text node has no text"))?;
            let (end, attributes) = (text.len(txn), marks(child)?);
            text.insert_with_attributes(txn, end, written, values::attributes(&attributes, true)?);
        } else {
            texts = None;
            let end = element.len(txn);
            insert_node(&element, txn, end, child, levels)?;
        }
    }
    Ok(element)
}

/// The attributes that a text's marks are written as.
fn marks(node: &Value) -> Result<Attributes, PlaceError> {
    let marks = node.get("marks").and_then(Value::as_array).into_iter().flatten();
    marks
        .map(|mark| {
            let name = mark
                .get("type")
                .and_then(Value::as_str)
                .ok_or_else(|| invalid("a mark has no type"))?;
            let attributes = mark.get("attrs").cloned().unwrap_or(Value::Bool(true));
            Ok((name.to_owned(), attributes))
        })
        .collect()
}

/// Deletes a block.
pub(super) fn delete(root: &Root, txn: &mut TransactionMut<'_>, place: &Place) -> Result<(), PlaceError> {
    let element = place::block(fragment(root)?, txn, place)?;
    remove(fragment(root)?, txn, &element)
}

fn remove(root: &XmlFragmentRef, txn: &mut TransactionMut<'_>, element: &XmlElementRef) -> Result<(), PlaceError> {
    let is_it = |child: &XmlOut| matches!(child, XmlOut::Element(child) if child == element);
    match element.parent() {
        Some(XmlOut::Element(parent)) => {
            let index = (0..)
                .zip(parent.children(txn))
                .find(|(_, child)| is_it(child))
                .map(|(index, _)| index);
            index.map(|index| parent.remove_range(txn, index, 1))
        }
        _ => {
            let index = (0..)
                .zip(root.children(txn))
                .find(|(_, child)| is_it(child))
                .map(|(index, _)| index);
            index.map(|index| root.remove_range(txn, index, 1))
        }
    }
    .ok_or_else(|| PlaceError::NoPlace {
        what: "block".to_owned(),
    })
}

/// Inserts a copy of a block at another place, and deletes it.
pub(super) fn relocate(root: &Root, txn: &mut TransactionMut<'_>, place: &Place, to: &[u32]) -> Result<(), PlaceError> {
    let element = place::block(fragment(root)?, txn, place)?;
    let hook = element.hook();
    let copy = normal::element(&element, txn).map_err(|reason| invalid(reason.to_string()))?;
    let element = hook.get(txn).ok_or_else(|| invalid("the block does not exist"))?;
    remove(fragment(root)?, txn, &element)?;
    insert(root, txn, to, &copy)
}
