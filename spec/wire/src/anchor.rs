//! What a comment is about: the field `dev.weft.anchor` of a message (`spec/docs/comments.md`). Other servers and clients write it, so
//! that its form is checked before an engine gets it. Must not resolve positions: only an engine knows the text.

use ruma::OwnedEventId;
use serde::{Deserialize, Serialize};

use crate::limits::{MAX_ANCHOR_HEADS, MAX_ANCHOR_NAME_BYTES, MAX_QUOTE_BYTES};

/// The clocks of a Yjs client end here.
const CLOCK_END: u32 = 1 << 31;
/// Client ids are below this number.
const CLIENT_ID_END: u64 = 1 << 53;

/// The id of a block: one character, object or node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct BlockId {
    /// The Yjs client id.
    pub client: u64,
    /// The clock.
    pub clock: u32,
}

impl BlockId {
    const fn is_valid(self) -> bool {
        self.client < CLIENT_ID_END && self.clock < CLOCK_END
    }
}

/// A Yjs relative position, as `relativePositionToJSON` writes it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RelativePosition {
    /// The type that has the position, if it is not a root.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub within: Option<BlockId>,
    /// The name of the root that has the position.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tname: Option<String>,
    /// The block next to the position; without it the position is an end of the type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub item: Option<BlockId>,
    /// Not negative: the position is before the block. Negative: it is after the block.
    #[serde(default)]
    pub assoc: i32,
}

impl RelativePosition {
    fn is_valid(&self) -> bool {
        let ids = [self.within, self.item];
        let is_named = self.item.is_some() || self.within.is_some() || self.tname.is_some();
        let name = self.tname.as_ref().map_or(0, String::len);
        is_named && name <= MAX_ANCHOR_NAME_BYTES && ids.into_iter().flatten().all(BlockId::is_valid)
    }
}

/// The field `dev.weft.anchor` of a message.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Anchor {
    /// The beginning of a range of text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<RelativePosition>,
    /// The end of the range.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<RelativePosition>,
    /// A node of a rich text: the id of its block.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<BlockId>,
    /// An element of a board: its key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub element: Option<String>,
    /// The text that was there when the comment was made.
    #[serde(default)]
    pub quote: String,
    /// The events whose content the author saw; without them that of the event's ancestors.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub heads: Vec<OwnedEventId>,
}

/// What an anchor names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AnchorTarget<'a> {
    /// A range of text.
    Range(&'a RelativePosition, &'a RelativePosition),
    /// A node of a rich text.
    Node(BlockId),
    /// An element of a board.
    Element(&'a str),
    /// The whole document.
    Document,
}

impl Anchor {
    /// What it names; `None`: its form is invalid, and the message has no anchor.
    #[must_use]
    pub fn target(&self) -> Option<AnchorTarget<'_>> {
        if self.quote.len() > MAX_QUOTE_BYTES || self.heads.len() > MAX_ANCHOR_HEADS {
            return None;
        }
        match (&self.from, &self.to, self.node, &self.element) {
            (Some(from), Some(to), None, None) if from.is_valid() && to.is_valid() => {
                Some(AnchorTarget::Range(from, to))
            }
            (None, None, Some(node), None) if node.is_valid() => Some(AnchorTarget::Node(node)),
            (None, None, None, Some(element)) if element.len() <= MAX_ANCHOR_NAME_BYTES => {
                Some(AnchorTarget::Element(element))
            }
            (None, None, None, None) => Some(AnchorTarget::Document),
            _ => None,
        }
    }
}

/// A quotation within its limit, cut between characters.
#[must_use]
pub fn quotation(text: &str) -> &str {
    let end = text.floor_char_boundary(MAX_QUOTE_BYTES);
    text.get(..end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// The form of an anchor; "invalid" also if it is none at all.
    fn form(anchor: &Value) -> String {
        let Ok(anchor) = serde_json::from_value::<Anchor>(anchor.clone()) else {
            return "invalid".to_owned();
        };
        let form = match anchor.target() {
            Some(AnchorTarget::Range(..)) => "range",
            Some(AnchorTarget::Node(_)) => "node",
            Some(AnchorTarget::Element(_)) => "element",
            Some(AnchorTarget::Document) => "document",
            None => "invalid",
        };
        form.to_owned()
    }

    #[test]
    fn anchors_match_the_vectors() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../vectors/anchors");
        let mut seen = 0;
        for file in std::fs::read_dir(folder).unwrap() {
            let path = file.unwrap().path();
            let vector: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
            let mut anchor = vector["anchor"].clone();
            if let Some(times) = vector["quote_times"].as_u64() {
                anchor["quote"] = json!("x".repeat(usize::try_from(times).unwrap()));
            }
            if let Some(times) = vector["heads_times"].as_u64() {
                anchor["heads"] = json!(vec!["$event"; usize::try_from(times).unwrap()]);
            }
            if let Some(times) = vector["element_times"].as_u64() {
                anchor["element"] = json!("x".repeat(usize::try_from(times).unwrap()));
            }
            assert_eq!(json!(form(&anchor)), vector["expect"], "{}", path.display());
            seen += 1;
        }
        assert!(seen >= 20, "{seen} vectors");
    }

    #[test]
    fn an_anchor_is_written_as_yjs_writes_positions() {
        let position = |clock, assoc| RelativePosition {
            tname: Some("body".to_owned()),
            item: Some(BlockId { client: 7, clock }),
            assoc,
            ..RelativePosition::default()
        };
        let anchor = Anchor {
            from: Some(position(1, 0)),
            to: Some(position(2, -1)),
            quote: "ab".to_owned(),
            ..Anchor::default()
        };
        let expected = json!({
            "from": {"tname": "body", "item": {"client": 7, "clock": 1}, "assoc": 0},
            "to": {"tname": "body", "item": {"client": 7, "clock": 2}, "assoc": -1},
            "quote": "ab"
        });
        assert_eq!(serde_json::to_value(anchor).unwrap(), expected);
    }

    #[test]
    fn a_quotation_is_cut_between_characters() {
        let text = format!("{}\u{1f600}", "x".repeat(MAX_QUOTE_BYTES - 1));
        assert_eq!(quotation(&text), "x".repeat(MAX_QUOTE_BYTES - 1));
        assert_eq!(quotation("short"), "short");
    }
}
