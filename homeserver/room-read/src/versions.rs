//! The versions of a document on this server: what each of them added, the text at each of them, and the version of a time.
//!
//! The text at a version is the nearest checkpoint at or before it and the events and journal rows after it, cut to the
//! state vector and the delete set that the version had. The cost follows the size of the document and the distance to the
//! checkpoint, not the length of the history. Must not decide who may see a version, and must not write.

mod heads;
pub mod steps;
mod text;

use ruma::{OwnedEventId, OwnedRoomId, OwnedUserId, RoomId};
use weft_convergence::rebuild::claim_of;
use weft_dag::Pdu;
use weft_room_api::{RoomError, Unavailable};
use weft_store::tables::documents::{
    CHECKPOINTS, JOURNAL, JournalRow, VERSION_OF, VERSIONS, VERSIONS_FROM, VersionRow,
};

use self::steps::Step;
pub use self::text::{Undone, UndoneText};
use crate::{Reader, damaged};

/// Rows of the index that are read at most to find the event of a version: those of one seal, in which the versions of
/// several authors alternate.
const ROWS_OF_A_SEAL: usize = 256;
/// Rows that are read first: mostly one of them has the version.
const NEAREST_ROWS: usize = 8;

/// What the versions of one event added.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventSteps {
    /// The event; `None` for an edit that is not signed yet.
    pub event: Option<OwnedEventId>,
    /// The author.
    pub author: OwnedUserId,
    /// In the order of their versions, which other events may have versions between.
    pub steps: Vec<Step>,
}

/// Where a version is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VersionPlace {
    /// Before anything was written.
    Empty,
    /// Added by this event.
    Event(OwnedEventId),
    /// Added by an edit that is not signed yet.
    Journal,
    /// The text of these events, which was worked out from all of them.
    Heads(Vec<OwnedEventId>),
}

impl EventSteps {
    /// What the update of an event has, as one step without a version; `None` if the event has none.
    #[must_use]
    pub fn of_event(event: &Pdu) -> Option<Self> {
        let claim = claim_of(event, 0)?;
        Some(Self {
            event: Some(event.event_id().to_owned()),
            author: claim.sender,
            steps: vec![Step::of(0, event.origin_server_ts().get().into(), &claim.update)],
        })
    }
}

