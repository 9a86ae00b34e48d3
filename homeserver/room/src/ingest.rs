//! Merging what other servers sent: staged events are put in order, each event is decided about and handed to the commit.
//! One bad event never stops the rest. What an event lacks is named; [`crate::fetch`] brings it in portions.
//!
//! Must not ask other servers, nor write rows itself, nor keep anything that isn't rebuilt from the staging table after a
//! crash.

pub(crate) mod decide;
pub(crate) mod graph;
pub(crate) mod merge_session;
mod missing;
pub(crate) mod order;
mod pruned;
pub(crate) mod rebuild;
mod redactions;
pub(crate) mod state_reset;
pub(crate) mod stored;
mod text;
pub(crate) mod unconfirmed;
#[cfg(test)]
mod whole;

use std::collections::{BTreeMap, BTreeSet};

use ruma::{MilliSecondsSinceUnixEpoch, OwnedEventId, OwnedServerName};
use weft_dag::{Authorized, StateMap, Verified};

use self::{
    decide::{Undecided, decide, decide_outlier, is_settled},
    graph::{Graph, Incoming},
    order::{Links, order},
};
use crate::{Unavailable, tally::Tally};

/// How long an event waits for what it follows or rests on before it is given up, milliseconds. It comes again when
/// something that we can place follows it.
const GIVE_UP_AFTER_MS: u64 = 10 * 60 * 1_000;

/// A row of the staging table.
#[derive(Debug, Clone)]
pub(crate) struct Staged {
    /// The row's number.
    pub(crate) number: u64,
    /// Who sent the event.
    pub(crate) origin: OwnedServerName,
    /// When.
    pub(crate) received_at: MilliSecondsSinceUnixEpoch,
    /// The event.
    pub(crate) event: Verified,
}

/// What an event lacks, so that nothing can be decided about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Lacks {
    /// Events that it follows.
    Prev,
    /// These events, which it or the states before it rest on.
    Auth(Vec<OwnedEventId>),
}

impl Lacks {
    /// None where nothing is to be fetched.
    pub(crate) fn of(undecided: &Undecided) -> Option<Self> {
        match undecided {
            Undecided::Prev(_) => Some(Self::Prev),
            Undecided::Auth(ids) => Some(Self::Auth(ids.clone())),
            Undecided::Unresolvable(_) | Undecided::Unavailable(_) => None,
        }
    }
}

/// A staged event for which something is to be fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Want {
    /// Its row in the staging table.
    pub(crate) number: u64,
    /// The server that sent it.
    pub(crate) origin: OwnedServerName,
    pub(crate) lacks: Lacks,
}

/// An event that was fetched, or for which something was fetched.
#[derive(Debug)]
pub(crate) struct Fetched {
    pub(crate) event: Verified,
    /// The state before it as another server tells it, where nobody gives what it follows.
    pub(crate) remote_state: Option<StateMap>,
    /// Staged rows that are done with when it is in its place.
    pub(crate) rows: Vec<u64>,
}

/// A portion of what was fetched, in order: what an event follows or rests on is here, or comes before it.
#[derive(Debug, Default)]
pub(crate) struct Portion {
    /// Events known only as part of a state or an auth chain. They come first.
    pub(crate) outliers: Vec<Verified>,
    pub(crate) events: Vec<Fetched>,
    /// A gap stays, because only the state behind it could be had: this server may have the events.
    pub(crate) gap: Option<OwnedServerName>,
}

/// What became of a number of events.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct IngestReport {
    /// Rows that are done with and were not handed to the commit: known already, or given up.
    pub(crate) done: Vec<u64>,
    /// Rows that stay: what their events need isn't here.
    pub(crate) waiting: Vec<u64>,
    /// What is to be fetched for some of these.
    pub(crate) wants: Vec<Want>,
    /// What events of a fetched portion lack.
    pub(crate) lacks: Vec<Lacks>,
    /// Events that were handed to the commit.
    pub(crate) appended: usize,
}

/// Decides about a number of events of one room.
pub(crate) struct Ingest<'a, G> {
    graph: &'a mut G,
    now: MilliSecondsSinceUnixEpoch,
    report: IngestReport,
}

/// What is to become of one event's rows.
enum Disposition {
    Appended,
    Known,
    /// It follows one that waits.
    Waits,
    Lacks(Lacks),
    Refused,
}

impl<'a, G: Graph> Ingest<'a, G> {
    pub(crate) fn new(graph: &'a mut G, now: MilliSecondsSinceUnixEpoch) -> Self {
        Self {
            graph,
            now,
            report: IngestReport::default(),
        }
    }

