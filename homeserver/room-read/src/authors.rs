//! Who brought the blocks of a document: from the index of claims, without any replay. Must not decide who may see an event.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use futures_util::future::try_join_all;
use ruma::{OwnedEventId, OwnedUserId, RoomId};
use weft_dag::Pdu;
use weft_room_api::Unavailable;
use weft_store::tables::documents::CLAIMS;

use crate::Reader;

/// Clients or events that are read at a time.
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

impl Reader {
    /// Who brought the blocks of these clients. The cost follows the number of events that have blocks of them.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn authors(&self, room: &RoomId, clients: &BTreeSet<u64>) -> Result<Authors, Unavailable> {
        let journal = self.edits_in_journal(room).await?;
        let wanted: Vec<u64> = clients.iter().copied().collect();
        let mut claims: Vec<(u64, u32, u32, OwnedEventId)> = Vec::new();
        for some in wanted.chunks(AT_ONCE) {
            let rows = some
                .iter()
                .map(|client| self.store.scan_all(CLAIMS.under(&(room, *client))));
            for ((_, client, from), row) in try_join_all(rows).await?.into_iter().flatten() {
                claims.push((client, from, row.to, row.event));
            }
        }
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
}
