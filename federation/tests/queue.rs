//! The queue of one server under random failures, restarts and new rows: no row is lost or out of order.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::too_many_lines,
    reason = "tests fail by panicking, and a table of cases stays in one function"
)]

use std::collections::{BTreeMap, VecDeque};

use proptest::prelude::*;
use ruma::{EventId, MilliSecondsSinceUnixEpoch, OwnedEventId, UInt};
use serde_json::value::to_raw_value;
use weft_federation::outbox::{
    Edu, Retry, Row,
    queue::{Action, Input, Outgoing, Queue, SendFailure},
};

/// A random event of a run.
#[derive(Debug, Clone)]
enum Event {
    /// Rows are committed on this server.
    Commit(u8),
    /// A user moves a cursor.
    Cursor(u8),
    /// The other server becomes unreachable or reachable.
    Reachable(bool),
    /// A transaction is delivered, and its response is lost.
    LoseAnswer,
    /// This server crashes and restarts.
    Crash,
    /// Time passes, in seconds.
    Wait(u16),
    /// The other server sends a request.
    Request,
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        4 => (1_u8..120).prop_map(Event::Commit),
        2 => (0_u8..5).prop_map(Event::Cursor),
        2 => any::<bool>().prop_map(Event::Reachable),
        1 => Just(Event::LoseAnswer),
        1 => Just(Event::Crash),
        3 => (0_u16..5_000).prop_map(Event::Wait),
        1 => Just(Event::Request),
    ];
    proptest::collection::vec(event, 1..60)
}

/// This server, its store, and the server that it sends to.
struct World {
    queue: Queue,
    now: u64,
    wake_at: Option<u64>,
    /// Durable.
    rows: BTreeMap<u64, Row>,
    retry: Option<Retry>,
    next: u64,
    /// The other server.
    reachable: bool,
    lose_answer: bool,
    received: Vec<u64>,
    transactions: BTreeMap<String, Vec<u64>>,
    cursors: Vec<String>,
}

fn row(position: u64) -> Row {
    let event_id: OwnedEventId = EventId::parse(format!("${position:043}")).unwrap();
    Row {
        position,
        event_id,
        pdu: to_raw_value(&position).unwrap(),
    }
}

impl World {
    fn new() -> Self {
        let mut world = Self {
            queue: Queue::new(0),
            now: 1_700_000_000_000,
            wake_at: None,
            rows: BTreeMap::new(),
            retry: None,
            next: 1,
            reachable: true,
            lose_answer: false,
            received: Vec::new(),
            transactions: BTreeMap::new(),
            cursors: Vec::new(),
        };
        world.run(Input::Started(None));
        world
    }

    fn time(&self) -> MilliSecondsSinceUnixEpoch {
        MilliSecondsSinceUnixEpoch(UInt::try_from(self.now).unwrap())
    }

    fn run(&mut self, input: Input) {
        let mut inputs = VecDeque::from([input]);
        let mut steps = 0;
        while let Some(input) = inputs.pop_front() {
            steps += 1;
            assert!(steps < 10_000, "the queue loops");
            for action in self
                .queue
                .step(input, self.time(), self.now.wrapping_mul(0x9E37_79B9_7F4A_7C15))
            {
                self.perform(action, &mut inputs);
            }
        }
    }

    fn perform(&mut self, action: Action, inputs: &mut VecDeque<Input>) {
        match action {
            Action::Load { after, limit } => {
                let rows = self
                    .rows
                    .range(after + 1..)
                    .take(limit)
                    .map(|(_, row)| row.clone())
                    .collect();
                inputs.push_back(Input::Loaded(rows));
            }
            Action::Send(outgoing) => inputs.push_back(Input::Sent(self.arrive(outgoing))),
            Action::Acknowledge { rows: delivered } => {
                self.rows.retain(|number, _| !delivered.contains(number));
                inputs.push_back(Input::Acknowledged);
            }
            Action::SaveRetry(retry) => self.retry = retry,
            Action::WakeAt(at) => self.wake_at = Some(at.get().into()),
            Action::Skipped(event) => panic!("{event} skipped"),
        }
    }

    fn arrive(&mut self, outgoing: Outgoing) -> Result<(), SendFailure> {
        assert!(outgoing.rows.len() <= 50 && outgoing.edus.len() <= 100);
        assert!(
            !outgoing.rows.is_empty() || !outgoing.edus.is_empty(),
            "an empty transaction"
        );
        if !self.reachable {
            return Err(SendFailure::Unreachable);
        }
        let positions: Vec<u64> = outgoing.rows.iter().map(|row| row.position).collect();
        let known = self
            .transactions
            .entry(outgoing.id)
            .or_insert_with(|| positions.clone());
        assert_eq!(*known, positions, "one id for two transactions");
        self.received.extend(positions);
        self.cursors
            .extend(outgoing.edus.iter().map(|edu| edu.content.get().to_owned()));
        if std::mem::take(&mut self.lose_answer) {
            Err(SendFailure::Unreachable)
        } else {
            Ok(())
        }
    }

    fn happen(&mut self, event: &Event) {
        match event {
            Event::Commit(count) => {
                for _ in 0..*count {
                    // Positions have gaps: events of other rooms and for other destinations.
                    self.next += 1 + self.next % 3;
                    self.rows.insert(self.next, row(self.next));
                }
                self.run(Input::Wake);
            }
            Event::Cursor(who) => {
                self.next += 1;
                let content = to_raw_value(&self.next).unwrap();
                let edu = Edu {
                    room: None,
                    kind: "cursor".to_owned(),
                    key: who.to_string(),
                    content,
                    expires: None,
                };
                self.run(Input::Edu(edu));
            }
            Event::Reachable(reachable) => self.reachable = *reachable,
            Event::LoseAnswer => self.lose_answer = true,
            Event::Crash => {
                self.queue = Queue::new(self.now);
                self.wake_at = None;
                self.run(Input::Started(self.retry));
            }
            Event::Wait(seconds) => self.wait(u64::from(*seconds) * 1_000),
            Event::Request => {
                self.run(Input::Reachable);
            }
        }
    }

