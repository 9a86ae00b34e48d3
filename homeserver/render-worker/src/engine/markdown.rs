//! Markdown of a rendered document: CommonMark with the tables, task lists and strikethrough of GitHub. What it has no form
//! for is shown as text. A document of the kind `text` may be Markdown itself, and is returned as it is.

use serde_json::Value;

use super::node::{Node, Shape, Style, safe_address};
use super::plain;

/// The Markdown of a rendered document.
pub(crate) fn markdown(document: &Value) -> String {
    if document.get("delta").is_some() {
        return plain::text(document);
    }
    let Some(doc) = document.get("doc") else {
        let texts = plain::element_texts(document);
        return texts.iter().map(|text| escaped(text)).collect::<Vec<_>>().join("\n\n");
    };
    let mut text = blocks(Node(doc));
    if !text.is_empty() {
        text.push('\n');
    }
    text
}

/// The blocks in a node, separated by empty lines.
fn blocks(parent: Node<'_>) -> String {
    let mut out = String::new();
    let mut before = None;
    for node in parent.content() {
        let text = block(node);
        let shape = node.shape();
        // An empty block has no form; without this, several would add up to one blank line anyway.
        if text.is_empty() {
            continue;
        }
        if let Some(before) = before {
            let one_list =
                before == shape && matches!(shape, Shape::BulletBlock | Shape::NumberBlock | Shape::TaskItem(_));
            out.push_str(if one_list { "\n" } else { "\n\n" });
        }
        out.push_str(&text);
        before = Some(shape);
    }
    out
}

fn block(node: Node<'_>) -> String {
    match node.shape() {
        Shape::Heading(level) => format!("{} {}", "#".repeat(level.into()), one_line(node)),
        Shape::BulletList => list(node, |_| "- ".to_owned()),
        Shape::OrderedList => {
            let start = node.number_attribute("start").unwrap_or(1).min(999_999_999);
            list(node, |index| format!("{}. ", start.saturating_add(index)))
        }
        Shape::TaskList => items(node.content().map(|item| (task_mark(item), inside(item)))),
        Shape::TaskItem(_) => items([(task_mark(node), inside(node))].into_iter()),
        Shape::BulletBlock => items([("- ".to_owned(), inside(node))].into_iter()),
        Shape::NumberBlock => items([("1. ".to_owned(), inside(node))].into_iter()),
        Shape::Quote => prefixed(&inside(node), "> ", "> "),
        Shape::Code => code(node),
        Shape::Rule => "---".to_owned(),
        Shape::Image => image(node),
        Shape::Table => table(node),
        Shape::Text | Shape::Break => inline(node),
        _ => inside(node),
    }
}

/// The content of a block: texts or blocks.
fn inside(node: Node<'_>) -> String {
    if node.is_text_block() {
        line_starts_escaped(&inlines(node))
    } else {
        blocks(node)
    }
}

fn one_line(node: Node<'_>) -> String {
    inlines(node).replace("\\\n", " ").replace('\n', " ")
}

fn task_mark(item: Node<'_>) -> String {
    let done = matches!(item.shape(), Shape::TaskItem(true));
    format!("- [{}] ", if done { 'x' } else { ' ' })
}

fn list(node: Node<'_>, mark: impl Fn(u64) -> String) -> String {
    items(
        (0..)
            .zip(node.content())
            .map(|(index, item)| (mark(index), inside(item))),
    )
}

fn items(items: impl Iterator<Item = (String, String)>) -> String {
    let lines: Vec<String> = items
        .map(|(mark, text)| prefixed(&text, &mark, &" ".repeat(mark.len())))
        .collect();
    lines.join("\n")
}

