//! Backfill. A room that was joined through another server has remote (unverified) state and text. This module fetches
//! all events since the room's creation, has them checked against the authorisation rules and persisted, and then the
//! text is worked out from them alone. Until then the remote text is used.
//!
//! The events are requested newest first and decided oldest first; meanwhile they are on disk ([`fetched`]), so memory
//! does not depend on their number, and a run continues where the last one ended. Runs separately from the room's
//! worker, which accepts the events in portions, so that editing users need not wait.

mod fetched;
mod fetched_bytes;
mod merge;
mod request;

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use ruma::{OwnedEventId, RoomId, ServerName};
use tokio::{sync::watch, time::timeout};
use weft_dag::{RoomVersion, Verified};
use weft_jobs::Outcome;
use weft_room_api::Unavailable;
use weft_store::tables::rooms::{INCOMPLETE_ROOMS, NOTHING_MISSING};

pub(crate) use self::fetched_bytes::FetchedBytes;
use self::{
    fetched::{Charges, FetchedEvents},
    request::Fetched,
};
use crate::{Rooms, background::Outward, jobs::RoomJob, mailbox::LocalCommand, pruned};

/// The delay before a server that could not be reached is tried again.
pub(crate) const TRY_AGAIN_AFTER: Duration = Duration::from_secs(60);
/// The delay before the next attempt if a new gap was left, or if others may return what one server did not.
const NEXT_GAP_AFTER: Duration = Duration::from_secs(1);
/// Failed attempts before a long pause.
const MAX_ATTEMPTS: usize = 20;
/// That pause.
const REST_AFTER_FAILURES: Duration = Duration::from_secs(6 * 60 * 60);
/// The longest time of one attempt; what it has fetched is kept.
pub(crate) const RUN_TIMEOUT: Duration = Duration::from_secs(30 * 60);

/// One run of the job of a room.
pub(crate) async fn run(out: &Outward, room: &RoomId, failures: u32) -> Outcome {
    let (histories, failures) = (&out.tasks.histories, usize::try_from(failures).unwrap_or(usize::MAX));
    histories.begin(room);
    histories.look(room);
    let moved = AtomicBool::new(false);
    let progress = timeout(RUN_TIMEOUT, Box::pin(complete(out, room, failures, &moved))).await;
    let reason = match progress {
        Ok(Ok(Progress::All)) if histories.finish(room) => return Outcome::Done,
        // It was requested again.
        Ok(Ok(Progress::All) | Err(Unavailable::Stopping)) => return Outcome::Again { after: Duration::ZERO },
        Ok(Ok(Progress::More)) | Err(_) if moved.load(Ordering::Relaxed) => {
            return Outcome::Again { after: NEXT_GAP_AFTER };
        }
        Ok(Ok(Progress::Dropped)) => {
            histories.abandon(room);
            return Outcome::Again {
                after: REST_AFTER_FAILURES,
            };
        }
        Ok(Ok(Progress::More | Progress::NotNow)) => "no server returned the events".to_owned(),
        Ok(Err(error)) => error.to_string(),
        Err(_) => "the events did not arrive in time".to_owned(),
    };
    if failures < MAX_ATTEMPTS {
        return Outcome::Failed { reason };
    }
    // Clients no longer wait for it.
    histories.abandon(room);
    Outcome::Again {
        after: REST_AFTER_FAILURES,
    }
}

/// A backfill that is in progress.
#[derive(Debug)]
pub struct ComingHistory(watch::Receiver<()>);

impl ComingHistory {
    /// Waits until it is complete or abandoned for now.
    pub async fn over(mut self) {
        // No value is ever sent: an error means that the sender was dropped.
        while self.0.changed().await.is_ok() {}
    }
}

impl Rooms {
    /// The backfill of the room, if one is in progress. Until it is over, the persisted events may have gaps.
    #[must_use]
    pub fn coming_history(&self, room: &RoomId) -> Option<ComingHistory> {
        self.tasks.histories.ended(room).map(ComingHistory)
    }

    /// At start: records which backfills are in progress; their jobs continue by themselves.
    pub(crate) async fn note_coming_histories(&self) -> Result<(), Unavailable> {
        let rooms = RoomJob::History.rooms(&self.shared).await?;
        for room in &rooms {
            self.tasks.histories.begin(room);
        }
        // The jobs run already. One that ended while they were read does not end what was begun after it, and clients would
        // wait for it without end. A job that ends has completed the room before.
        let left = RoomJob::History.rooms(&self.shared).await?;
        let keys = rooms.iter().map(|room| (room,));
        let incomplete = self.shared.store.get_many(&INCOMPLETE_ROOMS, keys).await?;
        for (room, incomplete) in rooms.iter().zip(incomplete) {
            if incomplete.is_none() || !left.contains(room) {
                self.tasks.histories.abandon(room);
            }
        }
        Ok(())
    }
}

