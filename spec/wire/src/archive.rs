//! The archive of a document: the names of its files and its manifest (`spec/docs/archive.md`).
//!
//! Shapes only. Must not read or write archives.

use ruma::{OwnedRoomId, OwnedServerName};
use serde::{Deserialize, Serialize};

use crate::rest::Document;

/// The version of the format, in the field `weft_archive` of the manifest.
pub const ARCHIVE_FORMAT: u32 = 1;
/// The manifest.
pub const MANIFEST: &str = "manifest.json";
/// The content as a Yjs v1 update.
pub const CONTENT: &str = "content.yjs";
/// The signed log.
pub const AUDIT_LOG: &str = "audit.jsonl";
/// The named versions.
pub const VERSIONS: &str = "versions.json";
/// The members and their roles.
pub const MEMBERS: &str = "members.json";
/// The folder of attachments.
pub const ATTACHMENTS: &str = "attachments/";

/// What is in an archive, and what is not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// [`ARCHIVE_FORMAT`]; 0 in archives that are older than the field.
    #[serde(default)]
    pub weft_archive: u32,
    /// The server that made it; absent in archives that are older than the field.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<OwnedServerName>,
    /// The document, as its server describes it.
    pub document: Document,
    /// The position of the document's last event on its server.
    #[serde(default)]
    pub position: u64,
    /// The number of messages (chat, comments, suggestions) that only the signed log has.
    #[serde(default)]
    pub messages: u64,
    /// The number of its members.
    #[serde(default)]
    pub members: u64,
    /// The files in the folder [`ATTACHMENTS`].
    #[serde(default)]
    pub attachments: Vec<ArchivedFile>,
    /// What is not in the archive, and why.
    #[serde(default)]
    pub skipped: Vec<Skipped>,
}

/// An attachment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ArchivedFile {
    /// Its `mxc` URI on the server that made the archive.
    pub uri: String,
    /// Its name in the archive.
    pub file: String,
    /// Its media type.
    pub content_type: String,
    /// The name with which it was uploaded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Bytes.
    pub size: u64,
    /// The content names it; otherwise only messages do.
    pub in_content: bool,
}

/// Something that is not in the archive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skipped {
    /// The name of the file that is missing, or the `mxc` URI of an attachment.
    pub file: String,
    /// Why.
    pub reason: String,
}

/// Content of the state event `dev.weft.imported`, state key empty: from which document of another server an operator imported
/// this one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImportedContent {
    /// The server that made the archive.
    pub server: OwnedServerName,
    /// The document on that server.
    pub room_id: OwnedRoomId,
    /// The `mxc` URI of its signed log, for `weft verify`; absent if it was not kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log: Option<String>,
}
