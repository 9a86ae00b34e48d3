//! Adds decided events of other servers to a room: state groups, and the current state where branches meet. The text is
//! changed by [`super::text`], redactions are applied by [`super::redactions`].
//!
//! Belongs to one turn of the room's worker: an event that was added is visible to the rest of the turn. Must not
//! decide whether an event is accepted; that was done before.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::future::try_join;
use parking_lot::{Mutex, MutexGuard};
use ruma::{EventId, OwnedEventId, OwnedUserId, RoomId, ServerName, UserId};
use weft_convergence::rebuild::PersistedEvent;
use weft_dag::{
    Authorized, ChainCover, Pdu, RoomVersion, StateKey, StateMap, StateView, Verdict, event_flags, groups,
    order::{Links, order},
};
use weft_ingest::{
    decide::{Undecided, resolve_loading},
    graph::{Graph, Incoming, Known},
    tally::Tally,
};
use weft_room_api::Unavailable;
use weft_room_read::{Reader, damaged};
use weft_store::tables::rooms::{
    BACKFILL_POSITIONS, EVENT_GROUP, EVENT_ROOM, EVENTS, EventGroupRow, EventRow, INCOMPLETE_ROOMS, STAGING, TIMELINE,
    TIMELINE_WITHOUT_UPDATES,
};

use super::{
    ahead::{AT_ONCE, Ahead},
    text::Vectors,
};
use crate::{
    active_room::{ActiveRoom, DecidedEvent, Group, NewState, Recipients},
    forward_extremities::StateAfter,
    pending_commit::PendingCommit,
};

/// One turn in which events of other servers are added to a room.
pub(crate) struct MergeSession<'a> {
    pub(super) active: &'a mut ActiveRoom,
    pub(super) commit: &'a mut PendingCommit,
    pub(super) reader: &'a Reader,
    pub(super) ours: &'a ServerName,
    pub(super) placed: HashMap<OwnedEventId, MergedEvent>,
    /// The states of the groups that this turn has written.
    written: HashMap<u64, StateMap>,
    /// Events of earlier turns that this turn has read: most events cite the same few. Only this worker writes to the
    /// room.
    read: Mutex<HashMap<OwnedEventId, (Arc<Pdu>, u8)>>,
    /// What was read ahead for the events of this turn.
    pub(super) ahead: Ahead,
    /// Redactions of this turn by their targets, which have not been received.
    pub(super) early: HashMap<OwnedEventId, Vec<Arc<Pdu>>>,
    pub(super) vectors: Vectors,
    /// Users of other servers whose membership this turn may have reset (state reset), and their joins of this turn
    /// that are not part of the resolved state.
    pub(crate) state_resets: BTreeMap<OwnedUserId, Vec<OwnedEventId>>,
    /// The last negative stream ordering that is in use, once this turn has read it.
    last_backfill_position: Option<i64>,
    no_cover: ChainCover,
    /// Log entries about the events of this turn.
    pub(super) tally: Tally,
}

/// An event of this turn.
pub(super) struct MergedEvent {
    pub(super) known: Known,
    pub(super) flags: u8,
    after: Option<Stated>,
}

/// The changes of an accepted event to the current room.
#[derive(Default)]
struct Following {
    state: Option<NewState>,
    /// Events that became reachable through it: see [`MergeSession::reach_ancestors`].
    between: Vec<Arc<Pdu>>,
}

/// A state and the group that holds it.
#[derive(Clone)]
struct Stated {
    map: StateMap,
    group: Group,
}

impl<'a> MergeSession<'a> {
    /// Loads the required data.
    pub(crate) async fn new(
        active: &'a mut ActiveRoom,
        commit: &'a mut PendingCommit,
        reader: &'a Reader,
        ours: &'a ServerName,
    ) -> Result<Self, Unavailable> {
        let (room, is_known) = (active.id.clone(), active.missing.is_some());
        let incomplete = async {
            if is_known {
                return Ok(None);
            }
            Ok(reader.store().get(&INCOMPLETE_ROOMS, &(&room,)).await?)
        };
        let (_, incomplete) = try_join(active.cover(reader), incomplete).await?;
        let (placed, early) = (HashMap::new(), HashMap::new());
        let (vectors, no_cover) = (Vectors::default(), ChainCover::default());
        let tally = Tally::new(&active.id);
        let mut session = Self {
            active,
            commit,
            reader,
            ours,
            placed,
            written: HashMap::new(),
            read: Mutex::default(),
            ahead: Ahead::default(),
            early,
            vectors,
            state_resets: BTreeMap::new(),
            last_backfill_position: None,
            no_cover,
            tally,
        };
        session.load_missing(incomplete.is_some()).await?;
        Ok(session)
    }

