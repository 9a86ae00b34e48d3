//! Who brought the blocks of a document: from the index of claims, without any replay. Must not decide who may see an event.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use futures_util::future::{try_join, try_join_all};
use ruma::{OwnedEventId, OwnedRoomId, OwnedUserId, RoomId};
use weft_dag::Pdu;
use weft_room_api::Unavailable;
use weft_store::tables::documents::{CLAIMS, CLIENT_OWNERS, ClaimRow};

use crate::Reader;

/// Ranges or events that are read at a time.
const AT_ONCE: usize = 256;
/// Ranges of blocks that are at most this many clocks apart are read as one: the rows between them are fewer than further
/// reads would be.
const NEAR: u32 = 1_024;

/// A range of a client's blocks, and who brought it.
#[derive(Debug, Clone)]
pub struct AuthoredBlocks {
    /// The first clock.
    pub from: u32,
    /// The clock after the last one.
    pub to: u32,
    /// The author.
    pub author: OwnedUserId,
    /// The event; `None` for an edit that is not signed yet.
    pub event: Option<Arc<Pdu>>,
    /// The time of the event, or when the edit was journaled, in milliseconds since 1970.
    pub at: u64,
}

/// The ranges of each client, by their first clocks.
pub type Authors = BTreeMap<u64, Vec<AuthoredBlocks>>;

/// Who brought a unit of content.
#[must_use]
pub fn author_of(authors: &Authors, client: u64, clock: u32) -> Option<&AuthoredBlocks> {
    let ranges = authors.get(&client)?;
    let at = ranges.partition_point(|one| one.to <= clock);
    ranges.get(at).filter(|one| one.from <= clock)
}

/// Blocks whose authors are wanted.
#[derive(Debug, Clone, Default)]
pub struct WantedBlocks(BTreeMap<u64, Vec<(u32, u32)>>);

impl WantedBlocks {
    /// Ranges of blocks: client, first clock, and the clock after the last one.
    #[must_use]
    pub fn new(ranges: impl IntoIterator<Item = (u64, u32, u32)>) -> Self {
        let mut by_client: BTreeMap<u64, Vec<(u32, u32)>> = BTreeMap::new();
        for (client, from, to) in ranges {
            by_client.entry(client).or_default().push((from, to));
        }
        for ranges in by_client.values_mut() {
            ranges.sort_unstable();
            ranges.dedup_by(|next, before| {
                let is_joined = next.0 <= before.1;
                if is_joined {
                    before.1 = before.1.max(next.1);
                }
                is_joined
            });
        }
        Self(by_client)
    }

    /// Whether there are blocks of this client.
    #[must_use]
    pub fn has_client(&self, client: u64) -> bool {
        self.0.contains_key(&client)
    }

    /// The ranges, those that are near each other as one.
    fn spans(&self) -> Vec<(u64, u32, u32)> {
        let mut spans: Vec<(u64, u32, u32)> = Vec::new();
        for (client, ranges) in &self.0 {
            for (from, to) in ranges {
                match spans.last_mut() {
                    Some(last) if last.0 == *client && from.saturating_sub(last.2) <= NEAR => last.2 = *to,
                    _ => spans.push((*client, *from, *to)),
                }
            }
        }
        spans
    }

    fn has_some_of(&self, client: u64, from: u32, to: u32) -> bool {
        let ranges = self.0.get(&client).map(Vec::as_slice).unwrap_or_default();
        let first = ranges.partition_point(|range| range.1 <= from);
        ranges.get(first).is_some_and(|range| range.0 < to)
    }
}

