//! Incoming transactions: limits, checks of each event, delivery to the handler, response.
//!
//! One bad event affects only itself (T14). Only [`Verified`] events are delivered; their effect on a room is decided
//! elsewhere. Must not respond before the [`InboundHandler`] has stored the events.

pub(crate) mod edu;
mod replay;
mod withdrawal;

use std::{collections::BTreeMap, time::Duration};

use async_trait::async_trait;
use ruma::{
    OwnedEventId, OwnedRoomId, OwnedServerName, RoomId, ServerName, UserId, canonical_json::CanonicalJsonValue,
};
use serde::Deserialize;
use serde_json::value::RawValue;
use weft_dag::{RoomVersion, Unchecked, Verified};
use weft_wire::limits;

pub use edu::{InboundEdu, Receipt};
pub use replay::Transactions;
use withdrawal::Withdrawal;

use crate::{
    RemoteKeys,
    events::{keys_for, verify_all},
    tally::Tally,
};

/// The result of each event in the response.
pub type Results = BTreeMap<OwnedEventId, Result<(), String>>;

/// The events could not be stored; the sending server must send the transaction again.
#[derive(Debug, Clone, thiserror::Error)]
#[error("events could not be stored: {0}")]
pub struct InboundError(pub String);

/// Why events were not delivered; the sending server must send the transaction again.
#[derive(Debug, Clone, thiserror::Error)]
pub enum DeliverError {
    /// They could not be stored.
    #[error(transparent)]
    Storage(#[from] InboundError),
    /// Too many events of the server wait to be merged.
    #[error("too many events of the server wait")]
    TooMuchWaits {
        /// When the server may send the transaction again.
        retry_after: Duration,
    },
}

/// Receives checked events and EDUs.
#[async_trait]
pub trait InboundHandler: Send + Sync + 'static {
    /// The version of a room that this server is in.
    async fn room_version(&self, room: &RoomId) -> Result<Option<RoomVersion>, InboundError>;
    /// Whether the room's `m.room.server_acl` allows the server.
    async fn acl_allows(&self, room: &RoomId, server: &ServerName) -> Result<bool, InboundError>;
    /// Stores events; they are durable when it returns, except those that it returns: too many events of their rooms
    /// wait already.
    async fn deliver(&self, origin: &ServerName, events: Vec<Verified>) -> Result<Vec<OwnedEventId>, DeliverError>;
    /// The pending invite or knock of one of our users for a room that this server is not in.
    async fn out_of_band_membership(
        &self,
        room: &RoomId,
        user: &UserId,
    ) -> Result<Option<OutOfBandMembership>, InboundError>;
    /// Ends such an invite or knock. The sender's permission was checked as far as this is possible.
    async fn withdrawn(&self, event: Verified) -> Result<(), InboundError>;
    /// Handles an EDU whose sender belongs to `origin`. The handler must check whether that user is in the room.
    async fn edu(&self, origin: &ServerName, edu: InboundEdu);
}

/// A room that this server is not in and that one of our users was invited to or has knocked on.
#[derive(Debug, Clone)]
pub struct OutOfBandMembership {
    /// The invite or the knock.
    pub event: OwnedEventId,
    /// The room's version.
    pub version: RoomVersion,
    /// The server that sent the invite or accepted the knock: a resident server.
    pub resident: OwnedServerName,
}

/// The body of a transaction.
#[derive(Debug, Clone, Default)]
pub struct Transaction {
    /// Events.
    pub pdus: Vec<Box<RawValue>>,
    /// EDUs.
    pub edus: Vec<Box<RawValue>>,
}

