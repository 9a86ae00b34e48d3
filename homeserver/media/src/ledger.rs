//! The counts: what each user's files and all files use, and the media ids that wait for their upload. Each change is one batch
//! with the rows that it depends on. Must not write a row of a file whose bytes are not durable.

use ruma::UserId;
use weft_jobs::withdraw;
use weft_store::{
    Batch, CommitError, Lane,
    tables::media::{
        MEDIA, MEDIA_IDS, MEDIA_OF_USER, MEDIA_TOTAL, MEDIA_USAGE, MediaIdRow, MediaRow, MediaTotalRow, MediaUsageRow,
        OwnedMediaRow,
    },
};
use weft_wire::limits;

use crate::{
    BlobKey, ContentId, Declared, Media, MediaError, ids,
    incoming::Complete,
    jobs::{REMOVE, remove_key, request_removal},
    kind::served_type,
    service::content_key,
};

/// Milliseconds after which bytes are removed if no row was written for them: longer than any request takes.
const UNCOUNTED_MS: u64 = 60 * 60 * 1_000;

/// A file that is to be counted.
struct Counted {
    id: ContentId,
    size: u64,
    served_type: String,
    declared: Declared,
    waiting_id: Option<String>,
}

impl Media {
    /// Creates a media id for a later upload of this user. Returns it and when it expires.
    ///
    /// # Errors
    /// Too many wait already, or the store failed.
    pub async fn create_id(&self, user: &UserId) -> Result<(String, u64), MediaError> {
        let _counts = self.inner.counts.lock().await;
        let (now, store) = (self.now(), &self.inner.store);
        let before = store.get(&MEDIA_USAGE, &(user,)).await?;
        let mut usage = before.clone().unwrap_or_default();
        let mut batch = Batch::new();
        batch.belongs_to(user);
        batch.require(&MEDIA_USAGE, &(user,), before.as_ref());
        let (waiting, expired) = usage.waiting.into_iter().partition(|(_, expires)| *expires > now);
        usage.waiting = waiting;
        for (id, _) in expired as Vec<(String, u64)> {
            usage.ids = usage.ids.saturating_sub(1);
            batch.delete(&MEDIA_IDS, &(id,));
        }
        if usage.waiting.len() >= limits::MAX_WAITING_MEDIA_PER_USER {
            let first = usage.waiting.iter().map(|(_, expires)| *expires).min();
            return Err(MediaError::TooManyWaiting {
                retry_after_ms: first.unwrap_or(now).saturating_sub(now),
            });
        }
        if usage.ids >= limits::MAX_MEDIA_PER_USER {
            return Err(too_many_files());
        }
        let (id, expires_at) = (ids::waiting_id(), now.saturating_add(limits::WAITING_MEDIA_MS));
        usage.ids = usage.ids.saturating_add(1);
        usage.waiting.push((id.clone(), expires_at));
        batch.put(&MEDIA_USAGE, &(user,), &usage);
        let row = MediaIdRow {
            user: user.to_owned(),
            expires_at,
            content: None,
        };
        batch.put(&MEDIA_IDS, &(id.as_str(),), &row);
        store.commit(batch).await?;
        Ok((id, expires_at))
    }

    /// Whether a file of this size fits the quotas now.
    pub(crate) async fn check_quota(&self, user: &UserId, size: u64) -> Result<(), MediaError> {
        let usage = self.inner.store.get(&MEDIA_USAGE, &(user,)).await?;
        let total = self.inner.store.get(&MEDIA_TOTAL, &()).await?;
        self.fits_user(&usage.unwrap_or_default(), size)?;
        self.fits_server(&total.unwrap_or_default(), size)
    }

    fn fits_user(&self, usage: &MediaUsageRow, size: u64) -> Result<(), MediaError> {
        let limit = self.inner.settings.bytes_per_user;
        if usage.bytes.saturating_add(size) > limit {
            return Err(MediaError::QuotaExceeded {
                what: "the files of a user may have",
                limit,
            });
        }
        if usage.files >= limits::MAX_MEDIA_PER_USER {
            return Err(too_many_files());
        }
        Ok(())
    }

