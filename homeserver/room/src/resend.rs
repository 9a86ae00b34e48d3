//! Sends membership events again, so that they reference all forward extremities.
//!
//! Must not decide which: that is [`crate::reconcile`] for joined users, and [`weft_ingest::state_reset`] for removed
//! ones.

use std::sync::Arc;

use ruma::{OwnedEventId, UserId};
use weft_dag::Pdu;
use weft_room_api::{NewEvent, RoomError, Unavailable};

use crate::{active_room::ActiveRoom, pending_commit::PendingCommit, send::Cause, worker::Worker};

impl Worker {
    /// Sends a membership event of a local sender again; `None` if the sender may no longer send it.
    pub(crate) async fn resend(
        &mut self,
        member: &Pdu,
        commit: &mut PendingCommit,
    ) -> Result<Option<OwnedEventId>, Unavailable> {
        match self.send_event(same_membership(member), Cause::Server, commit).await {
            Ok(event) => Ok(Some(event)),
            Err(RoomError::Unavailable(error)) => Err(error),
            Err(error) => {
                tracing::warn!(
                    event = "room.resend_failed", room = %self.room, member = %member.event_id(), %error,
                    "a membership event can't be sent again"
                );
                Ok(None)
            }
        }
    }

    /// Sends again the join of this user, or of another local user; `None` if no local user can.
    pub(crate) async fn send_membership_as(
        &mut self,
        user: &UserId,
        commit: &mut PendingCommit,
    ) -> Result<Option<OwnedEventId>, Unavailable> {
        match self.active.as_ref().and_then(|active| member_to_send(active, user)) {
            Some(member) => self.resend(&member, commit).await,
            None => Ok(None),
        }
    }

    /// After a state reset: sends the local kicks or bans of users again whose servers treat them as joined, and sends
    /// them to those servers.
    pub(crate) async fn resend_resets(
        &mut self,
        resets: &[Arc<Pdu>],
        commit: &mut PendingCommit,
    ) -> Result<(), Unavailable> {
        for stands in resets {
            let user = stands.state_key().and_then(|key| UserId::parse(key).ok());
            let Some(user) = user.filter(|_| stands.sender().server_name() == self.ours()) else {
                continue;
            };
            let mut event = self.resend(stands, commit).await?;
            if event.is_none() {
                // Any event that references all extremities is sufficient, if the user's server receives it.
                event = self.send_membership_as(stands.sender(), commit).await?;
            }
            if let Some(event) = event {
                tracing::info!(room = %self.room, %event, %user, "sent a removal again after a state reset");
                if let Some(write) = commit.write_mut(&event) {
                    write.destinations.insert(user.server_name().to_owned());
                }
            }
        }
        Ok(())
    }
}

/// The membership event that can be sent again: of this user, or of another local joined user.
fn member_to_send(active: &ActiveRoom, user: &UserId) -> Option<Arc<Pdu>> {
    let locals = active.locals();
    let user = locals.iter().find(|local| *local == user).or_else(|| locals.first())?;
    let member = active.state.get("m.room.member", user.as_str())?;
    // Another user may have sent the last one; users can only send their own again.
    (member.sender() == user).then(|| Arc::clone(member))
}

/// A new event with the same content.
fn same_membership(member: &Pdu) -> NewEvent {
    NewEvent {
        sender: member.sender().to_owned(),
        kind: member.kind().to_owned(),
        state_key: member.state_key().map(ToOwned::to_owned),
        content: member.content_as().unwrap_or_default(),
        redacts: None,
        txn: None,
        timestamp: None,
    }
}
