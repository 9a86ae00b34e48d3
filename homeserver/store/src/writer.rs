//! Group commit: one task that collects the batches of several callers and passes them to the engine in one call, so
//! that they share an fsync. Batches that are submitted while the disk is busy join the next group. Must not reorder
//! the batches, and must not acknowledge one whose lane has another owner.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep};

use crate::engine::{CommitGroup, Engine, EngineCommitError, LaneBatch, LaneFence, WriteBatch};
use crate::errors::CommitError;
use crate::lane::{Lane, Lanes};
use crate::owned::{Owned, Settled, again};
use crate::positions::Reserved;

/// Commits that may wait in the queue; further callers wait until there is room. Bounds memory when the disk is slow.
const QUEUE: usize = 1024;
/// Batches in one group: enough for the bandwidth of a disk, and few enough that the first doesn't wait for the last.
const GROUP_BATCHES: usize = 256;
/// Bytes after which a group accepts no further batch.
const GROUP_BYTES: usize = 8 * 1024 * 1024;
/// How long the writer tries to learn what became of a group in doubt: a standby takes over within 30 s.
const DOUBT_DEADLINE: Duration = Duration::from_secs(60);
/// The pause between two attempts.
const DOUBT_PAUSE: Duration = Duration::from_millis(100);

/// A batch of one caller, as the engine stores it.
pub(crate) struct Submitted {
    pub(crate) lane: Lane,
    pub(crate) write: WriteBatch,
    /// The tables of its fences.
    pub(crate) fenced: Vec<&'static str>,
    pub(crate) held: Vec<Reserved>,
}

pub(crate) enum Request {
    Commit(Submitted, oneshot::Sender<Result<(), CommitError>>),
    Close(oneshot::Sender<()>),
}

pub(crate) fn start(engine: Arc<dyn Engine>, lanes: Lanes, owned: Vec<Owned>) -> mpsc::Sender<Request> {
    let (sender, receiver) = mpsc::channel(QUEUE);
    tokio::spawn(Writer { engine, lanes, owned }.run(receiver));
    sender
}

struct Writer {
    engine: Arc<dyn Engine>,
    lanes: Lanes,
    /// All lanes of the deployment, by number.
    owned: Vec<Owned>,
}

#[derive(Default)]
struct Group {
    writes: Vec<LaneBatch>,
    waiting: Vec<Waiting>,
    bytes: usize,
    close: Option<oneshot::Sender<()>>,
}

struct Waiting {
    lane: Lane,
    fenced: Vec<&'static str>,
    held: Vec<Reserved>,
    answer: oneshot::Sender<Result<(), CommitError>>,
}

type Outcomes = Vec<Result<(), EngineCommitError>>;

impl Group {
    fn add(&mut self, request: Request) {
        match request {
            Request::Commit(submitted, answer) => {
                self.bytes += submitted.write.size();
                self.writes.push(LaneBatch {
                    lane: Some(submitted.lane),
                    write: submitted.write,
                });
                self.waiting.push(Waiting {
                    lane: submitted.lane,
                    fenced: submitted.fenced,
                    held: submitted.held,
                    answer,
                });
            }
            Request::Close(answer) => self.close = Some(answer),
        }
    }

    fn is_full(&self) -> bool {
        self.close.is_some() || self.writes.len() >= GROUP_BATCHES || self.bytes >= GROUP_BYTES
    }

    /// The positions that become visible with the batches of each lane.
    fn held(&self) -> BTreeMap<Lane, Vec<&Reserved>> {
        let mut held: BTreeMap<Lane, Vec<&Reserved>> = BTreeMap::new();
        for waiting in &self.waiting {
            held.entry(waiting.lane).or_default().extend(&waiting.held);
        }
        held
    }
}

impl Writer {
    async fn run(mut self, mut requests: mpsc::Receiver<Request>) {
        while let Some(request) = requests.recv().await {
            let mut group = Group::default();
            group.add(request);
            while !group.is_full()
                && let Ok(request) = requests.try_recv()
            {
                group.add(request);
            }
            let close = group.close.take();
            self.commit(group).await;
            if let Some(answer) = close {
                requests.close();
                self.engine.close().await;
                // The caller may have been cancelled; the store is closed all the same.
                let _ = answer.send(());
                return;
            }
        }
        self.engine.close().await;
    }

    async fn commit(&mut self, mut group: Group) {
        if group.writes.is_empty() {
            return;
        }
        let writes = std::mem::take(&mut group.writes);
        let fences: Vec<LaneFence> = group
            .held()
            .into_iter()
            .filter_map(|(lane, held)| Some(self.lane(lane)?.fence(&held)))
            .collect();
        let results = self.write(&fences, writes).await;
        for (waiting, result) in group.waiting.into_iter().zip(results) {
            let result = result.map_err(|error| explain(error, waiting.lane, &waiting.fenced));
            // Visible before the result is returned: the caller can then read its commit by position.
            drop(waiting.held);
            // A caller that was cancelled doesn't undo its commit.
            let _ = waiting.answer.send(result);
        }
    }

    /// A lane that this process still owns.
    fn lane(&self, lane: Lane) -> Option<&Owned> {
        self.owned
            .get(usize::from(lane.number()))
            .filter(|owned| !owned.is_lost())
    }

