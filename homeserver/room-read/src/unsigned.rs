//! The `unsigned` data of events: the transaction id, the redaction, the replaced state event, the membership.
//!
//! Must not decide who may see an event: callers pass only events that the user may see.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use futures_util::try_join;
use ruma::{DeviceId, OwnedEventId, RoomId, UserId, events::room::member::MembershipState};
use weft_dag::{Pdu, redact::redact};
use weft_room_api::Unavailable;
use weft_store::tables::rooms::{EVENT_GROUP, EVENT_TXN, EventGroupRow, REDACTED_BY};

use crate::{Reader, damaged, membership_history::membership_of};

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
        let (transactions, redactions, groups) = try_join!(
            self.store.get_many(&EVENT_TXN, ids().map(|id| (user, device, id))),
            self.store.get_many(&REDACTED_BY, ids().map(|id| (room, id))),
            self.store.get_many(&EVENT_GROUP, ids().map(|id| (room, id))),
        )?;
        let mut replaced = Vec::with_capacity(events.len());
        for (pdu, groups) in events.iter().zip(&groups) {
            replaced.push(self.replaced(room, pdu, groups.as_ref()).await?);
        }
        let members = self.member_events_after(room, user, &groups).await?;
        let wanted = redactions
            .iter()
            .chain(&replaced)
            .flatten()
            .chain(members.values().flatten());
        // Each once: mostly all events have the same member event.
        let wanted: BTreeSet<OwnedEventId> = wanted.cloned().collect();
        let wanted: Vec<OwnedEventId> = wanted.into_iter().collect();
        let loaded = self.events(room, &wanted).await?;
        let loaded: HashMap<OwnedEventId, Arc<Pdu>> = loaded
            .into_iter()
            .map(|stored| (stored.pdu.event_id().to_owned(), stored.pdu))
            .collect();
        let membership = |groups: Option<EventGroupRow>| {
            let member = members.get(&groups?.after)?.as_ref().and_then(|id| loaded.get(id));
            Some(member.map_or(MembershipState::Leave, |pdu| membership_of(pdu)))
        };
        let memberships: Vec<_> = groups.into_iter().map(membership).collect();
        let loaded = self.as_shown_to(room, user, &redactions, loaded).await?;
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

    /// A user's member events in the states after events, by state group.
    pub(super) async fn member_events_after(
        &self,
        room: &RoomId,
        user: &UserId,
        groups: &[Option<EventGroupRow>],
    ) -> Result<HashMap<u64, Option<OwnedEventId>>, Unavailable> {
        let mut members = HashMap::new();
        let after: BTreeSet<u64> = groups.iter().flatten().map(|groups| groups.after).collect();
        // The newest first: it is mostly based on the others, which are read with it.
        for group in after.into_iter().rev() {
            let id = self.entry_of_group(room, group, "m.room.member", user.as_str()).await?;
            members.insert(group, id);
        }
        Ok(members)
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
    async fn replaced(
        &self,
        room: &RoomId,
        pdu: &Pdu,
        groups: Option<&EventGroupRow>,
    ) -> Result<Option<OwnedEventId>, Unavailable> {
        match (pdu.state_key(), groups) {
            (Some(key), Some(groups)) => self.entry_of_group(room, groups.before, pdu.kind(), key).await,
            _ => Ok(None),
        }
    }
}
