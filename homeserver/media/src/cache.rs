//! The cache of other servers' files: each is requested once at a time, within limits of bytes, time and downloads, and removed
//! when it was not read for long or the cache is full. Must not answer with a file before it is complete.

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use futures_util::StreamExt as _;
use ruma::{ServerName, UserId};
use sha2::{Digest as _, Sha256};
use tokio::time::{Instant, timeout, timeout_at};
use weft_jobs::withdraw;
use weft_store::{
    Batch, Lane,
    tables::media::{MEDIA_TOTAL, REMOTE_MEDIA, RemoteMediaRow},
};
use weft_wire::limits;

use crate::{
    Area, BlobKey, Declared, Found, Media, MediaError, RemoteError, Wait,
    incoming::Complete,
    jobs::{REMOVE, remove_key, request_removal, request_trim},
    kind::served_type,
};

/// A time of a read is renewed when it is older than this.
const READ_AT_AGE_MS: u64 = 60 * 60 * 1_000;
/// Milliseconds after which bytes are removed if no row was written for them.
const UNCOUNTED_MS: u64 = 60 * 60 * 1_000;
/// Milliseconds of a day.
const DAY_MS: u64 = 24 * 60 * 60 * 1_000;
/// After removals the cache is this much below its limit, so that not each further file needs some.
const TRIMMED_PERCENT: u64 = 90;

/// The name of a file of another server in the media store: ids of other servers are not hashes.
pub(crate) fn cache_key(server: &ServerName, id: &str) -> BlobKey {
    let hash = Sha256::digest(format!("{server}/{id}"));
    BlobKey::new(Area::Cache, &URL_SAFE_NO_PAD.encode(hash))
}

impl Media {
    /// Finds a file of another server, in the cache or there.
    pub(crate) async fn find_cached(
        &self,
        user: &UserId,
        server: &ServerName,
        id: &str,
        wait: Wait,
    ) -> Result<Found, MediaError> {
        if let Some(found) = self.cached(server, id).await? {
            return Ok(found);
        }
        if !wait.fetch {
            return Err(MediaError::NotFound);
        }
        let name = cache_key(server, id).to_string();
        let one = timeout(wait.at_most, self.inner.locks.lock(&name)).await;
        let one = one.map_err(|_| MediaError::NotYetUploaded)?;
        if let Some(found) = self.cached(server, id).await? {
            return Ok(found);
        }
        // In a task of its own: if the client does not wait until a large file is complete, its next request finds it.
        let (media, user, server, id) = (self.clone(), user.to_owned(), server.to_owned(), id.to_owned());
        let fetched = tokio::spawn(async move {
            let _one = one;
            media.fetch_and_store(&user, &server, &id).await
        });
        fetched.await.map_err(std::io::Error::other)?
    }

    async fn fetch_and_store(&self, user: &UserId, server: &ServerName, id: &str) -> Result<Found, MediaError> {
        let key = cache_key(server, id);
        let (complete, declared) = self.fetch(user, server, id).await?;
        let mut batch = Batch::new();
        let origin = format!("{server} {id}");
        request_removal(&mut batch, &key, self.now().saturating_add(UNCOUNTED_MS), &origin);
        self.inner.store.commit(batch).await?;
        self.inner.blobs.put(&key, &complete.path).await?;
        let row = RemoteMediaRow {
            size: complete.size,
            content_type: served_type(&declared.content_type, &complete.first),
            name: declared.name,
            read_at: self.now(),
        };
        self.count_cached(server, id, &row).await?;
        Ok(found(key, row))
    }

    async fn cached(&self, server: &ServerName, id: &str) -> Result<Option<Found>, MediaError> {
        let Some(row) = self.inner.store.get(&REMOTE_MEDIA, &(server, id)).await? else {
            return Ok(None);
        };
        let now = self.now();
        if now.saturating_sub(row.read_at) >= READ_AT_AGE_MS {
            let mut batch = Batch::new();
            batch.require(&REMOTE_MEDIA, &(server, id), Some(&row));
            let read = RemoteMediaRow {
                read_at: now,
                ..row.clone()
            };
            batch.put(&REMOTE_MEDIA, &(server, id), &read);
            if let Err(error) = self.inner.store.commit(batch).await {
                tracing::debug!(%server, id, %error, "the time of a read was not recorded");
            }
        }
        Ok(Some(found(cache_key(server, id), row)))
    }

