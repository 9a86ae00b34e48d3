//! Finds the text, block or element that a change names. Must not change the document, except in [`Later::perform`].

use serde_json::Value;
use weft_render::{Place, PlaceError};
use weft_wire::limits::MAX_RENDER_DEPTH;
use yrs::branch::{Branch, BranchPtr};
use yrs::types::Attrs;
use yrs::{
    Any, Hook, Map as _, MapPrelim, MapRef, Out, ReadTxn, SharedRef as _, Text as _, TextRef, TransactionMut, Xml as _,
    XmlElementPrelim, XmlElementRef, XmlFragment as _, XmlFragmentRef, XmlOut, XmlTextPrelim, XmlTextRef,
};

use super::super::load::Root;
use super::text::Block;
use super::{invalid, values};

/// The key of a board's text.
const TEXT: &str = "text";

fn no(what: impl Into<String>) -> PlaceError {
    PlaceError::NoPlace { what: what.into() }
}

/// The text that a change names.
pub(in crate::engine) fn text<T: ReadTxn>(root: &Root, txn: &T, place: &Place) -> Result<Block, PlaceError> {
    match root {
        Root::Text(text) if *place == Place::default() => Ok(Block::Text(text.clone())),
        Root::Text(_) => Err(invalid("a text has no blocks and no elements")),
        Root::RichText(fragment) => Ok(Block::Rich(block(fragment, txn, place)?)),
        Root::Canvas(map) => Ok(Block::Text(element_text(map, txn, place)?)),
    }
}

/// The texts that a search covers.
pub(super) fn searched<T: ReadTxn>(root: &Root, txn: &T, place: &Place) -> Result<Vec<Block>, PlaceError> {
    match root {
        Root::RichText(fragment) if *place == Place::default() => {
            let mut blocks = Vec::new();
            text_blocks(fragment, txn, MAX_RENDER_DEPTH, &mut blocks)?;
            Ok(blocks)
        }
        _ => Ok(vec![text(root, txn, place)?]),
    }
}

fn text_blocks<T: ReadTxn, F: yrs::XmlFragment>(
    parent: &F,
    txn: &T,
    levels: u32,
    found: &mut Vec<Block>,
) -> Result<(), PlaceError> {
    let levels = levels
        .checked_sub(1)
        .ok_or_else(|| invalid("the document is nested too deeply"))?;
    for child in parent.children(txn) {
        if let XmlOut::Element(element) = child {
            if element.children(txn).any(|child| matches!(child, XmlOut::Text(_))) {
                found.push(Block::Rich(element));
            } else {
                text_blocks(&element, txn, levels, found)?;
            }
        }
    }
    Ok(())
}

/// The block of a rich text that a change names.
pub(in crate::engine) fn block<T: ReadTxn>(
    root: &XmlFragmentRef,
    txn: &T,
    place: &Place,
) -> Result<XmlElementRef, PlaceError> {
    match place {
        Place {
            path: Some(path),
            block: None,
            element: None,
            key: None,
        } => by_path(root, txn, path),
        Place {
            path: None,
            block: Some(id),
            element: None,
            key: None,
        } => by_id(root, txn, id, MAX_RENDER_DEPTH)?.ok_or_else(|| no(format!("block {id:?}"))),
        _ => Err(invalid("a block is named by path or by block")),
    }
}

fn by_path<T: ReadTxn>(root: &XmlFragmentRef, txn: &T, path: &[u32]) -> Result<XmlElementRef, PlaceError> {
    let missing = || no(format!("block {path:?}"));
    let mut found: Option<XmlElementRef> = None;
    for index in path {
        let child = match &found {
            None => root.get(txn, *index),
            Some(element) => element.get(txn, *index),
        };
        match child {
            Some(XmlOut::Element(element)) => found = Some(element),
            _ => return Err(missing()),
        }
    }
    found.ok_or_else(missing)
}

