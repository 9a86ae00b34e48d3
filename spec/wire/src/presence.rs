//! The presence EDU: the presence of a server's users (`spec/docs/federation.md`, "Presence"). Must not check the sender.

use ruma::{OwnedUserId, presence::PresenceState};
use serde::{Deserialize, Deserializer, de::Error as _};

use crate::limits::MAX_STATUS_MESSAGE_BYTES;

/// Content of the EDU `m.presence`. An invalid entry is skipped and does not affect the others.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct PresenceEdu {
    /// The valid entries.
    #[serde(deserialize_with = "readable")]
    pub push: Vec<PresenceEntry>,
}

/// The presence of a user. The user must belong to the server that sends the transaction; the caller checks it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct PresenceEntry {
    /// The Matrix user id.
    pub user_id: OwnedUserId,
    /// Online, unavailable or offline; see [`known`].
    #[serde(deserialize_with = "known_state")]
    pub presence: PresenceState,
    /// The user's status message; see [`short_enough`].
    #[serde(default, deserialize_with = "short_status")]
    pub status_msg: Option<String>,
    /// Time since the user was last active, in milliseconds.
    #[serde(default)]
    pub last_active_ago: Option<u64>,
}

/// The state if the specification defines it, else `None`. Other states are refused from clients and from servers.
#[must_use]
pub fn known(presence: PresenceState) -> Option<PresenceState> {
    use PresenceState::{Offline, Online, Unavailable};
    matches!(presence, Online | Unavailable | Offline).then_some(presence)
}

/// The status message if it has at most [`MAX_STATUS_MESSAGE_BYTES`], else `None`.
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
    known(PresenceState::deserialize(presence)?).ok_or_else(|| D::Error::custom("unknown presence state"))
}

fn short_status<'de, D: Deserializer<'de>>(status: D) -> Result<Option<String>, D::Error> {
    Option::deserialize(status).map(short_enough)
}
