//! Merging what other servers sent: staged events are put in order, gaps are filled, each event is decided about and
//! handed to the commit. One bad event never stops the rest.
//!
//! Must not write rows itself, nor keep anything that isn't rebuilt from the staging table after a crash.

pub(crate) mod decide;
pub(crate) mod graph;
pub(crate) mod merge_session;
mod missing;
pub(crate) mod order;
mod pruned;
pub(crate) mod rebuild;
mod redactions;
pub(crate) mod state_reset;
mod text;
pub(crate) mod unconfirmed;
#[cfg(test)]
mod whole;

use std::collections::{BTreeMap, BTreeSet};

use ruma::{EventId, MilliSecondsSinceUnixEpoch, OwnedEventId, OwnedServerName};
use weft_dag::{Authorized, StateMap, Verified};

use self::{
    decide::{Undecided, decide, decide_outlier, is_settled},
    graph::{Graph, Incoming},
    order::{Links, order},
};
use crate::{
    Peers, Unavailable,
    gaps::{EventFetcher, Filled, NegativeCache},
    tally::Tally,
};

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

/// What became of a number of staged events.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct IngestReport {
    /// Rows that are done with and were not handed to the commit: known already, or given up.
    pub(crate) done: Vec<u64>,
    /// Rows that stay: what their events need could not be had. To be tried again after a while.
    pub(crate) waiting: Vec<u64>,
    /// Events that were handed to the commit.
    pub(crate) appended: usize,
    /// A gap stays, because only the state behind it could be had: this server may have the events.
    pub(crate) gap: Option<OwnedServerName>,
}

/// One drain of one room.
pub(crate) struct Ingest<'a, G> {
    graph: &'a mut G,
    fetcher: EventFetcher<'a>,
    us: OwnedServerName,
    now: MilliSecondsSinceUnixEpoch,
    /// Events that wait, so that those which follow them wait without a question asked.
    stuck: BTreeSet<OwnedEventId>,
    report: IngestReport,
}

/// What is to become of one event's rows.
enum Disposition {
    Appended,
    Known,
    Waits,
    Refused,
}

impl<'a, G: Graph> Ingest<'a, G> {
    pub(crate) fn new(
        graph: &'a mut G,
        peers: &'a dyn Peers,
        negative_cache: &'a mut NegativeCache,
        us: OwnedServerName,
        now: MilliSecondsSinceUnixEpoch,
    ) -> Self {
        let fetcher = EventFetcher::new(peers, negative_cache, now);
        Self {
            graph,
            fetcher,
            us,
            now,
            stuck: BTreeSet::new(),
            report: IngestReport::default(),
        }
    }

    /// Decides about these events.
    ///
    /// # Errors
    /// When the store fails: nothing more is decided then.
    pub(crate) async fn run(mut self, staged: Vec<Staged>) -> Result<IngestReport, Unavailable> {
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
            let (origin, received_at) = (row.origin, row.received_at);
            match self.one(row.event, &origin, numbers.clone()).await? {
                Disposition::Appended => {}
                Disposition::Known | Disposition::Refused => self.report.done.extend(numbers),
                Disposition::Waits if self.is_hopeless(received_at) => {
                    tally.note(
                        "given up: what the events need is not to be had",
                        &format_args!("{id} by {origin}"),
                    );
                    self.report.done.extend(numbers);
                }
                Disposition::Waits => {
                    self.stuck.insert(id);
                    self.report.waiting.extend(numbers);
                }
            }
        }
        Ok(self.report)
    }

    /// The server that may have the events of a gap that stays.
    pub(crate) fn gap(&self) -> Option<&OwnedServerName> {
        self.report.gap.as_ref()
    }

    fn is_hopeless(&self, received_at: MilliSecondsSinceUnixEpoch) -> bool {
        u64::from(self.now.get()).saturating_sub(u64::from(received_at.get())) > GIVE_UP_AFTER_MS
    }

    /// One staged event, with whatever has to come before it.
    async fn one(
        &mut self,
        event: Verified,
        origin: &OwnedServerName,
        staged: Vec<u64>,
    ) -> Result<Disposition, Unavailable> {
        let pdu = event.pdu();
        // The room's beginning is here, or comes with its history.
        if pdu.room_id() != self.graph.room_id() || pdu.prev_events().is_empty() {
            return Ok(Disposition::Refused);
        }
        if is_settled(self.graph, &event).await? {
            return Ok(Disposition::Known);
        }
        if pdu.prev_events().iter().any(|id| self.stuck.contains(id)) {
            return Ok(Disposition::Waits);
        }
        let decided = self.decide(event, origin).await;
        self.settle(decided, staged).await
    }

    /// Decides about an event, after what it follows and rests on was fetched and decided about.
    pub(crate) async fn decide(
        &mut self,
        event: Verified,
        origin: &OwnedServerName,
    ) -> Result<(Authorized, StateMap), Undecided> {
        let decided = self.decide_resting(event.clone(), None, origin).await;
        let Err(Undecided::Prev(missing)) = decided else {
            return decided;
        };
        let Some(filled) = self.fetcher.fill(self.graph, &event, origin, &self.us).await? else {
            return Err(Undecided::Prev(missing));
        };
        let remote_states = self.persist_all(filled, event.pdu().event_id(), origin).await?;
        self.decide_resting(event, remote_states, origin).await
    }

    /// Places all that fills a gap; gives the state that was told for the event after it, if it has one.
    async fn persist_all(
        &mut self,
        filled: Filled,
        after: &EventId,
        origin: &OwnedServerName,
    ) -> Result<Option<StateMap>, Unavailable> {
        let Filled {
            events,
            mut remote_states,
            outliers,
        } = filled;
        if !remote_states.is_empty() {
            self.report.gap = Some(origin.clone());
        }
        for outlier in outliers {
            self.persist_outlier(outlier).await?;
        }
        for event in events {
            if is_settled(self.graph, &event).await? {
                continue;
            }
            let id = event.pdu().event_id().to_owned();
            let decided = self.decide_resting(event, remote_states.remove(&id), origin).await;
            if !matches!(self.settle(decided, Vec::new()).await?, Disposition::Appended) {
                tracing::debug!(room = %self.graph.room_id(), event = %id, "an event of a gap has no place");
            }
        }
        Ok(remote_states.remove(after))
    }

    /// Decides about an event, fetching what it rests on.
    async fn decide_resting(
        &mut self,
        event: Verified,
        remote_states: Option<StateMap>,
        origin: &OwnedServerName,
    ) -> Result<(Authorized, StateMap), Undecided> {
        let decided = decide(
            self.graph,
            event.clone(),
            remote_states.clone(),
            Some(self.graph.current()),
        )
        .await;
        let missing = match decided {
            Err(Undecided::Auth(missing)) if !missing.is_empty() => missing,
            other => return other,
        };
        let Some(outliers) = self.fetcher.fetch_auth(self.graph, &missing, origin, &self.us).await? else {
            return Err(Undecided::Auth(missing));
        };
        for outlier in outliers {
            self.persist_outlier(outlier).await?;
        }
        decide(self.graph, event, remote_states, Some(self.graph.current())).await
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
            Err(Undecided::Prev(_) | Undecided::Auth(_)) => Ok(Disposition::Waits),
            Err(Undecided::Unresolvable(why)) => {
                tracing::warn!(room = %self.graph.room_id(), %why, "the states before an event can't be resolved");
                Ok(Disposition::Refused)
            }
        }
    }
}
