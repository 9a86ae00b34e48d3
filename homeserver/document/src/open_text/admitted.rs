//! The update of a live edit, and its admission against a copy of the vector and the owners, in another task than that of
//! the room's worker. The worker uses the result if what it depended on is unchanged. Must not change the text.

use std::{cell::RefCell, collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use ruma::{OwnedUserId, UserId};
use weft_convergence::admission::{Owners, Past};
use weft_crdt::{ClientId, Document, Known, LiveUpdate, Refusal, StateVector, Taken, limits::LIVE_BYTES, take_live};
use weft_room_api::{RefusedEdit, RoomError};
use weft_wire::{limits::MAX_NOTICE_BLOCKS, live::notice::RefusedBlock};

use super::too_large;

/// The update of an edit.
pub enum EditUpdate {
    /// As received.
    Received(Bytes),
    /// Admitted in a task.
    Admitted(AdmittedUpdate),
}

/// An update that was parsed and admitted in a task.
pub struct AdmittedUpdate {
    /// The parsed update, and what is admitted of it.
    update: Result<(Arc<LiveUpdate>, Result<Taken, Refusal>), RoomError>,
    bytes: usize,
    /// What admission depended on.
    past: PastOfClients,
    /// It is not admitted in a task again.
    pub is_last: bool,
}

/// The clocks and owners of some client ids.
type PastOfClients = BTreeMap<ClientId, (u32, Option<OwnedUserId>)>;

/// A copy of all that admission can depend on.
pub struct CopiedPast {
    /// The clocks.
    pub vector: StateVector,
    /// The owners of its client ids.
    pub owners: Owners,
}

/// Records on which client ids admission depended.
struct RecordedPast<'a> {
    past: Past<'a>,
    seen: RefCell<PastOfClients>,
}

/// The clocks and the owner of a client id in a past.
fn of_client(past: &Past<'_>, client: ClientId) -> (u32, Option<OwnedUserId>) {
    let owner = past.owner(client).and_then(|_| past.owners.get(client));
    (past.end(client), owner.map(ToOwned::to_owned))
}

impl RecordedPast<'_> {
    fn record(&self, client: ClientId) {
        let mut seen = self.seen.borrow_mut();
        seen.entry(client).or_insert_with(|| of_client(&self.past, client));
    }
}

impl Known for RecordedPast<'_> {
    fn end(&self, client: ClientId) -> u32 {
        self.record(client);
        self.past.end(client)
    }

    fn owner(&self, client: ClientId) -> Option<&str> {
        self.record(client);
        self.past.owner(client)
    }
}

impl EditUpdate {
    /// The length as received.
    pub fn byte_len(&self) -> usize {
        match self {
            Self::Received(update) => update.len(),
            Self::Admitted(update) => update.bytes,
        }
    }

    /// What it would change in a text; empty if it can't be parsed.
    pub(super) fn changes(&self, text: &Document) -> RefusedEdit {
        match self {
            Self::Received(update) => parse(update.clone()).map(|update| changes(&update, text)),
            Self::Admitted(update) => match update.parsed() {
                Some(update) => Ok(changes(&update, text)),
                None => return RefusedEdit::default(),
            },
        }
        .unwrap_or_default()
    }
}

fn changes(update: &LiveUpdate, text: &Document) -> RefusedEdit {
    let vector = text.state_vector();
    let block = |(client, from, to): (ClientId, u32, u32)| RefusedBlock {
        client: client.get(),
        clock: from,
        length: to.saturating_sub(from),
    };
    // Deletions of what the edit itself inserted are of no interest to its author.
    let deleted = update.deletes().difference(text.delete_set());
    let deleted = deleted
        .iter()
        .map(|(client, from, to)| (client, from, to.min(vector.get(client))))
        .filter(|(_, from, to)| from < to);
    RefusedEdit {
        inserted: update.new_ranges(vector).map(block).take(MAX_NOTICE_BLOCKS).collect(),
        deleted: deleted.map(block).take(MAX_NOTICE_BLOCKS).collect(),
    }
}

