//! Which events a user may see (client-server API, "Room history visibility").
//!
//! Rule 3 of the specification depends on whether the user joined at any point after the event. The graph alone
//! decides: the state before the event has the user's membership event at that point, and the user's membership history
//! shows whether a join follows it. Must not compare stream positions: backfilled events have none.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use futures_util::future::try_join;
use ruma::{
    EventId, OwnedEventId, RoomId, UserId,
    events::room::{history_visibility::HistoryVisibility, member::MembershipState},
};
use weft_dag::{Pdu, RoomVersion, StateView};
use weft_room_api::Unavailable;
use weft_store::tables::rooms::{EVENT_GROUP, EVENT_ROOM};

use crate::Reader;
use crate::membership_history::{MembershipHistory, membership_of};

/// Whether a user may see an event. `then` is the membership at the event; `joined_since`: the user is joined now or
/// joined at some point after the event. Pure.
fn user_may_see(visibility: &HistoryVisibility, then: &MembershipState, joined_since: bool) -> bool {
    match visibility {
        HistoryVisibility::WorldReadable => true,
        _ if *then == MembershipState::Join => true,
        HistoryVisibility::Shared => joined_since,
        HistoryVisibility::Invited => *then == MembershipState::Invite && joined_since,
        _ => false,
    }
}

impl Reader {
    /// Those of `events` that a user may see, in their order. The caller leaves out rejected and soft-failed events. A
    /// redaction of another room's event is visible to nobody.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn visible_to_user<E: AsRef<Pdu>>(
        &self,
        room: &RoomId,
        user: &UserId,
        events: Vec<E>,
    ) -> Result<Vec<E>, Unavailable> {
        let Some(version) = self.version(room).await? else {
            return Ok(Vec::new());
        };
        let mut view = View::new(self, room, user, &version);
        let mut visible = Vec::with_capacity(events.len());
        let events = self.without_stray_redactions(room, events).await?;
        view.load(events.iter().map(|event| event.as_ref().event_id())).await?;
        for event in events {
            if view.may_see(event.as_ref()).await? {
                visible.push(event);
            }
        }
        Ok(visible)
    }

    /// The events without redactions of another room's events, in their order. Such a redaction has no effect there,
    /// and a client that received it would hide an event that is not redacted. [`Reader::visible_to_user`] leaves them
    /// out too; this is for a user who may see all of these events.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn without_stray_redactions<E: AsRef<Pdu>>(
        &self,
        room: &RoomId,
        events: Vec<E>,
    ) -> Result<Vec<E>, Unavailable> {
        let targets = events.iter().filter_map(|event| redacted_event(event.as_ref()));
        let targets: Vec<OwnedEventId> = targets.map(ToOwned::to_owned).collect();
        let rooms = self.store.get_many(&EVENT_ROOM, targets.iter().map(|id| (id,))).await?;
        let elsewhere = targets.into_iter().zip(rooms);
        let elsewhere = elsewhere.filter(|(_, of)| of.as_ref().is_some_and(|of| of != room));
        let elsewhere: BTreeSet<OwnedEventId> = elsewhere.map(|(target, _)| target).collect();
        let is_kept = |event: &E| redacted_event(event.as_ref()).is_none_or(|target| !elsewhere.contains(target));
        Ok(events.into_iter().filter(is_kept).collect())
    }

    /// As [`Reader::visible_to_user`], for ids of message events that are not loaded and are not redactions.
    pub(crate) async fn visible_messages(
        &self,
        room: &RoomId,
        user: &UserId,
        events: Vec<OwnedEventId>,
    ) -> Result<Vec<OwnedEventId>, Unavailable> {
        let Some(version) = self.version(room).await? else {
            return Ok(Vec::new());
        };
        let mut view = View::new(self, room, user, &version);
        let mut visible = Vec::with_capacity(events.len());
        view.load(events.iter().map(|id| &**id)).await?;
        for event in events {
            let Some(then) = view.then(&event) else { continue };
            if view.passes(&then, &then.visibility).await? {
                visible.push(event);
            }
        }
        Ok(visible)
    }
}

/// The entries about one user in the state before an event.
#[derive(Clone)]
struct Then {
    visibility: HistoryVisibility,
    membership: MembershipState,
    /// The user's membership event; `None` if there is none yet.
    member: Option<OwnedEventId>,
}

/// One user's view of a page of events.
struct View<'a> {
    reader: &'a Reader,
    room: &'a RoomId,
    user: &'a UserId,
    version: &'a RoomVersion,
    is_joined: bool,
    /// Read when the first event needs it.
    history: Option<MembershipHistory>,
    /// The state groups before the events.
    groups: HashMap<OwnedEventId, u64>,
    /// Neighbouring events mostly have the same state before them.
    by_group: HashMap<u64, Then>,
}

impl<'a> View<'a> {
    /// [`View::load`] reads what the view needs.
    fn new(reader: &'a Reader, room: &'a RoomId, user: &'a UserId, version: &'a RoomVersion) -> Self {
        Self {
            reader,
            room,
            user,
            version,
            is_joined: false,
            history: None,
            groups: HashMap::new(),
            by_group: HashMap::new(),
        }
    }