    fn fits_server(&self, total: &MediaTotalRow, size: u64) -> Result<(), MediaError> {
        let limit = self.inner.settings.bytes;
        if total.bytes.saturating_add(size) > limit {
            return Err(MediaError::QuotaExceeded {
                what: "the files of all users of this server may have",
                limit,
            });
        }
        Ok(())
    }

    /// Stores a complete file and counts it. The same bytes are stored once.
    pub(crate) async fn keep(
        &self,
        user: &UserId,
        complete: Complete,
        declared: Declared,
        waiting_id: Option<String>,
    ) -> Result<ContentId, MediaError> {
        let inner = &*self.inner;
        let key = content_key(&complete.id);
        // The job that removes bytes without a row takes the same lock.
        let _one = inner.locks.lock_in_time(&key.to_string()).await?;
        self.check_quota(user, 0).await?;
        let is_counted = inner.store.contains(&MEDIA, &(complete.id.as_str(),)).await?;
        // A file whose bytes were lost is stored again.
        if !is_counted || inner.blobs.size(&key).await?.is_none() {
            let mut batch = Batch::new();
            request_removal(&mut batch, &key, self.now().saturating_add(UNCOUNTED_MS), "");
            inner.store.commit(batch).await?;
            inner.blobs.put(&key, &complete.path).await?;
        }
        let counted = Counted {
            served_type: served_type(&declared.content_type, &complete.first),
            id: complete.id,
            size: complete.size,
            declared,
            waiting_id,
        };
        if let Err(error) = self.count(user, &counted).await {
            self.remove_if_uncounted(&key).await;
            return Err(error);
        }
        inner.uploaded.notify_waiters();
        Ok(counted.id)
    }

    /// Lets the job that removes bytes without a row run now. If that fails, it runs in an hour.
    async fn remove_if_uncounted(&self, key: &BlobKey) {
        let mut batch = Batch::new();
        request_removal(&mut batch, key, self.now(), "");
        match self.inner.store.commit(batch).await {
            Ok(()) => self.inner.waker.wake(),
            Err(error) => tracing::debug!(%key, %error, "the removal of a refused file waits"),
        }
    }

    async fn count(&self, user: &UserId, counted: &Counted) -> Result<(), MediaError> {
        let _counts = self.inner.counts.lock().await;
        loop {
            match self.try_count(user, counted).await {
                // Another process changed a row in between.
                Err(MediaError::Commit(CommitError::Fence { .. })) => {}
                other => return other,
            }
        }
    }

    async fn try_count(&self, user: &UserId, counted: &Counted) -> Result<(), MediaError> {
        let (now, store) = (self.now(), &self.inner.store);
        let id = counted.id.as_str();
        let row = store.get(&MEDIA, &(id,)).await?;
        let owned = store.get(&MEDIA_OF_USER, &(user, id)).await?;
        let before = store.get(&MEDIA_USAGE, &(user,)).await?;
        let total_before = store.get(&MEDIA_TOTAL, &()).await?;
        let mut usage = before.clone().unwrap_or_default();
        let mut total = total_before.unwrap_or_default();
        let mut batch = Batch::new();
        batch.belongs_to(user);
        batch.require(&MEDIA, &(id,), row.as_ref());
        batch.require(&MEDIA_USAGE, &(user,), before.as_ref());
        batch.require(&MEDIA_TOTAL, &(), total_before.as_ref());
        if let Some(waiting) = &counted.waiting_id {
            self.use_id(&mut batch, user, waiting, &counted.id).await?;
            usage.waiting.retain(|(id, _)| id != waiting);
        }
        let mut media = row.unwrap_or_else(|| MediaRow {
            size: counted.size,
            content_type: counted.served_type.clone(),
            name: counted.declared.name.clone(),
            uploaded_at: now,
            read_at: now,
            owners: 0,
            named: false,
            hidden_at: None,
        });
        if media.hidden_at.take().is_some() {
            media.read_at = now;
        }
        if media.owners == 0 {
            self.fits_server(&total, counted.size)?;
            total.bytes = total.bytes.saturating_add(counted.size);
            total.files = total.files.saturating_add(1);
            withdraw(
                &mut batch,
                Lane::FIRST,
                (REMOVE, &remove_key(&content_key(&counted.id))),
            );
        }
        if owned.is_none() {
            self.fits_user(&usage, counted.size)?;
            usage.bytes = usage.bytes.saturating_add(counted.size);
            usage.files = usage.files.saturating_add(1);
            media.owners = media.owners.saturating_add(1);
            let owned = OwnedMediaRow {
                size: counted.size,
                content_type: counted.declared.content_type.clone(),
                name: counted.declared.name.clone(),
                uploaded_at: now,
            };
            batch.put(&MEDIA_OF_USER, &(user, id), &owned);
        }
        batch.put(&MEDIA, &(id,), &media);
        batch.put(&MEDIA_USAGE, &(user,), &usage);
        batch.put(&MEDIA_TOTAL, &(), &total);
        Ok(store.commit(batch).await?)
    }

