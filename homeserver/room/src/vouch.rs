//! An update of one of our users that other servers hold back. Its author was allowed to write when it was acknowledged
//! and is no more, so servers that heard of that first keep the update out of their text until an accepted event follows
//! it. Mostly somebody here says something soon. A viewer never does, and his server would show other text than all
//! others for ever; so the server has one of its users say again that he is in the room.
//!
//! Must not do more than that: no event where nothing is held back.

use std::sync::Arc;

use ruma::OwnedUserId;
use weft_dag::Pdu;

use crate::{NewEvent, SendError, Unavailable, hot::Hot, turn::Turn, worker::Worker};

impl Worker {
    /// To be called when events of others have come in, in the same turn.
    pub(crate) async fn vouch(&mut self, turn: &mut Turn) -> Result<(), Unavailable> {
        let Some(hot) = self
            .hot
            .as_ref()
            .filter(|hot| hot.document.is_some() && hot.ends.len() > 1)
        else {
            return Ok(());
        };
        let ids: Vec<_> = hot.ends.iter().map(|end| end.id.clone()).collect();
        let ends = self.shared.reader.events_of(&self.room, &hot.version, &ids).await?;
        let held = ends.iter().find(|end| is_held_elsewhere(hot, end, self.ours()));
        let Some(member) = held.and_then(|update| speaker(hot, update)) else {
            return Ok(());
        };
        let (room, user) = (self.room.clone(), member.sender().to_owned());
        match self.send_event(again(&member, &user), turn).await {
            Ok(event) => tracing::info!(%room, %event, %user, "follows an update that others hold back"),
            Err(SendError::Unavailable(error)) => return Err(error),
            Err(error) => tracing::warn!(%room, %user, %error, "an update that others hold back stays so"),
        }
        Ok(())
    }
}

/// Whether an end of the graph is an event of ours whose sender may no longer send such: an update, or what he said
/// after one.
fn is_held_elsewhere(hot: &Hot, end: &Pdu, ours: &ruma::ServerName) -> bool {
    let may = match end.state_key() {
        Some(_) => hot.state.can_send_state(end.sender(), end.kind()),
        None => hot.state.can_send(end.sender(), end.kind()),
    };
    end.sender().server_name() == ours && end.kind() != "m.room.member" && !may
}

/// The membership of who can speak: the author, or anybody else of ours who is in the room.
fn speaker(hot: &Hot, update: &Pdu) -> Option<Arc<Pdu>> {
    let author = update.sender().to_owned();
    let locals = hot.locals();
    let user: &OwnedUserId = locals.iter().find(|user| **user == author).or_else(|| locals.first())?;
    let member = hot.state.get("m.room.member", user.as_str())?;
    // Somebody else may have written it last; only one's own can be said again.
    (member.sender() == user).then(|| Arc::clone(member))
}

/// The same membership once more.
fn again(member: &Pdu, user: &OwnedUserId) -> NewEvent {
    NewEvent {
        sender: user.clone(),
        kind: member.kind().to_owned(),
        state_key: member.state_key().map(ToOwned::to_owned),
        content: member.content_as().unwrap_or_default(),
        redacts: None,
        txn: None,
        timestamp: None,
    }
}
