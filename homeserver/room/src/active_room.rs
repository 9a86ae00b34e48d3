//! A room in the memory of its worker: the current state, the forward extremities, the open document.
//!
//! It always equals what the store contains after the commit of the current turn. If a commit fails, it is dropped and
//! loaded again.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use futures_util::try_join;
use ruma::{
    EventId, OwnedEventId, OwnedRoomId, OwnedServerName, OwnedUserId, RoomId, ServerName, UserId,
    events::room::member::MembershipState,
};
use weft_dag::{
    ChainCover, Pdu, RoomVersion, StateKey, StateMap, StateView,
    chain_cover::{EventChain, Place},
    event_flags, extremities,
    groups::MAX_HOPS,
};
use weft_document::{OpenText, PointOfText};
use weft_room_api::Unavailable;
use weft_room_read::{Access, Reader, damaged};
use weft_store::{
    Batch,
    tables::rooms::{
        CHAIN, ChainRow, EVENT_GROUP, EXTREMITIES, EventGroupRow, EventIds, ROOMS, RoomRow, STATE_GROUPS, StateGroupRow,
    },
};
use weft_wire::{event_types, limits::MAX_CITED_EXTREMITIES};

use crate::{
    dispute::Dispute,
    forward_extremities::{Extremity, ForwardExtremities, StateAfter},
    indexes::Indexes,
    pending_commit::{PendingCommit, Write},
    witness,
    work_out::UnderWay,
};

/// Events that are read in the search for the extremity that references our last event.
const MAX_SEARCHED_EVENTS: usize = 1_000;

/// A stored state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Group {
    pub(crate) id: u64,
    pub(crate) hops: u8,
}

/// The resolved state after an event.
pub(crate) struct NewState {
    pub(crate) view: StateView,
    pub(crate) group: Group,
    /// Entries that differ from the previous state.
    pub(crate) changed: Vec<StateKey>,
}

/// Federation destinations of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Recipients {
    /// None: received over federation; the origin distributes it.
    None,
    /// The other servers in the room before or after the event, except one that has it.
    OtherServers(Option<OwnedServerName>),
}

/// An event to persist, with everything that was decided about it.
pub(crate) struct DecidedEvent {
    pub(crate) pdu: Arc<Pdu>,
    /// Bits of `event_flags`.
    pub(crate) flags: u8,
    /// Groups of the state before and after it; `None` if they are not known.
    pub(crate) groups: Option<(u64, u64)>,
    /// The resolved state, if the event changes it.
    pub(crate) state: Option<NewState>,
    /// For a state event that references all extremities and so alone changes the state: the group after it, and its
    /// entry.
    pub(crate) tip: Option<(Group, StateKey)>,
    pub(crate) recipients: Recipients,
    /// Its ancestors that were rejected or soft-failed and become reachable with it.
    pub(crate) between: Vec<Arc<Pdu>>,
}

/// A room in memory.
pub(crate) struct ActiveRoom {
    pub(crate) id: OwnedRoomId,
    pub(crate) version: RoomVersion,
    pub(crate) state: StateView,
    pub(crate) group: Group,
    /// The stream position of the newest accepted event.
    pub(crate) position: u64,
    pub(crate) extremities: ForwardExtremities,
    /// The extremity that is our last event or a descendant of it: each of our events references the one before it.
    /// `None` if no such extremity was seen since the room was loaded.
    own_extremity: Option<OwnedEventId>,
    pub(crate) document: Option<OpenText>,
    /// When a witness event is due, in milliseconds; `None` if everything is confirmed ([`crate::witness`]).
    pub(crate) unwitnessed: Option<u64>,
    /// The dispute, if clocks are claimed twice.
    pub(crate) dispute: Option<Dispute>,
    /// The text that is being worked out from all events.
    pub(crate) under_way: Option<UnderWay>,
    /// Events that are referenced here and missing ([`weft_ingest`]). `None` until they are looked up.
    pub(crate) missing: Option<BTreeSet<OwnedEventId>>,
    /// Staged rows up to this number are deleted, or are deleted by the current turn.
    pub(crate) unstaged: u64,
    cover: Option<ChainCover>,
    next_group: u64,
    servers: BTreeSet<OwnedServerName>,
    locals: Vec<OwnedUserId>,
    /// The rows of the indexes, as of the last commit.
    indexes: Indexes,
    /// Whether the state has changed since.
    indexes_outdated: bool,
    access: HashMap<OwnedUserId, Access>,
}

