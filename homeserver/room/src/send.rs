//! Events that users of this server send: messages, state, redactions, their own membership.

use std::sync::Arc;

use bytes::Bytes;
use ruma::{EventId, OwnedEventId, RoomId};
use serde_json::Value;
use weft_convergence::admission::{Judgement, judge};
use weft_crdt::Update;
use weft_dag::{Pdu, event_flags, redact, stripped};
use weft_document::Origin;
use weft_room_api::{
    EventRefusal, LiveEdit, NewEvent, RoomCommand, RoomError, StateCondition, Unavailable, UnsentEvent,
};
use weft_room_read::{StoredEvent, damaged};
use weft_store::tables::rooms::{EVENT_TXN, EVENTS, EventRow, REDACTED_BY, SENT_REQUESTS, SentRequest, TRANSACTIONS};
use weft_wire::{event_types, update::UpdateContent, witness};

use crate::{
    Rooms,
    active_room::ActiveRoom,
    compose::{ProtoEvent, canonical},
    mailbox::Reply,
    pending_commit::{PendingCommit, Transaction},
    sealing::with_names,
    worker::Worker,
};

/// How long a client may repeat a request and get the event that it made, milliseconds: a device that was switched off
/// while it was sending is back within days. For as long, the device receives its own event with the transaction id.
const KEEP_REQUESTS_MS: u64 = 7 * 24 * 60 * 60 * 1_000;
/// Old requests that are deleted with each new one.
const DELETED_PER_REQUEST: usize = 4;

/// Who causes an event: only what users send is charged to them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    User,
    Server,
}

impl Rooms {
    /// Sends an event; returns when it is on disk.
    ///
    /// # Errors
    /// When the room's rules forbid it, or it can't be built.
    pub async fn send(&self, room: &RoomId, event: NewEvent) -> Result<OwnedEventId, RoomError> {
        self.call(room, RoomCommand::Send(Box::new(event))).await
    }

    /// Sends an event if the room's state is as the caller read it: for a decision that another change can make wrong,
    /// whichever process makes that.
    ///
    /// # Errors
    /// As [`Rooms::send`], and [`RoomError::StateChanged`].
    pub async fn send_if(
        &self,
        room: &RoomId,
        event: NewEvent,
        conditions: Vec<StateCondition>,
    ) -> Result<OwnedEventId, RoomError> {
        self.call(room, RoomCommand::SendIf(Box::new(event), conditions)).await
    }

    /// Builds, signs and authorises an event without persisting it. Used to invite a user of another server: that
    /// server signs the event too, and it is then persisted by [`Rooms::accept_membership`].
    ///
    /// # Errors
    /// As [`Rooms::send`].
    pub async fn draft(&self, room: &RoomId, event: NewEvent) -> Result<UnsentEvent, RoomError> {
        self.call(room, RoomCommand::Draft(Box::new(event))).await
    }
}

impl Worker {
    pub(crate) async fn send(&mut self, event: NewEvent, commit: &mut PendingCommit, reply: Reply<OwnedEventId>) {
        if event.kind == event_types::WITNESS && event.state_key.is_none() {
            // A witness event is a statement of the server, and no timeline shows it.
            let reason = "only the server sends witness events".to_owned();
            return reply.send(Err(RoomError::Forbidden { reason }));
        }
        match self.send_event(event, Cause::User, commit).await {
            Ok(id) => commit.answer(reply, id),
            Err(error) => reply.send(Err(error)),
        }
    }

    pub(crate) async fn send_if(
        &mut self,
        event: NewEvent,
        conditions: &[StateCondition],
        commit: &mut PendingCommit,
        reply: Reply<OwnedEventId>,
    ) {
        // Only this worker changes the state, so that it stays as it is until the event is appended.
        match self.check_conditions(conditions).await {
            Ok(()) => self.send(event, commit, reply).await,
            Err(error) => reply.send(Err(error)),
        }
    }

