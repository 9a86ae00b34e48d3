//! The queue of one server as a pure state machine: inputs and the time in, actions out.
//!
//! Rows are sent in order, at most 50 in a transaction, one transaction in flight. A failed transaction is sent again
//! after a pause, or at once when the other server sends a request. Must not do I/O, read a clock or draw a random
//! number.
//!
//! A pause is a fraction of the time for which nothing has been delivered. If it grew with each failure instead, a
//! link that is down half of the time would sometimes be paused for hours, with minutes of usable time in each of
//! them.

use ruma::{MilliSecondsSinceUnixEpoch, OwnedEventId};
use sha2::{Digest, Sha256};
use weft_wire::limits;

use super::{Edu, EduQueue, Retry, Row};
use weft_clock::{from_millis, millis};

/// The shortest pause: a server that sends requests and can't be reached itself is tried at most this often.
const SHORTEST_PAUSE_MS: u64 = 1_000;
/// The longest pause. If both servers pause, neither sends a request that would end the pause of the other: a message
/// to a server that is reachable again waits for minutes. An unreachable server costs 288 connections a day.
const LONGEST_PAUSE_MS: u64 = 5 * 60 * 1_000;
/// A pause is this fraction of the time for which sending has failed: the divisor.
const PAUSE_DIVISOR: u64 = 16;
/// How often a single event must be refused as malformed before the queue skips it.
const REFUSALS: u32 = 3;

/// An input of the state machine.
#[derive(Debug, Clone)]
pub enum Input {
    /// The first input: the saved retry state; `None` if sending did not fail.
    Started(Option<Retry>),
    /// There may be new rows.
    Wake,
    /// An EDU, which may be lost.
    Edu(Edu),
    /// The result of [`Action::Load`].
    Loaded(Vec<Row>),
    /// [`Action::Load`] failed.
    LoadFailed,
    /// The result of [`Action::Send`].
    Sent(Result<(), SendFailure>),
    /// The result of [`Action::Acknowledge`].
    Acknowledged,
    /// The time of [`Action::WakeAt`] has come.
    Tick,
    /// The other server sent a request: it is reachable.
    Reachable,
}

/// Why a transaction was not delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SendFailure {
    /// No response, or an error that may be temporary.
    Unreachable,
    /// The transaction was read and found malformed or too large: sending it again would have the same result.
    Malformed,
}

/// An action for the sender.
#[derive(Debug, Clone)]
pub enum Action {
    /// Read the rows after a position.
    Load {
        /// The last position that was delivered.
        after: u64,
        /// The maximum number of rows.
        limit: usize,
    },
    /// Send a transaction.
    Send(Outgoing),
    /// Delete rows.
    Acknowledge {
        /// The numbers of the rows that were delivered.
        rows: Vec<u64>,
    },
    /// Save this for a restart; `None` if sending doesn't fail.
    SaveRetry(Option<Retry>),
    /// Send [`Input::Tick`] at this time.
    WakeAt(MilliSecondsSinceUnixEpoch),
    /// Inform the operator: an event was refused for good; the other server may still fetch it.
    Skipped(OwnedEventId),
}

/// A transaction.
#[derive(Debug, Clone)]
pub struct Outgoing {
    /// Its id: the same rows without EDUs have the same id, also after a crash.
    pub id: String,
    /// Events, in order.
    pub rows: Vec<Row>,
    /// EDUs.
    pub edus: Vec<Edu>,
    /// The previous transaction failed, so this one may run into its timeout.
    pub failing: bool,
}

/// The queue of one server.
#[derive(Debug)]
pub struct Queue {
    phase: Phase,
    edus: EduQueue,
    /// There may be rows that were not loaded yet.
    dirty: bool,
    /// The last position that was delivered.
    after: u64,
    limit: usize,
    /// When sending began to fail.
    failing_since: Option<u64>,
    refusals: u32,
    /// When the pause began.
    paused_at: u64,
    /// Makes the ids of transactions with EDUs unique: the same EDU may be sent again and must then not be ignored as
    /// a duplicate.
    epoch: u64,
    sequence: u64,
}

#[derive(Debug)]
enum Phase {
    Idle,
    Loading,
    Sending(Outgoing),
    Acknowledging,
    Waiting { until: u64 },
}

impl Queue {
    /// An empty queue. `epoch` must differ between starts: the time is sufficient.
    #[must_use]
    pub fn new(epoch: u64) -> Self {
        Self {
            phase: Phase::Idle,
            edus: EduQueue::default(),
            dirty: true,
            after: 0,
            limit: limits::MAX_TRANSACTION_PDUS,
            failing_since: None,
            refusals: 0,
            paused_at: 0,
            epoch,
            sequence: 0,
        }
    }