    /// Deletes staged rows that were processed.
    pub(crate) fn unstage(&mut self, rows: impl IntoIterator<Item = u64>) {
        for row in rows {
            self.commit.batch.delete(&STAGING, &(&self.active.id, row));
        }
    }

    /// Notes that events are missing, and a server that may have them: they are fetched by backfill.
    pub(crate) fn note_gap(&mut self, server: &ServerName) {
        self.commit.note_gap(server.as_str());
    }

    /// The state before a persisted event of the room.
    pub(crate) async fn before(&self, id: &EventId) -> Result<StateMap, Unavailable> {
        let groups = self.reader.groups_of(&self.active.id, &id.to_owned()).await?;
        let groups = groups.ok_or_else(|| damaged(&self.active.id, &format_args!("the state at {id} is missing")))?;
        Ok(self.reader.group(&self.active.id, groups.before).await?.0)
    }

    async fn stated_after(&self, id: &EventId) -> Result<Option<Stated>, Unavailable> {
        if let Some(placed) = self.placed.get(id) {
            return Ok(placed.after.clone());
        }
        let groups = match self.ahead.groups(id) {
            Some(groups) => groups,
            None => self.reader.groups_of(&self.active.id, &id.to_owned()).await?,
        };
        let Some(groups) = groups else {
            return Ok(None);
        };
        if groups.after == self.active.group.id {
            return Ok(Some(Stated {
                map: self.active.state.map(),
                group: self.active.group,
            }));
        }
        let (map, hops) = self.reader.group(&self.active.id, groups.after).await?;
        Ok(Some(Stated {
            map,
            group: Group { id: groups.after, hops },
        }))
    }

    /// The group of a state: an existing one or a new one.
    async fn group_of(&mut self, map: StateMap, near: &[OwnedEventId]) -> Result<Stated, Unavailable> {
        let now = Stated {
            map: self.active.state.map(),
            group: self.active.group,
        };
        let mut candidates = Vec::new();
        for id in near {
            candidates.extend(self.stated_after(id).await?);
        }
        candidates.push(now);
        candidates.retain(|stated| stated.group.id > 0);
        if let Some(same) = candidates.iter().find(|stated| stated.map == map) {
            return Ok(same.clone());
        }
        Ok(self.new_group(candidates.first(), map))
    }

    fn new_group(&mut self, parent: Option<&Stated>, map: StateMap) -> Stated {
        let lean = parent.and_then(|parent| Some((parent.group, groups::changes(&parent.map, &map)?)));
        let (parent, changes) = match lean {
            Some((group, changes)) => (Some(group), changes),
            None => (None, Vec::new()),
        };
        let group = self
            .active
            .write_group(&mut self.commit.batch, parent, &changes, || map.clone());
        self.written.insert(group.id, map.clone());
        Stated { map, group }
    }

    async fn take(&mut self, incoming: Incoming) -> Result<(), Unavailable> {
        let Incoming {
            authorized,
            before,
            outlier,
            relay,
            staged,
        } = incoming;
        self.unstage(staged);
        if self.is_pruned(authorized.pdu()).await? {
            return self.restore_updates(vec![Arc::clone(authorized.pdu())]).await;
        }
        if !outlier && self.take_missing(authorized.pdu().event_id()) {
            return self.persist_late(authorized, before).await;
        }
        let pruned = if outlier { 0 } else { self.note_pruned(&authorized) };
        let (pdu, verdict) = authorized.into_parts();
        let flags = match verdict {
            Verdict::Accepted => 0,
            Verdict::SoftFailed { .. } => event_flags::SOFT_FAILED,
            Verdict::Rejected { .. } => event_flags::REJECTED,
        } | if outlier { event_flags::OUTLIER } else { pruned };
        log(&pdu, &verdict, outlier, &mut self.tally);
        self.commit.weigh(pdu.json().len());
        let is_state = pdu.state_key().is_some() && !pdu.rejected();
        if is_state {
            self.active.index(&mut self.commit.batch, &pdu)?;
        }
        let known = Known::new(Arc::clone(&pdu), flags);
        let id = pdu.event_id().to_owned();
        if outlier {
            self.placed.insert(
                id,
                MergedEvent {
                    known,
                    flags,
                    after: None,
                },
            );
            self.enter(pdu, flags, None, Following::default(), Recipients::None);
            return Ok(());
        }
        let before = self.group_of(before, pdu.prev_events()).await?;
        let after = self.after(&before, &pdu);
        let groups = Some((before.group.id, after.group.id));
        self.placed.insert(
            id,
            MergedEvent {
                known,
                flags,
                after: Some(after.clone()),
            },
        );
        if event_flags::is_accepted(flags) {
            let recipients = if relay {
                Recipients::OtherServers(Some(pdu.sender().server_name().to_owned()))
            } else {
                Recipients::None
            };
            self.persist_accepted(Arc::clone(&pdu), flags, (before.group.id, &after), recipients)
                .await?;
        } else {
            if !pdu.rejected() {
                self.note_state_reset(&pdu, None);
            }
            self.enter(Arc::clone(&pdu), flags, groups, Following::default(), Recipients::None);
        }
        self.resend_removal(&pdu);
        Ok(())
    }

