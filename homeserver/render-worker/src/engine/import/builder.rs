//! Builds blocks of a rich text from starts and ends that need not match, as in HTML that people write. The result always has
//! the form that editors expect: texts in text blocks, items in lists, cells in rows.
//!
//! Must not recurse, and must not nest deeper than [`MAX_DEPTH`].

use serde_json::{Map, Value, json};
use weft_wire::limits::MAX_IMPORT_NODES;

/// Open blocks at one time. A type may be nested 64 deep in an update, and a text is in its block.
const MAX_DEPTH: usize = 48;
/// Marks of a text. More are left out.
const MAX_MARKS: usize = 16;

/// What a block may contain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// The document.
    Root,
    /// Blocks.
    Quote,
    /// Items.
    List,
    /// Blocks.
    Item,
    /// Rows.
    Table,
    /// Cells.
    Row,
    /// Blocks.
    Cell,
    /// Text.
    Text,
    /// Text as it is.
    Code,
}

impl Kind {
    const fn has_blocks(self) -> bool {
        matches!(self, Self::Root | Self::Quote | Self::Item | Self::Cell)
    }

    const fn has_text(self) -> bool {
        matches!(self, Self::Text | Self::Code)
    }
}

#[derive(Debug)]
struct Open {
    kind: Kind,
    name: &'static str,
    attributes: Map<String, Value>,
    content: Vec<Value>,
    /// The number of marks outside of it.
    marks: usize,
    /// Of a task list's item.
    checked: Option<bool>,
    /// An image was taken out of it, so that it may be empty now.
    divided: bool,
}

/// A mark with the element that made it.
#[derive(Debug)]
struct Mark {
    element: String,
    json: Value,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Builder {
    open: Vec<Open>,
    marks: Vec<Mark>,
    nodes: usize,
    /// Blocks that were not opened because of their depth, and are not closed yet.
    too_deep: Vec<Kind>,
}

fn paragraph() -> Value {
    json!({"type": "paragraph"})
}

impl Builder {
    pub(super) fn new() -> Self {
        let mut builder = Self {
            open: Vec::new(),
            marks: Vec::new(),
            nodes: 0,
            too_deep: Vec::new(),
        };
        builder.push(Kind::Root, "doc", Map::new());
        builder
    }

    /// Whether the limit of nodes is reached.
    pub(super) const fn is_full(&self) -> bool {
        self.nodes > MAX_IMPORT_NODES
    }

    fn top(&self) -> Kind {
        self.open.last().map_or(Kind::Root, |open| open.kind)
    }

    pub(super) fn is_in_code(&self) -> bool {
        self.top() == Kind::Code
    }

    fn push(&mut self, kind: Kind, name: &'static str, attributes: Map<String, Value>) {
        self.nodes = self.nodes.saturating_add(1);
        self.open.push(Open {
            kind,
            name,
            attributes,
            content: Vec::new(),
            marks: self.marks.len(),
            checked: None,
            divided: false,
        });
    }

    /// Opens a block. False if it is nested too deeply, and left out; its content is not.
    pub(super) fn open(&mut self, kind: Kind, name: &'static str, attributes: Map<String, Value>) -> bool {
        self.close_text();
        match kind {
            Kind::Item => self.within(Kind::List, "bulletList", &[Kind::Cell, Kind::Quote]),
            Kind::Row => self.within(Kind::Table, "table", &[Kind::Item, Kind::Quote]),
            Kind::Cell => {
                self.within(Kind::Row, "tableRow", &[Kind::Table]);
            }
            _ => self.make_room(),
        }
        if self.open.len() >= MAX_DEPTH {
            self.too_deep.push(kind);
            return false;
        }
        self.push(kind, name, attributes);
        true
    }

    /// Closes blocks up to one of this kind; opens one if there is none inside of the `borders`.
    fn within(&mut self, kind: Kind, name: &'static str, borders: &[Kind]) {
        let open = self.open.iter().rposition(|open| open.kind == kind);
        let border = self.open.iter().rposition(|open| borders.contains(&open.kind));
        match open {
            Some(at) if border.is_none_or(|border| border < at) => self.close_to(at + 1),
            _ if kind == Kind::Row => {
                self.within(Kind::Table, "table", &[Kind::Item, Kind::Quote]);
                self.push(kind, name, Map::new());
            }
            _ => {
                self.make_room();
                self.push(kind, name, Map::new());
            }
        }
    }

