//! Routes incoming events to the rooms' staging and incoming EDUs to fanout. Must not decide whether they are valid.

use async_trait::async_trait;
use ruma::{MilliSecondsSinceUnixEpoch, OwnedEventId, RoomId, ServerName, UserId};
use weft_dag::{RoomVersion, Verified};
use weft_fanout::{Awareness, Ephemeral, Presence, Receipt};
use weft_federation::{
    acl,
    inbound::{self, DeliverError, InboundEdu, InboundError, InboundHandler, OutOfBandMembership},
};
use weft_room::Rooms;
use weft_room_api::{LimitExceeded, RoomError};

/// Implements federation's port with rooms and fanout.
pub(crate) struct RoomInboundHandler {
    pub(crate) rooms: Rooms,
    pub(crate) awareness: Awareness,
    pub(crate) ephemeral: Ephemeral,
    pub(crate) presence: Presence,
}

impl RoomInboundHandler {
    /// Waits for a join in progress: the other server sends events as soon as it has our join, which is before we have the
    /// room.
    async fn until_joined(&self, room: &RoomId) {
        self.rooms.until_joined(room).await;
    }
}

#[async_trait]
impl InboundHandler for RoomInboundHandler {
    async fn room_version(&self, room: &RoomId) -> Result<Option<RoomVersion>, InboundError> {
        self.until_joined(room).await;
        self.rooms.reader().version(room).await.map_err(failed)
    }

    /// Waits for a join also when called for an EDU: a receipt that arrives before the room would be lost permanently.
    async fn acl_allows(&self, room: &RoomId, server: &ServerName) -> Result<bool, InboundError> {
        self.until_joined(room).await;
        let list = self
            .rooms
            .reader()
            .state_event(room, "m.room.server_acl", "")
            .await
            .map_err(failed)?;
        Ok(acl::allows(list.as_deref().map(weft_dag::Pdu::content), server))
    }

    async fn out_of_band_membership(
        &self,
        room: &RoomId,
        user: &UserId,
    ) -> Result<Option<OutOfBandMembership>, InboundError> {
        let Some(row) = self.rooms.reader().outside(user, room).await.map_err(failed)? else {
            return Ok(None);
        };
        // Invitations with an unsupported room version were refused and are not stored.
        let version = RoomVersion::new(&row.version).map_err(|error| failed(error.0))?;
        Ok(Some(OutOfBandMembership {
            event: row.event,
            version,
            resident: row.resident,
        }))
    }

    async fn withdrawn(&self, event: Verified) -> Result<(), InboundError> {
        self.rooms.withdrawn(event.pdu()).await.map_err(failed)
    }

    async fn deliver(&self, origin: &ServerName, events: Vec<Verified>) -> Result<Vec<OwnedEventId>, DeliverError> {
        self.rooms.receive(origin, events).await.map_err(|error| match error {
            RoomError::LimitExceeded(LimitExceeded { retry_after, .. }) => DeliverError::TooMuchWaits { retry_after },
            error => failed(error).into(),
        })
    }

    async fn edu(&self, origin: &ServerName, edu: InboundEdu) {
        // A refusal is not reported to the sender, which could not use it. A refused EDU is most often only late (a
        // cursor that arrives after its user left).
        let outcome = match edu {
            InboundEdu::Awareness(edu) => self
                .awareness
                .remote(origin, edu)
                .await
                .map_err(|error| error.to_string()),
            InboundEdu::Typing {
                room_id,
                user_id,
                typing,
            } => {
                let taken = self.ephemeral.typing_edu(origin, &room_id, &user_id, typing).await;
                taken.map_err(|error| error.to_string())
            }
            InboundEdu::Receipt(receipt) => {
                let room = receipt.room_id.clone();
                let taken = self.ephemeral.receipt_edu(origin, &room, translate(receipt)).await;
                taken.map_err(|error| error.to_string())
            }
            InboundEdu::Presence(entry) => self.presence.edu(origin, entry).map_err(|error| error.to_string()),
        };
        if let Err(reason) = outcome {
            tracing::debug!(%origin, reason, "EDU refused");
        }
    }
}

fn translate(receipt: inbound::Receipt) -> Receipt {
    Receipt {
        kind: "m.read".to_owned(),
        thread: receipt.thread_id.unwrap_or_default(),
        user: receipt.user_id,
        event: receipt.event_id,
        at: receipt.ts.unwrap_or_else(MilliSecondsSinceUnixEpoch::now).get().into(),
    }
}

fn failed(error: impl std::fmt::Display) -> InboundError {
    InboundError(error.to_string())
}
