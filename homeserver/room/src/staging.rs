//! Events of other servers: staged on disk, acknowledged, merged by the room's worker.
//!
//! Must not decide about events: a transaction is answered when its rows are on disk.

mod volume;
mod waiting;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use bytes::Bytes;
use futures_util::future::{join, try_join, try_join_all};
use ruma::{MilliSecondsSinceUnixEpoch, OwnedEventId, OwnedRoomId, OwnedServerName, RoomId, ServerName, UInt};
use tracing::Instrument as _;
use weft_dag::{RoomVersion, Unchecked, Verified};
use weft_ingest::{
    Ingest, IngestReport, Portion, Staged, Want,
    state_reset::resets,
    unconfirmed::{UnconfirmedExtremities, unconfirmed_extremities},
};
use weft_room_api::{Lacks, LimitExceeded, RoomCommand, RoomError, Unavailable};
use weft_store::{
    Batch, CommitError,
    tables::rooms::{STAGED_ROOMS, STAGING, StagedMark, StagedRow},
};
use weft_wire::limits::{MAX_STAGED_EVENTS_PER_ROOM, STAGING_RETRY_SECONDS};

use crate::{
    Rooms,
    mailbox::{LocalCommand, LocalReply},
    merge::merge_session::MergeSession,
    pending_commit::PendingCommit,
    registry::Shared,
    worker::Worker,
};

/// Staged events of one portion: commands in the mailbox are handled before the next one.
pub(crate) const EVENTS_PER_COMMIT: usize = 50;
/// The delay before waiting events are retried.
const TRY_AGAIN_AFTER: Duration = Duration::from_secs(30);
/// Attempts to stage if another transaction uses the same row numbers concurrently.
const MAX_ATTEMPTS: u32 = 8;

pub(crate) use self::{volume::StagedBytes, waiting::Waiting};

impl Rooms {
    /// Stages events durably; the workers of their rooms check and merge them afterwards. Events of rooms that no user
    /// of this server is in are dropped. Returns the events that are not staged, because too many wait already: they are
    /// fetched when a later event references them.
    ///
    /// # Errors
    /// When the store fails, or the server has sent too much that waits: nothing is staged then.
    pub async fn receive(&self, origin: &ServerName, events: Vec<Verified>) -> Result<Vec<OwnedEventId>, RoomError> {
        let mut by_room: ByRoom = BTreeMap::new();
        let received_at = self.shared.clock.now().get().into();
        for event in events {
            let row = StagedRow {
                origin: origin.to_owned(),
                received_at,
                redacted: event.redacted_on_receipt(),
                json: Bytes::copy_from_slice(event.pdu().json().as_bytes()),
            };
            let rows = by_room.entry(event.pdu().room_id().to_owned()).or_default();
            rows.push((event.pdu().event_id().to_owned(), row));
        }
        let marks = self.keep_ours(origin, &mut by_room).await?;
        let mut refused = self.limit_bytes(origin, &mut by_room).await?;
        refused.extend(self.stage(&by_room, marks).await?);
        for (room, rows) in &by_room {
            self.shared.staged.note(room, origin, bytes_of(rows));
        }
        #[cfg(debug_assertions)]
        fail::fail_point!("room::staged");
        for room in by_room.into_keys() {
            let rooms = self.clone();
            // This may wait for a full mailbox; the transaction is answered meanwhile, its rows are on disk.
            let ingest = async move {
                if let Err(error) = rooms.call::<()>(&room, RoomCommand::Ingest).await {
                    tracing::debug!(%room, %error, "staged events stay until the next start");
                }
            };
            tokio::spawn(ingest.in_current_span());
        }
        Ok(refused)
    }

    /// Removes the events of rooms without a user of this server, and returns the marks of the others' staged rows.
    async fn keep_ours(&self, origin: &ServerName, by_room: &mut ByRoom) -> Result<Marks, Unavailable> {
        let ours = self.shared.identity.server_name();
        let reads = by_room
            .keys()
            .map(|room| try_join(self.mark(room), self.shared.reader.has_server(room, ours)));
        let found = try_join_all(reads.collect::<Vec<_>>()).await?;
        let mut marks = Marks::new();
        for (room, (mark, is_here)) in by_room.keys().zip(found) {
            if is_here {
                marks.insert(room.clone(), mark);
            } else {
                tracing::debug!(%room, %origin, "events of a room without a user of this server are dropped");
            }
        }
        by_room.retain(|room, _| marks.contains_key(room));
        Ok(marks)
    }

    /// The mark of a room's staged rows.
    async fn mark(&self, room: &RoomId) -> Result<Option<StagedMark>, Unavailable> {
        Ok(self.shared.store.get(&STAGED_ROOMS, &(room,)).await?)
    }