    /// Passes the batches of owned lanes to the engine; returns a result for each batch.
    async fn write(&mut self, fences: &[LaneFence], writes: Vec<LaneBatch>) -> Outcomes {
        let owned = |batch: &LaneBatch| fences.iter().any(|fence| Some(fence.lane) == batch.lane);
        let is_sent: Vec<bool> = writes.iter().map(owned).collect();
        let sent: Vec<LaneBatch> = writes.into_iter().filter(owned).collect();
        let group = CommitGroup {
            lanes: fences.to_vec(),
            batches: sent.clone(),
        };
        #[cfg(debug_assertions)]
        fail::fail_point!("store::before_write");
        let mut outcomes = self.engine.commit_group(group).await;
        #[cfg(debug_assertions)]
        fail::fail_point!("store::after_write");
        outcomes.resize(sent.len(), Err(EngineCommitError::Closed));
        for fence in fences {
            let of_lane = (0_usize..)
                .zip(&sent)
                .filter(|(_, batch)| batch.lane == Some(fence.lane))
                .map(|(index, _)| index);
            let of_lane: Vec<usize> = of_lane.collect();
            self.follow_up(fence, &of_lane, &sent, &mut outcomes).await;
        }
        let mut outcomes = outcomes.into_iter();
        let result = |is_sent| match is_sent {
            true => outcomes.next().unwrap_or(Err(EngineCommitError::Closed)),
            false => Err(EngineCommitError::LaneLost),
        };
        is_sent.into_iter().map(result).collect()
    }

    /// Records what the engine did with a lane, and settles a doubt.
    async fn follow_up(
        &mut self,
        fence: &LaneFence,
        of_lane: &[usize],
        sent: &[LaneBatch],
        outcomes: &mut [Result<(), EngineCommitError>],
    ) {
        let first = of_lane.first().and_then(|index| outcomes.get(*index)).cloned();
        let Some(owned) = self.owned.get_mut(usize::from(fence.lane.number())) else {
            return;
        };
        match first {
            Some(Ok(()) | Err(EngineCommitError::Fence { .. })) => owned.moved(fence.clone()),
            Some(Err(EngineCommitError::LaneLost)) => owned.lose(),
            Some(Err(EngineCommitError::InDoubt { reason })) => {
                self.settle(fence, of_lane, sent, outcomes, reason).await;
            }
            _ => {}
        }
    }

    /// Learns what became of a lane's batches whose answer was lost, and sends them again if they were not written.
    async fn settle(
        &mut self,
        fence: &LaneFence,
        of_lane: &[usize],
        sent: &[LaneBatch],
        outcomes: &mut [Result<(), EngineCommitError>],
        mut reason: String,
    ) {
        let deadline = Instant::now() + DOUBT_DEADLINE;
        let (mut fence, mut of_group) = (fence.clone(), of_lane.to_vec());
        let Some(owned) = self.owned.get_mut(usize::from(fence.lane.number())) else {
            return;
        };
        let mut answer = |results: Outcomes| {
            for (index, result) in of_lane.iter().zip(results) {
                if let Some(outcome) = outcomes.get_mut(*index) {
                    *outcome = result;
                }
            }
        };
        while Instant::now() < deadline {
            match owned.settle(self.engine.as_ref(), self.lanes, &fence).await {
                Ok(Settled::Written(left_out)) => {
                    let result = |index: &usize| {
                        let is_left_out = left_out.iter().any(|out| usize::try_from(*out) == Ok(*index));
                        if is_left_out {
                            Err(EngineCommitError::Fence { index: 0 })
                        } else {
                            Ok(())
                        }
                    };
                    return answer(of_group.iter().map(result).collect());
                }
                Ok(Settled::NotWritten) => {
                    let writes = of_lane.iter().filter_map(|index| sent.get(*index));
                    fence = owned.renewed(&fence);
                    of_group = (0..of_lane.len()).collect();
                    let group = again(fence.clone(), writes.map(|batch| batch.write.clone()).collect());
                    let results = self.engine.commit_group(group).await;
                    match results.first() {
                        Some(Err(EngineCommitError::InDoubt { reason: later })) => reason.clone_from(later),
                        Some(Ok(()) | Err(EngineCommitError::Fence { .. })) => {
                            owned.moved(fence);
                            return answer(results);
                        }
                        Some(Err(EngineCommitError::LaneLost)) => {
                            owned.lose();
                            return answer(results);
                        }
                        _ => return answer(results),
                    }
                }
                Ok(Settled::Lost { in_doubt: false }) => {
                    owned.lose();
                    return answer(vec![Err(EngineCommitError::LaneLost); of_lane.len()]);
                }
                Ok(Settled::Lost { in_doubt: true }) => break,
                Err(error) => {
                    tracing::warn!(
                        event = "store.commit_in_doubt", lane = fence.lane.number(), %error,
                        "a commit is in doubt and could not be settled yet"
                    );
                    sleep(DOUBT_PAUSE).await;
                }
            }
        }
        owned.lose();
        answer(vec![Err(EngineCommitError::InDoubt { reason }); of_lane.len()]);
    }
}

fn explain(error: EngineCommitError, lane: Lane, fenced: &[&'static str]) -> CommitError {
    match error {
        EngineCommitError::Fence { index } => CommitError::Fence {
            table: fenced.get(index).copied().unwrap_or("unknown"),
        },
        EngineCommitError::Poisoned { reason } => CommitError::Poisoned { reason },
        EngineCommitError::LaneLost => CommitError::LaneLost { lane },
        EngineCommitError::InDoubt { reason } => CommitError::InDoubt { reason },
        EngineCommitError::Closed => CommitError::Closed,
    }
}
