//! Sends EDUs of fanout (awareness, typing, receipts, presence) to other servers. Must not decide who receives them.

use ruma::{MilliSecondsSinceUnixEpoch, OwnedServerName, RoomId, UInt};
use weft_fanout::EduSink;
use weft_federation::outbox::{Edu, Sender};
use weft_wire::{event_types::AWARENESS_EDU, limits::AWARENESS_EXPIRY_MS};

/// Lifetime of an `m.typing` EDU: that of a client's typing notification.
const TYPING_EXPIRY_MS: u64 = 30_000;
/// Lifetime of an `m.presence` EDU: the time after which servers expire presence.
const PRESENCE_EXPIRY_MS: u64 = 30 * 60 * 1_000;

/// Implements fanout's port with the federation sender.
pub(crate) struct FederationEdus(pub(crate) Sender);

impl EduSink for FederationEdus {
    fn send(
        &self,
        room: &RoomId,
        destinations: &[OwnedServerName],
        edu_type: &'static str,
        content: serde_json::Value,
        coalesce: Option<String>,
    ) {
        if destinations.is_empty() {
            return;
        }
        let Ok(content) = serde_json::value::to_raw_value(&content) else {
            return;
        };
        let lifetime = match edu_type {
            AWARENESS_EDU => Some(AWARENESS_EXPIRY_MS),
            "m.typing" => Some(TYPING_EXPIRY_MS),
            "m.presence" => Some(PRESENCE_EXPIRY_MS),
            _ => None,
        };
        let now: u64 = MilliSecondsSinceUnixEpoch::now().get().into();
        let expires = lifetime.and_then(|lifetime| UInt::try_from(now.saturating_add(lifetime)).ok());
        let key = coalesce.unwrap_or_else(|| format!("{:032x}", rand::random::<u128>()));
        let edu = Edu {
            room: Some(room.to_owned()),
            kind: edu_type.to_owned(),
            key,
            content,
            expires: expires.map(MilliSecondsSinceUnixEpoch),
        };
        self.0.edu(destinations, &edu);
    }
}
