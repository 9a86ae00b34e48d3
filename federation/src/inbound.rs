//! Incoming transactions: counted, checked event by event, handed on, answered.
//!
//! One bad event stops nothing but itself (T14). What is handed on is [`Verified`]; what it does to a room is not
//! decided here. Must not answer before the events are safe with the [`InboundHandler`].

pub(crate) mod edu;
mod replay;
mod withdrawal;

use std::collections::BTreeMap;

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

/// What the answer says of each event.
pub type Results = BTreeMap<OwnedEventId, Result<(), String>>;

/// The rooms failed to take events; the other server is to send the transaction again.
#[derive(Debug, Clone, thiserror::Error)]
#[error("events could not be kept: {0}")]
pub struct InboundError(pub String);

/// Where checked events and EDUs go.
#[async_trait]
pub trait InboundHandler: Send + Sync + 'static {
    /// The version of a room that this server is in.
    async fn room_version(&self, room: &RoomId) -> Result<Option<RoomVersion>, InboundError>;
    /// Whether the room's access list lets this server in.
    async fn acl_allows(&self, room: &RoomId, server: &ServerName) -> Result<bool, InboundError>;
    /// Keeps events; durable when it returns.
    async fn deliver(&self, origin: &ServerName, events: Vec<Verified>) -> Result<(), InboundError>;
    /// The open invitation or knock of one of our users for a room that this server is not in.
    async fn outside(&self, room: &RoomId, user: &UserId) -> Result<Option<Outside>, InboundError>;
    /// Ends such an invitation or knock. Whether the sender may was checked as far as it can be.
    async fn withdrawn(&self, event: Verified) -> Result<(), InboundError>;
    /// Takes an EDU whose sender is of `origin`. Whether that user is in the room is to be looked at.
    async fn edu(&self, origin: &ServerName, edu: InboundEdu);
}

/// What is known of a room that this server is not in, to which one of our users is invited or at which one has knocked.
#[derive(Debug, Clone)]
pub struct Outside {
    /// The invitation or the knock.
    pub event: OwnedEventId,
    /// The room's version.
    pub version: RoomVersion,
    /// The server that invited, or took the knock: it is in the room.
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

/// Why a transaction as a whole gets no answer.
#[derive(Debug, Clone, thiserror::Error)]
pub enum TransactionError {
    /// More than 50 events or 100 EDUs.
    #[error("a transaction has at most 50 events and 100 EDUs, this one {pdus} and {edus}")]
    TooMany {
        /// Events.
        pdus: usize,
        /// EDUs.
        edus: usize,
    },
    /// The events could not be kept.
    #[error(transparent)]
    InboundHandler(#[from] InboundError),
}

impl Transactions {
    /// Takes a transaction. The same one again gets the same answer without being done again.
    ///
    /// # Errors
    /// When it is too large, or its events could not be kept: nothing is remembered then.
    pub async fn take(
        &self,
        origin: &ServerName,
        id: &str,
        transaction: Transaction,
        keys: &RemoteKeys,
        intake: &dyn InboundHandler,
    ) -> Result<Results, TransactionError> {
        let (pdus, edus) = (transaction.pdus.len(), transaction.edus.len());
        if pdus > limits::MAX_TRANSACTION_PDUS || edus > limits::MAX_TRANSACTION_EDUS {
            return Err(TransactionError::TooMany { pdus, edus });
        }
        let mut turn = self.turn(origin, id, &transaction).await;
        if let Some(answer) = turn.answered() {
            return Ok(answer);
        }
        let results = take_pdus(origin, &transaction.pdus, keys, intake).await?;
        take_edus(origin, &transaction.edus, intake).await?;
        turn.remember(results.clone());
        Ok(results)
    }
}

async fn take_pdus(
    origin: &ServerName,
    pdus: &[Box<RawValue>],
    keys: &RemoteKeys,
    intake: &dyn InboundHandler,
) -> Result<Results, InboundError> {
    let mut results = Results::new();
    let mut refused = Tally::default();
    let mut unchecked = Vec::new();
    let mut rooms: BTreeMap<OwnedRoomId, Result<RoomVersion, &'static str>> = BTreeMap::new();
    for raw in pdus {
        let Some(room) = room_of(raw) else {
            refused.note("it names no room");
            continue;
        };
        let known = match rooms.get(&room) {
            Some(known) => known.clone(),
            None => {
                let known = admit(origin, &room, intake).await?;
                rooms.insert(room.clone(), known.clone());
                known
            }
        };
        let (version, reason) = match (withdrawal::check(raw, &room, keys, intake).await?, known) {
            (Withdrawal::Valid(event), _) => {
                results.insert(event.pdu().event_id().to_owned(), Ok(()));
                intake.withdrawn(event).await?;
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
        if let Some(id) = id_anyway(raw, version) {
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
    refused.warn(format_args!("{origin}: events of a transaction are not taken"));
    if !verified.is_empty() {
        intake.deliver(origin, verified).await?;
    }
    Ok(results)
}

async fn admit(
    origin: &ServerName,
    room: &RoomId,
    intake: &dyn InboundHandler,
) -> Result<Result<RoomVersion, &'static str>, InboundError> {
    let Some(version) = intake.room_version(room).await? else {
        return Ok(Err("this server is not in the room"));
    };
    let allowed = intake.acl_allows(room, origin).await?;
    Ok(if allowed {
        Ok(version)
    } else {
        Err("the room's access list denies your server")
    })
}

async fn take_edus(
    origin: &ServerName,
    edus: &[Box<RawValue>],
    intake: &dyn InboundHandler,
) -> Result<(), InboundError> {
    let mut refused = Tally::default();
    for raw in edus {
        for edu in edu::parse(origin, raw, &mut refused) {
            match edu.room_id() {
                Some(room) if !intake.acl_allows(room, origin).await? => {
                    refused.note(&format_args!("the access list of {room} denies the server"));
                }
                _ => intake.edu(origin, edu).await,
            }
        }
    }
    refused.debug(format_args!("{origin}: EDUs of a transaction are not taken"));
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

/// The id that an event would have, so that the answer can name what was refused. Best effort: what has no canonical
/// form has no id. Where the version is not known, any since 4 hashes alike as far as this is concerned.
pub(crate) fn id_anyway(raw: &RawValue, version: Option<RoomVersion>) -> Option<OwnedEventId> {
    let version = version.or_else(|| RoomVersion::new(&ruma::RoomVersionId::V11).ok())?;
    let Ok(CanonicalJsonValue::Object(object)) = serde_json::from_str(raw.get()) else {
        return None;
    };
    let hash = ruma::signatures::reference_hash(&object, version.rules()).ok()?;
    ruma::EventId::new_v2_or_v3(&hash).ok()
}
