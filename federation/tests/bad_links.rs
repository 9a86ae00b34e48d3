//! Two queues and the link between them, in virtual time: a bad link delays queued rows, but not by much more than
//! necessary. `queue.rs` tests that nothing is lost.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests fail by panicking"
)]

use std::collections::{BTreeMap, VecDeque};

use proptest::{
    prelude::{ProptestConfig, Strategy as _, any},
    prop_assert, proptest,
};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use ruma::{EventId, MilliSecondsSinceUnixEpoch, OwnedEventId, UInt};
use serde_json::value::to_raw_value;
use weft_federation::outbox::{
    Retry, Row,
    queue::{Action, Input, Outgoing, Queue, SendFailure},
};

const SECOND: u64 = 1_000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;
/// The start time of the runs.
const START: u64 = 1_700_000_000_000;
/// The latency of one direction of the link.
const LATENCY: u64 = 25;

/// The intervals in which the link is up, from and to, in order.
struct Link(Vec<(u64, u64)>);

impl Link {
    /// Up and down for random times in these ranges, over this period.
    fn intermittent(rng: &mut StdRng, up: &std::ops::Range<u64>, down: &std::ops::Range<u64>, long: u64) -> Self {
        let (mut at, mut times) = (START, Vec::new());
        while at < START + long {
            let until = at + rng.random_range(up.clone());
            times.push((at, until));
            at = until + rng.random_range(down.clone());
        }
        Self(times)
    }

    /// The end of the current interval, if the link is up.
    fn up_until(&self, now: u64) -> Option<u64> {
        let begun = self.0.partition_point(|(from, _)| *from <= now);
        let (_, until) = self.0[..begun].last()?;
        (now < *until).then_some(*until)
    }
}

/// A transaction in flight.
struct Flight {
    outgoing: Outgoing,
    arrives: Option<u64>,
    ends: u64,
    result: Result<(), SendFailure>,
}

impl Flight {
    /// An outage ends a transaction in flight; it may have arrived before.
    fn of(outgoing: Outgoing, now: u64, link: &Link) -> Self {
        let up_until = link.up_until(now).unwrap_or(now);
        let (arrives, ends) = (now + LATENCY, now + 2 * LATENCY);
        Self {
            outgoing,
            arrives: (arrives < up_until).then_some(arrives),
            ends: ends.min(up_until),
            result: if ends < up_until {
                Ok(())
            } else {
                Err(SendFailure::Unreachable)
            },
        }
    }
}

/// One server: its queue for the other server, and its durable state.
struct Side {
    queue: Queue,
    rows: BTreeMap<u64, Row>,
    retry: Option<Retry>,
    wake_at: Option<u64>,
    flight: Option<Flight>,
    /// The rows that the other server received, and when.
    arrived: BTreeMap<u64, u64>,
    tries: u64,
}

impl Side {
    fn new() -> Self {
        Self {
            queue: Queue::new(START),
            rows: BTreeMap::new(),
            retry: None,
            wake_at: None,
            flight: None,
            arrived: BTreeMap::new(),
            tries: 0,
        }
    }

    fn next(&self) -> Option<u64> {
        let flight = self.flight.as_ref();
        let flight = flight.map(|flight| flight.arrives.map_or(flight.ends, |arrives| arrives.min(flight.ends)));
        flight.into_iter().chain(self.wake_at).min()
    }
}

struct World {
    sides: [Side; 2],
    link: Link,
    now: u64,
    rng: StdRng,
}

fn time(millis: u64) -> MilliSecondsSinceUnixEpoch {
    MilliSecondsSinceUnixEpoch(UInt::try_from(millis).unwrap())
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
    fn new(link: Link, rng: StdRng) -> Self {
        let mut world = Self {
            sides: [Side::new(), Side::new()],
            link,
            now: START,
            rng,
        };
        for side in 0..2 {
            world.input(side, Input::Started(None));
        }
        world
    }

    fn commit(&mut self, side: usize, position: u64) {
        self.sides[side].rows.insert(position, row(position));
        self.input(side, Input::Wake);
    }

    fn input(&mut self, side: usize, input: Input) {
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            let random = self.rng.random();
            for action in self.sides[side].queue.step(input, time(self.now), random) {
                inputs.extend(self.perform(side, action));
            }
        }
    }

    fn perform(&mut self, side: usize, action: Action) -> Option<Input> {
        let (now, link) = (self.now, &self.link);
        let me = &mut self.sides[side];
        match action {
            Action::Load { after, limit } => {
                let rows = me.rows.range(after + 1..).take(limit);
                return Some(Input::Loaded(rows.map(|(_, row)| row.clone()).collect()));
            }
            Action::Acknowledge { rows: delivered } => {
                me.rows.retain(|number, _| !delivered.contains(number));
                return Some(Input::Acknowledged);
            }
            Action::Send(outgoing) => {
                me.tries += 1;
                me.flight = Some(Flight::of(outgoing, now, link));
            }
            Action::SaveRetry(retry) => me.retry = retry,
            Action::WakeAt(at) => me.wake_at = Some(at.get().into()),
            Action::Skipped(event) => panic!("{event} skipped"),
        }
        None
    }

    /// Runs the next event.
    fn step(&mut self, side: usize, at: u64) {
        self.now = at;
        let me = &mut self.sides[side];
        if me.wake_at.is_some_and(|wake_at| wake_at <= at) {
            me.wake_at = None;
            return self.input(side, Input::Tick);
        }
        let Some(flight) = &mut me.flight else { return };
        if flight.arrives.take().is_some() {
            for row in &flight.outgoing.rows {
                me.arrived.entry(row.position).or_insert(at);
            }
            return self.input(1 - side, Input::Reachable);
        }
        if let Some(flight) = me.flight.take() {
            self.input(side, Input::Sent(flight.result));
        }
    }

    /// Runs until a row has arrived; returns the time of arrival.
    fn until_arrived(&mut self, side: usize, position: u64) -> u64 {
        loop {
            if let Some(at) = self.sides[side].arrived.get(&position) {
                return *at;
            }
            self.step_once();
        }
    }

    fn step_once(&mut self) {
        let next = (0..2).filter_map(|side| self.sides[side].next().map(|at| (at, side)));
        let (at, side) = next.min().expect("a row waits and there is no next event");
        self.step(side, at.max(self.now));
    }

    fn pass(&mut self, until: u64) {
        while (0..2).any(|side| self.sides[side].next().is_some_and(|at| at <= until)) {
            self.step_once();
        }
        self.now = self.now.max(until);
    }

    fn crash(&mut self, side: usize) {
        let me = &mut self.sides[side];
        (me.queue, me.flight, me.wake_at) = (Queue::new(self.now), None, None);
        let retry = me.retry;
        self.input(side, Input::Started(retry));
    }
}

