//! One turn of a worker: everything that becomes one atomic batch, and what is published when it is on disk.
//!
//! Positions are reserved at the very end: a turn that reads from the store must not delay the readers of all other
//! rooms.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use bytes::Bytes;
use ruma::{
    EventId, MilliSecondsSinceUnixEpoch, OwnedDeviceId, OwnedEventId, OwnedRoomId, OwnedServerName, OwnedTransactionId,
    OwnedUserId, RoomId, RoomVersionId, ServerName, TransactionId, UserId, events::room::member::MembershipState,
};
use weft_dag::{Pdu, StateKey, event_flags};
use weft_ingest::Want;
use weft_room_api::{CommittedEvent, LiveEdit, RoomChange, Unavailable};
use weft_room_read::order_of;
use weft_store::{
    Batch, CommitError, Lane, Positions,
    tables::{
        documents::{DOCUMENT_CHANGES, DocumentChange, EditRequestRow},
        federation::{OUTBOX, OUTBOX_SERVERS, OutboxRow, outbox_number},
        rooms::{
            CURRENT_GROUP, CURRENT_STATE, EVENT_ROOM, EVENT_TXN, EVENTS, EventRow, INCOMPLETE_ROOMS, MEMBERS,
            MEMBERSHIP, MembershipRow, OUT_OF_BAND, OUT_OF_BAND_STATE, SENT_REQUESTS, STREAM, SentRequest, StreamRow,
            TIMELINE, TIMELINE_WITHOUT_UPDATES, TRANSACTIONS,
        },
    },
};
use weft_wire::event_types;

use crate::{
    jobs::{JobChange, RoomJob},
    mailbox::Reply,
    relations,
};

/// User, device and transaction id of a request: the same triple gives the same event.
pub(crate) type Transaction = (OwnedUserId, OwnedDeviceId, OwnedTransactionId);

type Answer = Box<dyn FnOnce(Result<(), CommitError>) + Send + Sync>;

/// An event of the batch, without what depends on its position.
pub(crate) struct Write {
    pub(crate) pdu: Arc<Pdu>,
    pub(crate) flags: u8,
    /// Entries of the resolved state that change with it, each with its new event.
    pub(crate) changed: Vec<(StateKey, Option<Arc<Pdu>>)>,
    /// The group of that state.
    pub(crate) group: Option<u64>,
    /// Timelines without updates show it.
    pub(crate) shown_without_updates: bool,
    /// Servers that must be sent the event.
    pub(crate) destinations: BTreeSet<OwnedServerName>,
}

impl Write {
    fn is_visible(&self) -> bool {
        event_flags::is_accepted(self.flags)
    }
}

/// What one turn does.
pub(crate) struct PendingCommit {
    room: OwnedRoomId,
    /// The time of this turn: every event of it has it.
    pub(crate) now: MilliSecondsSinceUnixEpoch,
    /// Rows that need no position.
    pub(crate) batch: Batch,
    pub(crate) writes: Vec<Write>,
    /// Events of earlier turns that this batch rewrites, with their flags.
    pub(crate) changed: HashMap<OwnedEventId, (Arc<Pdu>, u8)>,
    /// A redacted update was received: it must be requested from other servers.
    pub(crate) pruned: bool,
    /// Ancestors of persisted events are missing: they must be fetched.
    pub(crate) gap: bool,
    /// What staged events need and must be fetched.
    pub(crate) wants: Vec<Want>,
    /// Changes of the room's jobs, besides those that `pruned` and `gap` make necessary.
    pub(crate) jobs: Vec<JobChange>,
    pub(crate) edits: Vec<LiveEdit>,
    pub(crate) reload: bool,
    /// The room is a document.
    pub(crate) is_document: bool,
    pub(crate) access_changed: bool,
    pub(crate) users: BTreeSet<OwnedUserId>,
    /// Events of earlier turns that a server must be sent, whether it is in the room or not.
    pub(crate) resent: BTreeSet<(OwnedServerName, OwnedEventId)>,
    transactions: HashMap<Transaction, OwnedEventId>,
    /// Answers to edits of requests of this turn, by name.
    pub(crate) edit_requests: HashMap<String, EditRequestRow>,
    /// Client requests of this turn by their event.
    requests: Vec<(OwnedEventId, SentRequest)>,
    answers: Vec<Answer>,
    abandoned: bool,
    bytes: usize,
}

impl PendingCommit {
    pub(crate) fn new(room: &RoomId, now: MilliSecondsSinceUnixEpoch) -> Self {
        Self {
            room: room.to_owned(),
            now,
            batch: Batch::new(),
            writes: Vec::new(),
            changed: HashMap::new(),
            pruned: false,
            gap: false,
            wants: Vec::new(),
            jobs: Vec::new(),
            edits: Vec::new(),
            reload: false,
            is_document: false,
            access_changed: false,
            users: BTreeSet::new(),
            resent: BTreeSet::new(),
            transactions: HashMap::new(),
            edit_requests: HashMap::new(),
            requests: Vec::new(),
            answers: Vec::new(),
            abandoned: false,
            bytes: 0,
        }
    }

