//! Requests to a renderer and their results. Data only: nothing here names an engine.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use weft_wire::anchor::Anchor;
use weft_wire::document::DocumentKind;

use crate::change::{Change, Place, Unit};

/// The form in which a document is returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Plain text.
    Text,
    /// CommonMark with tables, strikethrough and task lists.
    Markdown,
    /// A fragment of HTML without scripts, styles and event handlers.
    Html,
    /// The rendered document in canonical JSON.
    Json,
}

impl Format {
    /// All formats.
    pub const ALL: [Self; 4] = [Self::Text, Self::Markdown, Self::Html, Self::Json];

    /// The name, as in `?format=`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Markdown => "markdown",
            Self::Html => "html",
            Self::Json => "json",
        }
    }

    /// The format with a name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.name() == name)
    }
}

/// SHA-256 of the rendered document in canonical JSON: what a person saw.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TextHash(pub [u8; 32]);

impl fmt::Debug for TextHash {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(out, "{byte:02x}"))
    }
}

/// Renders a document.
#[derive(Debug, Clone)]
pub struct RenderRequest {
    /// The kind of the document.
    pub kind: DocumentKind,
    /// The whole document as a Yjs v1 update.
    pub state: Bytes,
    /// The requested form.
    pub format: Format,
}

/// A rendered document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rendered {
    /// The content in the requested form.
    pub content: String,
    /// The hash of the canonical form.
    pub text_hash: TextHash,
}

/// Turns changes into an update.
#[derive(Debug, Clone)]
pub struct EditRequest {
    /// The kind of the document.
    pub kind: DocumentKind,
    /// The whole document at present.
    pub state: Bytes,
    /// The whole document at the version to which the positions refer, if that is not the present one.
    pub base: Option<Bytes>,
    /// The changes, in order.
    pub changes: Vec<Change>,
    /// How positions are counted.
    pub unit: Unit,
    /// The client id of the new blocks.
    pub client: u64,
    /// The first clock of the new blocks: the number of clocks that the document has of this client id, 0 of a new one. In a
    /// base version it must be the same.
    pub clock: u32,
}

/// The update of an edit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edited {
    /// A Yjs v1 update with the new blocks and deletions only.
    pub update: Bytes,
    /// Changes of others at the same places since the base version.
    pub conflicts: Vec<Conflict>,
}

/// A change of others at the place of a change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conflict {
    /// The index of the change.
    pub change: usize,
    /// What others did there.
    pub kind: ConflictKind,
    /// The client whose blocks were inserted, or deleted.
    pub client: u64,
    /// The clocks of these blocks, the end excluded.
    pub clocks: (u32, u32),
    /// The range in the text at present, in the unit of the request. Empty: it was deleted.
    pub from: u32,
    /// The end of the range.
    pub to: u32,
}

/// The kind of a conflict.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ConflictKind {
    /// Text was inserted there.
    Inserted,
    /// Text was deleted there.
    Deleted,
    /// The block or element was deleted.
    Gone,
}

/// Compares two versions.
#[derive(Debug, Clone)]
pub struct DiffRequest {
    /// The kind of the document.
    pub kind: DocumentKind,
    /// The whole document at the earlier version.
    pub from: Bytes,
    /// The whole document at the later version, which contains all updates of the earlier one.
    pub to: Bytes,
}

/// Where a run is: the path of the block in a rich text, element and key in a board, empty in plain text.
pub type Path = Vec<Value>;

/// The difference of two versions, in document order.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Difference {
    /// The runs.
    pub runs: Vec<DiffRun>,
}

/// A part of the text that has one origin.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DiffRun {
    /// What happened to it.
    pub kind: RunKind,
    /// Where it is, in the later version; of deleted runs where it was.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub path: Path,
    /// The text. Embedded objects are U+FFFC.
    pub text: String,
    /// Of inserted and deleted runs: the client that wrote the blocks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<u64>,
    /// The clocks of these blocks, the end excluded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clocks: Option<(u32, u32)>,
    /// Of formatted runs: the attributes before and now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attributes: Option<(Value, Value)>,
    /// The change that it is a part of; `None` of equal runs. Changes are numbered from 0 on. A change is what follows text that stays,
    /// a node that is inserted or deleted with all that is in it, the attributes of a node, or a value of a board.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub change: Option<u32>,
}

/// The kind of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunKind {
    /// In both versions.
    Equal,
    /// In the later one.
    Insert,
    /// In the earlier one.
    Delete,
    /// In both, with other attributes.
    Format,
}