impl ActiveRoom {
    /// A room before its first event.
    pub(crate) fn new(id: &RoomId, version: RoomVersion, is_document: bool) -> Self {
        Self {
            id: id.to_owned(),
            state: StateView::empty(version.clone()),
            version,
            group: Group { id: 0, hops: 0 },
            position: 0,
            extremities: ForwardExtremities::default(),
            own_extremity: None,
            document: is_document.then(OpenText::empty),
            unwitnessed: None,
            dispute: None,
            under_way: None,
            missing: None,
            unstaged: 0,
            cover: Some(ChainCover::default()),
            next_group: 1,
            servers: BTreeSet::new(),
            locals: Vec::new(),
            indexes: Indexes::default(),
            indexes_outdated: false,
            access: HashMap::new(),
        }
    }

    /// Loads a room from the store; `None` if this server does not have it. What needs no other row is read at the same
    /// time, and then the events: a store may be across a network.
    pub(crate) async fn load(reader: &Reader, ours: &ServerName, id: &RoomId) -> Result<Option<Self>, Unavailable> {
        let reader = &reader.for_request();
        let (row, current, group, next_group, document) = try_join!(
            reader.room(id),
            reader.current_events(id),
            current_group(reader, id),
            next_group(reader, id),
            load_document(reader, id),
        )?;
        let (Some(row), Some(current)) = (row, current) else {
            return Ok(None);
        };
        let version = RoomVersion::new(&row.version).map_err(|error| damaged(id, &error))?;
        let mut active = Self::new(id, version, false);
        active.cover = None;
        active.state = StateView::from_events(active.version.clone(), current.state);
        let events = current.extremities;
        active.own_extremity = events
            .iter()
            .rfind(|pdu| is_statement_of(pdu, ours))
            .map(|pdu| pdu.event_id().to_owned());
        active.extremities = ForwardExtremities::stored(events.iter().map(|pdu| Extremity::of(pdu)));
        active.find_own_extremity(reader, ours).await?;
        active.next_group = next_group;
        active.group = group.unwrap_or(active.group);
        if row.kind.as_deref() == Some(event_types::DOCUMENT_ROOM) {
            let StoredDocument {
                position,
                text,
                unwitnessed,
                dispute,
            } = document.ok_or_else(|| damaged(id, &"the room has become a document"))?;
            active.position = position;
            active.document = Some(text);
            active.unwitnessed = unwitnessed;
            active.dispute = dispute;
        }
        active.count_members(ours);
        active.indexes = active.indexes_now(ours);
        Ok(Some(active))
    }

    /// Searches the extremity that references our last event, if an event cannot cite all extremities.
    async fn find_own_extremity(&mut self, reader: &Reader, ours: &ServerName) -> Result<(), Unavailable> {
        if self.own_extremity.is_some() || self.extremities.len() <= MAX_CITED_EXTREMITIES {
            return Ok(());
        }
        let mut behind: HashMap<OwnedEventId, OwnedEventId> = HashMap::new();
        let mut wanted: Vec<OwnedEventId> = self.extremities.ids().cloned().collect();
        while !wanted.is_empty() && behind.len() < MAX_SEARCHED_EVENTS {
            let mut next = Vec::new();
            for pdu in reader.events_of(&self.id, &self.version, &wanted).await? {
                let end = behind
                    .get(pdu.event_id())
                    .cloned()
                    .unwrap_or_else(|| pdu.event_id().to_owned());
                if is_statement_of(&pdu, ours) {
                    self.own_extremity = Some(end);
                    return Ok(());
                }
                for before in pdu.prev_events() {
                    if !behind.contains_key(before) {
                        behind.insert(before.clone(), end.clone());
                        next.push(before.clone());
                    }
                }
            }
            wanted = next;
        }
        Ok(())
    }

