//! The service: settings, the beginning of uploads, and finding and reading files. Must not count: [`crate::ledger`] does.

use std::{io, ops::Range, path::PathBuf, sync::Arc, time::Duration};

use ruma::{OwnedServerName, OwnedUserId, ServerName, UserId};
use tokio::{
    sync::{Mutex, Notify},
    time::{Instant, timeout_at},
};
use weft_budget::{Budget, KeyedBudget};
use weft_clock::{Clock, millis};
use weft_jobs::JobWaker;
use weft_store::{
    Batch, Store,
    tables::media::{MEDIA, MEDIA_IDS, MediaIdRow, MediaRow},
};
use weft_wire::limits;

use crate::{
    Area, BlobKey, BlobStream, Blobs, ContentId, Declared, MediaError, RemoteMedia, Thumbnailer, Upload,
    ids::is_media_id, incoming::Incoming, kind::essence, locks::Locks,
};

/// A time of a read is renewed when it is older than this.
const READ_AT_AGE_MS: u64 = 24 * 60 * 60 * 1_000;

/// The operator's limits.
#[derive(Debug, Clone)]
pub struct MediaSettings {
    /// Bytes of one file.
    pub max_upload_bytes: u64,
    /// Bytes of all files of one user.
    pub bytes_per_user: u64,
    /// Bytes of all files of this server's users.
    pub bytes: u64,
    /// Media types that are accepted, as `type/subtype` or `type/*`; empty: all.
    pub allowed_types: Vec<String>,
    /// Bytes of the cache of other servers' files.
    pub cache_bytes: u64,
    /// Days after which an unread file leaves the cache.
    pub cache_days: u64,
    /// Days after which an uploaded file that nothing names is removed; 0: never.
    pub unnamed_days: u64,
}

impl Default for MediaSettings {
    fn default() -> Self {
        Self {
            max_upload_bytes: limits::MAX_UPLOAD_BYTES,
            bytes_per_user: limits::MEDIA_BYTES_PER_USER,
            bytes: limits::MEDIA_BYTES,
            allowed_types: Vec::new(),
            cache_bytes: limits::MEDIA_CACHE_BYTES,
            cache_days: limits::MEDIA_CACHE_DAYS,
            unnamed_days: 0,
        }
    }
}

impl MediaSettings {
    fn allows(&self, content_type: &str) -> bool {
        let essence = essence(content_type);
        let fits = |allowed: &String| match allowed.strip_suffix("/*") {
            Some(kind) => essence.split('/').next() == Some(kind),
            None => *allowed == essence,
        };
        self.allowed_types.is_empty() || self.allowed_types.iter().any(fits)
    }
}

/// What the service works with.
pub struct MediaPorts {
    /// The name of this server.
    pub server_name: OwnedServerName,
    /// The rows.
    pub store: Store,
    /// The bytes.
    pub blobs: Arc<dyn Blobs>,
    /// The folder of files that are being received; used by this process only.
    pub incoming: PathBuf,
    /// The time of day.
    pub clock: Arc<dyn Clock>,
    /// Thumbnails.
    pub thumbnails: Arc<dyn Thumbnailer>,
    /// Other servers.
    pub remote: Arc<dyn RemoteMedia>,
    /// The operator's limits.
    pub settings: MediaSettings,
}

/// See the module. Cheap to clone.
#[derive(Clone)]
pub struct Media {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) server_name: OwnedServerName,
    pub(crate) store: Store,
    pub(crate) blobs: Arc<dyn Blobs>,
    pub(crate) incoming: Incoming,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) thumbnails: Arc<dyn Thumbnailer>,
    pub(crate) remote: Arc<dyn RemoteMedia>,
    pub(crate) settings: MediaSettings,
    pub(crate) uploads: Arc<KeyedBudget<OwnedUserId>>,
    pub(crate) fetches: Arc<KeyedBudget<OwnedServerName>>,
    pub(crate) thumbnail_bytes: Arc<Budget>,
    /// For the work on one file.
    pub(crate) locks: Locks,
    /// For reading and changing the counts, which commits of several users share.
    pub(crate) counts: Mutex<()>,
    /// Notified after each upload.
    pub(crate) uploaded: Notify,
    pub(crate) waker: JobWaker,
}

