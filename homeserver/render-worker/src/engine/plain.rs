//! Plain text of a rendered document: a line for each block; embedded objects are U+FFFC.

use serde_json::Value;

use super::node::{Node, Shape};
use super::normal::OBJECT;

/// The text of a rendered document.
pub(crate) fn text(document: &Value) -> String {
    if let Some(delta) = document.get("delta") {
        return delta_text(delta);
    }
    if let Some(doc) = document.get("doc") {
        return block_text(Node(doc));
    }
    element_texts(document).join("\n")
}

/// The text of the runs of a text.
pub(crate) fn delta_text(delta: &Value) -> String {
    let runs = delta.as_array().into_iter().flatten();
    runs.fold(String::new(), |mut text, run| {
        match run.get("insert") {
            Some(Value::String(insert)) => text.push_str(insert),
            _ => text.push(OBJECT),
        }
        text
    })
}

/// The texts of a board's elements, in the order of their ids.
pub(crate) fn element_texts(document: &Value) -> Vec<String> {
    let Some(elements) = document.get("elements").and_then(Value::as_object) else {
        return Vec::new();
    };
    let mut ids: Vec<&String> = elements.keys().collect();
    ids.sort_by(|a, b| a.encode_utf16().cmp(b.encode_utf16()));
    let texts = ids.into_iter().filter_map(|id| elements.get(id)?.get("text"));
    texts
        .map(|text| match text {
            Value::String(text) => text.clone(),
            delta => delta_text(delta),
        })
        .filter(|text| !text.is_empty())
        .collect()
}

/// The text of a block, a line for each block in it.
pub(crate) fn block_text(node: Node<'_>) -> String {
    let mut lines = Vec::new();
    collect_lines(node, &mut lines);
    lines.join("\n")
}

fn collect_lines(node: Node<'_>, lines: &mut Vec<String>) {
    if node.is_text_block() {
        lines.push(inline_text(node));
    } else {
        node.content().for_each(|child| collect_lines(child, lines));
    }
}

/// The text within a block.
pub(crate) fn inline_text(node: Node<'_>) -> String {
    let mut text = String::new();
    append_inline(node, &mut text);
    text
}

fn append_inline(node: Node<'_>, text: &mut String) {
    for child in node.content() {
        match child.shape() {
            Shape::Text => text.push_str(child.text()),
            Shape::Break => text.push('\n'),
            _ if child.content().next().is_some() => append_inline(child, text),
            _ if child.text().is_empty() => text.push(OBJECT),
            _ => text.push_str(child.text()),
        }
    }
}