/// Two users who reply to each other, so that each message is sent after the last one has arrived: returns the
/// longest time that one of them waited for the link.
fn longest_wait(seed: u64, up: std::ops::Range<u64>, down: std::ops::Range<u64>, long: u64) -> u64 {
    let mut rng = StdRng::seed_from_u64(seed);
    let link = Link::intermittent(&mut rng, &up, &down, 3 * long);
    let mut world = World::new(link, rng);
    let (mut position, mut longest) = (0, 0);
    while world.now < START + long {
        position += 1;
        let (side, pause) = (
            usize::from(position % 2 == 0),
            world.rng.random_range(SECOND..3 * SECOND),
        );
        world.pass(world.now + pause);
        let at = world.now;
        world.commit(side, position);
        longest = longest.max(world.until_arrived(side, position) - at);
    }
    longest
}

#[test]
fn an_intermittent_link_is_used_soon() {
    for seed in 0..6 {
        // Down half of the time.
        let waited = longest_wait(seed, 100..2 * SECOND, 100..2 * SECOND, HOUR);
        assert!(waited < MINUTE / 2, "seed {seed}: {waited} ms");
        // Up ten seconds a minute.
        let waited = longest_wait(seed, 5 * SECOND..15 * SECOND, 40 * SECOND..MINUTE, 4 * HOUR);
        assert!(waited < 2 * MINUTE, "seed {seed}: {waited} ms");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// The other server sends no request when the link is up again, and a restart in between changes nothing.
    #[test]
    fn after_an_outage_queued_rows_are_sent_within_a_fraction_of_its_length_and_within_minutes(
        seed in any::<u64>(),
        cut in (0_u32..32).prop_flat_map(|power| (1_u64 << power)..(2 << power)),
        restart in proptest::option::of(0_u64..100),
    ) {
        let healed = START + cut;
        let link = Link(vec![(healed, u64::MAX)]);
        let mut world = World::new(link, StdRng::seed_from_u64(seed));
        world.commit(0, 1);
        if let Some(percent) = restart {
            world.pass(START + cut * percent / 100);
            world.crash(0);
        }
        let waited = world.until_arrived(0, 1) - healed;
        let pause = (cut / 16).clamp(SECOND, 5 * MINUTE);
        prop_assert!(waited <= pause * 6 / 5 + LATENCY, "{waited} ms after a cut of {cut} ms");
    }
}

#[test]
fn an_unreachable_server_costs_few_connections() {
    let mut world = World::new(Link(Vec::new()), StdRng::seed_from_u64(1));
    world.commit(0, 1);
    world.pass(START + 24 * HOUR);
    let tries = world.sides[0].tries;
    assert!((340..420).contains(&tries), "{tries} on the first day");
}

/// The other server sends requests all the time, and can't be reached itself.
#[test]
fn a_server_that_sends_requests_and_cannot_be_reached_is_tried_once_a_second() {
    let mut world = World::new(Link(Vec::new()), StdRng::seed_from_u64(1));
    world.commit(0, 1);
    for _ in 0..MINUTE / 10 {
        world.pass(world.now + 10);
        world.input(0, Input::Reachable);
    }
    let tries = world.sides[0].tries;
    assert!((30..=61).contains(&tries), "{tries} in a minute");
}

#[test]
fn a_clock_that_is_set_back_does_not_lengthen_a_pause() {
    let mut world = World::new(
        Link(vec![(START - HOUR, START), (START + HOUR, u64::MAX)]),
        StdRng::seed_from_u64(1),
    );
    world.commit(0, 1);
    world.pass(START + MINUTE);
    let tries = world.sides[0].tries;
    // A sleep has its full length, whatever the clock shows in between.
    world.now = START - MINUTE;
    world.input(0, Input::Tick);
    assert_eq!(world.sides[0].tries, tries + 1);
}