    /// Notes users whose membership was changed by an event that is not about them, or changed to something else.
    fn note_state_reset(&mut self, pdu: &Pdu, state: Option<&NewState>) {
        let changed = state.map(|state| state.changed.as_slice()).unwrap_or_default();
        let keys = changed.iter().map(|(kind, key)| (kind.as_str(), key.as_str()));
        let own = pdu.state_key().map(|key| (pdu.kind(), key));
        let stands = |key: &str| state.and_then(|state| state.view.get("m.room.member", key));
        for (kind, key) in keys.chain(own) {
            let said = stands(key).is_some_and(|stands| stands.event_id() == pdu.event_id());
            if kind == "m.room.member"
                && !said
                && let Ok(user) = UserId::parse(key)
                && user.server_name() != self.ours
            {
                let joins = self.state_resets.entry(user).or_default();
                joins.extend((own == Some((kind, key))).then(|| pdu.event_id().to_owned()));
            }
        }
    }

    /// A join that is concurrent with a local user's ban or kick, and is not part of the resolved state: its server
    /// treats its user as joined and receives nothing, because events are not sent to servers outside of the room. The
    /// removal is sent again.
    fn resend_removal(&mut self, pdu: &Pdu) {
        let Some(user) = pdu.state_key().filter(|_| pdu.kind() == "m.room.member") else {
            return;
        };
        let server = pdu.sender().server_name();
        let joined = pdu.sender() == user && !self.active.servers().contains(server) && server != self.ours;
        if let Some(stands) = self.active.state.get("m.room.member", user).filter(|_| joined)
            && stands.sender().server_name() == self.ours
            && stands.event_id() != pdu.event_id()
        {
            let event = stands.event_id().to_owned();
            self.commit.resent.insert((server.to_owned(), event));
        }
    }

    /// A late event: it fills a gap before events that are accepted already, so it is backfilled. As a forward
    /// extremity it would restore state that was changed since, and the events after it were decided against a text
    /// without it.
    async fn persist_late(&mut self, authorized: Authorized, before: StateMap) -> Result<(), Unavailable> {
        let server = authorized.pdu().sender().server_name().to_owned();
        self.persist_backfilled(authorized, before).await?;
        // The text is rebuilt once nothing is missing.
        self.note_gap(&server);
        Ok(())
    }

    /// The next negative stream ordering: after all backfilled events, before all events since the join.
    async fn next_backfill_position(&mut self) -> Result<i64, Unavailable> {
        let last = match self.last_backfill_position {
            Some(last) => last,
            None => self.reader.last_backfill_position(&self.active.id).await?,
        };
        let next = last.saturating_add(1);
        self.last_backfill_position = Some(next);
        Ok(next)
    }

    /// Persists an accepted event, and the events that become reachable through it.
    async fn persist_accepted(
        &mut self,
        pdu: Arc<Pdu>,
        flags: u8,
        (before, after): (u64, &Stated),
        recipients: Recipients,
    ) -> Result<(), Unavailable> {
        self.note_missing(&pdu).await?;
        let reached = self.reach_ancestors(&pdu).await?;
        let event = PersistedEvent {
            pdu: Arc::clone(&pdu),
            flags,
        };
        // The text first: the vector of the event's past must not contain the event yet.
        self.take_text(&reached, &event).await?;
        for one in reached.iter().chain([&event]).filter(|one| !one.pdu.rejected()) {
            self.active.note_unwitnessed(self.commit, &one.pdu, self.ours);
        }
        let between: Vec<Arc<Pdu>> = reached.iter().map(|event| Arc::clone(&event.pdu)).collect();
        let state = self.state_of_now(&pdu, after, &between).await?;
        self.note_state_reset(&pdu, state.as_ref());
        let following = Following { state, between };
        self.enter(
            Arc::clone(&pdu),
            flags,
            Some((before, after.group.id)),
            following,
            recipients,
        );
        for event in reached.iter().filter(|event| !event.pdu.rejected()) {
            self.take_redaction(&event.pdu).await?;
        }
        self.take_redaction(&pdu).await?;
        self.apply_earlier_redactions(&pdu, flags).await
    }