/// A stored file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Its name in the media store.
    pub key: BlobKey,
    /// Bytes.
    pub size: u64,
    /// Its media type.
    pub content_type: String,
    /// Its file name.
    pub name: Option<String>,
    /// Identifies these bytes, for `ETag`: letters, digits, `-` and `_`.
    pub tag: String,
}

/// What a request waits for.
#[derive(Debug, Clone, Copy)]
pub struct Wait {
    /// How long for an upload or another request for the same file.
    pub at_most: Duration,
    /// Whether a file that is not on this server is requested from its server.
    pub fetch: bool,
}

impl Default for Wait {
    fn default() -> Self {
        Self {
            at_most: Duration::from_millis(limits::MEDIA_WAIT_MS),
            fetch: true,
        }
    }
}

impl Media {
    /// The service. Removes what interrupted uploads of an earlier run left. [`Media::start_jobs`] must be called too.
    ///
    /// # Errors
    /// The folder of received files can't be used.
    pub fn open(ports: MediaPorts) -> io::Result<Self> {
        let (per_user, uploads) = (limits::MAX_UPLOADS_PER_USER, limits::MAX_UPLOADS);
        let (per_server, fetches) = (limits::MAX_MEDIA_FETCHES_PER_SERVER, limits::MAX_MEDIA_FETCHES);
        Ok(Self {
            inner: Arc::new(Inner {
                server_name: ports.server_name,
                store: ports.store,
                blobs: ports.blobs,
                incoming: Incoming::open(&ports.incoming)?,
                clock: ports.clock,
                thumbnails: ports.thumbnails,
                remote: ports.remote,
                settings: ports.settings,
                uploads: KeyedBudget::new("media_uploads", per_user, uploads),
                fetches: KeyedBudget::new("media_fetches", per_server, fetches),
                thumbnail_bytes: Budget::new("thumbnail_bytes", limits::MAX_THUMBNAIL_BYTES),
                locks: Locks::default(),
                counts: Mutex::default(),
                uploaded: Notify::new(),
                waker: JobWaker::default(),
            }),
        })
    }

    /// The budgets, for metrics.
    #[must_use]
    pub fn budgets(&self) -> [&Arc<Budget>; 3] {
        let inner = &*self.inner;
        [inner.uploads.total(), inner.fetches.total(), &inner.thumbnail_bytes]
    }

    /// The operator's limits.
    #[must_use]
    pub fn settings(&self) -> &MediaSettings {
        &self.inner.settings
    }

    /// The name of the server in the `mxc` URIs of its files.
    #[must_use]
    pub fn server_name(&self) -> &ServerName {
        &self.inner.server_name
    }

    pub(crate) fn now(&self) -> u64 {
        millis(self.inner.clock.now())
    }

    /// Begins an upload, under the id that the user created before or without one. `length` is the size that the client
    /// states.
    ///
    /// # Errors
    /// The id is unknown, another user's or used; the type is not allowed; a limit is reached.
    pub async fn begin_upload(
        &self,
        user: &UserId,
        declared: Declared,
        waiting_id: Option<String>,
        length: Option<u64>,
    ) -> Result<Upload, MediaError> {
        let inner = &*self.inner;
        if let Some(id) = &waiting_id {
            self.may_upload(user, id).await?;
        }
        if !inner.settings.allows(&declared.content_type) {
            return Err(MediaError::TypeNotAllowed {
                content_type: declared.content_type,
            });
        }
        let limit = inner.settings.max_upload_bytes;
        if length.is_some_and(|length| length > limit) {
            return Err(MediaError::TooLarge { limit });
        }
        let share = inner.uploads.try_take(&user.to_owned(), 1)?;
        self.check_quota(user, length.unwrap_or_default()).await?;
        Ok(Upload {
            media: self.clone(),
            user: user.to_owned(),
            declared,
            waiting_id,
            spool: inner.incoming.create(limit).await?,
            _share: share,
        })
    }

    async fn may_upload(&self, user: &UserId, id: &str) -> Result<(), MediaError> {
        let row = self.inner.store.get(&MEDIA_IDS, &(id,)).await?;
        match row.ok_or(MediaError::NotFound)? {
            row if row.user != *user => Err(MediaError::OtherUser),
            row if row.content.is_some() => Err(MediaError::Overwrites),
            row if row.expires_at <= self.now() => Err(MediaError::NotFound),
            _ => Ok(()),
        }
    }