    /// Removes the newest events of rooms in which too many bytes of all servers wait, and returns them.
    async fn limit_bytes(&self, origin: &ServerName, by_room: &mut ByRoom) -> Result<Vec<OwnedEventId>, RoomError> {
        let Shared { staged, store, .. } = &*self.shared;
        let mut refused = Vec::new();
        for (room, rows) in by_room {
            let bytes = bytes_of(rows);
            let left = staged.left(store, room, origin, bytes).await?;
            if left.server < bytes {
                let exhausted = staged.budget().refuse(staged.limit_of_server());
                tracing::warn!(
                    event = "room.staging_full", %room, %origin,
                    "too many staged bytes; the transaction is refused"
                );
                return Err(RoomError::LimitExceeded(LimitExceeded {
                    budget: exhausted.name.into(),
                    limit: exhausted.limit,
                    retry_after: Duration::from_secs(STAGING_RETRY_SECONDS),
                }));
            }
            let mut used = 0;
            let fits = rows.iter().take_while(|(_, row)| {
                used += row.json.len() as u64;
                used <= left.all
            });
            let fits = fits.count();
            if fits < rows.len() {
                staged.budget().refuse(staged.budget().limit());
                tracing::warn!(
                    event = "room.staged_refused", %room, refused = rows.len() - fits,
                    "too many staged bytes; the newest are refused"
                );
                refused.extend(rows.drain(fits..).map(|(id, _)| id));
            }
        }
        Ok(refused)
    }

    /// Returns the events that are not staged. `marks` were just read.
    async fn stage(&self, by_room: &ByRoom, mut marks: Marks) -> Result<Vec<OwnedEventId>, Unavailable> {
        let mut attempts = 0;
        loop {
            let mut batch = Batch::new();
            let mut refused = Vec::new();
            for (room, rows) in by_room {
                let mark = match marks.remove(room) {
                    Some(mark) => mark,
                    None => self.mark(room).await?,
                };
                let taken = self.stage_room(&mut batch, room, rows, mark).await?;
                refused.extend(rows.iter().skip(taken).map(|(id, _)| id.clone()));
            }
            if batch.is_empty() {
                return Ok(refused);
            }
            attempts += 1;
            #[cfg(debug_assertions)]
            fail::fail_point!("room::before_staging");
            match self.shared.store.commit(batch).await {
                Err(CommitError::Fence { .. }) if attempts < MAX_ATTEMPTS => {}
                result => return Ok(result.map(|()| refused)?),
            }
        }
    }

    /// Returns the number of staged rows.
    async fn stage_room(
        &self,
        batch: &mut Batch,
        room: &RoomId,
        rows: &[(OwnedEventId, StagedRow)],
        known: Option<StagedMark>,
    ) -> Result<usize, Unavailable> {
        let store = &self.shared.store;
        let mut mark = known.unwrap_or_default();
        if rows.len() > space_left(mark) {
            // Some rows below the mark may be merged by now.
            let first = store.scan(STAGING.under(&(room,)).limit(1)).await?;
            mark.from = first.first().map_or(mark.next, |((_, number), _)| *number);
        }
        let taken = rows.len().min(space_left(mark));
        if taken < rows.len() {
            tracing::warn!(
                event = "room.staged_refused", %room, refused = rows.len() - taken,
                "too many staged events; the newest are refused"
            );
        }
        if taken == 0 {
            return Ok(0);
        }
        for (_, row) in rows.iter().take(taken) {
            batch.require(&STAGING, &(room, mark.next), None);
            batch.put(&STAGING, &(room, mark.next), row);
            mark.next = mark.next.saturating_add(1);
        }
        batch.require(&STAGED_ROOMS, &(room,), known.as_ref());
        batch.put(&STAGED_ROOMS, &(room,), &mark);
        Ok(taken)
    }
}

/// Rows to stage, with the ids of their events.
type ByRoom = BTreeMap<OwnedRoomId, Vec<(OwnedEventId, StagedRow)>>;

/// The marks of rooms with rows to stage; `None`: nothing is staged there.
type Marks = BTreeMap<OwnedRoomId, Option<StagedMark>>;

fn bytes_of(rows: &[(OwnedEventId, StagedRow)]) -> u64 {
    rows.iter().map(|(_, row)| row.json.len() as u64).sum()
}

/// How many more rows may be staged, if all rows that the mark counts are still waiting.
fn space_left(mark: StagedMark) -> usize {
    let waiting = usize::try_from(mark.next.saturating_sub(mark.from)).unwrap_or(usize::MAX);
    MAX_STAGED_EVENTS_PER_ROOM.saturating_sub(waiting)
}

