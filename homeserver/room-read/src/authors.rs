//! Who brought the blocks of a document: from the index of claims, without any replay. Must not decide who may see an event.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use futures_util::future::try_join_all;
use ruma::{OwnedEventId, OwnedRoomId, OwnedUserId, RoomId};
use weft_dag::Pdu;
use weft_room_api::Unavailable;
use weft_store::tables::documents::{CLAIMS, CLIENT_OWNERS, ClaimRow};

use crate::Reader;

/// Ranges or events that are read at a time.
const AT_ONCE: usize = 256;

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

/// Blocks of a client: the client id and the clocks, the end excluded.
pub type Blocks = (u64, u32, u32);

/// Who brought a unit of content.
#[must_use]
pub fn author_of(authors: &Authors, client: u64, clock: u32) -> Option<&AuthoredBlocks> {
    let ranges = authors.get(&client)?;
    let at = ranges.partition_point(|one| one.to <= clock);
    ranges.get(at).filter(|one| one.from <= clock)
}

impl Reader {
    /// Who brought these blocks, which must not overlap. The cost follows the number of events that have some of them, and of edits that
    /// are not signed yet.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn authors(&self, room: &RoomId, wanted: &BTreeSet<Blocks>) -> Result<Authors, Unavailable> {
        let journal = self.edits_in_journal(room).await?;
        let wanted: Vec<Blocks> = wanted.iter().copied().collect();
        let mut claims: BTreeMap<(u64, u32), ClaimRow> = BTreeMap::new();
        for some in wanted.chunks(AT_ONCE) {
            let rows = some.iter().map(|blocks| self.claims_of(room, *blocks));
            for ((_, client, from), row) in try_join_all(rows).await?.into_iter().flatten() {
                claims.insert((client, from), row);
            }
        }
        let ids: BTreeSet<&OwnedEventId> = claims.values().map(|row| &row.event).collect();
        let ids: Vec<OwnedEventId> = ids.into_iter().cloned().collect();
        let mut events: HashMap<OwnedEventId, Arc<Pdu>> = HashMap::with_capacity(ids.len());
        for some in ids.chunks(AT_ONCE) {
            let found = self.events(room, some).await?.into_iter();
            events.extend(found.map(|event| (event.pdu.event_id().to_owned(), event.pdu)));
        }
        let mut authors = Authors::new();
        for ((client, from), ClaimRow { to, event }) in claims {
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

    /// The rows of the index with some of these blocks. The first one may begin before them.
    async fn claims_of(
        &self,
        room: &RoomId,
        (client, from, to): Blocks,
    ) -> Result<Vec<((OwnedRoomId, u64, u32), ClaimRow)>, Unavailable> {
        let of_client = || CLAIMS.under(&(room, client));
        let first = of_client().through(&(room, client, from)).reversed().limit(1);
        let mut rows = self.store.scan(first).await?;
        rows.retain(|(_, row)| row.to > from);
        if from.saturating_add(1) < to {
            let others = of_client().after(&(room, client, from)).before(&(room, client, to));
            rows.extend(self.store.scan_all(others).await?);
        }
        Ok(rows)
    }

    /// Whether a signed event has blocks of this client id.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn is_owned(&self, room: &RoomId, client: u64) -> Result<bool, Unavailable> {
        Ok(self.store.contains(&CLIENT_OWNERS, &(room, client)).await?)
    }
}
