//! Fetches events from other servers: returns only events that passed the checks of form, signature and hash.
//!
//! Must not return an event in any other form than [`Verified`] (T34): raw events don't leave this module.

use ruma::{
    EventId, MilliSecondsSinceUnixEpoch, OwnedEventId, RoomId, ServerName, UInt,
    api::federation::{
        authorization::get_event_authorization,
        backfill::get_backfill,
        event::{get_event, get_missing_events, get_room_state, get_room_state_ids},
    },
};
use serde_json::value::RawValue;
use std::collections::{BTreeMap, BTreeSet};

use futures_util::{StreamExt, stream};
use weft_dag::{DropReason, RoomVersion, Signer, Unchecked, Verified, VerifyKeys};
use weft_wire::limits;

use crate::{
    CallError, Client, RemoteKeys,
    answers::{self, AuthAnswer, RawEvent, StateAnswer},
    client::Bounds,
    parallel::parallel_map,
    tally::Tally,
};

/// Events of a response that are parsed at one time: a parsed event takes many times the memory of its text.
const CHECKED_AT_ONCE: usize = 1_000;
/// The same limit in bytes of text; exceeded by at most one event.
const CHECKED_BYTES_AT_ONCE: usize = 2 * 1024 * 1024;
/// Single events that are fetched in parallel from one server.
const PARALLEL_EVENTS: usize = 8;

/// Requests to other servers for the events of rooms. Cheap to clone.
#[derive(Clone)]
pub struct RemoteEvents {
    client: Client,
    keys: RemoteKeys,
}