    /// Finds a file of any server for a user.
    ///
    /// # Errors
    /// There is none, it is not uploaded in time, its server did not return it, or a store failed.
    pub async fn find(&self, user: &UserId, server: &ServerName, id: &str, wait: Wait) -> Result<Found, MediaError> {
        if !is_media_id(id) {
            return Err(MediaError::NotFound);
        }
        if server == self.server_name() {
            self.find_own(id, wait).await
        } else {
            self.find_cached(user, server, id, wait).await
        }
    }

    /// Finds a file of this server.
    ///
    /// # Errors
    /// There is none, it is not uploaded in time, or the store failed.
    pub async fn find_own(&self, id: &str, wait: Wait) -> Result<Found, MediaError> {
        let content = match ContentId::parse(id) {
            Some(content) => content,
            None if is_media_id(id) => self.content_of(id, wait).await?,
            None => return Err(MediaError::NotFound),
        };
        let row = self.inner.store.get(&MEDIA, &(content.as_str(),)).await?;
        // A hidden file is about to be removed, because nothing names it.
        let row = row.filter(|row| row.hidden_at.is_none()).ok_or(MediaError::NotFound)?;
        self.note_read(&content, &row).await;
        Ok(Found {
            key: content_key(&content),
            size: row.size,
            content_type: row.content_type,
            name: row.name,
            tag: content.as_str().to_owned(),
        })
    }

    /// The content of an id that was created before its upload.
    async fn content_of(&self, id: &str, wait: Wait) -> Result<ContentId, MediaError> {
        let deadline = Instant::now() + wait.at_most;
        loop {
            let mut uploaded = std::pin::pin!(self.inner.uploaded.notified());
            // Before the row is read: an upload in between must not be missed.
            uploaded.as_mut().enable();
            let row: Option<MediaIdRow> = self.inner.store.get(&MEDIA_IDS, &(id,)).await?;
            let row = row.ok_or(MediaError::NotFound)?;
            if let Some(content) = row.content {
                return ContentId::parse(&content).ok_or(MediaError::NotFound);
            }
            if row.expires_at <= self.now() {
                return Err(MediaError::NotFound);
            }
            if timeout_at(deadline, uploaded).await.is_err() {
                return Err(MediaError::NotYetUploaded);
            }
        }
    }

    /// Records the time of a read, once a day. A failure has no consequence.
    async fn note_read(&self, content: &ContentId, row: &MediaRow) {
        let now = self.now();
        if now.saturating_sub(row.read_at) < READ_AT_AGE_MS {
            return;
        }
        let mut batch = Batch::new();
        batch.require(&MEDIA, &(content.as_str(),), Some(row));
        let read = MediaRow {
            read_at: now,
            ..row.clone()
        };
        batch.put(&MEDIA, &(content.as_str(),), &read);
        if let Err(error) = self.inner.store.commit(batch).await {
            tracing::debug!(%content, %error, "the time of a read was not recorded");
        }
    }

    /// Reads a part of a file.
    ///
    /// # Errors
    /// The range is not within the file, or the media store failed.
    pub async fn read(&self, file: &Found, range: Range<u64>) -> Result<BlobStream, MediaError> {
        Ok(self.inner.blobs.read(&file.key, range).await?)
    }
}

/// The name of an uploaded file in the media store.
pub(crate) fn content_key(content: &ContentId) -> BlobKey {
    BlobKey::new(Area::Content, content.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn allowed_types_are_exact_or_of_a_kind() {
        let settings = MediaSettings {
            allowed_types: vec!["image/*".to_owned(), "text/plain".to_owned()],
            ..MediaSettings::default()
        };
        for good in ["image/png", "IMAGE/svg+xml", "text/plain; charset=utf-8"] {
            assert!(settings.allows(good), "{good}");
        }
        for wrong in ["text/html", "imagex/png", "application/octet-stream", "image"] {
            assert_eq!(settings.allows(wrong), wrong == "image", "{wrong}");
        }
        assert!(MediaSettings::default().allows("a/b"));
    }
}