type StagedRows = Vec<((OwnedRoomId, u64), StagedRow)>;

/// A pass over the staged rows, portion by portion.
#[derive(Debug)]
pub(crate) struct Pass {
    /// The row after which it began, and the last row that was read.
    first: u64,
    after: u64,
    /// Rows that wait for something.
    waiting: usize,
    /// The room's mark when the pass began.
    mark: Option<StagedMark>,
    /// The first portion of rows, read together with the mark.
    rows: Option<StagedRows>,
    /// Events of these rows; their descendants wait as well. At most as many as are staged.
    stuck: BTreeSet<OwnedEventId>,
}

/// The ingest work of a worker, between the commands in the mailbox. Lost with the worker: the next one finds the rows
/// again.
#[derive(Debug, Default)]
pub(crate) struct IngestQueue {
    pass: Option<Pass>,
    /// Something was staged, or a timer fired, after the pass had begun: rows that the pass has left behind may wait
    /// for it.
    again: bool,
    /// The first row that the next pass reads in any case.
    resume: Option<u64>,
}

impl IngestQueue {
    /// Whether a portion remains.
    pub(crate) fn is_under_way(&self) -> bool {
        self.pass.is_some()
    }

    /// Stops: the rows stay for the next start.
    pub(crate) fn stop(&mut self) {
        *self = Self::default();
    }
}

/// The result of a portion.
struct Left {
    /// The last row that was read; `None` if there was none.
    last: Option<u64>,
    /// There may be rows after it.
    more: bool,
    /// Rows that wait for something.
    waiting: usize,
}

impl Left {
    fn nothing() -> Self {
        Self {
            last: None,
            more: false,
            waiting: 0,
        }
    }
}

impl Worker {
    /// Merges staged events: a first portion now, the others between later commands.
    pub(crate) async fn ingest(&mut self, commit: &mut PendingCommit, resume: Option<u64>) {
        self.ingest_queue.resume = match (self.ingest_queue.resume, resume) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
        if self.ingest_queue.is_under_way() {
            self.ingest_queue.again = true;
            return;
        }
        self.begin_pass(commit).await;
    }

    async fn begin_pass(&mut self, commit: &mut PendingCommit) {
        // The turn so far may delete staged rows.
        self.fresh(commit).await;
        let unstaged = match self.open().await {
            Ok(Some(active)) => active.unstaged,
            Ok(None) => return,
            Err(error) => {
                tracing::error!(
                    event = "room.merge_failed", room = %self.room, %error,
                    "staged events can't be merged"
                );
                return self.ingest_later();
            }
        };
        let first = self.waiting.begin(self.ingest_queue.resume.take());
        let after = first.max(unstaged);
        let key = (&self.room,);
        let mark = self.shared.store.get(&STAGED_ROOMS, &key);
        // Rows that are staged in between remain after the pass, and then the mark stays ([`Worker::unmark`]).
        let (mark, rows) = join(mark, self.staged_rows(after)).await;
        self.ingest_queue.pass = Some(Pass {
            first,
            after,
            waiting: 0,
            mark: mark.unwrap_or_default(),
            // If they can't be read, the portion tries again and reports it.
            rows: rows.ok(),
            stuck: BTreeSet::new(),
        });
        self.ingest_portion(commit).await;
    }

    /// Merges one portion, and ends the pass after the last one.
    pub(crate) async fn ingest_portion(&mut self, commit: &mut PendingCommit) {
        let Some(mut pass) = self.ingest_queue.pass.take() else {
            return;
        };
        // Pending edits are sealed before events of other servers are merged.
        self.seal(commit);
        self.witness_if_due(commit).await;
        self.fresh(commit).await;
        let left = match Box::pin(self.ingest_some(commit, pass.after, pass.rows.take(), &mut pass.stuck)).await {
            Ok(left) => left,
            Err(error) => {
                tracing::error!(
                    event = "room.merge_failed", room = %self.room, %error,
                    "staged events can't be merged"
                );
                commit.abandon();
                self.ingest_queue.stop();
                return self.ingest_later();
            }
        };
        pass.after = left.last.unwrap_or(pass.after);
        pass.waiting += left.waiting;
        if left.more {
            self.ingest_queue.pass = Some(pass);
            return;
        }
        self.fresh(commit).await;
        if self.waiting.end(pass.first, pass.after, pass.waiting) {
            self.ingest_later();
        } else if let Some(mark) = pass.mark {
            self.unmark(mark).await;
        }
        if std::mem::take(&mut self.ingest_queue.again) {
            Box::pin(self.begin_pass(commit)).await;
        }
    }