/// The text with a prefix before its first line and one before the others; empty lines get none but a quote's.
fn prefixed(text: &str, first: &str, others: &str) -> String {
    let lines = text.split('\n').enumerate().map(|(index, line)| {
        let line = format!("{}{line}", if index == 0 { first } else { others });
        line.trim_end().to_owned()
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn code(node: Node<'_>) -> String {
    let text = plain::inline_text(node);
    let longest = longest_run(&text, '`');
    let fence = "`".repeat(longest.max(2) + 1);
    let language = node.text_attribute("language").unwrap_or_default();
    let language: String = language
        .chars()
        .filter(|letter| !letter.is_whitespace() && *letter != '`')
        .collect();
    format!("{fence}{language}\n{text}\n{fence}")
}

/// Rows of cells; the first row is the head, as Markdown requires one.
fn table(node: Node<'_>) -> String {
    let rows: Vec<Vec<String>> = node
        .content()
        .map(|row| row.content().map(|cell| blocks_in_a_cell(cell)).collect())
        .collect();
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let line = |cells: &[String]| {
        let missing = columns.saturating_sub(cells.len());
        let cells = cells.iter().map(String::as_str).chain(std::iter::repeat_n("", missing));
        format!("| {} |", cells.collect::<Vec<_>>().join(" | "))
    };
    let mut lines: Vec<String> = rows.iter().map(|row| line(row)).collect();
    if columns > 0 {
        lines.insert(1.min(lines.len()), format!("|{}", " --- |".repeat(columns)));
    }
    lines.join("\n")
}

fn blocks_in_a_cell(cell: Node<'_>) -> String {
    inside(cell).replace('|', "\\|").replace("\\\n", " ").replace('\n', " ")
}

fn image(node: Node<'_>) -> String {
    let address = node
        .text_attribute("src")
        .or_else(|| node.text_attribute("url"))
        .and_then(safe_address);
    let alt = escaped(node.text_attribute("alt").unwrap_or_default());
    address.map_or(alt.clone(), |address| {
        format!("![{alt}](<{}>)", escaped_address(address))
    })
}

fn inlines(node: Node<'_>) -> String {
    node.content().map(inline).collect()
}

fn inline(node: Node<'_>) -> String {
    let is_code = node.marks().any(|mark| mark.style() == Style::Code);
    let text = match node.shape() {
        Shape::Text if is_code => code_span(node.text()),
        Shape::Text => escaped(node.text()),
        Shape::Break => return "\\\n".to_owned(),
        Shape::Image => image(node),
        _ if node.content().next().is_some() => inlines(node),
        _ => escaped(node.text()),
    };
    // Spaces at the border of a mark would prevent its recognition.
    let trimmed = text.trim();
    if trimmed.is_empty() {
        return text;
    }
    let (before, after) = (text.len() - text.trim_start().len(), text.trim_end().len());
    let marked = node
        .marks()
        .rev()
        .fold(trimmed.to_owned(), |text, mark| match mark.style() {
            Style::Bold => format!("**{text}**"),
            Style::Italic => format!("*{text}*"),
            Style::Strike => format!("~~{text}~~"),
            Style::Underline => format!("<u>{text}</u>"),
            Style::Subscript => format!("<sub>{text}</sub>"),
            Style::Superscript => format!("<sup>{text}</sup>"),
            Style::Link(address) => format!("[{text}](<{}>)", escaped_address(address)),
            Style::Code | Style::Highlight | Style::None => text,
        });
    let border = |part: Option<&str>| part.unwrap_or_default().to_owned();
    border(text.get(..before)) + &marked + &border(text.get(after..))
}

fn code_span(text: &str) -> String {
    let fence = "`".repeat(longest_run(text, '`') + 1);
    let space = if text.starts_with('`') || text.ends_with('`') {
        " "
    } else {
        ""
    };
    format!("{fence}{space}{text}{space}{fence}")
}

fn longest_run(text: &str, letter: char) -> usize {
    let (mut longest, mut current) = (0, 0);
    for other in text.chars() {
        current = if other == letter { current + 1 } else { 0 };
        longest = longest.max(current);
    }
    longest
}

fn escaped_address(address: &str) -> String {
    address.replace('<', "%3C").replace('>', "%3E").replace('\\', "%5C")
}

/// Escapes what has a meaning anywhere in a line.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        if matches!(letter, '\\' | '`' | '*' | '_' | '[' | ']' | '<' | '>' | '&' | '~' | '|') {
            out.push('\\');
        }
        out.push(letter);
    }
    out
}

/// Escapes what has a meaning at the start of a line.
fn line_starts_escaped(text: &str) -> String {
    let lines = text.split('\n').map(|line| {
        let start = line.trim_start();
        let indent = line.get(..line.len() - start.len()).unwrap_or_default();
        let digits = start.chars().take_while(char::is_ascii_digit).count();
        let after_digits = start.chars().nth(digits);
        if start.starts_with(['#', '+', '-', '=']) {
            format!("{indent}\\{start}")
        } else if digits > 0 && matches!(after_digits, Some('.' | ')')) {
            let (number, rest) = start.split_at(digits);
            format!("{indent}{number}\\{rest}")
        } else {
            line.to_owned()
        }
    });
    lines.collect::<Vec<_>>().join("\n")
}