    pub(crate) async fn check_conditions(&mut self, conditions: &[StateCondition]) -> Result<(), RoomError> {
        let room = self.room.clone();
        let active = self.open().await?.ok_or(RoomError::UnknownRoom(room))?;
        let is_unchanged = |condition: &&StateCondition| {
            let current = active.state.get(&condition.kind, &condition.state_key);
            current.map(|pdu| pdu.event_id()) == condition.event.as_deref()
        };
        match conditions.iter().find(|condition| !is_unchanged(condition)) {
            Some(changed) => Err(RoomError::StateChanged {
                kind: changed.kind.clone(),
            }),
            None => Ok(()),
        }
    }

    pub(crate) async fn send_event(
        &mut self,
        event: NewEvent,
        cause: Cause,
        commit: &mut PendingCommit,
    ) -> Result<OwnedEventId, RoomError> {
        let key = transaction_of(&self.room, &event);
        let sent_as = event.txn.as_ref().map(|(_, txn)| txn.clone());
        if let Some(id) = self.sent_before(key.as_ref(), commit).await? {
            return Ok(id);
        }
        self.ready(event.state_key.is_some()).await?;
        if event.kind == event_types::UPDATE {
            self.open_with_text().await?;
        }
        let event = self.with_authorising_user(event).await?;
        let target = self.redacted_by(&event).await?;
        // Pending edits are sealed first, so that the order of events is the order that users saw.
        self.seal(commit);
        let (signer, ours) = (self.signer(), self.ours().to_owned());
        let Some(active) = self.active.as_mut() else {
            return Err(RoomError::UnknownRoom(self.room.clone()));
        };
        let is_update = event.kind == event_types::UPDATE && event.state_key.is_none() && active.document.is_some();
        let now = event.timestamp.unwrap_or(commit.now);
        if cause == Cause::User {
            check_participants(active, &event, self.shared.config.participants_per_document)?;
        }
        let mut proto = proto(event)?;
        let update = if is_update { judge_update(active, &proto)? } else { None };
        let mut named = Vec::new();
        let is_witness = proto.kind == event_types::WITNESS && proto.state_key.is_none() && active.document.is_some();
        if is_update || is_witness {
            named = active.names_for_update(update.as_ref().map_or(0, Update::wire_len));
            proto.content = with_names(proto.content, &named);
        }
        let pdu = active.compose(proto, &signer, now)?;
        let id = pdu.event_id().to_owned();
        if cause == Cause::User {
            if is_update {
                self.shared.pace(&active.id, pdu.sender())?;
            }
            self.shared.charge(pdu.sender(), pdu.json().len())?;
        }
        commit.weigh(pdu.json().len());
        active.append(commit, Arc::clone(&pdu), &ours)?;
        if !named.is_empty() {
            active.note_named(&mut commit.batch, &named);
        }
        if let Some(document) = active.document.as_mut() {
            if let Some(update) = update {
                let (into, of) = ((&mut commit.batch, commit.now.get().into()), (&*id, pdu.sender()));
                let new = document.merge(into, &active.id, of, &update, &Origin::Event)?;
                let update = new.encode().into();
                commit.edits.push(LiveEdit {
                    update,
                    author: pdu.sender().to_owned(),
                    session: None,
                    version: document.version(),
                });
            }
            document.place(&mut commit.batch, &active.id, &id);
        }
        if let Some(target) = target {
            active.apply_redaction(commit, &target, &id)?;
        }
        if let (Some(key), Some(sent_as)) = (key, sent_as) {
            commit.put_transaction(key, &sent_as, id.clone());
            self.forget_requests(commit).await?;
        }
        Ok(id)
    }

