//! The pool of render workers: starts them, gives each one request at a time, ends them at the deadline, replaces those that
//! died, and counts. A document that ends its worker is tried once more on a new one; then it is not rendered for a while.
//!
//! Must not use an engine, and must not trust an answer: lengths, UTF-8 and JSON are checked.

mod documents;
mod process;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use weft_wire::anchor::Anchor;
use weft_wire::limits;

use crate::error::{NotRendered, RenderError};
use crate::figures::{Counters, PoolFigures, count, value};
use crate::protocol::{Answer, Frame, PARTS, Task};
use crate::renderer::Renderer;
use crate::task::{
    AnchorRequest, Applied, ApplyRequest, DiffRequest, Difference, EditRequest, Edited, ImportRequest, Imported,
    LocateRequest, Located, Reduced, RenderRequest, Rendered, RestoreRequest, ThumbnailRequest,
};
use documents::Documents;
use process::{Process, ProcessError};

/// The retry time that a refused request is told.
const BUSY_RETRY: Duration = Duration::from_secs(1);

/// How workers are started, and the pool's limits.
#[derive(Debug, Clone)]
pub struct PoolConfig {
    /// The worker's program.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// Workers that run at one time.
    pub workers: usize,
    /// Requests that wait for one.
    pub waiting: usize,
    /// How long a request waits for one.
    pub wait: Duration,
    /// How long a worker may take to answer.
    pub answer: Duration,
    /// Requests after which a worker is replaced; 1 gives each request its own process.
    pub requests_per_worker: u32,
    /// After which time an unused worker is ended.
    pub idle: Duration,
}

impl PoolConfig {
    /// The usual limits for a worker program. `workers` should be fewer than the processors.
    #[must_use]
    pub fn new(program: PathBuf, arguments: Vec<String>, workers: usize) -> Self {
        Self {
            program,
            arguments,
            workers: workers.max(1),
            waiting: limits::MAX_RENDER_WAITING,
            wait: Duration::from_millis(limits::RENDER_WAIT_MS),
            answer: Duration::from_millis(limits::RENDER_ANSWER_MS),
            requests_per_worker: limits::MAX_REQUESTS_PER_RENDER_WORKER,
            idle: Duration::from_millis(limits::RENDER_IDLE_MS),
        }
    }
}

/// The pool. Cheap to clone; when the last clone is dropped, all workers end.
#[derive(Debug, Clone)]
pub struct Pool {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    config: PoolConfig,
    permits: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
    idle: Mutex<Vec<Process>>,
    documents: Documents,
    counters: Counters,
}

impl Pool {
    /// A pool without workers; they are started when they are needed. Must be called in a runtime.
    #[must_use]
    pub fn start(config: PoolConfig) -> Self {
        let inner = Arc::new(Inner {
            permits: Arc::new(Semaphore::new(config.workers)),
            waiting: Arc::new(Semaphore::new(config.waiting)),
            idle: Mutex::default(),
            // One document can't use all workers.
            documents: Documents::new(config.workers.div_ceil(2)),
            counters: Counters::default(),
            config,
        });
        let weak = Arc::downgrade(&inner);
        let period = inner.config.idle;
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(period).await;
                let Some(inner) = weak.upgrade() else { return };
                inner.end_unused();
            }
        });
        Self { inner }
    }

    /// The pool's state and totals.
    #[must_use]
    pub fn figures(&self) -> PoolFigures {
        let Inner {
            config,
            permits,
            waiting,
            counters,
            documents,
            ..
        } = &*self.inner;
        PoolFigures {
            limit: config.workers,
            busy: config.workers.saturating_sub(permits.available_permits()),
            idle: self.inner.idle_workers().len(),
            waiting: config.waiting.saturating_sub(waiting.available_permits()),
            paused: documents.paused(Instant::now()),
            started: value(&counters.started),
            done: value(&counters.done),
            refused: value(&counters.refused),
            not_rendered: value(&counters.not_rendered),
            died: value(&counters.died),
            timed_out: value(&counters.timed_out),
        }
    }

    /// Makes a thumbnail. `name` names the image: pauses after failures are per image.
    ///
    /// # Errors
    /// The image can't be decoded within the limits, or no worker is free.
    pub async fn thumbnail(&self, name: &str, request: ThumbnailRequest) -> Result<Reduced, RenderError> {
        let ThumbnailRequest {
            image,
            width,
            height,
            crop,
        } = request;
        let task = Task::Thumbnail { width, height, crop };
        let reply = self.run(name, task, [image, Bytes::new(), Bytes::new()]).await?;
        match (reply.header, reply.parts) {
            (Answer::Reduced { format }, [image, ..]) => Ok(Reduced { image, format }),
            _ => Err(invalid()),
        }
    }

    /// Sends a task to a worker, once more if the worker dies.
    async fn run(&self, document: &str, task: Task, parts: [Bytes; PARTS]) -> Result<Frame<Answer>, RenderError> {
        check_sizes(&parts)?;
        let inner = &*self.inner;
        let visit = inner.documents.enter(document, Instant::now()).inspect_err(|_| {
            count(&inner.counters.not_rendered);
        })?;
        let _shares = inner.wait(visit.permits()).await.inspect_err(|_| {
            count(&inner.counters.refused);
        })?;
        let request = Frame { header: task, parts };
        let result = match inner.attempt(&request, inner.take_idle()).await {
            Err(Failure::Died(_)) => inner.attempt(&request, None).await,
            other => other,
        };
        let now = Instant::now();
        match result.and_then(checked) {
            Ok(answer) => {
                visit.succeeded();
                count(&inner.counters.done);
                Ok(answer)
            }
            Err(Failure::Request(error)) => Err(error),
            // The engine itself found out: no worker was lost, and the next attempt costs as little.
            Err(Failure::Died(reason)) if reason.is_diagnosed() => {
                count(&inner.counters.not_rendered);
                Err(RenderError::NotRendered {
                    reason,
                    retry_after: Duration::ZERO,
                })
            }
            Err(Failure::TimedOut) => {
                visit.failed(
                    &NotRendered::Died {
                        status: "its deadline".to_owned(),
                    },
                    now,
                );
                Err(RenderError::TimedOut {
                    after: inner.config.answer,
                })
            }
            Err(Failure::Died(reason)) => {
                count(&inner.counters.not_rendered);
                let retry_after = visit.failed(&reason, now);
                tracing::warn!(event = "render.not_rendered", document, %reason, "a document can't be rendered");
                Err(RenderError::NotRendered { reason, retry_after })
            }
        }
    }
}

