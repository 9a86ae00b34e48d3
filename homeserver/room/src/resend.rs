//! Memberships that are said again, so that they follow all ends of the graph.
//!
//! Must not decide which: that is [`crate::reconcile`] for those who are in the room, and [`crate::ingest::reset`] for those
//! who are not.

use std::sync::Arc;

use ruma::{OwnedEventId, UserId};
use weft_dag::Pdu;

use crate::{NewEvent, SendError, Unavailable, active_room::ActiveRoom, pending_commit::PendingCommit, worker::Worker};

impl Worker {
    /// Says again what one of our users said of somebody's membership; None where he may no longer.
    pub(crate) async fn resend(
        &mut self,
        member: &Pdu,
        commit: &mut PendingCommit,
    ) -> Result<Option<OwnedEventId>, Unavailable> {
        match self.send_event(same_membership(member), commit).await {
            Ok(event) => Ok(Some(event)),
            Err(SendError::Unavailable(error)) => Err(error),
            Err(error) => {
                tracing::warn!(room = %self.room, member = %member.event_id(), %error, "a membership can't be said again");
                Ok(None)
            }
        }
    }

    /// Has this user, or anybody else of ours, say again that he is in the room; None where nobody can.
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

    /// Says again what put users out who believe that they are in the room, where one of ours had said it, and tells
    /// their servers.
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
                // Any event does that follows all ends, if his server comes to know of it.
                event = self.send_membership_as(stands.sender(), commit).await?;
            }
            if let Some(event) = event {
                tracing::info!(room = %self.room, %event, %user, "says again what put him out");
                if let Some(write) = commit.write_mut(&event) {
                    write.destinations.insert(user.server_name().to_owned());
                }
            }
        }
        Ok(())
    }
}

/// The membership of who can speak: this user, or anybody else of ours who is in the room.
fn member_to_send(active: &ActiveRoom, user: &UserId) -> Option<Arc<Pdu>> {
    let locals = active.locals();
    let user = locals.iter().find(|local| *local == user).or_else(|| locals.first())?;
    let member = active.state.get("m.room.member", user.as_str())?;
    // Somebody else may have written it last; only one's own can be said again.
    (member.sender() == user).then(|| Arc::clone(member))
}

/// The same membership once more.
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