    /// Receives a file of another server.
    async fn fetch(&self, user: &UserId, server: &ServerName, id: &str) -> Result<(Complete, Declared), MediaError> {
        let inner = &*self.inner;
        let _share = inner.fetches.try_take(&server.to_owned(), 1)?;
        let unreachable = || RemoteError::Unreachable {
            server: server.to_owned(),
        };
        let answer = Duration::from_secs(limits::MEDIA_FETCH_ANSWER_SECONDS);
        let opened = timeout(answer, inner.remote.open(user, server, id)).await;
        let mut file = opened.map_err(|_| unreachable())??;
        let deadline = Instant::now() + Duration::from_secs(limits::MEDIA_FETCH_SECONDS);
        let mut spool = inner.incoming.create(inner.settings.max_upload_bytes).await?;
        while let Some(part) = timeout_at(deadline, file.body.next())
            .await
            .map_err(|_| unreachable())?
        {
            let part = part.map_err(|error| {
                tracing::debug!(%server, id, %error, "the file of another server ended early");
                RemoteError::Unusable
            })?;
            spool.write(&part).await?;
        }
        let declared = Declared::new(file.content_type.as_deref(), file.name.as_deref());
        Ok((spool.finish().await?, declared))
    }

    async fn count_cached(&self, server: &ServerName, id: &str, row: &RemoteMediaRow) -> Result<(), MediaError> {
        let inner = &*self.inner;
        let _counts = inner.counts.lock().await;
        let before = inner.store.get(&MEDIA_TOTAL, &()).await?;
        let mut total = before.unwrap_or_default();
        total.cached_bytes = total.cached_bytes.saturating_add(row.size);
        total.cached_files = total.cached_files.saturating_add(1);
        let mut batch = Batch::new();
        batch.belongs_to(server);
        batch.require(&MEDIA_TOTAL, &(), before.as_ref());
        batch.require(&REMOTE_MEDIA, &(server, id), None);
        batch.put(&MEDIA_TOTAL, &(), &total);
        batch.put(&REMOTE_MEDIA, &(server, id), row);
        withdraw(&mut batch, Lane::FIRST, (REMOVE, &remove_key(&cache_key(server, id))));
        let is_full = total.cached_bytes > inner.settings.cache_bytes || total.cached_files > limits::MAX_CACHED_MEDIA;
        if is_full {
            request_trim(&mut batch, self.now());
        }
        inner.store.commit(batch).await?;
        if is_full {
            inner.waker.wake();
        }
        Ok(())
    }

    /// Removes the files that nobody read for long, and if the cache is too full the least recently read ones.
    pub(crate) async fn trim_cache(&self) -> Result<(), MediaError> {
        let settings = &self.inner.settings;
        let oldest = self.now().saturating_sub(settings.cache_days.saturating_mul(DAY_MS));
        let mut rows = self.inner.store.stream(REMOTE_MEDIA.under(&()))?;
        let (mut files, mut bytes) = (Vec::new(), 0_u64);
        while let Some(page) = rows.page().await? {
            for ((server, id), row) in page {
                bytes = bytes.saturating_add(row.size);
                files.push((row.read_at, row.size, server, id));
            }
        }
        files.sort_unstable();
        let percent = |limit: u64| limit / 100 * TRIMMED_PERCENT;
        let is_full = bytes > settings.cache_bytes || files.len() as u64 > limits::MAX_CACHED_MEDIA;
        let mut left = files.len() as u64;
        for (read_at, size, server, id) in files {
            let has_room = bytes <= percent(settings.cache_bytes) && left <= percent(limits::MAX_CACHED_MEDIA);
            if read_at >= oldest && (!is_full || has_room) {
                break;
            }
            self.uncount_cached(&server, &id).await?;
            bytes = bytes.saturating_sub(size);
            left = left.saturating_sub(1);
        }
        Ok(())
    }

    async fn uncount_cached(&self, server: &ServerName, id: &str) -> Result<(), MediaError> {
        let inner = &*self.inner;
        let _counts = inner.counts.lock().await;
        let Some(row) = inner.store.get(&REMOTE_MEDIA, &(server, id)).await? else {
            return Ok(());
        };
        let before = inner.store.get(&MEDIA_TOTAL, &()).await?;
        let mut total = before.unwrap_or_default();
        total.cached_bytes = total.cached_bytes.saturating_sub(row.size);
        total.cached_files = total.cached_files.saturating_sub(1);
        let mut batch = Batch::new();
        batch.belongs_to(server);
        batch.require(&MEDIA_TOTAL, &(), before.as_ref());
        batch.put(&MEDIA_TOTAL, &(), &total);
        batch.delete(&REMOTE_MEDIA, &(server, id));
        let origin = format!("{server} {id}");
        request_removal(&mut batch, &cache_key(server, id), self.now(), &origin);
        inner.store.commit(batch).await?;
        inner.waker.wake();
        Ok(())
    }
}

fn found(key: BlobKey, row: RemoteMediaRow) -> Found {
    Found {
        tag: key.name().to_owned(),
        key,
        size: row.size,
        content_type: row.content_type,
        name: row.name,
    }
}