    fn wait(&mut self, millis: u64) {
        let end = self.now + millis;
        while let Some(at) = self.wake_at.filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.wake_at = None;
            self.run(Input::Tick);
        }
        self.now = end;
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn every_row_arrives_in_order_under_random_failures(events in events()) {
        let mut world = World::new();
        for event in &events {
            world.happen(event);
        }
        world.reachable = true;
        world.lose_answer = false;
        // In any case, a pause is at most six minutes.
        world.wait(7 * 60 * 1_000);
        prop_assert!(world.rows.is_empty(), "rows are left: {:?}", world.rows.keys());
        prop_assert!(world.queue.is_idle());

        // First deliveries are in order: repetitions may be in between, gaps never.
        let mut highest = 0;
        for position in &world.received {
            if *position > highest {
                highest = *position;
            }
        }
        let mut first_time: Vec<u64> = Vec::new();
        for position in &world.received {
            if !first_time.contains(position) {
                prop_assert!(first_time.last().is_none_or(|last| last < position), "{position} came late");
                first_time.push(*position);
            }
        }
        let mut expected = Vec::new();
        let mut next = 1_u64;
        for event in &events {
            match event {
                Event::Commit(count) => for _ in 0..*count {
                    next += 1 + next % 3;
                    expected.push(next);
                },
                Event::Cursor(_) => next += 1,
                _ => {}
            }
        }
        prop_assert_eq!(first_time, expected);
    }
}

#[test]
fn a_server_that_sends_a_request_gets_its_backlog_at_once() {
    let mut world = World::new();
    world.reachable = false;
    world.happen(&Event::Commit(3));
    world.wait(24 * 60 * 60 * 1_000);
    assert!(world.retry.is_some() && world.received.is_empty());
    world.reachable = true;
    world.now += 5_000;
    world.happen(&Event::Request);
    assert_eq!(world.received.len(), 3);
    assert_eq!(world.retry, None);
}

#[test]
fn a_restart_does_not_shorten_the_pause_of_an_unreachable_server() {
    let mut world = World::new();
    world.reachable = false;
    world.happen(&Event::Commit(1));
    for _ in 0..6 {
        world.wait(200_000);
    }
    let until: u64 = world.retry.unwrap().until.get().into();
    assert!(until > world.now);
    world.reachable = true;
    world.happen(&Event::Crash);
    assert!(world.received.is_empty() && world.queue.is_waiting());
    world.wait(until - world.now);
    assert_eq!(world.received.len(), 1);
}

#[test]
fn a_retry_after_a_crash_is_the_same_transaction() {
    let mut world = World::new();
    world.lose_answer = true;
    world.happen(&Event::Commit(7));
    world.happen(&Event::Crash);
    world.wait(60_000);
    assert_eq!(world.received.len(), 14, "sent twice");
    assert_eq!(world.transactions.len(), 1, "with one id");
}

#[test]
fn a_repeated_edu_is_another_transaction() {
    let mut world = World::new();
    for _ in 0..2 {
        let content = to_raw_value(&true).unwrap();
        world.run(Input::Edu(Edu {
            room: None,
            kind: "m.typing".to_owned(),
            key: "a".to_owned(),
            content,
            expires: None,
        }));
    }
    assert_eq!(world.cursors.len(), 2);
    assert_eq!(world.transactions.len(), 2);
}

/// An event that the other server always refuses as malformed is found and skipped; all others arrive.
#[test]
fn one_malformed_event_does_not_block_the_others() {
    let mut queue = Queue::new(1);
    let mut rows: BTreeMap<u64, Row> = (1..=60).map(|position| (position, row(position))).collect();
    let malformed = 23;
    let (mut now, mut received, mut skipped) = (1_700_000_000_000_u64, Vec::new(), Vec::new());
    let mut inputs = VecDeque::from([Input::Started(None)]);
    let mut attempts = 0;
    while let Some(input) = inputs.pop_front() {
        let time = MilliSecondsSinceUnixEpoch(UInt::try_from(now).unwrap());
        for action in queue.step(input, time, 7) {
            match action {
                Action::Load { after, limit } => {
                    let rows = rows
                        .range(after + 1..)
                        .take(limit)
                        .map(|(_, row)| row.clone())
                        .collect();
                    inputs.push_back(Input::Loaded(rows));
                }
                Action::Send(outgoing) => {
                    attempts += 1;
                    let positions: Vec<u64> = outgoing.rows.iter().map(|row| row.position).collect();
                    let fine = !positions.contains(&malformed);
                    received.extend(positions.into_iter().filter(|_| fine));
                    inputs.push_back(Input::Sent(if fine { Ok(()) } else { Err(SendFailure::Malformed) }));
                }
                Action::Acknowledge { rows: delivered } => {
                    rows.retain(|number, _| !delivered.contains(number));
                    inputs.push_back(Input::Acknowledged);
                }
                Action::WakeAt(at) => {
                    now = now.max(at.get().into());
                    inputs.push_back(Input::Tick);
                }
                Action::Skipped(event) => skipped.push(event),
                Action::SaveRetry(_) => {}
            }
        }
    }
    assert_eq!(skipped, [row(malformed).event_id]);
    assert_eq!(
        received,
        (1..=60).filter(|position| *position != malformed).collect::<Vec<_>>()
    );
    assert!(
        rows.is_empty() && queue.is_idle() && attempts < 40,
        "{attempts} attempts"
    );
}
