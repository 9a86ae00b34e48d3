//! A document in which two events claim the same clocks: which updates this server's next event names as standing, and
//! whether the text is still to be worked out again.
//!
//! What stands is decided in [`crate::drain::rebuild`]. Must not read the graph, and must not build events: the field
//! `dev.weft.stands` is written by whoever composes an update or a witness.

use ruma::{OwnedEventId, RoomId};
use weft_store::{
    Batch,
    tables::documents::{DISPUTED_ROOMS, DisputeRow},
};

use crate::{Reader, Unavailable, hot::Hot};

/// The dispute of a room in memory. It is always what the store says after the turn at hand is committed.
#[derive(Debug, Default)]
pub(crate) struct Dispute {
    row: DisputeRow,
}

impl Dispute {
    /// The room's dispute, if it has one.
    pub(crate) async fn load(reader: &Reader, room: &RoomId) -> Result<Option<Self>, Unavailable> {
        let row = reader.store().get(&DISPUTED_ROOMS, &(room,)).await?;
        Ok(row.map(|row| Self { row }))
    }
}

impl Hot {
    /// Which updates the next `dev.weft.update` or `dev.weft.witness` of this server names in `dev.weft.stands`: of the
    /// rivals that it follows and of which this server never followed one alone, those that stand. At most
    /// `MAX_NAMED_EVENTS`; usually none.
    pub(crate) fn stands_to_name(&self) -> &[OwnedEventId] {
        self.dispute.as_ref().map_or(&[], |dispute| &dispute.row.to_name)
    }

    /// Notes that an event of this turn names these.
    pub(crate) fn note_named(&mut self, batch: &mut Batch, named: &[OwnedEventId]) {
        if let Some(dispute) = self.dispute.as_mut() {
            dispute.row.to_name.retain(|id| !named.contains(id));
            batch.put(&DISPUTED_ROOMS, &(&self.id,), &dispute.row);
        }
    }
}
