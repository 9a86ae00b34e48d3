//! The worker's part of fetching pruned updates: complete events replace their redacted copies. Must not fetch
//! anything.

use std::sync::Arc;
use weft_dag::Verified;
use weft_room_api::Unavailable;

use crate::{mailbox::LocalReply, merge::merge_session::MergeSession, pending_commit::PendingCommit, worker::Worker};

impl Worker {
    pub(crate) async fn restore_updates(
        &mut self,
        events: Vec<Verified>,
        commit: &mut PendingCommit,
        reply: LocalReply<()>,
    ) {
        self.seal(commit);
        self.fresh(commit).await;
        match Box::pin(self.restore_complete(events, commit)).await {
            Ok(()) => commit.answer(reply, ()),
            Err(error) => {
                commit.abandon();
                reply.send(Err(error));
            }
        }
    }

    async fn restore_complete(&mut self, events: Vec<Verified>, commit: &mut PendingCommit) -> Result<(), Unavailable> {
        if self.open().await?.is_none() {
            return Ok(());
        }
        let shared = Arc::clone(&self.shared);
        let Some(active) = self.active.as_mut() else {
            return Ok(());
        };
        let mut session = MergeSession::new(active, commit, &shared.reader, shared.identity.server_name()).await?;
        let events = events.into_iter().map(Verified::into_pdu);
        let events = events.filter(|event| event.room_id() == self.room).collect();
        session.restore_updates(events).await
    }
}