    /// Opens what is missing so that a block can follow.
    fn make_room(&mut self) {
        match self.top() {
            Kind::List => self.push(Kind::Item, "listItem", Map::new()),
            Kind::Table => {
                self.push(Kind::Row, "tableRow", Map::new());
                self.push(Kind::Cell, "tableCell", Map::new());
            }
            Kind::Row => self.push(Kind::Cell, "tableCell", Map::new()),
            _ => {}
        }
    }

    /// Closes the innermost block of this kind, and what is open in it.
    pub(super) fn close(&mut self, kind: Kind) {
        if let Some(at) = self.too_deep.iter().rposition(|open| *open == kind) {
            self.too_deep.truncate(at);
            self.close_text();
            return;
        }
        if let Some(at) = self.open.iter().rposition(|open| open.kind == kind) {
            self.close_to(at);
        }
    }

    /// Ends the current text block: what follows begins another one.
    pub(super) fn close_text(&mut self) {
        if self.top().has_text() {
            self.close_last();
        }
    }

    fn close_to(&mut self, length: usize) {
        while self.open.len() > length.max(1) {
            self.close_last();
        }
    }

    fn close_last(&mut self) {
        let Some(mut closed) = self.open.pop() else { return };
        self.marks.truncate(closed.marks);
        if let Some(node) = closed.finished()
            && let Some(parent) = self.open.last_mut()
        {
            parent.content.push(node);
        }
    }

    /// Adds text with the current marks. Outside of a text block it begins a paragraph; white space does not.
    pub(super) fn text(&mut self, text: &str) {
        if self.is_in_code() {
            self.append(text, &[]);
            return;
        }
        if !self.top().has_text() {
            if text.chars().all(char::is_whitespace) {
                return;
            }
            self.begin_paragraph();
        }
        let text = self.collapsed(text);
        let marks: Vec<Value> = self.marks.iter().map(|mark| mark.json.clone()).collect();
        self.append(&text, &marks);
    }

    fn begin_paragraph(&mut self) {
        let marks = self.marks.len();
        self.make_room();
        if self.top().has_blocks() {
            self.push(Kind::Text, "paragraph", Map::new());
        }
        // Marks that were opened before stay open after the paragraph.
        if let Some(open) = self.open.last_mut() {
            open.marks = marks;
        }
    }

    /// A run of white space is one space, and none at the beginning of a line.
    fn collapsed(&self, text: &str) -> String {
        let last = self.open.last().and_then(|open| open.content.last());
        let before = last.map(|node| node.get("text").and_then(Value::as_str).unwrap_or(" "));
        let mut space = before.is_none_or(|text| text.ends_with(' '));
        let mut out = String::with_capacity(text.len());
        for letter in text.chars() {
            let is_space = matches!(letter, ' ' | '\t' | '\n' | '\r' | '\u{c}');
            if !is_space {
                out.push(letter);
            } else if !space {
                out.push(' ');
            }
            space = is_space;
        }
        out
    }

    fn append(&mut self, text: &str, marks: &[Value]) {
        if text.is_empty() {
            return;
        }
        let Some(open) = self.open.last_mut() else { return };
        let no_marks = Vec::new();
        if let Some(Value::Object(last)) = open.content.last_mut()
            && last.get("marks").and_then(Value::as_array).unwrap_or(&no_marks) == marks
            && let Some(Value::String(before)) = last.get_mut("text")
        {
            before.push_str(text);
            return;
        }
        self.nodes = self.nodes.saturating_add(1);
        let mut node = json!({"type": "text", "text": text});
        if let (false, Some(node)) = (marks.is_empty(), node.as_object_mut()) {
            node.insert("marks".to_owned(), marks.into());
        }
        open.content.push(node);
    }

    /// A line break within a text.
    pub(super) fn line_break(&mut self) {
        match self.top() {
            Kind::Code => self.append("\n", &[]),
            Kind::Text => {
                self.nodes = self.nodes.saturating_add(1);
                if let Some(open) = self.open.last_mut() {
                    open.content.push(json!({"type": "hardBreak"}));
                }
            }
            _ => {}
        }
    }