/// Why a transaction has no response.
#[derive(Debug, Clone, thiserror::Error)]
pub enum TransactionError {
    /// More than 50 events or 100 EDUs.
    #[error("a transaction may have at most 50 PDUs and 100 EDUs; this one has {pdus} and {edus}")]
    TooMany {
        /// Events.
        pdus: usize,
        /// EDUs.
        edus: usize,
    },
    /// The events could not be stored.
    #[error(transparent)]
    InboundHandler(#[from] InboundError),
    /// Too many events of the server wait to be merged.
    #[error("too many events of the server wait")]
    TooMuchWaits {
        /// When the server may send the transaction again.
        retry_after: Duration,
    },
}

impl From<DeliverError> for TransactionError {
    fn from(error: DeliverError) -> Self {
        match error {
            DeliverError::Storage(error) => Self::InboundHandler(error),
            DeliverError::TooMuchWaits { retry_after } => Self::TooMuchWaits { retry_after },
        }
    }
}

impl Transactions {
    /// Processes a transaction. A repeated transaction gets the same response and is not processed again.
    ///
    /// # Errors
    /// When the transaction is too large, or its events could not be stored: nothing is remembered then.
    pub async fn take(
        &self,
        origin: &ServerName,
        id: &str,
        transaction: Transaction,
        keys: &RemoteKeys,
        handler: &dyn InboundHandler,
    ) -> Result<Results, TransactionError> {
        let (pdus, edus) = (transaction.pdus.len(), transaction.edus.len());
        if pdus > limits::MAX_TRANSACTION_PDUS || edus > limits::MAX_TRANSACTION_EDUS {
            return Err(TransactionError::TooMany { pdus, edus });
        }
        let mut guard = self.lock(origin, id, &transaction).await;
        if let Some(answer) = guard.answered() {
            return Ok(answer);
        }
        let results = take_pdus(origin, &transaction.pdus, keys, handler).await?;
        take_edus(origin, &transaction.edus, handler).await?;
        guard.remember(results.clone());
        Ok(results)
    }
}

async fn take_pdus(
    origin: &ServerName,
    pdus: &[Box<RawValue>],
    keys: &RemoteKeys,
    handler: &dyn InboundHandler,
) -> Result<Results, TransactionError> {
    let mut results = Results::new();
    let mut refused = Tally::default();
    let mut unchecked = Vec::new();
    let mut rooms: BTreeMap<OwnedRoomId, Result<RoomVersion, &'static str>> = BTreeMap::new();
    for raw in pdus {
        let Some(room) = room_of(raw) else {
            refused.note("it has no room id");
            continue;
        };
        let known = match rooms.get(&room) {
            Some(known) => known.clone(),
            None => {
                let known = admit(origin, &room, handler).await?;
                rooms.insert(room.clone(), known.clone());
                known
            }
        };
        let (version, reason) = match (withdrawal::check(raw, &room, keys, handler).await?, known) {
            (Withdrawal::Valid(event), _) => {
                results.insert(event.pdu().event_id().to_owned(), Ok(()));
                handler.withdrawn(event).await?;
                continue;
            }
            (_, Ok(version)) => match Unchecked::parse(raw.get(), &version) {
                Ok(event) => {
                    unchecked.push(event);
                    continue;
                }
                Err(reason) => (Some(version), reason.to_string()),
            },
            (Withdrawal::Refused(reason), Err(_)) => (None, reason),
            (Withdrawal::None, Err(reason)) => (None, reason.to_owned()),
        };
        refused.note(&reason);
        if let Some(id) = best_effort_id(raw, version) {
            results.insert(id, Err(reason));
        }
    }
    let keys = keys_for(keys, &unchecked).await;
    let mut verified = Vec::with_capacity(unchecked.len());
    for (id, event) in verify_all(unchecked, keys).await {
        match event {
            Ok(event) => {
                results.insert(id, Ok(()));
                verified.push(event);
            }
            Err(reason) => {
                refused.note(&format_args!("{id}: {reason}"));
                results.insert(id, Err(reason.to_string()));
            }
        }
    }
    refused.warn(format_args!("{origin}: events of a transaction were refused"));
    if !verified.is_empty() {
        for id in handler.deliver(origin, verified).await? {
            results.insert(
                id,
                Err("too many events of the room wait; a later event causes this one to be fetched".to_owned()),
            );
        }
    }
    Ok(results)
}

async fn admit(
    origin: &ServerName,
    room: &RoomId,
    handler: &dyn InboundHandler,
) -> Result<Result<RoomVersion, &'static str>, InboundError> {
    let Some(version) = handler.room_version(room).await? else {
        return Ok(Err("this server is not in the room"));
    };
    let allowed = handler.acl_allows(room, origin).await?;
    Ok(if allowed {
        Ok(version)
    } else {
        Err("the room's server ACL denies your server")
    })
}

async fn take_edus(
    origin: &ServerName,
    edus: &[Box<RawValue>],
    handler: &dyn InboundHandler,
) -> Result<(), InboundError> {
    let mut refused = Tally::default();
    for raw in edus {
        for edu in edu::parse(origin, raw, &mut refused) {
            match edu.room_id() {
                Some(room) if !handler.acl_allows(room, origin).await? => {
                    refused.note(&format_args!("the server ACL of {room} denies the server"));
                }
                _ => handler.edu(origin, edu).await,
            }
        }
    }
    refused.debug(format_args!("{origin}: EDUs of a transaction were refused"));
    Ok(())
}

pub(crate) fn room_of(raw: &RawValue) -> Option<OwnedRoomId> {
    #[derive(Deserialize)]
    struct Fields {
        room_id: OwnedRoomId,
    }
    serde_json::from_str::<Fields>(raw.get())
        .ok()
        .map(|fields| fields.room_id)
}

/// The id that an event would have, so that the response can name a refused event. Best effort: an event without a
/// canonical form has no id. If the version is unknown, any version since 4 is used: their event ids are computed
/// alike as far as this is concerned.
pub(crate) fn best_effort_id(raw: &RawValue, version: Option<RoomVersion>) -> Option<OwnedEventId> {
    let version = version.or_else(|| RoomVersion::new(&ruma::RoomVersionId::V11).ok())?;
    let Ok(CanonicalJsonValue::Object(object)) = serde_json::from_str(raw.get()) else {
        return None;
    };
    let hash = ruma::signatures::reference_hash(&object, version.rules()).ok()?;
    ruma::EventId::new_v2_or_v3(&hash).ok()
}