/// The progress of a backfill.
enum Progress {
    /// All events are here, or the backfill is abandoned.
    All,
    /// Something was fetched or decided, and other events are missing: they were referenced meanwhile, or the servers
    /// that were asked do not return them.
    More,
    /// Not available at present.
    NotNow,
    /// The fetched events of all rooms exceeded their limit, and this room had the most: they are deleted.
    Dropped,
}

/// An event of a portion that could not be decided.
#[derive(Debug, Clone)]
pub(crate) struct UndecidedEvent {
    pub(crate) id: OwnedEventId,
    /// The auth events that are missing. Empty: nothing that could be fetched is missing.
    pub(crate) lacks: Vec<OwnedEventId>,
}

/// Fetches the missing events and has the worker decide about them.
async fn complete(out: &Outward, room: &RoomId, attempt: usize, moved: &AtomicBool) -> Result<Progress, Unavailable> {
    let shared = &out.shared;
    let Some(from) = shared.store.get(&INCOMPLETE_ROOMS, &(room,)).await? else {
        return Ok(Progress::All);
    };
    let Some(version) = shared.reader.version(room).await? else {
        return Ok(Progress::All);
    };
    let limit = shared.config.fetched_history_bytes_per_room;
    let mut fetched = FetchedEvents::open(&shared.store, (room, &version), &out.tasks.fetched_bytes).await?;
    if fetched.exceeds(limit) {
        return Ok(Progress::All);
    }
    if !fetched.is_any_missing().await? && !shared.store.contains(&NOTHING_MISSING, &(room,)).await? {
        // Rows of an older version of this program do not say what is missing: the worker finds it out.
        send_portion(out, room, Vec::new()).await?;
    }
    let from = ServerName::parse(from).map_err(|error| Unavailable::Damaged(error.to_string()))?;
    fetched.find_wanted().await?;
    let request = request::Request {
        out,
        room,
        version: &version,
        attempt,
        moved,
    };
    let is_whole = match request.all(&mut fetched, from).await? {
        Fetched::All => true,
        Fetched::NotNow | Fetched::Full => false,
        // Another attempt would cost the other server as much, with the same result.
        Fetched::TooMany => {
            fetched.clear(Some(limit)).await?;
            return Ok(Progress::All);
        }
    };
    decide_ready(out, (room, &version), &mut fetched, moved).await?;
    if fetched.is_any_missing().await? {
        report(room, &fetched, is_whole);
        if out.tasks.fetched_bytes.is_to_be_dropped(room) {
            fetched.clear(None).await?;
            return Ok(Progress::Dropped);
        }
        return Ok(if moved.load(Ordering::Relaxed) {
            Progress::More
        } else {
            Progress::NotNow
        });
    }
    fetched.clear(None).await?;
    match shared.ask(room, LocalCommand::WorkOut).await {
        // The worker lost the room from memory meanwhile, or too many events arrived: the next attempt fetches nothing.
        Err(Unavailable::Interrupted) => {}
        worked_out => worked_out?,
    }
    moved.store(true, Ordering::Relaxed);
    let left = shared.store.get(&INCOMPLETE_ROOMS, &(room,)).await?;
    Ok(if left.is_some() { Progress::More } else { Progress::All })
}

/// Has the worker decide about the fetched events whose ancestors are decided, oldest first.
async fn decide_ready(
    out: &Outward,
    (room, version): (&RoomId, &RoomVersion),
    fetched: &mut FetchedEvents<'_>,
    moved: &AtomicBool,
) -> Result<(), Unavailable> {
    if fetched.count() > 0 {
        tracing::info!(%room, events = fetched.count(), "fetched events of a room's history are decided");
    }
    loop {
        let mut portion = fetched.portion().await?;
        if portion.is_empty() {
            return Ok(());
        }
        let charges = Charges::of(&portion);
        pruned::fill(out, room, version, &mut portion).await?;
        let undecided = send_portion(out, room, portion).await?;
        if fetched.settle(charges, undecided).await? > 0 {
            moved.store(true, Ordering::Relaxed);
        }
    }
}

/// Logs what is left of a history after a run.
fn report(room: &RoomId, fetched: &FetchedEvents<'_>, is_whole: bool) {
    let (waiting, undecidable) = (fetched.count(), fetched.stuck());
    if is_whole && waiting > 0 {
        tracing::warn!(
            event = "room.history_undecided", %room, waiting, undecidable,
            "events of a room's history can't be decided; those after them wait"
        );
    } else {
        tracing::info!(%room, waiting, undecidable, "a room's history is not available");
    }
}

async fn send_portion(out: &Outward, room: &RoomId, events: Vec<Verified>) -> Result<Vec<UndecidedEvent>, Unavailable> {
    out.shared.ask(room, |reply| LocalCommand::History(events, reply)).await
}
