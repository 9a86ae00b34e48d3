//! Tables of media: what is stored, who owns it, and what is cached of other servers. Tags 0x07xx. Must not use tags of other
//! groups.

use ruma::{OwnedServerName, OwnedUserId};
use serde::{Deserialize, Serialize};

crate::tables! {
    MEDIA: (String,) => MediaRow, Global, Ground, 0x0701,
        "Content id: a file that users of this server uploaded. The bytes are in the media store.";
    MEDIA_OF_USER: (OwnedUserId, String) => OwnedMediaRow, User, Ground, 0x0702,
        "User, content id: the user's files, as they uploaded them.";
    MEDIA_USAGE: (OwnedUserId,) => MediaUsageRow, User, Ground, 0x0703,
        "What a user's files count against the quota, and the ids that wait for their upload.";
    MEDIA_TOTAL: () => MediaTotalRow, Global, Ground, 0x0704,
        "The bytes and the number of all files, for the limits of the server.";
    MEDIA_IDS: (String,) => MediaIdRow, Global, Ground, 0x0705,
        "A media id that was created before its upload: its user, and the content once that is uploaded.";
    MEDIA_THUMBNAILS: (String, String) => ThumbnailRow, Global, Derived, 0x0706,
        "Name of a stored file, size: a thumbnail in the media store.";
    REMOTE_MEDIA: (OwnedServerName, String) => RemoteMediaRow, Lane(Server), Derived, 0x0707,
        "Server, media id: a file of another server in the cache.";
}

/// A stored file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MediaRow {
    /// Bytes.
    pub size: u64,
    /// The media type with which it is served.
    pub content_type: String,
    /// The file name of its first upload.
    #[serde(default)]
    pub name: Option<String>,
    /// Time of the first upload, in milliseconds since 1970.
    pub uploaded_at: u64,
    /// Time of a read, in milliseconds since 1970; behind by up to a day.
    pub read_at: u64,
    /// The number of users who own it.
    pub owners: u64,
    /// Something was found that names it; events never disappear.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub named: bool,
    /// Since when it is hidden, in milliseconds since 1970: nothing named it then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hidden_at: Option<u64>,
}

/// A file as one of its owners uploaded it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnedMediaRow {
    /// Bytes.
    pub size: u64,
    /// The media type that the client stated.
    pub content_type: String,
    /// The file name.
    #[serde(default)]
    pub name: Option<String>,
    /// Time of the upload, in milliseconds since 1970.
    pub uploaded_at: u64,
}

/// What a user's files use.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MediaUsageRow {
    /// Bytes of the files.
    pub bytes: u64,
    /// Files.
    pub files: u64,
    /// Media ids that were created before their upload, with those that were used.
    #[serde(default)]
    pub ids: u64,
    /// Ids that wait for their upload, and when each expires, in milliseconds since 1970.
    #[serde(default)]
    pub waiting: Vec<(String, u64)>,
}

/// What all files use.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MediaTotalRow {
    /// Bytes of the files of this server's users; a file with several owners counts once.
    pub bytes: u64,
    /// The number of these files.
    pub files: u64,
    /// Bytes of the cached files of other servers.
    pub cached_bytes: u64,
    /// The number of these files.
    pub cached_files: u64,
}

/// A media id that was created before its upload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MediaIdRow {
    /// The user who created it, and may upload.
    pub user: OwnedUserId,
    /// When it expires if nothing is uploaded, in milliseconds since 1970.
    pub expires_at: u64,
    /// The content id, after the upload.
    #[serde(default)]
    pub content: Option<String>,
}

/// A thumbnail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ThumbnailRow {
    /// Bytes.
    pub size: u64,
    /// Media type.
    pub content_type: String,
}

/// A file of another server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoteMediaRow {
    /// Bytes.
    pub size: u64,
    /// The media type with which it is served.
    pub content_type: String,
    /// The file name.
    #[serde(default)]
    pub name: Option<String>,
    /// Time of a read, in milliseconds since 1970; behind by up to an hour.
    pub read_at: u64,
}

crate::json_value!(
    MediaRow,
    OwnedMediaRow,
    MediaUsageRow,
    MediaTotalRow,
    MediaIdRow,
    ThumbnailRow,
    RemoteMediaRow
);
