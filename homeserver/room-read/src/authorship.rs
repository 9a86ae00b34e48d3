//! Who wrote single units of a text, and when: from the index of claims, and of edits that are not signed yet from the
//! journal. Must not read the text. Who wrote all of it is in `authors`.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::future::try_join_all;
use ruma::{OwnedEventId, OwnedUserId, RoomId};
use weft_crdt::{ClientId, Update};
use weft_room_api::Unavailable;
use weft_store::tables::documents::{CLAIMS, CLIENT_OWNERS, ClaimRow, EDIT_REQUESTS, EditRequestRow, JOURNAL};

use crate::{Reader, damaged};

/// Places that are looked up in one call; each is a read of the index.
const MAX_PLACES: usize = 128;

/// The client id and the clock of a unit of content.
type Place = (u64, u32);

/// Who wrote a unit of content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authorship {
    /// The author.
    pub user: OwnedUserId,
    /// `origin_server_ts` of the event, in milliseconds since 1970; `None` while it is not part of an event.
    pub at: Option<u64>,
}

impl Reader {
    /// Who wrote these units, given by client id and clock. Units that nobody is known to have written are missing, and of
    /// more than 128 places those after the first 128.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn authors_of(
        &self,
        room: &RoomId,
        places: impl IntoIterator<Item = Place>,
    ) -> Result<BTreeMap<Place, Authorship>, Unavailable> {
        let places: BTreeSet<Place> = places.into_iter().take(MAX_PLACES).collect();
        let claims = places.into_iter().map(|place| self.claim_of(room, place));
        let mut found = BTreeMap::new();
        let (mut signed, mut unsigned) = (Vec::new(), Vec::new());
        for (place, event) in try_join_all(claims).await? {
            match event {
                Some(event) => signed.push((place, event)),
                None => unsigned.push(place),
            }
        }
        let ids: BTreeSet<OwnedEventId> = signed.iter().map(|(_, event)| event.clone()).collect();
        let ids: Vec<OwnedEventId> = ids.into_iter().collect();
        let events = self.events(room, &ids).await?;
        for (place, id) in signed {
            let event = events.iter().find(|event| event.pdu.event_id() == id);
            if let Some(event) = event {
                let (user, at) = (event.pdu.sender().to_owned(), event.pdu.origin_server_ts().get());
                let at = Some(at.into());
                found.insert(place, Authorship { user, at });
            }
        }
        if !unsigned.is_empty() {
            found.extend(self.authors_in_journal(room, &unsigned).await?);
        }
        Ok(found)
    }

    /// The event that has a unit.
    async fn claim_of(
        &self,
        room: &RoomId,
        (client, clock): Place,
    ) -> Result<(Place, Option<OwnedEventId>), Unavailable> {
        let query = CLAIMS.under(&(room, client)).through(&(room, client, clock));
        let rows = self.store.scan(query.reversed().limit(1)).await?;
        let claim = rows.into_iter().next().map(|(_, row)| row);
        let event = claim.filter(|ClaimRow { to, .. }| clock < *to).map(|row| row.event);
        Ok(((client, clock), event))
    }

    async fn authors_in_journal(
        &self,
        room: &RoomId,
        places: &[Place],
    ) -> Result<BTreeMap<Place, Authorship>, Unavailable> {
        let mut found = BTreeMap::new();
        for (_, row) in self.store.scan_all(JOURNAL.under(&(room,))).await? {
            let update = Update::parse(row.update).map_err(|error| damaged(room, &error))?;
            let ranges = update.ranges();
            let is_here = |(client, clock): &&Place| {
                let range = ClientId::new(*client).and_then(|client| ranges.get(&client));
                range.is_some_and(|(from, to)| (*from..*to).contains(clock))
            };
            for place in places.iter().filter(is_here) {
                let (user, at) = (row.author.clone(), None);
                found.entry(*place).or_insert(Authorship { user, at });
            }
        }
        Ok(found)
    }

    /// Whether a signed event has blocks of this client id.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn is_owned(&self, room: &RoomId, client: u64) -> Result<bool, Unavailable> {
        Ok(self.store.contains(&CLIENT_OWNERS, &(room, client)).await?)
    }

    /// The answer to an edit that a request made under this name.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn edit_request(&self, room: &RoomId, name: &str) -> Result<Option<EditRequestRow>, Unavailable> {
        Ok(self.store.get(&EDIT_REQUESTS, &(room, name)).await?)
    }
}
