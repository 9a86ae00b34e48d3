//! A node of a rendered rich text, by the names that TipTap, ProseMirror's examples and BlockNote use. Must not write.

use serde_json::Value;

/// What a node is shown as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    Text,
    Paragraph,
    Heading(u8),
    BulletList,
    OrderedList,
    ListItem,
    TaskList,
    /// An item of a task list, done or not.
    TaskItem(bool),
    /// BlockNote's list items are blocks without a list around them.
    BulletBlock,
    NumberBlock,
    Quote,
    Code,
    Rule,
    Break,
    Image,
    Table,
    Row,
    Cell,
    HeaderCell,
    /// Has no appearance of its own: only the content is shown.
    Other,
}

/// A node.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Node<'a>(pub(crate) &'a Value);

impl<'a> Node<'a> {
    pub(crate) fn shape(self) -> Shape {
        let name = self.0.get("type").and_then(Value::as_str).unwrap_or_default();
        let name: String = name.chars().filter(|letter| *letter != '_' && *letter != '-').collect();
        match name.to_ascii_lowercase().as_str() {
            "text" => Shape::Text,
            "paragraph" | "p" => Shape::Paragraph,
            "heading" => Shape::Heading(self.level()),
            "bulletlist" | "ul" => Shape::BulletList,
            "orderedlist" | "ol" => Shape::OrderedList,
            "listitem" | "li" => Shape::ListItem,
            "tasklist" => Shape::TaskList,
            "taskitem" | "checklistitem" => Shape::TaskItem(self.attribute("checked").is_some_and(is_true)),
            "bulletlistitem" => Shape::BulletBlock,
            "numberedlistitem" => Shape::NumberBlock,
            "blockquote" | "quote" => Shape::Quote,
            "codeblock" => Shape::Code,
            "horizontalrule" | "hr" | "divider" => Shape::Rule,
            "hardbreak" | "br" => Shape::Break,
            "image" | "img" => Shape::Image,
            "table" => Shape::Table,
            "tablerow" | "tr" => Shape::Row,
            "tablecell" | "td" => Shape::Cell,
            "tableheader" | "th" => Shape::HeaderCell,
            _ => Shape::Other,
        }
    }

    fn level(self) -> u8 {
        let level = self.attribute("level").and_then(|level| match level {
            Value::String(text) => text.parse().ok(),
            other => other.as_u64(),
        });
        u8::try_from(level.unwrap_or(1).clamp(1, 6)).unwrap_or(1)
    }

    pub(crate) fn attribute(self, name: &str) -> Option<&'a Value> {
        self.0.get("attrs")?.get(name)
    }

    /// An attribute that is a string.
    pub(crate) fn text_attribute(self, name: &str) -> Option<&'a str> {
        self.attribute(name)?.as_str()
    }

    /// An attribute that is a number of at least one, also as a string.
    pub(crate) fn number_attribute(self, name: &str) -> Option<u64> {
        match self.attribute(name)? {
            Value::String(text) => text.parse().ok(),
            other => other.as_u64(),
        }
    }

    pub(crate) fn content(self) -> impl Iterator<Item = Node<'a>> {
        let content = self.0.get("content").and_then(Value::as_array);
        content.into_iter().flatten().map(Node)
    }

    /// The text of a text node; of an inline object without content (a mention) its label.
    pub(crate) fn text(self) -> &'a str {
        let label = || self.text_attribute("label").or_else(|| self.text_attribute("text"));
        self.0
            .get("text")
            .and_then(Value::as_str)
            .or_else(label)
            .unwrap_or_default()
    }

    pub(crate) fn marks(self) -> impl DoubleEndedIterator<Item = Mark<'a>> {
        let marks = self.0.get("marks").and_then(Value::as_array);
        marks.map_or([].as_slice(), Vec::as_slice).iter().map(Mark)
    }

    /// Whether the node's content is text and objects within it, and not blocks.
    pub(crate) fn is_text_block(self) -> bool {
        let mut content = self.content().peekable();
        if content.peek().is_none() {
            return matches!(
                self.shape(),
                Shape::Paragraph | Shape::Heading(_) | Shape::Code | Shape::BulletBlock | Shape::NumberBlock
            );
        }
        content.any(|node| matches!(node.shape(), Shape::Text | Shape::Break) || node.0.get("marks").is_some())
    }
}

/// A mark of a text.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mark<'a>(&'a Value);

impl<'a> Mark<'a> {
    pub(crate) fn style(self) -> Style<'a> {
        match self.0.get("type").and_then(Value::as_str).unwrap_or_default() {
            "bold" | "strong" => Style::Bold,
            "italic" | "em" => Style::Italic,
            "underline" => Style::Underline,
            "strike" | "strikethrough" | "s" => Style::Strike,
            "code" => Style::Code,
            "subscript" => Style::Subscript,
            "superscript" => Style::Superscript,
            "highlight" => Style::Highlight,
            "link" => self.0.get("attrs").map_or(Style::None, |attributes| {
                let address = attributes.get("href").or_else(|| attributes.get("value"));
                address
                    .and_then(Value::as_str)
                    .and_then(safe_address)
                    .map_or(Style::None, Style::Link)
            }),
            _ => Style::None,
        }
    }
}

/// What a mark is shown as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style<'a> {
    Bold,
    Italic,
    Underline,
    Strike,
    Code,
    Subscript,
    Superscript,
    Highlight,
    Link(&'a str),
    None,
}

/// Schemes of addresses that are kept; `javascript:` and `data:` run code in some readers.
const SCHEMES: [&str; 5] = ["http", "https", "mailto", "mxc", "tel"];

/// The address, if it is relative or has an allowed scheme.
pub(crate) fn safe_address(address: &str) -> Option<&str> {
    let address = address.trim();
    // Browsers ignore control characters and spaces inside of a scheme.
    if address.is_empty()
        || address
            .chars()
            .any(|letter| letter.is_control() || letter.is_whitespace())
    {
        return None;
    }
    let before_path = address.split(['/', '?', '#']).next().unwrap_or_default();
    match before_path.split_once(':') {
        None => Some(address),
        Some((scheme, _)) => SCHEMES
            .iter()
            .any(|allowed| scheme.eq_ignore_ascii_case(allowed))
            .then_some(address),
    }
}

fn is_true(value: &Value) -> bool {
    value.as_bool() == Some(true) || value.as_str() == Some("true")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_run_code_are_left_out() {
        for kept in [
            "https://a.example/x?y#z",
            "/d/1",
            "#part",
            "?q=a:b",
            "mailto:a@b.example",
            "mxc://a/b",
            "a/b:c",
        ] {
            assert_eq!(safe_address(kept), Some(kept));
        }
        for refused in [
            "javascript:alert(1)",
            "JavaScript:x",
            "java\nscript:x",
            " data:text/html,x",
            "vbscript:x",
            "",
        ] {
            assert_eq!(safe_address(refused), None, "{refused}");
        }
    }
}
