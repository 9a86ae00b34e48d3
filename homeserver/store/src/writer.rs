//! Group commit: one task that collects the batches of several callers and passes them to the engine in one call, so
//! that they share an fsync. Batches that are submitted while the disk is busy join the next group. Must not reorder
//! the batches.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use crate::batch::{Batch, Parts};
use crate::engine::{Engine, EngineCommitError, WriteBatch};
use crate::errors::CommitError;
use crate::positions::Positions;
use crate::tables::meta::POSITION_CEILING;

/// Commits that may wait in the queue; further callers wait until there is room. Bounds memory when the disk is slow.
const QUEUE: usize = 1024;
/// Batches in one group: enough for the bandwidth of a disk, and few enough that the first doesn't wait for the last.
const GROUP_BATCHES: usize = 256;
/// Bytes after which a group accepts no further batch.
const GROUP_BYTES: usize = 8 * 1024 * 1024;

pub(crate) enum Request {
    Commit(Parts, oneshot::Sender<Result<(), CommitError>>),
    Close(oneshot::Sender<()>),
}

pub(crate) fn start(engine: Arc<dyn Engine>, positions: Positions) -> mpsc::Sender<Request> {
    let (sender, receiver) = mpsc::channel(QUEUE);
    tokio::spawn(run(engine, positions, receiver));
    sender
}

#[derive(Default)]
struct Group {
    writes: Vec<WriteBatch>,
    waiting: Vec<Waiting>,
    bytes: usize,
    close: Option<oneshot::Sender<()>>,
}

struct Waiting {
    fenced: Vec<&'static str>,
    held: Vec<crate::positions::Reserved>,
    answer: oneshot::Sender<Result<(), CommitError>>,
}

impl Group {
    fn add(&mut self, request: Request) {
        match request {
            Request::Commit(parts, answer) => {
                self.bytes += parts.write.size();
                self.writes.push(parts.write);
                self.waiting.push(Waiting {
                    fenced: parts.fenced,
                    held: parts.held,
                    answer,
                });
            }
            Request::Close(answer) => self.close = Some(answer),
        }
    }

    fn is_full(&self) -> bool {
        self.close.is_some() || self.writes.len() >= GROUP_BATCHES || self.bytes >= GROUP_BYTES
    }
}

async fn run(engine: Arc<dyn Engine>, positions: Positions, mut requests: mpsc::Receiver<Request>) {
    while let Some(request) = requests.recv().await {
        let mut group = Group::default();
        group.add(request);
        while !group.is_full()
            && let Ok(request) = requests.try_recv()
        {
            group.add(request);
        }
        let close = group.close.take();
        commit(engine.as_ref(), &positions, group).await;
        if let Some(answer) = close {
            requests.close();
            engine.close().await;
            // The caller may have been cancelled; the store is closed all the same.
            let _ = answer.send(());
            return;
        }
    }
    engine.close().await;
}

async fn commit(engine: &dyn Engine, positions: &Positions, mut group: Group) {
    if group.writes.is_empty() {
        return;
    }
    // Written before the batches that use the positions, so that a torn group never has positions without it.
    let ceiling = positions.wanted_ceiling();
    if let Some(ceiling) = ceiling {
        let mut batch = Batch::new();
        batch.put(&POSITION_CEILING, &(), &ceiling);
        if let Ok(parts) = batch.into_parts() {
            group.writes.insert(0, parts.write);
        }
    }
    #[cfg(debug_assertions)]
    fail::fail_point!("store::before_write");
    let mut results = engine.commit(group.writes).await.into_iter();
    #[cfg(debug_assertions)]
    fail::fail_point!("store::after_write");
    if let Some(ceiling) = ceiling
        && matches!(results.next(), Some(Ok(())))
    {
        positions.raise_ceiling(ceiling);
    }
    for waiting in group.waiting {
        let result = results.next().unwrap_or(Err(EngineCommitError::Closed));
        let result = result.map_err(|error| explain(error, &waiting.fenced));
        // Visible before the result is returned: the caller can then read its commit by position.
        drop(waiting.held);
        // A caller that was cancelled doesn't undo its commit.
        let _ = waiting.answer.send(result);
    }
}

fn explain(error: EngineCommitError, fenced: &[&'static str]) -> CommitError {
    match error {
        EngineCommitError::Fence { index } => CommitError::Fence {
            table: fenced.get(index).copied().unwrap_or("unknown"),
        },
        EngineCommitError::Poisoned { reason } => CommitError::Poisoned { reason },
        EngineCommitError::Closed => CommitError::Closed,
    }
}