    /// Uses an id that was created before. Of two uploads under one id only one counts.
    async fn use_id(
        &self,
        batch: &mut Batch,
        user: &UserId,
        waiting: &str,
        content: &ContentId,
    ) -> Result<(), MediaError> {
        let row = self.inner.store.get(&MEDIA_IDS, &(waiting,)).await?;
        let row = row.ok_or(MediaError::NotFound)?;
        if row.user != *user {
            return Err(MediaError::OtherUser);
        }
        if row.content.is_some() {
            return Err(MediaError::Overwrites);
        }
        batch.require(&MEDIA_IDS, &(waiting,), Some(&row));
        let used = MediaIdRow {
            content: Some(content.as_str().to_owned()),
            ..row
        };
        batch.put(&MEDIA_IDS, &(waiting,), &used);
        Ok(())
    }

    /// Removes a file from those of a user. The bytes are removed when nobody else has it.
    ///
    /// # Errors
    /// The user has no such file, or the store failed.
    pub async fn remove(&self, user: &UserId, content: &ContentId) -> Result<(), MediaError> {
        self.remove_if(user, content, |_| true).await
    }

    /// The same if the file is hidden.
    pub(crate) async fn remove_hidden(&self, user: &UserId, content: &ContentId) -> Result<(), MediaError> {
        self.remove_if(user, content, |row| row.hidden_at.is_some()).await
    }

    async fn remove_if(
        &self,
        user: &UserId,
        content: &ContentId,
        wanted: impl Fn(&MediaRow) -> bool,
    ) -> Result<(), MediaError> {
        let _counts = self.inner.counts.lock().await;
        let (id, store) = (content.as_str(), &self.inner.store);
        let owned = store.get(&MEDIA_OF_USER, &(user, id)).await?;
        let owned = owned.ok_or(MediaError::NotFound)?;
        let row = store.get(&MEDIA, &(id,)).await?;
        if !row.as_ref().is_none_or(wanted) {
            return Err(MediaError::NotFound);
        }
        let before = store.get(&MEDIA_USAGE, &(user,)).await?;
        let total_before = store.get(&MEDIA_TOTAL, &()).await?;
        let mut usage = before.clone().unwrap_or_default();
        let mut total = total_before.unwrap_or_default();
        let mut batch = Batch::new();
        batch.belongs_to(user);
        batch.require(&MEDIA, &(id,), row.as_ref());
        batch.require(&MEDIA_USAGE, &(user,), before.as_ref());
        batch.require(&MEDIA_TOTAL, &(), total_before.as_ref());
        batch.delete(&MEDIA_OF_USER, &(user, id));
        usage.bytes = usage.bytes.saturating_sub(owned.size);
        usage.files = usage.files.saturating_sub(1);
        batch.put(&MEDIA_USAGE, &(user,), &usage);
        match row {
            Some(row) if row.owners > 1 => {
                let owners = row.owners.saturating_sub(1);
                batch.put(&MEDIA, &(id,), &MediaRow { owners, ..row });
            }
            _ => {
                batch.delete(&MEDIA, &(id,));
                total.bytes = total.bytes.saturating_sub(owned.size);
                total.files = total.files.saturating_sub(1);
                batch.put(&MEDIA_TOTAL, &(), &total);
                request_removal(&mut batch, &content_key(content), self.now(), "");
            }
        }
        store.commit(batch).await?;
        self.inner.waker.wake();
        Ok(())
    }
}

fn too_many_files() -> MediaError {
    MediaError::QuotaExceeded {
        what: "a user may have files:",
        limit: limits::MAX_MEDIA_PER_USER,
    }
}
