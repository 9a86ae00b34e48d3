//! The rendered document: one JSON value for each content, whatever the order of its updates (`spec/docs/rendering.md`).
//! All formats are made from it. Must not decide how it is written.

use serde_json::{Map as Object, Value, json};
use weft_render::NotRendered;
use weft_wire::limits::MAX_RENDER_DEPTH;
use yrs::types::Attrs;
use yrs::types::text::{Diff, YChange};
use yrs::{
    Any, Array as _, Map as _, Number, Out, ReadTxn, Snapshot, Text, TransactionMut, Xml as _, XmlElementRef,
    XmlFragment, XmlOut,
};

use super::load::Root;

/// Integers up to here are numbers in JavaScript (2^53 - 1).
const LARGEST_INTEGER: u64 = (1 << 53) - 1;
/// A character that stands for an embedded object.
pub(crate) const OBJECT: char = '\u{fffc}';

/// The rendered document.
pub(crate) fn document<T: ReadTxn>(root: &Root, txn: &T) -> Result<Value, NotRendered> {
    let depth = Depth::FULL;
    Ok(match root {
        Root::Text(text) => json!({"kind": "text", "delta": delta(text, txn, depth)?}),
        Root::RichText(fragment) => {
            let mut doc = json!({"type": "doc"});
            set_content(&mut doc, children(fragment, txn, depth)?);
            json!({"kind": "rich_text", "doc": doc})
        }
        Root::Canvas(map) => json!({"kind": "canvas", "elements": object(map, txn, depth)?}),
    })
}

/// The content of a node of a rich text.
pub(crate) fn content<T: ReadTxn>(parent: &yrs::XmlFragmentRef, txn: &T) -> Result<Vec<Value>, NotRendered> {
    children(parent, txn, Depth::FULL)
}

/// An element of a rich text as a node.
pub(crate) fn element<T: ReadTxn>(element: &XmlElementRef, txn: &T) -> Result<Value, NotRendered> {
    node(element, txn, Depth::FULL)
}

/// An element's attributes; null if it has none.
pub(crate) fn attributes<T: ReadTxn>(element: &XmlElementRef, txn: &T) -> Result<Value, NotRendered> {
    let mut node = node_without_content(element, txn, Depth::FULL)?;
    Ok(node.get_mut("attrs").map(Value::take).unwrap_or_default())
}

/// The runs of a text.
pub(crate) fn runs<T: ReadTxn>(text: &yrs::TextRef, txn: &T) -> Result<Vec<Value>, NotRendered> {
    delta(text, txn, Depth::FULL)
}

/// The runs of a text at a snapshot of its document; `None` if it has anything but strings, whose content at the snapshot the
/// engine does not give.
pub(crate) fn runs_at(
    text: &yrs::TextRef,
    txn: &mut TransactionMut<'_>,
    snapshot: &Snapshot,
) -> Result<Option<Vec<Value>>, NotRendered> {
    let diffs = text.diff_range(txn, Some(snapshot), None, YChange::identity);
    let is_string = |diff: &Diff<YChange>| matches!(diff.insert, Out::Any(Any::String(_)));
    if !diffs.iter().all(is_string) {
        return Ok(None);
    }
    joined(diffs, txn, Depth::FULL.deeper()?).map(Some)
}

/// Any value.
pub(crate) fn out<T: ReadTxn>(out: Out, txn: &T) -> Result<Value, NotRendered> {
    value(out, txn, Depth::FULL)
}

/// How many more levels are allowed.
#[derive(Clone, Copy)]
struct Depth(u32);

impl Depth {
    const FULL: Self = Self(MAX_RENDER_DEPTH);

    fn deeper(self) -> Result<Self, NotRendered> {
        match self.0.checked_sub(1) {
            Some(left) => Ok(Self(left)),
            None => Err(NotRendered::TooDeep {
                limit: MAX_RENDER_DEPTH,
            }),
        }
    }
}

fn object<T: ReadTxn>(map: &yrs::MapRef, txn: &T, depth: Depth) -> Result<Value, NotRendered> {
    let depth = depth.deeper()?;
    let mut entries = Object::new();
    for (key, out) in map.iter(txn) {
        entries.insert(key.to_owned(), value(out, txn, depth)?);
    }
    Ok(Value::Object(entries))
}

