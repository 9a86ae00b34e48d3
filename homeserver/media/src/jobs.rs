//! The durable jobs of media: removal of bytes that no row counts, and of files that the cache no longer needs. Must not remove
//! bytes that have a row: the rows decide.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use ruma::ServerName;
use weft_jobs::{Job, JobHandler, KindLimits, Outcome, Scheduler, SchedulerConfig, request};
use weft_store::{
    Batch, CommitError, Lane,
    tables::{
        jobs::JOBS,
        media::{MEDIA, REMOTE_MEDIA},
    },
};

use crate::{Area, BlobKey, Media, MediaError, cache::cache_key};

/// The kind of the removal of bytes. The payload is empty, or names the file of another server.
pub(crate) const REMOVE: &str = "media-remove";
/// The kind of the work on the cache.
const TRIM: &str = "media-trim-cache";
/// Its only key.
const WHOLE_CACHE: &str = "all";
/// How often the cache is looked through.
const TRIM_EVERY: Duration = Duration::from_secs(24 * 60 * 60);
/// When it is first looked through after the first start.
const FIRST_TRIM_MS: u64 = 10 * 60 * 1_000;
/// The kind of the search for files that nothing names.
const UNNAMED: &str = "media-unnamed";
/// Its only key.
const ALL_FILES: &str = "all";
/// How often it is made.
const UNNAMED_EVERY: Duration = Duration::from_secs(24 * 60 * 60);
/// Jobs of media that run at a time.
const AT_ONCE: usize = 4;

/// The key of the job that removes a file.
pub(crate) fn remove_key(key: &BlobKey) -> String {
    format!("{}:{}", key.area().name(), key.name())
}

/// Requests the removal of a file at a time, if no row counts it then. `origin`: server and id of another server's file.
pub(crate) fn request_removal(batch: &mut Batch, key: &BlobKey, due: u64, origin: &str) {
    request(batch, Lane::FIRST, (REMOVE, &remove_key(key)), due, origin);
}

/// Requests that the cache is looked through.
pub(crate) fn request_trim(batch: &mut Batch, due: u64) {
    request(batch, Lane::FIRST, (TRIM, WHOLE_CACHE), due, "");
}

impl Media {
    /// Starts the jobs. They end when the scheduler is stopped or dropped.
    ///
    /// # Errors
    /// The store can't be read or written.
    pub async fn start_jobs(&self, random: fn() -> u64) -> Result<Scheduler, MediaError> {
        let inner = &*self.inner;
        self.repeat(TRIM, WHOLE_CACHE).await?;
        if inner.settings.unnamed_days > 0 {
            self.repeat(UNNAMED, ALL_FILES).await?;
        }
        let config = SchedulerConfig {
            store: inner.store.clone(),
            clock: Arc::clone(&inner.clock),
            random,
            lanes: vec![Lane::FIRST],
            at_once: AT_ONCE,
            waker: inner.waker.clone(),
        };
        let handlers: Vec<Arc<dyn JobHandler>> = vec![
            Arc::new(RemoveFile(self.clone())),
            Arc::new(TrimCache(self.clone())),
            Arc::new(RemoveUnnamed(self.clone())),
        ];
        Ok(Scheduler::start(config, handlers))
    }

    /// Requests a repeated job, if it was never requested.
    async fn repeat(&self, kind: &'static str, key: &str) -> Result<(), MediaError> {
        let store = &self.inner.store;
        if store.contains(&JOBS, &(Lane::FIRST, kind, key)).await? {
            return Ok(());
        }
        let mut batch = Batch::new();
        batch.require(&JOBS, &(Lane::FIRST, kind, key), None);
        let due = self.now().saturating_add(FIRST_TRIM_MS);
        request(&mut batch, Lane::FIRST, (kind, key), due, "");
        match store.commit(batch).await {
            Ok(()) | Err(CommitError::Fence { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Removes a file and its thumbnails, unless a row counts it.
    async fn remove_uncounted(&self, key: &BlobKey, origin: &str) -> Result<(), MediaError> {
        let _one = self.inner.locks.lock(&key.to_string()).await;
        let store = &self.inner.store;
        let is_counted = match (key.area(), origin.split_once(' ')) {
            (Area::Content, _) => store.contains(&MEDIA, &(key.name(),)).await?,
            (Area::Cache, Some((server, id))) => match <&ServerName>::try_from(server) {
                Ok(server) if cache_key(server, id) == *key => store.contains(&REMOTE_MEDIA, &(server, id)).await?,
                _ => true,
            },
            _ => true,
        };
        if is_counted {
            return Ok(());
        }
        self.remove_thumbnails(key).await?;
        Ok(self.inner.blobs.delete(key).await?)
    }
}

struct RemoveFile(Media);

#[async_trait]
impl JobHandler for RemoveFile {
    fn kind(&self) -> &'static str {
        REMOVE
    }

    fn limits(&self) -> KindLimits {
        KindLimits {
            at_once: AT_ONCE,
            first_pause: Duration::from_secs(30),
            longest_pause: Duration::from_secs(60 * 60),
            // Waits for an upload of the same file, and for the object store.
            deadline: Duration::from_secs(10 * 60),
        }
    }

    async fn run(&self, job: &Job) -> Outcome {
        let key = job.key.split_once(':').and_then(|(area, name)| {
            let area = Area::ALL.into_iter().find(|known| known.name() == area)?;
            Some(BlobKey::new(area, name))
        });
        // A row that this program did not write.
        let Some(key) = key else { return Outcome::Done };
        outcome(self.0.remove_uncounted(&key, job.payload()).await, Outcome::Done)
    }
}

struct TrimCache(Media);

#[async_trait]
impl JobHandler for TrimCache {
    fn kind(&self) -> &'static str {
        TRIM
    }

    fn limits(&self) -> KindLimits {
        KindLimits {
            at_once: 1,
            first_pause: Duration::from_secs(60),
            longest_pause: Duration::from_secs(60 * 60),
            deadline: Duration::from_secs(30 * 60),
        }
    }

    async fn run(&self, _job: &Job) -> Outcome {
        outcome(self.0.trim_cache().await, Outcome::Again { after: TRIM_EVERY })
    }
}

struct RemoveUnnamed(Media);

#[async_trait]
impl JobHandler for RemoveUnnamed {
    fn kind(&self) -> &'static str {
        UNNAMED
    }

    fn limits(&self) -> KindLimits {
        KindLimits {
            at_once: 1,
            first_pause: Duration::from_secs(10 * 60),
            longest_pause: Duration::from_secs(24 * 60 * 60),
            // It reads all events.
            deadline: Duration::from_secs(12 * 60 * 60),
        }
    }

    async fn run(&self, _job: &Job) -> Outcome {
        match self.0.settings().unnamed_days {
            // The operator has switched it off.
            0 => Outcome::Done,
            _ => outcome(self.0.remove_unnamed().await, Outcome::Again { after: UNNAMED_EVERY }),
        }
    }
}

fn outcome(result: Result<(), MediaError>, done: Outcome) -> Outcome {
    match result {
        Ok(()) => done,
        Err(error) => Outcome::Failed {
            reason: error.to_string(),
        },
    }
}
