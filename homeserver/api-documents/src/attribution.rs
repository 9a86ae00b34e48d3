//! Who brought the runs of a text: from the index of claims, for the events that the caller may see. Must not replay
//! anything.

use std::collections::{BTreeMap, BTreeSet};

use ruma::{OwnedEventId, OwnedUserId, RoomId, UserId};
use weft_http::errors::ApiResult;
use weft_render::DiffRun;
use weft_room_read::{AuthoredBlocks, WantedBlocks, versions::EventSteps};
use weft_wire::rest::Attribution;

use super::{
    DocumentPorts,
    purposes::{self, Accepted},
};

/// What is known about the blocks of a text.
#[derive(Default)]
pub(super) struct Authorship {
    authors: weft_room_read::Authors,
    /// Events that the caller may see.
    visible: BTreeSet<OwnedEventId>,
    /// Events that accept suggestions.
    accepted: BTreeMap<OwnedEventId, Accepted>,
    deletions: BTreeMap<u64, Vec<Deletion>>,
}

/// A range of a client's blocks that was deleted.
struct Deletion {
    from: u32,
    to: u32,
    by: OwnedUserId,
    at: u64,
}

/// Who deleted a run, and when (milliseconds).
pub(super) type Deleted = Option<(OwnedUserId, u64)>;

/// A part of a run with one origin.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Piece {
    pub(super) text: String,
    pub(super) by: Attribution,
    pub(super) deleted: Deleted,
}

impl Authorship {
    /// Reads what is known about the blocks of these runs. `steps`: in which deletions are looked up.
    pub(super) async fn of(
        ports: &DocumentPorts,
        room: &RoomId,
        user: &UserId,
        runs: &[DiffRun],
        steps: Vec<EventSteps>,
    ) -> ApiResult<Self> {
        let reader = ports.rooms.reader();
        let blocks = runs.iter().filter_map(|run| {
            let (from, to) = run.clocks?;
            Some((run.client?, from, to))
        });
        let blocks = WantedBlocks::new(blocks);
        let authors = reader.authors(room, &blocks).await?;
        let events: BTreeMap<_, _> = authors
            .values()
            .flatten()
            .filter_map(|blocks| blocks.event.clone())
            .map(|event| (event.event_id().to_owned(), event))
            .collect();
        let visible = reader
            .visible_to_user(room, user, events.into_values().collect())
            .await?;
        let updates = visible.iter().map(|event| &**event);
        let told = purposes::of_updates(ports, room, user, updates).await?;
        let accepted = told
            .into_iter()
            .filter_map(|(event, told)| Some((event, told.accepted?)));
        let mut deletions: BTreeMap<u64, Vec<Deletion>> = BTreeMap::new();
        for one in steps {
            for step in one.steps {
                for (client, from, to) in step
                    .deletes
                    .iter()
                    .filter(|(client, ..)| blocks.has_client(client.get()))
                {
                    let (by, at) = (one.author.clone(), step.at);
                    deletions
                        .entry(client.get())
                        .or_default()
                        .push(Deletion { from, to, by, at });
                }
            }
        }
        for of_client in deletions.values_mut() {
            of_client.sort_by_key(|deletion| deletion.from);
        }
        Ok(Self {
            authors,
            accepted: accepted.collect(),
            visible: visible.into_iter().map(|event| event.event_id().to_owned()).collect(),
            deletions,
        })
    }

    /// A run in pieces, each with one origin. Neighbours with the same one are joined.
    pub(super) fn pieces(&self, run: &DiffRun) -> Vec<Piece> {
        let (Some(client), Some((from, to))) = (run.client, run.clocks) else {
            let (text, by) = (run.text.clone(), Attribution::default());
            return vec![Piece {
                text,
                by,
                deleted: None,
            }];
        };
        let mut pieces: Vec<Piece> = Vec::new();
        for (clock, text) in self.cut(run, client, (from, to)) {
            let by = self.by(client, clock);
            let deleted = self.deleted(client, clock);
            match pieces.last_mut() {
                Some(last) if last.by == by && is_same(&last.deleted, &deleted) => {
                    last.text.push_str(&text);
                    last.deleted = later(last.deleted.take(), deleted);
                }
                _ => pieces.push(Piece { text, by, deleted }),
            }
        }
        pieces
    }