fn value<T: ReadTxn>(out: Out, txn: &T, depth: Depth) -> Result<Value, NotRendered> {
    Ok(match out {
        Out::Any(any) => plain_value(&any, depth)?,
        Out::YText(text) => text_value(&text, txn, depth)?,
        Out::YArray(array) => {
            let depth = depth.deeper()?;
            let items: Result<_, _> = array.iter(txn).map(|item| value(item, txn, depth)).collect();
            Value::Array(items?)
        }
        Out::YMap(map) => object(&map, txn, depth)?,
        Out::YXmlElement(element) => node(&element, txn, depth)?,
        Out::YXmlFragment(fragment) => Value::Array(children(&fragment, txn, depth)?),
        Out::YXmlText(text) => Value::Array(texts(&text, txn, depth)?),
        // Subdocuments are refused by admission; a type without a name has no content that an editor shows.
        Out::YDoc(_) | Out::UndefinedRef(_) => Value::Null,
    })
}

/// A text inside of another value: a string if it has no format and no objects.
fn text_value<T: ReadTxn>(text: &yrs::TextRef, txn: &T, depth: Depth) -> Result<Value, NotRendered> {
    let mut runs = delta(text, txn, depth)?;
    Ok(match runs.as_mut_slice() {
        [] => Value::String(String::new()),
        [run] if run.get("attributes").is_none() && run.get("insert").is_some_and(Value::is_string) => {
            run.get_mut("insert").map(Value::take).unwrap_or_default()
        }
        _ => Value::Array(runs),
    })
}

/// The runs of a text, in which neighbours differ in their attributes.
fn delta<X: Text, T: ReadTxn>(text: &X, txn: &T, depth: Depth) -> Result<Vec<Value>, NotRendered> {
    joined(text.diff(txn, YChange::identity), txn, depth.deeper()?)
}

fn joined<T: ReadTxn>(diffs: Vec<Diff<YChange>>, txn: &T, depth: Depth) -> Result<Vec<Value>, NotRendered> {
    let mut runs: Vec<Value> = Vec::new();
    for Diff { insert, attributes, .. } in diffs {
        let attributes = attributes
            .map(|attributes| attributes_value(&attributes, depth))
            .transpose()?;
        let insert = value(insert, txn, depth)?;
        if let Some(last) = runs.last_mut()
            && last.get("attributes") == attributes.as_ref()
            && append(last, "insert", &insert)
        {
            continue;
        }
        let mut run = json!({"insert": insert});
        if let Some(attributes) = attributes {
            set(&mut run, "attributes", attributes);
        }
        runs.push(run);
    }
    Ok(runs)
}

/// Appends a string to the string in a field; `false` if one of them is none.
fn append(run: &mut Value, field: &str, more: &Value) -> bool {
    match (run.get_mut(field), more) {
        (Some(Value::String(text)), Value::String(more)) => {
            text.push_str(more);
            true
        }
        _ => false,
    }
}

fn set(object: &mut Value, field: &str, value: Value) {
    if let Some(object) = object.as_object_mut() {
        object.insert(field.to_owned(), value);
    }
}

fn set_content(node: &mut Value, content: Vec<Value>) {
    if !content.is_empty() {
        set(node, "content", Value::Array(content));
    }
}

fn attributes_value(attributes: &Attrs, depth: Depth) -> Result<Value, NotRendered> {
    let mut entries = Object::new();
    for (key, any) in attributes {
        entries.insert(key.to_string(), plain_value(any, depth)?);
    }
    Ok(Value::Object(entries))
}

/// The child nodes of an element or of the root, in ProseMirror's JSON.
fn children<F: XmlFragment, T: ReadTxn>(parent: &F, txn: &T, depth: Depth) -> Result<Vec<Value>, NotRendered> {
    let depth = depth.deeper()?;
    let mut nodes: Vec<Value> = Vec::new();
    for child in parent.children(txn) {
        match child {
            XmlOut::Element(element) => nodes.push(node(&element, txn, depth)?),
            XmlOut::Fragment(fragment) => nodes.extend(children(&fragment, txn, depth)?),
            XmlOut::Text(text) => texts(&text, txn, depth)?
                .into_iter()
                .for_each(|text| push(&mut nodes, text)),
        }
    }
    Ok(nodes)
}

fn node<T: ReadTxn>(element: &XmlElementRef, txn: &T, depth: Depth) -> Result<Value, NotRendered> {
    let depth = depth.deeper()?;
    let mut node = node_without_content(element, txn, depth)?;
    set_content(&mut node, children(element, txn, depth)?);
    Ok(node)
}

fn node_without_content<T: ReadTxn>(element: &XmlElementRef, txn: &T, depth: Depth) -> Result<Value, NotRendered> {
    let name = element.try_tag().map_or("", |name| name);
    let mut node = json!({"type": name});
    let mut attributes = Object::new();
    for (key, out) in element.attributes(txn) {
        attributes.insert(key.to_owned(), value(out, txn, depth)?);
    }
    if !attributes.is_empty() {
        set(&mut node, "attrs", Value::Object(attributes));
    }
    Ok(node)
}