    /// Persists a backfilled event: into the graph and the timeline, before all events since the join. It is not a
    /// forward extremity and changes nothing of the current state. Its effect on the text is computed when all missing
    /// events are here.
    pub(crate) async fn persist_backfilled(
        &mut self,
        authorized: Authorized,
        before: StateMap,
    ) -> Result<(), Unavailable> {
        if self.is_pruned(authorized.pdu()).await? {
            return self.restore_updates(vec![Arc::clone(authorized.pdu())]).await;
        }
        let pruned = self.note_pruned(&authorized);
        let (pdu, verdict) = authorized.into_parts();
        log(&pdu, &verdict, false, &mut self.tally);
        let flags = pruned | if pdu.rejected() { event_flags::REJECTED } else { 0 };
        if pdu.state_key().is_some() && event_flags::is_accepted(flags) {
            self.active.index(&mut self.commit.batch, &pdu)?;
        }
        self.take_missing(pdu.event_id());
        self.active.note_earlier();
        self.note_missing(&pdu).await?;
        let before = self.group_of(before, pdu.prev_events()).await?;
        let after = self.after(&before, &pdu);
        let order = self.next_backfill_position().await?;
        let (room, id, batch) = (&self.active.id, pdu.event_id(), &mut self.commit.batch);
        let json = Bytes::copy_from_slice(pdu.json().as_bytes());
        batch.put(
            &EVENTS,
            &(room, id),
            &EventRow {
                flags,
                position: 0,
                json,
            },
        );
        batch.put(&EVENT_ROOM, &(id,), room);
        let groups = EventGroupRow {
            before: before.group.id,
            after: after.group.id,
        };
        batch.put(&EVENT_GROUP, &(room, id), &groups);
        if event_flags::is_accepted(flags) {
            batch.put(&TIMELINE, &(room, order), &id.to_owned());
            crate::relations::index(batch, room, order, &pdu);
            batch.put(&BACKFILL_POSITIONS, &(room, id), &order.unsigned_abs());
            if self.active.shown_without_updates(&pdu) {
                batch.put(&TIMELINE_WITHOUT_UPDATES, &(room, order), &id.to_owned());
            }
        }
        let known = Known::new(Arc::clone(&pdu), flags);
        self.placed.insert(
            id.to_owned(),
            MergedEvent {
                known,
                flags,
                after: Some(after),
            },
        );
        if event_flags::is_accepted(flags) {
            self.active.note_unwitnessed(self.commit, &pdu, self.ours);
            self.take_redaction(&pdu).await?;
            self.apply_earlier_redactions(&pdu, flags).await?;
        }
        Ok(())
    }

    /// The ancestors of an accepted event that were not reachable before, in order: soft-failed events, including those
    /// behind rejected ones. A server that accepted them had to reference them, so all servers end in the same state.
    async fn reach_ancestors(&mut self, pdu: &Pdu) -> Result<Vec<PersistedEvent>, Unavailable> {
        let mut reached = Vec::new();
        let mut seen: HashSet<OwnedEventId> = HashSet::new();
        let mut work: Vec<OwnedEventId> = pdu.prev_events().to_vec();
        while let Some(id) = work.pop() {
            if !seen.insert(id.clone()) {
                continue;
            }
            let Some((pdu, flags)) = self.with_flags(&id).await? else {
                continue;
            };
            if event_flags::is_reachable(flags) || flags & event_flags::OUTLIER != 0 {
                continue;
            }
            work.extend(pdu.prev_events().iter().cloned());
            // Events before it were not fetched while no accepted event followed it.
            if self.note_missing(&pdu).await? {
                self.note_gap(pdu.sender().server_name());
            }
            let flags = flags | event_flags::REACHABLE;
            self.set_flags(&pdu, flags).await?;
            reached.push(PersistedEvent { pdu, flags });
        }
        Ok(order(reached, Links::All, |event| &event.pdu))
    }