    /// Answers a command with `value` when the batch is on disk, or with an error if the commit fails.
    pub(crate) fn answer<T: Send + Sync + 'static, E: From<Unavailable> + 'static>(
        &mut self,
        reply: Reply<T, E>,
        value: T,
    ) {
        self.answers.push(Box::new(move |result| {
            reply.send(
                result
                    .map(|()| value)
                    .map_err(|error| E::from(Unavailable::from(error))),
            );
        }));
    }

    /// Records that ancestors of persisted events are missing, and a server that may have them: they must be fetched.
    pub(crate) fn note_gap(&mut self, server: &str) {
        self.gap = true;
        self.batch.put(&INCOMPLETE_ROOMS, &(&self.room,), &server.to_owned());
    }

    /// Discards this turn: a command changed the room in memory and could not be finished.
    pub(crate) fn abandon(&mut self) {
        self.abandoned = true;
    }

    pub(crate) fn is_abandoned(&self) -> bool {
        self.abandoned
    }

    /// Counts bytes received or answered, so that a turn commits soon and holds few answers.
    pub(crate) fn weigh(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_add(bytes);
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Records which event a client's request made; `sent_as` is the transaction id as the client wrote it.
    pub(crate) fn put_transaction(&mut self, key: Transaction, sent_as: &TransactionId, event: OwnedEventId) {
        let (user, device, txn) = &key;
        self.batch.put(&TRANSACTIONS, &(user, device, txn), &event);
        self.batch
            .put(&EVENT_TXN, &(user, device, &event), &sent_as.to_string());
        let request = SentRequest {
            user: user.clone(),
            device: device.clone(),
            transaction: txn.clone(),
        };
        self.requests.push((event.clone(), request));
        self.transactions.insert(key, event);
    }

    /// The event that a request of this turn made.
    pub(crate) fn transaction(&self, key: &Transaction) -> Option<&OwnedEventId> {
        self.transactions.get(key)
    }

    /// An event of this turn.
    pub(crate) fn write(&self, event: &EventId) -> Option<&Write> {
        self.writes.iter().find(|write| write.pdu.event_id() == event)
    }

    /// An event of this turn, to replace its content when it is redacted.
    pub(crate) fn write_mut(&mut self, event: &EventId) -> Option<&mut Write> {
        self.writes.iter_mut().find(|write| write.pdu.event_id() == event)
    }

    /// The changes of the room's jobs.
    fn job_changes(&mut self) -> Vec<JobChange> {
        let mut changes = std::mem::take(&mut self.jobs);
        changes.extend(self.gap.then(|| RoomJob::History.now(self.now)));
        changes.extend(self.pruned.then(|| RoomJob::RedactedUpdates.now(self.now)));
        changes
    }

    /// Whether the turn requests a job.
    pub(crate) fn requests_jobs(&self) -> bool {
        self.gap || self.pruned || !self.jobs.is_empty()
    }

    /// Reserves positions of the room's lane, writes all rows, and returns the batch with what is published when it is on
    /// disk. `version` is the room's, if the room is in memory.
    pub(crate) fn finish(
        mut self,
        positions: &Positions,
        ours: &ServerName,
        version: Option<&RoomVersionId>,
    ) -> Finished {
        let lane = positions.lane();
        for change in self.job_changes() {
            change.write(&mut self.batch, lane, &self.room);
        }
        self.batch.belongs_to(&*self.room);
        for (event, request) in std::mem::take(&mut self.requests) {
            let key = (lane, u64::from(self.now.get()), event);
            self.batch.put(&SENT_REQUESTS, &key, &request);
        }
        let count = self.writes.len().saturating_add(self.resent.len());
        let count = u64::try_from(count).unwrap_or(u64::MAX);
        let first = if count == 0 {
            0
        } else {
            self.batch.reserve(positions, count)
        };
        let mut events = Vec::with_capacity(self.writes.len());
        let mut destinations = BTreeSet::new();
        for (position, write) in (first..).zip(std::mem::take(&mut self.writes)) {
            self.write_event((lane, position), &write);
            self.write_state(position, &write, ours);
            for server in &write.destinations {
                self.enqueue(server, lane, position, write.pdu.event_id());
            }
            events.push(CommittedEvent {
                position,
                visible: write.is_visible(),
                pdu: Arc::clone(&write.pdu),
            });
            destinations.extend(write.destinations);
        }
        self.put_document_change(&events);
        let position = events.last().map_or(0, |event| event.position);
        for (number, (server, event)) in (first..).skip(events.len()).zip(std::mem::take(&mut self.resent)) {
            self.enqueue(&server, lane, number, &event);
            destinations.insert(server);
        }
        let committed = RoomChange {
            room_id: self.room,
            version: version.filter(|_| !events.is_empty()).cloned(),
            lane,
            position,
            events,
            edits: self.edits,
            reload: self.reload,
            access_changed: self.access_changed,
            destinations: destinations.into_iter().collect(),
            users: self.users.into_iter().collect(),
        };
        Finished {
            batch: self.batch,
            committed: Arc::new(committed),
            answers: self.answers,
        }
    }

    /// Witness events change nothing that lists show.
    fn put_document_change(&mut self, events: &[CommittedEvent]) {
        let is_change = |event: &&CommittedEvent| event.visible && event.pdu.kind() != event_types::WITNESS;
        let newest = events.iter().rfind(is_change).filter(|_| self.is_document);
        if let Some(event) = newest {
            let change = DocumentChange {
                at: event.pdu.origin_server_ts().get().into(),
            };
            self.batch.put(&DOCUMENT_CHANGES, &(&self.room,), &change);
        }
    }

    fn enqueue(&mut self, server: &ServerName, lane: Lane, position: u64, event: &EventId) {
        let row = OutboxRow {
            room: self.room.clone(),
            event: event.to_owned(),
        };
        self.batch.put(&OUTBOX, &(server, outbox_number(lane, position)), &row);
        self.batch.put(&OUTBOX_SERVERS, &(server,), &());
    }

    fn write_event(&mut self, (lane, position): (Lane, u64), write: &Write) {
        let (room, id) = (&self.room, write.pdu.event_id());
        let json = Bytes::copy_from_slice(write.pdu.json().as_bytes());
        self.batch.put(
            &EVENTS,
            &(room, id),
            &EventRow {
                flags: write.flags,
                position,
                json,
            },
        );
        self.batch.put(&EVENT_ROOM, &(id,), room);
        let row = StreamRow {
            room: room.clone(),
            event: id.to_owned(),
        };
        self.batch.put(&STREAM, &(lane, position), &row);
        if write.is_visible() {
            let id = id.to_owned();
            self.batch.put(&TIMELINE, &(room, order_of(position)), &id);
            relations::index(&mut self.batch, room, order_of(position), &write.pdu);
            if write.shown_without_updates {
                self.batch
                    .put(&TIMELINE_WITHOUT_UPDATES, &(room, order_of(position)), &id);
            }
        }
    }

    fn write_state(&mut self, position: u64, write: &Write, ours: &ServerName) {
        let room = &self.room;
        if let Some(group) = write.group {
            self.batch.put(&CURRENT_GROUP, &(room, position), &group);
        }
        for ((kind, key), event) in &write.changed {
            match event {
                Some(pdu) => {
                    self.batch.put(
                        &CURRENT_STATE,
                        &(room, kind.as_str(), key.as_str()),
                        &pdu.event_id().to_owned(),
                    );
                }
                None => self.batch.delete(&CURRENT_STATE, &(room, kind.as_str(), key.as_str())),
            }
            let Some(user) = (kind == "m.room.member").then(|| UserId::parse(key).ok()).flatten() else {
                continue;
            };
            let row = event.as_ref().map(|pdu| membership_row(pdu, position));
            match &row {
                Some(row) => self.batch.put(&MEMBERS, &(room, &user), &row.membership),
                None => self.batch.delete(&MEMBERS, &(room, &user)),
            }
            if user.server_name() == ours {
                match &row {
                    Some(row) => self.batch.put(&MEMBERSHIP, &(&user, room), row),
                    None => self.batch.delete(&MEMBERSHIP, &(&user, room)),
                }
                // The room is here now: the stripped state of an invitation is obsolete.
                self.batch.delete(&OUT_OF_BAND, &(&user, room));
                self.batch.delete(&OUT_OF_BAND_STATE, &(&user, room));
                self.users.insert(user);
            }
        }
    }
}

fn membership_row(pdu: &Pdu, position: u64) -> MembershipRow {
    // The authorisation rules reject a membership event without a membership.
    let membership = pdu.membership().unwrap_or(MembershipState::Leave);
    let event = pdu.event_id().to_owned();
    MembershipRow {
        membership: membership.to_string(),
        event,
        position,
        stripped: Vec::new(),
        forgotten: false,
    }
}

/// A turn that is ready to be committed.
pub(crate) struct Finished {
    pub(crate) batch: Batch,
    committed: Arc<RoomChange>,
    answers: Vec<Answer>,
}

impl Finished {
    /// What is published; `None` if nothing changes for readers, clients or other servers.
    pub(crate) fn to_publish(&self) -> Option<Arc<RoomChange>> {
        let committed = &self.committed;
        let has_changes =
            !committed.events.is_empty() || !committed.edits.is_empty() || committed.reload || committed.access_changed;
        let has_changes = has_changes || !committed.destinations.is_empty();
        has_changes.then(|| Arc::clone(committed))
    }

    /// The numbers of its events and edits.
    pub(crate) fn counts(&self) -> (usize, usize) {
        (self.committed.events.len(), self.committed.edits.len())
    }

    /// The stream position of the last event that was accepted.
    pub(crate) fn last_accepted(&self) -> Option<u64> {
        let accepted = self.committed.events.iter().filter(|event| event.visible);
        accepted.map(|event| event.position).next_back()
    }

    /// Answers the callers.
    pub(crate) fn conclude(self, result: &Result<(), CommitError>) {
        for answer in self.answers {
            answer(result.clone());
        }
    }
}
