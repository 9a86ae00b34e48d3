//! The worker's part of backfill: persists backfilled events, and has the text worked out from all events in a separate
//! task. Must not fetch anything.

use std::sync::Arc;
use weft_dag::Verified;
use weft_ingest::{
    decide::{Undecided, decide, is_settled},
    tally::Tally,
};
use weft_room_api::Unavailable;

use super::UndecidedEvent;
use crate::{mailbox::LocalReply, merge::merge_session::MergeSession, pending_commit::PendingCommit, worker::Worker};

/// Missing auth events that are requested for one event. State resolution may name all of a room's state.
const MAX_LACKS: usize = 50;

impl Worker {
    /// Decides about backfilled events. The answer names those that can't be decided.
    pub(crate) async fn history(
        &mut self,
        events: Vec<Verified>,
        commit: &mut PendingCommit,
        reply: LocalReply<Vec<UndecidedEvent>>,
    ) {
        self.seal(commit);
        self.witness_if_due(commit).await;
        self.fresh(commit).await;
        match Box::pin(self.persist_history(events, commit)).await {
            Ok(undecided) => commit.answer(reply, undecided),
            Err(error) => {
                commit.abandon();
                reply.send(Err(error));
            }
        }
    }

    /// All events are here: works the text out. The answer is sent when it is on disk.
    pub(crate) async fn history_is_here(&mut self, commit: &mut PendingCommit, reply: LocalReply<()>) {
        self.seal(commit);
        self.witness_if_due(commit).await;
        self.fresh(commit).await;
        match self.open().await {
            Ok(Some(_)) => self.begin_to_work_out(true, Some(reply)),
            Ok(None) => reply.send(Ok(())),
            Err(error) => reply.send(Err(error)),
        }
    }

    async fn persist_history(
        &mut self,
        events: Vec<Verified>,
        commit: &mut PendingCommit,
    ) -> Result<Vec<UndecidedEvent>, Unavailable> {
        let mut undecided = Vec::new();
        let is_open = self.open().await?.is_some();
        let shared = Arc::clone(&self.shared);
        let room = self.room.clone();
        let Some(active) = self.active.as_mut().filter(|_| is_open) else {
            // The room is not here any more: nothing can be decided.
            let ids = events.iter().map(|event| event.pdu().event_id().to_owned());
            return Ok(ids.map(|id| UndecidedEvent { id, lacks: Vec::new() }).collect());
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
                Err(problem) => {
                    tally.note("backfilled events can't be decided", &format_args!("{id}: {problem}"));
                    let lacks = match problem {
                        Undecided::Auth(ids) => ids.into_iter().take(MAX_LACKS).collect(),
                        Undecided::Prev(_) | Undecided::Unresolvable(_) | Undecided::Unavailable(_) => Vec::new(),
                    };
                    undecided.push(UndecidedEvent { id, lacks });
                }
            }
        }
        Ok(undecided)
    }
}