    /// A stored event and its flags.
    pub(super) async fn with_flags(&self, id: &EventId) -> Result<Option<(Arc<Pdu>, u8)>, Unavailable> {
        if let Some(placed) = self.placed.get(id) {
            return Ok(Some((Arc::clone(&placed.known.pdu), placed.flags)));
        }
        if let Some((pdu, flags)) = self.commit.changed.get(id) {
            return Ok(Some((Arc::clone(pdu), *flags)));
        }
        if let Some(known) = self.lock_read().get(id) {
            return Ok(Some(known.clone()));
        }
        if self.ahead.is_absent(id) {
            return Ok(None);
        }
        let ids = [id.to_owned()];
        let stored = self
            .reader
            .stored_events(&self.active.id, &self.active.version, &ids)
            .await?;
        let known = stored.into_iter().next().map(|stored| (stored.pdu, stored.flags));
        if let Some(known) = &known {
            self.lock_read().insert(id.to_owned(), known.clone());
        }
        Ok(known)
    }

    pub(super) fn lock_read(&self) -> MutexGuard<'_, HashMap<OwnedEventId, (Arc<Pdu>, u8)>> {
        self.read.lock()
    }

    /// Stores a persisted event with other flags, or with its whole content in place of a redacted copy.
    pub(super) async fn set_flags(&mut self, pdu: &Arc<Pdu>, flags: u8) -> Result<(), Unavailable> {
        let id = pdu.event_id();
        if let Some(write) = self.commit.write_mut(id) {
            write.flags = flags;
            write.pdu = Arc::clone(pdu);
        } else {
            let stored = self.reader.stored_event(&self.active.id, id).await?;
            let row = EventRow {
                flags,
                position: stored.map_or(0, |stored| stored.place.to_row()),
                json: Bytes::copy_from_slice(pdu.json().as_bytes()),
            };
            self.commit.batch.put(&EVENTS, &(&self.active.id, id), &row);
            self.commit.changed.insert(id.to_owned(), (Arc::clone(pdu), flags));
        }
        if let Some(placed) = self.placed.get_mut(id) {
            placed.known = Known::new(Arc::clone(pdu), flags);
            placed.flags = flags;
        }
        Ok(())
    }

    fn enter(
        &mut self,
        pdu: Arc<Pdu>,
        flags: u8,
        groups: Option<(u64, u64)>,
        following: Following,
        recipients: Recipients,
    ) {
        self.active.insert_event(
            self.commit,
            DecidedEvent {
                pdu,
                flags,
                groups,
                state: following.state,
                tip: None,
                recipients,
                between: following.between,
            },
            self.ours,
        );
    }

    fn after(&mut self, before: &Stated, pdu: &Pdu) -> Stated {
        match pdu.state_entry().filter(|_| !pdu.rejected()) {
            Some(key) => {
                let mut map = before.map.clone();
                map.insert(key, pdu.event_id().to_owned());
                self.new_group(Some(before), map)
            }
            None => before.clone(),
        }
    }

    /// The resolved state with this event as a forward extremity; `None` if it does not change.
    async fn state_of_now(
        &mut self,
        pdu: &Arc<Pdu>,
        after: &Stated,
        between: &[Arc<Pdu>],
    ) -> Result<Option<NewState>, Unavailable> {
        self.read_states_of_extremities().await?;
        let mut groups = self.active.extremities.groups_beside(pdu, between);
        groups.remove(&after.group.id);
        let now = self.active.extremities.groups().keys();
        if now.eq(groups.keys().chain([&after.group.id]).collect::<BTreeSet<_>>()) {
            // These states resolve to the current state.
            return Ok(None);
        }
        let mut forks = vec![after.map.clone()];
        for group in groups.into_keys() {
            forks.push(self.state_of_group(group).await?);
        }
        let map = match resolve_loading(self, &forks).await {
            Ok(map) => map,
            Err(Undecided::Unavailable(error)) => return Err(error),
            Err(problem) => {
                tracing::error!(
                    event = "room.resolution_failed", room = %self.active.id, %problem,
                    "state resolution failed; the room keeps its current state"
                );
                return Ok(None);
            }
        };
        let now = self.active.state.map();
        let changed = differences(&now, &map);
        if changed.is_empty() {
            return Ok(None);
        }
        let group = if map == after.map {
            after.group
        } else {
            let parent = Stated {
                map: now,
                group: self.active.group,
            };
            self.new_group(Some(&parent).filter(|parent| parent.group.id > 0), map.clone())
                .group
        };
        let view = self.view_of(&map, &changed).await?;
        Ok(Some(NewState { view, group, changed }))
    }

    /// Reads which states are after the forward extremities that were there when the room was loaded.
    async fn read_states_of_extremities(&mut self) -> Result<(), Unavailable> {
        let mut unread = self.active.extremities.unread();
        unread.retain(|id| match self.ahead.groups(id) {
            Some(row) => {
                let after = StateAfter::read(row.map(|row| row.after));
                self.active.extremities.note_state(id, after);
                false
            }
            None => true,
        });
        for ids in unread.chunks(AT_ONCE) {
            let keys = ids.iter().map(|id| (&self.active.id, id));
            let rows = self.reader.store().get_many(&EVENT_GROUP, keys).await?;
            for (id, row) in ids.iter().zip(rows) {
                let after = StateAfter::read(row.map(|row| row.after));
                self.active.extremities.note_state(id, after);
            }
        }
        Ok(())
    }

    /// The state of a group, which this turn may have written.
    async fn state_of_group(&self, group: u64) -> Result<StateMap, Unavailable> {
        if group == self.active.group.id {
            return Ok(self.active.state.map());
        }
        if let Some(map) = self.written.get(&group) {
            return Ok(map.clone());
        }
        Ok(self.reader.group(&self.active.id, group).await?.0)
    }

    /// The current state with these entries changed.
    async fn view_of(&self, map: &StateMap, changed: &[StateKey]) -> Result<StateView, Unavailable> {
        let kept = self.active.state.iter().filter(|pdu| {
            pdu.state_entry()
                .is_some_and(|key| map.0.get(&key).is_some_and(|id| id == pdu.event_id()))
        });
        let mut events: Vec<Arc<Pdu>> = kept.cloned().collect();
        for id in changed.iter().filter_map(|key| map.0.get(key)) {
            let known = self.event(id).await?;
            let known = known.ok_or_else(|| damaged(&self.active.id, &format_args!("state event {id} is missing")))?;
            events.push(known.pdu);
        }
        Ok(StateView::from_events(self.active.version.clone(), events))
    }
}

