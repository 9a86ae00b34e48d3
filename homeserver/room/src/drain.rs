//! Merging what other servers sent: staged events are put in order, gaps are filled, each event is decided about and
//! handed to the commit. One bad event never stops the rest.
//!
//! Must not write rows itself, nor keep anything that isn't rebuilt from the staging table after a crash.

pub(crate) mod arrive;
pub(crate) mod decide;
pub(crate) mod doubt;
pub(crate) mod graph;
mod hollow;
mod missing;
pub(crate) mod order;
pub(crate) mod rebuild;
pub(crate) mod reset;
mod take_back;
mod text;
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
    gaps::{Filled, InVain, Questions},
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
pub(crate) struct Drained {
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
pub(crate) struct Drain<'a, G> {
    graph: &'a mut G,
    questions: Questions<'a>,
    us: OwnedServerName,
    now: MilliSecondsSinceUnixEpoch,
    /// Events that wait, so that those which follow them wait without a question asked.
    stuck: BTreeSet<OwnedEventId>,
    drained: Drained,
}

/// What is to become of one event's rows.
enum Fate {
    Appended,
    Known,
    Waits,
    Refused,
}

impl<'a, G: Graph> Drain<'a, G> {
    pub(crate) fn new(
        graph: &'a mut G,
        peers: &'a dyn Peers,
        in_vain: &'a mut InVain,
        us: OwnedServerName,
        now: MilliSecondsSinceUnixEpoch,
    ) -> Self {
        let questions = Questions::new(peers, in_vain, now);
        Self {
            graph,
            questions,
            us,
            now,
            stuck: BTreeSet::new(),
            drained: Drained::default(),
        }
    }

    /// Decides about these events.
    ///
    /// # Errors
    /// When the store fails: nothing more is decided then.
    pub(crate) async fn run(mut self, staged: Vec<Staged>) -> Result<Drained, Unavailable> {
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
                Fate::Appended => {}
                Fate::Known | Fate::Refused => self.drained.done.extend(numbers),
                Fate::Waits if self.is_hopeless(received_at) => {
                    tally.note(
                        "given up: what the events need is not to be had",
                        &format_args!("{id} by {origin}"),
                    );
                    self.drained.done.extend(numbers);
                }
                Fate::Waits => {
                    self.stuck.insert(id);
                    self.drained.waiting.extend(numbers);
                }
            }
        }
        Ok(self.drained)
    }

    /// The server that may have the events of a gap that stays.
    pub(crate) fn gap(&self) -> Option<&OwnedServerName> {
        self.drained.gap.as_ref()
    }

    fn is_hopeless(&self, received_at: MilliSecondsSinceUnixEpoch) -> bool {
        u64::from(self.now.get()).saturating_sub(u64::from(received_at.get())) > GIVE_UP_AFTER_MS
    }

    /// One staged event, with whatever has to come before it.
    async fn one(&mut self, event: Verified, origin: &OwnedServerName, staged: Vec<u64>) -> Result<Fate, Unavailable> {
        let pdu = event.pdu();
        // The room's beginning is here, or comes with its history.
        if pdu.room_id() != self.graph.room_id() || pdu.prev_events().is_empty() {
            return Ok(Fate::Refused);
        }
        if is_settled(self.graph, &event).await? {
            return Ok(Fate::Known);
        }
        if pdu.prev_events().iter().any(|id| self.stuck.contains(id)) {
            return Ok(Fate::Waits);
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
        let Some(filled) = self.questions.fill(self.graph, &event, origin, &self.us).await? else {
            return Err(Undecided::Prev(missing));
        };
        let told = self.place_all(filled, event.pdu().event_id(), origin).await?;
        self.decide_resting(event, told, origin).await
    }

    /// Places all that fills a gap; gives the state that was told for the event after it, if it has one.
    async fn place_all(
        &mut self,
        filled: Filled,
        after: &EventId,
        origin: &OwnedServerName,
    ) -> Result<Option<StateMap>, Unavailable> {
        let Filled {
            events,
            mut told,
            outliers,
        } = filled;
        if !told.is_empty() {
            self.drained.gap = Some(origin.clone());
        }
        for outlier in outliers {
            self.place_outlier(outlier).await?;
        }
        for event in events {
            if is_settled(self.graph, &event).await? {
                continue;
            }
            let id = event.pdu().event_id().to_owned();
            let decided = self.decide_resting(event, told.remove(&id), origin).await;
            if !matches!(self.settle(decided, Vec::new()).await?, Fate::Appended) {
                tracing::debug!(room = %self.graph.room_id(), event = %id, "an event of a gap has no place");
            }
        }
        Ok(told.remove(after))
    }

    /// Decides about an event, fetching what it rests on.
    async fn decide_resting(
        &mut self,
        event: Verified,
        told: Option<StateMap>,
        origin: &OwnedServerName,
    ) -> Result<(Authorized, StateMap), Undecided> {
        let decided = decide(self.graph, event.clone(), told.clone(), Some(self.graph.current())).await;
        let missing = match decided {
            Err(Undecided::Auth(missing)) if !missing.is_empty() => missing,
            other => return other,
        };
        let Some(outliers) = self
            .questions
            .fetch_auth(self.graph, &missing, origin, &self.us)
            .await?
        else {
            return Err(Undecided::Auth(missing));
        };
        for outlier in outliers {
            self.place_outlier(outlier).await?;
        }
        decide(self.graph, event, told, Some(self.graph.current())).await
    }

    /// An event of a state or an auth chain. One that can't be decided about is left out: what rests on it then can't
    /// be decided about either.
    async fn place_outlier(&mut self, event: Verified) -> Result<(), Unavailable> {
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
    ) -> Result<Fate, Unavailable> {
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
                self.drained.appended += 1;
                Ok(Fate::Appended)
            }
            Err(Undecided::Unavailable(error)) => Err(error),
            Err(Undecided::Prev(_) | Undecided::Auth(_)) => Ok(Fate::Waits),
            Err(Undecided::Unresolvable(why)) => {
                tracing::warn!(room = %self.graph.room_id(), %why, "the states before an event can't be resolved");
                Ok(Fate::Refused)
            }
        }
    }
}
