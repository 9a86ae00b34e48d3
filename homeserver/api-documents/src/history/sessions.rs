//! Sessions of work: the edits of one author with pauses below five minutes. Pure. Must be given events from the newest to
//! the oldest.

use std::collections::BTreeMap;

use crate::purposes::Told;
use ruma::{OwnedEventId, OwnedUserId};
use weft_wire::rest::{HistoryEdit, HistoryEntry, NamedVersion, WorkSession};

/// A pause that ends a session, milliseconds.
const PAUSE_MS: u64 = 5 * 60 * 1_000;

/// One event with edits.
pub(super) struct Work {
    pub(super) author: OwnedUserId,
    /// The time of the event.
    pub(super) at: u64,
    pub(super) event_id: OwnedEventId,
    /// Its first and its last version.
    pub(super) versions: Option<(u64, u64)>,
    pub(super) inserted: u64,
    pub(super) deleted: u64,
    pub(super) told: Told,
    /// Newest first.
    pub(super) edits: Vec<HistoryEdit>,
}

impl Work {
    /// What the event is for.
    pub(super) fn is_for(&mut self, told: Told) {
        for edit in &mut self.edits {
            let accepted = told.accepted.as_ref();
            edit.suggestion = accepted.map(|accepted| accepted.suggestion.clone());
            edit.proposed_by = accepted.map(|accepted| accepted.by.clone());
            edit.restores.clone_from(&told.restores);
            edit.rolls_back.clone_from(&told.rolls_back);
        }
        self.told = told;
    }
}

/// See the module.
pub(super) struct Sessions {
    with_edits: bool,
    /// Sessions that an older event may still extend.
    open: BTreeMap<OwnedUserId, WorkSession>,
    closed: Vec<HistoryEntry>,
}

impl Sessions {
    /// `with_edits`: sessions list their edits.
    pub(super) fn new(with_edits: bool) -> Self {
        Self {
            with_edits,
            open: BTreeMap::new(),
            closed: Vec::new(),
        }
    }

    /// The number of entries so far.
    pub(super) fn count(&self) -> usize {
        self.open.len() + self.closed.len()
    }

    /// Whether no session continues before this time: a page may end here.
    pub(super) fn is_quiet_before(&self, at: u64) -> bool {
        self.open.values().all(|session| !continues(session, at))
    }

    /// Adds the next older event.
    pub(super) fn take(&mut self, work: Work) {
        match self.open.get_mut(&work.author) {
            Some(session) if continues(session, work.at) => add(session, work),
            _ => {
                let author = work.author.clone();
                let session = begin(work, self.with_edits);
                let before = self.open.insert(author, session);
                self.closed.extend(before.map(HistoryEntry::Session));
            }
        }
    }

    /// Adds a version with a name.
    pub(super) fn name(&mut self, version: NamedVersion) {
        self.closed.push(HistoryEntry::Version(version));
    }

    /// The entries, newest first.
    pub(super) fn finish(self) -> Vec<HistoryEntry> {
        let mut entries = self.closed;
        entries.extend(self.open.into_values().map(HistoryEntry::Session));
        // Stable: what is equally old stays in order.
        entries.sort_by_key(|entry| std::cmp::Reverse(end_of(entry)));
        entries
    }
}

fn end_of(entry: &HistoryEntry) -> u64 {
    match entry {
        HistoryEntry::Session(session) => session.to,
        HistoryEntry::Version(version) => version.at,
    }
}

/// Whether an older event belongs to the session. Clocks of servers differ, so it may seem to be newer.
fn continues(session: &WorkSession, at: u64) -> bool {
    session.from.saturating_sub(at) < PAUSE_MS
}

fn begin(work: Work, with_edits: bool) -> WorkSession {
    WorkSession {
        author: work.author,
        from: work.at,
        to: work.at,
        event_id: work.event_id,
        events: 1,
        versions: work.versions,
        inserted: work.inserted,
        deleted: work.deleted,
        proposed_by: work.told.accepted.into_iter().map(|accepted| accepted.by).collect(),
        restores: work.told.restores.into_iter().collect(),
        rolls_back: work.told.rolls_back.into_iter().collect(),
        edits: with_edits.then_some(work.edits),
    }
}

/// A large edit has several events, which say the same.
fn add_once<T: PartialEq>(list: &mut Vec<T>, one: Option<T>) {
    list.extend(one.filter(|one| !list.contains(one)));
}

fn add(session: &mut WorkSession, work: Work) {
    session.from = session.from.min(work.at);
    session.to = session.to.max(work.at);
    session.events += 1;
    let both = session.versions.zip(work.versions);
    session.versions = both.map(|(newer, older)| (newer.0.min(older.0), newer.1.max(older.1)));
    session.inserted = session.inserted.saturating_add(work.inserted);
    session.deleted = session.deleted.saturating_add(work.deleted);
    add_once(&mut session.proposed_by, work.told.accepted.map(|accepted| accepted.by));
    add_once(&mut session.restores, work.told.restores);
    add_once(&mut session.rolls_back, work.told.rolls_back);
    if let Some(edits) = session.edits.as_mut() {
        edits.extend(work.edits);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: u64 = 60 * 1_000;

    fn work(author: &str, at: u64) -> Work {
        Work {
            author: OwnedUserId::try_from(format!("@{author}:a.example")).unwrap(),
            at,
            event_id: OwnedEventId::try_from(format!("${author}{at}")).unwrap(),
            versions: Some((at, at)),
            inserted: 2,
            deleted: 1,
            told: Told::default(),
            edits: Vec::new(),
        }
    }

    fn told(sessions: Sessions) -> Vec<(String, u64, u64, u64)> {
        let entries = sessions.finish().into_iter();
        let told = entries.map(|entry| match entry {
            HistoryEntry::Session(one) => (
                one.author.localpart().to_owned(),
                one.from / MINUTE,
                one.to / MINUTE,
                one.events,
            ),
            HistoryEntry::Version(one) => (one.name, one.at / MINUTE, one.at / MINUTE, 0),
        });
        told.collect()
    }

    #[test]
    fn a_pause_of_five_minutes_ends_a_session_and_other_authors_do_not() {
        let mut sessions = Sessions::new(false);
        for (author, minute) in [("a", 30), ("b", 29), ("a", 26), ("a", 20), ("b", 24), ("b", 15)] {
            sessions.take(work(author, minute * MINUTE));
        }
        let expected = [
            ("a", 26, 30, 2),
            ("b", 29, 29, 1),
            ("b", 24, 24, 1),
            ("a", 20, 20, 1),
            ("b", 15, 15, 1),
        ];
        let expected = expected.map(|(author, from, to, events)| (author.to_owned(), from, to, events));
        assert_eq!(told(sessions), expected);
    }

    #[test]
    fn a_page_ends_where_no_session_continues() {
        let mut sessions = Sessions::new(false);
        sessions.take(work("a", 30 * MINUTE));
        sessions.take(work("b", 28 * MINUTE));
        assert!(!sessions.is_quiet_before(26 * MINUTE));
        assert!(!sessions.is_quiet_before(24 * MINUTE), "b's session continues");
        assert!(sessions.is_quiet_before(23 * MINUTE));
        assert_eq!(sessions.count(), 2);
    }

    #[test]
    fn an_event_of_a_clock_that_is_ahead_belongs_to_the_session() {
        let mut sessions = Sessions::new(false);
        sessions.take(work("a", 30 * MINUTE));
        sessions.take(work("a", 45 * MINUTE));
        assert_eq!(told(sessions), [("a".to_owned(), 30, 45, 2)]);
    }
}