    /// The room's row: what loading begins with.
    pub(crate) fn put_room(&self, batch: &mut Batch) {
        let kind = self.document.is_some().then(|| event_types::DOCUMENT_ROOM.to_owned());
        let row = RoomRow {
            version: self.version.id().clone(),
            kind: kind.or_else(|| self.room_type()),
        };
        batch.put(&ROOMS, &(&self.id,), &row);
    }

    fn room_type(&self) -> Option<String> {
        room_type(self.state.create()?)
    }

    // --- The index of auth chains --------------------------------------------------------------------------------

    /// Loads the chain index, which only changes of state and forks need.
    pub(crate) async fn cover(&mut self, reader: &Reader) -> Result<&mut ChainCover, Unavailable> {
        if self.cover.is_none() {
            let rows = reader.store().scan_all(CHAIN.under(&(&self.id,))).await?;
            let read = |((_, event), row): ((OwnedRoomId, OwnedEventId), ChainRow)| EventChain {
                event,
                chain: row.chain,
                seq: row.sequence,
                links: row.links.into_iter().map(|(chain, seq)| Place { chain, seq }).collect(),
            };
            self.cover = Some(ChainCover::from_rows(rows.into_iter().map(read)));
        }
        Ok(self.cover.get_or_insert_default())
    }

    /// The chain index, once [`ActiveRoom::cover`] has loaded it.
    pub(crate) fn loaded_cover(&self) -> Option<&ChainCover> {
        self.cover.as_ref()
    }

    /// Adds a state event to the index. [`ActiveRoom::cover`] must have been called.
    pub(crate) fn index(&mut self, batch: &mut Batch, pdu: &Pdu) -> Result<(), Unavailable> {
        let cover = self.cover.get_or_insert_default();
        if let Some(row) = cover.add(pdu).map_err(|error| damaged(&self.id, &error))? {
            let links = row.links.iter().map(|place| (place.chain, place.seq)).collect();
            let stored = ChainRow {
                chain: row.chain,
                sequence: row.seq,
                links,
            };
            batch.put(&CHAIN, &(&self.id, &row.event), &stored);
        }
        Ok(())
    }

    // --- State groups --------------------------------------------------------------------------------------------

    /// Writes a state as its difference from a group, or whole if the chain of differences would be too long.
    pub(crate) fn write_group(
        &mut self,
        batch: &mut Batch,
        parent: Option<Group>,
        changes: &[(StateKey, OwnedEventId)],
        whole: impl FnOnce() -> StateMap,
    ) -> Group {
        let group = Group {
            id: self.next_group,
            hops: parent.map_or(0, |parent| parent.hops.saturating_add(1)),
        };
        self.next_group += 1;
        let flat = |((kind, key), event): (&StateKey, &OwnedEventId)| (kind.clone(), key.clone(), event.clone());
        let (group, row) = match parent.filter(|parent| parent.hops < MAX_HOPS) {
            Some(parent) => {
                let changes = changes.iter().map(|(key, event)| flat((key, event))).collect();
                (
                    group,
                    StateGroupRow {
                        parent: Some(parent.id),
                        hops: group.hops,
                        changes,
                    },
                )
            }
            None => {
                let changes = whole().0.iter().map(flat).collect();
                (
                    Group { hops: 0, ..group },
                    StateGroupRow {
                        parent: None,
                        hops: 0,
                        changes,
                    },
                )
            }
        };
        batch.put(&STATE_GROUPS, &(&self.id, group.id), &row);
        group
    }

    /// Writes the current state, changed by a state event that references all extremities, as a group.
    fn group_after(&mut self, batch: &mut Batch, pdu: &Pdu) -> Option<(Group, StateKey)> {
        let key = pdu.state_entry()?;
        let change = [(key.clone(), pdu.event_id().to_owned())];
        let parent = (self.group.id > 0).then_some(self.group);
        let now = self.state.clone();
        let group = self.write_group(batch, parent, &change, || {
            let mut map = now.map();
            map.insert(key.clone(), pdu.event_id().to_owned());
            map
        });
        Some((group, key))
    }