/// Why one attempt gave no answer.
enum Failure {
    /// The request can't be made, whatever the document.
    Request(RenderError),
    /// The worker was ended at the deadline.
    TimedOut,
    /// The worker died, or its answer is invalid.
    Died(NotRendered),
}

impl Inner {
    fn idle_workers(&self) -> parking_lot::MutexGuard<'_, Vec<Process>> {
        self.idle.lock()
    }

    fn take_idle(&self) -> Option<Process> {
        self.idle_workers().pop()
    }

    fn end_unused(&self) {
        let now = Instant::now();
        let idle = self.config.idle;
        self.idle_workers().retain(|process| !process.unused_for(idle, now));
    }

    /// Waits for the document's share and for a worker.
    async fn wait(&self, of_document: Arc<Semaphore>) -> Result<[OwnedSemaphorePermit; 2], RenderError> {
        let busy = || RenderError::Busy {
            retry_after: BUSY_RETRY,
        };
        let _waiting = Arc::clone(&self.waiting).try_acquire_owned().map_err(|_| busy())?;
        let both = async {
            let document = of_document.acquire_owned().await;
            let worker = Arc::clone(&self.permits).acquire_owned().await;
            Some([document.ok()?, worker.ok()?])
        };
        match timeout(self.config.wait, both).await {
            Ok(Some(permits)) => Ok(permits),
            // The semaphores are never closed.
            Ok(None) | Err(_) => Err(busy()),
        }
    }

    /// Gives the request to a worker. A worker that can take another request becomes idle.
    async fn attempt(&self, request: &Frame<Task>, idle: Option<Process>) -> Result<Frame<Answer>, Failure> {
        let mut process = match idle {
            Some(process) => process,
            None => {
                count(&self.counters.started);
                Process::start(&self.config).await.map_err(|reason| {
                    tracing::error!(event = "render.worker_not_started", %reason, "no render worker can be started");
                    Failure::Request(RenderError::Unavailable { reason })
                })?
            }
        };
        match timeout(self.config.answer, process.exchange(request)).await {
            Ok(Ok(reply)) => {
                let ended = matches!(
                    reply.header,
                    Answer::NotRendered {
                        reason: NotRendered::Panicked { .. }
                    }
                );
                if !ended && process.can_continue(self.config.requests_per_worker) {
                    self.idle_workers().push(process);
                }
                Ok(reply)
            }
            Ok(Err(ProcessError::Request(error))) => Err(Failure::Request(error)),
            Ok(Err(ProcessError::Invalid)) => {
                count(&self.counters.died);
                Err(Failure::Died(NotRendered::InvalidAnswer))
            }
            Ok(Err(ProcessError::Ended)) => {
                count(&self.counters.died);
                let status = process.status().await;
                Err(Failure::Died(NotRendered::Died { status }))
            }
            Err(_) => {
                count(&self.counters.timed_out);
                Err(Failure::TimedOut)
            }
        }
    }
}

/// Separates what a worker computed from what it could not.
fn checked(reply: Frame<Answer>) -> Result<Frame<Answer>, Failure> {
    match reply.header {
        Answer::NotRendered { reason } => Err(Failure::Died(reason)),
        Answer::TooLarge { bytes } => Err(Failure::Request(RenderError::TooLarge {
            what: "the rendered document",
            bytes,
            limit: limits::MAX_RENDERED_BYTES,
        })),
        Answer::ImageTooLarge => Err(Failure::Request(RenderError::ImageTooLarge)),
        Answer::Refused { change, error } => Err(Failure::Request(RenderError::Refused { change, error })),
        _ => Ok(reply),
    }
}

