//! Merging events of other servers: staged events are sorted, and each one is decided about and passed to the commit.
//! One bad event never stops the rest. What an event needs is reported; a task of the room fetches it in portions ([`gaps`]).
//!
//! Must not write rows itself, and must not keep anything that can't be
//! rebuilt from the staging table after a crash.

pub mod decide;
pub mod gaps;
pub mod graph;
pub mod memory;
pub mod peer_selection;
pub mod sight;
pub mod state_reset;
pub mod stored;
pub mod tally;
pub mod unconfirmed;
#[cfg(test)]
mod whole;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use ruma::{MilliSecondsSinceUnixEpoch, OwnedEventId, OwnedServerName};
use weft_dag::{
    Authorized, StateMap, Verified,
    order::{Links, order},
};
use weft_room_api::{Lacks, Unavailable};

use self::tally::Tally;
use self::{
    decide::{Undecided, decide, decide_outlier, is_settled},
    graph::{Graph, Incoming},
};

/// How long an event waits for missing `prev_events` or auth events before it is dropped, milliseconds. It is fetched
/// again when an event that can be persisted references it.
const MAX_WAIT_MS: u64 = 10 * 60 * 1_000;

/// A row of the staging table.
#[derive(Debug, Clone)]
pub struct Staged {
    /// The row's number.
    pub number: u64,
    /// The server that sent the event.
    pub origin: OwnedServerName,
    /// The time of receipt.
    pub received_at: MilliSecondsSinceUnixEpoch,
    /// The event.
    pub event: Verified,
}

/// A staged event that needs something to be fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Want {
    /// Its row in the staging table.
    pub number: u64,
    /// The server that sent it.
    pub origin: OwnedServerName,
    /// What must be fetched.
    pub lacks: Lacks,
}

/// An event that was fetched, or for which something was fetched.
#[derive(Debug)]
pub struct Fetched {
    /// The event.
    pub event: Verified,
    /// The remote state before it, if no server returns its `prev_events`.
    pub remote_state: Option<StateMap>,
    /// Staged rows that are deleted when it is persisted.
    pub rows: Vec<u64>,
}

/// A portion of fetched events, in order: what an event references is here, or comes before it.
#[derive(Debug, Default)]
pub struct Portion {
    /// Events known only as part of a state or an auth chain. They come first.
    pub outliers: Vec<Verified>,
    /// Events with a position in the graph.
    pub events: Vec<Fetched>,
    /// A gap remains, because only the state behind it was available: this server may have the events.
    pub gap: Option<OwnedServerName>,
}

/// The result for a number of events.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct IngestReport {
    /// Rows to delete that were not passed to the commit: known already, or dropped.
    pub done: Vec<u64>,
    /// Rows that stay: something that their events need is missing.
    pub waiting: Vec<u64>,
    /// What must be fetched for some of these.
    pub wants: Vec<Want>,
    /// What events of a fetched portion need.
    pub lacks: Vec<Lacks>,
    /// The number of events passed to the commit.
    pub appended: usize,
}

/// Decides about a number of events of one room.
pub struct Ingest<'a, G> {
    graph: &'a mut G,
    now: MilliSecondsSinceUnixEpoch,
    report: IngestReport,
}

/// What happens to the rows of one event.
enum Disposition {
    Appended,
    Known,
    /// An ancestor of it waits.
    Waits,
    Lacks(Lacks),
    Dropped,
}

impl<'a, G: Graph> Ingest<'a, G> {
    /// Decides in this graph. `now`: the time of the turn.
    pub fn new(graph: &'a mut G, now: MilliSecondsSinceUnixEpoch) -> Self {
        Self {
            graph,
            now,
            report: IngestReport::default(),
        }
    }

    /// Decides about staged events. `stuck`: events that wait; nothing is fetched for their descendants.
    ///
    /// # Errors
    /// When the store fails: nothing more is decided then.
    pub async fn run(
        mut self,
        staged: Vec<Staged>,
        stuck: &mut BTreeSet<OwnedEventId>,
    ) -> Result<IngestReport, Unavailable> {
        let mut tally = Tally::new(self.graph.room_id());
        let announced: Vec<_> = staged.iter().map(|row| Arc::clone(row.event.pdu())).collect();
        self.graph.read_ahead(&announced).await?;
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
                Disposition::Known | Disposition::Dropped => {
                    self.report.done.extend(numbers);
                    continue;
                }
                Disposition::Waits => None,
                Disposition::Lacks(lacks) => Some(lacks),
            };
            if self.is_expired(received_at) {
                tally.note(
                    "dropped: what the events need is not available",
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

    /// Decides about fetched events.
    ///
    /// # Errors
    /// When the store fails: nothing more is decided then.
    pub async fn place(mut self, portion: Portion) -> Result<IngestReport, Unavailable> {
        let events = portion.events.iter().map(|fetched| &fetched.event);
        let announced = portion.outliers.iter().chain(events);
        let announced: Vec<_> = announced.map(|event| Arc::clone(event.pdu())).collect();
        self.graph.read_ahead(&announced).await?;
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
                Disposition::Known | Disposition::Dropped => self.report.done.extend(rows),
                Disposition::Waits => {}
                Disposition::Lacks(lacks) => {
                    tracing::debug!(room = %self.graph.room_id(), event = %id, ?lacks, "an event of a gap can't be persisted");
                    self.report.lacks.push(lacks);
                }
            }
        }
        Ok(self.report)
    }

    fn is_expired(&self, received_at: MilliSecondsSinceUnixEpoch) -> bool {
        u64::from(self.now.get()).saturating_sub(u64::from(received_at.get())) > MAX_WAIT_MS
    }

    /// One staged event.
    async fn one(
        &mut self,
        event: Verified,
        staged: Vec<u64>,
        stuck: &BTreeSet<OwnedEventId>,
    ) -> Result<Disposition, Unavailable> {
        let pdu = event.pdu();
        // The room's beginning is here, or is backfilled.
        if pdu.room_id() != self.graph.room_id() || pdu.prev_events().is_empty() {
            return Ok(Disposition::Dropped);
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

    /// An event of a state or an auth chain. One that can't be decided about is left out: the events that cite it then
    /// can't be decided about either.
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

    /// Passes a decided event to the commit.
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
                tracing::warn!(
                    event = "room.states_unresolved", room = %self.graph.room_id(), %why,
                    "the states before an event can't be resolved"
                );
                Ok(Disposition::Dropped)
            }
        }
    }
}
