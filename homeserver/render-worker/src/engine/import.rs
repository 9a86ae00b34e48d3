//! Turns foreign text (Markdown, HTML, plain text) into the content of a document, as one update that appends it.
//!
//! Markdown becomes HTML first, so one reader decides what becomes of each element. Must not keep anything that runs or is
//! loaded, and must count what it leaves out.

mod builder;
mod html;
mod lost;

use bytes::Bytes;
use serde_json::{Value, json};
use weft_render::protocol::Answer;
use weft_render::{PlaceError, Source};
use weft_wire::document::DocumentKind;
use weft_wire::limits::MAX_IMPORT_NODES;
use yrs::{GetString as _, ReadTxn as _, StateVector, Text as _, Transact as _, TransactionMut, XmlFragment as _};

use super::edit::{blocks::insert_node, check_client, invalid, refused, unused};
use super::load::{Loaded, Root};
use super::{EngineError, Parts, markdown};
use html::Read;
use lost::Lost;

/// Makes the update that appends foreign text to a document.
pub(crate) fn import(
    kind: DocumentKind,
    source: Source,
    client: u64,
    state: &[u8],
    foreign: &[u8],
) -> Result<(Answer, Parts), EngineError> {
    check_client(client)?;
    let foreign = std::str::from_utf8(foreign).map_err(|_| refused(0, invalid("the text is not UTF-8")))?;
    // Files of some systems begin with it.
    let foreign = foreign.strip_prefix('\u{feff}').unwrap_or(foreign);
    let loaded = Loaded::with_client(kind, state, client, false)?;
    unused(&loaded, client)?;
    let before = loaded.doc.transact().state_vector();
    let mut lost = Lost::default();
    {
        let mut txn = loaded.doc.transact_mut();
        match &loaded.root {
            Root::Text(text) => append_text(text, &mut txn, &plain(source, foreign, &mut lost)?),
            Root::RichText(root) => append_nodes(root, &mut txn, nodes(source, foreign, &mut lost)?)?,
            Root::Canvas(_) => return Err(refused(0, invalid("a board can't be imported from text"))),
        }
    }
    let update = update_since(&loaded, &before);
    let answer = Answer::Imported { lost: lost.list() };
    Ok((answer, [Bytes::from(update), Bytes::new(), Bytes::new()]))
}

/// Nothing is deleted, so the blocks after the state vector are the whole edit.
fn update_since(loaded: &Loaded, before: &StateVector) -> Vec<u8> {
    loaded.doc.transact().encode_diff_v1(before)
}

/// The text of a document of the kind `text`: HTML becomes Markdown, anything else stays as it is.
fn plain(source: Source, foreign: &str, lost: &mut Lost) -> Result<String, EngineError> {
    match source {
        Source::Text | Source::Markdown => Ok(foreign.replace("\r\n", "\n")),
        Source::Html => {
            let content = nodes(source, foreign, lost)?;
            Ok(markdown::markdown(&json!({"doc": {"type": "doc", "content": content}})))
        }
    }
}

/// The blocks of a rich text.
fn nodes(source: Source, foreign: &str, lost: &mut Lost) -> Result<Vec<Value>, EngineError> {
    let read = match source {
        Source::Text => paragraphs(foreign),
        Source::Html => html::read(foreign, lost),
        Source::Markdown => html::read(&html_of_markdown(foreign), lost),
    };
    match read {
        Read::Nodes(nodes) => Ok(nodes),
        Read::TooMany => {
            let what = "the number of blocks".to_owned();
            let limit = MAX_IMPORT_NODES;
            Err(refused(0, PlaceError::TooLarge { what, limit }))
        }
    }
}

fn html_of_markdown(markdown: &str) -> String {
    use pulldown_cmark::{Options, Parser, html::push_html};
    let options = Options::ENABLE_TABLES | Options::ENABLE_STRIKETHROUGH | Options::ENABLE_TASKLISTS;
    let mut html = String::new();
    push_html(&mut html, Parser::new_ext(markdown, options));
    html
}

/// A paragraph for each line.
fn paragraphs(text: &str) -> Read {
    let mut nodes = Vec::new();
    for line in text.lines() {
        if nodes.len() >= MAX_IMPORT_NODES {
            return Read::TooMany;
        }
        nodes.push(match line {
            "" => json!({"type": "paragraph"}),
            line => json!({"type": "paragraph", "content": [{"type": "text", "text": line}]}),
        });
    }
    Read::Nodes(nodes)
}

/// Text that is there ends with a line break first.
fn append_text(text: &yrs::TextRef, txn: &mut TransactionMut<'_>, imported: &str) {
    if imported.is_empty() {
        return;
    }
    let before = text.get_string(txn);
    let separator = if before.is_empty() || before.ends_with('\n') {
        ""
    } else {
        "\n"
    };
    let end = text.len(txn);
    text.insert(txn, end, &format!("{separator}{imported}"));
}

/// The last block is inserted first, each at the same index: the engine walks to an index from the beginning.
fn append_nodes(
    root: &yrs::XmlFragmentRef,
    txn: &mut TransactionMut<'_>,
    nodes: Vec<Value>,
) -> Result<(), EngineError> {
    let end = root.len(txn);
    for node in nodes.iter().rev() {
        insert_node(root, txn, end, node, weft_crdt::limits::TYPE_NESTING).map_err(|error| refused(0, error))?;
    }
    Ok(())
}