    // --- New events ----------------------------------------------------------------------------------------------

    /// Appends an event of this server: state, groups and extremities follow from that.
    pub(crate) fn append(
        &mut self,
        commit: &mut PendingCommit,
        pdu: Arc<Pdu>,
        ours: &ServerName,
    ) -> Result<(), Unavailable> {
        let before = self.group.id;
        if pdu.state_key().is_some() {
            self.index(&mut commit.batch, &pdu)?;
        }
        let tip = self.group_after(&mut commit.batch, &pdu);
        let after = tip.as_ref().map_or(before, |(group, _)| group.id);
        let recipients = Recipients::OtherServers(None);
        self.insert_event(
            commit,
            DecidedEvent {
                pdu: Arc::clone(&pdu),
                flags: 0,
                groups: Some((before, after)),
                state: None,
                tip,
                recipients,
                between: Vec::new(),
            },
            ours,
        );
        self.note_own_event(commit, &pdu);
        Ok(())
    }

    /// Whether timelines without updates show an event.
    pub(crate) fn shown_without_updates(&self, pdu: &Pdu) -> bool {
        self.document.is_none() || !event_types::LEFT_OUT_OF_TIMELINES.contains(&pdu.kind())
    }

    /// Persists an event. [`OpenText::merge`] applies its update to the text, before or after.
    pub(crate) fn insert_event(&mut self, commit: &mut PendingCommit, decided_event: DecidedEvent, ours: &ServerName) {
        let DecidedEvent {
            pdu,
            flags,
            groups,
            state,
            tip,
            recipients,
            between,
        } = decided_event;
        if let Some((before, after)) = groups {
            commit.batch.put(
                &EVENT_GROUP,
                &(&self.id, pdu.event_id()),
                &EventGroupRow { before, after },
            );
        }
        let is_accepted = event_flags::is_accepted(flags);
        self.note_meanwhile(&pdu, between.iter().chain([&pdu]).filter(|_| is_accepted));
        if is_accepted {
            self.note_in_dispute(&mut commit.batch, &pdu, !between.is_empty());
            let after = StateAfter::read(groups.map(|(_, after)| after));
            self.extremities.advance(&pdu, &between, after);
            if is_statement_of(&pdu, ours) || self.own_extremity.as_ref().is_some_and(|id| !self.is_extremity(id)) {
                self.own_extremity = Some(pdu.event_id().to_owned());
            }
        }
        let mut destinations = match &recipients {
            Recipients::None => BTreeSet::new(),
            Recipients::OtherServers(_) => self.servers.clone(),
        };
        // The server of an invited or knocking user is not in the room, and shows the membership until it receives the
        // event that ends it.
        destinations.extend(self.closes_out_of_band(&pdu).filter(|_| recipients != Recipients::None));
        let state = state.or_else(|| {
            let (group, key) = tip?;
            let before = std::mem::replace(&mut self.state, StateView::empty(self.version.clone()));
            Some(NewState {
                view: before.into_after(&pdu),
                group,
                changed: vec![key],
            })
        });
        let group = state.as_ref().map(|state| state.group.id);
        let changed = state
            .map(|state| self.enter_state(commit, state, ours))
            .unwrap_or_default();
        if let Recipients::OtherServers(except) = &recipients {
            destinations.extend(self.servers.iter().cloned());
            destinations.remove(ours);
            if let Some(except) = except {
                destinations.remove(except);
            }
        }
        if is_accepted {
            commit.users.extend(self.locals.iter().cloned());
        }
        let shown_without_updates = self.shown_without_updates(&pdu);
        commit.writes.push(Write {
            pdu,
            shown_without_updates,
            flags,
            changed,
            group,
            destinations,
        });
    }