impl AdmittedUpdate {
    /// Parses and admits an update. `parsed`: it was parsed before.
    pub fn new(bytes: &Bytes, parsed: Option<Arc<LiveUpdate>>, author: &UserId, past: &CopiedPast) -> Self {
        let past = Past {
            vector: &past.vector,
            owners: &past.owners,
        };
        let past = RecordedPast {
            past,
            seen: RefCell::default(),
        };
        let parsed = parsed.map_or_else(|| parse(bytes.clone()).map(Arc::new), Ok);
        let update = parsed.map(|update| {
            let taken = take_live(&update, author.as_str(), &past);
            (update, taken)
        });
        Self {
            update,
            bytes: bytes.len(),
            past: past.seen.into_inner(),
            is_last: false,
        }
    }

    /// The parsed update, for another attempt.
    pub fn parsed(&self) -> Option<Arc<LiveUpdate>> {
        self.update.as_ref().ok().map(|(update, _)| Arc::clone(update))
    }

    /// Whether admission has the same result in this past.
    pub fn holds_in(&self, past: &Past<'_>) -> bool {
        self.past.iter().all(|(client, seen)| of_client(past, *client) == *seen)
    }

    /// Whether the update is to be admitted in a task again, because the past is another one.
    pub fn is_to_be_repeated(&self, past: &Past<'_>) -> bool {
        !self.is_last && !self.holds_in(past)
    }

    /// What of the update is admitted in a past.
    pub fn taken(self, author: &UserId, past: &Past<'_>) -> Result<Taken, RoomError> {
        let is_current = self.holds_in(past);
        let (update, taken) = self.update?;
        if is_current {
            Ok(taken?)
        } else {
            Ok(take_live(&update, author.as_str(), past)?)
        }
    }
}

/// Parses the update of a live edit.
pub(super) fn parse(update: Bytes) -> Result<LiveUpdate, RoomError> {
    too_large(update.len(), LIVE_BYTES)?;
    Ok(LiveUpdate::parse(update)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Client 2 writes a letter to the right of the last of three letters of client 1.
    const UPDATE: &[u8] = &[1, 1, 2, 0, 0x84, 1, 2, 1, b'a', 0];

    fn past(ends: &[(u32, u32, &str)]) -> CopiedPast {
        let (mut vector, mut owners) = (StateVector::new(), Owners::default());
        for (client, end, owner) in ends {
            vector.set(ClientId::from(*client), *end);
            owners.claim(ClientId::from(*client), &OwnedUserId::try_from(*owner).unwrap());
        }
        CopiedPast { vector, owners }
    }

    #[test]
    fn an_update_is_admitted_again_if_what_it_depended_on_has_changed() {
        let alice = OwnedUserId::try_from("@alice:a.example").unwrap();
        let admitted = AdmittedUpdate::new(
            &Bytes::from_static(UPDATE),
            None,
            &alice,
            &past(&[(1, 3, "@alice:a.example")]),
        );
        let holds = |ends: &[(u32, u32, &str)]| {
            let CopiedPast { vector, owners } = past(ends);
            let (vector, owners) = (&vector, &owners);
            !admitted.is_to_be_repeated(&Past { vector, owners })
        };
        assert!(holds(&[(1, 3, "@alice:a.example")]));
        assert!(
            holds(&[(1, 3, "@alice:a.example"), (3, 9, "@bob:a.example")]),
            "another client"
        );
        assert!(!holds(&[(1, 4, "@alice:a.example")]), "the client that it refers to");
        assert!(
            !holds(&[(1, 3, "@alice:a.example"), (2, 1, "@alice:a.example")]),
            "its own client"
        );
        assert!(
            !holds(&[(1, 3, "@alice:a.example"), (2, 1, "@bob:a.example")]),
            "the owner of its own client"
        );
    }

    #[test]
    fn an_update_whose_past_has_changed_is_admitted_in_the_new_one() {
        let alice = OwnedUserId::try_from("@alice:a.example").unwrap();
        let admitted = AdmittedUpdate::new(&Bytes::from_static(UPDATE), None, &alice, &past(&[]));
        let CopiedPast { vector, owners } = past(&[(1, 3, "@alice:a.example")]);
        let (vector, owners) = (&vector, &owners);
        let taken = admitted.taken(&alice, &Past { vector, owners }).unwrap();
        assert!(!taken.waits && !taken.update.is_empty());
    }
}