    /// The text of a run between the limits of events and deletions, each part with its first clock.
    fn cut(&self, run: &DiffRun, client: u64, (from, to): (u32, u32)) -> Vec<(u32, String)> {
        let units = run.text.encode_utf16().count();
        if usize::try_from(to.saturating_sub(from)).ok() != Some(units) {
            // Not text: one block.
            return vec![(from, run.text.clone())];
        }
        let authored = within(self.authors.get(&client), |one| (one.from, one.to), (from, to));
        let deleted = within(self.deletions.get(&client), |one| (one.from, one.to), (from, to));
        let limits = authored.iter().flat_map(|one| [one.from, one.to]);
        let limits: BTreeSet<u32> = limits
            .chain(deleted.iter().flat_map(|one| [one.from, one.to]))
            .filter(|limit| from < *limit && *limit < to)
            .collect();
        let mut limits = limits.into_iter().peekable();
        let mut parts = vec![(from, String::new())];
        let mut clock = from;
        for letter in run.text.chars() {
            // A limit inside of a pair of surrogates counts after it.
            if limits.next_if(|limit| *limit <= clock).is_some() {
                while limits.next_if(|limit| *limit <= clock).is_some() {}
                parts.push((clock, String::new()));
            }
            if let Some((_, text)) = parts.last_mut() {
                text.push(letter);
            }
            clock = clock.saturating_add(if letter.len_utf16() == 2 { 2 } else { 1 });
        }
        parts
    }

    fn by(&self, client: u64, clock: u32) -> Attribution {
        let found = within(
            self.authors.get(&client),
            |one| (one.from, one.to),
            (clock, clock.saturating_add(1)),
        );
        let Some(AuthoredBlocks { author, event, at, .. }) = found.first() else {
            return Attribution::default();
        };
        let event = event.as_ref().map(|event| event.event_id().to_owned());
        let is_visible = event.as_ref().is_none_or(|event| self.visible.contains(event));
        let accepted = event.as_ref().and_then(|event| self.accepted.get(event));
        Attribution {
            author: Some(author.clone()),
            proposed_by: accepted.map(|accepted| accepted.by.clone()),
            suggestion: accepted.map(|accepted| accepted.suggestion.clone()),
            event_id: event.filter(|_| is_visible),
            at: is_visible.then_some(*at),
        }
    }

    fn deleted(&self, client: u64, clock: u32) -> Deleted {
        let found = within(
            self.deletions.get(&client),
            |one| (one.from, one.to),
            (clock, clock.saturating_add(1)),
        );
        found.first().map(|one| (one.by.clone(), one.at))
    }
}

/// The ranges, sorted and disjoint, that have something of `[from, to)`.
fn within<T>(ranges: Option<&Vec<T>>, limits: impl Fn(&T) -> (u32, u32), (from, to): (u32, u32)) -> &[T] {
    let all = ranges.map(Vec::as_slice).unwrap_or_default();
    let start = all.partition_point(|one| limits(one).1 <= from);
    let rest = all.get(start..).unwrap_or_default();
    let end = rest.partition_point(|one| limits(one).0 < to);
    rest.get(..end).unwrap_or_default()
}

fn is_same(one: &Deleted, other: &Deleted) -> bool {
    one.as_ref().map(|(by, _)| by) == other.as_ref().map(|(by, _)| by)
}

/// The later of two deletions by the same user.
fn later(one: Deleted, other: Deleted) -> Deleted {
    match (one, other) {
        (Some(one), Some(other)) => Some(if other.1 > one.1 { other } else { one }),
        (one, other) => one.or(other),
    }
}
