//! What the fetches of one room remember: which events nobody had, how many questions were asked lately, and which servers
//! do not answer.
//!
//! Only in memory, bounded, and may be lost at any time. Must not ask anybody.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use ruma::{OwnedEventId, OwnedServerName, ServerName};
use tokio::time::{Duration, Instant};

/// Questions about one room to other servers in [`QUESTIONS_IN`].
const MAX_REQUESTS: u32 = 120;
/// Of them those for events that one server sent: so that it leaves some for the events of others.
const MAX_QUESTIONS_FOR_ONE: u32 = 60;
/// The time in which that many may be asked: as often as what waits is looked at again.
const QUESTIONS_IN: Duration = Duration::from_secs(30);
/// How long an event that nobody had isn't asked for again.
const FORGET_AFTER: Duration = Duration::from_secs(5 * 60);
/// Events that are remembered as not to be had. Above it, all are forgotten: it is a memory, not a promise.
const MAX_REMEMBERED: usize = 10_000;
/// Servers whose failures are remembered. Above it, all are forgotten.
const MAX_SERVERS: usize = 1_000;
/// A server that did not answer twice in a row is not asked for this time; four times as long after each further failure.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// At most so long.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// See the module. Shared by the fetches of a room, which run side by side.
#[derive(Debug, Default)]
pub(super) struct SharedMemory(Mutex<Memory>);

#[derive(Debug, Default)]
struct Memory {
    /// Events that nobody had, and when that was seen.
    absent: HashMap<OwnedEventId, Instant>,
    /// Times that others than the sender might have been asked: each time it is others' turn.
    attempt: usize,
    window: Option<Window>,
    silent: HashMap<OwnedServerName, Silence>,
}

/// The questions of the current [`QUESTIONS_IN`].
#[derive(Debug)]
struct Window {
    since: Instant,
    asked: u32,
    asked_for: HashMap<OwnedServerName, u32>,
}

/// A server that did not answer.
#[derive(Debug)]
struct Silence {
    until: Instant,
    /// The pause after the next failure.
    next: Duration,
}

impl SharedMemory {
    fn lock(&self) -> MutexGuard<'_, Memory> {
        // Nothing under this lock can leave the maps half-changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes events that nobody had.
    pub(super) fn remember(&self, ids: impl IntoIterator<Item = OwnedEventId>) {
        let mut memory = self.lock();
        let now = Instant::now();
        for id in ids {
            if memory.absent.len() >= MAX_REMEMBERED {
                memory.absent.clear();
            }
            memory.absent.insert(id, now);
        }
    }

    /// Whether nobody had an event a short while ago.
    pub(super) fn is_absent(&self, id: &OwnedEventId) -> bool {
        let memory = self.lock();
        memory.absent.get(id).is_some_and(|at| at.elapsed() < FORGET_AFTER)
    }

    /// The number of this fetch: others are asked each time.
    pub(super) fn next_attempt(&self) -> usize {
        let mut memory = self.lock();
        let attempt = memory.attempt;
        memory.attempt = attempt.wrapping_add(1);
        attempt
    }

    /// Whether a server may be asked now for an event that `origin` sent; counts the question.
    pub(super) fn may_ask(&self, server: &ServerName, origin: &ServerName) -> bool {
        let mut memory = self.lock();
        let now = Instant::now();
        if memory.silent.get(server).is_some_and(|silence| now < silence.until) {
            return false;
        }
        let window = memory
            .window
            .take()
            .filter(|window| now.duration_since(window.since) < QUESTIONS_IN);
        let window = memory.window.insert(window.unwrap_or_else(|| Window {
            since: now,
            asked: 0,
            asked_for: HashMap::new(),
        }));
        let asked_for = window.asked_for.entry(origin.to_owned()).or_default();
        let may = window.asked < MAX_REQUESTS && *asked_for < MAX_QUESTIONS_FOR_ONE;
        *asked_for = asked_for.saturating_add(u32::from(may));
        window.asked = window.asked.saturating_add(u32::from(may));
        may
    }

    /// Notes whether a server answered.
    pub(super) fn note_answer(&self, server: &ServerName, is_reached: bool) {
        let mut memory = self.lock();
        if is_reached {
            memory.silent.remove(server);
            return;
        }
        if memory.silent.len() >= MAX_SERVERS {
            memory.silent.clear();
        }
        let now = Instant::now();
        // One failure may be a lost packet.
        let silence = memory.silent.entry(server.to_owned()).or_insert(Silence {
            until: now,
            next: Duration::ZERO,
        });
        silence.until = now + silence.next;
        silence.next = (silence.next * 4).clamp(FIRST_PAUSE, LONGEST_PAUSE);
    }

    /// Whether a server did not answer lately, so that its events are better fetched after those of others.
    pub(super) fn is_silent(&self, server: &ServerName) -> bool {
        let memory = self.lock();
        let silence = memory.silent.get(server);
        silence.is_some_and(|silence| Instant::now() < silence.until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(name: &str) -> OwnedServerName {
        ServerName::parse(name).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn the_events_of_one_server_leave_questions_for_those_of_others() {
        let (memory, a, b) = (SharedMemory::default(), server("a"), server("b"));
        let asked = |origin: &ServerName| (0..1_000).filter(|_| memory.may_ask(&a, origin)).count();
        assert_eq!(asked(&a), 60);
        assert_eq!(asked(&b), 60);
        assert_eq!(asked(&server("c")), 0, "all together");
        tokio::time::advance(QUESTIONS_IN).await;
        assert_eq!(asked(&b), 60, "the next window");
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_does_not_answer_is_asked_ever_more_rarely_until_it_answers() {
        let (memory, a) = (SharedMemory::default(), server("a"));
        let mut pauses = Vec::new();
        for _ in 0..6 {
            assert!(memory.may_ask(&a, &a));
            memory.note_answer(&a, false);
            let began = Instant::now();
            while memory.is_silent(&a) {
                tokio::time::advance(Duration::from_secs(1)).await;
            }
            pauses.push(began.elapsed().as_secs());
        }
        assert_eq!(pauses, [0, 1, 4, 16, 60, 60]);
        memory.note_answer(&a, true);
        memory.note_answer(&a, false);
        assert!(memory.may_ask(&a, &a));
    }

    #[tokio::test(start_paused = true)]
    async fn what_nobody_had_is_asked_for_again_after_a_while() {
        let memory = SharedMemory::default();
        let id = ruma::EventId::new_v2_or_v3(&"x".repeat(43)).unwrap();
        memory.remember([id.clone()]);
        assert!(memory.is_absent(&id));
        tokio::time::advance(FORGET_AFTER).await;
        assert!(!memory.is_absent(&id));
    }
}
