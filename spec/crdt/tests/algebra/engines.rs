//! The content of a document according to an engine. Must be the only place that uses an engine.

use crate::oracle::Yjs;
use std::collections::BTreeMap;
use std::fmt::Write;
use yrs::types::text::YChange;
use yrs::types::{Attrs, ToJson};
use yrs::updates::decoder::Decode;
use yrs::updates::encoder::Encode;
use yrs::{Any, Doc, OffsetKind, Options, Out, ReadTxn, Text, Transact, Xml, XmlFragment, XmlOut};

/// Applies updates in the given order to an empty document and returns its content, comparable as text.
pub(crate) trait Engine {
    fn load(&mut self, updates: &[Vec<u8>]) -> String;

    /// Whether it handles updates that precede the updates they refer to.
    fn any_order(&self) -> bool {
        true
    }
}

pub(crate) struct Yrs;

impl Engine for Yrs {
    fn load(&mut self, updates: &[Vec<u8>]) -> String {
        let doc = yrs_doc(u64::from(u32::MAX));
        for update in updates {
            let update = yrs::Update::decode_v1(update).expect("our own encoding");
            doc.transact_mut()
                .apply_update(update)
                .expect("our own updates can be applied");
        }
        show(&doc)
    }

    fn any_order(&self) -> bool {
        false
    }
}

impl Engine for Yjs {
    fn load(&mut self, updates: &[Vec<u8>]) -> String {
        let hex: Vec<String> = updates.iter().map(|u| crate::oracle::to_hex(u)).collect();
        self.ask(&format!("load {}", hex.join(" ")))
    }
}

pub(crate) fn yrs_doc(client: u64) -> Doc {
    let mut options = Options::with_client_id(yrs::block::ClientID::new(client));
    options.offset_kind = OffsetKind::Utf16;
    // Otherwise yrs writes to the document while it reads, with results that depend on how the same updates are
    // bundled.
    options.cleanup_formatting = false;
    Doc::with_options(options)
}

pub(crate) fn show(doc: &Doc) -> String {
    let (text, map, array, xml) = (
        doc.get_or_insert_text("t"),
        doc.get_or_insert_map("m"),
        doc.get_or_insert_array("a"),
        doc.get_or_insert_xml_fragment("x"),
    );
    let txn = doc.transact();
    let mut out = String::from("text ");
    show_text(&text, &txn, &mut out);
    out.push_str("\nmap ");
    show_any(&map.to_json(&txn), &mut out);
    out.push_str("\narray ");
    show_any(&array.to_json(&txn), &mut out);
    out.push_str("\nxml ");
    for node in xml.children(&txn) {
        show_xml(&node, &txn, &mut out);
    }
    let sv = weft_crdt::StateVector::parse(&txn.state_vector().encode_v1()).unwrap();
    write!(
        out,
        "\nsv {:?} pending {}",
        sv.iter().collect::<Vec<_>>(),
        txn.has_missing_updates()
    )
    .unwrap();
    out
}

fn show_text<T: Text, R: ReadTxn>(text: &T, txn: &R, out: &mut String) {
    // Neighbouring pieces with the same format are joined: engines divide them differently.
    let mut open: Option<(String, String)> = None;
    for piece in text.diff(txn, YChange::identity) {
        let attributes = piece.attributes.as_deref().map(show_attributes).unwrap_or_default();
        let shown = match &piece.insert {
            Out::Any(Any::String(s)) => s.to_string(),
            other => {
                let mut shown = String::from("<");
                show_any(&other.to_json(txn), &mut shown);
                shown + ">"
            }
        };
        match &mut open {
            Some((text, with)) if *with == attributes => text.push_str(&shown),
            _ => {
                if let Some((text, with)) = open.replace((shown, attributes)) {
                    write!(out, "[{text:?} {with}]").unwrap();
                }
            }
        }
    }
    if let Some((text, with)) = open {
        write!(out, "[{text:?} {with}]").unwrap();
    }
}

fn show_attributes(attributes: &Attrs) -> String {
    let mut out = String::new();
    for (key, value) in attributes.iter().collect::<BTreeMap<_, _>>() {
        write!(out, "{key}=").unwrap();
        show_any(value, &mut out);
    }
    out
}

fn show_any(any: &Any, out: &mut String) {
    match any {
        Any::Map(map) => {
            out.push('{');
            for (key, value) in map.iter().collect::<BTreeMap<_, _>>() {
                write!(out, "{key:?}:").unwrap();
                show_any(value, out);
            }
            out.push('}');
        }
        Any::Array(items) => {
            out.push('[');
            items.iter().for_each(|item| {
                show_any(item, out);
                out.push(',');
            });
            out.push(']');
        }
        scalar => write!(out, "{scalar:?}").unwrap(),
    }
}

fn show_xml<R: ReadTxn>(node: &XmlOut, txn: &R, out: &mut String) {
    match node {
        XmlOut::Text(text) => show_text(text, txn, out),
        XmlOut::Fragment(fragment) => fragment.children(txn).for_each(|child| show_xml(&child, txn, out)),
        XmlOut::Element(element) => {
            let attributes: BTreeMap<String, String> = element
                .attributes(txn)
                .map(|(k, v)| (k.to_string(), v.to_string(txn)))
                .collect();
            write!(out, "<{} {attributes:?}>", element.tag()).unwrap();
            element.children(txn).for_each(|child| show_xml(&child, txn, out));
            out.push_str("</>");
        }
    }
}