    /// Whether there is nothing to do and no pause to wait for.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        matches!(self.phase, Phase::Idle) && !self.dirty && self.edus.is_empty()
    }

    /// Whether sending to the other server is paused.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        matches!(self.phase, Phase::Waiting { .. })
    }

    /// One step. `random` is any number: it spreads the pauses of many servers.
    #[must_use]
    pub fn step(&mut self, input: Input, now: MilliSecondsSinceUnixEpoch, random: u64) -> Vec<Action> {
        match input {
            Input::Started(retry) => self.started(retry, now),
            Input::Wake => {
                self.dirty = true;
                self.advance(now)
            }
            Input::Edu(edu) => {
                self.edus.push(edu);
                self.advance(now)
            }
            Input::Loaded(rows) => self.loaded(rows, now),
            Input::LoadFailed => match self.phase {
                Phase::Loading => {
                    self.dirty = true;
                    self.pause(now, random)
                }
                _ => Vec::new(),
            },
            Input::Sent(result) => self.sent(result, now, random),
            Input::Acknowledged => match self.phase {
                Phase::Acknowledging => {
                    self.phase = Phase::Idle;
                    self.advance(now)
                }
                _ => Vec::new(),
            },
            Input::Tick => self.tick(now),
            Input::Reachable => self.mark_reachable(now),
        }
    }

    fn started(&mut self, retry: Option<Retry>, now: MilliSecondsSinceUnixEpoch) -> Vec<Action> {
        self.failing_since = retry.map(|retry| millis(retry.failing_since));
        match retry.filter(|retry| now < retry.until) {
            Some(retry) => {
                // A wrong clock before the restart must not cause a longer pause than the maximum.
                let until = millis(retry.until).min(millis(now).saturating_add(LONGEST_PAUSE_MS));
                self.wait(until, millis(now))
            }
            None => self.advance(now),
        }
    }

    /// Starts the next action, if none is in progress.
    fn advance(&mut self, now: MilliSecondsSinceUnixEpoch) -> Vec<Action> {
        if !matches!(self.phase, Phase::Idle) {
            return Vec::new();
        }
        if std::mem::take(&mut self.dirty) {
            self.phase = Phase::Loading;
            return vec![Action::Load {
                after: self.after,
                limit: self.limit,
            }];
        }
        self.dispatch(Vec::new(), now)
    }

    fn loaded(&mut self, mut rows: Vec<Row>, now: MilliSecondsSinceUnixEpoch) -> Vec<Action> {
        if !matches!(self.phase, Phase::Loading) {
            return Vec::new();
        }
        self.phase = Phase::Idle;
        rows.truncate(self.limit);
        // If there were rows, there may be more.
        self.dirty |= !rows.is_empty();
        self.dispatch(rows, now)
    }

    fn dispatch(&mut self, rows: Vec<Row>, now: MilliSecondsSinceUnixEpoch) -> Vec<Action> {
        let edus = self.edus.take(now);
        if rows.is_empty() && edus.is_empty() {
            return Vec::new();
        }
        let id = self.transaction_id(&rows, !edus.is_empty());
        let failing = self.failing_since.is_some();
        let outgoing = Outgoing {
            id,
            rows,
            edus,
            failing,
        };
        self.phase = Phase::Sending(outgoing.clone());
        vec![Action::Send(outgoing)]
    }

    fn sent(&mut self, result: Result<(), SendFailure>, now: MilliSecondsSinceUnixEpoch, random: u64) -> Vec<Action> {
        let Phase::Sending(outgoing) = std::mem::replace(&mut self.phase, Phase::Idle) else {
            return Vec::new();
        };
        match result {
            Ok(()) => self.delivered(&outgoing, now),
            Err(SendFailure::Unreachable) => {
                self.edus.put_back(outgoing.edus);
                self.dirty |= !outgoing.rows.is_empty();
                self.pause(now, random)
            }
            Err(SendFailure::Malformed) => self.malformed(&outgoing, now, random),
        }
    }

    fn delivered(&mut self, outgoing: &Outgoing, now: MilliSecondsSinceUnixEpoch) -> Vec<Action> {
        let mut actions = Vec::new();
        if self.failing_since.take().is_some() {
            actions.push(Action::SaveRetry(None));
        }
        self.refusals = 0;
        self.limit = self.limit.saturating_mul(2).min(limits::MAX_TRANSACTION_PDUS);
        match outgoing.rows.last() {
            Some(_) => actions.extend(self.acknowledge(&outgoing.rows)),
            None => actions.extend(self.advance(now)),
        }
        actions
    }

    fn acknowledge(&mut self, rows: &[Row]) -> Vec<Action> {
        let rows: Vec<u64> = rows.iter().map(|row| row.position).collect();
        self.after = rows.last().copied().unwrap_or(self.after);
        self.phase = Phase::Acknowledging;
        vec![Action::Acknowledge { rows }]
    }

    /// An event that the other server can't parse must not block all others: sends smaller transactions until the
    /// event is found.
    fn malformed(&mut self, outgoing: &Outgoing, now: MilliSecondsSinceUnixEpoch, random: u64) -> Vec<Action> {
        // The fault may have been in an EDU: EDUs are not sent again.
        self.dirty |= !outgoing.rows.is_empty();
        if !outgoing.edus.is_empty() || outgoing.rows.is_empty() {
            return self.pause(now, random);
        }
        self.limit = (outgoing.rows.len() / 2).max(1);
        if let [row] = outgoing.rows.as_slice() {
            self.refusals += 1;
            if self.refusals >= REFUSALS {
                self.refusals = 0;
                let mut actions = vec![Action::Skipped(row.event_id.clone())];
                actions.extend(self.acknowledge(std::slice::from_ref(row)));
                return actions;
            }
        }
        self.pause(now, random)
    }

    fn pause(&mut self, now: MilliSecondsSinceUnixEpoch, random: u64) -> Vec<Action> {
        let now = millis(now);
        let since = *self.failing_since.get_or_insert(now);
        let until = now.saturating_add(pause_after(now.saturating_sub(since), random));
        let retry = Retry {
            failing_since: from_millis(since),
            until: from_millis(until),
        };
        let mut actions = vec![Action::SaveRetry(Some(retry))];
        actions.extend(self.wait(until, now));
        actions
    }

    fn wait(&mut self, until: u64, now: u64) -> Vec<Action> {
        self.paused_at = now;
        self.phase = Phase::Waiting { until };
        vec![Action::WakeAt(from_millis(until))]
    }

    fn tick(&mut self, now: MilliSecondsSinceUnixEpoch) -> Vec<Action> {
        match self.phase {
            // If the clock was set back during a pause, the pause would become longer by that amount.
            Phase::Waiting { until } if (self.paused_at..until).contains(&millis(now)) => {
                vec![Action::WakeAt(from_millis(until))]
            }
            Phase::Waiting { .. } => {
                self.phase = Phase::Idle;
                self.dirty = true;
                self.advance(now)
            }
            _ => Vec::new(),
        }
    }

    fn mark_reachable(&mut self, now: MilliSecondsSinceUnixEpoch) -> Vec<Action> {
        if !self.is_waiting() {
            return Vec::new();
        }
        let mut actions = Vec::new();
        if self.failing_since.take().is_some() {
            actions.push(Action::SaveRetry(None));
        }
        let until = self.paused_at.saturating_add(SHORTEST_PAUSE_MS);
        self.phase = Phase::Waiting { until };
        actions.extend(self.tick(now));
        actions
    }

    fn transaction_id(&mut self, rows: &[Row], with_edus: bool) -> String {
        let mut hash = Sha256::new();
        for row in rows {
            hash.update(row.position.to_be_bytes());
            hash.update(row.event_id.as_bytes());
        }
        if with_edus {
            self.sequence += 1;
            hash.update(self.epoch.to_be_bytes());
            hash.update(self.sequence.to_be_bytes());
        }
        let digest = hash.finalize();
        hex::encode(digest.get(..16).unwrap_or_default())
    }
}

