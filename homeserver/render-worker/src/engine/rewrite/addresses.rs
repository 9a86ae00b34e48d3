//! Other addresses for the `mxc` URIs in a document that is written anew: the files of an import have new ones. Must not
//! change anything else.

use std::collections::BTreeMap;

use serde_json::Value;
use weft_render::PlaceError;
use weft_wire::mxc;

use super::super::compare::{Part, Presence};
use super::super::edit::invalid;

/// New addresses by `mxc` URI.
#[derive(Default)]
pub(super) struct Addresses(BTreeMap<String, String>);

impl Addresses {
    /// Reads a JSON object of strings; nothing stands for none.
    pub(super) fn read(json: &[u8]) -> Result<Self, PlaceError> {
        if json.is_empty() {
            return Ok(Self::default());
        }
        let read = serde_json::from_slice(json).map(Self);
        read.map_err(|_| invalid("the addresses are no JSON object of strings"))
    }

    /// A value with the new addresses, in all its texts.
    pub(super) fn of(&self, mut value: Value) -> Value {
        if self.0.is_empty() {
            return value;
        }
        let mut open = vec![&mut value];
        while let Some(next) = open.pop() {
            match next {
                Value::String(text) => *text = self.in_text(text),
                Value::Array(items) => open.extend(items.iter_mut()),
                Value::Object(entries) => open.extend(entries.values_mut()),
                Value::Null | Value::Bool(_) | Value::Number(_) => {}
            }
        }
        value
    }

    fn in_text(&self, text: &str) -> String {
        mxc::replaced(text, |uri| self.0.get(uri).cloned()).into_owned()
    }

    /// The parts of a text with the new addresses in those that will be written. Neighbours that differ only in who wrote them
    /// are joined: an address may have been typed by two people.
    pub(super) fn of_parts(&self, parts: Vec<Part>, wanted: Presence) -> Vec<Part> {
        if self.0.is_empty() {
            return parts;
        }
        let mut joined: Vec<Part> = Vec::with_capacity(parts.len());
        for part in parts {
            match joined.last_mut() {
                Some(last) if part.presence == wanted && continues(last, &part) => append(last, &part),
                _ => joined.push(part),
            }
        }
        for part in joined.iter_mut().filter(|part| part.presence == wanted) {
            part.insert = self.of(part.insert.take());
            part.older = self.of(part.older.take());
            part.newer = self.of(part.newer.take());
        }
        joined
    }
}

fn continues(last: &Part, part: &Part) -> bool {
    let are_texts = last.insert.is_string() && part.insert.is_string();
    are_texts && last.presence == part.presence && last.older == part.older && last.newer == part.newer
}

fn append(last: &mut Part, part: &Part) {
    if let (Value::String(text), Some(more)) = (&mut last.insert, part.insert.as_str()) {
        text.push_str(more);
    }
}