    /// The server of a user whose invitation or knock ends with this event of another user.
    fn closes_out_of_band(&self, pdu: &Pdu) -> Option<OwnedServerName> {
        if pdu.kind() != "m.room.member" {
            return None;
        }
        let user = UserId::parse(pdu.state_key()?).ok()?;
        let is_open = matches!(
            self.state.membership(&user),
            MembershipState::Invite | MembershipState::Knock
        );
        let closes = matches!(pdu.membership()?, MembershipState::Leave | MembershipState::Ban);
        (is_open && closes && *pdu.sender() != *user).then(|| user.server_name().to_owned())
    }

    /// The extremities that our next event cites, ours among them.
    pub(crate) fn cited_extremities(&self) -> Vec<OwnedEventId> {
        let own = self.own_extremity.iter().filter(|id| self.extremities.contains(id));
        let others = self.extremities.ids().rev();
        let others = others.filter(|id| self.own_extremity.as_ref() != Some(*id));
        extremities::cite(own.chain(others))
    }

    /// The users of this server who are in the room.
    pub(crate) fn locals(&self) -> &[OwnedUserId] {
        &self.locals
    }

    /// The servers of the joined users.
    pub(crate) fn servers(&self) -> &BTreeSet<OwnedServerName> {
        &self.servers
    }

    /// Writes the forward extremities, if this turn changed them. Must be called once, before the turn is committed.
    pub(crate) fn put_extremities(&mut self, batch: &mut Batch) {
        if self.extremities.take_changed() {
            let ids = EventIds(self.extremities.ids().cloned().collect());
            batch.put(&EXTREMITIES, &(&self.id,), &ids);
        }
    }

    fn enter_state(
        &mut self,
        commit: &mut PendingCommit,
        state: NewState,
        ours: &ServerName,
    ) -> Vec<(StateKey, Option<Arc<Pdu>>)> {
        self.state = state.view;
        self.group = state.group;
        self.indexes_outdated = true;
        let kinds = [
            "m.room.member",
            "m.room.power_levels",
            "m.room.create",
            "m.room.history_visibility",
            event_types::LOCK,
            event_types::UNLOCK,
        ];
        if state.changed.iter().any(|(kind, _)| kinds.contains(&kind.as_str())) {
            commit.access_changed = true;
            self.access.clear();
        }
        if state.changed.iter().any(|(kind, _)| kind == "m.room.member") {
            self.count_members(ours);
        }
        let entry = |(kind, key): StateKey| {
            let event = self.state.get(&kind, &key).cloned();
            ((kind, key), event)
        };
        state.changed.into_iter().map(entry).collect()
    }

    fn count_members(&mut self, ours: &ServerName) {
        let members = self.state.joined_members();
        self.servers = members.iter().map(|user| user.server_name().to_owned()).collect();
        self.locals = members.into_iter().filter(|user| user.server_name() == ours).collect();
    }

    fn indexes_now(&self, ours: &ServerName) -> Indexes {
        Indexes::of(&self.state, self.document.is_some(), ours)
    }

    /// Writes what the turn changed in the indexes.
    pub(crate) fn put_indexes(&mut self, batch: &mut Batch, ours: &ServerName) {
        if std::mem::take(&mut self.indexes_outdated) {
            let now = self.indexes_now(ours);
            now.put_changes(batch, &self.id, &self.indexes);
            self.indexes = now;
        }
    }

    /// Replaces an event of the current state by its redacted form.
    pub(crate) fn redact(&mut self, redacted: &Arc<Pdu>) {
        let is_current = redacted.state_entry().is_some_and(|(kind, key)| {
            self.state
                .get(&kind, &key)
                .is_some_and(|pdu| pdu.event_id() == redacted.event_id())
        });
        if is_current {
            self.state = self.state.after(redacted);
            self.access.clear();
            self.indexes_outdated = true;
        }
    }

    // --- Reads ---------------------------------------------------------------------------------------------------

