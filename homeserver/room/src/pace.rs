//! How often the documents of this server are edited: by one user, and by all users of this server. Edits of other servers'
//! users are limited by bytes. Must not wait: the caller does.

use std::{sync::Arc, time::Duration, time::Instant};

use ruma::{OwnedRoomId, OwnedUserId, RoomId, UserId};
use weft_budget::{DailyBudget, Overspent};
use weft_room_api::{EDITS_PER_DOCUMENT, EDITS_PER_USER};
use weft_wire::limits::EDIT_RATE_SECONDS;

/// Edits a second, on average over [`EDIT_RATE_SECONDS`]. What a live socket sends while an edit is being written counts as one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EditRates {
    /// Of one user in one document.
    pub per_user: u64,
    /// Of one document by all users of this server.
    pub per_document: u64,
}

/// See the module.
pub(crate) struct Pace {
    users: Arc<DailyBudget<(OwnedRoomId, OwnedUserId)>>,
    documents: Arc<DailyBudget<OwnedRoomId>>,
}

impl Pace {
    pub(crate) fn new(rates: EditRates) -> Self {
        let period = Duration::from_secs(EDIT_RATE_SECONDS);
        let within = |rate: u64| rate.saturating_mul(EDIT_RATE_SECONDS);
        Self {
            users: DailyBudget::within(EDITS_PER_USER, within(rates.per_user), period),
            documents: DailyBudget::within(EDITS_PER_DOCUMENT, within(rates.per_document), period),
        }
    }

    /// Counts an edit.
    pub(crate) fn count(&self, room: &RoomId, user: &UserId, now: Instant) -> Result<(), Overspent> {
        self.users.spend(&(room.to_owned(), user.to_owned()), 1, now)?;
        self.documents.spend(&room.to_owned(), 1, now)
    }
}