    /// Decides about staged events. `stuck`: events that wait, so that for those which follow them nothing is fetched.
    ///
    /// # Errors
    /// When the store fails: nothing more is decided then.
    pub(crate) async fn run(
        mut self,
        staged: Vec<Staged>,
        stuck: &mut BTreeSet<OwnedEventId>,
    ) -> Result<IngestReport, Unavailable> {
        let mut tally = Tally::new(self.graph.room_id());
        let mut rows: BTreeMap<OwnedEventId, Vec<u64>> = BTreeMap::new();
        for row in &staged {
            rows.entry(row.event.pdu().event_id().to_owned())
                .or_default()
                .push(row.number);
        }
        for row in order(staged, Links::All, |row| row.event.pdu()) {
            let id = row.event.pdu().event_id().to_owned();
            let numbers = rows.remove(&id).unwrap_or_default();
            let (number, origin, received_at) = (row.number, row.origin, row.received_at);
            let lacks = match self.one(row.event, numbers.clone(), stuck).await? {
                Disposition::Appended => continue,
                Disposition::Known | Disposition::Refused => {
                    self.report.done.extend(numbers);
                    continue;
                }
                Disposition::Waits => None,
                Disposition::Lacks(lacks) => Some(lacks),
            };
            if self.is_hopeless(received_at) {
                tally.note(
                    "given up: what the events need is not to be had",
                    &format_args!("{id} by {origin}"),
                );
                self.report.done.extend(numbers);
                continue;
            }
            stuck.insert(id);
            self.report.waiting.extend(numbers);
            self.report
                .wants
                .extend(lacks.map(|lacks| Want { number, origin, lacks }));
        }
        Ok(self.report)
    }

    /// Decides about what was fetched.
    ///
    /// # Errors
    /// When the store fails: nothing more is decided then.
    pub(crate) async fn place(mut self, portion: Portion) -> Result<IngestReport, Unavailable> {
        for outlier in portion.outliers {
            self.persist_outlier(outlier).await?;
        }
        for Fetched {
            event,
            remote_state,
            rows,
        } in portion.events
        {
            if is_settled(self.graph, &event).await? {
                self.report.done.extend(rows);
                continue;
            }
            let id = event.pdu().event_id().to_owned();
            let decided = decide(self.graph, event, remote_state, Some(self.graph.current())).await;
            match self.settle(decided, rows.clone()).await? {
                Disposition::Appended => {}
                Disposition::Known | Disposition::Refused => self.report.done.extend(rows),
                Disposition::Waits => {}
                Disposition::Lacks(lacks) => {
                    tracing::debug!(room = %self.graph.room_id(), event = %id, ?lacks, "an event of a gap has no place");
                    self.report.lacks.push(lacks);
                }
            }
        }
        Ok(self.report)
    }

    fn is_hopeless(&self, received_at: MilliSecondsSinceUnixEpoch) -> bool {
        u64::from(self.now.get()).saturating_sub(u64::from(received_at.get())) > GIVE_UP_AFTER_MS
    }

    /// One staged event.
    async fn one(
        &mut self,
        event: Verified,
        staged: Vec<u64>,
        stuck: &BTreeSet<OwnedEventId>,
    ) -> Result<Disposition, Unavailable> {
        let pdu = event.pdu();
        // The room's beginning is here, or comes with its history.
        if pdu.room_id() != self.graph.room_id() || pdu.prev_events().is_empty() {
            return Ok(Disposition::Refused);
        }
        if is_settled(self.graph, &event).await? {
            return Ok(Disposition::Known);
        }
        if pdu.prev_events().iter().any(|id| stuck.contains(id)) {
            return Ok(Disposition::Waits);
        }
        let decided = decide(self.graph, event, None, Some(self.graph.current())).await;
        self.settle(decided, staged).await
    }

    /// An event of a state or an auth chain. One that can't be decided about is left out: what rests on it then can't
    /// be decided about either.
    async fn persist_outlier(&mut self, event: Verified) -> Result<(), Unavailable> {
        let id = event.pdu().event_id().to_owned();
        if event.pdu().room_id() != self.graph.room_id() || self.graph.event(&id).await?.is_some() {
            return Ok(());
        }
        match decide_outlier(self.graph, event).await {
            Ok((authorized, before)) => {
                let incoming = Incoming {
                    authorized,
                    before,
                    outlier: true,
                    relay: false,
                    staged: Vec::new(),
                };
                self.graph.append(incoming).await
            }
            Err(Undecided::Unavailable(error)) => Err(error),
            Err(problem) => {
                tracing::debug!(room = %self.graph.room_id(), event = %id, %problem, "an event of an auth chain is left out");
                Ok(())
            }
        }
    }

    /// Hands a decided event to the commit.
    async fn settle(
        &mut self,
        decided: Result<(Authorized, StateMap), Undecided>,
        staged: Vec<u64>,
    ) -> Result<Disposition, Unavailable> {
        match decided {
            Ok((authorized, before)) => {
                self.graph
                    .append(Incoming {
                        authorized,
                        before,
                        outlier: false,
                        relay: false,
                        staged,
                    })
                    .await?;
                self.report.appended += 1;
                Ok(Disposition::Appended)
            }
            Err(Undecided::Unavailable(error)) => Err(error),
            Err(Undecided::Prev(_)) => Ok(Disposition::Lacks(Lacks::Prev)),
            Err(Undecided::Auth(ids)) => Ok(Disposition::Lacks(Lacks::Auth(ids))),
            Err(Undecided::Unresolvable(why)) => {
                tracing::warn!(room = %self.graph.room_id(), %why, "the states before an event can't be resolved");
                Ok(Disposition::Refused)
            }
        }
    }
}