/// A sixteenth of the time for which sending has failed, at least one second and at most five minutes, times 0.8 to
/// 1.2.
fn pause_after(failing_for: u64, random: u64) -> u64 {
    let pause = (failing_for / PAUSE_DIVISOR).clamp(SHORTEST_PAUSE_MS, LONGEST_PAUSE_MS);
    let fifth = pause / 5;
    pause - fifth + random % (2 * fifth + 1)
}

#[cfg(test)]
mod tests {
    use super::{LONGEST_PAUSE_MS, pause_after};

    #[test]
    fn pauses_grow_with_the_time_of_failure_and_are_spread() {
        let bounds = |failing_for| {
            let all: Vec<u64> = (0..10_000)
                .map(|seed: u64| pause_after(failing_for, seed.wrapping_mul(0x9E37_79B9_7F4A_7C15)))
                .collect();
            (*all.iter().min().unwrap(), *all.iter().max().unwrap())
        };
        for (failing_for, pause) in [
            (0, 1_000),
            (16_000, 1_000),
            (160_000, 10_000),
            (16 * LONGEST_PAUSE_MS, LONGEST_PAUSE_MS),
            (u64::MAX, LONGEST_PAUSE_MS),
        ] {
            let ((least, most), hundredth) = (bounds(failing_for), pause / 100);
            assert!(
                (pause / 5 * 4..pause / 5 * 4 + hundredth).contains(&least),
                "{failing_for}: {least}"
            );
            assert!(
                (pause / 5 * 6 - hundredth..=pause / 5 * 6).contains(&most),
                "{failing_for}: {most}"
            );
        }
    }
}