    /// A block without content. Within a text it divides the text.
    pub(super) fn leaf(&mut self, node: Value) {
        let divided = match self.top() {
            Kind::Text => self.open.pop(),
            _ => None,
        };
        let again = divided.map(|mut open| {
            let again = (open.kind, open.name, open.attributes.clone(), open.marks);
            open.divided = true;
            if let (Some(node), Some(parent)) = (open.finished(), self.open.last_mut()) {
                parent.content.push(node);
            }
            again
        });
        if again.is_none() {
            self.close_text();
            self.make_room();
        }
        self.nodes = self.nodes.saturating_add(1);
        if let Some(open) = self.open.last_mut() {
            open.content.push(node);
        }
        if let Some((kind, name, attributes, marks)) = again {
            self.push(kind, name, attributes);
            if let Some(open) = self.open.last_mut() {
                open.marks = marks;
                open.divided = true;
            }
        }
    }

    /// Begins a mark. False if there are too many.
    pub(super) fn mark(&mut self, element: &str, json: Value) -> bool {
        let name = json.get("type").cloned();
        let is_set = self.marks.iter().any(|mark| mark.json.get("type").cloned() == name);
        if self.marks.len() >= MAX_MARKS {
            return false;
        }
        // A mark in itself changes nothing; it only has to be closed as often.
        let json = if is_set { Value::Null } else { json };
        self.marks.push(Mark {
            element: element.to_owned(),
            json,
        });
        true
    }

    /// Ends the innermost mark of an element.
    pub(super) fn unmark(&mut self, element: &str) {
        if let Some(at) = self.marks.iter().rposition(|mark| mark.element == element) {
            self.marks.remove(at);
        }
    }

    /// Sets an attribute of the innermost block.
    pub(super) fn set(&mut self, name: &str, value: Value) {
        if let Some(open) = self.open.last_mut() {
            open.attributes.insert(name.to_owned(), value);
        }
    }

    /// Makes the item around it one of a task list. False outside of items.
    pub(super) fn check(&mut self, checked: bool) -> bool {
        let item = self.open.iter_mut().rev().find(|open| !open.kind.has_text());
        match item.filter(|open| open.kind == Kind::Item) {
            Some(item) => {
                item.checked = Some(checked);
                true
            }
            None => false,
        }
    }

    /// Closes everything.
    pub(super) fn finish(mut self) -> Vec<Value> {
        self.close_to(1);
        self.open.pop().map(|root| root.content).unwrap_or_default()
    }
}

impl Open {
    /// The node; `None` if it would be empty and means nothing then.
    fn finished(&mut self) -> Option<Value> {
        let mut content = std::mem::take(&mut self.content);
        match self.kind {
            Kind::Text => trim_end(&mut content),
            Kind::Code => {
                if let Some(Value::String(text)) = content.last_mut().and_then(|last| last.get_mut("text"))
                    && text.ends_with('\n')
                {
                    text.pop();
                }
                content.retain(|node| node.get("text").and_then(Value::as_str) != Some(""));
            }
            _ => {}
        }
        let is_empty = content.is_empty();
        match self.kind {
            Kind::List | Kind::Table | Kind::Row if is_empty => return None,
            Kind::Text if is_empty && self.divided => return None,
            Kind::Item | Kind::Cell | Kind::Quote if is_empty => content.push(paragraph()),
            _ => {}
        }
        let mut name = self.name;
        if let Some(checked) = self.checked {
            name = "taskItem";
            self.attributes.insert("checked".to_owned(), checked.into());
        }
        let is_task = |node: &Value| node.get("type").and_then(Value::as_str) == Some("taskItem");
        if self.kind == Kind::List && content.iter().any(is_task) {
            name = "taskList";
            self.attributes.clear();
            content.iter_mut().filter(|node| !is_task(node)).for_each(as_task);
        }
        let mut node = Map::from_iter([("type".to_owned(), name.into())]);
        if !self.attributes.is_empty() {
            node.insert("attrs".to_owned(), std::mem::take(&mut self.attributes).into());
        }
        if !content.is_empty() {
            node.insert("content".to_owned(), content.into());
        }
        Some(node.into())
    }
}

fn as_task(node: &mut Value) {
    if let Some(node) = node.as_object_mut() {
        node.insert("type".to_owned(), "taskItem".into());
        node.insert("attrs".to_owned(), json!({"checked": false}));
    }
}

/// A text ends with neither a space nor a line break.
fn trim_end(content: &mut Vec<Value>) {
    while let Some(last) = content.last_mut() {
        let is_break = last.get("type").and_then(Value::as_str) == Some("hardBreak");
        if let Some(Value::String(text)) = last.get_mut("text") {
            let length = text.trim_end_matches(' ').len();
            text.truncate(length);
            if !text.is_empty() {
                return;
            }
        } else if !is_break {
            return;
        }
        content.pop();
    }
}
