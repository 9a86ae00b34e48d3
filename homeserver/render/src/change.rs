//! The changes of an edit by REST (`spec/docs/rendering.md`, "Edits"). Must not resolve positions: only the engine knows the
//! document.

use schemars::JsonSchema;
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{self, DeserializeOwned},
};
use serde_json::{Map, Value};

/// Attributes of formatted text; `null` removes one.
pub type Attributes = Map<String, Value>;

/// How positions and lengths are counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Unit {
    /// UTF-16 code units, as in Yjs and JavaScript.
    #[default]
    Utf16,
    /// Unicode code points.
    Codepoint,
}

/// A text within a document: in a rich text a block, in a board an element and a key.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Place {
    /// Rich text: the index of the block in its parent, from the root on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<Vec<u32>>,
    /// Rich text: the block's attribute `id`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub block: Option<String>,
    /// Board: the element.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub element: Option<String>,
    /// Board: the element's key with the text; `text` if not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
}

/// Only from an object: derived code would take an array for an object with fields in this order.
impl<'de> Deserialize<'de> for Place {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        fn field<T: DeserializeOwned, E: de::Error>(
            fields: &mut Map<String, Value>,
            name: &str,
        ) -> Result<Option<T>, E> {
            let value = fields.remove(name).unwrap_or_default();
            serde_json::from_value(value).map_err(|error| E::custom(format_args!("{name}: {error}")))
        }
        let mut fields = Map::deserialize(from)?;
        Ok(Self {
            path: field(&mut fields, "path")?,
            block: field(&mut fields, "block")?,
            element: field(&mut fields, "element")?,
            key: field(&mut fields, "key")?,
        })
    }
}

/// One change. Positions are those of the base version, after the changes before this one in the list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Change {
    /// Inserts text.
    Insert {
        /// Which text; not given in plain text.
        #[serde(default, rename = "in")]
        place: Place,
        /// The position.
        at: u32,
        /// The text.
        text: String,
        /// Its format; without it the text has the format of the character before it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        attributes: Option<Attributes>,
    },
    /// Deletes the text from `at` to `at + length`.
    Delete {
        /// Which text; not given in plain text.
        #[serde(default, rename = "in")]
        place: Place,
        /// The position.
        at: u32,
        /// The length.
        length: u32,
    },
    /// Replaces a range, or what a search finds.
    Replace {
        /// Which text; not given in plain text. A search without a place is a search in all blocks of a rich text.
        #[serde(default, rename = "in")]
        place: Place,
        /// The position. Not together with `search`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        at: Option<u32>,
        /// The length, with `at`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        length: Option<u32>,
        /// The text to search, exactly as written.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        search: Option<String>,
        /// How often it must occur: another number is an error. Without it every occurrence is replaced, and one must exist.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        count: Option<u32>,
        /// The new text.
        text: String,
    },
    /// Formats the text from `at` to `at + length`.
    Format {
        /// Which text; not given in plain text.
        #[serde(default, rename = "in")]
        place: Place,
        /// The position.
        at: u32,
        /// The length.
        length: u32,
        /// The attributes to set; `null` removes one.
        attributes: Attributes,
    },
    /// Appends text at the current end.
    Append {
        /// Which text; not given in plain text. In a rich text without a place a paragraph is appended.
        #[serde(default, rename = "in")]
        place: Place,
        /// The text.
        text: String,
    },
    /// Sets an attribute of a block, or a key of a board's element. An element that does not exist is created.
    Set {
        /// The block or element.
        #[serde(default, rename = "in")]
        place: Place,
        /// The name.
        key: String,
        /// The value.
        value: Value,
    },
    /// Removes an attribute of a block, a key of a board's element, or, without `key`, the element.
    Unset {
        /// The block or element.
        #[serde(default, rename = "in")]
        place: Place,
        /// The name.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        key: Option<String>,
    },
    /// Inserts a block (in ProseMirror's JSON) before the block that is at this path.
    InsertBlock {
        /// The path of the new block; its last number may be one after the last block.
        path: Vec<u32>,
        /// The block.
        node: Value,
    },
    /// Deletes a block with its content.
    DeleteBlock {
        /// The block.
        #[serde(rename = "in")]
        place: Place,
    },
    /// Moves a block: a copy is inserted and the block is deleted.
    MoveBlock {
        /// The block.
        #[serde(rename = "in")]
        place: Place,
        /// Its new path, after it was removed from its place.
        to: Vec<u32>,
    },
}

/// Why a change can't be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "error", rename_all = "snake_case")]
pub enum PlaceError {
    /// The range is not within the text.
    #[error("the range {from} to {to} is outside of the text, which ends at {end}")]
    Range {
        /// First position.
        from: u32,
        /// End position.
        to: u32,
        /// The text's end, in the unit of the request.
        end: u32,
    },
    /// A position is between the halves of a surrogate pair.
    #[error("position {at} is inside a character; {before} and {after} are its borders")]
    InsideCharacter {
        /// The position.
        at: u32,
        /// The character's first position.
        before: u32,
        /// The character's end.
        after: u32,
    },
    /// There is no such text, block or element.
    #[error("the document has no such {what}")]
    NoPlace {
        /// What is missing.
        what: String,
    },
    /// The change is not possible in a document of this kind, or its fields contradict each other.
    #[error("{message}")]
    Invalid {
        /// What is wrong.
        message: String,
    },
    /// The search text occurs another number of times than announced.
    #[error("the text to replace occurs {found} times")]
    Occurrences {
        /// The occurrences.
        found: u32,
    },
    /// The edit exceeds a limit.
    #[error("{what} is larger than {limit}")]
    TooLarge {
        /// What is too large.
        what: String,
        /// The limit.
        limit: usize,
    },
}
