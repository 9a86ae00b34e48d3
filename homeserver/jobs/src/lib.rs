//! Durable jobs: work that must be done later or until it succeeds, also after a restart. A job is a row that the batch
//! writes which makes the work necessary ([`request`]); the [`Scheduler`] runs the [`JobHandler`] of its kind until the
//! handler is done. The same work is queued once, and a request that arrives while its job runs is not lost: the row is
//! then run again.
//!
//! A handler must be idempotent: after a crash its job runs again. Must not know what the jobs do.

mod backoff;
mod handler;
mod queue;
mod scheduler;

pub use backoff::pause;
pub use handler::{Job, JobHandler, KindLimits, Outcome};
pub use queue::{request, withdraw};
pub use scheduler::{JobWaker, KindFigures, Scheduler, SchedulerConfig};
