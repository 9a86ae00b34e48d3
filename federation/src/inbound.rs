//! Incoming transactions: counted, checked event by event, handed on, answered.
//!
//! One bad event stops nothing but itself (T14). What is handed on is [`Verified`]; what it does to a room is not
//! decided here. Must not answer before the events are safe with the [`Intake`].

pub(crate) mod edu;
mod replay;

use std::collections::BTreeMap;

use async_trait::async_trait;
use ruma::{OwnedEventId, OwnedRoomId, RoomId, ServerName, canonical_json::CanonicalJsonValue};
use serde::Deserialize;
use serde_json::value::RawValue;
use weft_dag::{RoomVersion, Unchecked, Verified};
use weft_wire::limits;

pub use edu::{InboundEdu, Receipt};
pub use replay::Transactions;

use crate::{
    RemoteKeys,
    events::{keys_for, verify_all},
};

/// What the answer says of each event.
pub type Results = BTreeMap<OwnedEventId, Result<(), String>>;

/// The rooms failed to take events; the other server is to send the transaction again.
#[derive(Debug, Clone, thiserror::Error)]
#[error("events could not be kept: {0}")]
pub struct IntakeError(pub String);

/// Where checked events and EDUs go.
#[async_trait]
pub trait Intake: Send + Sync + 'static {
    /// The version of a room that this server is in.
    async fn room_version(&self, room: &RoomId) -> Result<Option<RoomVersion>, IntakeError>;
    /// Whether the room's access list lets this server in.
    async fn acl_allows(&self, room: &RoomId, server: &ServerName) -> Result<bool, IntakeError>;
    /// Keeps events; durable when it returns.
    async fn deliver(&self, origin: &ServerName, events: Vec<Verified>) -> Result<(), IntakeError>;
    /// Takes an EDU whose sender is of `origin`. Whether that user is in the room is to be looked at.
    async fn edu(&self, origin: &ServerName, edu: InboundEdu);
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
    Intake(#[from] IntakeError),
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
        intake: &dyn Intake,
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
        for raw in &transaction.edus {
            take_edu(origin, raw, intake).await?;
        }
        turn.remember(results.clone());
        Ok(results)
    }
}

async fn take_pdus(
    origin: &ServerName,
    pdus: &[Box<RawValue>],
    keys: &RemoteKeys,
    intake: &dyn Intake,
) -> Result<Results, IntakeError> {
    let mut results = Results::new();
    let mut unchecked = Vec::new();
    let mut rooms: BTreeMap<OwnedRoomId, Result<RoomVersion, &'static str>> = BTreeMap::new();
    for raw in pdus {
        let Some(room) = room_of(raw) else {
            tracing::debug!(%origin, "event without a room dropped");
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
        match known {
            Ok(version) => match Unchecked::parse(raw.get(), &version) {
                Ok(event) => unchecked.push(event),
                Err(reason) => {
                    tracing::warn!(%origin, %room, %reason, "event dropped");
                    if let Some(id) = id_anyway(raw, &version) {
                        results.insert(id, Err(reason.to_string()));
                    }
                }
            },
            Err(reason) => {
                tracing::info!(%origin, %room, reason, "event not taken");
                // Any version since 4 hashes alike as far as an id for the answer is concerned.
                let id = RoomVersion::new(&ruma::RoomVersionId::V11)
                    .ok()
                    .and_then(|version| id_anyway(raw, &version));
                if let Some(id) = id {
                    results.insert(id, Err(reason.to_owned()));
                }
            }
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
                tracing::warn!(%origin, event = %id, %reason, "event dropped");
                results.insert(id, Err(reason.to_string()));
            }
        }
    }
    if !verified.is_empty() {
        intake.deliver(origin, verified).await?;
    }
    Ok(results)
}

async fn admit(
    origin: &ServerName,
    room: &RoomId,
    intake: &dyn Intake,
) -> Result<Result<RoomVersion, &'static str>, IntakeError> {
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

async fn take_edu(origin: &ServerName, raw: &RawValue, intake: &dyn Intake) -> Result<(), IntakeError> {
    for edu in edu::parse(origin, raw) {
        match edu.room_id() {
            Some(room) if !intake.acl_allows(room, origin).await? => {
                tracing::debug!(%origin, %room, "EDU denied by the room's access list");
            }
            _ => intake.edu(origin, edu).await,
        }
    }
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
/// form has no id.
pub(crate) fn id_anyway(raw: &RawValue, version: &RoomVersion) -> Option<OwnedEventId> {
    let Ok(CanonicalJsonValue::Object(object)) = serde_json::from_str(raw.get()) else {
        return None;
    };
    let hash = ruma::signatures::reference_hash(&object, version.rules()).ok()?;
    ruma::EventId::new_v2_or_v3(&hash).ok()
}
