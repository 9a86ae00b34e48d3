//! A user's own files and what they use. Must not show files of others.

use ruma::UserId;
use weft_store::tables::media::{MEDIA_OF_USER, MEDIA_USAGE, OwnedMediaRow};
use weft_wire::limits::MAX_MEDIA_PER_PAGE;

use crate::{ContentId, Media, MediaError};

/// A file of a user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnMedia {
    /// Its id.
    pub id: String,
    /// Bytes.
    pub size: u64,
    /// The media type that the client stated.
    pub content_type: String,
    /// The file name.
    pub name: Option<String>,
    /// Time of the upload, in milliseconds since 1970.
    pub uploaded_at: u64,
}

/// A page of a user's files, in the order of their ids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnMediaPage {
    /// The files.
    pub files: Vec<OwnMedia>,
    /// The id after which the next page begins; `None`: this was the last.
    pub next: Option<String>,
    /// Bytes of all files of the user.
    pub used_bytes: u64,
    /// All files of the user.
    pub used_files: u64,
    /// Bytes that they may have.
    pub quota_bytes: u64,
}

impl Media {
    /// The files of a user whose ids come after `after`, at most `limit` and [`MAX_MEDIA_PER_PAGE`].
    ///
    /// # Errors
    /// The store can't be read.
    pub async fn own(
        &self,
        user: &UserId,
        after: Option<&ContentId>,
        limit: usize,
    ) -> Result<OwnMediaPage, MediaError> {
        let limit = limit.clamp(1, MAX_MEDIA_PER_PAGE);
        let mut query = MEDIA_OF_USER.under(&(user,));
        if let Some(after) = after {
            query = query.after(&(user, after.as_str()));
        }
        let mut rows = self.inner.store.scan(query.limit(limit.saturating_add(1))).await?;
        let is_last = rows.len() <= limit;
        rows.truncate(limit);
        let usage = self.inner.store.get(&MEDIA_USAGE, &(user,)).await?.unwrap_or_default();
        let next = rows.last().map(|((_, id), _)| id.clone()).filter(|_| !is_last);
        Ok(OwnMediaPage {
            files: rows.into_iter().map(|((_, id), row)| file(id, row)).collect(),
            next,
            used_bytes: usage.bytes,
            used_files: usage.files,
            quota_bytes: self.inner.settings.bytes_per_user,
        })
    }
}

fn file(id: String, row: OwnedMediaRow) -> OwnMedia {
    OwnMedia {
        id,
        size: row.size,
        content_type: row.content_type,
        name: row.name,
        uploaded_at: row.uploaded_at,
    }
}
