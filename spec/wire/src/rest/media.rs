//! Bodies of `/media`: a user's uploaded files. Field names are part of the protocol.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A file of the caller.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MediaFile {
    /// The media id: the SHA-256 of the content in URL-safe base64 without padding.
    pub id: String,
    /// The `mxc` URI.
    pub uri: String,
    /// Bytes.
    pub size: u64,
    /// The media type that the client stated.
    pub content_type: String,
    /// The file name, if the client stated one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Time of the upload, in milliseconds since 1970.
    pub uploaded_at: u64,
}

/// What the caller's files use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MediaUsage {
    /// Bytes of all files.
    pub bytes: u64,
    /// Files.
    pub files: u64,
    /// Bytes that they may have.
    pub max_bytes: u64,
}

/// Answer to `GET /media`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MediaList {
    /// A page of the files, in the order of their ids.
    pub files: Vec<MediaFile>,
    /// What all files use.
    pub usage: MediaUsage,
    /// `page` of the next request; absent: this was the last page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_page: Option<String>,
}
