//! The presence EDU: how users are, as their server tells others (`spec/docs/federation.md`, "Presence").

use ruma::{OwnedUserId, presence::PresenceState};
use serde::{Deserialize, Deserializer, de::Error as _};

use crate::limits::MAX_STATUS_MESSAGE_BYTES;

/// Content of the EDU `m.presence`. What it says of a user in a way that can't be read stops nothing else.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct PresenceEdu {
    /// What of it counts.
    #[serde(deserialize_with = "readable")]
    pub push: Vec<PresenceEntry>,
}

/// How a user is. He must belong to the server that sends the transaction.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct PresenceEntry {
    /// Who.
    pub user_id: OwnedUserId,
    /// Online, unavailable, offline; see [`known`].
    #[serde(deserialize_with = "known_state")]
    pub presence: PresenceState,
    /// Words of his own; see [`short_enough`].
    #[serde(default, deserialize_with = "short_status")]
    pub status_msg: Option<String>,
    /// For how long he has done nothing, milliseconds.
    #[serde(default)]
    pub last_active_ago: Option<u64>,
}

/// A state that the specification names; no other is taken, from a client or from a server.
#[must_use]
pub fn known(presence: PresenceState) -> Option<PresenceState> {
    use PresenceState::{Offline, Online, Unavailable};
    matches!(presence, Online | Unavailable | Offline).then_some(presence)
}

/// The status, where it has at most [`MAX_STATUS_MESSAGE_BYTES`].
#[must_use]
pub fn short_enough(status: Option<String>) -> Option<String> {
    status.filter(|status| status.len() <= MAX_STATUS_MESSAGE_BYTES)
}

fn readable<'de, D: Deserializer<'de>>(entries: D) -> Result<Vec<PresenceEntry>, D::Error> {
    let entries = Vec::<serde_json::Value>::deserialize(entries)?;
    let readable = entries
        .into_iter()
        .filter_map(|entry| serde_json::from_value(entry).ok());
    Ok(readable.collect())
}

fn known_state<'de, D: Deserializer<'de>>(presence: D) -> Result<PresenceState, D::Error> {
    known(PresenceState::deserialize(presence)?).ok_or_else(|| D::Error::custom("no such presence"))
}

fn short_status<'de, D: Deserializer<'de>>(status: D) -> Result<Option<String>, D::Error> {
    Option::deserialize(status).map(short_enough)
}