    /// Deletes the rows of some expired requests: a few more than each request writes, so that no separate task is
    /// needed.
    async fn forget_requests(&self, commit: &mut PendingCommit) -> Result<(), Unavailable> {
        let Some(last) = u64::from(commit.now.get()).checked_sub(KEEP_REQUESTS_MS) else {
            return Ok(());
        };
        let lane = self.shared.store.lane_of(&*self.room);
        let query = SENT_REQUESTS.under(&(lane,)).through(&(lane, last));
        // Skip the range that is already deleted: an engine may keep tombstones for a long time.
        let query = match self.shared.forgotten_requests(lane) {
            Some((time, event)) => query.after(&(lane, time, event)),
            None => query,
        };
        for ((_, time, event), request) in self.shared.store.scan(query.limit(DELETED_PER_REQUEST)).await? {
            let SentRequest {
                user,
                device,
                transaction,
            } = request;
            commit.batch.delete(&TRANSACTIONS, &(&user, &device, &transaction));
            commit.batch.delete(&EVENT_TXN, &(&user, &device, &event));
            commit.batch.delete(&SENT_REQUESTS, &(lane, time, &event));
            self.shared.note_forgotten_request(lane, (time, event));
        }
        Ok(())
    }

    /// Loads the room with what a new event needs: the chain index, for a state event.
    async fn ready(&mut self, is_state: bool) -> Result<(), RoomError> {
        let (room, reader) = (self.room.clone(), self.shared.reader.clone());
        let active = self.open().await?.ok_or(RoomError::UnknownRoom(room))?;
        if is_state {
            active.cover(&reader).await?;
        }
        Ok(())
    }

    async fn sent_before(
        &self,
        key: Option<&Transaction>,
        commit: &PendingCommit,
    ) -> Result<Option<OwnedEventId>, Unavailable> {
        let Some(key) = key else { return Ok(None) };
        if let Some(id) = commit.transaction(key) {
            return Ok(Some(id.clone()));
        }
        let (user, device, txn) = key;
        Ok(self.shared.store.get(&TRANSACTIONS, &(user, device, txn)).await?)
    }

    /// The target of a redaction by a user of this server, if its sender may redact it.
    async fn redacted_by(&self, event: &NewEvent) -> Result<Option<StoredEvent>, RoomError> {
        if event.kind != "m.room.redaction" {
            return Ok(None);
        }
        let named = event
            .content
            .get("redacts")
            .and_then(Value::as_str)
            .and_then(|id| EventId::parse(id).ok());
        let Some(id) = event.redacts.clone().or(named) else {
            return Ok(None);
        };
        let target = self.shared.reader.stored_event(&self.room, &id).await?;
        let target = target
            .filter(StoredEvent::is_visible)
            .ok_or(RoomError::UnknownEvent(id))?;
        let Some(active) = &self.active else { return Ok(None) };
        if !redact::may_redact(&event.sender, &target.pdu, &active.state) {
            return Err(RoomError::Forbidden {
                reason: "only moderators may redact events of other users".to_owned(),
            });
        }
        if witness::is_kept_whole(target.pdu.kind()) && active.document.is_some() {
            let reason = "an update of a document can't be redacted: restore a version instead".to_owned();
            return Err(RoomError::Forbidden { reason });
        }
        Ok(Some(target))
    }

    pub(crate) async fn draft(&mut self, event: NewEvent, reply: Reply<UnsentEvent>) {
        reply.send(self.draft_event(event).await);
    }

    async fn draft_event(&mut self, event: NewEvent) -> Result<UnsentEvent, RoomError> {
        self.ready(false).await?;
        let (signer, now) = (self.signer(), self.shared.clock.now());
        let Some(active) = self.active.as_ref() else {
            return Err(RoomError::UnknownRoom(self.room.clone()));
        };
        check_participants(active, &event, self.shared.config.participants_per_document)?;
        let about = event.sender.clone();
        let event = active.compose(proto(event)?, &signer, now)?;
        let stripped = stripped::for_servers(&active.state, &about);
        let stripped = stripped
            .iter()
            .filter_map(|raw| serde_json::from_str(raw.get()).ok())
            .collect();
        Ok(UnsentEvent {
            version: active.version.id().clone(),
            event,
            stripped,
        })
    }
}