    async fn may_see(&mut self, pdu: &Pdu) -> Result<bool, Unavailable> {
        let Some(then) = self.then(pdu.event_id()) else {
            return Ok(false);
        };
        let own = pdu.kind() == "m.room.member" && pdu.state_key() == Some(self.user.as_str());
        if own {
            return Ok(true);
        }
        let visibility = if pdu.kind() == "m.room.history_visibility" && pdu.state_key() == Some("") {
            // Of the visibility before and after such an event the wider one counts.
            wider(then.visibility.clone(), self.visibility(Some(Arc::new(pdu.clone()))))
        } else {
            then.visibility.clone()
        };
        self.passes(&then, &visibility).await
    }

    async fn passes(&mut self, then: &Then, visibility: &HistoryVisibility) -> Result<bool, Unavailable> {
        let joined_since = match visibility {
            HistoryVisibility::Shared | HistoryVisibility::Invited => self.joined_since(then).await?,
            _ => false,
        };
        Ok(user_may_see(visibility, &then.membership, joined_since))
    }

    /// Reads the states before events, as far as they matter to the user: few reads for all of them.
    async fn load(&mut self, events: impl Iterator<Item = &EventId>) -> Result<(), Unavailable> {
        let ids: Vec<&EventId> = events.collect();
        let keys = ids.iter().map(|id| (self.room, *id));
        let rows = async { Ok::<_, Unavailable>(self.reader.store.get_many(&EVENT_GROUP, keys).await?) };
        let membership = self.reader.membership(self.room, self.user);
        let (rows, membership) = try_join(rows, membership).await?;
        self.is_joined = membership == MembershipState::Join;
        let known = ids.into_iter().zip(rows);
        let known = known.filter_map(|(id, row)| Some((id.to_owned(), row?.before)));
        self.groups = known.collect();
        let groups: BTreeSet<u64> = self.groups.values().copied().collect();
        let mut entries: BTreeMap<u64, [Option<OwnedEventId>; 2]> = BTreeMap::new();
        // The newest first: it is mostly based on the others, which are read with it.
        for group in groups.into_iter().rev() {
            let visibility = self.entry(group, "m.room.history_visibility", "").await?;
            let member = self.entry(group, "m.room.member", self.user.as_str()).await?;
            entries.insert(group, [visibility, member]);
        }
        let wanted: BTreeSet<&OwnedEventId> = entries.values().flatten().flatten().collect();
        let wanted: Vec<OwnedEventId> = wanted.into_iter().cloned().collect();
        let loaded = self.reader.events_of(self.room, self.version, &wanted).await?;
        let loaded: HashMap<OwnedEventId, Arc<Pdu>> =
            loaded.into_iter().map(|pdu| (pdu.event_id().to_owned(), pdu)).collect();
        for (group, [visibility, member]) in entries {
            let event = |id: Option<OwnedEventId>| id.and_then(|id| loaded.get(&id).cloned());
            let member = event(member);
            let then = Then {
                visibility: self.visibility(event(visibility)),
                membership: member.as_deref().map_or(MembershipState::Leave, membership_of),
                member: member.map(|pdu| pdu.event_id().to_owned()),
            };
            self.by_group.insert(group, then);
        }
        Ok(())
    }

    async fn entry(&self, group: u64, kind: &str, key: &str) -> Result<Option<OwnedEventId>, Unavailable> {
        self.reader.entry_of_group(self.room, group, kind, key).await
    }

    /// The state before an event; `None` if it is not known here. [`View::load`] must have read it.
    fn then(&self, event: &EventId) -> Option<Then> {
        self.by_group.get(self.groups.get(event)?).cloned()
    }

    fn visibility(&self, event: Option<Arc<Pdu>>) -> HistoryVisibility {
        StateView::from_events(self.version.clone(), event).history_visibility()
    }

    async fn joined_since(&mut self, then: &Then) -> Result<bool, Unavailable> {
        if self.is_joined {
            return Ok(true);
        }
        let history = match self.history.take() {
            Some(history) => history,
            None => self.reader.membership_history(self.room, self.user).await?,
        };
        let joined = match &then.member {
            None => history.any_join(),
            Some(id) => self.reader.joined_after(self.room, self.version, &history, id).await?,
        };
        self.history = Some(history);
        Ok(joined)
    }
}

/// The event that a redaction redacts.
fn redacted_event(pdu: &Pdu) -> Option<&EventId> {
    pdu.redacts().filter(|_| pdu.kind() == "m.room.redaction")
}

fn wider(before: HistoryVisibility, after: HistoryVisibility) -> HistoryVisibility {
    let rank = |visibility: &HistoryVisibility| match visibility {
        HistoryVisibility::WorldReadable => 3,
        HistoryVisibility::Shared => 2,
        HistoryVisibility::Invited => 1,
        _ => 0,
    };
    if rank(&after) > rank(&before) { after } else { before }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn history_visibility_follows_the_rules_of_the_specification() {
        use HistoryVisibility::{Invited, Joined, Shared, WorldReadable};
        use MembershipState::{Ban, Invite, Join, Knock, Leave};
        for then in [Ban, Invite, Join, Knock, Leave] {
            for joined_since in [false, true] {
                let sees = |visibility| user_may_see(&visibility, &then, joined_since);
                let was_in = then == Join;
                assert!(sees(WorldReadable));
                assert_eq!(sees(Shared), was_in || joined_since, "{then} {joined_since}");
                assert_eq!(
                    sees(Invited),
                    was_in || (then == Invite && joined_since),
                    "{then} {joined_since}"
                );
                assert_eq!(sees(Joined), was_in, "{then} {joined_since}");
                assert_eq!(
                    sees(HistoryVisibility::from("unknown")),
                    was_in,
                    "{then} {joined_since}"
                );
            }
        }
    }
}