    /// Removes the mark if nothing is staged, unless rows were staged since `mark` was read: then the mark stays,
    /// because those rows must be found after a crash. In a separate batch, so that its fence can't fail another
    /// commit.
    async fn unmark(&mut self, mark: StagedMark) {
        let unstaged = self.active.as_ref().map_or(0, |active| active.unstaged);
        let query = STAGING.under(&(&self.room,)).after(&(&self.room, unstaged));
        let left = self.shared.store.scan(query.limit(1)).await;
        if left.map_or(true, |rows| !rows.is_empty()) {
            // A turn of this pass could not be committed, or more was staged.
            return self.ingest_later();
        }
        let mut batch = Batch::new();
        batch.require(&STAGED_ROOMS, &(&self.room,), Some(&mark));
        batch.delete(&STAGED_ROOMS, &(&self.room,));
        match self.shared.store.commit(batch).await {
            // Row numbers start again.
            Ok(()) => self.active.iter_mut().for_each(|active| active.unstaged = 0),
            Err(CommitError::Fence { .. }) => {}
            Err(error) => tracing::debug!(room = %self.room, %error, "the mark of staged events could not be removed"),
        }
    }

    /// Commits the turn and begins another.
    pub(crate) async fn fresh(&mut self, commit: &mut PendingCommit) {
        let next = PendingCommit::new(&self.room, self.shared.clock.now());
        self.commit(std::mem::replace(commit, next)).await;
    }

    /// Retries waiting events after a while. One timer per room, however often it is requested.
    fn ingest_later(&mut self) {
        let Some(due) = self.waiting.timer() else { return };
        let (shared, room) = (std::sync::Arc::clone(&self.shared), self.room.clone());
        tokio::spawn(async move {
            tokio::time::sleep(TRY_AGAIN_AFTER).await;
            due.fire();
            // If the server is stopping: the rows wait for the next start.
            let _ = shared.send(&room, LocalCommand::Ingest).await;
        });
    }

    /// The staged rows after one, for one portion.
    async fn staged_rows(&self, after: u64) -> Result<StagedRows, Unavailable> {
        let query = STAGING.under(&(&self.room,)).after(&(&self.room, after));
        Ok(self.shared.store.scan(query.limit(EVENTS_PER_COMMIT)).await?)
    }

    async fn ingest_some(
        &mut self,
        commit: &mut PendingCommit,
        after: u64,
        rows: Option<StagedRows>,
        stuck: &mut BTreeSet<OwnedEventId>,
    ) -> Result<Left, Unavailable> {
        let rows = match rows {
            Some(rows) => rows,
            None => self.staged_rows(after).await?,
        };
        let last = rows.last().map(|((_, number), _)| *number);
        let more = rows.len() == EVENTS_PER_COMMIT;
        if rows.is_empty() || self.open().await?.is_none() {
            return Ok(Left::nothing());
        }
        let shared = std::sync::Arc::clone(&self.shared);
        let Some(active) = self.active.as_mut() else {
            return Ok(Left::nothing());
        };
        let ours = shared.identity.server_name();
        let (staged, unreadable) = read_rows(rows, &active.version);
        let now = commit.now;
        let mut session = MergeSession::new(active, commit, &shared.reader, ours).await?;
        session.unstage(unreadable);
        #[cfg(debug_assertions)]
        fail::fail_point!("room::drain_begun");
        let span = tracing::debug_span!("merge_batch", room = %self.room, events = staged.len());
        let report = Ingest::new(&mut session, now)
            .run(staged, stuck)
            .instrument(span)
            .await?;
        let taken = Merged::of(&mut session, report).await?;
        let waiting = taken.waiting;
        if waiting == 0 && after <= active.unstaged {
            active.unstaged = last.unwrap_or(active.unstaged);
        }
        self.follow_up(taken, commit).await?;
        Ok(Left { last, more, waiting })
    }

    /// Merges a portion of the fetched events.
    pub(crate) async fn merge(&mut self, portion: Portion, commit: &mut PendingCommit, reply: LocalReply<Vec<Lacks>>) {
        if let Err(error) = self.open().await {
            reply.send(Err(error));
            return;
        }
        if !portion.events.is_empty() {
            self.seal(commit);
            self.witness_if_due(commit).await;
        }
        self.fresh(commit).await;
        match Box::pin(self.merge_some(portion, commit)).await {
            Ok(lacks) => commit.answer(reply, lacks),
            Err(error) => {
                commit.abandon();
                reply.send(Err(error));
            }
        }
    }

