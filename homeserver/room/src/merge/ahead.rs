//! Reads what the decisions about a number of events need, in one round trip to the store instead of several for each
//! event. Only this worker writes to the room, so what was read stays valid for the turn. Must not decide anything.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use futures_util::try_join;
use ruma::{EventId, OwnedEventId};
use weft_dag::{Pdu, lock::deciding_keys};
use weft_ingest::graph::Graph as _;
use weft_room_api::Unavailable;
use weft_store::tables::rooms::{EARLY_REDACTIONS, EVENT_GROUP, EventGroupRow};
use weft_wire::event_types;

use super::merge_session::MergeSession;

/// Events that are read at a time.
pub(super) const AT_ONCE: usize = 1_000;

/// What is known about events without reading again.
#[derive(Default)]
pub(super) struct Ahead {
    /// Events that were not here when the turn began.
    absent: HashSet<OwnedEventId>,
    /// The state groups of events; `None` for those that have none.
    groups: HashMap<OwnedEventId, Option<EventGroupRow>>,
    /// No redaction was here before its target when the turn began.
    pub(super) no_early_redactions: bool,
}

impl Ahead {
    /// Whether an event was not here when the turn began.
    pub(super) fn is_absent(&self, id: &EventId) -> bool {
        self.absent.contains(id)
    }

    /// The state groups of an event, if they were read.
    pub(super) fn groups(&self, id: &EventId) -> Option<Option<EventGroupRow>> {
        self.groups.get(id).copied()
    }
}

impl MergeSession<'_> {
    pub(super) async fn look_ahead(&mut self, events: &[Arc<Pdu>]) -> Result<(), Unavailable> {
        let wanted: Vec<OwnedEventId> = self.needed_by(events).into_iter().collect();
        let room = self.active.id.clone();
        let (reader, store) = (self.reader, self.reader.store());
        for ids in wanted.chunks(AT_ONCE) {
            let groups =
                async { Ok::<_, Unavailable>(store.get_many(&EVENT_GROUP, ids.iter().map(|id| (&room, id))).await?) };
            let early = async { Ok::<_, Unavailable>(store.scan(EARLY_REDACTIONS.under(&(&room,)).limit(1)).await?) };
            let (stored, groups, early) =
                try_join!(reader.stored_events(&room, &self.active.version, ids), groups, early)?;
            self.ahead.no_early_redactions = early.is_empty();
            self.ahead.absent.extend(ids.iter().cloned());
            for event in stored {
                let id = event.pdu.event_id().to_owned();
                self.ahead.absent.remove(&id);
                self.lock_read().insert(id, (event.pdu, event.flags));
            }
            self.ahead.groups.extend(ids.iter().cloned().zip(groups));
        }
        Ok(())
    }

    /// Reads events that were not read yet.
    pub(super) async fn read_rows(&self, ids: &[OwnedEventId]) -> Result<(), Unavailable> {
        let wanted: Vec<OwnedEventId> = {
            let read = self.lock_read();
            let is_known =
                |id: &OwnedEventId| self.placed.contains_key(id) || read.contains_key(id) || self.ahead.is_absent(id);
            ids.iter().filter(|id| !is_known(id)).cloned().collect()
        };
        // A single one is read where it is needed.
        if wanted.len() < 2 {
            return Ok(());
        }
        for some in wanted.chunks(AT_ONCE) {
            let stored = self
                .reader
                .stored_events(&self.active.id, &self.active.version, some)
                .await?;
            let stored = stored.into_iter();
            self.lock_read()
                .extend(stored.map(|event| (event.pdu.event_id().to_owned(), (event.pdu, event.flags))));
        }
        Ok(())
    }

    /// The events themselves, which may be here, those that they reference, and the entries of the current state that
    /// are likely to decide about them.
    fn needed_by(&self, events: &[Arc<Pdu>]) -> BTreeSet<OwnedEventId> {
        let mut wanted = BTreeSet::new();
        let lock = self.current().get(event_types::LOCK, "");
        let lock = lock.map(|lock| lock.event_id().to_owned());
        for pdu in events {
            wanted.insert(pdu.event_id().to_owned());
            wanted.extend(pdu.prev_events().iter().chain(pdu.auth_events()).cloned());
            let keys = deciding_keys(pdu, self.version(), lock.as_deref());
            let entries = keys.iter().filter_map(|(kind, key)| self.current().get(kind, key));
            wanted.extend(entries.map(|entry| entry.event_id().to_owned()));
        }
        wanted.retain(|id| !self.placed.contains_key(id));
        wanted
    }
}
