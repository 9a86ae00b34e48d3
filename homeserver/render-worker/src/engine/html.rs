//! HTML of a rendered document: elements and attributes from fixed lists, everything else escaped. Addresses have an allowed
//! scheme. Must not write a script, a style or an event handler.

use std::fmt::Write as _;

use serde_json::Value;

use super::node::{Node, Shape, Style, safe_address};
use super::plain;

/// The HTML of a rendered document.
pub(crate) fn html(document: &Value) -> String {
    let mut out = String::new();
    if document.get("delta").is_some() {
        // The first line break after the tag would be ignored.
        out.push_str("<pre>\n");
        escape(&plain::text(document), &mut out);
        out.push_str("</pre>");
    } else if let Some(doc) = document.get("doc") {
        blocks(Node(doc), &mut out);
    } else {
        for text in plain::element_texts(document) {
            out.push_str("<p>");
            escape(&text, &mut out);
            out.push_str("</p>");
        }
    }
    out
}

fn blocks(parent: Node<'_>, out: &mut String) {
    parent.content().for_each(|node| block(node, out));
}

fn block(node: Node<'_>, out: &mut String) {
    match node.shape() {
        Shape::Text => inline(node, out),
        Shape::Paragraph => within("p", node, out),
        Shape::Heading(level) => {
            let _ = write!(out, "<h{level}>");
            inside(node, out);
            let _ = write!(out, "</h{level}>");
        }
        Shape::BulletList => within("ul", node, out),
        Shape::OrderedList => {
            match node.number_attribute("start").filter(|start| *start != 1) {
                Some(start) => drop(write!(out, "<ol start=\"{start}\">")),
                None => out.push_str("<ol>"),
            }
            inside(node, out);
            out.push_str("</ol>");
        }
        Shape::ListItem => within("li", node, out),
        Shape::BulletBlock => list_block("ul", node, out),
        Shape::NumberBlock => list_block("ol", node, out),
        Shape::TaskList => within("ul", node, out),
        Shape::TaskItem(done) => {
            let checked = if done { " checked" } else { "" };
            let _ = write!(out, "<li><input type=\"checkbox\" disabled{checked}>");
            inside(node, out);
            out.push_str("</li>");
        }
        Shape::Quote => within("blockquote", node, out),
        Shape::Code => code(node, out),
        Shape::Rule => out.push_str("<hr>"),
        Shape::Break => out.push_str("<br>"),
        Shape::Image => image(node, out),
        Shape::Table => {
            out.push_str("<table><tbody>");
            inside(node, out);
            out.push_str("</tbody></table>");
        }
        Shape::Row => within("tr", node, out),
        Shape::Cell => cell("td", node, out),
        Shape::HeaderCell => cell("th", node, out),
        Shape::Other if node.is_text_block() => within("p", node, out),
        Shape::Other => inside(node, out),
    }
}

fn within(tag: &str, node: Node<'_>, out: &mut String) {
    let _ = write!(out, "<{tag}>");
    inside(node, out);
    let _ = write!(out, "</{tag}>");
}

fn list_block(tag: &str, node: Node<'_>, out: &mut String) {
    let _ = write!(out, "<{tag}><li>");
    inside(node, out);
    let _ = write!(out, "</li></{tag}>");
}

/// The content of a block: texts or blocks.
fn inside(node: Node<'_>, out: &mut String) {
    let texts = node.is_text_block();
    for child in node.content() {
        if texts {
            inline(child, out);
        } else {
            block(child, out);
        }
    }
}

fn code(node: Node<'_>, out: &mut String) {
    out.push_str("<pre><code");
    let language = node.text_attribute("language").unwrap_or_default();
    let language: String = language
        .chars()
        .filter(|letter| letter.is_ascii_alphanumeric() || "+-#_.".contains(*letter))
        .collect();
    if !language.is_empty() {
        let _ = write!(out, " class=\"language-{language}\"");
    }
    out.push('>');
    escape(&plain::inline_text(node), out);
    out.push_str("</code></pre>");
}

fn cell(tag: &str, node: Node<'_>, out: &mut String) {
    let _ = write!(out, "<{tag}");
    for name in ["colspan", "rowspan"] {
        if let Some(number) = node.number_attribute(name).filter(|number| *number > 1) {
            let _ = write!(out, " {name}=\"{number}\"");
        }
    }
    out.push('>');
    inside(node, out);
    let _ = write!(out, "</{tag}>");
}

fn image(node: Node<'_>, out: &mut String) {
    out.push_str("<img");
    let address = node
        .text_attribute("src")
        .or_else(|| node.text_attribute("url"))
        .and_then(safe_address);
    let attributes = [
        ("src", address),
        ("alt", node.text_attribute("alt")),
        ("title", node.text_attribute("title")),
    ];
    for (name, value) in attributes {
        if let Some(value) = value {
            let _ = write!(out, " {name}=\"");
            escape(value, out);
            out.push('"');
        }
    }
    out.push('>');
}

fn inline(node: Node<'_>, out: &mut String) {
    let mut ends = Vec::new();
    for mark in node.marks() {
        let tag = match mark.style() {
            Style::Bold => "strong",
            Style::Italic => "em",
            Style::Underline => "u",
            Style::Strike => "s",
            Style::Code => "code",
            Style::Subscript => "sub",
            Style::Superscript => "sup",
            Style::Highlight => "mark",
            Style::Link(address) => {
                out.push_str("<a href=\"");
                escape(address, out);
                out.push_str("\" rel=\"noopener noreferrer nofollow\">");
                ends.push("a");
                continue;
            }
            Style::None => continue,
        };
        let _ = write!(out, "<{tag}>");
        ends.push(tag);
    }
    match node.shape() {
        Shape::Text => escape(node.text(), out),
        Shape::Break => out.push_str("<br>"),
        Shape::Image => image(node, out),
        _ if node.content().next().is_some() => node.content().for_each(|child| inline(child, out)),
        _ => escape(node.text(), out),
    }
    for tag in ends.iter().rev() {
        let _ = write!(out, "</{tag}>");
    }
}

/// Escapes text for content and for attributes in double quotes.
fn escape(text: &str, out: &mut String) {
    for letter in text.chars() {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            // HTML has no form for it.
            '\0' => out.push('\u{fffd}'),
            other => out.push(other),
        }
    }
}
