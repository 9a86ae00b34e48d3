//! The worker's part of backfill: persists backfilled events, and has the text worked out from all events in a separate
//! task. Must not fetch anything.

use std::sync::Arc;

use ruma::RoomId;
use weft_dag::Verified;
use weft_store::tables::rooms::TIMELINE;

use crate::{
    Unavailable,
    ingest::{
        decide::{Undecided, decide, is_settled},
        merge_session::MergeSession,
    },
    mailbox::LocalReply,
    pending_commit::PendingCommit,
    tally::Tally,
    worker::Worker,
};

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

/// The range of positions of backfilled events. Larger than the number of events of any room.
const BACKFILL_POSITIONS_RANGE: i64 = 1 << 40;

impl crate::Reader {
    /// The stream position of the newest accepted event; 0 if there is none.
    pub(crate) async fn last_position(&self, room: &RoomId) -> Result<u64, Unavailable> {
        let last = self.store().scan(TIMELINE.under(&(room,)).reversed().limit(1)).await?;
        Ok(last
            .first()
            .map_or(0, |((_, order), _)| u64::try_from(*order).unwrap_or(0)))
    }

    /// The last position of a backfilled event that is used. A later portion is newer than an earlier one and comes
    /// after it.
    pub(crate) async fn last_backfill_position(&self, room: &RoomId) -> Result<i64, Unavailable> {
        let query = TIMELINE.under(&(room,)).before(&(room, 0_i64)).reversed().limit(1);
        let last = self.store().scan(query).await?;
        Ok(last.first().map_or(-BACKFILL_POSITIONS_RANGE, |((_, order), _)| *order))
    }
}
