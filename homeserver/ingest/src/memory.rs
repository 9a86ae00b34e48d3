//! The memory of the fetches of one room: which events no server had, how many requests were sent recently, and which
//! servers do not answer.
//!
//! Only in memory, limited, and may be lost at any time. Must not send requests.

use std::collections::HashMap;

use parking_lot::Mutex;
use ruma::{OwnedEventId, OwnedServerName, ServerName};
use tokio::time::{Duration, Instant};

/// Requests about one room to other servers in [`REQUEST_WINDOW`].
const MAX_REQUESTS: u32 = 120;
/// Of these, requests for events of one origin: this leaves some for the events of others.
const MAX_REQUESTS_FOR_ONE: u32 = 60;
/// The window of these limits: as long as the delay after which waiting events are retried.
const REQUEST_WINDOW: Duration = Duration::from_secs(30);
/// How long an event that no server had isn't requested again.
const ABSENT_FOR: Duration = Duration::from_secs(5 * 60);
/// Events that are recorded as unavailable. Above it, all are dropped: the record is only an optimisation.
const MAX_ABSENT: usize = 10_000;
/// Servers whose failures are recorded. Above it, all are dropped.
const MAX_SERVERS: usize = 1_000;
/// The pause of a server that failed to answer twice in a row; four times as long after each further failure.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// See the module. Shared by the concurrent fetches of a room.
#[derive(Debug, Default)]
pub struct SharedMemory(Mutex<Memory>);

#[derive(Debug, Default)]
struct Memory {
    /// Events that no server had, and when that was found.
    absent: HashMap<OwnedEventId, Instant>,
    /// The number of fetches that could try other servers than the sender: each one tries different servers.
    attempt: usize,
    window: Option<Window>,
    silent: HashMap<OwnedServerName, Silence>,
}

/// The requests of the current [`REQUEST_WINDOW`].
#[derive(Debug)]
struct Window {
    since: Instant,
    requests: u32,
    requests_for: HashMap<OwnedServerName, u32>,
}

/// A server that did not answer.
#[derive(Debug)]
struct Silence {
    until: Instant,
    /// The pause after the next failure.
    next: Duration,
}

impl SharedMemory {
    /// Records events that no server had.
    pub fn remember(&self, ids: impl IntoIterator<Item = OwnedEventId>) {
        let mut memory = self.0.lock();
        let now = Instant::now();
        for id in ids {
            if memory.absent.len() >= MAX_ABSENT {
                memory.absent.clear();
            }
            memory.absent.insert(id, now);
        }
    }

    /// Whether no server had an event a short while ago.
    pub fn is_absent(&self, id: &OwnedEventId) -> bool {
        let memory = self.0.lock();
        memory.absent.get(id).is_some_and(|at| at.elapsed() < ABSENT_FOR)
    }

    /// The number of this fetch: each one tries different servers.
    pub fn next_attempt(&self) -> usize {
        let mut memory = self.0.lock();
        let attempt = memory.attempt;
        memory.attempt = attempt.wrapping_add(1);
        attempt
    }

    /// Whether a request for an event of `origin` may be sent to a server now; counts the request.
    pub fn may_request(&self, server: &ServerName, origin: &ServerName) -> bool {
        let mut memory = self.0.lock();
        let now = Instant::now();
        if memory.silent.get(server).is_some_and(|silence| now < silence.until) {
            return false;
        }
        let window = memory
            .window
            .take()
            .filter(|window| now.duration_since(window.since) < REQUEST_WINDOW);
        let window = memory.window.insert(window.unwrap_or_else(|| Window {
            since: now,
            requests: 0,
            requests_for: HashMap::new(),
        }));
        let requests_for = window.requests_for.entry(origin.to_owned()).or_default();
        let may = window.requests < MAX_REQUESTS && *requests_for < MAX_REQUESTS_FOR_ONE;
        *requests_for = requests_for.saturating_add(u32::from(may));
        window.requests = window.requests.saturating_add(u32::from(may));
        may
    }

    /// Records whether a server answered.
    pub fn note_answer(&self, server: &ServerName, is_reached: bool) {
        let mut memory = self.0.lock();
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

    /// Whether a server failed to answer recently, so that its events are fetched after those of others.
    pub fn is_silent(&self, server: &ServerName) -> bool {
        let memory = self.0.lock();
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
    async fn the_events_of_one_server_leave_requests_for_those_of_others() {
        let (memory, a, b) = (SharedMemory::default(), server("a"), server("b"));
        let requests = |origin: &ServerName| (0..1_000).filter(|_| memory.may_request(&a, origin)).count();
        assert_eq!(requests(&a), 60);
        assert_eq!(requests(&b), 60);
        assert_eq!(requests(&server("c")), 0, "all together");
        tokio::time::advance(REQUEST_WINDOW).await;
        assert_eq!(requests(&b), 60, "the next window");
    }

    #[tokio::test(start_paused = true)]
    async fn requests_to_an_unresponsive_server_become_rarer_until_it_answers() {
        let (memory, a) = (SharedMemory::default(), server("a"));
        let mut pauses = Vec::new();
        for _ in 0..6 {
            assert!(memory.may_request(&a, &a));
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
        assert!(memory.may_request(&a, &a));
    }

    #[tokio::test(start_paused = true)]
    async fn an_unavailable_event_is_requested_again_after_a_while() {
        let memory = SharedMemory::default();
        let id = ruma::EventId::new_v2_or_v3(&"x".repeat(43)).unwrap();
        memory.remember([id.clone()]);
        assert!(memory.is_absent(&id));
        tokio::time::advance(ABSENT_FOR).await;
        assert!(!memory.is_absent(&id));
    }
}