fn log(pdu: &Pdu, verdict: &Verdict, outlier: bool, tally: &mut Tally) {
    tracing::trace!(event = %pdu.event_id(), kind = pdu.kind(), sender = %pdu.sender(), key = pdu.state_key(),
        prev = ?pdu.prev_events(), ?verdict, outlier, "event of another server decided");
    if let Verdict::Rejected { reason } | Verdict::SoftFailed { reason } = verdict {
        let example = format_args!("{} of {}: {reason}", pdu.event_id(), pdu.sender());
        tally.note("events of other servers rejected or soft-failed", &example);
    }
}

/// The keys at which two states differ.
fn differences(from: &StateMap, to: &StateMap) -> Vec<StateKey> {
    if from == to {
        return Vec::new();
    }
    let keys: BTreeSet<&StateKey> = from.0.keys().chain(to.0.keys()).collect();
    keys.into_iter()
        .filter(|key| from.0.get(*key) != to.0.get(*key))
        .cloned()
        .collect()
}

#[async_trait]
impl Graph for MergeSession<'_> {
    fn room_id(&self) -> &RoomId {
        &self.active.id
    }

    fn version(&self) -> &RoomVersion {
        &self.active.version
    }

    fn current(&self) -> &StateView {
        &self.active.state
    }

    fn extremities(&self) -> Vec<OwnedEventId> {
        self.active.extremities.ids().cloned().collect()
    }

    fn cover(&self) -> &ChainCover {
        self.active.loaded_cover().unwrap_or(&self.no_cover)
    }

    async fn read_ahead(&mut self, events: &[Arc<Pdu>]) -> Result<(), Unavailable> {
        self.look_ahead(events).await
    }

    async fn read_events(&self, ids: &[OwnedEventId]) -> Result<(), Unavailable> {
        self.read_rows(ids).await
    }

    async fn event(&self, id: &EventId) -> Result<Option<Known>, Unavailable> {
        Ok(self.with_flags(id).await?.map(|(pdu, flags)| Known::new(pdu, flags)))
    }

    async fn state_after(&self, id: &EventId) -> Result<Option<StateMap>, Unavailable> {
        Ok(self.stated_after(id).await?.map(|stated| stated.map))
    }

    async fn append(&mut self, incoming: Incoming) -> Result<(), Unavailable> {
        self.take(incoming).await
    }
}