impl Reader {
    /// The version from which on the versions of a document are known; `None` if none is.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn versions_from(&self, room: &RoomId) -> Result<Option<u64>, Unavailable> {
        let known = self.store.get(&VERSIONS_FROM, &(room,)).await?;
        Ok(match known {
            // Nothing was written yet.
            None if self.document_version(room).await? == 0 => Some(0),
            known => known,
        })
    }

    /// The first version that an event added to the document; `None` if it added nothing, or is older than the known
    /// versions.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn versions_of(&self, room: &RoomId, events: &[OwnedEventId]) -> Result<Vec<Option<u64>>, Unavailable> {
        let keys = events.iter().map(|event| (room, event));
        Ok(self.store.get_many(&VERSION_OF, keys).await?)
    }

    /// What the versions from `from` up to and including `to` added, by event; then what is in the journal, by edit.
    /// Events with the first version first. Linear in what is between.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn steps_between(&self, room: &RoomId, from: u64, to: u64) -> Result<Vec<EventSteps>, Unavailable> {
        // The journal first: what is sealed meanwhile is in the index then.
        let journal = self.edits_in_journal(room).await?;
        let query = VERSIONS.under(&(room,)).from(&(room, from)).through(&(room, to));
        let rows = self.store.scan_all(query).await?;
        // An event that began before `from` may have later versions.
        let mut begun = match from.checked_sub(1) {
            Some(before) => self.rows_up_to(room, before, NEAREST_ROWS).await?,
            None => Vec::new(),
        };
        begun.reverse();
        let mut found = Vec::with_capacity(rows.len() + journal.len());
        for ((_, first, event), row) in begun.into_iter().chain(rows) {
            found.push(event_steps(room, first, event, row)?);
        }
        found.extend(journal);
        for one in &mut found {
            one.steps.retain(|step| (from..=to).contains(&step.version));
        }
        found.retain(|one| !one.steps.is_empty());
        Ok(found)
    }

    /// What the edits that are not signed yet added.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn edits_in_journal(&self, room: &RoomId) -> Result<Vec<EventSteps>, Unavailable> {
        let journal = self.journal(room).await?;
        let known = self.versions_from(room).await?.unwrap_or(0);
        let edits = journal.into_iter();
        edits
            .map(|(number, row)| edit_steps(room, number.max(known), row))
            .collect()
    }

    /// What each of these events added; `None` if it added nothing, or is older than the known versions.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn steps_of(
        &self,
        room: &RoomId,
        events: &[OwnedEventId],
    ) -> Result<Vec<Option<EventSteps>>, Unavailable> {
        let firsts = self.versions_of(room, events).await?;
        let known: Vec<(u64, &OwnedEventId)> = firsts
            .iter()
            .zip(events)
            .filter_map(|(first, event)| Some(((*first)?, event)))
            .collect();
        let rows = self
            .store
            .get_many(&VERSIONS, known.iter().map(|(first, event)| (room, *first, *event)))
            .await?;
        let mut rows = known.into_iter().zip(rows);
        let mut found = Vec::with_capacity(events.len());
        for first in firsts {
            let row = first.and_then(|_| rows.next());
            let row = row.and_then(|((first, event), row)| Some((first, event, row?)));
            found.push(match row {
                Some((first, event, row)) => Some(event_steps(room, first, event.clone(), row)?),
                None => None,
            });
        }
        Ok(found)
    }

    async fn journal(&self, room: &RoomId) -> Result<Vec<(u64, JournalRow)>, Unavailable> {
        let rows = self.store.scan_all(JOURNAL.under(&(room,))).await?;
        Ok(rows.into_iter().map(|((_, number), row)| (number, row)).collect())
    }

    /// Which event added a version; `None` if this server does not have the version, or not in its index.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn place_of_version(&self, room: &RoomId, version: u64) -> Result<Option<VersionPlace>, RoomError> {
        let (Some(from), now) = (self.versions_from(room).await?, self.document_version(room).await?) else {
            return Ok(None);
        };
        if version > now || version < from {
            return Ok(None);
        }
        if version == 0 {
            return Ok(Some(VersionPlace::Empty));
        }
        let journal = self.journal(room).await?;
        if let Some(event) = self.event_of_version(room, version).await? {
            return Ok(Some(VersionPlace::Event(event)));
        }
        if journal.iter().any(|(number, _)| (*number).max(from) == version) {
            return Ok(Some(VersionPlace::Journal));
        }
        let checkpoint = self.store.get(&CHECKPOINTS, &(room, version)).await?;
        Ok(checkpoint.map(|row| VersionPlace::Heads(row.heads)))
    }

    /// The event whose steps have this version.
    async fn event_of_version(&self, room: &RoomId, version: u64) -> Result<Option<OwnedEventId>, Unavailable> {
        for limit in [NEAREST_ROWS, ROWS_OF_A_SEAL] {
            for ((_, first, event), row) in self.rows_up_to(room, version, limit).await? {
                let found = event_steps(room, first, event, row)?;
                if found.steps.iter().any(|step| step.version == version) {
                    return Ok(found.event);
                }
            }
        }
        Ok(None)
    }

    /// The newest rows of the index whose first version is at most this one, the newest first.
    async fn rows_up_to(
        &self,
        room: &RoomId,
        version: u64,
        limit: usize,
    ) -> Result<Vec<((OwnedRoomId, u64, OwnedEventId), VersionRow)>, Unavailable> {
        let query = VERSIONS.under(&(room,)).through(&(room, version)).reversed();
        Ok(self.store.scan(query.limit(limit)).await?)
    }

    /// The newest version that was made up to a time (milliseconds since 1970), in the order in which this server made
    /// them; `None` if it is older than the known versions.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn version_at(&self, room: &RoomId, time: u64) -> Result<Option<u64>, Unavailable> {
        let Some(from) = self.versions_from(room).await? else {
            return Ok(None);
        };
        let journal = self.journal(room).await?;
        let pending = journal.iter().filter(|(_, row)| row.at.is_some_and(|at| at <= time));
        if let Some((number, _)) = pending.last() {
            return Ok(Some((*number).max(from)));
        }
        // The times of the rows grow with their versions.
        let (mut low, mut high, mut found) = (from, self.document_version(room).await?.saturating_add(1), None);
        while low < high {
            let middle = low + (high - low) / 2;
            let query = VERSIONS.under(&(room,)).through(&(room, middle)).reversed().limit(1);
            let row = self.store.scan(query).await?.into_iter().next();
            match row {
                Some(((_, first, _), row)) if row.at > time => high = first,
                older => {
                    found = older.map(|((_, first, _), _)| first).or(found);
                    low = middle + 1;
                }
            }
        }
        let Some(first) = found else {
            // Nothing is as old. A document is empty before its first version.
            return Ok((from == 0).then_some(0));
        };
        let mut newest = None;
        for ((_, first, event), row) in self.rows_up_to(room, first, ROWS_OF_A_SEAL).await? {
            let steps = event_steps(room, first, event, row)?.steps;
            let last = steps
                .iter()
                .filter(|step| step.at <= time)
                .map(|step| step.version)
                .max();
            newest = newest.max(last);
        }
        Ok(newest)
    }
}

/// A row of the index.
fn event_steps(room: &RoomId, first: u64, event: OwnedEventId, row: VersionRow) -> Result<EventSteps, Unavailable> {
    let steps = steps::decode(first, row.at, &row.steps).map_err(|error| damaged(room, &error))?;
    Ok(EventSteps {
        event: Some(event),
        author: row.author,
        steps,
    })
}

/// A row of the journal.
fn edit_steps(room: &RoomId, version: u64, row: JournalRow) -> Result<EventSteps, Unavailable> {
    let update = weft_crdt::Update::parse(row.update).map_err(|error| damaged(room, &error))?;
    Ok(EventSteps {
        event: None,
        author: row.author,
        steps: vec![Step::of(version, row.at.unwrap_or(0), &update)],
    })
}
