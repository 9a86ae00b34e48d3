//! What the pool remembers of documents: how many requests of each are in progress, and the pause after a failure. Bounded:
//! an entry exists only while the document has one or the other.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Semaphore;
use weft_wire::limits::{MAX_RENDER_PAUSES, RENDER_FIRST_PAUSE_MS, RENDER_LONGEST_PAUSE_MS};

use crate::error::{NotRendered, RenderError};

/// The documents with requests or pauses.
#[derive(Debug)]
pub(super) struct Documents {
    share: usize,
    entries: Mutex<HashMap<String, Entry>>,
}

#[derive(Debug)]
struct Entry {
    permits: Arc<Semaphore>,
    visits: usize,
    pause: Option<Pause>,
}

#[derive(Debug, Clone)]
struct Pause {
    until: Instant,
    length: Duration,
    reason: NotRendered,
}

/// A request of a document in progress.
#[derive(Debug)]
pub(super) struct Visit<'a> {
    documents: &'a Documents,
    document: &'a str,
    permits: Arc<Semaphore>,
}

impl Documents {
    /// Each document may use `share` workers at one time.
    pub(super) fn new(share: usize) -> Self {
        Self {
            share,
            entries: Mutex::default(),
        }
    }

    fn entries(&self) -> MutexGuard<'_, HashMap<String, Entry>> {
        self.entries.lock()
    }

    /// Registers a request, unless the document has a pause.
    pub(super) fn enter<'a>(&'a self, document: &'a str, now: Instant) -> Result<Visit<'a>, RenderError> {
        let mut entries = self.entries();
        let paused = entries.get(document).and_then(|entry| entry.pause.as_ref());
        if let Some(pause) = paused.filter(|pause| pause.until > now) {
            return Err(RenderError::NotRendered {
                reason: pause.reason.clone(),
                retry_after: pause.until - now,
            });
        }
        let entry = entries.entry(document.to_owned()).or_insert_with(|| Entry {
            permits: Arc::new(Semaphore::new(self.share)),
            visits: 0,
            pause: None,
        });
        entry.visits += 1;
        Ok(Visit {
            documents: self,
            document,
            permits: Arc::clone(&entry.permits),
        })
    }

    /// Documents whose pause has not ended.
    pub(super) fn paused(&self, now: Instant) -> usize {
        let entries = self.entries();
        let pauses = entries.values().filter_map(|entry| entry.pause.as_ref());
        pauses.filter(|pause| pause.until > now).count()
    }
}

impl Visit<'_> {
    /// The document's share of the workers.
    pub(super) fn permits(&self) -> Arc<Semaphore> {
        Arc::clone(&self.permits)
    }

    /// The document was rendered: a later failure begins with the shortest pause again.
    pub(super) fn succeeded(&self) {
        if let Some(entry) = self.documents.entries().get_mut(self.document) {
            entry.pause = None;
        }
    }

    /// The document ended its worker. Returns the pause.
    pub(super) fn failed(&self, reason: &NotRendered, now: Instant) -> Duration {
        let mut entries = self.documents.entries();
        forget_one(&mut entries, self.document);
        let Some(entry) = entries.get_mut(self.document) else {
            return Duration::ZERO;
        };
        let length = entry
            .pause
            .as_ref()
            .map_or(Duration::from_millis(RENDER_FIRST_PAUSE_MS), |pause| {
                (pause.length * 2).min(Duration::from_millis(RENDER_LONGEST_PAUSE_MS))
            });
        entry.pause = Some(Pause {
            until: now + length,
            length,
            reason: reason.clone(),
        });
        length
    }
}

impl Drop for Visit<'_> {
    fn drop(&mut self) {
        let mut entries = self.documents.entries();
        if let Some(entry) = entries.get_mut(self.document) {
            entry.visits = entry.visits.saturating_sub(1);
            if entry.visits == 0 && entry.pause.is_none() {
                entries.remove(self.document);
            }
        }
    }
}

/// Keeps the number of pauses within its limit.
fn forget_one(entries: &mut HashMap<String, Entry>, except: &str) {
    if entries.len() < MAX_RENDER_PAUSES {
        return;
    }
    let unused = entries
        .iter()
        .filter(|(name, entry)| entry.visits == 0 && *name != except);
    let first = unused.min_by_key(|(_, entry)| entry.pause.as_ref().map(|pause| pause.until));
    if let Some(name) = first.map(|(name, _)| name.clone()) {
        entries.remove(&name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REASON: NotRendered = NotRendered::Malformed;

    #[test]
    fn pauses_double_up_to_the_longest_and_end_with_a_success() {
        let documents = Documents::new(1);
        let mut now = Instant::now();
        for expected in [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 600, 600] {
            let visit = documents.enter("!a", now).unwrap();
            assert_eq!(visit.failed(&REASON, now), Duration::from_secs(expected));
            drop(visit);
            let refused = documents.enter("!a", now + Duration::from_millis(1)).unwrap_err();
            assert!(matches!(refused, RenderError::NotRendered { .. }), "{refused:?}");
            assert!(documents.enter("!b", now).is_ok(), "another document");
            now += Duration::from_secs(expected);
        }
        let visit = documents.enter("!a", now).unwrap();
        visit.succeeded();
        assert_eq!(documents.paused(now), 0);
        drop(visit);
        assert!(documents.entries().is_empty());
    }

    #[test]
    fn the_number_of_pauses_is_bounded() {
        let documents = Documents::new(1);
        let now = Instant::now();
        for number in 0..MAX_RENDER_PAUSES + 10 {
            let name = format!("!{number}");
            documents.enter(&name, now).unwrap().failed(&REASON, now);
        }
        assert!(documents.entries().len() <= MAX_RENDER_PAUSES);
    }
}
