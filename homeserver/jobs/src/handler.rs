//! What a kind of job does. Must not know when its jobs run.

use std::time::Duration;

use async_trait::async_trait;
use weft_store::tables::jobs::JobRow;

/// A job that runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// Identifies the work within its kind: a room id, for example.
    pub key: String,
    /// The row as it was read before the handler was called.
    pub(crate) row: JobRow,
}

impl Job {
    /// What the request added to the key.
    #[must_use]
    pub fn payload(&self) -> &str {
        &self.row.payload
    }

    /// Failed attempts since the request.
    #[must_use]
    pub fn attempts(&self) -> u32 {
        self.row.attempts
    }

    /// When it was due, in milliseconds since 1970.
    #[must_use]
    pub fn due(&self) -> u64 {
        self.row.due
    }
}

/// The result of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing is left to do. The job is removed, unless it was requested again meanwhile.
    Done,
    /// More is to be done; this is no failure.
    Again {
        /// When.
        after: Duration,
    },
    /// The work failed; it is repeated after a pause that grows with each failure.
    Failed {
        /// For the log.
        reason: String,
    },
}

/// Limits of a kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KindLimits {
    /// Jobs of the kind that run at a time.
    pub at_once: usize,
    /// The pause after the first failure; doubled with each further one.
    pub first_pause: Duration,
    /// The longest pause.
    pub longest_pause: Duration,
    /// The longest time of one run. The future is dropped then, and the run has failed.
    pub deadline: Duration,
}

/// Does the jobs of one kind.
#[async_trait]
pub trait JobHandler: Send + Sync + 'static {
    /// The name of the kind, in rows, log lines and figures.
    fn kind(&self) -> &'static str;
    /// Its limits.
    fn limits(&self) -> KindLimits;
    /// Does the work. The future is dropped when the server stops; the job then runs again after the next start.
    async fn run(&self, job: &Job) -> Outcome;
}