fn check_sizes(parts: &[Bytes; PARTS]) -> Result<(), RenderError> {
    let limit = limits::MAX_RENDER_STATE_BYTES;
    match parts.iter().map(Bytes::len).find(|bytes| *bytes > limit) {
        None => Ok(()),
        Some(bytes) => Err(RenderError::TooLarge {
            what: "the document",
            bytes,
            limit,
        }),
    }
}

fn invalid() -> RenderError {
    RenderError::NotRendered {
        reason: NotRendered::InvalidAnswer,
        retry_after: Duration::ZERO,
    }
}

fn difference(json: &Bytes) -> Result<Difference, RenderError> {
    serde_json::from_slice(json).map_err(|_| invalid())
}

#[async_trait]
impl Renderer for Pool {
    async fn render(&self, document: &str, request: RenderRequest) -> Result<Rendered, RenderError> {
        let RenderRequest { kind, state, format } = request;
        let parts = [state, Bytes::new(), Bytes::new()];
        let Frame { header, parts } = self.run(document, Task::Render { kind, format }, parts).await?;
        let (Answer::Rendered { text_hash }, [content, ..]) = (header, parts) else {
            return Err(invalid());
        };
        let content = String::from_utf8(content.into()).map_err(|_| invalid())?;
        Ok(Rendered { content, text_hash })
    }

    async fn edit(&self, document: &str, request: EditRequest) -> Result<Edited, RenderError> {
        let EditRequest {
            kind,
            state,
            base,
            changes,
            unit,
            client,
            clock,
        } = request;
        let task = Task::Edit {
            kind,
            changes,
            unit,
            client,
            clock,
        };
        let parts = [state, base.unwrap_or_default(), Bytes::new()];
        edited(self.run(document, task, parts).await?)
    }

    async fn diff(&self, document: &str, request: DiffRequest) -> Result<Difference, RenderError> {
        let DiffRequest { kind, from, to } = request;
        let reply = self
            .run(document, Task::Diff { kind }, [from, to, Bytes::new()])
            .await?;
        let (Answer::Compared, [json, ..]) = (reply.header, reply.parts) else {
            return Err(invalid());
        };
        difference(&json)
    }

    async fn apply(&self, document: &str, request: ApplyRequest) -> Result<Applied, RenderError> {
        let ApplyRequest {
            kind,
            state,
            suggestion,
            client,
            only,
            addresses,
        } = request;
        let addresses = match addresses.is_empty() {
            true => Bytes::new(),
            // A map of strings can always be written.
            false => serde_json::to_vec(&addresses).unwrap_or_default().into(),
        };
        let parts = [state, suggestion, addresses];
        let reply = self.run(document, Task::Apply { kind, client, only }, parts).await?;
        let (Answer::Applied { applies }, [update, json, _]) = (reply.header, reply.parts) else {
            return Err(invalid());
        };
        let difference = difference(&json)?;
        Ok(Applied {
            update,
            difference,
            applies,
        })
    }

    async fn import(&self, document: &str, request: ImportRequest) -> Result<Imported, RenderError> {
        let ImportRequest {
            kind,
            state,
            foreign,
            source,
            client,
        } = request;
        let parts = [state, foreign, Bytes::new()];
        let reply = self.run(document, Task::Import { kind, source, client }, parts).await?;
        let (Answer::Imported { lost }, [update, ..]) = (reply.header, reply.parts) else {
            return Err(invalid());
        };
        Ok(Imported { update, lost })
    }

    async fn restore(&self, document: &str, request: RestoreRequest) -> Result<Edited, RenderError> {
        let RestoreRequest {
            kind,
            state,
            target,
            client,
        } = request;
        let parts = [state, target, Bytes::new()];
        edited(self.run(document, Task::Restore { kind, client }, parts).await?)
    }

    async fn anchor(&self, document: &str, request: AnchorRequest) -> Result<Anchor, RenderError> {
        let AnchorRequest {
            kind,
            state,
            target,
            unit,
        } = request;
        let parts = [state, Bytes::new(), Bytes::new()];
        match self
            .run(document, Task::Anchor { kind, target, unit }, parts)
            .await?
            .header
        {
            Answer::Anchored { anchor } if anchor.target().is_some() => Ok(*anchor),
            _ => Err(invalid()),
        }
    }

    async fn locate(&self, document: &str, request: LocateRequest) -> Result<Vec<Located>, RenderError> {
        let LocateRequest {
            kind,
            state,
            anchors,
            unit,
        } = request;
        let (count, parts) = (anchors.len(), [state, Bytes::new(), Bytes::new()]);
        match self
            .run(document, Task::Locate { kind, anchors, unit }, parts)
            .await?
            .header
        {
            Answer::Located { places } if places.len() == count => Ok(places),
            _ => Err(invalid()),
        }
    }
}

fn edited(reply: Frame<Answer>) -> Result<Edited, RenderError> {
    match (reply.header, reply.parts) {
        (Answer::Edited { conflicts }, [update, ..]) => Ok(Edited { update, conflicts }),
        _ => Err(invalid()),
    }
}
