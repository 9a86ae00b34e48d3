//! The worker's part of backfill: persists backfilled events, and has the text worked out from all events in a separate
//! task. Must not fetch anything.

use std::sync::Arc;
use weft_dag::Verified;
use weft_ingest::{
    decide::{Undecided, decide, is_settled},
    tally::Tally,
};
use weft_room_api::Unavailable;

use crate::{mailbox::LocalReply, merge::merge_session::MergeSession, pending_commit::PendingCommit, worker::Worker};

impl Worker {
    pub(crate) async fn history(&mut self, events: Vec<Verified>, commit: &mut PendingCommit, reply: LocalReply<()>) {
        self.seal(commit);
        self.witness_if_due(commit).await;
        self.fresh(commit).await;
        if events.is_empty() {
            return match self.open().await {
                Ok(Some(_)) => self.begin_to_work_out(true, Some(reply)),
                Ok(None) => reply.send(Ok(())),
                Err(error) => reply.send(Err(error)),
            };
        }
        match Box::pin(self.persist_history(events, commit)).await {
            Ok(()) => commit.answer(reply, ()),
            Err(error) => {
                commit.abandon();
                reply.send(Err(error));
            }
        }
    }

    async fn persist_history(&mut self, events: Vec<Verified>, commit: &mut PendingCommit) -> Result<(), Unavailable> {
        if self.open().await?.is_none() {
            return Ok(());
        }
        let shared = Arc::clone(&self.shared);
        let room = self.room.clone();
        let Some(active) = self.active.as_mut() else {
            return Ok(());
        };
        let mut session = MergeSession::new(active, commit, &shared.reader, shared.identity.server_name()).await?;
        let mut tally = Tally::new(&room);
        for event in events {
            if is_settled(&session, &event).await? {
                continue;
            }
            let id = event.pdu().event_id().to_owned();
            match decide(&session, event, None, None).await {
                Ok((authorized, before)) => session.persist_backfilled(authorized, before).await?,
                Err(Undecided::Unavailable(error)) => return Err(error),
                Err(problem) => tally.note("backfilled events can't be persisted", &format_args!("{id}: {problem}")),
            }
        }
        Ok(())
    }
}