impl Reader {
    /// Who brought these blocks. Those events are read that have some of them, and the rows of events near them: the cost
    /// follows the blocks.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn authors(&self, room: &RoomId, blocks: &WantedBlocks) -> Result<Authors, Unavailable> {
        let journal = self.edits_in_journal(room).await?;
        let mut claims: Vec<(u64, u32, u32, OwnedEventId)> = Vec::new();
        for some in blocks.spans().chunks(AT_ONCE) {
            let rows = some.iter().map(|span| self.claims_of(room, *span));
            for ((_, client, from), row) in try_join_all(rows).await?.into_iter().flatten() {
                if blocks.has_some_of(client, from, row.to) {
                    claims.push((client, from, row.to, row.event));
                }
            }
        }
        // A claim may be over several of the spans.
        claims.dedup_by_key(|(client, from, ..)| (*client, *from));
        let ids: BTreeSet<&OwnedEventId> = claims.iter().map(|(.., event)| event).collect();
        let ids: Vec<OwnedEventId> = ids.into_iter().cloned().collect();
        let mut events: HashMap<OwnedEventId, Arc<Pdu>> = HashMap::with_capacity(ids.len());
        for some in ids.chunks(AT_ONCE) {
            let found = self.events(room, some).await?.into_iter();
            events.extend(found.map(|event| (event.pdu.event_id().to_owned(), event.pdu)));
        }
        let mut authors = Authors::new();
        for (client, from, to, event) in claims {
            let Some(pdu) = events.get(&event) else { continue };
            authors.entry(client).or_default().push(AuthoredBlocks {
                from,
                to,
                author: pdu.sender().to_owned(),
                at: pdu.origin_server_ts().get().into(),
                event: Some(Arc::clone(pdu)),
            });
        }
        for edit in journal {
            for (client, from, to) in edit.steps.iter().flat_map(|step| &step.blocks) {
                let known = authors.entry(client.get()).or_default();
                // It may have been sealed meanwhile.
                if known.last().is_none_or(|last| last.to <= *from) {
                    let at = edit.steps.first().map_or(0, |step| step.at);
                    let (from, to, author, event) = (*from, *to, edit.author.clone(), None);
                    known.push(AuthoredBlocks {
                        from,
                        to,
                        author,
                        event,
                        at,
                    });
                }
            }
        }
        Ok(authors)
    }

    /// The claims that have some of the clocks of a client from `from` up to `to`, and perhaps one before them.
    async fn claims_of(&self, room: &RoomId, (client, from, to): (u64, u32, u32)) -> Result<Vec<Claim>, Unavailable> {
        let all = || CLAIMS.under(&(room, client));
        let first = all().through(&(room, client, from)).reversed().limit(1);
        let others = all().from(&(room, client, from.saturating_add(1)));
        let others = others.through(&(room, client, to.saturating_sub(1)));
        let (mut found, others) = try_join(self.store.scan(first), self.store.scan_all(others)).await?;
        found.extend(others);
        Ok(found)
    }

    /// Whether a signed event has blocks of this client id.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn is_owned(&self, room: &RoomId, client: u64) -> Result<bool, Unavailable> {
        Ok(self.store.contains(&CLIENT_OWNERS, &(room, client)).await?)
    }
}

/// A row of the index of claims.
type Claim = ((OwnedRoomId, u64, u32), ClaimRow);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wanted_blocks_are_joined_and_found() {
        let wanted = WantedBlocks::new([(1, 5, 9), (1, 0, 2), (1, 2, 3), (2, 7, 8), (1, 6, 7)]);
        assert_eq!(wanted.0[&1], [(0, 3), (5, 9)]);
        for (from, to, expected) in [(0, 1, true), (3, 5, false), (2, 4, true), (8, 20, true), (9, 20, false)] {
            assert_eq!(wanted.has_some_of(1, from, to), expected, "{from} {to}");
        }
        assert_eq!(wanted.spans(), [(1, 0, 9), (2, 7, 8)]);
        let far = WantedBlocks::new([(1, 0, 2), (1, 2_000, 2_001), (1, 3_000, 3_001)]);
        assert_eq!(far.spans(), [(1, 0, 2), (1, 2_000, 3_001)]);
        assert!(wanted.has_client(2) && !wanted.has_client(3) && !wanted.has_some_of(3, 0, 9));
    }
}
