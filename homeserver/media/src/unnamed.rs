//! The removal of files that nothing names, some time after their upload ([`MediaSettings::unnamed_days`]).
//!
//! A file that is found to be unnamed is hidden first: requests get 404, as if it were removed. At least a day later the whole
//! store is read again. Only what is still unnamed is removed; the others are shown again. So a name that arrives while the
//! store is read is not missed. Must not remove a file that was not hidden when the second reading began.
//!
//! [`MediaSettings::unnamed_days`]: crate::MediaSettings::unnamed_days

use std::collections::BTreeMap;

use ruma::OwnedUserId;
use weft_store::{
    Batch, CommitError,
    tables::{
        accounts::USERS,
        media::{MEDIA, MEDIA_IDS, MEDIA_OF_USER, MediaRow},
    },
};
use weft_wire::limits::MAX_UNNAMED_MEDIA;

use crate::{
    ContentId, Media, MediaError,
    names::{Names, look_through},
};

const DAY_MS: u64 = 24 * 60 * 60 * 1_000;
/// How long a file is hidden before it is removed. The job runs once a day.
const HIDDEN_MS: u64 = 20 * 60 * 60 * 1_000;
/// Rows that are read at a time.
const ROWS: usize = 500;

/// Files of which nothing is known that names them.
#[derive(Default)]
struct Candidates {
    rows: Vec<(String, MediaRow)>,
    names: Names,
}

impl Media {
    /// Hides the files that nothing names, and removes those that were hidden before. A job does it once a day.
    ///
    /// # Errors
    /// The store failed. Nothing that is named was removed.
    pub async fn remove_unnamed(&self) -> Result<(), MediaError> {
        let days = self.inner.settings.unnamed_days;
        if days == 0 {
            return Ok(());
        }
        let now = self.now();
        let mut candidates = self.candidates(now.saturating_sub(days.saturating_mul(DAY_MS))).await?;
        if candidates.rows.is_empty() {
            return Ok(());
        }
        look_through(&self.inner.store, &mut candidates.names).await?;
        let (mut hidden, mut removed) = (0_usize, Vec::new());
        for (file, (id, row)) in candidates.rows.iter().enumerate() {
            if candidates.names.is_named(file) {
                self.set(id, |row| (row.named, row.hidden_at) = (true, None)).await?;
            } else if row.hidden_at.is_none() {
                // A file that was read or uploaded again meanwhile is left as it is.
                let is_hidden = self.replace(id, row, |row| row.hidden_at = Some(now)).await?;
                hidden += usize::from(is_hidden);
            } else if row.hidden_at.is_some_and(|at| now.saturating_sub(at) >= HIDDEN_MS) {
                removed.extend(ContentId::parse(id));
            }
        }
        tracing::info!(
            examined = candidates.rows.len(),
            hidden,
            removed = removed.len(),
            "looked for files that nothing names"
        );
        self.remove_of_all(&removed).await
    }

    /// Files whose last upload and last read are before a time, and which nothing was found to name yet.
    async fn candidates(&self, before: u64) -> Result<Candidates, MediaError> {
        let store = &self.inner.store;
        let (mut found, mut numbers, mut after) = (Candidates::default(), BTreeMap::new(), String::new());
        loop {
            let page = store
                .scan(MEDIA.under(&()).after(&(after.as_str(),)).limit(ROWS))
                .await?;
            let Some(((last,), _)) = page.last() else { break };
            after.clone_from(last);
            for ((id,), row) in page {
                let is_old = row.uploaded_at.max(row.read_at) <= before || row.hidden_at.is_some();
                if row.named || !is_old || found.rows.len() >= MAX_UNNAMED_MEDIA {
                    continue;
                }
                found.names.add(found.rows.len(), &id);
                numbers.insert(id.clone(), found.rows.len());
                found.rows.push((id, row));
            }
        }
        let mut after = String::new();
        while !found.rows.is_empty() {
            let page = store
                .scan(MEDIA_IDS.under(&()).after(&(after.as_str(),)).limit(ROWS))
                .await?;
            let Some(((last,), _)) = page.last() else { break };
            after.clone_from(last);
            for ((id,), row) in &page {
                if let Some(file) = row.content.as_ref().and_then(|content| numbers.get(content)) {
                    found.names.add(*file, id);
                }
            }
        }
        Ok(found)
    }

    /// Changes a row as it is now.
    async fn set(&self, id: &str, change: impl Fn(&mut MediaRow)) -> Result<(), MediaError> {
        while let Some(row) = self.inner.store.get(&MEDIA, &(id,)).await? {
            if self.replace(id, &row, &change).await? {
                break;
            }
        }
        Ok(())
    }

    /// Changes a row if it is still this one.
    async fn replace(&self, id: &str, row: &MediaRow, change: impl Fn(&mut MediaRow)) -> Result<bool, MediaError> {
        let mut changed = row.clone();
        change(&mut changed);
        let mut batch = Batch::new();
        batch.require(&MEDIA, &(id,), Some(row));
        batch.put(&MEDIA, &(id,), &changed);
        match self.inner.store.commit(batch).await {
            Ok(()) => Ok(true),
            Err(CommitError::Fence { .. }) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Removes files from those of all users, also of deactivated ones, if they are still hidden.
    async fn remove_of_all(&self, files: &[ContentId]) -> Result<(), MediaError> {
        let mut after: Option<OwnedUserId> = None;
        while !files.is_empty() {
            let query = USERS.under(&());
            let query = match &after {
                Some(user) => query.after(&(user,)),
                None => query,
            };
            let users = self.inner.store.scan(query.limit(ROWS)).await?;
            for ((user,), _) in &users {
                for some in files.chunks(ROWS) {
                    let keys = some.iter().map(|file| (&**user, file.as_str()));
                    let owned = self.inner.store.get_many(&MEDIA_OF_USER, keys).await?;
                    for (file, _) in some.iter().zip(owned).filter(|(_, owned)| owned.is_some()) {
                        match self.remove_hidden(user, file).await {
                            // It was uploaded again, or removed by its owner.
                            Ok(()) | Err(MediaError::NotFound | MediaError::Commit(CommitError::Fence { .. })) => {}
                            Err(error) => return Err(error),
                        }
                    }
                }
            }
            match users.into_iter().last() {
                Some(((user,), _)) => after = Some(user),
                None => break,
            }
        }
        Ok(())
    }
}