fn by_id<T: ReadTxn, F: yrs::XmlFragment>(
    parent: &F,
    txn: &T,
    id: &str,
    levels: u32,
) -> Result<Option<XmlElementRef>, PlaceError> {
    let levels = levels
        .checked_sub(1)
        .ok_or_else(|| invalid("the document is nested too deeply"))?;
    for child in parent.children(txn) {
        let XmlOut::Element(element) = child else { continue };
        if matches!(element.get_attribute(txn, "id"), Some(Out::Any(Any::String(found))) if &*found == id) {
            return Ok(Some(element));
        }
        if let Some(found) = by_id(&element, txn, id, levels)? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// The parent of a path, as an element or the root, and the index in it.
pub(super) fn parent<T: ReadTxn>(
    root: &XmlFragmentRef,
    txn: &T,
    path: &[u32],
) -> Result<(XmlFragmentRef, u32), PlaceError> {
    let (index, above) = path.split_last().ok_or_else(|| invalid("the path is empty"))?;
    let parent = if above.is_empty() {
        root.clone()
    } else {
        let element = by_path(root, txn, above)?;
        XmlFragmentRef::from(BranchPtr::from(AsRef::<Branch>::as_ref(&element)))
    };
    let end = parent.len(txn);
    if *index > end {
        return Err(PlaceError::Range {
            from: *index,
            to: *index,
            end,
        });
    }
    Ok((parent, *index))
}

/// The element of a board that a change names.
pub(in crate::engine) fn element_name(place: &Place) -> Result<&str, PlaceError> {
    match place {
        Place {
            path: None,
            block: None,
            element: Some(element),
            ..
        } => Ok(element),
        _ => Err(invalid("in a board a place is an element")),
    }
}

fn element_text<T: ReadTxn>(map: &MapRef, txn: &T, place: &Place) -> Result<TextRef, PlaceError> {
    let name = element_name(place)?;
    let Some(Out::YMap(element)) = map.get(txn, name) else {
        return Err(no(format!("element {name:?}")));
    };
    let key = place.key.as_deref().unwrap_or(TEXT);
    match element.get(txn, key) {
        Some(Out::YText(text)) => Ok(text),
        Some(_) => Err(invalid(format!("{key:?} is not a shared text; use set"))),
        None => Err(no(format!("key {key:?}"))),
    }
}

/// A change that is made in the present document.
pub(super) enum Later {
    AppendText(Hook<TextRef>, String),
    AppendToBlock(Hook<XmlElementRef>, String),
    AppendParagraph(String),
    SetAttribute(Hook<XmlElementRef>, String, Any),
    UnsetAttribute(Hook<XmlElementRef>, String),
    SetKey { element: String, key: String, value: Any },
    UnsetKey { element: String, key: Option<String> },
}

impl Later {
    pub(super) fn append<T: ReadTxn>(root: &Root, txn: &T, place: &Place, text: String) -> Result<Self, PlaceError> {
        match (root, self::text(root, txn, place)) {
            (Root::RichText(_), _) if *place == Place::default() => Ok(Self::AppendParagraph(text)),
            (_, Ok(Block::Text(found))) => Ok(Self::AppendText(found.hook(), text)),
            (_, Ok(Block::Rich(element))) => Ok(Self::AppendToBlock(element.hook(), text)),
            (_, Err(error)) => Err(error),
        }
    }

    pub(super) fn set<T: ReadTxn>(
        root: &Root,
        txn: &T,
        place: &Place,
        key: String,
        value: &Value,
    ) -> Result<Self, PlaceError> {
        let value = values::any(value)?;
        match root {
            Root::Text(_) => Err(invalid("a text has no keys")),
            Root::RichText(fragment) => Ok(Self::SetAttribute(block(fragment, txn, place)?.hook(), key, value)),
            Root::Canvas(_) => Ok(Self::SetKey {
                element: element_name(place)?.to_owned(),
                key,
                value,
            }),
        }
    }

    pub(super) fn unset<T: ReadTxn>(
        root: &Root,
        txn: &T,
        place: &Place,
        key: Option<String>,
    ) -> Result<Self, PlaceError> {
        match (root, key) {
            (Root::Text(_), _) => Err(invalid("a text has no keys")),
            (Root::RichText(_), None) => Err(invalid("unset needs a key; a block is deleted with deleteBlock")),
            (Root::RichText(fragment), Some(key)) => Ok(Self::UnsetAttribute(block(fragment, txn, place)?.hook(), key)),
            (Root::Canvas(_), key) => {
                let element = element_name(place)?.to_owned();
                Ok(Self::UnsetKey { element, key })
            }
        }
    }

    /// Makes the change. `false`: its block or element no longer exists.
    pub(super) fn perform(self, root: &Root, txn: &mut TransactionMut<'_>) -> Result<bool, PlaceError> {
        match (self, root) {
            (Self::AppendText(hook, text), _) => Ok(hook.get(txn).map(|found| append(&found, txn, &text)).is_some()),
            (Self::AppendToBlock(hook, text), _) => {
                Ok(hook.get(txn).map(|element| append_to(&element, txn, &text)).is_some())
            }
            (Self::AppendParagraph(text), Root::RichText(fragment)) => {
                let paragraph = fragment.push_back(txn, XmlElementPrelim::empty("paragraph"));
                paragraph.push_back(txn, XmlTextPrelim::new(text));
                Ok(true)
            }
            (Self::SetAttribute(hook, key, value), _) => Ok(hook
                .get(txn)
                .map(|element| element.insert_attribute(txn, key, value))
                .is_some()),
            (Self::UnsetAttribute(hook, key), _) => Ok(hook
                .get(txn)
                .map(|element| element.remove_attribute(txn, &key))
                .is_some()),
            (Self::SetKey { element, key, value }, Root::Canvas(map)) => {
                let found = match map.get(txn, &element) {
                    Some(Out::YMap(found)) => found,
                    Some(_) => return Err(invalid(format!("element {element:?} is not a map"))),
                    None => map.insert(txn, element, MapPrelim::default()),
                };
                found.insert(txn, key, value);
                Ok(true)
            }
            (Self::UnsetKey { element, key }, Root::Canvas(map)) => Ok(match (map.get(txn, &element), key) {
                (None, _) => false,
                (Some(_), None) => map.remove(txn, &element).is_some(),
                (Some(Out::YMap(found)), Some(key)) => found.remove(txn, &key).is_some(),
                (Some(_), Some(_)) => return Err(invalid(format!("element {element:?} is not a map"))),
            }),
            (Self::AppendParagraph(_) | Self::SetKey { .. } | Self::UnsetKey { .. }, _) => {
                Err(invalid("not possible in a document of this kind"))
            }
        }
    }
}

fn append(text: &TextRef, txn: &mut TransactionMut<'_>, more: &str) {
    let end = text.len(txn);
    // Without the format of the character before.
    text.insert_with_attributes(txn, end, more, Attrs::new());
}

fn append_to(element: &XmlElementRef, txn: &mut TransactionMut<'_>, more: &str) {
    let last = element
        .len(txn)
        .checked_sub(1)
        .and_then(|index| element.get(txn, index));
    match last {
        Some(XmlOut::Text(text)) => append(&plain(&text), txn, more),
        _ => drop(element.push_back(txn, XmlTextPrelim::new(more))),
    }
}

/// The same text as the type of plain texts, which have the same operations.
pub(in crate::engine) fn plain(text: &XmlTextRef) -> TextRef {
    TextRef::from(BranchPtr::from(AsRef::<Branch>::as_ref(text)))
}