/// Applies an update that is not part of the document to a copy of it: a suggestion.
#[derive(Debug, Clone)]
pub struct ApplyRequest {
    /// The kind of the document.
    pub kind: DocumentKind,
    /// The whole document at present.
    pub state: Bytes,
    /// The update.
    pub suggestion: Bytes,
    /// The client id of the edit that has the same effect.
    pub client: u64,
    /// The changes of the difference that the edit makes; `None`: all of them.
    pub only: Option<BTreeSet<u32>>,
    /// Other addresses for `mxc` URIs in what the edit writes; usually none.
    pub addresses: BTreeMap<String, String>,
}

/// The effect of an applied update.
#[derive(Debug, Clone, PartialEq)]
pub struct Applied {
    /// An edit with the same effect by `client`, or with that of the requested changes.
    pub update: Bytes,
    /// The difference to the present document, with all changes.
    pub difference: Difference,
    /// Whether it still changes something.
    pub applies: bool,
}

/// The form of foreign text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// Plain text: a paragraph for each line.
    Text,
    /// CommonMark with tables, strikethrough and task lists.
    Markdown,
    /// HTML, a document or a part of one.
    Html,
}

/// Appends foreign text to a document.
#[derive(Debug, Clone)]
pub struct ImportRequest {
    /// The kind of the document; not a board.
    pub kind: DocumentKind,
    /// The whole document at present.
    pub state: Bytes,
    /// The foreign text, in UTF-8.
    pub foreign: Bytes,
    /// Its form.
    pub source: Source,
    /// The client id of the new blocks, which nobody has used.
    pub client: u64,
}

/// The effect of an import.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Imported {
    /// A Yjs v1 update with the new blocks only.
    pub update: Bytes,
    /// What has no form in a document.
    pub lost: Vec<LostContent>,
}

/// Content of one kind that an import left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LostContent {
    /// What it is, such as `image` or `style`.
    pub kind: String,
    /// How often it was left out.
    pub count: u64,
    /// The beginning of the first one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub example: Option<String>,
}

/// Turns the present content into that of an earlier version, by a new edit.
#[derive(Debug, Clone)]
pub struct RestoreRequest {
    /// The kind of the document.
    pub kind: DocumentKind,
    /// The whole document at present.
    pub state: Bytes,
    /// The whole document at the version to restore.
    pub target: Bytes,
    /// The client id of the new blocks.
    pub client: u64,
}

/// Makes an anchor of a place.
#[derive(Debug, Clone)]
pub struct AnchorRequest {
    /// The kind of the document.
    pub kind: DocumentKind,
    /// The whole document at the version to which the place refers.
    pub state: Bytes,
    /// What is anchored.
    pub target: Target,
    /// How positions are counted.
    pub unit: Unit,
}

/// A place in a document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// The text from `from` to `to`, not empty.
    Range {
        /// Which text; not given in plain text.
        place: Place,
        /// The first position.
        from: u32,
        /// The end position.
        to: u32,
    },
    /// A block of a rich text, or an element of a board.
    Whole {
        /// Which one.
        place: Place,
    },
}

/// Finds the places of anchors.
#[derive(Debug, Clone)]
pub struct LocateRequest {
    /// The kind of the document.
    pub kind: DocumentKind,
    /// The whole document.
    pub state: Bytes,
    /// The anchors.
    pub anchors: Vec<Anchor>,
    /// How positions are counted.
    pub unit: Unit,
}

/// Where an anchor is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Located {
    /// A range of text. Not empty.
    Range {
        /// The text in which it begins.
        place: Place,
        /// The first position.
        from: u32,
        /// The end position.
        to: u32,
        /// The text in which it ends, if that is another one.
        to_place: Option<Place>,
    },
    /// A block or an element.
    Whole {
        /// Which one.
        place: Place,
    },
    /// The whole document.
    Document,
    /// Nothing is left of it, or the document does not have it yet.
    Gone,
}

/// Makes a thumbnail of an image.
#[derive(Debug, Clone)]
pub struct ThumbnailRequest {
    /// A PNG, JPEG, GIF or WebP image.
    pub image: Bytes,
    /// Greatest width, pixels.
    pub width: u32,
    /// Greatest height, pixels.
    pub height: u32,
    /// The size is filled, and what exceeds it is cut off; otherwise the whole image fits into the size. An image that is smaller
    /// is not enlarged.
    pub crop: bool,
}

/// A thumbnail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reduced {
    /// The image.
    pub image: Bytes,
    /// Its format.
    pub format: ImageFormat,
}

/// The format of a thumbnail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ImageFormat {
    /// Of images with transparent parts.
    Png,
    /// Of others.
    Jpeg,
}