    async fn merge_some(&mut self, portion: Portion, commit: &mut PendingCommit) -> Result<Vec<Lacks>, Unavailable> {
        if self.open().await?.is_none() {
            return Ok(Vec::new());
        }
        let shared = std::sync::Arc::clone(&self.shared);
        let Some(active) = self.active.as_mut() else {
            return Ok(Vec::new());
        };
        let now = commit.now;
        let mut session = MergeSession::new(active, commit, &shared.reader, shared.identity.server_name()).await?;
        let gap = portion.gap.clone();
        let span = tracing::debug_span!("merge_batch", room = %self.room, events = portion.events.len());
        let mut report = Ingest::new(&mut session, now).place(portion).instrument(span).await?;
        if let Some(server) = gap.filter(|_| report.appended > 0) {
            // The gap was filled with a state, not with the events: these are backfilled.
            session.note_gap(&server);
        }
        let lacks = std::mem::take(&mut report.lacks);
        let taken = Merged::of(&mut session, report).await?;
        self.follow_up(taken, commit).await?;
        Ok(lacks)
    }

    /// The steps after events of other servers were merged, in the same turn.
    async fn follow_up(&mut self, taken: Merged, commit: &mut PendingCommit) -> Result<(), Unavailable> {
        commit.wants.extend(taken.wants);
        self.resend_resets(&taken.resets, commit).await?;
        if taken.appended > 0 {
            self.reconcile(&taken.unconfirmed_extremities, commit).await?;
        }
        Ok(())
    }
}

/// The result of merging a number of events.
struct Merged {
    appended: usize,
    waiting: usize,
    wants: Vec<Want>,
    unconfirmed_extremities: UnconfirmedExtremities,
    resets: Vec<std::sync::Arc<weft_dag::Pdu>>,
}

impl Merged {
    async fn of(session: &mut MergeSession<'_>, report: IngestReport) -> Result<Self, Unavailable> {
        #[cfg(debug_assertions)]
        fail::fail_point!("room::drained");
        session.unstage(report.done);
        let unconfirmed_extremities = if session.has_text() && report.appended > 0 {
            unconfirmed_extremities(session).await?
        } else {
            UnconfirmedExtremities::default()
        };
        Ok(Self {
            appended: report.appended,
            waiting: report.waiting.len(),
            wants: report.wants,
            unconfirmed_extremities,
            resets: resets(session, &session.state_resets).await?,
        })
    }
}

/// Staged rows as events, and the numbers of unreadable ones.
fn read_rows(rows: Vec<((OwnedRoomId, u64), StagedRow)>, version: &RoomVersion) -> (Vec<Staged>, Vec<u64>) {
    let (mut staged, mut unreadable) = (Vec::new(), Vec::new());
    for ((room, number), row) in rows {
        match read_row(row, version) {
            Some((origin, received_at, event)) => staged.push(Staged {
                number,
                origin,
                received_at,
                event,
            }),
            None => {
                tracing::error!(
                    event = "room.staged_unreadable", %room, number,
                    "a staged event can't be read and is dropped"
                );
                unreadable.push(number);
            }
        }
    }
    (staged, unreadable)
}

pub(crate) fn read_row(
    row: StagedRow,
    version: &RoomVersion,
) -> Option<(OwnedServerName, MilliSecondsSinceUnixEpoch, Verified)> {
    let json = std::str::from_utf8(&row.json).ok()?;
    let id = Unchecked::parse(json, version).ok()?.event_id().to_owned();
    let event = Verified::from_trusted_json(json, id, version, row.redacted).ok()?;
    Some((
        row.origin,
        MilliSecondsSinceUnixEpoch(UInt::try_from(row.received_at).ok()?),
        event,
    ))
}

#[cfg(test)]
mod tests {
    use weft_wire::limits::MAX_STAGED_EVENTS_PER_ROOM;

    use super::{StagedMark, space_left};

    #[test]
    fn the_limit_of_waiting_rows_holds_and_no_mark_overflows_the_count() {
        let all = MAX_STAGED_EVENTS_PER_ROOM;
        let next = |waiting: usize| u64::try_from(waiting).unwrap() + 1;
        assert_eq!(space_left(StagedMark::default()), all);
        assert_eq!(
            space_left(StagedMark {
                from: 1,
                next: next(50)
            }),
            all - 50
        );
        assert_eq!(
            space_left(StagedMark {
                from: 1,
                next: next(all)
            }),
            0
        );
        assert_eq!(
            space_left(StagedMark {
                from: 1,
                next: u64::MAX
            }),
            0
        );
        assert_eq!(space_left(StagedMark { from: 151, next: 101 }), all);
    }
}