/// The text nodes of a text in a rich text.
fn texts<X: Text, T: ReadTxn>(text: &X, txn: &T, depth: Depth) -> Result<Vec<Value>, NotRendered> {
    let mut nodes = Vec::new();
    for mut run in delta(text, txn, depth)? {
        let insert = run.get_mut("insert").map(Value::take).unwrap_or_default();
        let mut node = match insert {
            Value::String(text) if text.is_empty() => continue,
            Value::String(text) => json!({"type": "text", "text": text}),
            // An element inside of a text is a node as it is.
            Value::Object(node) if node.get("type").is_some_and(Value::is_string) => Value::Object(node),
            other => json!({"type": "embed", "attrs": {"value": other}}),
        };
        let marks = marks(run.get("attributes"));
        if !marks.is_empty() {
            set(&mut node, "marks", Value::Array(marks));
        }
        push(&mut nodes, node);
    }
    Ok(nodes)
}

/// Appends a node; a text after a text with the same marks is part of it.
fn push(nodes: &mut Vec<Value>, node: Value) {
    if let Some(last) = nodes.last_mut() {
        let both_texts = [&*last, &node]
            .iter()
            .all(|node| node.get("type").and_then(Value::as_str) == Some("text"));
        if both_texts && last.get("marks") == node.get("marks") {
            if let Some(text) = node.get("text") {
                append(last, "text", text);
            }
            return;
        }
    }
    nodes.push(node);
}

/// The marks that a text's attributes stand for, sorted by the attribute's name.
fn marks(attributes: Option<&Value>) -> Vec<Value> {
    let Some(attributes) = attributes.and_then(Value::as_object) else {
        return Vec::new();
    };
    let mut names: Vec<&String> = attributes.keys().collect();
    names.sort_by(|a, b| a.encode_utf16().cmp(b.encode_utf16()));
    names
        .into_iter()
        .filter_map(|name| Some((name, attributes.get(name)?)))
        .map(|(name, value)| {
            let mut mark = json!({"type": mark_name(name)});
            match value {
                Value::Bool(true) => {}
                Value::Object(entries) if entries.is_empty() => {}
                Value::Object(_) => set(&mut mark, "attrs", value.clone()),
                other => set(&mut mark, "attrs", json!({"value": other})),
            }
            mark
        })
        .collect()
}

/// The name without the suffix that y-prosemirror gives to marks that may overlap: `--` and eight characters.
fn mark_name(name: &str) -> &str {
    match name.len().checked_sub(10).and_then(|at| name.split_at_checked(at)) {
        Some((mark, suffix)) if suffix.starts_with("--") && suffix.chars().skip(2).all(is_base64) => mark,
        _ => name,
    }
}

fn is_base64(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || matches!(letter, '+' | '/' | '=')
}

fn plain_value(any: &Any, depth: Depth) -> Result<Value, NotRendered> {
    let depth = depth.deeper()?;
    Ok(match any {
        Any::Null | Any::Undefined => Value::Null,
        Any::Bool(value) => Value::Bool(*value),
        Any::Number(number) => number_value(*number),
        Any::String(text) => Value::String(text.to_string()),
        Any::Buffer(bytes) => Value::String(base64::Engine::encode(
            &base64::engine::general_purpose::STANDARD_NO_PAD,
            bytes,
        )),
        Any::Array(items) => {
            let items: Result<_, _> = items.iter().map(|item| plain_value(item, depth)).collect();
            Value::Array(items?)
        }
        Any::Map(entries) => {
            let entries: Result<Object<_, _>, NotRendered> = entries
                .iter()
                .map(|(key, any)| Ok((key.clone(), plain_value(any, depth)?)))
                .collect();
            Value::Object(entries?)
        }
    })
}

fn number_value(number: Number) -> Value {
    match number {
        // A BigInt that JSON readers would round.
        Number::Int(integer) if integer.unsigned_abs() > LARGEST_INTEGER => Value::String(integer.to_string()),
        Number::Int(integer) => integer.into(),
        // NaN and infinity have no number in JSON.
        Number::Float(float) => serde_json::Number::from_f64(float).map_or(Value::Null, Value::Number),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_suffix_of_an_overlapping_mark_is_cut() {
        assert_eq!(mark_name("comment--ABCD+/9="), "comment");
        assert_eq!(mark_name("comment--ABCD"), "comment--ABCD");
        assert_eq!(mark_name("bold"), "bold");
        assert_eq!(mark_name("--ABCD+/9="), "");
        assert_eq!(mark_name("über--é12345é"), "über--é12345é");
    }
}
