//! Reads HTML as blocks of a rich text: elements that have a node or a mark become one, the content of others is kept, and what
//! runs or is loaded is left out. A stream of tags without a tree: tags need not match.
//!
//! Must not keep addresses with other schemes than those of rendered documents.

use html5gum::{DefaultEmitter, EndTag, StartTag, Token, Tokenizer};
use serde_json::{Map, Value, json};

use super::super::node::safe_address;
use super::builder::{Builder, Kind};
use super::lost::Lost;

/// What was read.
pub(super) enum Read {
    Nodes(Vec<Value>),
    /// There are more nodes than are imported.
    TooMany,
}

/// What is done with an element.
enum Element {
    Block(Kind, &'static str),
    Heading(u8),
    Mark(&'static str),
    Link,
    /// Only separates texts.
    Division,
    /// Left out together with its content.
    Skipped(&'static str),
    /// Left out, and has no content.
    Void(&'static str),
    Rule,
    Break,
    Image,
    Input,
    /// Has no form of its own: only its content is kept.
    Plain,
}

fn element(name: &str) -> Element {
    match name {
        "p" | "dt" | "dd" | "figcaption" | "caption" | "summary" | "legend" | "address" => {
            Element::Block(Kind::Text, "paragraph")
        }
        "h1" | "h2" | "h3" | "h4" | "h5" | "h6" => {
            Element::Heading(name.as_bytes().get(1).map_or(1, |digit| digit - b'0'))
        }
        "pre" | "listing" | "xmp" => Element::Block(Kind::Code, "codeBlock"),
        "blockquote" => Element::Block(Kind::Quote, "blockquote"),
        "ul" | "menu" | "dir" => Element::Block(Kind::List, "bulletList"),
        "ol" => Element::Block(Kind::List, "orderedList"),
        "li" => Element::Block(Kind::Item, "listItem"),
        "table" => Element::Block(Kind::Table, "table"),
        "tr" => Element::Block(Kind::Row, "tableRow"),
        "td" => Element::Block(Kind::Cell, "tableCell"),
        "th" => Element::Block(Kind::Cell, "tableHeader"),
        "b" | "strong" => Element::Mark("bold"),
        "i" | "em" | "cite" | "dfn" | "var" => Element::Mark("italic"),
        "u" | "ins" => Element::Mark("underline"),
        "s" | "strike" | "del" => Element::Mark("strike"),
        "code" | "kbd" | "samp" | "tt" => Element::Mark("code"),
        "sub" => Element::Mark("subscript"),
        "sup" => Element::Mark("superscript"),
        "mark" => Element::Mark("highlight"),
        "a" => Element::Link,
        "hr" => Element::Rule,
        "br" => Element::Break,
        "img" => Element::Image,
        "input" => Element::Input,
        "html" | "body" | "div" | "section" | "article" | "main" | "header" | "footer" | "nav" | "aside" | "figure"
        | "details" | "center" | "form" | "fieldset" | "dl" | "hgroup" | "search" | "thead" | "tbody" | "tfoot" => {
            Element::Division
        }
        "script" => Element::Skipped("script"),
        "style" => Element::Skipped("style"),
        "head" | "title" => Element::Skipped("head"),
        "template" | "noscript" | "noembed" | "noframes" => Element::Skipped(""),
        "iframe" | "frameset" | "object" | "applet" | "video" | "audio" | "canvas" | "portal" => {
            Element::Skipped("embedded content")
        }
        "svg" => Element::Skipped("drawing"),
        "math" => Element::Skipped("formula"),
        "select" | "textarea" | "button" | "datalist" => Element::Skipped("form field"),
        "embed" | "source" | "track" | "param" | "frame" => Element::Void("embedded content"),
        "meta" | "link" | "base" | "col" | "colgroup" | "wbr" | "area" | "basefont" | "bgsound" => Element::Void(""),
        _ => Element::Plain,
    }
}

/// Reads HTML. Never fails: all input is HTML of some kind.
pub(super) fn read(html: &str, lost: &mut Lost) -> Read {
    let mut reader = Reader {
        builder: Builder::new(),
        lost,
        skipped: None,
        after_pre: false,
    };
    let mut emitter = DefaultEmitter::default();
    emitter.naively_switch_states(true);
    for token in Tokenizer::new_with_emitter(html, emitter) {
        let Ok(token) = token;
        match token {
            Token::StartTag(tag) => reader.start(&tag),
            Token::EndTag(tag) => reader.end(&tag),
            Token::String(text) => reader.text(&String::from_utf8_lossy(&text)),
            Token::Comment(_) | Token::Doctype(_) | Token::Error(_) => {}
        }
        if reader.builder.is_full() {
            return Read::TooMany;
        }
    }
    Read::Nodes(reader.builder.finish())
}

struct Reader<'a> {
    builder: Builder,
    lost: &'a mut Lost,
    /// The element that is left out with its content, and how many of the same name are open.
    skipped: Option<(String, usize)>,
    /// The first line break in a `pre` is not part of it.
    after_pre: bool,
}

/// A string attribute.
fn attribute(tag: &StartTag<()>, name: &str) -> Option<String> {
    let value = tag.attributes.get(name.as_bytes())?;
    Some(String::from_utf8_lossy(value).into_owned())
}

fn number(tag: &StartTag<()>, name: &str, most: u32) -> Option<u32> {
    let number: u32 = attribute(tag, name)?.trim().parse().ok()?;
    Some(number.min(most)).filter(|number| *number > 1)
}

impl Reader<'_> {
    fn start(&mut self, tag: &StartTag<()>) {
        let name = String::from_utf8_lossy(&tag.name).into_owned();
        if let Some((skipped, depth)) = &mut self.skipped {
            if *skipped == name && !tag.self_closing {
                *depth = depth.saturating_add(1);
            }
            return;
        }
        self.after_pre = false;
        self.count_attributes(tag);
        match element(&name) {
            Element::Block(kind, node) => self.block(kind, node, tag),
            Element::Heading(level) => {
                let attributes = Map::from_iter([("level".to_owned(), level.into())]);
                self.open(Kind::Text, "heading", attributes);
            }
            Element::Mark("code") if self.builder.is_in_code() => self.language(tag),
            Element::Mark(mark) => self.mark(&name, json!({"type": mark})),
            Element::Link => self.link(tag),
            Element::Division => self.builder.close_text(),
            Element::Skipped(what) => {
                if !what.is_empty() && what != "head" {
                    self.lost.add(what, None);
                }
                if !tag.self_closing {
                    self.skipped = Some((name, 1));
                }
            }
            Element::Void("") | Element::Plain => {}
            Element::Void(what) => self.lost.add(what, None),
            Element::Rule => {
                self.builder.close_text();
                self.builder.leaf(json!({"type": "horizontalRule"}));
            }
            Element::Break => self.builder.line_break(),
            Element::Image => self.image(tag),
            Element::Input => self.input(tag),
        }
    }

    fn end(&mut self, tag: &EndTag<()>) {
        let name = String::from_utf8_lossy(&tag.name).into_owned();
        if let Some((skipped, depth)) = &mut self.skipped {
            if *skipped == name {
                *depth = depth.saturating_sub(1);
                if *depth == 0 {
                    self.skipped = None;
                }
            }
            return;
        }
        match element(&name) {
            Element::Block(Kind::Text, _) | Element::Heading(_) | Element::Division => self.builder.close_text(),
            Element::Block(kind, _) => self.builder.close(kind),
            Element::Mark(_) | Element::Link => self.builder.unmark(&name),
            _ => {}
        }
    }

    fn text(&mut self, text: &str) {
        if self.skipped.is_some() {
            return;
        }
        let text = match std::mem::take(&mut self.after_pre) {
            true => text.strip_prefix('\n').unwrap_or(text),
            false => text,
        };
        self.builder.text(text);
    }

    fn open(&mut self, kind: Kind, node: &'static str, attributes: Map<String, Value>) {
        if !self.builder.open(kind, node, attributes) {
            self.lost.add("nesting", None);
        }
    }

    fn block(&mut self, kind: Kind, node: &'static str, tag: &StartTag<()>) {
        let mut attributes = Map::new();
        let numbers: &[&str] = match kind {
            Kind::Cell => &["colspan", "rowspan"],
            Kind::List if node == "orderedList" => &["start"],
            _ => &[],
        };
        for name in numbers {
            let most = if *name == "start" { 999_999_999 } else { 1_000 };
            if let Some(number) = number(tag, name, most) {
                attributes.insert((*name).to_owned(), number.into());
            }
        }
        self.open(kind, node, attributes);
        if kind == Kind::Code {
            self.language(tag);
            self.after_pre = true;
        }
    }

    /// The language of a block of code: the class `language-…`, or pandoc's first class.
    fn language(&mut self, tag: &StartTag<()>) {
        let classes = attribute(tag, "class").unwrap_or_default();
        let language = classes
            .split_whitespace()
            .find_map(|class| class.strip_prefix("language-"));
        if let Some(language) = language {
            self.builder
                .set("language", language.chars().take(50).collect::<String>().into());
        }
    }

    fn mark(&mut self, element: &str, mark: Value) {
        if !self.builder.mark(element, mark) {
            self.lost.add("nesting", None);
        }
    }

    fn link(&mut self, tag: &StartTag<()>) {
        let Some(address) = attribute(tag, "href") else { return };
        match safe_address(&address) {
            Some(address) => self.mark("a", json!({"type": "link", "attrs": {"href": address}})),
            None => self.lost.add("address", Some(&address)),
        }
    }

    fn image(&mut self, tag: &StartTag<()>) {
        let (source, alt) = (attribute(tag, "src").unwrap_or_default(), attribute(tag, "alt"));
        // A relative address is one of the file's folder, which is not here.
        let is_absolute = |address: &&str| address.contains(":");
        let Some(address) = safe_address(&source).filter(is_absolute) else {
            self.lost.add("image", alt.as_deref().or(Some(&source)));
            return;
        };
        let mut attributes = Map::from_iter([("src".to_owned(), address.into())]);
        attributes.extend(alt.map(|alt| ("alt".to_owned(), alt.into())));
        attributes.extend(attribute(tag, "title").map(|title| ("title".to_owned(), title.into())));
        self.builder.leaf(json!({"type": "image", "attrs": attributes}));
    }

    fn input(&mut self, tag: &StartTag<()>) {
        let is_box = attribute(tag, "type").is_some_and(|kind| kind.eq_ignore_ascii_case("checkbox"));
        if !(is_box && self.builder.check(tag.attributes.contains_key(b"checked".as_slice()))) {
            self.lost.add("form field", None);
        }
    }

    /// Attributes that change what a reader sees or does.
    fn count_attributes(&mut self, tag: &StartTag<()>) {
        for name in tag.attributes.keys() {
            let name = String::from_utf8_lossy(name);
            match &*name {
                "style" | "color" | "bgcolor" | "face" | "align" => {
                    self.lost.add("style", attribute(tag, &name).as_deref())
                }
                handler if handler.starts_with("on") => self.lost.add("script", None),
                _ => {}
            }
        }
    }
}
