//! Memberships that are said again, so that they follow all ends of the graph.
//!
//! Must not decide which: that is [`crate::vouch`] for those who are in the room, and [`crate::drain::reset`] for those
//! who are not.

use std::sync::Arc;

use ruma::{OwnedEventId, UserId};
use weft_dag::Pdu;

use crate::{NewEvent, SendError, Unavailable, hot::Hot, turn::Turn, worker::Worker};

impl Worker {
    /// Says again what one of our users said of somebody's membership; None where he may no longer.
    pub(crate) async fn repeat(&mut self, member: &Pdu, turn: &mut Turn) -> Result<Option<OwnedEventId>, Unavailable> {
        match self.send_event(again(member), turn).await {
            Ok(event) => Ok(Some(event)),
            Err(SendError::Unavailable(error)) => Err(error),
            Err(error) => {
                tracing::warn!(room = %self.room, member = %member.event_id(), %error, "a membership can't be said again");
                Ok(None)
            }
        }
    }

    /// Has this user, or anybody else of ours, say again that he is in the room; None where nobody can.
    pub(crate) async fn speak(&mut self, user: &UserId, turn: &mut Turn) -> Result<Option<OwnedEventId>, Unavailable> {
        match self.hot.as_ref().and_then(|hot| speaker(hot, user)) {
            Some(member) => self.repeat(&member, turn).await,
            None => Ok(None),
        }
    }

    /// Says again what put users out who believe that they are in the room, where one of ours had said it, and tells
    /// their servers.
    pub(crate) async fn repeat_resets(&mut self, resets: &[Arc<Pdu>], turn: &mut Turn) -> Result<(), Unavailable> {
        for stands in resets {
            let user = stands.state_key().and_then(|key| UserId::parse(key).ok());
            let Some(user) = user.filter(|_| stands.sender().server_name() == self.ours()) else {
                continue;
            };
            let mut event = self.repeat(stands, turn).await?;
            if event.is_none() {
                // Any event does that follows all ends, if his server comes to know of it.
                event = self.speak(stands.sender(), turn).await?;
            }
            if let Some(event) = event {
                tracing::info!(room = %self.room, %event, %user, "says again what put him out");
                if let Some(write) = turn.write_mut(&event) {
                    write.destinations.insert(user.server_name().to_owned());
                }
            }
        }
        Ok(())
    }
}

/// The membership of who can speak: this user, or anybody else of ours who is in the room.
fn speaker(hot: &Hot, user: &UserId) -> Option<Arc<Pdu>> {
    let locals = hot.locals();
    let user = locals.iter().find(|local| *local == user).or_else(|| locals.first())?;
    let member = hot.state.get("m.room.member", user.as_str())?;
    // Somebody else may have written it last; only one's own can be said again.
    (member.sender() == user).then(|| Arc::clone(member))
}

/// The same membership once more.
fn again(member: &Pdu) -> NewEvent {
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
