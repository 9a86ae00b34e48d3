//! The `unsigned` data of events: the transaction id, the redaction, the replaced state event, the membership.
//!
//! Must not decide who may see an event: callers pass only events that the user may see.

use std::{collections::HashMap, sync::Arc};

use ruma::{DeviceId, EventId, OwnedEventId, RoomId, UserId, events::room::member::MembershipState};
use weft_dag::{Pdu, redact::redact};
use weft_store::tables::rooms::{EVENT_GROUP, EVENT_TXN, REDACTED_BY, STATE_GROUPS};

use super::{Reader, damaged, membership_history::membership_of};
use crate::Unavailable;

/// The `unsigned` data of one event (Matrix client-server API, `unsigned`).
#[derive(Debug, Clone, Default)]
pub struct UnsignedData {
    /// The transaction id with which the requesting device sent the event.
    pub transaction: Option<String>,
    /// The redaction that applies to it.
    pub redaction: Option<Arc<Pdu>>,
    /// The state event that it replaced.
    pub replaced: Option<Arc<Pdu>>,
    /// The requesting user's membership at the event; after the event if it changes the membership.
    pub membership: Option<MembershipState>,
}

impl Reader {
    /// The `unsigned` data of these events of a room, in their order.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn beside(
        &self,
        room: &RoomId,
        (user, device): (&UserId, &DeviceId),
        events: &[Arc<Pdu>],
    ) -> Result<Vec<UnsignedData>, Unavailable> {
        let ids = || events.iter().map(|pdu| pdu.event_id());
        let transactions = self
            .store
            .get_many(&EVENT_TXN, ids().map(|id| (user, device, id)))
            .await?;
        let redactions = self.store.get_many(&REDACTED_BY, ids().map(|id| (room, id))).await?;
        let mut replaced = Vec::with_capacity(events.len());
        for pdu in events {
            replaced.push(self.replaced(room, pdu).await?);
        }
        let wanted: Vec<OwnedEventId> = redactions.iter().chain(&replaced).flatten().cloned().collect();
        let loaded = self.events(room, &wanted).await?;
        let loaded: HashMap<OwnedEventId, Arc<Pdu>> = loaded
            .into_iter()
            .map(|stored| (stored.pdu.event_id().to_owned(), stored.pdu))
            .collect();
        let loaded = self.as_shown_to(room, user, &redactions, loaded).await?;
        let memberships = self.memberships_at(room, user, events).await?;
        let event = |id: Option<OwnedEventId>| id.and_then(|id| loaded.get(&id).cloned());
        let rows = transactions.into_iter().zip(redactions).zip(replaced).zip(memberships);
        Ok(rows
            .map(|(((transaction, redaction), replaced), membership)| UnsignedData {
                transaction,
                redaction: event(redaction),
                replaced: event(replaced),
                membership,
            })
            .collect())
    }

    /// A user's memberships after each of these events; `None` where the state is not known.
    async fn memberships_at(
        &self,
        room: &RoomId,
        user: &UserId,
        events: &[Arc<Pdu>],
    ) -> Result<Vec<Option<MembershipState>>, Unavailable> {
        let Some(version) = self.version(room).await? else {
            return Ok(vec![None; events.len()]);
        };
        let groups = events.iter().map(|pdu| (room, pdu.event_id()));
        let groups = self.store.get_many(&EVENT_GROUP, groups).await?;
        let mut by_group: HashMap<u64, MembershipState> = HashMap::new();
        let mut memberships = Vec::with_capacity(events.len());
        for row in groups {
            let Some(group) = row.map(|row| row.after) else {
                memberships.push(None);
                continue;
            };
            if let Some(known) = by_group.get(&group) {
                memberships.push(Some(known.clone()));
                continue;
            }
            let id = self.entry_of_group(room, group, "m.room.member", user.as_str()).await?;
            let member = self.events_of(room, &version, id.as_slice()).await?;
            let membership = member.first().map_or(MembershipState::Leave, |pdu| membership_of(pdu));
            by_group.insert(group, membership.clone());
            memberships.push(Some(membership));
        }
        Ok(memberships)
    }

    /// Redactions that the user may not see are returned without their reason. The redacted event shows that there is a
    /// redaction, but the reason may have been written after the user left.
    async fn as_shown_to(
        &self,
        room: &RoomId,
        user: &UserId,
        redactions: &[Option<OwnedEventId>],
        mut loaded: HashMap<OwnedEventId, Arc<Pdu>>,
    ) -> Result<HashMap<OwnedEventId, Arc<Pdu>>, Unavailable> {
        let events: Vec<Arc<Pdu>> = redactions
            .iter()
            .flatten()
            .filter_map(|id| loaded.get(id).cloned())
            .collect();
        let Some(version) = self.version(room).await?.filter(|_| !events.is_empty()) else {
            return Ok(loaded);
        };
        let visible = self.visible_to_user(room, user, events.clone()).await?;
        for pdu in events
            .into_iter()
            .filter(|pdu| !visible.iter().any(|seen| Arc::ptr_eq(seen, pdu)))
        {
            let redacted = redact(&pdu, &version).map_err(|error| damaged(room, &error))?;
            loaded.insert(pdu.event_id().to_owned(), redacted);
        }
        Ok(loaded)
    }

    /// The state event that a state event replaced.
    async fn replaced(&self, room: &RoomId, pdu: &Pdu) -> Result<Option<OwnedEventId>, Unavailable> {
        let Some(key) = pdu.state_key() else { return Ok(None) };
        let id: &EventId = pdu.event_id();
        let Some(groups) = self.store.get(&EVENT_GROUP, &(room, id)).await? else {
            return Ok(None);
        };
        self.entry_of_group(room, groups.before, pdu.kind(), key).await
    }

    /// One entry of a group's state. Reads the chain only as far as needed.
    pub(super) async fn entry_of_group(
        &self,
        room: &RoomId,
        group: u64,
        kind: &str,
        key: &str,
    ) -> Result<Option<OwnedEventId>, Unavailable> {
        let mut next = (group > 0).then_some(group);
        while let Some(id) = next {
            let row = self.store.get(&STATE_GROUPS, &(room, id)).await?;
            let row = row.ok_or_else(|| damaged(room, &format_args!("state group {id} is missing")))?;
            let entry = row.changes.into_iter().find(|(k, s, _)| k == kind && s == key);
            if let Some((_, _, event)) = entry {
                return Ok(Some(event));
            }
            // A chain only leads to older groups; anything else would be a cycle.
            next = row.parent.filter(|parent| *parent < id);
        }
        Ok(None)
    }
}