    /// A user's access. Cached until the state changes: each edit needs it.
    pub(crate) fn access(&mut self, user: &UserId) -> Access {
        if let Some(access) = self.access.get(user) {
            return access.clone();
        }
        let access = Access::of(&self.state, user);
        self.access.insert(user.to_owned(), access.clone());
        access
    }

    /// Loads the text of the document, if it is evicted.
    pub(crate) async fn load_text(&mut self, reader: &Reader) -> Result<(), Unavailable> {
        match self.document.as_mut() {
            Some(document) => document.load_text(reader, &self.id).await,
            None => Ok(()),
        }
    }

    /// Whether a user of this server is in the room.
    pub(crate) fn is_joined(&self) -> bool {
        !self.locals.is_empty()
    }

    /// Whether an event is a forward extremity.
    pub(crate) fn is_extremity(&self, event: &EventId) -> bool {
        self.extremities.contains(event)
    }
}

/// The place of the current text in the graph.
pub(crate) fn point(extremities: &ForwardExtremities, position: u64) -> PointOfText {
    PointOfText {
        heads: extremities.ids().cloned().collect(),
        position,
    }
}

/// What only a document has on disk.
struct StoredDocument {
    position: u64,
    text: OpenText,
    unwitnessed: Option<u64>,
    dispute: Option<Dispute>,
}

/// The document of a room; `None` if the room is known not to be one. If nothing is known yet, its rows are read together
/// with the row of the room.
async fn load_document(reader: &Reader, id: &RoomId) -> Result<Option<StoredDocument>, Unavailable> {
    if reader.is_known_chat(id) {
        return Ok(None);
    }
    let (position, text, unwitnessed, dispute) = try_join!(
        reader.last_position(id),
        OpenText::load(reader, id),
        witness::due(reader.store(), id),
        Dispute::load(reader, id),
    )?;
    Ok(Some(StoredDocument {
        position,
        text,
        unwitnessed,
        dispute,
    }))
}

/// The number of the next state group.
async fn next_group(reader: &Reader, id: &RoomId) -> Result<u64, Unavailable> {
    let query = STATE_GROUPS.under(&(id,)).reversed().limit(1);
    let last = reader.store().scan(query).await?;
    Ok(last.first().map_or(1, |((_, group), _)| group.saturating_add(1)))
}

/// The group of the current state.
async fn current_group(reader: &Reader, id: &RoomId) -> Result<Option<Group>, Unavailable> {
    let Some(group) = reader.group_at(id, u64::MAX).await? else {
        return Ok(None);
    };
    let row = reader.store().get(&STATE_GROUPS, &(id, group)).await?;
    let hops = row.map_or(MAX_HOPS, |row| row.hops);
    Ok(Some(Group { id: group, hops }))
}

/// Whether an event is a statement of its server about what it had. Another server may have chosen the `prev_events` of
/// a membership event.
fn is_statement_of(pdu: &Pdu, server: &ServerName) -> bool {
    pdu.sender().server_name() == server && pdu.kind() != "m.room.member"
}

/// `type` of a create event.
pub(crate) fn room_type(create: &Pdu) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Content {
        #[serde(rename = "type")]
        kind: Option<String>,
    }
    create.content_as::<Content>().ok()?.kind
}

#[cfg(test)]
mod tests {
    use ruma::RoomVersionId;

    use super::*;

    #[test]
    fn each_own_event_references_the_previous_one_with_any_number_of_extremities() {
        let version = RoomVersion::new(&RoomVersionId::V12).unwrap();
        let mut active = ActiveRoom::new(&RoomId::parse("!r").unwrap(), version, true);
        let id = |n: usize| EventId::parse(format!("${n}")).unwrap();
        let extremity = |n| Extremity {
            id: id(n),
            depth: 1,
            after: StateAfter::NotRead,
        };
        active.extremities = ForwardExtremities::stored((0..30).map(extremity));
        active.own_extremity = Some(id(3));
        let cited = active.cited_extremities();
        assert!(cited.contains(&id(3)) && cited.contains(&id(29)), "{cited:?}");
        assert_eq!(cited.len(), 10);
    }
}