/// Why there are no events.
#[derive(Debug, Clone, thiserror::Error)]
pub enum EventsError {
    /// The call failed.
    #[error(transparent)]
    Call(#[from] CallError),
    /// The response has another event than the one requested.
    #[error("requested {requested}, received {received}")]
    OtherEvent {
        /// The requested event.
        requested: OwnedEventId,
        /// The received event.
        received: OwnedEventId,
    },
    /// The received event is not acceptable.
    #[error("the event is refused: {0}")]
    Dropped(#[from] DropReason),
}

/// The event ids of a room's state from another server: nothing in it is checked.
#[derive(Debug, Clone, Default)]
pub struct RemoteStateIds {
    /// The state before the event.
    pub state: Vec<OwnedEventId>,
    /// The auth chain of that state.
    pub auth_chain: Vec<OwnedEventId>,
}

impl RemoteEvents {
    /// Sends requests with `client`, checks events with `keys`.
    #[must_use]
    pub fn new(client: Client, keys: RemoteKeys) -> Self {
        Self { client, keys }
    }

    /// The client that sends the requests.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The keys that events are checked with.
    #[must_use]
    pub fn keys(&self) -> &RemoteKeys {
        &self.keys
    }

    /// Fetches one event.
    ///
    /// # Errors
    /// When the call fails, or the received event is another one or not acceptable.
    pub async fn event(&self, version: &RoomVersion, from: &ServerName, id: &EventId) -> Result<Verified, EventsError> {
        let answer = self
            .client
            .call(from, get_event::v1::Request::new(id.to_owned()), Bounds::EVENT)
            .await?;
        let event = self.check_one(version, &answer.pdu).await?;
        if event.pdu().event_id() != id {
            return Err(EventsError::OtherEvent {
                requested: id.to_owned(),
                received: event.pdu().event_id().to_owned(),
            });
        }
        Ok(event)
    }

    /// Fetches several events; those that fail are left out. The order is undefined.
    ///
    /// # Errors
    /// When the server can't be reached at all.
    pub async fn events(
        &self,
        version: &RoomVersion,
        from: &ServerName,
        ids: &[OwnedEventId],
    ) -> Result<Vec<Verified>, EventsError> {
        let mut answers = stream::iter(ids.to_vec())
            .map(|id| async move { self.event(version, from, &id).await })
            .buffer_unordered(PARALLEL_EVENTS);
        let mut found = Vec::new();
        let mut refused = Tally::default();
        while let Some(answer) = answers.next().await {
            match answer {
                Ok(event) => found.push(event),
                // The other requests would only wait for the same timeout.
                Err(EventsError::Call(
                    error @ (CallError::Unreachable { .. } | CallError::Discovery { .. } | CallError::Ourselves),
                )) => {
                    return Err(error.into());
                }
                Err(error) => refused.note(&error),
            }
        }
        refused.debug(format_args!("{from}: events could not be fetched"));
        Ok(found)
    }

    /// Fetches the events between `earliest` (known) and `latest` (whose ancestors are missing), at most `limit`.
    ///
    /// # Errors
    /// When the call fails. Events that are not acceptable or belong to another room are left out.
    pub async fn missing_events(
        &self,
        room: &RoomId,
        version: &RoomVersion,
        from: &ServerName,
        earliest: &[OwnedEventId],
        latest: &[OwnedEventId],
        limit: usize,
    ) -> Result<Vec<Verified>, EventsError> {
        let first = |ids: &[OwnedEventId]| ids.iter().take(limits::MAX_EVENT_IDS_PER_REQUEST).cloned().collect();
        let mut request = get_missing_events::v1::Request::new(room.to_owned(), first(earliest), first(latest));
        let limit = limit.min(limits::MAX_BACKFILL_EVENTS);
        request.limit = UInt::try_from(limit).unwrap_or_default();
        let mut answer = self.client.call(from, request, Bounds::EVENTS).await?;
        answer.events.truncate(limit);
        Ok(of_room(room, self.check_all(version, from, answer.events).await))
    }

    /// Fetches the events before the given ones, and these events themselves, at most `limit`.
    ///
    /// # Errors
    /// When the call fails. Events that are not acceptable or belong to another room are left out.
    pub async fn backfill(
        &self,
        room: &RoomId,
        version: &RoomVersion,
        from: &ServerName,
        before: &[OwnedEventId],
        limit: usize,
    ) -> Result<Vec<Verified>, EventsError> {
        let limit = limit.min(limits::MAX_BACKFILL_EVENTS);
        let before = before.iter().take(limits::MAX_EVENT_IDS_PER_REQUEST).cloned().collect();
        let wanted = UInt::try_from(limit).unwrap_or_default();
        let mut answer = self
            .client
            .call(
                from,
                get_backfill::v1::Request::new(room.to_owned(), before, wanted),
                Bounds::EVENTS,
            )
            .await?;
        answer.pdus.truncate(limit);
        Ok(of_room(room, self.check_all(version, from, answer.pdus).await))
    }

    /// Fetches the ids of the state before an event.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn state_ids(
        &self,
        room: &RoomId,
        from: &ServerName,
        at: &EventId,
    ) -> Result<RemoteStateIds, EventsError> {
        let request = get_room_state_ids::v1::Request::new(at.to_owned(), room.to_owned());
        let bounds = Bounds::bytes(limits::MAX_STATE_IDS_RESPONSE_BYTES);
        let answer = self.client.call(from, request, bounds).await?;
        Ok(RemoteStateIds {
            state: answer.pdu_ids,
            auth_chain: answer.auth_chain_ids,
        })
    }

    /// Fetches the state before an event and its auth chain.
    ///
    /// # Errors
    /// When the call fails. Events that are not acceptable are left out.
    pub async fn state(
        &self,
        room: &RoomId,
        version: &RoomVersion,
        from: &ServerName,
        at: &EventId,
    ) -> Result<(Vec<Verified>, Vec<Verified>), EventsError> {
        let request = get_room_state::v1::Request::new(at.to_owned(), room.to_owned());
        let received = self.client.call_unparsed(from, request, Bounds::STATE).await?;
        let answer: StateAnswer<'_> = answers::read(from, &received)?;
        let state = self.check_texts(version, from, answer.pdus.of(&received)).await;
        let auth_chain = self.check_texts(version, from, answer.auth_chain.of(&received)).await;
        Ok((of_room(room, state), of_room(room, auth_chain)))
    }

    /// Fetches the auth chain of an event.
    ///
    /// # Errors
    /// When the call fails. Events that are not acceptable are left out.
    pub async fn event_auth(
        &self,
        room: &RoomId,
        version: &RoomVersion,
        from: &ServerName,
        id: &EventId,
    ) -> Result<Vec<Verified>, EventsError> {
        let request = get_event_authorization::v1::Request::new(room.to_owned(), id.to_owned());
        let bounds = Bounds::bytes(limits::MAX_AUTH_CHAIN_RESPONSE_BYTES);
        let received = self.client.call_unparsed(from, request, bounds).await?;
        let answer: AuthAnswer<'_> = answers::read(from, &received)?;
        let events = self.check_texts(version, from, answer.auth_chain.of(&received)).await;
        Ok(of_room(room, events))
    }

    /// Checks one event that was received in another way.
    ///
    /// # Errors
    /// When the event must be dropped.
    pub async fn check_one(&self, version: &RoomVersion, raw: &RawValue) -> Result<Verified, DropReason> {
        let unchecked = Unchecked::parse(raw.get(), version)?;
        let keys = keys_for(&self.keys, std::slice::from_ref(&unchecked)).await;
        unchecked.verify(&keys)
    }

    /// Checks a restricted join whose `join_authorised_via_users_server` is one of our users. Our signature is added
    /// first: without it the event is not correctly signed. The room decides afterwards whether the join is
    /// authorised; until then the event must not be sent to anyone.
    ///
    /// # Errors
    /// When the event must be dropped.
    pub async fn check_cosigned(
        &self,
        version: &RoomVersion,
        raw: &RawValue,
        signer: &Signer,
    ) -> Result<Verified, DropReason> {
        let unchecked = Unchecked::parse(raw.get(), version)?.cosigned(signer);
        let unchecked = unchecked.map_err(|error| DropReason::Json(error.to_string()))?;
        let keys = keys_for(&self.keys, std::slice::from_ref(&unchecked)).await;
        unchecked.verify(&keys)
    }

    /// Checks the events of a response of `from`; those that fail are left out and counted.
    pub async fn check_all(&self, version: &RoomVersion, from: &ServerName, raw: Vec<Box<RawValue>>) -> Vec<Verified> {
        let raw = raw.into_iter().map(RawEvent::from).collect();
        self.check_texts(version, from, raw).await
    }

    /// The same for events that still share the memory of the response.
    pub(crate) async fn check_texts(
        &self,
        version: &RoomVersion,
        from: &ServerName,
        raw: Vec<RawEvent>,
    ) -> Vec<Verified> {
        let mut refused = Tally::default();
        let mut verified = Vec::new();
        let mut raw = raw.into_iter();
        loop {
            let batch = next_batch(&mut raw);
            if batch.is_empty() {
                break;
            }
            let version = version.clone();
            let parsed = parallel_map(batch, move |event| Unchecked::parse(event.text(), &version)).await;
            let mut unchecked = Vec::with_capacity(parsed.len());
            for event in parsed {
                match event {
                    Ok(event) => unchecked.push(event),
                    Err(reason) => refused.note(&reason),
                }
            }
            let keys = keys_for(&self.keys, &unchecked).await;
            for (event, checked) in verify_all(unchecked, keys).await {
                match checked {
                    Ok(checked) => verified.push(checked),
                    Err(reason) => refused.note(&format_args!("{event}: {reason}")),
                }
            }
        }
        refused.warn(format_args!("{from}: events of a response are not acceptable"));
        verified
    }
}

/// Returns the next events to parse: bounded in number and in total length.
fn next_batch(raw: &mut impl Iterator<Item = RawEvent>) -> Vec<RawEvent> {
    let (mut batch, mut bytes) = (Vec::new(), 0);
    while batch.len() < CHECKED_AT_ONCE
        && bytes < CHECKED_BYTES_AT_ONCE
        && let Some(event) = raw.next()
    {
        bytes += event.text().len();
        batch.push(event);
    }
    batch
}

/// The verification result of each event's signatures, in the order given.
pub(crate) async fn verify_all(
    events: Vec<Unchecked>,
    keys: VerifyKeys,
) -> Vec<(OwnedEventId, Result<Verified, DropReason>)> {
    parallel_map(events, move |event| (event.event_id().to_owned(), event.verify(&keys))).await
}

/// Returns all keys that these events need; fetches the missing ones in parallel.
pub(crate) async fn keys_for(keys: &RemoteKeys, events: &[Unchecked]) -> VerifyKeys {
    let mut needed: BTreeMap<_, BTreeSet<String>> = BTreeMap::new();
    let mut newest = MilliSecondsSinceUnixEpoch(UInt::MIN);
    for event in events {
        newest = newest.max(event.origin_server_ts());
        for (server, ids) in event.needed_keys() {
            needed.entry(server).or_default().extend(ids);
        }
    }
    needed.retain(|_, ids| !ids.is_empty());
    keys.get(&needed, newest).await
}

/// Leaves out events of other rooms.
fn of_room(room: &RoomId, events: Vec<Verified>) -> Vec<Verified> {
    events
        .into_iter()
        .filter(|event| event.pdu().room_id() == room)
        .collect()
}