/// A transaction id counts for one device and one endpoint, and the endpoint's path names the room and the type
/// (client-server API, "Transaction identifiers"): the same id in another room is another request.
fn transaction_of(room: &RoomId, event: &NewEvent) -> Option<Transaction> {
    let (device, txn) = event.txn.clone()?;
    // The length prefixes make the pair of room and type unambiguous.
    let scoped = format!("{}:{room}{}:{}{txn}", room.as_str().len(), event.kind.len(), event.kind);
    Some((event.sender.clone(), device, scoped.into()))
}

fn proto(event: NewEvent) -> Result<ProtoEvent, RoomError> {
    Ok(ProtoEvent {
        sender: event.sender,
        kind: event.kind,
        state_key: event.state_key,
        content: canonical(event.content)?,
        redacts: event.redacts,
    })
}

/// Refuses an invitation or a join that would be one participant too many. Only for users of this server: other servers
/// don't know this limit, and the room's rules don't have it.
fn check_participants(active: &ActiveRoom, event: &NewEvent, limit: usize) -> Result<(), RoomError> {
    let is_in = |membership: &str| matches!(membership, "join" | "invite");
    let becomes = event
        .content
        .get("membership")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let Some(user) = event.state_key.as_deref().filter(|_| event.kind == "m.room.member") else {
        return Ok(());
    };
    if active.document.is_none() || !is_in(becomes) {
        return Ok(());
    }
    let is_one = |member: &Pdu| member.membership().is_some_and(|membership| is_in(membership.as_str()));
    if active
        .state
        .get("m.room.member", user)
        .is_some_and(|member| is_one(member))
    {
        return Ok(());
    }
    let participants = active.state.of_type("m.room.member").filter(|member| is_one(member));
    if participants.count() >= limit {
        return Err(EventRefusal::TooManyParticipants { limit }.into());
    }
    Ok(())
}

/// The update of an event that a client sends itself, instead of over a live connection.
fn judge_update(active: &ActiveRoom, proto: &ProtoEvent) -> Result<Option<Update>, RoomError> {
    let Some(document) = &active.document else {
        return Ok(None);
    };
    let inadmissible = |reason: String| EventRefusal::Inadmissible { reason };
    let content = serde_json::to_value(&proto.content).map_err(|error| inadmissible(error.to_string()))?;
    let content: UpdateContent = serde_json::from_value(content).map_err(|error| inadmissible(error.to_string()))?;
    match judge(&content, &proto.sender, &document.past()) {
        Judgement::Admitted { update, .. } => Ok(Some(update)),
        Judgement::NothingNew => Ok(None),
        Judgement::Inadmissible { reason } => Err(inadmissible(reason).into()),
    }
}

impl ActiveRoom {
    /// Applies an accepted redaction to its target: the redacted content is deleted.
    pub(crate) fn apply_redaction(
        &mut self,
        commit: &mut PendingCommit,
        target: &StoredEvent,
        by: &EventId,
    ) -> Result<(), Unavailable> {
        if witness::is_kept_whole(target.pdu.kind()) && self.document.is_some() {
            // The text can't be worked out without it, so it is kept.
            return Ok(());
        }
        let redacted = redact::redact(&target.pdu, &self.version).map_err(|error| damaged(&self.id, &error))?;
        let flags = target.flags | event_flags::REDACTED;
        if let Some(write) = commit.write_mut(redacted.event_id()) {
            write.pdu = Arc::clone(&redacted);
            write.flags = flags;
        } else {
            let json = Bytes::copy_from_slice(redacted.json().as_bytes());
            let row = EventRow {
                flags,
                position: target.place.to_row(),
                json,
            };
            let id = redacted.event_id();
            commit.batch.put(&EVENTS, &(&self.id, id), &row);
            commit.changed.insert(id.to_owned(), (Arc::clone(&redacted), flags));
        }
        commit
            .batch
            .put(&REDACTED_BY, &(&self.id, redacted.event_id()), &by.to_owned());
        self.redact(&redacted);
        Ok(())
    }
}
