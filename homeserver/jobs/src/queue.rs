//! The rows of jobs: requests, and what replaces a row after its job has run. Must not run anything.

use std::sync::atomic::{AtomicU64, Ordering};

use weft_store::{
    Batch, Lane,
    tables::jobs::{DUE_JOBS, JOBS, JobRow},
};

use crate::Job;

/// Two requests of one process are never equal; those of two processes differ in their times.
static GENERATION: AtomicU64 = AtomicU64::new(0);

/// Requests work in the batch that makes it necessary. Replaces an earlier request of the same kind and key, including
/// its time and its failures: what made the work necessary is newer than they are. [`crate::JobWaker::wake`] must be
/// called after the commit, otherwise the job waits for the next sweep.
pub fn request(batch: &mut Batch, lane: Lane, (kind, key): (&str, &str), due: u64, payload: &str) {
    let row = JobRow {
        due,
        generation: GENERATION.fetch_add(1, Ordering::Relaxed),
        attempts: 0,
        payload: payload.to_owned(),
    };
    put(batch, lane, (kind, key), &row);
}

/// Removes a job in the batch that makes it unnecessary. Its entry by time is obsolete then and removed when it is due.
pub fn withdraw(batch: &mut Batch, lane: Lane, (kind, key): (&str, &str)) {
    batch.delete(&JOBS, &(lane, kind, key));
}

/// Removes a job that is done, if it was not requested again.
pub(crate) fn finish(lane: Lane, kind: &str, job: &Job) -> Batch {
    let mut batch = Batch::new();
    batch.require(&JOBS, &(lane, kind, &*job.key), Some(&job.row));
    batch.delete(&JOBS, &(lane, kind, &*job.key));
    batch.delete(&DUE_JOBS, &(lane, kind, job.row.due, &*job.key));
    batch
}

/// Sets the time of the next run and the number of failures, if the job was not requested again.
pub(crate) fn repeat(lane: Lane, kind: &str, job: &Job, due: u64, attempts: u32) -> Batch {
    let mut batch = Batch::new();
    batch.require(&JOBS, &(lane, kind, &*job.key), Some(&job.row));
    batch.delete(&DUE_JOBS, &(lane, kind, job.row.due, &*job.key));
    let row = JobRow {
        due,
        attempts,
        ..job.row.clone()
    };
    put(&mut batch, lane, (kind, &job.key), &row);
    batch
}

/// Removes an entry by time that is not that of the row.
pub(crate) fn forget(lane: Lane, kind: &str, (due, key): (u64, &str), row: Option<&JobRow>) -> Batch {
    let mut batch = Batch::new();
    batch.require(&JOBS, &(lane, kind, key), row);
    batch.delete(&DUE_JOBS, &(lane, kind, due, key));
    batch
}

fn put(batch: &mut Batch, lane: Lane, (kind, key): (&str, &str), row: &JobRow) {
    batch.put(&JOBS, &(lane, kind, key), row);
    batch.put(&DUE_JOBS, &(lane, kind, row.due, key), &());
}
