//! One server's queue as a pure state machine: inputs and the time in, actions out.
//!
//! Rows go out in order, at most fifty at once, one transaction in flight; what fails is tried again after a pause, at
//! once where the other server is heard from. Must not do I/O, read a clock or draw a random number.
//!
//! A pause is a part of the time for which nothing has been delivered. Were it to grow with each failure instead, a link
//! that is down half of the time would now and then be left alone for hours, with minutes of use in each of them.

use ruma::{MilliSecondsSinceUnixEpoch, OwnedEventId};
use sha2::{Digest, Sha256};
use weft_wire::limits;

use super::{Edu, EduQueue, Retry, Row};
use crate::clock::{from_millis, millis};

/// The shortest pause: a server that speaks to us but can't be spoken to is tried at most this often.
const SHORTEST_PAUSE_MS: u64 = 1_000;
/// The longest. Where both sides wait, neither hears of the other before: whoever writes to somebody whose server is back
/// waits minutes for it. A server that is gone costs 288 connections a day.
const LONGEST_PAUSE_MS: u64 = 5 * 60 * 1_000;
/// A pause is this part of the time for which sending has failed.
const PART_OF_SILENCE: u64 = 16;
/// How often a single event must be refused as malformed before the queue goes on without it.
const REFUSALS: u32 = 3;

/// What happened.
#[derive(Debug, Clone)]
pub enum Input {
    /// First of all: how it was when the program ended; None where sending did not fail.
    Started(Option<Retry>),
    /// There may be new rows.
    Wake,
    /// News that may be lost.
    Edu(Edu),
    /// The answer to [`Action::Load`].
    Loaded(Vec<Row>),
    /// The store failed to answer [`Action::Load`].
    LoadFailed,
    /// The answer to [`Action::Send`].
    Sent(Result<(), SendFailure>),
    /// The answer to [`Action::Acknowledge`].
    Acknowledged,
    /// The time that [`Action::WakeAt`] named has come.
    Tick,
    /// The other server made a request to us: it is there.
    Reachable,
}

/// Why a transaction wasn't delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SendFailure {
    /// Nobody answered, or not as if it could now.
    Unreachable,
    /// It was understood and found malformed or too large: the same again will be too.
    Malformed,
}

/// What is to be done.
#[derive(Debug, Clone)]
pub enum Action {
    /// Read the rows after a position.
    Load {
        /// The last position that was delivered.
        after: u64,
        /// At most so many.
        limit: usize,
    },
    /// Send a transaction.
    Send(Outgoing),
    /// Forget the rows up to a position.
    Acknowledge {
        /// The last position that was delivered.
        through: u64,
    },
    /// Keep this for a restart; None where sending doesn't fail.
    SaveRetry(Option<Retry>),
    /// Give [`Input::Tick`] then.
    WakeAt(MilliSecondsSinceUnixEpoch),
    /// Tell the operator: an event was refused for good and is left to the other server to ask for.
    GivenUp(OwnedEventId),
}

/// A transaction.
#[derive(Debug, Clone)]
pub struct Outgoing {
    /// Its id: the same rows without EDUs give the same id, also after a crash.
    pub id: String,
    /// Events in order.
    pub rows: Vec<Row>,
    /// EDUs.
    pub edus: Vec<Edu>,
    /// The last one failed, so this one may hang until its time is over.
    pub failing: bool,
}

/// The queue of one server.
#[derive(Debug)]
pub struct Queue {
    phase: Phase,
    edus: EduQueue,
    /// There may be rows that weren't looked at.
    dirty: bool,
    /// The last position that was delivered.
    after: u64,
    limit: usize,
    /// When sending began to fail.
    failing_since: Option<u64>,
    refusals: u32,
    /// When the pause began.
    paused_at: u64,
    /// Makes ids of transactions with EDUs unique: the same news may come again, and is to be heard again.
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
    /// An empty queue. `epoch` differs from start to start: the time will do.
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

    /// Whether there is nothing to do and nothing to wait for.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        matches!(self.phase, Phase::Idle) && !self.dirty && self.edus.is_empty()
    }

    /// Whether the other server is left alone for now.
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
                // A clock that was wrong then must not silence us for longer than any pause may last.
                let until = millis(retry.until).min(millis(now).saturating_add(LONGEST_PAUSE_MS));
                self.wait(until, millis(now))
            }
            None => self.advance(now),
        }
    }

    /// Begins the next thing, if nothing is going on.
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
        // Where there were rows there may be more.
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
            Some(last) => actions.extend(self.acknowledge(last.position)),
            None => actions.extend(self.advance(now)),
        }
        actions
    }

    fn acknowledge(&mut self, through: u64) -> Vec<Action> {
        self.after = self.after.max(through);
        self.phase = Phase::Acknowledging;
        vec![Action::Acknowledge { through }]
    }

    /// One event that the other side can't read must not keep all others from it: smaller transactions first, until
    /// the event is found.
    fn malformed(&mut self, outgoing: &Outgoing, now: MilliSecondsSinceUnixEpoch, random: u64) -> Vec<Action> {
        // Whatever was wrong may have been with an EDU: those are not worth another try.
        self.dirty |= !outgoing.rows.is_empty();
        if !outgoing.edus.is_empty() || outgoing.rows.is_empty() {
            return self.pause(now, random);
        }
        self.limit = (outgoing.rows.len() / 2).max(1);
        if let [row] = outgoing.rows.as_slice() {
            self.refusals += 1;
            if self.refusals >= REFUSALS {
                self.refusals = 0;
                let mut actions = vec![Action::GivenUp(row.event_id.clone())];
                actions.extend(self.acknowledge(row.position));
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
            // A clock that was set back in a pause would make it longer by as much.
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
        digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect()
    }
}

/// A sixteenth of the silence, from a second to five minutes, times 0.8 to 1.2.
fn pause_after(silence: u64, random: u64) -> u64 {
    let pause = (silence / PART_OF_SILENCE).clamp(SHORTEST_PAUSE_MS, LONGEST_PAUSE_MS);
    let fifth = pause / 5;
    pause - fifth + random % (2 * fifth + 1)
}

#[cfg(test)]
mod tests {
    use super::{LONGEST_PAUSE_MS, pause_after};

    #[test]
    fn pauses_grow_with_the_silence_and_are_spread() {
        let bounds = |silence| {
            let all: Vec<u64> = (0..10_000)
                .map(|seed: u64| pause_after(silence, seed.wrapping_mul(0x9E37_79B9_7F4A_7C15)))
                .collect();
            (*all.iter().min().unwrap(), *all.iter().max().unwrap())
        };
        for (silence, pause) in [
            (0, 1_000),
            (16_000, 1_000),
            (160_000, 10_000),
            (16 * LONGEST_PAUSE_MS, LONGEST_PAUSE_MS),
            (u64::MAX, LONGEST_PAUSE_MS),
        ] {
            let ((least, most), hundredth) = (bounds(silence), pause / 100);
            assert!(
                (pause / 5 * 4..pause / 5 * 4 + hundredth).contains(&least),
                "{silence}: {least}"
            );
            assert!(
                (pause / 5 * 6 - hundredth..=pause / 5 * 6).contains(&most),
                "{silence}: {most}"
            );
        }
    }
}
